"""task.mma by warps: who a warp is, where factors' elements lie, and the sums of warps that share the depth."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Generic, TypeVar

from mlc.ir.mlir import arith, gpu, ir, scf, vector
from mlc.passes.gpu.block import WIDEST, Block, delinearize
from mlc.passes.gpu.contraction import Factor
from mlc.passes.gpu.fma_plan import FmaPlan
from mlc.passes.gpu.plan import MmaPlan, Staged, is_shared
from mlc.passes.gpu.result import place
from mlc.passes.task.flat import affine, index_constant, linear_index
from mlc.passes.task.loops import loop
from mlc.passes.tile.model import element_bytes, volume

Plan = TypeVar("Plan", MmaPlan, FmaPlan)


@dataclass
class Side:
    """One factor while its product is emitted. memory: where fragments are read; start: the block's part there, in elements."""

    factor: Factor
    staged: Staged | None
    source: ir.Value
    source_start: ir.Value
    memory: ir.Value
    outer: int  # outer points, those of padding included
    guards: list[ir.Value]  # where each guarded index starts

    def outer_offset(self, index: ir.Value) -> ir.Value:
        """Where fragments find an outer point, relative to the stage (or to the buffer's part)."""
        staged = self.staged
        if staged is not None:
            return affine(0, [(index, 1 if staged.by_depth else staged.pitch)], narrow=True)
        loops = self.factor.outer
        if self.outer > loops.count:  # rows of padding read the last real ones; their results are dropped
            index = arith.MinUIOp(index, index_constant(loops.count - (8 if self.transposes else 1))).result
        return place(loops, index)

    def depth_offset(self, index: ir.Value) -> ir.Value:
        staged = self.staged
        if staged is not None:
            return affine(0, [(index, staged.pitch if staged.by_depth else 1)], narrow=True)
        return place(self.factor.depth, index)

    @property
    def by_depth(self) -> bool:
        return self.staged.by_depth if self.staged is not None else not self.factor.depth.contiguous

    @property
    def transposes(self) -> bool:
        """Whether ldmatrix reads eight outer points from a multiple of eight on: it transposes elements of 16 bits only."""
        return self.by_depth and element_bytes(self.factor.buffer) == 2


class MatrixProduct(ABC, Generic[Plan]):
    """Emits one task.mma at the insertion point; `plan` was made from the op's schedule. What units do in their own way is a subclass's."""

    def __init__(self, op: ir.Operation, plan: Plan, team: Block, workspace: int) -> None:
        self.op, self.plan, self.team, self.workspace = op, plan, team, workspace
        self.element = plan.product.a.buffer.type.element_type
        self.c = op.operands[2]
        self.sum = self.c.type.element_type

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
        warp, self.lane = delinearize(team.thread, [max(1, team.threads // team.warp), team.warp])
        self.warp_row, self.warp_column, self.warp_depth = delinearize(warp, plan.warps)
        offset = self.workspace
        sides = []
        for factor, staged, start, outer in ((plan.product.a, plan.left, a, plan.warp_rows * plan.warps[0]),
                                             (plan.product.b, plan.right, b, plan.warp_columns * plan.warps[1])):
            source = team.memory.flat[factor.buffer]
            guards = [arith.AddIOp(linear_index(g.start, team.env), affine(0, list(zip(batch, g.batch)))).result for g in factor.guards]
            at = arith.AddIOp(linear_index(factor.start, team.env, narrow=True), start).result
            if staged is None:
                sides.append(Side(factor, None, source, at, source, outer, guards))
                continue
            memory = team.shared(offset, staged.size * plan.stages, factor.buffer.type.element_type)
            sides.append(Side(factor, staged, source, at, memory, outer, guards))
            offset += staged.size * plan.stages * element_bytes(factor.buffer)
        self.left, self.right = sides
        accs = self._pipeline()
        if plan.warps[2] > 1:
            accs = self._join_depth(accs)
        if plan.shares and is_shared(self.c):
            gpu.BarrierOp()
        self._store(accs, c)

    def _zeros(self, shape: Sequence[int]) -> list[ir.Value]:
        """A warp's accumulators, vectors of a shape."""
        type_ = ir.VectorType.get(shape, self.sum)
        kind = ir.IntegerAttr if isinstance(self.sum, ir.IntegerType) else ir.FloatAttr
        zero = arith.ConstantOp(type_, ir.DenseElementsAttr.get_splat(type_, kind.get(self.sum, 0))).result
        return [zero] * volume(self.plan.atoms)

    @abstractmethod
    def _pipeline(self) -> list[ir.Value]:
        """The sums of a warp's tile, atom by atom."""

    @abstractmethod
    def _store_tile(self, accs: Sequence[ir.Value], start: ir.Value) -> None:
        """Puts the sums into c."""

    def _where(self, side: Side, step: ir.Value, slot: ir.Value) -> Callable[[ir.Value, ir.Value], ir.Value]:
        """Where the element of a factor lies that has an outer point of the block and a depth point of the step: in a slot, or at home."""
        start = side.source_start if side.staged is None else affine(0, [(slot, side.staged.size)], narrow=True)

        def at(outer: ir.Value, depth: ir.Value) -> ir.Value:
            if side.staged is None:
                depth = affine(0, [(step, self.plan.step), (depth, 1)], narrow=True)
            return affine(0, [(start, 1), (side.outer_offset(outer), 1), (side.depth_offset(depth), 1)], narrow=True)

        return at

    def _slot(self, step: ir.Value) -> ir.Value:
        return delinearize(step, [1 + self.plan.steps // self.plan.stages, self.plan.stages])[1]

    def _source(self, side: Side, v: int, outer: ir.Value, depth: ir.Value) -> tuple[ir.Value, ir.Value | None]:
        """Where v elements of a factor lie that a stage holds, and the condition under which they are not zeros in its place.

        The place is one that can be read whatever the condition says; of elements behind the depth there only those before are (`_real`).
        """
        total = side.factor.depth.count
        ragged = total % self.plan.step != 0
        inside = arith.CmpIOp(arith.CmpIPredicate.ult, depth, index_constant(total)).result if ragged else None
        if inside is not None:
            turned = side.staged is not None and (side.staged.by_depth or side.staged.turns)
            depth = arith.MinUIOp(depth, index_constant(total - 1 if turned or v == 1 else (total - 1) // v * v)).result
        terms = (side.source_start, place(side.factor.outer, outer), place(side.factor.depth, depth))
        source = affine(0, [(t, 1) for t in terms], narrow=True)
        for guard, start in zip(side.factor.guards, side.guards):
            at = affine(0, [(start, 1), *zip(delinearize(outer, side.factor.outer.extents), guard.outer),
                            *zip(delinearize(depth, side.factor.depth.extents), guard.depth)])
            within = arith.CmpIOp(arith.CmpIPredicate.ult, at, index_constant(guard.size)).result
            inside = within if inside is None else arith.AndIOp(inside, within).result
        if side.factor.guards:
            source = arith.SelectOp(inside, source, index_constant(0)).result
        return source, inside

    # -- results ----------------------------------------------------------------------------------------------------
    def _join_depth(self, accs: list[ir.Value]) -> list[ir.Value]:
        """Adds the parts of the warps along the depth, through the workspace; the first of them has the sums."""
        plan, team = self.plan, self.team
        lanes, held = team.warp, volume(accs[0].type.shape)
        alignment = gcd(WIDEST, held * element_bytes(self.c))
        threads = lanes * plan.warps[0] * plan.warps[1]
        parts = plan.warps[2] - 1
        buffer = team.shared(self.workspace, parts * len(accs) * threads * held, self.sum)
        own = affine(0, [(self.warp_row, lanes * plan.warps[1]), (self.warp_column, lanes), (self.lane, 1)], narrow=True)
        flat = ir.VectorType.get([held], self.sum)
        add = arith.AddIOp if isinstance(self.sum, ir.IntegerType) else arith.AddFOp

        def at(part: ir.Value, k: int) -> ir.Value:
            return affine(k * threads * held, [(part, len(accs) * threads * held), (own, held)], narrow=True)

        gpu.BarrierOp()
        gives = scf.IfOp(arith.CmpIOp(arith.CmpIPredicate.ugt, self.warp_depth, index_constant(0)).result)
        with ir.InsertionPoint(gives.then_block):
            part = arith.SubIOp(self.warp_depth, index_constant(1)).result
            for k, acc in enumerate(accs):
                vector.StoreOp(vector.ShapeCastOp(flat, acc).result, buffer, [at(part, k)], alignment=alignment)
            scf.YieldOp([])
        gpu.BarrierOp()
        for p in range(parts):
            accs = [add(acc, vector.ShapeCastOp(
                acc.type, vector.LoadOp(flat, buffer, [at(index_constant(p), k)], alignment=alignment).result).result).result
                for k, acc in enumerate(accs)]
        return accs

    def _store(self, accs: Sequence[ir.Value], start: ir.Value) -> None:
        """Accumulators to c."""
        if self.plan.warps[2] > 1:
            first = scf.IfOp(arith.CmpIOp(arith.CmpIPredicate.eq, self.warp_depth, index_constant(0)).result)
            with ir.InsertionPoint(first.then_block):
                self._store_tile(accs, start)
                scf.YieldOp([])
            return
        self._store_tile(accs, start)
