"""task.mma by mma.sync: a pipeline of asynchronous copies into shared memory feeds warp tiles held in registers.

Registers of 32 bits hold four neighbouring factors of 8 bits, two of 16, or one of f32, which the instruction reads as tf32 (`gpu.tf32`).
"""

from collections.abc import Sequence
from typing import Any

from mlc.ir.mlir import arith, gpu, ir, memref, nvgpu, nvvm, scf, vector
from mlc.passes.gpu.block import WIDEST, delinearize
from mlc.passes.gpu.fragments import corner_of_piece, row_of_piece
from mlc.passes.gpu.plan import MmaPlan, Staged, is_shared
from mlc.passes.gpu.product import MatrixProduct, Side
from mlc.passes.gpu.result import ResultTile
from mlc.passes.gpu.tf32 import rounded
from mlc.passes.task.flat import affine, index_constant
from mlc.passes.task.loops import loop
from mlc.passes.tile.model import element_bytes, volume


class TensorCoreProduct(MatrixProduct[MmaPlan]):
    """By mma.sync, ldmatrix and cp.async."""

    # -- the pipeline -----------------------------------------------------------------------------------------------
    def _pipeline(self) -> list[ir.Value]:
        plan = self.plan
        accs = self._zeros([2, 2])
        staged = self.left.staged is not None or self.right.staged is not None
        if not staged:
            return loop(plan.steps, 0, 1, accs, lambda i, *c: self._compute(i, index_constant(0), c))
        ahead = plan.stages - 1
        sides = [s for s in (self.left, self.right) if s.staged is not None]
        early = [s for s in sides if self.team.dependent and s.factor.buffer in self.team.constants]
        for s in range(min(ahead, plan.steps)):  # weights need not wait for the launches before
            self._copy(early, index_constant(s), index_constant(s))
        self.team.wait()
        for s in range(ahead):
            if s < plan.steps:
                self._copy([side for side in sides if side not in early], index_constant(s), index_constant(s))
            nvvm.CpAsyncCommitGroupOp()

        def step(i: ir.Value, *carried: ir.Value) -> list[ir.Value]:
            nvvm.CpAsyncWaitGroupOp(ahead - 1)
            gpu.BarrierOp()
            following = arith.AddIOp(i, index_constant(ahead)).result
            if plan.steps > ahead:
                more = scf.IfOp(arith.CmpIOp(arith.CmpIPredicate.ult, following, index_constant(plan.steps)).result)
                with ir.InsertionPoint(more.then_block):
                    self._copy(sides, following, self._slot(following))
                    scf.YieldOp([])
            nvvm.CpAsyncCommitGroupOp()
            return self._compute(i, self._slot(i), carried)

        return loop(plan.steps, 0, 1, accs, step)

    def _copy(self, sides: Sequence[Side], step: ir.Value, slot: ir.Value) -> None:
        """Issues the copies of factors' parts of a step into a slot."""
        for side in sides:
            if side.staged is not None:
                self._copy_side(side, side.staged, step, slot)

    def _copy_side(self, side: Side, staged: Staged, step: ir.Value, slot: ir.Value) -> None:
        plan, team, v = self.plan, self.team, staged.vector
        shape = [plan.step, side.outer // v] if staged.by_depth else [side.outer, plan.step // v]
        count = volume(shape)
        base = affine(0, [(slot, staged.size)], narrow=True)
        first = affine(0, [(step, plan.step)], narrow=True)

        def one(number: ir.Value) -> None:
            row, chunk = delinearize(number, shape)
            along = affine(0, [(chunk, v)], narrow=True)
            outer, depth = (along, row) if staged.by_depth else (row, along)
            target = affine(0, [(base, 1), (row, staged.pitch), (along, 1)], narrow=True)
            real = side.factor.outer.count
            if side.outer > real:  # rows of padding repeat the last ones: their results are dropped
                outer = arith.MinUIOp(outer, index_constant(real - (v if staged.by_depth else 1))).result
            at = affine(0, [(first, 1), (depth, 1)], narrow=True)
            self._copy_vector(side, v, outer, at, target)

        for i in range(-(-count // team.threads)):
            number = affine(i * team.threads, [(team.thread, 1)], narrow=True)
            if (i + 1) * team.threads <= count:
                one(number)
                continue
            inside = scf.IfOp(arith.CmpIOp(arith.CmpIPredicate.ult, number, index_constant(count)).result)
            with ir.InsertionPoint(inside.then_block):
                one(number)
                scf.YieldOp([])

    def _copy_vector(self, side: Side, v: int, outer: ir.Value, depth: ir.Value, target: ir.Value) -> None:
        """One copy of v elements; what lies beyond the depth is zero."""
        source, inside = self._source(side, v, outer, depth)
        if v * element_bytes(side.factor.buffer) >= 4 and not is_shared(side.factor.buffer):
            extra: dict[str, Any] = {}
            if inside is not None:
                extra["srcElements"] = arith.SelectOp(inside, self._real(side, v, depth), index_constant(0)).result
            if v * element_bytes(side.factor.buffer) == 16:
                extra["bypassL1"] = True
            nvgpu.DeviceAsyncCopyOp(side.memory, [target], side.source, [source], v, **extra)
            return
        value = memref.LoadOp(side.source, [source]).result
        if inside is not None:
            kind = ir.IntegerAttr if isinstance(self.element, ir.IntegerType) else ir.FloatAttr
            zero = arith.ConstantOp(self.element, kind.get(self.element, 0)).result
            value = arith.SelectOp(inside, value, zero).result
        memref.StoreOp(value, side.memory, [target])

    def _real(self, side: Side, v: int, depth: ir.Value) -> ir.Value:
        """How many of v elements from a depth point on are not behind the depth."""
        total = side.factor.depth.count
        if side.by_depth or total % v == 0:
            return index_constant(v)
        return arith.MinUIOp(arith.SubIOp(index_constant(total), depth).result, index_constant(v)).result

    # -- fragments --------------------------------------------------------------------------------------------------
    def _compute(self, step: ir.Value, slot: ir.Value, accs: Sequence[ir.Value]) -> list[ir.Value]:
        """One step's products added to a warp's accumulators."""
        plan, out = self.plan, list(accs)
        down, across = plan.atoms
        rows, columns, deep = plan.unit.atom.shape
        parts = plan.step // deep // plan.warps[2]
        for s in range(parts):
            depth = affine(s * deep, [(self.warp_depth, parts * deep)], narrow=True)
            a = [self._fragment(self.left, step, slot, self.warp_row, plan.warp_rows, i * rows, depth, 4) for i in range(down)]
            b: list[ir.Value] = []
            for j in range(0, across, 2):
                n = 4 if j + 1 < across else 2  # registers
                pair = self._fragment(self.right, step, slot, self.warp_column, plan.warp_columns, j * columns, depth, n)
                b += [_half(pair, k) for k in (0, 2)] if n == 4 else [pair]
            for i in range(down):
                for j in range(across):
                    out[i * across + j] = nvgpu.MmaSyncOp(out[i * across + j].type, a[i], b[j], out[i * across + j],
                                                          [rows, columns, deep], tf32Enabled=plan.unit.atom.input == "tf32").result
        return out

    def _fragment(self, side: Side, step: ir.Value, slot: ir.Value, warp: ir.Value, tile: int, outer: int, depth: ir.Value,
                  matrices: int) -> ir.Value:
        """`matrices` pieces, 8 outer points by 16 bytes of depth, from outer point warp * tile + outer and depth point `depth` of the step.

        By ldmatrix, which transposes memory that is [depth][outer] on the way, if elements have 16 bits; others are loaded one by one.
        """
        size, left, at = element_bytes(side.factor.buffer), side is self.left, self._where(side, step, slot)
        type_ = ir.VectorType.get([matrices, 4 // size], self.element)
        if side.by_depth and not side.transposes:
            group, member = delinearize(self.lane, [8, 4])
            held = []
            for i in range(matrices):
                down, deep = corner_of_piece(i, left)
                o = affine(outer + 8 * down, [(warp, tile), (group, 1)], narrow=True)
                for e in range(4 // size):
                    d = affine(WIDEST // size * deep + e, [(depth, 1), (member, 4 // size)], narrow=True)
                    held.append(memref.LoadOp(side.memory, [at(o, d)]).result)
            return self._as_read(vector.FromElementsOp(type_, held).result)
        outers, depths = row_of_piece(self.lane, matrices, left, side.by_depth, size)
        o, d = affine(outer, [(warp, tile), *outers], narrow=True), affine(0, [(depth, 1), *depths], narrow=True)
        return self._as_read(nvgpu.LdMatrixOp(type_, side.memory, [at(o, d)], side.by_depth, matrices).result)

    def _as_read(self, fragment: ir.Value) -> ir.Value:
        """A fragment of which the instruction reads what it shall."""
        return rounded(fragment) if self.plan.unit.atom.input == "tf32" else fragment

    # -- results ---------------------------------------------------------------------------------------------------
    def _store_tile(self, accs: Sequence[ir.Value], start: ir.Value) -> None:
        """Lane l of an atom holds rows l // 4 and l // 4 + 8, columns 2 * (l % 4) and the next."""
        plan, team, product = self.plan, self.team, self.plan.product
        down, across = plan.atoms
        group, member = delinearize(self.lane, [8, 4])
        result = ResultTile(self.op, product, team, start, plan.warp_rows * plan.warps[0], plan.warp_columns * plan.warps[1])

        def at_row(head: ir.Value, i: int, h: int) -> None:
            for j in range(across):
                column = affine(j * plan.unit.columns, [(self.warp_column, plan.warp_columns), (member, 2)], narrow=True)
                result.store(head, column, vector.ExtractOp(accs[i * across + j], [], [h]).result)

        for i in range(down):
            for h in range(2):
                row = affine(i * plan.unit.rows + h * 8, [(self.warp_row, plan.warp_rows), (group, 1)], narrow=True)
                result.row(row, lambda head, i=i, h=h: at_row(head, i, h))


def _half(pair: ir.Value, first: int) -> ir.Value:
    """Rows first and first + 1 of a vector of four."""
    type_ = ir.VectorType.get([2, *list(pair.type.shape)[1:]], pair.type.element_type)
    return vector.ExtractStridedSliceOp(type_, pair, [first], [2], [1]).result
