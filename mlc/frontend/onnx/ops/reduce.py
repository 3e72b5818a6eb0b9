"""Reductions, positions of extrema, running sums, and softmax in its two generations."""

from collections.abc import Sequence
from math import prod

import numpy as np

from mlc.dialects import graph
from mlc.dtypes import I64
from mlc.errors import ModelError
from mlc.frontend.onnx.context import NodeContext
from mlc.frontend.onnx.ops._emit import apply, cast, dtype_of, positions, reshape, shape_of
from mlc.frontend.onnx.registry import converter
from mlc.ir.mlir import ir

KINDS = {"ReduceSum": "sum", "ReduceMean": "mean", "ReduceMax": "max", "ReduceMin": "min", "ReduceProd": "prod", "ReduceL1": "l1",
         "ReduceL2": "l2", "ReduceSumSquare": "sum_square", "ReduceLogSum": "log_sum", "ReduceLogSumExp": "log_sum_exp"}


def axis_of(ctx: NodeContext, axis: int, rank: int) -> int:
    """A dimension number counted from the front; ModelError outside of the rank."""
    if not -rank <= axis < rank:
        raise ModelError(f"axis {axis} is outside of a tensor of rank {rank}", node=ctx.label)
    return axis % rank


def _axes(ctx: NodeContext, rank: int) -> list[int]:
    """From the attribute or, in later opsets, the input; none means all, or (noop_with_empty_axes) none."""
    given = ctx.attr("axes", None) if ctx.has_attr("axes") else ctx.maybe_value(1)
    if given is not None and np.ndim(given) != 1:
        raise ModelError(f"axes must be a vector, found {given}", node=ctx.label)
    axes = [] if given is None else [int(a) for a in given]
    if not axes:
        return [] if ctx.attr("noop_with_empty_axes", 0) else list(range(rank))
    found = sorted({axis_of(ctx, a, rank) for a in axes})
    if len(found) != len(axes):
        raise ModelError(f"axes {axes} name a dimension twice", node=ctx.label)
    return found


def reduce(ctx: NodeContext) -> Sequence[ir.Value]:
    x = ctx.ir(0)
    return [graph.reduce(x, kind=KINDS[ctx.op], axes=_axes(ctx, len(shape_of(x))), keepdims=bool(ctx.attr("keepdims", 1)))]


for _name in KINDS:
    converter(_name)(reduce)


@converter("ArgMax")
@converter("ArgMin")
def arg(ctx: NodeContext) -> Sequence[ir.Value]:
    x = ctx.ir(0)
    return [graph.arg(x, kind="max" if ctx.op == "ArgMax" else "min", axis=axis_of(ctx, ctx.attr("axis", 0), len(shape_of(x))),
                      last=bool(ctx.attr("select_last_index", 0)), keepdims=bool(ctx.attr("keepdims", 1)))]


@converter("CumSum")
@converter("CumProd")
def scan(ctx: NodeContext) -> Sequence[ir.Value]:
    x, axis = ctx.ir(0), ctx.value(1)
    if axis.size != 1:
        raise ModelError(f"axis {axis.tolist()} must be one number", node=ctx.label)
    return [graph.scan(x, kind="sum" if ctx.op == "CumSum" else "prod", axis=axis_of(ctx, int(axis.reshape(())), len(shape_of(x))),
                       exclusive=bool(ctx.attr("exclusive", 0)), reverse=bool(ctx.attr("reverse", 0)))]


def _matrix(ctx: NodeContext, x: ir.Value, axis: int) -> ir.Value:
    """Before opset 13 softmax and its kin saw a matrix: the dimensions before `axis`, and those from it on."""
    shape = shape_of(x)
    at = axis_of(ctx, axis, len(shape)) if axis != len(shape) else axis
    return reshape(x, (prod(shape[:at]), prod(shape[at:])))


def _hardmax(x: ir.Value, axis: int) -> ir.Value:
    """1 at the first maximum, 0 elsewhere."""
    shape = shape_of(x)
    best = graph.arg(x, kind="max", axis=axis, keepdims=True)
    place = reshape(positions(shape[axis], I64), (shape[axis], *[1] * (len(shape) - axis - 1)))
    return cast(apply("eq", place, best), dtype_of(x))


FUNCTIONS = {"Softmax": lambda x, axis: graph.softmax(x, axis=axis), "LogSoftmax": lambda x, axis: graph.softmax(x, axis=axis, log=True),
             "Hardmax": _hardmax}


def softmax_1(ctx: NodeContext) -> Sequence[ir.Value]:
    x, axis = ctx.ir(0), ctx.attr("axis", 1)
    shape = shape_of(x)
    if axis in (-1, len(shape) - 1):
        return [FUNCTIONS[ctx.op](x, len(shape) - 1)]
    return [reshape(FUNCTIONS[ctx.op](_matrix(ctx, x, axis), 1), shape)]


def softmax_13(ctx: NodeContext) -> Sequence[ir.Value]:
    x = ctx.ir(0)
    return [FUNCTIONS[ctx.op](x, axis_of(ctx, ctx.attr("axis", -1), len(shape_of(x))))]


for _name in FUNCTIONS:
    converter(_name)(softmax_1)
    converter(_name, since=13)(softmax_13)

__all__ = ["axis_of"]
