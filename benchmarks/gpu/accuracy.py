"""Whether results are right: the largest error as a fraction of the output's largest value, beside an f64 reference."""

from collections.abc import Sequence
from typing import Any

Tensor = Any
SMALLEST = 1e-30


def difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Over all outputs, on the device where they lie; infinite where shapes differ or a number of one side is not finite."""
    if len(found) != len(expected):
        return float("inf")
    worst = 0.0
    for ours, theirs in zip(found, expected, strict=True):
        if ours.shape != theirs.shape:
            return float("inf")
        if not theirs.numel():
            continue
        scale = float(theirs.double().abs().max()) or 1.0
        error = float((ours.double() - theirs.double()).abs().max()) / scale
        worst = max(worst, error if error == error else float("inf"))
    return worst


def telling(reference: Sequence[Tensor]) -> bool:
    """Whether agreeing with this reference means something: finite, not constant, and not so small that any code gives about zero."""
    def says(t: Tensor) -> bool:
        low, high = float(t.double().min()), float(t.double().max())
        return low == low and max(-low, high) != float("inf") and max(-low, high) > SMALLEST and (low != high or t.numel() == 1)

    return bool(reference) and all(says(t) for t in reference if t.numel())
