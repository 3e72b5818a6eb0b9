"""Contractions, convolutions, pools, norms and attention as graph ops: narrow floats and integers against float64, and what they refuse."""

from functools import partial

import ml_dtypes
import numpy as np
import pytest
from arrays import normal
from graph_run import run

from mlc.dialects import graph
from mlc.dialects._ext import VerifyError
from mlc.dialects.graph import TensorType
from mlc.dialects.graph.attention import AttentionOp, RotaryOp
from mlc.dialects.graph.contraction import EinsumOp, MatmulOp
from mlc.dialects.graph.convolution import ConvOp, ConvTransposeOp
from mlc.dialects.graph.pool import PoolOp
from mlc.dialects.graph.reduce import ReduceOp, SoftmaxOp
from mlc.dtypes import BOOL, F16, F32, I32
from mlc.ir.context import make_context
from mlc.ir.mlir import ir

RNG = np.random.default_rng(23)
data = partial(normal, RNG)
NARROW = [np.float16, ml_dtypes.bfloat16]
TOLERANCE = {np.float16: 2e-3, ml_dtypes.bfloat16: 2e-2}


def reference_attention(q, k, v, mask=None, left=-1, right=-1, offset=0, cap=0.0):
    q, k, v = (t.astype(np.float64) for t in (q, k, v))
    k, v = (np.repeat(t, q.shape[1] // t.shape[1], 1) for t in (k, v))
    s = q @ k.swapaxes(-1, -2) * 0.3
    s = cap * np.tanh(s / cap) if cap else s
    if mask is not None:
        s = np.where(mask, s, -np.inf) if mask.dtype == bool else s + mask
    back = np.arange(q.shape[2])[:, None] + offset - np.arange(k.shape[2])
    seen = (back <= left if left >= 0 else True) & (back >= -right if right >= 0 else True)
    s = np.where(seen, s, -np.inf)
    e = np.exp(s - np.maximum(s.max(-1, keepdims=True), -1e30))
    return e / np.maximum(e.sum(-1, keepdims=True), 1e-30) @ v


@pytest.mark.parametrize("options", [{}, {"right": 0}, {"right": 0, "offset": 4}, {"left": 2, "right": 1, "offset": -2}, {"cap": 1.5}])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_attention(options, dtype):
    q, k, v = data(2, 6, 5, 8, dtype=dtype), data(2, 3, 9, 8, dtype=dtype), data(2, 3, 9, 4, dtype=dtype)
    attributes = {("softcap" if n == "cap" else n): o for n, o in options.items()}
    hidden, bias = RNG.random((2, 1, 5, 9)) > 0.2, data(6, 5, 9)
    hidden[0, 0, 2] = False
    plain, masked, shifted = run(lambda q, k, v, m, b: [graph.attention(q, k, v, scale=0.3, **attributes),
                                                        graph.attention(q, k, v, m, scale=0.3, **attributes),
                                                        graph.attention(q, k, v, b, scale=0.3, **attributes)], q, k, v, hidden, bias)
    for found, mask in ((plain, None), (masked, hidden), (shifted, bias)):
        expected = reference_attention(q, k, v, mask, **options)
        np.testing.assert_allclose(found.astype(np.float64), expected, atol=1e-5 if dtype == np.float32 else 2e-3)


@pytest.mark.parametrize("dtype", NARROW)
def test_norms_of_narrow_floats(dtype):
    x = (data(3, 4, 300) * 20 + 50).astype(dtype)
    layer, rms = run(lambda x: [graph.layer_norm(x, axis=2, eps=1e-5), graph.rms_norm(x, axis=1, eps=1e-6)], x)
    z = x.astype(np.float64)
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(layer.astype(np.float64), (z - z.mean(2, keepdims=True)) / z.std(2, keepdims=True), atol=tolerance * 2)
    np.testing.assert_allclose(rms.astype(np.float64), z / np.sqrt((z * z).mean((1, 2), keepdims=True)), rtol=tolerance)


def test_integer_and_double_convolution():
    x, w = RNG.integers(-9, 9, (1, 2, 6, 5)).astype(np.int32), RNG.integers(-9, 9, (3, 2, 2, 2)).astype(np.int32)
    whole, double, narrow = run(lambda x, w, xd, wd, xh, wh: [graph.conv(x, w, strides=[1, 1], dilations=[1, 1]),
                                                              graph.conv(xd, wd, strides=[1, 1], dilations=[1, 1]),
                                                              graph.conv(xh, wh, strides=[1, 1], dilations=[1, 1])],
                                x, w, x * 1.1, w * 0.9, x.astype(np.float16), w.astype(np.float16))
    expected = np.zeros((1, 3, 5, 4))
    for h in range(2):
        for v in range(2):
            expected += np.einsum("nchw,mc->nmhw", x[:, :, h:h + 5, v:v + 4], w[:, :, h, v])
    np.testing.assert_array_equal(whole, expected)
    np.testing.assert_allclose(double, expected * 0.99, rtol=1e-12, atol=1e-11)  # sums that cancel
    np.testing.assert_array_equal(narrow, expected)


def test_pool_of_integers_and_nan():
    x = data(1, 2, 7)
    x[0, 1, 3] = np.nan
    i = RNG.integers(-128, 127, (1, 2, 7)).astype(np.int8)
    taps = {"kernel": [3], "strides": [2], "dilations": [1], "axis": 2}
    top, most = run(lambda x, i: [graph.pool(x, kind="max", **taps), graph.pool(i, kind="max", **taps)], x, i)
    np.testing.assert_array_equal(top, np.stack([x[..., s:s + 3].max(-1) for s in (0, 2, 4)], -1))
    np.testing.assert_array_equal(most, np.stack([i[..., s:s + 3].max(-1) for s in (0, 2, 4)], -1))


def shaped(*shape, dtype=F32):
    return TensorType(shape, dtype)


@pytest.mark.parametrize(("op", "types", "attributes", "text"), [
    (MatmulOp, [shaped(2, 3), shaped(2, 3)], {}, "cannot multiply"),
    (MatmulOp, [shaped(2, 3), shaped(3, 2, dtype=F16)], {}, "one numeric element type"),
    (MatmulOp, [shaped(3), shaped(3, 2)], {}, "rank 2"),
    (EinsumOp, [shaped(2, 3), shaped(4, 2)], {"equation": "ij,jk->ik"}, "uses 'j'"),
    (EinsumOp, [shaped(2, 3)], {"equation": "ij"}, "of the form"),
    (ConvOp, [shaped(1, 4, 5), shaped(6, 3, 2)], {"strides": [1], "dilations": [1]}, "channels"),
    (ConvOp, [shaped(1, 4, 5), shaped(6, 4, 7)], {"strides": [1], "dilations": [1]}, "window of 7"),
    (ConvOp, [shaped(1, 4, 5), shaped(6, 4, 2)], {"strides": [0], "dilations": [1]}, "positive"),
    (ConvOp, [shaped(1, 4, 5), shaped(6, 4, 2)], {"strides": [1], "dilations": [1], "layout": "chwn"}, "layout"),
    (ConvTransposeOp, [shaped(1, 4, 5), shaped(3, 4, 2)], {"strides": [1], "dilations": [1], "pads": [0], "size": [6]}, "channels"),
    (PoolOp, [shaped(1, 4)], {"kind": "avg", "kernel": [1], "strides": [1], "dilations": [1], "axis": 1}, "kind 'avg'"),
    (ReduceOp, [shaped(1, 4, dtype=BOOL)], {"kind": "sum", "axes": [0]}, "not defined on i1"),
    (ReduceOp, [shaped(1, 4)], {"kind": "sum", "axes": [1, 0]}, "sorted axes"),
    (SoftmaxOp, [shaped(4, dtype=I32)], {"axis": 0}, "needs floats"),
    (AttentionOp, [shaped(1, 3, 4, 8), shaped(1, 2, 4, 8), shaped(1, 2, 4, 8)], {"scale": 1.0}, "disagree"),
    (AttentionOp, [*[shaped(1, 2, 4, 8)] * 3, shaped(3, 4, 4)], {"scale": 1.0}, "does not broadcast"),
    (RotaryOp, [shaped(1, 2, 4, 8), shaped(1, 1, 4, 8), shaped(1, 1, 4, 8)], {}, "do not broadcast"),
])
def test_refuses(op, types, attributes, text):
    with make_context(), ir.Location.unknown(), pytest.raises(VerifyError, match=text):
        op.infer(types, **attributes)
