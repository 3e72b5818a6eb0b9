"""The task map of a foreach: how many threads it can use, which of them share a reduction, and what a thread does on vectors."""

from collections.abc import Sequence

from mlc.dialects._ext import operations
from mlc.ir.mlir import ir
from mlc.layout.mapping import TaskMap, repeat, spatial
from mlc.passes.gpu.block import WIDEST, aligned_lanes
from mlc.passes.gpu.mapping.kernel import Kernel
from mlc.passes.gpu.mapping.repeats import lasting_loads
from mlc.passes.gpu.mapping.shared_memory import PLACE
from mlc.passes.task.body import Body
from mlc.passes.task.flat import Access
from mlc.passes.tile.model import element_bytes, index_roots, volume

LEAST, MOST = 64, 512  # threads of a block
PER_THREAD = 4  # points (of a reduction, too) that a thread should have at least, before more threads help
SHORT_ROW = 64  # elements that a thread stores side by side where its neighbours load side by side
SHORT = 32  # ops of a body that gathers, up to which it is done on vectors


def threads_wanted(kernel: Kernel, body: Body) -> int:
    """Threads that a foreach can use well: a power of two between LEAST and MOST."""
    shape = _turned(kernel, body)
    work = volume(list(body.extents.values())) if shape is None else shape[0] * PER_THREAD * 4 // 3  # a quarter of them may be idle
    for op in body.reductions:
        work *= max(1, volume(op.opview.py("extents")))
    # Loads whose places depend on other loads leave a thread waiting at each point: one is enough.
    each = 1 if not body.reductions and _chases(body) else PER_THREAD
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
        if (shape := _turned(kernel, body)) is not None:
            outer, inner, lanes = shape
            return repeat(-(-outer // threads), 1) * spatial(threads, 1) * repeat(inner // lanes, 1) * repeat(lanes, 1)
        lanes = _lanes(kernel, body, threads, points)
        return repeat(-(-points // (threads * lanes)), 1) * spatial(threads, 1) * repeat(lanes, 1)
    op = body.reductions[0]
    extents = op.opview.py("extents")
    depth = volume(extents)
    last = list(op.regions[0].blocks[0].arguments)[len(extents) - 1]
    loads = [a for o, a in body.accesses.items() if o.name == "task.load" and o.parent == op]
    along = sum(a.stride(last) == 1 for a in loads)
    across = _across(body, loads)
    apart = points >= threads and (across >= along if across else not along)
    if apart or not depth or not all(op.opview.py("combine")):
        lanes = _lanes(kernel, body, threads, points) if across else 1
        return repeat(-(-points // (threads * lanes)), max(depth, 1)) * spatial(threads, 1) * repeat(lanes, 1)
    lanes = _depth_lanes(kernel, loads, last, extents[-1]) if not _gathers(body) else 1
    while lanes > 1 and depth // lanes < 8:
        lanes //= 2
    sharing = 1
    beside = along and not lasting_loads(kernel, body)  # neighbours read what lies side by side; what is read but once may lie anywhere
    while sharing < threads and sharing * lanes < depth and (points * sharing < threads or (beside and sharing < 32)):
        sharing *= 2
    groups = threads // sharing
    return repeat(-(-points // groups), -(-depth // (sharing * lanes))) * spatial(groups, sharing) * repeat(1, lanes)


def _turned(kernel: Kernel, body: Body) -> tuple[int, int, int] | None:
    """For points whose loads all run along another dimension than their stores: how many up to that dimension, how many behind it for
    each of these, and how many of them are a vector. Neighbouring threads then load neighbours, and each stores short rows."""
    extents, arguments = list(body.extents.values()), list(body.block.arguments)
    walked = set()
    for op in operations(body.block.owner.operation):
        if op.name == "task.load":
            walked |= {d for d in range(len(extents)) if extents[d] > 1 and body.accesses[op].stride(arguments[d]) == 1}
        elif op.name == "memref.load" and len(op.operands) > 1:
            roots = index_roots(list(op.operands)[-1])
            walked |= {d for d in range(len(extents)) if extents[d] > 1 and arguments[d] in roots}
    if body.reductions or len(walked) != 1 or extents[-1] == 1 or walked == {len(extents) - 1}:
        return None
    split = walked.pop() + 1
    outer, inner = volume(extents[:split]), volume(extents[split:])
    lanes = _lanes(kernel, body, 1, outer * inner)
    return (outer, inner, lanes) if outer >= kernel.target.warp and lanes > 1 and inner <= SHORT_ROW and inner % lanes == 0 else None


# -- vectors ------------------------------------------------------------------------------------------------------------
def _across(body: Body, loads: Sequence[Access]) -> int:
    """Loads that walk memory contiguously along the last point dimension."""
    extents = list(body.extents.values())
    if not extents or extents[-1] == 1:
        return 0
    return sum(a.stride(body.block.arguments[len(extents) - 1]) == 1 for a in loads)


def _lanes(kernel: Kernel, body: Body, threads: int, points: int) -> int:
    """The vector length along the last point dimension: stores must be contiguous and aligned, and threads not idle."""
    extents = list(body.extents.values())
    if not extents or _gathers_much(body):
        return 1
    last = body.block.arguments[len(extents) - 1]
    stores = [a for o, a in body.accesses.items() if o.name == "task.store"]
    if any(a.stride(last) != 1 for a in stores):
        return 1
    widest = max([element_bytes(a.buffer) for a in body.accesses.values() if a.stride(last) == 1])
    lanes = WIDEST // widest
    while lanes > 1 and (extents[-1] % lanes or points // lanes < threads):
        lanes //= 2
    return min([aligned_lanes(a, last, lanes, kernel.aligned.get(a.buffer, PLACE)) for a in stores], default=1)


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
    """Whether lanes, which gather one by one, would take many registers: each op of the body is there for each of them."""
    ops = operations(body.block.owner.operation)
    return body.loops or (_gathers(body) and (sum(o.name == "memref.load" for o in ops) > 1 or len(ops) > SHORT))


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
