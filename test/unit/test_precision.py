"""Models of 16-bit floats round once per kernel: what lies between a sum of products and memory is computed in f32."""

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper

import mlc

TYPES = {"f16": (np.float16, onnx.TensorProto.FLOAT16), "bf16": (ml_dtypes.bfloat16, onnx.TensorProto.BFLOAT16)}


def _scaled_product(kind: int) -> onnx.ModelProto:
    """relu((x @ w) * s + b)"""
    def info(name: str, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Mul", ["p", "s"], ["q"]),
             helper.make_node("Add", ["q", "b"], ["r"]), helper.make_node("Relu", ["r"], ["y"])]
    inputs = [info("x", 33, 96), info("w", 96, 70), info("s", 70), info("b", 70)]
    graph = helper.make_graph(nodes, "g", inputs, [info("y", 33, 70)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


@pytest.mark.parametrize("name", TYPES)
def test_an_epilogue_rounds_once(name: str) -> None:
    dtype, kind = TYPES[name]
    rng = np.random.default_rng(0)
    x, w, s, b = (rng.standard_normal(shape).astype(dtype) for shape in ((33, 96), (96, 70), (70,), (70,)))
    (y,) = mlc.compile(_scaled_product(kind), cache=False)(x, w, s, b)
    exact = np.maximum((x.astype(np.float64) @ w.astype(np.float64)) * s.astype(np.float64) + b.astype(np.float64), 0)
    half_step = float(ml_dtypes.finfo(dtype).eps) / 2
    np.testing.assert_array_less(np.abs(np.asarray(y).astype(np.float64) - exact), np.abs(exact) * half_step * 1.01 + 1e-5)
