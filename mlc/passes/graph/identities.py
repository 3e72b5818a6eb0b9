"""Ops that do nothing, or nothing that a smaller op does not do: neutral elements, empty movements, casts there and back."""

from math import frexp, isfinite, prod
from typing import Any

import numpy as np

from mlc.dialects.graph import CastOp, ElementwiseOp, constant, elementwise
from mlc.dialects.graph._base import create
from mlc.dialects.graph.elementwise import broadcast as broadcast_shapes
from mlc.dialects.graph.movement import (
    BroadcastOp,
    ConcatOp,
    GatherOp,
    PadOp,
    ReshapeOp,
    SliceOp,
    TransposeOp,
    concat,
    pad,
    reshape,
    slice,
    transpose,
)
from mlc.dialects.graph.reduce import ReduceOp
from mlc.dtypes import BY_NAME, DType
from mlc.ir.mlir import ir
from mlc.passes.graph.permute import attributes
from mlc.passes.graph.rewrite import Rule, array, beside, operand, operands, producer, result, shape, splat, type_of

# fn -> the neutral element of its second operand; and of its first, where it commutes.
_NEUTRAL: dict[str, float | bool] = {"add": 0, "sub": 0, "mul": 1, "div": 1, "pow": 1, "and": True, "or": False}
_COMMUTES = ("add", "mul", "and", "or")
_INVOLUTIONS = ("neg", "not")
_IDEMPOTENT = ("relu", "abs", "floor", "ceil")


def _same(op: Any, value: ir.Value) -> ir.Value | None:
    """`value` in place of the op, if it has its type."""
    return value if value.type == result(op).type else None


def neutral(op: ElementwiseOp) -> ir.Value | None:
    """Neutral elements: x + 0, x * 1, x and true."""
    unit = _NEUTRAL[op.fn]
    a, b = operands(op)
    if splat(b) == unit:
        return _same(op, a)
    return _same(op, b) if op.fn in _COMMUTES and splat(a) == unit else None


def unary_twice(op: ElementwiseOp) -> ir.Value | None:
    """neg(neg(x)) is x, relu(relu(x)) is relu(x)."""
    fn = op.fn
    if fn in _INVOLUTIONS and (inner := producer(operand(op), ElementwiseOp, fn=fn)) is not None:
        return operand(inner)
    return operand(op) if fn in _IDEMPOTENT and producer(operand(op), ElementwiseOp, fn=fn) is not None else None


def max_zero(op: ElementwiseOp) -> ir.Value | None:
    """max(x, 0) is relu."""
    if not type_of(result(op)).dtype.is_float:
        return None
    a, b = operands(op)
    x = a if splat(b) == 0 else b if splat(a) == 0 else None
    return elementwise("relu", x) if x is not None and x.type == result(op).type else None


def small_power(op: ElementwiseOp) -> ir.Value | None:
    """pow(x, 2) and pow(x, 3) are products."""
    if result(op).type != operand(op).type or not type_of(result(op)).dtype.is_float:
        return None
    exponent, x = splat(operand(op, 1)), operand(op)
    if exponent not in (2, 3):
        return None
    square = elementwise("mul", x, x)
    return square if exponent == 2 else elementwise("mul", square, x)


def divide_by_power_of_two(op: ElementwiseOp) -> ir.Value | None:
    """Exactly: x / 2^n is x * 2^-n."""
    c = splat(operand(op, 1))
    dtype = type_of(result(op)).dtype
    if not dtype.is_float or dtype.bits < 16:
        return None
    # Within 2^±14 the inverse is a normal number in every float type.
    if c is None or c == 1 or not isfinite(c) or abs(frexp(c)[0]) != 0.5 or not 2.0**-14 < abs(c) < 2.0**14:
        return None
    return elementwise("mul", operand(op), constant(np.full(shape(operand(op, 1)), 1 / c, dtype.numpy)))


def where_constant(op: ElementwiseOp) -> ir.Value | None:
    """where(true, a, b) is a; where(c, a, a) is a."""
    condition, a, b = operands(op)
    if a == b:
        return _same(op, a)
    known = splat(condition)
    return None if known is None else _same(op, a if known else b)


def drop_broadcast(op: ElementwiseOp) -> ir.Value | None:
    """Operands broadcast by themselves."""
    values = operands(op)
    for i, value in enumerate(values):
        inner = producer(value, BroadcastOp)
        if inner is None:
            continue
        changed = [*values[:i], operand(inner), *values[i + 1:]]
        if broadcast_shapes([shape(v) for v in changed]) == shape(result(op)):
            return elementwise(op.fn, *changed, params=op.params)
    return None


def lossless(a: DType, b: DType) -> bool:
    """Every value of `a` is a value of `b`."""
    if a == b or a.kind == "b":
        return True
    if a.is_float:
        # Of the 16-bit floats and below only those widen for certain; bf16 and f16 do not hold each other.
        return b.is_float and ((b.bits >= 32 and a.bits < b.bits) or (b.name in ("f16", "bf16") and a.name in ("f8E5M2", "f8E4M3FN")))
    if b.is_float:
        return a.bits <= {16: 8, 32: 24, 64: 53}.get(b.bits, 0) and a.bits < b.bits
    return a.bits < b.bits and (a.kind == b.kind or a.kind == "u") and b.is_integer


def cast_chain(op: CastOp) -> ir.Value | None:
    """A cast to the same type, and a cast of a cast that lost nothing."""
    x, to = operand(op), BY_NAME[str(op.to)]
    if type_of(x).dtype == to:
        return x
    inner = producer(x, CastOp)
    if inner is None:
        return None
    source = operand(inner)
    if not lossless(type_of(source).dtype, type_of(x).dtype):
        return None
    return source if type_of(source).dtype == to else create(CastOp, [source], **attributes(op))[0]


def no_broadcast(op: BroadcastOp) -> ir.Value | None:
    x = operand(op)
    if x.type == result(op).type:
        return x
    return reshape(x, shape=list(shape(result(op)))) if prod(shape(x)) == prod(shape(result(op))) else None


def no_pad(op: PadOp) -> ir.Value | None:
    return operand(op) if not any(op.low) and not any(op.high) else None


def pad_twice(op: PadOp) -> ir.Value | None:
    """Two pads with one constant that add elements are one."""
    inner = producer(operand(op), PadOp, mode="constant", value=op.value)
    if inner is None or op.mode != "constant" or len(operands(op)) + len(operands(inner)) > 2:
        return None
    if min([*op.low, *op.high, *inner.low, *inner.high]) < 0:
        return None
    low, high = (np.add(inner.py(side), op.py(side)).tolist() for side in ("low", "high"))
    return pad(operand(inner), low=low, high=high, value=op.value)


def whole_slice(op: SliceOp) -> ir.Value | None:
    x = operand(op)
    return x if x.type == result(op).type and all(d == 1 or s == 1 for d, s in zip(op.sizes, op.steps, strict=True)) else None


def slice_twice(op: SliceOp) -> ir.Value | None:
    inner = producer(operand(op), SliceOp)
    if inner is None:
        return None
    starts = [a + s * b for a, s, b in zip(inner.starts, inner.steps, op.starts, strict=True)]
    return slice(operand(inner), starts=starts, sizes=op.sizes, steps=[a * b for a, b in zip(inner.steps, op.steps, strict=True)])


def slice_of_concat(op: SliceOp) -> ir.Value | None:
    """A slice that lies within one operand of a concat."""
    inner = producer(operand(op), ConcatOp)
    if inner is None or 0 in op.sizes:
        return None
    axis, at = inner.axis, 0
    first = op.starts[axis]
    last = first + (op.sizes[axis] - 1) * op.steps[axis]
    for part in operands(inner):
        extent = shape(part)[axis]
        if at <= min(first, last) and max(first, last) < at + extent:
            starts = [*op.starts]
            starts[axis] -= at
            return slice(part, starts=starts, sizes=op.sizes, steps=op.steps)
        at += extent
    return None


def slice_of_transpose(op: SliceOp) -> ir.Value | None:
    """Cut first, move less."""
    inner = producer(operand(op), TransposeOp)
    if inner is None or beside(op, operand(op)) is None:
        return None
    perm, places = inner.perm, range(len(inner.perm))
    starts, sizes, steps = ([values[perm.index(d)] for d in places] for values in (op.starts, op.sizes, op.steps))
    return transpose(slice(operand(inner), starts=starts, sizes=sizes, steps=steps), perm=perm)


def slice_of_reshape(op: SliceOp) -> ir.Value | None:
    """slice(reshape(x)) is reshape(slice(x)) where every cut dimension is the outer part of one of x (split heads, stacked q, k, v), or has
    one of x as its outer part and is cut between its elements (shuffled channels)."""
    inner = producer(operand(op), ReshapeOp)
    if inner is None or beside(op, operand(op)) is None:
        return None
    x = operand(inner)
    full, old = shape(operand(op)), shape(x)
    starts, sizes = [0] * len(old), list(old)
    for d, (start, count, step) in enumerate(zip(op.starts, op.sizes, op.steps, strict=True)):
        if count == full[d] and (step == 1 or count == 1):
            continue
        place = _outer_place(old, full, d)
        if place is None or (step != 1 and count > 1):
            return None
        if old[place] % full[d] == 0:
            stride = old[place] // full[d]
            starts[place], sizes[place] = start * stride, count * stride
            continue
        inner = full[d] // old[place]
        if full[d] % old[place] or start % inner or count % inner:
            return None
        starts[place], sizes[place] = start // inner, count // inner
    return reshape(slice(x, starts=starts, sizes=sizes, steps=[1] * len(old)), shape=list(shape(result(op))))


def _outer_place(old: tuple[int, ...], new: tuple[int, ...], d: int) -> int | None:
    """The dimension of `old` that begins where dimension `d` of `new` does, if there is one."""
    before, seen = prod(new[:d]), 1
    for place, extent in enumerate(old):
        if seen == before and extent != 1:
            return place
        seen *= extent
    return None


def concat_of_one(op: ConcatOp) -> ir.Value | None:
    parts = operands(op)
    kept = [p for p in parts if shape(p)[op.axis] != 0] or parts[:1]
    if len(kept) == 1:
        return kept[0]
    return concat(*kept, axis=op.axis) if len(kept) < len(parts) else None


def gather_constant(op: GatherOp) -> ir.Value | None:
    """Picking one position is a slice."""
    index = array(operand(op, 1))
    if index is None or index.size != 1:
        return None
    x, axis = operand(op), op.axis
    full = list(shape(x))
    at = int(index.reshape(-1)[0])
    at = at + full[axis] if at < 0 else at
    if not 0 <= at < full[axis]:
        return None
    picked = slice(x, starts=[at if d == axis else 0 for d in range(len(full))], sizes=[1 if d == axis else n for d, n in enumerate(full)],
                   steps=[1] * len(full))
    return reshape(picked, shape=list(shape(result(op))))


def reduce_nothing(op: ReduceOp) -> ir.Value | None:
    """A reduction over dimensions of 1."""
    x = operand(op)
    if op.kind not in ("sum", "mean", "max", "min", "prod") or any(shape(x)[a] != 1 for a in op.axes):
        return None
    return reshape(x, shape=list(shape(result(op))))


_BY_FUNCTION: dict[str, list[Rule]] = {
    **{fn: [neutral] for fn in ("add", "sub", "mul", "and", "or")},
    **{fn: [unary_twice] for fn in (*_INVOLUTIONS, *_IDEMPOTENT)},
    "div": [neutral, divide_by_power_of_two],
    "pow": [neutral, small_power],
    "max": [max_zero],
    "where": [where_constant],
}


def by_function(op: ElementwiseOp) -> ir.Value | None:
    """The rules of the op's function."""
    for rule in _BY_FUNCTION.get(op.fn, ()):
        if (found := rule(op)) is not None:
            return found
    return None


RULES: dict[str, list[Rule]] = {
    ElementwiseOp.OPERATION_NAME: [by_function, drop_broadcast],
    CastOp.OPERATION_NAME: [cast_chain],
    BroadcastOp.OPERATION_NAME: [no_broadcast],
    PadOp.OPERATION_NAME: [no_pad, pad_twice],
    SliceOp.OPERATION_NAME: [whole_slice, slice_twice, slice_of_concat, slice_of_transpose, slice_of_reshape],
    ConcatOp.OPERATION_NAME: [concat_of_one],
    GatherOp.OPERATION_NAME: [gather_constant],
    ReduceOp.OPERATION_NAME: [reduce_nothing],
}
