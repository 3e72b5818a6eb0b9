"""sin, cos and tan of f64: x less its quarter turns, in two doubles, and polynomials on what is left.

Cody and Waite's reduction with pi/2 in three parts serves below 2^20, unless hardly anything is left; there, and beyond, Payne and Hanek's
(1983) in 64-bit integers, behind a branch that is taken when any lane needs it. The polynomials are our own minimax fits.
"""

from itertools import pairwise
from math import inf, pi

from mlc.ir.mlir import ir
from mlc.passes.math.value import Value, if_any

# pi/2 in three parts, the first two of 33 bits: n times them is exact below 2^20.
_HALF_PI = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)
_HALF_PI_ROUNDED, _HALF_PI_REST = 1.5707963267948966, 6.123233995736766e-17
_LARGE = 2.0**20
_LITTLE = 2.0**-27  # less than that may be left of no multiple of pi/2 by three parts
_SIN = (-0.1666666666666663, 0.00833333333332184, -0.00019841269829358476, 2.7557313538475287e-06, -2.5050734380553714e-08,
        1.5895432715176443e-10)  # (sin x - x) / x^3 in x^2, |x| <= pi/4: error 2^-57
_COS = (0.0416666666666666, -0.0013888888888874476, 2.4801587289673834e-05, -2.75573144018962e-07, 2.087572941873508e-09,
        -1.135994207109259e-11)  # (cos x - 1 + x^2 / 2) / x^4 in x^2: 2^-64
# 2/pi behind the point, in words of 32 bits; two of zeros come first, for the smallest x.
_TWO_OVER_PI = (
    "0000000000000000A2F9836E4E441529FC2757D1F534DDC0DB6295993C439041FE5163ABDEBBC561B7246E3A424DD2E006492EEA09D1921CFE1DEB1CB129A73E"
    "E88235F52EBB4484E99C7026B45F7E413991D639835339F49C845F8BBDF9283B1FF897FFDE05980FEF2F118B5A0A6D1F6D367ECF27CB09B74F463F669E5FEA2D"
    "7527BAC7EBE5F17B3D0739F78A5292EA6BFB5FB11F8D5D0856033046")
_WORDS = tuple(int(_TWO_OVER_PI[i:i + 8], 16) for i in range(0, len(_TWO_OVER_PI), 8))
_LOW = 0xFFFFFFFF


def _reduce(x: Value) -> tuple[Value, Value, Value]:
    """An r within about pi/4 of 0 in two doubles, and an integer whose low two bits count quarter turns: x = r + q pi/2."""
    magic = 1.5 * 2.0**52
    sum_ = x.mad(2 / pi, magic)
    n = sum_ - magic
    first = n.fma(-_HALF_PI[0], x)
    r = n.fma(-_HALF_PI[1], first)
    rest = n.fma(-_HALF_PI[2], n.fma(-_HALF_PI[1], first - r))
    a = x.abs()
    hard = ((a >= _LARGE) | (n.ne(0.0) & (r.abs() < _LITTLE))) & (a < inf)
    result = r, rest, sum_.as_bits()
    r, rest, quadrant = (hard.choose(slow, fast) for slow, fast in zip(if_any(hard, lambda: _reduce_exactly(x), result), result))
    return r, rest, quadrant


def _reduce_exactly(x: Value) -> tuple[Value, Value, Value]:
    """With x = m 2^s, m of 53 bits, m 2^s 2/pi are quarter turns, and only what is below four of them matters.

    192 bits of 2/pi, from the place that s says on, times m, modulo 2^192, hold them with two bits before the point.
    """
    bits = x.as_bits()
    start = (bits.unsigned_shift(52) & 0x7FF) - (1075 - 64 + 2)  # of those bits in _WORDS
    words = [x.as_bits().constant(word) for word in _WORDS]
    for step, kept in ((32, 38), (16, 22), (8, 14), (4, 10), (2, 8), (1, 7)):
        skip = (start.unsigned_shift(5) & step).ne(0)
        words = [skip.choose(words[min(i + step, len(words) - 1)], words[i]) for i in range(min(kept, len(words)))]
    shift = start & 31
    window = [(((high << 32) | low) << shift).unsigned_shift(32) for high, low in pairwise(words)]
    low, high = bits & _LOW, (bits.unsigned_shift(32) & 0xFFFFF) | 0x100000
    limbs: list[Value] = []
    carry = above = bits.constant(0)  # above: what high times the word before gave
    for word in reversed(window):
        product = low * word
        sum_ = (product & _LOW) + (above & _LOW) + carry
        limbs.append(sum_ & _LOW)
        carry = sum_.unsigned_shift(32) + product.unsigned_shift(32) + above.unsigned_shift(32)
        above = high * word
    whole, fraction = (limbs[5] << 32) | limbs[4], (limbs[3] << 32) | limbs[2]
    q = (whole + (1 << 61)).unsigned_shift(62)
    whole = whole - (q << 62)
    sign = whole >> 63
    whole, fraction = whole ^ sign, fraction ^ sign  # the magnitude, but for the last of 128 bits
    parts = [_to_float(p.unsigned_shift(32), scale) for p, scale in ((whole, -30), (fraction, -94))]
    parts[1:1] = [_to_float(whole & _LOW, -62)]
    parts.append(_to_float(fraction & _LOW, -126))
    turn = parts[0] + parts[1]
    rest = (parts[1] - (turn - parts[0])) + (parts[2] + parts[3])
    turn, rest = turn + rest, rest - ((turn + rest) - turn)
    r = turn * _HALF_PI_ROUNDED
    r_rest = turn.fma(_HALF_PI_ROUNDED, -r) + turn.mad(_HALF_PI_REST, rest * _HALF_PI_ROUNDED)
    backwards, negative = (sign ^ bits) < 0, bits < 0
    return backwards.choose(-r, r), backwards.choose(-r_rest, r_rest), negative.choose(0 - q, q)


def _to_float(n: Value, scale: int) -> Value:
    """A number of 32 bits, times a power of two."""
    return n.to_float(ir.F64Type.get()) * 2.0**scale


def _both(r: Value, rest: Value) -> tuple[Value, Value]:
    """Sine and cosine of r + rest."""
    z = r * r
    half = z * 0.5
    sine = r + (r * z).mad(z.polynomial(_SIN), rest * (1.0 - half))
    near = 1.0 - half
    cosine = near + (((1.0 - near) - half) + (z * z).mad(z.polynomial(_COS), -(r * rest)))
    return sine, cosine


def sine(x: Value, quarters: int) -> Value:
    """sin(x + quarters pi/2)."""
    r, rest, q = _reduce(x)
    sine_, cosine = _both(r, rest)
    q = q + quarters
    y = (q & 1).ne(0).choose(cosine, sine_)
    return (y.as_bits() ^ ((q & 2) << 62)).as_float()


def tangent(x: Value) -> Value:
    r, rest, q = _reduce(x)
    sine_, cosine = _both(r, rest)
    odd = (q & 1).ne(0)
    return odd.choose(-cosine, sine_) / odd.choose(sine_, cosine)
