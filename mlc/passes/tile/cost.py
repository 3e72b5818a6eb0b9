"""Price of a group for a tile: what one block of it loads, computes and keeps, by the machine's rates (Welder's traffic x waves)."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from mlc.ir.mlir import ir
from mlc.passes.gpu.fma_plan import FLOATS, RING_POINTS, fma_cycles
from mlc.passes.gpu.hopper.operand import CHUNK, LEAST_ROWS, Boxes, Side, staging
from mlc.passes.tile.model import PIECE, Node, Read, element_bytes, volume
from mlc.passes.tile.rates import Held, Rates, StreamWork, Tiles, Wide, Work, rates_of
from mlc.passes.tile.region import Region, expanded_captures, expanded_follows, expanded_reads, propagate, read_extents
from mlc.passes.tile.stream import find_streams, with_stream
from mlc.passes.tile.stream_cost import STREAM_ROWS, node_ops, stream_works
from mlc.passes.tile.turned import along, least_runs, turned_bytes
from mlc.target import Target

WIDE_ROWS = (128,)  # of a tile for warpgroups
TWICE = 2  # computing an element so often may be cheaper than to hold it


@dataclass(frozen=True)
class Plan:
    """A choice for one group: tile of the sinks, which nodes (in order) are inlined or streamed, bytes of block memory, price in ns."""

    tile: tuple[int, ...]
    inlined: tuple[bool, ...]
    scratch: int
    price: float
    streamed: tuple[bool, ...] = ()


class Pricer:
    """Prices groups at the rates of one target; equal groups (repeated layers) are priced once."""

    def __init__(self, target: Target, rates: Rates | None = None) -> None:
        self.rates = rates or rates_of(target)
        self.known: dict[object, Plan | None] = {}

    def price(self, nodes: Sequence[Node], external: set[ir.Value]) -> Plan | None:
        """The cheapest legal plan of a group in topological order, or None. external: results that leave the group."""
        streams = find_streams(nodes, external) if self.rates.units else []
        key = _key(nodes, external), tuple(_key([n], external) for n in streams)
        if key not in self.known:
            plans = [best_plan(nodes, sink_nodes(nodes, external), external, self.rates)]
            if len(streams) == 1:
                plans.append(_streamed_plan(nodes, streams[0], external, self.rates))
            self.known[key] = min((p for p in plans if p is not None), key=lambda p: p.price, default=None)
        return self.known[key]


def sink_nodes(nodes: Sequence[Node], outs: Collection[ir.Value]) -> list[Node]:
    """Nodes whose results leave the group and that no other node of it reads, in order; the last is the root."""
    read = {r.value for n in nodes for r in n.reads} | {v for n in nodes for v in n.captures}
    return [n for n in nodes if any(r in outs for r in n.results) and not any(r in read for r in n.results)]


def _key(nodes: Sequence[Node], external: set[ir.Value]) -> object:
    """The group's structure: equal keys have equal plans."""
    numbers: dict[ir.Value, int] = {}

    def number(value: ir.Value) -> tuple[int, tuple[int, ...], int]:
        return numbers.setdefault(value, len(numbers)), tuple(value.type.shape), element_bytes(value)

    return tuple((n.shape, n.over, n.cost, n.steady, n.contraction, n.pad, n.around, tuple(n.follows.values()), n.stream and n.stream.seen,
                  tuple((number(r.value), r.indices) for r in n.reads), tuple(number(v) for v in n.captures),
                  tuple((number(v), v in external) for v in n.results)) for n in nodes)


def inline_choices(nodes: Sequence[Node], external: set[ir.Value], guards: bool = False, again: int = 1) -> dict[Node, bool]:
    """Register-level edges: which producers are computed inside their readers instead of into a block buffer.

    A parallel producer is inlined when each of its elements is read once, or when it is cheap to compute again; matrix operands are read
    many times and stay buffers unless they are plain widenings. guards: the machine reads matrix operands through any movement, and zeros
    around them, for nothing. again: how often an element is computed whatever it costs.
    """
    producer = {v: n for n in nodes for v in n.results}
    uses: dict[Node, list[tuple[Node, int]]] = {n: [] for n in nodes}
    for node in nodes:
        for read in node.reads:
            if read.value in producer:
                distinct = {i for e in read.indices for i, c in enumerate(e.coefficients) if c}
                walked = node.stream.walked[node.reads.index(read)] if node.stream else range(node.loops)
                repeats = volume([s for i, s in enumerate((*node.shape, *node.over)) if i in walked and i not in distinct])
                uses[producer[read.value]].append((node, repeats))
    captured = {v for n in nodes for v in n.captures}
    choice: dict[Node, bool] = {}
    for node in nodes:
        plain = not node.over and len(node.results) == 1 and not (set(node.results) & external) and not (set(node.results) & captured)
        total = sum(r for _, r in uses[node])
        into_contraction = any(n.contraction or _is_factor(node, n) for n, _ in uses[node])
        if guards and node.pad is not None and plain and uses[node] and not (set(node.captures) & set(producer)):
            choice[node] = all(n.contraction for n, _ in uses[node])
        elif guards and plain and uses[node] and node.copies:
            choice[node] = True
        else:
            choice[node] = plain and bool(uses[node]) and not into_contraction and (total <= again or node.cost * (total - 1) <= 4)
    return choice


def _is_factor(node: Node, reader: Node) -> bool:
    """Whether a streamed node reads the node's result as a factor of its products."""
    return reader.stream is not None and any(r.value in node.results for r in reader.reads[:3])


def evaluate(nodes: Sequence[Node], sinks: Sequence[Node], external: set[ir.Value], tile: Sequence[int], inlined: Mapping[Node, bool],
             rates: Rates) -> Plan | None:
    """The plan for one tile, or None when it is illegal (regions conflict, an output is not covered, a whole tensor is made inside)."""
    regions = propagate(nodes, sinks, tile, inlined)
    producer = {v: n for n in nodes for v in n.results}
    works = stream_works(nodes, regions, producer, inlined, tile, sinks[-1].shape, rates)
    if regions is None or None in works or any(inlined.get(n) and n.around is not None and n.captures[0] in producer for n in nodes):
        return None
    root = sinks[-1]
    blocks = volume([-(-n // t) for n, t in zip(root.shape, tile, strict=True)])
    tally = _Tally(rates, producer, inlined, external, only=sum(n.contraction for n in nodes) == 1)
    for node in nodes:
        if inlined.get(node):
            continue
        at = regions[node]
        tally.phases += 1
        streams = False  # point by point, also where factors overlap in memory
        if node.contraction:
            streams = tally.multiply(node, at)
        else:
            lanes = _lanes(node, at, rates)
            tally.ops += node_ops(node, at, works, lanes) + _inlined_ops(node, at, producer, inlined, lanes)
        if not _load(node, at, producer, inlined, rates, tally.loaded, streams):
            return None
        if set(node.results) & external:
            if not _covers(at, node.shape, tile, root.shape):
                return None
            tally.traffic += sum(_moved(at.extents, element_bytes(v), node.shape, rates.sector) for v in node.results)
        else:
            tally.scratch += sum(volume(at.extents) * element_bytes(v) for v in node.results)
    held = None if any(n.contraction for n in nodes) else _held(nodes, regions, producer, inlined)
    if (turned := turned_bytes(nodes, regions, producer, inlined) if rates.patches else 0) > rates.turned:
        return None
    far = _far(nodes, external, producer, inlined, rates, {v: moved * blocks for v, moved in tally.loaded.items()})
    price = rates.price(tally.work(blocks, held, turned, far, *works))
    return None if price is None else Plan(tuple(tile), tuple(bool(inlined.get(n)) for n in nodes), tally.scratch, price)


@dataclass
class _Tally:
    """What one block does, added up node by node: the fields of `Work` that have its names. only: there is one contraction."""

    rates: Rates
    producer: Mapping[ir.Value, Node]
    inlined: Mapping[Node, bool]
    external: set[ir.Value]
    only: bool
    loaded: dict[ir.Value, float] = field(default_factory=dict[ir.Value, float])
    traffic: float = 0.0
    streamed: float = 0.0
    ops: float = 0.0
    macs: float = 0.0
    dots: float = 0.0
    tensor_macs: float = 0.0
    scratch: int = 0
    staged: int = 0
    phases: int = 0
    depth: int = 0
    sums: int = 0
    once: float = 0.0
    wide: Wide | None = None
    tiles: Tiles = field(default_factory=lambda: Tiles(0.0, 0))

    def multiply(self, node: Node, at: Region) -> bool:
        """Adds a contraction; whether it loads its factors point by point, by matrix units or register tiles."""
        rates, external = self.rates, bool(set(node.results) & self.external)
        points = volume(at.extents) * volume(node.over)
        rows, columns, sides = _matrix(node, at)
        reduced = volume(node.over) * _batches(node, at)
        atom = _atom(node, rates)
        if rates.wide and atom is not None:
            self.wide = _wide(node, at, self.producer, self.inlined, external) if self.only else None
            self.once += _read_once(node, self.producer, self.inlined)
        vector = self.wide is None and atom is not None and _is_vector(node)
        if self.wide is None and min(rows, columns) == 1:
            atom = None  # loops: `gpu.contraction.is_vector`
        tiles = None if atom is not None else _tiled(node, at, rates)
        if vector:
            self.dots += points
        elif atom is not None:
            high, across, weight = atom
            padded = -(-rows // high) * high * -(-columns // across) * across
            self.tensor_macs += weight * points * padded / max(1, rows * columns)
        elif tiles is not None:
            self.tiles = Tiles(self.tiles.cycles + tiles.cycles * reduced, max(self.tiles.ring, tiles.ring))
        else:
            self.macs += points
        outside, outside_bytes = _outside_points(node, sides, self.producer, self.inlined, 1.0 if atom is None else rates.loose)
        if atom is not None:
            self.staged = max(self.staged, outside)
            if self.only and _batches(node, at) == 1 and not external:
                self.sums = volume(at.extents) * element_bytes(node.results[0])
        if not vector:
            self.depth = max(self.depth, reduced)
        streams = tiles is not None or (rates.streams and atom is not None)
        if streams:
            self.streamed += outside_bytes * reduced
        return streams

    def work(self, blocks: int, held: Held | None, turned: int, far: float, stream: StreamWork | None = None) -> Work:
        """Of `blocks` such blocks. turned: bytes that are copied to a block's memory before they are read."""
        traffic = self.traffic + self.streamed + sum(self.loaded.values())
        return Work(blocks, traffic, self.ops, self.macs, self.tensor_macs, self.scratch + turned,
                    self.staged, self.phases + bool(turned), self.depth, self.streamed, self.sums, self.once, self.wide, held, stream,
                    self.tiles, self.dots, far)


def _far(nodes: Sequence[Node], external: set[ir.Value], producer: Mapping[ir.Value, Node], inlined: Mapping[Node, bool], rates: Rates,
         loaded: Mapping[ir.Value, float]) -> float:
    """Bytes of tensors that no cache holds. loaded: what all blocks load other than factors of matrix units and register tiles.

    Matrices that few rows are multiplied by are not among them: of these `Work.once` is all that a tile cannot help (loops load the faster
    the more threads there are, for which split-reductions provides).
    """
    sizes: dict[ir.Value, float] = {}
    once: set[ir.Value] = set()
    for node in nodes:
        if node.contraction and not inlined.get(node):
            factors = [_source(r, node, producer, inlined)[0].value for r in node.reads]
            if _read_once(node, producer, inlined):
                once.update(factors)
            else:
                sizes |= {v: volume(v.type.shape) * element_bytes(v) for v in factors if v not in producer}
        sizes |= {v: volume(node.shape) * element_bytes(v) for v in node.results if v in external}
    for value, moved in loaded.items():
        if value not in once:
            sizes.setdefault(value, min(moved, volume(value.type.shape) * element_bytes(value)))
    return sum(size for size in sizes.values() if size > rates.l2)


def _held(nodes: Sequence[Node], regions: Mapping[Node, Region], producer: Mapping[ir.Value, Node],
          inlined: Mapping[Node, bool]) -> Held | None:
    """What reductions and other ops walk row by row; None if there are no such reductions, or another op walks a part of the rows."""
    walked: dict[ir.Value, list[tuple[int, int]]] = {}  # by which node, and how many points of it
    active = [node for node in nodes if not inlined.get(node)]
    for i, node in enumerate(active):
        at = regions[node]
        for value in node.results:
            walked.setdefault(value, []).append((i, volume(at.extents)))
        for read in expanded_reads(node, producer, inlined):
            if not _repeats(read, at):
                walked.setdefault(read.value, []).append((i, volume(read_extents(read, (*at.extents, *node.over)))))
    spans, rows = [], 0
    for value, users in walked.items():
        first, last, sizes = users[0][0], users[-1][0], {points for _, points in users}
        counts = [volume(regions[active[i]].extents) for i, _ in users if active[i].over and value not in active[i].results]
        if first < last and counts and max(sizes) > max(counts):
            if len(sizes) > 1:
                return None
            spans.append((first, last, max(sizes) * element_bytes(value)))
            rows = max(rows, *counts)
    most = max([sum(size for first, last, size in spans if first <= at < last) for at in range(len(active))], default=0)
    return Held(most, rows) if most else None


def _repeats(read: Read, at: Region) -> bool:
    """Whether each of several points reduces the same elements, which is no walk along rows."""
    points = len(at.extents)
    return any(i >= points for i in read.walked) and any(n > 1 and i not in read.walked for i, n in enumerate(at.extents))


def _moved(extents: Sequence[int], size: int, shape: Sequence[int], sector: int) -> float:
    """Bytes that move for a box of a tensor with elements of `size` bytes: rows are whole sectors, unless its own are shorter."""
    if not extents:
        return float(size)
    row = max(extents[-1] * size, min(sector, shape[-1] * size))
    return float(volume(extents[:-1]) * row)


def _matrix(node: Node, at: Region) -> tuple[int, int, list[int]]:
    """Rows and columns of a contraction's tile, and how many points of its factors meet at one reduction point."""
    used = [{i for i in r.walked if i < len(at.extents)} for r in node.reads]
    if len(used) != 2:
        return 1, volume(at.extents), [volume(at.extents)] * len(used)
    sides = [volume([at.extents[i] for i in u]) for u in used]
    shared = volume([at.extents[i] for i in used[0] & used[1]])
    sides = [s // max(shared, 1) for s in sides]  # batches are done one after the other
    return sides[0], sides[1], sides


def _outside_points(node: Node, sides: Sequence[int], producer: Mapping[ir.Value, Node], inlined: Mapping[Node, bool],
                    loose: float) -> tuple[int, float]:
    """Points, and their bytes (`Rates.loose`), of a contraction's factors that come from outside of the block for one reduction point."""
    sources = [_source(r, node, producer, inlined)[0] for r in node.reads]
    found = [(n, n * r.element_bytes * loose ** (PIECE // r.piece).bit_length() / loose)
             for n, r in zip(sides, sources) if r.value not in producer]
    return sum(n for n, _ in found), sum(size for _, size in found)


def _read_once(node: Node, producer: Mapping[ir.Value, Node], inlined: Mapping[Node, bool]) -> float:
    """Bytes of a factor from outside that meets few points of the other: of a matrix by which few rows are multiplied."""
    used = [{i for i in r.walked if i < len(node.shape)} for r in node.reads]
    for i, source in enumerate(_source(r, node, producer, inlined)[0] for r in node.reads):
        if len(used) == 2 and source.value not in producer and volume([node.shape[d] for d in used[1 - i] - used[i]]) < LEAST_ROWS:
            return float(volume([node.shape[d] for d in used[i]]) * volume(node.over) * source.element_bytes)
    return 0.0


def _is_vector(node: Node) -> bool:
    """Whether a contraction multiplies a matrix by one row or column."""
    used = [{i for i in r.walked if i < len(node.shape)} for r in node.reads]
    return len(used) == 2 and any(volume([node.shape[d] for d in own - other]) == 1 for own, other in (used, used[::-1]))


def _load(node: Node, at: Region, producer: Mapping[ir.Value, Node], inlined: Mapping[Node, bool], rates: Rates,
          loaded: dict[ir.Value, float], streams: bool) -> bool:
    """Notes the bytes of each outside tensor that a node reads; False if it reads one from inside at data-dependent places.

    streams: what it reads at known places, factors point by point, is counted elsewhere.
    """
    for read in () if streams else expanded_reads(node, producer, inlined):
        if read.value in producer:
            continue
        loops = (*at.extents, *node.over)
        moved = _moved(read_extents(read, loops), read.element_bytes, read.shape, rates.sector)
        if along(read, node) is None:  # of a box that is walked in strides, at most as many elements as there are points
            most = volume([loops[i] for i in read.walked]) * read.element_bytes
            moved = min(moved, float(max(most, rates.sector)))
        loaded[read.value] = max(loaded.get(read.value, 0.0), moved)
    points = volume(at.extents) * volume(node.over)
    captures = expanded_captures(node, producer, inlined)
    follows = expanded_follows(node, producer, inlined) if captures and not node.over else {}
    for capture in captures:
        if capture in producer:
            return False
        moved = min(points, volume(capture.type.shape)) * element_bytes(capture)
        if (loop := follows.get(capture)) is not None and loop != len(at.extents) - 1:
            run = at.extents[loop] * element_bytes(capture)
            moved = max(moved, moved // run * min(rates.sector, capture.type.shape[-1] * element_bytes(capture)))
        loaded[capture] = max(loaded.get(capture, 0.0), float(moved))
    return True


def _source(read: Read, node: Node, producer: Mapping[ir.Value, Node], inlined: Mapping[Node, bool]) -> tuple[Read, tuple[int, ...]]:
    """What a contraction reads where a factor is moved or padded on the way, and the dimensions along which places may lie outside."""
    bounded: tuple[int, ...] = ()
    source = producer.get(read.value)
    while source is not None and inlined.get(source) and source.copies:
        read = source.reads[0].through(read, node.loops)
        source = producer.get(read.value)
    if source is not None and inlined.get(source) and source.pad is not None:
        read = read.past_padding(source)
        bounded = tuple(d for d, (padded, n) in enumerate(zip(source.shape, read.shape)) if padded != n)
    return read, bounded


def _wide(node: Node, at: Region, producer: Mapping[ir.Value, Node], inlined: Mapping[Node, bool], leaves: bool) -> Wide | None:
    """The node's product as one of warpgroups, if TMA can bring both factors. leaves: its sums go to memory."""
    sides = []
    for read in node.reads:
        read, bounded = _source(read, node, producer, inlined)
        if read.value in producer:
            return None
        sides.append(Side(read.shape, read.element_type, read.indices, bounded))
    extents = (*at.extents, *node.over)
    if len(sides) != 2:
        return None
    found = staging(sides[0], sides[1], extents, len(at.extents))
    if found is None or any(_begins_between(boxes, node, at) for boxes in (found.left, found.right)):
        return None
    # What counts is bytes of depth: tf32 has half the rate of 16-bit floats.
    macs = float(found.left.tile.extent * found.right.tile.extent * found.step * volume(found.chunks) * found.kind.bytes / 2)
    result = 0 if leaves else volume(at.extents) * 4
    moved = sum(boxes.bytes * (2 if boxes.between_sectors else 1) for boxes in (found.left, found.right)) * volume(found.chunks)
    return Wide(macs, moved, found.stage_bytes, result, found.accumulators)


def _begins_between(boxes: Boxes, node: Node, at: Region) -> bool:
    """Whether the last tile, which is moved back inside, begins where TMA's boxes cannot."""
    return not boxes.tile.k_major and any((node.shape[d] - at.extents[d]) * boxes.map.element_bytes % CHUNK for d in boxes.outer)


def _batches(node: Node, at: Region) -> int:
    """Products of one block: points along the loops that both factors share."""
    used = [{i for i in r.walked if i < len(at.extents)} for r in node.reads]
    return volume([at.extents[i] for i in used[0] & used[1]]) if len(used) == 2 else 1


def _atom(node: Node, rates: Rates) -> tuple[int, int, float] | None:
    """The atom of a contraction that matrix units take (`Rates.atoms`): factors of one type, rows and columns that are not batches."""
    kinds = {r.element_type for r in node.reads}
    return None if _apart(node) or len(kinds) != 1 else rates.atoms.get(*kinds)


def _apart(node: Node) -> bool:
    """Whether neighbouring results, or neighbouring elements of all factors, are of one batch after the other, as in depthwise windows."""
    long = [d for d, n in enumerate(node.shape) if n > 1]
    if long and all(long[-1] in r.walked for r in node.reads):
        return True
    last = [{i for i, _ in r.terms[-1]} if r.terms else set() for r in node.reads]
    return len(node.shape) > 0 and all(x and max(x) < len(node.shape) for x in last) and bool(set.intersection(*last))


def _tiled(node: Node, at: Region, rates: Rates) -> Tiles | None:
    """One depth point of a contraction that FMA units do by register tiles."""
    if not rates.warp or _apart(node) or len(node.reads) != 2 or any(r.element_type not in FLOATS for r in node.reads):
        return None
    rows, columns, sides = _matrix(node, at)
    sizes = [r.element_bytes for r in node.reads]
    cycles = fma_cycles(rows, columns, rates.warp, volume(node.over), max(sizes))
    return None if cycles is None else Tiles(cycles, RING_POINTS * sum(n * size for n, size in zip(sides, sizes)))


def _lanes(node: Node, at: Region, rates: Rates) -> int:
    """Neighbours along the last dimension that a thread of a GPU does at once."""
    lanes = PIECE // element_bytes(node.results[0])
    return lanes if rates.warp and at.extents and at.extents[-1] % lanes == 0 else 1


def _inlined_ops(node: Node, at: Region, producer: Mapping[ir.Value, Node], inlined: Mapping[Node, bool], lanes: int) -> float:
    """Simple operations of what a node computes inside itself, a streamed one once for each point of the loops that it is evaluated for.

    What a streamed node's factors are moved by (`Node.copies`) is a matter of their addresses.
    """
    loops, last = (*at.extents, *node.over), len(node.shape) - 1
    if node.stream is None:
        return volume(loops) * sum(_inlined_cost(r, last, producer, inlined, lanes) for r in node.reads)
    walked = zip(node.reads[3:], node.stream.walked[3:])
    return sum(volume([loops[i] for i in w]) * _inlined_cost(r, last, producer, inlined, lanes) for r, w in walked)


def _inlined_cost(read: Read, last: int, producer: Mapping[ir.Value, Node], inlined: Mapping[Node, bool], lanes: int) -> float:
    """Of one point of a read by a node of whose loop `last` so many neighbours are done at once."""
    source = producer.get(read.value)
    if source is None or not inlined.get(source):
        return 0.0
    own = lanes if read.terms and any(i == last for i, _ in read.terms[-1]) else 1
    inner = len(source.shape) - 1
    return source.cost_in_vectors(own) + sum(_inlined_cost(r, inner, producer, inlined, own) for r in source.reads)


def _covers(at: Region, shape: Sequence[int], tile: Sequence[int], root: Sequence[int]) -> bool:
    """Whether the blocks' regions together are the whole result."""
    moving: set[int] = set()  # a block that moves along two dimensions at once stays on a diagonal
    for offset, extent, full in zip(at.offsets, at.extents, shape, strict=True):
        variable = offset.only()
        if extent >= full and offset.is_constant:
            continue
        if variable is None or variable in moving or root[variable] != full or extent < min(tile[variable], full):
            return False
        moving.add(variable)
    return True


def candidates(node: Node, splits: Sequence[int], rows: Sequence[int] = ()) -> Iterator[tuple[int, ...]]:
    """Tiles of a sink to try: whole trailing dimensions, part of one, one index of the leading ones.

    splits: sizes of the last dimension besides the whole, for contractions. rows: sizes of the other split dimension, besides halvings.
    With either, the dimensions between the two split ones are whole, or one index each.
    """
    shape = node.shape
    rank = len(shape)
    if not rank or not volume(shape):
        yield tuple(max(d, 1) for d in shape)
        return
    least = 4
    last = [shape[-1], *(s for s in splits if s < shape[-1] and rank > 1)]
    seen = set()
    for split, n, whole in product(range(rank), last, (True, False) if splits or rows else (True,)):
        for size in (*_sizes(shape[split]), *(n for n in rows if n < shape[split])):
            if splits and split == rank - 1 and size < min(least, shape[split]):
                continue
            tile = [1] * split + [size] + [d if whole else 1 for d in shape[split + 1:]]
            if split != rank - 1:
                tile[-1] = n
            if tuple(tile) not in seen:
                seen.add(tuple(tile))
                yield tuple(tile)


def _sizes(full: int) -> list[int]:
    """Tile sizes of one dimension: halvings that divide nearly evenly, largest first."""
    sizes, parts = [full], 2
    while parts <= full:
        size = -(-full // parts)
        if size not in sizes:
            sizes.append(size)
        parts *= 2
    return sizes


def best_plan(nodes: Sequence[Node], sinks: Sequence[Node], external: set[ir.Value], rates: Rates) -> Plan | None:
    """The cheapest legal plan of a group."""
    if not sinks:
        return None
    multiplies = any(n.contraction for n in nodes)
    splits = rates.splits if multiplies else ()
    turns = not multiplies and bool(rates.patches) and any(n.turns for n in nodes)
    if turns:
        splits = tuple(n // element_bytes(sinks[-1].results[0]) for n in rates.patches)
    choices = [inline_choices(nodes, external, rates.guards)]
    if rates.recomputes and not multiplies and any(n.over for n in nodes):
        again = inline_choices(nodes, external, rates.guards, again=TWICE)
        choices += [again] if again != choices[0] else []
    tiles = list(candidates(sinks[-1], splits, WIDE_ROWS if multiplies and rates.wide else ()))
    if turns:
        runs = least_runs(nodes, sinks[-1], choices[0], rates.sector)
        tiles = [t for t in tiles if all(t[loop] >= least for loop, least in runs.items())] or tiles
    best: Plan | None = None
    for inlined, tile in product(choices, tiles):
        plan = evaluate(nodes, sinks, external, tile, inlined, rates)
        if plan is not None and (best is None or plan.price < best.price):
            best = plan
    return best


def _streamed_plan(nodes: Sequence[Node], stream: Node, external: set[ir.Value], rates: Rates) -> Plan | None:
    """The cheapest plan of a group in which a softmax is streamed."""
    assert stream.stream is not None
    found = with_stream(nodes, stream)
    sinks = sink_nodes(found, external)
    if not sinks:
        return None
    inlined = inline_choices(found, external, rates.guards)
    plans = [evaluate(found, sinks, external, tile, inlined, rates) for tile in candidates(sinks[-1], (), STREAM_ROWS)]
    best = min((p for p in plans if p is not None), key=lambda p: p.price, default=None)
    if best is None:
        return None
    inside = stream.stream.nodes
    return replace(best, inlined=tuple(bool(inlined.get(n)) for n in nodes), streamed=tuple(n in inside for n in nodes))
