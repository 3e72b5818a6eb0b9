"""Trigonometric functions and their inverses: quarter turns taken off, then polynomials on what is left (f64's are elsewhere).

sin, cos, tan: Cody and Waite's reduction with pi/2 in three parts below 2^17; beyond, Payne and Hanek's (1983) in 64-bit integers, behind
a branch that is taken when any lane needs it. The inverses reduce as in Cephes and fdlibm. The polynomials are our own minimax fits.
"""

from math import inf, pi

from mlc.ir.mlir import ir
from mlc.passes.math import trigonometric64
from mlc.passes.math.value import Value, if_any

# pi/2 in three parts; the first is cut off so that x - n times it, fused, is exact below 2^17.
_HALF_PI = (1.570796251296997, 7.549789415861596e-08, 5.390302529957765e-15)
_LARGE = 2.0**17
_SIN = (-0.166666538, 0.00833210628, -0.000195078828)  # (sin x - x) / x^3 in x^2, |x| <= pi/4: error 2^-28
_COS = (1.0, -0.5, 0.0416666456, -0.00138873013, 2.44306684e-05)  # cos x in x^2: error 2^-33
_TAN = (0.333333522, 0.133325711, 0.0540709756, 0.0212226417, 0.0109954318, -0.000118591568, 0.00448146276)  # as _SIN: 2^-29
# Of the inverses, per width: pi/2 in two floats; (asin x - x) / x^3 in x^2, |x| <= 1/2; the same of atan, |x| <= 1.
_QUARTER = {32: (1.5707963705062866, -4.371138828673793e-08), 64: (1.5707963267948966, 6.123233995736766e-17)}
_ASIN = {
    32: (0.166667536, 0.0749525279, 0.0454758964, 0.0241527017, 0.0422113948),  # error 2^-27.6
    64: (0.16666666666666763, 0.0749999999997013, 0.04464285717523516, 0.03038194267872176, 0.02237221578348533, 0.017351598103294716,
         0.013980983029236255, 0.011397615075205956, 0.010787356212562266, 0.0036801606830685926, 0.02176999552738588,
         -0.02108584696211559, 0.03268188459442932),  # 2^-58
}
_ATAN = {
    32: (-0.333332986, 0.19998531, -0.142640516, 0.109511748, -0.0840047523, 0.0579065457, -0.0311270021, 0.0108873611,
         -0.0017875476),  # 2^-28.5
    64: (-0.3333333333333329, 0.19999999999991558, -0.1428571428510262, 0.11111111088494416, -0.09090908585966695, 0.0769230019981296,
         -0.06666588067884004, 0.058817446976918264, -0.05259577044757553, 0.04745489906094493, -0.04288160104304885, 0.03825466753401197,
         -0.032875746590568085, 0.02629759952748562, -0.018800167492402674, 0.011501401454727424, -0.005749755489931871,
         0.0022264722942826973, -0.0006209158992738113, 0.00011029748762118481, -9.334135866206358e-06),  # 2^-57
}
# 2/pi 2^-34 in 256 bits behind the point.
_TWO_OVER_PI = int("A2F9836E4E441529FC2757D1F534DDC0DB6295993C439041FE5163ABDEBBC561", 16) >> 34


def _reduce(x: Value) -> tuple[Value, Value]:
    """The r within about pi/4 of 0 and an integer whose low two bits count quarter turns: x = r + q pi/2."""
    magic = 1.5 * 2.0**23
    sum_ = x.mad(2 / pi, magic)
    n = sum_ - magic
    r = x
    for part in _HALF_PI:
        r = n.fma(-part, r)
    a = x.abs()
    large = (a >= _LARGE) & (a < inf)
    q = sum_.as_bits()
    r_large, q_large = if_any(large, lambda: _reduce_large(x), (r, q))
    return large.choose(r_large, r), large.choose(q_large, q)


def _reduce_large(x: Value) -> tuple[Value, Value]:
    """With x = M 2^(e - 32), M of 32 bits, M 2^(e - 34) 2/pi are turns: only what is behind the point matters.

    96 bits of 2/pi, from where 2^e says, make its first 64 bits.
    """
    bits = x.as_bits()
    e = (bits.unsigned_shift(23) & 255) - 126
    word, shift = e.unsigned_shift(5).extend(ir.IntegerType.get_signless(64)), (e & 31).extend(ir.IntegerType.get_signless(64))
    mantissa = ((bits << 8) | 0x80000000).extend(ir.IntegerType.get_signless(64))

    def window(k: int) -> Value:
        """32 bits of 2/pi from bit e + 32 k on."""
        pairs = [_TWO_OVER_PI >> (256 - 64 - 32 * j) & (1 << 64) - 1 for j in range(k, k + 5)]
        pair = word.constant(pairs[0])
        for j in range(1, 5):  # 2^17 <= x < 2^128 has e in 18..128
            pair = word.eq(j).choose(word.constant(pairs[j]), pair)
        return (pair << shift).unsigned_shift(32)

    fraction = ((mantissa * window(0)) << 32) + (mantissa * window(1) + (mantissa * window(2)).unsigned_shift(32))
    q = (fraction + (1 << 61)).unsigned_shift(62)
    turn = (fraction - (q << 62)).to_float(ir.F64Type.get()) * (pi / 2 * 2.0**-62)
    negative, q32, r = x < 0.0, q.narrow(ir.IntegerType.get_signless(32)), turn.narrow(x.element)
    return negative.choose(-r, r), negative.choose(0 - q32, q32)


def _sine(x: Value, quarters: int) -> Value:
    """sin(x + quarters pi/2)."""
    r, q = _reduce(x)
    q = q + quarters if quarters else q
    z = r * r
    sine, cosine = (r * z).mad(z.polynomial(_SIN), r), z.polynomial(_COS)
    y = (q & 1).ne(0).choose(cosine, sine)
    return (y.as_bits() ^ ((q & 2) << 30)).as_float()


def sin(x: Value) -> Value:
    if x.bits == 64:
        return (x.abs() < 2.0**-27).choose(x, trigonometric64.sine(x, 0))
    return (x.abs() < 2.0**-12).choose(x, _sine(x, 0))  # keeps -0


def cos(x: Value) -> Value:
    return trigonometric64.sine(x, 1) if x.bits == 64 else _sine(x, 1)


def tan(x: Value) -> Value:
    if x.bits == 64:
        return (x.abs() < 2.0**-27).choose(x, trigonometric64.tangent(x))
    r, q = _reduce(x)
    z = r * r
    rest = r * z * z.polynomial(_TAN)
    t = r + rest
    # -1 / t, corrected by what t lost in rounding.
    inverse = -1.0 / t
    residual = inverse.fma(rest - (t - r), inverse.fma(t, 1.0))
    y = (q & 1).ne(0).choose(inverse.fma(residual, inverse), t)
    return (x.abs() < 2.0**-12).choose(x, y)


def _arc(x: Value) -> tuple[Value, Value, Value]:
    """(large, t, w): asin x is t + w, but for |x| above 1/2 (large) asin |x| is pi/2 - 2 (t + w)."""
    a = x.abs()
    large = a > 0.5
    z = large.choose((1.0 - a) * 0.5, x * x)
    t = large.choose(z.sqrt(), x)
    return large, t, t * z * z.polynomial(_ASIN[x.bits])


def asin(x: Value) -> Value:
    large, t, w = _arc(x)
    half_pi, half_pi_rest = _QUARTER[x.bits]
    rest = half_pi / 2 - (t + (w - half_pi_rest / 2))
    return large.choose(rest + rest, t + w).with_sign(x)


def acos(x: Value) -> Value:
    large, t, w = _arc(x)
    half_pi, half_pi_rest = _QUARTER[x.bits]
    y = (x > 0.5).choose(t + w, half_pi - (t + (w - half_pi_rest)))
    return large.choose(y + y, y)


def atan(x: Value) -> Value:
    a = x.abs()
    large = a > 1.0
    q = large.choose(-1.0 / a, a)
    z = q * q
    w = q * z * z.split_polynomial(_ATAN[x.bits])
    half_pi, half_pi_rest = _QUARTER[x.bits]
    return large.choose(half_pi + (q + (w + half_pi_rest)), q + w).with_sign(x)


def atan2(y: Value, x: Value) -> Value:
    """The angle is k pi/2 + or - atan of the smaller over the larger, k 0 to 2."""
    ay, ax = y.abs(), x.abs()
    swap, negative = ay > ax, x.as_bits() < 0
    smaller, larger = swap.choose(ax, ay), swap.choose(ay, ax)
    q = smaller / larger
    q = larger.eq(0.0).choose(smaller, smaller.eq(larger).choose(q.constant(1.0), q))  # infinities may be equal
    q = (swap ^ negative).choose(-q, q)
    z = q * q
    w = q * z * z.split_polynomial(_ATAN[x.bits])
    zero = x.constant(0.0)

    def offset(half_pi: float) -> Value:
        return swap.choose(x.constant(half_pi), negative.choose(x.constant(2 * half_pi), zero))

    half_pi, half_pi_rest = _QUARTER[x.bits]
    return (offset(half_pi) + (q + (w + offset(half_pi_rest)))).with_sign(y)
