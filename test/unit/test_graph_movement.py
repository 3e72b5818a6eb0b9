"""movement ops against numpy: asymmetric shapes, every pad mode, negative steps, sizes of zero, several element types."""

from functools import partial

import ml_dtypes
import numpy as np
import pytest
from arrays import integers
from graph_run import run

from mlc.dialects import graph
from mlc.dtypes import F16, I32

RNG = np.random.default_rng(0)
data = partial(integers, RNG)


def same(result, expected):
    assert result.dtype == expected.dtype and result.shape == expected.shape
    np.testing.assert_array_equal(result, expected)


def test_reshape_transpose():
    x, y, z = data(2, 3, 4, 5), data(1, 6, 1, 2), data(0, 3)
    outs = run(lambda x, y, z: [graph.reshape(x, shape=[6, 20]), graph.transpose(x, perm=[2, 0, 3, 1]),
                                graph.transpose(y, perm=[1, 0, 2, 3]),
                                graph.transpose(z, perm=[1, 0]), graph.reshape(z, shape=[0])], x, y, z)
    for o, e in zip(outs, [x.reshape(6, 20), x.transpose(2, 0, 3, 1), y.reshape(6, 1, 1, 2), z.T, z.reshape(0)], strict=True):
        same(o, e)


def test_slice():
    x, one = data(7, 9), data(1, 9)
    outs = run(lambda x, one: [
        graph.slice(x, starts=[0, 0], sizes=[4, 5], steps=[1, 1]), graph.slice(x, starts=[2, 1], sizes=[3, 4], steps=[2, 2]),
        graph.slice(x, starts=[6, 8], sizes=[7, 3], steps=[-1, -4]), graph.slice(x, starts=[5, 0], sizes=[1, 9], steps=[3, 1]),
        graph.slice(x, starts=[7, 0], sizes=[0, 9], steps=[1, 1]), graph.slice(x, starts=[0, 2], sizes=[3, 4], steps=[1, 1]),
        graph.slice(one, starts=[0, 0], sizes=[1, 4], steps=[1, 1])], x, one)
    for o, e in zip(outs, [x[:4, :5], x[2:7:2, 1:9:2], x[::-1, ::-4], x[5:6], x[7:], x[:3, 2:6], one[:, :4]], strict=True):
        same(o, e)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("count", [1, 3, 6])
def test_concat(axis, count):
    parts = [data(*[n if d == axis else 2 + d for d in range(3)]) for n in (3, 0, 1, 4, 2, 5)[:count]]
    same(run(lambda *p: graph.concat(*p, axis=axis), *parts)[0], np.concatenate(parts, axis))


def test_concat_of_nothing():
    parts = [data(0, 4), data(0, 4)]
    same(run(lambda *p: graph.concat(*p, axis=0), *parts)[0], np.concatenate(parts, 0))


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
@pytest.mark.parametrize(("low", "high"), [([1, 2], [3, 0]), ([7, 9], [8, 11]), ([-1, 2], [2, -2]), ([-1, 0], [-2, -1]), ([0, 0], [0, 0])])
def test_pad(mode, low, high):
    x = data(4, 5)
    cut = x[max(-low[0], 0):4 + min(high[0], 0), max(-low[1], 0):5 + min(high[1], 0)]
    fill, extra = ({"constant_values": 7}, {"value": 7.0}) if mode == "constant" else ({}, {})
    expected = np.pad(cut, [(max(a, 0), max(z, 0)) for a, z in zip(low, high, strict=True)], mode, **fill)
    same(run(lambda x: graph.pad(x, low=low, high=high, mode=mode, **extra), x)[0], expected)


def test_pad_runtime_value_and_empty():
    x, v, empty = data(3, 2, dtype=np.int64), np.array(2**60 + 1, np.int64), data(0, 2, dtype=np.int64)
    outs = run(lambda x, v, e: [graph.pad(x, v, low=[1, 0], high=[0, 2]), graph.pad(e, v, low=[1, 1], high=[1, 0]),
                                      graph.pad(e, low=[0, 1], high=[0, 0], mode="wrap")], x, v, empty)
    same(outs[0], np.pad(x, [(1, 0), (0, 2)], constant_values=v))
    same(outs[1], np.full((2, 3), v))
    same(outs[2], np.zeros((0, 3), np.int64))


def test_broadcast():
    x, s, e = data(3, 1, dtype=np.float16), data(dtype=np.float16), data(1, 0, dtype=np.float16)
    outs = run(lambda x, s, e: [graph.broadcast(x, shape=[2, 3, 4]), graph.broadcast(s, shape=[2, 2]), graph.broadcast(e, shape=[3, 0]),
                                      graph.broadcast(x, shape=[0, 3, 4])], x, s, e)
    empty = [np.zeros(shape, np.float16) for shape in ((3, 0), (0, 3, 4))]
    for o, ref in zip(outs, [np.broadcast_to(x, (2, 3, 4)), np.broadcast_to(s, (2, 2)), *empty], strict=True):
        same(o, ref)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gather(axis):
    x, i = data(3, 4, 5), RNG.integers(-3, 3, (2, 6))
    same(run(lambda x, i: graph.gather(x, i, axis=axis), x, i)[0], np.take(x, i, axis))


def test_gather_stays_inside():
    x, i, e = data(3, 2), np.array([-9, 9, -3, 2**40], np.int64), data(0, 2)
    outs = run(lambda x, i, e: [graph.gather(x, i, axis=0), graph.gather(e, i, axis=0)], x, i, e)
    same(outs[0], x[[0, 2, 0, 2]])
    assert outs[1].shape == (4, 2)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, ml_dtypes.bfloat16, np.float64, ml_dtypes.int4])
def test_element_types(dtype):
    x = RNG.integers(0, 2, (3, 4)).astype(dtype)
    outs = run(lambda x: [graph.transpose(x, perm=[1, 0]), graph.concat(x, x, axis=1), graph.pad(x, low=[1, 0], high=[0, 1])], x)
    for o, e in zip(outs, [x.T, np.concatenate([x, x], 1), np.pad(x, [(1, 0), (0, 1)])], strict=True):
        assert o.dtype == e.dtype and (o.astype(np.float32) == e.astype(np.float32)).all()


def test_iota():
    outs = run(lambda: [graph.iota((2, 3), 1, I32), graph.iota((2, 3), 0, F16), graph.iota((0,), 0, I32)])
    same(outs[0], np.tile(np.arange(3, dtype=np.int32), (2, 1)))
    same(outs[1], np.array([[0] * 3, [1] * 3], np.float16))
    same(outs[2], np.zeros(0, np.int32))
