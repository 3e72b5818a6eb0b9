"""An ONNX model with its 16-bit floats made f64: what the model as exported says, free of the rounding of those who compute it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, numpy_helper

NARROW = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def widened(model: ModelProto) -> ModelProto:
    """Weights keep their values. Changes the model it is given."""
    _graph(model.graph)
    return model


def _graph(graph: GraphProto) -> None:
    for tensor in graph.initializer:
        _tensor(tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        _value(value)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _tensor(attribute.t)
            if attribute.HasField("g"):
                _graph(attribute.g)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in NARROW:
                attribute.i = TensorProto.DOUBLE


def _tensor(tensor: TensorProto) -> None:
    if tensor.data_type in NARROW:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))


def _value(value: ValueInfoProto) -> None:
    if value.type.tensor_type.elem_type in NARROW:
        value.type.tensor_type.elem_type = TensorProto.DOUBLE


def meaning(path: Path, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The results of the model at `path`, computed in f64 by mlc on the CPU; inputs: as the model has them."""
    import mlc

    wide = [a.astype(np.float64) if a.dtype == np.float16 else a for a in inputs]
    return [np.asarray(a) for a in mlc.compile(widened(onnx.load(path)), "cpu", cache=False)(*wide)]
