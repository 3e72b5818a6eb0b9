"""A task.mma as plain loops: what it means, for units and shapes that no matrix atom fits."""

from collections.abc import Sequence

from mlc.dialects import task
from mlc.ir.mlir import arith, ir
from mlc.passes.task.flat import index_constant


def as_foreach(op: ir.Operation) -> ir.Operation:
    """A task.mma as the task.foreach that defines it, placed in front of it."""
    view = op.opview
    extents, k = view.py("extents"), view.py("reductions")
    a, b, c, *offsets = list(op.operands)
    maps = list(op.attributes["maps"])
    element = c.type.element_type
    index = ir.IndexType.get()
    n = len(extents) - k

    def load(buffer: ir.Value, map_: ir.Attribute, indices: Sequence[ir.Value]) -> ir.Value:
        value = task.LoadOp.build([buffer, *indices], [buffer.type.element_type], {"map": map_}).operation.results[0]
        return value if value.type == element else arith.ExtFOp(element, value).result

    with ir.InsertionPoint(op):
        foreach = task.ForeachOp.build([], [], {"extents": extents[:n]}).operation
    block = foreach.regions[0].blocks.append(*[index] * n)
    with ir.InsertionPoint(block):
        points = list(block.arguments)
        zero = arith.ConstantOp(element, ir.FloatAttr.get(element, 0.0)).result
        reduce = task.ReduceOp.build([zero], [element], {"extents": extents[n:], "combine": ["addf"]}).operation
        inner = reduce.regions[0].blocks.append(*[index] * k, element)
        with ir.InsertionPoint(inner):
            *folded, acc = list(inner.arguments)
            place = [*points, *folded, *offsets]
            product = arith.MulFOp(load(a, maps[0], place), load(b, maps[1], place)).result
            task.YieldOp.build([arith.AddFOp(acc, product).result], [])
        first = index_constant(0)
        task.StoreOp.build([reduce.results[0], c, *points, *[first] * k, *offsets], [], {"map": maps[2]})
        task.YieldOp.build([], [])
    return foreach
