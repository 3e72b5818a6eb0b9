"""Constant folding of one node, by onnx.reference, inside a budget: so that shape arithmetic never reaches the IR.

The output shapes are inferred *before* anything is computed; a model cannot make the compiler build a 4 TB constant.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from math import prod

import numpy as np
import onnx
from onnx import NodeProto, helper
from onnx.reference import ReferenceEvaluator

from mlc.dtypes import BY_NUMPY
from mlc.frontend.onnx.inference import MAX_INFERENCE_ELEMENTS, Inferred, infer, isolated
from mlc.frontend.onnx.nodes import plain_domain, subgraphs
from mlc.frontend.onnx.values import Tensor

MAX_ELEMENTS = 1 << 20  # of all inputs and outputs together, for ops whose cost is one pass over them
MAX_SLOW_ELEMENTS = 1 << 12  # for ops that onnx.reference computes in Python loops or in more than linear time
MAX_CODES = 1 << 10  # elements of codes that are widened here; more are weights, which kernels can read as they are
DOMAINS = ("", "ai.onnx.ml")
NEWEST = 1 << 30  # an opset later than all: the schema registry gives the latest version

SLOW = frozenset(
    "AffineGrid Attention AveragePool BatchNormalization CausalConvWithState Col2Im Conv ConvInteger ConvTranspose DFT DeformConv "
    "Det Einsum FlexAttention GRU Gemm GridSample ImageDecoder LRN LSTM LinearAttention LpPool MatMul MatMulInteger MaxPool "
    "MaxRoiPool MaxUnpool MelWeightMatrix NonMaxSuppression QLinearConv QLinearMatMul RNN Resize RoiAlign STFT SVMClassifier "
    "SVMRegressor ScatterElements ScatterND TfIdfVectorizer TopK TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor Unique "
    "Upsample".split())
# Their output shape depends on values, but is never larger than what is written here as a multiple of the input.
BOUNDED = frozenset(("NonZero", "Unique", "Compress", "NonMaxSuppression"))
VIEWS = frozenset(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"))

# Ops whose older versions mean something else although their signature looks the same, and the first version that means what it means now.
CHANGED_MEANING = {"RoiAlign": 16, "PRelu": 7}


def fold(node: NodeProto, inputs: Sequence[Tensor | None], opsets: Mapping[str, int]) -> list[Tensor | None] | None:
    """The outputs of `node` as known tensors, or None when it is not worth or not possible to compute them here.

    node: attribute references already replaced. inputs: None where an optional input is absent; all others known.
    """
    domain = plain_domain(node.domain)
    schema = schema_of(node, opsets)
    if domain not in DOMAINS or schema is None or node.op_type == "Constant" or any(subgraphs(node)):
        return None
    if schema.node_determinism == onnx.defs.OpSchema.NodeDeterminism.NonDeterministic:
        return None
    local, given = isolated(node, inputs)
    inferred = infer(schema, local, given, opsets)
    if inferred is None:
        return None
    if node.op_type in VIEWS and not domain and given and inferred:
        data, (_, shape) = next(iter(given.values())), next(iter(inferred.values()))
        if data.size > MAX_INFERENCE_ELEMENTS and shape is not None and prod(shape) == data.size:
            return [data.reshaped(shape)]
    cost = sum(t.size for t in given.values())
    for _, shape in inferred.values():
        if shape is None and node.op_type not in BOUNDED:
            return None
        cost += prod(shape) if shape is not None else cost * max((t.rank for t in given.values()), default=0)
    if cost > (MAX_SLOW_ELEMENTS if node.op_type in SLOW else MAX_ELEMENTS):
        return None
    if _widens_codes(node, inputs) and cost > MAX_CODES:
        return None
    if node.op_type == "GatherElements" and not _indices_fit(node, inputs):
        return None
    return _run(schema, local, given, opsets, inferred)


def _widens_codes(node: NodeProto, inputs: Sequence[Tensor | None]) -> bool:
    """Whether a node makes numbers of codes."""
    data = inputs[0] if inputs else None
    return node.op_type == "DequantizeLinear" or (node.op_type in ("Cast", "CastLike") and data is not None and data.dtype.is_float8)


def _indices_fit(node: NodeProto, inputs: Sequence[Tensor | None]) -> bool:
    """Whether a GatherElements stays inside its data. The reference wraps other indices around, one length at a time (2**63: for ever)."""
    data, indices = inputs[0], inputs[1]
    axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
    if data is None or indices is None or not -data.rank <= axis < data.rank:
        return False
    length = data.shape[axis]
    return bool(((indices.value >= -length) & (indices.value < length)).all())


def schema_of(node: NodeProto, opsets: Mapping[str, int]) -> onnx.defs.OpSchema | None:
    """What the installed onnx knows about this version of the op, if anything."""
    domain = plain_domain(node.domain)
    try:
        return onnx.defs.get_schema(node.op_type, opsets[domain], domain)
    except onnx.defs.SchemaError:
        return None


def _run(schema: onnx.defs.OpSchema, node: NodeProto, given: Mapping[str, Tensor], opsets: Mapping[str, int],
         inferred: Mapping[str, Inferred]) -> list[Tensor | None] | None:
    graph = helper.make_graph(
        [node], "fold", [helper.make_tensor_value_info(name, t.dtype.onnx, t.shape) for name, t in given.items()],
        [helper.make_value_info(name, onnx.TypeProto()) for name in node.output if name])
    try:
        with np.errstate(all="ignore"):
            evaluator = ReferenceEvaluator(graph, opsets=dict(opsets))
            chosen = type(evaluator.rt_nodes_[0]).__name__
            if not _is_current(node.op_type, schema.domain, schema.since_version) and not _is_versioned(chosen):
                return None
            results = evaluator.run(None, {name: t.value for name, t in given.items()})
    except Exception:  # an op or element type the reference cannot do: the node becomes IR instead
        return None
    arrays = dict(zip(filter(None, node.output), map(np.asarray, results), strict=True))
    for name, array in arrays.items():
        code, shape = inferred[name]
        # The reference promotes types where numpy does; such a result is not the op's.
        if array.dtype not in BY_NUMPY or code not in (0, BY_NUMPY[array.dtype].onnx) or shape not in (None, array.shape):
            return None
    return [Tensor.known(arrays[name]) if name else None for name in node.output]


def _is_versioned(class_name: str) -> bool:
    """The reference has several versions of the op, `Squeeze_11` and so on, and took the right one."""
    return class_name.rpartition("_")[2].isdigit()


@cache
def _is_current(op: str, domain: str, since: int) -> bool:
    """Whether this version of an op still means what the newest one means; the reference mostly has only that.

    It does when the newest only adds: optional attributes, trailing inputs, element types. Softmax before opset 13 had another default
    axis, Add before opset 7 another broadcast: not the same.
    """
    new = onnx.defs.get_schema(op, NEWEST, domain)
    old = onnx.defs.get_schema(op, since, domain)
    if new.since_version == since:
        return True
    if new.deprecated or since < CHANGED_MEANING.get(op, 0):
        return False
    for name, now in new.attributes.items():
        before = old.attributes.get(name)
        if now.required and (before is None or not before.required):
            return False
    for name, before in old.attributes.items():
        now = new.attributes.get(name)
        if now is None or now.type != before.type or now.default_value != before.default_value:
            return False
    names = [i.name for i in old.inputs]
    return names == [i.name for i in new.inputs][:len(names)] and new.min_input <= old.min_input


def type_proto(tensor: Tensor) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(tensor.dtype.onnx, tensor.shape)

