"""fold-views: a kernel that reads a reshaped tensor reads the original instead, where the reshape is affine.

It is where it splits dimensions, or adds and drops unit ones. Views at the host level are walls for connect; this takes most of them down.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from mlc.dialects._ext import operations
from mlc.ir.affine import from_linear, map_to_linear
from mlc.ir.clone import clone
from mlc.ir.mlir import ir, linalg, tensor
from mlc.layout.linear import Linear
from mlc.passes.registry import Pass, PassContext


@dataclass(frozen=True)
class FoldViews(Pass):
    """Composes affine tile.views into the indexing maps of their readers."""

    name: ClassVar[str] = "fold-views"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        for op in [o for o in operations(module.operation) if o.name == "tile.graph"]:
            for number in range(len(op.operands)):
                while _fold(op, number):
                    pass


def split_map(source: Sequence[int], view: Sequence[int]) -> list[Linear] | None:
    """Indices into `source` as expressions over the dimensions of `view`; None where dimensions are joined (not affine)."""
    n = len(view)
    rest = [j for j in range(n) if view[j] != 1]
    found = []
    for size in source:
        parts: list[int] = []
        product = 1
        while product < size and rest:
            j = rest.pop(0)
            parts.append(j)
            product *= view[j]
        if product != size:
            return None
        total, step = Linear.constant(0, n), 1
        for j in reversed(parts):
            total = total + Linear.variable(j, n) * step
            step *= view[j]
        found.append(total)
    return found


def _fold(graph: ir.Operation, number: int) -> bool:
    value = graph.operands[number]
    owner = value.owner
    if isinstance(owner, ir.Block) or owner.name != "tile.view" or 0 in value.type.shape:
        return False
    source = owner.operands[0]
    indices = split_map(source.type.shape, value.type.shape)
    block = graph.regions[0].blocks[0]
    argument = block.arguments[number]
    readers = [use.owner.operation for use in argument.uses]
    if indices is None or any(r.name != "linalg.generic" for r in readers):
        return False
    if any(u.operand_number >= len(u.owner.inputs) for u in argument.uses):
        return False
    rebuilt = []
    for reader in dict.fromkeys(readers):
        maps, extents = _composed(reader, argument, indices), _extents(reader)
        if maps is None or not _legal(reader, argument, source, maps, extents):
            return False
        rebuilt.append((reader, maps, extents))
    argument.set_type(source.type)
    graph.operands[number] = source
    for reader, maps, extents in rebuilt:
        _rebuild(reader, maps, extents)
    return True


def _composed(op: ir.Operation, argument: ir.Value, indices: Sequence[Linear]) -> list[ir.AffineMap] | None:
    """The op's indexing maps with `indices` composed into the reads of `argument`."""
    maps = []
    for value, attribute in zip(op.operands, op.attributes["indexing_maps"]):
        map_ = attribute.value
        if value == argument:
            linear = map_to_linear(map_)
            if linear is None:
                return None
            map_ = from_linear([e.compose(linear, map_.n_dims) for e in indices], map_.n_dims)
        maps.append(map_)
    return maps


def _legal(op: ir.Operation, argument: ir.Value, source: ir.Value, maps: Sequence[ir.AffineMap], extents: dict[int, int]) -> bool:
    """Linalg's rule: a loop that alone indexes a dimension spans all of it."""
    for value, map_ in zip(op.operands, maps):
        if value == argument:
            for size, e in zip(source.type.shape, map_.results, strict=True):
                if isinstance(e, ir.AffineDimExpr) and extents.get(e.position) != size:
                    return False
    return True


def _rebuild(op: ir.Operation, maps: Sequence[ir.AffineMap], extents: dict[int, int]) -> None:
    """The same linalg.generic with other maps; a shape-only operand spans loops that no map bounds any more."""
    old = op.regions[0].blocks[0]
    n_in = len(op.operands) - len(op.results)
    ins, outs = list(op.operands)[:n_in], list(op.operands)[n_in:]
    loops = maps[0].n_dims
    bounded = {e.position for m in maps for e in m.results if isinstance(e, ir.AffineDimExpr)}
    missing = [d for d in range(loops) if d not in bounded]
    in_maps = list(maps[:n_in])
    with op.location, ir.InsertionPoint(op):
        if missing:
            ins.append(tensor.EmptyOp([extents[d] for d in missing], ir.IntegerType.get_signless(8)).result)
            in_maps.append(ir.AffineMap.get(loops, 0, [ir.AffineExpr.get_dim(d) for d in missing]))
        all_maps = ir.ArrayAttr.get([ir.AffineMapAttr.get(m) for m in [*in_maps, *maps[n_in:]]])
        new = linalg.GenericOp([o.type for o in outs], ins, outs, all_maps, op.attributes["iterator_types"])
        block = new.regions[0].blocks.append(*[v.type.element_type for v in [*ins, *outs]])
    arguments = list(block.arguments)
    env = dict(zip(old.arguments, [*arguments[:n_in], *arguments[len(ins):]]))
    with ir.InsertionPoint(block):
        for view in old.operations:
            clone(view.operation, env)
    for a, b in zip(op.results, new.results):
        a.replace_all_uses_with(b)
    op.erase()


def _extents(op: ir.Operation) -> dict[int, int]:
    """Loop extents, from the plain dimensions of the op's maps."""
    found: dict[int, int] = {}
    for value, attribute in zip(op.operands, op.attributes["indexing_maps"]):
        for size, e in zip(value.type.shape, attribute.value.results, strict=True):
            if isinstance(e, ir.AffineDimExpr):
                found.setdefault(e.position, size)
    return found
