"""choose-tiles: the cheapest tile of each tile.graph, and where each result lives, written as `tile.sizes` and `tile.level`."""

from dataclasses import dataclass
from typing import ClassVar

from mlc.dialects._ext import operations, to_attr
from mlc.ir.mlir import ir
from mlc.passes.registry import Pass, PassContext
from mlc.passes.tile.cost import Pricer
from mlc.passes.tile.model import body_nodes


@dataclass(frozen=True)
class ChooseTiles(Pass):
    """Sets tile.sizes on tile.graphs and tile.level on their ops; graphs that have tile.sizes keep them."""

    name: ClassVar[str] = "choose-tiles"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        pricer = Pricer(ctx.need_target())
        for op in operations(module.operation):
            if op.name == "tile.graph" and "tile.sizes" not in op.attributes:
                _choose(op, pricer)


def _choose(graph: ir.Operation, pricer: Pricer) -> None:
    nodes = body_nodes(graph)
    if nodes is None:
        return
    block = graph.regions[0].blocks[0]
    outs = set(block.operations[len(block.operations) - 1].operation.operands)
    plan = pricer.price(nodes, outs)
    if plan is None:
        return
    graph.attributes["tile.sizes"] = to_attr(list(plan.tile))
    for node, inlined in zip(nodes, plan.inlined):
        level = "register" if inlined else "global" if set(node.results) & outs else "shared"
        node.op.attributes["tile.level"] = to_attr(level)
