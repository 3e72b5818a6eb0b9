"""Scalars and vectors alike while a function is expanded: `x * y + 1.0` emits arith and math ops of x's shape at the insertion point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Union

from mlc.ir.mlir import arith, ir, math, scf, vector

Operand = Union["Value", int, float]
_APPROXIMATE, _RECIPROCAL = arith.FastMathFlags.afn, arith.FastMathFlags.arcp
_FLAGGED = {"math.exp2": "afn", "arith.divf": "arcp"}


@dataclass(frozen=True)
class Machine:
    """What the target does in one instruction, in f32. fma: fused multiply-add; without it one is a call per lane.

    exp2: 2^x and 1 / x to about an ulp, without subnormal numbers (GPUs' special functions); `approximate` says which ops mean them.
    """

    fma: bool = True
    exp2: bool = False


@dataclass(frozen=True, eq=False)
class Value:
    """An SSA value of floats, signless integers or i1 (comparisons), scalar or vector. Integer shifts right are arithmetic by default."""

    ssa: ir.Value
    machine: Machine = Machine()

    # -- types --------------------------------------------------------------------------------------------------------
    @property
    def element(self) -> ir.Type:
        type_ = self.ssa.type
        return type_.element_type if isinstance(type_, ir.VectorType) else type_

    @property
    def bits(self) -> int:
        return self.element.width

    @property
    def is_float(self) -> bool:
        return isinstance(self.element, ir.FloatType)

    def _type(self, element: ir.Type) -> ir.Type:
        type_ = self.ssa.type
        return ir.VectorType.get(type_.shape, element) if isinstance(type_, ir.VectorType) else element

    def _wrap(self, ssa: ir.Value) -> Value:
        return Value(ssa, self.machine)

    def constant(self, value: int | float) -> Value:
        """A constant of this value's type; integers wrap."""
        element, type_ = self.element, self.ssa.type
        if self.is_float:
            attr: ir.Attribute = ir.FloatAttr.get(element, float(value))
        else:
            half = 1 << (self.bits - 1)
            attr = ir.IntegerAttr.get(element, (int(value) + half) % (2 * half) - half)
        if isinstance(type_, ir.VectorType):
            attr = ir.DenseElementsAttr.get_splat(type_, attr)
        return self._wrap(arith.ConstantOp(type_, attr).result)

    def _with(self, other: Operand) -> ir.Value:
        return other.ssa if isinstance(other, Value) else self.constant(other).ssa

    # -- arithmetic ---------------------------------------------------------------------------------------------------
    def _binary(self, floats: type, integers: type, other: Operand, swap: bool = False) -> Value:
        operands = (self.ssa, self._with(other))
        return self._wrap((floats if self.is_float else integers)(*(operands[::-1] if swap else operands)).result)

    def __add__(self, other: Operand) -> Value:
        return self._binary(arith.AddFOp, arith.AddIOp, other)

    def __sub__(self, other: Operand) -> Value:
        return self._binary(arith.SubFOp, arith.SubIOp, other)

    def __mul__(self, other: Operand) -> Value:
        return self._binary(arith.MulFOp, arith.MulIOp, other)

    def __truediv__(self, other: Operand) -> Value:
        return self._binary(arith.DivFOp, arith.DivUIOp, other)

    def __radd__(self, other: Operand) -> Value:
        return self + other

    def __rsub__(self, other: Operand) -> Value:
        return self._binary(arith.SubFOp, arith.SubIOp, other, swap=True)

    def __rmul__(self, other: Operand) -> Value:
        return self * other

    def __rtruediv__(self, other: Operand) -> Value:
        return self._binary(arith.DivFOp, arith.DivUIOp, other, swap=True)

    def __neg__(self) -> Value:
        return self._wrap(arith.NegFOp(self.ssa).result)

    def fma(self, factor: Operand, addend: Operand) -> Value:
        """The sum self * factor + addend rounded once; callers rely on that."""
        factor_, addend_ = self._with(factor), self._with(addend)
        if self.machine.fma or self.bits != 32:
            return self._wrap(math.FmaOp(self.ssa, factor_, addend_).result)
        wide = ir.F64Type.get()  # the product is exact there, so that residuals are too; other sums round twice, hardly worse than once
        a, b, c = (self._wrap(v).extend(wide) for v in (self.ssa, factor_, addend_))
        return (a * b + c).narrow(self.element)

    def mad(self, factor: Operand, addend: Operand) -> Value:
        """The sum self * factor + addend, rounded once or twice, whichever is faster."""
        return self.fma(factor, addend) if self.machine.fma else self * factor + addend

    def polynomial(self, coefficients: Sequence[float]) -> Value:
        """c0 + c1 x + c2 x^2 + ... by Horner's rule: fewest operations; independent elements hide its latency."""
        *rest, last = coefficients
        result = self.constant(last)
        for c in reversed(rest):
            result = result.mad(self, c)
        return result

    def split_polynomial(self, coefficients: Sequence[float]) -> Value:
        """The same in even and odd halves, for long polynomials: half the latency for one more multiplication."""
        square = self * self
        return square.polynomial(coefficients[1::2]).mad(self, square.polynomial(coefficients[::2]))

    def sqrt(self) -> Value:
        return self._wrap(math.SqrtOp(self.ssa).result)

    def quick_exp2(self) -> Value:
        """2^self in f32 by the machine's instruction: relative error 2^-22, subnormal results are 0."""
        return self._wrap(math.Exp2Op(self.ssa, fastmath=_APPROXIMATE).result)

    def reciprocal(self) -> Value:
        """1 / self, in f32 to about an ulp where the machine has an instruction for it."""
        if not (self.machine.exp2 and self.bits == 32):
            return 1.0 / self
        return self._wrap(arith.DivFOp(self.constant(1.0).ssa, self.ssa, fastmath=_RECIPROCAL).result)

    def round(self) -> Value:
        """To the nearest integer, ties to even."""
        return self._wrap(math.RoundEvenOp(self.ssa).result)

    # -- comparisons and choice ---------------------------------------------------------------------------------------
    def _compare(self, predicate: str, other: Operand) -> Value:
        if self.is_float:
            name = "UNE" if predicate == "ne" else "O" + predicate.upper()
            return self._wrap(arith.CmpFOp(arith.CmpFPredicate[name], self.ssa, self._with(other)).result)
        name = predicate if predicate in ("eq", "ne") else "s" + predicate
        return self._wrap(arith.CmpIOp(arith.CmpIPredicate[name], self.ssa, self._with(other)).result)

    def __lt__(self, other: Operand) -> Value:
        return self._compare("lt", other)

    def __le__(self, other: Operand) -> Value:
        return self._compare("le", other)

    def __gt__(self, other: Operand) -> Value:
        return self._compare("gt", other)

    def __ge__(self, other: Operand) -> Value:
        return self._compare("ge", other)

    def eq(self, other: Operand) -> Value:
        return self._compare("eq", other)

    def ne(self, other: Operand) -> Value:
        return self._compare("ne", other)

    def choose(self, yes: Value, no: Value | float) -> Value:
        """Of an i1: `yes` where it holds, else `no`."""
        return self._wrap(arith.SelectOp(self.ssa, yes.ssa, yes._with(no)).result)

    def at_most(self, limit: float) -> Value:
        """The smaller one; NaN stays. In this order of operands it is one x86 instruction."""
        bound = self.constant(limit)
        return (bound < self).choose(bound, self)

    def at_least(self, limit: float) -> Value:
        """The larger one; NaN stays."""
        bound = self.constant(limit)
        return (bound > self).choose(bound, self)

    def capped(self, low: float, high: float) -> Value:
        """The nearest value in [low, high]; a NaN becomes one of them, or stays."""
        bounded = arith.MinNumFOp(self.ssa, self.constant(high).ssa).result
        return self._wrap(arith.MaxNumFOp(bounded, self.constant(low).ssa).result)

    # -- bits ---------------------------------------------------------------------------------------------------------
    def __and__(self, other: Operand) -> Value:
        return self._wrap(arith.AndIOp(self.ssa, self._with(other)).result)

    def __or__(self, other: Operand) -> Value:
        return self._wrap(arith.OrIOp(self.ssa, self._with(other)).result)

    def __xor__(self, other: Operand) -> Value:
        return self._wrap(arith.XOrIOp(self.ssa, self._with(other)).result)

    def __lshift__(self, other: Operand) -> Value:
        return self._wrap(arith.ShLIOp(self.ssa, self._with(other)).result)

    def __rshift__(self, other: Operand) -> Value:
        return self._wrap(arith.ShRSIOp(self.ssa, self._with(other)).result)

    def unsigned_shift(self, other: Operand) -> Value:
        """Right, zeros moving in."""
        return self._wrap(arith.ShRUIOp(self.ssa, self._with(other)).result)

    def as_bits(self) -> Value:
        """A float's bits as an integer of its width."""
        return self._wrap(arith.BitcastOp(self._type(ir.IntegerType.get_signless(self.bits)), self.ssa).result)

    def as_float(self) -> Value:
        """An integer's bits as a float of its width."""
        return self._wrap(arith.BitcastOp(self._type(ir.F32Type.get() if self.bits == 32 else ir.F64Type.get()), self.ssa).result)

    def abs(self) -> Value:
        return self._wrap(math.AbsFOp(self.ssa).result)

    def with_sign(self, other: Value) -> Value:
        """This magnitude with the sign of `other`."""
        return self._wrap(math.CopySignOp(self.ssa, other.ssa).result)

    # -- conversion ---------------------------------------------------------------------------------------------------
    def extend(self, element: ir.Type) -> Value:
        """To a wider float, or to a wider integer with zeros in front."""
        make = arith.ExtFOp if self.is_float else arith.ExtUIOp
        return self._wrap(make(self._type(element), self.ssa).result)

    def narrow(self, element: ir.Type) -> Value:
        make = arith.TruncFOp if self.is_float else arith.TruncIOp
        return self._wrap(make(self._type(element), self.ssa).result)

    def to_float(self, element: ir.Type) -> Value:
        """A signed integer's value as a float."""
        return self._wrap(arith.SIToFPOp(self._type(element), self.ssa).result)


def is_approximate(op: ir.Operation) -> bool:
    """Whether an op means the machine's instruction: `quick_exp2`, or `reciprocal` and other quotients that need not be the nearest."""
    return op.name in _FLAGGED and _FLAGGED[op.name] in str(op.attributes["fastmath"])


def is_one(value: ir.Value) -> bool:
    """Whether a value is the constant 1.0, or a vector of it."""
    if isinstance(value.owner, ir.Block) or value.owner.name not in ("arith.constant", "vector.broadcast"):
        return False
    if value.owner.name == "vector.broadcast":
        return is_one(value.owner.operands[0])
    constant = value.owner.attributes["value"]
    if isinstance(constant, ir.DenseElementsAttr) and constant.is_splat:
        constant = constant.get_splat_value()
    return isinstance(constant, ir.FloatAttr) and constant.value == 1.0


def if_any(condition: Value, compute: Callable[[], tuple[Value, ...]], otherwise: tuple[Value, ...]) -> tuple[Value, ...]:
    """Runs `compute` when the condition holds in any lane."""
    any_, type_ = condition.ssa, condition.ssa.type
    if isinstance(type_, ir.VectorType):
        if type_.rank != 1:
            size = 1
            for extent in type_.shape:
                size *= extent
            any_ = vector.ShapeCastOp(ir.VectorType.get([size], condition.element), any_).result
        any_ = vector.ReductionOp(condition.element, ir.Attribute.parse("#vector.kind<or>"), any_).result
    branch = scf.IfOp(any_, [v.ssa.type for v in otherwise], has_else=True)
    with ir.InsertionPoint(branch.then_block):
        scf.YieldOp([v.ssa for v in compute()])
    with ir.InsertionPoint(branch.else_block):
        scf.YieldOp([v.ssa for v in otherwise])
    return tuple(Value(v, condition.machine) for v in branch.results)
