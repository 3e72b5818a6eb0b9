"""task.mma by warpgroups: one warp feeds a ring of stages in shared memory by TMA, the other warps multiply them by wgmma.

Consumers come first among the block's threads, so what follows the product finds a power of two of them. They keep one group of wgmma in
flight: a stage is handed back when the next stage's group has been issued. In the end the result takes the place of the stages.
"""

from collections.abc import Sequence

from mlc.ir.mlir import arith, gpu, ir, memref, nvvm, vector
from mlc.layout.linear import Linear
from mlc.passes.gpu.block import Block
from mlc.passes.gpu.hopper import wgmma
from mlc.passes.gpu.hopper.emit import (
    Int,
    add,
    advance,
    compare,
    div,
    i32_type,
    loop,
    mul,
    rem,
    shared_pointer,
    value,
    when,
    xor,
)
from mlc.passes.gpu.hopper.finish import Finish
from mlc.passes.gpu.hopper.mbarrier import Barrier, Position, Ring
from mlc.passes.gpu.hopper.operand import Boxes
from mlc.passes.gpu.hopper.plan import GROUP, WarpGroupPlan
from mlc.passes.gpu.hopper.tma import load_box, prefetch_map
from mlc.passes.gpu.hopper.wgmma import Accumulators
from mlc.passes.gpu.result import ResultTile
from mlc.passes.task.flat import affine

CONSUMERS = 1  # number of the named barrier of the consumers; 0 is that of the whole block


class WarpGroupProduct:
    """Emits one task.mma at the insertion point, for all threads of a block.

    maps: pointers to the tensor maps of the plan's left and right factor. workspace: bytes; result_bytes: of c, if it lies there too.
    finish: what is done with the sums where they are, instead of storing them.
    """

    def __init__(self, op: ir.Operation, plan: WarpGroupPlan, team: Block, workspace: int, result_bytes: int,
                 maps: Sequence[ir.Value], finish: Finish | None = None) -> None:
        self.op, self.plan, self.team, self.maps, self.finish = op, plan, team, maps, finish
        assert team.dynamic is not None
        shared = memref.ExtractAlignedPointerAsIndexOp(team.dynamic).result
        self.base = advance(shared_pointer(arith.IndexCastOp(i32_type(), shared).result), workspace)
        self.ring = Ring(advance(self.base, plan.ring_offset(result_bytes)), plan.stages)
        self.dtype = plan.staging.left.map.dtype

    def emit(self) -> None:
        plan = self.plan
        thread = arith.IndexCastOp(i32_type(), self.team.thread).result
        when(compare("eq", thread, 0), self._prepare)
        nvvm.FenceProxyOp(nvvm.ProxyKind.async_shared, space=nvvm.SharedSpace.shared_cta)  # TMA overwrites what threads have used
        gpu.BarrierOp()
        self.team.wait()
        when(compare("ult", thread, plan.workers), lambda: self._consume(thread), lambda: self._feed(thread))

    def _prepare(self) -> None:
        for map_ in self.maps:
            prefetch_map(map_)
        self.ring.init(self.plan.workers // 32)  # each warp hands a stage back

    def _stage(self, stage: Int) -> tuple[ir.Value, ir.Value]:
        """Pointers to the tiles of a stage."""
        left = advance(self.base, mul(stage, self.plan.staging.stage_bytes))
        return left, advance(left, self.plan.staging.left.tile.bytes)

    # -- producer ---------------------------------------------------------------------------------------------------
    def _feed(self, thread: ir.Value) -> None:
        """What the last warp does; its threads meet again before they reach a barrier."""
        when(compare("eq", thread, self.plan.workers), self._produce)
        nvvm.SyncWarpOp(value(-1))

    def _produce(self) -> None:
        plan = self.plan
        starts = [[self._start(place) for place in boxes.places] for boxes in (plan.staging.left, plan.staging.right)]

        def step(k: ir.Value, *carried: ir.Value) -> list[ir.Value]:
            position = Position(*carried)
            self.ring.empty(position.stage).wait(xor(position.parity, 1))  # the first round finds every stage empty
            full = self.ring.full(position.stage)
            full.arrive_expecting(plan.staging.left.bytes + plan.staging.right.bytes)
            depth = self._depth(k)
            for boxes, map_, start, target in zip((plan.staging.left, plan.staging.right), self.maps, starts, self._stage(position.stage)):
                self._load(boxes, map_, start, depth, target, full)
            return position.next(plan.stages).values()

        loop(0, plan.steps, 1, self.ring.start().values(), step)

    def _start(self, place: Linear) -> Int:
        """A coordinate at the block's first row, before the reduction."""
        loops = len(self.op.opview.py("extents"))
        total: Int = place.const
        for offset, factor in zip(list(self.op.operands)[3:], place.coefficients[loops:]):
            if factor:
                total = add(total, mul(arith.IndexCastOp(i32_type(), self.team.env[offset]).result, factor))
        return total

    def _depth(self, step: ir.Value) -> dict[int, Int]:
        """The reduction loops' values at a step."""
        found: dict[int, Int] = {}
        rest: Int = step
        for d, extent in reversed(list(zip(self.plan.staging.loops, self.plan.staging.chunks))):
            first = d == self.plan.staging.loops[0]
            found[d] = rest if first else rem(rest, extent)
            rest = rest if first else div(rest, extent)
        inner = self.plan.staging.loops[-1]
        return {**found, inner: mul(found[inner], self.plan.staging.step)}

    def _load(self, boxes: Boxes, map_: ir.Value, start: Sequence[Int], depth: dict[int, Int], target: ir.Value, full: Barrier) -> None:
        at = list(start)
        for i, place in enumerate(boxes.places):
            for d, index in depth.items():
                if place.coefficients[d]:
                    at[i] = add(at[i], mul(index, place.coefficients[d]))
        for part in range(boxes.count):
            row = part * self.plan.staging.kind.panel
            there = advance(target, wgmma.row_offset(boxes.tile, row)) if part else target
            load_box(map_, there, [*at[:-1], add(at[-1], row)][::-1], full)

    # -- consumers --------------------------------------------------------------------------------------------------
    def _consume(self, thread: ir.Value) -> None:
        plan = self.plan
        group = value(div(thread, GROUP))
        first_row = value(mul(group, plan.staging.blocks * wgmma.ROWS))
        leads = compare("eq", rem(thread, 32), 0)
        columns = plan.staging.right.tile.extent

        def step(k: ir.Value, *carried: ir.Value) -> list[ir.Value]:
            position, previous = Position(*carried[:2]), carried[2]
            self.ring.full(position.stage).wait(position.parity)
            wgmma.fence()
            accumulators = self._multiply(position.stage, first_row, _accumulators(columns, carried[3:]))
            wgmma.commit()
            wgmma.wait(1)
            when(arith.AndIOp(leads, compare("ne", k, 0)).result, lambda: self.ring.empty(previous).arrive())
            return [*position.next(plan.stages).values(), position.stage, *(v for f in accumulators for v in f.values)]

        start = self.ring.start()
        zeros = Accumulators.zeros(columns).values * plan.staging.blocks
        _, _, _, *values = loop(0, plan.steps, 1, [*start.values(), start.stage, *zeros], step)
        accumulators = wgmma.finish(_accumulators(columns, values))
        if self.finish is not None:
            self.finish.emit(value(rem(thread, GROUP)), first_row, accumulators)
            return
        nvvm.BarrierOp(barrierId=value(CONSUMERS), numberOfThreads=value(plan.workers))  # all have read the stages
        self._store(thread, first_row, accumulators)

    def _multiply(self, stage: ir.Value, first_row: ir.Value, accumulators: list[Accumulators]) -> list[Accumulators]:
        """One stage: every 64-row block by the reduction points of every instruction."""
        a, b = self.plan.staging.left.tile, self.plan.staging.right.tile
        left, right = self._stage(stage)
        columns = wgmma.descriptor(b, right)
        rows = [wgmma.descriptor(a, left, wgmma.row_offset(a, add(first_row, i * wgmma.ROWS))) for i in range(len(accumulators))]
        for k in range(0, self.plan.staging.step, self.plan.staging.kind.depth):
            b_at = wgmma.advance_descriptor(columns, b.step(k))
            accumulators = [wgmma.multiply(self.dtype, f, wgmma.advance_descriptor(d, a.step(k)), b_at, a.k_major, b.k_major)
                            for f, d in zip(accumulators, rows, strict=True)]
        return accumulators

    def _store(self, thread: ir.Value, first_row: ir.Value, blocks: Sequence[Accumulators]) -> None:
        """Accumulators to c, in pairs of columns."""
        plan = self.plan
        index = ir.IndexType.get()
        lane = rem(thread, GROUP)
        row = arith.IndexCastUIOp(index, value(add(first_row, wgmma.fragment_row(value(lane))))).result
        column = arith.IndexCastUIOp(index, wgmma.fragment_column(value(lane))).result
        result = ResultTile(self.op, plan.product, self.team, None, plan.staging.left.tile.extent, plan.staging.right.tile.extent)
        two = ir.VectorType.get([2], ir.F32Type.get())
        for i, block in enumerate(blocks):
            for down in (0, 8):
                pairs = [(right, a, b) for at, right, a, b in block.pairs() if at == down]

                def at_row(head: ir.Value, pairs: Sequence = pairs) -> None:
                    for right, a, b in pairs:
                        result.store(head, affine(right, [(column, 1)], narrow=True), vector.FromElementsOp(two, [a, b]).result)

                result.row(affine(i * wgmma.ROWS + down, [(row, 1)], narrow=True), at_row)


def _accumulators(n: int, values: Sequence[ir.Value]) -> list[Accumulators]:
    return [Accumulators(n, tuple(values[i:i + n // 2])) for i in range(0, len(values), n // 2)]


__all__ = ["WarpGroupProduct"]
