"""A task.mma as plain loops: what it means, for units and shapes that no matrix atom fits."""

from collections.abc import Sequence

from mlc.dialects import task
from mlc.dtypes import BY_NAME
from mlc.ir import codecs
from mlc.ir.affine import from_linear, map_to_linear
from mlc.ir.mlir import arith, ir, memref
from mlc.layout.linear import Linear
from mlc.passes.task.flat import affine, index_constant


def as_foreach(op: ir.Operation) -> ir.Operation:
    """A task.mma as the task.foreach that defines it, placed in front of it."""
    view = op.opview
    extents, k = view.py("extents"), view.py("reductions")
    c, *offsets = list(op.operands)[2:]
    maps = list(op.attributes["maps"])
    element = c.type.element_type
    index, whole = ir.IndexType.get(), isinstance(element, ir.IntegerType)
    multiply, add = (arith.MulIOp, arith.AddIOp) if whole else (arith.MulFOp, arith.AddFOp)
    n = len(extents) - k

    def load(which: int, indices: Sequence[ir.Value]) -> ir.Value:
        buffer, map_ = op.operands[which], maps[which]
        if bounded := view.py("bounded")[which]:
            return widened(which, _load_within(buffer, map_, indices, bounded))
        place, short = _used(map_, indices)
        return widened(which, task.LoadOp.build([buffer, *place], [buffer.type.element_type], {"map": short}).operation.results[0])

    def widened(which: int, value: ir.Value) -> ir.Value:
        if codes := view.py("codes"):
            return codecs.decode(value, BY_NAME[codes[which]]).value
        return value if value.type == element else (arith.ExtSIOp if whole else arith.ExtFOp)(element, value).result

    with ir.InsertionPoint(op):
        foreach = task.ForeachOp.build([], [], {"extents": extents[:n]}).operation
    block = foreach.regions[0].blocks.append(*[index] * n)
    with ir.InsertionPoint(block):
        points = list(block.arguments)
        zero = _zero(element)
        reduce = task.ReduceOp.build([zero], [element], {"extents": extents[n:], "combine": ["addi" if whole else "addf"]}).operation
        inner = reduce.regions[0].blocks.append(*[index] * k, element)
        with ir.InsertionPoint(inner):
            *folded, acc = list(inner.arguments)
            place = [*points, *folded, *offsets]
            product = multiply(load(0, place), load(1, place)).result
            task.YieldOp.build([add(acc, product).result], [])
        first = index_constant(0)
        place, short = _used(maps[2], [*points, *[first] * k, *offsets])
        task.StoreOp.build([reduce.results[0], c, *place], [], {"map": short})
        task.YieldOp.build([], [])
    return foreach


def _used(map_: ir.Attribute, indices: Sequence[ir.Value]) -> tuple[list[ir.Value], ir.Attribute]:
    """The indices that a map takes part in, and the map over those alone."""
    linear = map_to_linear(map_.value)
    assert linear is not None, f"not linear: {map_}"
    used = [i for i in range(len(indices)) if any(e.coefficients[i] for e in linear)]
    short = [Linear(tuple(e.coefficients[i] for i in used), e.const) for e in linear]
    return [indices[i] for i in used], ir.AffineMapAttr.get(from_linear(short, len(used)))


def _load_within(buffer: ir.Value, map_: ir.Attribute, indices: Sequence[ir.Value], bounded: Sequence[int]) -> ir.Value:
    """The element at `map`(indices), or zero where an index of the `bounded` dimensions lies outside of the buffer."""
    linear = map_to_linear(map_.value)
    assert linear is not None, f"not linear: {map_}"
    at = [affine(e.const, list(zip(indices, e.coefficients))) for e in linear]
    inside: ir.Value | None = None
    for d in bounded:
        within = arith.CmpIOp(arith.CmpIPredicate.ult, at[d], index_constant(buffer.type.shape[d])).result
        inside = within if inside is None else arith.AndIOp(inside, within).result
        at[d] = arith.SelectOp(within, at[d], index_constant(0)).result
    return arith.SelectOp(inside, memref.LoadOp(buffer, at).result, _zero(buffer.type.element_type)).result


def _zero(element: ir.Type) -> ir.Value:
    return arith.ConstantOp(element, (ir.IntegerAttr if isinstance(element, ir.IntegerType) else ir.FloatAttr).get(element, 0)).result
