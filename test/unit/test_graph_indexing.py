"""indexing and sorting ops against numpy, with wrong indices, ties, NaN and sizes of zero."""

from functools import partial

import numpy as np
import pytest
from arrays import integers
from graph_run import run

from mlc.dialects.graph import indexing, sorting

RNG = np.random.default_rng(1)
data = partial(integers, RNG)


def test_gather_elements_and_nd():
    x, i, j = data(3, 4, 5), RNG.integers(-4, 4, (3, 7, 5)), RNG.integers(-4, 4, (3, 2, 1))
    k = RNG.integers(0, 3, (6, 2))
    outs = run(lambda x, i, j, k: [
        indexing.gather_elements(x, i, axis=1), indexing.gather_nd(x, j, batch_dims=1), indexing.gather_nd(x, k)], x, i, j, k)
    np.testing.assert_array_equal(outs[0], np.take_along_axis(x, i, 1))
    np.testing.assert_array_equal(outs[1], np.stack([x[b][j[b, :, 0]] for b in range(3)]))
    np.testing.assert_array_equal(outs[2], x[k[:, 0], k[:, 1]])


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "min", "max"])
def test_scatter(reduction):
    fn = {"none": lambda a, b: b, "add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}[reduction]
    x, u = RNG.integers(-3, 4, (4, 6)).astype(np.int64), RNG.integers(-3, 4, (3, 5)).astype(np.int64)
    i = RNG.integers(-6, 6, (3, 5))
    nd, nu = np.array([[1], [-1], [1], [9]]), RNG.integers(-3, 4, (4, 6)).astype(np.int64)
    outs = run(lambda x, i, u, nd, nu: [indexing.scatter_elements(x, i, u, axis=1, reduction=reduction),
                                        indexing.scatter_nd(x, nd, nu, reduction=reduction)], x, i, u, nd, nu)
    expected = x.copy()
    for r in range(3):
        for c in range(5):
            expected[r, i[r, c]] = fn(expected[r, i[r, c]], u[r, c])
    np.testing.assert_array_equal(outs[0], expected)
    expected = x.copy()
    for r, at in enumerate(nd[:3, 0]):  # the fourth is outside: dropped
        expected[at] = fn(expected[at], nu[r])
    np.testing.assert_array_equal(outs[1], expected)


@pytest.mark.parametrize("circular", [False, True])
def test_update(circular):
    cache, new, at = data(2, 3, 7, 2), data(2, 3, 4, 2), np.array([2, 5])
    expected = cache.copy()
    for b in range(2):
        for s in range(4):
            row = (at[b] + s) % 7 if circular else at[b] + s
            if row < 7:
                expected[b, :, row] = new[b, :, s]
    np.testing.assert_array_equal(run(lambda *v: indexing.update(*v, axis=2, circular=circular), cache, new, at)[0], expected)


@pytest.mark.parametrize("k", [-9, -1, 0, 2, 9])
def test_trilu(k):
    x = data(2, 3, 5)
    outs = run(lambda x, k: [indexing.trilu(x, k), indexing.trilu(x, k, upper=False)], x, np.array(k))
    np.testing.assert_array_equal(outs[0], np.triu(x, k))
    np.testing.assert_array_equal(outs[1], np.tril(x, k))


def test_reverse_sequence():
    x, lens = data(3, 5, 2), np.array([1, 5, 4])
    expected = x.copy()
    for b, n in enumerate(lens):
        expected[b, :n] = x[b, :n][::-1]
    np.testing.assert_array_equal(run(lambda x, n: indexing.reverse_sequence(x, n, time=1, batch=0), x, lens)[0], expected)


@pytest.mark.parametrize("shape", [(3, 5), (7,), (), (0, 3), (2, 3, 4)])
def test_nonzero(shape):
    x = RNG.integers(0, 2, shape).astype(np.int32)
    y, n = run(lambda x: indexing.nonzero(x), x)
    np.testing.assert_array_equal(y[:, :int(n)], np.array(np.nonzero(x)) if shape else np.zeros((0, int(x != 0))))


def test_compress():
    x, c = data(6, 2, 2), np.array([True, False, True, True, False])
    y, n = run(lambda x, c: indexing.compress(x, c), x, c)
    np.testing.assert_array_equal(y[:int(n)], np.compress(c, x, 0))


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize(("k", "axis"), [(3, 1), (50, 1), (4, 0), (0, 1)])
def test_topk(largest, k, axis):
    x = RNG.integers(0, 20, (5, 50, 2)).astype(np.float32)
    values, at = run(lambda x: sorting.topk(x, k=k, axis=axis, largest=largest), x)
    expected = np.take(np.argsort(-x if largest else x, axis=axis, kind="stable"), range(k), axis)
    np.testing.assert_array_equal(at, expected)
    np.testing.assert_array_equal(values, np.take_along_axis(x, expected, axis))


@pytest.mark.parametrize("n", [3, 40])
def test_topk_nan_and_unsigned(n):
    x = np.array([[1, np.nan, 3, -np.inf] * 10], np.float32)
    outs = run(lambda x, u: [*sorting.topk(x, k=n, axis=1), *sorting.topk(x, k=n, axis=1, largest=False), *sorting.topk(u, k=n, axis=0)],
               x, np.array([1, 2**64 - 1, 5, 0] * 10, np.uint64))
    np.testing.assert_array_equal(outs[2], np.sort(x, 1)[:, :n])
    np.testing.assert_array_equal(outs[0], np.sort(x, 1)[:, ::-1][:, :n])
    assert outs[4][0] == 2**64 - 1
    assert outs[1][0][0] == 1


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("shape", [(9, 1), (8, 2), (1, 1), (0, 1), (3, 0)])
def test_unique(in_order, shape):
    x = RNG.integers(0, 3, shape).astype(np.float32)
    y, first, inverse, counts, n = run(lambda x: sorting.unique(x, in_order=in_order), x)
    n = int(n)
    if 0 in shape:
        assert n == min(shape[0], 1)
        np.testing.assert_array_equal(counts[:n], [shape[0]] * n)
        return
    ey, ef, ei, ec = np.unique(x, True, True, True, axis=0)
    if not in_order:
        order = np.argsort(ef)
        ey, ef, ec = ey[order], ef[order], ec[order]
        ei = np.argsort(order)[ei]
    for got, want in ((y[:n], ey), (first[:n], ef), (inverse, ei.reshape(-1)), (counts[:n], ec)):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("centered", [False, True])
def test_nms(centered):
    import onnx
    from onnx.reference import ReferenceEvaluator

    boxes, scores = RNG.random((2, 12, 4)).astype(np.float32), RNG.random((2, 3, 12)).astype(np.float32)
    model = onnx.parser.parse_graph(
        "g (float[2,12,4] b, float[2,3,12] s, int64[1] m, float[1] i, float[1] t) => (int64[n,3] y) "
        f"{{ y = NonMaxSuppression<center_point_box = {int(centered)}>(b, s, m, i, t) }}")
    limit, iou, least = np.array(4), np.array(0.1, np.float32), np.array(0.2, np.float32)
    given = dict(zip("bsmit", [boxes, scores, limit[None], iou[None], least[None]], strict=True))
    expected = ReferenceEvaluator(model, opsets={"": 18}).run(None, given)[0]
    y, n = run(lambda *v: sorting.nms(*v, rows=72, centered=centered), boxes, scores, limit, iou, least)
    np.testing.assert_array_equal(y[:int(n)], expected)
