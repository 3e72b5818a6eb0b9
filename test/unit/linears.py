"""Linear functions for tests: their value at a point, and random ones."""

import numpy as np

from mlc.layout.linear import Linear


def value_at(e: Linear, point: tuple[int, ...]) -> int:
    return e.const + sum(c * x for c, x in zip(e.coefficients, point, strict=True))


def random_linear(rng: np.random.Generator, count: int, low: int = -3) -> Linear:
    """Of so many indices, with coefficients from low to 3."""
    return Linear(tuple(int(c) for c in rng.integers(low, 4, count)), int(rng.integers(-5, 6)))
