"""integer-products: a product of centred 8-bit codes becomes one of signed 8-bit codes, which matrix units take, and corrections.

With codes a, b and their zero points za, zb, sum((a - za)(b - zb)) = sum(a b) - za sum(b) - zb sum(a) + depth za zb, in i32 that wraps.
Unsigned codes become signed ones by 128 less, and so do their zero points. Sums of weights are made at compile time.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mlc.dialects.graph import CastOp, ElementwiseOp, MatmulOp, cast, constant, elementwise, matmul, reduce
from mlc.dtypes import I8, I32, U8
from mlc.ir.mlir import ir
from mlc.layout.fragments import ATOMS
from mlc.passes.graph.rewrite import operand, operands, producer, rank, run_rules, shape, size, type_of
from mlc.passes.registry import Pass, PassContext


@dataclass(frozen=True)
class IntegerProducts(Pass):
    """Takes zero points out of matmuls of 8-bit codes. For targets with matrix units for those."""

    name: ClassVar[str] = "integer-products"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        if any(ATOMS[name].input == "i8" for name in ctx.need_target().atoms):
            run_rules(module, lambda _: {MatmulOp.OPERATION_NAME: [_split]})


@dataclass(frozen=True)
class _Codes:
    """A factor as 8-bit codes and the i32 number that stands for zero, if not 0. axis: the depth's, from the end."""

    codes: ir.Value
    zero: ir.Value | None
    axis: int

    def wide(self) -> ir.Value:
        return cast(self.codes, I32)

    def sums(self) -> ir.Value:
        """Of the codes along the depth, which stays as a dimension of 1."""
        return reduce(self.wide(), kind="sum", axes=[rank(self.codes) + self.axis], keepdims=True)

    def signed(self) -> "_Codes":
        """The same numbers as signed codes."""
        if type_of(self.codes).dtype == I8:
            return self
        offset = constant(np.array(128, np.int32))
        zero = constant(np.array(-128, np.int32)) if self.zero is None else elementwise("sub", self.zero, offset)
        return _Codes(cast(elementwise("sub", self.wide(), offset), I8), zero, self.axis)


def _split(op: Any) -> ir.Value | None:
    a, b = _codes(operand(op, 0), -1), _codes(operand(op, 1), -2)
    if op.py("transpose_a") or op.py("transpose_b") or a is None or b is None:
        return None
    if all(side.zero is None and type_of(side.codes).dtype == I8 for side in (a, b)):
        return None  # nothing to take out
    a, b = a.signed(), b.signed()
    total = matmul(a.wide(), b.wide())
    for one, other in ((a, b), (b, a)):
        if one.zero is not None:
            total = elementwise("sub", total, elementwise("mul", one.zero, other.sums()))
    if a.zero is not None and b.zero is not None:
        depth = constant(np.array(shape(a.codes)[-1], np.int32))
        total = elementwise("add", total, elementwise("mul", elementwise("mul", a.zero, b.zero), depth))
    return total


def _codes(value: ir.Value, axis: int) -> _Codes | None:
    """A factor that is codes as i32, perhaps less a zero point that is the same along the depth."""
    zero = None
    if (less := producer(value, ElementwiseOp, fn="sub")) is not None:
        centred, (value, zero) = value, operands(less)
        along_depth = size(zero) != 1 and rank(zero) >= -axis and shape(zero)[axis] != 1
        if along_depth or shape(value) != shape(centred):
            return None
    wide = producer(value, CastOp)
    if wide is None or type_of(value).dtype != I32 or type_of(operand(wide)).dtype not in (I8, U8):
        return None
    return _Codes(operand(wide), zero, axis)
