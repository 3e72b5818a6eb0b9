"""Shapes and element types at the edges of the structured path: nothing to do, one element, ragged vectors, narrow and wide types."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from native import Schedule, chosen, run_native
from schedules import merged

from mlc.dialects import graph
from mlc.dtypes import BF16, F16, F32, DType
from mlc.ir.mlir import ir

RNG = np.random.default_rng(7)
TARGETS = ("cpu:x86-64-v2", "cpu:x86-64-v3", "cpu")


def _check(build: Callable[..., object], reference: Callable[..., Any], *inputs: np.ndarray, atol: float = 1e-5, target: str = "cpu",
           schedule: Schedule = chosen) -> None:
    expected = reference(*inputs)
    found = run_native(build, *inputs, schedule=schedule, target=target)
    for got, want in zip(found, expected if isinstance(expected, list) else [expected], strict=True):
        assert got.shape == np.shape(want)
        np.testing.assert_allclose(got.astype(np.float64), np.asarray(want, np.float64), rtol=1e-5, atol=atol)


def _normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0,), (2, 0, 3)])
def test_no_elements(shape: tuple[int, ...]) -> None:
    x = np.zeros(shape, np.float32)
    _check(lambda v: graph.elementwise("relu", graph.softmax(v, axis=0)), lambda v: v, x)


@pytest.mark.parametrize(("m", "k", "n"), [(3, 0, 5), (0, 7, 5), (3, 7, 0), (0, 0, 0), (1, 1, 1), (1, 64, 1), (1, 33, 17), (17, 3, 1)])
def test_products_of_any_size(m: int, k: int, n: int) -> None:
    for flip in (False, True):
        _check(lambda x, y, flip=flip: graph.matmul(x, y, transpose_b=flip), lambda x, y, flip=flip: x @ (y.T if flip else y),
               _normal(m, k), _normal(n, k) if flip else _normal(k, n))


def test_reduction_over_nothing_is_the_identity_or_the_element() -> None:
    _check(lambda x: graph.reduce(x, kind="sum", axes=[0]), lambda x: x.sum(0), np.zeros((0, 5), np.float32))
    _check(lambda x: graph.reduce(x, kind="sum_square", axes=[]), lambda x: x * x, _normal(3, 5))


def test_one_value_returned_twice_and_an_input_returned() -> None:
    def build(x: ir.Value) -> list[ir.Value]:
        y = graph.elementwise("relu", x)
        return [y, x, y]

    _check(build, lambda x: [np.maximum(x, 0), x, np.maximum(x, 0)], _normal(3, 5))


@pytest.mark.parametrize("schedule", [chosen, merged])
def test_diagonal_of_a_value_that_leaves_the_kernel(schedule: Schedule) -> None:
    def build(x: ir.Value) -> list[ir.Value]:
        y = graph.elementwise("relu", x)
        return [y, graph.einsum("ii->i", y)]

    _check(build, lambda x: [np.maximum(x, 0), np.diagonal(np.maximum(x, 0))], _normal(300, 300), schedule=schedule)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 64, 67, 129])
def test_rows_of_any_length(n: int, target: str) -> None:
    def build(x: ir.Value) -> list[ir.Value]:
        return [graph.softmax(x, axis=1), graph.reduce(x, kind="max", axes=[1]), graph.reduce(x, kind="sum", axes=[0])]

    def reference(x: np.ndarray) -> list[np.ndarray]:
        power = np.exp(x - x.max(1, keepdims=True))
        return [power / power.sum(1, keepdims=True), x.max(1), x.sum(0)]

    _check(build, reference, _normal(5, n), target=target)


@pytest.mark.parametrize("kind", ["max", "min", "sum"])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64])
def test_integer_reductions(dtype: type, kind: str) -> None:
    low, high = (-9, -2) if np.dtype(dtype).kind == "i" else (100, 127)  # far from the identities of max and min
    x = RNG.integers(low, high, (7, 133)).astype(dtype)
    options = {"dtype": dtype} if kind == "sum" else {}
    _check(lambda v: graph.reduce(v, kind=kind, axes=[1]), lambda v: getattr(np, kind)(v, 1, **options), x)


def test_not_a_number_wins_in_every_lane() -> None:
    x = np.where(RNG.random((40, 133)) < 0.01, np.nan, _normal(40, 133)).astype(np.float32)
    _check(lambda v: graph.elementwise("is_nan", graph.reduce(v, kind="max", axes=[1])), lambda v: np.isnan(v.max(1)), x)


@pytest.mark.parametrize("dtype", [F16, BF16])
def test_half_precision_products_accumulate_in_f32(dtype: DType) -> None:
    def narrow(x: np.ndarray) -> np.ndarray:
        return x.astype(dtype.numpy).astype(np.float32)

    _check(lambda x, y: graph.cast(graph.matmul(graph.cast(x, dtype), graph.cast(y, dtype)), F32),
           lambda x, y: narrow(x) @ narrow(y), _normal(37, 29), _normal(29, 21), atol=0.13)  # sums below 64 may be rounded to bf16


def test_integer_and_double_products() -> None:
    a, b = RNG.integers(-9, 9, (7, 13)), RNG.integers(-9, 9, (13, 21))
    _check(lambda x, y: graph.matmul(x, y), lambda x, y: x @ y, a, b)
    _check(lambda x, y: graph.matmul(x, y), lambda x, y: x @ y, a.astype(np.float64) / 3, b.astype(np.float64) / 7)


def test_booleans_between_kernels_and_inside() -> None:
    def build(x: ir.Value, y: ir.Value) -> list[ir.Value]:
        below = graph.elementwise("lt", x, y)
        return [below, graph.elementwise("where", graph.elementwise("not", below), x, y)]

    _check(build, lambda x, y: [x < y, np.where(x < y, y, x)], _normal(37, 11), _normal(1, 11))


@pytest.mark.parametrize(("shape", "axis"), [((2, 0, 4), 1), ((2, 3, 4), 1), ((5, 37), 1), ((37, 70), 0), ((0, 3), 1), ((4, 0), 1)])
@pytest.mark.parametrize("kind", ["max", "min"])
def test_reductions_of_bools(shape: tuple[int, ...], axis: int, kind: str) -> None:
    x = RNG.random(shape) < (0.1 if kind == "max" else 0.9)
    fold = np.logical_or if kind == "max" else np.logical_and
    _check(lambda v: graph.reduce(v, kind=kind, axes=[axis]), lambda v: fold.reduce(v, axis=axis), x)
