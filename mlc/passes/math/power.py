"""powf, fpowi, cbrt and rsqrt: x^y = 2^(y log2 x) with the logarithm in two floats, roots by iteration.

The double-float logarithm follows the scheme of SLEEF's pow (Shibata and Petrogalli, 2020) and Dekker's (1971) error-free products.
"""

from math import inf, nan

from mlc.ir.mlir import ir
from mlc.passes.math.exponential import exp2_sum
from mlc.passes.math.logarithm import split
from mlc.passes.math.value import Value

# 2 / ln 2 and a third of it in two floats; then the rest of log2((1 + s) / (1 - s)) / s^5 in s^2, |s| <= 1/5: error 2^-34.
_C, _C_REST = 2.885390043258667, 3.851926067000022e-08
_C3, _C3_REST = 0.9617967009544373, -7.028461812552678e-09
_C5 = (0.577083707, 0.411533773, 0.344485909)


def _product(a: Value, b: Value | float) -> tuple[Value, Value]:
    """Product exactly, in two floats."""
    p = a * b
    return p, a.fma(b, -p)


def _sum(a: Value, b: Value) -> tuple[Value, Value]:
    """Sum exactly, in two floats, for |a| >= |b|."""
    s = a + b
    return s, b - (s - a)


def _log2(a: Value) -> tuple[Value, Value]:
    """log2 of a positive number in two floats: error below 2^-31 of it; infinite at 0 and infinity."""
    e, f = split(a)
    # s = f / (2 + f) in two floats
    d = f + 2.0
    inverse = 1.0 / d
    s = f * inverse
    s_rest = (s.fma(-d, f) - s * (f - (d - 2.0))) * inverse
    z, z_rest = _product(s, s)
    z_rest = z_rest + (s + s) * s_rest
    # (C/3 + z R) s z, then C s + that, then e
    c, c_rest = _sum(z.constant(_C3), z * z.polynomial(_C5))
    cube, cube_rest = _product(s, z)
    cube_rest = cube_rest + (s * z_rest + z * s_rest)
    high, low = _product(cube, c)
    low = low + (cube_rest * c + cube * (c_rest + _C3_REST))
    first, first_rest = _product(s, _C)
    first_rest = first_rest + (s * _C_REST + s_rest * _C)
    mantissa, rest = _sum(first, high)
    rest = rest + (low + first_rest)
    whole, whole_rest = _sum(e, mantissa)  # where |e| < |mantissa|, e is 0
    result, result_rest = _sum(whole, whole_rest + rest)
    edge = a.eq(0.0)
    return edge.choose(a.constant(-inf), (a < inf).choose(result, a)), result_rest


def _power(x: Value, y: Value, y_rest: Value | None, whole: Value, odd: Value) -> Value:
    """|x|^(y + y_rest) with the sign and the special cases of C's pow; whole, odd: what kind of integer the exponent is."""
    a = x.abs()
    log, log_rest = _log2(a)
    # A bound that changes no result: even the log2 of a neighbour of 1 times 2^60 over- or underflows. 0 times infinity would be NaN.
    y = y.at_most(2.0**60).at_least(-2.0**60)
    high, low = _product(y, log)
    low = low + y * log_rest
    if y_rest is not None:
        low = low + y_rest * log
    inside = high.abs() < 200.0
    high, low = _sum(high.at_most(200.0).at_least(-200.0), inside.choose(low, 0.0))
    result = exp2_sum(high, low)
    sign = odd.choose(x.as_bits() & -(1 << 31), x.as_bits().constant(0))
    result = (result.as_bits() | sign).as_float()
    # A negative finite base has roots only of whole degree.
    invalid = (x < 0.0) & (x > -inf) & (whole ^ True)
    result = invalid.choose(x.constant(nan), result)
    result = x.ne(x).choose(x, result)
    return (y.eq(0.0) | x.eq(1.0)).choose(x.constant(1.0), result)


def powf(x: Value, y: Value) -> Value:
    half = y * 0.5
    whole = y.round().eq(y)
    return _power(x, y, None, whole, whole & half.round().ne(half))


def fpowi(x: Value, n: Value) -> Value:
    """An f32 to a whole power; the exponent is exact in two floats."""
    odd, n = (n & 1).ne(0), _as_int32(n)
    high = n & -(1 << 12)
    y, rest = _sum(high.to_float(x.element), (n - high).to_float(x.element))
    return _power(x, y, rest, n.eq(n), odd)


def _as_int32(n: Value) -> Value:
    """An exponent in 32 bits: narrow ones widened, wide ones bounded, which over- or underflows all the same."""
    int32 = ir.IntegerType.get_signless(32)
    if n.bits < 32:
        return (n.extend(int32) << 32 - n.bits) >> 32 - n.bits
    if n.bits == 32:
        return n
    least, most = n.constant(-(1 << 31)), n.constant((1 << 31) - 1)
    n = (n < least).choose(least, (n > most).choose(most, n))
    return n.narrow(int32)


def fpowi_by_squaring(x: Value, n: Value) -> Value:
    """A whole power by squaring, one step per bit of the exponent; 1 / x^|n| for negative ones."""
    negative = n < 0
    left = negative.choose(0 - n, n)
    result, square = x.constant(1.0), x
    for bit in range(n.bits):
        result = ((left & (1 << bit)).ne(0)).choose(result * square, result)
        square = square * square
    return negative.choose(1.0 / result, result)


def rsqrt(x: Value) -> Value:
    return 1.0 / x.sqrt()


def cbrt(x: Value) -> Value:
    """First y = m^(-1/3) guessed from the bits and iterated to the fourth order (Householder), then m y y corrected once."""
    a = x.abs()
    small = a < 2.0**-60  # the correction of so small a number would be subnormal
    m = small.choose(a * 2.0**60, a)
    y = (0x54A21D2A - m.as_bits() / 3).as_float()
    for _ in range(2):
        h = (y * y).fma(-(m * y), 1.0)
        y = y.mad(h * h.polynomial((1 / 3, 2 / 9, 14 / 81)), y)
    c = m * y * y
    square, square_rest = _product(c, c)
    residual = square.fma(c, -m) + square_rest * c
    c = (residual * (y * y)).fma(-1 / 3, c)
    c = small.choose(c * 2.0**-20, c)
    return ((a < inf) & (a > 0.0)).choose(c, a).with_sign(x)
