"""Ops that work on permuted operands: `permuted(op, perm, values)` builds the op over the dimensions that `perm` came from.

Operand dimension d is source dimension perm[d]. The built op gives a source-ordered result; the second value says how to permute it back.
"""

from collections.abc import Callable, Sequence
from typing import Any

from mlc.dialects.graph import CastOp, ElementwiseOp
from mlc.dialects.graph._base import create
from mlc.dialects.graph.movement import BroadcastOp, ConcatOp, PadOp, SliceOp, reshape, transpose
from mlc.dialects.graph.normalize import LayerNormOp, RmsNormOp
from mlc.dialects.graph.pool import PoolOp
from mlc.dialects.graph.reduce import ReduceOp, SoftmaxOp
from mlc.ir.mlir import ir
from mlc.passes.graph.rewrite import operands, rank, result, shape, size
from mlc.passes.graph.views import inverse

Perm = tuple[int, ...]
Attributes = dict[str, Any]
# An op class -> (op, perm) -> its attributes over source dimensions and the permutation of its result; None if it cannot.
Rewriter = Callable[[Any, Perm], "tuple[Attributes, Perm] | None"]


def _same(op: Any, perm: Perm) -> tuple[Attributes, Perm]:
    return attributes(op), perm


def _axis(op: Any, perm: Perm) -> tuple[Attributes, Perm]:
    return {**attributes(op), "axis": perm[op.axis]}, perm


def _per_dimension(*names: str) -> Rewriter:
    def rewrite(op: Any, perm: Perm) -> tuple[Attributes, Perm]:
        back = inverse(perm)
        return {**attributes(op), **{name: [op.py(name)[d] for d in back] for name in names}}, perm

    return rewrite


def _trailing(op: Any, perm: Perm) -> tuple[Attributes, Perm] | None:
    """Norms run over the last dimensions, in any order of them."""
    last = len(perm) - op.axis
    return (attributes(op), perm) if all(p >= op.axis for p in perm[-last:]) else None


def _broadcast(op: Any, perm: Perm) -> tuple[Attributes, Perm] | None:
    return _per_dimension("shape")(op, perm) if len(op.shape) == len(perm) else None


def _reduce(op: Any, perm: Perm) -> tuple[Attributes, Perm]:
    axes = sorted(perm[a] for a in op.axes)
    moved = {**attributes(op), "axes": axes}
    if op.keepdims:
        return moved, perm
    kept = [p for d, p in enumerate(perm) if d not in op.axes]
    return moved, tuple(sorted(kept).index(p) for p in kept)


def _pool(op: Any, perm: Perm) -> tuple[Attributes, Perm] | None:
    """Windows slide over neighbouring dimensions."""
    windows = perm[op.axis:op.axis + len(op.kernel)]
    return _axis(op, perm) if list(windows) == list(range(windows[0], windows[0] + len(windows))) else None


_REWRITERS: dict[str, Rewriter] = {
    ElementwiseOp.OPERATION_NAME: _same,
    CastOp.OPERATION_NAME: _same,
    SoftmaxOp.OPERATION_NAME: _axis,
    ConcatOp.OPERATION_NAME: _axis,
    LayerNormOp.OPERATION_NAME: _trailing,
    RmsNormOp.OPERATION_NAME: _trailing,
    ReduceOp.OPERATION_NAME: _reduce,
    SliceOp.OPERATION_NAME: _per_dimension("starts", "sizes", "steps"),
    PadOp.OPERATION_NAME: _per_dimension("low", "high"),
    BroadcastOp.OPERATION_NAME: _broadcast,
    PoolOp.OPERATION_NAME: _pool,
}


def attributes(op: Any) -> Attributes:
    """The declared attributes that are present, as Python values."""
    return {name: op.py(name) for name in op.operation.attributes if "." not in name}


def can_permute(op: Any, perm: Perm) -> bool:
    """Whether the op can run on operands in the order that `perm` came from."""
    rewriter = _REWRITERS.get(op.operation.name)
    return rewriter is not None and len(perm) == main_rank(op) and rewriter(op, perm) is not None


def is_permutable(name: str) -> bool:
    return name in _REWRITERS


def main_rank(op: Any) -> int:
    """The rank that permutations of this op's operands have."""
    return rank(result(op)) if op.operation.name == ElementwiseOp.OPERATION_NAME else rank(operands(op)[0])


def permuted(op: Any, perm: Perm, sources: Sequence[ir.Value | None]) -> ir.Value:
    """The op over source dimensions, permuted back. sources: its operands in source order where they exist so; others are brought there."""
    rewritten = _REWRITERS[op.operation.name](op, perm)
    assert rewritten is not None
    changed, back = rewritten
    values = [reorder(v, perm) if s is None else s for v, s in zip(operands(op), sources, strict=True)]
    return transpose(create(type(op), values, **changed)[0], perm=list(back))


def reorder(value: ir.Value, perm: Perm) -> ir.Value:
    """An operand that broadcasts against dimensions in result order, in source order."""
    if size(value) == 1:  # of any rank up to the result's: it broadcasts the same way
        return value
    missing = len(perm) - rank(value)
    if missing:
        value = reshape(value, shape=[1] * missing + list(shape(value)))
    back = inverse(perm)
    moved = [shape(value)[d] for d in back]
    if is_vector(value):
        return reshape(value, shape=moved)
    return transpose(value, perm=list(back))


def is_vector(value: ir.Value) -> bool:
    """At most one dimension is not 1: any permutation of it is a view."""
    return sum(d != 1 for d in shape(value)) <= 1
