"""integer-products: a product of centred 8-bit codes becomes one of signed 8-bit codes, which matrix units take, and corrections.

With codes a, b and their zero points za, zb, sum((a - za)(b - zb)) = sum(a b) - za (sum(b) - depth zb) - zb sum(a), in i32 that wraps.
Unsigned codes become signed ones by 128 less, and so do their zero points. Zeros around a convolution's input, which stand for 0, are codes
of za first: then all its windows are whole, and the formula is the same everywhere. Sums of weights are made at compile time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np

from mlc.dialects.graph import (
    CastOp,
    ConvOp,
    ElementwiseOp,
    MatmulOp,
    TensorType,
    broadcast,
    cast,
    constant,
    conv,
    elementwise,
    matmul,
    pad,
    reduce,
    reshape,
    transpose,
)
from mlc.dialects.graph.movement import PadOp, TransposeOp
from mlc.dtypes import I8, I32, U8, DType
from mlc.ir.mlir import ir
from mlc.layout.fragments import ATOMS
from mlc.passes.graph.permute import attributes
from mlc.passes.graph.rewrite import array, operand, operands, producer, rank, run_rules, shape, size, type_of
from mlc.passes.registry import Pass, PassContext

_Sums = Callable[[], ir.Value]


@dataclass(frozen=True)
class IntegerProducts(Pass):
    """Takes zero points out of matmuls and convolutions of 8-bit codes. For targets with matrix units for those."""

    name: ClassVar[str] = "integer-products"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        if any(ATOMS[name].input == "i8" for name in ctx.need_target().atoms):
            run_rules(module, lambda _: {MatmulOp.OPERATION_NAME: [_matmul], ConvOp.OPERATION_NAME: [_conv]})


@dataclass(frozen=True)
class _Codes:
    """A factor as 8-bit codes, and what stands for zero: None if 0, else i32, one number or of the codes' rank."""

    codes: ir.Value
    zero: ir.Value | None

    def varies_along(self, *axes: int) -> bool:
        return self.zero is not None and size(self.zero) != 1 and any(shape(self.zero)[d] != 1 for d in axes)

    def wide(self) -> ir.Value:
        return cast(self.codes, I32)

    def sums(self, axes: Sequence[int], keep: bool) -> ir.Value:
        return reduce(self.wide(), kind="sum", axes=[d % rank(self.codes) for d in axes], keepdims=keep)

    def signed(self) -> "_Codes":
        """The same numbers as signed codes."""
        if type_of(self.codes).dtype == I8:
            return self
        offset = constant(np.array(128, np.int32))
        zero = constant(np.array(0, np.int32)) if self.zero is None else self.zero
        known = array(zero)
        less = elementwise("sub", zero, offset) if known is None else constant(known - np.int32(128))
        return _Codes(cast(elementwise("sub", self.wide(), offset), I8), None if known is not None and (known == 128).all() else less)

    def transposed(self, perm: Sequence[int]) -> "_Codes":
        zero = self.zero if self.zero is None or size(self.zero) == 1 else transpose(self.zero, perm=list(perm))
        return _Codes(transpose(self.codes, perm=list(perm)), zero)

    def padded(self, low: Sequence[int], high: Sequence[int]) -> "_Codes | None":
        """With codes of zero around; None where no code is known to be zero."""
        fill = _code(self.zero, type_of(self.codes).dtype)
        return None if fill is None else _Codes(pad(self.codes, fill, low=list(low), high=list(high)), self.zero)


def _is_done(op: Any, *factors: _Codes) -> bool:
    """Whether its factors are what a matrix unit takes: signed codes, without zero points, that are widened last of all."""
    return all(f.zero is None and type_of(f.codes).dtype == I8 and producer(v, CastOp) is not None for f, v in zip(factors, operands(op)))


def _matmul(op: Any) -> ir.Value | None:
    a, b = _codes(operand(op, 0)), _codes(operand(op, 1))
    if op.py("transpose_a") or op.py("transpose_b") or a is None or b is None or _is_done(op, a, b):
        return None
    if a.varies_along(-1) or b.varies_along(-2):
        return None
    a, b = a.signed(), b.signed()
    total, depth = matmul(a.wide(), b.wide()), shape(a.codes)[-1]
    return _corrected(total, a.zero, b.zero, lambda: a.sums([-1], True), lambda: b.sums([-2], True), depth)


def _conv(op: Any) -> ir.Value | None:
    x, w = _codes(operand(op, 0)), _codes(operand(op, 1))
    if x is None or w is None or _is_done(op, x, w):
        return None
    last, groups, order = op.py("layout") == "nhwc", op.py("groups"), rank(x.codes)
    maps, channels = (order - 1, order - 2) if last else (0, 1)
    depth = [d for d in range(order) if d != maps]
    if x.varies_along(*range(order)) or w.varies_along(*depth) or shape(w.codes)[channels] == 1:
        return None  # one channel for each map: no matrix unit takes it
    count, per_group = shape(w.codes)[maps], shape(w.codes)[maps] // groups
    x, w = x.signed(), w.signed()

    def windows() -> ir.Value:
        """Sums of the codes in each window: a convolution by ones, with one map per group."""
        ones = [groups if d == maps else n for d, n in enumerate(shape(w.codes))]
        total = conv(x.wide(), broadcast(constant(np.array(1, np.int32)), shape=ones), **attributes(op))
        if groups == 1:
            return total
        own = list(shape(total))
        at = order - 1 if last else 1
        apart = reshape(total, shape=[*own[:at + 1], 1, *own[at + 1:]])
        spread = broadcast(apart, shape=[*own[:at + 1], per_group, *own[at + 1:]])
        return reshape(spread, shape=[*own[:at], count, *own[at + 1:]])

    def per_map(v: ir.Value) -> ir.Value:
        """One number for each map, beside the result's channels."""
        return _shaped(v, [count] if last else [count, *[1] * (order - 2)])

    zero = w.zero if w.zero is None or size(w.zero) == 1 else per_map(w.zero)
    total = conv(x.wide(), w.wide(), **attributes(op))
    return _corrected(total, x.zero, zero, windows, lambda: per_map(w.sums(depth, False)), prod(shape(w.codes)[d] for d in depth))


def _corrected(total: ir.Value, zero_a: ir.Value | None, zero_b: ir.Value | None, sums_a: _Sums, sums_b: _Sums, depth: int) -> ir.Value:
    """A product of codes as that of the numbers they stand for."""
    if zero_a is not None:
        beside = sums_b()
        if zero_b is not None:
            beside = elementwise("sub", beside, elementwise("mul", zero_b, constant(np.array(depth, np.int32))))
        total = elementwise("sub", total, elementwise("mul", zero_a, beside))
    if zero_b is not None:
        total = elementwise("sub", total, elementwise("mul", zero_b, sums_a()))
    return total


def _codes(value: ir.Value) -> _Codes | None:
    """A factor that is codes as i32, perhaps less zero points, padded by 0 and with dimensions in another order."""
    if (turned := producer(value, TransposeOp)) is not None:
        inner = _codes(operand(turned))
        return None if inner is None else inner.transposed(turned.py("perm"))
    if (around := producer(value, PadOp, mode="constant", value=0.0)) is not None:
        inner = _codes(operand(around)) if len(operands(around)) == 1 else None
        return None if inner is None else inner.padded(around.py("low"), around.py("high"))
    if (less := producer(value, ElementwiseOp, fn="sub")) is not None:
        codes, zero = operands(less)
        inner = _codes(codes)
        if inner is None or inner.zero is not None or shape(codes) != shape(value):
            return None
        return _Codes(inner.codes, _shaped(zero, [] if size(zero) == 1 else [*[1] * (rank(value) - rank(zero)), *shape(zero)]))
    wide = producer(value, CastOp)
    if wide is None or type_of(value).dtype != I32 or type_of(operand(wide)).dtype not in (I8, U8):
        return None
    return _Codes(operand(wide), None)


def _shaped(value: ir.Value, wanted: Sequence[int]) -> ir.Value:
    return value if list(shape(value)) == list(wanted) else reshape(value, shape=list(wanted))


def _code(zero: ir.Value | None, dtype: DType) -> ir.Value | None:
    """One zero point as a code; None if there are several, or it may be none."""
    if zero is None:
        return constant(np.zeros((), dtype.numpy))
    if (known := array(zero)) is not None and known.size == 1:
        code = known.reshape(()).astype(dtype.numpy)
        return constant(code) if code == known else None
    wide = producer(zero, CastOp)
    return operand(wide) if wide is not None and type_of(operand(wide)) == TensorType((), dtype) else None
