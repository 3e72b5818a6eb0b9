"""onnxruntime's attention ops (com.microsoft): Attention, MultiHeadAttention, GroupQueryAttention."""

from collections.abc import Sequence
from math import sqrt

import numpy as np

from mlc.dialects import graph
from mlc.dialects.graph import indexing
from mlc.dtypes import BOOL, I64
from mlc.errors import ModelError
from mlc.frontend.onnx.context import NodeContext
from mlc.frontend.onnx.ops._emit import add, apply, cast, concat, cut, dtype_of, positions, reshape, scalar, shape_of, sub
from mlc.frontend.onnx.ops.attention import both, in_window, merge_heads, rotate, shorter_than, split_heads
from mlc.frontend.onnx.registry import converter
from mlc.ir.mlir import ir

MICROSOFT = "com.microsoft"


def _filled(ctx: NodeContext, mask: ir.Value | None, like: ir.Value) -> ir.Value | None:
    """A bool mask as numbers to add: onnxruntime hides with mask_filter_value, so that a row without keys averages all of them."""
    if mask is None or dtype_of(mask) != BOOL:
        return mask
    dtype = dtype_of(like)
    fill = max(ctx.attr("mask_filter_value", -10000.0), float(np.finfo(np.float32).min))
    return graph.elementwise("where", mask, scalar(0.0, dtype), scalar(fill, dtype))


def _key_mask(ctx: NodeContext, mask: ir.Value | None, batch: int, queries: int, keys: int) -> ir.Value | None:
    """The mask forms that the ops take, as bool: lengths [B], 0/1 per key [B, T], or per query and key [B, S, T], [B, 1, M, M]."""
    if mask is None:
        return None
    shape = shape_of(mask)
    if shape == (batch,):
        return shorter_than(keys, mask)
    if shape == (2 * batch,):
        end, start = cut(mask, 0, 0, batch), cut(mask, 0, batch, batch)
        return apply("and", shorter_than(keys, end), apply("not", shorter_than(keys, start)))
    if shape == (batch, keys):
        shown = apply("lt", 0, mask)
        return reshape(shown, (batch, 1, 1, keys))
    if shape == (batch, queries, keys):
        return reshape(apply("lt", 0, mask), (batch, 1, queries, keys))
    raise ctx.unsupported(f"a mask of shape {list(shape)} (batch {batch}, {queries} queries, {keys} keys) is not supported")


def _scale(ctx: NodeContext, width: int) -> float:
    return ctx.attr("scale", 0.0) or 1 / sqrt(width)


@converter("Attention", domain=MICROSOFT)
def attention(ctx: NodeContext) -> Sequence[ir.Value | None]:
    """q, k and v are columns of one projection; past and present are [2, B, H, T, D]."""
    x, w, bias = ctx.ir(0), ctx.ir(1), ctx.maybe_ir(2)
    heads, widths = ctx.attr("num_heads"), list(ctx.attr("qkv_hidden_sizes", None) or [shape_of(w)[1] // 3] * 3)
    batch, queries, _ = shape_of(x)
    if sum(widths) != shape_of(w)[1] or any(d % heads for d in widths):
        raise ModelError(f"weights {list(shape_of(w))} do not divide into {widths} columns for {heads} heads", node=ctx.label)
    if ctx.attr("do_rotary", 0) or ctx.attr("past_present_share_buffer", 0):
        raise ctx.unsupported("do_rotary and past_present_share_buffer are not supported")
    ctx.attr("rotary_embedding_dim", 0)
    y = graph.matmul(x, w)
    y = y if bias is None else add(y, bias)
    q, k, v = (split_heads(cut(y, 2, sum(widths[:i]), d), heads) for i, d in enumerate(widths))
    past, before = ctx.maybe_ir(4), 0
    if past is not None:
        before = shape_of(past)[3]
        k, v = (concat([reshape(cut(past, 0, i, 1), shape_of(past)[1:]), t], 2) for i, t in enumerate((k, v)))
    keys = shape_of(k)[2]
    right = 0 if ctx.attr("unidirectional", 0) else -1
    mask = both(_filled(ctx, _key_mask(ctx, ctx.maybe_ir(3), batch, queries, keys), q), ctx.maybe_ir(5))
    y = graph.attention(q, k, v, mask, scale=_scale(ctx, shape_of(q)[3]), offset=before, right=right)
    present = concat([reshape(t, (1, *shape_of(t))) for t in (k, v)], 0) if ctx.wants(1) else None
    return [merge_heads(y), present]


@converter("MultiHeadAttention", domain=MICROSOFT)
def multi_head_attention(ctx: NodeContext) -> Sequence[ir.Value | None]:
    """Query [B, S, H*D], or packed [B, S, H, 3, D]; key and value alike [B, T, H*D], packed [B, T, H, 2, D] or in heads [B, H, T, D]."""
    query, key, value, bias = ctx.ir(0), ctx.maybe_ir(1), ctx.maybe_ir(2), ctx.maybe_ir(3)
    heads = ctx.attr("num_heads")
    parts: list[ir.Value | None] = [query, key, value]
    if len(shape_of(query)) == 5:
        parts = _unpack(query, 3)
    elif key is not None and len(shape_of(key)) == 5:
        parts = [query, *_unpack(key, 2)]
    if parts[1] is None or parts[2] is None:
        raise ctx.unsupported("a query without key and value is not supported")
    widths = [shape_of(p)[1] * shape_of(p)[3] if len(shape_of(p)) == 4 else shape_of(p)[2] for p in parts if p is not None]
    headed = []
    for i, part in enumerate(parts):
        assert part is not None
        if len(shape_of(part)) == 3:
            if bias is not None:
                part = add(part, cut(bias, 0, sum(widths[:i]), widths[i]))
            part = split_heads(part, heads)
        headed.append(part)
    q, k, v = headed
    past_k, past_v, before = ctx.maybe_ir(6), ctx.maybe_ir(7), 0
    if past_k is not None and past_v is not None:
        before, k, v = shape_of(past_k)[2], concat([past_k, k], 2), concat([past_v, v], 2)
    batch, _, queries, width = shape_of(q)
    keys = shape_of(k)[2]
    mask = both(_filled(ctx, _key_mask(ctx, ctx.maybe_ir(4), batch, queries, keys), q), ctx.maybe_ir(5))
    right = 0 if ctx.attr("unidirectional", 0) else -1
    y = graph.attention(q, k, v, mask, scale=_scale(ctx, width), offset=before, right=right)
    return [merge_heads(y), k, v]


def _unpack(x: ir.Value, parts: int) -> list[ir.Value | None]:
    """[B, S, H, parts, D] -> parts of [B, S, H*D]."""
    batch, length, heads, _, width = shape_of(x)
    return [reshape(cut(x, 3, i, 1), (batch, length, heads * width)) for i in range(parts)]


@converter("GroupQueryAttention", domain=MICROSOFT)
def group_query_attention(ctx: NodeContext) -> Sequence[ir.Value | None]:
    """Causal attention with a cache. seqlens_k is the number of valid keys less one, per sample; the new keys are the last of these."""
    query, key, value, past_k, past_v = ctx.ir(0), *(ctx.maybe_ir(i) for i in range(1, 5))
    heads, groups = ctx.attr("num_heads"), ctx.attr("kv_num_heads")
    lengths, total = ctx.ir(5), int(ctx.value(6).reshape(()))
    batch, queries, columns = shape_of(query)
    if key is None or value is None:
        width = columns // (heads + 2 * groups)
        sizes = [heads * width, groups * width, groups * width]
        query, key, value = (cut(query, 2, sum(sizes[:i]), n) for i, n in enumerate(sizes))
    q, k, v = split_heads(query, heads), split_heads(key, groups), split_heads(value, groups)
    width, keys_new = shape_of(q)[3], shape_of(k)[2]
    room = shape_of(past_k)[2] if past_k is not None else 0
    first = total == queries  # nothing is cached yet, whatever the buffer holds
    # [B, 1, 1, 1]: how many cached keys each sample has.
    cached = reshape(sub(add(cast(lengths, I64), 1), queries), (batch, 1, 1, 1))
    exact = first or (batch == 1 and room + keys_new == total)
    before = 0 if first else room
    if ctx.attr("do_rotary", 0):
        q, k = _rotated(ctx, q, k, before if exact else cached, queries)
    if past_k is not None and past_v is not None and not (first and room == 0):
        k, v = (_updated(p, t, None if first else cached, max(room, total), joined=exact and not first)
                for p, t in ((past_k, k), (past_v, v)))
    keys = shape_of(k)[2]
    left = ctx.attr("local_window_size", -1)
    left = left - 1 if left > 0 else -1
    mask = ctx.maybe_ir(10)
    if mask is not None and shape_of(mask)[3] > keys:
        mask = cut(mask, 3, 0, keys)
    right = 0
    if not exact:
        mask = both(in_window(queries, keys, cached, left, 0), mask)
        left = right = -1
    y = graph.attention(q, k, v, mask, scale=_scale(ctx, width), offset=before if exact else 0, left=left, right=right,
                        softcap=ctx.attr("softcap", 0.0))
    if ctx.attr("smooth_softmax", 0) or ctx.has(11):
        raise ctx.unsupported("smooth_softmax and head_sink are not supported")
    if ctx.attr("k_quant_type", "NONE") != "NONE" or ctx.attr("v_quant_type", "NONE") != "NONE" or ctx.attr("kv_cache_bit_width", 0):
        raise ctx.unsupported("a quantised cache (k_quant_type, v_quant_type, kv_cache_bit_width) is not supported")
    return [merge_heads(y), k, v]


def _rotated(ctx: NodeContext, q: ir.Value, k: ir.Value, start: ir.Value | int, queries: int) -> list[ir.Value]:
    cos, sin, ids = ctx.ir(7), ctx.ir(8), ctx.maybe_ir(9)
    batch, half = shape_of(q)[0], shape_of(cos)[1]
    if ids is None:
        places = add(positions(queries), start if isinstance(start, int) else reshape(start, (batch, 1)))
        ids = places if len(shape_of(places)) == 2 else reshape(places, (1, queries))
    angles = [reshape(graph.gather(t, ids, axis=0), (shape_of(ids)[0], 1, queries, half)) for t in (cos, sin)]
    interleaved = bool(ctx.attr("rotary_interleaved", 0))
    return [rotate(t, angles[0], angles[1], 2 * half, interleaved=interleaved) for t in (q, k)]


def _updated(past: ir.Value, new: ir.Value, cached: ir.Value | None, room: int, *, joined: bool) -> ir.Value:
    """The cache [B, G, room, D] with `new` put behind the `cached` elements of each sample (None: at the start)."""
    if joined:
        return concat([past, new], 2)
    batch, groups, fresh, width = shape_of(new)
    both_ = concat([new, past], 2)
    place = positions(room)
    start = scalar(0, I64) if cached is None else cached
    # Element t is new[t - start] while that exists, else past[t].
    since = sub(reshape(place, (room, 1)), start)
    is_new = apply("and", apply("le", 0, since), apply("lt", since, fresh))
    source = graph.elementwise("where", is_new, since, apply("min", add(reshape(place, (room, 1)), fresh), fresh + shape_of(past)[2] - 1))
    indices = graph.broadcast(source, shape=[batch, groups, room, width])
    return indexing.gather_elements(both_, indices, axis=2)
