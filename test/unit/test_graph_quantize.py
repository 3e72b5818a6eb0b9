"""graph.quantize, graph.dequantize, graph.unpack, graph.random at the op level: both block paths, types, and what their rules refuse."""

import ml_dtypes
import numpy as np
import pytest
from harness import run_graph
from native import compile_native

from mlc.dialects import graph
from mlc.dialects._ext import VerifyError
from mlc.dtypes import F16, F32, F64, I8, U2, U4
from mlc.ir.context import make_context
from mlc.ir.mlir import ir

RNG = np.random.default_rng(21)


@pytest.mark.parametrize(("axis", "block"), [(0, 2), (0, 4), (1, 3), (1, 4), (2, 5), (2, 7)])
def test_blocks_that_do_and_do_not_divide(axis: int, block: int) -> None:
    shape = (4, 9, 5)
    grid = tuple(-(-n // block) if d == axis else n for d, n in enumerate(shape))
    x, s, z = (
        RNG.integers(0, 256, shape).astype(np.uint8),
        RNG.uniform(0.1, 1, grid).astype(np.float32),
        RNG.integers(0, 256, grid).astype(np.uint8),
    )

    def spread(p: np.ndarray) -> np.ndarray:
        return np.repeat(p, block, axis).take(range(shape[axis]), axis).astype(np.float32)

    y, back = run_graph(
        lambda x, s, z: [(v := graph.dequantize(x, s, z, to=F32, axis=axis, block=block)), graph.quantize(v, s, z, axis=axis, block=block)],
        x,
        s,
        z,
    )
    np.testing.assert_array_equal(y, (x.astype(np.float32) - spread(z)) * spread(s))
    np.testing.assert_array_equal(back, x)


def test_zero_points_of_other_types_and_f64() -> None:
    x, s = RNG.integers(-8, 8, (3, 6)).astype(ml_dtypes.int4), RNG.uniform(0.1, 1, 3).astype(np.float16)
    zero = RNG.normal(size=3).astype(np.float16)
    (y,) = run_graph(lambda x, s, z: graph.dequantize(x, s, z, to=F16), x, s, zero)
    expected = (x.astype(np.float32) - zero[:, None].astype(np.float32)) * s[:, None].astype(np.float32)
    np.testing.assert_array_equal(y, expected.astype(np.float16))
    (y,) = run_graph(lambda x, s, z: graph.dequantize(x, s, z, to=F64), x, s.astype(np.float64), np.array(-3).astype(ml_dtypes.int4))
    np.testing.assert_array_equal(y, (x.astype(np.float64) + 3) * s.astype(np.float64)[:, None])


def test_division_in_half_precision_rounds_before_the_codes() -> None:
    x, s = (RNG.normal(size=2000) * 40).astype(np.float32), np.array(0.3, np.float16)
    (y,) = run_graph(lambda x, s, z: graph.quantize(x, s, z, precision=F16), x, s, np.array(0, np.int8))
    np.testing.assert_array_equal(y, np.clip(np.rint(x.astype(np.float16) / s), -128, 127).astype(np.int8))


def test_unpack() -> None:
    x = RNG.integers(0, 256, (3, 5)).astype(np.uint8)
    four, two = run_graph(lambda x: [graph.unpack(x, U4), graph.unpack(x, U2)], x)
    np.testing.assert_array_equal(four.astype(np.uint8), np.stack([x & 15, x >> 4], -1).reshape(3, 10))
    np.testing.assert_array_equal(two.astype(np.uint8), np.stack([x & 3, x >> 2 & 3, x >> 4 & 3, x >> 6], -1).reshape(3, 20))


def test_on_the_real_path() -> None:
    x, s, z = (
        RNG.integers(0, 256, (8, 16)).astype(np.uint8),
        RNG.uniform(0.1, 1, (8, 4)).astype(np.float32),
        RNG.integers(0, 256, (8, 4)).astype(np.uint8),
    )
    build = lambda x, s, z: [(v := graph.dequantize(x, s, z, to=F32, axis=1, block=4)), graph.quantize(v, s, z, axis=1, block=4)]  # noqa: E731
    y, back = compile_native(build, x, s, z)(x, s, z)
    np.testing.assert_array_equal(y, (x.astype(np.float32) - np.repeat(z, 4, 1)) * np.repeat(s, 4, 1))
    np.testing.assert_array_equal(back, x)
    for dtype, distribution in ((F32, "normal"), (F64, "uniform")):
        draw = lambda _, t=dtype, d=distribution: graph.random((40, 30), d, -5, t)  # noqa: E731
        np.testing.assert_allclose(compile_native(draw, x)(x)[0], run_graph(draw, x)[0], rtol=1e-4, atol=1e-6)


def test_refusals() -> None:
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):

            def value(dtype: object, *shape: int) -> ir.Value:
                return graph.constant(np.zeros(shape, dtype))

            x, s, z, f = value(np.int8, 4, 6), value(np.float32, 4), value(np.int8, 4), value(np.float32, 4, 6)
            for pattern, make in (
                ("expected \\[6\\]", lambda: graph.dequantize(x, s, z, to=F32, axis=1)),
                ("axis 2", lambda: graph.dequantize(x, s, z, to=F32, axis=2)),
                ("one shape", lambda: graph.dequantize(x, s, value(np.int8, 6), to=F32)),
                ("blocks of 3, expected \\[4, 2\\]", lambda: graph.dequantize(x, s, z, to=F32, axis=1, block=3)),
                ("blocks of -1", lambda: graph.dequantize(x, s, z, to=F32, block=-1)),
                ("zero point of i32", lambda: graph.dequantize(x, s, value(np.int32, 4), to=F32)),
                ("expected floats", lambda: graph.dequantize(x, s, z, to=I8)),
                ("takes integers", lambda: graph.dequantize(value(np.int64, 4, 6), s, z, to=F32)),
                ("takes floats or i32", lambda: graph.quantize(x, s, z)),
                ("divides in", lambda: graph.quantize(f, s, z, precision=I8)),
                ("spreads ui8", lambda: graph.unpack(x, U4)),
                ("distribution", lambda: graph.random((2,), "cauchy", 1)),
            ):
                with pytest.raises(VerifyError, match=pattern):
                    make()
