"""Running folds as wide loop nests: each element folds few others, and what stands before its chunk comes from a scan of the chunks."""

from collections.abc import Callable
from math import prod
from typing import Any

from mlc.dialects._build import Builder, Tensor
from mlc.dtypes import I32, DType
from mlc.ir.scalar import Scalar, compute_dtype, select

CHUNK = 16  # elements, of which each is read by those behind it: as much work from caches as a pass over memory takes time
FEW = 64  # elements of a row that are no chunks
WORK = 1 << 22  # reads that cost less than another launch
Fold = Callable[[Any, Any], Any]


def running(b: Builder, x: Tensor, dtype: DType, fold: Fold, start: float | int, *, exclusive: bool = False,
            reverse: bool = False) -> Tensor:
    """y[o, i, c] = fold of x[o, j, c] for j <= i (exclusive: j < i; reverse: j >= i, j > i), in the compute type of `dtype`.

    x [outer, n, inner]; fold: associative, with the identity `start`. Floats are folded in another order than one by one. A row is
    `CHUNK`s, whose folds are scanned in turn: 2 log(n) / log(CHUNK) nests.
    """
    outer, n, inner = x.shape
    acc = compute_dtype(dtype)
    if n <= FEW or prod(x.shape) * n <= WORK:
        return b.cast(_all_pairs(b, x, acc, fold, start, exclusive, reverse), dtype)
    parts = -(-n // CHUNK)

    def placed(i: Any) -> Any:
        """Where the i-th element in the order of the scan lies."""
        return i * -1 + (n - 1) if reverse else i

    # The last part, which may be short, stands before no other.
    folds = b.reduce((outer, parts - 1, inner), (CHUNK,), acc, start, [(x, lambda o, p, c, j: (o, placed(p * CHUNK + j), c))], fold)
    before = running(b, folds, acc, fold, start)

    def element() -> Scalar:
        o, i, c = (b.index(d).to(I32) for d in range(3))
        i = placed(i)
        part, none = i.shr(CHUNK.bit_length() - 1), b.constant(start, acc)
        total = select(part > 0, b.load(before, [o, (part - 1).max(0), c]), none)
        for j in range(CHUNK):
            at = part * CHUNK + j
            value = b.load(x, [o, placed(at.min(n - 1)), c])
            total = fold(total, select(at < i if exclusive else at <= i, value, none))
        return total

    return b.gather_compute(x.shape, dtype, [], [x, before], element)


def _all_pairs(b: Builder, x: Tensor, acc: DType, fold: Fold, start: float | int, exclusive: bool, reverse: bool) -> Tensor:
    """Each element folds its whole row, with the identity for what does not count."""
    def step(total: Scalar, value: Scalar) -> Scalar:
        i, j = b.index(1), b.index(3)
        if reverse:
            i, j = j, i
        return fold(total, select(j < i if exclusive else j <= i, value, b.constant(start, acc)))

    return b.reduce(x.shape, x.shape[1:2], acc, start, [(x, lambda o, i, c, j: (o, j, c))], step)
