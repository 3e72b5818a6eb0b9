"""Element types: the one table that ties ONNX codes, numpy dtypes, MLIR spelling and in-memory storage together."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


@dataclass(frozen=True)
class DType:
    """One element type.

    name: MLIR spelling at the graph level (`f32`, `ui8`, `f8E4M3FN`). onnx: TensorProto.DataType code.
    numpy: numpy dtype of arrays at the API. kind: `f` float, `i` signed, `u` unsigned, `b` bool. bits: width of a value.
    storage: MLIR spelling of one element in memory from the tile level down (sub-byte and 8-bit codes take one i8).
    """

    name: str
    onnx: int
    numpy: np.dtype
    kind: str
    bits: int
    storage: str

    @property
    def bytes(self) -> int:
        """Bytes of one element in memory."""
        return self.numpy.itemsize

    @property
    def is_float(self) -> bool:
        return self.kind == "f"

    @property
    def is_float8(self) -> bool:
        """Whether it is an 8-bit float with a sign."""
        return self.is_float and self.bits == 8 and self.name != "f8E8M0FNU"

    @property
    def is_integer(self) -> bool:
        return self.kind in "iu"

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.name


def _t(name: str, onnx: int, numpy: "DTypeLike", kind: str, bits: int, storage: str) -> DType:
    return DType(name, onnx, np.dtype(numpy), kind, bits, storage)


F32 = _t("f32", 1, np.float32, "f", 32, "f32")
U8 = _t("ui8", 2, np.uint8, "u", 8, "i8")
I8 = _t("i8", 3, np.int8, "i", 8, "i8")
U16 = _t("ui16", 4, np.uint16, "u", 16, "i16")
I16 = _t("i16", 5, np.int16, "i", 16, "i16")
I32 = _t("i32", 6, np.int32, "i", 32, "i32")
I64 = _t("i64", 7, np.int64, "i", 64, "i64")
BOOL = _t("i1", 9, np.bool_, "b", 1, "i8")
F16 = _t("f16", 10, np.float16, "f", 16, "f16")
F64 = _t("f64", 11, np.float64, "f", 64, "f64")
U32 = _t("ui32", 12, np.uint32, "u", 32, "i32")
U64 = _t("ui64", 13, np.uint64, "u", 64, "i64")
BF16 = _t("bf16", 16, ml_dtypes.bfloat16, "f", 16, "bf16")
F8E4M3FN = _t("f8E4M3FN", 17, ml_dtypes.float8_e4m3fn, "f", 8, "i8")
F8E4M3FNUZ = _t("f8E4M3FNUZ", 18, ml_dtypes.float8_e4m3fnuz, "f", 8, "i8")
F8E5M2 = _t("f8E5M2", 19, ml_dtypes.float8_e5m2, "f", 8, "i8")
F8E5M2FNUZ = _t("f8E5M2FNUZ", 20, ml_dtypes.float8_e5m2fnuz, "f", 8, "i8")
U4 = _t("ui4", 21, ml_dtypes.uint4, "u", 4, "i8")
I4 = _t("i4", 22, ml_dtypes.int4, "i", 4, "i8")
F4E2M1FN = _t("f4E2M1FN", 23, ml_dtypes.float4_e2m1fn, "f", 4, "i8")
F8E8M0FNU = _t("f8E8M0FNU", 24, ml_dtypes.float8_e8m0fnu, "f", 8, "i8")
U2 = _t("ui2", 25, ml_dtypes.uint2, "u", 2, "i8")
I2 = _t("i2", 26, ml_dtypes.int2, "i", 2, "i8")

ALL = (F32, U8, I8, U16, I16, I32, I64, BOOL, F16, F64, U32, U64, BF16, F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, U4, I4, F4E2M1FN,
       F8E8M0FNU, U2, I2)
BY_NAME = {t.name: t for t in ALL}
BY_ONNX = {t.onnx: t for t in ALL}
BY_NUMPY = {t.numpy: t for t in ALL}
