"""merge-products: matmuls of one value with several weights become one with the weights side by side, and slices of its result.

One kernel then fills a GPU that three would each leave half empty (the query, key and value projections of attention). Biases that follow
each product are joined in the same way. On CPUs separate products are as good, and stay.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from mlc.dialects.graph import ElementwiseOp, MatmulOp, elementwise
from mlc.dialects.graph.contraction import matmul
from mlc.dialects.graph.movement import concat, reshape
from mlc.dialects.graph.movement import slice as slice_of
from mlc.ir.mlir import ir
from mlc.passes.graph.rewrite import Known, operand, operands, rank, replace, result, run_rules, shape, single_use, size, users
from mlc.passes.registry import Pass, PassContext


@dataclass(frozen=True)
class MergeProducts(Pass):
    """Joins matmuls that share their left operand. For targets with threads."""

    name: ClassVar[str] = "merge-products"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        if ctx.need_target().warp:
            run_rules(module, lambda known: {MatmulOp.OPERATION_NAME: [lambda op: _merge(op, known)]})


def _merge(op: Any, known: Known) -> ir.Value | None:
    if not _plain(op, known):
        return None
    block, x = op.operation.block, operand(op)
    siblings = [u for u in dict.fromkeys(users(x)) if u.operation.block == block and u.operation.name == MatmulOp.OPERATION_NAME
                and operand(u) == x and _plain(u, known)]
    order = {o.operation: i for i, o in enumerate(block.operations)}
    siblings.sort(key=lambda u: order[u.operation])
    if len(siblings) < 2 or siblings[0].operation != op.operation:
        return None
    biases = [b for b in (_bias(s, known) for s in siblings) if b is not None]
    with_bias = len(biases) == len(siblings)
    outs = [result(add) for add, _ in biases] if with_bias else [result(s) for s in siblings]
    for s in siblings:
        _before(operand(s, 1), op.operation, known)
    for _, bias in biases if with_bias else []:
        _before(bias, op.operation, known)
    weights = [operand(s, 1) for s in siblings]
    whole = matmul(x, concat(*weights, axis=1))
    if with_bias:
        whole = elementwise("add", whole, concat(*[reshape(bias, shape=[size(bias)]) for _, bias in biases], axis=0))
    start, last = 0, rank(whole) - 1
    parts = []
    for w in weights:
        width = shape(w)[1]
        sizes = [*shape(whole)[:-1], width]
        parts.append(slice_of(whole, starts=[*[0] * last, start], sizes=sizes, steps=[1] * rank(whole)))
        start += width
    for old, part in zip(outs, parts):
        if old != result(op):
            replace(old, part)
    return parts[0]


def _plain(op: Any, known: Known) -> bool:
    """A product of a computed value with a weight matrix, neither transposed."""
    x, w = operands(op)
    return rank(w) == 2 and known(w) and not known(x) and not op.py("transpose_a") and not op.py("transpose_b")


def _bias(op: Any, known: Known) -> tuple[Any, ir.Value] | None:
    """The addition of a known vector that alone reads the product, and the vector."""
    value = result(op)
    if not single_use(value):
        return None
    add = users(value)[0]
    if add.operation.name != ElementwiseOp.OPERATION_NAME or add.py("fn") != "add" or add.operation.block != op.operation.block:
        return None
    others = [v for v in operands(add) if v != value]
    if len(others) != 1 or not known(others[0]) or shape(result(add)) != shape(value):
        return None
    bias = shape(others[0])
    return (add, others[0]) if bias and bias[-1] == shape(value)[-1] == size(others[0]) else None


def _before(value: ir.Value, place: ir.Operation, known: Known) -> None:
    """Moves what makes a known value in front of `place`, if it stands behind it in the same block."""
    operation = value.owner
    if isinstance(operation, ir.Block) or operation.operation.block != place.block:
        return
    order = {o.operation: i for i, o in enumerate(place.block.operations)}
    if order[operation.operation] < order[place]:
        return
    for v in operation.operation.operands:
        _before(v, place, known)
    operation.operation.move_before(place)


