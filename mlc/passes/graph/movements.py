"""Chains of reshapes and transposes become the shortest equal chain; a transpose that a matmul can read through becomes its attribute."""

from functools import lru_cache
from typing import Any

from mlc.dialects.graph import CastOp, ElementwiseOp, MatmulOp, matmul
from mlc.dialects.graph.movement import PadOp, ReshapeOp, TransposeOp, reshape, transpose
from mlc.ir.mlir import ir
from mlc.passes.graph.permute import permuted
from mlc.passes.graph.rewrite import Known, Rule, beside, defining, operand, operands, result, shape, single_use
from mlc.passes.graph.views import Shape, Step, View, cost, inverse, transposes

_RESHAPE, _TRANSPOSE = ReshapeOp.OPERATION_NAME, TransposeOp.OPERATION_NAME


@lru_cache(maxsize=4096)
def shortest(source: Shape, steps: tuple[Step, ...]) -> tuple[Step, ...] | None:
    """A chain that does the same as `steps` at less cost, if there is one."""
    view = View.of(source)
    for kind, argument in steps:
        if view is not None:
            view = view.reshape(argument) if kind == "reshape" else view.transpose(argument)
    if view is None:
        return None
    found = tuple(view.steps())
    return found if cost(found) < cost(steps) else None


def build(x: ir.Value, steps: tuple[Step, ...]) -> ir.Value:
    for kind, argument in steps:
        x = reshape(x, shape=list(argument)) if kind == "reshape" else transpose(x, perm=list(argument))
    return x


def chain(value: ir.Value) -> tuple[ir.Value, tuple[Step, ...]]:
    """`value` as reshapes and transposes, all in one block, of a value that is neither."""
    steps: list[Step] = []
    first = defining(value)
    while first is not None and (operation := beside(first, value)) is not None and operation.name in (_RESHAPE, _TRANSPOSE):
        op = operation.opview
        steps.append(("reshape", tuple(op.shape)) if operation.name == _RESHAPE else ("transpose", tuple(op.perm)))
        value = operation.operands[0]
    return value, tuple(reversed(steps))


def shorten(op: Any) -> ir.Value | None:
    """From the furthest source from which the whole chain is one view; else from a nearer one."""
    source, steps = chain(result(op))
    while steps:
        found = shortest(shape(source), steps)
        if found is not None:
            return build(source, found)
        if len(steps) == 1:
            return None
        source, steps = _nearer(op, len(steps) - 1), steps[1:]
    return None


def _nearer(op: Any, distance: int) -> ir.Value:
    value = result(op)
    for _ in range(distance):
        value = operand(value.owner)
    return value


def raise_transpose(op: TransposeOp) -> ir.Value | None:
    """transpose(f(x)) is f(transpose(x)) where x comes out of a transpose that then does both."""
    inner = beside(op, operand(op))
    if inner is None or inner.name not in (PadOp.OPERATION_NAME, ElementwiseOp.OPERATION_NAME, CastOp.OPERATION_NAME):
        return None
    x, there = inner.operands[0], tuple(op.perm)
    source, steps = chain(x)
    if len(inner.operands) > 1 or not transposes(steps) or not single_use(operand(op)) or not single_use(x):
        return None
    found = shortest(shape(source), (*steps, ("transpose", there)))
    if found is None or transposes(found) > transposes(steps):
        return None
    turned = permuted(inner.opview, inverse(there), [build(source, found)])
    return operand(turned.owner)


def absorb(known: Known) -> Rule:
    """matmul(x, transpose(y)) where y's last dimension comes last but one: the matmul reads it so. Weights: at compile time."""

    def rule(op: MatmulOp) -> ir.Value | None:
        values, flags = operands(op), [op.transpose_a, op.transpose_b]
        changed = False
        for i, value in enumerate(values):
            operation = defining(value)
            if operation is None or operation.name != _TRANSPOSE or known(value):
                continue
            perm = list(operation.opview.perm)
            if perm[-2] != len(perm) - 1:
                continue
            perm[-2:] = perm[:-3:-1]
            source = operation.operands[0]
            values[i] = source if perm == sorted(perm) else transpose(source, perm=perm)
            flags[i] = not flags[i]
            changed = True
        return matmul(*values, transpose_a=flags[0], transpose_b=flags[1]) if changed else None

    return rule


def rules(known: Known) -> dict[str, list[Rule]]:
    return {_RESHAPE: [shorten], _TRANSPOSE: [shorten, raise_transpose], MatmulOp.OPERATION_NAME: [absorb(known)]}


__all__ = ["build", "chain", "rules", "shortest"]
