"""Views: chains of reshapes and transposes against numpy."""

import random

import numpy as np

from mlc.passes.graph.movements import shortest
from mlc.passes.graph.views import Step, View, cost, transposes


def apply(x: np.ndarray, steps: list[Step] | tuple[Step, ...]) -> np.ndarray:
    for kind, argument in steps:
        x = x.reshape(argument) if kind == "reshape" else x.transpose(argument)
    return x


def a_reshape(rng: random.Random, size: int) -> tuple[int, ...]:
    shape = []
    while size > 1 and len(shape) < 5:
        shape.append(rng.choice([d for d in range(1, size + 1) if size % d == 0]))
        size //= shape[-1]
    return (*shape, size)


def test_any_chain_is_said_again_by_its_view():
    rng = random.Random(0)
    for _ in range(1500):
        shape = tuple(rng.choice([1, 2, 3, 4, 6]) for _ in range(rng.randint(1, 4)))
        x = np.arange(np.prod(shape)).reshape(shape)
        view, seen, steps = View.of(shape), x, []
        for _ in range(rng.randint(1, 5)):
            if rng.random() < 0.5:
                perm = tuple(rng.sample(range(seen.ndim), seen.ndim))
                view, seen = view.transpose(perm), seen.transpose(perm)
                steps.append(("transpose", perm))
            else:
                target = a_reshape(rng, seen.size)
                if (reshaped := view.reshape(target)) is None:
                    continue
                view, seen = reshaped, seen.reshape(target)
                steps.append(("reshape", target))
            assert view.shape == seen.shape
        found = view.steps()
        np.testing.assert_array_equal(apply(x, found), seen)
        assert transposes(found) <= max(1, transposes(steps))
        if (better := shortest(shape, tuple(steps))) is not None:
            np.testing.assert_array_equal(apply(x, better), seen)
            assert cost(better) < cost(steps)


def test_exporter_spelling_of_transposed_keys_is_one_transpose():
    steps = (("transpose", (0, 2, 1, 3)), ("reshape", (12, 128, 64)), ("transpose", (0, 2, 1)), ("reshape", (1, 12, 64, 128)))
    assert shortest((1, 128, 12, 64), steps) == (("transpose", (0, 2, 3, 1)),)


def test_moving_dimensions_of_one_is_a_reshape():
    assert shortest((1, 7, 1, 5), (("transpose", (1, 0, 3, 2)),)) == (("reshape", (7, 1, 5, 1)),)


def test_chains_that_cancel_vanish():
    assert shortest((2, 3, 4), (("transpose", (2, 0, 1)), ("reshape", (4, 6)), ("reshape", (4, 2, 3)), ("transpose", (1, 2, 0)))) == ()


def test_a_tensor_without_elements_is_left_alone():
    assert shortest((0, 3), (("reshape", (3, 0)), ("reshape", (0, 3)))) is None
