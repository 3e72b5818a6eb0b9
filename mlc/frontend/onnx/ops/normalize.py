"""Normalisations: graph.layer_norm and graph.rms_norm where statistics are taken, elementwise ops for scale, bias and given statistics."""

from collections.abc import Sequence
from math import prod

import numpy as np

from mlc.dialects import graph
from mlc.errors import ModelError
from mlc.frontend.onnx.context import NodeContext
from mlc.frontend.onnx.ops._emit import add, apply, cast, channelwise, div, dtype_of, mul, pad, reshape, shape_of, sub, wide
from mlc.frontend.onnx.ops.pool import power
from mlc.frontend.onnx.ops.reduce import axis_of
from mlc.frontend.onnx.registry import converter
from mlc.ir.mlir import ir


def _reciprocal_root(x: ir.Value, eps: float) -> ir.Value:
    return div(1.0, apply("sqrt", add(x, eps)))


def _affine(y: ir.Value, scale: ir.Value | None, bias: ir.Value | None) -> ir.Value:
    """Scaled and shifted, in the type of y."""
    if scale is not None:
        y = mul(y, cast(scale, dtype_of(y)))
    return y if bias is None else add(y, cast(bias, dtype_of(y)))


# Statistics given, or of the batch


@converter("BatchNormalization")
def batch_normalization(ctx: NodeContext) -> Sequence[ir.Value | None]:
    x, scale, bias, mean, var = (ctx.ir(i) for i in range(5))
    eps, momentum, rank = ctx.attr("epsilon", 1e-5), ctx.attr("momentum", 0.9), len(shape_of(x))
    training = bool(ctx.attr("training_mode", 0))
    if ctx.opset < 7 and not ctx.attr("is_test", 0) and ctx.out_count > 1:
        training = True
    ctx.ignore("consumed_inputs")
    if not ctx.attr("spatial", 1):
        if training:
            raise ctx.unsupported("training with statistics per element (spatial = 0) is not supported")
        # One statistic per element of a sample: everything broadcasts over the batch.
        inverse = mul(_reciprocal_root(var, eps), scale)
        return [add(mul(sub(x, mean), inverse), bias)]
    dtype = dtype_of(x)
    outputs: list[ir.Value | None] = []
    if training:
        axes = [d for d in range(rank) if d != 1]
        xw = cast(x, wide(dtype))
        current = graph.reduce(xw, kind="mean", axes=axes)
        spread = graph.reduce(sub(xw, channelwise(current, rank)), kind="sum_square", axes=axes)
        spread = div(spread, float(prod(n for d, n in enumerate(shape_of(x)) if d != 1)))
        for running, now in ((mean, current), (var, spread)):
            kept = add(mul(cast(running, wide(dtype)), momentum), mul(now, 1.0 - momentum))
            outputs.append(cast(kept, dtype_of(running)))
        mean, var = current, spread
        if ctx.opset < 14:
            outputs += [cast(current, dtype), cast(spread, dtype)]
    acc = wide(dtype)
    scale, bias, mean, var = (cast(v, acc) for v in (scale, bias, mean, var))
    factor = mul(_reciprocal_root(var, eps), scale)
    shift = sub(bias, mul(mean, factor))
    y = add(mul(cast(x, acc), channelwise(factor, rank)), channelwise(shift, rank))
    return [cast(y, dtype), *outputs]


# Statistics over trailing dimensions


@converter("LayerNormalization")
def layer_normalization(ctx: NodeContext) -> Sequence[ir.Value | None]:
    x = ctx.ir(0)
    return _layer_norm(ctx, x, ctx.ir(1), ctx.maybe_ir(2), axis_of(ctx, ctx.attr("axis", -1), len(shape_of(x))))


def _layer_norm(ctx: NodeContext, x: ir.Value, scale: ir.Value, bias: ir.Value | None, axis: int) -> list[ir.Value | None]:
    eps = ctx.attr("epsilon", 1e-5)
    _check_stash(ctx)
    outputs: list[ir.Value | None] = [_affine(graph.layer_norm(x, axis=axis, eps=eps), scale, bias), None, None]
    if ctx.wants(1) or ctx.wants(2):
        axes = list(range(axis, len(shape_of(x))))
        xw = cast(x, wide(dtype_of(x)))
        mean = graph.reduce(xw, kind="mean", axes=axes, keepdims=True)
        centred = sub(xw, mean)
        outputs[1:] = [mean, _reciprocal_root(graph.reduce(mul(centred, centred), kind="mean", axes=axes, keepdims=True), eps)]
    return outputs


def _check_stash(ctx: NodeContext) -> None:
    """Statistics are always taken in at least f32: what stash_type = FLOAT asks for, and more than other types would give."""
    ctx.attr("stash_type", 1)


@converter("RMSNormalization")
def rms_normalization(ctx: NodeContext) -> Sequence[ir.Value]:
    x = ctx.ir(0)
    _check_stash(ctx)
    y = graph.rms_norm(x, axis=axis_of(ctx, ctx.attr("axis", -1), len(shape_of(x))), eps=ctx.attr("epsilon", 1e-5))
    return [_affine(y, ctx.ir(1), None)]


@converter("SimplifiedLayerNormalization")
@converter("SimplifiedLayerNormalization", domain="com.microsoft")
def simplified_layer_normalization(ctx: NodeContext) -> Sequence[ir.Value | None]:
    x, eps = ctx.ir(0), ctx.attr("epsilon", 1e-5)
    _check_stash(ctx)
    axis = axis_of(ctx, ctx.attr("axis", -1), len(shape_of(x)))
    outputs: list[ir.Value | None] = [_affine(graph.rms_norm(x, axis=axis, eps=eps), ctx.ir(1), None), None]
    if ctx.wants(1):
        outputs[1] = _inverse_rms(x, axis, eps)
    return outputs


def _inverse_rms(x: ir.Value, axis: int, eps: float) -> ir.Value:
    xw = cast(x, wide(dtype_of(x)))
    return _reciprocal_root(graph.reduce(mul(xw, xw), kind="mean", axes=list(range(axis, len(shape_of(x)))), keepdims=True), eps)


@converter("SkipLayerNormalization", domain="com.microsoft")
def skip_layer_normalization(ctx: NodeContext) -> Sequence[ir.Value | None]:
    x, bias = _skip_sum(ctx, ctx.maybe_ir(4)), ctx.maybe_ir(3)
    outputs = _layer_norm(ctx, x, ctx.ir(2), bias, len(shape_of(x)) - 1)
    return [*outputs, x]


@converter("SkipSimplifiedLayerNormalization", domain="com.microsoft")
def skip_simplified_layer_normalization(ctx: NodeContext) -> Sequence[ir.Value | None]:
    x, eps = _skip_sum(ctx, ctx.maybe_ir(3)), ctx.attr("epsilon", 1e-5)
    axis = len(shape_of(x)) - 1
    y = _affine(graph.rms_norm(x, axis=axis, eps=eps), ctx.ir(2), None)
    return [y, None, _inverse_rms(x, axis, eps) if ctx.wants(2) else None, x]


def _skip_sum(ctx: NodeContext, bias: ir.Value | None) -> ir.Value:
    x = add(ctx.ir(0), ctx.ir(1))
    return x if bias is None else add(x, bias)


@converter("EmbedLayerNormalization", domain="com.microsoft")
def embed_layer_normalization(ctx: NodeContext) -> Sequence[ir.Value | None]:
    ids, segments, words, places, kinds, gamma, beta = (ctx.maybe_ir(i) for i in range(7))
    mask, position_ids = ctx.maybe_ir(7), ctx.maybe_ir(8)
    assert ids is not None and words is not None and places is not None and gamma is not None and beta is not None
    length = shape_of(ids)[1]
    where = graph.gather(places, position_ids, axis=0) if position_ids is not None else graph.slice(
        places, starts=[0, 0], sizes=[length, shape_of(places)[1]], steps=[1, 1])
    total = add(graph.gather(words, ids, axis=0), where)
    if segments is not None and kinds is not None:
        total = add(total, graph.gather(kinds, segments, axis=0))
    y = _affine(graph.layer_norm(total, axis=2, eps=ctx.attr("epsilon", 1e-12)), gamma, beta)
    ctx.ignore("mask_index_type")
    if mask is not None:
        index = graph.reduce(mask, kind="sum", axes=[1])
    else:
        index = ctx.const(np.zeros(shape_of(ids)[0], np.int32))
    return [y, index, total]


# Statistics over channels and space


@converter("InstanceNormalization")
def instance_normalization(ctx: NodeContext) -> Sequence[ir.Value]:
    x = ctx.ir(0)
    ctx.ignore("consumed_inputs")
    y = _group_norm(ctx, x, shape_of(x)[1], ctx.attr("epsilon", 1e-5))
    for i in (1, 2):
        ctx.shape(i, rank=1)
    return [_affine(y, channelwise(ctx.ir(1), len(shape_of(x))), channelwise(ctx.ir(2), len(shape_of(x))))]


@converter("GroupNormalization", since=18)
def group_normalization_18(ctx: NodeContext) -> Sequence[ir.Value]:
    """Scale and bias have one entry per group."""
    x, groups = ctx.ir(0), ctx.attr("num_groups")
    shape = shape_of(x)
    y = reshape(_group_norm(ctx, x, groups, ctx.attr("epsilon", 1e-5)), (shape[0], groups, -(-shape[1] // groups), *shape[2:]))
    rank = len(shape) + 1
    return [reshape(_affine(y, channelwise(ctx.ir(1), rank), channelwise(ctx.ir(2), rank)), shape)]


@converter("GroupNormalization", since=21)
def group_normalization_21(ctx: NodeContext) -> Sequence[ir.Value]:
    """Scale and bias have one entry per channel."""
    x = ctx.ir(0)
    _check_stash(ctx)
    y, rank = _group_norm(ctx, x, ctx.attr("num_groups"), ctx.attr("epsilon", 1e-5)), len(shape_of(x))
    return [_affine(y, channelwise(ctx.ir(1), rank), channelwise(ctx.ir(2), rank))]


@converter("GroupNorm", domain="com.microsoft")
def group_norm(ctx: NodeContext) -> Sequence[ir.Value]:
    x, last = ctx.ir(0), bool(ctx.attr("channels_last", 1))
    rank = len(shape_of(x))
    perm = [0, rank - 1, *range(1, rank - 1)]
    inner = graph.transpose(x, perm=perm) if last else x
    y = _group_norm(ctx, inner, ctx.attr("groups"), ctx.attr("epsilon", 1e-5))
    y = _affine(y, channelwise(ctx.ir(1), rank), channelwise(ctx.ir(2), rank))
    if ctx.attr("activation", 0):
        y = mul(y, apply("sigmoid", y))
    return [graph.transpose(y, perm=[0, *range(2, rank), 1]) if last else y]


def _group_norm(ctx: NodeContext, x: ir.Value, groups: int, eps: float) -> ir.Value:
    shape = shape_of(x)
    if len(shape) < 2 or groups < 1 or shape[1] % groups:
        raise ModelError(f"cannot normalise {list(shape)} in {groups} groups of channels", node=ctx.label)
    flat = reshape(x, (shape[0], groups, prod(shape[1:]) // groups))
    return reshape(graph.layer_norm(flat, axis=2, eps=eps), shape)


@converter("MeanVarianceNormalization")
def mean_variance_normalization(ctx: NodeContext) -> Sequence[ir.Value]:
    x = ctx.ir(0)
    dtype, rank = dtype_of(x), len(shape_of(x))
    axes = ctx.attr("axes", None)
    if axes is None:
        axes = [0, 2, 3] if ctx.opset >= 9 or ctx.attr("across_channels", 0) == 0 else [0, 1, 2, 3]
    axes = sorted(axis_of(ctx, a, rank) for a in axes)
    centred = cast(x, wide(dtype))
    centred = sub(centred, graph.reduce(centred, kind="mean", axes=axes, keepdims=True))
    deviation = apply("sqrt", graph.reduce(mul(centred, centred), kind="mean", axes=axes, keepdims=True))
    return [cast(div(centred, add(deviation, 1e-9)), dtype)]


@converter("LpNormalization")
def lp_normalization(ctx: NodeContext) -> Sequence[ir.Value]:
    x, p = ctx.ir(0), ctx.attr("p", 2)
    if p not in (1, 2):
        raise ModelError(f"p is {p}, expected 1 or 2", node=ctx.label)
    xw = cast(x, wide(dtype_of(x)))
    norm = graph.reduce(xw, kind=f"l{p}", axes=[axis_of(ctx, ctx.attr("axis", -1), len(shape_of(x)))], keepdims=True)
    return [cast(apply("where", apply("eq", norm, 0.0), mul(xw, 0.0), div(xw, norm)), dtype_of(x))]


@converter("LRN")
def lrn(ctx: NodeContext) -> Sequence[ir.Value]:
    """Division by (bias + alpha/size * sum of squares over `size` neighbouring channels) ** beta."""
    x, size = ctx.ir(0), ctx.attr("size")
    xw, rank = cast(x, wide(dtype_of(x))), len(shape_of(x))
    before = (size - 1) // 2
    low, high = [0] * rank, [0] * rank
    low[1], high[1] = before, size - 1 - before
    total = graph.pool(pad(mul(xw, xw), low, high), kind="sum", kernel=[size], strides=[1], dilations=[1], axis=1)
    divisor = power(add(mul(total, ctx.attr("alpha", 1e-4) / size), ctx.attr("bias", 1.0)), ctx.attr("beta", 0.75))
    return [cast(div(xw, divisor), dtype_of(x))]
