"""Random ONNX ops: numbers from graph.random, the same in every run of a model, others than other runtimes give for a seed."""

import hashlib
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from mlc.dialects import graph
from mlc.dtypes import F32, F64, I32, I64, DType
from mlc.errors import ModelError
from mlc.frontend.onnx.context import NodeContext
from mlc.frontend.onnx.ops._emit import add, cast, mul, reshape, scalar, shape_of
from mlc.frontend.onnx.ops.elementwise import one_element
from mlc.frontend.onnx.registry import converter
from mlc.frontend.onnx.values import Tensor
from mlc.ir.mlir import ir


def _seed(ctx: NodeContext) -> int:
    """The node's seed, or one of its own made from its name, so that nodes differ and compiling twice gives the same program."""
    seed = ctx.attr("seed", None)
    if seed is None:
        return int.from_bytes(hashlib.sha256(ctx.label.encode()).digest()[:8], "little")
    return seed if isinstance(seed, int) else int.from_bytes(struct.pack("<f", seed), "little")


def _draw(ctx: NodeContext, distribution: str, shape: Sequence[int], like: DType) -> ir.Value:
    """Random numbers in the type that values of `like` are computed in."""
    if min(shape, default=0) < 0:
        raise ModelError(f"the shape is {list(shape)}: no dimension may be negative", node=ctx.label)
    return graph.random(shape, distribution, _seed(ctx), F64 if like == F64 else F32)


def _scaled(ctx: NodeContext, distribution: str, shape: Sequence[int], dtype: DType) -> ir.Value:
    if not dtype.is_float:
        raise ModelError(f"random numbers are floats; dtype is {dtype}", node=ctx.label)
    if distribution == "normal":
        offset, factor = ctx.attr("mean", 0.0), ctx.attr("scale", 1.0)
    else:
        offset = ctx.attr("low", 0.0)
        factor = ctx.attr("high", 1.0) - offset
    return cast(add(mul(_draw(ctx, distribution, shape, dtype), factor), offset), dtype)


@converter("RandomNormal")
def random_normal(ctx: NodeContext) -> Sequence[Any]:
    return [_scaled(ctx, "normal", ctx.attr("shape"), ctx.dtype_attr("dtype", F32))]


@converter("RandomUniform")
def random_uniform(ctx: NodeContext) -> Sequence[Any]:
    return [_scaled(ctx, "uniform", ctx.attr("shape"), ctx.dtype_attr("dtype", F32))]


@converter("RandomNormalLike")
def random_normal_like(ctx: NodeContext) -> Sequence[Any]:
    return [_scaled(ctx, "normal", ctx.shape(0), ctx.dtype_attr("dtype", ctx.dtype(0)))]


@converter("RandomUniformLike")
def random_uniform_like(ctx: NodeContext) -> Sequence[Any]:
    return [_scaled(ctx, "uniform", ctx.shape(0), ctx.dtype_attr("dtype", ctx.dtype(0)))]


@converter("Bernoulli", since=15)
def bernoulli(ctx: NodeContext) -> Sequence[Any]:
    drawn = _draw(ctx, "uniform", ctx.shape(0), ctx.dtype(0))
    hit = graph.elementwise("lt", drawn, cast(ctx.ir(0), F64 if ctx.dtype(0) == F64 else F32))
    return [cast(hit, ctx.dtype_attr("dtype", ctx.dtype(0)))]


@converter("Multinomial", since=7)
def multinomial(ctx: NodeContext) -> Sequence[Any]:
    """Samples by the largest of log-probability + Gumbel noise, which needs no sums."""
    shape, samples, dtype = ctx.shape(0), ctx.attr("sample_size", 1), ctx.dtype_attr("dtype", I32)
    if len(shape) != 2 or not shape[1] or samples < 1 or dtype not in (I32, I64):
        raise ModelError(f"draws i32 or i64 from [batch, classes], got {list(shape)}, sample_size {samples}, dtype {dtype}", node=ctx.label)
    noise = _draw(ctx, "uniform", (shape[0], samples, shape[1]), ctx.dtype(0))
    for _ in range(2):
        noise = graph.elementwise("neg", graph.elementwise("log", noise))
    score = graph.elementwise("add", noise, cast(reshape(ctx.ir(0), (shape[0], 1, shape[1])), F64 if ctx.dtype(0) == F64 else F32))
    return [cast(graph.arg(score, kind="max", axis=2, keepdims=False), dtype)]


@converter("Dropout")
def dropout_1(ctx: NodeContext) -> Sequence[Any]:
    ctx.ignore("consumed_inputs")
    ratio = ctx.attr("ratio", 0.5)
    if ctx.attr("is_test", 0) or ratio == 0:
        return _kept(ctx, ctx.dtype(0))
    y, mask = _dropped(ctx, scalar(ratio, F32))
    return [y, cast(mask, ctx.dtype(0))]


@converter("Dropout", since=7)
def dropout_7(ctx: NodeContext) -> Sequence[Any]:
    """From opset 7 to 11 it does nothing but in training, which ONNX could not express."""
    ctx.ignore("ratio")
    return _kept(ctx, ctx.dtype(0) if ctx.opset < 10 else None)


@converter("Dropout", since=12)
def dropout(ctx: NodeContext) -> Sequence[Any]:
    training = ctx.maybe_tensor(2)
    ratio = ctx.maybe_tensor(1)
    if training is None or _known_zero(training) or _known_zero(ratio):
        ctx.ignore("seed")
        return _kept(ctx)
    y, mask = _dropped(ctx, scalar(0.5, F32) if ratio is None else cast(one_element(ctx, 1), F32))
    if training is not None and not training.is_known:
        on = one_element(ctx, 2)
        y, mask = graph.elementwise("where", on, y, ctx.ir(0)), graph.elementwise("or", mask, graph.elementwise("not", on))
    return [y, mask]


def _known_zero(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.is_known and not tensor.value.any()


def _kept(ctx: NodeContext, mask: DType | None = None) -> list[Any]:
    """Everything stays; the mask is bool unless said otherwise."""
    ones = np.ones((), mask.numpy if mask else np.bool_)
    return [ctx.ir(0), graph.broadcast(ctx.const(ones), shape=list(ctx.shape(0))) if ctx.wants(1) else None]


def _dropped(ctx: NodeContext, ratio: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The input with a share of `ratio` (f32) set to zero and the rest made larger for it, and what was kept."""
    x, dtype = ctx.ir(0), ctx.dtype(0)
    keep = graph.elementwise("le", ratio, graph.random(shape_of(x), "uniform", _seed(ctx)))
    factor = graph.elementwise("reciprocal", graph.elementwise("sub", scalar(1, F32), ratio))
    through = F64 if dtype == F64 else F32
    y = mul(cast(x, through), cast(factor, through))
    return graph.elementwise("where", keep, cast(y, dtype), scalar(0, dtype)), keep
