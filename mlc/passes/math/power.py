"""powf, fpowi, cbrt and rsqrt: x^y = 2^(y log2 x) with the logarithm in two floats, roots by iteration.

The double-float logarithm follows the scheme of SLEEF's pow (Shibata and Petrogalli, 2020) and Dekker's (1971) error-free products.
"""

from math import inf, nan

from mlc.ir.mlir import ir
from mlc.passes.math.exponential import exp2_sum
from mlc.passes.math.logarithm import split
from mlc.passes.math.value import Value

# Per width: 2 / ln 2 and a third of it in two floats; then the rest of log2((1 + s) / (1 - s)) / s^5 in s^2, |s| <= 1/5.
_C = {32: (2.885390043258667, 3.851926067000022e-08), 64: (2.8853900817779268, 4.0710547481862066e-17)}
_C3 = {32: (0.9617967009544373, -7.028461812552678e-09), 64: (0.9617966939259756, 5.0577616648125907e-17)}
_C5 = {
    32: (0.577083707, 0.411533773, 0.344485909),  # error 2^-34
    64: (0.5770780163555851, 0.4121985831113459, 0.3205988979127141, 0.2623081986694147, 0.22195226940707843, 0.19240136444417566,
         0.16845055761296177, 0.17282601230071298),  # 2^-73
}
# Beyond these, 2^y log2 x has over- or underflowed: for the largest and smallest x - 1, and for every x.
_FARTHEST, _FAR = {32: 2.0**60, 64: 2.0**64}, {32: 200.0, 64: 1200.0}


def _product(a: Value, b: Value | float) -> tuple[Value, Value]:
    """Product exactly, in two floats."""
    p = a * b
    return p, a.fma(b, -p)


def _sum(a: Value, b: Value) -> tuple[Value, Value]:
    """Sum exactly, in two floats, for |a| >= |b|."""
    s = a + b
    return s, b - (s - a)


def _log2(a: Value) -> tuple[Value, Value]:
    """log2 of a positive number in two floats: error below 2^-31 of it (f64: 2^-64); infinite at 0 and infinity."""
    e, f = split(a)
    # s = f / (2 + f) in two floats
    d = f + 2.0
    inverse = 1.0 / d
    s = f * inverse
    s_rest = (s.fma(-d, f) - s * (f - (d - 2.0))) * inverse
    z, z_rest = _product(s, s)
    z_rest = z_rest + (s + s) * s_rest
    # (C/3 + z R) s z, then C s + that, then e
    (c1, c1_rest), (c3, c3_rest) = _C[a.bits], _C3[a.bits]
    c, c_rest = _sum(z.constant(c3), z * z.polynomial(_C5[a.bits]))
    cube, cube_rest = _product(s, z)
    cube_rest = cube_rest + (s * z_rest + z * s_rest)
    high, low = _product(cube, c)
    low = low + (cube_rest * c + cube * (c_rest + c3_rest))
    first, first_rest = _product(s, c1)
    first_rest = first_rest + (s * c1_rest + s_rest * c1)
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
    # A bound that changes no result: even the log2 of a neighbour of 1 times it over- or underflows. 0 times infinity would be NaN.
    farthest, far = _FARTHEST[x.bits], _FAR[x.bits]
    y = y.at_most(farthest).at_least(-farthest)
    high, low = _product(y, log)
    low = low + y * log_rest
    if y_rest is not None:
        low = low + y_rest * log
    inside = high.abs() < far
    high, low = _sum(high.at_most(far).at_least(-far), inside.choose(low, 0.0))
    result = exp2_sum(high, low)
    sign = odd.choose(x.as_bits() & -(1 << x.bits - 1), x.as_bits().constant(0))
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
    a, double = x.abs(), x.bits == 64
    up, guess = (900, 0x553EF0FF289DD796) if double else (60, 0x54A21D2A)
    small = a < 2.0**-up  # the correction of so small a number would be subnormal
    m = small.choose(a * 2.0**(180 if double else 60), a)
    y = (guess - m.as_bits() / 3).as_float()
    for _ in range(3 if double else 2):
        h = (y * y).fma(-(m * y), 1.0)
        y = y.mad(h * h.polynomial((1 / 3, 2 / 9, 14 / 81)), y)
    c = m * y * y
    square, square_rest = _product(c, c)
    residual = square.fma(c, -m) + square_rest * c
    c = (residual * (y * y)).fma(-1 / 3, c)
    c = small.choose(c * 2.0**(-60 if double else -20), c)
    return ((a < inf) & (a > 0.0)).choose(c, a).with_sign(x)
