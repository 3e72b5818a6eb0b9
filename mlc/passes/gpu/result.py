"""Where a matrix product's sums go: neighbouring columns that one thread holds are stored into c together; padding is dropped."""

from collections.abc import Callable

from mlc.ir.mlir import arith, ir, memref, scf, vector
from mlc.passes.gpu.block import Block, delinearize
from mlc.passes.gpu.contraction import Loops, Product
from mlc.passes.task.flat import affine, divisor, index_constant, linear_index
from mlc.passes.tile.model import element_bytes


def place(loops: Loops, index: ir.Value) -> ir.Value:
    """The element offset of a linear index over some loops."""
    return affine(0, list(zip(delinearize(index, loops.extents), loops.strides)), narrow=True)


class ResultTile:
    """The c of a task.mma. start: where a batch's part begins, if there are batches; rows, columns: what the atoms cover, with padding."""

    def __init__(self, op: ir.Operation, product: Product, team: Block, start: ir.Value | None, rows: int, columns: int) -> None:
        c = op.operands[2]
        self.product, self.rows, self.columns = product, rows, columns
        self.buffer = team.memory.flat[c]
        begin = linear_index(product.c, team.env, narrow=True)
        self.base = begin if start is None else affine(0, [(begin, 1), (start, 1)], narrow=True)
        self.alignment, self.bytes = team.align_of(c), element_bytes(c)

    def row(self, row: ir.Value, emit: Callable[[ir.Value], None]) -> None:
        """Calls emit(head), if the row is a real one; head: where it begins."""
        loops = self.product.out_rows
        _guarded(row, loops.count, self.rows, lambda: emit(affine(0, [(self.base, 1), (place(loops, row), 1)], narrow=True)))

    def whole(self, count: int) -> bool:
        """Whether `count` columns, a power of two, are neighbours in memory and aligned wherever a multiple of them begins."""
        product, loops = self.product, self.product.out_columns
        others = (*product.out_rows.strides, *loops.strides[:-1], product.c.const, *(b[3] for b in product.batch),
                  *(s * divisor(v) for v, s in product.c.strides.items()))
        return (loops.contiguous and loops.extents[-1] % count == 0 and not any(s % count for s in others)
                and self.alignment % (count * self.bytes) == 0)

    def store(self, head: ir.Value, column: ir.Value, values: ir.Value) -> None:
        """Stores a vector of sums, 16 bytes at most, at a column that is a multiple of its length, and those behind it."""
        loops, count = self.product.out_columns, values.type.shape[0]

        def at(column: ir.Value) -> ir.Value:
            return affine(0, [(head, 1), (place(loops, column), 1)], narrow=True)

        if self.whole(count):
            _guarded(column, loops.count, self.columns,
                     lambda: _store(vector.StoreOp(values, self.buffer, [at(column)], alignment=count * self.bytes)))
            return
        for k in range(count):
            own = affine(k, [(column, 1)], narrow=True)
            value = vector.ExtractOp(values, [], [k]).result
            _guarded(own, loops.count, self.columns,
                     lambda own=own, value=value: _store(memref.StoreOp(value, self.buffer, [at(own)])))


def _guarded(index: ir.Value, count: int, padded: int, emit: Callable[[], None]) -> None:
    """Emits under the condition that an index below `padded` is below `count`."""
    if padded == count:
        emit()
        return
    inside = scf.IfOp(arith.CmpIOp(arith.CmpIPredicate.ult, index, index_constant(count)).result)
    with ir.InsertionPoint(inside.then_block):
        emit()
        scf.YieldOp([])


def _store(_: object) -> None:
    """A statement as an expression."""


__all__ = ["ResultTile", "place"]
