"""keep-wide: what one kernel computes and reads again in registers is not rounded to 16 bits on the way.

Ops of 16-bit floats compute in f32 and round their result to what memory holds. Where a result is never in memory (`tile.level` is
register), that rounding costs instructions and precision: conv + bias + add would round three times. So the node's result becomes f32,
and its readers take it as it is. Roundings that the model asks for (`tile.rounds`, from graph.cast) stay, and so do those of a value that
is compared with another: a maximum has to equal the element that it came from, wherever the two are kept.
"""

from dataclasses import dataclass
from typing import ClassVar

from mlc.dialects._ext import operations
from mlc.ir.mlir import ir, tensor
from mlc.passes.registry import Pass, PassContext
from mlc.passes.tile.model import Node, body_nodes, rounded_from, widened_from

_UNORDERED = 14  # arith.cmpf's predicate uno: whether one side is NaN


@dataclass(frozen=True)
class KeepWide(Pass):
    """Gives 16-bit results that stay in registers the f32 type that they are computed in."""

    name: ClassVar[str] = "keep-wide"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        for graph in [o for o in operations(module.operation) if o.name == "tile.graph"]:
            for node in body_nodes(graph) or ():
                if node.level == "register" and "tile.rounds" not in node.op.attributes:
                    _keep(node)


def _keep(node: Node) -> None:
    end = _terminator(node.op)
    wide = rounded_from(end.operands[0])
    if wide is None or widened_from(wide) is not None or node.pad is not None:
        return  # nothing is rounded: it is movement
    readers = _readers(node.results[0])
    if readers is None:
        return
    for argument, values in readers:
        for value in values:
            value.replace_all_uses_with(argument)
            _drop(value)
        argument.set_type(wide.type)
    type_ = ir.RankedTensorType.get(list(node.shape), wide.type)
    with node.op.location, ir.InsertionPoint(node.op):
        node.op.operands[len(node.op.operands) - 1] = tensor.EmptyOp(list(node.shape), wide.type).result
    node.op.regions[0].blocks[0].arguments[len(node.op.operands) - 1].set_type(wide.type)
    end.operands[0] = wide
    node.results[0].set_type(type_)


def _readers(result: ir.Value) -> list[tuple[ir.BlockArgument, list[ir.Value]]] | None:
    """For each use of a result: the element in the reader's body and the values that widen it; None if one needs the narrow number."""
    found = []
    for use in result.uses:
        reader = use.owner.operation
        argument = reader.regions[0].blocks[0].arguments[use.operand_number]
        values = _widenings(argument, argument)
        if values is None or any(_compared(v) for v in values):
            return None
        found.append((argument, values))
    return found


def _widenings(value: ir.Value, argument: ir.Value) -> list[ir.Value] | None:
    """The values made of `value` that are `argument` in f32; None if anything else is made of it."""
    found: list[ir.Value] = []
    for use in value.uses:
        op = use.owner.operation
        if op.name not in ("arith.extf", "arith.bitcast", "arith.extui", "arith.shli"):
            return None
        result = op.results[0]
        source = widened_from(result)
        inner = [result] if source is not None and source == argument else _widenings(result, argument)
        if not inner or not all(isinstance(v.type, ir.F32Type) for v in inner):
            return None
        found += inner
    return found


def _compared(value: ir.Value) -> bool:
    """Whether a value is compared with something else than a constant."""
    for use in value.uses:
        op = use.owner.operation
        if op.name == "arith.cmpf" and op.attributes["predicate"].value != _UNORDERED:
            other = op.operands[1 - use.operand_number]
            if isinstance(other.owner, ir.Block) or other.owner.name != "arith.constant":
                return True
    return False


def _drop(value: ir.Value) -> None:
    """Erases the ops that made a value, as far as nobody else uses them."""
    if isinstance(value.owner, ir.Block) or next(iter(value.uses), None) is not None:
        return
    operands = list(value.owner.operands)
    value.owner.erase()
    for operand in operands:
        _drop(operand)


def _terminator(op: ir.Operation) -> ir.Operation:
    block = op.regions[0].blocks[0]
    return block.operations[len(block.operations) - 1].operation


__all__ = ["KeepWide"]
