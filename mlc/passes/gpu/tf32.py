"""f32 factors rounded to tf32 (10 bits of fraction) for matrix units that would cut the 13 low bits off.

Cutting has a relative error below 2^-10, always towards zero, so that the errors of a sum's terms add up. Rounding to nearest halves the
bound, and the errors have mean zero: |found - exact| <= 2^-10 (1 + 2^-12) * sum |a b|, beside what summing in f32 adds.
"""

from mlc.ir.mlir import arith, ir, vector
from mlc.passes.tile.model import volume

SIGN_AND_EXPONENT = 0xFF800000
HALF = 2.0 ** -11  # a unit of the tenth bit of a number's fraction, halved, over its power of two


def rounded(values: ir.Value) -> ir.Value:
    """A vector of f32, each a number to which cutting to tf32 gives the nearest number of tf32, ties away from zero.

    It is the number plus half a unit, of its own sign. Infinities and NaN stay what they are, and what is too large becomes infinite; a
    number without a power of two (below 2^-126) is cut.
    """
    shape = list(values.type.shape)
    flat, f32, i32 = [volume(shape)], ir.F32Type.get(), ir.IntegerType.get_signless(32)
    floats, bits = ir.VectorType.get(flat, f32), ir.VectorType.get(flat, i32)

    def splat(type_: ir.Type, value: ir.Attribute) -> ir.Value:
        return arith.ConstantOp(type_, ir.DenseElementsAttr.get_splat(type_, value)).result

    x = vector.ShapeCastOp(floats, values).result
    mask = splat(bits, ir.IntegerAttr.get(i32, SIGN_AND_EXPONENT - (1 << 32)))
    power = arith.BitcastOp(floats, arith.AndIOp(arith.BitcastOp(bits, x).result, mask).result).result
    half = arith.MulFOp(power, splat(floats, ir.FloatAttr.get(f32, HALF))).result
    return vector.ShapeCastOp(values.type, arith.AddFOp(x, half).result).result


__all__ = ["rounded"]
