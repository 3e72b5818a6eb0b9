"""Elementwise ONNX ops: every one is graph.elementwise functions with the op's broadcasting, defaults and old spellings applied here."""

from collections.abc import Callable, Sequence
from typing import Any

from mlc.dialects import graph
from mlc.dtypes import F32, F64, I64, U64, DType
from mlc.errors import ModelError
from mlc.frontend.onnx.context import NodeContext
from mlc.frontend.onnx.ops._emit import cut, reshape, scalar
from mlc.frontend.onnx.registry import converter
from mlc.ir.mlir import ir

UNARY = {
    **{name: name.lower() for name in (
        "Abs Acos Acosh Asin Asinh Atan Atanh Ceil Cos Cosh Erf Exp Floor Log Mish Neg Not Reciprocal Relu Round Sigmoid Sign Sin Sinh "
        "Softplus Softsign Sqrt Tan Tanh").split()},
    "BitwiseNot": "not", "HardSwish": "hard_swish", "IsNaN": "is_nan",
}
PARAMETRIC = {  # fn, then the attributes that are its parameters
    "Celu": ("celu", "alpha"), "Elu": ("elu", "alpha"), "HardSigmoid": ("hard_sigmoid", "alpha", "beta"),
    "LeakyRelu": ("leaky_relu", "alpha"), "Selu": ("selu", "alpha", "gamma"), "Shrink": ("shrink", "bias", "lambd"),
    "Swish": ("swish", "alpha"), "ThresholdedRelu": ("thresholded_relu", "alpha"),
}
BINARY = {  # fn, whether the operands change places
    "Add": ("add", False), "Sub": ("sub", False), "Mul": ("mul", False), "Div": ("div", False), "And": ("and", False), "Or": ("or", False),
    "Xor": ("xor", False), "Equal": ("eq", False), "Less": ("lt", False), "LessOrEqual": ("le", False), "Greater": ("lt", True),
    "GreaterOrEqual": ("le", True), "BitwiseAnd": ("and", False), "BitwiseOr": ("or", False), "BitwiseXor": ("xor", False),
}
SEVERAL = {"Max": "max", "Min": "min", "Sum": "add", "Mean": "add"}


def _unary(fn: str) -> Callable[[NodeContext], Sequence[Any]]:
    def convert(ctx: NodeContext) -> Sequence[Any]:
        ctx.ignore("consumed_inputs")  # opset 1: a hint about memory
        return [graph.elementwise(fn, ctx.ir(0))]

    return convert


def _parametric(fn: str, *names: str) -> Callable[[NodeContext], Sequence[Any]]:
    def convert(ctx: NodeContext) -> Sequence[Any]:
        ctx.ignore("consumed_inputs")
        return [graph.elementwise(fn, ctx.ir(0), params=[ctx.attr(name) for name in names])]

    return convert


def _binary(fn: str, swapped: bool) -> Callable[[NodeContext], Sequence[Any]]:
    def convert(ctx: NodeContext) -> Sequence[Any]:
        a, b = operands(ctx)
        return [graph.elementwise(fn, b, a) if swapped else graph.elementwise(fn, a, b)]

    return convert


def operands(ctx: NodeContext) -> tuple[ir.Value, ir.Value]:
    """The two operands of a broadcasting op. Before opset 7 only the second was broadcast, if `broadcast` was set, from `axis` on."""
    ctx.ignore("consumed_inputs")
    if ctx.opset >= 7:
        return ctx.ir(0), ctx.ir(1)
    a, b = ctx.shape(0), ctx.shape(1)
    axis = ctx.attr("axis")
    if not ctx.attr("broadcast"):
        if a != b:
            raise ModelError(f"operands {list(a)} and {list(b)} differ in shape, and the node does not set 'broadcast'", node=ctx.label)
        return ctx.ir(0), ctx.ir(1)
    if axis is None:
        return ctx.ir(0), ctx.ir(1)
    axis += len(a) if axis < 0 else 0
    if not 0 <= axis <= len(a) - len(b):
        raise ModelError(f"axis {axis} does not fit operands {list(a)} and {list(b)}", node=ctx.label)
    return ctx.ir(0), reshape(ctx.ir(1), (*b, *[1] * (len(a) - axis - len(b))))


def one_element(ctx: NodeContext, i: int) -> ir.Value:
    """Input `i`, one element, as a tensor of rank 0."""
    if ctx.tensor(i).size != 1:
        raise ModelError(f"input {ctx.input_name(i)} has shape {list(ctx.shape(i))}, expected one element", node=ctx.label)
    return reshape(ctx.ir(i), ())


def inner(dtype: DType) -> DType:
    """The type to chain operations in, so that a narrow float is rounded once."""
    return F32 if dtype.is_float and dtype.bits < 32 else dtype


for _name, _fn in UNARY.items():
    converter(_name)(_unary(_fn))
for _name, (_fn, *_attributes) in PARAMETRIC.items():
    converter(_name)(_parametric(_fn, *_attributes))
for _name, (_fn, _swapped) in BINARY.items():
    converter(_name)(_binary(_fn, _swapped))


def _several(fn: str, mean: bool) -> Callable[[NodeContext], Sequence[Any]]:
    def convert(ctx: NodeContext) -> Sequence[Any]:
        ctx.ignore("consumed_inputs")
        values, dtype = ctx.irs(), ctx.dtype(0)
        if len(values) == 1:
            return values
        through = inner(dtype)
        total = graph.cast(values[0], through)
        for value in values[1:]:
            total = graph.elementwise(fn, total, graph.cast(value, through))
        if mean:
            total = graph.elementwise("div", total, scalar(len(values), through))
        return [graph.cast(total, dtype)]

    return convert


for _name, _fn in SEVERAL.items():
    converter(_name)(_several(_fn, _name == "Mean"))


@converter("Gelu", since=20)
def gelu(ctx: NodeContext) -> Sequence[Any]:
    approximate = ctx.attr("approximate")
    if approximate not in ("none", "tanh"):
        raise ModelError(f"approximate is {approximate!r}, expected 'none' or 'tanh'", node=ctx.label)
    return [graph.elementwise("gelu_tanh" if approximate == "tanh" else "gelu", ctx.ir(0))]


@converter("SwiGLU", since=28)
def swiglu(ctx: NodeContext) -> Sequence[Any]:
    if ctx.shape(0) != ctx.shape(1):
        raise ModelError(f"gate {list(ctx.shape(0))} and value {list(ctx.shape(1))} differ in shape", node=ctx.label)
    dtype = ctx.dtype(0)
    gate, value = (graph.cast(ctx.ir(i), inner(dtype)) for i in (0, 1))
    return [graph.cast(graph.elementwise("mul", graph.elementwise("swish", gate, params=[ctx.attr("alpha")]), value), dtype)]


@converter("PRelu")
def prelu(ctx: NodeContext) -> Sequence[Any]:
    ctx.ignore("consumed_inputs")
    x, slope = ctx.shape(0), ctx.ir(1)
    if ctx.opset < 7 and len(x) > 1 and ctx.tensor(1).size != 1:  # one per channel
        slope = reshape(slope, (ctx.tensor(1).size, *[1] * (len(x) - 2)))
    if len(slope.type.shape) > len(x):
        raise ModelError(f"slope {list(slope.type.shape)} cannot be broadcast to {list(x)}", node=ctx.label)
    return [graph.elementwise("prelu", ctx.ir(0), slope)]


@converter("IsInf", since=10)
def is_inf(ctx: NodeContext) -> Sequence[Any]:
    return [graph.elementwise("is_inf", ctx.ir(0), params=[ctx.attr("detect_negative"), ctx.attr("detect_positive")])]


@converter("Where", since=9)
def where(ctx: NodeContext) -> Sequence[Any]:
    return [graph.elementwise("where", ctx.ir(0), ctx.ir(1), ctx.ir(2))]


@converter("BitShift", since=11)
def bit_shift(ctx: NodeContext) -> Sequence[Any]:
    direction = ctx.attr("direction")
    if direction not in ("LEFT", "RIGHT"):
        raise ModelError(f"direction is {direction!r}, expected 'LEFT' or 'RIGHT'", node=ctx.label)
    return [graph.elementwise("shl" if direction == "LEFT" else "shr", ctx.ir(0), ctx.ir(1))]


@converter("Mod", since=10)
def mod(ctx: NodeContext) -> Sequence[Any]:
    fmod = ctx.attr("fmod")
    if fmod not in (0, 1):
        raise ModelError(f"fmod is {fmod}, expected 0 or 1", node=ctx.label)
    return [graph.elementwise("fmod" if fmod else "mod", ctx.ir(0), ctx.ir(1))]


@converter("Clip")
def clip_by_attributes(ctx: NodeContext) -> Sequence[Any]:
    ctx.ignore("consumed_inputs")
    lower, upper = ctx.attr("min", None), ctx.attr("max", None)
    dtype = ctx.dtype(0)
    return [_clip(ctx.ir(0), *[None if v is None else scalar(v, dtype) for v in (lower, upper)])]


@converter("Clip", since=11)
def clip(ctx: NodeContext) -> Sequence[Any]:
    return [_clip(ctx.ir(0), *[one_element(ctx, i) if ctx.has(i) else None for i in (1, 2)])]


def _clip(x: ir.Value, lower: ir.Value | None, upper: ir.Value | None) -> ir.Value:
    """min(max(x, lower), upper): upper wins where the bounds cross."""
    x = x if lower is None else graph.elementwise("max", x, lower)
    return x if upper is None else graph.elementwise("min", x, upper)


@converter("Pow")
def pow_(ctx: NodeContext) -> Sequence[Any]:
    x, y = operands(ctx)
    exponent = ctx.tensor(1)
    if exponent.is_known and exponent.size == 1 and exponent.rank <= ctx.tensor(0).rank:
        simple = _fixed_power(x, ctx.dtype(0), float(exponent.value.reshape(-1)[0]))
        if simple is not None:
            return [simple]
    base, dtype = ctx.dtype(0), ctx.dtype(1)
    through = _power_type(base, dtype)
    return [graph.cast(graph.elementwise("pow", graph.cast(x, through), graph.cast(y, through)), base)]


def _fixed_power(x: ir.Value, dtype: DType, exponent: float) -> ir.Value | None:
    """Powers that need no pow: small whole numbers by squaring, square roots and inverses."""
    if 0 <= exponent <= (4 if dtype.is_float else 64) and exponent == int(exponent):
        return graph.elementwise("power", x, params=[exponent])
    if not dtype.is_float or exponent not in (-1.0, -0.5, 0.5):
        return None
    if exponent == -1.0:
        return graph.elementwise("reciprocal", x)
    return graph.elementwise("root" if exponent > 0 else "inverse_root", x)


def _power_type(base: DType, exponent: DType) -> DType:
    """The type in which base ** exponent is computed: exact for both operands as far as there is one."""
    if base == exponent:
        return base
    if base.is_integer and exponent.is_integer:
        return U64 if exponent == U64 else I64
    if F64 in (base, exponent) or not base.is_float or (exponent.is_integer and exponent.bits >= 32):
        return F64
    return F32


@converter("BitCast", since=26)
def bit_cast(ctx: NodeContext) -> Sequence[Any]:
    return [graph.bitcast(ctx.ir(0), ctx.dtype_attr("to"))]


@converter("BiasGelu", domain="com.microsoft")
def bias_gelu(ctx: NodeContext) -> Sequence[Any]:
    return [_biased(ctx, "gelu")]


@converter("FastGelu", domain="com.microsoft")
def fast_gelu(ctx: NodeContext) -> Sequence[Any]:
    return [_biased(ctx, "gelu_tanh")]


@converter("Gelu", domain="com.microsoft")
def microsoft_gelu(ctx: NodeContext) -> Sequence[Any]:
    return [_biased(ctx, "gelu")]


@converter("QuickGelu", domain="com.microsoft")
def quick_gelu(ctx: NodeContext) -> Sequence[Any]:
    return [graph.elementwise("swish", ctx.ir(0), params=[ctx.attr("alpha", 1.702)])]


@converter("BiasSplitGelu", domain="com.microsoft")
def bias_split_gelu(ctx: NodeContext) -> Sequence[Any]:
    dtype = ctx.dtype(0)
    if ctx.shape(0)[-1] % 2:
        raise ModelError(f"the last dimension of {list(ctx.shape(0))} must be even", node=ctx.label)
    x = graph.elementwise("add", ctx.ir(0), ctx.ir(1))
    last, half = len(ctx.shape(0)) - 1, ctx.shape(0)[-1] // 2
    left, right = (cut(x, last, start, half) for start in (0, half))
    product = graph.elementwise("mul", graph.cast(left, inner(dtype)), graph.elementwise("gelu", graph.cast(right, inner(dtype))))
    return [graph.cast(product, dtype)]


def _biased(ctx: NodeContext, fn: str) -> ir.Value:
    """fn(x + bias), rounded once; the bias is optional."""
    x, dtype = ctx.ir(0), ctx.dtype(0)
    if not ctx.has(1):
        return graph.elementwise(fn, x)
    total = graph.elementwise("add", *[graph.cast(v, inner(dtype)) for v in (x, ctx.ir(1))])
    return graph.cast(graph.elementwise(fn, total), dtype)


__all__ = ["inner", "one_element", "operands"]
