"""Converters of ops that move elements: shapes, slices, concatenation, padding, repetition, blocks <-> channels."""

from collections.abc import Sequence
from math import ceil, prod
from typing import Any

import numpy as np

from mlc.dialects import graph
from mlc.errors import ModelError, ShapeError
from mlc.frontend.onnx.context import NodeContext
from mlc.frontend.onnx.registry import converter
from mlc.frontend.onnx.values import BoundedValue, Tensor
from mlc.ir.mlir import ir


def one_axis(ctx: NodeContext, axis: int, rank: int, *, end: bool = False) -> int:
    """`axis` in 0..rank-1 (with `end`, 0..rank); negative counts from the end."""
    if not -rank <= axis < rank + end:
        raise ModelError(f"axis {axis} is outside of a tensor of rank {rank}", node=ctx.label)
    return axis + rank if axis < 0 else axis


def distinct_axes(ctx: NodeContext, axes: Sequence[Any], rank: int) -> list[int]:
    """Axes in 0..rank-1, each at most once."""
    found = [one_axis(ctx, int(a), rank) for a in axes]
    if len(set(found)) != len(found):
        raise ModelError(f"axes {[int(a) for a in axes]} name a dimension twice", node=ctx.label)
    return found


def integers(ctx: NodeContext, i: int) -> list[int]:
    """The known elements of an integer input, as a list."""
    return [int(v) for v in ctx.value(i).reshape(-1)]


def reshaped(ctx: NodeContext, i: int, shape: Sequence[int]) -> Any:
    """Input `i` under another shape; a known tensor stays known."""
    tensor = ctx.tensor(i)
    shape = tuple(int(d) for d in shape)
    if prod(shape) != tensor.size or min(shape, default=0) < 0:
        raise ShapeError(f"cannot give shape {list(shape)} to {list(tensor.shape)}", node=ctx.label)
    if tensor.shape == shape:
        return tensor
    return tensor.reshaped(shape) if tensor.is_known else graph.reshape(ctx.ir(i), shape=list(shape))


# Views


@converter("Reshape")
def reshape_v1(ctx: NodeContext) -> Sequence[Any]:
    ctx.ignore("consumed_inputs")
    return [_reshape(ctx, list(ctx.attr("shape", [])))]


@converter("Reshape", since=5)
def reshape(ctx: NodeContext) -> Sequence[Any]:
    return [_reshape(ctx, integers(ctx, 1))]


def _reshape(ctx: NodeContext, target: list[int]) -> Any:
    shape, keep_zero = ctx.shape(0), bool(ctx.attr("allowzero", 0))
    if keep_zero and 0 in target and -1 in target:
        raise ModelError(f"shape {target} has both 0 and -1, which allowzero = 1 forbids", node=ctx.label)
    dims = []
    for d, n in enumerate(target):
        if n == 0 and not keep_zero:
            if d >= len(shape):
                raise ModelError(f"shape {target} copies dimension {d} of a tensor of rank {len(shape)}", node=ctx.label)
            n = shape[d]
        dims.append(n)
    if dims.count(-1) > 1 or min(dims, default=0) < -1:
        raise ModelError(f"shape {target} may hold one -1 and no other negative number", node=ctx.label)
    if -1 in dims:
        known = prod(n for n in dims if n != -1)
        if (known == 0 and prod(shape)) or (known and prod(shape) % known):
            raise ShapeError(f"cannot give shape {target} to {list(shape)}", node=ctx.label)
        dims[dims.index(-1)] = prod(shape) // known if known else 0
    return reshaped(ctx, 0, dims)


@converter("Flatten")
def flatten(ctx: NodeContext) -> Sequence[Any]:
    shape = ctx.shape(0)
    axis = one_axis(ctx, ctx.attr("axis", 1), len(shape), end=True)
    return [reshaped(ctx, 0, (prod(shape[:axis]), prod(shape[axis:])))]


@converter("Squeeze")
def squeeze_v1(ctx: NodeContext) -> Sequence[Any]:
    return [_squeeze(ctx, ctx.attr("axes", None))]


@converter("Squeeze", since=13)
def squeeze(ctx: NodeContext) -> Sequence[Any]:
    return [_squeeze(ctx, integers(ctx, 1) if ctx.has(1) else None)]


def _squeeze(ctx: NodeContext, axes: Sequence[int] | None) -> Any:
    shape = ctx.shape(0)
    gone = [d for d, n in enumerate(shape) if n == 1] if axes is None else distinct_axes(ctx, axes, len(shape))
    for d in gone:
        if shape[d] != 1:
            raise ShapeError(f"cannot squeeze dimension {d} of {list(shape)}: it is {shape[d]}, not 1", node=ctx.label)
    return reshaped(ctx, 0, [n for d, n in enumerate(shape) if d not in gone])


@converter("Unsqueeze")
def unsqueeze_v1(ctx: NodeContext) -> Sequence[Any]:
    return [_unsqueeze(ctx, ctx.attr("axes"))]


@converter("Unsqueeze", since=13)
def unsqueeze(ctx: NodeContext) -> Sequence[Any]:
    return [_unsqueeze(ctx, integers(ctx, 1))]


def _unsqueeze(ctx: NodeContext, axes: Sequence[int]) -> Any:
    dims = list(ctx.shape(0))
    for d in sorted(distinct_axes(ctx, axes, len(dims) + len(axes))):
        dims.insert(d, 1)
    return reshaped(ctx, 0, dims)


# Permutations


@converter("Transpose")
def transpose(ctx: NodeContext) -> Sequence[Any]:
    bounded = ctx.input(0)
    whole = bounded.tensor if isinstance(bounded, BoundedValue) else ctx.tensor(0)
    perm = ctx.attr("perm", None)
    perm = list(reversed(range(whole.rank))) if perm is None else distinct_axes(ctx, perm, whole.rank)
    if isinstance(bounded, BoundedValue):  # what exporters make of torch.nonzero
        return [BoundedValue(Tensor.of_ir(graph.transpose(ctx.to_ir(whole), perm=perm)), perm.index(bounded.axis), bounded.count)]
    return [graph.transpose(ctx.ir(0), perm=perm) if perm != sorted(perm) else ctx.tensor(0)]


@converter("DepthToSpace")
def depth_to_space(ctx: NodeContext) -> Sequence[Any]:
    n, c, h, w, s = _blocks(ctx)
    if c % (s * s):
        raise ShapeError(f"blocksize {s} does not divide {c} channels into blocks", node=ctx.label)
    c //= s * s
    # Which of the channel dimension's parts is the slowest: the block (DCR) or the new channel (CRD).
    split, perm = ([n, s, s, c, h, w], [0, 3, 4, 1, 5, 2]) if _is_dcr(ctx) else ([n, c, s, s, h, w], [0, 1, 4, 2, 5, 3])
    return [_rearranged(ctx.ir(0), split, perm, [n, c, h * s, w * s])]


@converter("SpaceToDepth")
def space_to_depth(ctx: NodeContext) -> Sequence[Any]:
    n, c, h, w, s = _blocks(ctx)
    if h % s or w % s:
        raise ShapeError(f"blocksize {s} does not divide {h} x {w}", node=ctx.label)
    h, w = h // s, w // s
    perm = [0, 3, 5, 1, 2, 4] if _is_dcr(ctx) else [0, 1, 3, 5, 2, 4]
    return [_rearranged(ctx.ir(0), [n, c, h, s, w, s], perm, [n, c * s * s, h, w])]


def _blocks(ctx: NodeContext) -> tuple[int, int, int, int, int]:
    shape, size = ctx.shape(0), ctx.attr("blocksize")
    if len(shape) != 4 or size is None or size < 1:
        raise ModelError(f"needs a tensor of rank 4 and a positive blocksize, got {list(shape)} and {size}", node=ctx.label)
    n, c, h, w = shape
    return n, c, h, w, size


def _is_dcr(ctx: NodeContext) -> bool:
    mode = ctx.attr("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise ModelError(f"mode is {mode!r}, expected DCR or CRD", node=ctx.label)
    return mode == "DCR"


def _rearranged(x: ir.Value, split: list[int], perm: list[int], shape: list[int]) -> ir.Value:
    return graph.reshape(graph.transpose(graph.reshape(x, shape=split), perm=perm), shape=shape)


# Parts


@converter("Slice")
def slice_v1(ctx: NodeContext) -> Sequence[Any]:
    starts, ends = ctx.attr("starts"), ctx.attr("ends")
    return [_slice(ctx, starts, ends, ctx.attr("axes", None), None)]


@converter("Slice", since=10)
def slice_(ctx: NodeContext) -> Sequence[Any]:
    axes, steps = (integers(ctx, i) if ctx.has(i) else None for i in (3, 4))
    return [_slice(ctx, integers(ctx, 1), integers(ctx, 2), axes, steps)]


def _slice(ctx: NodeContext, starts: list[int], ends: list[int], axes: list[int] | None, steps: list[int] | None) -> Any:
    shape = ctx.shape(0)
    axes = distinct_axes(ctx, range(len(starts)) if axes is None else axes, len(shape))
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise ModelError(f"starts {starts}, ends {ends}, axes {axes}, steps {steps} must be of one length, and no step 0", node=ctx.label)
    at, sizes, by = [0] * len(shape), list(shape), [1] * len(shape)
    for d, start, end, step in zip(axes, starts, ends, steps, strict=True):
        n = shape[d]
        last = n if step > 0 else n - 1  # where a start or end beyond the tensor is moved to; backwards, an end may be one before the front
        first = max(min(start + n if start < 0 else start, last), 0)
        stop = max(min(end + n if end < 0 else end, last), 0 if step > 0 else -1)
        span = range(first, stop, step) if n else range(0)
        at[d], sizes[d], by[d] = (first, len(span), step) if len(span) else (0, 0, 1)
    return take(ctx.tensor(0), ctx, at, sizes, by)


def take(x: Tensor, ctx: NodeContext, starts: list[int], sizes: list[int], steps: list[int] | None = None) -> Any:
    """A slice of `x`, or `x` itself."""
    steps = [1] * len(sizes) if steps is None else steps
    if tuple(sizes) == x.shape and all(n == 1 or s == 1 for n, s in zip(sizes, steps, strict=True)):
        return x
    return graph.slice(ctx.to_ir(x), starts=starts, sizes=sizes, steps=steps)


@converter("Split")
def split_v1(ctx: NodeContext) -> Sequence[Any]:
    sizes = integers(ctx, 1) if ctx.has(1) else ctx.attr("split", None)
    return _split(ctx, sizes, None)


@converter("Split", since=2)
def split_v2(ctx: NodeContext) -> Sequence[Any]:
    return _split(ctx, ctx.attr("split", None), None)


@converter("Split", since=13)
def split(ctx: NodeContext) -> Sequence[Any]:
    return _split(ctx, integers(ctx, 1) if ctx.has(1) else None, ctx.attr("num_outputs", None))


def _split(ctx: NodeContext, sizes: Sequence[int] | None, count: int | None) -> list[Any]:
    x = ctx.tensor(0)
    axis = one_axis(ctx, ctx.attr("axis", 0), x.rank)
    extent = x.shape[axis]
    if sizes is None:
        count = ctx.out_count if count is None else count
        if not 1 <= count <= max(extent, ctx.out_count) or (ctx.opset < 18 and extent % count):
            raise ShapeError(f"cannot split dimension {axis} of {list(x.shape)} in {count} equal parts", node=ctx.label)
        chunk = ceil(extent / count)
        sizes = [max(min(chunk, extent - k * chunk), 0) for k in range(count)]
    if len(sizes) < ctx.out_count or min(sizes, default=0) < 0 or sum(sizes) != extent:
        raise ShapeError(f"split sizes {list(sizes)} for {ctx.out_count} outputs do not add up to dimension {axis} of {list(x.shape)}",
                         node=ctx.label)
    outputs, at = [], 0
    for i, size in enumerate(sizes):
        shape = [size if d == axis else n for d, n in enumerate(x.shape)]
        outputs.append(take(x, ctx, [at if d == axis and size else 0 for d in range(x.rank)], shape) if ctx.wants(i) else None)
        at += size
    return outputs


# Joins and borders


@converter("Concat")
def concat(ctx: NodeContext) -> Sequence[Any]:
    axis = one_axis(ctx, ctx.attr("axis", 1 if ctx.opset < 4 else None), len(ctx.shape(0)))
    if len(ctx.inputs) == 1:
        return [ctx.tensor(0)]
    return [graph.concat(*ctx.irs(), axis=axis)]


@converter("Pad")
def pad_v1(ctx: NodeContext) -> Sequence[Any]:
    return [padded(ctx, list(ctx.attr("paddings" if ctx.opset < 2 else "pads")), float(ctx.attr("value", 0.0)))]


@converter("Pad", since=11)
def pad(ctx: NodeContext) -> Sequence[Any]:
    pads, rank = integers(ctx, 1), len(ctx.shape(0))
    if ctx.has(3):
        axes = distinct_axes(ctx, integers(ctx, 3), rank)
        if len(pads) != 2 * len(axes):
            raise ModelError(f"has {len(pads)} pads for {len(axes)} axes", node=ctx.label)
        low, high = dict(zip(axes, pads[:len(axes)], strict=True)), dict(zip(axes, pads[len(axes):], strict=False))
        pads = [*[low.get(d, 0) for d in range(rank)], *[high.get(d, 0) for d in range(rank)]]
    value: float | ir.Value = 0.0
    constant = ctx.maybe_tensor(2)
    if ctx.attr("mode", "constant") == "constant" and constant is not None and constant.size:
        value = _pad_value(ctx, constant)
    return [padded(ctx, pads, value)]


def _pad_value(ctx: NodeContext, constant: Tensor) -> float | ir.Value:
    """A number where an f64 holds it exactly, else a scalar operand."""
    if constant.size != 1:
        raise ModelError(f"constant_value has shape {list(constant.shape)}, expected a scalar", node=ctx.label)
    if constant.is_known:
        exact = constant.value.reshape(()).item()
        if isinstance(exact, float) or float(exact) == exact:
            return float(exact)
    return graph.reshape(ctx.to_ir(constant), shape=[])


def padded(ctx: NodeContext, pads: list[int], value: float | ir.Value) -> Any:
    """Input 0 with ONNX `pads` (all low ones, then all high ones)."""
    x, mode = ctx.tensor(0), ctx.attr("mode", "constant")
    if len(pads) != 2 * x.rank:
        raise ModelError(f"has {len(pads)} pads for a tensor of rank {x.rank}", node=ctx.label)
    if mode not in ("constant", "edge", "reflect", "wrap"):
        raise ModelError(f"mode is {mode!r}, expected constant, edge, reflect or wrap", node=ctx.label)
    if not any(pads):
        return x
    low, high = pads[:x.rank], pads[x.rank:]
    if isinstance(value, ir.Value):
        return graph.pad(ctx.ir(0), value, low=low, high=high)
    return graph.pad(ctx.ir(0), low=low, high=high, mode=mode, value=value)


@converter("CenterCropPad", since=18)
def center_crop_pad(ctx: NodeContext) -> Sequence[Any]:
    x, target, axes = ctx.tensor(0), integers(ctx, 1), ctx.attr("axes", None)
    axes = distinct_axes(ctx, range(x.rank) if axes is None else axes, x.rank)
    if len(target) != len(axes) or min(target, default=0) < 0:
        raise ModelError(f"shape {target} must give a size to each of {len(axes)} axes", node=ctx.label)
    low, high = [0] * x.rank, [0] * x.rank
    for d, size in zip(axes, target, strict=True):
        more = abs(size - x.shape[d])
        sign = 1 if size > x.shape[d] else -1
        low[d], high[d] = sign * (more // 2), sign * (more - more // 2)
    return [graph.pad(ctx.ir(0), low=low, high=high) if any([*low, *high]) else x]


# Repetition


@converter("Expand", since=8)
def expand(ctx: NodeContext) -> Sequence[Any]:
    x, target = ctx.tensor(0), integers(ctx, 1)
    try:
        shape = np.broadcast_shapes(x.shape, tuple(target))
    except ValueError:
        raise ShapeError(f"cannot expand {list(x.shape)} to {target}", node=ctx.label) from None
    return [x if shape == x.shape else graph.broadcast(ctx.ir(0), shape=list(shape))]


@converter("Tile")
def tile_v1(ctx: NodeContext) -> Sequence[Any]:
    repeats = [1] * len(ctx.shape(0))
    (count,), (axis,) = integers(ctx, 1), integers(ctx, 2)
    repeats[one_axis(ctx, axis, len(repeats))] = count
    return [_tile(ctx, repeats)]


@converter("Tile", since=6)
def tile(ctx: NodeContext) -> Sequence[Any]:
    return [_tile(ctx, integers(ctx, 1))]


def _tile(ctx: NodeContext, repeats: list[int]) -> Any:
    x = ctx.tensor(0)
    if len(repeats) != x.rank or min(repeats, default=0) < 0:
        raise ModelError(f"repeats {repeats} must give a count to each dimension of {list(x.shape)}", node=ctx.label)
    if all(r == 1 for r in repeats):
        return x
    parted = [n for d in x.shape for n in (1, d)]
    widened = [n for r, d in zip(repeats, x.shape, strict=True) for n in (r, d)]
    repeated = graph.broadcast(graph.reshape(ctx.ir(0), shape=parted), shape=widened)
    return graph.reshape(repeated, shape=[r * d for r, d in zip(repeats, x.shape, strict=True)])
