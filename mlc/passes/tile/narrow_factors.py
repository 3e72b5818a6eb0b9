"""narrow-factors: a product of an f32 and a 16-bit factor rounds the wide one to 16 bits, where matrix units need equal types.

Such products are what attention's f32 probabilities make with f16 values; streaming implementations round them too. Sums stay f32.
"""

from dataclasses import dataclass
from typing import ClassVar

from mlc.dialects import tile
from mlc.dialects._ext import operations
from mlc.ir.clone import clone
from mlc.ir.mlir import arith, ir, linalg, tensor
from mlc.passes.registry import Pass, PassContext
from mlc.passes.tile.model import Node, Read, body_nodes


@dataclass(frozen=True)
class NarrowFactors(Pass):
    """Rounds the f32 factor of a mixed contraction to the other's 16-bit type. For targets with matrix units."""

    name: ClassVar[str] = "narrow-factors"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        if not ctx.need_target().atoms:
            return
        for op in [o for o in operations(module.operation) if o.name == "tile.graph"]:
            nodes = body_nodes(op)
            if nodes is not None and len(nodes) == 1 and nodes[0].contraction:
                _narrow(op, nodes[0])


def _narrow(graph: ir.Operation, node: Node) -> None:
    kinds = [str(r.value.type.element_type) for r in node.reads]
    if sorted(kinds) not in (["f16", "f32"], ["bf16", "f32"]):
        return
    wide, narrow = (node.reads[kinds.index("f32")], node.reads[1 - kinds.index("f32")])
    block = graph.regions[0].blocks[0]
    if not isinstance(wide.value.owner, ir.Block):
        return
    element = narrow.value.type.element_type
    source = graph.operands[wide.value.arg_number]
    with graph.location, ir.InsertionPoint(graph):
        rounded = _rounded(source, element)
        operands = [rounded if i == wide.value.arg_number else v for i, v in enumerate(graph.operands)]
        new = tile.GraphOp.build(operands, [r.type for r in graph.results]).operation
        body = new.regions[0].blocks.append(*[v.type for v in operands])
    env: dict[ir.Value, ir.Value] = dict(zip(block.arguments, body.arguments))
    with ir.InsertionPoint(body):
        for view in block.operations:
            if view.operation == node.op:
                _generic(node, wide, env)
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


def _generic(node: Node, wide: Read, env: dict[ir.Value, ir.Value]) -> None:
    """The contraction on the rounded factor, which its body widens again."""
    n_in = len(node.op.operands) - 1
    values = [env.get(v, v) for v in node.op.operands]
    op = linalg.GenericOp([r.type for r in node.op.results], values[:n_in], values[n_in:], node.op.attributes["indexing_maps"],
                          node.op.attributes["iterator_types"])
    old = node.op.regions[0].blocks[0]
    block = op.regions[0].blocks.append(*[v.type.element_type for v in values])
    number = next(i for i, v in enumerate(node.op.operands) if v == wide.value)
    with ir.InsertionPoint(block):
        inner: dict[ir.Value, ir.Value] = dict(zip(old.arguments, block.arguments))
        argument = old.arguments[number]
        inner[argument] = arith.ExtFOp(argument.type, block.arguments[number]).result
        for view in old.operations:
            clone(view.operation, inner)
    env[node.op.results[0]] = op.results[0]
