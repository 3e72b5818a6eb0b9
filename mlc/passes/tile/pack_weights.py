"""pack-weights: matrix operands that are weights, or much used, are stored in panels that a register tile reads as one stream.

This is Ladder's map. `tile.map` outside the kernel permutes the storage of W[k..., n] to [n / width][k...][n % width]; being a function of
weights alone it is evaluated at compile time. `tile.map` with `inverse` inside the kernel names the logical tensor again and says how it is
addressed.
"""

from dataclasses import dataclass
from math import gcd
from typing import ClassVar

from mlc.dialects import tile
from mlc.dialects._build import Builder, Tensor
from mlc.dialects._ext import operations
from mlc.dtypes import BY_NAME
from mlc.ir.mlir import ir
from mlc.passes.registry import Pass, PassContext
from mlc.passes.tile.cost import sink_nodes
from mlc.passes.tile.model import Node, Read, body_nodes, volume
from mlc.passes.tile.region import Region, propagate

WIDTHS = (64, 32, 16)
PACKED_ROWS, PACKED_SIZE = 48, 1 << 16  # of a product whose factor is no weight: from here on packing took less than it saved (measured)


@dataclass(frozen=True)
class PackWeights(Pass):
    """Stores weights that are column operands of matrix products in panels of `tile.map` width. On CPUs only: GPUs load tiles by rows."""

    name: ClassVar[str] = "pack-weights"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        if ctx.need_target().warp:
            return
        for op in operations(module.operation):
            if op.name == "tile.graph" and "tile.sizes" in op.attributes:
                _pack_graph(op)


def _pack_graph(graph: ir.Operation) -> None:
    nodes = body_nodes(graph)
    if nodes is None or not any(n.contraction for n in nodes):
        return
    block = graph.regions[0].blocks[0]
    outs = list(block.operations[len(block.operations) - 1].operation.operands)
    sinks = sink_nodes(nodes, outs)
    sizes = [a.value for a in graph.attributes["tile.sizes"]]
    regions = propagate(nodes, sinks, sizes, {n: n.level == "register" for n in nodes})
    if regions is None:
        return
    root = sinks[-1].shape
    inlined = {v for n in nodes if n.level == "register" for v in n.results}  # a product that computes a factor is no task.mma
    for node in nodes:
        if node.contraction and not any(r.value in inlined for r in node.reads) and (found := _columns(node, graph)) is not None:
            argument, read = found
            width = _width(node, regions[node], sizes, root)
            if width:
                _rewrite(graph, argument, read, node, width)


def _columns(node: Node, graph: ir.Operation) -> tuple[int, Read] | None:
    """The operand number and read of a weight that is indexed by the last result dimension and reduction loops only, each once."""
    column, n = len(node.shape) - 1, len(node.shape)
    arguments = list(graph.regions[0].blocks[0].arguments)
    if len(node.reads) != 2 or column < 0:
        return None
    for i, read in enumerate(node.reads):
        other = node.reads[1 - i]
        variables = [v for v in _order(read) if v != -1]
        alone = not any(e.coefficients[column] for e in other.indices)
        if read.value in arguments and sorted(variables) == [column, *range(n, node.loops)] and alone:
            position = arguments.index(read.value)
            uses = list(read.value.uses)
            if len(uses) == 1 and (is_weight(graph.operands[position]) or _worth(node)):
                return position, read
    return None


def _order(read: Read) -> list[int]:
    """The loop that walks each dimension of a read tensor; -1 for dimensions of extent 1, -2 where it is not plainly one loop."""
    found = []
    for e, size in zip(read.indices, read.value.type.shape, strict=True):
        loop = e.only()
        found.append(-1 if size == 1 and e.is_constant else -2 if loop is None else loop)
    return found


def _worth(node: Node) -> bool:
    """Whether an operand that is no weight is read so often that packing it pays at run time (strided columns also collide in caches)."""
    return volume(node.shape[:-1]) >= PACKED_ROWS and node.shape[-1] * volume(node.over) >= PACKED_SIZE


def is_weight(value: ir.Value) -> bool:
    """Whether the value depends on weights alone."""
    owner = value.owner
    if isinstance(owner, ir.Block):
        return False
    if owner.name in ("tile.weight", "arith.constant"):
        return True
    return owner.name in ("tile.graph", "tile.view", "tile.map") and len(owner.operands) > 0 and all(is_weight(v) for v in owner.operands)


def _width(node: Node, at: Region, sizes: list[int], root: tuple[int, ...]) -> int:
    """The widest panel that every block starts on; 0 if there is none."""
    extent, offset = at.extents[-1], at.offsets[-1]
    variable = offset.only()
    if not offset.is_constant and (variable is None or sizes[variable] != extent or root[variable] % extent):
        return 0
    if offset.is_constant and offset.const:
        return 0
    common = gcd(extent, node.shape[-1])
    return next((w for w in WIDTHS if common % w == 0), 0) if volume(node.over) > 1 else 0


def _rewrite(graph: ir.Operation, argument: int, read: Read, node: Node, width: int) -> None:
    """Packs the weight in front of the graph and names the logical tensor inside it."""
    weight = graph.operands[argument]
    column, n = len(node.shape) - 1, len(node.shape)
    order = _order(read)
    shape = [node.shape[-1] // width, *node.over, width]
    dtype = BY_NAME[str(weight.type.element_type)]

    def element(*d: ir.AffineExpr) -> list[ir.AffineExpr]:
        lane = ir.AffineExpr.get_add(ir.AffineExpr.get_mul(d[0], width), d[-1])
        return [ir.AffineExpr.get_constant(0) if v < 0 else lane if v == column else d[1 + v - n] for v in order]

    with graph.location, ir.InsertionPoint(graph):
        packed = Builder().compute(shape, dtype, [(Tensor(weight, dtype), element)], lambda x: x).value
    graph.operands[argument] = packed
    block = graph.regions[0].blocks[0]
    old = block.arguments[argument]
    logical = old.type
    with graph.location, ir.InsertionPoint.at_block_begin(block):
        inverse = tile.MapOp.build([old], [logical], {"width": width, "columns": order.index(column), "order": order}).operation
    old.replace_all_uses_except(inverse.results[0], [inverse])
    old.set_type(packed.type)


__all__ = ["WIDTHS", "PackWeights", "is_weight"]
