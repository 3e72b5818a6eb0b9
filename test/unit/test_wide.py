"""Scans, sorts and searches decomposed for machines of many threads: results like numpy's, and kernels that are many threads."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gpu_native import compile_gpu
from harness import run_graph
from native import compile_native

from mlc.dialects import graph
from mlc.dialects.graph import _scans, _scatters

GPUS = ("cuda:sm_90a", "rocm:gfx942")
RNG = np.random.default_rng(11)


def _simulated(build: Callable[..., object], expected: list[np.ndarray], *inputs: np.ndarray, tolerance: float = 0) -> None:
    """The results on the simulator, and that no kernel is sequential code."""
    for target in GPUS:
        compiled = compile_gpu(build, *inputs, target=target)
        assert min(map(int, re.findall(r"known_block_size = array<i32: (\d+)", compiled.gpu))) >= 32
        for got, want in zip(compiled(*inputs), expected, strict=True):
            np.testing.assert_allclose(got.astype(want.dtype), want, rtol=0, atol=tolerance)


def _scanned(x: np.ndarray, axis: int, *, exclusive: bool, reverse: bool, fold: Any = np.add) -> np.ndarray:
    x = np.moveaxis(x, axis, 0)[::-1 if reverse else 1]
    y = fold.accumulate(x, 0)
    if exclusive:
        y = np.concatenate([np.full_like(y[:1], fold.identity), y[:-1]])
    return np.moveaxis(y[::-1 if reverse else 1], 0, axis)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize(("shape", "axis"), [((300_007,), 0), ((3, 4133), 1), ((5, 1333, 7), 1), ((2, 70), 1), ((6, 1), 1)])
@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.float16])
def test_sums(shape: tuple[int, ...], axis: int, exclusive: bool, reverse: bool, dtype: Any) -> None:
    x = RNG.integers(-9, 9, shape).astype(dtype) if dtype == np.int64 else RNG.uniform(-1, 1, shape).astype(dtype)
    got, = run_graph(lambda x: graph.scan(x, kind="sum", axis=axis, exclusive=exclusive, reverse=reverse), x, target=GPUS[0])
    want = _scanned(x.astype(np.float64), axis, exclusive=exclusive, reverse=reverse)
    summed, rounded = {np.int64: (0, 0), np.float32: (3e-7, 0), np.float16: (3e-7, 1e-3)}[dtype]
    assert np.abs(got - want).max() <= summed * np.abs(x.astype(np.float64)).sum(axis).max() + rounded * np.abs(want).max()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("shape", "axis"), [((2, 700), 1), ((3, 150, 5), 1)])
def test_scans_on_simulated_gpus(shape: tuple[int, ...], axis: int, reverse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In chunks of chunks, and each element by all of its row."""
    x = RNG.uniform(0.9, 1.1, shape).astype(np.float32)
    for work in (0, 1 << 30):
        monkeypatch.setattr(_scans, "WORK", work)
        for kind, fold in (("sum", np.add), ("prod", np.multiply)):
            want = _scanned(x.astype(np.float64), axis, exclusive=reverse, reverse=reverse, fold=fold)
            _simulated(lambda v, kind=kind: graph.scan(v, kind=kind, axis=axis, exclusive=reverse, reverse=reverse), [want], x,
                       tolerance=1e-5 * np.abs(want).max())


def _ordered(x: np.ndarray, k: int, axis: int, largest: bool) -> tuple[np.ndarray, np.ndarray]:
    """NaN is greater than any number; ties by place."""
    x = np.moveaxis(x, axis, -1)
    rank = np.unique(x, return_inverse=True, equal_nan=True)[1].reshape(x.shape)  # NaN comes last there, too
    order = np.argsort(-rank if largest else rank, -1, kind="stable")[..., :k]
    return np.moveaxis(np.take_along_axis(x, order, -1), -1, axis), np.moveaxis(order, -1, axis)


def _numbers(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """With many ties and, of floats, NaN, infinities and zeros of both signs; of integers, the greatest and the least."""
    if np.dtype(dtype).kind == "f":
        special = [np.nan, np.inf, -np.inf, 0.0, -0.0]
        return np.where(RNG.random(shape) < 0.2, RNG.choice(special, shape), RNG.integers(-40, 40, shape)).astype(dtype)
    if np.dtype(dtype).kind == "b":
        return RNG.random(shape) < 0.5
    info = np.iinfo(dtype)
    return np.where(RNG.random(shape) < 0.1, RNG.choice(np.array([info.min, info.max], dtype), shape),
                    RNG.integers(0, 40, shape).astype(dtype)).astype(dtype)


SHAPES = [((3, 1000), 1, 50), ((2, 4133), 1, 4133), ((5, 333, 3), 1, 7), ((2, 70), 1, 70), ((9, 64), 1, 8), ((7, 65), 1, 1), ((4, 3), 0, 4),
          ((9, 30011), 1, 50), ((270, 1000), 1, 5)]  # the last two look at runs first
TYPES = [np.float32, np.float16, np.float64, np.int64, np.int8, np.uint8, np.uint32, np.uint64, bool]


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize(("shape", "axis", "k", "dtype"), [*((*s, np.float32) for s in SHAPES), *(((2, 96), 1, 33, t) for t in TYPES)])
def test_leading_elements(shape: tuple[int, ...], axis: int, k: int, dtype: Any, largest: bool) -> None:
    x = _numbers(shape, dtype)
    values, places = run_graph(lambda v: list(graph.topk(v, k=k, axis=axis, largest=largest)), x, target=GPUS[0])
    expected = _ordered(x, k, axis, largest)
    np.testing.assert_array_equal(places, expected[1])
    np.testing.assert_array_equal(values, expected[0])


@pytest.mark.parametrize(("shape", "k", "dtype"), [((3, 200), 37, np.float32), ((1, 301), 301, np.int64), ((40, 60), 6, np.float16),
                                                ((300, 900), 5, np.float32)])
def test_sorts_on_simulated_gpus(shape: tuple[int, ...], k: int, dtype: Any) -> None:
    x = _numbers(shape, dtype)
    _simulated(lambda v: list(graph.topk(v, k=k, axis=1, largest=True)), list(_ordered(x, k, 1, True)), x)


def test_a_router_is_one_kernel() -> None:
    """The largest few of a short row: counting and choosing share a block."""
    compiled = compile_gpu(lambda v: list(graph.topk(v, k=4, axis=1)), np.zeros((256, 64), np.float32))
    assert len(compiled.kernels) == 1


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("kind", ["max", "min"])
def test_the_place_of_an_extreme_is_found_by_all_threads(kind: str, last: bool) -> None:
    x = RNG.integers(-90, 90, (3, 5000)).astype(np.float32)
    x[1, [70, 4000]] = np.nan
    find = np.argmax if kind == "max" else np.argmin
    want = x.shape[1] - 1 - find(x[:, ::-1], 1) if last else find(x, 1)
    _simulated(lambda v: graph.arg(v, kind=kind, axis=1, last=last), [want], x)
    compiled = compile_gpu(lambda v: graph.arg(v, kind=kind, axis=1, last=last), x)
    assert "combine = [\"\"" not in compiled.task


def test_a_key_is_found_by_all_threads() -> None:
    keys, x = RNG.integers(0, 50, 700), RNG.integers(0, 60, (4, 5))
    want = np.array([max(np.flatnonzero(keys == v), default=len(keys)) for v in x.reshape(-1)]).reshape(x.shape)
    _simulated(graph.find, [want], x, keys)


def _written(x: np.ndarray, places: list[tuple[Any, ...]], updates: list[Any], reduction: str) -> np.ndarray:
    """In order; what is out of range is dropped."""
    fold: Any = {"none": lambda old, new: new, "add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}[reduction]
    y = x.copy()
    for at, value in zip(places, updates, strict=True):
        if all(-n <= i < n for i, n in zip(at, x.shape)):
            y[at] = fold(y[at], value)
    return y


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "min", "max"])
@pytest.mark.parametrize(("shape", "depth", "count"), [((40, 6), 1, 5), ((7, 11, 3), 2, 300), ((900,), 1, 2000), ((5, 300, 130), 2, 40)])
def test_scattered_slices(shape: tuple[int, ...], depth: int, count: int, reduction: str) -> None:
    """With duplicates, negative places, and some out of range."""
    x = RNG.uniform(0.5, 1.5, shape).astype(np.float32)
    indices = np.stack([RNG.integers(-n - (n > 5), n + (n > 5), count) for n in shape[:depth]], 1)
    updates = RNG.uniform(0.9, 1.1, (count, *shape[depth:])).astype(np.float32)
    got, = run_graph(lambda *v: graph.scatter_nd(*v, reduction=reduction), x, indices, updates, target=GPUS[0])
    want = _written(x, [tuple(i) for i in indices.tolist()], list(updates), reduction)
    np.testing.assert_allclose(got, want, rtol=1e-4 if reduction in ("add", "mul") else 0, atol=0)


@pytest.mark.parametrize("reduction", ["none", "add"])
@pytest.mark.parametrize(("shape", "axis", "others"), [((9, 70, 6), 1, (9, 6)), ((50, 30), 1, (20,)), ((1000, 40), 0, (40,)),
                                                        ((8, 9), 0, (4,))])
def test_scattered_elements(shape: tuple[int, ...], axis: int, others: tuple[int, ...], reduction: str) -> None:
    """Along whole lanes, and where only some have indices."""
    places = (*others[:axis], 65, *others[axis:])
    x, updates = RNG.uniform(0, 1, shape).astype(np.float32), RNG.uniform(0, 1, places).astype(np.float32)
    indices = RNG.integers(-shape[axis], shape[axis] + 1, places).astype(np.int32)
    got, = run_graph(lambda *v: graph.scatter_elements(*v, axis=axis, reduction=reduction), x, indices, updates, target=GPUS[0])
    each = [tuple(int(indices[at]) if d == axis else at[d] for d in range(len(shape))) for at in np.ndindex(*places)]
    np.testing.assert_allclose(got, _written(x, each, list(updates.reshape(-1)), reduction), rtol=1e-5 if reduction == "add" else 0)


@pytest.mark.parametrize("count", [3, 130])
def test_scatters_on_simulated_gpus(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All updates looked at, and sorted ones."""
    x, updates = RNG.uniform(0, 1, (61, 20)).astype(np.float16), RNG.uniform(0, 1, (count, 20)).astype(np.float16)
    indices = RNG.integers(-61, 61, (count, 1))
    monkeypatch.setattr(_scatters, "WORK", 0)
    for reduction in ("none", "add", "max"):
        want = _written(x, [tuple(i) for i in indices.tolist()], list(updates), reduction)
        _simulated(lambda *v, how=reduction: graph.scatter_nd(*v, reduction=how), [want], x, indices, updates,
                   tolerance=5e-2 if reduction == "add" else 0)


def test_a_loop_of_scalars_is_a_body_like_others() -> None:
    """Regions of an image: as many samples as they are large; then more, of the same kernel."""
    x, batch = RNG.standard_normal((2, 5, 20, 17)).astype(np.float32), np.array([0, 1, 1, 0])
    regions = np.array([[1, 2, 9, 12], [0, 0, 5, 5], [3.3, 4.1, 16, 18], [2, 2, 2.5, 2.2]], np.float32)

    def build(x: Any, regions: Any, batch: Any) -> Any:
        found = graph.roi_align(x, regions, batch, mode="avg", height=3, width=4, sampling=0, scale=0.9, half_pixel=True)
        return graph.softmax(graph.elementwise("mul", found, found), axis=3)

    want = run_graph(build, x, regions, batch)
    _simulated(build, want, x, regions, batch, tolerance=1e-6)
    native = compile_native(build, x, regions, batch)
    np.testing.assert_allclose(native(x, regions, batch)[0], want[0], rtol=0, atol=1e-6)
    assert "grid = [4, 5]" in native.task


def _unsuppressed(boxes: np.ndarray, scores: np.ndarray, limit: int, overlap: float, least: float) -> np.ndarray:
    """Rows (batch, class, box)."""
    found: list[tuple[int, int, int]] = []
    for batch, c in np.ndindex(*scores.shape[:2]):
        low, high = (pick(boxes[batch, :, :2], boxes[batch, :, 2:]) for pick in (np.minimum, np.maximum))
        areas, kept = np.prod(high - low, 1), list[int]()
        for i in np.argsort(-scores[batch, c], kind="stable"):
            shared = np.prod(np.maximum(np.minimum(high[i], high[kept]) - np.maximum(low[i], low[kept]), 0), 1)
            if scores[batch, c, i] > least and len(kept) < limit and not (shared / (areas[i] + areas[kept] - shared) > overlap).any():
                kept.append(int(i))
        found += [(batch, c, i) for i in kept]
    return np.array(found, np.int64).reshape(-1, 3)


@pytest.mark.parametrize(("shape", "rows", "limit"), [((2, 3, 60), 120, 20), ((1, 5, 40), 13, 7), ((1, 1, 33), 33, 33)])
def test_suppression_class_by_class(shape: tuple[int, int, int], rows: int, limit: int) -> None:
    """With ties; fewer kept than there is room for, and more."""
    boxes = RNG.uniform(0, 10, (shape[0], shape[2], 4)).astype(np.float32)
    scores = RNG.integers(0, 30, shape).astype(np.float32) / 32
    inputs = [boxes, scores, np.array(limit), np.array(0.3, np.float32), np.array(0.25, np.float32)]
    kept = _unsuppressed(boxes, scores, limit, 0.3, 0.25)[:rows]
    want = np.zeros((rows, 3), np.int64)
    want[:len(kept)] = kept
    for compiled in (compile_native(lambda *v: list(graph.nms(*v, rows=rows)), *inputs),
                     *(compile_gpu(lambda *v: list(graph.nms(*v, rows=rows)), *inputs, target=target) for target in GPUS)):
        found, count = compiled(*inputs)
        assert count == len(kept)
        np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize("share", [0.0, 0.03, 0.6, 1.0])
def test_kept_elements_on_simulated_gpus(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_scans, "WORK", 0)
    x = np.where(RNG.random((5, 9, 7)) < share, RNG.standard_normal((5, 9, 7)), 0).astype(np.float32)
    x.reshape(-1)[:2] = [-0.0, np.nan if share else 0.0]
    found = np.stack(np.nonzero(x))
    padded = np.zeros((3, x.size), np.int64)
    padded[:, :found.shape[1]] = found
    _simulated(lambda v: list(graph.nonzero(v)), [padded, np.array(found.shape[1])], x)
    rows, keep = RNG.standard_normal((300, 3)).astype(np.float32), RNG.random(290) < share
    chosen = np.zeros((290, 3), np.float32)
    chosen[:keep.sum()] = rows[:290][keep]
    _simulated(lambda *v: list(graph.compress(*v)), [chosen, np.array(keep.sum())], rows, keep)


@pytest.mark.parametrize(("parts", "axis"), [(7, 0), (7, 2), (40, 1), (300, 0)])
def test_concat_of_many(parts: int, axis: int) -> None:
    """Parts of different lengths, some of them empty."""
    shapes = [tuple(int(RNG.integers(0, 4)) if d == axis else n for d, n in enumerate((3, 2, 5))) for _ in range(parts)]
    xs = [RNG.uniform(-1, 1, shape).astype(np.float16) for shape in shapes]
    _simulated(lambda *vs: graph.concat(*vs, axis=axis), [np.concatenate(xs, axis)], *xs)
