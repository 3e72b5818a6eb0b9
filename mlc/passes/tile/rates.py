"""What a kernel's work costs on a machine, in nanoseconds: traffic x waves (Welder), arithmetic, and the price of blocks and launches."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from mlc.dtypes import BY_NAME
from mlc.layout.fragments import ATOMS
from mlc.passes.gpu.hopper.wgmma import KINDS
from mlc.passes.gpu.unit import Unit, chained_units
from mlc.target import Target

NEAR, FAR = 64.0, 24.0  # bytes/ns that a CPU's core moves to and from its first cache, and its second
SPILLED = 4  # times that buffers move beyond the second cache where it does not hold them; more than so many caches of them are no block's
BLOCKS = 8  # whose loads and stores go on beside each other on an SM, where each turns a part of a tensor
RESIDENT, RESIDENT_ROWS = 8, 16  # blocks that hide each other's latencies on an SM (with rows in registers): more of them hide no more
RESERVED = 2048  # bytes of a block's shared memory that are no buffers: 1024 of the system, as many in which warps join reductions
PADDED = 1.2  # bytes of buffers with their padding, 16 bytes between rows against bank conflicts: by a fifth at most
PADDED_SUMS = 1.1  # the same of the sums of warpgroups, whose rows are longer
STAGES, STAGES_OF_TWO = 2, 3  # of a ring that warpgroups need at least: one is read while one comes; of each of two blocks on an SM
ACCUMULATORS_OF_TWO = 64  # registers of a thread that hold sums, up to which two blocks of warpgroups fit an SM
EXPOSED = 0.3  # the part of the shorter, of a streamed step's products and its softmax, that the other does not hide
LOOSE = 1.4  # of asynchronous copies: 2039 x 2039 x 2039 in f16, by elements, took 2.7 times as long as by pieces (H100)


@dataclass(frozen=True)
class Work:
    """What one block does, and how many blocks there are.

    traffic: bytes from and to memory outside of the block. ops: simple scalar operations. macs: multiply-adds of contractions;
    tensor_macs: those that tensor cores can take, padded to whole atoms. scratch: bytes of block buffers. staged: rows and columns of the
    contractions' factors, which a GPU streams through shared memory. phases: ops that wait for each other. depth: reduction points of the
    longest contraction that comes in stages, for all its batches. streamed: the part of `traffic` that is the factors of contractions.
    sums: the part of `scratch` that is the result of the only contraction, one product. once: bytes of matrices that few rows are
    multiplied by, where TMA may bring them: what reads them waits for memory. dots: multiply-adds of vectors by matrices, by as many
    threads as there is work for. far: bytes, of all blocks, of other tensors that are larger than the L2 cache (`Rates.l2`): each moves
    once between memory and it.
    """

    blocks: int
    traffic: float
    ops: float
    macs: float
    tensor_macs: float
    scratch: int
    staged: int
    phases: int
    depth: int
    streamed: float = 0.0
    sums: int = 0
    once: float = 0.0
    wide: "Wide | None" = None
    held: "Held | None" = None
    stream: "StreamWork | None" = None
    tiles: "Tiles | None" = None
    dots: float = 0.0
    far: float = 0.0


@dataclass(frozen=True)
class Tiles:
    """The contractions that FMA units do by register tiles (`gpu.fma`). cycles: of an SM; ring: bytes of their stages in shared memory."""

    cycles: float
    ring: int


@dataclass(frozen=True)
class Held:
    """What the ops of a kernel without contractions walk row by row (`gpu.rows`): at most so many bytes at once, of so many rows.

    These are buffers of the block, or what it loads. A GPU holds them in registers, where they fit.
    """

    bytes: int
    rows: int


@dataclass(frozen=True)
class Wide:
    """The contraction of a kernel that warpgroups can compute (`gpu.hopper`).

    macs: multiply-adds of 16-bit floats that would take as long, padded to whole atoms. moved: bytes that TMA fills stages with, zeros
    included, and those of rows that begin between sectors twice. stage: bytes of a stage. result: bytes of its sums, which take the stages'
    place. accumulators: registers of a thread that hold sums.
    """

    macs: float
    moved: float
    stage: int
    result: int
    accumulators: int


@dataclass(frozen=True)
class StreamWork:
    """A softmax between two products, streamed (`tile.stream`): what a block does in one step, over all its rows, padding included.

    macs: of both products. scores: exponentials. steps: how many, in the mean over the blocks; longest: in the last block to end.
    workspace: bytes of shared memory. groups: parts of the block that work for themselves. resident: how many blocks' registers an SM has.
    wide: whether warpgroups multiply, else warps.
    """

    macs: float
    scores: float
    steps: float
    longest: int
    workspace: int
    groups: int
    resident: int
    wide: bool


class Rates(Protocol):
    """A machine's prices.

    atoms: element types of factors that matrix units take, with rows and columns of an atom, and what its multiply-adds cost beside those
    of 16-bit floats. splits: sizes of the last dimension to try for contractions; patches: bytes of it for what is read along another
    dimension than it is written; turned: bytes of such reads that one block has in its memory, at most. guards: see `inline_choices`.
    sector: bytes that memory moves at least. streams: contractions load their factors point by point instead of keeping a block's part in
    cache. wide: warpgroups multiply. units: by element type, those that can
    stream a softmax, within `shared` bytes of block memory and `registers` of an SM. recomputes: what is read twice may be computed twice,
    to hold less. warp: lanes that share register tiles (0: there are none).
    along: element types that warpgroups multiply only where rows of both factors run along the reduction.
    loose: how much more a byte of a factor for matrix units counts for each halving of the 16 bytes that its rows let a copy move.
    """

    @property
    def atoms(self) -> Mapping[str, tuple[int, int, float]]: ...

    @property
    def splits(self) -> tuple[int, ...]: ...

    @property
    def patches(self) -> tuple[int, ...]: ...

    @property
    def turned(self) -> int: ...

    @property
    def l2(self) -> int: ...

    @property
    def guards(self) -> bool: ...

    @property
    def streams(self) -> bool: ...

    @property
    def wide(self) -> bool: ...

    @property
    def units(self) -> Mapping[str, Unit]: ...

    @property
    def shared(self) -> int: ...

    @property
    def registers(self) -> int: ...

    @property
    def recomputes(self) -> bool: ...

    @property
    def warp(self) -> int: ...

    @property
    def sector(self) -> int: ...

    @property
    def along(self) -> Collection[str]: ...

    @property
    def loose(self) -> float: ...

    def price(self, work: Work) -> float | None:
        """Nanoseconds, launch included; None if a block does not fit."""
        ...


@dataclass(frozen=True)
class CpuRates:
    """Per-worker bytes/ns, simple ops/ns, multiply-adds/ns; scratch bytes, in all and in the first cache; ns per block and launch."""

    workers: int
    traffic: float
    ops: float
    macs: float
    scratch: int
    near: int
    atoms: Mapping[str, tuple[int, int, float]] = field(default_factory=dict[str, tuple[int, int, float]])
    block: float = 150.0
    launch: float = 800.0
    splits: tuple[int, ...] = (512, 256, 128, 64, 32)
    patches: tuple[int, ...] = ()
    turned: int = 0
    l2: int = 1 << 62
    guards: bool = False
    streams: bool = False
    wide: bool = False
    units: Mapping[str, Unit] = field(default_factory=dict[str, Unit])
    shared: int = 0
    registers: int = 0
    recomputes: bool = False
    warp: int = 0
    sector: int = 1
    along: Collection[str] = ()
    loose: float = 1.0

    @staticmethod
    def of(target: Target) -> "CpuRates":
        lanes = target.vector_bits / 32
        workers, scratch = max(2, min(target.cores, 64)), max(target.l2 // 2, 1 << 17)
        return CpuRates(workers, traffic=12.0, ops=lanes * 0.8, macs=lanes * 3.0, scratch=scratch, near=target.l1 // 2)

    def price(self, work: Work) -> float | None:
        traffic, scratch = work.traffic, work.scratch
        if scratch > self.scratch:
            if scratch > SPILLED * self.scratch:
                return None
            traffic += SPILLED * scratch
        # Blocks beyond one per worker let threads balance the load among themselves.
        waves = -(-work.blocks // self.workers) * (1 + 0.15 * self.workers / max(work.blocks, 1))
        arithmetic = work.ops / self.ops + (work.macs + work.tensor_macs + work.dots) / self.macs
        # Products come through the second cache anyway; what else there is waits less for memory in small blocks.
        buffers = scratch / (NEAR if scratch <= self.near or work.macs else FAR)
        return self.launch + waves * (self.block + traffic / self.traffic + arithmetic + buffers)


@dataclass(frozen=True)
class GpuRates:
    """Bytes/ns, simple ops/ns, multiply-adds/ns (CUDA cores, tensor cores) of an SM, and of one block alone on it.

    Then ns: of a launch, of starting a block, and of what a block waits for: its first data, each phase, each pipeline stage;
    and what issuing a stage takes of an SM. stages: of a pipeline, as far as they fill (without asynchronous
    copies: two). shares: sums then take their place.
    Rates are what generated kernels reach, not peaks: about 6 TB/s from L2 over 132 SMs at 1.7 GHz. One block of a few warps waits for its
    own latencies most of the time; several resident blocks hide each other's. The `wide` ones are of warpgroups. Where no number says
    otherwise, they were fitted to the times of chains of kernels on Hopper GPUs; nothing was measured on AMD's machines, for which they
    are estimates.
    """

    sms: int
    shared: int
    atoms: Mapping[str, tuple[int, int, float]]
    wide: bool
    warp: int
    l2: int = 1 << 62  # bytes; a tensor that is larger comes from memory, and goes there:
    memory: float = 22.5  # an SM's share of it where all read; of a block alone:
    alone_memory: float = 80.0
    copied: float = 0.85  # the part of it that a product reaches whose stages threads copy, rather than TMA
    hidden: float = 0.9  # the part of the shorter that goes beside the longer, of memory's time and all else's
    traffic: float = 45.0
    ops: float = 80.0
    macs: float = 60.0
    tensor_macs: float = 800.0
    alone_traffic: float = 70.0
    alone_ops: float = 80.0
    alone_ops_beside: float = 40.0  # in the four or eight warps of a kernel with matrix products
    alone_macs: float = 12.0
    alone_dots: float = 40.0
    alone_tensor_macs: float = 1000.0
    cycles: float = 1.5  # of FMA units, per ns: stalls are part of them
    alone_cycles: float = 1.1
    launch: float = 1500.0
    start: float = 50.0
    block: float = 600.0
    phase: float = 150.0
    stage: float = 50.0
    issue: float = 70.0
    step: int = 64
    stages: int = 4
    stage_row: int = 128  # bytes of a factor's row in a stage
    shares: bool = False
    wide_block: float = 300.0  # tensor maps and barriers come first
    wide_macs: float = 2800.0
    wide_traffic: float = 80.0  # of each SM where all stream; fewer SMs share the same L2
    wide_most_traffic: float = 160.0
    wide_stages: int = 6  # of a block's ring, at most, all of them on their way for:
    wide_latency: float = 600.0
    row_block: float = 800.0  # of rows in registers: the first data and the last
    row_phase: float = 40.0
    row_start: float = 15.0
    row_ops: float = 250.0
    row_bytes: int = 96 << 10  # that registers of an SM hold beside what they compute
    row_most: int = 128 << 10  # that one block holds of one row
    rows_most: int = 32 << 10  # of several
    row_part: int = 32 << 10  # that a block of a cluster has of a row which no single one holds
    row_split: int = 0  # of such a row, at most
    stream_macs: float = 1000.0  # of warps: what they read of shared memory keeps them busy, too
    softmax: float = 20.0  # scores of a stream; those of a group alone
    softmax_alone: float = 9.0
    stream_step: float = 300.0  # latency of a step: a product's, a barrier's
    stream_block: float = 500.0  # before the first step, and after the last
    exchange: float = 100.0  # bytes of sums through shared memory, to where the rest of the kernel reads them
    units: Mapping[str, Unit] = field(default_factory=dict[str, Unit])
    registers: int = 1 << 16
    splits: tuple[int, ...] = (256, 128, 64, 32, 16)
    patches: tuple[int, ...] = (256, 128, 64)
    turned: int = 1 << 14
    guards: bool = True
    streams: bool = True
    recomputes: bool = True
    sector: int = 64
    along: Collection[str] = ()
    loose: float = 1.0

    @staticmethod
    def of(target: Target) -> "GpuRates":
        wide = target.has("wgmma") and target.has("tma")
        atoms = _atoms(target)
        along = tuple(element for element in atoms if wide and element in KINDS and not KINDS[element].across)
        return GpuRates(target.sms, target.shared_bytes, atoms, wide, target.warp, along=along, stages=4 if target.has("cp.async") else 2,
                        shares=not target.has("cp.async"), loose=LOOSE if target.has("cp.async") else 1.0, units=chained_units(target),
                        registers=target.registers, l2=target.l2, turned=target.shared_bytes // BLOCKS,
                        row_split=target.cluster << 16)

    def price(self, work: Work) -> float | None:
        price = self._price_cached(work)
        if price is not None and work.once > self.l2:
            memory = self.sms * self.memory * (self.copied if work.wide is None else 1.0)
            waves = -(-work.blocks // self.sms)  # each begins with empty stages
            price = self._beside(price, self.launch + waves * self.wide_block + work.once / min(memory, work.blocks * self.alone_memory))
        if price is not None and work.far:
            price = self._beside(price, self.launch + work.far / (self.sms * self.memory))
        return price

    def _beside(self, price: float, waiting: float) -> float:
        """What two things take that go on beside each other."""
        return max(price, waiting) + (1 - self.hidden) * min(price, waiting)

    def _price_cached(self, work: Work) -> float | None:
        """Where all that blocks read lies in the L2 cache."""
        if work.stream is not None:
            return self._price_stream(work, work.stream)
        if work.wide is not None and (price := self._price_wide(work, work.wide)) is not None:
            return price
        stages = min(self.stages, -(-work.depth // self.step) + 1)
        tiles = work.tiles or Tiles(0.0, 0)
        ring = work.staged * self.stage_row * PADDED * stages
        need = work.scratch * PADDED + max((max(0.0, ring - work.sums * PADDED) if self.shares else ring), tiles.ring * PADDED)
        if need > self.shared - RESERVED:
            return None
        held = work.held
        if held and held.bytes <= (self.row_most if held.rows == 1 else self.rows_most):
            return self._price_rows(work, held)
        if held and held.rows == 1 and held.bytes <= self.row_split:
            parts = -(-held.bytes // self.row_part)
            part = replace(work, blocks=work.blocks * parts, traffic=work.traffic / parts, ops=work.ops / parts)
            return self._price_rows(part, Held(self.row_part, 1))
        traffic = work.traffic + (2 * held.bytes if held else 0)  # rows that do not fit are read again
        resident = max(1, min(RESIDENT, int(self.shared // max(need, 1))))
        each = -(-work.blocks // self.sms)
        macs, tensor = work.macs, work.tensor_macs
        stages_done = -(-work.depth // self.step)
        arithmetic = work.ops / self.ops + (macs + work.dots) / self.macs + tensor / self.tensor_macs + tiles.cycles / self.cycles
        busy = self.start + self.issue * stages_done + max(traffic / self.traffic, arithmetic)
        alone = (self.block + self.phase * work.phases + self.stage * stages_done
                 + max(traffic / self.alone_traffic, tensor / self.alone_tensor_macs + tiles.cycles / self.alone_cycles)
                 + work.ops / (self.alone_ops_beside if tensor or tiles.cycles else self.alone_ops)
                 + macs / self.alone_macs + work.dots / self.alone_dots)
        return self.launch + max(-(-each // resident) * alone, each * busy)

    def _price_rows(self, work: Work, held: Held) -> float:
        """With rows in registers: memory sets the pace, but for what a block waits for alone."""
        each, resident = -(-work.blocks // self.sms), max(1, min(RESIDENT_ROWS, self.row_bytes // held.bytes))
        alone = self.row_block + self.row_phase * work.phases + work.traffic / self.alone_traffic + work.ops / self.row_ops
        busy = self.row_start + max(work.traffic / self.traffic, work.ops / self.row_ops)
        return self.launch + max(-(-each // resident) * alone, each * busy) + self.row_start * each

    def _price_stream(self, work: Work, stream: StreamWork) -> float | None:
        """Keys and values come while the steps before are computed."""
        if work.macs or work.tensor_macs or stream.workspace + work.scratch * PADDED > self.shared - RESERVED:
            return None
        each, resident = -(-work.blocks // self.sms), max(1, min(stream.resident, self.shared // max(stream.workspace, 1)))
        products, scores = stream.macs / (self.wide_macs if stream.wide else self.stream_macs), stream.scores / self.softmax
        step = max(products, scores) + EXPOSED * min(products, scores)
        first = max(step, products + stream.scores / stream.groups / self.softmax_alone + self.stream_step)  # nothing to overlap with
        start = self.stream_block + self.phase * work.phases + work.ops / self.ops
        longest, mean = (start + max(first + max(steps - 1, 0) * max(step, self.stream_step), work.traffic / self.alone_traffic)
                         for steps in (stream.longest, stream.steps))
        busy = self.start + max(stream.steps * step + work.ops / self.ops, work.traffic / self.traffic)
        return self.launch + max(longest, -(-each // resident) * mean, each * busy)

    def _price_wide(self, work: Work, wide: Wide) -> float | None:
        """With a product on warpgroups: alone on an SM its blocks multiply, then do the rest; two overlap. None if a block does not fit."""
        each = -(-work.blocks // self.sms)
        others, sums = (work.scratch - wide.result) * PADDED, wide.result * PADDED_SUMS
        half = max(STAGES_OF_TWO * wide.stage, sums) + others <= self.shared / 2 - RESERVED and wide.accumulators <= ACCUMULATORS_OF_TWO
        resident = 2 if half and work.blocks > self.sms else 1
        if max(STAGES * wide.stage, sums) + others > self.shared - RESERVED:
            return None
        coming = self.wide_stages * wide.stage / self.wide_latency
        traffic = min(self.wide_most_traffic, coming, self.wide_traffic * self.sms / min(self.sms, work.blocks))
        main = max(wide.macs / self.wide_macs, max(work.streamed, wide.moved) / traffic)
        rest = (work.traffic - work.streamed) / self.traffic + work.ops / self.ops + wide.result / self.exchange
        alone = self.wide_block + self.phase * work.phases + main + rest
        return self.launch + max(-(-each // resident) * alone, each * (self.start + main + rest / resident))


@dataclass(frozen=True)
class PhaseRates(GpuRates):
    """A kernel as a phase of a larger one, whose `sms` blocks run at once and meet at barriers (`launch`) instead of at launches."""

    @staticmethod
    def within(target: Target, blocks: int, barrier: float) -> "PhaseRates":
        rates = GpuRates.of(target)
        return PhaseRates(blocks, rates.shared, rates.atoms, wide=False, warp=rates.warp, launch=barrier, stages=rates.stages)

    def price(self, work: Work) -> float | None:
        return None if work.blocks > self.sms else super().price(work)


def _atoms(target: Target) -> dict[str, tuple[int, int, float]]:
    """Units take factors of 8 bits at twice the rate of 16, tf32 at half of it, and f32 at a quarter."""
    found: dict[str, tuple[int, int, float]] = {}
    for atom in map(ATOMS.__getitem__, target.atoms):
        rows, columns, _ = atom.shape
        ratio = BY_NAME[atom.element].bits / 16
        found.setdefault(atom.element, (rows, columns, ratio ** 2 if atom.input == "f32" else ratio))
    return found


def rates_of(target: Target) -> Rates:
    """The prices of a target."""
    return GpuRates.of(target) if target.warp else CpuRates.of(target)
