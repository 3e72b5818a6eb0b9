"""Pooling: explicit padding, a windowed reduction, and for averages a division by counts known at compile time."""

from collections.abc import Sequence
from math import prod

import numpy as np

from mlc.dialects import graph
from mlc.dialects.graph import indexing
from mlc.dialects.graph.reduce import lowest
from mlc.errors import ModelError
from mlc.frontend.onnx.context import NodeContext
from mlc.frontend.onnx.ops._emit import apply, cast, div, dtype_of, mul, pad, reshape, scalar, shape_of, wide
from mlc.frontend.onnx.ops._window import Window, window_of
from mlc.frontend.onnx.registry import converter
from mlc.ir.mlir import ir


def _window(ctx: NodeContext, x: ir.Value) -> Window:
    kernel = ctx.attr("kernel_shape", None)
    if kernel is None or len(shape_of(x)) < 3:
        raise ModelError(f"needs kernel_shape and an input of rank 3 or more, got {kernel} and {list(shape_of(x))}", node=ctx.label)
    return window_of(ctx, shape_of(x)[2:], kernel, ceil=bool(ctx.attr("ceil_mode", 0)))


def _padded(x: ir.Value, window: Window, value: float) -> ir.Value:
    return pad(x, [0, 0, *window.low], [0, 0, *[h + e for h, e in zip(window.high, window.extra)]], value)


@converter("MaxPool")
def max_pool(ctx: NodeContext) -> Sequence[ir.Value | None]:
    x = ctx.ir(0)
    window = _window(ctx, x)
    padded = _padded(x, window, lowest(dtype_of(x)))
    taps = {"kernel": window.kernel, "strides": window.strides, "dilations": window.dilations, "axis": 2}
    column_major = bool(ctx.attr("storage_order", 0))
    outputs: list[ir.Value | None] = [graph.pool(padded, kind="max", **taps), None]
    if ctx.wants(1):
        outputs[1] = graph.max_pool_indices(padded, **taps, low=window.low, size=list(shape_of(x)[2:]), column_major=column_major)
    return outputs


def _sum_pool(x: ir.Value, window: Window) -> ir.Value:
    return graph.pool(_padded(x, window, 0.0), kind="sum", kernel=window.kernel, strides=window.strides, dilations=window.dilations, axis=2)


@converter("AveragePool")
def average_pool(ctx: NodeContext) -> Sequence[ir.Value]:
    x = ctx.ir(0)
    window, dtype = _window(ctx, x), dtype_of(x)
    total = _sum_pool(cast(x, wide(dtype)), window)
    for d in range(window.rank):
        counts = _counts(window, d, shape_of(x)[2 + d], include=bool(ctx.attr("count_include_pad", 0)))
        if (counts == counts[0]).all():
            total = div(total, float(counts[0]))
        else:
            total = div(total, ctx.const(counts.astype(wide(dtype).numpy).reshape(-1, *[1] * (window.rank - d - 1))))
    return [cast(total, dtype)]


def _counts(window: Window, d: int, extent: int, *, include: bool) -> np.ndarray:
    """How many elements each window along dimension d averages: those of the input, or of the declared padding too."""
    place = np.arange(window.size[d])[:, None] * window.strides[d] + np.arange(window.kernel[d])[None] * window.dilations[d]
    low, high = (0, window.low[d] + extent + window.high[d]) if include else (window.low[d], window.low[d] + extent)
    return np.maximum(((place >= low) & (place < high)).sum(1), 1)


@converter("LpPool")
def lp_pool(ctx: NodeContext) -> Sequence[ir.Value]:
    x, p = ctx.ir(0), float(ctx.attr("p", 2))
    powers = power(apply("abs", cast(x, wide(dtype_of(x)))), p)
    return [cast(power(_sum_pool(powers, _window(ctx, x)), 1 / p), dtype_of(x))]


def power(x: ir.Value, p: float) -> ir.Value:
    """x**p for x >= 0."""
    if p == 1:
        return x
    if p == 2:
        return mul(x, x)
    return apply("sqrt", x) if p == 0.5 else apply("pow", x, p)


@converter("GlobalAveragePool")
def global_average_pool(ctx: NodeContext) -> Sequence[ir.Value]:
    return [_global(ctx.ir(0), "mean")]


@converter("GlobalMaxPool")
def global_max_pool(ctx: NodeContext) -> Sequence[ir.Value]:
    return [_global(ctx.ir(0), "max")]


@converter("GlobalLpPool")
def global_lp_pool(ctx: NodeContext) -> Sequence[ir.Value]:
    x, p = ctx.ir(0), float(ctx.attr("p", 2))
    if p in (1, 2):
        return [_global(x, f"l{int(p)}")]
    total = _global(power(apply("abs", cast(x, wide(dtype_of(x)))), p), "sum")
    return [cast(power(total, 1 / p), dtype_of(x))]


def _global(x: ir.Value, kind: str) -> ir.Value:
    return graph.reduce(x, kind=kind, axes=list(range(2, len(shape_of(x)))), keepdims=True)


@converter("MaxUnpool")
def max_unpool(ctx: NodeContext) -> Sequence[ir.Value]:
    x, indices, wanted = ctx.tensor(0), ctx.tensor(1), ctx.maybe_value(2)
    kernel, rank = ctx.attr("kernel_shape"), x.rank - 2
    strides, pads = ctx.attr("strides", None) or [1] * rank, ctx.attr("pads", None) or [0] * 2 * rank
    if len(kernel) != rank or len(strides) != rank or len(pads) != 2 * rank:
        raise ModelError(f"kernel {kernel}, strides {strides} and pads {pads} do not fit {rank} spatial dimensions", node=ctx.label)
    pooled = [(n - 1) * s - lo - hi + k for n, s, lo, hi, k in zip(x.shape[2:], strides, pads, pads[rank:], kernel)]
    shape = [*x.shape[:2], *pooled]
    zeros = graph.broadcast(scalar(0, x.dtype), shape=[prod(shape)])
    flat = indexing.scatter_elements(zeros, reshape(ctx.to_ir(indices), [indices.size]), reshape(ctx.to_ir(x), [x.size]), axis=0)
    y = reshape(flat, shape)
    if wanted is None:
        return [y]
    if len(wanted) != len(shape) or any(int(w) < s for w, s in zip(wanted, shape)):
        raise ModelError(f"output_shape {wanted.tolist()} is smaller than the unpooled {shape}", node=ctx.label)
    return [pad(y, [0] * len(shape), [int(w) - s for w, s in zip(wanted, shape)])]


__all__ = ["power"]
