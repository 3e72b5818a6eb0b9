"""The table of elementwise functions: what each one emits on compute scalars, which kinds it takes, and what it gives."""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi, sqrt

from mlc.dtypes import BOOL, BY_NAME, F64, DType
from mlc.ir.scalar import Scalar, constant, select


@dataclass(frozen=True)
class Function:
    """One elementwise function: how many operands, what it emits (on compute scalars, then its parameters), the kinds it takes.

    result: the element type it gives (None: the operands'). params: the names of its parameters, in order.
    """

    arity: int
    emit: Callable[..., Scalar]
    kinds: str = "fiu"
    result: DType | None = None
    params: tuple[str, ...] = ()


def _math(name: str) -> Function:
    return Function(1, lambda x: x.math(name), "f")


def _like(x: Scalar, value: float) -> Scalar:
    return constant(value, x.dtype)


def _sigmoid(x: Scalar) -> Scalar:
    return _like(x, 1.0).over(1.0 + (-x).math("exp"))


def _softplus(x: Scalar) -> Scalar:
    """log(1 + exp(x)) without the overflow of exp."""
    return x.max(0) + (-x.abs()).math("exp").math("log1p")


def _mish(x: Scalar) -> Scalar:
    """X * tanh(softplus(x)), with tanh(log(1 + e)) as a ratio of polynomials in e = exp(x); beyond 20 the ratio is 1."""
    e = x.min(20).math("exp")
    n = e * (e + 2.0)
    return x * n.over(n + 2.0)


def _gelu(x: Scalar) -> Scalar:
    return 0.5 * x * (1.0 + (x * sqrt(0.5)).math("erf"))


def _gelu_tanh(x: Scalar) -> Scalar:
    return 0.5 * x * (1.0 + (sqrt(2 / pi) * (x + 0.044715 * x * x * x)).math("tanh"))


def _sign(x: Scalar) -> Scalar:
    """-1, 0, 1; zeros and NaN are their own sign."""
    if x.dtype.kind == "u":
        return x.min(1)
    return select(x > 0, _like(x, 1), select(x < 0, _like(x, -1), x))


def _elu(x: Scalar, alpha: float) -> Scalar:
    return select(x < 0, alpha * x.math("expm1"), x)


def _selu(x: Scalar, alpha: float, gamma: float) -> Scalar:
    return gamma * _elu(x, alpha)


def _celu(x: Scalar, alpha: float) -> Scalar:
    return x.max(0) + (alpha * (x / alpha).math("expm1")).min(0)


def _shrink(x: Scalar, bias: float, lambd: float) -> Scalar:
    if not x.dtype.is_float:
        return _shrink(x.to(F64), bias, lambd).to(x.dtype)
    return select(x < -lambd, x + bias, select(x > lambd, x - bias, _like(x, 0)))


def _is_inf(x: Scalar, negative: float, positive: float) -> Scalar:
    inf = float("inf")
    found = [x.eq(sign) for sign, wanted in ((-inf, negative), (inf, positive)) if wanted]
    return found[0] | found[1] if len(found) == 2 else found[0] if found else constant(False, BOOL)


def _mod(a: Scalar, b: Scalar) -> Scalar:
    """A - floor(a / b) * b: the sign of b. Integer x mod 0 = 0."""
    rest = a.rem(b)
    if a.dtype.kind == "u":
        return rest
    moved = select((rest < 0) ^ (b < 0), rest + b, rest)
    return select(rest.eq(0), rest.copysign(b) if a.dtype.is_float else rest, moved)


def _power(x: Scalar, exponent: float) -> Scalar:
    """X to a fixed integer power >= 0, by squaring."""
    n, result = int(exponent), None
    while n:
        if n & 1:
            result = x if result is None else result * x
        n >>= 1
        x = x * x if n else x
    return _like(x, 1) if result is None else result


def _root(x: Scalar) -> Scalar:
    """pow(x, 0.5): like sqrt but for -0, whose root is +0, and -inf, whose root is +inf."""
    return select(x.eq(float("-inf")), -x, (x + 0.0).math("sqrt"))


def _shift(x: Scalar, amount: Scalar, left: bool) -> Scalar:
    """Amounts outside of the width, negative ones included, shift every bit out."""
    width = x.dtype.bits
    steps = amount.bitcast(BY_NAME[f"ui{width}"])
    inside = steps < width
    safe = steps.min(width - 1).bitcast(x.dtype)
    if left:
        return select(inside, x.shl(safe), _like(x, 0))
    moved = x.shr(safe)
    return moved if x.dtype.kind == "i" else select(inside, moved, _like(x, 0))  # signed: width - 1 steps leave the sign alone


FUNCTIONS: dict[str, Function] = {
    # arithmetic
    "add": Function(2, lambda a, b: a + b),
    "sub": Function(2, lambda a, b: a - b),
    "mul": Function(2, lambda a, b: a * b),
    "div": Function(2, lambda a, b: a / b),
    "min": Function(2, lambda a, b: a.min(b)),
    "max": Function(2, lambda a, b: a.max(b)),
    "mod": Function(2, _mod),
    "fmod": Function(2, lambda a, b: a.rem(b)),
    "pow": Function(2, lambda a, b: a.pow(b)),
    "power": Function(1, _power, params=("exponent",)),
    "root": Function(1, _root, "f"),
    "inverse_root": Function(1, lambda x: 1.0 / _root(x), "f"),
    "neg": Function(1, lambda x: -x),
    "abs": Function(1, lambda x: x.abs()),
    "sign": Function(1, _sign),
    "rsqrt": Function(1, lambda x: 1.0 / x.math("sqrt"), "f"),
    "reciprocal": Function(1, lambda x: 1.0 / x, "f"),
    "round": _math("roundeven"),
    # functions of the math library
    **{name: _math(name) for name in ("exp", "expm1", "log", "log1p", "sqrt", "erf", "floor", "ceil", "sin", "cos", "tan", "asin", "acos",
                                      "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh")},
    # activations
    "relu": Function(1, lambda x: x.max(0)),
    "sigmoid": Function(1, _sigmoid, "f"),
    "softplus": Function(1, _softplus, "f"),
    "softsign": Function(1, lambda x: x / (1.0 + x.abs()), "f"),
    "mish": Function(1, _mish, "f"),
    "gelu": Function(1, _gelu, "f"),
    "gelu_tanh": Function(1, _gelu_tanh, "f"),
    "swish": Function(1, lambda x, alpha: x * _sigmoid(alpha * x), "f", params=("alpha",)),
    "elu": Function(1, _elu, "f", params=("alpha",)),
    "selu": Function(1, _selu, "f", params=("alpha", "gamma")),
    "celu": Function(1, _celu, "f", params=("alpha",)),
    "leaky_relu": Function(1, lambda x, alpha: select(x < 0, alpha * x, x), "f", params=("alpha",)),
    "thresholded_relu": Function(1, lambda x, alpha: select(x > alpha, x, _like(x, 0)), "f", params=("alpha",)),
    "hard_sigmoid": Function(1, lambda x, alpha, beta: (alpha * x + beta).min(1).max(0), "f", params=("alpha", "beta")),
    "hard_swish": Function(1, lambda x: x * (x * (1 / 6) + 0.5).min(1).max(0), "f"),
    "shrink": Function(1, _shrink, params=("bias", "lambd")),
    "prelu": Function(2, lambda x, slope: select(x < 0, slope * x, x)),
    # comparisons and logic; `and`, `or`, `xor`, `not` are bitwise on integers
    "eq": Function(2, lambda a, b: a.eq(b), "fiub", BOOL),
    "lt": Function(2, lambda a, b: a < b, "fiu", BOOL),
    "le": Function(2, lambda a, b: a <= b, "fiu", BOOL),
    "is_nan": Function(1, lambda x: x.is_nan(), "f", BOOL),
    "is_inf": Function(1, _is_inf, "f", BOOL, ("negative", "positive")),
    "and": Function(2, lambda a, b: a & b, "biu"),
    "or": Function(2, lambda a, b: a | b, "biu"),
    "xor": Function(2, lambda a, b: a ^ b, "biu"),
    "not": Function(1, lambda a: ~a, "biu"),
    "shl": Function(2, lambda a, b: _shift(a, b, left=True), "iu"),
    "shr": Function(2, lambda a, b: _shift(a, b, left=False), "iu"),
    "where": Function(3, select, "fiub"),
}

__all__ = ["FUNCTIONS", "Function"]
