"""Activations written out in arithmetic: gelu, swish, hard swish, mish, sigmoid; each is found from the function at its core."""

from collections.abc import Iterator
from math import pi, sqrt
from typing import Any

from mlc.dialects.graph import ElementwiseOp, elementwise
from mlc.ir.mlir import ir
from mlc.passes.graph.algebra import HALF_ROOT, Polynomial, candidates, close, is_polynomial, polynomial
from mlc.passes.graph.rewrite import operand, operands, producer, replace, result, splat, type_of, users

_TANH_INNER: Polynomial = {(1,): sqrt(2 / pi), (3,): sqrt(2 / pi) * 0.044715}
_HALF_OF_BOTH: Polynomial = {(1, 0): 0.5, (1, 1): 0.5}  # x/2 + x*e/2
_PRODUCT: Polynomial = {(1, 1): 1.0}
_SIXTH = 1 / 6
DEPTH = 5  # of arithmetic between the defining function and x, or the end of the formula


def formulas(value: ir.Value) -> Iterator[Any]:
    """Elementwise ops that use `value` by arithmetic, nearest first."""
    level, seen = [value], 0
    for _ in range(DEPTH):
        above: list[ir.Value] = []
        for v in level:
            for user in users(v):
                if user.operation.name == ElementwiseOp.OPERATION_NAME and user.opview.fn in ("add", "sub", "mul", "div") and seen < 16:
                    seen += 1
                    yield user.opview
                    above.append(user.operation.results[0])
        level = above


def _end(e: ir.Value, x: ir.Value, expected: Polynomial) -> Any:
    """The op whose result is that polynomial of x and e."""
    return next((op for op in formulas(e) if is_polynomial(result(op), (x, e), expected)), None)


def _finish(end: Any, fn: str, x: ir.Value, params: tuple[float, ...] = ()) -> bool:
    """Puts fn(x) in place of `end`."""
    if end is None or x.type != result(end).type:
        return False
    with ir.InsertionPoint(end.operation), end.operation.location:
        replace(result(end), elementwise(fn, x, params=params))
    return True


def erf(op: ElementwiseOp) -> bool:
    """Gelu: x/2 * (1 + erf(x / sqrt(2)))."""
    for x in candidates(operand(op), 2):
        if is_polynomial(operand(op), (x,), {(1,): HALF_ROOT}):
            return _finish(_end(result(op), x, _HALF_OF_BOTH), "gelu", x)
    return False


def tanh(op: ElementwiseOp) -> bool:
    """Gelu by tanh: x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))). Mish: x * tanh(softplus(x))."""
    softplus = producer(operand(op), ElementwiseOp, fn="softplus")
    if softplus is not None:
        return _finish(_end(result(op), operand(softplus), _PRODUCT), "mish", operand(softplus))
    for x in candidates(operand(op), DEPTH):
        if is_polynomial(operand(op), (x,), _TANH_INNER):
            return _finish(_end(result(op), x, _HALF_OF_BOTH), "gelu_tanh", x)
    return False


def sigmoid(op: ElementwiseOp) -> bool:
    """Swish: x * sigmoid(a*x)."""
    for x in candidates(operand(op), 1):
        found = polynomial(operand(op), (x,))
        if found is not None and set(found) == {(1,)} and _finish(_end(result(op), x, _PRODUCT), "swish", x, (found[(1,)],)):
            return True
    return False


def exp(op: ElementwiseOp) -> bool:
    """1 / (1 + exp(-x)) is sigmoid."""
    for x in candidates(operand(op), 1)[1:]:
        if not is_polynomial(operand(op), (x,), {(1,): -1.0}):
            continue
        for add in users(result(op)):
            total = add.operation.results[0]
            if add.operation.name != ElementwiseOp.OPERATION_NAME or not is_polynomial(total, (result(op),), {(0,): 1.0, (1,): 1.0}):
                continue
            for user in users(total):
                end = user.opview
                if user.operation.name == ElementwiseOp.OPERATION_NAME and (
                        end.fn == "reciprocal" or (end.fn == "div" and splat(operand(end)) == 1 and operand(end, 1) == total)):
                    return _finish(end, "sigmoid", x)
    return False


def _clamped(op: ElementwiseOp) -> tuple[ir.Value, float] | None:
    """(y, c) such that the op is min(max(y, 0), c), in either order."""
    if op.fn not in ("min", "relu"):
        return None
    if op.fn == "relu":
        inner = producer(operand(op), ElementwiseOp, fn="min")
        c = None if inner is None else splat(operands(inner)[1])
        return None if inner is None or c is None else (operand(inner), c)
    inner, c = producer(operand(op), ElementwiseOp, fn="relu"), splat(operand(op, 1))
    return None if inner is None or c is None else (operand(inner), c)


def clamp(op: ElementwiseOp) -> bool:
    """Hard swish: x * min(max(x + 3, 0), 6) / 6. Hard sigmoid: without the x in front."""
    found = _clamped(op)
    if found is None or found[1] != 6:
        return False
    for x in candidates(found[0], 1)[1:]:
        if not is_polynomial(found[0], (x,), {(1,): 1.0, (0,): 3.0}):
            continue
        if _finish(_end(result(op), x, {(1, 1): _SIXTH}), "hard_swish", x):
            return True
        return _finish(_end(result(op), x, {(0, 1): _SIXTH}), "hard_sigmoid", x, (_SIXTH, 0.5))
    return False


def hard_sigmoid(op: ElementwiseOp) -> bool:
    """Hard swish: x * hard_sigmoid(x; 1/6, 1/2)."""
    alpha, beta = op.params
    x = operand(op)
    if type_of(x).dtype.bits < 16 or not close(alpha, _SIXTH, x) or not close(beta, 0.5, x):
        return False
    return _finish(_end(result(op), x, _PRODUCT), "hard_swish", x)


ANCHORS = {"erf": erf, "tanh": tanh, "sigmoid": sigmoid, "exp": exp, "min": clamp, "relu": clamp, "hard_sigmoid": hard_sigmoid}
