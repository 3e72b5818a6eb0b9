"""com.microsoft quantised ops: products of packed weights, 8-bit ops as dequantise-op-quantise, integer products of quantised operands."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from mlc.dialects import graph
from mlc.dtypes import F32, U2, U4, U8, DType
from mlc.errors import ModelError
from mlc.frontend.onnx.context import NodeContext
from mlc.frontend.onnx.ops._emit import add, cast, cut, div, mul, reshape, scalar, shape_of, transpose
from mlc.frontend.onnx.ops.contraction import matmul_of
from mlc.frontend.onnx.ops.elementwise import inner, one_element
from mlc.frontend.onnx.ops.quantize import centred, columns, dynamic_quantize, requantize, rows
from mlc.frontend.onnx.registry import converter
from mlc.frontend.onnx.values import Tensor
from mlc.ir.mlir import ir

MICROSOFT = "com.microsoft"


# -- weights of few bits --------------------------------------------------------------------------------------------


@converter("MatMulNBits", domain=MICROSOFT)
def matmul_nbits(ctx: NodeContext) -> Sequence[Any]:
    """A @ dequantise(b).T: b is [N, blocks, bytes], codes low bits first along K, scales and zero points one per block."""
    k, n, bits, block = (ctx.attr(name, default) for name, default in (("K", None), ("N", None), ("bits", 4), ("block_size", None)))
    ctx.ignore("accuracy_level", "weight_prepacked")  # how to compute, not what: a prepacked form would not have the shape checked below
    _check_nbits(ctx, k, n, bits, block)
    if ctx.has(4):
        raise ctx.unsupported("g_idx (deprecated) is not supported; reorder the columns of the weights instead")
    a, dtype, blocks = ctx.ir(0), ctx.dtype(0), -(-k // block)
    b = reshape(unpacked(reshape(ctx.ir(1), (n, blocks, block * bits // 8)), bits), (n, blocks * block))
    scale = reshape(cast(ctx.ir(2), inner(dtype)), (n, blocks))
    weights = graph.dequantize(b, scale, _nbits_zero(ctx, n, blocks, bits), to=dtype, axis=1, block=block)
    y = matmul_of(a, cut(weights, 1, 0, k), transpose_b=True)
    return [y if (bias := ctx.maybe_ir(5)) is None else add(y, bias)]


def _check_nbits(ctx: NodeContext, k: Any, n: Any, bits: int, block: Any) -> None:
    if None in (k, n, block):
        raise ModelError("attributes K, N and block_size are required", node=ctx.label)
    if bits not in (2, 4, 8):
        raise ctx.unsupported(f"bits is {bits}; 2, 4 and 8 are supported")
    if min(k, n) < 1 or block < 16 or block & (block - 1):
        raise ModelError(f"K is {k}, N is {n}, block_size is {block}; expected positive sizes, and blocks of a power of two from 16",
                         node=ctx.label)
    blocks, size = -(-k // block), block * bits // 8
    if ctx.shape(0)[-1:] != (k,):
        raise ModelError(f"the last dimension of {list(ctx.shape(0))} must be K = {k}", node=ctx.label)
    if ctx.dtype(1) != U8 or ctx.tensor(1).size != n * blocks * size:
        raise ModelError(f"weights are {ctx.dtype(1)} {list(ctx.shape(1))}, expected ui8 {[n, blocks, size]}", node=ctx.label)
    if ctx.tensor(2).size != n * blocks:
        raise ModelError(f"scales have shape {list(ctx.shape(2))}, expected {[n, blocks]}", node=ctx.label)
    if ctx.has(3):
        expected = n * (-(-blocks * bits // 8) if ctx.dtype(3) == U8 else blocks)
        if ctx.tensor(3).size != expected or not (ctx.dtype(3) == U8 or ctx.dtype(3).is_float):
            raise ModelError(f"zero points are {ctx.dtype(3)} {list(ctx.shape(3))}, expected {expected} elements of ui8 or a float",
                             node=ctx.label)
    if ctx.has(5) and ctx.shape(5) != (n,):
        raise ModelError(f"bias has shape {list(ctx.shape(5))}, expected {[n]}", node=ctx.label)


def _nbits_zero(ctx: NodeContext, n: int, blocks: int, bits: int) -> ir.Value:
    if not ctx.has(3):
        return scalar(1 << (bits - 1), _code(bits))
    zero = ctx.ir(3)
    if ctx.dtype(3) != U8:
        return reshape(zero, (n, blocks))
    return cut(unpacked(reshape(zero, (n, -(-blocks * bits // 8))), bits), 1, 0, blocks)


def _code(bits: int) -> DType:
    return {2: U2, 4: U4, 8: U8}[bits]


def unpacked(x: ir.Value, bits: int) -> ir.Value:
    """Bytes as the unsigned integers of `bits` bits that they hold."""
    return x if bits == 8 else graph.unpack(x, _code(bits))


# -- integer products -----------------------------------------------------------------------------------------------


@converter("DynamicQuantizeMatMul", domain=MICROSOFT)
def dynamic_quantize_matmul(ctx: NodeContext) -> Sequence[Any]:
    """A is quantised to ui8 at run time: inputs A, B, b_scale, b_zero_point?, bias?."""
    a, scale, zero = dynamic_quantize(ctx.ir(0))
    return [_to_float(F32, a, ctx.ir(1), scale, columns(ctx.ir(2)), zero, ctx.maybe_ir(3), ctx.maybe_ir(4))]


@converter("MatMulIntegerToFloat", domain=MICROSOFT)
def matmul_integer_to_float(ctx: NodeContext) -> Sequence[Any]:
    """Inputs A, B, a_scale, b_scale, a_zero_point?, b_zero_point?, bias?."""
    zero_a = ctx.maybe_ir(4)
    zero_a = None if zero_a is None else rows(zero_a)
    return [_to_float(ctx.dtype(2), ctx.ir(0), ctx.ir(1), rows(ctx.ir(2)), columns(ctx.ir(3)), zero_a, ctx.maybe_ir(5), ctx.maybe_ir(6))]


def _to_float(to: DType, a: ir.Value, b: ir.Value, scale_a: ir.Value, scale_b: ir.Value, zero_a: ir.Value | None, zero_b: ir.Value | None,
              bias: ir.Value | None) -> ir.Value:
    total = matmul_of(centred(a, zero_a), centred(b, None if zero_b is None else columns(zero_b)))
    y = mul(cast(total, F32), mul(cast(scale_a, F32), cast(scale_b, F32)))
    return cast(y if bias is None else add(y, cast(bias, F32)), to)


@converter("QGemm", domain=MICROSOFT)
def qgemm(ctx: NodeContext) -> Sequence[Any]:
    """Alpha * a @ b + c on codes; c is i32 with the scale alpha * a_scale * b_scale. Without y_scale the result is f32."""
    if len(ctx.shape(0)) != 2 or len(ctx.shape(3)) != 2:
        raise ModelError(f"operands {list(ctx.shape(0))} and {list(ctx.shape(3))} must be matrices", node=ctx.label)
    a, b = centred(ctx.ir(0), one_element(ctx, 2)), transpose(ctx.ir(3), [1, 0] if ctx.attr("transB", 0) else [0, 1])
    total = matmul_of(a, centred(b, columns(ctx.ir(5))), transpose_a=bool(ctx.attr("transA", 0)))
    if (c := ctx.maybe_ir(6)) is not None:
        total = add(total, c)
    factor = mul(mul(one_element(ctx, 1), columns(ctx.ir(4))), ctx.attr("alpha", 1.0))
    if not ctx.has(7):
        return [mul(cast(total, F32), factor)]
    return [requantize(total, div(factor, one_element(ctx, 7)), one_element(ctx, 8) if ctx.has(8) else scalar(0, ctx.dtype(0)))]


# -- dequantise, compute in f32, quantise ---------------------------------------------------------------------------


def _float(ctx: NodeContext, i: int) -> ir.Value:
    """Inputs i, i + 1, i + 2 (codes, scale, zero point) as floats."""
    return graph.dequantize(ctx.ir(i), one_element(ctx, i + 1), _zero(ctx, i + 2, ctx.dtype(i)), to=F32)


def _codes(ctx: NodeContext, y: ir.Value, i: int, dtype: DType) -> ir.Value:
    """`y` by scale `i` and zero point `i + 1`."""
    return graph.quantize(y, one_element(ctx, i), _zero(ctx, i + 1, dtype))


def _zero(ctx: NodeContext, i: int, dtype: DType) -> ir.Value:
    return one_element(ctx, i) if ctx.has(i) else scalar(0, dtype)


def _binary(fn: str) -> Callable[[NodeContext], Sequence[Any]]:
    def convert(ctx: NodeContext) -> Sequence[Any]:
        return [_codes(ctx, graph.elementwise(fn, _float(ctx, 0), _float(ctx, 3)), 6, ctx.dtype(0))]

    return convert


converter("QLinearAdd", domain=MICROSOFT)(_binary("add"))
converter("QLinearMul", domain=MICROSOFT)(_binary("mul"))


@converter("QLinearSigmoid", domain=MICROSOFT)
def qlinear_sigmoid(ctx: NodeContext) -> Sequence[Any]:
    return [_codes(ctx, graph.elementwise("sigmoid", _float(ctx, 0)), 3, ctx.dtype(0))]


@converter("QLinearLeakyRelu", domain=MICROSOFT)
def qlinear_leaky_relu(ctx: NodeContext) -> Sequence[Any]:
    return [_codes(ctx, graph.elementwise("leaky_relu", _float(ctx, 0), params=[ctx.attr("alpha", 0.01)]), 3, ctx.dtype(0))]


@converter("QLinearSoftmax", domain=MICROSOFT)
def qlinear_softmax(ctx: NodeContext) -> Sequence[Any]:
    """opset: of the Softmax it stands for; before 13 that flattened everything from `axis` on."""
    shape = ctx.shape(0)
    axis, x = ctx.attr("axis", -1), _float(ctx, 0)
    if not -len(shape) <= axis < len(shape):
        raise ModelError(f"axis {axis} is outside of input {list(shape)}", node=ctx.label)
    axis %= len(shape)
    if ctx.attr("opset") < 13:
        y = reshape(graph.softmax(reshape(x, (prod(shape[:axis]), prod(shape[axis:]))), axis=1), shape)
    else:
        y = graph.softmax(x, axis=axis)
    return [_codes(ctx, y, 3, ctx.dtype(0))]


@converter("QLinearGlobalAveragePool", domain=MICROSOFT)
def qlinear_global_average_pool(ctx: NodeContext) -> Sequence[Any]:
    rank = len(ctx.shape(0))
    axes = list(range(1, rank - 1) if ctx.attr("channels_last", 0) else range(2, rank))
    return [_codes(ctx, graph.reduce(_float(ctx, 0), kind="mean", axes=axes, keepdims=True), 3, ctx.dtype(0))]


@converter("QLinearAveragePool", domain=MICROSOFT)
def qlinear_average_pool(ctx: NodeContext) -> Sequence[Any]:
    if ctx.attr("channels_last", 0):
        raise ctx.unsupported("channels_last is not supported")
    names = ("kernel_shape", "strides", "pads", "auto_pad", "ceil_mode", "count_include_pad")
    attributes = {name: value for name in names if (value := ctx.attr(name, None)) is not None}
    (y,) = ctx.op_call("AveragePool", Tensor.of_ir(_float(ctx, 0)), **attributes)
    assert isinstance(y, Tensor)
    return [_codes(ctx, ctx.to_ir(y), 3, ctx.dtype(0))]


@converter("QLinearReduceMean", domain=MICROSOFT)
def qlinear_reduce_mean(ctx: NodeContext) -> Sequence[Any]:
    rank = len(ctx.shape(0))
    axes = ctx.attr("axes", None) or list(range(rank))
    if any(not -rank <= a < rank for a in axes):
        raise ModelError(f"axes {axes} are outside of input {list(ctx.shape(0))}", node=ctx.label)
    y = graph.reduce(_float(ctx, 0), kind="mean", axes=sorted({a % rank for a in axes}), keepdims=bool(ctx.attr("keepdims", 1)))
    return [_codes(ctx, y, 3, ctx.dtype(0))]


@converter("QLinearWhere", domain=MICROSOFT)
def qlinear_where(ctx: NodeContext) -> Sequence[Any]:
    return [_codes(ctx, graph.elementwise("where", ctx.ir(0), _float(ctx, 1), _float(ctx, 4)), 7, ctx.dtype(1))]


@converter("QLinearConcat", domain=MICROSOFT)
def qlinear_concat(ctx: NodeContext) -> Sequence[Any]:
    """Inputs y_scale, y_zero_point, then codes, scale and zero point of each part."""
    if len(ctx.node.input) < 5 or len(ctx.node.input) % 3 != 2:
        raise ModelError(f"has {len(ctx.node.input)} inputs, expected 2 and then 3 for each part", node=ctx.label)
    parts = [_float(ctx, i) for i in range(2, len(ctx.node.input), 3)]
    rank, axis = len(shape_of(parts[0])), ctx.attr("axis")
    if not -rank <= axis < rank:
        raise ModelError(f"axis {axis} is outside of parts of rank {rank}", node=ctx.label)
    return [_codes(ctx, graph.concat(*parts, axis=axis % rank), 0, ctx.dtype(2))]
