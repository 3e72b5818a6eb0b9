"""Converters of ops that put elements in order: TopK, Unique, NonMaxSuppression; and the n-gram counter."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from mlc.dialects import graph
from mlc.dtypes import F32, I64
from mlc.errors import ModelError, ShapeError
from mlc.frontend.onnx.context import NodeContext
from mlc.frontend.onnx.ops._emit import apply, cast, reshape, scalar, transpose
from mlc.frontend.onnx.ops.indexing import bounded
from mlc.frontend.onnx.ops.movement import one_axis
from mlc.frontend.onnx.registry import converter
from mlc.ir.mlir import ir


@converter("TopK")
def topk_v1(ctx: NodeContext) -> Sequence[Any]:
    return _topk(ctx, ctx.attr("k"))


@converter("TopK", since=10)
def topk(ctx: NodeContext) -> Sequence[Any]:
    ctx.ignore("sorted")  # without it any order will do
    return _topk(ctx, int(ctx.value(1).reshape(-1)[0]))


def _topk(ctx: NodeContext, k: int) -> Sequence[Any]:
    shape = ctx.shape(0)
    axis = one_axis(ctx, ctx.attr("axis", -1), len(shape))
    if not 0 <= k <= shape[axis]:
        raise ShapeError(f"cannot take {k} elements along dimension {axis} of {list(shape)}", node=ctx.label)
    return list(graph.topk(ctx.ir(0), k=k, axis=axis, largest=bool(ctx.attr("largest", 1))))


@converter("Unique", since=11)
def unique(ctx: NodeContext) -> Sequence[Any]:
    x, shape, axis = ctx.ir(0), list(ctx.shape(0)), ctx.attr("axis", None)
    if axis is None:
        x, shape, axis = reshape(x, [prod(shape)]), [prod(shape)], 0
    else:
        axis = one_axis(ctx, axis, len(shape))
    order = [axis, *[d for d in range(len(shape)) if d != axis]]
    moved = [shape[d] for d in order]
    flat = reshape(transpose(x, order), [moved[0], prod(moved[1:])])
    rows, first, inverse, counts, number = graph.unique(flat, in_order=bool(ctx.attr("sorted", 1)))
    y = transpose(reshape(rows, moved), [order.index(d) for d in range(len(shape))])
    return [bounded(y, number, axis), bounded(first, number, 0), inverse, bounded(counts, number, 0)]


@converter("NonMaxSuppression", since=10)
def non_max_suppression(ctx: NodeContext) -> Sequence[Any]:
    batches, classes, boxes = ctx.shape(1, rank=3)
    limit = ctx.maybe_tensor(2)
    each = boxes if limit is not None else 0
    if limit is not None and limit.is_known:
        each = max(min(boxes, int(limit.value.reshape(-1)[0])), 0) if limit.size else 0
    if not batches * classes * each:
        for i in (0, 3, 4):
            ctx.input(i)
        ctx.ignore("center_point_box")
        return [np.zeros((0, 3), np.int64)]

    def number(i: int, absent: float) -> ir.Value:
        return reshape(ctx.ir(i), []) if ctx.has(i) and prod(ctx.shape(i)) else scalar(absent, F32)

    kept, count = graph.nms(ctx.ir(0), ctx.ir(1), reshape(ctx.ir(2), []), number(3, 0.0), number(4, -np.inf), rows=batches * classes * each,
                            centered=bool(ctx.attr("center_point_box", 0)))
    return [bounded(kept, count, 0)]


@converter("TfIdfVectorizer", since=9)
def tfidf(ctx: NodeContext) -> Sequence[Any]:
    """Counts each n-gram of the pool: windows of the input, at every allowed spacing, compared with all n-grams of one length at a time."""
    if ctx.has_attr("pool_strings"):
        raise ctx.unsupported("n-grams of strings are not supported")
    shape, mode = ctx.shape(0), ctx.attr("mode")
    low, high, skips = (ctx.attr(name) for name in ("min_gram_length", "max_gram_length", "max_skip_count"))
    pool, starts, places, weights = (ctx.attr(name, None) or [] for name in ("pool_int64s", "ngram_counts", "ngram_indexes", "weights"))
    if mode not in ("TF", "IDF", "TFIDF") or not 1 <= len(shape) <= 2:
        raise ModelError(f"needs a mode TF, IDF or TFIDF and an input of rank 1 or 2, got {mode!r} and {list(shape)}", node=ctx.label)
    rows, length = (1, shape[0]) if len(shape) == 1 else shape
    x = reshape(cast(ctx.ir(0), I64), [rows, length])
    size, done = max(places) + 1, 0
    parts: list[ir.Value] = []
    for n, (begin, end) in enumerate(zip(starts, [*starts[1:], len(pool)], strict=True), 1):
        grams = np.array(pool[begin:end], np.int64).reshape(-1, n)
        columns = places[done:done + len(grams)]
        done += len(grams)
        if low <= n <= high and len(grams):
            parts += [_occurrences(x, grams, columns, size, step) for step in range(1, 2 + (skips if n > 1 else 0))]
    if not parts:
        return [np.zeros((*shape[:-1], size), np.float32)]
    total = parts[0]
    for part in parts[1:]:
        total = apply("add", total, part)
    if mode == "IDF":
        total = apply("min", total, 1.0)
    if mode != "TF" and weights:
        factors = np.ones(size, np.float32)
        factors[places] = weights
        total = apply("mul", total, ctx.const(factors))
    return [reshape(total, [*shape[:-1], size])]


def _occurrences(x: ir.Value, grams: np.ndarray, columns: Sequence[int], size: int, step: int) -> ir.Value:
    """[rows, size]: how often each n-gram, its items `step` apart, occurs in each row, in the n-gram's column."""
    rows, length = graph.TensorType.of(x).shape
    count, n = grams.shape
    windows = length - (n - 1) * step
    if windows < 1:
        return graph.constant(np.zeros((1, size), np.float32))
    found = None
    for k in range(n):
        items = graph.slice(x, starts=[0, k * step], sizes=[rows, windows], steps=[1, 1])
        same = graph.elementwise("eq", reshape(items, [rows, windows, 1]), graph.constant(grams[:, k].reshape(1, 1, count)))
        found = same if found is None else graph.elementwise("and", found, same)
    spread = np.zeros((count, size), np.float32)
    spread[range(count), columns] = 1
    return graph.einsum("rwg,gs->rs", graph.cast(found, F32), graph.constant(spread))
