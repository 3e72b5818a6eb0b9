"""exp and its family: x = n ln2 + r, a polynomial for e^r, and 2^n put together from bits.

The reduction (Cody and Waite, "Software Manual for the Elementary Functions", 1980) and the way of expm1 are those of fdlibm and Cephes;
the polynomials are our own minimax fits (Remez with coefficients rounded one by one), relative error below 2^-26 (f32), 2^-54 (f64).
"""

from dataclasses import dataclass

from mlc.passes.math.value import Value


@dataclass(frozen=True)
class _Format:
    """One float type. lowest, highest: e^x has long become 0 and infinity beyond; highest 2 x that tanh needs; ulp: of 1."""

    fraction: int
    bias: int
    ln2: tuple[float, float]  # the first part short enough that n times it is exact without fused multiply-add too
    q: tuple[float, ...]  # (e^r - 1 - r) / r^2 on |r| <= ln2 / 2
    powers: tuple[float, ...]  # (2^r - 1) / r on |r| <= 1/2
    lowest: float
    highest: float
    lowest2: float
    highest2: float
    tiny: float
    saturated: float

    @property
    def magic(self) -> float:
        """Adding it rounds to an integer, which then stands in the low bits of the sum."""
        return 1.5 * 2.0**self.fraction


_F32 = _Format(
    23, 127, (0.693359375, -2.12194440e-4),
    (0.49999997, 0.16666545, 0.0416674614, 0.00836643204, 0.00138684351),
    (0.693147182, 0.240226477, 0.0555035919, 0.0096185049, 0.00133912417, 0.000153274974),
    -104.0, 89.0, -151.0, 129.0, 2.0**-25, 20.0)
_F64 = _Format(
    52, 1023, (6.93147180369123816490e-01, 1.90821492927058770002e-10),
    (0.5, 0.1666666666666667, 0.04166666666666667, 0.0083333333333259, 0.0013888888888883581, 0.00019841269875637497,
     2.4801587326131077e-05, 2.755725436822675e-06, 2.755727290616548e-07, 2.510564479145537e-08, 2.091499245327924e-09),
    (0.6931471805599453, 0.24022650695910072, 0.05550410866482163, 0.00961812910762848, 0.0013333558146405757, 0.0001540353039337038,
     1.5252733842466233e-05, 1.3215486809155723e-06, 1.0178056621871601e-07, 7.054897073566271e-09, 4.455900399004889e-10,
     2.5729732482995757e-11),
    -746.0, 710.0, -1076.0, 1025.0, 2.0**-54, 40.0)

_LOG2E = 1.4426950408889634
_LOG2E_F32, _LOG2E_REST = 1.4426950216293335, 1.925963033500011e-08
_TANH_SMALL = (-0.333332807, 0.133314058, -0.0537365153, 0.0206281673, -0.00569229666)  # (tanh x - x) / x^3 in x^2, x <= 0.625
_SINH_SMALL = (0.166666672, 0.00833331048, 0.000198428956, 2.78221319e-06)  # (sinh x - x) / x^3 in x^2, x <= 1


def _format(x: Value) -> _Format:
    return _F32 if x.bits == 32 else _F64


def _reduce(x: Value, added: int) -> tuple[Value, Value]:
    """The r in [-ln2 / 2, ln2 / 2] with x = n ln2 + r, and bits whose low end is n + added."""
    fmt = _format(x)
    sum_ = x.mad(_LOG2E, fmt.magic + added)
    n = sum_ - (fmt.magic + added)
    return n.mad(-fmt.ln2[1], n.mad(-fmt.ln2[0], x)), sum_.as_bits()


def _scaled(p: Value, bits: Value) -> Value:
    """The product p 2^n in two steps: 2^n alone may be too large or, for subnormal results, too small. bits: n + 2 bias at the low end."""
    fmt = _format(p)
    half = (bits << (fmt.fraction - 1)) & -(1 << fmt.fraction)  # exponent field of 2^floor(n / 2)
    rest = (bits << fmt.fraction) - half
    return p * half.as_float() * rest.as_float()


def _exp_of_r(r: Value) -> Value:
    return r.polynomial((1.0, 1.0, *_format(r).q))


def _exponent(x: Value) -> tuple[Value, Value]:
    """An n near an f32 and bits whose low end is n + 127. At most 126 in size: beyond, 2^(x - n) over- or underflows by itself."""
    added = _F32.magic + _F32.bias
    sum_ = (x + added).capped(added - 126.0, added + 126.0)
    return sum_ - added, sum_.as_bits()


def exp(x: Value) -> Value:
    fmt = _format(x)
    if x.machine.exp2 and x.bits == 32:
        n, bits = _exponent(x * _LOG2E)
        rest = x.mad(_LOG2E_REST, x.mad(_LOG2E_F32, -n))
        return rest.quick_exp2() * (bits << fmt.fraction).as_float()
    r, bits = _reduce(x.at_least(fmt.lowest).at_most(fmt.highest), 2 * fmt.bias)
    return _scaled(_exp_of_r(r), bits)


def exp_times(x: Value, high: Value, low: Value) -> Value:
    """e^x (high + low) for a factor of moderate size, rounded once even where the result is subnormal."""
    fmt = _format(x)
    r, bits = _reduce(x.at_least(fmt.lowest).at_most(fmt.highest), 2 * fmt.bias)
    rest = r * r.polynomial((1.0, *fmt.q))  # e^r - 1
    return _scaled(high.mad(rest, low.mad(rest, low)) + high, bits)


def exp2_sum(high: Value, low: Value | None = None) -> Value:
    """2^(high + low) for a small low part; high is within (about) the bounds of `exp2`."""
    fmt = _format(high)
    added = fmt.magic + 2 * fmt.bias
    sum_ = high + added
    r = high - (sum_ - added)
    if low is not None:
        r = r + low
    return _scaled(r.polynomial((1.0, *fmt.powers)), sum_.as_bits())


def exp2(x: Value) -> Value:
    fmt = _format(x)
    if x.machine.exp2 and x.bits == 32:
        n, bits = _exponent(x)
        return (x - n).quick_exp2() * (bits << fmt.fraction).as_float()
    return exp2_sum(x.at_least(fmt.lowest2).at_most(fmt.highest2))


def small_exp(x: Value) -> Value:
    """e^x where that neither overflows nor is subnormal. Its relative error is |x| ulp or less."""
    fmt = _format(x)
    if x.machine.exp2 and x.bits == 32:
        return (x * _LOG2E).quick_exp2()
    r, bits = _reduce(x, fmt.bias)
    return _exp_of_r(r) * (bits << fmt.fraction).as_float()


def exp2_of(x: Value) -> Value:
    """2^x where that neither overflows nor is subnormal, in f32."""
    if x.machine.exp2:
        return x.quick_exp2()
    fmt = _format(x)
    sum_ = x + (fmt.magic + fmt.bias)
    r = x - (sum_ - (fmt.magic + fmt.bias))
    return r.polynomial((1.0, *fmt.powers)) * (sum_.as_bits() << fmt.fraction).as_float()


def expm1(x: Value) -> Value:
    fmt = _format(x)
    c = x.at_least(-fmt.saturated).at_most(fmt.highest)
    # 2^(n-1), doubled at the end: 2^n overflows below the largest result.
    r, bits = _reduce(c, fmt.bias - 1)
    scale = (bits << fmt.fraction).as_float()
    q = (r * r).mad(r.polynomial(fmt.q), r)
    result = scale.mad(q, scale - 0.5) * 2.0
    return (x.abs() < fmt.tiny).choose(x, result)  # keeps -0 and subnormals


def tanh(x: Value) -> Value:
    """1 - 2 / (e^2|x| + 1), and in f32 a polynomial for small x; in f64 t / (t + 2) with t = expm1(2|x|) serves both."""
    fmt, a = _format(x), x.abs()
    if x.bits == 64:
        t = expm1((a + a).at_most(fmt.saturated))
        return (t / (t + 2.0)).with_sign(x)
    large = 1.0 - 2.0 * (small_exp((a + a).at_most(fmt.saturated)) + 1.0).reciprocal()
    z = a * a
    small = (a * z).mad(z.polynomial(_TANH_SMALL), a)
    return (a < 0.625).choose(small, large).with_sign(x)


def _half_exp(a: Value) -> Value:
    """e^a / 2 for a >= 0."""
    fmt = _format(a)
    r, bits = _reduce(a.at_most(fmt.highest + 1.0), 2 * fmt.bias - 1)
    return _scaled(_exp_of_r(r), bits)


def sinh(x: Value) -> Value:
    """(e^|x| - e^-|x|) / 2; near 0 a polynomial (f32), or (t + t / (t + 1)) / 2 with t = expm1 |x| (f64)."""
    a = x.abs()
    if x.bits == 64:
        h, t = _half_exp(a), expm1(a.at_most(1.0))
        return (a < 1.0).choose((t + t / (t + 1.0)) * 0.5, h - 0.25 / h).with_sign(x)
    h, z = _half_exp(a), a * a
    small = (a * z).mad(z.polynomial(_SINH_SMALL), a)
    return (a < 1.0).choose(small, h - 0.25 / h).with_sign(x)


def cosh(x: Value) -> Value:
    h = _half_exp(x.abs())
    return h + 0.25 / h
