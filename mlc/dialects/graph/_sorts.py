"""Sorting as wide loop nests: short runs by counting, then merges in which every place finds by itself what belongs there."""

from collections.abc import Callable

from mlc.dialects._build import Builder, Tensor
from mlc.dialects.graph.movement import in_range
from mlc.dtypes import I32, I64, DType
from mlc.ir.scalar import Scalar, compute_dtype, constant, select

RUN = 32  # elements that are sorted by counting, each pair of them compared; twice as many are one run
MANY, FEW = 1 << 18, 4  # elements from which on it pays to look at runs first, where those that are left are a quarter of all


def leading(b: Builder, x: Tensor, k: int, largest: bool) -> tuple[Tensor, Tensor]:
    """The first k elements of each row of x [rows, n] in order, and their positions (i64), both [rows, k].

    NaN is greater than any number, and equal elements keep places.
    """
    order = _order(b, x, k, largest)
    values = b.gather_compute((x.shape[0], k), x.dtype, [(order, lambda *i: i)], [x], lambda at: b.load(x, [b.index(0), at]))
    return values, b.cast(order, I64)


def _order(b: Builder, x: Tensor, k: int, largest: bool) -> Tensor:
    """The positions (i32) of the first k elements of each row, [rows, k].

    Of many elements all but k runs are left out first: a run whose own first element is not among the first k of those holds none of the
    first k of all, for as many elements come before it.
    """
    rows, n = x.shape
    if rows * n < MANY or n < FEW * k * RUN:
        span = n if n <= 2 * RUN else RUN
        return _merge_all(b, _keys(b, x, -(-n // span), span, largest), k)
    keys = _keys(b, x, -(-n // RUN), RUN, largest)
    last = _most(keys.dtype)
    firsts = b.reduce(keys.shape[:2], (RUN,), keys.dtype, last, [(keys, lambda r, u, i: (r, u, i))], lambda least, v: least.min(v))
    runs = _ascending(b, _order(b, firsts, k, largest=False))
    left = b.gather_compute((rows, k, RUN), keys.dtype, [(runs, lambda r, t, i: (r, t))], [x],
                            lambda run: _key_at(b, x, keys.dtype, largest, run * RUN + b.index(2).to(I32)))
    found = _merge_all(b, left, k)
    return b.gather_compute((rows, k), I32, [(found, lambda *i: i)], [runs],
                            lambda at: b.load(runs, [b.index(0), at.shr(RUN.bit_length() - 1)]) * RUN + (at & (RUN - 1)))


def _ascending(b: Builder, numbers: Tensor) -> Tensor:
    """Each row of distinct numbers [rows, k] (i32) in ascending order: a number's place is how many are less."""
    k = numbers.shape[1]
    own, other, zero, one = lambda r, t, j: (r, t), lambda r, t, j: (r, j), constant(0, I32), constant(1, I32)
    places = b.reduce(numbers.shape, (k,), I32, 0, [(numbers, own), (numbers, other)],
                      lambda total, v, w: total + select(w < v, one, zero))
    return b.reduce(numbers.shape, (k,), I32, 0, [(places, other), (numbers, other)],
                    lambda total, place, v: total + select(place.eq(b.index(1).to(I32)), v, zero))


def _merge_all(b: Builder, keys: Tensor, k: int) -> Tensor:
    """The positions (i32) of the first k of the keys [rows, runs, span] of each row.

    Runs, of which only the first k elements are kept, are merged in pairs: log2(runs) nests of at most twice their elements.
    """
    keys, order = _runs(b, keys, min(keys.shape[2], k))
    while keys.shape[1] > 1:
        keys, order = _merged(b, keys, order, min(2 * keys.shape[2], k))
    return b.view(order, (keys.shape[0], k))


def first_false(holds: Callable[[Scalar], Scalar], low: Scalar, high: Scalar, most: int) -> Scalar:
    """The first place in [low, high) where `holds`, which is true up to some place, is false, or `high`; there are at most `most` places.

    In straight code: `holds` is also asked about places outside of the range, and its answer not used.
    """
    for _ in range(most.bit_length()):
        middle = (low + high).shr(1)
        further, searching = holds(middle), low < high
        low, high = select(searching & further, middle + 1, low), select(searching & ~further, middle, high)
    return low


def _keys(b: Builder, x: Tensor, runs: int, span: int, largest: bool) -> Tensor:
    """The elements of x [rows, n] as integers in ascending order, [rows, runs, span]; what is more than n comes last."""
    rows, n = x.shape
    dtype, shape = _key_dtype(x.dtype), (rows, runs, span)
    if runs * span == n:
        return b.compute(shape, dtype, [(b.view(x, shape), lambda *i: i)], lambda v: _key(v, dtype, largest))
    return b.gather_compute(shape, dtype, [], [x], lambda: _key_at(b, x, dtype, largest, b.index(1) * span + b.index(2)))


def _key_at(b: Builder, x: Tensor, dtype: DType, largest: bool, at: Scalar) -> Scalar:
    """The key of an element of a nest's row of x [rows, n], in a body; where there is none, one that comes last."""
    n = x.shape[1]
    return select(at < n, _key(b.load(x, [b.index(0), at.min(n - 1)]), dtype, largest), constant(_most(dtype), dtype))


def _key_dtype(dtype: DType) -> DType:
    return I64 if compute_dtype(dtype).bits == 64 else I32


def _most(dtype: DType) -> int:
    return (1 << (dtype.bits - 1)) - 1


def _key(v: Scalar, dtype: DType, largest: bool) -> Scalar:
    """A number as a signed integer in the same order, or the opposite one (largest)."""
    if v.dtype.is_float:
        bits = v.bitcast(dtype)  # of negative numbers, all but the sign grow the wrong way
        key = bits ^ (bits.shr(dtype.bits - 1) & _most(dtype))
        key = select(v.eq(0), constant(0, dtype), select(v.is_nan(), constant(_most(dtype), dtype), key))
    elif v.dtype.kind == "u" and v.dtype.bits == dtype.bits:
        key = v.bitcast(dtype) ^ (-_most(dtype) - 1)
    else:
        key = v.to(dtype)
    return ~key if largest else key


def _runs(b: Builder, keys: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """The first `keep` keys of each run of keys [rows, runs, span], and their positions in the row (i32), both [rows, runs, keep].

    A key's place is the number of those before it.
    """
    rows, runs, span = keys.shape

    def place(total: Scalar, own: Scalar, other: Scalar) -> Scalar:
        before = (other < own) | (other.eq(own) & (b.index(3) < b.index(2)))
        return total + select(before, constant(1, I32), constant(0, I32))

    places = b.reduce(keys.shape, (span,), I32, 0, [(keys, lambda r, u, i, j: (r, u, i)), (keys, lambda r, u, i, j: (r, u, j))], place)

    def source(total: Scalar, place: Scalar) -> Scalar:
        here = place.eq(b.index(2).to(I32))
        return total + select(here, (b.index(1) * span + b.index(3)).to(I32), constant(0, I32))

    order = b.reduce((rows, runs, keep), (span,), I32, 0, [(places, lambda r, u, t, j: (r, u, j))], source)
    row = b.view(keys, (rows, runs * span))
    return b.gather_compute(order.shape, keys.dtype, [(order, lambda *i: i)], [row], lambda at: b.load(row, [b.index(0), at])), order


def _merged(b: Builder, keys: Tensor, order: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """Sorted runs [rows, runs, own], merged in pairs: the first `keep` keys of each pair, and their positions.

    The place at distance d from the start of a pair holds what follows the first d keys; how many of these the left run gives is found
    by bisection along the diagonal where left + right = d.
    """
    rows, runs, own = keys.shape

    def element() -> list[Scalar]:
        row, pair, d = (b.index(i).to(I32) for i in range(3))
        left = pair * 2
        right = left + 1 if runs % 2 == 0 else (left + 1).min(runs - 1)
        rights = constant(own, I32) if runs % 2 == 0 else select(left < runs - 1, constant(own, I32), constant(0, I32))

        def key(run: Scalar, at: Scalar) -> Scalar:
            return b.load(keys, [row, run, in_range(at, own)])

        low = first_false(lambda at: key(right, d - 1 - at) >= key(left, at), (d - rights).max(0), d.min(own), own)
        one, other = key(left, low), key(right, d - low)
        take_left = (low < own) & ((d - low >= rights) | (one <= other))
        run, at = select(take_left, left, right), select(take_left, low, d - low)
        found = select(take_left, one, other)
        if runs % 2:  # behind a run without a partner is nothing
            found = select(d < rights + own, found, constant(_most(keys.dtype), keys.dtype))
        return [found, b.load(order, [row, run, in_range(at, own)])]

    keys, order = b.compute_many((rows, -(-runs // 2), keep), [keys.dtype, I32], [], [keys, order], element)
    return keys, order
