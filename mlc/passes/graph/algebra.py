"""What a value is as a polynomial, or as a product of powers, of other values: one answer for all the ways to write a formula down."""

from collections.abc import Sequence
from math import isclose, sqrt

from mlc.dialects.graph import CastOp, ElementwiseOp
from mlc.ir.mlir import ir
from mlc.passes.graph.rewrite import defining, operand, operands, producer, splat, type_of

Exponents = tuple[int, ...]
Polynomial = dict[Exponents, float]
MAX_DEGREE = 4
_ELEMENTWISE = ElementwiseOp.OPERATION_NAME


def close(found: float, expected: float, value: ir.Value) -> bool:
    """Whether a constant is `expected`, as exporters round it: five digits written out, or the precision of its narrow type."""
    bits = type_of(value).dtype.bits
    return isclose(found, expected, rel_tol=2e-5 if bits >= 32 else 5e-3)


def polynomial(value: ir.Value, leaves: Sequence[ir.Value]) -> Polynomial | None:
    """`value` as {exponents of the leaves: coefficient}; None if it depends on anything else."""
    if value in leaves:
        return {tuple(int(value == leaf) for leaf in leaves): 1.0}
    c = splat(value)
    if c is not None:
        return {(0,) * len(leaves): float(c)}
    operation = defining(value)
    if operation is None or operation.name != _ELEMENTWISE:
        return None
    op = operation.opview
    fn = op.fn
    if fn not in ("add", "sub", "mul", "div", "neg", "power", "pow"):
        return None
    terms = [polynomial(v, leaves) for v in operands(op)]
    if any(t is None for t in terms):
        return None
    a, b = terms[0], terms[-1]
    assert a is not None and b is not None
    match fn:
        case "add" | "sub":
            sign = 1.0 if fn == "add" else -1.0
            return {e: a.get(e, 0.0) + sign * b.get(e, 0.0) for e in {**a, **b}}
        case "mul":
            return _times(a, b)
        case "neg":
            return {e: -c for e, c in a.items()}
        case "div":
            divisor = _constant(b)
            return None if not divisor else {e: c / divisor for e, c in a.items()}
    exponent = op.params[0] if fn == "power" else _constant(b)
    if exponent not in (1, 2, 3):
        return None
    result: Polynomial | None = a
    for _ in range(int(exponent) - 1):
        result = None if result is None else _times(result, a)
    return result


def _times(a: Polynomial, b: Polynomial) -> Polynomial | None:
    found: Polynomial = {}
    for ea, ca in a.items():
        for eb, cb in b.items():
            e = tuple(x + y for x, y in zip(ea, eb, strict=True))
            if sum(e) > MAX_DEGREE:
                return None
            found[e] = found.get(e, 0.0) + ca * cb
    return found


def _constant(p: Polynomial) -> float | None:
    return next(iter(p.values())) if len(p) == 1 and not any(next(iter(p))) else None


def is_polynomial(value: ir.Value, leaves: Sequence[ir.Value], expected: Polynomial) -> bool:
    """Whether `value` is that polynomial, but for rounding of its constants."""
    found = polynomial(value, leaves)
    if found is None:
        return False
    found = {e: c for e, c in found.items() if c != 0}
    return found.keys() == expected.keys() and all(close(found[e], c, value) for e, c in expected.items())


def candidates(value: ir.Value, depth: int) -> list[ir.Value]:
    """Values that `value` may be a polynomial of: those reached through arithmetic, nearest first."""
    found: list[ir.Value] = []
    level = [value]
    for _ in range(depth + 1):
        below: list[ir.Value] = []
        for v in level:
            if v in found or splat(v) is not None:
                continue
            found.append(v)
            operation = defining(v)
            if operation is not None and operation.name == _ELEMENTWISE:
                below += operation.operands
        level = below
    return found


def scaled(value: ir.Value) -> tuple[float, ir.Value]:
    """(c, x) such that `value` is c*x: constant factors, signs and divisors taken off, and casts to wider floats."""
    c = 1.0
    while True:
        if (inner := widened(value)) is not None:
            value = inner
            continue
        op = producer(value, ElementwiseOp)
        if op is None or op.fn not in ("mul", "div", "neg"):
            return c, value
        a, b = operand(op), operands(op)[-1]
        if op.fn == "neg":
            c, value = -c, a
            continue
        factor = splat(b)
        if factor is None and op.fn == "mul":
            a, factor = b, splat(a)
        if factor is None or a.type.rank != value.type.rank or not factor:
            return c, value
        c, value = (c * factor if op.fn == "mul" else c / factor), a


def widened(value: ir.Value) -> ir.Value | None:
    """x, if `value` is x cast to a wider float."""
    op = producer(value, CastOp)
    if op is None:
        return None
    a, b = type_of(operand(op)).dtype, type_of(value).dtype
    return operand(op) if a.is_float and b.is_float and a.bits < b.bits else None


Powers = dict[ir.Value, float]


def product(value: ir.Value, stop: Sequence[ir.Value] = (), limit: int = 8) -> tuple[float, Powers]:
    """`value` as c times powers of values. Roots and values in `stop` are not taken apart, nor anything beyond `limit` factors."""
    c, powers = 1.0, Powers()
    todo: list[tuple[ir.Value, float]] = [(value, 1.0)]
    while todo:
        v, power = todo.pop()
        factor = None if v in stop else splat(v)
        if factor is not None and factor > 0:
            c *= float(factor) ** power
            continue
        op = None if v in stop or limit <= 0 else producer(v, ElementwiseOp)
        fn = "" if op is None else op.fn
        limit -= 1
        if fn == "mul":
            todo += [(x, power) for x in operands(op)]
        elif fn == "div":
            todo += [(operand(op), power), (operand(op, 1), -power)]
        elif fn == "reciprocal":
            todo.append((operand(op), -power))
        elif (root := _root(op)) is not None:
            base = operand(op)
            powers[base] = powers.get(base, 0) + power * root
        elif fn == "power" and op.params[0] in (2, 3):
            todo.append((operand(op), power * op.params[0]))
        else:
            powers[v] = powers.get(v, 0) + power
    return c, {v: p for v, p in powers.items() if p}


def _root(op: ElementwiseOp | None) -> float | None:
    """The exponent of a square root, also of one written as a power; its base is not taken apart, since sqrt(x*x) is not x."""
    if op is None:
        return None
    match op.fn:
        case "sqrt":
            return 0.5
        case "rsqrt":
            return -0.5
        case "pow":
            exponent = splat(operand(op, 1))
            return exponent if exponent in (0.5, -0.5) else None
    return None


HALF_ROOT = sqrt(0.5)
