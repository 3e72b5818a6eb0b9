"""Arrays compared: the tolerance of each element type, and how far two arrays are apart."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mlc.dtypes import BY_NUMPY

# (rtol, atol) of |found - expected| <= atol + rtol * |expected|. Integers and bools must be equal.
TOLERANCES: dict[str, tuple[float, float]] = {
    "f64": (1e-7, 1e-9),
    "f32": (1e-3, 1e-5),
    "f16": (1e-2, 1e-3),
    "bf16": (4e-2, 1e-2),
    "f8E4M3FN": (1.3e-1, 2e-2),
    "f8E4M3FNUZ": (1.3e-1, 2e-2),
    "f8E5M2": (2.6e-1, 4e-2),
    "f8E5M2FNUZ": (2.6e-1, 4e-2),
}


@dataclass(frozen=True)
class Difference:
    """How far one output is from its reference. outside: share of elements beyond the tolerance."""

    name: str
    dtype: str
    shape: list[int]
    max_abs: float
    max_rel: float
    outside: float
    rtol: float
    atol: float
    problem: str | None = None

    @property
    def ok(self) -> bool:
        return self.problem is None and self.outside == 0

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok}


def compare(name: str, found: np.ndarray, expected: np.ndarray, rtol: float | None = None, atol: float | None = None,
            tf32: bool = False) -> Difference:
    """NaN equals NaN, an infinity equals itself; a wrong shape or dtype is a problem, not a number.

    tf32: factors of products were rounded to it, to as many bits as f16 has: then f32 has f16's tolerance.
    """
    dtype = BY_NUMPY[expected.dtype].name if expected.dtype in BY_NUMPY else expected.dtype.name
    default = TOLERANCES.get("f16" if tf32 and dtype == "f32" else dtype, (0.0, 0.0))
    rtol, atol = default[0] if rtol is None else rtol, default[1] if atol is None else atol
    shape = list(expected.shape)
    if found.shape != expected.shape or found.dtype != expected.dtype:
        problem = f"found {found.dtype}{list(found.shape)}, expected {expected.dtype}{shape}"
        return Difference(name, dtype, shape, np.inf, np.inf, 1.0, rtol, atol, problem)
    if expected.size == 0:
        return Difference(name, dtype, shape, 0.0, 0.0, 0.0, rtol, atol)
    if expected.dtype.kind in "iub" and expected.dtype.itemsize == 8:  # exact, where float64 would round
        wrong = found != expected
        wide = expected.astype(np.float64)
        error = np.abs(found.astype(np.float64) - wide)
        return Difference(name, dtype, shape, float(error.max()), _relative(error, wide), float(wrong.mean()), rtol, atol)
    a, b = found.astype(np.float64), expected.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.where(same, 0.0, np.abs(a - b))
    error = np.where(np.isnan(error), np.inf, error)
    outside = ~(error <= atol + rtol * np.where(np.isfinite(b), np.abs(b), 0.0))
    return Difference(name, dtype, shape, float(error.max()), _relative(error, b), float(outside.mean()), rtol, atol)


def _relative(error: np.ndarray, expected: np.ndarray) -> float:
    """The largest error over the size of the expected value; values near zero count by the largest value of the array."""
    finite = np.abs(expected[np.isfinite(expected)])
    scale = float(finite.max()) if finite.size else 0.0
    if not error.any():
        return 0.0
    floor = max(scale * 1e-3, np.finfo(np.float64).tiny)
    return float((error / np.maximum(np.where(np.isfinite(expected), np.abs(expected), scale), floor)).max())
