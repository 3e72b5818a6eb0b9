"""log and its family: x = 2^e m with m in [sqrt(1/2), sqrt(2)), a polynomial for log m, put together in two parts.

After fdlibm's e_log.c (f64) and Cephes' logf.c (f32) with minimax polynomials of our own: relative error below 2^-27 (f32), 2^-59 (f64).
"""

from math import inf, nan

from mlc.ir.mlir import ir
from mlc.passes.math.value import Value

# (log(1 + f) - f) / f^2 for 1 + f from sqrt(1/2) to sqrt(2)
_P32 = (-0.499999881, 0.333333224, -0.250016034, 0.200022057, -0.1660887, 0.141774401, -0.132399499, 0.129294232, -0.0765905306)
# (log(1 + f) - 2 s) / s^3 in s^2 with s = f / (2 + f)
_R64 = (0.6666666666666666, 0.40000000000008085, 0.2857142856721186, 0.2222222305900626, 0.181817367912974, 0.15388901113689124,
        0.13209054081804986, 0.1361404704104133)

# Per width: 1 / ln(base) and log_base(2), each in two floats; the first of the latter is so short that e times it is exact.
_Parts = tuple[float, float]
_NATURAL: dict[int, tuple[_Parts, _Parts]] = {
    32: ((1.0, 0.0), (0.693359375, -2.12194440e-4)),
    64: ((1.0, 0.0), (6.93147180369123816490e-01, 1.90821492927058770002e-10)),
}
_TWO: dict[int, tuple[_Parts, _Parts]] = {
    32: ((1.4426950216293335, 1.925963033500011e-08), (1.0, 0.0)),
    64: ((1.4426950408889634, 2.0355273740931033e-17), (1.0, 0.0)),
}
_TEN: dict[int, tuple[_Parts, _Parts]] = {
    32: ((0.4342944920063019, -1.0103049952192578e-08), (0.30078125, 2.48745663981195213739e-4)),
    64: ((0.4342944819032518, 1.098319650216765e-17), (3.01029995663611771306e-01, 3.69423907715893078616e-13)),
}
_ASINH_SMALL = (-0.166666433, 0.0749864131, -0.0443831682, 0.028162593, -0.013226687)  # (asinh x - x) / x^3 in x^2, x <= 1/2
_LN2 = 0.6931471805599453
_LARGE = {32: 2.0**32, 64: 2.0**60}  # beyond, the log of 1 + x is that of x, and asinh x and acosh x are log 2x


def _fraction(x: Value) -> int:
    return 23 if x.bits == 32 else 52


def _root_half(x: Value) -> int:
    """The bits of sqrt(1/2): where mantissas are cut, so that log m lies evenly around 0."""
    return 0x3F3504F3 if x.bits == 32 else 0x3FE6A09E667F3BCD


def split(x: Value) -> tuple[Value, Value]:
    """(e, m - 1) with x = 2^e m, for positive finite x, subnormal ones too."""
    fraction = _fraction(x)
    subnormal = x < (2.0**-126 if x.bits == 32 else 2.0**-1022)
    bits = subnormal.choose(x * 2.0**fraction, x).as_bits()
    high = bits - _root_half(x)
    m = (bits - (high & -(1 << fraction))).as_float()
    e = _to_float(high >> fraction, x.element)
    return subnormal.choose(e - float(fraction), e), m - 1.0


def _to_float(n: Value, element: ir.Type) -> Value:
    """An exponent as a float. AVX2 has no conversion from 64-bit integers, so small ones go by way of 32."""
    return (n.narrow(ir.IntegerType.get_signless(32)) if n.bits == 64 else n).to_float(element)


def _parts(f: Value) -> tuple[Value, Value]:
    """log(1 + f) as a larger and a smaller part."""
    if f.bits == 32:
        return f, f * f * f.split_polynomial(_P32)
    s = f / (f + 2.0)
    z, half_square = s * s, f * f * 0.5
    high = f - half_square
    rounding = f.fma(f * 0.5, -half_square)
    low = (f - high) - half_square
    return high, s.mad(half_square + z * z.polynomial(_R64), low - rounding)


def _join(e: Value, f: Value, base: dict[int, tuple[_Parts, _Parts]]) -> Value:
    """log_base(2^e (1 + f))."""
    (c, c_rest), (two, two_rest) = base[f.bits]
    high, low = _parts(f)
    if c != 1.0:
        low = low.mad(c, high * c_rest)
    if two_rest:
        low = e.mad(two_rest, low)
    # The last but one sum loses nothing that counts: where it cancels, e is 0 and nothing follows.
    mantissa = high + low if c == 1.0 else high.mad(c, low)
    return mantissa + e if two == 1.0 else e.mad(two, mantissa)


def _log(x: Value, base: dict[int, tuple[_Parts, _Parts]]) -> Value:
    return _bounded(x, 0.0, _join(*split(x), base))


def _bounded(x: Value, zero: float, result: Value) -> Value:
    """The result where the logarithm is finite: -inf at `zero`, NaN below it and for NaN, infinity at infinity."""
    edge = x.eq(zero).choose(x.constant(-inf), nan)
    return (x > zero).choose((x < inf).choose(result, x), edge)


def log(x: Value) -> Value:
    return _log(x, _NATURAL)


def log2(x: Value) -> Value:
    return _log(x, _TWO)


def log10(x: Value) -> Value:
    return _log(x, _TEN)


def log1p(x: Value) -> Value:
    """The exponent e from 1 + x rounded; then f = (1 + x) 2^-e - 1 from x itself."""
    fraction = _fraction(x)
    bits = (x + 1.0).as_bits()
    high = bits - _root_half(x)
    exponent = high & -(1 << fraction)
    # 4 2^-e: 2^-e itself is subnormal for the largest x. A quarter of x is exact but for subnormals, which are results themselves.
    scale = (((127 if x.bits == 32 else 1023) + 2 << fraction) - exponent).as_float()
    f = (x * 0.25).mad(scale, scale.mad(0.25, -1.0))
    result = _join(_to_float(high >> fraction, x.element), f, _NATURAL)
    return (x.abs() < 2.0**-(fraction + 2)).choose(x, _bounded(x, -1.0, result))


def asinh(x: Value) -> Value:
    a = x.abs()
    z, large = a * a, a > _LARGE[x.bits]
    y = log1p(large.choose(a, a + z / ((z + 1.0).sqrt() + 1.0)))
    y = large.choose(y + _LN2, y)
    if x.bits == 32:
        y = (a < 0.5).choose((a * z).mad(z.polynomial(_ASINH_SMALL), a), y)
    return y.with_sign(x)


def acosh(x: Value) -> Value:
    t, large = x - 1.0, x > _LARGE[x.bits]
    y = log1p(large.choose(x, t + t.mad(t, t + t).sqrt()))
    y = large.choose(y + _LN2, y)
    return (x < 1.0).choose(x.constant(nan), y)


def atanh(x: Value) -> Value:
    """log1p(2a / (1 - a)) / 2, the argument as 2a + 2a a / (1 - a) because 1 - a is rounded."""
    a = x.abs()
    twice = a + a
    y = log1p(twice.mad(a / (1.0 - a), twice)) * 0.5
    return (a > 1.0).choose(x.constant(nan), y).with_sign(x)
