"""Memory <-> compute: how a stored element becomes a Scalar and back (bool bytes, narrow floats, 8-bit and 4-bit float codes, sub-byte ints)."""

from mlc.dtypes import BF16, BOOL, F16, F32, I8, U8, U16, U32, DType
from mlc.ir.mlir import arith, ir
from mlc.ir.scalar import Scalar, compute_dtype, constant, mlir_type, select


def storage_type(dtype: DType) -> ir.Type:
    """The MLIR element type of `dtype` in memory."""
    return ir.Type.parse(dtype.storage)


def decode(stored: ir.Value, dtype: DType) -> Scalar:
    """A loaded element (of `storage_type(dtype)`) as a Scalar of `compute_dtype(dtype)`."""
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
    if dtype.is_float and dtype.bits <= 8:
        raise TypeError(f"no codec for {dtype}")
    return Scalar(stored, dtype)


def encode(value: Scalar, dtype: DType) -> ir.Value:
    """A Scalar of `compute_dtype(dtype)` as the element to store: rounds to nearest even, wraps integers."""
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
    if dtype.is_float and dtype.bits <= 8:
        raise TypeError(f"no codec for {dtype}")
    return value.value


def zero(dtype: DType) -> Scalar:
    """Zero of the compute dtype of `dtype`."""
    return constant(0, compute_dtype(dtype))


__all__ = ["I8", "decode", "encode", "storage_type", "zero"]
