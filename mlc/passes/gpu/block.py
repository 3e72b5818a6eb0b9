"""One thread block while its kernel is emitted: who a thread is, where buffers lie, how far they are aligned, where barriers are due."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlc.ir.mlir import arith, gpu, ir, memref, scf
from mlc.passes.gpu import cluster
from mlc.passes.gpu.kept import Kept
from mlc.passes.task.flat import Access, Memory, divisor, index_constant, load_scalar
from mlc.passes.tile.model import element_bytes, volume

NARROW = 1 << 31  # elements that 32-bit address arithmetic reaches
WIDEST = 16  # bytes of the widest load or store of a thread
SHARED = "#gpu.address_space<workgroup>"
HALVES = 2  # of the memory in which warps join their parts: taken in turns, so that an exchange needs one barrier
GLOBAL = "#gpu.address_space<global>"


def aligned_lanes(access: Access, lane: ir.Value | None, most: int, alignment: int) -> int:
    """The longest power-of-two vector, at most `most`, along the index `lane` (in steps of its own length) that is always aligned.

    alignment: bytes that the buffer's start is aligned to.
    """
    size = element_bytes(access.buffer)
    lanes = most
    while lanes > 1:
        whole = access.const % lanes == 0 and lanes * size <= min(alignment, WIDEST)
        if whole and all(stride * divisor(v) % lanes == 0 for v, stride in access.strides.items() if v != lane):
            return lanes
        lanes //= 2
    return 1


def shared_type(elements: int, element: ir.Type) -> ir.Type:
    """A flat buffer in the block's shared memory."""
    return ir.MemRefType.get([elements], element, memory_space=ir.Attribute.parse(SHARED))


def global_type(type_: ir.Type) -> ir.Type:
    """A kernel argument as flat device memory."""
    return ir.MemRefType.get([volume(type_.shape)], type_.element_type, memory_space=ir.Attribute.parse(GLOBAL))


def delinearize(value: ir.Value, extents: Sequence[int]) -> list[ir.Value]:
    """The row-major index tuple of a linear index; divisions are 32-bit where they can be (64-bit ones are slow on GPUs)."""
    if sum(e > 1 for e in extents) <= 1:
        return [value if e > 1 else index_constant(0) for e in extents]
    narrow = volume(extents) < NARROW
    type_ = ir.IntegerType.get_signless(32) if narrow else ir.IndexType.get()
    rest = arith.IndexCastUIOp(type_, value).result if narrow else value
    found: list[ir.Value] = []
    first = next(i for i, e in enumerate(extents) if e > 1)
    for d in range(len(extents) - 1, -1, -1):
        if extents[d] == 1:
            found.append(index_constant(0))
            continue
        size = arith.ConstantOp(type_, extents[d]).result
        part = rest if d == first else arith.RemUIOp(rest, size).result
        rest = rest if d == first else arith.DivUIOp(rest, size).result
        found.append(arith.IndexCastUIOp(ir.IndexType.get(), part).result if narrow else part)
    return found[::-1]


def grid_control(action: str) -> None:
    """griddepcontrol: `wait` waits for the launches before (PTX ISA 9.7.13.13).

    Nobody says `launch_dependents`: blocks that wait on an SM beside those at work made whole models slower (BERT, batch 1, H100: 725 us
    against 527 us). A kernel then starts when the one before has ended, but without a launch's latency between them.
    """
    ir.Operation.create("nvvm.griddepcontrol", attributes={"kind": ir.Attribute.parse(f"#nvvm<grid_dep_action {action}>")})


def banded(block: ir.Value, grid: Sequence[int], band: int) -> list[ir.Value]:
    """The index tuple of a block where consecutive blocks run along the last but one dimension, `band` of its indices at a time."""
    *outer, rows, columns = grid
    *found, inside = delinearize(block, [*outer, rows * columns])
    i32 = ir.IntegerType.get_signless(32)
    at, size, width, total = (arith.IndexCastUIOp(i32, inside).result, *(arith.ConstantOp(i32, n).result for n in (band, columns, rows)))
    whole = arith.MulIOp(size, width).result
    first = arith.MulIOp(arith.DivUIOp(at, whole).result, size).result
    rest = arith.RemUIOp(at, whole).result
    height = size if rows % band == 0 else arith.MinUIOp(arith.SubIOp(total, first).result, size).result
    row, column = arith.AddIOp(first, arith.RemUIOp(rest, height).result).result, arith.DivUIOp(rest, height).result
    return [*found, *(arith.IndexCastUIOp(ir.IndexType.get(), v).result for v in (row, column))]


@dataclass
class Block:
    """What the emitters of one kernel share. env: task-level values -> values of the gpu.func.

    alignment: bytes, per kernel argument. scratch: offset of the memory in which warps join their parts of a reduction. constants: kernel
    arguments that may be read at once; `dependent`: others only after `wait`. kept: values loaded ahead of the kernel's loops, by the
    thread's turns along points and along the reduction. registers: per register buffer, the thread's values by their place among its
    points. exchanged: those of the two halves of `scratch` that some threads may still read. split: the blocks of a cluster that this one
    is; `threads` and `thread` count through all of them. begun: whether all these have begun for sure.
    """

    warp: int
    threads: int
    thread: ir.Value
    dynamic: ir.Value | None
    memory: Memory
    env: dict[ir.Value, ir.Value]
    alignment: Mapping[ir.Value, int]
    scratch: int
    constants: set[ir.Value]
    dependent: bool
    kept: dict[Kept, dict[tuple[tuple[int, ...], tuple[int, ...]], ir.Value]] = field(default_factory=dict)
    written: set[ir.Value] = field(default_factory=set)
    read: set[ir.Value] = field(default_factory=set)
    registers: dict[ir.Value, dict[tuple[int, ...], ir.Value]] = field(default_factory=dict)
    exchanged: set[int] = field(default_factory=set)
    split: int = 1
    begun: bool = False

    def shared(self, offset: int, elements: int, element: ir.Type) -> ir.Value:
        """A flat buffer at `offset` bytes of the block's shared memory."""
        assert self.dynamic is not None
        return memref.ViewOp(shared_type(elements, element), self.dynamic, index_constant(offset), []).result

    def align_of(self, buffer: ir.Value) -> int:
        """Bytes that a buffer's start is aligned to: shared ones are placed at multiples of 128."""
        return self.alignment.get(buffer, 128)

    def wait(self) -> None:
        """From here on, what earlier launches wrote is there (programmatic dependent launch)."""
        if self.dependent:
            grid_control("wait")
            self.dependent = False

    def barrier(self) -> None:
        """All threads of the block have done what stands before."""
        gpu.BarrierOp()
        self.written.clear()
        self.read.clear()

    def exchange(self, parts: Sequence[ir.Value], places: Sequence[ir.Value]) -> list[list[ir.Value]]:
        """Per place the parts as they are in lane 0 of the warp with that number, for all threads of the block, through `scratch`.

        One barrier: the next exchange goes through the other half. Of a split block, each lane tells another block of the cluster.
        """
        half = 1 if self.exchanged == {0} else 0
        if half in self.exchanged:
            gpu.BarrierOp()
        warps = self.threads // self.warp
        number, lane = delinearize(self.thread, [warps, self.warp])
        starts = [self.scratch + 8 * (HALVES * i + half) * warps for i in range(len(parts))]
        buffers = [self.shared(start, warps, p.type) for start, p in zip(starts, parts)]
        if self.split > 1 and not self.begun:
            cluster.wait()
            self.begun = True
        few = (arith.CmpIPredicate.ult, self.split) if self.split > 1 else (arith.CmpIPredicate.eq, 0)
        leads = scf.IfOp(arith.CmpIOp(few[0], lane, index_constant(few[1])).result)
        with ir.InsertionPoint(leads.then_block):
            for p, buffer, start in zip(parts, buffers, starts):
                if self.split > 1:
                    assert self.dynamic is not None
                    place = arith.MulIOp(number, index_constant(element_bytes(buffer))).result
                    cluster.store_far(p, self.dynamic, arith.AddIOp(place, index_constant(start)).result, lane)
                else:
                    memref.StoreOp(p, buffer, [number])
            scf.YieldOp([])
        if self.split > 1:
            cluster.arrive()
            cluster.wait()
        else:
            gpu.BarrierOp()
        self.exchanged = {half}
        return [[load_scalar(buffer, place) for buffer in buffers] for place in places]

    def meet(self, scope: str) -> None:
        """All threads of the block, or of all blocks of the cluster, have done what stands before, and see it."""
        if scope == "cluster":
            cluster.arrive()
            cluster.wait()
            self.written.clear()
            self.read.clear()
        else:
            self.barrier()

    def settle(self) -> None:
        """A barrier, unless nothing has happened since the last one."""
        if self.written or self.read:
            self.barrier()

    def order(self, reads: set[ir.Value], writes: set[ir.Value], overlaps: Mapping[ir.Value, set[ir.Value]]) -> None:
        """A barrier in front of an op, if it touches what others wrote or overwrites what they read since the last one.

        overlaps: the buffers that share memory with a buffer, itself included.
        """
        touched = {o for b in reads | writes for o in overlaps.get(b, {b})}
        claimed = {o for b in writes for o in overlaps.get(b, {b})}
        if touched & self.written or claimed & self.read:
            self.barrier()
        self.written |= writes
        self.read |= reads
