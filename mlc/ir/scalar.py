"""Scalars while a kernel body is built: arithmetic that knows signed from unsigned, floats from codes.

A `Scalar` holds a value of a *compute* type: f32, f64, the 8..64-bit integers (signed or not) and bool. Narrow floats and sub-byte
integers exist only in memory: `codecs.decode` widens them on load (to f32, i8, ui8), `codecs.encode` rounds or wraps on store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from mlc.dtypes import BOOL, F32, F64, I8, I32, I64, U8, U32, U64, DType
from mlc.ir.mlir import arith, ir, math

Operand = Union["Scalar", int, float, bool]


def compute_dtype(dtype: DType) -> DType:
    """The type in which values of `dtype` are computed: narrow floats in f32, sub-byte integers in 8 bits."""
    if dtype.is_float:
        return F64 if dtype.bits == 64 else F32
    if dtype.is_integer and dtype.bits < 8:
        return I8 if dtype.kind == "i" else U8
    return dtype


def mlir_type(dtype: DType) -> ir.Type:
    """The signless MLIR type of a compute value: bool is i1."""
    if dtype.kind == "f":
        return ir.Type.parse(dtype.name)
    return ir.IntegerType.get_signless(dtype.bits)


def extreme(name: str, a: ir.Value, b: ir.Value) -> ir.Value:
    """arith.maximumf or minimumf: NaN wins. Which zero of two with different signs is left open, as ONNX does: to order them takes
    x86 and AMD's GPUs more instructions."""
    signs = ir.Attribute.parse("#arith.fastmath<nsz>")
    return ir.Operation.create(f"arith.{name}", results=[a.type], operands=[a, b], attributes={"fastmath": signs}).results[0]


def constant(value: bool | int | float, dtype: DType) -> Scalar:
    """A constant of a compute dtype; integers wrap."""
    type_ = mlir_type(dtype)
    if dtype.is_float:
        return Scalar(arith.ConstantOp(type_, ir.FloatAttr.get(type_, float(value))).result, dtype)
    bits = int(value) & ((1 << dtype.bits) - 1)
    if dtype.kind != "b" and bits >> (dtype.bits - 1):
        bits -= 1 << dtype.bits
    if dtype.kind == "b":
        return Scalar(arith.ConstantOp(type_, ir.IntegerAttr.get(type_, -1 if value else 0)).result, dtype)
    return Scalar(arith.ConstantOp(type_, ir.IntegerAttr.get(type_, bits)).result, dtype)


@dataclass(frozen=True, eq=False)
class Scalar:
    """One SSA value with its compute DType; operators emit arith/math ops at the current insertion point."""

    value: ir.Value
    dtype: DType

    # -- arithmetic -------------------------------------------------------------------------------------------------
    def _with(self, other: Operand) -> Scalar:
        if isinstance(other, Scalar):
            if other.dtype != self.dtype:
                raise TypeError(f"scalar operands differ: {self.dtype} and {other.dtype}; convert one with .to()")
            return other
        return constant(other, self.dtype)

    def _make(self, value: ir.Value, dtype: DType | None = None) -> Scalar:
        return Scalar(value, dtype or self.dtype)

    def __add__(self, other: Operand) -> Scalar:
        o = self._with(other)
        return self._make(arith.AddFOp(self.value, o.value).result if self.dtype.is_float else arith.AddIOp(self.value, o.value).result)

    def __sub__(self, other: Operand) -> Scalar:
        o = self._with(other)
        return self._make(arith.SubFOp(self.value, o.value).result if self.dtype.is_float else arith.SubIOp(self.value, o.value).result)

    def __mul__(self, other: Operand) -> Scalar:
        o = self._with(other)
        return self._make(arith.MulFOp(self.value, o.value).result if self.dtype.is_float else arith.MulIOp(self.value, o.value).result)

    def __radd__(self, other: Operand) -> Scalar:
        return self._with(other) + self

    def __rsub__(self, other: Operand) -> Scalar:
        return self._with(other) - self

    def __rmul__(self, other: Operand) -> Scalar:
        return self._with(other) * self

    def __neg__(self) -> Scalar:
        return self._make(arith.NegFOp(self.value).result) if self.dtype.is_float else constant(0, self.dtype) - self

    def __truediv__(self, other: Operand) -> Scalar:
        """Float division, or integer division towards zero; x / 0 = 0 and MIN / -1 wraps for integers (hardware would trap)."""
        o = self._with(other)
        if self.dtype.is_float:
            return self._make(arith.DivFOp(self.value, o.value).result)
        return self._guarded_division(o, quotient=True)

    def over(self, other: Operand) -> Scalar:
        """Float division to about 2 ulp: GPUs multiply by an approximate reciprocal. The divisor is not subnormal."""
        return self._make(arith.DivFOp(self.value, self._with(other).value, fastmath=arith.FastMathFlags.arcp).result)

    def __rtruediv__(self, other: Operand) -> Scalar:
        return self._with(other) / self

    def rem(self, other: Operand) -> Scalar:
        """Remainder with the sign of the dividend (C's %, fmod); integer x rem 0 = 0."""
        o = self._with(other)
        if self.dtype.is_float:
            return self._make(arith.RemFOp(self.value, o.value).result)
        return self._guarded_division(o, quotient=False)

    def _guarded_division(self, o: Scalar, *, quotient: bool) -> Scalar:
        zero, one = constant(0, self.dtype), constant(1, self.dtype)
        is_zero = o.eq(zero)
        if self.dtype.kind == "u":
            safe = select(is_zero, one, o)
            make = arith.DivUIOp if quotient else arith.RemUIOp
            return select(is_zero, zero, self._make(make(self.value, safe.value).result))
        minus = o.eq(constant(-1, self.dtype))
        safe = select(is_zero | minus, one, o)
        make = arith.DivSIOp if quotient else arith.RemSIOp
        result = self._make(make(self.value, safe.value).result)
        result = select(minus, zero - self if quotient else zero, result)
        return select(is_zero, zero, result)

    def min(self, other: Operand) -> Scalar:
        """Minimum; NaN wins among floats."""
        o = self._with(other)
        if self.dtype.is_float:
            return self._make(extreme("minimumf", self.value, o.value))
        return self._make({"i": arith.MinSIOp, "u": arith.MinUIOp, "b": arith.AndIOp}[self.dtype.kind](self.value, o.value).result)

    def max(self, other: Operand) -> Scalar:
        """Maximum; NaN wins among floats."""
        o = self._with(other)
        if self.dtype.is_float:
            return self._make(extreme("maximumf", self.value, o.value))
        return self._make({"i": arith.MaxSIOp, "u": arith.MaxUIOp, "b": arith.OrIOp}[self.dtype.kind](self.value, o.value).result)

    # -- comparisons (give BOOL) ------------------------------------------------------------------------------------
    def _compare(self, other: Operand, float_predicate: arith.CmpFPredicate, name: str) -> Scalar:
        o = self._with(other)
        if self.dtype.is_float:
            return Scalar(arith.CmpFOp(float_predicate, self.value, o.value).result, BOOL)
        prefix = "" if name in ("eq", "ne") else ("s" if self.dtype.kind == "i" else "u")
        return Scalar(arith.CmpIOp(arith.CmpIPredicate[prefix + name], self.value, o.value).result, BOOL)

    def eq(self, other: Operand) -> Scalar:
        return self._compare(other, arith.CmpFPredicate.OEQ, "eq")

    def ne(self, other: Operand) -> Scalar:
        return self._compare(other, arith.CmpFPredicate.UNE, "ne")

    def __lt__(self, other: Operand) -> Scalar:
        return self._compare(other, arith.CmpFPredicate.OLT, "lt")

    def __le__(self, other: Operand) -> Scalar:
        return self._compare(other, arith.CmpFPredicate.OLE, "le")

    def __gt__(self, other: Operand) -> Scalar:
        return self._compare(other, arith.CmpFPredicate.OGT, "gt")

    def __ge__(self, other: Operand) -> Scalar:
        return self._compare(other, arith.CmpFPredicate.OGE, "ge")

    def is_nan(self) -> Scalar:
        return Scalar(arith.CmpFOp(arith.CmpFPredicate.UNO, self.value, self.value).result, BOOL)

    # -- bits -------------------------------------------------------------------------------------------------------
    def __and__(self, other: Operand) -> Scalar:
        return self._make(arith.AndIOp(self.value, self._with(other).value).result)

    def __or__(self, other: Operand) -> Scalar:
        return self._make(arith.OrIOp(self.value, self._with(other).value).result)

    def __xor__(self, other: Operand) -> Scalar:
        return self._make(arith.XOrIOp(self.value, self._with(other).value).result)

    def __invert__(self) -> Scalar:
        return self ^ (True if self.dtype.kind == "b" else -1)

    def shl(self, other: Operand) -> Scalar:
        """Left shift; the amount must be below the width."""
        return self._make(arith.ShLIOp(self.value, self._with(other).value).result)

    def shr(self, other: Operand) -> Scalar:
        """Right shift: arithmetic for signed, logical for unsigned; the amount must be below the width."""
        make = arith.ShRSIOp if self.dtype.kind == "i" else arith.ShRUIOp
        return self._make(make(self.value, self._with(other).value).result)

    def bitcast(self, dtype: DType) -> Scalar:
        """The same bits as a compute dtype of equal width."""
        if mlir_type(dtype) == self.value.type:
            return Scalar(self.value, dtype)
        return Scalar(arith.BitcastOp(mlir_type(dtype), self.value).result, dtype)

    # -- conversion -------------------------------------------------------------------------------------------------
    def to(self, dtype: DType) -> Scalar:
        """Value conversion between compute dtypes: floats truncate towards zero, integers wrap, bool is x != 0."""
        source, type_ = self.dtype, mlir_type(dtype)
        if source == dtype:
            return self
        if dtype.kind == "b":
            return self.ne(0)
        if source.kind == "b":
            if dtype.is_float:
                return Scalar(arith.UIToFPOp(type_, self.value).result, dtype)
            return Scalar(arith.ExtUIOp(type_, self.value).result, dtype)
        if source.is_float and dtype.is_float:
            make = arith.ExtFOp if dtype.bits > source.bits else arith.TruncFOp
            return Scalar(make(type_, self.value).result, dtype)
        if source.is_float:
            if dtype.kind == "u" and dtype.bits == 64:
                return Scalar(arith.FPToUIOp(type_, self.value).result, dtype)
            if dtype.kind == "i" and dtype.bits >= 32:
                return Scalar(arith.FPToSIOp(type_, self.value).result, dtype)
            wide = I64 if dtype.bits == 32 else I32  # wraps, as C and numpy do on x86; i32 where it will do: it vectorises everywhere
            return Scalar(arith.FPToSIOp(mlir_type(wide), self.value).result, wide).to(dtype)
        if dtype.is_float:
            make = arith.SIToFPOp if source.kind == "i" else arith.UIToFPOp
            return Scalar(make(type_, self.value).result, dtype)
        if dtype.bits < source.bits:
            return Scalar(arith.TruncIOp(type_, self.value).result, dtype)
        if dtype.bits == source.bits:
            return Scalar(self.value, dtype)
        make = arith.ExtSIOp if source.kind == "i" else arith.ExtUIOp
        return Scalar(make(type_, self.value).result, dtype)

    def as_index(self) -> ir.Value:
        """The value as an `index` (integers only)."""
        value = self.to(I64).value
        return arith.IndexCastOp(ir.IndexType.get(), value).result

    # -- functions --------------------------------------------------------------------------------------------------
    def math(self, name: str) -> Scalar:
        """A unary function of the math dialect on a float, by op name without prefix: exp, log, sqrt, rsqrt, tanh, erf, sin, floor, ..."""
        return self._make(getattr(math, name)(self.value))

    def pow(self, other: Operand) -> Scalar:
        """C's pow on floats. Integers wrap; a negative exponent gives what is left of 1/x: 1 for 1, 1 or -1 for -1, else 0."""
        o = self._with(other)
        if self.dtype.is_float:
            return self._make(math.powf(self.value, o.value))
        one, result, square = constant(1, self.dtype), constant(1, self.dtype), self
        for bit in range(self.dtype.bits):
            result = select((o.shr(bit) & 1).ne(0), result * square, result)
            square = square * square
        if self.dtype.kind == "u":
            return result
        return select((o < 0) & self.ne(one) & self.ne(-1), constant(0, self.dtype), result)

    def copysign(self, other: Operand) -> Scalar:
        """The float's magnitude with the sign of `other`."""
        kind = U32 if self.dtype.bits == 32 else U64  # not math.copysign: upstream's conversion to libm refuses it
        sign = 1 << (self.dtype.bits - 1)
        return ((self.bitcast(kind) & (sign - 1)) | (self._with(other).bitcast(kind) & sign)).bitcast(self.dtype)

    def abs(self) -> Scalar:
        if self.dtype.is_float:
            return self._make(math.absf(self.value))
        if self.dtype.kind == "u":
            return self
        return select(self < 0, -self, self)


def select(condition: Scalar, yes: Scalar, no: Scalar) -> Scalar:
    """`yes` where the BOOL condition holds, else `no`; both of one dtype."""
    if yes.dtype != no.dtype:
        raise TypeError(f"select arms differ: {yes.dtype} and {no.dtype}")
    return Scalar(arith.SelectOp(condition.value, yes.value, no.value).result, yes.dtype)
