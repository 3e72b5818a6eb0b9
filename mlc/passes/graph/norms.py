"""Layer norm, RMS norm and softmax written out in reductions and arithmetic, and the casts to f32 around them."""

from typing import Any

from mlc.dialects.graph import CastOp, ElementwiseOp, LayerNormOp, ReduceOp, RmsNormOp, SoftmaxOp, layer_norm, rms_norm, softmax
from mlc.dialects.graph._base import create
from mlc.dialects.graph.movement import transpose
from mlc.ir.mlir import ir
from mlc.passes.graph.algebra import product, widened
from mlc.passes.graph.permute import attributes
from mlc.passes.graph.rewrite import defining, operand, operands, producer, rank, result, single_use, splat, type_of
from mlc.passes.graph.views import inverse


def _mean_plus_eps(value: ir.Value) -> tuple[ReduceOp, float] | None:
    """(mean, eps) of mean + eps."""
    total = producer(value, ElementwiseOp, fn="add")
    if total is None:
        return None
    for mean, eps in (operands(total), reversed(operands(total))):
        found, constant = producer(mean, ReduceOp, kind="mean", keepdims=True), splat(eps)
        if found is not None and constant is not None and constant >= 0:
            return found, float(constant)
    return None


def _square_of(value: ir.Value) -> ir.Value | None:
    """x, if `value` is its square."""
    op = producer(value, ElementwiseOp)
    if op is None:
        return None
    if op.fn == "mul" and operand(op) == operand(op, 1):
        return operand(op)
    if op.fn == "power" and op.params[0] == 2:
        return operand(op)
    return operand(op) if op.fn == "pow" and splat(operand(op, 1)) == 2 else None


def _centred(value: ir.Value, axes: list[int]) -> ir.Value | None:
    """x, if `value` is x - mean(x)."""
    op = producer(value, ElementwiseOp, fn="sub")
    if op is None:
        return None
    x, mean = operands(op)
    found = producer(mean, ReduceOp, kind="mean", keepdims=True, axes=axes)
    return x if found is not None and operand(found) == x else None


def norm(op: ElementwiseOp) -> ir.Value | None:
    """RMS norm of d: d / sqrt(mean(d^2) + eps). Where d is x - mean(x) that is the layer norm of x."""
    if op.fn not in ("mul", "div"):
        return None
    _, powers = product(result(op))
    for root in [v for v, power in powers.items() if power < 0]:  # several, where x is a norm itself
        found = _mean_plus_eps(root)
        d = None if found is None else _square_of(operand(found[0]))
        if found is None or d is None or d.type != result(op).type or product(result(op), (d,)) != (1.0, {d: 1.0, root: -0.5}):
            continue
        mean, eps = found
        x = _centred(d, mean.axes)
        return _along(rms_norm if x is None else layer_norm, d if x is None else x, mean.axes, eps)
    return None


def _along(build: Any, x: ir.Value, axes: list[int], eps: float) -> ir.Value | None:
    """The norm over `axes`; channels in the middle (of images) go last for it, which costs nothing in a channels-last network."""
    order = rank(x)
    if axes == list(range(order - len(axes), order)):
        return build(x, axis=order - len(axes), eps=eps)
    if axes != [1] or order < 3:
        return None
    last = [0, *range(2, order), 1]
    return transpose(build(transpose(x, perm=last), axis=order - 1, eps=eps), perm=list(inverse(last)))


def written_softmax(op: ElementwiseOp) -> ir.Value | None:
    """exp(x - max(x)) / sum(exp(x - max(x)))."""
    if op.fn not in ("mul", "div"):
        return None
    c, powers = product(result(op), limit=4)
    if c != 1.0 or sorted(powers.values()) != [-1.0, 1.0]:
        return None
    total, power = sorted(powers, key=lambda v: powers[v])
    sum_ = producer(total, ReduceOp, kind="sum", keepdims=True)
    exp = producer(power, ElementwiseOp, fn="exp")
    if sum_ is None or exp is None or operand(sum_) != power or len(sum_.axes) != 1:
        return None
    shifted = producer(operand(exp), ElementwiseOp, fn="sub")
    if shifted is None:
        return None
    x, peak = operands(shifted)
    found = producer(peak, ReduceOp, kind="max", keepdims=True, axes=sum_.axes)
    return softmax(x, axis=sum_.axes[0]) if found is not None and operand(found) == x else None


def narrow(op: CastOp) -> ir.Value | None:
    """f16(norm(f32(x))) is norm(x): narrow floats compute in f32 and round once anyway."""
    inner = defining(operand(op))
    if inner is None or inner.name not in (LayerNormOp.OPERATION_NAME, RmsNormOp.OPERATION_NAME, SoftmaxOp.OPERATION_NAME):
        return None
    x = widened(inner.operands[0])
    if x is None or x.type != result(op).type or not single_use(operand(op)) or type_of(operand(op)).dtype.name != "f32":
        return None
    return create(type(inner.opview), [x], **attributes(inner.opview))[0]
