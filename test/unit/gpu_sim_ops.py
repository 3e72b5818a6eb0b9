"""arith and math ops on numpy arrays, for the simulated GPU."""

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from gpu_sim_core import Function, Program, Step, dtype_of, fit, pure, rank_of, rule, shape_of

from mlc.driver import _constant
from mlc.ir.mlir import ir


def _unsigned(value: Any) -> Any:
    value = np.asarray(value)
    return value if value.dtype == bool else value.view(f"u{value.dtype.itemsize}")


def _like(function: Callable[[Any, Any], Any]) -> Function:
    """An unsigned function on signless operands."""
    return lambda a, b: function(_unsigned(a), _unsigned(b)).view(np.asarray(a).dtype)


def _divided(a: Any, b: Any) -> Any:
    """Division towards zero."""
    q = a // b
    return q + (((a - q * b) != 0) & ((a < 0) != (b < 0))).astype(q.dtype)


_SIMPLE: dict[str, Function] = {
    "arith.addi": lambda a, b: a ^ b if np.asarray(a).dtype == bool else a + b,
    "arith.subi": lambda a, b: a ^ b if np.asarray(a).dtype == bool else a - b, "arith.muli": operator.mul,
    "arith.addf": operator.add, "arith.subf": operator.sub, "arith.mulf": operator.mul, "arith.divf": operator.truediv,
    "arith.remf": np.fmod, "arith.negf": operator.neg, "arith.divsi": _divided, "arith.remsi": np.fmod,
    "arith.floordivsi": operator.floordiv, "arith.ceildivsi": lambda a, b: -(-a // b), "arith.ceildivui": _like(lambda a, b: -(-a // b)),
    "arith.divui": _like(operator.floordiv), "arith.remui": _like(operator.mod), "arith.andi": operator.and_, "arith.ori": operator.or_,
    "arith.xori": operator.xor, "arith.shli": operator.lshift, "arith.shrsi": operator.rshift, "arith.shrui": _like(operator.rshift),
    "arith.minsi": np.minimum, "arith.maxsi": np.maximum, "arith.minui": _like(np.minimum), "arith.maxui": _like(np.maximum),
    "arith.minimumf": np.minimum, "arith.maximumf": np.maximum, "arith.minnumf": np.fmin, "arith.maxnumf": np.fmax,
    "math.absf": np.abs, "math.absi": np.abs, "math.exp": np.exp, "math.exp2": np.exp2, "math.expm1": np.expm1, "math.log": np.log,
    "math.log2": np.log2, "math.log10": np.log10, "math.log1p": np.log1p, "math.sqrt": np.sqrt,
    "math.rsqrt": lambda x: (1 / np.sqrt(x)).astype(x.dtype),
    "math.sin": np.sin, "math.cos": np.cos, "math.tan": np.tan, "math.sinh": np.sinh, "math.cosh": np.cosh, "math.tanh": np.tanh,
    "math.asin": np.arcsin, "math.acos": np.arccos, "math.atan": np.arctan, "math.asinh": np.arcsinh, "math.acosh": np.arccosh,
    "math.atanh": np.arctanh, "math.atan2": np.arctan2, "math.powf": np.power, "math.cbrt": np.cbrt, "math.floor": np.floor,
    "math.ceil": np.ceil, "math.trunc": np.trunc, "math.roundeven": np.rint, "math.copysign": np.copysign, "math.isnan": np.isnan,
    "math.isinf": np.isinf, "math.isfinite": np.isfinite,
    "math.round": lambda x: np.trunc(x) + np.where(np.abs(x - np.trunc(x)) >= 0.5, np.copysign(x.dtype.type(1), x), 0).astype(x.dtype),
}


def _plain(function: Function) -> Callable[[ir.Operation], Function]:
    return lambda op: function


for _name, _function in _SIMPLE.items():
    pure(_name)(_plain(_function))


@rule("arith.constant")
def _constant_value(program: Program, op: ir.Operation) -> Step | None:
    """Known before the kernel starts."""
    type_, value = op.results[0].type, op.attributes["value"]
    if isinstance(type_, ir.VectorType):
        index = isinstance(type_.element_type, ir.IndexType)
        known = (np.array(value).reshape(shape_of(type_)) if index else _constant(value)).astype(dtype_of(type_))
    elif isinstance(value, ir.FloatAttr):
        known = dtype_of(type_).type(value.value)
    else:
        known = np.int64(int(value.value)).astype(dtype_of(type_)) if str(type_) != "i1" else np.bool_(bool(value.value))
    program.env[program.slot(op.results[0])] = known
    return None


_INTEGERS: list[Function] = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge, operator.lt, operator.le,
                             operator.gt, operator.ge]


@pure("arith.cmpi")
def _cmpi(op: ir.Operation) -> Function:
    predicate = op.attributes["predicate"].value
    compare = _INTEGERS[predicate]
    return compare if predicate < 6 else lambda a, b: compare(_unsigned(a), _unsigned(b))


def _unordered(a: Any, b: Any) -> Any:
    return np.isnan(a) | np.isnan(b)


_FLOATS: list[Function] = [
    lambda a, b: np.zeros(np.broadcast(a, b).shape, bool), operator.eq, operator.gt, operator.ge, operator.lt, operator.le,
    lambda a, b: (a != b) & ~_unordered(a, b), lambda a, b: ~_unordered(a, b), lambda a, b: (a == b) | _unordered(a, b),
    lambda a, b: ~(a <= b), lambda a, b: ~(a < b), lambda a, b: ~(a >= b), lambda a, b: ~(a > b), operator.ne, _unordered,
    lambda a, b: np.ones(np.broadcast(a, b).shape, bool),
]


@pure("arith.cmpf")
def _cmpf(op: ir.Operation) -> Function:
    return _FLOATS[op.attributes["predicate"].value]


@pure("arith.select")
def _select(op: ir.Operation) -> Function:
    flag, rank = rank_of(op.operands[0]), rank_of(op.results[0])
    return lambda c, a, b: np.where(fit(c, flag, rank), a, b)


@pure("arith.bitcast")
def _bitcast(op: ir.Operation) -> Function:
    dtype = dtype_of(op.results[0].type)
    return lambda x: np.asarray(x).view(dtype)


@pure("arith.index_cast", "arith.extsi", "arith.sitofp", "arith.extf", "arith.truncf", "arith.fptosi", "arith.convertf")
def _convert(op: ir.Operation) -> Function:
    source, dtype = dtype_of(op.operands[0].type), dtype_of(op.results[0].type)
    if source.kind == "b":  # true is -1
        return lambda x: (-np.asarray(x).astype(np.int8)).astype(dtype)
    return lambda x: x.astype(dtype)


@pure("arith.trunci")
def _trunci(op: ir.Operation) -> Function:
    dtype = dtype_of(op.results[0].type)
    return (lambda x: (x & 1).astype(bool)) if dtype.kind == "b" else lambda x: x.astype(dtype)


@pure("arith.index_castui", "arith.extui", "arith.uitofp")
def _from_unsigned(op: ir.Operation) -> Function:
    dtype = dtype_of(op.results[0].type)
    return lambda x: _unsigned(x).astype(dtype)


@pure("arith.fptoui")
def _fptoui(op: ir.Operation) -> Function:
    dtype = dtype_of(op.results[0].type)
    return lambda x: x.astype(f"u{dtype.itemsize}").view(dtype)


@pure("arith.addui_extended", "arith.mulsi_extended", "arith.mului_extended")
def _extended(op: ir.Operation) -> Function:
    """Low half and high half (or carry), by Python's whole numbers."""
    dtype, bits = dtype_of(op.results[0].type), 8 * dtype_of(op.results[0].type).itemsize
    carry, signed, add = dtype_of(op.results[1].type), "si" in op.name, "add" in op.name

    def compute(a: Any, b: Any) -> tuple[Any, Any]:
        a, b = ((x if signed else _unsigned(x)).astype(object) for x in (np.asarray(a), np.asarray(b)))
        whole = np.asarray(a + b if add else a * b, object)
        low, high = whole & ((1 << bits) - 1), (whole >> bits) & ((1 << bits) - 1)
        return low.astype(f"u{dtype.itemsize}").view(dtype), high.astype(f"u{dtype.itemsize}").view(dtype).astype(carry)

    return compute


def _fma64(a: Any, b: Any, c: Any) -> Any:
    """The product as a sum of two numbers (Dekker), then the three are added with the error of the first sum (Knuth)."""
    product, halves = a * b, []
    for x in (a, b):
        far = x * 134217729.0  # 2**27 + 1 splits 53 bits in two
        high = far - (far - x)
        halves.append((high, x - high))
    (ah, al), (bh, bl) = halves
    error = ((ah * bh - product) + ah * bl + al * bh) + al * bl
    total = product + c
    back = total - product
    rest = (product - (total - back)) + (c - back) + error
    return np.where(np.isfinite(rest), total + rest, total)


@pure("math.fma", "vector.fma")
def _fma(op: ir.Operation) -> Function:
    """One rounding."""
    dtype = dtype_of(op.results[0].type)
    if dtype == np.float64:
        return _fma64
    return lambda a, b, c: (np.asarray(a).astype(np.float64) * b + c).astype(dtype)


@pure("math.erf", "math.erfc")
def _erf(op: ir.Operation) -> Function:
    function, dtype = np.vectorize(getattr(math, op.name[5:]), otypes=[np.float64]), dtype_of(op.results[0].type)
    return lambda x: function(x).astype(dtype)


@pure("math.ctlz", "math.cttz", "math.ctpop")
def _counted(op: ir.Operation) -> Function:
    dtype = dtype_of(op.results[0].type)
    bits = 8 * dtype.itemsize
    count = {"math.ctlz": lambda n: bits - n.bit_length(), "math.cttz": lambda n: (n & -n).bit_length() - 1 if n else bits,
             "math.ctpop": int.bit_count}[op.name]
    function = np.vectorize(lambda n: count(int(n)), otypes=[np.int64])
    return lambda x: function(_unsigned(x)).astype(dtype)


@pure("math.ipowi")
def _ipowi(op: ir.Operation) -> Function:
    return lambda a, b: np.where(b < 0, np.where(a == 1, 1, np.where(a == -1, 1 - 2 * (b & 1), 0)), a ** np.maximum(b, 0)).astype(a.dtype)


@pure("math.fpowi")
def _fpowi(op: ir.Operation) -> Function:
    return lambda a, b: np.power(a, b).astype(a.dtype)

