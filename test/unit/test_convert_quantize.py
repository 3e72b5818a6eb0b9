"""Quantised ops against ONNX's node tests, ONNX Runtime, and the formulas written out in numpy."""

from functools import partial

import ml_dtypes
import numpy as np
import pytest
from arrays import normal
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx_run import against_onnxruntime, check_cases, node_model, run_model

from mlc.errors import MlcError, ModelError, UnsupportedError

RNG = np.random.default_rng(3)
floats = partial(normal, RNG)
CASES = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv")
MS = {"domain": "com.microsoft"}


def ints(dtype: object, *shape: int) -> np.ndarray:
    info = ml_dtypes.iinfo(dtype)
    return RNG.integers(int(info.min), int(info.max) + 1, shape).astype(dtype)


def scales(*shape: int, dtype: object = np.float32) -> np.ndarray:
    return RNG.uniform(0.01, 0.1, shape).astype(dtype)


def against_reference(op: str, inputs: dict, **options: object) -> None:
    """Like against_onnxruntime, for element types that onnxruntime's Python binding does not take."""
    model = node_model(op, inputs, **options)
    for got, expected in zip(run_model(model, inputs), ReferenceEvaluator(model).run(None, inputs), strict=True):
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got.astype(np.float64), expected.astype(np.float64), rtol=1e-6)


def codes(op: str, inputs: dict, off: int = 1, **options: object) -> None:
    """Codes may be `off` by one where a value lies on the edge between two; few do."""
    against_onnxruntime(op, inputs, rtol=0, atol=off, **options)


@pytest.mark.parametrize("op", CASES)
def test_onnx_cases(op: str) -> None:
    assert check_cases(op)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, ml_dtypes.int4, ml_dtypes.uint4])
def test_linear(dtype: object) -> None:
    x, zero = ints(dtype, 3, 5, 7), ints(dtype, 5)
    against = against_onnxruntime if np.dtype(dtype).kind in "iu" else against_reference
    against("DequantizeLinear", {"x": x, "s": scales(5), "z": zero}, axis=-2)
    against("DequantizeLinear", {"x": x, "s": scales()})
    against("QuantizeLinear", {"x": floats(3, 5, 7) * 30, "s": scales(7) * 10, "z": ints(dtype, 7)}, axis=2)


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2fnuz, ml_dtypes.float4_e2m1fn, ml_dtypes.int2])
def test_small_codes(dtype: object) -> None:
    x = floats(4, 6)
    zero = np.zeros(6).astype(dtype)
    against_reference("QuantizeLinear", {"x": x, "s": scales(6), "z": zero}, opset=25)
    against_reference("DequantizeLinear", {"x": (x * 2).astype(dtype), "s": scales(4), "z": zero[:4]}, opset=25, axis=0)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, ml_dtypes.int4, ml_dtypes.uint4])
@pytest.mark.parametrize(("axis", "block"), [(1, 4), (0, 3), (1, 5)])
def test_blocks(dtype: object, axis: int, block: int) -> None:
    shape = [6, 12, 2]
    shape[axis] = -(-shape[axis] // block)
    inputs = {"x": ints(dtype, 6, 12, 2), "s": scales(*shape), "z": ints(dtype, *shape)}
    against = against_onnxruntime if np.dtype(dtype).kind in "iu" else against_reference
    against("DequantizeLinear", inputs, axis=axis, block_size=block)
    against("QuantizeLinear", {**inputs, "x": floats(6, 12, 2)}, axis=axis, block_size=block)


def test_half_scales_and_stated_types() -> None:
    x, s = ints(np.int8, 4, 6), scales(6, dtype=np.float16)
    (y,) = run_model(node_model("DequantizeLinear", {"x": x, "s": s}, opset=23, output_dtype=1), {"x": x, "s": s})
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, x.astype(np.float32) * s.astype(np.float32))
    v, s = floats(4, 6), scales(dtype=np.float16)
    (y,) = run_model(node_model("QuantizeLinear", {"x": v, "s": s}, opset=23, output_dtype=3, precision=1), {"x": v, "s": s})
    np.testing.assert_array_equal(y, np.clip(np.rint(v / s.astype(np.float32)), -128, 127).astype(np.int8))
    (y,) = run_model(node_model("QuantizeLinear", {"x": v, "s": s}, opset=23, output_dtype=3), {"x": v, "s": s})
    np.testing.assert_array_equal(y, np.clip(np.rint(v.astype(np.float16) / s), -128, 127).astype(np.int8))


def test_nan_and_infinity_saturate() -> None:
    x, s = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30], np.float32), np.array(0.5, np.float32)
    (y,) = run_model(node_model("QuantizeLinear", {"x": x, "s": s}, output_dtype=3), {"x": x, "s": s})
    assert y.tolist() == [-128, 127, -128, 127, -128]


def test_dynamic_quantize() -> None:
    for x in (floats(7, 9), np.abs(floats(3, 4)) + 1, -np.abs(floats(5)), np.zeros((2, 3), np.float32)):
        against_onnxruntime("DynamicQuantizeLinear", {"x": x}, outputs=3, rtol=1e-6, atol=1e-6)


def test_integer_products() -> None:
    a, b = ints(np.uint8, 2, 3, 5, 11), ints(np.int8, 3, 11, 7)
    against_onnxruntime("MatMulInteger", {"a": a, "b": b, "za": np.array(200, np.uint8), "zb": ints(np.int8, 7)[:1]}, rtol=0, atol=0)
    za, zb = ints(np.uint8, 5), ints(np.int8, 7)
    a, b = ints(np.uint8, 5, 11), ints(np.int8, 11, 7)
    (y,) = run_model(node_model("MatMulInteger", {"a": a, "b": b, "za": za, "zb": zb}), {"a": a, "b": b, "za": za, "zb": zb})
    np.testing.assert_array_equal(y, (a.astype(int) - za[:, None].astype(int)) @ (b.astype(int) - zb.astype(int)))
    x, w = ints(np.uint8, 2, 4, 9, 8), ints(np.uint8, 6, 2, 3, 2)
    against_onnxruntime(
        "ConvInteger",
        {"x": x, "w": w, "zx": np.array(131, np.uint8), "zw": np.array(140, np.uint8)},
        rtol=0,
        atol=0,
        group=2,
        pads=[1, 0, 2, 1],
        strides=[2, 1],
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_qlinear_products(dtype: object) -> None:
    one = np.array(0.02, np.float32)
    a, b, zero = ints(dtype, 2, 5, 11), ints(dtype, 2, 11, 7), ints(dtype)
    inputs = {"a": a, "as": one, "az": ints(dtype), "b": b, "bs": one, "bz": ints(dtype), "ys": np.array(0.3, np.float32), "yz": zero}
    codes("QLinearMatMul", inputs)
    x, w = ints(dtype, 2, 4, 7, 8), ints(np.int8, 6, 4, 3, 3)
    inputs = {
        "x": x,
        "xs": one,
        "xz": ints(dtype),
        "w": w,
        "ws": scales(6),
        "wz": np.zeros(6, np.int8),
        "ys": np.array(1.1, np.float32),
        "yz": zero,
        "b": RNG.integers(-9999, 9999, 6).astype(np.int32),
    }
    codes("QLinearConv", inputs, pads=[1, 1, 1, 1], weights=("w", "wz", "ws"))


def packed(q: np.ndarray, bits: int) -> np.ndarray:
    """Codes in bytes along the last axis, low bits first, zeros at the end."""
    per = 8 // bits
    q = np.pad(q, [(0, 0)] * (q.ndim - 1) + [(0, -q.shape[-1] % per)]).reshape(*q.shape[:-1], -1, per)
    return np.sum(q.astype(np.uint32) << (np.arange(per) * bits), axis=-1).astype(np.uint8)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("zeros", ["none", "packed", "float"])
@pytest.mark.parametrize(("k", "dtype"), [(64, np.float32), (40, np.float16)])
def test_matmul_nbits(bits: int, zeros: str, k: int, dtype: object) -> None:
    n, block = 6, 16
    blocks = -(-k // block)
    q = RNG.integers(0, 1 << bits, (n, blocks, block))
    s, z = scales(n, blocks, dtype=dtype), RNG.integers(0, 1 << bits, (n, blocks))
    a, bias = floats(2, 3, k, dtype=dtype), floats(n, dtype=dtype)
    given = {"none": None, "packed": packed(z, bits), "float": (z + 0.25).astype(dtype)}[zeros]
    off = {"none": 1 << (bits - 1), "packed": z[..., None], "float": z[..., None] + 0.25}[zeros]
    inputs = {"a": a, "b": packed(q, bits), "s": s, "z": given, "g": None, "bias": bias}
    model = node_model("MatMulNBits", inputs, weights=("b", "s", "z", "bias"), K=k, N=n, bits=bits, block_size=block, **MS)
    (y,) = run_model(model, {"a": a})
    w = ((q - off) * s.astype(np.float64)[..., None]).reshape(n, -1)[:, :k]
    np.testing.assert_allclose(
        y, a.astype(np.float64) @ w.T + bias, rtol=1e-4 if dtype == np.float32 else 1e-2, atol=1e-4 if dtype == np.float32 else 5e-2
    )


def test_matmul_nbits_against_onnxruntime() -> None:
    q, s = RNG.integers(0, 16, (5, 4, 32)), scales(5, 4)
    inputs = {"a": floats(3, 128), "b": packed(q, 4), "s": s.reshape(-1), "z": packed(RNG.integers(0, 16, (5, 4)), 4).reshape(-1)}
    against_onnxruntime("MatMulNBits", inputs, weights=("b", "s", "z"), K=128, N=5, bits=4, block_size=32, **MS)


def test_matmul_nbits_refuses() -> None:
    a, b, s = floats(3, 128), np.zeros((5, 4, 16), np.uint8), scales(5, 4)
    for wrong in ({"K": 129}, {"N": 6}, {"block_size": 64}, {"block_size": 24}, {"bits": 2}):
        model = node_model(
            "MatMulNBits", {"a": a, "b": b, "s": s}, weights=("b", "s"), **{"K": 128, "N": 5, "bits": 4, "block_size": 32, **wrong}, **MS
        )
        with pytest.raises(ModelError, match="MatMulNBits"):
            run_model(model, {"a": a})
    model = node_model(
        "MatMulNBits",
        {"a": a, "b": b, "s": s, "z": None, "g": np.zeros(128, np.int32)},
        weights=("b", "s", "g"),
        K=128,
        N=5,
        bits=4,
        block_size=32,
        **MS,
    )
    with pytest.raises(UnsupportedError, match="g_idx"):
        run_model(model, {"a": a})


def part(dtype: object, *shape: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return ints(dtype, *shape), scales(), ints(dtype)


def named(*arrays: np.ndarray | None) -> dict[str, np.ndarray | None]:
    return {f"i{k}": a for k, a in enumerate(arrays)}


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_microsoft_8_bit_ops(dtype: object) -> None:
    out = (np.array(0.04, np.float32), ints(dtype))
    x = part(dtype, 2, 3, 5, 4)
    codes("QLinearAdd", named(*x, *part(dtype, 3, 1, 4), *out), **MS)
    codes("QLinearMul", named(*x, *part(dtype, 5, 1), *out), **MS)
    codes("QLinearLeakyRelu", named(*x, *out), alpha=0.2, **MS)
    unit = (np.array(1 / 256, np.float32), np.array(0 if dtype == np.uint8 else -128, dtype))
    codes("QLinearSigmoid", named(*x, *unit), **MS)
    codes("QLinearGlobalAveragePool", named(*x, *out), **MS)
    codes("QLinearAveragePool", named(*x, *out), kernel_shape=[2, 3], strides=[2, 1], pads=[1, 0, 0, 1], **MS)
    codes("QLinearConcat", named(*out, *part(dtype, 2, 3), *part(dtype, 2, 4)), axis=1, weights=("i0", "i1", "i3", "i4", "i6", "i7"), **MS)
    condition = RNG.integers(0, 2, (5, 1)).astype(bool)
    codes("QLinearWhere", named(condition, *x, *part(dtype, 5, 4), *out), weights=("i2", "i3", "i5", "i6", "i7", "i8"), **MS)


def test_qlinear_softmax() -> None:
    x, s, z = part(np.uint8, 2, 3, 4)
    values = (x.astype(np.float64) - z) * s
    for opset, axis, axes in ((13, 1, 1), (12, 1, (1, 2))):
        e = np.exp(values - values.max(axis=axes, keepdims=True))
        feeds = named(x, s, z, np.array(1 / 256, np.float32), np.array(0, np.uint8))
        model = node_model("QLinearSoftmax", feeds, axis=axis, **MS)
        model.graph.node[0].attribute.append(helper.make_attribute("opset", opset))
        (y,) = run_model(model, feeds)
        np.testing.assert_allclose(y, np.clip(np.rint(e / e.sum(axis=axes, keepdims=True) * 256), 0, 255), atol=1)


def test_microsoft_products() -> None:
    a, b = floats(3, 4, 9), ints(np.int8, 9, 6)
    against_onnxruntime(
        "DynamicQuantizeMatMul", named(a, b, scales(6), ints(np.int8, 6), floats(6)), weights=("i1", "i2", "i3", "i4"), **MS
    )
    against_onnxruntime(
        "DynamicQuantizeMatMul", named(a, ints(np.uint8, 9, 6), scales(), np.array(130, np.uint8)), weights=("i1", "i2", "i3"), **MS
    )
    q = ints(np.uint8, 5, 9)
    against_onnxruntime(
        "MatMulIntegerToFloat", named(q, b, scales(), scales(6), np.array(140, np.uint8), None, floats(6)), weights=("i1", "i3", "i6"), **MS
    )
    c = RNG.integers(-500, 500, 6).astype(np.int32)
    out = (np.array(0.2, np.float32), np.array(99, np.uint8))
    ws = named(q, scales(), np.array(131, np.uint8), b.T.copy(), scales(6), np.zeros(6, np.int8), c, *out)
    codes("QGemm", ws, transB=1, alpha=1.0, weights=("i3", "i4", "i5", "i6"), **MS)
    against_onnxruntime("QGemm", named(*list(ws.values())[:6]), transB=1, alpha=1.5, weights=("i3", "i4", "i5"), **MS)


def test_refuses_shapes_that_do_not_fit() -> None:
    x = ints(np.int8, 4, 6)
    for inputs, attributes in (
        ((scales(5),), {}),
        ((scales(6),), {"axis": 2}),
        ((scales(4, 2),), {"block_size": 2}),
        ((scales(4, 3), ints(np.int8, 4)), {"block_size": 2}),
    ):
        feeds = named(x, *inputs)
        with pytest.raises(MlcError, match="DequantizeLinear"):
            run_model(node_model("DequantizeLinear", feeds, **attributes), feeds)
