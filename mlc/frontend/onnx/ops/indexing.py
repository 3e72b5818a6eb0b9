"""Converters of ops that read and write at indices: gathers, scatters, one-hot, triangles, sequences, and what keeps some elements only."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from mlc.dialects import graph
from mlc.dtypes import BOOL, I64
from mlc.errors import ModelError
from mlc.frontend.onnx.context import NodeContext
from mlc.frontend.onnx.ops._emit import apply, cast, cut, reshape, transpose
from mlc.frontend.onnx.ops.movement import one_axis, take
from mlc.frontend.onnx.registry import converter
from mlc.frontend.onnx.values import BoundedValue, Tensor
from mlc.ir.mlir import ir


def bounded(whole: ir.Value, count: ir.Value, axis: int) -> BoundedValue:
    """A result whose size along `axis` is the value of `count`."""
    return BoundedValue(Tensor.of_ir(whole), axis, Tensor.of_ir(count))


# Gathers


@converter("Gather")
def gather(ctx: NodeContext) -> Sequence[Any]:
    x, indices = ctx.tensor(0), ctx.tensor(1)
    axis = one_axis(ctx, ctx.attr("axis", 0), x.rank)
    if indices.is_known and indices.size:
        cut_out = _as_slice(ctx, x, indices, axis)
        if cut_out is not None:
            return [cut_out]
    return [graph.gather(ctx.ir(0), ctx.ir(1), axis=axis)]


def _as_slice(ctx: NodeContext, x: Tensor, indices: Tensor, axis: int) -> Any:
    """Known indices in even steps are a slice, which costs no look-up; None if they are not even."""
    extent, at = x.shape[axis], indices.value.reshape(-1).astype(np.int64)
    if at.min() < -extent or at.max() >= extent:
        raise ModelError(f"an index of {[int(at.min()), int(at.max())]} is outside of dimension {axis} of {list(x.shape)}", node=ctx.label)
    at = np.where(at < 0, at + extent, at)
    steps = np.diff(at)
    step = int(steps[0]) if len(steps) else 1
    if step == 0 or (steps != step).any():
        return None
    starts = [int(at[0]) if d == axis else 0 for d in range(x.rank)]
    sizes = [len(at) if d == axis else n for d, n in enumerate(x.shape)]
    part = take(x, ctx, starts, sizes, [step if d == axis else 1 for d in range(x.rank)])
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1:])
    if isinstance(part, Tensor):
        return part if part.shape == shape else reshape(ctx.to_ir(part), shape)
    return reshape(part, shape)


@converter("GatherElements", since=11)
def gather_elements(ctx: NodeContext) -> Sequence[Any]:
    return [graph.gather_elements(ctx.ir(0), ctx.ir(1), axis=one_axis(ctx, ctx.attr("axis", 0), len(ctx.shape(0))))]


@converter("GatherND", since=11)
@converter("GatherND", domain="com.microsoft")
def gather_nd(ctx: NodeContext) -> Sequence[Any]:
    return [graph.gather_nd(ctx.ir(0), ctx.ir(1), batch_dims=ctx.attr("batch_dims", 0))]


@converter("ArrayFeatureExtractor", domain="ai.onnx.ml")
def array_feature_extractor(ctx: NodeContext) -> Sequence[Any]:
    shape, count = ctx.shape(0), prod(ctx.shape(1))
    picked = graph.gather(ctx.ir(0), reshape(ctx.ir(1), [count]), axis=len(shape) - 1)
    return [reshape(picked, [*(shape[:-1] or [1]), count])]


# Scatters


@converter("Scatter", since=9)
@converter("ScatterElements", since=11)
def scatter_elements(ctx: NodeContext) -> Sequence[Any]:
    axis = one_axis(ctx, ctx.attr("axis", 0), len(ctx.shape(0)))
    return [graph.scatter_elements(*_scattered(ctx), axis=axis, reduction=_reduction(ctx))]


@converter("ScatterND", since=11)
def scatter_nd(ctx: NodeContext) -> Sequence[Any]:
    return [graph.scatter_nd(*_scattered(ctx), reduction=_reduction(ctx))]


def _scattered(ctx: NodeContext) -> list[ir.Value]:
    return [ctx.ir(0), ctx.ir(1), ctx.ir(2)]


def _reduction(ctx: NodeContext) -> str:
    reduction: str = ctx.attr("reduction", "none")
    if ctx.dtype(0).kind == "b":  # sums and products of truth values
        return {"add": "max", "mul": "min"}.get(reduction, reduction)
    return reduction


@converter("TensorScatter", since=24)
def tensor_scatter(ctx: NodeContext) -> Sequence[Any]:
    shape, mode = ctx.shape(0), ctx.attr("mode", "linear")
    if mode not in ("linear", "circular"):
        raise ModelError(f"mode is {mode!r}, expected linear or circular", node=ctx.label)
    axis = one_axis(ctx, ctx.attr("axis", -2), len(shape))
    starts = ctx.ir(2) if ctx.has(2) else ctx.const(np.zeros(shape[0], np.int64))
    return [graph.update(ctx.ir(0), ctx.ir(1), starts, axis=axis, circular=mode == "circular")]


# Made from indices


@converter("OneHot", since=9)
def one_hot(ctx: NodeContext) -> Sequence[Any]:
    indices, depth = cast(ctx.ir(0), I64), int(ctx.value(1).reshape(-1)[0])
    shape = ctx.shape(0)
    axis = one_axis(ctx, ctx.attr("axis", -1), len(shape) + 1)
    if depth < 0 or prod(ctx.shape(2)) != 2:
        raise ModelError(f"needs a depth of 0 or more and two values, got {depth} and {list(ctx.shape(2))}", node=ctx.label)
    at = reshape(apply("where", apply("lt", indices, 0), apply("add", indices, depth), indices), [*shape[:axis], 1, *shape[axis:]])
    places = graph.iota([depth, *[1] * (len(shape) - axis)], 0, I64)
    off, on = (reshape(cut(ctx.ir(2), 0, k, 1), []) for k in (0, 1))
    return [graph.elementwise("where", graph.elementwise("eq", at, places), on, off)]


@converter("Trilu", since=14)
def trilu(ctx: NodeContext) -> Sequence[Any]:
    k = reshape(ctx.ir(1), []) if ctx.has(1) else ctx.const(np.array(0, np.int64))
    return [graph.trilu(ctx.ir(0), k, upper=bool(ctx.attr("upper", 1)))]


@converter("ReverseSequence", since=10)
def reverse_sequence(ctx: NodeContext) -> Sequence[Any]:
    rank = len(ctx.shape(0))
    time, batch = (one_axis(ctx, ctx.attr(name, default), rank) for name, default in (("time_axis", 0), ("batch_axis", 1)))
    return [graph.reverse_sequence(ctx.ir(0), ctx.ir(1), time=time, batch=batch)]


@converter("EyeLike", since=9)
def eye_like(ctx: NodeContext) -> Sequence[Any]:
    shape = ctx.shape(0)
    if len(shape) != 2:
        raise ModelError(f"takes a matrix, got {list(shape)}", node=ctx.label)
    diagonal = apply("sub", graph.iota([1, shape[1]], 1, I64), ctx.attr("k", 0))
    return [cast(graph.elementwise("eq", diagonal, graph.iota([shape[0], 1], 0, I64)), ctx.dtype_attr("dtype", ctx.dtype(0)))]


@converter("ConstantOfShape", since=9)
def constant_of_shape(ctx: NodeContext) -> Sequence[Any]:
    value = ctx.attr("value", None)
    value = np.zeros(1, np.float32) if value is None else value
    if value.size != 1:
        raise ModelError(f"value has {value.size} elements, expected 1", node=ctx.label)
    shape = [int(d) for d in ctx.value(0).reshape(-1)]
    if min(shape, default=0) < 0:
        raise ModelError(f"the shape is {shape}: no dimension may be negative", node=ctx.label)
    return [np.full(shape, value.reshape(())) if prod(shape) <= graph.SMALL else graph.broadcast(ctx.const(value.reshape(())), shape=shape)]


# As many results as there happen to be


@converter("NonZero", since=9)
def nonzero(ctx: NodeContext) -> Sequence[Any]:
    return [bounded(*graph.nonzero(reshape(ctx.ir(0), ctx.shape(0) or [1])), axis=1)]  # a scalar counts as a vector of one


@converter("Compress", since=9)
def compress(ctx: NodeContext) -> Sequence[Any]:
    shape, axis = list(ctx.shape(0)), ctx.attr("axis", None)
    if len(ctx.shape(1)) != 1 or ctx.dtype(1) != BOOL:
        raise ModelError(f"condition is {ctx.dtype(1)} {list(ctx.shape(1))}, expected a bool vector", node=ctx.label)
    if axis is None:
        x, shape, axis = reshape(ctx.ir(0), [prod(shape)]), [prod(shape)], 0
    else:
        x, axis = ctx.ir(0), one_axis(ctx, axis, len(shape))
    length = min(ctx.shape(1)[0], shape[axis])
    if ctx.tensor(1).is_known:
        return [graph.gather(x, ctx.const(np.flatnonzero(ctx.value(1)[:length])), axis=axis)]
    order = [axis, *[d for d in range(len(shape)) if d != axis]]
    kept, count = graph.compress(transpose(x, order), cut(ctx.ir(1), 0, 0, length))
    return [bounded(transpose(kept, [order.index(d) for d in range(len(shape))]), count, axis)]
