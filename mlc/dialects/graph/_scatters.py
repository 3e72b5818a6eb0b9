"""Scatters and compactions as wide loop nests: each element of the result finds what is written to it, so that no two threads write one."""

from collections.abc import Callable, Sequence
from math import prod

from mlc.dialects._build import Builder, IndexFn, Tensor
from mlc.dialects.graph._scans import WORK, running
from mlc.dialects.graph._sorts import first_false, leading
from mlc.dialects.graph.movement import checked, in_range
from mlc.dialects.graph.reduce import highest, lowest
from mlc.dtypes import BOOL, I32, I64
from mlc.ir.scalar import Scalar, compute_dtype, constant, select

Fold = Callable[[Scalar, Scalar], Scalar]
REDUCTIONS: dict[str, Fold] = {
    "none": lambda old, new: new,
    "add": lambda old, new: old + new,
    "mul": lambda old, new: old * new,
    "min": lambda old, new: old.min(new),
    "max": lambda old, new: old.max(new),
}
FEW = 16  # updates, all of which each element looks at
NARROW = 1 << 31  # places that 32 bits count


def overwritten(b: Builder, x: Tensor, places: Tensor, updates: Tensor) -> Tensor:
    """At [o, i, c] the last updates[o, j, c] of those with places[o, j, c] = i, or x [o, n, c] itself.

    places: i32 [o, m, c], or [o, m, 1] for all c; n where there is none.
    """
    (outer, n, _), (_, m, lanes) = x.shape, places.shape
    shape, none = (outer, n, lanes), -1
    if looks_at_all(x, m):
        def later(last: Scalar, place: Scalar) -> Scalar:
            return last.max(select(place.eq(b.index(1).to(I32)), b.index(3).to(I32), constant(none, I32)))

        last = b.reduce(shape, (m,), I32, none, [(places, lambda o, i, c, j: (o, j, c))], later)
    else:
        found, order = _sorted(b, places)

        def latest() -> Scalar:
            row, i = b.index(0) * lanes + b.index(2), b.index(1).to(I32)
            end = _bisect(b, found, row, lambda place: place <= i)
            at = (end - 1).max(0)
            return select((end > 0) & b.load(found, [row, at]).eq(i), b.load(order, [row, at]).to(I32), constant(none, I32))

        last = b.gather_compute(shape, I32, [], [found, order], latest)

    def element(old: Scalar, last: Scalar) -> Scalar:
        return select(last < 0, old, b.load(updates, [b.index(0), last.max(0), b.index(2)]))

    return b.gather_compute(x.shape, x.dtype, [(x, lambda *i: i), (last, _lane(lanes))], [updates], element)


def combined(b: Builder, x: Tensor, places: Tensor, updates: Tensor, fold: Fold, start: float | int) -> Tensor:
    """As `overwritten`, but each element of x folded with all that is written to it, in order if they are many. start: the identity."""
    (outer, n, _), (_, m, lanes), acc = x.shape, places.shape, compute_dtype(x.dtype)
    if looks_at_all(x, m):
        def step(total: Scalar, place: Scalar, value: Scalar) -> Scalar:
            return fold(total, select(place.eq(b.index(1).to(I32)), value, b.constant(start, acc)))

        reads = [(places, lambda o, i, c, j: (o, j, c if lanes > 1 else 0)), (updates, lambda o, i, c, j: (o, j, c))]
        total = b.reduce(x.shape, (m,), acc, start, reads, step)
        return b.compute(x.shape, x.dtype, [(x, lambda *i: i), (total, lambda *i: i)], fold)
    found, order = _sorted(b, places)

    def span() -> list[Scalar]:
        row, i = b.index(0) * lanes + b.index(2), b.index(1).to(I32)
        return [_bisect(b, found, row, lambda place: place < i), _bisect(b, found, row, lambda place: place <= i)]

    begin, end = b.compute_many((outer, n, lanes), [I32, I32], [], [found], span)

    def element(old: Scalar, begin: Scalar, end: Scalar) -> Scalar:
        o, c = b.index(0), b.index(2)  # out of reach inside b.for_
        row = o * lanes + c if lanes > 1 else o
        return b.for_(begin, end, [old], lambda k, total: [fold(total, b.load(updates, [o, b.load(order, [row, k]), c]))])[0]

    reads = [(x, lambda *i: i), (begin, _lane(lanes)), (end, _lane(lanes))]
    return b.gather_compute(x.shape, x.dtype, reads, [updates, order], element)


def _sorted(b: Builder, places: Tensor) -> tuple[Tensor, Tensor]:
    """Places [o, m, lanes] of each lane in order, and which updates they are of, both [o * lanes, m]; equal ones stay in order."""
    outer, m, lanes = places.shape
    rows = b.compute((outer, lanes, m), I32, [(places, lambda o, c, j: (o, j, c))], lambda place: place)
    return leading(b, b.view(rows, (outer * lanes, m)), m, largest=False)


def _bisect(b: Builder, found: Tensor, row: Scalar, holds: Callable[[Scalar], Scalar]) -> Scalar:
    """How many of a row's sorted places, from the first on, have the property."""
    m = found.shape[1]
    return first_false(lambda at: holds(b.load(found, [row, in_range(at, m)])), constant(0, I32), constant(m, I32), m)


def _lane(lanes: int) -> IndexFn:
    return lambda o, i, c: (o, i, c if lanes > 1 else 0)


def looks_at_all(x: Tensor, updates: int) -> bool:
    """Whether each element of x may look at each of so many updates."""
    return updates <= FEW or prod(x.shape) * updates <= WORK


def kept(b: Builder, condition: Callable[[Scalar], Scalar], x: Tensor) -> tuple[Tensor, Tensor]:
    """Positions (i32 [n]) of the elements of x [n] for which the condition holds, in order, then n; and their number (i32 [])."""
    (n,) = x.shape
    flags = b.compute((1, n, 1), I32, [(x, lambda o, i, c: (i,))], lambda v: condition(v).to(I32))
    ranks = running(b, flags, I32, lambda total, flag: total + flag, 0)

    def position() -> Scalar:
        wanted = b.index(0).to(I32)
        return first_false(lambda at: b.load(ranks, [0, in_range(at, n), 0]) <= wanted, constant(0, I32), constant(n, I32), n)

    number = b.compute((), I32, [(ranks, lambda: (0, n - 1, 0))], lambda v: v)
    return b.gather_compute((n,), I32, [], [ranks], position), number


def scatter_along(b: Builder, x: Tensor, indices: Tensor, updates: Tensor, *, axis: int, reduction: str) -> Tensor | None:
    """graph.scatter_elements: lanes along `axis` each by themselves where all have indices, else all of x as one. None: too large."""
    if prod(x.shape) >= NARROW:
        return None
    rank = x.rank
    if all(i == n for d, (i, n) in enumerate(zip(indices.shape, x.shape, strict=True)) if d != axis):
        outer, inner = prod(x.shape[:axis]), prod(x.shape[axis + 1:])
        x3, places, u3 = (b.view(t, (outer, t.shape[axis], inner)) for t in (x, indices, updates))

        def place(i: Scalar) -> Scalar:
            return _place([i], x.shape[axis:axis + 1])
    else:
        x3, places, u3 = (b.view(t, (1, prod(t.shape), 1)) for t in (x, indices, updates))

        def place(i: Scalar) -> Scalar:
            at, flat = [], b.index(1)
            for n in reversed(indices.shape):
                at.insert(0, flat.rem(n))
                flat = flat / n
            return _place([i if d == axis else at[d] for d in range(rank)], x.shape)

    return b.view(_scattered(b, x3, b.compute(places.shape, I32, [(places, lambda *i: i)], place), u3, reduction), x.shape)


def scatter_slices(b: Builder, x: Tensor, indices: Tensor, updates: Tensor, *, extents: Sequence[int], reduction: str) -> Tensor | None:
    """graph.scatter_nd: x [1, n, width], n places of `extents`; indices [count, depth]; updates [1, count, width].

    None: of too many places, or of one that needs no index.
    """
    count, depth = indices.shape
    if x.shape[1] >= NARROW or not depth:
        return None
    reads = [(indices, lambda o, i, c, k=k: (i, k)) for k in range(depth)]
    return _scattered(b, x, b.compute((1, count, 1), I32, reads, lambda *at: _place(at, extents)), updates, reduction)


def _scattered(b: Builder, x: Tensor, places: Tensor, updates: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return overwritten(b, x, places, updates)
    acc = compute_dtype(x.dtype)
    start = {"add": 0, "mul": 1, "min": highest(acc), "max": lowest(acc)}[reduction]
    return combined(b, x, places, updates, REDUCTIONS[reduction], start)


def _place(indices: Sequence[Scalar], extents: Sequence[int]) -> Scalar:
    """The row-major place (i32) that indices name; the number of places if one is out of range."""
    flat, inside = constant(0, I64), constant(True, BOOL)
    for i, n in zip(indices, extents, strict=True):
        i, valid = checked(i, n)
        flat, inside = flat * n + i, inside & valid
    return select(inside, flat, constant(prod(extents), I64)).to(I32)


def nonzero_places(b: Builder, x: Tensor) -> list[Tensor]:
    """The results of graph.nonzero."""
    count = prod(x.shape)
    at, number = kept(b, lambda v: v if v.dtype.kind == "b" else v.ne(0), b.view(x, (count,)))

    def coordinate(at: Scalar, number: Scalar) -> Scalar:
        flat, found = at.to(I64), constant(0, I64)
        for d in reversed(range(x.rank)):
            found, flat = select(b.index(0).eq(d), flat.rem(x.shape[d]), found), flat / x.shape[d]
        return select(b.index(1) < number.to(I64), found, constant(0, I64))

    reads = [(at, lambda d, i: (i,)), (number, lambda d, i: ())]
    return [b.compute((x.rank, count), I64, reads, coordinate), b.cast(number, I64)]
