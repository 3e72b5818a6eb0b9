"""Losses, and the optimisers of ai.onnx.preview.training."""

from collections.abc import Callable, Sequence

from mlc.dialects import graph
from mlc.dtypes import I64
from mlc.errors import ModelError
from mlc.frontend.onnx.context import NodeContext
from mlc.frontend.onnx.ops._emit import add, apply, cast, div, dtype_of, mul, positions, reshape, scalar, shape_of, sub, wide
from mlc.frontend.onnx.registry import converter
from mlc.ir.mlir import ir

TRAINING = "ai.onnx.preview.training"


@converter("NegativeLogLikelihoodLoss")
def negative_log_likelihood_loss(ctx: NodeContext) -> Sequence[ir.Value]:
    x = ctx.ir(0)
    return [cast(_loss(ctx, cast(x, wide(dtype_of(x)))), dtype_of(x))]


@converter("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy_loss(ctx: NodeContext) -> Sequence[ir.Value]:
    x = ctx.ir(0)
    logs = graph.softmax(cast(x, wide(dtype_of(x))), axis=1, log=True)
    return [cast(_loss(ctx, logs), dtype_of(x)), cast(logs, dtype_of(x))]


def _loss(ctx: NodeContext, logs: ir.Value) -> ir.Value:
    """-logs[target] * weight[target], reduced. Looking up the class is a sum over classes of which all but one are zero."""
    target, weight, ignored, reduction = ctx.ir(1), ctx.maybe_ir(2), ctx.attr("ignore_index", None), ctx.attr("reduction", "mean")
    batch, classes, *rest = shape_of(logs)
    if shape_of(target) != (batch, *rest) or reduction not in ("none", "sum", "mean"):
        raise ModelError(f"target {list(shape_of(target))} and reduction {reduction!r} do not fit scores {list(shape_of(logs))}",
                         node=ctx.label)
    target = cast(target, I64)
    here = apply("eq", reshape(positions(classes), (classes, *[1] * len(rest))), reshape(target, (batch, 1, *rest)))

    def look_up(table: ir.Value) -> ir.Value:
        return graph.reduce(apply("where", here, table, 0.0), kind="sum", axes=[1])

    weights = None
    if weight is not None:
        weights = look_up(reshape(cast(weight, dtype_of(logs)), (classes, *[1] * len(rest))))
    if ignored is not None:
        kept = apply("not", apply("eq", target, ignored))
        weights = cast(kept, dtype_of(logs)) if weights is None else apply("where", kept, weights, 0.0)
    loss = sub(0.0, look_up(logs))
    if weights is not None:
        loss = mul(loss, weights)
    if reduction == "none":
        return loss
    axes = list(range(len(shape_of(loss))))
    if reduction == "mean" and weights is None:
        return graph.reduce(loss, kind="mean", axes=axes)
    total = graph.reduce(loss, kind="sum", axes=axes)
    return div(total, graph.reduce(weights, kind="sum", axes=axes)) if reduction == "mean" else total


# Optimisers: inputs are the rate R, the count T, then per tensor X, G and one or two states, each kind together; outputs the same
# without G.

Update = Callable[[ir.Value, ir.Value, list[ir.Value]], list[ir.Value]]


def _each(ctx: NodeContext, states: int, update: Update) -> list[ir.Value]:
    kinds = 2 + states
    count, left = divmod(len(ctx.node.input) - 2, kinds)
    if left or count < 1:
        raise ModelError(f"takes 2 inputs and {kinds} for each tensor, got {len(ctx.node.input)}", node=ctx.label)
    values = ctx.irs()
    rate, step = reshape(values[0], ()), reshape(values[1], ())
    results = []
    for i in range(count):
        own = [values[2 + k * count + i] for k in range(kinds)]
        dtype = dtype_of(own[0])
        results.append(update(cast(rate, dtype), cast(step, dtype), own))
    return [r[k] for k in range(kinds - 1) for r in results]


def _regularised(ctx: NodeContext, x: ir.Value, g: ir.Value) -> ir.Value:
    norm = ctx.attr("norm_coefficient", 0.0)
    return add(mul(x, norm), g) if norm else g


@converter("Adagrad", domain=TRAINING)
def adagrad(ctx: NodeContext) -> Sequence[ir.Value]:
    eps, decay = ctx.attr("epsilon", 1e-6), ctx.attr("decay_factor", 0.0)

    def update(rate: ir.Value, step: ir.Value, own: list[ir.Value]) -> list[ir.Value]:
        x, g, h = own
        g = _regularised(ctx, x, g)
        h = add(h, mul(g, g))
        rate = div(rate, add(mul(step, decay), 1.0))
        return [sub(x, div(mul(rate, g), add(apply("sqrt", h), eps))), h]

    return _each(ctx, 1, update)


@converter("Adam", domain=TRAINING)
def adam(ctx: NodeContext) -> Sequence[ir.Value]:
    alpha, beta, eps = ctx.attr("alpha", 0.9), ctx.attr("beta", 0.999), ctx.attr("epsilon", 1e-8)
    after = ctx.attr("norm_coefficient_post", 0.0)

    def update(rate: ir.Value, step: ir.Value, own: list[ir.Value]) -> list[ir.Value]:
        x, g, v, h = own
        g = _regularised(ctx, x, g)
        v = add(mul(v, alpha), mul(g, 1 - alpha))
        h = add(mul(h, beta), mul(mul(g, g), 1 - beta))
        correction = div(apply("sqrt", sub(1.0, _power(beta, step))), sub(1.0, _power(alpha, step)))
        rate = mul(rate, apply("where", apply("lt", 0.0, step), correction, 1.0))
        x = sub(x, mul(rate, div(v, add(apply("sqrt", h), eps))))
        return [mul(x, 1 - after) if after else x, v, h]

    return _each(ctx, 2, update)


def _power(base: float, exponent: ir.Value) -> ir.Value:
    return graph.elementwise("pow", scalar(base, dtype_of(exponent)), exponent)


@converter("Momentum", domain=TRAINING)
def momentum(ctx: NodeContext) -> Sequence[ir.Value]:
    alpha, beta, mode = ctx.attr("alpha"), ctx.attr("beta"), ctx.attr("mode")
    if mode not in ("standard", "nesterov"):
        raise ModelError(f"mode is {mode!r}, expected standard or nesterov", node=ctx.label)

    def update(rate: ir.Value, step: ir.Value, own: list[ir.Value]) -> list[ir.Value]:
        x, g, v = own
        g = _regularised(ctx, x, g)
        dtype = dtype_of(x)
        share = apply("where", apply("lt", 0.0, step), scalar(beta, dtype), scalar(1.0, dtype))
        v = add(mul(v, alpha), mul(share, g))
        return [sub(x, mul(rate, add(g, mul(v, alpha)) if mode == "nesterov" else v)), v]

    return _each(ctx, 1, update)
