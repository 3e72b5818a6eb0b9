"""Ops that read or write elements at places that other tensors name. No index, however wrong, reaches outside of a tensor."""

from collections.abc import Callable, Sequence
from math import prod

from mlc.dialects._build import Builder, Tensor, part_width
from mlc.dialects._ext import Operand, Result, VerifyError
from mlc.dialects.graph._base import GraphOp, TensorType, builder, create
from mlc.dialects.graph._scatters import NARROW, REDUCTIONS, kept, nonzero_places, scatter_along, scatter_slices
from mlc.dialects.graph.movement import checked, in_range, wrapped, zeros
from mlc.dtypes import BOOL, I64, DType
from mlc.ir.mlir import ir
from mlc.ir.scalar import Scalar, constant, select


class GatherElementsOp(GraphOp, name="gather_elements"):
    """y[i...] = x at i with coordinate `axis` replaced by indices[i...]; indices as in graph.gather.

    Example: %y = "graph.gather_elements"(%x, %i) {axis = 1} : (tensor<3x4xf32>, tensor<2x5xi64>) -> tensor<2x5xf32>
    """

    x: Operand
    indices: Operand
    axis: int
    y: Result

    @staticmethod
    def infer(types: list[TensorType], axis: int) -> list[TensorType]:
        x, indices = types
        _check_elements(x, indices, axis)
        return [x.with_shape(indices.shape)]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        (x, indices), out, axis = xs, self.types[0], self.py("axis")
        if out.size == 0 or 0 in x.shape:
            return [zeros(b, out.shape, out.dtype)]

        def element(i: Scalar) -> Scalar:
            return b.load(x, [wrapped(i, n) if d == axis else b.index(d) for d, n in enumerate(x.shape)])

        return [b.gather_compute(out.shape, out.dtype, [(indices, lambda *i: i)], [x], element)]


class GatherNdOp(GraphOp, name="gather_nd"):
    """The last dimension of `indices` holds coordinates: y[b..., i..., c...] = x[b..., indices[b..., i...]..., c...].

    batch_dims: number of leading dimensions (b) that x and indices share. Indices as in graph.gather.

    Example: %y = "graph.gather_nd"(%x, %i) {batch_dims = 1} : (tensor<2x3x4xf32>, tensor<2x5x1xi64>) -> tensor<2x5x4xf32>
    """

    x: Operand
    indices: Operand
    batch_dims: int = 0
    y: Result

    @staticmethod
    def infer(types: list[TensorType], batch_dims: int = 0) -> list[TensorType]:
        x, indices = types
        depth = _check_nd(x, indices, batch_dims)
        return [x.with_shape([*indices.shape[:-1], *x.shape[batch_dims + depth:]])]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        (x, indices), out, batch = xs, self.types[0], self.py("batch_dims")
        if out.size == 0 or 0 in x.shape:
            return [zeros(b, out.shape, out.dtype)]
        depth, lead = indices.shape[-1], indices.rank - 1
        reads = [(indices, lambda *i, k=k: [*i[:lead], k]) for k in range(depth)]

        def element(*at: Scalar) -> Scalar:
            named = [wrapped(i, n) for i, n in zip(at, x.shape[batch:], strict=False)]
            return b.load(x, [*[b.index(d) for d in range(batch)], *named, *[b.index(d) for d in range(lead, out.rank)]])

        return [b.gather_compute(out.shape, out.dtype, reads, [x], element)]


class ScatterElementsOp(GraphOp, name="scatter_elements"):
    """x with y[i... with coordinate `axis` := indices[i...]] = reduction(y[...], updates[i...]) for each i in row-major order.

    reduction: none (the last update stays), add, mul, min, max. Negative indices count from the end; updates outside of x are dropped.

    Example: %y = "graph.scatter_elements"(%x, %i, %u) {axis = 0, reduction = "add"}
                  : (tensor<3x4xf32>, tensor<2x4xi64>, tensor<2x4xf32>) -> tensor<3x4xf32>
    """

    x: Operand
    indices: Operand
    updates: Operand
    axis: int
    reduction: str = "none"
    y: Result

    @staticmethod
    def infer(types: list[TensorType], axis: int, reduction: str = "none") -> list[TensorType]:
        x, indices, updates = types
        _check_elements(x, indices, axis)
        _check_updates(x, updates, indices.shape, reduction)
        return [x]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        x, indices, _ = xs
        axis, combine = self.py("axis"), REDUCTIONS[self.py("reduction")]
        if 0 in indices.shape or 0 in x.shape:
            return [x]
        if b.wide and (wide := scatter_along(b, *xs, axis=axis, reduction=self.py("reduction"))) is not None:
            return [wide]

        def body(x: Tensor, indices: Tensor, updates: Tensor, y: Tensor) -> list[Tensor]:
            def one(at: Sequence[Scalar], y: Tensor) -> Tensor:
                i, valid = checked(b.load(indices, at), x.shape[along])
                return _update(b, y, [i if d == along else at[d] for d in range(x.rank)], valid, combine, b.load(updates, at))

            return [_each(b, indices.shape, one, _copy(b, x, y))]

        if any(i != n for d, (i, n) in enumerate(zip(indices.shape, x.shape, strict=True)) if d != axis):
            along = axis
            return b.kernel(xs, [(x.dtype, x.shape)], lambda x, i, u: body(x, i, u, b.empty(x.shape, x.dtype)))
        along, outer, inner = 0, prod(x.shape[:axis]), prod(x.shape[axis + 1:])
        width = part_width(outer, inner)
        flat = [b.view(t, (outer, t.shape[axis], inner // width, width)) for t in xs]
        shape = flat[0].shape
        return [b.view(b.sliced_kernel([outer, inner // width], [(t, (0, 2)) for t in flat], [(x.dtype, shape, (0, 2))], body)[0], x.shape)]


class ScatterNdOp(GraphOp, name="scatter_nd"):
    """x with y[indices[i...]..., c...] = reduction(y[...], updates[i..., c...]) in row-major order; otherwise as graph.scatter_elements.

    Example: %y = "graph.scatter_nd"(%x, %i, %u) : (tensor<8x4xf32>, tensor<3x1xi64>, tensor<3x4xf32>) -> tensor<8x4xf32>
    """

    x: Operand
    indices: Operand
    updates: Operand
    reduction: str = "none"
    y: Result

    @staticmethod
    def infer(types: list[TensorType], reduction: str = "none") -> list[TensorType]:
        x, indices, updates = types
        depth = _check_nd(x, indices, 0)
        _check_updates(x, updates, (*indices.shape[:-1], *x.shape[depth:]), reduction)
        return [x]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        x, indices, updates = xs
        combine, depth = REDUCTIONS[self.py("reduction")], indices.shape[-1]
        if 0 in updates.shape or 0 in x.shape:
            return [x]
        # One loop over the places, one over the elements of the slice at each: long inner loops whatever the ranks are.
        count, width = prod(indices.shape[:-1]), prod(x.shape[depth:])
        if b.wide:
            flat = (b.view(x, (1, prod(x.shape[:depth]), width)), b.view(indices, (count, depth)), b.view(updates, (1, count, width)))
            if (wide := scatter_slices(b, *flat, extents=x.shape[:depth], reduction=self.py("reduction"))) is not None:
                return [b.view(wide, x.shape)]
        part = part_width(1, width)
        columns = (width // part, part)
        inputs = [(b.view(x, (*x.shape[:depth], *columns)), (depth,)), (b.view(indices, (count, depth)), ()),
                  (b.view(updates, (count, *columns)), (1,))]

        def body(x: Tensor, indices: Tensor, updates: Tensor, y: Tensor) -> list[Tensor]:
            def place(i: Scalar, y: Tensor) -> list[Tensor]:
                at, inside = [], b.constant(True, BOOL)
                for k in range(depth):
                    j, valid = checked(b.load(indices, [i, k]), x.shape[k])
                    at.append(j)
                    inside = inside & valid
                return b.for_(0, part, [y], lambda c, y: [_update(b, y, [*at, c], inside, combine, b.load(updates, [i, c]))])

            return b.for_(0, count, [_copy(b, x, y)], place)

        outs = [(x.dtype, inputs[0][0].shape, (depth,))]
        return [b.view(b.sliced_kernel(columns[:1], inputs, outs, body)[0], x.shape)]


class UpdateOp(GraphOp, name="update"):
    """A cache with `update` written at row starts[b] of dimension `axis` of batch entry b (dimension 0); the rest is the cache's.

    circular: rows count modulo the dimension, so that an update wraps around. Otherwise rows past the end are dropped.

    Example: %y = "graph.update"(%cache, %new, %starts) {axis = 2, circular = true}
                  : (tensor<2x4x16x8xf32>, tensor<2x4x1x8xf32>, tensor<2xi64>) -> tensor<2x4x16x8xf32>
    """

    cache: Operand
    update: Operand
    starts: Operand
    axis: int
    circular: bool = False
    y: Result

    @staticmethod
    def infer(types: list[TensorType], axis: int, circular: bool = False) -> list[TensorType]:
        cache, update, starts = types
        if not 0 < axis < cache.rank or cache.dtype != update.dtype or not starts.dtype.is_integer or starts.shape != cache.shape[:1]:
            raise VerifyError(f"needs an update of the cache's type, an integer start per batch entry, an axis in [1, {cache.rank - 1}], "
                              f"got {cache.mlir()}, {update.mlir()}, {starts.mlir()} and axis {axis}")
        other = [d for d in range(cache.rank) if d != axis]
        if update.rank != cache.rank or update.shape[axis] > cache.shape[axis] or any(update.shape[d] != cache.shape[d] for d in other):
            raise VerifyError(f"cannot write {list(update.shape)} into {list(cache.shape)} along dimension {axis}")
        return [cache]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        (cache, update, starts), axis = xs, self.py("axis")
        if 0 in update.shape:
            return [cache]
        extent, rows = cache.shape[axis], update.shape[axis]

        def element(old: Scalar, start: Scalar) -> Scalar:
            row = b.index(axis) - start.to(I64)
            if self.py("circular"):
                row = row.rem(extent)
                row = select(row < 0, row + extent, row)
            new = b.load(update, [in_range(row, rows) if d == axis else b.index(d) for d in range(cache.rank)])
            return select((row >= 0) & (row < rows), new, old)

        return [b.gather_compute(cache.shape, cache.dtype, [(cache, lambda *i: i), (starts, lambda *i: i[:1])], [update], element)]


class TriluOp(GraphOp, name="trilu"):
    """The upper (on and above diagonal k) or lower (on and below it) triangle of each matrix, zeros elsewhere.

    Example: %y = "graph.trilu"(%x, %k) {upper = false} : (tensor<2x3x4xf32>, tensor<i64>) -> tensor<2x3x4xf32>
    """

    x: Operand
    k: Operand
    upper: bool = True
    y: Result

    @staticmethod
    def infer(types: list[TensorType], upper: bool = True) -> list[TensorType]:
        x, k = types
        if x.rank < 2 or k != TensorType((), I64):
            raise VerifyError(f"takes matrices and an i64 scalar, got {x.mlir()} and {k.mlir()}")
        return [x]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        (x, k), out = xs, self.types[0]

        def element(e: Scalar, k: Scalar) -> Scalar:
            diagonal = b.index(out.rank - 1) - b.index(out.rank - 2)
            return select(diagonal >= k if self.py("upper") else diagonal <= k, e, b.constant(0, out.dtype))

        return [b.compute(out.shape, out.dtype, [(x, lambda *i: i), (k, lambda *i: [])], element)]


class ReverseSequenceOp(GraphOp, name="reverse_sequence"):
    """The first lens[b] elements along `time` of each batch entry b (along `batch`) in reverse order, the others as they are.

    Example: %y = "graph.reverse_sequence"(%x, %lens) {time = 0, batch = 1} : (tensor<4x2xf32>, tensor<2xi64>) -> tensor<4x2xf32>
    """

    x: Operand
    lens: Operand
    time: int
    batch: int
    y: Result

    @staticmethod
    def infer(types: list[TensorType], time: int, batch: int) -> list[TensorType]:
        x, lens = types
        if not (0 <= time < x.rank and 0 <= batch < x.rank and time != batch):
            raise VerifyError(f"needs two different dimensions of {list(x.shape)}, got time {time} and batch {batch}")
        if lens.shape != (x.shape[batch],) or not lens.dtype.is_integer:
            raise VerifyError(f"needs one integer per batch entry ({x.shape[batch]}), got {lens.mlir()}")
        return [x]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        (x, lens), time, batch = xs, self.py("time"), self.py("batch")
        if 0 in x.shape:
            return [x]

        def element(length: Scalar) -> Scalar:
            t, n = b.index(time), length.to(I64).max(0).min(x.shape[time])
            t = select(t < n, n - 1 - t, t)
            return b.load(x, [t if d == time else b.index(d) for d in range(x.rank)])

        return [b.gather_compute(x.shape, x.dtype, [(lens, lambda *i: [i[batch]])], [x], element)]


class NonzeroOp(GraphOp, name="nonzero"):
    """Positions of the elements that are not zero, row-major, one per column; then their number. Columns past it are zero.

    Example: %y, %n = "graph.nonzero"(%x) : (tensor<2x3xf32>) -> (tensor<2x6xi64>, tensor<i64>)
    """

    x: Operand
    y: Result
    number: Result

    @staticmethod
    def infer(types: list[TensorType]) -> list[TensorType]:
        x = types[0]
        return [TensorType((x.rank, x.size), I64), TensorType((), I64)]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        x, (positions, count) = xs[0], self.types
        if positions.size == 0 and x.rank:
            return [zeros(b, positions.shape, I64), zeros(b, (), I64)]

        if b.wide and positions.size < NARROW:
            return nonzero_places(b, x)

        def body(x: Tensor) -> list[Tensor]:
            def one(at: Sequence[Scalar], state: list) -> list:
                y, n = state
                found = b.load(x, at)
                found = found if found.dtype.kind == "b" else found.ne(0)
                y = b.if_(found, lambda: [_column(b, y, at, n)], lambda: [y], [y])[0]
                return [y, select(found, n + 1, n)]

            y, n = _each_state(b, x.shape, one, [filled(b, positions.shape, I64, 0), constant(0, I64)])
            return [y, b.insert(n, b.empty((), I64), [])]

        return b.kernel([x], [(I64, positions.shape), (I64, count.shape)], body)


class CompressOp(GraphOp, name="compress"):
    """The slices of x along dimension 0 whose condition holds, in order; then their number. Slices past it are zero.

    Example: %y, %n = "graph.compress"(%x, %c) : (tensor<6x4xf32>, tensor<6xi1>) -> (tensor<6x4xf32>, tensor<i64>)
    """

    x: Operand
    condition: Operand
    y: Result
    number: Result

    @staticmethod
    def infer(types: list[TensorType]) -> list[TensorType]:
        x, condition = types
        if not x.rank or condition.rank != 1 or condition.dtype.kind != "b" or condition.shape[0] > x.shape[0]:
            raise VerifyError(f"needs a bool for at most each slice of {x.mlir()}, got {condition.mlir()}")
        return [x.with_shape([condition.shape[0], *x.shape[1:]]), TensorType((), I64)]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        x, condition = xs
        out = self.types[0]
        if not out.shape[0]:
            return [zeros(b, out.shape, x.dtype), zeros(b, (), I64)]
        width = prod(x.shape[1:])
        shape = (out.shape[0], width)
        if not width:
            number = b.reduce((), shape[:1], I64, 0, [(condition, lambda i: [i])], lambda n, kept: n + kept.to(I64))
            return [zeros(b, out.shape, x.dtype), number]

        if b.wide:
            at, number = kept(b, lambda v: v, condition)
            rows = b.view(x, (x.shape[0], width))

            def element(at: Scalar, number: Scalar) -> Scalar:
                return select(b.index(0) < number.to(I64), b.load(rows, [in_range(at, shape[0]), b.index(1)]), b.constant(0, x.dtype))

            y = b.gather_compute(shape, x.dtype, [(at, lambda i, c: (i,)), (number, lambda i, c: ())], [rows], element)
            return [b.view(y, out.shape), b.cast(number, I64)]

        def body(x: Tensor, condition: Tensor) -> list[Tensor]:
            def row(i: Scalar, y: Tensor, n: Scalar) -> list:
                kept = b.load(condition, [i])
                y = b.if_(kept, lambda: b.for_(0, width, [y], lambda c, t: [b.insert(b.load(x, [i, c]), t, [n, c])]), lambda: [y], [y])[0]
                return [y, select(kept, n + 1, n)]

            y, n = b.for_(0, shape[0], [filled(b, shape, x.dtype, 0), constant(0, I64)], row)
            return [y, b.insert(n, b.empty((), I64), [])]

        y, n = b.kernel([b.view(x, (x.shape[0], width)), condition], [(x.dtype, shape), (I64, ())], body)
        return [b.view(y, out.shape), n]


# Sequential code


def _copy(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """Inside a kernel: `y` with the elements of `x`."""
    return _each(b, x.shape, lambda at, y: b.insert(b.load(x, at), y, at), y)


def filled(b: Builder, shape: Sequence[int], dtype: DType, value: float | int) -> Tensor:
    """Inside a kernel: a tensor of one value to write into.

    Two buffers of one type must start so and not from `b.empty`: equal tensor.empty ops merge, and bufferisation lets them share memory.
    """
    return _each(b, shape, lambda at, y: b.insert(b.constant(value, dtype), y, at), b.empty(shape, dtype))


def _each(b: Builder, shape: Sequence[int], body: Callable[[Sequence[Scalar], Tensor], Tensor], y: Tensor) -> Tensor:
    return _each_state(b, shape, lambda at, state: [body(at, state[0])], [y])[0]


def _each_state(b: Builder, shape: Sequence[int], body: Callable[[Sequence[Scalar], list], list], state: list,
                at: Sequence[Scalar] = ()) -> list:
    """Runs body(position, state) -> state for all positions, row-major."""
    if len(at) == len(shape):
        return body(list(at), state)
    return b.for_(0, shape[len(at)], state, lambda i, *inner: _each_state(b, shape, body, list(inner), [*at, i]))


def _update(b: Builder, y: Tensor, at: Sequence[Scalar], valid: Scalar, combine: Callable[[Scalar, Scalar], Scalar], new: Scalar) -> Tensor:
    """`y` with one element combined with `new` if `valid`; `at` is in range either way."""
    old = b.load(y, at)
    return b.insert(select(valid, combine(old, new), old), y, at)


def _column(b: Builder, y: Tensor, values: Sequence[Scalar], n: Scalar) -> Tensor:
    for d, value in enumerate(values):
        y = b.insert(value, y, [d, n])
    return y


# Rules


def _check_elements(x: TensorType, indices: TensorType, axis: int) -> None:
    if not 0 <= axis < x.rank or indices.rank != x.rank or not indices.dtype.is_integer:
        raise VerifyError(f"needs an axis in [0, {x.rank - 1}] and integer indices of rank {x.rank}, got axis {axis} and {indices.mlir()}")
    if any(i > n and d != axis for d, (i, n) in enumerate(zip(indices.shape, x.shape, strict=True))):
        raise VerifyError(f"has indices {list(indices.shape)} that reach outside of {list(x.shape)} in a dimension other than {axis}")


def _check_nd(x: TensorType, indices: TensorType, batch_dims: int) -> int:
    """The number of coordinates."""
    if not indices.rank or not indices.dtype.is_integer:
        raise VerifyError(f"needs integer indices of rank 1 or more, got {indices.mlir()}")
    depth = indices.shape[-1]
    if not 0 <= batch_dims < indices.rank or batch_dims + depth > x.rank or indices.shape[:batch_dims] != x.shape[:batch_dims]:
        raise VerifyError(f"cannot index {list(x.shape)} by {list(indices.shape)} with {batch_dims} batch dimensions")
    return depth


def _check_updates(x: TensorType, updates: TensorType, shape: Sequence[int], reduction: str) -> None:
    if reduction not in REDUCTIONS:
        raise VerifyError(f"has reduction '{reduction}', expected one of {', '.join(REDUCTIONS)}")
    if updates != TensorType(tuple(shape), x.dtype):
        raise VerifyError(f"needs updates {TensorType(tuple(shape), x.dtype).mlir()}, got {updates.mlir()}")
    if x.dtype.kind == "b" and reduction in ("add", "mul"):
        raise VerifyError(f"cannot {reduction} bools")


gather_elements: Callable[..., ir.Value] = builder(GatherElementsOp)
gather_nd: Callable[..., ir.Value] = builder(GatherNdOp)
scatter_elements: Callable[..., ir.Value] = builder(ScatterElementsOp)
scatter_nd: Callable[..., ir.Value] = builder(ScatterNdOp)
update: Callable[..., ir.Value] = builder(UpdateOp)
trilu: Callable[..., ir.Value] = builder(TriluOp)
reverse_sequence: Callable[..., ir.Value] = builder(ReverseSequenceOp)


def nonzero(x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Positions and their number."""
    positions, count = create(NonzeroOp, [x])
    return positions, count


def compress(x: ir.Value, condition: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The kept slices and their number."""
    kept, count = create(CompressOp, [x, condition])
    return kept, count


__all__ = [
    "REDUCTIONS", "CompressOp", "GatherElementsOp", "GatherNdOp", "NonzeroOp", "ReverseSequenceOp", "ScatterElementsOp", "ScatterNdOp",
    "TriluOp", "UpdateOp", "compress", "filled", "gather_elements", "gather_nd", "nonzero", "reverse_sequence",
    "scatter_elements", "scatter_nd", "trilu", "update",
]
