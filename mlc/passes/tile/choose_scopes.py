"""choose-scopes: a loop of small kernels becomes one kernel whose blocks meet at barriers, where barriers are cheaper than launches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from mlc.dialects._ext import operations, to_attr
from mlc.ir.mlir import ir
from mlc.passes.registry import Pass, PassContext
from mlc.passes.tile.choose_tiles import schedule, yielded
from mlc.passes.tile.cost import Pricer
from mlc.passes.tile.model import body_nodes
from mlc.passes.tile.rates import PhaseRates
from mlc.target import Target

# Nanoseconds of a barrier with the exchange of what was written before it, estimated from measured barriers: 0.05 to 0.1 us in a block,
# 0.5 us among 4 blocks of a cluster and 0.65 us among 8 of an H100.
BARRIER = {"block": 100.0, "cluster": 700.0}


@dataclass(frozen=True)
class ChooseScopes(Pass):
    """Writes tile.scope and tile.blocks on flow.loops that are one kernel, and the tiles of their graphs. GPU targets only."""

    name: ClassVar[str] = "choose-scopes"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        target = ctx.need_target()
        if not target.warp:
            return
        apart = Pricer(target)
        scopes = [(scope, blocks, Pricer(target, PhaseRates.within(target, blocks, BARRIER[scope]))) for scope, blocks in _scopes(target)]
        for op in operations(module.operation):
            if op.name != "flow.loop" or op.opview.py("trip") < 2:
                continue
            graphs = _phases(op)
            if not graphs:
                continue
            best, chosen = _price(graphs, apart), None
            for scope, blocks, pricer in scopes:
                price = _price(graphs, pricer)
                if price is not None and (best is None or price < best):
                    best, chosen = price, (scope, blocks, pricer)
            if chosen is not None:
                op.attributes["tile.scope"], op.attributes["tile.blocks"] = to_attr(chosen[0]), to_attr(chosen[1])
                for graph in graphs:
                    schedule(graph, chosen[2])


def _scopes(target: Target) -> Iterator[tuple[str, int]]:
    """Scopes of the target's barriers, with the numbers of blocks to try: the fewer, the cheaper."""
    yield "block", 1
    blocks = 2
    while blocks <= target.cluster:
        yield "cluster", blocks
        blocks *= 2


def _phases(loop: ir.Operation) -> list[ir.Operation]:
    """The graphs of a loop's body, if it is made of nothing that a kernel cannot hold, and makes all that it carries on."""
    ops = [v.operation for v in loop.regions[0].blocks[0].operations]
    *body, end = ops
    iteration = loop.regions[0].blocks[0].arguments[0]
    if any(op.name not in ("tile.graph", "tile.view") for op in body) or next(iter(iteration.uses), None) is not None:
        return []
    n, values = loop.opview.py("carried"), list(end.operands)
    made = all((maker := _maker(v)) is not None and maker in body for v in values)
    if not made or len(set(values[:n])) < n or len(set(values[n:])) < len(values) - n:
        return []
    graphs = [op for op in body if op.name == "tile.graph"]
    return graphs if all(body_nodes(g) is not None for g in graphs) else []


def _maker(value: ir.Value) -> ir.Operation | None:
    """The op other than a view that makes a value; None for a block's argument."""
    while not isinstance(value.owner, ir.Block) and value.owner.name == "tile.view":
        value = value.owner.operands[0]
    return None if isinstance(value.owner, ir.Block) else value.owner


def _price(graphs: Sequence[ir.Operation], pricer: Pricer) -> float | None:
    """Nanoseconds of one iteration; None if a graph has no plan."""
    total = 0.0
    for graph in graphs:
        nodes = body_nodes(graph)
        plan = None if nodes is None else pricer.price(nodes, yielded(graph))
        if plan is None:
            return None
        total += plan.price
    return total
