"""What a kernel reads along another dimension than it writes, as the price sees it: through the block's memory (`mapping.turned`)."""

from collections.abc import Mapping, Sequence

from mlc.ir.mlir import ir
from mlc.passes.tile.model import PIECE, Node, Read, element_bytes, volume
from mlc.passes.tile.region import Region, expanded_follows, expanded_reads


def along(read: Read, node: Node) -> int | None:
    """The loop along which a read is contiguous, where the results are so along another that moves it, too: it is turned then."""
    last = node.last
    if node.over or last is None or last not in read.walked or any(i == last for i, _ in read.terms[-1]):
        return None
    return next((i for i, c in reversed(read.terms[-1]) if c == 1 and node.shape[i] > 1), None)


def turned_bytes(nodes: Sequence[Node], regions: Mapping[Node, Region], producer: Mapping[ir.Value, Node],
                 inlined: Mapping[Node, bool]) -> int:
    """Bytes that a block reads turned from outside. Kernels with reductions go without: what they walk lies in registers, or in stages."""
    if not any(n.turns for n in nodes) or any(n.over for n in nodes):
        return 0
    total = 0
    for node in (n for n in nodes if not inlined.get(n)):
        extents = regions[node].extents
        for read in expanded_reads(node, producer, inlined):
            loop = along(read, node)
            if loop is not None and _apart(extents, loop, read.element_bytes) and read.value not in producer:
                total += volume([extents[i] for i in read.walked]) * read.element_bytes
        for capture, loop in expanded_follows(node, producer, inlined).items():
            if loop is not None and _apart(extents, loop, element_bytes(capture)) and capture not in producer:
                total += volume(extents) * element_bytes(capture)
    return total


def is_vector(extents: Sequence[int], size: int) -> bool:
    """Whether a box of elements of `size` bytes, if it lies side by side, is one store of a thread."""
    return PIECE % (volume(extents) * size) == 0


def _apart(extents: Sequence[int], loop: int, size: int) -> bool:
    """Whether steps of a loop lie further apart in the result than a thread's vector is long."""
    return extents[loop] > 1 and not is_vector(extents[loop + 1:], size)


def least_runs(nodes: Sequence[Node], root: Node, inlined: Mapping[Node, bool], sector: int) -> dict[int, int]:
    """Per loop of the root along which a tile's elements lie side by side in memory, turned or not: how many of them are a sector."""
    producer = {v: n for n in nodes for v in n.results}
    found: dict[int, int] = {}
    for node in (n for n in nodes if n.shape and n.shape == root.shape and not inlined.get(n)):
        reads = [(along(r, node), r.element_bytes) for r in expanded_reads(node, producer, inlined)]
        places = [(loop, element_bytes(v)) for v, loop in expanded_follows(node, producer, inlined).items()]
        for loop, size in (*reads, *places, (len(root.shape) - 1, element_bytes(node.results[0]))):
            if loop is not None:
                found[loop] = max(found.get(loop, 0), min(-(-sector // size), root.shape[loop]))
    return found
