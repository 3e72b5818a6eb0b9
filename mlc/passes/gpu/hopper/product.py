"""A warp-specialised matrix product: one warp feeds tiles by TMA through a ring in shared memory, consumer warpgroups multiply by wgmma.

A block's threads are a producer warpgroup (one thread of it works) and then the consumers; registers move from the former to the latter.
Consumers keep one group of wgmma in flight: they hand a stage back when the next stage's group has been issued.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from mlc.ir.mlir import arith, gpu, ir, nvvm
from mlc.layout.wgmma import SharedOperand
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
    shared_address,
    shared_pointer,
    value,
    when,
    xor,
)
from mlc.passes.gpu.hopper.mbarrier import Barrier, Position, Ring
from mlc.passes.gpu.hopper.tma import TensorMap, load_box, prefetch_map
from mlc.passes.gpu.hopper.wgmma import Accumulators

GROUP = 128  # threads of a warpgroup
ALIGNMENT = 1024  # of a swizzled tile in shared memory
# Registers per thread of the producer and of the consumers, by number of consumers: multiples of 8, 64 Ki in all (PTX ISA, setmaxnreg).
REGISTERS = {2: (40, 232), 3: (32, 160)}


@dataclass(frozen=True)
class Place:
    """Where a block's tile is: first row and column of the result, and the outer (batch) coordinates of a and b, innermost first."""

    row: Int
    column: Int
    a_outer: tuple[Int, ...] = ()
    b_outer: tuple[Int, ...] = ()


@dataclass(frozen=True)
class Schedule:
    """The tiles of one block, in order: how many, and where the i-th is. Blocks of a cluster have equally many."""

    count: Int
    place: Callable[[Int], Place]


@dataclass(frozen=True)
class Consumer:
    """What an epilogue knows: the consumer's number, the thread in its warpgroup, its accumulators (64 rows each) and where the tile is."""

    index: ir.Value
    thread: ir.Value
    place: Place
    accumulators: list[Accumulators]
    first_row: ir.Value  # of the consumer's first row block, in the tile

    def for_each_pair(self, store: Callable[[ir.Value, ir.Value, tuple[ir.Value, ir.Value]], None]) -> None:
        """Calls store(row, column, (value, right neighbour)) for every pair of f32 accumulators of the thread; places are in the tile."""
        row = add(self.first_row, wgmma.fragment_row(self.thread))
        column = wgmma.fragment_column(self.thread)
        for i, accumulators in enumerate(self.accumulators):
            for down, right, *values in accumulators.pairs():
                store(value(add(row, i * wgmma.ROWS + down)), value(add(column, right)), (values[0], values[1]))


@dataclass(frozen=True)
class WarpGroupProduct:
    """C[m, n] = A[m, k] @ B[n, k]^T by tiles of `m` x `n`, in stages of `k` reduction points.

    a_k_major, b_k_major: whether the operand's reduction is contiguous in memory, else its rows (M or N) are. cluster: neighbouring
    blocks along M that share B's tile, each loading a part of it for all.
    """

    m: int
    n: int
    k: int
    depth: int  # the whole reduction; ragged ends are read as zeros
    stages: int
    dtype: str = "f16"
    a_k_major: bool = True
    b_k_major: bool = True
    consumers: int = 2
    cluster: int = 1
    a: SharedOperand = field(init=False)
    b: SharedOperand = field(init=False)

    def __post_init__(self) -> None:
        """ValueError says which size does not fit the instructions."""
        if self.consumers not in REGISTERS or self.m % (self.consumers * wgmma.ROWS) or self.m > 256:
            raise ValueError(f"{self.consumers} consumers need m a multiple of {self.consumers * wgmma.ROWS} up to 256, got {self.m}")
        unit = 8 if self.b_k_major else wgmma.PANEL  # rows of b that a block of the cluster can load by themselves
        if self.n % (unit * self.cluster) or self.n > 256:
            raise ValueError(f"n = {self.n} does not divide among a cluster of {self.cluster} ({'k' if self.b_k_major else 'n'}-major)")
        object.__setattr__(self, "a", wgmma.operand(self.m, self.k, self.a_k_major))
        object.__setattr__(self, "b", wgmma.operand(self.n, self.k, self.b_k_major))

    # -- resources --------------------------------------------------------------------------------------------------
    @property
    def threads(self) -> int:
        return GROUP * (self.consumers + 1)

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory: room to align, the stages, the ring."""
        return ALIGNMENT + self.stages_bytes + Ring.bytes(self.stages)

    @property
    def stages_bytes(self) -> int:
        return self.stages * (self.a.bytes + self.b.bytes)

    def box(self, operand: str) -> tuple[int, int]:
        """[rows, contiguous elements] of one TMA box of operand "a" or "b"."""
        tile = self.a if operand == "a" else self.b
        if not tile.k_major:
            return tile.depth, wgmma.PANEL
        rows = tile.extent // (self.cluster if operand == "b" else 1)
        return min(rows, 256), wgmma.PANEL

    def tensor_map(self, operand: str, shape: tuple[int, ...], strides: tuple[int, ...]) -> TensorMap:
        """The map of an operand with this shape and these strides in elements: [..., rows, depth], or [..., depth, rows] if not k-major."""
        return TensorMap(self.dtype, shape, strides, (1,) * (len(shape) - 2) + self.box(operand))

    # -- the kernel's body ------------------------------------------------------------------------------------------
    def emit(self, shared: ir.Value, a_map: ir.Value, b_map: ir.Value, schedule: Schedule, epilogue: Callable[[Consumer], None],
             finish: Callable[[], None] | None = None, scratch: int = 0) -> None:
        """Emits the product at the insertion point, in a kernel of `threads` threads with at least minctasm = 1.

        shared: pointer to `shared_bytes` + `scratch` bytes of shared memory; scratch starts `stages_bytes` from `aligned(shared)`.
        a_map, b_map: pointers to tensor maps. epilogue: emits what a consumer does with a finished tile; finish: and after its last one.
        """
        _Emission(self, self.aligned(shared), a_map, b_map, schedule, epilogue, finish, scratch).emit()

    @staticmethod
    def aligned(shared: ir.Value) -> ir.Value:
        """The first aligned byte from `shared` on, where the stages start; a caller's scratch follows them."""
        return shared_pointer(arith.AndIOp(value(add(shared_address(shared), ALIGNMENT - 1)), value(-ALIGNMENT)).result)


class _Emission:
    """One product being emitted: the values its parts share."""

    def __init__(self, product: WarpGroupProduct, base: ir.Value, a_map: ir.Value, b_map: ir.Value, schedule: Schedule,
                 epilogue: Callable[[Consumer], None], finish: Callable[[], None] | None, scratch: int) -> None:
        self.product, self.schedule, self.epilogue, self.finish = product, schedule, epilogue, finish
        self.maps = {"a": a_map, "b": b_map}
        self.stage_bytes = product.a.bytes + product.b.bytes
        self.base = base
        self.ring = Ring(advance(base, product.stages_bytes + scratch), product.stages)
        self.steps = -(-product.depth // product.k)

    def emit(self) -> None:
        p = self.product
        thread = arith.IndexCastOp(i32_type(), gpu.ThreadIdOp(gpu.Dimension.x).result).result
        self.thread = thread
        self.rank: Int = nvvm.BlockInClusterIdXOp(results=[i32_type()]).result if p.cluster > 1 else 0
        when(compare("eq", thread, 0), self._prepare)
        if p.cluster > 1:
            nvvm.ClusterArriveOp(aligned=True)
            nvvm.ClusterWaitOp(aligned=True)
        else:
            gpu.BarrierOp()
        nvvm.GriddepcontrolOp(nvvm.GridDepActionKind.wait)  # up to here nothing depends on the kernel before
        group = div(thread, GROUP)

        def produce() -> None:
            nvvm.SetMaxRegisterOp(REGISTERS[p.consumers][0], nvvm.SetMaxRegisterAction.decrease)
            when(compare("eq", thread, 0), self._produce)

        def consume() -> None:
            nvvm.SetMaxRegisterOp(REGISTERS[p.consumers][1], nvvm.SetMaxRegisterAction.increase)
            self._consume(value(add(group, -1)), value(rem(thread, GROUP)))

        when(compare("eq", group, 0), produce, consume)
        if p.cluster > 1:  # a block that ended could no longer take its neighbours' arrivals and copies
            nvvm.ClusterArriveOp()
            nvvm.ClusterWaitOp()

    def _prepare(self) -> None:
        prefetch_map(self.maps["a"])
        prefetch_map(self.maps["b"])
        self.ring.init(self.product.consumers * 4 * self.product.cluster)  # each consumer warp of each block of the cluster

    def _stage(self, position: Position) -> tuple[ir.Value, ir.Value]:
        """Pointers to the a and b tiles of a stage."""
        a = advance(self.base, mul(position.stage, self.stage_bytes))
        return a, advance(a, self.product.a.bytes)

    # -- producer ---------------------------------------------------------------------------------------------------
    def _produce(self) -> None:
        p = self.product

        def tile(i: ir.Value, *carried: ir.Value) -> list[ir.Value]:
            place = self.schedule.place(i)

            def step(k: ir.Value, *carried: ir.Value) -> list[ir.Value]:
                position = Position(*carried)
                self.ring.empty(position.stage).wait(xor(position.parity, 1))  # the first round finds every stage empty
                full = self.ring.full(position.stage)
                full.arrive_expecting(self.stage_bytes)
                a, b = self._stage(position)
                depth = mul(k, p.k)
                self._load("a", p.a, a, place.row, depth, place.a_outer, full)
                self._load("b", p.b, b, place.column, depth, place.b_outer, full)
                return position.next(p.stages).values()

            return loop(0, self.steps, 1, carried, step)

        loop(0, self.schedule.count, 1, self.ring.start().values(), tile)
        nvvm.GriddepcontrolOp(nvvm.GridDepActionKind.launch_dependents)  # the next kernel's blocks may take what room is left

    def _load(self, operand: str, tile: SharedOperand, target: ir.Value, row: Int, depth: Int, outer: tuple[Int, ...],
              full: Barrier) -> None:
        """Copies this block's part of a tile: all of it, or its share of a tile that the cluster shares."""
        p = self.product
        sharers = p.cluster if operand == "b" else 1
        rank = self.rank if sharers > 1 else 0
        mask = (1 << sharers) - 1 if sharers > 1 else 0
        height, width = p.box(operand)
        share = tile.extent // sharers
        first = mul(rank, share)
        if not tile.k_major:
            for part in range(0, share, width):
                at = add(first, part)
                load_box(self.maps[operand], advance(target, wgmma.row_offset(tile, at)), [add(row, at), depth, *outer], full, mask)
            return
        for panel in range(wgmma.panels(tile)):
            for part in range(0, share, height):
                at = add(first, part)
                there = advance(target, add(wgmma.row_offset(tile, at), panel * wgmma.panel_bytes(tile)))
                load_box(self.maps[operand], there, [add(depth, panel * width), add(row, at), *outer], full, mask)

    # -- consumers --------------------------------------------------------------------------------------------------
    def _consume(self, index: ir.Value, thread: ir.Value) -> None:
        p = self.product
        blocks = p.m // p.consumers // wgmma.ROWS
        first_row = value(mul(index, blocks * wgmma.ROWS))
        lane = rem(thread, 32)
        releases = compare("ult", lane, p.cluster)

        def tile(i: ir.Value, *carried: ir.Value) -> list[ir.Value]:
            zeros = Accumulators.zeros(p.n)
            start = Position(*carried)

            def step(k: ir.Value, *carried: ir.Value) -> list[ir.Value]:
                position, previous = Position(*carried[:2]), carried[2]
                accumulators = _accumulators(p.n, carried[3:])
                self.ring.full(position.stage).wait(position.parity)
                wgmma.fence()
                accumulators = self._multiply(position, first_row, accumulators)
                wgmma.commit()
                wgmma.wait(1)
                when(arith.AndIOp(releases, compare("ne", k, 0)).result, lambda: self._release(previous, lane))
                return [*position.next(p.stages).values(), position.stage, *(v for f in accumulators for v in f.values)]

            stage, parity, last, *values = loop(0, self.steps, 1, [*start.values(), start.stage, *zeros.values * blocks], step)
            accumulators = wgmma.finish(_accumulators(p.n, values))
            when(releases, lambda: self._release(last, lane))
            self.epilogue(Consumer(index, thread, self.schedule.place(i), accumulators, first_row))
            return [stage, parity]

        loop(0, self.schedule.count, 1, self.ring.start().values(), tile)
        if self.finish:
            self.finish()

    def _release(self, stage: ir.Value, lane: Int) -> None:
        empty = self.ring.empty(stage)
        if self.product.cluster > 1:
            empty.arrive_remote(lane)  # lane r tells block r of the cluster
        else:
            empty.arrive()

    def _multiply(self, position: Position, first_row: ir.Value, accumulators: list[Accumulators]) -> list[Accumulators]:
        """One stage: every 64-row block by every 16 reduction points."""
        p = self.product
        a, b = self._stage(position)
        right = wgmma.descriptor(p.b, b)
        left = [wgmma.descriptor(p.a, a, wgmma.row_offset(p.a, add(first_row, i * wgmma.ROWS))) for i in range(len(accumulators))]
        for k in range(0, p.k, wgmma.DEPTH):
            b_at = wgmma.advance_descriptor(right, p.b.step(k))
            accumulators = [wgmma.multiply(p.dtype, f, wgmma.advance_descriptor(d, p.a.step(k)), b_at, p.a_k_major, p.b_k_major)
                         for f, d in zip(accumulators, left, strict=True)]
        return accumulators


def _accumulators(n: int, values: list[ir.Value] | tuple[ir.Value, ...]) -> list[Accumulators]:
    return [Accumulators(n, tuple(values[i:i + n // 2])) for i in range(0, len(values), n // 2)]
