"""What a block of a streamed softmax does, for the price: its steps of keys, those left out where nothing is seen counted as none."""

from collections.abc import Mapping, Sequence
from itertools import product

from mlc.dtypes import BY_NAME
from mlc.ir.mlir import ir
from mlc.layout.linear import Linear
from mlc.passes.gpu.hopper.operand import Side
from mlc.passes.gpu.hopper.streaming import Streaming, streaming
from mlc.passes.gpu.warp_streaming import NARROW, WarpShape, warp_shape
from mlc.passes.tile.model import Node, volume
from mlc.passes.tile.rates import RESERVED, Rates, StreamWork
from mlc.passes.tile.region import Region

STREAM_ROWS = (64, 128)  # of a tile
LEAST_ROWS = 48  # of a tile, where there are more
GROUP_WARPS = 4  # that hide each other's latencies
_SAMPLES = 16  # blocks along each dimension that the number of steps is averaged over


def stream_works(nodes: Sequence[Node], regions: Mapping[Node, Region] | None, producer: Mapping[ir.Value, Node],
                 inlined: Mapping[Node, bool], tile: Sequence[int], root: Sequence[int], rates: Rates) -> list[StreamWork | None]:
    """Of each streamed node, in order."""
    return [stream_work(n, regions[n], producer, inlined, tile, root, rates) for n in nodes if n.stream] if regions is not None else []


def stream_work(node: Node, at: Region, producer: Mapping[ir.Value, Node], inlined: Mapping[Node, bool], tile: Sequence[int],
                root: Sequence[int], rates: Rates) -> StreamWork | None:
    """The work of a block for its region; None where no unit of the machine can stream it: factors made inside, too wide a head."""
    stream = node.stream
    assert stream is not None
    if any(at.extents[d] < node.shape[d] for d in stream.columns) or not volume(at.extents):
        return None
    sides = []
    for read in node.reads[:3]:
        places, value = read.indices, read.value
        source = producer.get(value)
        while source is not None and inlined.get(source) and source.copies:
            places, value = tuple(e.compose(places, node.loops) for e in source.reads[0].indices), source.reads[0].value
            source = producer.get(value)
        if source is not None:
            return None
        still = [t >= n for t, n in zip(tile, root, strict=True)]
        sides.append(Side(tuple(value.type.shape), str(value.type.element_type), tuple(_local(e, at, still) for e in places)))
    extents = (*at.extents, *node.over)
    plan = streaming(sides, extents, stream.columns) if rates.wide else None
    if plan is None:
        plan = _on_warps(sides, extents, stream.columns, rates)
    if plan is None:
        return None
    rows, own = plan.height, [d for d in stream.rows if d not in node.reads[1].walked]
    if plan.rows < LEAST_ROWS and any(at.extents[d] < node.shape[d] for d in own):
        return None  # a block would work on padding
    counts = _steps(stream.seen, stream.key, at, plan, tile, root)
    weight = rates.atoms[sides[0].dtype][2] if sides[0].dtype in rates.atoms else 1.0
    macs, scores = weight * rows * plan.step * (plan.depth + plan.width), float(rows * plan.step)
    if isinstance(plan, Streaming):
        size, groups, resident = plan.workspace, plan.consumers, 2 if plan.consumers == 1 else 1
    else:
        size, groups, resident = plan.most_workspace, max(1, plan.warps // GROUP_WARPS), rates.registers // (plan.threads * plan.registers)
    return StreamWork(macs, scores, sum(counts) / len(counts), max(counts), size, groups, resident, isinstance(plan, Streaming))


def _on_warps(sides: Sequence[Side], extents: Sequence[int], columns: Sequence[int], rates: Rates) -> WarpShape | None:
    """How warps stream factors of any layout; None where none of the machine's units can."""
    kinds = {s.dtype for s in sides}
    n = len(extents) - 2
    rows = [d for d in range(n) if d not in columns]
    apart = any(e.coefficients[d] for side in sides[1:] for e in side.places for d in rows if extents[d] > 1)
    if len(kinds) > 1 or apart or any(volume(s.shape) >= NARROW for s in sides) or sum(extents[d] > 1 for d in columns) != 1:
        return None
    height, width = volume([extents[d] for d in rows]), volume([extents[d] for d in columns])
    size = BY_NAME[sides[0].dtype].bits // 8
    return warp_shape(rates.units.get(*kinds), size, height, extents[n], extents[n + 1], width, rates.shared - RESERVED)


def node_ops(node: Node, at: Region, works: Sequence[StreamWork | None], lanes: int) -> float:
    """Simple operations of a node in a block, on vectors; of a stream besides the softmax itself: what scores and results go through."""
    stream, work = node.stream, next(iter(works), None)
    if stream is None or work is None:
        return volume(at.extents) * volume(node.over) * node.cost_in_vectors(lanes)
    return work.scores * work.steps * sum(n.cost for n in stream.between) + volume(at.extents) * max(1, sum(n.cost for n in stream.tail))


def _local(place: Linear, at: Region, still: Sequence[bool]) -> Linear:
    """A place over the node's loops as one over the loops of its region and the block's offsets, without those that are always 0."""
    n, loops, roots = len(at.extents), len(place.coefficients), len(still)
    count = loops + roots
    starts = [Linear((*[0] * loops, *(0 if s else c for c, s in zip(o.coefficients, still))), o.const) for o in at.offsets]
    points = [Linear.variable(i, count) + start for i, start in enumerate(starts)]
    return place.compose([*points, *(Linear.variable(i, count) for i in range(n, loops))], count)


def _steps(seen: Sequence[Linear], key: int, at: Region, plan: Streaming | WarpShape, tile: Sequence[int],
           root: Sequence[int]) -> list[int]:
    """Steps of some blocks, evenly spread over the grid."""
    total = plan.steps
    spans = [(e, e.coefficients[key]) for e in seen if e.coefficients[key] in (1, -1)]
    moving = {i for e, _ in spans for d, o in enumerate(at.offsets) if e.coefficients[d] for i, c in enumerate(o.coefficients) if c}
    starts = [range(0, n, max(t, -(-n // _SAMPLES))) if i in moving else (0,) for i, (n, t) in enumerate(zip(root, tile))]
    counts = []
    for offsets in product(*starts):
        first, stop = 0, total
        for e, sign in spans:
            most = e.const
            for d, (place, extent) in enumerate(zip(at.offsets, at.extents)):
                c = e.coefficients[d]
                most += c * (place.const + sum(a * b for a, b in zip(place.coefficients, offsets))) + max(c * (extent - 1), 0)
            if sign < 0:
                stop = min(stop, max(most, 0) // plan.step + 1)
            else:
                first = max(first, max(-most, 0) // plan.step)
        counts.append(max(stop - first, 1))
    return counts or [total]
