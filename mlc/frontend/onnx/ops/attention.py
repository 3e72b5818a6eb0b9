"""Attention of ONNX and of onnxruntime: heads, caches and masks brought into the one form of graph.attention."""

from collections.abc import Sequence
from math import inf, sqrt

import numpy as np

from mlc.dialects import graph
from mlc.dtypes import BOOL, I64
from mlc.errors import ModelError
from mlc.frontend.onnx.context import NodeContext
from mlc.frontend.onnx.ops._emit import add, apply, cast, concat, cut, dtype_of, mul, pad, positions, reshape, shape_of, transpose, wide
from mlc.frontend.onnx.registry import converter
from mlc.ir.mlir import ir

# Heads


def split_heads(x: ir.Value, heads: int) -> ir.Value:
    """[B, S, H*D] -> [B, H, S, D]."""
    batch, length, width = shape_of(x)
    if not heads or width % heads:
        raise ModelError(f"{width} columns do not divide into {heads} heads")
    return transpose(reshape(x, (batch, length, heads, width // heads)), (0, 2, 1, 3))


def merge_heads(x: ir.Value) -> ir.Value:
    """[B, H, S, D] -> [B, S, H*D]."""
    batch, heads, length, width = shape_of(x)
    return reshape(transpose(x, (0, 2, 1, 3)), (batch, length, heads * width))


# Masks: None, bool (false hides) or float (added); they broadcast to [B, H, S, T]


def both(a: ir.Value | None, b: ir.Value | None) -> ir.Value | None:
    """What hides and adds all that two masks do."""
    if a is None or b is None:
        return b if a is None else a
    if dtype_of(a) == BOOL and dtype_of(b) == BOOL:
        return apply("and", a, b)
    if dtype_of(a) == BOOL:
        return apply("where", a, b, -inf)
    return apply("where", b, a, -inf) if dtype_of(b) == BOOL else add(a, cast(b, dtype_of(a)))


def added(mask: ir.Value, like: ir.Value) -> ir.Value:
    """A mask as numbers to add, in the type of `like`."""
    return cast(mask, dtype_of(like)) if dtype_of(mask) != BOOL else graph.elementwise("where", mask, *_constants(like, 0.0, -inf))


def _constants(like: ir.Value, *values: float) -> list[ir.Value]:
    return [graph.constant(np.array(v).astype(dtype_of(like).numpy)) for v in values]


def in_window(queries: int, keys: int, offset: ir.Value | int, left: int, right: int) -> ir.Value | None:
    """Whether key j is within [p - left, p + right] of query i at p = i + offset (a number, or one per sample [B, 1, 1, 1]); -1: open."""
    if left < 0 and right < 0:
        return None
    place = add(reshape(positions(queries), (queries, 1)), offset)
    back = apply("sub", place, positions(keys))
    near = apply("le", back, left) if left >= 0 else None
    far = apply("le", -right, back) if right >= 0 else None
    return both(near, far)


def shorter_than(keys: int, lengths: ir.Value) -> ir.Value:
    """Whether key j is among the first lengths[b]: [B, 1, 1, T]."""
    return apply("lt", positions(keys), reshape(cast(lengths, I64), (shape_of(lengths)[0], 1, 1, 1)))


# The ops of ONNX


@converter("Attention")
def attention(ctx: NodeContext) -> Sequence[ir.Value | None]:
    q, k, v = ctx.ir(0), ctx.ir(1), ctx.ir(2)
    flat = len(ctx.shape(0)) == 3
    for i in range(3):
        ctx.shape(i, rank=3 if flat else 4)
    q_heads, kv_heads = ctx.attr("q_num_heads", None), ctx.attr("kv_num_heads", None)
    if flat:
        if q_heads is None or kv_heads is None:
            raise ModelError("inputs of rank 3 need q_num_heads and kv_num_heads", node=ctx.label)
        q, k, v = split_heads(q, q_heads), split_heads(k, kv_heads), split_heads(v, kv_heads)
    past_k, past_v = ctx.maybe_ir(4), ctx.maybe_ir(5)
    past = 0
    if past_k is not None and past_v is not None:
        past, k, v = shape_of(past_k)[2], concat([past_k, k], 2), concat([past_v, v], 2)
    queries, keys = shape_of(q)[2], shape_of(k)[2]
    ctx.attr("softmax_precision", None)  # at least f32 in any case
    mask = ctx.maybe_ir(3)
    if mask is not None and shape_of(mask)[-1] < keys:
        rank = len(shape_of(mask))
        hidden = 0.0 if dtype_of(mask) == BOOL else -inf
        mask = pad(mask, [0] * rank, [*[0] * (rank - 1), keys - shape_of(mask)[-1]], hidden)
    left, right = ctx.attr("left_window_size", -1), ctx.attr("right_window_size", -1)
    left, right = -1 if left is None else left, -1 if right is None else right
    if ctx.attr("is_causal", 0):
        right = 0
    scale = ctx.attr("scale", None)
    scale = 1 / sqrt(shape_of(q)[3]) if scale is None else scale
    softcap = float(ctx.attr("softcap", 0.0) or 0.0)
    lengths = ctx.maybe_ir(6)
    if lengths is not None:
        start = apply("sub", reshape(cast(lengths, I64), (shape_of(q)[0], 1, 1, 1)), queries)
        mask = both(both(mask, in_window(queries, keys, start, left, right)), shorter_than(keys, lengths))
        left = right = -1
    y = graph.attention(q, k, v, mask, scale=scale, offset=past, left=left, right=right, softcap=softcap)
    outputs: list[ir.Value | None] = [merge_heads(y) if flat else y, k, v, None]
    if ctx.wants(3):
        mask = both(mask, in_window(queries, keys, past, left, right))
        outputs[3] = _scores(ctx, q, k, mask, scale, softcap)
    return outputs


def _scores(ctx: NodeContext, q: ir.Value, k: ir.Value, mask: ir.Value | None, scale: float, softcap: float) -> ir.Value:
    """The optional output that shows the attention matrix at some stage of its making."""
    mode, dtype = ctx.attr("qk_matmul_output_mode", 0), dtype_of(q)
    batch, heads, queries, width = shape_of(q)
    groups, keys = shape_of(k)[1:3]
    acc = wide(dtype)
    x = graph.einsum("bghsd,bgtd->bghst", reshape(cast(q, acc), (batch, groups, heads // groups, queries, width)), cast(k, acc))
    x = mul(reshape(x, (batch, heads, queries, keys)), scale)
    if mode not in range(4):
        raise ModelError(f"qk_matmul_output_mode is {mode}, expected 0 to 3", node=ctx.label)
    stage = ("raw", "cap", "bias", "softmax")[mode]
    if stage != "raw" and softcap:
        x = mul(apply("tanh", apply("div", x, softcap)), softcap)
    if stage in ("bias", "softmax") and mask is not None:
        bias = graph.broadcast(added(mask, x), shape=list(shape_of(x)))
        x = add(x, bias)
        if stage == "softmax":
            blind = apply("eq", graph.reduce(bias, kind="max", axes=[3], keepdims=True), -inf)
            x = apply("where", blind, 0.0, graph.softmax(x, axis=3))
    elif stage == "softmax":
        x = graph.softmax(x, axis=3)
    return cast(x, dtype)


def rotate(x: ir.Value, cos: ir.Value, sin: ir.Value, width: int, *, interleaved: bool) -> ir.Value:
    """graph.rotary on the first `width` columns of x."""
    full, axis = shape_of(x)[-1], len(shape_of(x)) - 1
    y = graph.rotary(cut(x, axis, 0, width), cast(cos, dtype_of(x)), cast(sin, dtype_of(x)), interleaved=interleaved)
    return y if width == full else concat([y, cut(x, axis, width, full - width)], axis)


@converter("RotaryEmbedding", since=23)
def rotary_embedding(ctx: NodeContext) -> Sequence[ir.Value]:
    return [_rotary(ctx, ctx.ir(0), ctx.ir(1), ctx.ir(2), ctx.maybe_ir(3))]


def _rotary(ctx: NodeContext, x: ir.Value, cos: ir.Value, sin: ir.Value, ids: ir.Value | None) -> ir.Value:
    shape, heads = shape_of(x), ctx.attr("num_heads", 0) or 0
    width = ctx.attr("rotary_embedding_dim", 0) or 0
    if len(shape) == 3:
        if not heads:
            # onnxruntime's op then takes the width of a head from the cache.
            heads = shape[2] // (width or 2 * shape_of(cos)[-1])
        x = reshape(x, (shape[0], shape[1], heads, shape[2] // heads))
    width = width or shape_of(x)[3]
    if ids is not None:
        cos, sin = (graph.gather(table, ids, axis=0) for table in (cos, sin))
    if not len(shape_of(cos)) == len(shape_of(sin)) == 3:
        raise ModelError(f"the angles have shapes {list(shape_of(cos))} and {list(shape_of(sin))}; expected 3 dimensions", node=ctx.label)
    batch, length, half = shape_of(cos)
    angles = (batch, length, 1, half) if len(shape) == 3 else (batch, 1, length, half)
    y = rotate(x, reshape(cos, angles), reshape(sin, angles), width, interleaved=bool(ctx.attr("interleaved", 0)))
    return reshape(y, shape)


@converter("RotaryEmbedding", domain="com.microsoft")
def rotary_embedding_microsoft(ctx: NodeContext) -> Sequence[ir.Value]:
    """position_ids is input 1: [B, S], or one number, the position of the first token."""
    x, ids, cos, sin = (ctx.ir(i) for i in range(4))
    ctx.ignore("is_packed_batching")
    if ctx.attr("scale", 1.0) != 1.0:
        raise ctx.unsupported("scale other than 1 is not supported")
    batch, length = shape_of(x)[0], shape_of(x)[1 if len(shape_of(x)) == 3 else 2]
    if shape_of(ids) in ((), (1,)):
        ids = graph.broadcast(add(reshape(cast(ids, I64), ()), positions(length)), shape=[batch, length])
    return [_rotary(ctx, x, cos, sin, ids)]
