"""erf and erfc: x + x P(x^2) near 0, beyond it 1 - e^g(x) in f32 and 1 - erfc x in f64; a scaled polynomial for erfc's tail.

The forms are N. Juffa's (published on Stack Overflow and the NVIDIA forums); the coefficients are minimax fits of our own.
"""

from mlc.passes.math.exponential import exp2_of, exp_times, small_exp
from mlc.passes.math.value import Value

_SMALL = {  # (erf x - x) / x in x^2, x <= 0.84
    32: (0.128379166, -0.376125932, 0.112829186, -0.0268100332, 0.00506302109, -0.000638318306),  # error 2^-27
    64: (0.1283791670955126, -0.37612638903184165, 0.11283791670977725, -0.026866170649962356, 0.005223977678362228,
         -0.0008548330400377799, 0.00012055467011775199, -1.4929053415650736e-05, 1.6517222709821083e-06, -1.6911547638876734e-07,
         1.773330212713452e-08, -1.7712254776820042e-09),  # 2^-56
}
# log(1 - erf x) / x, 0.83 <= x <= 4: the error in erf is 2^-28
_LARGE = (-1.12853181, -0.635658503, -0.105341598, 0.0229416471, -0.00323122391, 0.00021597436)
# log2(1 - erf x) / x, 0 <= x <= 4: the error in erf is 2^-26
_WHOLE = (-1.6279085874557495, -0.9184163808822632, -0.1484816074371338, 0.02825368009507656, -0.0007746291230432689,
          -0.001489441841840744, 0.00044550769962370396, -4.535860352916643e-05)
_TAIL = {  # erfc(x) e^(x^2) (1 + 2x) in (x - 2) / (x + 2), from 0.5 to where it is 0
    32: (1.27697837, -0.0927636251, -0.166030198, 0.164043188, -0.0542199202, -0.00795132201, 0.00869985949, 0.000954214891,
         -0.00132532907),  # error 2^-26
    64: (1.2769783815525286, -0.09276382658574604, -0.16603039761528882, 0.16405128003344877, -0.054220000992092246,
         -0.008034015082786516, 0.008722653877842823, 0.0012713389745785434, -0.0014568139905157288, -0.00045434093732743677,
         0.00020636774191562464, 0.00015103987035317083, -1.513947992219053e-06, -3.64253135411788e-05, -1.3472358501521296e-05,
         3.708018353520728e-06, 5.158266441813012e-06, 1.5436141214656206e-06, -5.689082947143847e-07, -9.646410890132393e-07,
         -3.8830107368462113e-07, 3.3713685292328246e-07, 1.900943970158799e-07, -1.0341223314514256e-07),  # 2^-53
}
_ZERO = {32: 10.1, 64: 27.3}  # where erfc has become 0


def _small(x: Value) -> Value:
    return x.mad((x * x).polynomial(_SMALL[x.bits]), x)


def erf(x: Value) -> Value:
    a = x.abs()
    if x.bits == 64:
        return (a < 0.84).choose(_small(a), 1.0 - _tail(a.at_most(6.0))).with_sign(x)
    t = a.at_most(4.0)
    large = 1.0 - small_exp(t * t.polynomial(_LARGE))
    return (a < 0.84).choose(_small(a), large).with_sign(x)


def erf_beside_one(x: Value) -> Value:
    """For sums with 1, as in GELU: the absolute error is 2^-23, which near 0 is not a small part of erf x. In f32; f64 as `erf`."""
    if x.bits == 64:
        return erf(x)
    t = x.abs().at_most(4.0)
    return (1.0 - exp2_of(t * t.polynomial(_WHOLE))).with_sign(x)


def _tail(a: Value) -> Value:
    """The value of erfc from 0.5 on."""
    t = (a - 2.0) / (a + 2.0)
    square = a * a
    rest = a.fma(a, -square)  # e^-(a^2) = e^-square (1 - rest)
    # A quotient p / (1 + 2a) and what it lacks.
    p, inverse = t.polynomial(_TAIL[a.bits]), 1.0 / (a + a + 1.0)
    q = p * inverse
    lack = q.fma(a * -2.0, p - q) * inverse
    return exp_times(-square, q, q.mad(-rest, lack))


def erfc(x: Value) -> Value:
    a = x.abs().at_most(_ZERO[x.bits])
    tail = _tail(a)
    tail = (x < 0.0).choose(2.0 - tail, tail)
    return (a < 0.5).choose(1.0 - _small(x), tail)
