"""MatMul, Gemm, Einsum: sums of products."""

from collections.abc import Sequence

from mlc.dialects import graph
from mlc.dtypes import F32
from mlc.errors import ModelError
from mlc.frontend.onnx.context import NodeContext
from mlc.frontend.onnx.ops._emit import add, cast, dtype_of, mul, reshape, shape_of
from mlc.frontend.onnx.registry import converter
from mlc.ir.mlir import ir


@converter("MatMul")
def matmul(ctx: NodeContext) -> Sequence[ir.Value]:
    return [matmul_of(ctx.ir(0), ctx.ir(1))]


def matmul_of(a: ir.Value, b: ir.Value, *, transpose_a: bool = False, transpose_b: bool = False) -> ir.Value:
    """numpy.matmul: an operand of rank 1 is a row on the left, a column on the right."""
    left, right = shape_of(a), shape_of(b)
    if not left or not right:
        raise ModelError(f"cannot multiply {list(left)} by {list(right)}: an operand has no dimensions")
    if len(left) > 1 and len(right) > 1:
        return graph.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)
    y = graph.matmul(reshape(a, (1, *left)) if len(left) == 1 else a, reshape(b, (*right, 1)) if len(right) == 1 else b,
                     transpose_a=transpose_a and len(left) > 1, transpose_b=transpose_b and len(right) > 1)
    shape = list(shape_of(y))
    if len(right) == 1:
        del shape[-1]
    if len(left) == 1:
        del shape[-1 if len(right) == 1 else -2]
    return reshape(y, shape)


@converter("Gemm")
def gemm(ctx: NodeContext) -> Sequence[ir.Value]:
    a, b, c = ctx.ir(0), ctx.ir(1), ctx.maybe_ir(2)
    alpha, beta = ctx.attr("alpha", 1.0), ctx.attr("beta", 1.0)
    ctx.ignore("broadcast")  # before opset 7 it allowed what is always allowed since
    if len(shape_of(a)) != 2 or len(shape_of(b)) != 2:
        raise ModelError(f"A and B must be matrices, got {list(shape_of(a))} and {list(shape_of(b))}", node=ctx.label)
    y = graph.matmul(a, b, transpose_a=bool(ctx.attr("transA", 0)), transpose_b=bool(ctx.attr("transB", 0)))
    y = _scaled(y, alpha)
    if c is None or beta == 0:
        return [y]
    c = _scaled(c, beta)
    if len(shape_of(c)) > 2:
        raise ModelError(f"C has shape {list(shape_of(c))}, which does not broadcast to {list(shape_of(y))}", node=ctx.label)
    return [add(y, c)]


def _scaled(x: ir.Value, factor: float) -> ir.Value:
    """The product; on integers, by a factor that may be a fraction, computed in floats and truncated."""
    if factor == 1.0:
        return x
    dtype = dtype_of(x)
    if dtype.is_float or float(factor).is_integer():
        return mul(x, factor if dtype.is_float else int(factor))
    return cast(mul(cast(x, F32), factor), dtype)


@converter("FusedMatMul", domain="com.microsoft")
def fused_matmul(ctx: NodeContext) -> Sequence[ir.Value]:
    a, b = ctx.ir(0), ctx.ir(1)
    if ctx.attr("transBatchA", 0) or ctx.attr("transBatchB", 0):
        raise ctx.unsupported("transposed batch dimensions (transBatchA, transBatchB) are not supported")
    y = matmul_of(a, b, transpose_a=bool(ctx.attr("transA", 0)), transpose_b=bool(ctx.attr("transB", 0)))
    return [_scaled(y, ctx.attr("alpha", 1.0))]


@converter("Einsum")
def einsum(ctx: NodeContext) -> Sequence[ir.Value]:
    operands = [ctx.ir(i) for i in range(len(ctx.node.input))]
    try:
        terms, result = parse_equation(ctx.attr("equation"), [len(shape_of(x)) for x in operands])
    except ValueError as error:
        raise ModelError(str(error), node=ctx.label) from error
    return [einsum_of(operands, terms, result)]


def einsum_of(operands: Sequence[ir.Value], terms: Sequence[str], result: str) -> ir.Value:
    """The sum of products, two operands at a time from the left; a letter is summed as soon as no later operand has it."""
    operands, terms = list(operands), list(terms)
    while len(operands) > 2:
        later = set(result).union(*terms[2:])
        kept = "".join(dict.fromkeys(c for c in terms[0] + terms[1] if c in later))
        joined = graph.einsum(f"{terms[0]},{terms[1]}->{kept}", *operands[:2])
        operands, terms = [joined, *operands[2:]], [kept, *terms[2:]]
    if len(operands) == 1 and len(terms[0]) == len(result) == len(set(terms[0])):
        return graph.transpose(operands[0], perm=[terms[0].index(c) for c in result])
    return graph.einsum(f"{','.join(terms)}->{result}", *operands)


def parse_equation(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Terms and result over single letters, with ellipses spelled out and an implicit result made explicit."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    parts = left.split(",")
    if len(parts) != len(ranks):
        raise ValueError(f"equation {equation!r} has {len(parts)} terms for {len(ranks)} operands")
    used = {c for c in left if c.isalpha()}
    spare = [c for c in "ZYXWVUTSRQPONMLKJIHGFEDCBAzyxwvutsrqponmlkjihgfedcba" if c not in used]
    widths = []
    for part, rank in zip(parts, ranks):
        letters = part.replace("...", "", 1)
        if not all(c.isascii() and c.isalpha() for c in letters) or (part == letters and len(letters) != rank) or len(letters) > rank:
            raise ValueError(f"equation {equation!r}: term {part!r} does not fit an operand of rank {rank}")
        widths.append(rank - len(letters) if part != letters else 0)
    # Ellipses align at their last dimension: `spare` letters stand for the dimensions counted from the back.
    batch = "".join(spare[:max(widths, default=0)])
    terms = [part.replace("...", batch[len(batch) - width:]) for part, width in zip(parts, widths)]
    if arrow:
        result = right.replace("...", batch, 1)  # an ellipsis that the result does not repeat is summed
    else:
        result = batch + "".join(sorted(c for c in used if left.count(c) == 1))
    if len(set(result)) != len(result) or not all(c in used or c in batch for c in result):
        raise ValueError(f"equation {equation!r}: its result repeats a letter, or has one that no operand has")
    return terms, result


__all__ = ["einsum_of", "matmul_of", "parse_equation"]
