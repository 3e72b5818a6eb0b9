"""task.mma on FMA units: stages in shared memory bring both factors, and every lane adds outer products to a tile of sums in registers."""

from collections.abc import Callable, Sequence
from typing import Any

from mlc.ir.mlir import arith, gpu, ir, math, nvgpu, nvvm, scf, vector
from mlc.passes.gpu.block import WIDEST, delinearize
from mlc.passes.gpu.fma_plan import FmaPlan, Rows
from mlc.passes.gpu.product import MatrixProduct, Side
from mlc.passes.gpu.result import ResultTile
from mlc.passes.task.flat import affine, index_constant
from mlc.passes.task.loops import loop
from mlc.passes.tile.model import element_bytes

PATCH = (4, 8)  # outer and depth points that 32 neighbouring threads copy where the depth is contiguous: whole sectors, banks in turn


class FmaProduct(MatrixProduct[FmaPlan]):
    """Emits one task.mma at the insertion point, for all threads of a block."""

    # -- the pipeline -----------------------------------------------------------------------------------------------
    def _pipeline(self) -> list[ir.Value]:
        plan = self.plan
        rows, columns = plan.shape.atom.lanes
        if rows == 1:
            self.lane_row, self.lane_column = index_constant(0), self.lane
        else:  # `FmaAtom.place`
            high, self.lane_column, low = delinearize(self.lane, [rows // 2, columns, 2])
            self.lane_row = affine(0, [(high, 2), (low, 1)], narrow=True)
        self.copies = [(side, rows, self._thread_part(side, rows)) for side, rows in ((self.left, plan.left), (self.right, plan.right))]
        run, starts = plan.shape.atom.runs(1, self._longest)
        accs = [_zero(ir.VectorType.get([run], self.sum))] * (plan.shape.atom.tile[0] * len(starts))
        if any(rows.asynchronous for _, rows, _ in self.copies):
            return self._streamed(accs)
        return self._prefetched(accs)

    def _streamed(self, accs: Sequence[ir.Value]) -> list[ir.Value]:
        """Copies run `stages - 1` steps ahead."""
        plan, ahead = self.plan, self.plan.stages - 1
        constant = [i for i, (side, *_) in enumerate(self.copies) if self.team.dependent and side.factor.buffer in self.team.constants]
        for s in range(min(ahead, plan.steps)):  # weights need not wait for the launches before
            self._copy(constant, index_constant(s), index_constant(s))
        self.team.wait()
        for s in range(ahead):
            if s < plan.steps:
                self._copy([i for i in range(2) if i not in constant], index_constant(s), index_constant(s))
            nvvm.CpAsyncCommitGroupOp()

        def step(i: ir.Value, *carried: ir.Value) -> list[ir.Value]:
            nvvm.CpAsyncWaitGroupOp(ahead - 1)
            gpu.BarrierOp()
            following = arith.AddIOp(i, index_constant(ahead)).result
            if plan.steps > ahead:
                more = scf.IfOp(arith.CmpIOp(arith.CmpIPredicate.ult, following, index_constant(plan.steps)).result)
                with ir.InsertionPoint(more.then_block):
                    self._copy((0, 1), following, self._slot(following))
                    scf.YieldOp([])
            nvvm.CpAsyncCommitGroupOp()
            return self._compute(self._slot(i), carried)

        return loop(plan.steps, 0, 1, list(accs), step)

    def _prefetched(self, accs: Sequence[ir.Value]) -> list[ir.Value]:
        """While a block multiplies one stage, its threads hold the next one in registers."""
        plan = self.plan

        def load(step: ir.Value) -> list[list[ir.Value]]:
            return [self._loads(side, rows, own, step) for side, rows, own in self.copies]

        def store(values: list[list[ir.Value]], slot: ir.Value) -> None:
            for (side, rows, own), loaded in zip(self.copies, values):
                self._stores(side, rows, own, slot, loaded)

        def step(i: ir.Value, *carried: ir.Value) -> list[ir.Value]:
            gpu.BarrierOp()
            following = arith.AddIOp(i, index_constant(1)).result
            ahead = load(arith.MinUIOp(following, index_constant(plan.steps - 1)).result)
            sums = self._compute(self._slot(i), carried)
            store(ahead, self._slot(following))
            return sums

        self.team.wait()
        store(load(index_constant(0)), index_constant(0))
        return loop(plan.steps, 0, 1, list(accs), step)

    # -- copies -----------------------------------------------------------------------------------------------------
    def _thread_part(self, side: Side, rows: Rows) -> tuple[ir.Value, ir.Value, int]:
        """This thread's depth point in each stage, the first of its outer points, and how far the next one is from it."""
        step, threads = self.plan.step, self.team.threads
        if not rows.turned:
            depth, chunk = delinearize(self.team.thread, [step, threads // step])
            return depth, affine(0, [(chunk, rows.vector)], narrow=True), threads // step * rows.vector
        down, deep = min(PATCH[0], threads // step), min(PATCH[1], step)
        far, high, near, low = delinearize(self.team.thread, [threads // step // down, step // deep, down, deep])
        return (affine(0, [(high, deep), (low, 1)], narrow=True), affine(0, [(far, down), (near, 1)], narrow=True), threads // step)

    def _each(self, side: Side, rows: Rows, own: tuple[ir.Value, ir.Value, int], emit: Callable[[int, ir.Value, bool], None]) -> None:
        """Calls emit(number, outer point, whether that may lie beyond the stage) for this thread's copies."""
        _, first, stride = own
        for i in range(-(-side.outer // stride)):
            emit(i, affine(i * stride, [(first, 1)], narrow=True), (i + 1) * stride > side.outer)

    def _from(self, side: Side, rows: Rows, outer: ir.Value, depth: ir.Value) -> tuple[ir.Value, ir.Value | None]:
        real = side.factor.outer.count
        if side.outer > real:  # rows of padding repeat the last ones: their results are dropped
            outer = arith.MinUIOp(outer, index_constant(real - rows.vector)).result
        return self._source(side, rows.vector, outer, depth)

    def _depth(self, own: tuple[ir.Value, ir.Value, int], step: ir.Value) -> ir.Value:
        return affine(0, [(step, self.plan.step), (own[0], 1)], narrow=True)

    def _to(self, rows: Rows, own: tuple[ir.Value, ir.Value, int], slot: ir.Value, outer: ir.Value) -> ir.Value:
        return affine(0, [(slot, rows.size), (own[0], rows.pitch), (outer, 1)], narrow=True)

    def _copy(self, which: Sequence[int], step: ir.Value, slot: ir.Value) -> None:
        """Issues the copies of factors' parts of a step into a slot."""
        for side, rows, own in (self.copies[i] for i in which):
            if not rows.asynchronous:
                self._stores(side, rows, own, slot, self._loads(side, rows, own, step))
                continue
            depth = self._depth(own, step)

            def one(_: int, outer: ir.Value, side: Side = side, rows: Rows = rows, own: Any = own, depth: ir.Value = depth) -> None:
                source, inside = self._from(side, rows, outer, depth)
                extra: dict[str, Any] = {}
                if inside is not None:
                    extra["srcElements"] = arith.SelectOp(inside, index_constant(rows.vector), index_constant(0)).result
                if rows.vector * element_bytes(side.factor.buffer) == WIDEST:
                    extra["bypassL1"] = True
                nvgpu.DeviceAsyncCopyOp(side.memory, [self._to(rows, own, slot, outer)], side.source, [source], rows.vector, **extra)

            self._each(side, rows, own, lambda i, outer, beyond, one=one, side=side: _where(
                beyond, outer, side.outer, lambda: one(i, outer)))

    def _loads(self, side: Side, rows: Rows, own: tuple[ir.Value, ir.Value, int], step: ir.Value) -> list[ir.Value]:
        """This thread's part of a step, vectors; what lies beyond the stage is some other element."""
        depth = self._depth(own, step)
        type_ = ir.VectorType.get([rows.vector], side.source.type.element_type)
        found: list[ir.Value] = []

        def one(_: int, outer: ir.Value, beyond: bool) -> None:
            if beyond:
                outer = arith.MinUIOp(outer, index_constant(side.outer - rows.vector)).result
            source, inside = self._from(side, rows, outer, depth)
            value = vector.LoadOp(type_, side.source, [source], alignment=rows.vector * element_bytes(side.factor.buffer)).result
            found.append(value if inside is None else arith.SelectOp(inside, value, _zero(type_)).result)

        self._each(side, rows, own, one)
        return found

    def _stores(self, side: Side, rows: Rows, own: tuple[ir.Value, ir.Value, int], slot: ir.Value, values: Sequence[ir.Value]) -> None:
        """Puts what `_loads` brought into a slot."""
        def one(i: int, outer: ir.Value, beyond: bool) -> None:
            _where(beyond, outer, side.outer, lambda: _done(vector.StoreOp(
                values[i], side.memory, [self._to(rows, own, slot, outer)], alignment=rows.vector * element_bytes(side.factor.buffer))))

        self._each(side, rows, own, one)

    # -- sums -------------------------------------------------------------------------------------------------------
    @property
    def _longest(self) -> int:
        """Sums of one run: what a store of 16 bytes takes."""
        return WIDEST // element_bytes(self.c)

    def _compute(self, slot: ir.Value, accs: Sequence[ir.Value]) -> list[ir.Value]:
        """One step's outer products added to a lane's sums: run by run of its columns, row by row."""
        plan, out = self.plan, list(accs)
        parts = plan.step // plan.warps[2]
        run, starts = plan.shape.atom.runs(1, self._longest)
        heads = [self._head(side, rows, slot, dim, parts) for dim, (side, rows, _) in enumerate(self.copies)]
        type_ = ir.VectorType.get([run], self.sum)
        for k in range(parts):
            a = [vector.ExtractOp(piece, [], [e]).result for piece in self._fragment(0, heads[0], k) for e in range(piece.type.shape[0])]
            b = self._fragment(1, heads[1], k)
            for i, value in enumerate(a):
                wide = vector.BroadcastOp(type_, value).result
                for j, columns in enumerate(b):
                    at = i * len(starts) + j
                    out[at] = math.FmaOp(wide, columns, out[at]).result
        return out

    def _head(self, side: Side, rows: Rows, slot: ir.Value, dim: int, parts: int) -> ir.Value:
        """Where this lane's first elements of a slot lie."""
        warp, lane = ((self.warp_row, self.lane_row), (self.warp_column, self.lane_column))[dim]
        atom = self.plan.shape.atom
        return affine(0, [(slot, rows.size), (self.warp_depth, parts * rows.pitch), (warp, atom.shape[dim]),
                          (lane, atom.runs(dim, self._longest)[0])], narrow=True)

    def _fragment(self, dim: int, head: ir.Value, depth: int) -> list[ir.Value]:
        """A lane's part of a factor at a depth point of its slot, as the runs of its rows or columns, in the type of the sums."""
        side, rows, _ = self.copies[dim]
        run, starts = self.plan.shape.atom.runs(dim, self._longest)
        element, alignment = side.source.type.element_type, run * element_bytes(side.factor.buffer)
        found = []
        for start in starts:  # constants are added last, so that they can be part of the instruction
            at = arith.AddIOp(head, index_constant(depth * rows.pitch + start)).result
            value = vector.LoadOp(ir.VectorType.get([run], element), side.memory, [at], alignment=alignment).result
            found.append(value if element == self.sum else arith.ExtFOp(ir.VectorType.get([run], self.sum), value).result)
        return found

    # -- results ----------------------------------------------------------------------------------------------------
    def _store_tile(self, accs: Sequence[ir.Value], start: ir.Value) -> None:
        plan, atom = self.plan, self.plan.shape.atom
        result = ResultTile(self.op, plan.product, self.team, start, plan.shape.rows, plan.shape.columns)
        run, starts = atom.runs(1, self._longest)
        high, firsts = atom.runs(0, self._longest)

        def at_row(head: ir.Value, i: int) -> None:
            for j, right in enumerate(starts):
                column = affine(right, [(self.warp_column, atom.shape[1]), (self.lane_column, run)], narrow=True)
                result.store(head, column, accs[i * len(starts) + j])

        for i in range(atom.tile[0]):
            row = affine(firsts[i // high] + i % high, [(self.warp_row, atom.shape[0]), (self.lane_row, high)], narrow=True)
            result.row(row, lambda head, i=i: at_row(head, i))


def _where(needed: bool, index: ir.Value, count: int, emit: Callable[[], None]) -> None:
    """Emits, if `needed` under the condition that the index is below the count."""
    if not needed:
        emit()
        return
    inside = scf.IfOp(arith.CmpIOp(arith.CmpIPredicate.ult, index, index_constant(count)).result)
    with ir.InsertionPoint(inside.then_block):
        emit()
        scf.YieldOp([])


def _zero(type_: ir.VectorType) -> ir.Value:
    return arith.ConstantOp(type_, ir.DenseElementsAttr.get_splat(type_, ir.FloatAttr.get(type_.element_type, 0.0))).result


def _done(_: object) -> None:
    """A statement as an expression."""


__all__ = ["FmaProduct"]
