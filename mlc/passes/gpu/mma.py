"""task.mma on tensor cores by mma.sync: a pipeline of asynchronous copies into shared memory feeds warp tiles held in registers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlc.ir.mlir import arith, gpu, ir, memref, nvgpu, scf, vector
from mlc.passes.gpu.block import Block, delinearize
from mlc.passes.gpu.contraction import Factor
from mlc.passes.gpu.plan import COLUMNS, DEPTH, ROWS, MmaPlan, Staged
from mlc.passes.gpu.result import ResultTile, place
from mlc.passes.task.flat import affine, index_constant, linear_index
from mlc.passes.task.loops import loop
from mlc.passes.tile.model import element_bytes, volume


@dataclass
class _Side:
    """One factor while its product is emitted. memory: where fragments are read; start: the block's part there, in elements."""

    factor: Factor
    staged: Staged | None
    source: ir.Value
    source_start: ir.Value
    memory: ir.Value
    outer: int  # outer points, those of padding included
    guards: list[ir.Value]  # where each guarded index starts

    def outer_offset(self, index: ir.Value, padded: bool) -> ir.Value:
        """Where fragments find an outer point, relative to the stage (or to the buffer's part)."""
        staged = self.staged
        if staged is not None:
            return affine(0, [(index, 1 if staged.by_depth else staged.pitch)], narrow=True)
        loops = self.factor.outer
        if padded:  # rows of padding read the last real ones; their results are dropped
            index = arith.MinUIOp(index, index_constant(loops.count - (8 if self.by_depth else 1))).result
        return place(loops, index)

    def depth_offset(self, index: ir.Value) -> ir.Value:
        staged = self.staged
        if staged is not None:
            return affine(0, [(index, staged.pitch if staged.by_depth else 1)], narrow=True)
        return place(self.factor.depth, index)

    @property
    def by_depth(self) -> bool:
        return self.staged.by_depth if self.staged is not None else not self.factor.depth.contiguous


class TensorCoreProduct:
    """Emits one task.mma at the insertion point; `plan` was made from the op's schedule."""

    def __init__(self, op: ir.Operation, plan: MmaPlan, team: Block, workspace: int) -> None:
        self.op, self.plan, self.team, self.workspace = op, plan, team, workspace
        self.element = plan.product.a.buffer.type.element_type
        self.f32 = ir.F32Type.get()
        self.c = op.operands[2]

    def emit(self) -> None:
        extents = [e for e, *_ in self.plan.product.batch]
        if not extents:
            self._product([], *[index_constant(0)] * 3)
            return
        self.team.wait()

        def one(i: ir.Value) -> list[ir.Value]:
            at = delinearize(i, extents)
            gpu.BarrierOp()  # the workspace of the product before is free
            starts = [affine(0, [(v, b[1 + k]) for v, b in zip(at, self.plan.product.batch)], narrow=True) for k in range(3)]
            self._product(at, *starts)
            return []

        loop(volume(extents), 0, 1, [], one)

    def _product(self, batch: Sequence[ir.Value], a: ir.Value, b: ir.Value, c: ir.Value) -> None:
        """One batch's product; a, b, c: where its operands start."""
        plan, team = self.plan, self.team
        warp, self.lane = delinearize(team.thread, [max(1, team.threads // 32), 32])
        self.warp_row, self.warp_column, self.warp_depth = delinearize(warp, plan.warps)
        size = 0
        sides = []
        for factor, staged, start, outer in ((plan.product.a, plan.left, a, plan.warp_rows * plan.warps[0]),
                                             (plan.product.b, plan.right, b, plan.warp_columns * plan.warps[1])):
            source = team.memory.flat[factor.buffer]
            guards = [arith.AddIOp(linear_index(g.start, team.env), affine(0, list(zip(batch, g.batch)))).result for g in factor.guards]
            at = arith.AddIOp(linear_index(factor.start, team.env, narrow=True), start).result
            if staged is None:
                sides.append(_Side(factor, None, source, at, source, outer, guards))
                continue
            memory = team.shared(self.workspace + size * element_bytes(factor.buffer), staged.size * plan.stages, self.element)
            sides.append(_Side(factor, staged, source, at, memory, outer, guards))
            size += staged.size * plan.stages
        self.left, self.right = sides
        accs = self._pipeline()
        if plan.warps[2] > 1:
            accs = self._join_depth(accs)
        self._store(accs, c)

    # -- the pipeline -----------------------------------------------------------------------------------------------
    def _pipeline(self) -> list[ir.Value]:
        plan = self.plan
        down, across = plan.atoms
        type_ = ir.VectorType.get([2, 2], self.f32)
        zero = arith.ConstantOp(type_, ir.DenseElementsAttr.get_splat(type_, ir.FloatAttr.get(self.f32, 0.0))).result
        accs = [zero] * (down * across)
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
            token = nvgpu.DeviceAsyncCreateGroupOp([]).result

        def step(i: ir.Value, *carried: ir.Value) -> list[ir.Value]:
            nvgpu.DeviceAsyncWaitOp(token, numGroups=ahead - 1)
            gpu.BarrierOp()
            following = arith.AddIOp(i, index_constant(ahead)).result
            if plan.steps > ahead:
                more = scf.IfOp(arith.CmpIOp(arith.CmpIPredicate.ult, following, index_constant(plan.steps)).result)
                with ir.InsertionPoint(more.then_block):
                    self._copy(sides, following, self._slot(following))
                    scf.YieldOp([])
            nvgpu.DeviceAsyncCreateGroupOp([])
            return self._compute(i, self._slot(i), carried)

        return loop(plan.steps, 0, 1, accs, step)

    def _slot(self, step: ir.Value) -> ir.Value:
        return delinearize(step, [1 + self.plan.steps // self.plan.stages, self.plan.stages])[1]

    def _copy(self, sides: Sequence[_Side], step: ir.Value, slot: ir.Value) -> None:
        """Issues the copies of factors' parts of a step into a slot."""
        for side in sides:
            if side.staged is not None:
                self._copy_side(side, side.staged, step, slot)

    def _copy_side(self, side: _Side, staged: Staged, step: ir.Value, slot: ir.Value) -> None:
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

    def _copy_vector(self, side: _Side, v: int, outer: ir.Value, depth: ir.Value, target: ir.Value) -> None:
        """One copy of v elements; what lies beyond the depth is zero."""
        total = side.factor.depth.count
        ragged = total % self.plan.step != 0
        inside = arith.CmpIOp(arith.CmpIPredicate.ult, depth, index_constant(total)).result if ragged else None
        if inside is not None:
            depth = arith.MinUIOp(depth, index_constant(total - 1 if side.by_depth or v == 1 else total - v)).result
        terms = (side.source_start, place(side.factor.outer, outer), place(side.factor.depth, depth))
        source = affine(0, [(t, 1) for t in terms], narrow=True)
        for guard, start in zip(side.factor.guards, side.guards):
            at = affine(0, [(start, 1), *zip(delinearize(outer, side.factor.outer.extents), guard.outer),
                            *zip(delinearize(depth, side.factor.depth.extents), guard.depth)])
            within = arith.CmpIOp(arith.CmpIPredicate.ult, at, index_constant(guard.size)).result
            inside = within if inside is None else arith.AndIOp(inside, within).result
        if side.factor.guards:
            source = arith.SelectOp(inside, source, index_constant(0)).result
        if v > 1:
            extra: dict[str, Any] = {}
            if inside is not None:
                extra["srcElements"] = arith.SelectOp(inside, index_constant(v), index_constant(0)).result
            if v * element_bytes(side.factor.buffer) == 16:
                extra["bypassL1"] = True
            nvgpu.DeviceAsyncCopyOp(side.memory, [target], side.source, [source], v, **extra)
            return
        value = memref.LoadOp(side.source, [source]).result
        if inside is not None:
            zero = arith.ConstantOp(self.element, ir.FloatAttr.get(self.element, 0.0)).result
            value = arith.SelectOp(inside, value, zero).result
        memref.StoreOp(value, side.memory, [target])

    # -- fragments --------------------------------------------------------------------------------------------------
    def _compute(self, step: ir.Value, slot: ir.Value, accs: Sequence[ir.Value]) -> list[ir.Value]:
        """One step's products added to a warp's accumulators."""
        plan, out = self.plan, list(accs)
        down, across = plan.atoms
        parts = plan.step // DEPTH // plan.warps[2]
        for s in range(parts):
            depth = affine(s * DEPTH, [(self.warp_depth, parts * DEPTH)], narrow=True)
            a = [self._fragment(self.left, step, slot, self.warp_row, plan.warp_rows, i * ROWS, depth, 4) for i in range(down)]
            b: list[ir.Value] = []
            for j in range(0, across, 2):
                n = 4 if j + 1 < across else 2
                pair = self._fragment(self.right, step, slot, self.warp_column, plan.warp_columns, j * COLUMNS, depth, n)
                b += [_half(pair, k) for k in (0, 2)] if n == 4 else [pair]
            for i in range(down):
                for j in range(across):
                    out[i * across + j] = nvgpu.MmaSyncOp(out[i * across + j].type, a[i], b[j], out[i * across + j],
                                                          [ROWS, COLUMNS, DEPTH]).result
        return out

    def _fragment(self, side: _Side, step: ir.Value, slot: ir.Value, warp: ir.Value, tile: int, outer: int, depth: ir.Value,
                  matrices: int) -> ir.Value:
        """ldmatrix: `matrices` 8x8 pieces from outer point warp * tile + outer and depth point `depth` of the step.

        Lane l gives the address of row l % 8 of piece l // 8. Pieces of the left factor go down first, those of the right one deep first
        (PTX ISA, fragments of mma.m16n8k16). Memory that is [depth][outer] is transposed on the way.
        """
        pieces = delinearize(self.lane, [4, 8])
        pair = delinearize(pieces[0], [2, 2])
        within, other = (pair[1], pair[0]) if side is self.left else (pair[0], pair[1])
        rows = (within if side is self.left or matrices == 4 else index_constant(0)), pieces[1]
        if side.by_depth:
            o = affine(outer, [(warp, tile), (rows[0], 8)], narrow=True)
            d = affine(0, [(depth, 1), (other, 8), (rows[1], 1)], narrow=True)
        else:
            o = affine(outer, [(warp, tile), (rows[0], 8), (rows[1], 1)], narrow=True)
            d = affine(0, [(depth, 1), (other, 8)], narrow=True)
        if side.staged is None:
            d = affine(0, [(step, self.plan.step), (d, 1)], narrow=True)
            start = side.source_start
        else:
            start = affine(0, [(slot, side.staged.size)], narrow=True)
        padded = side.outer > side.factor.outer.count
        at = affine(0, [(start, 1), (side.outer_offset(o, padded), 1), (side.depth_offset(d), 1)], narrow=True)
        return nvgpu.LdMatrixOp(ir.VectorType.get([matrices, 2], self.element), side.memory, [at], side.by_depth, matrices).result

    # -- results ----------------------------------------------------------------------------------------------------
    def _join_depth(self, accs: list[ir.Value]) -> list[ir.Value]:
        """Adds the parts of the warps along the depth, through the workspace; the first of them has the sums."""
        plan, team = self.plan, self.team
        threads = 32 * plan.warps[0] * plan.warps[1]
        parts = plan.warps[2] - 1
        buffer = team.shared(self.workspace, parts * len(accs) * threads * 4, self.f32)
        own = affine(0, [(self.warp_row, 32 * plan.warps[1]), (self.warp_column, 32), (self.lane, 1)], narrow=True)
        flat = ir.VectorType.get([4], self.f32)

        def at(part: ir.Value, k: int) -> ir.Value:
            return affine(k * threads * 4, [(part, len(accs) * threads * 4), (own, 4)], narrow=True)

        gpu.BarrierOp()
        gives = scf.IfOp(arith.CmpIOp(arith.CmpIPredicate.ugt, self.warp_depth, index_constant(0)).result)
        with ir.InsertionPoint(gives.then_block):
            part = arith.SubIOp(self.warp_depth, index_constant(1)).result
            for k, acc in enumerate(accs):
                vector.StoreOp(vector.ShapeCastOp(flat, acc).result, buffer, [at(part, k)], alignment=16)
            scf.YieldOp([])
        gpu.BarrierOp()
        for p in range(parts):
            accs = [arith.AddFOp(acc, vector.ShapeCastOp(
                acc.type, vector.LoadOp(flat, buffer, [at(index_constant(p), k)], alignment=16).result).result).result
                for k, acc in enumerate(accs)]
        return accs

    def _store(self, accs: Sequence[ir.Value], start: ir.Value) -> None:
        """Accumulators to c. Lane l of an atom holds rows l // 4 and l // 4 + 8, columns 2 * (l % 4) and the next."""
        plan = self.plan
        if plan.warps[2] > 1:
            first = scf.IfOp(arith.CmpIOp(arith.CmpIPredicate.eq, self.warp_depth, index_constant(0)).result)
            with ir.InsertionPoint(first.then_block):
                self._store_tile(accs, start)
                scf.YieldOp([])
            return
        self._store_tile(accs, start)

    def _store_tile(self, accs: Sequence[ir.Value], start: ir.Value) -> None:
        plan, team, product = self.plan, self.team, self.plan.product
        down, across = plan.atoms
        group, member = delinearize(self.lane, [8, 4])
        result = ResultTile(self.op, product, team, start, plan.warp_rows * plan.warps[0], plan.warp_columns * plan.warps[1])

        def at_row(head: ir.Value, i: int, h: int) -> None:
            for j in range(across):
                column = affine(j * COLUMNS, [(self.warp_column, plan.warp_columns), (member, 2)], narrow=True)
                result.pair(head, column, vector.ExtractOp(accs[i * across + j], [], [h]).result)

        for i in range(down):
            for h in range(2):
                row = affine(i * ROWS + h * 8, [(self.warp_row, plan.warp_rows), (group, 1)], narrow=True)
                result.row(row, lambda head, i=i, h=h: at_row(head, i, h))


def _half(pair: ir.Value, first: int) -> ir.Value:
    """Rows first and first + 1 of a vector<4x2>."""
    return vector.ExtractStridedSliceOp(ir.VectorType.get([2, 2], pair.type.element_type), pair, [first], [2], [1]).result
