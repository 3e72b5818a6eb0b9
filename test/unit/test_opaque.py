"""Sequential kernels, as machine code and on simulated GPUs: results, the grid of independent parts, and that they allocate nothing."""

import re
from collections.abc import Callable

import numpy as np
import pytest
from gpu_native import run_gpu
from native import compile_native

from mlc.dialects import graph

RNG = np.random.default_rng(5)


def _check(build: Callable[..., object], grid: list[int], expected: list[np.ndarray], *inputs: np.ndarray) -> None:
    """The results, and that the (one) opaque kernel has this grid."""
    native = compile_native(build, *inputs)
    kernels = [k for k in re.split(r'"task.kernel"\(\) \(\{', native.task)[1:] if "scf." in k]
    assert [re.findall(r"grid = (\[.*?\])", k) for k in kernels] == [[str(grid)]]
    assert "memref.alloc" not in native.task and "memref.copy" not in native.task
    runs = [native(*inputs), native(*inputs)]  # the second time, scratch memory is not zero
    for results in [*runs, *[run_gpu(build, *inputs, target=target) for target in ("cuda:sm_90a", "rocm:gfx942")]]:
        for got, want in zip(results, expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.int64])  # int64: values and positions are of one type, and still two buffers
@pytest.mark.parametrize("k", [3, 40])
def test_topk(k: int, dtype: type) -> None:
    x = RNG.permutation(6 * 77).reshape(6, 77).astype(dtype)
    order = np.argsort(-x, 1)[:, :k]
    _check(lambda x: list(graph.topk(x, k=k, axis=1)), [6], [np.take_along_axis(x, order, 1), order], x)


@pytest.mark.parametrize(("shape", "axis", "grid"), [((5, 7), 1, [5]), ((5, 7), 0, [7]), ((3, 5, 4), 1, [3, 4])])
def test_cumulative_sums(shape: tuple[int, ...], axis: int, grid: list[int]) -> None:
    x = RNG.standard_normal(shape).astype(np.float32)
    _check(lambda x: graph.scan(x, kind="sum", axis=axis), grid, [np.cumsum(x, axis)], x)


@pytest.mark.parametrize(("shape", "count", "axis", "grid"), [((6, 9), 4, 1, [6]), ((9, 64), 4, 0, [4]), ((3, 5, 20), 8, 1, [3]),
                                                              ((2, 7, 96), 3, 1, [2, 6])])
def test_scatter_along_an_axis(shape: tuple[int, ...], count: int, axis: int, grid: list[int]) -> None:
    x = RNG.standard_normal(shape).astype(np.float32)
    places = (*shape[:axis], count, *shape[axis + 1:])
    indices, updates = RNG.integers(-shape[axis], shape[axis], places), RNG.standard_normal(places).astype(np.float32)
    expected = x.copy()
    for at in np.ndindex(*places):
        expected[tuple(indices[at] if d == axis else at[d] for d in range(len(shape)))] += updates[at]
    _check(lambda *v: graph.scatter_elements(*v, axis=axis, reduction="add"), grid, [expected], x, indices, updates)


def test_scatter_of_fewer_lines_is_one_block() -> None:
    x, indices, updates = np.zeros((4, 6), np.float32), np.array([[5, 0], [1, 1]]), np.array([[1, 2], [3, 4]], np.float32)
    expected = x.copy()
    expected[0, 5], expected[0, 0], expected[1, 1] = 1, 2, 4
    _check(lambda *v: graph.scatter_elements(*v, axis=1), [], [expected], x, indices, updates)


@pytest.mark.parametrize(("shape", "depth", "grid"), [((5, 64), 1, [4]), ((5, 6), 2, [1]), ((4, 3, 48), 2, [3])])
def test_scatter_of_slices(shape: tuple[int, ...], depth: int, grid: list[int]) -> None:
    x = RNG.standard_normal(shape).astype(np.float32)
    indices = np.stack([RNG.integers(0, n, 7) for n in shape[:depth]], 1)
    updates = RNG.standard_normal((7, *shape[depth:])).astype(np.float32)
    expected = x.copy()
    for i, u in zip(indices, updates, strict=True):  # in order: the last one stays
        expected[tuple(i)] = u
    _check(lambda *v: graph.scatter_nd(*v), [] if grid == [1] else grid, [expected], x, indices, updates)


def test_determinants() -> None:
    x = RNG.standard_normal((5, 4, 4)).astype(np.float32)
    _check(graph.determinant, [5], [np.linalg.det(x)], x)
    with_none = compile_native(graph.determinant, np.zeros((3, 0, 0), np.float32))
    np.testing.assert_array_equal(with_none(np.zeros((3, 0, 0), np.float32))[0], np.ones(3))


@pytest.mark.parametrize(("outer", "inner", "grid"), [((3,), (), [3]), ((), (64,), [4]), ((2,), (4, 8), [2, 2]), ((), (), [])])
def test_many_tensors_are_joined(outer: tuple[int, ...], inner: tuple[int, ...], grid: list[int]) -> None:
    xs = [RNG.standard_normal((*outer, n, *inner)).astype(np.float32) for n in (1, 5, 2, 8, 3, 1)]
    _check(lambda *v: graph.concat(*v, axis=len(outer)), grid, [np.concatenate(xs, len(outer))], *xs)


def test_compressed_rows() -> None:
    """Not independent, and bufferised with a copy: one block, with its memory in the plan."""
    x, keep = RNG.standard_normal((6, 5)).astype(np.float32), np.array([True, False, True, True, False, True])
    expected = np.zeros_like(x)
    expected[:4] = x[keep]
    _check(lambda *v: list(graph.compress(*v)), [], [expected, np.array(4)], x, keep)
