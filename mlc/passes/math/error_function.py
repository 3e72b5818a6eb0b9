"""erf and erfc in f32: x + x P(x^2) near 0, beyond it 1 - e^g(x), and a scaled polynomial for erfc's tail.

The forms are N. Juffa's (published on Stack Overflow and the NVIDIA forums); the coefficients are minimax fits of our own.
"""

from mlc.passes.math.exponential import exp_times, small_exp
from mlc.passes.math.value import Value

# (erf x - x) / x in x^2, x <= 0.84: error 2^-27
_SMALL = (0.128379166, -0.376125932, 0.112829186, -0.0268100332, 0.00506302109, -0.000638318306)
# log(1 - erf x) / x, 0.83 <= x <= 4: the error in erf is 2^-28
_LARGE = (-1.12853181, -0.635658503, -0.105341598, 0.0229416471, -0.00323122391, 0.00021597436)
# erfc(x) e^(x^2) (1 + 2x) in (x - 2) / (x + 2), 0.5 <= x <= 10.1: error 2^-26
_TAIL = (1.27697837, -0.0927636251, -0.166030198, 0.164043188, -0.0542199202, -0.00795132201, 0.00869985949, 0.000954214891,
         -0.00132532907)


def _small(x: Value) -> Value:
    return x.mad((x * x).polynomial(_SMALL), x)


def erf(x: Value) -> Value:
    a = x.abs()
    t = a.at_most(4.0)
    large = 1.0 - small_exp(t * t.polynomial(_LARGE))
    return (a < 0.84).choose(_small(a), large).with_sign(x)


def erfc(x: Value) -> Value:
    a = x.abs().at_most(10.1)
    t = (a - 2.0) / (a + 2.0)
    square = a * a
    rest = a.fma(a, -square)  # e^-(a^2) = e^-square (1 - rest)
    # A quotient p / (1 + 2a) and what it lacks.
    p, inverse = t.polynomial(_TAIL), 1.0 / (a + a + 1.0)
    q = p * inverse
    lack = q.fma(a * -2.0, p - q) * inverse
    tail = exp_times(-square, q, q.mad(-rest, lack))
    tail = (x < 0.0).choose(2.0 - tail, tail)
    return (a < 0.5).choose(1.0 - _small(x), tail)
