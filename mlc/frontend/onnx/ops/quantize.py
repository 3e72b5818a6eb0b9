"""ONNX quantisation: (de)quantising, and products of codes in 32-bit integers with the zero points taken off first."""

from collections.abc import Sequence
from typing import Any

from mlc.dialects import graph
from mlc.dtypes import F8E8M0FNU, F32, I32, U8, DType
from mlc.errors import ModelError
from mlc.frontend.onnx.context import NodeContext
from mlc.frontend.onnx.ops._emit import add, cast, channelwise, div, mul, reshape, scalar, shape_of, sub
from mlc.frontend.onnx.ops.contraction import matmul_of
from mlc.frontend.onnx.ops.convolution import conv_of
from mlc.frontend.onnx.ops.elementwise import one_element
from mlc.frontend.onnx.registry import converter
from mlc.ir.mlir import ir


@converter("QuantizeLinear", since=10)
@converter("QuantizeLinear", domain="com.microsoft")
def quantize_linear(ctx: NodeContext) -> Sequence[Any]:
    stated = ctx.attr("output_dtype", 0)
    to = ctx.dtype_attr("output_dtype") if stated else ctx.dtype(2) if ctx.has(2) else U8
    if ctx.has(2) and ctx.dtype(2) != to:
        raise ModelError(f"output_dtype is {to}, the zero point is {ctx.dtype(2)}", node=ctx.label)
    precision = ctx.dtype_attr("precision") if ctx.attr("precision", 0) else ctx.dtype(1)
    if precision == F8E8M0FNU:  # a scale of this type holds powers of two; nothing divides in it
        precision = ctx.dtype(0) if ctx.dtype(0).is_float else F32
    scale, zero, axis, block = _granularity(ctx, to)
    return [graph.quantize(ctx.ir(0), scale, zero, precision=precision, axis=axis, block=block, saturate=bool(ctx.attr("saturate", 1)))]


@converter("DequantizeLinear", since=10)
@converter("DequantizeLinear", domain="com.microsoft")
def dequantize_linear(ctx: NodeContext) -> Sequence[Any]:
    to = ctx.dtype_attr("output_dtype") if ctx.attr("output_dtype", 0) else ctx.dtype(1)
    if to == F8E8M0FNU:
        raise ModelError("a scale of f8E8M0FNU does not say what the result is; the node needs output_dtype", node=ctx.label)
    scale, zero, axis, block = _granularity(ctx, ctx.dtype(0))
    return [graph.dequantize(ctx.ir(0), scale, zero, to=to, axis=axis, block=block)]


def _granularity(ctx: NodeContext, codes: DType) -> tuple[ir.Value, ir.Value, int, int]:
    """Scale, zero point (a zero of type `codes` if absent), axis and block size for graph.quantize and graph.dequantize."""
    x, scale = ctx.shape(0), ctx.tensor(1)
    axis, block = ctx.attr("axis", 1), ctx.attr("block_size", 0)
    if block < 0:
        raise ModelError(f"block_size is {block}, expected a positive number", node=ctx.label)
    if ctx.has(2) and ctx.shape(2) != scale.shape and not scale.size == ctx.tensor(2).size == 1:
        raise ModelError(f"scale {list(scale.shape)} and zero point {list(ctx.shape(2))} differ in shape", node=ctx.label)
    if scale.size == 1 and (not block or scale.rank != len(x)):
        return one_element(ctx, 1), one_element(ctx, 2) if ctx.has(2) else scalar(0, codes), 0, 0
    if len(x) == 1 and not block:
        axis = 0  # its only one, whatever the attribute says
    if not -len(x) <= axis < len(x):
        raise ModelError(f"axis {axis} is outside of input {list(x)}", node=ctx.label)
    # Zero points that are known to be 0 are one number, so that passes, which read no weights, know it, too.
    zeros = not ctx.has(2) or (not block and ctx.tensor(2).is_known and not any(ctx.value(2).tobytes()))
    return ctx.ir(1), scalar(0, codes) if zeros else ctx.ir(2), axis % len(x), block


@converter("DynamicQuantizeLinear", since=11)
def dynamic_quantize_linear(ctx: NodeContext) -> Sequence[Any]:
    return dynamic_quantize(ctx.ir(0))


def dynamic_quantize(x: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """ui8 codes of x, their scale and zero point, which span x's range and 0. All zero: a scale of 1."""
    axes = list(range(len(shape_of(x))))
    high = graph.elementwise("max", graph.reduce(x, kind="max", axes=axes), scalar(0, F32))
    low = graph.elementwise("min", graph.reduce(x, kind="min", axes=axes), scalar(0, F32))
    flat = graph.elementwise("eq", high, low)
    scale = graph.elementwise("where", flat, scalar(1, F32), div(sub(high, low), 255.0))
    zero = graph.elementwise("neg", div(low, scale))
    zero = graph.elementwise("min", graph.elementwise("max", graph.elementwise("round", zero), scalar(0, F32)), scalar(255, F32))
    zero = cast(zero, U8)
    return graph.quantize(x, scale, zero), scale, zero


def centred(x: ir.Value, zero: ir.Value | None) -> ir.Value:
    """Codes as i32, their zero point taken off: what padding with 0 and multiplying may be done to."""
    wide = cast(x, I32)
    return wide if zero is None else sub(wide, cast(zero, I32))


def rows(v: ir.Value) -> ir.Value:
    """One value, or one for each row of a left operand, so that it broadcasts; N-D forms do as they are."""
    shape = shape_of(v)
    return reshape(v, ()) if shape in ((), (1,)) else reshape(v, (*shape, 1)) if len(shape) == 1 else v


def columns(v: ir.Value) -> ir.Value:
    """One value, or one for each column of a right operand."""
    return reshape(v, ()) if shape_of(v) in ((), (1,)) else v


@converter("MatMulInteger", since=10)
def matmul_integer(ctx: NodeContext) -> Sequence[Any]:
    zero_a, zero_b = ctx.maybe_ir(2), ctx.maybe_ir(3)
    a = centred(ctx.ir(0), None if zero_a is None else rows(zero_a))
    return [matmul_of(a, centred(ctx.ir(1), None if zero_b is None else columns(zero_b)))]


@converter("ConvInteger", since=10)
def conv_integer(ctx: NodeContext) -> Sequence[Any]:
    return [conv_of(ctx, centred(ctx.ir(0), one_element(ctx, 2) if ctx.has(2) else None),
                    centred(ctx.ir(1), _per_map(ctx, 3) if ctx.has(3) else None))]


def _per_map(ctx: NodeContext, i: int) -> ir.Value:
    """Input `i`: one value, or one for each output map of the weights."""
    if ctx.tensor(i).size == 1:
        return one_element(ctx, i)
    weights = ctx.shape(3 if ctx.op == "QLinearConv" else 1)
    if ctx.shape(i) != weights[:1]:
        raise ModelError(f"input {ctx.input_name(i)} has shape {list(ctx.shape(i))}, expected one value or one for each of "
                         f"{weights[0]} output maps", node=ctx.label)
    return channelwise(ctx.ir(i), len(weights), axis=0)


def requantize(total: ir.Value, ratio: ir.Value, zero: ir.Value) -> ir.Value:
    """i32 sums of products times the f32 `ratio` of the scales of operands to result, as codes of the zero point's type."""
    return graph.quantize(mul(cast(total, F32), ratio), scalar(1, F32), zero)


@converter("QLinearMatMul", since=10)
def qlinear_matmul(ctx: NodeContext) -> Sequence[Any]:
    a, b = centred(ctx.ir(0), rows(ctx.ir(2))), centred(ctx.ir(3), columns(ctx.ir(5)))
    scale_a, scale_b, scale_y = rows(ctx.ir(1)), columns(ctx.ir(4)), one_element(ctx, 6)
    ratio = div(mul(cast(scale_a, F32), cast(scale_b, F32)), cast(scale_y, F32))
    return [requantize(matmul_of(a, b), ratio, one_element(ctx, 7))]


@converter("QLinearConv", since=10)
def qlinear_conv(ctx: NodeContext) -> Sequence[Any]:
    total = conv_of(ctx, centred(ctx.ir(0), one_element(ctx, 2)), centred(ctx.ir(3), _per_map(ctx, 5)))
    rank = len(shape_of(total))
    if (bias := ctx.maybe_ir(8)) is not None:
        total = add(total, channelwise(bias, rank))
    scale_w = one_element(ctx, 4) if ctx.tensor(4).size == 1 else channelwise(ctx.ir(4), rank)
    ratio = div(mul(one_element(ctx, 1), scale_w), one_element(ctx, 6))
    return [requantize(total, ratio, one_element(ctx, 7))]


__all__ = ["centred", "columns", "dynamic_quantize", "requantize", "rows"]
