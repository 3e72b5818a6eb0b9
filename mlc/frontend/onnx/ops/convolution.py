"""Convolutions: padding and bias are ops of their own around graph.conv and graph.conv_transpose."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from mlc.dialects import graph
from mlc.errors import ModelError
from mlc.frontend.onnx.context import NodeContext
from mlc.frontend.onnx.ops._emit import add, apply, cast, channelwise, concat, cut, dtype_of, mul, pad, reshape, shape_of
from mlc.frontend.onnx.ops._window import window_of
from mlc.frontend.onnx.registry import converter
from mlc.ir.mlir import ir


@converter("Conv")
def conv(ctx: NodeContext) -> Sequence[ir.Value]:
    return [_with_bias(conv_of(ctx, ctx.ir(0), ctx.ir(1)), ctx.maybe_ir(2))]


def conv_of(ctx: NodeContext, x: ir.Value, w: ir.Value) -> ir.Value:
    """Convolution of x and w by the node's attributes (strides, dilations, group, pads, auto_pad, kernel_shape), without bias."""
    window = window_of(ctx, shape_of(x)[2:], _kernel(ctx, shape_of(x), shape_of(w)))
    x = pad(x, [0, 0, *window.low], [0, 0, *window.high])
    return graph.conv(x, w, strides=window.strides, dilations=window.dilations, groups=ctx.attr("group", 1), layout="nchw")


def _kernel(ctx: NodeContext, x: Sequence[int], w: Sequence[int]) -> list[int]:
    kernel, stated = list(w[2:]), ctx.attr("kernel_shape", None)
    if stated is not None and list(stated) != kernel:
        raise ModelError(f"kernel_shape is {stated}, but the weights {list(w)} have a kernel of {kernel}", node=ctx.label)
    if len(x) != len(w) or len(x) < 3:
        raise ModelError(f"input {list(x)} and weights {list(w)} need one rank of 3 or more", node=ctx.label)
    return kernel


def _with_bias(y: ir.Value, bias: ir.Value | None) -> ir.Value:
    return y if bias is None else add(y, channelwise(bias, len(shape_of(y))))


@converter("FusedConv", domain="com.microsoft")
def fused_conv(ctx: NodeContext) -> Sequence[ir.Value]:
    y = _with_bias(conv_of(ctx, ctx.ir(0), ctx.ir(1)), ctx.maybe_ir(2))
    if (z := ctx.maybe_ir(3)) is not None:
        y = add(y, z)
    kind, params = ctx.attr("activation", ""), list(ctx.attr("activation_params", None) or [])
    match kind:
        case "":
            return [y]
        case "Relu" | "Sigmoid" | "Tanh":
            return [apply(kind.lower(), y)]
        case "LeakyRelu":
            return [apply("where", apply("lt", y, 0.0), mul(y, params[0] if params else 0.01), y)]
        case "Clip":
            return [apply("min", apply("max", y, params[0]), params[1])]
        case "HardSigmoid":
            return [apply("min", apply("max", add(mul(y, params[0]), params[1]), 0.0), 1.0)]
    raise ctx.unsupported(f"activation {kind!r} is not supported")


@converter("ConvTranspose")
def conv_transpose(ctx: NodeContext) -> Sequence[ir.Value]:
    x, w = ctx.ir(0), ctx.ir(1)
    kernel, spatial, rank = _kernel(ctx, shape_of(x), shape_of(w)), shape_of(x)[2:], len(shape_of(x)) - 2
    lists = (("strides", 1), ("dilations", 1), ("output_padding", 0))
    attributes = {name: list(ctx.attr(name, None) or [fill] * rank) for name, fill in lists}
    pads, wanted, auto = ctx.attr("pads", None) or [0] * 2 * rank, ctx.attr("output_shape", None), ctx.attr("auto_pad", "NOTSET")
    fits = all(len(v) == rank for v in attributes.values()) and len(pads) == 2 * rank
    if not fits or (wanted is not None and len(wanted) not in (rank, rank + 2)):
        raise ModelError(f"attributes {attributes}, pads {pads}, output_shape {wanted} do not fit {rank} spatial dimensions",
                         node=ctx.label)
    strides, dilations, extra = attributes.values()
    low, size = [], []
    for d in range(rank):
        full = (spatial[d] - 1) * strides[d] + extra[d] + (kernel[d] - 1) * dilations[d] + 1
        if wanted is not None or auto.startswith("SAME"):
            out = wanted[d - rank] if wanted is not None else spatial[d] * strides[d]
            total = max(0, full - out)
            # As onnxruntime (and the text of opset 11 on) has it: SAME_UPPER puts the odd element at the end.
            low.append(total // 2 if auto == "SAME_UPPER" else total - total // 2)
            size.append(out)
        else:
            before, after = (pads[d], pads[rank + d]) if auto in ("NOTSET", "") else (0, 0)
            low.append(before)
            size.append(full - before - after)
    y = graph.conv_transpose(x, w, strides=strides, dilations=dilations, pads=low, size=size, groups=ctx.attr("group", 1), layout="nchw")
    return [_with_bias(y, ctx.maybe_ir(2))]


@converter("Col2Im")
def col2im(ctx: NodeContext) -> Sequence[ir.Value]:
    """Overlapping blocks summed: a transposed convolution whose kernel puts each column row at its own tap."""
    x, image, block = ctx.ir(0), [int(d) for d in ctx.value(1)], [int(d) for d in ctx.value(2)]
    rank = len(block)
    window = window_of(ctx, image, block)
    n, rows, _ = shape_of(x)
    taps = prod(block)
    if rows % taps or shape_of(x)[2] != prod(window.size) or len(image) != rank:
        raise ModelError(f"columns {list(shape_of(x))} are not the blocks {block} of an image {image}", node=ctx.label)
    columns = reshape(x, (n * (rows // taps), taps, *window.size))
    eye = ctx.const(np.eye(taps, dtype=dtype_of(x).numpy).reshape(taps, 1, *block))
    y = graph.conv_transpose(columns, eye, strides=window.strides, dilations=window.dilations, pads=window.low, size=image)
    return [reshape(y, (n, rows // taps, *image))]


@converter("CausalConvWithState")
def causal_conv_with_state(ctx: NodeContext) -> Sequence[ir.Value]:
    x, w, bias, past = ctx.ir(0), ctx.ir(1), ctx.maybe_ir(2), ctx.maybe_ir(3)
    kernel = shape_of(w)[2]
    padded = pad(x, [0, 0, kernel - 1], [0, 0, 0]) if past is None else x if kernel == 1 else concat([past, x], 2)
    y = _with_bias(graph.conv(padded, w, strides=[1], dilations=[1], groups=shape_of(x)[1], layout="nchw"), bias)
    kind = ctx.attr("activation", "none")
    if kind in ("silu", "swish"):
        y = mul(y, apply("sigmoid", y))
    elif kind != "none":
        raise ModelError(f"activation is {kind!r}, expected none, silu or swish", node=ctx.label)
    return [y, cut(padded, 2, shape_of(padded)[2] - (kernel - 1), kernel - 1)]


@converter("DeformConv")
def deform_conv(ctx: NodeContext) -> Sequence[ir.Value]:
    """Columns sampled at the offsets, then a contraction over channels and taps."""
    x, w, offset, bias, mask = ctx.ir(0), ctx.ir(1), ctx.ir(2), ctx.maybe_ir(3), ctx.maybe_ir(4)
    kernel, groups = _kernel(ctx, shape_of(x), shape_of(w)), ctx.attr("group", 1)
    if len(kernel) != 2:
        raise ctx.unsupported(f"{len(kernel)} spatial dimensions are not supported, only 2")
    window = window_of(ctx, shape_of(x)[2:], kernel)
    operands: list[Any] = [x, offset, *([] if mask is None else [mask])]
    columns = graph.deform_sample(*operands, kernel=kernel, strides=window.strides, dilations=window.dilations, pads=window.low,
                                  groups=ctx.attr("offset_group", 1))
    n, c, taps, *out = shape_of(columns)
    maps = shape_of(w)[0]
    if out != window.size or c != shape_of(w)[1] * groups or maps % groups:
        raise ModelError(f"input {list(shape_of(x))}, weights {list(shape_of(w))} and offsets {list(shape_of(offset))} do not fit",
                         node=ctx.label)
    columns = reshape(columns, (n, groups, c // groups, taps, *out))
    y = graph.einsum("ngckhw,gmck->ngmhw", columns, reshape(w, (groups, maps // groups, c // groups, taps)))
    return [_with_bias(reshape(y, (n, maps, *out)), None if bias is None else cast(bias, dtype_of(x)))]


__all__ = ["conv_of"]
