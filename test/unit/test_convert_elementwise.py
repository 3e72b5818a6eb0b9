"""Elementwise, cast, generator and random ONNX ops: ONNX's node tests, ONNX Runtime, old opsets, and what is refused."""

from functools import partial

import ml_dtypes
import numpy as np
import pytest
from arrays import normal
from harness import run_graph
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx_run import against_onnxruntime, check_cases, node_model, run_model

from mlc.dialects.graph.random import philox
from mlc.dtypes import U32
from mlc.errors import MlcError, ModelError, UnsupportedError
from mlc.ir.scalar import Scalar, constant, select

RNG = np.random.default_rng(9)
floats = partial(normal, RNG)
CASES = """Abs Acos Acosh Add And Asin Asinh Atan Atanh BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow Cast
CastLike Ceil Celu Clip Cos Cosh Div Elu Erf Exp Floor Gelu Greater GreaterOrEqual HammingWindow HannWindow HardSigmoid
HardSwish IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean MelWeightMatrix Min Mish Mod Mul Neg Not Or PRelu Pow Range
Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum SwiGLU Swish Tan Tanh ThresholdedRelu
Where Xor""".split()
MS = {"domain": "com.microsoft"}


def one(
    op: str, *inputs: np.ndarray | None, values: tuple[str, ...] = (), outputs: int = 1, opset: int = 21, **attributes: object
) -> list[np.ndarray]:
    """One node on inputs i0, i1, ...; those named in `values` are known when it is compiled."""
    given = {f"i{k}": a for k, a in enumerate(inputs)}
    feeds = {name: a for name, a in given.items() if a is not None}
    return run_model(node_model(op, given, outputs, opset=opset, **attributes), feeds, values)


@pytest.mark.parametrize("op", CASES)
def test_onnx_cases(op: str) -> None:
    assert check_cases(op)


def test_onnx_cases_that_do_not_depend_on_random_numbers_or_strings() -> None:
    assert check_cases("Equal", skip=("test_equal_string", "test_equal_string_broadcast"))
    random = [f"test_training_dropout{rest}" for rest in ("", "_default", "_mask", "_default_mask")]
    assert check_cases("Dropout", skip=random)


def test_against_onnxruntime_on_broadcast_shapes() -> None:
    a, b, c = floats(2, 1, 5, 7), floats(3, 1, 7), floats(5, 1)
    for op in ("Add", "Sub", "Mul", "Div", "Less", "Greater", "PRelu"):
        against_onnxruntime(op, {"a": a, "b": b} if op != "PRelu" else {"a": floats(2, 3, 5, 7), "b": floats(3, 1, 1)})
    for op in ("Max", "Min", "Sum", "Mean"):
        against_onnxruntime(op, {"a": a, "b": b, "c": c})
        against_onnxruntime(op, {"a": a})
    against_onnxruntime("Where", {"c": RNG.integers(0, 2, (5, 1)).astype(bool), "a": a, "b": b})
    for op in ("Elu", "Selu", "Celu", "Softplus", "Mish", "HardSigmoid", "HardSwish", "Erf", "Sigmoid", "Tanh", "Gelu"):
        against_onnxruntime(op, {"x": np.concatenate([floats(50) * 4, [-90, 90, -1e4, 1e4, 0]]).astype(np.float32)}, opset=20)


def test_microsoft_activations() -> None:
    x, bias = floats(3, 4, 6), floats(6)
    against_onnxruntime("Gelu", {"x": x}, **MS)
    against_onnxruntime("BiasGelu", {"x": x, "b": bias}, **MS)
    against_onnxruntime("FastGelu", {"x": x, "b": bias}, **MS, rtol=1e-3)
    against_onnxruntime("FastGelu", {"x": x}, **MS, rtol=1e-3)
    against_onnxruntime("QuickGelu", {"x": x}, **MS, alpha=1.5)
    (y,) = one("BiasSplitGelu", x, bias, **MS)
    left, right = np.split(x + bias, 2, axis=-1)
    np.testing.assert_allclose(y, left * one("Gelu", right, opset=20)[0], rtol=1e-5)


@pytest.mark.parametrize("base", [np.float32, np.float64, np.int32, np.int64, np.float16])
@pytest.mark.parametrize("exponent", [np.float32, np.float64, np.int32, np.int64, np.uint8])
def test_pow_of_mixed_types(base: type, exponent: type) -> None:
    x, y = np.array([1, 2, 3, 5, 7, 2, 1]).astype(base), np.array([0, 1, 2, 3, 4, 10, 200]).astype(exponent)
    (z,) = one("Pow", x, y)
    assert z.dtype == base
    assert np.array_equal(z, np.array([1, 2, 9, 125, 2401, 1024, 1]).astype(base))


def test_pow_by_a_constant() -> None:
    x = np.concatenate([floats(20), [0, -0.0, np.inf, -np.inf, np.nan, 1e20]]).astype(np.float32)
    for exponent in (0, 1, 2, 3, 4, 5, -1, -2, 0.5, -0.5, 1.5):
        y = np.array(exponent, np.float32)
        (z,) = one("Pow", x, y, values=("i1",))
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(z, np.power(x, np.full_like(x, exponent)), rtol=3e-6, err_msg=str(exponent))
    for exponent in (0, 1, 5, 31):
        (z,) = one("Pow", np.array([-3, 2, 7], np.int32), np.array([exponent]), values=("i1",))
        with np.errstate(over="ignore"):
            assert np.array_equal(z, np.power(np.array([-3, 2, 7], np.int32), np.int32(exponent)))
    (z,) = one("Pow", np.array(3, np.float32), np.array([2], np.float32), values=("i1",))
    assert z.shape == (1,)


def test_narrow_floats_round_once() -> None:
    x = [floats(400, dtype=np.float16) * np.float16(100) for _ in range(5)]
    (y,) = one("Sum", *x)
    np.testing.assert_array_equal(y, sum(v.astype(np.float32) for v in x).astype(np.float16))
    (y,) = one("Mean", *x)
    np.testing.assert_array_equal(y, (sum(v.astype(np.float32) for v in x) / np.float32(5)).astype(np.float16))
    gate, value = floats(200, dtype=np.float16) * 3, floats(200, dtype=np.float16)
    (y,) = one("SwiGLU", gate, value, opset=28, alpha=1.25)
    wide = gate.astype(np.float64)
    np.testing.assert_allclose(y, (wide / (1 + np.exp(-1.25 * wide)) * value).astype(np.float16), rtol=1e-3)


def test_clip() -> None:
    for dtype in (np.float32, np.int8, np.uint64, np.float16):
        x = np.arange(0, 100).astype(dtype)
        low, high = np.array(20, dtype), np.array(50, dtype)
        for bounds in ((low, high), (None, high), (low, None), (high, low), (None, None)):
            (y,) = one("Clip", x, *bounds, opset=13)
            expected = x if bounds[0] is None else np.maximum(x, bounds[0])
            assert np.array_equal(y, expected if bounds[1] is None else np.minimum(expected, bounds[1]))
    (y,) = one("Clip", floats(9), opset=6, min=-0.5, max=0.25)
    assert y.min() >= -0.5 and y.max() <= 0.25
    (y,) = one("Clip", np.array(7.0, np.float32), np.array([1.0], np.float32), np.array([2.0], np.float32))
    assert y.shape == () and y == 2
    with pytest.raises(ModelError, match="expected one element"):
        one("Clip", floats(3), floats(3))


def test_opset_1_broadcasting() -> None:
    a, b = floats(2, 3, 4, 5), floats(3, 4)
    (y,) = one("Add", a, b, opset=6, broadcast=1, axis=1)
    np.testing.assert_array_equal(y, a + b[:, :, None])
    (y,) = one("Mul", a, floats(5)[:5], opset=6, broadcast=1)
    assert y.shape == a.shape
    (y,) = one("Greater", a, a[0, 0, 0, 0].reshape(1), opset=1, broadcast=1)
    np.testing.assert_array_equal(y, a > a[0, 0, 0, 0])
    slope = floats(3)
    (y,) = one("PRelu", a, slope, opset=6)
    np.testing.assert_array_equal(y, np.where(a < 0, a * slope[:, None, None], a))
    with pytest.raises(ModelError, match="'broadcast'"):
        one("Add", a, b, opset=6)
    with pytest.raises(ModelError, match="axis 3"):
        one("Add", a, b, opset=6, broadcast=1, axis=3)


def test_old_cast_and_types_that_are_refused() -> None:
    (y,) = one("Cast", np.array([1.7, -2.2], np.float32), opset=1, to="INT32")
    assert y.tolist() == [1, -2]
    with pytest.raises(UnsupportedError, match="STRING"):
        one("Cast", floats(2), to=8)
    with pytest.raises(MlcError, match="one width"):
        one("BitCast", floats(2), to=7, opset=26)


def test_range() -> None:
    for start, limit, delta, dtype in (
        (3, 20, 4, np.int64),
        (10, -5, -3, np.int32),
        (0, 1, 0.1, np.float32),
        (5, 1, 1, np.int16),
        (0, 5000, 1, np.int64),
        (0.5, 9000, 2.25, np.float64),
        (2, 3000, 1, np.float32),
    ):
        v = [np.array(n, dtype) for n in (start, limit, delta)]
        (y,) = one("Range", *v, values=("i0", "i1", "i2"))
        np.testing.assert_allclose(y, np.arange(*[n.item() for n in v]).astype(dtype), rtol=1e-6)
        assert y.dtype == dtype
    half = [np.array(n, ml_dtypes.bfloat16) for n in (0, 600, 3)]
    (y,) = one("Range", *half, values=("i0", "i1", "i2"), opset=27)
    np.testing.assert_array_equal(y.astype(np.float32), np.arange(0, 600, 3).astype(ml_dtypes.bfloat16).astype(np.float32))
    with pytest.raises(ModelError, match="steps of 0"):
        one("Range", *[np.array(n) for n in (0, 5, 0)], values=("i0", "i1", "i2"))


@pytest.mark.parametrize("op", ["HannWindow", "HammingWindow", "BlackmanWindow"])
def test_windows(op: str) -> None:
    for size, periodic in ((1, 1), (7, 1), (10, 0)):
        for code in (1, 10, 16):
            model = node_model(op, {"n": np.array(size)}, periodic=periodic, output_datatype=code)
            (y,) = run_model(model, {"n": np.array(size)}, ("n",))
            n = np.arange(size) / (size if periodic else size - 1)
            weights = {"HannWindow": (0.5, -0.5), "HammingWindow": (25 / 46, -21 / 46), "BlackmanWindow": (0.42, -0.5, 0.08)}[op]
            expected = sum(w * np.cos(2 * np.pi * k * n) for k, w in enumerate(weights))
            assert y.dtype == helper.tensor_dtype_to_np_dtype(code)
            np.testing.assert_allclose(y.astype(np.float64), expected, atol=1e-6 if code == 1 else 5e-3)


def test_mel_weight_matrix() -> None:
    v = [np.array(80, np.int64), np.array(400, np.int64), np.array(16000, np.int64), np.array(20, np.float32), np.array(7600, np.float32)]
    model = node_model("MelWeightMatrix", {f"i{k}": a for k, a in enumerate(v)})
    feeds = {f"i{k}": a for k, a in enumerate(v)}
    (y,) = run_model(model, feeds, tuple(feeds))
    np.testing.assert_allclose(y, ReferenceEvaluator(model).run(None, feeds)[0], atol=1e-6)


def test_random() -> None:
    (u,) = one("RandomUniform", shape=[200, 500], low=-2.0, high=6.0, seed=3.0)
    assert u.dtype == np.float32 and u.min() >= -2 and u.max() <= 6
    assert abs(u.mean() - 2) < 0.03 and abs(u.std() - 8 / np.sqrt(12)) < 0.03 and len(np.unique(u)) > 99000
    (n,) = one("RandomNormal", shape=[100000], mean=1.0, scale=2.0, seed=3.0, dtype=11)
    assert n.dtype == np.float64 and abs(n.mean() - 1) < 0.03 and abs(n.std() - 2) < 0.03 and abs(((n - 1) ** 4).mean() / 16 - 3) < 0.1
    again, other = (one("RandomNormal", shape=[100000], mean=1.0, scale=2.0, seed=seed, dtype=11)[0] for seed in (3.0, 4.0))
    assert np.array_equal(n, again) and abs(np.corrcoef(n, other)[0, 1]) < 0.02
    x = floats(3, 4, dtype=np.float16)
    assert one("RandomNormalLike", x)[0].dtype == np.float16
    assert one("RandomUniformLike", x, dtype=1)[0].shape == (3, 4)
    p = np.linspace(0, 1, 11).astype(np.float32)[:, None] * np.ones((1, 4000), np.float32)
    (b,) = one("Bernoulli", p, dtype=6)
    assert b.dtype == np.int32 and np.abs(b.mean(axis=1) - p[:, 0]).max() < 0.04 and not b[0].any() and b[10].all()
    logits = np.log(np.array([[0.1, 0.2, 0.7], [0.5, 0.5, 1e-9]], np.float32))
    (m,) = one("Multinomial", logits, sample_size=20000, dtype=7)
    shares = np.stack([np.bincount(row, minlength=3) / 20000 for row in m])
    assert m.shape == (2, 20000) and m.dtype == np.int64 and np.abs(shares - np.exp(logits)).max() < 0.015


def test_dropout() -> None:
    x = floats(300, 100)
    y, mask = one("Dropout", x, np.array(0.3, np.float32), np.array(True), outputs=2, values=("i1", "i2"), opset=13, seed=1)
    np.testing.assert_allclose(y, np.where(mask, x / np.float32(0.7), 0), rtol=1e-6)
    assert abs(mask.mean() - 0.7) < 0.01
    for training in (True, False):  # known only when it runs
        y, mask = one("Dropout", x, np.array(0.3, np.float32), np.array(training), outputs=2, opset=13)
        assert mask.all() != training and np.array_equal(y, x) != training
    for opset, kind in ((7, np.float32), (10, np.bool_)):
        y, mask = one("Dropout", x, outputs=2, opset=opset, ratio=0.4)
        assert np.array_equal(y, x) and mask.all() and mask.dtype == kind
    (y,) = one("Dropout", x, opset=6, is_test=1)
    assert np.array_equal(y, x)


def test_philox_known_answers() -> None:
    """Those of Random123, computed by a graph op of the test's own."""
    from mlc.dialects._build import Builder, Tensor
    from mlc.dialects._ext import Result
    from mlc.dialects.graph._base import GraphOp, TensorType, create

    class WordsOp(GraphOp, name="test_philox_words"):
        counter: list
        key: list
        y: Result

        @staticmethod
        def infer(types: list[TensorType], counter: list, key: list) -> list[TensorType]:
            return [TensorType((4,), U32)]

        def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
            def body() -> Scalar:
                words = philox([constant(c, U32) for c in self.py("counter")], tuple(self.py("key")))
                at, y = b.index(0), words[0]
                for k in (1, 2, 3):
                    y = select(at.eq(k), words[k], y)
                return y

            return [b.compute((4,), U32, [], body)]

    for counter, key, expected in (
        ([0] * 4, [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0], [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]),
    ):
        (y,) = run_graph(lambda c=counter, k=key: create(WordsOp, [], counter=c, key=k)[0])
        assert y.tolist() == expected
