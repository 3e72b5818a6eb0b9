"""Integer products with zero points by matrix units of 8-bit codes on the simulator: exactly what the CPU computes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from gpu_native import compile_gpu, compile_gpu_model
from onnx import helper
from onnx_run import node_model, run_model

from mlc.dialects import graph
from mlc.dtypes import F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, F32, DType

# Each target with the instruction that multiplies codes there.
TARGETS = {"rocm:gfx90a": "amdgpu.mfma", "rocm:gfx942": "amdgpu.mfma", "rocm:gfx1100": "amdgpu.wmma", "rocm:gfx1201": "amdgpu.wmma",
           "cuda:sm_80": "nvgpu.mma.sync"}
CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "uneven pads": {"pads": [1, 0, 2, 1]},
    "strides": {"pads": [1, 1, 1, 1], "strides": [2, 1]},
    "dilations": {"pads": [2, 0, 0, 2], "dilations": [2, 1]},
    "groups": {"group": 2, "pads": [0, 1, 1, 0]},
}


def _codes(*shape: int, dtype: Any, seed: int = 0) -> np.ndarray:
    info = np.iinfo(dtype)
    return np.random.default_rng([seed, *shape]).integers(info.min, info.max, shape, endpoint=True).astype(dtype)


def _same(op: str, inputs: Mapping[str, np.ndarray | None], target: str, weights: tuple[str, ...] = (), **options: Any) -> None:
    """One node on the simulated GPU, by a matrix unit, and on the CPU: the same bits."""
    model = node_model(op, inputs, weights=weights, **options)
    feeds = {name: a for name, a in inputs.items() if a is not None and name not in weights}
    made = compile_gpu_model(model, f"{target},sms=1")
    assert TARGETS[target] in made.gpu and "i8>" in made.gpu
    expected, = run_model(model, feeds)
    np.testing.assert_array_equal(made(*feeds.values())[0], expected)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("left", "right", "zeros"), [
    (np.uint8, np.int8, (131, 0)), (np.uint8, np.uint8, (255, 128)), (np.int8, np.int8, (-128, 127)), (np.uint8, np.uint8, None),
])
def test_matmul_integer(target: str, left: Any, right: Any, zeros: tuple[int, int] | None) -> None:
    """Ragged rows, columns and depth; zero points of one number, or none."""
    inputs = {"a": _codes(33, 70, dtype=left), "b": _codes(70, 41, dtype=right)}
    if zeros is not None:
        inputs |= {"za": np.array(zeros[0], left), "zb": np.array(zeros[1], right)}
    _same("MatMulInteger", inputs, target, ("b", "za", "zb"))


@pytest.mark.parametrize("target", TARGETS)
def test_zero_points_of_rows_and_columns_that_are_inputs(target: str) -> None:
    inputs = {"a": _codes(2, 21, 64, dtype=np.uint8), "b": _codes(64, 48, dtype=np.int8), "za": _codes(2, 21, 1, dtype=np.uint8),
              "zb": _codes(48, dtype=np.int8)}
    _same("MatMulInteger", inputs, target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", CONVOLUTIONS)
@pytest.mark.parametrize(("left", "right"), [(np.uint8, np.int8), (np.uint8, np.uint8), (np.int8, np.int8)])
def test_conv_integer(target: str, case: str, left: Any, right: Any) -> None:
    """What stands around the input is its zero point, which is 0 only after it was taken off."""
    options = CONVOLUTIONS[case]
    groups = options.get("group", 1)
    inputs = {"x": _codes(2, 16, 9, 7, dtype=left), "w": _codes(24, 16 // groups, 3, 3, dtype=right, seed=1),
              "zx": np.array(np.iinfo(left).max - 55, left), "zw": np.array(np.iinfo(right).min + 131, right)}
    _same("ConvInteger", inputs, target, ("w", "zx", "zw"), **options)


@pytest.mark.parametrize("target", TARGETS)
def test_conv_integer_with_zero_points_that_are_inputs(target: str) -> None:
    """One for each map of the weights, which are an input, too."""
    inputs = {"x": _codes(1, 8, 6, 11, dtype=np.uint8), "w": _codes(17, 8, 3, 2, dtype=np.uint8, seed=1), "zx": np.array(200, np.uint8),
              "zw": _codes(17, dtype=np.uint8)}
    _same("ConvInteger", inputs, target, pads=[1, 0, 1, 1])


@pytest.mark.parametrize("target", TARGETS)
def test_qlinear(target: str) -> None:
    """Sums scaled and rounded to codes again, with a bias and a scale for each map."""
    rng = np.random.default_rng(3)
    scale, zero = np.array(0.02, np.float32), np.array(128, np.uint8)
    maps = {"w": _codes(20, 16, 3, 3, dtype=np.int8), "ws": rng.uniform(0.001, 0.01, 20).astype(np.float32), "wz": np.zeros(20, np.int8)}
    result = {"ys": np.array(0.7, np.float32), "yz": np.array(140, np.uint8)}
    bias = rng.integers(-5000, 5000, 20).astype(np.int32)
    conv = {"x": _codes(1, 16, 8, 9, dtype=np.uint8), "xs": scale, "xz": zero, **maps, **result, "bias": bias}
    _same("QLinearConv", conv, target, tuple(name for name in conv if name != "x"), pads=[1, 1, 1, 1])
    matmul = {"a": _codes(35, 80, dtype=np.uint8), "as": scale, "az": zero, "b": _codes(80, 24, dtype=np.uint8), "bs": scale, "bz": zero}
    matmul |= result
    _same("QLinearMatMul", matmul, target, tuple(name for name in matmul if name != "a"))


# float8 types by target: those that its units multiply, and one that they do not.
FLOATS = {"rocm:gfx942": (F8E4M3FNUZ, F8E5M2FNUZ, F8E4M3FN), "rocm:gfx1201": (F8E4M3FN, F8E5M2, F8E4M3FNUZ)}


def _floats(dtype: DType, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).uniform(-8, 8, shape).astype(dtype.numpy)


def _product(a: Any, b: Any) -> Any:
    return graph.matmul(graph.cast(a, to=F32), graph.cast(b, to=F32))


@pytest.mark.parametrize("target", FLOATS)
@pytest.mark.parametrize("pair", [(0, 0), (1, 1), (0, 1), (1, 0)])
def test_products_of_float8(target: str, pair: tuple[int, int]) -> None:
    """Of one encoding or of two, in ragged tiles."""
    a, b = _floats(FLOATS[target][pair[0]], 40, 200), _floats(FLOATS[target][pair[1]], 200, 72, seed=1)
    made = compile_gpu(_product, a, b, target=f"{target},sms=1", graph_passes="dequantized-products,mlc-dce")
    assert "xf8E" in made.gpu and TARGETS[target] in made.gpu
    expected = a.astype(np.float64) @ b.astype(np.float64)
    np.testing.assert_allclose(made(a, b)[0], expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("target", FLOATS)
def test_float8_that_the_target_does_not_multiply_is_widened(target: str) -> None:
    a, b = _floats(FLOATS[target][2], 40, 200), _floats(FLOATS[target][2], 200, 72, seed=1)
    made = compile_gpu(_product, a, b, target=f"{target},sms=1", graph_passes="dequantized-products,mlc-dce")
    assert "xf8E" not in made.gpu
    np.testing.assert_allclose(made(a, b)[0], a.astype(np.float64) @ b.astype(np.float64), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("target", FLOATS)
@pytest.mark.parametrize(("left", "right"), [((1, 96), (96, 40)), ((3, 17, 33), (3, 33, 5)), ((2, 48, 64), (64, 48))])
def test_products_of_float8_by_loops(target: str, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    """Where an atom would be mostly padding, threads decode the codes."""
    a, b = _floats(FLOATS[target][0], *left), _floats(FLOATS[target][1], *right, seed=1)
    made = compile_gpu(_product, a, b, target=f"{target},sms=1", graph_passes="dequantized-products,mlc-dce")
    np.testing.assert_allclose(made(a, b)[0], a.astype(np.float64) @ b.astype(np.float64), rtol=1e-5, atol=1e-4)


def _quantised(op: str, codes: np.ndarray, w: np.ndarray, scale: np.ndarray, axis: int, zero: np.ndarray,
               **options: Any) -> onnx.ModelProto:
    """An op on dequantised codes and weights, as quantisers write models: one scale for the codes, one for each column or map."""
    kind = helper.np_dtype_to_tensor_dtype(codes.dtype)
    weights = {"w": w, "sw": scale, "zw": np.zeros(scale.shape, w.dtype), "s": np.array(0.02, np.float32), "z": zero}
    nodes = [helper.make_node("DequantizeLinear", ["x", "s", "z"], ["a"]),
             helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["b"], axis=axis),
             helper.make_node(op, ["a", "b"], ["y"], **options)]
    made = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", kind, codes.shape)], [onnx.ValueInfoProto(name="y")], [
        helper.make_tensor(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape, v.tobytes(), raw=True) for n, v in weights.items()])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("left", "zero"), [(np.uint8, 131), (np.int8, 0), (np.int8, -5)])
def test_dequantised_integers(target: str, left: Any, zero: int) -> None:
    """Matmul and a padded convolution of dequantised codes multiply the codes, and scale the sums."""
    scales = np.random.default_rng(5).uniform(0.001, 0.01, 24).astype(np.float32)
    point = np.array(zero, left)
    matmul = _codes(37, 80, dtype=left), _quantised("MatMul", _codes(37, 80, dtype=left), _codes(80, 24, dtype=np.int8), scales, 1, point)
    image = _codes(2, 16, 9, 7, dtype=left)
    conv = image, _quantised("Conv", image, _codes(24, 16, 3, 3, dtype=np.int8), scales, 0, point, pads=[1, 0, 2, 1])
    for x, model in (matmul, conv):
        made = compile_gpu_model(model, f"{target},sms=1")
        assert TARGETS[target] in made.gpu and "i8>" in made.gpu
        expected, = run_model(model, {"x": x})
        np.testing.assert_allclose(made(x)[0], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("target", FLOATS)
def test_dequantised_float8(target: str) -> None:
    dtype = FLOATS[target][0]
    x, w = _floats(dtype, 37, 80), _floats(dtype, 80, 24, seed=1)
    scales = np.random.default_rng(5).uniform(0.001, 0.01, 24).astype(np.float32)
    model = _quantised("MatMul", x, w, scales, 1, np.zeros((), dtype.numpy))
    made = compile_gpu_model(model, f"{target},sms=1")
    assert f"x{dtype.name}" in made.gpu and TARGETS[target] in made.gpu
    expected, = run_model(model, {"x": x})
    np.testing.assert_allclose(made(x)[0], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
