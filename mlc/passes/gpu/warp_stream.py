"""task.stream by warps: each has rows of q, scores and sums in registers; the block shares tiles of keys and values in shared memory.

A step's weights become a factor of the second product in registers (`mlc.layout.chain`), for which some units multiply transposed. Tiles of
the next step come while a step is computed (FlashAttention-2, Dao 2023). Steps in which nothing is seen are left out.
"""

from collections.abc import Sequence
from math import gcd

from mlc.ir.mlir import arith, gpu, ir, nvgpu, nvvm, vector
from mlc.passes.gpu.block import WIDEST, Block, delinearize
from mlc.passes.gpu.foreach import shuffle_xor
from mlc.passes.gpu.fragments import element_part, lane_part
from mlc.passes.gpu.hopper.emit import Int, add, compare, i32_type, loop, value, when
from mlc.passes.gpu.softmax import OnlineSoftmax, Rows, Share
from mlc.passes.gpu.stream import StreamParts
from mlc.passes.gpu.stream_tile import CarriedTile, CopiedTile
from mlc.passes.gpu.tf32 import rounded
from mlc.passes.gpu.warp_streaming import Tile, WarpStreaming
from mlc.passes.gpu.wave import rolled, wave_atom
from mlc.passes.task.flat import affine, index_constant


class WarpStream:
    """Emits one task.stream at the insertion point, for all threads of a block."""

    def __init__(self, op: ir.Operation, plan: WarpStreaming, team: Block, workspace: int) -> None:
        self.op, self.plan, self.shape, self.team = op, plan, plan.shape, team
        self.unit, self.chain = plan.shape.unit, plan.shape.chain
        self.element = op.operands[0].type.element_type
        self.parts = StreamParts(op, team, plan.step, plan.shape.height)
        warp, self.lane = delinearize(team.thread, [plan.shape.warps, team.warp])
        self.first_row = affine(0, [(warp, plan.shape.down * self.chain.queries)], narrow=True)
        ring = workspace if plan.shape.held else workspace + self._bytes(plan.q, 1)
        self.q = self._tile(plan.q, workspace, 1)
        self.k = self._tile(plan.k, ring, plan.stages)
        self.v = self._tile(plan.v, ring + self._bytes(plan.k, plan.stages), plan.stages)
        self.scored, self.summed = self._share(plan.step), self._share(plan.shape.width)

    def _bytes(self, tile: Tile, stages: int) -> int:
        return tile.staged.size * stages * self.shape.element_bytes

    def _tile(self, tile: Tile, base: int, stages: int) -> CarriedTile | CopiedTile:
        kind = CopiedTile if self.unit.streams else CarriedTile
        return kind(tile, self.unit, self.team, base, stages, self.shape.steps, self.lane)

    def _share(self, columns: int) -> Share:
        """A thread's share of its warp's scores or sums, so many columns wide: atoms along the rows, then along the columns."""
        chain, size = self.chain, self.chain.atom.c.size
        heights = sorted({element_part(chain.query_terms, e) for e in range(size)})
        values = [(t, n, e) for t in range(self.shape.down) for n in range(columns // chain.keys) for e in range(size)]
        rows = tuple(t * len(heights) + heights.index(element_part(chain.query_terms, e)) for t, _, e in values)
        spread = sum((t.extent - 1) * t.stride for t in chain.key_terms if t.source == "lane")
        return Share(rows, tuple(n * chain.keys + element_part(chain.key_terms, e) for _, n, e in values), chain.sharing, spread)

    def emit(self) -> None:
        self.team.wait()
        parts, chain = self.parts, self.chain
        heights = sorted({element_part(chain.query_terms, e) for e in range(chain.atom.c.size)})
        row = affine(0, [(self.first_row, 1), (lane_part(chain.query_terms, self.lane, self.unit.lanes), 1)], narrow=True)
        rows = [affine(t * chain.queries + h, [(row, 1)], narrow=True) for t in range(self.shape.down) for h in heights]
        parts.place([_narrow(r) for r in rows], _narrow(lane_part(chain.key_terms, self.lane, self.unit.lanes)))
        self.softmax = OnlineSoftmax(parts.scale, parts.plain, self.team.warp, self.scored)
        self.first, self.stop = parts.steps()
        self.queries = self._queries()
        start = self.softmax.start()
        sums = [self._zero()] * (self.shape.down * self.shape.width // chain.keys)
        carried = (self._copied if self.unit.streams else self._carried)([*start.values(), *sums])
        rows_, sums = self._split(carried)
        parts.store([x for s in sums for x in self._values(s)], self.summed, self.softmax.totals(rows_))

    def _split(self, carried: Sequence[ir.Value]) -> tuple[Rows, list[ir.Value]]:
        count = 2 * self.scored.height
        return Rows.of(carried[:count]), list(carried[count:])

    # -- the pipeline -----------------------------------------------------------------------------------------------
    def _slot(self, step: Int) -> ir.Value:
        """The stage of a step."""
        if self.plan.stages == 1:
            return index_constant(0)
        past = arith.SubIOp(value(step), value(self.first)).result
        return _index(arith.RemUIOp(past, value(self.plan.stages)).result)

    def _copied(self, carried: Sequence[ir.Value]) -> list[ir.Value]:
        """Asynchronous copies run ahead by all stages but one."""
        ahead = self.plan.stages - 1

        def bring(step: Int) -> None:
            def both() -> None:
                for tile in (self.k, self.v):
                    tile.bring(_index(value(step)), self._slot(step))

            when(compare("slt", step, self.stop), both)
            nvvm.CpAsyncCommitGroupOp()

        for s in range(ahead):
            bring(add(self.first, s))

        def step(j: ir.Value, *carried: ir.Value) -> list[ir.Value]:
            nvvm.CpAsyncWaitGroupOp(ahead - 1)
            gpu.BarrierOp()
            bring(add(j, ahead))
            return self._step(j, self._slot(j), carried)

        return loop(self.first, self.stop, 1, carried, step)

    def _carried(self, carried: Sequence[ir.Value]) -> list[ir.Value]:
        """Threads hold the next step's tiles while a step is computed."""
        tiles = (self.k, self.v)

        def bring(step: Int) -> list[list[ir.Value]]:
            return [tile.bring(_index(value(step)), self._slot(step)) for tile in tiles]

        def put(step: Int, values: Sequence[Sequence[ir.Value]]) -> None:
            for tile, own in zip(tiles, values):
                tile.put(self._slot(step), own)

        def step(j: ir.Value, *carried: ir.Value) -> list[ir.Value]:
            gpu.BarrierOp()
            following = add(j, 1)
            last = arith.SubIOp(value(self.stop), value(1)).result
            ahead = bring(arith.MinSIOp(value(following), last).result)
            found = self._step(j, self._slot(j), carried)
            if self.plan.stages == 1:
                gpu.BarrierOp()  # nobody reads the stage any more
            # After the last step, too: LLVM would move the products behind a branch, and hold all their factors before it.
            put(following, ahead)
            return found

        put(self.first, bring(self.first))
        return rolled(loop(self.first, self.stop, 1, carried, step))

    # -- products ---------------------------------------------------------------------------------------------------
    def _queries(self) -> dict[tuple[int, int], list[ir.Value]]:
        """Brings the rows of q; where they are held, the fragments of a warp's rows: by atom of rows and depth."""
        zero = index_constant(0)
        self.q.put(zero, self.q.bring(zero, zero))
        if self.unit.streams:
            nvvm.CpAsyncCommitGroupOp()
            nvvm.CpAsyncWaitGroupOp(0)
        if not self.shape.held:
            return {}  # the barrier of the first step comes before they are read
        gpu.BarrierOp()
        depths = range(0, self.shape.depth, self._together * self.unit.depth)
        found = {(t, d): self._query(t, d) for t in range(self.shape.down) for d in depths}
        gpu.BarrierOp()  # keys and values take the place of q
        return found

    @property
    def _together(self) -> int:
        """Atoms along the depth of the first product whose fragments a lane reads at once."""
        if self.unit.streams:
            return 1
        return gcd(self.shape.depth // self.unit.depth, max(1, WIDEST // (self.unit.a.size * self.shape.element_bytes)))

    def _query(self, t: int, depth: int) -> list[ir.Value]:
        at = affine(t * self.chain.queries, [(self.first_row, 1)], narrow=True)
        fragments, = self.q.fragments(index_constant(0), at, depth, self._together, left=True)
        return fragments

    def _step(self, j: ir.Value, slot: ir.Value, carried: Sequence[ir.Value]) -> list[ir.Value]:
        rows, sums = self._split(carried)
        products = self._products(slot)
        scores = self.parts.scores([x for p in products for x in self._values(p)], self.scored, j)
        weights, rows, factors = self.softmax.step(scores, rows)
        per = len(sums) // self.shape.down
        sums = [self._scaled(s, factors, i // per) for i, s in enumerate(sums)]
        return [*rows.values(), *self._weighted(slot, weights, sums)]

    def _products(self, slot: ir.Value) -> list[ir.Value]:
        """Products q k^T of a warp's rows and a stage's keys, atom by atom."""
        shape, chain, together = self.shape, self.chain, self._together
        across = shape.step // chain.keys
        found = [self._zero()] * (shape.down * across)
        for d in range(0, shape.depth, together * self.unit.depth):
            queries = [self.queries[t, d] if shape.held else self._query(t, d) for t in range(shape.down)]
            n = 0
            while n < across:
                for keys in self.k.fragments(slot, index_constant(n * chain.keys), d, together, left=False):
                    for t, i in ((t, i) for t in range(shape.down) for i in range(together)):
                        found[t * across + n] = self._atom(queries[t][i], keys[i], found[t * across + n])
                    n += 1
        return found

    def _weighted(self, slot: ir.Value, weights: Sequence[ir.Value], sums: list[ir.Value]) -> list[ir.Value]:
        """The sums with a stage's values times their weights added."""
        shape, chain = self.shape, self.chain
        across, per = shape.width // chain.keys, len(weights) // shape.down
        each = chain.sums * chain.atom.c.size  # weights of a span
        for s in range(shape.step // chain.span):
            left = [self._factors(weights[t * per + s * each:t * per + (s + 1) * each]) for t in range(shape.down)]
            n = 0
            while n < across:
                for values in self.v.fragments(slot, index_constant(n * chain.keys), s * chain.span, chain.factors, left=False):
                    for t, i in ((t, i) for t in range(shape.down) for i in range(chain.factors)):
                        sums[t * across + n] = self._atom(left[t][i], values[i], sums[t * across + n])
                    n += 1
        return sums

    def _factors(self, weights: Sequence[ir.Value]) -> list[ir.Value]:
        """The fragments that a span of weights is."""
        chain, f32 = self.chain, ir.F32Type.get()
        whole = vector.FromElementsOp(ir.VectorType.get([len(weights)], f32), list(weights)).result
        if self.element != f32:
            whole = arith.TruncFOp(ir.VectorType.get([len(weights)], self.element), whole).result
        pool = [whole]
        for distance in chain.exchange:
            pool = self._exchanged(pool, distance)
        numbers = [vector.ExtractOp(pool[n // len(weights)], [], [n % len(weights)]).result for n in chain.order]
        size = len(numbers) // chain.factors
        packed = 4 // self.shape.element_bytes
        type_ = ir.VectorType.get([size // packed, packed] if self.unit.streams else [size], self.element)
        found = [vector.FromElementsOp(type_, numbers[i:i + size]).result for i in range(0, len(numbers), size)]
        return list(map(rounded, found)) if self.unit.atom.input == "tf32" else found

    def _exchanged(self, pool: Sequence[ir.Value], distance: int) -> list[ir.Value]:
        """What a lane and the one at a distance have, in the same order for both: that of the lower one first."""
        upper = compare("ne", arith.AndIOp(_narrow(self.lane), value(distance)).result, 0)
        low, high = [], []
        for own in pool:
            words = own.type.shape[0] * self.shape.element_bytes // 4
            raw = vector.BitCastOp(ir.VectorType.get([words], i32_type()), own).result
            moved = [shuffle_xor(vector.ExtractOp(raw, [], [i]).result, distance, self.team.warp) for i in range(words)]
            other = vector.BitCastOp(own.type, vector.FromElementsOp(raw.type, moved).result).result
            low.append(arith.SelectOp(upper, other, own).result)
            high.append(arith.SelectOp(upper, own, other).result)
        return [*low, *high]

    def _atom(self, query: ir.Value, key: ir.Value, sums: ir.Value) -> ir.Value:
        """Sums + query side * key side."""
        if self.unit.streams:
            tf32 = self.unit.atom.input == "tf32"
            return nvgpu.MmaSyncOp(sums.type, query, key, sums, list(self.unit.atom.shape), tf32Enabled=tf32).result
        return wave_atom(self.unit.atom, *((key, query) if self.chain.transposed else (query, key)), sums)

    # -- fragments of sums ------------------------------------------------------------------------------------------
    def _zero(self) -> ir.Value:
        size = self.chain.atom.c.size
        type_ = ir.VectorType.get([size // 2, 2] if self.unit.streams else [size], ir.F32Type.get())
        return arith.ConstantOp(type_, ir.DenseElementsAttr.get_splat(type_, ir.FloatAttr.get_f32(0.0))).result

    def _values(self, sums: ir.Value) -> list[ir.Value]:
        """An atom's values in order."""
        size = self.chain.atom.c.size
        return [vector.ExtractOp(sums, [], [e // 2, e % 2] if self.unit.streams else [e]).result for e in range(size)]

    def _scaled(self, sums: ir.Value, factors: Sequence[ir.Value], t: int) -> ir.Value:
        """An atom of sums, of the t-th atom of rows, with each row times its factor."""
        per = self.chain.atom.c.size * (self.shape.step // self.chain.keys)
        rows = self.scored.rows[t * per:t * per + self.chain.atom.c.size]
        return arith.MulFOp(sums, vector.FromElementsOp(sums.type, [factors[r] for r in rows]).result).result


def _narrow(index: ir.Value) -> ir.Value:
    return arith.IndexCastUIOp(i32_type(), index).result


def _index(number: ir.Value) -> ir.Value:
    return arith.IndexCastUIOp(ir.IndexType.get(), number).result


__all__ = ["WarpStream"]
