"""Image ops: Resize and Upsample (separable, by tables), sampling at run-time coordinates, regions of interest."""

from collections.abc import Sequence
from math import prod

import numpy as np

from mlc.dialects import graph
from mlc.errors import ModelError
from mlc.frontend.onnx.context import NodeContext
from mlc.frontend.onnx.ops._emit import apply, cast, dtype_of, reshape, shape_of, wide
from mlc.frontend.onnx.ops._resize import Interpolation, Taps
from mlc.frontend.onnx.ops.reduce import axis_of
from mlc.frontend.onnx.registry import converter
from mlc.ir.mlir import ir

MAX_GRID = 1 << 28  # points of an AffineGrid
MAX_TAPS = 4  # more taps per element (antialiasing) are a matrix product


@converter("Upsample")
def upsample(ctx: NodeContext) -> Sequence[ir.Value]:
    x, rank = ctx.ir(0), len(ctx.shape(0))
    scales = ctx.value(1) if ctx.has(1) else ctx.attr("scales", None)
    if scales is None:
        scales = [*[1.0] * (rank - 2), ctx.attr("height_scale"), ctx.attr("width_scale")]
    return [_resize_by(ctx, x, [float(s) for s in scales], _simple(ctx))]


@converter("Resize", since=10)
def resize_10(ctx: NodeContext) -> Sequence[ir.Value]:
    return [_resize_by(ctx, ctx.ir(0), [float(s) for s in ctx.value(1)], _simple(ctx))]


def _simple(ctx: NodeContext) -> Interpolation:
    """The one interpolation that Upsample and the first Resize know."""
    mode = ctx.attr("mode", "nearest")
    return Interpolation("linear" if mode in ("linear", "bilinear") else mode, "asymmetric", "floor")


def _resize_by(ctx: NodeContext, x: ir.Value, scales: list[float], how: Interpolation) -> ir.Value:
    shape = shape_of(x)
    if len(scales) != len(shape) or min(scales) <= 0:
        raise ModelError(f"scales {scales} do not fit an input of rank {len(shape)}", node=ctx.label)
    return _resize(ctx, x, list(range(len(shape))), scales, [int(np.floor(n * s)) for n, s in zip(shape, scales)], None, how, 0.0)


@converter("Resize", since=11)
def resize(ctx: NodeContext) -> Sequence[ir.Value]:
    x = ctx.ir(0)
    shape = shape_of(x)
    axes = [axis_of(ctx, a, len(shape)) for a in (ctx.attr("axes", None) or range(len(shape)))]
    how = Interpolation(ctx.attr("mode", "nearest"), ctx.attr("coordinate_transformation_mode", "half_pixel"),
                        ctx.attr("nearest_mode", "round_prefer_floor"), ctx.attr("cubic_coeff_a", -0.75), bool(ctx.attr("antialias", 0)),
                        bool(ctx.attr("exclude_outside", 0)))
    if how.mode not in ("nearest", "linear", "cubic"):
        raise ModelError(f"mode is {how.mode!r}, expected nearest, linear or cubic", node=ctx.label)
    # The value of roi matters to one mode only; elsewhere it may be anything, known or not.
    roi = ctx.maybe_value(1) if how.coordinates == "tf_crop_and_resize" else None
    ctx.input(1)
    scales, sizes = (ctx.maybe_value(i) for i in (2, 3))
    policy, extents = ctx.attr("keep_aspect_ratio_policy", "stretch"), [shape[a] for a in axes]
    if sizes is not None and sizes.size:
        size = [int(s) for s in sizes]
        factors = [s / n for s, n in zip(size, extents)]
        if policy in ("not_larger", "not_smaller"):
            one = min(factors) if policy == "not_larger" else max(factors)
            factors, size = [one] * len(axes), [int(one * n + 0.5) for n in extents]
    elif scales is not None and scales.size:
        factors = [float(s) for s in scales]
        size = [int(np.floor(f * n)) for f, n in zip(factors, extents)]
    else:
        raise ModelError("needs scales or sizes", node=ctx.label)
    if len(size) != len(axes) or min(size, default=0) < 0:
        raise ModelError(f"sizes {size} do not fit {len(axes)} axes", node=ctx.label)
    regions = None if roi is None or not roi.size else [(float(roi[i]), float(roi[len(axes) + i])) for i in range(len(axes))]
    return [_resize(ctx, x, axes, factors, size, regions, how, ctx.attr("extrapolation_value", 0.0))]


def _resize(ctx: NodeContext, x: ir.Value, axes: list[int], scales: list[float], size: list[int],
            regions: list[tuple[float, float]] | None, how: Interpolation, fill: float) -> ir.Value:
    dtype, tables = dtype_of(x), {}
    for i, axis in enumerate(axes):
        extent, region = shape_of(x)[axis], regions[i] if regions else None
        if size[i] != extent or scales[i] != 1.0 or region not in (None, (0.0, 1.0)):
            try:
                tables[axis] = how.along(extent, size[i], scales[i], region)
            except ValueError as error:
                raise ModelError(str(error), node=ctx.label) from error
    x = _repeat(x, tables)
    blended = any(not t.is_copy or t.outside.any() for t in tables.values())
    if blended:
        x = cast(x, wide(dtype))
    for axis, table in tables.items():
        x = _apply(ctx, x, axis, table, fill)
    if not blended or dtype.is_float:
        return cast(x, dtype)
    low, high = (0.0, 2.0**dtype.bits - 1) if dtype.kind == "u" else (-2.0**(dtype.bits - 1), 2.0**(dtype.bits - 1) - 1)
    return cast(apply("min", apply("max", apply("round", x), low), high), dtype)


def _repeat(x: ir.Value, tables: dict[int, Taps]) -> ir.Value:
    """Axes whose elements are each repeated a fixed number of times are done by broadcasting; they leave `tables`."""
    shape = list(shape_of(x))
    narrow, wide_, final = [], [], []
    for axis, n in enumerate(shape):
        table = tables.get(axis)
        times = 0
        if table is not None and n and len(table.indices) % n == 0 and table.is_copy and not table.outside.any():
            times = len(table.indices) // n
        if times > 1 and table is not None and np.array_equal(table.indices[:, 0], np.arange(n * times) // times):
            del tables[axis]
            narrow += [n, 1]
            wide_ += [n, times]
            final.append(n * times)
        else:
            narrow.append(n)
            wide_.append(n)
            final.append(n)
    return x if narrow == wide_ else reshape(graph.broadcast(reshape(x, narrow), shape=wide_), final)


def _apply(ctx: NodeContext, x: ir.Value, axis: int, table: Taps, fill: float) -> ir.Value:
    extent, dtype, rank = shape_of(x)[axis], dtype_of(x), len(shape_of(x))
    if table.is_copy:
        x = graph.gather(x, ctx.const(table.indices[:, 0]), axis=axis)
    elif table.indices.shape[1] <= MAX_TAPS:
        x = graph.resample(x, ctx.const(table.indices), ctx.const(table.weights.astype(dtype.numpy)), axis=axis)
    else:
        letters = "abcdefghijklmnop"[:rank]
        matrix = ctx.const(table.dense(extent).astype(dtype.numpy))
        x = graph.einsum(f"{letters},z{letters[axis]}->{letters.replace(letters[axis], 'z')}", x, matrix)
    if table.outside.any():
        x = apply("where", ctx.const(table.outside.reshape(-1, *[1] * (rank - axis - 1))), fill, x)
    return x


@converter("GridSample")
def grid_sample(ctx: NodeContext) -> Sequence[ir.Value]:
    x, grid = ctx.ir(0), ctx.ir(1)
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(ctx.attr("mode", "linear"), ctx.attr("mode", "linear"))
    dtype = dtype_of(x)
    y = graph.grid_sample(cast(x, wide(dtype)) if not dtype.is_float else x, grid, mode=mode, padding=ctx.attr("padding_mode", "zeros"),
                          align_corners=bool(ctx.attr("align_corners", 0)))
    return [cast(y, dtype)]


@converter("AffineGrid")
def affine_grid(ctx: NodeContext) -> Sequence[ir.Value]:
    """The map theta [N, r, r+1] of the homogeneous coordinates of every output element, which are known; the last dimension comes first."""
    theta, size = ctx.ir(0), [int(d) for d in ctx.value(1)]
    n, spatial = size[0], size[2:]
    if min(size) < 0 or prod(spatial) > MAX_GRID:
        raise ModelError(f"a grid of size {size} is negative, or too large to be held as a constant", node=ctx.label)
    if shape_of(theta) != (n, len(spatial), len(spatial) + 1):
        raise ModelError(f"theta {list(shape_of(theta))} does not fit size {size}", node=ctx.label)
    steps = [np.linspace(-1, 1, d) if ctx.attr("align_corners", 0) else (np.arange(d) * 2 + 1) / d - 1 for d in spatial]
    points = np.stack([*reversed(np.meshgrid(*steps, indexing="ij")), np.ones(spatial)], -1).reshape(1, prod(spatial), len(spatial) + 1)
    grid = graph.matmul(ctx.const(points.astype(dtype_of(theta).numpy)), theta, transpose_b=True)
    return [reshape(grid, (n, *spatial, len(spatial)))]


@converter("RoiAlign")
def roi_align(ctx: NodeContext) -> Sequence[ir.Value]:
    # Before opset 16 there was no choice, and coordinates were not shifted by half a pixel.
    mode = ctx.attr("coordinate_transformation_mode", "half_pixel") if ctx.opset >= 16 else "output_half_pixel"
    if mode not in ("half_pixel", "output_half_pixel"):
        raise ModelError(f"coordinate_transformation_mode is {mode!r}", node=ctx.label)
    return [graph.roi_align(ctx.ir(0), ctx.ir(1), ctx.ir(2), mode=ctx.attr("mode", "avg"), height=ctx.attr("output_height", 1),
                            width=ctx.attr("output_width", 1), sampling=ctx.attr("sampling_ratio", 0),
                            scale=float(ctx.attr("spatial_scale", 1.0)), half_pixel=mode == "half_pixel")]


@converter("MaxRoiPool")
def max_roi_pool(ctx: NodeContext) -> Sequence[ir.Value]:
    height, width = ctx.attr("pooled_shape")
    return [graph.roi_max(ctx.ir(0), ctx.ir(1), height=height, width=width, scale=float(ctx.attr("spatial_scale", 1.0)))]


@converter("Det")
def det(ctx: NodeContext) -> Sequence[ir.Value]:
    x = ctx.ir(0)
    shape = shape_of(x)
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ModelError(f"needs square matrices, got {list(shape)}", node=ctx.label)
    y = graph.determinant(reshape(x, (prod(shape[:-2]), *shape[-2:])))
    return [reshape(y, shape[:-2])]
