"""Reading between elements: resampling along an axis, sampling at run-time coordinates, pooling of regions of interest."""

from collections.abc import Sequence
from itertools import product
from typing import Any

from mlc.dialects._build import Builder, Tensor
from mlc.dialects._ext import Operand, Operands, Result, VerifyError
from mlc.dialects.graph._base import GraphOp, TensorType, builder
from mlc.dialects.graph.reduce import lowest
from mlc.dtypes import BOOL, F32, I64
from mlc.ir.scalar import Scalar, compute_dtype, select

SAMPLE_MODES = ("nearest", "linear", "cubic")
PADDINGS = ("zeros", "border", "reflection")
CUBIC = -0.75


class ResampleOp(GraphOp, name="resample"):
    """y[.., o, ..] = sum over k of weights[o, k] * x[.., indices[o, k], ..] along `axis`, in at least f32. Indices are in range.

    Example: %y = "graph.resample"(%x, %i, %w) {axis = 2} : (tensor<1x3x4xf32>, tensor<8x2xi64>, tensor<8x2xf32>) -> tensor<1x3x8xf32>
    """

    x: Operand
    indices: Operand
    weights: Operand
    axis: int
    y: Result

    @staticmethod
    def infer(types: list[TensorType], axis: int) -> list[TensorType]:
        x, indices, weights = types
        if not 0 <= axis < x.rank or indices.rank != 2 or indices.shape != weights.shape or indices.dtype != I64:
            raise VerifyError(f"needs i64 indices and weights of one shape [outputs, taps], got {indices.mlir()} and {weights.mlir()}")
        if not x.dtype.is_float or weights.dtype != compute_dtype(x.dtype):
            raise VerifyError(f"needs floats and weights of {compute_dtype(x.dtype)}, got {x.dtype} and {weights.dtype}")
        return [x.with_shape((*x.shape[:axis], indices.shape[0], *x.shape[axis + 1:]))]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        (x, indices, weights), out, axis = xs, self.types[0], self.py("axis")
        taps = indices.shape[1]

        def element(*v: Scalar) -> Scalar:
            total: Any = None
            for i, w in zip(v[:taps], v[taps:]):
                at = [i.max(0).min(x.shape[axis] - 1) if d == axis else b.index(d) for d in range(out.rank)]
                term = w * b.load(x, at)
                total = term if total is None else total + term
            return total

        reads = [(t, lambda *i, k=k: [i[axis], k]) for t in (indices, weights) for k in range(taps)]
        return [b.gather_compute(out.shape, out.dtype, reads, [x], element)]


class GridSampleOp(GraphOp, name="grid_sample"):
    """x [N, C, D1..Dr] at the points of grid [N, O1..Or, r], whose last dimension counts Dr first, in coordinates from -1 to 1.

    mode: nearest (ties to even), linear, cubic (a = -0.75). padding: zeros, border, reflection. align_corners: -1 and 1 are the centres of
    the border elements, not their outer edges.

    Example: %y = "graph.grid_sample"(%x, %g) {mode = "linear", padding = "zeros"}
                  : (tensor<1x3x8x9xf32>, tensor<1x4x5x2xf32>) -> tensor<1x3x4x5xf32>
    """

    x: Operand
    grid: Operand
    mode: str = "linear"
    padding: str = "zeros"
    align_corners: bool = False
    y: Result

    @staticmethod
    def infer(types: list[TensorType], mode: str = "linear", padding: str = "zeros", align_corners: bool = False) -> list[TensorType]:
        x, grid = types
        if mode not in SAMPLE_MODES or padding not in PADDINGS:
            raise VerifyError(f"has mode '{mode}' and padding '{padding}', expected one of {SAMPLE_MODES} and {PADDINGS}")
        fits = grid.rank == x.rank and grid.shape[0] == x.shape[0] and grid.shape[-1] == x.rank - 2
        if not fits or not x.dtype.is_float or not grid.dtype.is_float:
            raise VerifyError(f"cannot sample {x.mlir()} at {grid.mlir()}")
        return [x.with_shape((*x.shape[:2], *grid.shape[1:-1]))]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        (x, grid), out = xs, self.types[0]
        mode, padding, aligned = self.py("mode"), self.py("padding"), self.py("align_corners")
        extents = list(x.shape[2:])
        acc = compute_dtype(out.dtype)

        def element(*g: Scalar) -> Scalar:
            axes, lead = [], [b.index(0), b.index(1)]
            for extent, v in zip(extents, reversed(g)):
                at = (v + 1) / 2.0 * float(extent - 1) if aligned else ((v + 1) * float(extent) - 1) / 2.0
                at = at.math("roundeven") if mode == "nearest" else at
                low, high = (0.0, extent - 1.0) if aligned else (-0.5, extent - 0.5)
                if padding == "border" and mode != "cubic":  # cubic brings in each of its elements instead, as PyTorch and onnxruntime do
                    at = at.max(0.0).min(extent - 1.0)
                elif padding == "reflection":
                    at = select((at < low) | (at > high), _reflect(at, low, high), at)
                at = select(at.is_nan(), b.constant(0, at.dtype), at).max(-1e9).min(1e9)
                axes.append([(*_bring_in(p, extent, low, high, padding), w.to(acc)) for p, w in _taps(at, mode)])
            total = b.constant(0, acc)
            for corner in product(*axes):
                weight, inside = corner[0][2], corner[0][1]
                for _, more, w in corner[1:]:
                    weight, inside = weight * w, more if inside is None else inside if more is None else inside & more
                value = b.load(x, [*lead, *[c[0] for c in corner]])
                total = total + weight * (value if inside is None else select(inside, value, b.constant(0, acc)))
            return total

        reads = [(grid, lambda *i, k=k: [i[0], *i[2:], k]) for k in range(len(extents))]
        return [b.gather_compute(out.shape, out.dtype, reads, [x], element)]


def _taps(at: Scalar, mode: str) -> list[tuple[Scalar, Scalar]]:
    """(position, weight) of the elements that make up the value at coordinate `at`."""
    if mode == "nearest":
        one = at * 0.0 + 1.0
        return [(at.to(I64), one)]
    floor = at.math("floor")
    t, first = at - floor, floor.to(I64)
    if mode == "linear":
        return [(first, 1.0 - t), (first + 1, t)]

    def far(d: Scalar) -> Scalar:
        return ((CUBIC * d - 5 * CUBIC) * d + 8 * CUBIC) * d - 4 * CUBIC

    def near(d: Scalar) -> Scalar:
        return ((CUBIC + 2) * d - (CUBIC + 3)) * d * d + 1.0

    return [(first - 1, far(t + 1)), (first, near(t)), (first + 1, near(1.0 - t)), (first + 2, far(2.0 - t))]


def _bring_in(i: Scalar, extent: int, low: float, high: float, padding: str) -> tuple[Scalar, Scalar | None]:
    """A position of the tensor to load for position i, and whether that is the value (None: always) or zero stands there."""
    inside = None
    if padding == "zeros":
        inside = (i >= 0) & (i < extent)
    elif padding == "reflection":
        f = i.to(F32)
        i = select((f < low) | (f > high), _reflect(f, low, high), f).to(I64)
    return i.max(0).min(extent - 1), inside


def _reflect(v: Scalar, low: float, high: float) -> Scalar:
    """The coordinate mirrored at low and high until it is between them."""
    span = high - low
    if span <= 0:
        return v * 0.0 + low
    past = select(v < low, low - v, v - low)
    # Distance from `low`, folded: up for one span, down for the next. Infinite input would make NaN here; callers clear that.
    turns = (past / span).math("floor")
    rest = past - turns * span
    odd = (turns - (turns * 0.5).math("floor") * 2.0) >= 0.5
    return select(odd, high - rest, low + rest)


class DeformSampleOp(GraphOp, name="deform_sample"):
    """The columns of a deformable convolution: x [N, C, H, W], offset [N, G*K*2, OH, OW], mask [N, G*K, OH, OW] -> [N, C, K, OH, OW].

    K = kernel positions, row-major; column k at (oh, ow) reads x, linearly and with zeros outside, at oh*stride + kh*dilation - pad +
    offset, times the mask (if there is one). Channel c uses the offsets of group c / (C/G).

    Example: %y = "graph.deform_sample"(%x, %o) {kernel = [2, 2], strides = [1, 1], dilations = [1, 1], pads = [0, 0], groups = 1}
                  : (tensor<1x3x3x3xf32>, tensor<1x8x2x2xf32>) -> tensor<1x3x4x2x2xf32>
    """

    inputs: Operands
    kernel: list
    strides: list
    dilations: list
    pads: list
    groups: int
    y: Result

    @staticmethod
    def infer(types: list[TensorType], kernel: list, strides: list, dilations: list, pads: list, groups: int) -> list[TensorType]:
        x, offset = types[:2]
        taps = kernel[0] * kernel[1]
        if x.rank != 4 or offset.rank != 4 or offset.shape[1] != groups * taps * 2 or x.shape[1] % groups:
            raise VerifyError(f"cannot sample {x.mlir()} at offsets {offset.mlir()} in {groups} groups of {taps} taps")
        if len(types) == 3 and types[2].shape != (offset.shape[0], groups * taps, *offset.shape[2:]):
            raise VerifyError(f"has a mask {list(types[2].shape)} for offsets {list(offset.shape)}")
        return [x.with_shape((*x.shape[:2], taps, *offset.shape[2:]))]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        x, out, groups, kernel = xs[0], self.types[0], self.py("groups"), self.py("kernel")
        strides, dilations, pads = self.py("strides"), self.py("dilations"), self.py("pads")
        n, c, taps, oh, ow = out.shape
        acc = compute_dtype(out.dtype)
        offset = b.view(xs[1], (n, groups, taps, 2, oh, ow))
        shape = (n, groups, c // groups, taps, oh, ow)
        reads: list[Any] = [(offset, lambda n, g, c, k, h, w, d=d: (n, g, k, d, h, w)) for d in range(2)]
        if len(xs) == 3:
            reads.append((b.view(xs[2], (n, groups, taps, oh, ow)), lambda n, g, c, k, h, w: (n, g, k, h, w)))

        def element(*v: Scalar) -> Scalar:
            tap, axes = b.index(3), []
            steps = [tap / kernel[1], tap.rem(kernel[1])]
            for d, extent in enumerate(x.shape[2:]):
                at = (b.index(4 + d) * strides[d] + steps[d] * dilations[d] - pads[d]).to(acc) + v[d].to(acc)
                at = at.max(-1e9).min(1e9)
                axes.append([(*_bring_in(p, extent, 0, 0, "zeros"), w) for p, w in _taps(at, "linear")])
            channel = b.index(1) * (c // groups) + b.index(2)
            total = b.constant(0, acc)
            for (y, y_in, wy), (z, z_in, wz) in product(*axes):
                assert y_in is not None and z_in is not None
                total = total + wy * wz * select(y_in & z_in, b.load(x, [b.index(0), channel, y, z]), b.constant(0, acc))
            return total * v[2].to(acc) if len(v) == 3 else total

        return [b.view(b.gather_compute(shape, out.dtype, reads, [x], element), out.shape)]


class RoiAlignOp(GraphOp, name="roi_align"):
    """ONNX RoiAlign: x [N, C, H, W], rois [R, 4] (x1, y1, x2, y2), batch [R] -> [R, C, height, width].

    sampling: points per bin and dimension; 0: as many as the bin is elements wide, found at run time. mode: avg, max.

    Example: %y = "graph.roi_align"(%x, %r, %b) {mode = "avg", height = 5, width = 5, sampling = 2, scale = 1.0, half_pixel = true}
                  : (tensor<1x3x10x10xf32>, tensor<3x4xf32>, tensor<3xi64>) -> tensor<3x3x5x5xf32>
    """

    x: Operand
    rois: Operand
    batch: Operand
    mode: str
    height: int
    width: int
    sampling: int
    scale: float
    half_pixel: bool
    y: Result

    @staticmethod
    def infer(types: list[TensorType], height: int, width: int, **attrs: Any) -> list[TensorType]:
        x, rois, batch = types
        if x.rank != 4 or rois.rank != 2 or rois.shape[1] != 4 or batch.shape != rois.shape[:1] or not x.dtype.is_float:
            raise VerifyError(f"cannot pool {x.mlir()} in regions {rois.mlir()} of batch {batch.mlir()}")
        return [x.with_shape((rois.shape[0], x.shape[1], height, width))]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        (x, rois, batch), out, mode = xs, self.types[0], self.py("mode")
        acc, sampling = compute_dtype(out.dtype), self.py("sampling")
        shift = 0.5 if self.py("half_pixel") else 0.0

        def element(*v: Scalar) -> Scalar:
            x1, y1, x2, y2 = (c.to(acc) * self.py("scale") - shift for c in v[:4])
            n = v[4].to(I64).max(0).min(x.shape[0] - 1)
            starts, bins, counts = [], [], []
            for low, high, parts in ((y1, y2, out.shape[2]), (x1, x2, out.shape[3])):
                size = high - low if self.py("half_pixel") else (high - low).max(1.0)
                starts.append(low)
                bins.append(size / float(parts))
                counts.append(b.constant(sampling, I64) if sampling else bins[-1].math("ceil").max(0.0).min(1e6).to(I64))

            place, channel = [b.index(d).to(acc) for d in (2, 3)], b.index(1)  # loop indices are out of reach inside b.for_

            def point(iy: Scalar, ix: Scalar) -> list[Scalar]:
                """The four weighted corners of a sample."""
                corners, inside = [], b.constant(True, BOOL)
                for d, i in enumerate((iy, ix)):
                    extent = x.shape[2 + d]
                    at = starts[d] + place[d] * bins[d] + (i.to(acc) + 0.5) * bins[d] / counts[d].to(acc)
                    inside = inside & (at >= -1.0) & (at <= float(extent))
                    at = at.max(0.0).min(extent - 1.0)
                    low = at.to(I64).max(0).min(extent - 1)
                    t = at - low.to(acc)
                    corners.append([(low, 1.0 - t), ((low + 1).min(extent - 1), t)])
                return [select(inside, wy * wx * b.load(x, [n, channel, py, px]), b.constant(0, acc))
                        for (py, wy), (px, wx) in product(*corners)]

            def fold(total: Scalar, values: Sequence[Scalar]) -> Scalar:
                for value in values:
                    total = total.max(value) if mode == "max" else total + value
                return total

            start = b.constant(lowest(acc) if mode == "max" else 0, acc)
            total = b.for_(0, counts[0], [start], lambda iy, t: b.for_(0, counts[1], [t], lambda ix, t: [fold(t, point(iy, ix))]))[0]
            count = counts[0] * counts[1]
            if mode == "max":
                return select(count.eq(0), b.constant(0, acc), total)
            return total / count.max(1).to(acc)

        reads = [*[(rois, lambda r, c, h, w, k=k: (r, k)) for k in range(4)], (batch, lambda r, c, h, w: (r,))]
        return [b.gather_compute(out.shape, out.dtype, reads, [x], element)]


class RoiMaxOp(GraphOp, name="roi_max"):
    """ONNX MaxRoiPool: x [N, C, H, W], rois [R, 5] (batch, x1, y1, x2, y2, corners included) -> [R, C, height, width].

    Example: %y = "graph.roi_max"(%x, %r) {height = 2, width = 2, scale = 0.5}
                  : (tensor<1x3x8x8xf32>, tensor<3x5xf32>) -> tensor<3x3x2x2xf32>
    """

    x: Operand
    rois: Operand
    height: int
    width: int
    scale: float
    y: Result

    @staticmethod
    def infer(types: list[TensorType], height: int, width: int, scale: float) -> list[TensorType]:
        x, rois = types
        if x.rank != 4 or rois.rank != 2 or rois.shape[1] != 5:
            raise VerifyError(f"cannot pool {x.mlir()} in regions {rois.mlir()}")
        return [x.with_shape((rois.shape[0], x.shape[1], height, width))]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        (x, rois), out = xs, self.types[0]
        acc = compute_dtype(out.dtype)

        def rounded(v: Scalar) -> Scalar:
            return (v.abs() + 0.5).math("floor").to(I64) * select(v < 0.0, b.constant(-1, I64), b.constant(1, I64))

        def element(*v: Scalar) -> Scalar:
            n = v[0].to(I64).max(0).min(x.shape[0] - 1)
            x1, y1, x2, y2 = (rounded(c * self.py("scale")) for c in v[1:])
            ranges = []
            for d, (low, high, parts) in enumerate(((y1, y2, out.shape[2]), (x1, x2, out.shape[3]))):
                size, extent = (high - low + 1).max(1), x.shape[2 + d]
                step, i = size.to(acc) / float(parts), b.index(2 + d).to(acc)
                first = (i * step).math("floor").to(I64) + low
                last = ((i + 1) * step).math("ceil").to(I64) + low
                ranges.append((first.max(0).min(extent), last.max(0).min(extent)))
            (y_from, y_to), (x_from, x_to) = ranges
            channel = b.index(1)  # out of reach inside b.for_
            total = b.for_(y_from, y_to, [b.constant(lowest(acc), acc)], lambda y, t: b.for_(
                x_from, x_to, [t], lambda z, t: [t.max(b.load(x, [n, channel, y, z]))]))[0]
            return select((y_from >= y_to) | (x_from >= x_to), b.constant(0, acc), total)

        reads = [(rois, lambda r, c, h, w, k=k: (r, k)) for k in range(5)]
        return [b.gather_compute(out.shape, out.dtype, reads, [x], element)]


resample = builder(ResampleOp)
grid_sample = builder(GridSampleOp)
deform_sample = builder(DeformSampleOp)
roi_align = builder(RoiAlignOp)
roi_max = builder(RoiMaxOp)

__all__ = ["DeformSampleOp", "GridSampleOp", "ResampleOp", "RoiAlignOp", "RoiMaxOp", "deform_sample", "grid_sample", "resample",
           "roi_align", "roi_max"]
