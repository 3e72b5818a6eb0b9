"""The task map of a foreach: how many threads it can use, which of them share a reduction, and what a thread does on vectors."""

from collections.abc import Sequence

from mlc.dialects._ext import operations
from mlc.ir.mlir import ir
from mlc.layout.mapping import TaskMap, repeat, spatial
from mlc.passes.gpu.block import WIDEST, aligned_lanes
from mlc.passes.gpu.foreach import last_long
from mlc.passes.gpu.mapping.kernel import Kernel
from mlc.passes.gpu.mapping.repeats import lasting_loads
from mlc.passes.gpu.mapping.shared_memory import PLACE
from mlc.passes.gpu.mapping.turned import SECTOR
from mlc.passes.task.body import Body, beside
from mlc.passes.task.flat import Access
from mlc.passes.tile.model import element_bytes, volume

LEAST, MOST = 64, 512  # threads of a block
PER_THREAD = 4  # points (of a reduction, too) that a thread should have at least, before more threads help
SEGMENT = 128  # bytes of a row that a warp moves at once, if it moves parts of several rows
SHORT = 32  # ops of a body that gathers which each lane has for itself, up to which it is done on vectors


def threads_wanted(kernel: Kernel, body: Body) -> int:
    """Threads that a foreach can use well: a power of two between LEAST and MOST."""
    work = volume(list(body.extents.values()))
    for op in body.reductions:
        work *= max(1, volume(op.opview.py("extents")))
    # Loads whose places depend on other loads leave a thread waiting at each point: one is enough.
    each = 1 if not body.reductions and _chases(body) else PER_THREAD
    if _turns(kernel, body):
        each *= _lanes(kernel, body, 1, work)  # several vectors, so that a block has more than one on its way to the barrier
    threads = LEAST
    while threads < MOST and 2 * threads * each <= work:
        threads *= 2
    return threads


def map_of(kernel: Kernel, body: Body, threads: int) -> TaskMap:
    """Who of `threads` does what of a foreach's [points, reduction points].

    Neighbouring threads take neighbouring points, or share a reduction where that is how loads walk memory, or where points are few.
    """
    points = volume(list(body.extents.values()))
    if not body.reductions:
        lanes = _lanes(kernel, body, threads, points)
        if _turns(kernel, body) and (map_ := _segments(kernel, body, threads, lanes)) is not None:
            return map_
        return repeat(-(-points // (threads * lanes)), 1) * spatial(threads, 1) * repeat(lanes, 1)
    op = body.reductions[0]
    extents = op.opview.py("extents")
    depth = volume(extents)
    last = list(op.regions[0].blocks[0].arguments)[len(extents) - 1]
    loads = [a for o, a in body.accesses.items() if o.name == "task.load" and o.parent == op]
    along = sum(a.stride(last) == 1 and extents[-1] * element_bytes(a.buffer) >= SECTOR for a in loads)  # shorter rows are one access
    across = _across(body, loads)
    apart = points >= threads and (across >= along if across else not along)
    if apart or not depth or not all(op.opview.py("combine")):
        lanes = _lanes(kernel, body, threads, points) if across else 1
        return repeat(-(-points // (threads * lanes)), max(depth, 1)) * spatial(threads, 1) * repeat(lanes, 1)
    lanes = _depth_lanes(kernel, loads, last, extents[-1]) if not _gathers(body) else 1
    while lanes > 1 and depth // lanes < 8:
        lanes //= 2
    sharing = 1
    near = along and not lasting_loads(kernel, body)  # neighbours read what lies side by side; what is read but once may lie anywhere
    while sharing < threads and sharing * lanes < depth and (points * sharing < threads or (near and sharing < 32)):
        sharing *= 2
    if not along and _steps(points, depth, threads, sharing, lanes) >= _steps(points, depth, threads, 1, lanes):
        sharing = 1
    groups = threads // sharing
    return repeat(-(-points // groups), -(-depth // (sharing * lanes))) * spatial(groups, sharing) * repeat(1, lanes)


def _steps(points: int, depth: int, threads: int, sharing: int, lanes: int) -> int:
    """What a thread does one after the other where so many share a reduction: vectors of points, and exchanges that join them."""
    return -(-points // (threads // sharing)) * (-(-depth // (sharing * lanes)) + sharing.bit_length() - 1)


def _turns(kernel: Kernel, body: Body) -> bool:
    """Whether a foreach writes or reads a turned buffer."""
    return any(a.buffer in kernel.turned for a in body.accesses.values())


def _segments(kernel: Kernel, body: Body, threads: int, lanes: int) -> TaskMap | None:
    """A warp moves segments of as many rows as it can, so that rows and columns of a turned buffer meet all banks; None: rows are odd.

    lanes: of a thread's vector.
    """
    *outer, row = [n for n in body.extents.values() if n > 1]
    warp, widest = kernel.target.warp, max(element_bytes(a.buffer) for a in body.accesses.values())
    wide = min(warp, max(1, SEGMENT // (lanes * widest)))
    while row % (wide * lanes) and wide * lanes * widest > SECTOR:
        wide //= 2
    high = warp // wide
    if row % (wide * lanes) or volume(outer) % high:
        return None
    rows = threads // warp * high
    return (repeat(-(-volume(outer) // rows), 1) * spatial(rows, 1) * repeat(row // (wide * lanes), 1) * spatial(wide, 1)
            * repeat(lanes, 1))


# -- vectors ------------------------------------------------------------------------------------------------------------
def _across(body: Body, loads: Sequence[Access]) -> int:
    """Loads that walk memory contiguously along the last point dimension, also those of elements whose other places are data."""
    extents = list(body.extents.values())
    if volume(extents) == 1:
        return 0
    last = body.block.arguments[last_long(extents)]
    return sum(a.stride(last) == 1 for a in loads) + len(_gathered(body, last))


def _gathered(body: Body, last: ir.Value) -> list[ir.Value]:
    """The buffers that are read at data-dependent places, but along the index `last` at neighbouring ones."""
    gathers = [list(o.operands) for o in operations(body.block.owner.operation) if o.name == "memref.load" and len(o.operands) > 1]
    return [buffer for buffer, *places in gathers if beside(places[-1], last) is not None]


def _lanes(kernel: Kernel, body: Body, threads: int, points: int) -> int:
    """The vector length along the last point dimension: stores must be contiguous and aligned, and threads not idle."""
    extents = list(body.extents.values())
    if not extents or _gathers_much(body):
        return 1
    row = last_long(extents)
    last = body.block.arguments[row]
    stores = [a for o, a in body.accesses.items() if o.name == "task.store"]
    if any(a.stride(last) != 1 for a in stores):
        return 1
    loads = [a for o, a in body.accesses.items() if o.name == "task.load" and a.stride(last) == 1]
    # Vectors may be stored in pieces, as they are to a turned buffer; of a reduction, which reads more than it writes, loads decide.
    direct = [] if body.reductions else [a for a in stores if a.buffer not in kernel.turned]
    gathered = _gathered(body, last) if body.reductions else []
    counted = [*[a.buffer for a in loads], *gathered, *[a.buffer for a in stores if not body.reductions or not (loads or gathered)]]
    lanes = WIDEST // max(map(element_bytes, counted))
    while lanes > 1 and (extents[row] % lanes or points // lanes < threads):
        lanes //= 2
    limits = [aligned_lanes(a, last, lanes, kernel.aligned.get(a.buffer, PLACE)) for a in direct or loads]
    return min(limits, default=lanes if gathered else 1)


def _depth_lanes(kernel: Kernel, loads: Sequence[Access], last: ir.Value, extent: int) -> int:
    """The vector length along a reduction's last dimension, which has that extent."""
    contiguous = [a for a in loads if a.stride(last) == 1]
    if not contiguous:
        return 1
    lanes = WIDEST // max(element_bytes(a.buffer) for a in contiguous)
    while lanes > 1 and extent % lanes:
        lanes //= 2
    return min(aligned_lanes(a, last, lanes, kernel.aligned.get(a.buffer, PLACE)) for a in contiguous)


# -- gathers ------------------------------------------------------------------------------------------------------------
def _gathers(body: Body) -> bool:
    return body.loops or any(o.name == "memref.load" for o in operations(body.block.owner.operation))


def _gathers_much(body: Body) -> bool:
    """Whether lanes, which gather one by one, would take many registers: what follows from the last index is there for each of them."""
    if body.loops or not _gathers(body):
        return body.loops
    row = last_long(list(body.extents.values()))
    ops, lanes = operations(body.block.owner.operation), set(list(body.block.arguments)[row:row + 1])
    apart = 0
    for op in ops:
        if any(v in lanes for v in op.operands):
            lanes.update(op.results)
            apart += 1
    return apart > SHORT or sum(o.name == "memref.load" for o in ops) > 1


def _chases(body: Body) -> bool:
    """Whether a body loads at places that depend on what it loaded, or in loops."""
    loaded: set[ir.Value] = set()  # what depends on a gathered element
    for op in operations(body.block.owner.operation):
        follows = any(v in loaded for v in op.operands)
        if follows and op.name == "memref.load":
            return True
        if follows or op.name == "memref.load":
            loaded.update(op.results)
    return body.loops
