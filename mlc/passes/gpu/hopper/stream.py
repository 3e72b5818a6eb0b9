"""task.stream by warpgroups: a producer feeds rings of key and value tiles by TMA; consumers keep scores and sums in registers.

The scores of one step are multiplied while the weights of the step before meet their values, and turned into weights while those products
finish (the pipeline within a warpgroup of FlashAttention-3, Shah et al. 2024). Steps in which nothing is seen are left out.
"""

from collections.abc import Sequence

from mlc.ir.mlir import arith, gpu, ir, memref, nvvm
from mlc.passes.gpu.block import Block
from mlc.passes.gpu.hopper import wgmma
from mlc.passes.gpu.hopper.emit import (
    Int,
    add,
    advance,
    assembly,
    compare,
    div,
    i32_type,
    loop,
    mul,
    rem,
    shared_pointer,
    value,
    when,
)
from mlc.passes.gpu.hopper.mbarrier import Barrier, Position, Ring
from mlc.passes.gpu.hopper.panels import Panels
from mlc.passes.gpu.hopper.plan import GROUP
from mlc.passes.gpu.hopper.streaming import Streaming
from mlc.passes.gpu.hopper.tma import load_box, prefetch_map
from mlc.passes.gpu.hopper.wgmma import Accumulators
from mlc.passes.gpu.softmax import OnlineSoftmax, Rows, Share, as_left_factor, scaled
from mlc.passes.gpu.stream import StreamParts


class WarpGroupStream:
    """Emits one task.stream at the insertion point, for all threads of a block. maps: pointers to the tensor maps of q, k and v."""

    def __init__(self, op: ir.Operation, plan: Streaming, team: Block, workspace: int, maps: Sequence[ir.Value]) -> None:
        self.op, self.plan, self.team, self.maps = op, plan, team, maps
        assert team.dynamic is not None
        shared = memref.ExtractAlignedPointerAsIndexOp(team.dynamic).result
        self.base = advance(shared_pointer(arith.IndexCastOp(i32_type(), shared).result), workspace)
        barriers = advance(self.base, plan.barrier_offset)
        self.k_ring = Ring(barriers, plan.stages)
        self.v_ring = Ring(advance(barriers, Ring.bytes(plan.stages)), plan.stages)
        self.q_ready = Barrier(advance(barriers, 2 * Ring.bytes(plan.stages)))
        self.dtype = plan.q.map.dtype
        self.parts = StreamParts(op, team, plan.step, plan.q.tile.extent)
        self.scored, self.summed = Share.of_mma(plan.step), Share.of_mma(plan.width)

    def emit(self) -> None:
        plan = self.plan
        thread = arith.IndexCastOp(i32_type(), self.team.thread).result
        when(compare("eq", thread, 0), self._prepare)
        nvvm.FenceProxyOp(nvvm.ProxyKind.async_shared, space=nvvm.SharedSpace.shared_cta)  # TMA overwrites what threads have used
        gpu.BarrierOp()
        self.team.wait()
        self.first, self.stop = self.parts.steps()
        when(compare("ult", thread, plan.workers), lambda: self._consume(thread), lambda: self._feed(thread))

    def _prepare(self) -> None:
        for map_ in self.maps:
            prefetch_map(map_)
        self.q_ready.init(1)
        self.k_ring.init(self.plan.workers // 32)  # each warp hands a stage back
        self.v_ring.init(self.plan.workers // 32)

    def _tile(self, offset: int, tile: Panels, stage: Int) -> ir.Value:
        return advance(self.base, add(mul(stage, tile.tile.bytes), offset))

    # -- producer ---------------------------------------------------------------------------------------------------
    def _feed(self, thread: ir.Value) -> None:
        if self.plan.registers is not None:
            assembly(f"setmaxnreg.dec.sync.aligned.u32 {self.plan.registers[0]};", [])
        when(compare("eq", thread, self.plan.workers), self._produce)
        nvvm.SyncWarpOp(value(-1))

    def _produce(self) -> None:
        plan = self.plan
        self.q_ready.arrive_expecting(plan.q.bytes)
        self._load(plan.q, self.maps[0], 0, self.base, self.q_ready)

        def step(j: ir.Value, *carried: ir.Value) -> list[ir.Value]:
            position = Position(*carried)
            key = mul(j, plan.step)
            for ring, tile, map_, offset in ((self.k_ring, plan.k, self.maps[1], plan.k_offset),
                                             (self.v_ring, plan.v, self.maps[2], plan.v_offset)):
                ring.empty(position.stage).wait(arith.XOrIOp(position.parity, value(1)).result)  # the first round finds every stage empty
                full = ring.full(position.stage)
                full.arrive_expecting(tile.bytes)
                self._load(tile, map_, key, self._tile(offset, tile, position.stage), full)
            return position.next(plan.stages).values()

        loop(self.first, self.stop, 1, self.k_ring.start().values(), step)

    def _load(self, tile: Panels, map_: ir.Value, key: Int, target: ir.Value, full: Barrier) -> None:
        at = [add(self.parts.start(place), mul(key, place.coefficients[self.parts.key])) if place.coefficients[self.parts.key]
              else self.parts.start(place) for place in tile.places]
        for panel in range(tile.count):
            there = advance(target, panel * wgmma.panel_bytes(tile.tile))
            load_box(map_, there, [*at[:-1], add(at[-1], panel * wgmma.PANEL)][::-1], full)

    # -- consumers --------------------------------------------------------------------------------------------------
    def _consume(self, thread: ir.Value) -> None:
        plan, parts = self.plan, self.parts
        if plan.registers is not None:
            assembly(f"setmaxnreg.inc.sync.aligned.u32 {plan.registers[1]};", [])
        lane = value(rem(thread, GROUP))
        self.leads = compare("eq", rem(thread, 32), 0)
        first_row = value(mul(div(thread, GROUP), wgmma.ROWS))
        row, column = value(add(first_row, wgmma.fragment_row(lane))), wgmma.fragment_column(lane)
        parts.place([row, value(add(row, 8))], column)
        self.softmax = OnlineSoftmax(parts.scale, parts.plain, self.team.warp, self.scored)
        self.rows = wgmma.descriptor(plan.q.tile, self.base, wgmma.row_offset(plan.q.tile, first_row))
        self.q_ready.wait(0)

        position = self.k_ring.start()
        self.k_ring.full(position.stage).wait(position.parity)
        wgmma.fence()
        scores, = wgmma.finish([self._scores(position.stage)])
        self._release(self.k_ring, position.stage)
        weights, rows, _ = self.softmax.step(parts.scores(scores.values, self.scored, self.first), self.softmax.start())
        packed = self._pack(weights)
        sums = Accumulators.zeros(plan.width)

        def step(j: ir.Value, *carried: ir.Value) -> list[ir.Value]:
            before, rows = Position(*carried[:2]), Rows.of(carried[2:6])
            packed, sums = list(carried[6:6 + plan.step // 4]), Accumulators(plan.width, tuple(carried[6 + plan.step // 4:]))
            position = before.next(plan.stages)
            self.k_ring.full(position.stage).wait(position.parity)
            wgmma.fence()
            scores = self._scores(position.stage)
            self.v_ring.full(before.stage).wait(before.parity)
            sums = self._sums(before.stage, packed, sums)
            scores, = wgmma.finish([scores], pending=1)
            self._release(self.k_ring, position.stage)
            weights, rows, factors = self.softmax.step(parts.scores(scores.values, self.scored, j), rows)
            sums, = wgmma.finish([sums])
            self._release(self.v_ring, before.stage)
            return [*position.values(), *rows.values(), *self._pack(weights), *scaled(sums.values, factors, self.summed)]

        carried = loop(add(self.first, 1), self.stop, 1, [*position.values(), *rows.values(), *packed, *sums.values], step)
        position, rows = Position(*carried[:2]), Rows.of(carried[2:6])
        packed, sums = carried[6:6 + plan.step // 4], Accumulators(plan.width, tuple(carried[6 + plan.step // 4:]))
        self.v_ring.full(position.stage).wait(position.parity)
        wgmma.fence()
        sums, = wgmma.finish([self._sums(position.stage, packed, sums)])
        parts.store(sums.values, self.summed, self.softmax.totals(rows))

    def _pack(self, weights: Sequence[ir.Value]) -> list[ir.Value]:
        element = ir.F16Type.get() if self.dtype == "f16" else ir.BF16Type.get()
        return [v for registers in as_left_factor(weights, element) for v in registers]

    def _release(self, ring: Ring, stage: ir.Value) -> None:
        when(self.leads, lambda: ring.empty(stage).arrive())

    def _scores(self, stage: ir.Value) -> Accumulators:
        """Products q k^T of a warpgroup's rows and a stage's keys, under way."""
        q, k = self.plan.q.tile, self.plan.k.tile
        keys = wgmma.descriptor(k, self._tile(self.plan.k_offset, self.plan.k, stage))
        found: Accumulators | int = self.plan.step
        for d in range(0, self.plan.depth, wgmma.DEPTH):
            found = wgmma.multiply(self.dtype, found, wgmma.advance_descriptor(self.rows, q.step(d)),
                                   wgmma.advance_descriptor(keys, k.step(d)))
        wgmma.commit()
        assert isinstance(found, Accumulators)
        return found

    def _sums(self, stage: ir.Value, packed: Sequence[ir.Value], sums: Accumulators) -> Accumulators:
        """The sums with a stage's values times their weights added, under way."""
        v = self.plan.v.tile
        values = wgmma.descriptor(v, self._tile(self.plan.v_offset, self.plan.v, stage))
        for i in range(0, self.plan.step, wgmma.DEPTH):
            sums = wgmma.multiply(self.dtype, sums, packed[i // 4:i // 4 + 4], wgmma.advance_descriptor(values, v.step(i)), True, False)
        wgmma.commit()
        return sums


__all__ = ["WarpGroupStream"]
