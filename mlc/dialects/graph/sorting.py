"""Ops that order elements: topk, unique, non-maximum suppression. One order: NaN is greater than any number; ties keep places."""

from collections.abc import Callable, Sequence
from math import prod

from mlc.dialects._build import Builder, Tensor
from mlc.dialects._ext import Operand, Result, VerifyError
from mlc.dialects.graph._base import GraphOp, TensorType, create
from mlc.dialects.graph._scans import running
from mlc.dialects.graph._sorts import first_false, leading
from mlc.dialects.graph.indexing import filled
from mlc.dialects.graph.movement import in_range, zeros
from mlc.dtypes import F32, I64
from mlc.ir.mlir import ir
from mlc.ir.scalar import Scalar, constant, select

INSERTION_LIMIT = 32  # topk of at most this many keeps a sorted list; beyond, it sorts
Before = Callable[[Scalar, Scalar], Scalar]  # of two positions (i64): whether the element at the first comes strictly before the other


class TopkOp(GraphOp, name="topk"):
    """The k largest (or smallest) elements along `axis`, in order, and their positions; of equal elements the first comes first.

    Example: %v, %i = "graph.topk"(%x) {k = 2, axis = 1} : (tensor<3x8xf32>) -> (tensor<3x2xf32>, tensor<3x2xi64>)
    """

    x: Operand
    k: int
    axis: int
    largest: bool = True
    values: Result
    positions: Result

    @staticmethod
    def infer(types: list[TensorType], k: int, axis: int, largest: bool = True) -> list[TensorType]:
        x = types[0]
        if not 0 <= axis < x.rank or not 0 <= k <= x.shape[axis]:
            raise VerifyError(f"cannot take {k} elements along dimension {axis} of {list(x.shape)}")
        shape = (*x.shape[:axis], k, *x.shape[axis + 1:])
        return [x.with_shape(shape), TensorType(shape, I64)]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        x, (out, positions), axis, k = xs[0], self.types, self.py("axis"), self.py("k")
        if out.size == 0:
            return [zeros(b, out.shape, out.dtype), zeros(b, out.shape, I64)]
        n, last = x.shape[axis], x.rank - 1
        order = [*[d for d in range(x.rank) if d != axis], axis]
        if axis != last:
            x = b.compute([x.shape[d] for d in order], x.dtype, [(x, lambda *i: [i[order.index(d)] for d in range(last + 1)])], lambda e: e)
        rows, largest = prod(x.shape[:-1]), self.py("largest")
        found = _first_of_rows(b, b.view(x, (rows, n)), k, largest)
        results = []
        for t, type_ in zip(found, (out, positions), strict=True):
            t = b.view(t, [type_.shape[d] for d in order])
            results.append(t if axis == last else b.compute(type_.shape, t.dtype, [(t, lambda *i: [i[d] for d in order])], lambda e: e))
        return results


def _first_of_rows(b: Builder, x: Tensor, k: int, largest: bool) -> Sequence[Tensor]:
    """The first k elements of each row of x [rows, n], and their positions."""
    if b.wide:
        return leading(b, x, k, largest)
    rows = x.shape[0]
    sort = _insertion_row if k <= INSERTION_LIMIT else _merge_row
    outs = [(x.dtype, (rows, k), (0,)), (I64, (rows, k), (0,))]
    return b.sliced_kernel([rows], [(x, (0,))], outs, lambda t, v, p: sort(b, t, v, p, largest))


def precedes(a: Scalar, z: Scalar, largest: bool) -> Scalar:
    """Whether `a` stands strictly before `z` in descending (largest) or ascending order."""
    if a.dtype.kind == "b":
        return a & ~z if largest else ~a & z
    less, more = (z, a) if largest else (a, z)
    if not a.dtype.is_float:
        return less < more
    return (less < more) | (more.is_nan() & ~less.is_nan())


def _insertion_row(b: Builder, x: Tensor, values: Tensor, positions: Tensor, largest: bool) -> list[Tensor]:
    """The row keeps its best so far, sorted; a better element shifts the worse ones down."""
    (n,), (k,) = x.shape, values.shape

    def one(i: Scalar, values: Tensor, positions: Tensor) -> list[Tensor]:
        e = b.load(x, [i])

        def better(at: Scalar, values: Tensor) -> Scalar:
            return precedes(e, b.load(values, [at]), largest)

        def place() -> list[Tensor]:
            def condition(at: Scalar, v: Tensor, p: Tensor) -> Scalar:
                return (at > 0) & better((at - 1).max(0), v)

            def shift(at: Scalar, v: Tensor, p: Tensor) -> list:
                above = at - 1
                return [above, b.insert(b.load(v, [above]), v, [at]), b.insert(b.load(p, [above]), p, [at])]

            at, v, p = b.while_([i.min(k - 1), values, positions], condition, shift)
            return [b.insert(e, v, [at]), b.insert(i, p, [at])]

        return b.if_((i < k) | better(constant(k - 1, I64), values), place, lambda: [values, positions], [values, positions])

    return b.for_(0, n, [values, positions], one)


def _merge_row(b: Builder, x: Tensor, values: Tensor, positions: Tensor, largest: bool) -> list[Tensor]:
    (n,), (k,) = x.shape, values.shape
    memory = [filled(b, (n,), I64, 0) for _ in range(2)]
    order, _ = argsort(b, n, lambda i, j: precedes(b.load(x, [i]), b.load(x, [j]), largest), *memory)

    def copy(j: Scalar, v: Tensor, p: Tensor) -> list[Tensor]:
        i = b.load(order, [j])
        return [b.insert(b.load(x, [i]), v, [j]), b.insert(i, p, [j])]

    return b.for_(0, k, [values, positions], copy)


def argsort(b: Builder, n: int, before: Before, order: Tensor, spare: Tensor) -> list[Tensor]:
    """Inside a kernel: fills `order` with 0..n-1 sorted stably by `before`: merges, two passes a round (into `spare` and back)."""
    (order,) = b.for_(0, n, [order], lambda i, t: [b.insert(i, t, [i])])

    def merged(width: Scalar, source: Tensor, target: Tensor) -> Tensor:
        """Sorted runs of `width` in source become runs of twice that in target."""
        pair = width + width

        def merge(j: Scalar, target: Tensor) -> list[Tensor]:
            low = j * pair
            middle, high = (low + width).min(n), (low + pair).min(n)

            def step(at: Scalar, left: Scalar, right: Scalar, t: Tensor) -> list:
                i, j = b.load(source, [in_range(left, n)]), b.load(source, [in_range(right, n)])
                take_left = (left < middle) & ((right >= high) | ~before(j, i))
                t = b.insert(select(take_left, i, j), t, [at])
                return [select(take_left, left + 1, left), select(take_left, right, right + 1), t]

            return b.for_(low, high, [low, middle, target], step)[2:]

        return b.for_(0, (pair + (n - 1)) / pair, [target], merge)[0]

    def round_(width: Scalar, order: Tensor, spare: Tensor) -> list:
        spare = merged(width, order, spare)
        order = merged(width + width, spare, order)
        return [width * 4, order, spare]

    _, order, spare = b.while_([constant(1, I64), order, spare], lambda width, *_: width < n, round_)
    return [order, spare]


class UniqueOp(GraphOp, name="unique"):
    """The distinct rows of x: rows, first position of each, for each row of x its place among them, counts, and their number.

    sorted: in lexicographic order, else in order of first appearance. Results past the number of rows are zero. NaN equals NaN.

    Example: %y, %first, %inverse, %counts, %n = "graph.unique"(%x)
                  : (tensor<6x2xf32>) -> (tensor<6x2xf32>, tensor<6xi64>, tensor<6xi64>, tensor<6xi64>, tensor<i64>)
    """

    x: Operand
    sorted: bool = True
    y: Result
    first: Result
    inverse: Result
    counts: Result
    number: Result

    @staticmethod
    def infer(types: list[TensorType], sorted: bool = True) -> list[TensorType]:
        x = types[0]
        if x.rank != 2:
            raise VerifyError(f"takes rows (a tensor of rank 2), got {x.mlir()}")
        index = TensorType(x.shape[:1], I64)
        return [x, index, index, index, TensorType((), I64)]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        n, width = self.types[0].shape
        if not n * width:  # rows of nothing are all the same
            counts = b.compute((n,), I64, [], lambda: select(b.index(0).eq(0), constant(n, I64), constant(0, I64)))
            empty = [zeros(b, t.shape, t.dtype) for t in self.types[:3]]
            return [*empty, counts, b.compute((), I64, [], lambda: constant(min(n, 1), I64))]
        return b.kernel(xs, [(t.dtype, t.shape) for t in self.types], lambda x: _unique(b, x, self.py("sorted")))


def _unique(b: Builder, x: Tensor, in_order: bool) -> list[Tensor]:
    n, width = x.shape

    def column(i: Scalar, j: Scalar) -> Scalar:
        """The first column where rows i and j differ; `width` if none."""
        def same(c: Scalar) -> Scalar:
            at = in_range(c, width)
            p, q = b.load(x, [i, at]), b.load(x, [j, at])
            return (c < width) & ~precedes(p, q, False) & ~precedes(q, p, False)

        return b.while_([constant(0, I64)], same, lambda c: [c + 1])[0]

    def before(i: Scalar, j: Scalar) -> Scalar:
        c = column(i, j)
        at = in_range(c, width)
        return (c < width) & precedes(b.load(x, [i, at]), b.load(x, [j, at]), False)

    order, _ = argsort(b, n, before, filled(b, (n,), I64, 0), filled(b, (n,), I64, 0))
    none = constant(0, I64)

    def group(at: Scalar, head: Scalar, m: Scalar, heads: Tensor, slots: Tensor) -> list:
        """Row order[at] joins the group of the row before it in order, or starts one, whose first row is its head."""
        i = b.load(order, [at])
        same = (at > 0) & column(i, head).eq(width)
        head = select(same, head, i)
        heads = b.insert(head, heads, [i])
        slots = b.insert(select(same, b.load(slots, [i]), m), slots, [i])
        return [head, select(same, m, m + 1), heads, slots]

    _, m, heads, slots = b.for_(0, n, [none, none, filled(b, (n,), I64, 0), filled(b, (n,), I64, 0)], group)
    if not in_order:
        def appear(i: Scalar, m: Scalar, slots: Tensor) -> list:
            is_head = b.load(heads, [i]).eq(i)
            return [select(is_head, m + 1, m), b.insert(select(is_head, m, b.load(slots, [i])), slots, [i])]

        m, slots = b.for_(0, n, [none, slots], appear)

    def emit(i: Scalar, y: Tensor, first: Tensor, inverse: Tensor, counts: Tensor) -> list[Tensor]:
        head = b.load(heads, [i])
        slot = b.load(slots, [head])
        inverse = b.insert(slot, inverse, [i])
        counts = b.insert(b.load(counts, [slot]) + 1, counts, [slot])
        first = b.insert(head, first, [slot])
        (y,) = b.for_(0, width, [y], lambda c, y: [b.insert(b.load(x, [head, c]), y, [slot, c])])
        return [y, first, inverse, counts]

    state = [filled(b, (n, width), x.dtype, 0), filled(b, (n,), I64, 0), filled(b, (n,), I64, 0), filled(b, (n,), I64, 0)]
    return [*b.for_(0, n, state, emit), b.insert(m, b.empty((), I64), [])]


class NmsOp(GraphOp, name="nms"):
    """Non-maximum suppression: (batch, class, box) of the boxes kept, best scores first in each class; then their number.

    boxes [B, N, 4] (two corners y x y x; centre and size x y w h with `centered`), scores [B, C, N], and scalars: how many boxes a class
    keeps (i64), the overlap (intersection over union) above which a box gives way, and the score that a box must exceed. `rows`: how many
    results there can be.

    Example: %y, %n = "graph.nms"(%boxes, %scores, %limit, %iou, %least) {rows = 12}
                  : (tensor<1x6x4xf32>, tensor<1x2x6xf32>, tensor<i64>, tensor<f32>, tensor<f32>) -> (tensor<12x3xi64>, tensor<i64>)
    """

    boxes: Operand
    scores: Operand
    limit: Operand
    iou: Operand
    least: Operand
    rows: int
    centered: bool = False
    y: Result
    number: Result

    @staticmethod
    def infer(types: list[TensorType], rows: int, centered: bool = False) -> list[TensorType]:
        boxes, scores, limit, iou, least = types
        f32 = boxes.dtype == scores.dtype == F32
        if not f32 or boxes.rank != 3 or scores.rank != 3 or boxes.shape != (scores.shape[0], scores.shape[2], 4):
            raise VerifyError(f"takes f32 boxes [B, N, 4] and scores [B, C, N], got {boxes.mlir()} and {scores.mlir()}")
        if limit != TensorType((), I64) or not iou == least == TensorType((), F32) or not 0 <= rows <= prod(scores.shape):
            raise VerifyError("takes an i64 and two f32 scalars, and at most one row per score")
        return [TensorType((rows, 3), I64), TensorType((), I64)]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        out = self.types[0]
        if not out.shape[0]:
            return [zeros(b, out.shape, I64), zeros(b, (), I64)]
        return _nms(b, *xs, rows=out.shape[0], centered=self.py("centered"))


def _nms(b: Builder, boxes: Tensor, scores: Tensor, limit: Tensor, iou: Tensor, least: Tensor, *, rows: int,
         centered: bool) -> list[Tensor]:
    """Each class by itself, its boxes in order of score; then what the classes keep, one behind the other."""
    batches, classes, n = scores.shape
    each, groups = min(n, rows), batches * classes
    order = b.view(_first_of_rows(b, b.view(scores, (groups, n)), n, True)[1], scores.shape)
    inputs = [(boxes, (0,)), (scores, (0, 1)), (order, (0, 1)), *((t, ()) for t in (limit, iou, least))]
    outs = [(I64, (batches, classes, each), (0, 1)), (I64, (batches, classes), (0, 1))]
    kept, counts = b.sliced_kernel([batches, classes], inputs, outs, lambda *ts: _kept_boxes(b, *ts, centered=centered))
    kept = b.view(kept, (groups, each))
    ends = running(b, b.view(counts, (1, groups, 1)), I64, lambda total, count: total + count, 0)

    def row(total: Scalar) -> Scalar:
        at, column = b.index(0), b.index(1)
        group = first_false(lambda g: b.load(ends, [0, in_range(g, groups), 0]) <= at, constant(0, I64), constant(groups, I64), groups)
        inside = in_range(group, groups)
        begin = select(inside > 0, b.load(ends, [0, in_range(inside - 1, groups), 0]), constant(0, I64))
        box = b.load(kept, [inside, in_range(at - begin, each)])
        value = select(column.eq(0), inside / classes, select(column.eq(1), inside.rem(classes), box))
        return select(at < total, value, constant(0, I64))

    last = (ends, lambda *i: (0, groups - 1, 0))
    y = b.gather_compute((rows, 3), I64, [last], [kept, ends], row)
    return [y, b.compute((), I64, [last], lambda total: total.min(rows))]


def _kept_boxes(b: Builder, boxes: Tensor, scores: Tensor, order: Tensor, limit: Tensor, iou: Tensor, least: Tensor, kept: Tensor,
                count: Tensor, *, centered: bool) -> list[Tensor]:
    """Of one class: the boxes that no better one displaces, best first, and their number."""
    (n,), (each,) = scores.shape, kept.shape
    bound, overlap, floor = (b.load(t, []) for t in (limit, iou, least))

    def corners(i: Scalar) -> list[tuple[Scalar, Scalar]]:
        p = [b.load(boxes, [i, d]) for d in range(4)]
        if centered:
            return [(p[d] - p[d + 2] * 0.5, p[d] + p[d + 2] * 0.5) for d in (0, 1)]
        return [(p[d].min(p[d + 2]), p[d].max(p[d + 2])) for d in (0, 1)]

    def overlaps(i: Scalar, j: Scalar) -> Scalar:
        one, other = corners(i), corners(j)
        sides = [p[1].min(q[1]) - p[0].max(q[0]) for p, q in zip(one, other, strict=True)]
        shared = sides[0].max(0) * sides[1].max(0)
        areas = [(c[0][1] - c[0][0]) * (c[1][1] - c[1][0]) for c in (one, other)]
        union = areas[0] + areas[1] - shared
        return (shared > 0) & (areas[0] > 0) & (areas[1] > 0) & (union > 0) & (shared / union > overlap)

    def candidate(at: Scalar, m: Scalar, y: Tensor) -> list:
        i = b.load(order, [at])

        def free(k: Scalar, y: Tensor) -> Scalar:
            """Still looking: kept box k does not displace this one. Behind the last one lies anything."""
            return (k < m) & ~overlaps(i, in_range(b.load(y, [in_range(k, each)]), n))

        def look() -> list:
            looked, held = b.while_([constant(0, I64), y], free, lambda k, y: [k + 1, y])
            found = looked.eq(m)
            return [select(found, m + 1, m), *b.if_(found, lambda: [b.insert(i, held, [m])], lambda: [held], [held])]

        eligible = (b.load(scores, [i]) > floor) & (m < bound) & (m < each)
        return b.if_(eligible, look, lambda: [m, y], [m, y])

    m, kept = b.for_(0, n, [constant(0, I64), kept], candidate)
    return [kept, b.insert(m, count, [])]


def topk(x: ir.Value, *, k: int, axis: int, largest: bool = True) -> tuple[ir.Value, ir.Value]:
    """Values and positions."""
    values, positions = create(TopkOp, [x], k=k, axis=axis, largest=largest)
    return values, positions


def unique(x: ir.Value, *, in_order: bool = True) -> list[ir.Value]:
    """Rows, first positions, inverse, counts, number."""
    return create(UniqueOp, [x], sorted=in_order)


def nms(boxes: ir.Value, scores: ir.Value, limit: ir.Value, iou: ir.Value, least: ir.Value, *, rows: int,
        centered: bool = False) -> tuple[ir.Value, ir.Value]:
    """Rows (batch, class, box) and their number."""
    kept, count = create(NmsOp, [boxes, scores, limit, iou, least], rows=rows, centered=centered)
    return kept, count


__all__ = ["NmsOp", "TopkOp", "UniqueOp", "nms", "topk", "unique"]
