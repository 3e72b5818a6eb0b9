"""window-rows: a convolution over few channels reads its windows as rows of a copy, in which taps and channels lie side by side.

The first convolution of an image network has 3 channels: 6 bytes lie together in memory, and a matrix unit's factor would be gathered
element by element. In the copy [.., h, w * cell] each place has a cell of channels, padded so that windows begin at multiples of 16 bytes.
A row of a window is then `taps * cell` neighbouring elements, which one loop of the reduction walks; where windows overlap, so do their
rows in memory. Channels of padding are zeros that meet zeros among the weights; no element beside a window is ever multiplied. The copy
does what made the old factor, padding and transposes, as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, inf
from typing import ClassVar

from mlc.dialects import tile
from mlc.dialects._build import Builder, Tensor
from mlc.dialects._ext import operations
from mlc.dtypes import BY_NAME
from mlc.ir.affine import from_linear
from mlc.ir.mlir import ir
from mlc.ir.scalar import Scalar, compute_dtype, select
from mlc.layout.fragments import ATOMS
from mlc.layout.linear import Linear
from mlc.passes.gpu.plan import up
from mlc.passes.registry import Pass, PassContext
from mlc.passes.tile.cost import Pricer
from mlc.passes.tile.model import PIECE, Node, Read, body_nodes, element_bytes
from mlc.passes.tile.origin import Origin, origin_of
from mlc.passes.tile.pack_weights import is_weight
from mlc.passes.tile.sums import summed
from mlc.target import Target


@dataclass(frozen=True)
class WindowRows(Pass):
    """Stores what is read in windows of few channels as rows, where the price is lower. For targets with matrix units."""

    name: ClassVar[str] = "window-rows"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        target = ctx.need_target()
        if not target.warp:
            return
        pricer = Pricer(target)
        for op in [o for o in operations(module.operation) if o.name == "tile.graph"]:
            nodes = body_nodes(op)
            if nodes is not None and len(nodes) == 1 and (rows := _rows_of(nodes[0], target)) is not None:
                _visit(op, nodes[0], rows, pricer)


@dataclass(frozen=True)
class _Rows:
    """How the factor number `which` is stored, which is read at mover * stride + tap along its dimension `across`.

    channel: the loop over its last dimension, if that is channels. cell: elements of one place along `across`; length: of a window's row.
    """

    which: int
    across: int
    mover: int
    tap: int
    stride: int
    channel: int | None
    channels: int
    cell: int
    length: int


def _rows_of(node: Node, target: Target) -> _Rows | None:
    """How a product's windows become rows, if it is one for matrix units and they do not begin at whole pieces of memory as it is."""
    kinds = {r.element_type for r in node.reads}
    suits = any(kinds == {a.element} and a.input == a.element for a in map(ATOMS.__getitem__, target.atoms))
    if not node.contraction or len(node.reads) != 2 or not suits:
        return None
    for which, read in enumerate(node.reads):
        if (rows := _windows(node, which, read)) is not None:
            loops = _loops(node.reads[1 - which])
            walked = {rows.tap, *([] if rows.channel is None else [rows.channel])}
            own = None not in loops.values() and len(set(loops.values())) == len(loops)
            return rows if own and walked <= set(loops.values()) else None
    return None


def _windows(node: Node, which: int, read: Read) -> _Rows | None:
    n, last, piece = len(node.shape), len(read.shape) - 1, PIECE // read.element_bytes
    for across in (last, last - 1):  # without a dimension of channels, or with one
        terms = sorted(read.terms[across]) if across >= 0 and not read.indices[across].const else []
        if len(terms) != 2 or terms[0][0] >= n or terms[1][0] < n or terms[1][1] != 1:
            continue
        (mover, stride), (tap, _) = terms
        channel = None if across == last else read.indices[last].only()
        channels = 1 if across == last else read.shape[last]
        if stride < 1 or channels >= piece or channels * stride % piece == 0 or (across != last and (channel is None or channel < n)):
            return None
        cell = next(c for c in range(channels, piece + 1) if c * stride % piece == 0)
        return _Rows(which, across, mover, tap, stride, channel, channels, cell, node.over[tap - n] * cell)
    return None


def _loops(read: Read) -> dict[int, int | None]:
    """Which loop walks each dimension of a factor that has several elements along it; None for no single one."""
    return {d: e.only() for d, e in enumerate(read.indices) if read.shape[d] > 1 or not e.is_constant}


def _visit(graph: ir.Operation, node: Node, rows: _Rows, pricer: Pricer) -> None:
    source, other = (graph.operands[node.reads[i].value.arg_number] for i in (rows.which, 1 - rows.which))
    origin = origin_of(source, range(rows.across, len(source.type.shape)))
    with graph.location, ir.InsertionPoint(graph):
        copy, weights = _copy(origin, node, rows), _weights(other, node, rows)
        new = [_product(graph, node, rows, copy, weights), weights.owner, copy.owner, copy.owner.operands[0].owner]
    old = _dying(graph, origin.graphs)
    better = _price(new, pricer) < _price(old, pricer)
    if better:
        graph.results[0].replace_all_uses_with(new[0].results[0])
    for op in old if better else new:
        op.erase()


def _dying(graph: ir.Operation, makers: Sequence[ir.Operation]) -> list[ir.Operation]:
    """The product's graph, and those of `makers` whose results nothing else needs."""
    found = [graph]
    for maker in makers:
        if any(use.owner.operation not in found for use in maker.results[0].uses):
            break
        found.append(maker)
    return found


def _price(graphs: Sequence[ir.Operation], pricer: Pricer) -> float:
    """Of graphs of one node each that do not depend on weights alone; infinite if one of them fits no block."""
    total = 0.0
    for graph in graphs:
        if graph.name == "tile.graph" and not is_weight(graph.results[0]):
            nodes = body_nodes(graph)
            assert nodes is not None
            plan = pricer.price(nodes, set(nodes[-1].results))
            total += inf if plan is None else plan.price
    return total


def _copy(origin: Origin, node: Node, rows: _Rows) -> ir.Value:
    """The factor in which windows are rows."""
    shape, dtype, b = node.reads[rows.which].shape, BY_NAME[str(origin.source.type.element_type)], Builder()
    piece = PIECE // element_bytes(origin.source)
    places = up(shape[rows.across], piece // gcd(piece, rows.cell))  # lines are whole pieces, too

    def element() -> Scalar:
        channel = b.index(rows.across + 1)
        at = [*(b.index(d) for d in range(rows.across + 1)), *([] if rows.channel is None else [channel])]
        found = origin.element(b, at)
        if rows.channel is not None or rows.cell == 1:  # the origin knows where its channels end
            return found
        return select(channel.eq(0), found, b.constant(0, compute_dtype(dtype)))

    cells = b.gather_compute((*shape[:rows.across], places, rows.cell), dtype, [], [Tensor(origin.source, dtype)], element)
    return b.view(cells, (*shape[:rows.across], places * rows.cell)).value


def _weights(factor: ir.Value, node: Node, rows: _Rows) -> ir.Value:
    """The other factor as [its parallel loops, its other reduction loops, a window's row]: zeros for channels of padding."""
    read, dtype, b = node.reads[1 - rows.which], BY_NAME[str(factor.type.element_type)], Builder()
    loops, kept = _loops(read), _kept(node, rows)
    sizes = {v: read.shape[d] for d, v in loops.items()}

    def element() -> Scalar:
        place = b.index(len(kept))
        tap, channel = _divided(place, rows.cell)
        at = {v: b.index(i) for i, v in enumerate(kept)}
        at |= {rows.tap: tap.min(sizes[rows.tap] - 1), rows.channel: channel.min(rows.channels - 1)}
        value = b.load(Tensor(factor, dtype), [at[loops[d]] if d in loops else 0 for d in range(len(read.shape))])
        return select((channel < rows.channels) & (place < rows.length), value, b.constant(0, compute_dtype(dtype)))

    row = up(rows.length, PIECE // element_bytes(factor))
    return b.gather_compute([*(sizes[v] for v in kept), row], dtype, [], [Tensor(factor, dtype)], element).value


def _kept(node: Node, rows: _Rows) -> list[int]:
    """The loops of the other factor that stay, in order."""
    gone = {rows.tap, rows.channel}
    return sorted(v for v in _loops(node.reads[1 - rows.which]).values() if v is not None and v not in gone)


def _divided(index: Scalar, size: int) -> tuple[Scalar, Scalar]:
    """Quotient and remainder of an index by a size."""
    if size & (size - 1) == 0:
        return index.shr(size.bit_length() - 1), index & (size - 1)
    quotient = index / size
    return quotient, index - quotient * size


def _product(graph: ir.Operation, node: Node, rows: _Rows, copy: ir.Value, weights: ir.Value) -> ir.Operation:
    """The graph of the product of rows and weights, in front of the old one: one loop in the place of those over taps and channels."""
    n = len(node.shape)
    left = [i for i in range(n, node.loops) if i not in (rows.channel, rows.tap)]
    # linalg takes a loop that alone indexes a dimension to span it. A loop of one iteration added to it lifts that rule.
    over = [*(node.over[i - n] for i in left), rows.length, 1]
    loops = n + len(over)
    at = {v: Linear.variable(i, loops) for i, v in enumerate([*range(n), *left])}
    row, once = Linear.variable(loops - 2, loops), Linear.variable(loops - 1, loops)
    moved = [at.get(i, Linear.constant(0, loops)) for i in range(node.loops)]
    places = [e.compose(moved, loops) for e in node.reads[rows.which].indices[:rows.across]]
    places.append(at[rows.mover] * (rows.stride * rows.cell) + row)
    factors = [(copy, places), (weights, [*(at[v] for v in _kept(node, rows)), row + once])]
    if rows.which == 1:
        factors.reverse()
    new = tile.GraphOp.build([f for f, _ in factors], [graph.results[0].type]).operation
    body = new.regions[0].blocks.append(*[f.type for f, _ in factors])
    with ir.InsertionPoint(body), node.op.location:
        maps = [from_linear(indices, loops) for _, indices in factors]
        value = summed(node.op, list(body.arguments), maps, node.shape, over, node.results[0].type.element_type)
        tile.YieldOp.build([value], [])
    return new


__all__ = ["WindowRows"]
