"""align-factors: a large product's factor whose rows are not whole 16 bytes is copied to rows that are, along the reduction.

So is one of whose type warpgroups take factors along the reduction only, and that lies across (`Rates.along`).

TMA and the asynchronous copies move 16 bytes at a time, from multiples of 16 bytes on, so a matrix of 2039 columns of f16 comes element
by element. In the copy a reduction's dimension is the last one: then tiles of rows and columns may begin anywhere. Its rows are longer than
the reduction, and what lies behind it is never read; long ones are whole cache lines, of which a stage's rows then touch fewer. A weight is
copied at compile time, any other factor by a kernel, which has to be cheaper than what the product gains. The pass follows connect: a
factor that is computed in the product's own kernel needs no copy.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

from mlc.dialects import tile
from mlc.dialects._build import Builder, Tensor
from mlc.dialects._ext import operations
from mlc.dtypes import BY_NAME
from mlc.ir.affine import from_linear
from mlc.ir.clone import clone
from mlc.ir.mlir import ir
from mlc.ir.scalar import Scalar
from mlc.layout.linear import Linear
from mlc.passes.registry import Pass, PassContext
from mlc.passes.tile.connect import Connect
from mlc.passes.tile.cost import Pricer
from mlc.passes.tile.model import PIECE, Node, Read, body_nodes
from mlc.passes.tile.pack_weights import is_weight
from mlc.passes.tile.sums import summed


@dataclass(frozen=True)
class AlignFactors(Pass):
    """Copies factors of contractions to aligned rows where the price of copies and product is lower. For targets with threads."""

    name: ClassVar[str] = "align-factors"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        target = ctx.need_target()
        if not target.warp:
            return
        pricer = Pricer(target)
        copies: _Copies = {}
        for op in [o for o in operations(module.operation) if o.name == "tile.graph"]:
            products = [n for n in body_nodes(op) or () if n.contraction]
            if len(products) == 1:
                _visit(op, products[0], pricer, copies)
        if copies:
            Connect().run(module, ctx)  # what is worth joining may be another now


@dataclass(frozen=True)
class _Layout:
    """How a factor is stored anew. order: its dimensions, the last one a reduction's; row: elements from one row to the next."""

    order: tuple[int, ...]
    row: int

    def shape(self, old: Sequence[int]) -> tuple[int, ...]:
        return (*(old[d] for d in self.order[:-1]), self.row)


LINE = 128  # bytes of a cache line
LONG = 4 * LINE  # rows that may be filled up to whole lines: they grow by a quarter at most

_Copies = dict[tuple[ir.Value, _Layout], ir.Operation]  # what has been copied already


def _visit(graph: ir.Operation, node: Node, pricer: Pricer, copies: _Copies) -> None:
    best, price = None, _price(graph, pricer)
    for layouts in product(*(dict.fromkeys((_layout(r, node, pricer.rates.along), None)) for r in node.reads)):
        if price is None or not any(layouts):
            continue
        new, made = found = _variant(graph, node, layouts, copies)
        prices = [_price(op, pricer) for op in (new, *made.values()) if op == new or not is_weight(op.results[0])]
        total = sum(p for p in prices if p is not None)
        if all(p is not None for p in prices) and total < price:
            best, found, price = found, best, total
        if found is not None:
            for op in (found[0], *reversed(found[1].values())):
                op.erase()
    if best is not None:
        copies |= best[1]
        for old, result in zip(graph.results, best[0].results):
            old.replace_all_uses_with(result)
        graph.erase()


def _variant(graph: ir.Operation, node: Node, layouts: Sequence[_Layout | None], copies: _Copies) -> tuple[ir.Operation, _Copies]:
    """The graph with factors in these layouts, in front of the old one, and the copies that are new."""
    made: _Copies = {}
    factors: list[ir.Value | None] = []
    with graph.location, ir.InsertionPoint(graph):
        for read, layout in zip(node.reads, layouts):
            known = None
            if layout is not None:
                source = graph.operands[read.value.arg_number]
                known = made.get((source, layout)) or copies.get((source, layout))
                if known is None or known.block != graph.block:
                    known = made[source, layout] = _copy(source, layout)
            factors.append(None if known is None else known.results[0])
        return _rewritten(graph, node, factors, layouts), made


def _layout(read: Read, node: Node, along: Collection[str]) -> _Layout | None:
    """The layout of a factor's copy; None where it is made in the kernel, no dimension is a reduction's, or its rows are whole pieces.

    along: element types whose rows must be along a reduction, too.
    """
    depth = [d for d, terms in enumerate(read.terms) if any(i >= len(node.shape) and c == 1 for i, c in terms)]
    if not isinstance(read.value.owner, ir.Block) or not depth:
        return None
    if read.piece == PIECE and (read.element_type not in along or depth[-1] == len(read.shape) - 1):
        return None
    last = depth[-1] if depth[-1] == len(read.shape) - 1 else max(depth, key=lambda d: read.shape[d])
    grain = (PIECE if read.shape[last] * read.element_bytes < LONG else LINE) // read.element_bytes
    return _Layout((*(d for d in range(len(read.shape)) if d != last), last), -(-read.shape[last] // grain) * grain)


def _price(graph: ir.Operation, pricer: Pricer) -> float | None:
    nodes, block = body_nodes(graph), graph.regions[0].blocks[0]
    outs = set(block.operations[len(block.operations) - 1].operation.operands)
    plan = None if nodes is None else pricer.price(nodes, outs)
    return None if plan is None else plan.price


def _copy(source: ir.Value, layout: _Layout) -> ir.Operation:
    """A tile.graph that stores `source` in that layout; behind its rows stand copies of their last elements."""
    dtype, old = BY_NAME[str(source.type.element_type)], list(source.type.shape)
    b, table, shape = Builder(), Tensor(source, dtype), layout.shape(old)
    place = {d: i for i, d in enumerate(layout.order)}
    length = old[layout.order[-1]]

    def element() -> Scalar:
        at = [b.index(place[d]) for d in range(len(old))]
        at[layout.order[-1]] = at[layout.order[-1]].min(length - 1)
        return b.load(table, at)

    if layout.row == length:
        made = b.compute(shape, dtype, [(table, lambda *i: [i[place[d]] for d in range(len(old))])], lambda x: x)
    else:
        made = b.gather_compute(shape, dtype, [], [table], element)
    return made.value.owner.operation


def _rewritten(graph: ir.Operation, node: Node, factors: Sequence[ir.Value | None], layouts: Sequence[_Layout | None]) -> ir.Operation:
    """The graph with these factors of its product, where there are new ones, in front of the old one."""
    block = graph.regions[0].blocks[0]
    stays = {r.value for r, f in zip(node.reads, factors) if f is None}
    kept = [a for a in block.arguments if a in stays or any(u.owner.operation != node.op for u in a.uses)]
    operands = [*[graph.operands[a.arg_number] for a in kept], *(f for f in factors if f is not None)]
    new = tile.GraphOp.build(operands, [r.type for r in graph.results]).operation
    body = new.regions[0].blocks.append(*[v.type for v in operands])
    env: dict[ir.Value, ir.Value] = dict(zip(kept, body.arguments))
    with ir.InsertionPoint(body):
        for view in block.operations:
            if view.operation == node.op:
                added = iter(list(body.arguments)[len(kept):])
                values = [env[r.value] if f is None else next(added) for r, f in zip(node.reads, factors)]
                with node.op.location:
                    env[node.results[0]] = _product(node, values, layouts)
            else:
                clone(view.operation, env)
    return new


def _product(node: Node, factors: Sequence[ir.Value], layouts: Sequence[_Layout | None]) -> ir.Value:
    """The product of these factors, at the insertion point."""
    # linalg takes a loop that alone indexes a dimension to span it. A loop of one iteration added to it lifts that rule.
    longer = [layout is not None and layout.row != read.shape[layout.order[-1]] for read, layout in zip(node.reads, layouts)]
    loops = node.loops + any(longer)
    moved = [Linear.variable(i, loops) for i in range(node.loops)]
    maps = []
    for read, layout, long in zip(node.reads, layouts, longer):
        places = [e.compose(moved, loops) for e in read.indices]
        if layout is not None:
            places = [places[d] for d in layout.order]
            if long:
                places[-1] = places[-1] + Linear.variable(node.loops, loops)
        maps.append(from_linear(places, loops))
    return summed(node.op, list(factors), maps, node.shape, [*node.over, *[1] * any(longer)], node.results[0].type.element_type)


__all__ = ["AlignFactors"]
