"""Schedules to force on tile.graphs in tests: merge whatever may be merged, and tiles and levels at random among the legal ones."""

from dataclasses import replace

import numpy as np
from native import Schedule, chosen

from mlc.dialects._ext import operations, to_attr
from mlc.ir.mlir import ir
from mlc.passes.pipeline import run_pipeline
from mlc.passes.registry import PassContext
from mlc.passes.tile.connect import _blocks, _Connector
from mlc.passes.tile.cost import Pricer, evaluate, inline_choices, sink_nodes
from mlc.passes.tile.model import Node, body_nodes
from mlc.passes.tile.rates import CpuRates, GpuRates, Rates
from mlc.target import Target


def tiled(*tile: int) -> Schedule:
    """The chosen schedule, with tiles of this size."""
    def schedule(module: ir.Module, ctx: PassContext) -> None:
        chosen(module, ctx)
        for op in operations(module.operation):
            if op.name == "tile.graph" and len(op.attributes["tile.sizes"]) == len(tile):
                op.attributes["tile.sizes"] = to_attr(list(tile))

    return schedule


def merged(module: ir.Module, ctx: PassContext) -> None:
    """Launches are so dear that every legal merge pays."""
    run_pipeline(module, "builtin.module(fold-views,mlc-dce)", ctx)
    merge_all(module, ctx)
    run_pipeline(module, "builtin.module(choose-tiles,pack-weights,choose-tiles,mlc-dce)", ctx)


def at_random(seed: int) -> Schedule:
    """Every legal merge, then legal tiles and levels at random."""
    def schedule(module: ir.Module, ctx: PassContext) -> None:
        rng = np.random.default_rng(seed)
        if rng.random() < 0.5:
            run_pipeline(module, "builtin.module(fold-views,mlc-dce)", ctx)
        merge_all(module, ctx)
        random_tiles(module, rng, ctx.need_target())
        run_pipeline(module, "builtin.module(pack-weights,choose-tiles,mlc-dce)", ctx)

    return schedule


def merge_all(module: ir.Module, ctx: PassContext) -> None:
    """Connect's merges, priced so that each legal one is taken."""
    pricer = Pricer(ctx.need_target())
    pricer.rates = replace(_roomy(ctx.need_target()), launch=1e12)
    for op in module.body.operations:
        for block in _blocks(op.operation):
            _Connector(block, pricer).run()


def _roomy(target: Target) -> CpuRates | GpuRates:
    """A CPU's scratch has no limit here; a GPU's is real."""
    return GpuRates.of(target) if target.warp else replace(CpuRates.of(target), scratch=1 << 28)


def random_tiles(module: ir.Module, rng: np.random.Generator, target: Target) -> int:
    """Gives every canonical tile.graph legal tile.sizes and tile.level at random; returns how many got some."""
    rates = _roomy(target)
    return sum(_force(op, rates, rng) for op in operations(module.operation) if op.name == "tile.graph")


def _force(graph: ir.Operation, rates: Rates, rng: np.random.Generator) -> bool:
    nodes = body_nodes(graph)
    block = graph.regions[0].blocks[0]
    outs = set(block.operations[len(block.operations) - 1].operation.operands)
    sinks = sink_nodes(nodes, outs) if nodes else []
    if not nodes or not sinks:
        return False
    for _ in range(6):
        tile = [int(rng.integers(1, max(n, 1) + 1)) if rng.random() < 0.8 else max(n, 1) for n in sinks[-1].shape]
        inlined = _inlined(nodes, outs, rng)
        if evaluate(nodes, sinks, outs, tile, inlined, rates) is not None:
            graph.attributes["tile.sizes"] = to_attr(tile)
            for node in nodes:
                level = "register" if inlined[node] else "global" if set(node.results) & outs else "shared"
                node.op.attributes["tile.level"] = to_attr(level)
            return True
    return False


def _inlined(nodes: list[Node], outs: set[ir.Value], rng: np.random.Generator) -> dict[Node, bool]:
    """The compiler's choice with some edges turned over where both ways are possible."""
    choice = inline_choices(nodes, outs)
    captured = {v for n in nodes for v in n.captures}
    read = {r.value for n in nodes for r in n.reads}
    for node in nodes:
        value = node.results[0]
        plain = not node.over and len(node.results) == 1 and value in read and value not in captured and value not in outs
        if plain and rng.random() < 0.4:
            choice[node] = not choice[node]
    return choice
