"""Memory <-> compute: how a stored element becomes a Scalar and back: bool bytes, narrow floats, float8 and float4 codes, sub-byte ints.

Everything is straight-line integer and f32 arithmetic with selects, so a loop around it vectorises; nothing needs tables or libraries.
"""

from dataclasses import dataclass

from mlc.dtypes import (
    BF16,
    BOOL,
    BY_NAME,
    F4E2M1FN,
    F8E4M3FN,
    F8E4M3FNUZ,
    F8E5M2,
    F8E5M2FNUZ,
    F8E8M0FNU,
    F16,
    F32,
    F64,
    I32,
    U8,
    U16,
    U32,
    DType,
)
from mlc.ir.mlir import arith, ir
from mlc.ir.scalar import Scalar, compute_dtype, constant, mlir_type, select

ROUND_MODES = ("up", "down", "nearest")  # of f8E8M0FNU; away from zero, towards zero, nearest with ties up

SIGN, INFINITY, QUIET_NAN = 0x80000000, 0x7F800000, 0x7FC00000  # f32 bits
MIN_NORMAL, MIN_E8M0 = 0x00800000, 0x00400000  # f32 bits of 2^-126 and 2^-127


@dataclass(frozen=True)
class _Code:
    """A small float: sign bit, exponent, `mantissa` bits, exponent `bias`. Magnitude codes: `top` is the largest finite one.

    infinity, nan: magnitude codes, or None. unsigned_zero: the code of -0 is the only NaN (the FNUZ types).
    """

    mantissa: int
    bias: int
    top: int
    infinity: int | None = None
    nan: int | None = None
    unsigned_zero: bool = False
    sign: int = 0x80

    @property
    def largest(self) -> float:
        """The largest finite value."""
        step = 2.0 ** ((self.top >> self.mantissa) - self.bias - self.mantissa)
        return ((1 << self.mantissa) + (self.top & ((1 << self.mantissa) - 1))) * step


_CODES = {
    F8E4M3FN: _Code(3, 7, 0x7E, nan=0x7F),
    F8E5M2: _Code(2, 15, 0x7B, infinity=0x7C, nan=0x7E),
    F8E4M3FNUZ: _Code(3, 8, 0x7F, unsigned_zero=True),
    F8E5M2FNUZ: _Code(2, 16, 0x7F, unsigned_zero=True),
    F4E2M1FN: _Code(1, 1, 7, sign=8),
}


def storage_type(dtype: DType) -> ir.Type:
    """The MLIR element type of `dtype` in memory."""
    return ir.Type.parse(dtype.storage)


def decode(stored: ir.Value, dtype: DType) -> Scalar:
    """A loaded element (of `storage_type(dtype)`) as a Scalar of `compute_dtype(dtype)`: exact."""
    if dtype == BOOL:
        return Scalar(stored, U8).ne(0)
    if dtype == F16:
        return Scalar(arith.ExtFOp(mlir_type(F32), stored).result, F32)
    if dtype == BF16:
        bits = Scalar(arith.BitcastOp(mlir_type(U16), stored).result, U16)
        return bits.to(U32).shl(16).bitcast(F32)
    if dtype.is_integer and dtype.bits < 8:
        up = 8 - dtype.bits
        compute = compute_dtype(dtype)
        return Scalar(stored, compute).shl(up).shr(up)
    if dtype == F8E8M0FNU:
        return _decode_power(Scalar(stored, U8).to(U32))
    if dtype in _CODES:
        return _decode_code(Scalar(stored, U8).to(U32), _CODES[dtype])
    return Scalar(stored, dtype)


def widen(code: Scalar, dtype: DType) -> Scalar:
    """The f32 that an i8 code of a float8 type stands for, as two ops that say so: products in this form can be a matrix unit's.

    No target has the second op; `narrowed` leads back to the code, for `decode`.
    """
    return Scalar(arith.ExtFOp(mlir_type(F32), arith.BitcastOp(ir.Type.parse(dtype.name), code.value).result).result, F32)


def narrowed(value: ir.Value) -> tuple[ir.Value, DType] | None:
    """The code and its type of a value that `widen` made."""
    for name in ("arith.extf", "arith.bitcast"):
        if isinstance(value.owner, ir.Block) or value.owner.name != name:
            return None
        type_, value = value.type, value.owner.operands[0]
    found = BY_NAME.get(str(type_))
    return (value, found) if found is not None and found.is_float8 else None


def encode(value: Scalar, dtype: DType) -> ir.Value:
    """A Scalar of `compute_dtype(dtype)` as the element to store: rounds to nearest even, wraps integers.

    What is too large becomes infinity, NaN where the type has none, and the largest value where it has neither (see `convert` for
    saturation). f8E8M0FNU takes the nearest power of two (ties up) and has NaN for what is not positive.
    """
    if dtype == BOOL:
        return arith.ExtUIOp(ir.IntegerType.get_signless(8), value.value).result
    if dtype == F16:
        return arith.TruncFOp(ir.F16Type.get(), value.value).result
    if dtype == BF16:
        bits = value.bitcast(U32)
        rounded = (bits + 0x7FFF + (bits.shr(16) & 1)).shr(16)
        quiet = bits.shr(16) | 0x40
        code = select(value.is_nan(), quiet, rounded).to(U16)
        return arith.BitcastOp(ir.BF16Type.get(), code.value).result
    if dtype.is_integer and dtype.bits < 8:
        return (value.bitcast(U8) & ((1 << dtype.bits) - 1)).value
    if dtype == F8E8M0FNU:
        return _encode_power(value).value
    if dtype in _CODES:
        return _encode_code(value, _CODES[dtype]).value
    return value.value


def convert(x: Scalar, dtype: DType, saturate: bool = True, round_mode: str = "up") -> Scalar:
    """Any compute value as one of `compute_dtype(dtype)` that `encode` turns into ONNX's Cast to `dtype`, rounded once.

    saturate: what a float8 type cannot hold, infinity included, becomes its largest value. round_mode: for f8E8M0FNU, one of ROUND_MODES.
    """
    narrow = dtype.is_float and dtype.bits < 32
    y = _to_odd(x) if narrow and x.dtype == F64 else x.to(compute_dtype(dtype))
    if dtype == F8E8M0FNU:
        return _power_of_two(y, saturate, round_mode)
    if dtype in _CODES and saturate:
        return clamp(y, _CODES[dtype].largest)
    return y


def rounded(x: Scalar, dtype: DType) -> Scalar:
    """A compute value as it is after a visit to memory as `dtype`."""
    return decode(encode(x, dtype), dtype)


def clamp(x: Scalar, limit: float) -> Scalar:
    """A float within [-limit, limit]; NaN stays."""
    return x.max(-limit).min(limit)


def zero(dtype: DType) -> Scalar:
    """Zero of the compute dtype of `dtype`."""
    return constant(0, compute_dtype(dtype))


# -- float8 and float4 ----------------------------------------------------------------------------------------------


def _decode_code(bits: Scalar, code: _Code) -> Scalar:
    m = code.mantissa
    magnitude = bits & (code.sign - 1)
    value = magnitude.shl(23 - m) + ((127 - code.bias) << 23)
    # Subnormals as integer * step: f32 subnormals on the way would be slow, and zero where the CPU flushes them.
    tiny = (magnitude.bitcast(I32).to(F32) * 2.0 ** (1 - code.bias - m)).bitcast(U32)
    value = select(magnitude < (1 << m), tiny, value)
    if code.infinity is not None:
        value = select(magnitude >= code.infinity, magnitude.shl(23 - m) | INFINITY, value)
    elif code.nan is not None:
        value = select(magnitude.eq(code.nan), constant(QUIET_NAN, U32), value)
    value = value | (bits & code.sign).shl(32 - code.sign.bit_length())
    if code.unsigned_zero:
        value = select(bits.eq(code.sign), constant(QUIET_NAN, U32), value)
    return value.bitcast(F32)


def _encode_code(x: Scalar, code: _Code) -> Scalar:
    m, bits = code.mantissa, x.bitcast(U32)
    magnitude = bits & (SIGN - 1)
    drop = 23 - m
    normal = (magnitude + ((1 << (drop - 1)) - 1) + (magnitude.shr(drop) & 1) - ((127 - code.bias) << 23)).shr(drop)
    # Below the normal range: adding a number whose last bit is worth one step makes the addition round.
    magic = 24 - code.bias - m  # its exponent
    tiny = (magnitude.bitcast(F32) + 2.0 ** magic).bitcast(U32) - ((127 + magic) << 23)
    y = select(magnitude < ((128 - code.bias) << 23), tiny, normal)
    if code.unsigned_zero:
        bad = (y > code.top) | x.is_nan()
        y = select(y.eq(0), y, y | bits.shr(24) & code.sign)
        return select(bad, constant(code.sign, U32), y).to(U8)
    if code.infinity is None and code.nan is None:  # neither infinity nor NaN to go to
        y = select(x.is_nan(), constant(0, U32), y.min(code.top))
    else:
        beyond = code.infinity if code.infinity is not None else code.nan
        y = select(y > code.top, constant(beyond or 0, U32), y)
        y = select(x.is_nan(), constant(code.nan or 0, U32), y)
    return (y | bits.shr(32 - code.sign.bit_length()) & code.sign).to(U8)


# -- powers of two (f8E8M0FNU) --------------------------------------------------------------------------------------


def _decode_power(code: Scalar) -> Scalar:
    value = select(code.eq(0), constant(MIN_E8M0, U32), code.shl(23))
    return select(code.eq(255), constant(QUIET_NAN, U32), value).bitcast(F32)


def _encode_power(x: Scalar) -> Scalar:
    bits = x.bitcast(U32)
    tiny = (bits >= MIN_E8M0 + MIN_E8M0 // 2).to(U32)
    code = select(bits < MIN_NORMAL, tiny, (bits + MIN_E8M0).shr(23))
    return select((bits - 1) >= INFINITY, constant(255, U32), code).to(U8)  # not positive, infinite, NaN


def _power_of_two(x: Scalar, saturate: bool, round_mode: str) -> Scalar:
    """The magnitude of an f32 rounded to a power of two that f8E8M0FNU can hold, or NaN."""
    bits = x.bitcast(U32) & (SIGN - 1)
    up = {"up": 0x7FFFFF, "down": 0, "nearest": 0x400000}[round_mode]
    normal = (bits + up) & INFINITY
    least = {"up": MIN_E8M0 + 1, "down": MIN_NORMAL, "nearest": MIN_E8M0 + MIN_E8M0 // 2}[round_mode]  # what goes up to 2^-126
    tiny = select(bits >= least, constant(MIN_NORMAL, U32), constant(MIN_E8M0, U32))
    if not saturate:
        tiny = select(bits < MIN_E8M0, constant(QUIET_NAN, U32), tiny)
    y = select(bits < MIN_NORMAL, tiny, normal)
    y = select(y >= INFINITY, constant(INFINITY - MIN_NORMAL if saturate else QUIET_NAN, U32), y)
    return select(bits > INFINITY, constant(QUIET_NAN, U32), y).bitcast(F32)


# -- f64 to anything narrow -----------------------------------------------------------------------------------------


def _to_odd(x: Scalar) -> Scalar:
    """f64 as f32, rounded to odd: what was lost stays as a last bit of 1, so that rounding again, to 16 bits, is as if done once."""
    near = x.to(F32)
    back, bits = near.to(F64), near.bitcast(U32)
    bits = bits - (back.abs() > x.abs()).to(U32)  # towards zero; from infinity, to the largest value
    return (bits | back.ne(x).to(U32)).bitcast(F32)


__all__ = ["ROUND_MODES", "clamp", "convert", "decode", "encode", "narrowed", "rounded", "storage_type", "widen", "zero"]
