"""fold-scales: a known factor per channel after a convolution or matmul goes into its weights (that is all a batch norm is).

conv(x, w) * s -> conv(x, w * s), and (conv(x, w) + b) * s + t -> conv(x, w * s) + (b * s + t). The arithmetic on weights stays in the graph
as ordinary ops, to be computed at compile time. Weights of 16 bits would be rounded once more by it, which deep networks amplify: a factor
other than a power of two stays behind, in the f32 that the kernel's last operations compute in.
"""

from dataclasses import dataclass
from math import frexp, prod
from typing import Any, ClassVar

from mlc.dialects.graph import ElementwiseOp, MatmulOp, elementwise
from mlc.dialects.graph._base import create
from mlc.dialects.graph.convolution import ConvOp, ConvTransposeOp
from mlc.dialects.graph.movement import broadcast, reshape
from mlc.ir.mlir import ir
from mlc.passes.graph.permute import attributes
from mlc.passes.graph.rewrite import Known, Rule, beside, operands, producer, result, run_rules, shape, single_use, size, splat, type_of
from mlc.passes.registry import Pass, PassContext

_CONTRACTIONS = (ConvOp.OPERATION_NAME, ConvTransposeOp.OPERATION_NAME, MatmulOp.OPERATION_NAME)


def _contraction(op: Any, value: ir.Value) -> Any:
    """The op beside `op` that makes `value`, if it is a contraction that nobody else reads."""
    operation = beside(op, value)
    return operation.opview if operation is not None and operation.name in _CONTRACTIONS and single_use(value) else None


def _varies_along(scale: ir.Value) -> int | None:
    """The one dimension (counted from the end, negative) along which `scale` varies; 0 if along none; None if along several."""
    varying = [d - len(shape(scale)) for d, n in enumerate(shape(scale)) if n != 1]
    return None if len(varying) > 1 else varying[0] if varying else 0


def _weight_shape(op: Any, axis: int) -> tuple[int, list[int]] | None:
    """Which operand the factor along result dimension `axis` goes to, and the shape in which it multiplies that operand."""
    out, values = shape(result(op)), operands(op)
    if op.operation.name == MatmulOp.OPERATION_NAME:
        if axis == -1:
            return 1, [out[-1], 1] if op.transpose_b else [out[-1]]
        return (0, [out[-2]] if op.transpose_a else [out[-2], 1]) if axis == -2 else None
    channel = 1 if op.layout == "nchw" else len(out) - 1
    if axis + len(out) != channel:
        return None
    kernel = len(out) - 2
    if op.operation.name == ConvOp.OPERATION_NAME:
        return 1, [out[channel], 1, *[1] * kernel] if op.layout == "nchw" else [out[channel]]
    own = shape(values[1])[:2] if op.layout == "nchw" else shape(values[1])[-2:]
    return 1, [*own, *[1] * kernel] if op.layout == "nchw" else [*own]


def _scaled(op: Any, scale: ir.Value, fn: str, known: Known) -> ir.Value | None:
    """The contraction with `scale` in its weights."""
    axis = _varies_along(scale)
    values = operands(op)
    if axis is None:
        return None
    if axis == 0:
        index = 1 if known(values[1]) else 0
        factor = reshape(scale, shape=[]) if shape(scale) else scale
    else:
        place = _weight_shape(op, axis)
        if place is None:
            return None
        index, wanted = place
        factor = _spread(op, scale, wanted)
    if not known(values[index]) or not (type_of(values[index]).dtype.bits >= 32 or _is_power_of_two(scale)):
        return None
    values[index] = elementwise(fn, values[index], factor)
    return create(type(op), values, **attributes(op))[0]


def _is_power_of_two(scale: ir.Value) -> bool:
    factor = splat(scale)
    return factor is not None and abs(frexp(factor)[0]) == 0.5


def _spread(op: Any, scale: ir.Value, wanted: list[int]) -> ir.Value:
    if prod(wanted) == size(scale):
        return reshape(scale, shape=wanted)
    # Transposed convolution: weights are [input channels, maps per group]; a group's maps apply to the group's input channels.
    own, per_group = wanted[:2]
    groups = op.groups
    if groups == 1:
        return reshape(scale, shape=[1, *wanted[1:]])
    apart = reshape(scale, shape=[groups, 1, per_group])
    return reshape(broadcast(apart, shape=[groups, own // groups, per_group]), shape=wanted)


def rules(known: Known) -> dict[str, list[Rule]]:
    def sides(op: ElementwiseOp) -> tuple[ir.Value, ir.Value] | None:
        """(computed, known) operands, in a result that is not broadcast larger than the computed one."""
        a, b = operands(op)
        if known(a) and op.fn in ("mul", "add"):
            a, b = b, a
        return (a, b) if known(b) and not known(a) and a.type == result(op).type and type_of(a).dtype.is_float else None

    def scale(op: ElementwiseOp) -> ir.Value | None:
        """Of contraction * s, or / s."""
        if op.fn not in ("mul", "div") or (found := sides(op)) is None:
            return None
        inner = _contraction(op, found[0])
        return None if inner is None else _scaled(inner, found[1], op.fn, known)

    def scale_biased(op: ElementwiseOp) -> ir.Value | None:
        """Of (contraction + b) * s: contraction * s + b * s."""
        if op.fn not in ("mul", "div") or (found := sides(op)) is None:
            return None
        sum_ = producer(found[0], ElementwiseOp)
        if sum_ is None or sum_.fn not in ("add", "sub") or not single_use(found[0]) or (terms := sides(sum_)) is None:
            return None
        inner = _contraction(op, terms[0])
        if inner is None:
            return None
        scaled = _scaled(inner, found[1], op.fn, known)
        return None if scaled is None else elementwise(sum_.fn, scaled, elementwise(op.fn, terms[1], found[1]))

    def add_biases(op: ElementwiseOp) -> ir.Value | None:
        """Of (contraction + b) + t: contraction + (b + t)."""
        if op.fn != "add" or (found := sides(op)) is None:
            return None
        sum_ = producer(found[0], ElementwiseOp, fn="add")
        if sum_ is None or not single_use(found[0]) or (terms := sides(sum_)) is None or _contraction(op, terms[0]) is None:
            return None
        total = elementwise("add", terms[1], found[1])
        return elementwise("add", terms[0], total) if size(total) == max(size(terms[1]), size(found[1])) else None

    return {ElementwiseOp.OPERATION_NAME: [scale, scale_biased, add_biases]}


@dataclass(frozen=True)
class FoldScales(Pass):
    """Multiplies known per-channel factors into the weights of convolutions and matmuls, and adds up their biases."""

    name: ClassVar[str] = "fold-scales"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        run_rules(module, rules)


__all__ = ["FoldScales", "rules"]
