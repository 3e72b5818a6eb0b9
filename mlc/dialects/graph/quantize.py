"""graph.quantize, graph.dequantize, graph.unpack: affine codes of floats; a scale per tensor, per index of an axis, or per block."""

from collections.abc import Callable, Sequence

from mlc.dialects._build import Builder, Tensor
from mlc.dialects._ext import Operand, Result, VerifyError
from mlc.dialects.graph._base import GraphOp, TensorType, builder
from mlc.dialects.graph.elementwise import element_type, type_attribute
from mlc.dtypes import BY_NAME, F32, F64, I32, U8, DType
from mlc.ir import codecs
from mlc.ir.mlir import ir
from mlc.ir.scalar import Scalar, compute_dtype, constant, select


class DequantizeOp(GraphOp, name="dequantize"):
    """y = (x - zero_point) * scale, computed in f32 (f64 for f64) and rounded once to `to`.

    x: integers of at most 32 bits, float8 or float4. zero_point: of x's type, or a float type. scale and zero_point have one shape, or
    the zero point is a scalar: [] per tensor, [n] per index of dimension `axis` of extent n, or, with `block`, x's shape with
    ceil(n / block) in place of n: one for every `block` elements along `axis`.

    Example: %y = "graph.dequantize"(%x, %s, %z) {axis = 0, to = f32} : (tensor<4x8xui8>, tensor<4xf32>, tensor<4xui8>) -> tensor<4x8xf32>
    """

    x: Operand
    scale: Operand
    zero_point: Operand
    to: ir.Type
    axis: int = 0
    block: int = 0
    y: Result

    @staticmethod
    def infer(types: list[TensorType], to: ir.Type, axis: int = 0, block: int = 0) -> list[TensorType]:
        x, scale, zero = types
        dtype = element_type(to)
        if not _is_code(x.dtype) and x.dtype.name != "i32":
            raise VerifyError(f"takes integers of up to 16 bits, i32, float8 or float4, got {x.dtype}")
        if not dtype.is_float or not scale.dtype.is_float:
            raise VerifyError(f"has a scale of {scale.dtype} and a result of {dtype}, expected floats")
        if zero.dtype != x.dtype and not zero.dtype.is_float:
            raise VerifyError(f"has a zero point of {zero.dtype}, expected {x.dtype} or a float type")
        _check_scale(x, scale, zero, axis, block)
        return [x.with_dtype(dtype)]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        out, wide = self.types[0], _wide(self.types[0].dtype, xs[1].dtype)

        def body(x: Scalar, scale: Scalar, zero: Scalar) -> Scalar:
            if x.dtype.is_integer and zero.dtype.is_integer:  # exact: zero points of 128 and more stay what they are
                centred = (x.to(I32) - zero.to(I32)).to(wide)
            else:
                centred = x.to(wide) - zero.to(wide)
            return codecs.convert(centred * scale.to(wide), out.dtype)

        return [_blockwise(b, out, xs, self.py("axis"), self.py("block"), body)]


class QuantizeOp(GraphOp, name="quantize"):
    """y = saturate(round(x / scale) + zero_point), round to nearest even; NaN becomes the least integer.

    The division is rounded to `precision` (x and scale are, too), a float type. Result: the zero point's type, an integer of at most
    16 bits, float8 or float4; for floats the zero point is added before the one rounding. saturate: as in graph.cast, for float8.
    scale, zero_point, axis, block: as in graph.dequantize.

    Example: %y = "graph.quantize"(%x, %s, %z) {precision = f32} : (tensor<4x8xf32>, tensor<f32>, tensor<ui8>) -> tensor<4x8xui8>
    """

    x: Operand
    scale: Operand
    zero_point: Operand
    precision: ir.Type
    axis: int = 0
    block: int = 0
    saturate: bool = True
    y: Result

    @staticmethod
    def infer(types: list[TensorType], precision: ir.Type, axis: int = 0, block: int = 0, saturate: bool = True) -> list[TensorType]:
        x, scale, zero = types
        if not (x.dtype.is_float or x.dtype.name == "i32") or not scale.dtype.is_float or not _is_code(zero.dtype):
            raise VerifyError(f"takes floats or i32, a float scale and a zero point of up to 16 bits, got {x.dtype}, {scale.dtype} "
                              f"and {zero.dtype}")
        if element_type(precision) not in (BY_NAME["f16"], BY_NAME["bf16"], F32, F64):
            raise VerifyError(f"divides in f16, bf16, f32 or f64, not in {precision}")
        _check_scale(x, scale, zero, axis, block)
        return [x.with_dtype(zero.dtype)]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        out, saturate = self.types[0], self.py("saturate")
        precision = element_type(self.py("precision"))

        def body(x: Scalar, scale: Scalar, zero: Scalar) -> Scalar:
            x, scale = (codecs.rounded(codecs.convert(v, precision), precision) for v in (x, scale))
            ratio = codecs.rounded(x / scale, precision)
            if out.dtype.is_float:
                return codecs.convert(ratio + zero.to(ratio.dtype), out.dtype, saturate)
            low, high = _limits(out.dtype)
            y = ratio.math("roundeven") + zero.to(ratio.dtype)
            y = select(y > low, y, constant(low, y.dtype))  # takes NaN to the limit
            return select(y < high, y, constant(high, y.dtype)).to(compute_dtype(out.dtype))

        return [_blockwise(b, out, xs, self.py("axis"), self.py("block"), body)]


class UnpackOp(GraphOp, name="unpack"):
    """Bytes of several small integers each, spread out, low bits first: the last dimension grows by 8 / bits.

    Example: %y = "graph.unpack"(%x) {to = ui4} : (tensor<3x8xui8>) -> tensor<3x16xui4>
    """

    x: Operand
    to: ir.Type
    y: Result

    @staticmethod
    def infer(types: list[TensorType], to: ir.Type) -> list[TensorType]:
        x, dtype = types[0], element_type(to)
        if x.dtype != U8 or x.rank == 0 or dtype.bits not in (2, 4):
            raise VerifyError(f"spreads ui8 of rank 1 or more into 2-bit or 4-bit types, got {x.dtype} of rank {x.rank} and {dtype}")
        return [TensorType((*x.shape[:-1], x.shape[-1] * (8 // dtype.bits)), dtype)]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        (x,), out = xs, self.types[0]
        per = 8 // out.dtype.bits
        spread = b.compute((*x.shape, per), out.dtype, [(x, lambda *i: i[:-1])],
                           lambda byte: byte.shr(b.index(x.rank).to(U8) * out.dtype.bits).to(compute_dtype(out.dtype)))
        return [b.view(spread, out.shape)]


def _is_code(dtype: DType) -> bool:
    return (dtype.is_integer and dtype.bits <= 16) or (dtype.is_float and dtype.bits <= 8 and dtype.name != "f8E8M0FNU")


def _wide(*dtypes: DType) -> DType:
    return F64 if F64 in dtypes else F32


def _limits(dtype: DType) -> tuple[int, int]:
    half = 1 << (dtype.bits - 1)
    return (-half, half - 1) if dtype.kind == "i" else (0, 2 * half - 1)


def _check_scale(x: TensorType, scale: TensorType, zero: TensorType, axis: int, block: int) -> None:
    if zero.shape not in (scale.shape, ()):
        raise VerifyError(f"has scales {list(scale.shape)} and zero points {list(zero.shape)}, expected one shape")
    if scale.rank == 0 and block == 0:
        return
    if not 0 <= axis < x.rank:
        raise VerifyError(f"has axis {axis}, expected one of the dimensions of {list(x.shape)}")
    extent = x.shape[axis]
    if block < 0:
        raise VerifyError(f"has blocks of {block} elements, expected a positive number")
    expected = [*x.shape[:axis], -(-extent // block), *x.shape[axis + 1:]] if block else [extent]
    if list(scale.shape) != expected:
        raise VerifyError(f"has scales {list(scale.shape)} for x {list(x.shape)}, axis {axis} and "
                          f"{f'blocks of {block}' if block else 'no blocks'}, expected {expected}")


def _blockwise(b: Builder, out: TensorType, xs: Sequence[Tensor], axis: int, block: int, body: Callable[..., Scalar]) -> Tensor:
    """`body` on every element and the scale and zero point that apply to it."""
    x, *params = xs
    if not block:
        reads = [(x, lambda *i: i), *[(p, lambda *i, p=p: [i[axis]] if p.rank else []) for p in params]]
        return b.compute(out.shape, out.dtype, reads, body)
    extent = out.shape[axis]
    if extent % block == 0:  # the dimension as blocks of elements: every read is affine
        split = (*out.shape[:axis], extent // block, block, *out.shape[axis + 1:])
        reads = [(b.view(x, split), lambda *i: i),
                 *[(p, lambda *i, p=p: (*i[:axis + 1], *i[axis + 2:]) if p.rank else []) for p in params]]
        return b.view(b.compute(split, out.dtype, reads, body), out.shape)

    def at() -> list[Scalar]:
        return [b.index(d) / block if d == axis else b.index(d) for d in range(out.rank)]

    return b.gather_compute(out.shape, out.dtype, [(x, lambda *i: i)], params,
                            lambda e: body(e, *[b.load(p, at() if p.rank else []) for p in params]))


_dequantize = builder(DequantizeOp)
_quantize = builder(QuantizeOp)
_unpack = builder(UnpackOp)


def dequantize(x: ir.Value, scale: ir.Value, zero_point: ir.Value, *, to: DType, axis: int = 0, block: int = 0) -> ir.Value:
    """(x - zero_point) * scale."""
    return _dequantize(x, scale, zero_point, to=type_attribute(to), axis=axis, block=block)


def quantize(x: ir.Value, scale: ir.Value, zero_point: ir.Value, *, precision: DType = F32, axis: int = 0, block: int = 0,
             saturate: bool = True) -> ir.Value:
    """saturate(round(x / scale) + zero_point), of the zero point's type."""
    return _quantize(x, scale, zero_point, precision=type_attribute(precision), axis=axis, block=block, saturate=saturate)


def unpack(x: ir.Value, to: DType) -> ir.Value:
    """`unpack(bytes, U4)`."""
    return _unpack(x, to=type_attribute(to))


__all__ = ["DequantizeOp", "QuantizeOp", "UnpackOp", "dequantize", "quantize", "unpack"]
