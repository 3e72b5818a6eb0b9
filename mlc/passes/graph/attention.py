"""Attention written out, softmax(scale * q k^T + mask) v, in the ways exporters spell it, becomes graph.attention.

Scales may stand on q, on k, on both or on the scores; keys and values may be repeated for grouped heads; the mask may be added under a
reshape that only adds dimensions of 1 (windows); the guard against rows that are all hidden, where(isnan(p), 0, p), is what the op means.
"""

from dataclasses import dataclass
from math import inf, prod

import numpy as np

from mlc.dialects.graph import AttentionOp, CastOp, ElementwiseOp, MatmulOp, SoftmaxOp, constant, elementwise
from mlc.dialects.graph import attention as build
from mlc.dialects.graph._base import create
from mlc.dialects.graph.elementwise import cast
from mlc.dialects.graph.movement import BroadcastOp, ConcatOp, ReshapeOp, SliceOp, TransposeOp, reshape, transpose
from mlc.ir.mlir import ir
from mlc.passes.graph.algebra import scaled
from mlc.passes.graph.movements import build as rebuild
from mlc.passes.graph.movements import chain
from mlc.passes.graph.permute import attributes
from mlc.passes.graph.rewrite import Known, Rule, defining, operand, operands, producer, rank, result, shape, splat, type_of

_THROUGH = (ElementwiseOp, CastOp, ReshapeOp, TransposeOp, BroadcastOp, SliceOp, ConcatOp)  # what an -inf of a mask may come through


@dataclass
class _Scores:
    """scale * q k^T + the sum of masks, per_head a factor for each head."""

    matmul: MatmulOp
    scale: float
    masks: list[ir.Value]
    per_head: ir.Value | None


def _narrowed(value: ir.Value) -> ir.Value:
    """Without casts between floats."""
    while (op := producer(value, CastOp)) is not None and type_of(operand(op)).dtype.is_float and type_of(value).dtype.is_float:
        value = operand(op)
    return value


def _unguarded(value: ir.Value) -> tuple[ir.Value, bool]:
    """(p, true) of where(is_nan(p), 0, p); (value, false) of anything else."""
    op = producer(value, ElementwiseOp, fn="where")
    if op is not None:
        condition, zero, p = operands(op)
        test = producer(condition, ElementwiseOp, fn="is_nan")
        if test is not None and operand(test) == p and splat(zero) == 0:
            return p, True
    return value, False


def _unit_view(op: ReshapeOp) -> bool:
    """A reshape that only adds or drops dimensions of 1."""
    return [d for d in shape(operand(op)) if d != 1] == [d for d in shape(result(op)) if d != 1]


def _realign(mask: ir.Value, seen: tuple[int, ...], inner: tuple[int, ...]) -> ir.Value | None:
    """A mask that broadcasts to `seen`, as one that broadcasts to `inner`, which differs in dimensions of 1 only."""
    full = (1,) * (len(seen) - rank(mask)) + shape(mask)
    kept = [m for m, d in zip(full, seen, strict=True) if d != 1]
    if prod(kept) != prod(full):
        return None
    extents = iter(kept)
    aligned = [1 if d == 1 else next(extents) for d in inner]
    return mask if shape(mask) == tuple(aligned) else reshape(mask, shape=aligned)


def _scores(value: ir.Value) -> _Scores | None:
    """Takes scales, masks and unit reshapes off down to the matmul."""
    scale, per_head = 1.0, None
    masks: list[tuple[ir.Value, float, tuple[int, ...]]] = []  # with the scale applied after adding it, and the shape it was added in
    views: list[tuple[tuple[int, ...], tuple[int, ...], int]] = []  # (outer shape, inner shape, masks seen before)
    while True:
        c, value = scaled(_narrowed(value))
        scale *= c
        op = defining(value)
        if op is None:
            return None
        if op.name == MatmulOp.OPERATION_NAME:
            break
        if op.name == ReshapeOp.OPERATION_NAME and _unit_view(op.opview):
            views.append((shape(value), shape(op.operands[0]), len(masks)))
            value = op.operands[0]
            continue
        split = _split(op, value) if op.name == ElementwiseOp.OPERATION_NAME else None
        if split is None or (split[0] == "mul" and (per_head is not None or masks)):
            return None
        kind, value, other = split
        if kind == "mul":
            per_head = other
        else:
            masks.append((other, scale, shape(value)))
    return _assemble(value, scale, masks, views, per_head)


def _assemble(value: ir.Value, scale: float, masks: list[tuple[ir.Value, float, tuple[int, ...]]],
              views: list[tuple[tuple[int, ...], tuple[int, ...], int]], per_head: ir.Value | None) -> _Scores | None:
    found = []
    for i, (mask, after, _) in enumerate(masks):
        if after != 1.0:
            return None  # (scores + mask) * c: nobody exports that
        for outer, inner, before in views:
            if i < before:
                mask_or_none = _realign(mask, outer, inner)
                if mask_or_none is None:
                    return None
                mask = mask_or_none
        found.append(mask)
    if per_head is not None and views:
        return None
    return _Scores(value.owner.opview, scale, found, per_head)


def _split(op: ir.Operation, value: ir.Value) -> tuple[str, ir.Value, ir.Value] | None:
    """(kind, scores, other): scores + mask, scores * one factor per head, or where(condition, scores, low) as scores + mask."""
    values = list(op.operands)
    fn = op.opview.fn
    if fn in ("add", "mul"):
        a, b = values
        if not _reaches_matmul(a):
            a, b = b, a
        if not _reaches_matmul(a) or a.type != value.type or (fn == "mul" and any(d != 1 for d in shape(b)[-2:])):
            return None
        return fn, a, b
    if fn == "where":
        condition, a, low = values
        c = splat(low)
        if c is None or not c < -1e3 or a.type != value.type or not _reaches_matmul(a):
            return None
        # Scores vanish beside `low`, so adding it hides as replacing does.
        zero = constant(np.zeros(shape(low), type_of(low).dtype.numpy))
        return "add", a, elementwise("where", condition, zero, low)
    return None


def _reaches_matmul(value: ir.Value) -> bool:
    """Whether scales, masks and unit reshapes lead from a product of two computed values to `value`."""
    for _ in range(6):
        _, value = scaled(_narrowed(value))
        op = defining(value)
        if op is None:
            return False
        if op.name == MatmulOp.OPERATION_NAME:
            return True
        if op.name == ReshapeOp.OPERATION_NAME and _unit_view(op.opview):
            value = op.operands[0]
        elif op.name == ElementwiseOp.OPERATION_NAME and op.opview.fn in ("add", "mul"):
            return any(_reaches_matmul(v) for v in op.operands)
        else:
            return False
    return False


def _scaled_view(value: ir.Value) -> tuple[float, ir.Value]:
    """`scaled`, also of what reshapes and transposes show."""
    c, x = scaled(value)
    source, steps = chain(x)
    inner, source = scaled(source)
    return (c, x) if inner == 1.0 else (c * inner, rebuild(source, steps))


def _ungrouped(value: ir.Value) -> tuple[float, ir.Value, int]:
    """(c, x, r) of keys or values [B, G*r, T, D]: c * x, each of whose heads [B, G, T, D] stands r times."""
    c, x = _scaled_view(value)
    outer = producer(x, ReshapeOp)
    if outer is None or rank(x) != 4:
        return c, x, 1
    k, repeated = scaled(operand(outer))
    spread = producer(repeated, BroadcastOp)
    if spread is None or rank(repeated) != 5:
        return c, x, 1
    batch, groups, repeats, length, width = shape(repeated)
    inner = operand(spread)
    if shape(inner) != (batch, groups, 1, length, width) or shape(x) != (batch, groups * repeats, length, width):
        return c, x, 1
    return c * k, reshape(inner, shape=[batch, groups, length, width]), repeats


def shared_heads(op: AttentionOp) -> ir.Value | None:
    """Keys and values that were repeated for the heads of a group: the op reads them so by itself."""
    q, k, v, *mask = operands(op)
    (ck, keys, repeats), (cv, values, value_repeats) = _ungrouped(k), _ungrouped(v)
    if repeats == 1 or repeats != value_repeats or ck != 1.0 or cv != 1.0:
        return None
    return create(AttentionOp, [q, keys, values, *mask], **attributes(op))[0]


def _hides_unseen(value: ir.Value, known: Known, depth: int = 8) -> bool:
    """Whether a mask may be -inf by a condition of the run: only then could it hide a whole row, which the written form turns to NaN."""
    if known(value) or depth == 0:
        return splat(value) == -inf
    operation = defining(value)
    if operation is None or type(operation.opview) not in _THROUGH:
        return False
    return any(_hides_unseen(v, known, depth - 1) or splat(v) == -inf for v in operation.operands)


def _as_bool(mask: ir.Value) -> ir.Value:
    """where(seen, 0, -inf) is the bool mask `seen`."""
    op = producer(mask, ElementwiseOp, fn="where")
    if op is None:
        return mask
    condition, zero, low = operands(op)
    return condition if splat(zero) == 0 and splat(low) == -inf and shape(condition) == shape(mask) else mask


def _lifted(x: ir.Value) -> ir.Value:
    """[B, S, D] as one head [B, 1, S, D]."""
    return x if rank(x) == 4 else reshape(x, shape=[shape(x)[0], 1, *shape(x)[1:]])


def attention(known: Known, max_width: int) -> Rule:
    def rule(op: MatmulOp) -> ir.Value | None:
        p, guarded = _unguarded(_narrowed(operand(op)))
        weights = producer(_narrowed(p), SoftmaxOp, log=False)
        if weights is None or op.transpose_a or weights.axis != rank(result(weights)) - 1 or rank(result(weights)) not in (3, 4):
            return None
        scores = _scores(operand(weights))
        if scores is None or (not guarded and any(_hides_unseen(m, known) for m in scores.masks)):
            return None
        return _build(op, scores, max_width)

    return rule


def _build(op: MatmulOp, scores: _Scores, max_width: int) -> ir.Value | None:
    inner = scores.matmul
    q, k, v = operand(inner), operand(inner, 1), operand(op, 1)
    if inner.transpose_a or not rank(q) == rank(k) == rank(v) == rank(result(inner)):
        return None
    k = k if inner.transpose_b else _swapped(k)
    v = _swapped(v) if op.transpose_b else v
    cq, q = _scaled_view(q)
    (ck, k, repeats), (cv, values, value_repeats) = _ungrouped(k), _ungrouped(v)
    if cv != 1.0 or value_repeats != repeats or shape(values) != shape(v)[:-3] + shape(values)[-3:]:
        if repeats > 1 or value_repeats > 1:
            return None
        values = v
    dtype = type_of(result(op)).dtype
    q, k, values = (_lifted(cast(x, dtype)) for x in (q, k, values))
    if scores.per_head is not None:
        factor = scores.per_head if rank(result(op)) == 4 or rank(scores.per_head) < 3 else _lifted(scores.per_head)
        q = elementwise("mul", q, cast(factor, dtype))
    if max(shape(q)[3], shape(values)[3]) > max_width or shape(q)[0] != shape(k)[0] or shape(values)[:3] != shape(k)[:3]:
        return None
    mask = _mask(scores.masks, rank(result(op)))
    y = build(q, k, values, mask, scale=scores.scale * cq * ck)
    return y if y.type == result(op).type else reshape(y, shape=list(shape(result(op))))


def _mask(masks: list[ir.Value], order: int) -> ir.Value | None:
    if not masks:
        return None
    if len(masks) == 1:
        mask = _as_bool(masks[0])
    else:
        mask = masks[0]
        for other in masks[1:]:
            mask = elementwise("add", mask, other)
    return _lifted(mask) if order == 3 and rank(mask) == 3 else mask


def _swapped(x: ir.Value) -> ir.Value:
    order = rank(x)
    return transpose(x, perm=[*range(order - 2), order - 1, order - 2])

