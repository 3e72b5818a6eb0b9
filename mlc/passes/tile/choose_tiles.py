"""choose-tiles: the cheapest tile of each tile.graph, and where each result lives, written as `tile.sizes` and `tile.level`."""

from dataclasses import dataclass
from typing import ClassVar

from mlc.dialects._ext import operations, to_attr
from mlc.ir.mlir import ir
from mlc.passes.registry import Pass, PassContext
from mlc.passes.tile.cost import Pricer
from mlc.passes.tile.model import body_nodes
from mlc.passes.tile.stream import LEVEL as STREAMED


@dataclass(frozen=True)
class ChooseTiles(Pass):
    """Sets tile.sizes on tile.graphs and tile.level on their ops; graphs that have tile.sizes keep them."""

    name: ClassVar[str] = "choose-tiles"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        pricer = Pricer(ctx.need_target())
        for op in operations(module.operation):
            if op.name == "tile.graph" and "tile.sizes" not in op.attributes:
                schedule(op, pricer)


def schedule(graph: ir.Operation, pricer: Pricer) -> None:
    """Writes the cheapest legal plan, if there is one, into a tile.graph."""
    nodes, outs = body_nodes(graph), yielded(graph)
    plan = None if nodes is None else pricer.price(nodes, outs)
    if nodes is None or plan is None:
        return
    graph.attributes["tile.sizes"] = to_attr(list(plan.tile))
    for node, inlined, streamed in zip(nodes, plan.inlined, plan.streamed or (False,) * len(nodes)):
        level = STREAMED if streamed else "register" if inlined else "global" if set(node.results) & outs else "shared"
        node.op.attributes["tile.level"] = to_attr(level)


def yielded(graph: ir.Operation) -> set[ir.Value]:
    """The values that a tile.graph hands out."""
    block = graph.regions[0].blocks[0]
    return set(block.operations[len(block.operations) - 1].operation.operands)
