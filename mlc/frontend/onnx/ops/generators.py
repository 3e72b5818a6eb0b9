"""Tensors made from numbers that are known at compile time: ranges, windows, the mel filter bank."""

from collections.abc import Callable, Sequence
from math import ceil, isfinite, log, pi
from typing import Any

import numpy as np

from mlc.dialects import graph
from mlc.dtypes import F32, F64, DType
from mlc.errors import ModelError
from mlc.frontend.onnx.context import NodeContext
from mlc.frontend.onnx.ops._emit import add, cast, mul
from mlc.frontend.onnx.registry import converter

MAX_EXTENT = 1 << 40


def _number(ctx: NodeContext, i: int) -> Any:
    """Input `i`, one element, as a Python number."""
    value = ctx.value(i)
    if value.size != 1:
        raise ModelError(f"input {ctx.input_name(i)} has shape {list(value.shape)}, expected one element", node=ctx.label)
    return value.reshape(-1).astype(value.dtype if value.dtype.kind in "iu" else np.float64)[0].item()


@converter("Range", since=11)
def range_(ctx: NodeContext) -> Sequence[Any]:
    """`start + i * delta`; narrow floats are computed in f32 whatever `stash_type` says of f32 or f64, and rounded once."""
    start, limit, delta = (_number(ctx, i) for i in range(3))
    dtype = ctx.dtype(0)
    if (stash := ctx.attr("stash_type", 1)) not in (1, 11):
        raise ModelError(f"stash_type is {stash}, expected 1 (float) or 11 (double)", node=ctx.label)
    if delta == 0 or not all(isfinite(v) for v in (start, limit, delta)):
        raise ModelError(f"cannot count from {start} to {limit} in steps of {delta}", node=ctx.label)
    exact = dtype.is_integer
    count = max(0, -((start - limit) // delta) if exact else ceil((limit - start) / delta))
    if count > MAX_EXTENT:
        raise ModelError(f"counting from {start} to {limit} in steps of {delta} makes {count} elements", node=ctx.label)
    inner = dtype if exact or dtype == F64 else F32
    if count <= graph.SMALL:
        steps = np.arange(count).astype(inner.numpy)
        with np.errstate(all="ignore"):
            return [(np.array(start).astype(inner.numpy) + steps * np.array(delta).astype(inner.numpy)).astype(dtype.numpy)]
    return [cast(add(mul(graph.iota([count], 0, inner), delta), start), dtype)]


def _window(*weights: float) -> Callable[[NodeContext], Sequence[Any]]:
    """The sum of weights[k] * cos(2 pi k i / n) over the points i of a window."""

    def convert(ctx: NodeContext) -> Sequence[Any]:
        size, dtype = _extent(ctx, 0), ctx.dtype_attr("output_datatype", F32)
        period = size if ctx.attr("periodic", 1) else max(size - 1, 1)
        angle = 2 * pi / max(period, 1) * np.arange(size)
        return [_as(sum(w * np.cos(k * angle) for k, w in enumerate(weights)), dtype)]

    return convert


converter("HannWindow", since=17)(_window(0.5, -0.5))
converter("HammingWindow", since=17)(_window(25 / 46, -21 / 46))
converter("BlackmanWindow", since=17)(_window(0.42, -0.5, 0.08))


def _extent(ctx: NodeContext, i: int) -> int:
    n = _number(ctx, i)
    if not 0 <= n <= 1 << 24:
        raise ModelError(f"input {ctx.input_name(i)} is {n}, expected a size of at most {1 << 24}", node=ctx.label)
    return int(n)


def _as(values: Any, dtype: DType) -> np.ndarray:
    return np.asarray(values, np.float64).astype(dtype.numpy)


@converter("MelWeightMatrix", since=17)
def mel_weight_matrix(ctx: NodeContext) -> Sequence[Any]:
    """Triangles of height 1 over the bins of a spectrum, equally spaced in mel."""
    bands, length, rate = (_extent(ctx, i) for i in range(3))
    if not bands or not rate:
        raise ModelError(f"needs at least one band and a sample rate, got {bands} and {rate}", node=ctx.label)
    low, high = (2595 * np.log1p(_number(ctx, i) / 700) / log(10) for i in (3, 4))
    mel = np.arange(bands + 2) * ((high - low) / (bands + 2)) + low
    edges = ((length + 1) * (700 * np.expm1(mel / 2595 * log(10))) // rate).astype(int)
    bins = length // 2 + 1
    if edges.min() < 0 or edges.max() > bins:
        raise ModelError(f"the edges of the bands reach bin {edges.max()} of a spectrum of {bins}", node=ctx.label)
    weights = np.zeros((bins + 1, bands))
    for i, (left, centre, right) in enumerate(zip(edges, edges[1:], edges[2:])):
        weights[left:centre + 1, i] = np.linspace(0, 1, centre - left + 1) if centre > left else 1
        if right > centre:
            weights[centre:right, i] = np.linspace(1, 0, right - centre + 1)[:-1]
    return [_as(weights[:bins], ctx.dtype_attr("output_datatype", F32))]
