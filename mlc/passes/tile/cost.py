"""Price of a group for a tile: traffic, arithmetic, waves and scratch, from Target facts (Welder's traffic x waves, plus compute)."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from mlc.ir.mlir import ir
from mlc.passes.tile.model import Node, element_bytes, volume
from mlc.passes.tile.region import Region, expanded_captures, expanded_reads, propagate, read_region
from mlc.target import Target


@dataclass(frozen=True)
class Rates:
    """What is known of a machine: per-worker bytes/ns, simple ops/ns, multiply-adds/ns; scratch bytes; ns per block and launch."""

    workers: int
    traffic: float
    ops: float
    macs: float
    scratch: int
    block: float
    launch: float

    @staticmethod
    def of(target: Target) -> "Rates":
        lanes = target.vector_bits / 32
        return Rates(workers=max(2, min(target.cores, 64)), traffic=12.0, ops=lanes * 0.8, macs=lanes * 3.0,
                     scratch=max(target.l2 // 2, 1 << 17), block=150.0, launch=800.0)


@dataclass(frozen=True)
class Plan:
    """A choice for one group: tile of the sinks, which nodes (in order) are inlined, bytes of block memory, price in ns."""

    tile: tuple[int, ...]
    inlined: tuple[bool, ...]
    scratch: int
    price: float


class Pricer:
    """Prices groups for one target; equal groups (repeated layers) are priced once."""

    def __init__(self, target: Target) -> None:
        self.rates = Rates.of(target)
        self.known: dict[object, Plan | None] = {}

    def price(self, nodes: Sequence[Node], external: set[ir.Value]) -> Plan | None:
        """The cheapest legal plan of a group in topological order, or None. external: results that leave the group."""
        key = _key(nodes, external)
        if key not in self.known:
            self.known[key] = best_plan(nodes, sink_nodes(nodes, external), external, self.rates)
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

    return tuple((n.shape, n.over, n.cost, n.contraction, tuple((number(r.value), r.indices) for r in n.reads),
                  tuple(number(v) for v in n.captures), tuple((number(v), v in external) for v in n.results)) for n in nodes)


def inline_choices(nodes: Sequence[Node], external: set[ir.Value]) -> dict[Node, bool]:
    """Register-level edges: which producers are computed inside their readers instead of into a block buffer.

    A parallel producer is inlined when each of its elements is read once, or when it is cheap to compute again; matrix operands are read
    many times and stay buffers unless they are plain widenings.
    """
    producer = {v: n for n in nodes for v in n.results}
    uses: dict[Node, list[tuple[Node, int]]] = {n: [] for n in nodes}
    for node in nodes:
        for read in node.reads:
            if read.value in producer:
                distinct = {i for e in read.indices for i, c in enumerate(e.coefficients) if c}
                repeats = volume([s for i, s in enumerate((*node.shape, *node.over)) if i not in distinct])
                uses[producer[read.value]].append((node, repeats))
    captured = {v for n in nodes for v in n.captures}
    choice: dict[Node, bool] = {}
    for node in nodes:
        plain = not node.over and len(node.results) == 1 and not (set(node.results) & external) and not (set(node.results) & captured)
        total = sum(r for _, r in uses[node])
        into_contraction = any(n.contraction for n, _ in uses[node])
        choice[node] = plain and bool(uses[node]) and not into_contraction and (total <= 1 or node.cost * (total - 1) <= 4)
    return choice


def evaluate(nodes: Sequence[Node], sinks: Sequence[Node], external: set[ir.Value], tile: Sequence[int], inlined: Mapping[Node, bool],
             rates: Rates) -> Plan | None:
    """The plan for one tile, or None when it is illegal (regions conflict, an output is not covered, a whole tensor is made inside)."""
    regions = propagate(nodes, sinks, tile, inlined)
    if regions is None:
        return None
    root = sinks[-1]
    blocks = volume([-(-n // t) for n, t in zip(root.shape, tile, strict=True)])
    producer = {v: n for n in nodes for v in n.results}
    traffic, work, scratch = 0.0, 0.0, 0
    loaded: dict[ir.Value, float] = {}
    for node in nodes:
        if inlined.get(node):
            continue
        at = regions[node]
        points = volume(at.extents) * volume(node.over)
        total_cost = node.cost + _inlined_cost(node, producer, inlined)
        work += points / rates.macs if node.contraction else points * total_cost / rates.ops
        for read in expanded_reads(node, producer, inlined):
            if read.value not in producer:
                box = read_region(read, node, at, tuple(read.value.type.shape), len(tile))
                loaded[read.value] = max(loaded.get(read.value, 0.0), float(volume(box.extents) * element_bytes(read.value)))
        for capture in expanded_captures(node, producer, inlined):
            if capture in producer:
                return None
            loaded[capture] = max(loaded.get(capture, 0.0), float(min(points, volume(capture.type.shape)) * element_bytes(capture)))
        out = sum(volume(at.extents) * element_bytes(v) for v in node.results)
        if set(node.results) & external:
            if not _covers(at, node.shape, tile, root.shape):
                return None
            traffic += out
        else:
            scratch += out
    traffic += sum(loaded.values())
    if scratch > rates.scratch:
        if scratch > 4 * rates.scratch:
            return None
        traffic += 4 * scratch
    # Blocks beyond one per worker let threads balance the load among themselves.
    waves = -(-blocks // rates.workers) * (1 + 0.15 * rates.workers / max(blocks, 1))
    price = rates.launch + waves * (rates.block + traffic / rates.traffic + work + scratch / 64)
    return Plan(tuple(tile), tuple(bool(inlined.get(n)) for n in nodes), scratch, price)


def _inlined_cost(node: Node, producer: Mapping[ir.Value, Node], inlined: Mapping[Node, bool]) -> int:
    total = 0
    for read in node.reads:
        source = producer.get(read.value)
        if source is not None and inlined.get(source):
            total += source.cost + _inlined_cost(source, producer, inlined)
    return total


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


def candidates(node: Node, contraction: Node | None) -> Iterator[tuple[int, ...]]:
    """Tiles of a sink to try: whole trailing dimensions, part of one, one index of the leading ones; matrices also split the last one."""
    shape = node.shape
    rank = len(shape)
    if not rank or not volume(shape):
        yield tuple(max(d, 1) for d in shape)
        return
    last = [shape[-1]]
    if contraction is not None and rank > 1:
        last += [s for s in (512, 256, 128, 64, 32) if s < shape[-1]]
    seen = set()
    for split, n in product(range(rank), last):
        for size in _sizes(shape[split]):
            tile = [1] * split + [size] + list(shape[split + 1:])
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
    inlined = inline_choices(nodes, external)
    contraction = next((n for n in nodes if n.contraction), None)
    best: Plan | None = None
    for tile in candidates(sinks[-1], contraction):
        plan = evaluate(nodes, sinks, external, tile, inlined, rates)
        if plan is not None and (best is None or plan.price < best.price):
            best = plan
    return best
