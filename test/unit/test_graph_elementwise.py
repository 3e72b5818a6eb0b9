"""graph.elementwise against numpy: every function in every kind of type, with the values where functions go wrong."""

from math import erf

import ml_dtypes
import numpy as np
import pytest
from harness import run_graph
from native import compile_native

from mlc.dialects import graph
from mlc.dialects._ext import VerifyError
from mlc.dialects.graph.functions import FUNCTIONS
from mlc.dtypes import BY_NUMPY, F32
from mlc.ir.context import make_context
from mlc.ir.mlir import ir

SPECIAL = [0.0, -0.0, 0.5, -0.5, 1, -1, 1.5, 2.5, -2.5, 3, 6, -6, 10, -10, 20.5, 88, 100, -100, 1e4, -1e4, np.inf, -np.inf, np.nan]
PARAMS = {
    "swish": [1.7],
    "elu": [1.3],
    "selu": [1.67, 1.05],
    "celu": [0.7],
    "leaky_relu": [0.1],
    "thresholded_relu": [1.5],
    "hard_sigmoid": [0.3, 0.4],
    "shrink": [0.5, 1.5],
    "is_inf": [1, 0],
    "power": [3],
}
verf = np.vectorize(erf, otypes=[np.float64])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


UNARY = {
    "neg": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "reciprocal": lambda x: 1 / x,
    "round": np.rint,
    "relu": lambda x: np.maximum(x, 0),
    **{
        name: getattr(np, name)
        for name in ("exp", "expm1", "log", "log1p", "sqrt", "floor", "ceil", "sin", "cos", "tan", "sinh", "cosh", "tanh")
    },
    **{f"a{name}": getattr(np, f"arc{name}") for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "erf": lambda x: verf(x),
    "sigmoid": sigmoid,
    "softplus": softplus,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "mish": lambda x: x * np.tanh(softplus(x)),
    "gelu": lambda x: x * 0.5 * (1 + verf(x * np.sqrt(0.5))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "swish": lambda x, a: x * sigmoid(a * x),
    "elu": lambda x, a: np.where(x < 0, a * np.expm1(x), x),
    "selu": lambda x, a, g: g * np.where(x < 0, a * np.expm1(x), x),
    "celu": lambda x, a: np.maximum(x, 0) + np.minimum(0, a * np.expm1(x / a)),
    "leaky_relu": lambda x, a: np.where(x < 0, a * x, x),
    "thresholded_relu": lambda x, a: np.where(x > a, x, 0),
    "hard_sigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "shrink": lambda x, bias, lam: np.where(x < -lam, x + bias, np.where(x > lam, x - bias, 0)),
    "is_nan": np.isnan,
    "is_inf": lambda x, negative, positive: np.isneginf(x),
    "power": lambda x, e: x**3,
    "root": lambda x: np.power(x, np.full_like(x, 0.5)),
    "inverse_root": lambda x: np.power(x, np.full_like(x, -0.5)),  # not numpy's sqrt
}
BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "min": np.minimum,
    "max": np.maximum,
    "mod": np.mod,
    "fmod": np.fmod,
    "pow": np.power,
    "prelu": lambda x, s: np.where(x < 0, s * x, x),
    "eq": np.equal,
    "lt": np.less,
    "le": np.less_equal,
}
FLOATS = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
TOLERANCE = {np.float32: 3e-6, np.float64: 1e-13, np.float16: 1e-3, ml_dtypes.bfloat16: 8e-3}


def check(name: str, found: np.ndarray, expected: np.ndarray, dtype: object) -> None:
    tolerance = TOLERANCE[dtype]
    if found.dtype == np.bool_:
        assert np.array_equal(found, expected), name
        return
    assert found.dtype == np.dtype(dtype)
    with np.errstate(all="ignore"):
        expected = expected.astype(dtype).astype(np.float64)
    np.testing.assert_allclose(found.astype(np.float64), expected, rtol=tolerance, atol=tolerance * 0.1, err_msg=name)


@pytest.mark.parametrize("dtype", FLOATS)
def test_unary_floats(dtype: object) -> None:
    x = np.concatenate([SPECIAL, np.random.default_rng(0).normal(size=40) * 3, np.random.default_rng(1).uniform(-1, 1, 40)]).astype(dtype)
    found = run_graph(lambda v: [graph.elementwise(name, v, params=PARAMS.get(name, [])) for name in UNARY], x)
    wide = x.astype(np.float64)
    for name, y in zip(UNARY, found, strict=True):
        with np.errstate(all="ignore"):
            check(name, y, UNARY[name](wide, *PARAMS.get(name, []) if name != "power" else [3]), dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_binary_floats(dtype: object) -> None:
    a, b = (v.reshape(-1).astype(dtype) for v in np.meshgrid(SPECIAL, SPECIAL))
    found = run_graph(lambda x, y: [graph.elementwise(name, x, y) for name in BINARY], a, b)
    for name, y in zip(BINARY, found, strict=True):
        with np.errstate(all="ignore"):
            if name in ("mod", "pow", "fmod"):
                keep = np.isfinite(a.astype(np.float64)) & np.isfinite(b.astype(np.float64)) & (np.abs(b.astype(np.float64)) < 1e3)
                check(name, y[keep], BINARY[name](a.astype(np.float64), b.astype(np.float64))[keep], dtype)
            else:
                check(name, y, BINARY[name](a.astype(np.float64), b.astype(np.float64)), dtype)


def test_float_mod_follows_onnx_at_infinity_and_zero() -> None:
    inf = np.inf
    a = np.array([0.0, -0.0, 0.0, -0.0, inf, 3, 3, 3, -3, np.nan, -6], np.float32)
    b = np.array([2, 2, -2, -2, 2, 0, inf, -inf, inf, 1, 3], np.float32)
    (y,) = run_graph(lambda x, y: graph.elementwise("mod", x, y), a, b)
    np.testing.assert_array_equal(y, [0.0, 0.0, -0.0, -0.0, np.nan, np.nan, 3, -inf, inf, np.nan, 0])
    assert np.signbit(y[:4]).tolist() == [False, False, True, True]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_integers(dtype: object) -> None:
    info = np.iinfo(dtype)
    values = np.unique(
        np.array([info.min, info.min + 1, info.max, info.max - 1, 0, 1, 2, 3, 7, 100], dtype=object)
        if info.min == 0
        else np.array([info.min, info.min + 1, info.max, -1, -2, -7, 0, 1, 2, 3, 7, 100], dtype=object)
    ).tolist()
    pairs = np.array([(a, b) for a in values for b in values], dtype=object)
    a, b = pairs[:, 0].astype(dtype), pairs[:, 1].astype(dtype)
    bits = info.bits

    def wrap(v: int) -> int:
        v &= (1 << bits) - 1
        return v - (1 << bits) if info.min < 0 and v >> (bits - 1) else v

    def div(x: int, y: int) -> int:
        return 0 if y == 0 else (abs(x) // abs(y)) * (1 if (x < 0) == (y < 0) else -1)

    def power(x: int, y: int) -> int:
        return pow(x, y, 1 << bits) if y >= 0 else {1: 1, -1: 1 if y % 2 == 0 else -1}.get(x, 0)

    oracles = {
        "add": lambda x, y: x + y,
        "sub": lambda x, y: x - y,
        "mul": lambda x, y: x * y,
        "div": div,
        "min": min,
        "max": max,
        "mod": lambda x, y: x % y if y else 0,
        "fmod": lambda x, y: x - div(x, y) * y if y else 0,
        "pow": power,
        "prelu": lambda x, y: x * y if x < 0 else x,
        "and": lambda x, y: x & y,
        "or": lambda x, y: x | y,
        "xor": lambda x, y: x ^ y,
        "shl": lambda x, y: x << y if 0 <= y < bits else 0,
        "shr": lambda x, y: x >> y if 0 <= y < bits else -1 if x < 0 else 0,
    }
    found = run_graph(lambda x, y: [graph.elementwise(name, x, y) for name in oracles], a, b)
    for (name, oracle), y in zip(oracles.items(), found, strict=True):
        assert y.tolist() == [wrap(oracle(int(p), int(q))) for p, q in pairs], name
    compared = run_graph(lambda x, y: [graph.elementwise(name, x, y) for name in ("eq", "lt", "le")], a, b)
    assert [c.tolist() for c in compared] == [(a == b).tolist(), (a < b).tolist(), (a <= b).tolist()]
    unary = {
        "neg": lambda x: -x,
        "abs": abs,
        "sign": lambda x: (x > 0) - (x < 0),
        "not": lambda x: ~x,
        "relu": lambda x: max(x, 0),
        "power": lambda x: x**3,
    }
    found = run_graph(lambda x: [graph.elementwise(name, x, params=[3] if name == "power" else []) for name in unary], a)
    for (name, oracle), y in zip(unary.items(), found, strict=True):
        assert y.tolist() == [wrap(oracle(int(p))) for p in a], name


def test_bool_and_where_broadcast() -> None:
    rng = np.random.default_rng(2)
    p, q = rng.integers(0, 2, (3, 1)).astype(bool), rng.integers(0, 2, (4,)).astype(bool)
    found = run_graph(
        lambda a, b: [graph.elementwise(name, a, b) for name in ("and", "or", "xor", "eq")] + [graph.elementwise("not", a)], p, q
    )
    for y, expected in zip(found, (p & q, p | q, p ^ q, p == q, ~p), strict=True):
        assert np.array_equal(y, expected)
    for dtype in (np.float32, np.uint8, np.bool_, ml_dtypes.float8_e5m2, ml_dtypes.int4):
        x, z = (rng.integers(0, 7, s).astype(np.float32).astype(dtype) for s in ((2, 1, 4), (3, 1)))
        (y,) = run_graph(lambda c, a, b: graph.elementwise("where", c, a, b), p, x, z)
        assert np.array_equal(y.astype(np.float32), np.where(p, x.astype(np.float32), z.astype(np.float32)))


def test_the_compiler_has_every_function() -> None:
    """The real CPU path, in f32 and f64: expansions of math functions included."""
    for dtype in (np.float32, np.float64):
        x = np.random.default_rng(4).uniform(0.1, 0.9, 37).astype(dtype)
        names = [name for name, spec in FUNCTIONS.items() if "f" in spec.kinds and spec.arity < 3]
        for name in names:
            operands = [x] * FUNCTIONS[name].arity
            build = lambda *v, name=name: graph.elementwise(name, *v, params=PARAMS.get(name, []))  # noqa: E731
            np.testing.assert_allclose(
                compile_native(build, *operands)(*operands)[0], run_graph(build, *operands)[0], rtol=2e-6, err_msg=name
            )


def test_refusals() -> None:
    def value(dtype: object, *shape: int) -> ir.Value:
        return graph.constant(np.zeros(shape, dtype))

    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            x, i = value(np.float32, 3), value(np.int32, 3)
            for pattern, make in (
                ("no function 'nope'", lambda: graph.elementwise("nope", x)),
                ("takes 2 operands, got 1", lambda: graph.elementwise("add", x)),
                ("one element type", lambda: graph.elementwise("add", x, i)),
                ("not defined on i32", lambda: graph.elementwise("exp", i)),
                ("not defined on f32", lambda: graph.elementwise("and", x, x)),
                ("do not broadcast", lambda: graph.elementwise("add", x, value(np.float32, 2))),
                ("bool condition", lambda: graph.elementwise("where", x, x, x)),
                ("1 params", lambda: graph.elementwise("elu", x)),
                ("integer exponent", lambda: graph.elementwise("power", x, params=[0.5])),
                ("round_mode", lambda: graph.cast(x, BY_NUMPY[np.dtype(np.float16)], round_mode="even")),
                ("one width", lambda: graph.bitcast(value(np.int64, 1), F32)),
            ):
                with pytest.raises(VerifyError, match=pattern):
                    make()
