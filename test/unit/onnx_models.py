"""Shared by the frontend's tests: small models from text, and an import with stand-in converters of a domain of its own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, parser

from mlc.dialects import graph
from mlc.frontend.onnx.context import NodeContext
from mlc.frontend.onnx.importer import ImportedModel, import_model
from mlc.frontend.onnx.registry import converter
from mlc.ir.context import make_context


@converter("Twice", domain="test")
def twice(ctx: NodeContext) -> Sequence[Any]:
    return [graph.elementwise("add", ctx.ir(0), ctx.ir(0))]


@converter("Sum", domain="test")
def total(ctx: NodeContext) -> Sequence[Any]:
    return [graph.elementwise("add", ctx.ir(0), ctx.ir(1))]


@converter("Less", domain="test")
def less(ctx: NodeContext) -> Sequence[Any]:
    return [graph.elementwise("lt", ctx.ir(0), ctx.ir(1))]


@converter("Fill", domain="test")
def fill(ctx: NodeContext) -> Sequence[Any]:
    """A zero tensor whose shape is a value; needs it at compile time."""
    return [np.broadcast_to(np.float32(0), tuple(ctx.value(0)))]


def model(body: str, *, functions: str = "", opset: int = 20, **weights: np.ndarray) -> onnx.ModelProto:
    """`body` in ONNX's text syntax: `g (float[2] x) => (float[2] y) { y = Relu(x) }`; `weights` become initializers."""
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}, "test": 1, "local": 1]>\n{body}\n{functions}')
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return proto


def load(proto: Any, **options: Any) -> ImportedModel:
    imported = import_model(proto, context=make_context(), **options)
    assert imported.module.operation.verify()
    return imported


def text(proto: Any, **options: Any) -> str:
    """The module a model becomes, printed."""
    return str(load(proto, **options).module)


def results(imported: ImportedModel) -> dict[str, np.ndarray]:
    """Graph outputs that are compile-time constants, by name (in the IR or in the weight store)."""
    found = {}
    main = imported.module.body.operations[0]
    returned = list(main.regions[0].blocks[0].operations)[-1].operands
    for argument, value in zip(imported.results, returned, strict=True):
        op = value.owner
        if getattr(op, "name", "") == "graph.constant":
            found[argument.name] = op.opview.array
        elif getattr(op, "name", "") == "graph.weight":
            found[argument.name] = imported.weights[op.opview.key].read()
    return found
