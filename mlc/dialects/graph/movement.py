"""Ops that move elements and compute nothing: views, permutations, slices, concatenation, padding, broadcasting, gathering, counting."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from mlc.dialects._build import Builder, Tensor, part_width
from mlc.dialects._ext import Operand, Operands, Result, VerifyError
from mlc.dialects.graph._base import GraphOp, TensorType, builder, create
from mlc.dialects.graph.elementwise import broadcast as broadcast_shapes
from mlc.dialects.graph.elementwise import broadcast_read
from mlc.dtypes import BY_NAME, I64, DType
from mlc.ir.mlir import ir
from mlc.ir.scalar import Scalar, compute_dtype, constant, select

PAD_MODES = ("constant", "edge", "reflect", "wrap")
SELECT_LIMIT = 4  # concat of at most this many operands is one select chain (it fuses); beyond, it is one copy per operand
WIDE_LIMIT = 16  # of a wide machine, which takes more in several such chains: loads that are not picked are cheaper than a plain loop


def zeros(b: Builder, shape: Sequence[int], dtype: DType) -> Tensor:
    """A tensor of zeros; what the ops give when there is no element to read."""
    return b.compute(shape, dtype, [], lambda: b.constant(0, dtype))


def in_range(i: Scalar, extent: int) -> Scalar:
    """`i` clamped to the positions of a dimension."""
    return i.max(0).min(extent - 1)


def wrapped(i: Scalar, extent: int) -> Scalar:
    """An ONNX index (of any integer type): negative counts from the end; then clamped, so that no load leaves the tensor."""
    i = i.to(I64)
    return in_range(select(i < 0, i + extent, i), extent)


def checked(i: Scalar, extent: int) -> tuple[Scalar, Scalar]:
    """An index with negative ones counted from the end, clamped; and whether it was in range."""
    i = i.to(I64)
    i = select(i < 0, i + extent, i)
    return in_range(i, extent), (i >= 0) & (i < extent)


class ReshapeOp(GraphOp, name="reshape"):
    """The same elements, row-major, under another shape.

    Example: %y = "graph.reshape"(%x) {shape = [6]} : (tensor<2x3xf32>) -> tensor<6xf32>
    """

    x: Operand
    shape: list
    y: Result

    @staticmethod
    def infer(types: list[TensorType], shape: list) -> list[TensorType]:
        if min(shape, default=0) < 0 or prod(shape) != types[0].size:
            raise VerifyError(f"cannot give shape {shape} to the {types[0].size} elements of {list(types[0].shape)}")
        return [types[0].with_shape(shape)]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        return [b.view(xs[0], self.types[0].shape)]


class TransposeOp(GraphOp, name="transpose"):
    """Dimension d of the result is dimension perm[d] of x.

    Example: %y = "graph.transpose"(%x) {perm = [1, 0]} : (tensor<2x3xf32>) -> tensor<3x2xf32>
    """

    x: Operand
    perm: list
    y: Result

    @staticmethod
    def infer(types: list[TensorType], perm: list) -> list[TensorType]:
        x = types[0]
        if sorted(perm) != list(range(x.rank)):
            raise VerifyError(f"has perm {perm}, expected a permutation of 0..{x.rank - 1}")
        return [x.with_shape([x.shape[p] for p in perm])]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        perm, out = self.py("perm"), self.types[0]
        moved = [p for p in perm if xs[0].shape[p] != 1]
        if moved == sorted(moved):  # only dimensions of 1 change place
            return [b.view(xs[0], out.shape)]
        return [b.compute(out.shape, out.dtype, [(xs[0], lambda *i: [i[perm.index(d)] for d in range(len(perm))])], lambda x: x)]


class SliceOp(GraphOp, name="slice"):
    """y[i...] = x[starts + i*steps]: `sizes` elements per dimension; steps may be negative.

    Example: %y = "graph.slice"(%x) {starts = [1, 3], sizes = [2, 4], steps = [1, -1]} : (tensor<5x4xf32>) -> tensor<2x4xf32>
    """

    x: Operand
    starts: list
    sizes: list
    steps: list
    y: Result

    @staticmethod
    def infer(types: list[TensorType], starts: list, sizes: list, steps: list) -> list[TensorType]:
        x = types[0]
        if not len(starts) == len(sizes) == len(steps) == x.rank or 0 in steps or min(sizes, default=0) < 0:
            raise VerifyError(f"needs {x.rank} starts, sizes and steps other than 0, got {starts}, {sizes}, {steps}")
        for d, (start, size, step, extent) in enumerate(zip(starts, sizes, steps, x.shape, strict=True)):
            if size and not (0 <= start < extent and 0 <= start + (size - 1) * step < extent):
                raise VerifyError(f"reads {start} to {start + (size - 1) * step} of dimension {d}, which has {extent} elements")
        return [x.with_shape(sizes)]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        return [window(b, xs[0], self.py("starts"), self.py("sizes"), self.py("steps"))]


def window(b: Builder, x: Tensor, starts: Sequence[int], sizes: Sequence[int], steps: Sequence[int]) -> Tensor:
    """x[starts + i*steps] for i below sizes; a view where it is one."""
    if tuple(sizes) == x.shape and all(d == 1 or s == 1 for d, s in zip(sizes, steps, strict=True)):
        return x
    if 0 in sizes:
        return zeros(b, sizes, x.dtype)
    # linalg takes a loop that alone indexes a dimension to span it. A loop of one iteration added to it lifts that rule.
    short = [d for d, (start, size, step, full) in enumerate(zip(starts, sizes, steps, x.shape, strict=True))
             if (start, step) == (0, 1) and 1 < size < full]
    lead = 1 if short and 1 not in sizes else 0
    shape = [*[1] * lead, *sizes]

    def read(*i: Any) -> list[Any]:
        nothing = i[shape.index(1)] if short else 0
        return [start if size == 1 else i[lead + d] * step + start + (nothing if d in short else 0)
                for d, (start, size, step) in enumerate(zip(starts, sizes, steps, strict=True))]

    return b.view(b.compute(shape, x.dtype, [(x, read)], lambda e: e), sizes)


class ConcatOp(GraphOp, name="concat"):
    """The operands one after the other along `axis`.

    Example: %y = "graph.concat"(%a, %b) {axis = 0} : (tensor<2x3xf32>, tensor<4x3xf32>) -> tensor<6x3xf32>
    """

    inputs: Operands
    axis: int
    y: Result

    @staticmethod
    def infer(types: list[TensorType], axis: int) -> list[TensorType]:
        if not types:
            raise VerifyError("needs an operand")
        first = types[0]
        if not 0 <= axis < first.rank:
            raise VerifyError(f"has axis {axis}, expected one in [0, {first.rank - 1}]")
        rest = {(t.dtype, t.shape[:axis], t.shape[axis + 1:]) for t in types}
        if len(rest) != 1:
            raise VerifyError(f"needs operands that differ in dimension {axis} only, got {', '.join(str(t.mlir()) for t in types)}")
        return [first.with_shape([*first.shape[:axis], sum(t.shape[axis] for t in types), *first.shape[axis + 1:]])]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        out, axis = self.types[0], self.py("axis")
        parts = [x for x in xs if 0 not in x.shape]
        if not parts:
            return [zeros(b, out.shape, out.dtype)]
        if len(parts) == 1:
            return [parts[0]]
        if len(parts) > SELECT_LIMIT and not b.wide:
            return [_concat_copies(b, parts, axis, out)]
        while len(parts) > WIDE_LIMIT:
            parts = [_concat_select(b, parts[k:k + WIDE_LIMIT], axis) for k in range(0, len(parts), WIDE_LIMIT)]
        return [_concat_select(b, parts, axis)]


def _concat_select(b: Builder, parts: Sequence[Tensor], axis: int) -> Tensor:
    """One parallel loop: every element picks among clamped loads of all operands."""
    if len(parts) == 1:
        return parts[0]
    ends = [sum(x.shape[axis] for x in parts[:k + 1]) for k in range(len(parts))]
    first = parts[0]

    def element() -> Scalar:
        at = [b.index(d) for d in range(first.rank)]

        def load(k: int) -> Scalar:
            i = in_range(at[axis] - (ends[k] - parts[k].shape[axis]), parts[k].shape[axis])
            return b.load(parts[k], [*at[:axis], i, *at[axis + 1:]])

        value = load(len(parts) - 1)
        for k in reversed(range(len(parts) - 1)):
            value = select(at[axis] < ends[k], load(k), value)
        return value

    return b.gather_compute([*first.shape[:axis], ends[-1], *first.shape[axis + 1:]], first.dtype, [], parts, element)


def _concat_copies(b: Builder, parts: Sequence[Tensor], axis: int, out: TensorType) -> Tensor:
    """One kernel that writes every element once, by plain inner loops, for each row and strip of neighbouring elements."""
    rows, inner = prod(out.shape[:axis]), prod(out.shape[axis + 1:])
    width = part_width(rows, inner)
    strips = inner // width

    def strip(*tensors: Tensor) -> list[Tensor]:
        *xs, whole = tensors
        at = 0
        for x in xs:
            def line(i: Scalar, t: Tensor, x: Tensor = x, at: int = at) -> list[Tensor]:
                return b.for_(0, width, [t], lambda j, t: [b.insert(b.load(x, [i, j]), t, [i + at, j])])

            (whole,) = b.for_(0, x.shape[0], [whole], line)
            at += x.shape[0]
        return [whole]

    inputs = [(b.view(x, (rows, x.shape[axis], strips, width)), (0, 2)) for x in parts]
    outs = [(out.dtype, (rows, out.shape[axis], strips, width), (0, 2))]
    return b.view(b.sliced_kernel([rows, strips], inputs, outs, strip)[0], out.shape)


class PadOp(GraphOp, name="pad"):
    """`low` elements before and `high` after each dimension; a negative number removes elements (before anything is added).

    mode: `constant` (of `value`, or of the scalar second operand), `edge` (repeats the border), `reflect` (mirrors around it), `wrap`.

    Example: %y = "graph.pad"(%x) {low = [0, 1], high = [0, 2], mode = "edge"} : (tensor<2x3xf32>) -> tensor<2x6xf32>
    """

    inputs: Operands
    low: list
    high: list
    mode: str = "constant"
    value: float = 0.0
    y: Result

    @staticmethod
    def infer(types: list[TensorType], low: list, high: list, mode: str = "constant", value: float = 0.0) -> list[TensorType]:
        if not 1 <= len(types) <= 2 or (len(types) == 2 and (mode != "constant" or types[1] != TensorType((), types[0].dtype))):
            raise VerifyError("takes the data and, in mode 'constant', a scalar of the data's element type")
        if mode not in PAD_MODES:
            raise VerifyError(f"has mode '{mode}', expected one of {', '.join(PAD_MODES)}")
        x = types[0]
        if not len(low) == len(high) == x.rank:
            raise VerifyError(f"needs a low and a high pad for each of {x.rank} dimensions, got {low} and {high}")
        for d, (a, z, n) in enumerate(zip(low, high, x.shape, strict=True)):
            kept = n + min(a, 0) + min(z, 0)
            if kept < 0 or (kept == 0 and mode != "constant" and max(a, z) > 0):
                raise VerifyError(f"cannot pad dimension {d} of {n} elements by {a} and {z} in mode '{mode}'")
        return [x.with_shape([n + a + z for a, z, n in zip(low, high, x.shape, strict=True)])]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        x, out, low, high, mode = xs[0], self.types[0], self.py("low"), self.py("high"), self.py("mode")
        kept = [n + min(a, 0) + min(z, 0) for a, z, n in zip(low, high, x.shape, strict=True)]
        skip = [max(-a, 0) for a in low]
        if all(max(a, z) <= 0 for a, z in zip(low, high, strict=True)):
            return [window(b, x, skip, kept, [1] * len(kept))]
        fill = [(xs[1], lambda *i: [])] if len(xs) == 2 else []
        if 0 in kept or 0 in out.shape:
            return [b.compute(out.shape, out.dtype, fill, lambda *v: self._fill(b, v))]

        def element(*v: Scalar) -> Scalar:
            inside, at = None, []
            for d, n in enumerate(kept):
                i = b.index(d)
                if low[d] > 0 or high[d] > 0:
                    i, within = _source(i - max(low[d], 0), n, mode, low[d] > 0, high[d] > 0)
                    if within is not None:
                        inside = within if inside is None else inside & within
                at.append(i + skip[d] if skip[d] else i)
            loaded = b.load(x, at)
            return loaded if inside is None else select(inside, loaded, self._fill(b, v))

        around = mode == "constant" and not fill and min(low, default=0) >= 0 and kept == list(x.shape)
        return [b.gather_compute(out.shape, out.dtype, fill, [x], element, low if around else None, zeros=not self.py("value"))]

    def _fill(self, b: Builder, v: Sequence[Scalar]) -> Scalar:
        return v[0] if v else b.constant(self.py("value"), self.types[0].dtype)


def _source(i: Scalar, n: int, mode: str, before: bool, after: bool) -> tuple[Scalar, Scalar | None]:
    """The position in a dimension of n elements that position i of the padded one shows; in mode constant, whether there is one."""
    if mode == "reflect" and n > 1:
        period = 2 * (n - 1)
        i = i.rem(period)
        i = select(i < 0, i + period, i)
        return i.min(constant(period, I64) - i), None
    if mode == "wrap":
        i = i.rem(n)
        return select(i < 0, i + n, i), None
    inside = None
    if mode == "constant":
        tests = [*([i >= 0] if before else []), *([i < n] if after else [])]
        inside = tests[0] if len(tests) == 1 else tests[0] & tests[1]
    i = i.max(0) if before else i
    return (i.min(n - 1) if after else i), inside


class BroadcastOp(GraphOp, name="broadcast"):
    """x repeated to `shape`, which is x's shape with dimensions of 1 enlarged and others added in front.

    Example: %y = "graph.broadcast"(%x) {shape = [2, 3]} : (tensor<3xf32>) -> tensor<2x3xf32>
    """

    x: Operand
    shape: list
    y: Result

    @staticmethod
    def infer(types: list[TensorType], shape: list) -> list[TensorType]:
        if broadcast_shapes([types[0].shape, tuple(shape)]) != tuple(shape):
            raise VerifyError(f"cannot repeat {list(types[0].shape)} to {shape}")
        return [types[0].with_shape(shape)]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        x, out = xs[0], self.types[0]
        if prod(x.shape) == out.size:
            return [b.view(x, out.shape)]
        if out.size == 0:
            return [zeros(b, out.shape, out.dtype)]
        return [b.compute(out.shape, out.dtype, [broadcast_read(x, out.rank)], lambda e: e)]


class GatherOp(GraphOp, name="gather"):
    """Slices of x along `axis`, by index: y[a..., i..., c...] = x[a..., indices[i...], c...].

    Negative indices count from the end; others outside of the dimension read its nearest element.

    Example: %y = "graph.gather"(%x, %i) {axis = 0} : (tensor<10x4xf32>, tensor<2x3xi64>) -> tensor<2x3x4xf32>
    """

    x: Operand
    indices: Operand
    axis: int
    y: Result

    @staticmethod
    def infer(types: list[TensorType], axis: int) -> list[TensorType]:
        x, indices = types
        if not 0 <= axis < x.rank:
            raise VerifyError(f"has axis {axis}, expected one in [0, {x.rank - 1}]")
        if not indices.dtype.is_integer:
            raise VerifyError(f"needs integer indices, got {indices.dtype}")
        return [x.with_shape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1:]])]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        (x, indices), out, axis = xs, self.types[0], self.py("axis")
        if out.size == 0 or 0 in x.shape:
            return [zeros(b, out.shape, out.dtype)]
        after = axis + indices.rank

        def element(i: Scalar) -> Scalar:
            return b.load(x, [*[b.index(d) for d in range(axis)], wrapped(i, x.shape[axis]), *[b.index(d) for d in range(after, out.rank)]])

        return [b.gather_compute(out.shape, out.dtype, [(indices, lambda *i: i[axis:after])], [x], element)]


class IotaOp(GraphOp, name="iota"):
    """The position along dimension `dim`.

    Example: %y = "graph.iota"() {shape = [2, 3], dim = 1, to = i64} : () -> tensor<2x3xi64>
    """

    shape: list
    dim: int
    to: ir.Type
    y: Result

    @staticmethod
    def infer(types: list[TensorType], shape: list, dim: int, to: ir.Type) -> list[TensorType]:
        if not 0 <= dim < len(shape) or min(shape) < 0:
            raise VerifyError(f"has shape {shape} and dim {dim}, expected dim to be one of its dimensions")
        return [TensorType(tuple(shape), BY_NAME[str(to)])]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        out, dim = self.types[0], self.py("dim")
        return [b.compute(out.shape, out.dtype, [], lambda: b.index(dim).to(compute_dtype(out.dtype)))]


reshape: Callable[..., ir.Value] = builder(ReshapeOp)
transpose: Callable[..., ir.Value] = builder(TransposeOp)
slice: Callable[..., ir.Value] = builder(SliceOp)
concat: Callable[..., ir.Value] = builder(ConcatOp)
pad: Callable[..., ir.Value] = builder(PadOp)
broadcast: Callable[..., ir.Value] = builder(BroadcastOp)
gather: Callable[..., ir.Value] = builder(GatherOp)


def iota(shape: Sequence[int], dim: int, dtype: DType) -> ir.Value:
    """`iota((2, 3), 1, I64)`: [[0, 1, 2], [0, 1, 2]]."""
    return create(IotaOp, [], shape=[int(d) for d in shape], dim=dim, to=TensorType((), dtype).mlir().element_type)[0]


__all__ = ["BroadcastOp", "ConcatOp", "GatherOp", "IotaOp", "PadOp", "ReshapeOp", "SliceOp", "TransposeOp", "broadcast", "checked",
           "concat", "gather", "in_range", "iota", "pad", "reshape", "slice", "transpose", "window", "wrapped", "zeros"]
