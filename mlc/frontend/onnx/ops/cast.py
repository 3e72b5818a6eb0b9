"""Cast and CastLike: conversions between all element types, with what each opset adds (saturation, rounding of f8E8M0FNU)."""

from collections.abc import Sequence
from typing import Any

import onnx

from mlc.dialects import graph
from mlc.dtypes import DType
from mlc.errors import ModelError
from mlc.frontend.onnx.context import NodeContext
from mlc.frontend.onnx.registry import converter
from mlc.frontend.onnx.tensors import dtype_of
from mlc.ir.codecs import ROUND_MODES
from mlc.ir.mlir import ir


@converter("Cast")
def cast_by_name(ctx: NodeContext) -> Sequence[Any]:
    """Before opset 6 the type was spelt out."""
    name = ctx.attr("to")
    if name not in onnx.TensorProto.DataType.keys():
        raise ModelError(f"attribute 'to' is {name!r}, which is no element type", node=ctx.label)
    return [_cast(ctx, dtype_of(onnx.TensorProto.DataType.Value(name), "attribute 'to'"))]


@converter("Cast", since=6)
def cast(ctx: NodeContext) -> Sequence[Any]:
    return [_cast(ctx, ctx.dtype_attr("to"))]


@converter("CastLike", since=15)
def cast_like(ctx: NodeContext) -> Sequence[Any]:
    return [_cast(ctx, ctx.dtype(1))]


def _cast(ctx: NodeContext, to: DType) -> ir.Value:
    saturate, round_mode = ctx.attr("saturate", 1), ctx.attr("round_mode", "up")
    if round_mode not in ROUND_MODES:
        raise ModelError(f"round_mode is {round_mode!r}, expected one of {', '.join(ROUND_MODES)}", node=ctx.label)
    return graph.cast(ctx.ir(0), to, saturate=bool(saturate), round_mode=round_mode)
