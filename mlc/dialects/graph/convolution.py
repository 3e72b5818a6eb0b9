"""graph.conv and graph.conv_transpose: each one affine contraction over channels and taps; padding is a separate op."""

from collections.abc import Callable, Sequence
from typing import Any

from mlc.dialects._build import Builder, Tensor
from mlc.dialects._ext import Operand, Result, VerifyError
from mlc.dialects.graph._base import GraphOp, TensorType, builder
from mlc.dialects.graph.movement import window
from mlc.ir.scalar import Scalar, compute_dtype, select

LAYOUTS = ("nchw", "nhwc")


class ConvOp(GraphOp, name="conv"):
    """Convolution without padding over any number of spatial dimensions: y[n, o, m] = sum x[n, o*stride + k*dilation, c] * w[m, c, k].

    layout nchw: x [N, C, spatial...], w [M, C/groups, kernel...], y [N, M, spatial...].
    layout nhwc: x [N, spatial..., C], w [kernel..., C/groups, M], y [N, spatial..., M].
    Floats accumulate in (at least) f32; integers wrap.

    Example: %y = "graph.conv"(%x, %w) {strides = [2, 2], dilations = [1, 1], groups = 1, layout = "nchw"}
                  : (tensor<1x3x9x9xf32>, tensor<8x3x3x3xf32>) -> tensor<1x8x4x4xf32>
    """

    x: Operand
    w: Operand
    strides: list
    dilations: list
    groups: int = 1
    layout: str = "nchw"
    y: Result

    @staticmethod
    def infer(types: list[TensorType], strides: list, dilations: list, groups: int = 1, layout: str = "nchw") -> list[TensorType]:
        x, w = types
        rank = _check(x, w, layout, strides, dilations)
        size, kernel, channels = spatial(x.shape, layout), _kernel(w.shape, layout), _channels(x.shape, layout)
        per_group, maps = (w.shape[1], w.shape[0]) if layout == "nchw" else w.shape[-2:]
        if groups < 1 or channels != per_group * groups or maps % groups:
            raise VerifyError(f"with {groups} groups cannot take {channels} channels to {maps} by weights of {per_group} channels")
        out = []
        for i in range(rank):
            reach = dilations[i] * (kernel[i] - 1) + 1
            if size[i] < reach:
                raise VerifyError(f"has a window of {reach} over {size[i]} elements in spatial dimension {i}")
            out.append((size[i] - reach) // strides[i] + 1)
        return [x.with_shape((x.shape[0], maps, *out) if layout == "nchw" else (x.shape[0], *out, maps))]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        out, layout = self.types[0], self.py("layout")
        groups, strides, dilations = self.py("groups"), self.py("strides"), self.py("dilations")
        kernel, depth = _kernel(xs[1].shape, layout), _channels(xs[0].shape, layout) // groups
        nest = _Nest(layout, groups, [[d] for d in range(len(kernel))], depth, {d: k for d, k in enumerate(kernel) if k > 1})

        def place(d: int, q: list[Any], tap: Any) -> Any:
            return q[0] * strides[d] + tap * dilations[d]

        x, w = (nest.split(b, t, axis) for t, axis in zip(xs, (1, 0) if layout == "nchw" else (-1, -1)))
        weight = ("g", "m", "c", "k") if layout == "nchw" else ("k", "c", "g", "m")
        reads = [(x, nest.read(nest.activation, place)), (w, nest.read(weight, lambda d, q, tap: [tap]))]
        total = b.reduce(nest.grouped(out.shape), nest.over, compute_dtype(out.dtype), 0, reads, lambda s, p, q: s + p * q)
        return [b.view(b.cast(total, out.dtype), out.shape)]


class ConvTransposeOp(GraphOp, name="conv_transpose"):
    """The transpose of a convolution: y[n, o, m] = sum x[n, i, c] * w[c, m, k] over all c, i, k with i*stride + k*dilation - pad == o.

    size: spatial extents of the result. pads: how many leading positions of the full result are cut off, per dimension.
    layout nchw: x [N, C, spatial...], w [C, M/groups, kernel...]; nhwc: x [N, spatial..., C], w [kernel..., C, M/groups].

    Example: %y = "graph.conv_transpose"(%x, %w) {strides = [2], dilations = [1], pads = [1], size = [8], groups = 1, layout = "nchw"}
                  : (tensor<1x3x4xf32>, tensor<3x8x4xf32>) -> tensor<1x8x8xf32>
    """

    x: Operand
    w: Operand
    strides: list
    dilations: list
    pads: list
    size: list
    groups: int = 1
    layout: str = "nchw"
    y: Result

    @staticmethod
    def infer(types: list[TensorType], strides: list, dilations: list, pads: list, size: list, groups: int = 1,
              layout: str = "nchw") -> list[TensorType]:
        x, w = types
        rank = _check(x, w, layout, strides, dilations)
        channels = _channels(x.shape, layout)
        own, per_group = w.shape[:2] if layout == "nchw" else w.shape[-2:]
        if len(size) != rank or len(pads) != rank or min(size, default=0) < 0:
            raise VerifyError(f"needs {rank} pads and result extents, got {pads} and {size}")
        if groups < 1 or channels != own or channels % groups:
            raise VerifyError(f"with {groups} groups cannot apply weights of {own} channels to {channels} channels")
        maps = per_group * groups
        return [x.with_shape((x.shape[0], maps, *size) if layout == "nchw" else (x.shape[0], *size, maps))]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        """Positions o = q*stride + r get a loop over q and one over the phase r. Phase r meets every stride-th tap, so the sum is affine:
        with k = stride*j + r it reads x[q - j]. The kernel is padded to whole multiples of the stride, and reversed to read x forwards.
        """
        out, layout, groups = self.types[0], self.py("layout"), self.py("groups")
        x, w = xs
        first_x, first_w = (2, 2) if layout == "nchw" else (1, 0)
        dims = [_Phase(*v) for v in zip(self.py("strides"), self.py("dilations"), self.py("pads"), self.py("size"),
                                        spatial(x.shape, layout), _kernel(w.shape, layout))]
        for d, phase in enumerate(dims):
            w = phase.arrange(b, w, first_w + 2 * d)
        low, high = [0] * x.rank, [0] * x.rank
        for d, phase in enumerate(dims):
            low[first_x + d], high[first_x + d] = max(0, -phase.start), max(0, phase.stop - phase.extent)
        x = pad(b, x, low, high)

        nest = _Nest(layout, groups, [[2 * d, 2 * d + 1] for d in range(len(dims))], _channels(x.shape, layout) // groups,
                     {d: phase.taps for d, phase in enumerate(dims)})
        x, w = nest.split(b, x, 1 if layout == "nchw" else -1), nest.split(b, w, 0 if layout == "nchw" else -2)

        def place(d: int, q: list[Any], tap: Any) -> Any:
            phase = dims[d]
            return q[0] + q[1] * phase.carry + tap * phase.dilation + max(0, phase.start)

        weight = ("g", "c", "m", "k") if layout == "nchw" else ("k", "g", "c", "m")
        reads = [(x, nest.read(nest.activation, place)), (w, nest.read(weight, lambda d, q, tap: [tap, q[1]]))]
        split = [e for phase in dims for e in (phase.count, phase.stride)]
        whole = (out.shape[0], _channels(out.shape, layout))
        shape = nest.grouped((*whole, *split) if layout == "nchw" else (whole[0], *split, whole[1]))
        total = b.reduce(shape, nest.over, compute_dtype(out.dtype), 0, reads, lambda s, p, q: s + p * q)
        full = [phase.count * phase.stride for phase in dims]
        y = b.view(b.cast(total, out.dtype), (*whole, *full) if layout == "nchw" else (whole[0], *full, whole[1]))
        if y.shape == out.shape:
            return [y]
        offsets = [0] * y.rank
        offsets[first_x:first_x + len(dims)] = [phase.cut for phase in dims]
        return [window(b, y, offsets, out.shape, [1] * y.rank)]


class _Phase:
    """One spatial dimension of a transposed convolution: result position = (count index)*stride + phase - cut, tap = stride*j + phase."""

    def __init__(self, stride: int, dilation: int, low: int, size: int, extent: int, kernel: int) -> None:
        self.stride, self.extent, self.kernel = stride, extent, kernel
        self.spread = dilation if stride > 1 else 1  # zeros put between taps, where phases and dilation do not mix
        self.dilation = dilation if stride == 1 else 1
        self.reach = (kernel - 1) * self.spread + 1
        offset = low % stride
        # An offset shifts the phases; that is affine for two phases only: they swap, and the second one reads one element further.
        self.carry = 1 if stride == 2 and offset == 1 else 0
        self.cut = 0 if self.carry else offset
        self.count = -(-(size + self.cut) // stride)
        self.taps = -(-self.reach // stride)
        self.start = low // stride - (self.taps - 1) * self.dilation  # x position of count index 0, first (reversed) tap
        self.stop = low // stride + self.count + self.carry  # one past the last x position read

    def arrange(self, b: Builder, w: Tensor, axis: int) -> Tensor:
        """The kernel along `axis` as [reversed taps, phases]."""
        low, high = [0] * w.rank, [0] * w.rank
        if self.spread > 1:
            w = b.view(w, (*w.shape[:axis + 1], 1, *w.shape[axis + 1:]))
            w = pad(b, w, [0] * w.rank, [self.spread - 1 if d == axis + 1 else 0 for d in range(w.rank)])
            w = b.view(w, (*w.shape[:axis], w.shape[axis] * self.spread, *w.shape[axis + 2:]))
        total = self.taps * self.stride
        high[axis] = max(0, total - w.shape[axis])
        w = pad(b, w, low, high)

        def read(*i: Any) -> list[Any]:
            phase = 1 - i[axis + 1] if self.carry else i[axis + 1]
            return [*i[:axis], (self.taps - 1 - i[axis]) * self.stride + phase, *i[axis + 2:]]

        return b.compute((*w.shape[:axis], self.taps, self.stride, *w.shape[axis + 1:]), w.dtype, [(w, read)], lambda v: v)


class _Nest:
    """The loops of a grouped convolution: batch, groups (if several), channels and positions of the result; then channels and taps summed.

    positions: for each spatial dimension its result loops, counted within the spatial ones. taps: extent of each dimension that has a
    loop over taps.
    """

    def __init__(self, layout: str, groups: int, positions: list[list[int]], depth: int, taps: dict[int, int]) -> None:
        self.layout, self.groups, self.taps, self.rank = layout, groups, taps, len(positions)
        extra, inner = int(groups > 1), sum(len(p) for p in positions)
        # A depthwise convolution has no loop over channels, but some reduction loop must remain.
        self.has_channels = depth > 1 or not taps
        self.over = [*([depth] if self.has_channels else []), *taps.values()]
        self.loops = 2 + extra + inner
        self.g, first = (1, 2 + extra) if layout == "nchw" else (1 + inner, 1)
        self.m = self.g + extra
        self.positions = [[first + p for p in ps] for ps in positions]
        self.activation = ("n", "g", "c", "o") if layout == "nchw" else ("n", "o", "g", "c")

    def split(self, b: Builder, t: Tensor, axis: int) -> Tensor:
        """A view with the groups of dimension `axis` as a dimension of their own, so that reads stay affine."""
        return b.view(t, self._split(t.shape, axis % t.rank))

    def grouped(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of the result in that form."""
        return self._split(shape, 1 if self.layout == "nchw" else len(shape) - 1)

    def _split(self, shape: Sequence[int], axis: int) -> tuple[int, ...]:
        if self.groups == 1:
            return tuple(shape)
        return (*shape[:axis], self.groups, shape[axis] // self.groups, *shape[axis + 1:])

    def read(self, order: Sequence[str], place: Callable[[int, list[Any], Any], Any]) -> Callable[..., list[Any]]:
        """The indices of an operand whose dimensions stand in `order` (n, g, m, c, and o or k for the spatial ones, said by `place`)."""

        def indices(*i: Any) -> list[Any]:
            found: list[Any] = []
            for kind in order:
                if kind == "g":
                    found += [i[self.g]] if self.groups > 1 else []
                elif kind in "ok":
                    for d, loops in enumerate(self.positions):
                        tap = i[self.loops + self.has_channels + list(self.taps).index(d)] if d in self.taps else 0
                        at = place(d, [i[p] for p in loops], tap)
                        found += at if isinstance(at, list) else [at]
                else:
                    found.append({"n": i[0], "m": i[self.m], "c": i[self.loops] if self.has_channels else 0}[kind])
            return found

        return indices


def pad(b: Builder, t: Tensor, low: Sequence[int], high: Sequence[int]) -> Tensor:
    """`t` with zeros around it."""
    if not any(low) and not any(high):
        return t
    shape = [lo + d + hi for lo, d, hi in zip(low, t.shape, high)]
    dtype = compute_dtype(t.dtype)

    def body() -> Scalar:
        inside, at = None, []
        for axis, (lo, d, hi) in enumerate(zip(low, t.shape, high)):
            i = b.index(axis)
            if lo or hi:
                i = i - lo
                ok = (i >= 0) & (i < d)
                inside = ok if inside is None else inside & ok
                i = i.max(0).min(d - 1)
            at.append(i)
        assert inside is not None
        return select(inside, b.load(t, at), b.constant(0, dtype))

    if t.shape == () or 0 in t.shape:
        return b.compute(shape, t.dtype, [], lambda: b.constant(0, dtype))
    return b.gather_compute(shape, t.dtype, [], [t], body, before=low)


def spatial(shape: Sequence[int], layout: str) -> tuple[int, ...]:
    """The spatial extents of an activation."""
    return tuple(shape[2:] if layout == "nchw" else shape[1:-1])


def _kernel(shape: Sequence[int], layout: str) -> tuple[int, ...]:
    return tuple(shape[2:] if layout == "nchw" else shape[:-2])


def _channels(shape: Sequence[int], layout: str) -> int:
    return shape[1] if layout == "nchw" else shape[-1]


def _check(x: TensorType, w: TensorType, layout: str, strides: list, dilations: list) -> int:
    if layout not in LAYOUTS:
        raise VerifyError(f"has layout '{layout}', expected one of {', '.join(LAYOUTS)}")
    rank = x.rank - 2
    if rank < 0 or w.rank != x.rank or len(strides) != rank or len(dilations) != rank:
        raise VerifyError(f"needs x, w of one rank with {rank} strides and dilations, got {x.mlir()}, {w.mlir()}, {strides}, {dilations}")
    if min([*strides, *dilations], default=1) < 1:
        raise VerifyError(f"needs positive strides and dilations, got {strides} and {dilations}")
    if x.dtype != w.dtype:
        raise VerifyError(f"needs operands of one element type, got {x.dtype} and {w.dtype}")
    return rank


conv = builder(ConvOp)
conv_transpose = builder(ConvTransposeOp)

__all__ = ["LAYOUTS", "ConvOp", "ConvTransposeOp", "conv", "conv_transpose", "spatial"]
