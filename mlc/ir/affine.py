"""Affine maps <-> `Linear` expressions."""

from collections.abc import Sequence

from mlc.ir.mlir import ir
from mlc.layout.linear import Linear


def to_linear(expr: ir.AffineExpr, dims: int) -> Linear | None:
    """The expression over `dims` dimensions, or None if it is not linear (mod, floordiv)."""
    if isinstance(expr, ir.AffineConstantExpr):
        return Linear.constant(expr.value, dims)
    if isinstance(expr, ir.AffineDimExpr):
        return Linear.variable(expr.position, dims)
    if isinstance(expr, ir.AffineAddExpr):
        a, b = to_linear(expr.lhs, dims), to_linear(expr.rhs, dims)
        return None if a is None or b is None else a + b
    if isinstance(expr, ir.AffineMulExpr):
        a, b = to_linear(expr.lhs, dims), to_linear(expr.rhs, dims)
        if a is None or b is None:
            return None
        if b.is_constant:
            return a * b.const
        return b * a.const if a.is_constant else None
    return None


def map_to_linear(affine_map: ir.AffineMap) -> list[Linear] | None:
    """All results of a map, or None if one is not linear."""
    results = [to_linear(e, affine_map.n_dims) for e in affine_map.results]
    linear = [r for r in results if r is not None]
    return linear if len(linear) == len(results) else None


def from_linear(indices: Sequence[Linear], dims: int) -> ir.AffineMap:
    """A map of `dims` dimensions with the given results."""
    exprs = []
    for e in indices:
        expr = ir.AffineExpr.get_constant(e.const)
        for i, c in enumerate(e.coefficients):
            if c:
                expr = ir.AffineExpr.get_add(expr, ir.AffineExpr.get_mul(ir.AffineExpr.get_dim(i), c))
        exprs.append(expr)
    return ir.AffineMap.get(dims, 0, exprs)
