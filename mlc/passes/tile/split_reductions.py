"""split-reductions (split-K): a deep contraction of few results becomes several shallower ones and their sum, so that all SMs have work.

c[p] = sum_k a * b turns into d[s, p] = the sum over the s-th part of k, and c[p] = sum_s d[s, p]. The sum then joins what reads c.
"""

from dataclasses import dataclass
from typing import ClassVar

from mlc.dialects import tile
from mlc.dialects._ext import operations
from mlc.ir.affine import from_linear
from mlc.ir.mlir import ir
from mlc.layout.linear import Linear
from mlc.passes.registry import Pass, PassContext
from mlc.passes.tile.cost import Pricer
from mlc.passes.tile.model import Node, body_nodes, volume
from mlc.passes.tile.sums import summed
from mlc.target import Target

PARTS = (2, 4, 8, 16)
LEAST_DEPTH = 512  # reduction points below which nothing is gained
GRAIN = 64  # a part is a multiple of so many points: whole pipeline stages


@dataclass(frozen=True)
class SplitReductions(Pass):
    """Splits contractions where the price of the parts and their sum is lower. For targets with threads, which tile in one kernel."""

    name: ClassVar[str] = "split-reductions"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        target = ctx.need_target()
        if not target.warp:
            return
        pricer = Pricer(target)
        for op in [o for o in operations(module.operation) if o.name == "tile.graph"]:
            _visit(op, pricer, target)


def _visit(graph: ir.Operation, pricer: Pricer, target: Target) -> None:
    nodes = body_nodes(graph)
    if nodes is None or len(nodes) != 1 or not nodes[0].contraction or volume(nodes[0].over) < LEAST_DEPTH:
        return
    node = nodes[0]
    plan = pricer.price(nodes, set(node.results))
    if plan is None or volume([-(-n // t) for n, t in zip(node.shape, plan.tile)]) >= 4 * target.sms:
        return
    dim = max(range(len(node.over)), key=lambda d: node.over[d])
    best, price = None, plan.price
    for parts in PARTS:
        if node.over[dim] % (parts * GRAIN):
            continue
        made = _split(graph, node, dim, parts)
        prices = [_price(g, pricer) for g in made]
        total = sum(p for p in prices if p is not None)
        if all(p is not None for p in prices) and total < price:
            best, made, price = made, best, total
        for op in reversed(made or []):
            op.erase()
    if best is not None:
        graph.results[0].replace_all_uses_with(best[1].results[0])
        graph.erase()


def _price(graph: ir.Operation, pricer: Pricer) -> float | None:
    nodes = body_nodes(graph)
    assert nodes is not None
    plan = pricer.price(nodes, set(nodes[-1].results))
    return None if plan is None else plan.price


def _split(graph: ir.Operation, node: Node, dim: int, parts: int) -> list[ir.Operation]:
    """The graphs of the parts and of their sum, in front of the old one."""
    n, loops = len(node.shape), node.loops
    element = node.results[0].type.element_type
    with graph.location, ir.InsertionPoint(graph):
        partial = ir.RankedTensorType.get([parts, *node.shape], element)
        first = tile.GraphOp.build(list(graph.operands), [partial]).operation
        second = tile.GraphOp.build([first.results[0]], [node.results[0].type]).operation
    length = node.over[dim] // parts
    over = [length if d == dim else e for d, e in enumerate(node.over)]
    moved = [Linear.variable(i + 1, loops + 1) for i in range(loops)]
    moved[n + dim] = moved[n + dim] + Linear.variable(0, loops + 1) * length
    block = graph.regions[0].blocks[0]
    body = first.regions[0].blocks.append(*[a.type for a in block.arguments])
    env: dict[ir.Value, ir.Value] = dict(zip(block.arguments, body.arguments))
    with node.op.location, ir.InsertionPoint(body):
        ins = [env[r.value] for r in node.reads]
        maps = [from_linear([e.compose(moved, loops + 1) for e in r.indices], loops + 1) for r in node.reads]
        value = summed(node.op, ins, maps, [parts, *node.shape], over, element)
        tile.YieldOp.build([value], [])
    body = second.regions[0].blocks.append(partial)
    with node.op.location, ir.InsertionPoint(body):
        read = ir.AffineMap.get(n + 1, 0, [ir.AffineExpr.get_dim(d) for d in (n, *range(n))])
        value = summed(None, [body.arguments[0]], [read], node.shape, [parts], element)
        tile.YieldOp.build([value], [])
    return [first, second]
