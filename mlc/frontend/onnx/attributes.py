"""Node attributes: bound to the enclosing function's, checked against the op's schema, and turned into Python values."""

from collections.abc import Mapping
from typing import Any

import onnx
from onnx import AttributeProto, NodeProto

from mlc.errors import ModelError

SCALARS: dict[int, str] = {
    AttributeProto.FLOAT: "f", AttributeProto.INT: "i", AttributeProto.STRING: "s", AttributeProto.TENSOR: "t", AttributeProto.GRAPH: "g",
    AttributeProto.SPARSE_TENSOR: "sparse_tensor", AttributeProto.TYPE_PROTO: "tp"}
LISTS: dict[int, str] = {
    AttributeProto.FLOATS: "floats", AttributeProto.INTS: "ints", AttributeProto.STRINGS: "strings", AttributeProto.TENSORS: "tensors",
    AttributeProto.GRAPHS: "graphs", AttributeProto.SPARSE_TENSORS: "sparse_tensors", AttributeProto.TYPE_PROTOS: "type_protos"}


def kind_of(attribute: AttributeProto) -> int:
    """The attribute's type; old files (IR version 1) leave it to be seen from the field that is set."""
    if attribute.type != AttributeProto.UNDEFINED:
        return attribute.type
    for kind, field in SCALARS.items():
        if attribute.HasField(field):
            return kind
    for kind, field in LISTS.items():
        if len(getattr(attribute, field)):
            return kind
    return AttributeProto.UNDEFINED


def python_value(attribute: AttributeProto) -> Any:
    """int, float, str, lists of those, or the proto itself for tensors, graphs and types."""
    kind = kind_of(attribute)
    if kind in SCALARS:
        value = getattr(attribute, SCALARS[kind])
        return _text(value) if kind == AttributeProto.STRING else value
    if kind in LISTS:
        return [_text(v) if kind == AttributeProto.STRINGS else v for v in getattr(attribute, LISTS[kind])]
    raise ModelError(f"attribute {attribute.name!r} has no value")


def _text(value: bytes) -> str:
    return value.decode("utf-8", errors="surrogateescape")


def bind(node: NodeProto, arguments: Mapping[str, AttributeProto]) -> NodeProto:
    """`node` of a function body, its attribute references replaced by the call's `arguments`; a reference to an absent one goes away."""
    if not any(attribute.ref_attr_name for attribute in node.attribute):
        return node
    bound = NodeProto()
    bound.CopyFrom(node)
    del bound.attribute[:]
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            bound.attribute.append(attribute)
        elif attribute.ref_attr_name in arguments:
            copy = bound.attribute.add()
            copy.CopyFrom(arguments[attribute.ref_attr_name])
            copy.name = attribute.name
    return bound


def check_attributes(node: NodeProto, schema: onnx.defs.OpSchema, label: str) -> None:
    """ModelError for an attribute the op version does not have, one of another type, or a missing one."""
    for attribute in node.attribute:
        known = schema.attributes.get(attribute.name)
        if known is None:
            newer = _first_version_with(node, attribute.name)
            hint = f"it exists since opset {newer} of this domain: does the model import the right opset?" if newer else None
            raise ModelError(f"unknown attribute {attribute.name!r}; this version of the op has: {', '.join(schema.attributes) or 'none'}",
                             node=label, hint=hint)
        kind, wanted = kind_of(attribute), int(known.type.value)
        # An empty list of an old file has no type to see.
        if kind != wanted and not (kind == AttributeProto.UNDEFINED and wanted in LISTS):
            found, expected = (AttributeProto.AttributeType.Name(k) for k in (kind, wanted))
            raise ModelError(f"attribute {attribute.name!r} is {found}; the op takes {expected}", node=label)
    present = {attribute.name for attribute in node.attribute}
    for name, known in schema.attributes.items():
        if known.required and name not in present:
            raise ModelError(f"required attribute {name!r} is missing", node=label)


def _first_version_with(node: NodeProto, attribute: str) -> int | None:
    versions = [s.since_version for s in onnx.defs.get_all_schemas_with_history()
                if s.name == node.op_type and s.domain == ("" if node.domain == "ai.onnx" else node.domain) and attribute in s.attributes]
    return min(versions, default=None)
