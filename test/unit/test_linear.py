"""Linear expressions: arithmetic and composition agree with evaluating them at every point."""

import numpy as np
import pytest
from linears import random_linear, value_at

from mlc.layout.linear import Linear, flatten, row_major


@pytest.mark.parametrize("seed", range(20))
def test_compose_is_substitution(seed: int) -> None:
    rng = np.random.default_rng(seed)
    outer, inner = random_linear(rng, 2), [random_linear(rng, 3), random_linear(rng, 3)]
    point = tuple(int(x) for x in rng.integers(-4, 5, 3))
    assert value_at(outer.compose(inner, 3), point) == value_at(outer, tuple(value_at(e, point) for e in inner))


def test_arithmetic() -> None:
    a, b = Linear((1, 2), 3), Linear((4, 0), -1)
    assert a + b == Linear((5, 2), 2)
    assert a + 4 == Linear((1, 2), 7)
    assert a * -2 == Linear((-2, -4), -6)


@pytest.mark.parametrize(("e", "variable"), [(Linear((0, 1)), 1), (Linear((0, 1), 1), None), (Linear((0, 2)), None), (Linear((1, 1)), None),
                                             (Linear((0, 0), 5), None)])
def test_only_names_a_plain_variable(e: Linear, variable: int | None) -> None:
    assert e.only() == variable


def test_constant_is_constant() -> None:
    assert Linear.constant(5, 2).is_constant
    assert not Linear.variable(0, 2).is_constant


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (4, 1, 7)])
def test_flatten_is_numpys_order(shape: tuple[int, ...]) -> None:
    n = len(shape)
    flat = flatten([Linear.variable(i, n) for i in range(n)], shape, n)
    assert flat.coefficients == row_major(shape)
    for point in np.ndindex(*shape):
        assert value_at(flat, point) == int(np.ravel_multi_index(point, shape)) if n else value_at(flat, point) == 0
