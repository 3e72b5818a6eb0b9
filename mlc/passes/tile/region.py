"""Propagate: from a tile of the root's result to the region every other op of the group must compute (Welder's Propagate).

A region is, per result dimension, an offset (linear in the root's block offsets) and a static extent. Integer interval analysis over the
read maps gives the producer's region from its consumers'; reductions are read in full.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlc.ir.mlir import ir
from mlc.layout.linear import Linear
from mlc.passes.tile.model import Node, Read


@dataclass(frozen=True)
class Region:
    """Offsets (over the root's parallel dimensions) and extents of a box."""

    offsets: tuple[Linear, ...]
    extents: tuple[int, ...]


def read_extents(read: Read, loops: Sequence[int]) -> list[int]:
    """Extents of the box of the read tensor for a box of the reader's loops; a box wider than the tensor is the whole tensor."""
    sizes = []
    for terms, full in zip(read.terms, read.shape, strict=True):
        size = 1
        for loop, c in terms:
            size += abs(c) * (loops[loop] - 1)
        sizes.append(min(max(size, 0), full))
    return sizes


def read_region(read: Read, node: Node, at: Region, roots: int) -> Region:
    """The box of the read tensor that `node` needs for its own region `at`: `read_extents` of it, and where it starts."""
    loops = (*at.extents, *node.over)
    sizes = read_extents(read, loops)
    offsets = [_start(e, terms, loops, at.offsets, roots) if size < full else Linear.constant(0, roots)
               for e, terms, size, full in zip(read.indices, read.terms, sizes, read.shape, strict=True)]
    return Region(tuple(offsets), tuple(sizes))


def _start(place: Linear, terms: Sequence[tuple[int, int]], loops: Sequence[int], offsets: Sequence[Linear], roots: int) -> Linear:
    """The least value of `place` while its loops run, the parallel ones from `offsets` on; `terms` are its loops and coefficients."""
    if len(terms) == 1 and place.const == 0 and terms[0][1] == 1 and terms[0][0] < len(offsets):
        return offsets[terms[0][0]]  # nearly all are
    coefficients, const = [0] * roots, place.const
    for loop, c in terms:
        const += min(c, 0) * (loops[loop] - 1)
        if loop < len(offsets):
            const += c * offsets[loop].const
            for i, inner in enumerate(offsets[loop].coefficients):
                coefficients[i] += c * inner
    return Linear(tuple(coefficients), const)


def union(a: Region, b: Region, shape: Sequence[int]) -> Region | None:
    """The smallest box that holds both, or None when their offsets move differently with the block."""
    if a == b:
        return a
    offsets, extents = [], []
    for oa, ea, ob, eb, full in zip(a.offsets, a.extents, b.offsets, b.extents, shape, strict=True):
        if ea == full or eb == full:
            offsets.append(Linear((0,) * len(oa.coefficients), 0))
            extents.append(full)
        elif oa.coefficients != ob.coefficients:
            return None
        else:
            low = min(oa.const, ob.const)
            offsets.append(Linear(oa.coefficients, low))
            extents.append(max(oa.const + ea, ob.const + eb) - low)
    return Region(tuple(offsets), tuple(extents))


def propagate(nodes: Sequence[Node], sinks: Sequence[Node], tile: Sequence[int], inlined: Mapping[Node, bool]) -> dict[Node, Region] | None:
    """Regions of all nodes (in topological order) for a tile of the sinks, which must have one shape; None if they conflict.

    An inlined node has no region: its readers' reads pass through it to its own reads.
    """
    roots = len(tile)
    if any(s.shape != sinks[-1].shape for s in sinks):
        return None
    producer: dict[ir.Value, Node] = {v: n for n in nodes for v in n.results}
    extents = tuple(min(t, n) for t, n in zip(tile, sinks[-1].shape, strict=True))
    own = Region(tuple(Linear.variable(i, roots) for i in range(roots)), extents)
    regions: dict[Node, Region] = {s: own for s in sinks}
    for node in reversed(nodes):
        at = regions.get(node)
        if inlined.get(node):
            continue
        if at is None:
            return None
        for read in expanded_reads(node, producer, inlined):
            source = producer.get(read.value)
            if source is None:
                continue
            need = read_region(read, node, at, roots)
            have = regions.get(source)
            joined = need if have is None else union(have, need, source.shape)
            if joined is None:
                return None
            regions[source] = joined
    return regions


def expanded_reads(node: Node, producer: Mapping[ir.Value, Node], inlined: Mapping[Node, bool]) -> list[Read]:
    """The reads of a node with inlined producers replaced by what those read; through padding, places may lie outside of the tensor."""
    found = []
    for read in node.reads:
        source = producer.get(read.value)
        if source is not None and inlined.get(source) and source.around is not None:
            found.append(read.past_padding(source))
        elif source is not None and inlined.get(source):
            found += [inner.through(read, node.loops) for inner in expanded_reads(source, producer, inlined)]
        else:
            found.append(read)
    return found


def expanded_follows(node: Node, producer: Mapping[ir.Value, Node], inlined: Mapping[Node, bool]) -> dict[ir.Value, int | None]:
    """Per tensor that the node, with its inlined producers, reads at data-dependent places: as `Node.follows`, in the node's own loops."""
    found = dict(node.follows)
    for read in node.reads:
        source = producer.get(read.value)
        if source is not None and inlined.get(source) and source.around is None:
            for value, loop in expanded_follows(source, producer, inlined).items():
                found.setdefault(value, None if loop is None else read.indices[loop].only())
    return found


def expanded_captures(node: Node, producer: Mapping[ir.Value, Node], inlined: Mapping[Node, bool]) -> list[ir.Value]:
    """Tensors that the node, with its inlined producers, reads at data-dependent places."""
    found = list(node.captures)
    for read in node.reads:
        source = producer.get(read.value)
        if source is not None and inlined.get(source) and source.around is None:
            found.extend(expanded_captures(source, producer, inlined))
    return found
