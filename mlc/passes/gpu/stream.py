"""What every lowering of a task.stream shares: which steps of keys a block needs, and a thread's share of the scores and results."""

from collections.abc import Sequence
from math import gcd

from mlc.ir.affine import map_to_linear
from mlc.ir.mlir import arith, ir, scf, vector
from mlc.layout.linear import Linear
from mlc.passes.gpu.block import Block, delinearize
from mlc.passes.gpu.foreach import ThreadBody
from mlc.passes.gpu.hopper.emit import Int, add, compare, div, i32_type, mul, value, when
from mlc.passes.gpu.softmax import Share
from mlc.passes.task.body import Lanes
from mlc.passes.task.flat import index_constant
from mlc.passes.tile.model import volume


class StreamParts:
    """One task.stream while it is emitted. step: keys that are done at once; rows: those that all threads have, with padding."""

    def __init__(self, op: ir.Operation, team: Block, step: int, rows: int) -> None:
        view = op.opview
        self.op, self.team, self.step, self.rows = op, team, step, rows
        self.extents, self.columns = view.py("extents"), view.py("columns")
        self.offsets = list(op.operands)[3:]
        self.scale = view.py("scale")
        self.points, self.key = len(self.extents) - 2, len(self.extents) - 2
        self.keys = self.extents[self.key]
        self.row_loops = [d for d in range(self.points) if d not in self.columns and self.extents[d] > 1]
        self.column_loop = next(d for d in self.columns if self.extents[d] > 1)
        self.count = volume([self.extents[d] for d in self.row_loops])
        seen = map_to_linear(ir.AffineMapAttr(op.attributes["seen"]).value)
        assert seen is not None
        self.seen = seen
        if self.keys % step:  # keys beyond the end
            loops = len(self.extents) + len(self.offsets)
            self.seen = [*seen, Linear.variable(self.key, loops) * -1 + (self.keys - 1)]
        self.score, self.result = ThreadBody(op, team, 0), ThreadBody(op, team, 1)
        block = self.score.block
        self.plain = len(list(block.operations)) == 1 and block.operations[0].operation.operands[0] == block.arguments[self.points + 1]

    def start(self, place: Linear) -> Int:
        """A place at the block's first point and key."""
        total: Int = place.const
        for offset, factor in zip(self.offsets, place.coefficients[len(self.extents):]):
            if factor:
                total = add(total, mul(arith.IndexCastOp(i32_type(), self.team.env[offset]).result, factor))
        return total

    def _reach(self, e: Linear, most: bool) -> Int:
        """The most (or least) that an expression is for any row of the block, at key 0."""
        ends = [e.coefficients[d] * (self.extents[d] - 1) for d in self.row_loops]
        return add(self.start(e), sum(n for n in ends if (n > 0) == most))

    # -- which steps ------------------------------------------------------------------------------------------------
    def steps(self) -> tuple[Int, Int]:
        """The first step of keys in which a row of the block sees one, and the end of them; one step at least."""
        total = -(-self.keys // self.step)
        first: Int = 0
        stop: Int = total
        for e in self.seen:
            most = self._reach(e, True)
            if e.coefficients[self.key] == -1 and not isinstance(most, int):  # key <= most
                last = arith.MaxSIOp(value(most), value(0)).result
                stop = arith.MinSIOp(value(stop), value(add(div(last, self.step), 1))).result
            elif e.coefficients[self.key] == 1 and not isinstance(most, int):  # key >= -most
                least = arith.MaxSIOp(arith.SubIOp(value(0), value(most)).result, value(0)).result
                first = arith.MaxSIOp(value(first), value(div(least, self.step))).result
        if not isinstance(first, int):
            first = arith.MinSIOp(first, arith.SubIOp(value(stop), value(1)).result).result
        return first, stop

    # -- a thread's part --------------------------------------------------------------------------------------------
    def place(self, rows: Sequence[ir.Value], column: ir.Value) -> None:
        """Which rows of the tile this thread has, and its first column. Rows beyond the last real one are computed, and never stored."""
        self.column = column
        self.row_numbers = rows
        index = ir.IndexType.get()
        self.row_indices = []
        for row in rows:
            real = arith.MinUIOp(row, value(self.count - 1)).result
            loops = [self.extents[d] for d in self.row_loops]
            found = delinearize(arith.IndexCastUIOp(index, real).result, loops)
            self.row_indices.append(dict(zip(self.row_loops, found)))
        self.limits = [[self._limit(e, at) for at in self.row_indices] for e in self.seen]

    def _limit(self, e: Linear, at: dict[int, ir.Value]) -> ir.Value:
        """What a row and the thread's first column are of an expression, at key 0 of a step."""
        total = self.start(e)
        for d, index in at.items():
            if e.coefficients[d]:
                total = add(total, mul(arith.IndexCastOp(i32_type(), index).result, e.coefficients[d]))
        return value(add(total, mul(self.column, e.coefficients[self.key])))

    def _points(self, row: int) -> list[ir.Value]:
        return [self.row_indices[row].get(d, index_constant(0)) for d in range(self.points)]

    def scores(self, products: Sequence[ir.Value], share: Share, step: Int) -> list[ir.Value]:
        """The scores (before the scale) of a step's products: -inf where a row does not see the key."""
        first = value(mul(step, self.step))
        found = list(products) if self.plain else self._scored(products, share, first)
        if not self.seen:
            return found
        whole: ir.Value | None = None
        for e in self.seen:
            c = e.coefficients[self.key]
            least = add(add(self._reach(e, False), mul(first, c) if c else 0), min(0, c * (self.step - 1)))
            inside = compare("sge", least, 0)
            whole = inside if whole is None else arith.AndIOp(whole, inside).result
        assert whole is not None
        branch = scf.IfOp(whole, [v.type for v in found], has_else=True)
        with ir.InsertionPoint(branch.then_block):
            scf.YieldOp(found)
        with ir.InsertionPoint(branch.else_block):
            scf.YieldOp(self._hidden(found, share, first))
        return list(branch.results)

    def _hidden(self, scores: Sequence[ir.Value], share: Share, first: ir.Value) -> list[ir.Value]:
        nothing = arith.ConstantOp(ir.F32Type.get(), float("-inf")).result
        found = list(scores)
        for e, limits in zip(self.seen, self.limits):
            c = e.coefficients[self.key]
            at = [add(limit, mul(first, c)) if c else limit for limit in limits]
            for i, (row, column) in enumerate(zip(share.rows, share.columns)):
                found[i] = arith.SelectOp(compare("sge", at[row], -c * column), found[i], nothing).result
        return found

    def _scored(self, products: Sequence[ir.Value], share: Share, first: ir.Value) -> list[ir.Value]:
        """What the score region makes of neighbouring products, or of single ones where keys may lie beyond the end."""
        index, arguments = ir.IndexType.get(), list(self.score.block.arguments)
        count = share.run if self.keys % self.step == 0 else 1
        type_, found = ir.VectorType.get([count], ir.F32Type.get()), []
        for i in range(0, len(products), count):
            key = value(add(add(first, self.column), share.columns[i]))
            if self.keys % self.step:
                key = arith.MinUIOp(key, value(self.keys - 1)).result
            part = vector.FromElementsOp(type_, list(products[i:i + count])).result if count > 1 else products[i]
            env = {**self.team.env, **dict(zip(arguments, [*self._points(share.rows[i]), arith.IndexCastUIOp(index, key).result, part]))}
            result = self.score.ops(self.score.block, Lanes(arguments[self.key] if count > 1 else None, count), env)[0]
            found += [vector.ExtractOp(result, [], [k]).result for k in range(count)] if count > 1 else [result]
        return found

    def store(self, sums: Sequence[ir.Value], share: Share, totals: Sequence[ir.Value]) -> None:
        """Stores the results of a thread's weighted sums, neighbouring columns together; padding is dropped."""
        for h in range(share.height):
            if self.count == self.rows:
                self._store_row(h, sums, share, totals[h])
                continue
            when(compare("ult", self.row_numbers[h], self.count), lambda h=h: self._store_row(h, sums, share, totals[h]))

    def _store_row(self, row: int, sums: Sequence[ir.Value], share: Share, total: ir.Value) -> None:
        width, points = self.extents[self.column_loop], self._points(row)
        arguments = list(self.result.block.arguments)
        count = gcd(share.run, width)
        type_ = ir.VectorType.get([count], ir.F32Type.get())

        def emit(i: int) -> None:
            column = value(add(self.column, share.columns[i]))
            points[self.column_loop] = arith.IndexCastUIOp(ir.IndexType.get(), column).result
            part = vector.FromElementsOp(type_, list(sums[i:i + count])).result if count > 1 else sums[i]
            env = {**self.team.env, **dict(zip(arguments, [*points, part, total]))}
            self.result.ops(self.result.block, Lanes(arguments[self.column_loop] if count > 1 else None, count), env)

        for i in range(0, len(sums), count):
            if share.rows[i] != row or share.columns[i] >= width:
                continue
            if share.columns[i] + share.spread + count <= width:
                emit(i)
            else:
                when(compare("ult", value(add(self.column, share.columns[i])), width), lambda i=i: emit(i))


__all__ = ["StreamParts"]
