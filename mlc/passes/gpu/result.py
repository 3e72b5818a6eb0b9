"""Where a matrix product's sums go: pairs of neighbouring columns, held by one thread, are stored into c; padding is dropped."""

from collections.abc import Callable

from mlc.ir.mlir import arith, ir, memref, scf, vector
from mlc.passes.gpu.block import Block, delinearize, divisor
from mlc.passes.gpu.contraction import Loops, Product
from mlc.passes.task.flat import affine, index_constant, linear_index


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
        loops = product.out_columns
        others = (*product.out_rows.strides, *loops.strides[:-1], product.c.const, *(b[3] for b in product.batch),
                  *(s * divisor(v) for v, s in product.c.strides.items()))
        self.even = loops.contiguous and loops.extents[-1] % 2 == 0 and not any(s % 2 for s in others) and team.align_of(c) % 8 == 0

    def row(self, row: ir.Value, emit: Callable[[ir.Value], None]) -> None:
        """Calls emit(head), if the row is a real one; head: where it begins."""
        loops = self.product.out_rows
        _guarded(row, loops.count, self.rows, lambda: emit(affine(0, [(self.base, 1), (place(loops, row), 1)], narrow=True)))

    def pair(self, head: ir.Value, column: ir.Value, values: ir.Value) -> None:
        """Stores values (vector<2xf32>) at an even column of a row and the next one."""
        loops = self.product.out_columns

        def at(column: ir.Value) -> ir.Value:
            return affine(0, [(head, 1), (place(loops, column), 1)], narrow=True)

        if self.even:
            _guarded(column, loops.count, self.columns, lambda: _store(vector.StoreOp(values, self.buffer, [at(column)], alignment=8)))
            return
        for k in range(2):
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
