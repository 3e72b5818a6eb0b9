"""Function bodies: those in the model, and those by which ONNX itself defines an op in terms of others."""

from collections.abc import Mapping, Sequence

import onnx
from onnx import AttributeProto, FunctionProto, NodeProto, TypeProto

from mlc.errors import ModelError
from mlc.frontend.onnx.nodes import opsets_of, plain_domain


def onnx_function(schema: onnx.defs.OpSchema, node: NodeProto, opset: int, input_types: Sequence[TypeProto]) -> FunctionProto | None:
    """The body by which ONNX defines this op at `opset`, if it does. input_types: an empty TypeProto for an absent optional input.

    A body states the opset it is written in; one written for the model's opset or the closest older one is taken, else the oldest.
    """
    if schema.has_function and schema.function_opset_versions:
        return FunctionProto.FromString(schema.get_function_with_opset_version(_closest(schema.function_opset_versions, opset)))
    versions = schema.context_dependent_function_opset_versions
    if schema.has_context_dependent_function and versions:
        types = [t.SerializeToString() for t in input_types]
        local = NodeProto()
        local.CopyFrom(node)
        local.domain = plain_domain(node.domain)
        body = schema.get_context_dependent_function_with_opset_version(_closest(versions, opset), local.SerializeToString(), types)
        return FunctionProto.FromString(body) if body else None
    return None


def _closest(versions: Sequence[int], opset: int) -> int:
    return max((v for v in versions if v <= opset), default=min(versions))


def function_opsets(function: FunctionProto, caller: Mapping[str, int]) -> dict[str, int]:
    """The body's own imports; domains it does not name (context-dependent bodies name none) mean the caller's."""
    return {**caller, **(opsets_of(function.opset_import) if function.opset_import else {})}


def call_arguments(function: FunctionProto, node: NodeProto, label: str,
                   schema: onnx.defs.OpSchema | None = None) -> dict[str, AttributeProto]:
    """The attributes of a call of `function`: the node's own, over the defaults of the function, or of the schema that it defines."""
    defaults = {name: a.default_value for name, a in schema.attributes.items() if a.default_value.name} if schema is not None else {}
    arguments = {**defaults, **{attribute.name: attribute for attribute in function.attribute_proto}}
    allowed = {*arguments, *function.attribute, *(schema.attributes if schema is not None else ())}
    for attribute in node.attribute:
        if attribute.name not in allowed:
            raise ModelError(f"unknown attribute {attribute.name!r}; the function has: {', '.join(sorted(allowed)) or 'none'}", node=label)
        arguments[attribute.name] = attribute
    return arguments
