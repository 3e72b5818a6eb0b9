"""pack-weights: matrix operands that are weights, or much used, are stored in panels that a register tile reads as one stream.

This is Ladder's map. A computation outside the kernel permutes the storage of W[k..., n] to [n / width][k...][n % width], with k in the
order in which the other factor lies in memory; being a function of weights alone it is evaluated at compile time. `tile.map` inside the
kernel names the logical tensor again and says how it is addressed. Columns that do not divide overlap: a block's last panel begins
earlier, as its last register tile would, and so do the last block's, as the tile level moves that block.
"""

from dataclasses import dataclass
from typing import ClassVar

from mlc.dialects import tile
from mlc.dialects._build import Builder, Tensor
from mlc.dialects._ext import operations
from mlc.dtypes import BY_NAME
from mlc.ir.mlir import ir
from mlc.ir.scalar import Scalar
from mlc.layout.linear import row_major
from mlc.layout.registers import Registers, register_tile
from mlc.passes.registry import Pass, PassContext
from mlc.passes.tile.cost import sink_nodes
from mlc.passes.tile.model import Node, Read, body_nodes, volume
from mlc.passes.tile.region import Region, propagate

WIDTHS = (64, 48, 32, 16)
COLUMN = 16  # multiply-adds that take as long as an element of the factor from memory, about
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
                _pack_graph(op, Registers.of(ctx.need_target()))


def _pack_graph(graph: ir.Operation, registers: Registers) -> None:
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
            group = _group(node, regions[node], sizes, root)
            ragged = is_weight(graph.operands[argument])  # else packing takes time in each run: copies of whole vectors only
            if group and (width := _width(node, regions[node], group, registers, ragged)):
                _rewrite(graph, argument, read, node, _Panels(width, group))


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


def _group(node: Node, at: Region, sizes: list[int], root: tuple[int, ...]) -> int:
    """How many columns one block reads: all, or those of its tile; 0 where blocks read anything else."""
    n, extent, offset = node.shape[-1], at.extents[-1], at.offsets[-1]
    if volume(node.over) < 2:
        return 0
    if offset.is_constant:
        return n if not offset.const and extent == n else 0
    dim = offset.only()
    return extent if dim is not None and sizes[dim] == extent and root[dim] == n else 0


def _width(node: Node, at: Region, group: int, registers: Registers, ragged: bool) -> int:
    """The width of panels by which a block's columns cost least; 0 if they are too few. ragged: the last ones may overlap."""
    n = node.shape[-1]
    if not ragged and n % group:
        return 0
    widths = [w for w in WIDTHS if w <= group and (ragged or group % w == 0)]
    rows = max(at.extents[:-1], default=1)
    costs = {w: (register_tile(rows, w, registers.lanes, registers.count).cost * rows + COLUMN) * (-(-group // w) * w) for w in widths}
    return min(widths, key=lambda w: costs[w], default=0)


def _rewrite(graph: ir.Operation, argument: int, read: Read, node: Node, panels: "_Panels") -> None:
    """Packs the weight in front of the graph and names the logical tensor inside it."""
    weight = graph.operands[argument]
    loops = _order(read)
    columns = loops.index(len(node.shape) - 1)
    other = next(r for r in node.reads if r is not read)
    order = sorted((d for d in range(len(loops)) if d != columns), key=lambda d: -_stride(other, loops[d]))
    with graph.location, ir.InsertionPoint(graph):
        packed = panels.pack(Tensor(weight, BY_NAME[str(weight.type.element_type)]), columns, order)
    graph.operands[argument] = packed
    block = graph.regions[0].blocks[0]
    old = block.arguments[argument]
    logical = old.type
    with graph.location, ir.InsertionPoint.at_block_begin(block):
        named = {"width": panels.width, "columns": columns, "order": order, "group": panels.group}
        inverse = tile.MapOp.build([old], [logical], named).operation
    old.replace_all_uses_except(inverse.results[0], [inverse])
    old.set_type(packed.type)


def _stride(read: Read, loop: int) -> int:
    """Elements between neighbours along a loop; that of a dimension without a loop is the longest."""
    if loop < 0:
        return volume(read.shape)
    return sum(e.coefficients[loop] * s for e, s in zip(read.indices, row_major(read.shape), strict=True))


@dataclass(frozen=True)
class _Panels:
    """Panels of `width` columns, in groups of `group` columns."""

    width: int
    group: int

    def pack(self, w: Tensor, columns: int, order: list[int]) -> ir.Value:
        """The tensor [panel][dimensions `order` of w][column]."""
        n, each = w.shape[columns], -(-self.group // self.width)
        shape = [-(-n // self.group) * each, *(w.shape[d] for d in order), self.width]
        place = [order.index(d) + 1 if d != columns else 0 for d in range(w.rank)]
        b = Builder()
        if n % self.group == 0 and self.group % self.width == 0:
            def element(*d: ir.AffineExpr) -> list[ir.AffineExpr]:
                column = ir.AffineExpr.get_add(ir.AffineExpr.get_mul(d[0], self.width), d[-1])
                return [d[p] if p else column for p in place]

            return b.compute(shape, w.dtype, [(w, element)], lambda x: x).value

        def moved() -> Scalar:
            panel = b.index(0)
            first = (panel / each * self.group).min(n - self.group) + (panel.rem(each) * self.width).min(self.group - self.width)
            return b.load(w, [b.index(p) if p else first + b.index(len(shape) - 1) for p in place])

        return b.gather_compute(shape, w.dtype, [], [w], moved).value


__all__ = ["WIDTHS", "PackWeights", "is_weight"]
