"""dequantized-products: a product of dequantised numbers becomes one of their codes, scaled afterwards, where a matrix unit takes codes.

With a = sa (qa - za) and b = sb (qb - zb), and scales that are the same along the depth, sum(a b) = sa sb sum((qa - za) (qb - zb)).
Integers of 8 bits: the inner sum is exact in i32, for as long as the depth cannot overflow it; integer-products then takes the zero points
out. float8: zero points must be 0, and the unit sums in f32; numbers that are only cast from float8 have no scale. The encoding must be one
that the target multiplies (gfx942 has the FNUZ types, gfx1201 those of OCP). Everything else is widened, as the model says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from mlc.dialects._ext import operations
from mlc.dialects._locations import node_names
from mlc.dialects.graph import (
    CastOp,
    ConvOp,
    DequantizeOp,
    ElementwiseOp,
    MatmulOp,
    cast,
    conv,
    elementwise,
    matmul,
    pad,
    reshape,
    transpose,
)
from mlc.dialects.graph.movement import PadOp, TransposeOp
from mlc.dtypes import F16, F32, I8, I32, U8
from mlc.ir.mlir import ir
from mlc.layout.fragments import ATOMS
from mlc.passes.gpu.unit import float8_atom
from mlc.passes.graph.permute import attributes
from mlc.passes.graph.rewrite import defining, operand, operands, producer, rank, result, run_rules, shape, size, splat, type_of
from mlc.passes.registry import Pass, PassContext
from mlc.target import Target

_DEEPEST = ((1 << 31) - 1) // (255 * 255)  # sums of so many products of centred codes fit i32


@dataclass(frozen=True)
class DequantizedProducts(Pass):
    """Multiplies 8-bit codes instead of the numbers that they stand for. For targets with matrix units for those."""

    name: ClassVar[str] = "dequantized-products"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        target = ctx.need_target()
        if any(ATOMS[name].element == "i8" for name in target.atoms):
            rules = {MatmulOp.OPERATION_NAME: [lambda op: _matmul(op, target)], ConvOp.OPERATION_NAME: [lambda op: _conv(op, target)]}
            run_rules(module, lambda _: rules)


def widened_products(module: ir.Module, target: Target) -> list[str]:
    """Notes on the products of float8 that no atom of a GPU takes, after the pass: each names nodes, types and target."""
    if not target.warp:
        return []
    found: dict[str, dict[str, None]] = {}
    for op in operations(module.operation):
        if op.name in (MatmulOp.OPERATION_NAME, ConvOp.OPERATION_NAME):
            if narrow := sorted({kind for v in op.operands if (kind := _float8(v)) is not None}):
                found.setdefault(" and ".join(narrow), {}).update(dict.fromkeys(node_names(op.location)))
    where = f"{target.kind}:{target.arch}"
    return [f"{', '.join(nodes)}: products of {types} are computed in wider types on {where} (none of its atoms takes them)"
            for types, nodes in found.items()]


def _float8(value: ir.Value) -> str | None:
    """The float8 type that a factor was widened from, if it was."""
    operation = defining(value)
    if operation is None:
        return None
    if operation.name in (DequantizeOp.OPERATION_NAME, CastOp.OPERATION_NAME):
        dtype = type_of(operation.operands[0]).dtype
        return dtype.name if dtype.is_float8 and not type_of(value).dtype.is_float8 else None
    if operation.name in (TransposeOp.OPERATION_NAME, PadOp.OPERATION_NAME) or producer(value, ElementwiseOp, fn="mul") is not None:
        return next((kind for v in operation.operands if (kind := _float8(v)) is not None), None)
    return None


@dataclass(frozen=True)
class _Scaled:
    """A factor: exact numbers (centred codes as i32, or float8), and what they are multiplied by: f32, one number or of their rank."""

    exact: ir.Value
    scale: ir.Value | None

    def varies_along(self, *axes: int) -> bool:
        return self.scale is not None and size(self.scale) != 1 and any(shape(self.scale)[d] != 1 for d in axes)

    def transposed(self, perm: Sequence[int]) -> "_Scaled":
        one = self.scale is None or size(self.scale) == 1
        return _Scaled(transpose(self.exact, perm=list(perm)), self.scale if one else transpose(self.scale, perm=list(perm)))

    def times(self, scale: ir.Value) -> "_Scaled":
        """scale: broadcasts to the numbers."""
        own = cast(scale, F32)
        own = reshape(own, shape=[] if size(own) == 1 else [*[1] * (rank(self.exact) - rank(own)), *shape(own)])
        return _Scaled(self.exact, own if self.scale is None else elementwise("mul", self.scale, own))


def _matmul(op: Any, target: Target) -> ir.Value | None:
    sides = [_scaled(v) for v in operands(op)]
    a, b = (s.transposed([*range(rank(s.exact) - 2), rank(s.exact) - 1, rank(s.exact) - 2]) if s is not None and turned else s
            for s, turned in zip(sides, (op.py("transpose_a"), op.py("transpose_b"))))
    if a is None or b is None or a.varies_along(-1) or b.varies_along(-2) or not _has_unit(a, b, shape(a.exact)[-1], target):
        return None
    return _times(matmul(a.exact, b.exact), [a.scale, b.scale], result(op))


def _conv(op: Any, target: Target) -> ir.Value | None:
    x, w = (_scaled(v) for v in operands(op))
    if x is None or w is None or type_of(x.exact).dtype.is_float:
        return None
    order, last = rank(x.exact), op.py("layout") == "nhwc"
    maps, channels = (order - 1, order - 2) if last else (0, 1)
    depth = [d for d in range(order) if d != maps]
    if x.varies_along(*range(order)) or w.varies_along(*depth) or shape(w.exact)[channels] == 1:
        return None
    if not _has_unit(x, w, prod(shape(w.exact)[d] for d in depth), target):
        return None
    scale = w.scale
    if scale is not None and size(scale) != 1:  # beside the result's channels
        scale = reshape(scale, shape=[size(scale)] if last else [size(scale), *[1] * (order - 2)])
    return _times(conv(x.exact, w.exact, **attributes(op)), [x.scale, scale], result(op))


def _has_unit(a: _Scaled, b: _Scaled, depth: int, target: Target) -> bool:
    kinds = [type_of(s.exact).dtype for s in (a, b)]
    if kinds == [I32, I32]:
        return depth <= _DEEPEST and any(ATOMS[name].input == "i8" for name in target.atoms)
    return all(k.is_float8 for k in kinds) and float8_atom({k.name for k in kinds}, target) is not None


def _times(total: ir.Value, scales: Sequence[ir.Value | None], old: ir.Value) -> ir.Value:
    """The total times the scales, of the old result's type."""
    known = sorted((s for s in scales if s is not None), key=size)
    total = cast(total, F32)
    if len(known) == 2 and size(known[0]) == 1:
        known = [elementwise("mul", *known)]
    for scale in known:
        total = elementwise("mul", total, scale)
    return cast(total, type_of(old).dtype)


def _scaled(value: ir.Value) -> _Scaled | None:
    """A factor of f32 or f16 that is codes times scales, padded by 0 and with dimensions in another order."""
    if type_of(value).dtype not in (F16, F32):
        return None
    if (turned := producer(value, TransposeOp)) is not None:
        inner = _scaled(operand(turned))
        return None if inner is None else inner.transposed(turned.py("perm"))
    if (around := producer(value, PadOp, mode="constant", value=0.0)) is not None and len(operands(around)) == 1:
        inner = _scaled(operand(around))
        if inner is None or inner.varies_along(*range(rank(inner.exact))):
            return None
        return _Scaled(pad(inner.exact, low=around.py("low"), high=around.py("high")), inner.scale)
    if (times := producer(value, ElementwiseOp, fn="mul")) is not None:
        for numbers, scale in (operands(times), operands(times)[::-1]):
            if shape(numbers) == shape(value) and (inner := _scaled(numbers)) is not None:
                return inner.times(scale)
        return None
    if (codes := producer(value, DequantizeOp)) is not None:
        return _dequantized(codes)
    wide = producer(value, CastOp)
    return _Scaled(operand(wide), None) if wide is not None and type_of(operand(wide)).dtype.is_float8 else None


def _dequantized(op: Any) -> _Scaled | None:
    x, scale, zero = operands(op)
    dtype, zeros = type_of(x).dtype, splat(zero) == 0
    if op.py("block") or (not zeros and (dtype.is_float8 or type_of(zero).dtype != dtype)) or not (dtype.is_float8 or dtype in (I8, U8)):
        return None

    def along(v: ir.Value) -> ir.Value:
        """One number, or one for each index of the axis."""
        return reshape(v, shape=[] if size(v) == 1 else [size(v) if d == op.py("axis") else 1 for d in range(rank(x))])

    exact = x if dtype.is_float8 else cast(x, I32)
    if not zeros:
        exact = elementwise("sub", exact, cast(along(zero), I32))
    return _Scaled(exact, None).times(along(scale))


__all__ = ["DequantizedProducts", "widened_products"]
