"""ONNX's own shape inference of one node: what it says about the outputs, and what it finds wrong with the inputs."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import onnx
from onnx import NodeProto, helper, numpy_helper
from onnx.shape_inference import infer_node_outputs

from mlc.frontend.onnx.nodes import plain_domain
from mlc.frontend.onnx.values import Tensor, Value

MAX_INFERENCE_ELEMENTS = 1 << 10  # larger inputs never decide a shape
REFUSALS = (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError)


class Inferred(NamedTuple):
    """What onnx infers about one output: its element type (0: unknown) and static shape (None: not inferable)."""

    code: int
    shape: tuple[int, ...] | None


def isolated(node: NodeProto, inputs: Sequence[Tensor | None]) -> tuple[NodeProto, dict[str, Tensor]]:
    """A copy of `node` with names of its own (i0, ..., o0, ...), and its inputs by those names."""
    names = [f"i{k}" if t is not None else "" for k, t in enumerate(inputs)]
    local = NodeProto()
    local.CopyFrom(node)
    local.domain = plain_domain(node.domain)
    del local.input[:], local.output[:]
    local.input.extend(names)
    local.output.extend(f"o{k}" if name else "" for k, name in enumerate(node.output))
    return local, {name: t for name, t in zip(names, inputs, strict=True) if t is not None}


def infer(schema: onnx.defs.OpSchema, node: NodeProto, given: Mapping[str, Tensor],
          opsets: Mapping[str, int]) -> dict[str, Inferred] | None:
    """Types and shapes of the outputs, by name; None if onnx refuses the node (the converter has better words for what is wrong)."""
    try:
        found = _infer(schema, node, given, opsets)
    except REFUSALS:
        return None
    inferred: dict[str, Inferred] = {}
    for name in filter(None, node.output):
        type_ = found[name].tensor_type if name in found else onnx.TypeProto.Tensor()
        dims = [d.dim_value if d.HasField("dim_value") else -1 for d in type_.shape.dim]
        inferred[name] = Inferred(type_.elem_type, tuple(dims) if type_.HasField("shape") and min(dims, default=0) >= 0 else None)
    return inferred


def objection(schema: onnx.defs.OpSchema | None, node: NodeProto, inputs: Sequence[Value | None], opsets: Mapping[str, int]) -> str | None:
    """What onnx finds wrong with a node, if anything. It sees only tensors."""
    tensors = [t for t in inputs if t is None or isinstance(t, Tensor)]
    if schema is None or len(tensors) < len(inputs):
        return None
    try:
        _infer(schema, *isolated(node, tensors), opsets)
    except REFUSALS as error:
        return str(error).strip()
    return None


def _infer(schema: onnx.defs.OpSchema, node: NodeProto, given: Mapping[str, Tensor],
           opsets: Mapping[str, int]) -> dict[str, onnx.TypeProto]:
    types = {name: helper.make_tensor_type_proto(t.dtype.onnx, t.shape) for name, t in given.items()}
    data = {name: numpy_helper.from_array(t.value) for name, t in given.items() if t.is_known and t.size <= MAX_INFERENCE_ELEMENTS}
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    return infer_node_outputs(schema, node, types, data, opset_imports=imports)
