"""Random arrays for tests, and when two arrays agree."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def uniform(*shape: int, dtype: Any = np.float32, seed: int = 0, reach: float = 1.0) -> np.ndarray:
    """Numbers between -reach and reach, the same for the same shape and seed."""
    return np.random.default_rng([seed, *shape]).uniform(-reach, reach, shape).astype(dtype)


def normal(rng: np.random.Generator, *shape: int, dtype: Any = np.float32) -> np.ndarray:
    """The next normally distributed numbers of a generator."""
    return rng.standard_normal(shape).astype(dtype)


def integers(rng: np.random.Generator, *shape: int, dtype: Any = np.float32) -> np.ndarray:
    """The next whole numbers of a generator, from -50 to 49: any arithmetic on a few of them is exact."""
    return rng.integers(-50, 50, shape).astype(dtype)


def agree(found: Sequence[np.ndarray], expected: Sequence[np.ndarray], tolerance: float = 2e-4) -> None:
    """Each result has the shape of what was expected, and differs by at most tolerance * (1 + its greatest magnitude)."""
    for got, want in zip(found, expected, strict=True):
        assert got.shape == want.shape
        wide = np.asarray(want, np.float64)
        np.testing.assert_allclose(got.astype(np.float64), wide, rtol=0, atol=tolerance * (1 + np.abs(wide).max(initial=0)))
