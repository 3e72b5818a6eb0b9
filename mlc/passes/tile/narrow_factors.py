"""narrow-factors: factors of products become what matrix units need: two of one 16-bit type, or two of signed 8-bit integers.

The f32 factor beside a 16-bit one is rounded: such products are what attention's f32 probabilities make with f16 values; streaming
implementations round them too. Sums stay f32. Factors in i32 that a kernel before only widened from i8 are read from its source.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from mlc.dialects import tile
from mlc.dialects._ext import operations
from mlc.ir.clone import clone
from mlc.ir.mlir import arith, ir, linalg, tensor
from mlc.layout.fragments import ATOMS
from mlc.passes.registry import Pass, PassContext
from mlc.passes.tile.model import Node, Read, body_nodes


@dataclass(frozen=True)
class NarrowFactors(Pass):
    """Rounds f32 factors beside 16-bit ones, and reads i32 factors as the i8 they were. For targets with units for such products."""

    name: ClassVar[str] = "narrow-factors"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        units = {ATOMS[name].input for name in ctx.need_target().atoms}
        if not units:
            return
        for op in [o for o in operations(module.operation) if o.name == "tile.graph"]:
            nodes = body_nodes(op)
            if nodes is None or len(nodes) != 1:
                continue
            if nodes[0].contraction:
                _narrow(op, nodes[0])
            elif "i8" in units and len(nodes[0].reads) == 2 and nodes[0].over:
                _read_codes(op, nodes[0])


def _narrow(graph: ir.Operation, node: Node) -> None:
    kinds = [str(r.value.type.element_type) for r in node.reads]
    if sorted(kinds) not in (["f16", "f32"], ["bf16", "f32"]):
        return
    wide, narrow = (node.reads[kinds.index("f32")], node.reads[1 - kinds.index("f32")])
    if not isinstance(wide.value.owner, ir.Block):
        return
    element = narrow.value.type.element_type
    with graph.location, ir.InsertionPoint(graph):
        rounded = _rounded(graph.operands[wide.value.arg_number], element)
    _replace_factors(graph, node, {wide.value.arg_number: rounded})


def _read_codes(graph: ir.Operation, node: Node) -> None:
    """Where the body is acc + a * b of two factors that were widened from i8, reads those."""
    names = [v.operation.name for v in node.op.regions[0].blocks[0].operations]
    if names != ["arith.muli", "arith.addi", "linalg.yield"] or not all(isinstance(r.value.owner, ir.Block) for r in node.reads):
        return
    sources = {r.value.arg_number: _before_widening(graph.operands[r.value.arg_number]) for r in node.reads}
    if all(s is not None for s in sources.values()):
        _replace_factors(graph, node, {number: s for number, s in sources.items() if s is not None})


def _before_widening(value: ir.Value) -> ir.Value | None:
    """The i8 tensor that a tile.graph widens into `value`, element by element."""
    graph = value.owner
    if isinstance(graph, ir.Block) or graph.name != "tile.graph" or len(graph.operands) != 1:
        return None
    nodes = body_nodes(graph.operation)
    if nodes is None or len(nodes) != 1 or nodes[0].over or len(nodes[0].reads) != 1:
        return None
    names = [v.operation.name for v in nodes[0].op.regions[0].blocks[0].operations]
    places, extents = nodes[0].reads[0].indices, nodes[0].shape
    same = len(places) == len(extents) and all(n == 1 or e.only() == d for d, (e, n) in enumerate(zip(places, extents)))
    source = graph.operands[0]
    return source if same and names == ["arith.extsi", "linalg.yield"] and str(source.type.element_type) == "i8" else None


def _replace_factors(graph: ir.Operation, node: Node, narrow: Mapping[int, ir.Value]) -> None:
    """The graph with other operands, by number, which its contraction widens again."""
    block = graph.regions[0].blocks[0]
    operands = [narrow.get(i, v) for i, v in enumerate(graph.operands)]
    with graph.location, ir.InsertionPoint(graph):
        new = tile.GraphOp.build(operands, [r.type for r in graph.results]).operation
        body = new.regions[0].blocks.append(*[v.type for v in operands])
    env: dict[ir.Value, ir.Value] = dict(zip(block.arguments, body.arguments))
    with ir.InsertionPoint(body):
        for view in block.operations:
            if view.operation == node.op:
                _generic(node, [r for r in node.reads if r.value.arg_number in narrow], env)
            else:
                clone(view.operation, env)
    graph.results[0].replace_all_uses_with(new.results[0])
    graph.erase()


def _rounded(source: ir.Value, element: ir.Type) -> ir.Value:
    """A tile.graph that rounds a tensor."""
    type_ = ir.RankedTensorType.get(list(source.type.shape), element)
    graph = tile.GraphOp.build([source], [type_]).operation
    body = graph.regions[0].blocks.append(source.type)
    with ir.InsertionPoint(body):
        rank = len(type_.shape)
        identity = ir.AffineMapAttr.get(ir.AffineMap.get_identity(rank))
        kinds = ir.ArrayAttr.get([ir.Attribute.parse("#linalg.iterator_type<parallel>")] * rank)
        out = tensor.EmptyOp(list(type_.shape), element).result
        op = linalg.GenericOp([type_], [body.arguments[0]], [out], ir.ArrayAttr.get([identity, identity]), kinds)
        inner = op.regions[0].blocks.append(source.type.element_type, element)
        with ir.InsertionPoint(inner):
            linalg.YieldOp([arith.TruncFOp(element, inner.arguments[0]).result])
        tile.YieldOp.build([op.results[0]], [])
    return graph.results[0]


def _generic(node: Node, wide: Sequence[Read], env: dict[ir.Value, ir.Value]) -> None:
    """The contraction on narrower factors, which its body widens again."""
    n_in = len(node.op.operands) - 1
    values = [env.get(v, v) for v in node.op.operands]
    op = linalg.GenericOp([r.type for r in node.op.results], values[:n_in], values[n_in:], node.op.attributes["indexing_maps"],
                          node.op.attributes["iterator_types"])
    old = node.op.regions[0].blocks[0]
    block = op.regions[0].blocks.append(*[v.type.element_type for v in values])
    numbers = [i for i, v in enumerate(node.op.operands) if any(v == r.value for r in wide)]
    with ir.InsertionPoint(block):
        inner: dict[ir.Value, ir.Value] = dict(zip(old.arguments, block.arguments))
        for number in numbers:
            argument = old.arguments[number]
            extend = arith.ExtSIOp if isinstance(argument.type, ir.IntegerType) else arith.ExtFOp
            inner[argument] = extend(argument.type, block.arguments[number]).result
        for view in old.operations:
            clone(view.operation, inner)
    env[node.op.results[0]] = op.results[0]
