"""Where a score counts: the condition of a body's outermost select(condition, x, -inf) as linear expressions that are all >= 0."""

from collections.abc import Sequence
from math import inf

from mlc.ir.mlir import ir
from mlc.layout.linear import Linear
from mlc.passes.tile.body import is_constant, root_of
from mlc.passes.tile.model import Node

_PREDICATES = {2: "slt", 3: "sle", 4: "sgt", 5: "sge"}  # of arith.cmpi


def visible(node: Node, place: Sequence[Linear]) -> tuple[Linear, ...]:
    """The expressions over the variables of `place`, which says where the node's loops are; () where its root is no such select."""
    root = root_of(node.op)
    if root.name != "arith.select" or not is_constant(root.operands[2], -inf):
        return ()
    return tuple(_condition(root.operands[0], place) or ())


def _condition(value: ir.Value, place: Sequence[Linear]) -> list[Linear] | None:
    """The expressions of a conjunction; None where a part of it is anything else."""
    op = value.owner
    if isinstance(op, ir.Block):
        return None
    if op.name == "arith.constant":
        return [] if op.attributes["value"].value else None
    if op.name == "arith.andi":
        left, right = (_condition(v, place) for v in op.operands)
        return None if left is None or right is None else [*left, *right]
    kind = _PREDICATES.get(op.attributes["predicate"].value) if op.name == "arith.cmpi" else None
    if kind is None:
        return None
    a, b = (_linear(v, place) for v in op.operands)
    if a is None or b is None:
        return None
    less, more = (a, b) if kind in ("slt", "sle") else (b, a)
    return [more + less * -1 + (-1 if kind in ("slt", "sgt") else 0)]


def _linear(value: ir.Value, place: Sequence[Linear]) -> Linear | None:
    """An integer of the body as a linear expression."""
    op = value.owner
    if isinstance(op, ir.Block):
        return None
    match op.name:
        case "arith.constant":
            return Linear.constant(op.attributes["value"].value, len(place[0].coefficients))
        case "linalg.index":
            return place[op.attributes["dim"].value]
        case "arith.index_cast" | "arith.extsi":
            return _linear(op.operands[0], place)
        case "arith.addi" | "arith.subi" | "arith.muli":
            a, b = (_linear(v, place) for v in op.operands)
            if a is None or b is None:
                return None
            if op.name == "arith.muli":
                return a * b.const if b.is_constant else b * a.const if a.is_constant else None
            return a + (b if op.name == "arith.addi" else b * -1)
    return None
