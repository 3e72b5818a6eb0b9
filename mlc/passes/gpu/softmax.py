"""The running softmax of a thread's share of scores: some rows of an accumulator fragment, of which other lanes have the other columns.

Exponentials are to base 2: exp(x - m) = 2^(x c - m c), c = log2(e).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import e, log2

import numpy as np

from mlc.ir.mlir import arith, ir, math, vector
from mlc.passes.gpu.foreach import shuffle_xor

CHAINS = 2  # independent ones of a row's maximum and sum: hide the latency of one operation behind another
_LEAST = float(np.finfo(np.float32).min)
_LEAST_BOUNDED = -1e30  # for scores far from the ends of f32: its product with the scale is finite


@dataclass(frozen=True)
class Share:
    """A thread's values of a tile. rows: of each value the number of its row among the thread's; columns: counted from the thread's first.

    lanes: distances between the lanes that have other columns of the same rows. spread: the most that a thread's first column is. First
    columns are multiples of `run`.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    lanes: tuple[int, ...]
    spread: int

    @property
    def height(self) -> int:
        """Rows of a thread."""
        return max(self.rows) + 1

    @property
    def run(self) -> int:
        """How many values at a time, a power of two up to four, are neighbours in a row and begin at a multiple of their number."""
        return next(n for n in (4, 2, 1) if all(self._neighbours(i, n) for i in range(0, len(self.rows), n)))

    def _neighbours(self, first: int, count: int) -> bool:
        column = self.columns[first]
        return (column % count == 0 and self.rows[first:first + count] == (self.rows[first],) * count
                and self.columns[first:first + count] == tuple(range(column, column + count)))

    @staticmethod
    def of_mma(columns: int) -> "Share":
        """Of matrix D of mma.m16n8k16, so many columns wide: value 4j+2h+i is at row h, column 8j+i."""
        values = range(columns // 2)
        return Share(tuple(i // 2 % 2 for i in values), tuple(i // 4 * 8 + i % 2 for i in values), (1, 2), 6)


@dataclass(frozen=True)
class Rows:
    """Per row: the maximum so far (at least the least finite number), and this thread's part of the sum of exponentials."""

    peak: tuple[ir.Value, ...]
    total: tuple[ir.Value, ...]

    def values(self) -> list[ir.Value]:
        return [*self.peak, *self.total]

    @staticmethod
    def of(values: Sequence[ir.Value]) -> "Rows":
        half = len(values) // 2
        return Rows(tuple(values[:half]), tuple(values[half:]))


class OnlineSoftmax:
    """Emits steps of a softmax of scale * score. bounded: no score is near the ends of f32, so one fused operation gives the exponent."""

    def __init__(self, scale: float, bounded: bool, warp: int, share: Share) -> None:
        self.warp, self.bounded, self.share = warp, bounded, share
        self.f32 = ir.F32Type.get()
        self.unit = self._number(scale * log2(e))

    def start(self) -> Rows:
        """Before any key: a maximum below all, no sum."""
        count = self.share.height
        return Rows((self._number(_LEAST_BOUNDED if self.bounded else _LEAST),) * count, (self._number(0.0),) * count)

    def step(self, scores: Sequence[ir.Value], rows: Rows) -> tuple[list[ir.Value], Rows, list[ir.Value]]:
        """(exponentials in the places of the scores, the rows after them, per row the factor that what was before is scaled by)."""
        weights: list[ir.Value] = list(scores)
        peaks, totals, factors = [], [], []
        for h in range(self.share.height):
            own = [i for i, row in enumerate(self.share.rows) if row == h]
            peak = arith.MaxNumFOp(rows.peak[h], self._joined([scores[i] for i in own], arith.MaxNumFOp)).result
            for distance in self.share.lanes:
                peak = arith.MaxNumFOp(peak, shuffle_xor(peak, distance, self.warp)).result
            factor = exp2(arith.MulFOp(arith.SubFOp(rows.peak[h], peak).result, self.unit).result)
            less = arith.NegFOp(arith.MulFOp(peak, self.unit).result).result
            for i in own:
                if self.bounded:
                    weights[i] = exp2(math.FmaOp(scores[i], self.unit, less).result)
                else:
                    weights[i] = exp2(arith.MulFOp(arith.SubFOp(scores[i], peak).result, self.unit).result)
            total = self._joined([weights[i] for i in own], arith.AddFOp)
            totals.append(math.FmaOp(rows.total[h], factor, total).result)
            peaks.append(peak)
            factors.append(factor)
        return weights, Rows(tuple(peaks), tuple(totals)), factors

    def totals(self, rows: Rows) -> list[ir.Value]:
        """Per row the whole sum, in all its threads."""
        found = []
        for total in rows.total:
            for distance in self.share.lanes:
                total = arith.AddFOp(total, shuffle_xor(total, distance, self.warp)).result
            found.append(total)
        return found

    def _joined(self, values: Sequence[ir.Value], op: type) -> ir.Value:
        chains = [list(values[i::CHAINS]) for i in range(CHAINS)]
        parts = []
        for chain in chains:
            part = chain[0]
            for v in chain[1:]:
                part = op(part, v).result
            parts.append(part)
        total = parts[0]
        for part in parts[1:]:
            total = op(total, part).result
        return total

    def _number(self, x: float) -> ir.Value:
        return arith.ConstantOp(self.f32, x).result


def exp2(x: ir.Value) -> ir.Value:
    """2^x of an f32 by the machine's instruction: relative error 2^-22, subnormal results are 0."""
    return math.Exp2Op(x, fastmath=arith.FastMathFlags.afn).result


def scaled(values: Sequence[ir.Value], factors: Sequence[ir.Value], share: Share) -> list[ir.Value]:
    """A share with each row times its factor."""
    return [arith.MulFOp(v, factors[row]).result for v, row in zip(values, share.rows, strict=True)]


def as_left_factor(weights: Sequence[ir.Value], element: ir.Type) -> list[list[ir.Value]]:
    """The fragment as matrix A: per 16 columns, four i32 registers of two 16-bit floats each (PTX ISA, fragments of mma.m16n8k16)."""
    two, one = ir.VectorType.get([2], ir.F32Type.get()), ir.VectorType.get([1], ir.IntegerType.get_signless(32))
    pairs = []
    for i in range(0, len(weights), 2):
        pair = vector.FromElementsOp(two, [weights[i], weights[i + 1]]).result
        narrow = arith.TruncFOp(ir.VectorType.get([2], element), pair).result
        pairs.append(vector.ExtractOp(vector.BitCastOp(one, narrow).result, [], [0]).result)
    return [pairs[i:i + 4] for i in range(0, len(pairs), 4)]


__all__ = ["OnlineSoftmax", "Rows", "Share", "as_left_factor", "exp2", "scaled"]
