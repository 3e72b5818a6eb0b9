"""LSTM, GRU, RNN: the input projection of all steps is one product; the steps are a flow.loop over both directions at once.

With 16-bit floats everything between the products is f32, the cell state included. 16 bits have what ONNX shows: the results, and the
hidden state of a step, which is also the next factor.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from mlc.dialects import flow, graph
from mlc.dialects.graph import TensorType
from mlc.dtypes import I64, DType
from mlc.errors import ModelError
from mlc.frontend.onnx.context import NodeContext
from mlc.frontend.onnx.ops._emit import add, apply, cast, concat, cut, dtype_of, mul, positions, reshape, scalar, shape_of, sub, transpose
from mlc.frontend.onnx.registry import converter
from mlc.ir.mlir import ir
from mlc.ir.scalar import compute_dtype

Activation = Callable[[ir.Value], ir.Value]
# default alpha and beta; None: the function takes none
PARAMETERS: dict[str, tuple[float | None, float | None]] = {
    "relu": (None, None), "tanh": (None, None), "sigmoid": (None, None), "softsign": (None, None), "softplus": (None, None),
    "affine": (1.0, 0.0), "leakyrelu": (0.01, None), "thresholdedrelu": (1.0, None), "scaledtanh": (1.0, 1.0), "hardsigmoid": (0.2, 0.5),
    "elu": (1.0, None)}
NAMES = {"leakyrelu": "leaky_relu", "thresholdedrelu": "thresholded_relu", "hardsigmoid": "hard_sigmoid"}


def _activation(name: str, alpha: float | None, beta: float | None) -> Activation:
    if name == "affine":
        return lambda x: add(mul(x, alpha or 0.0), beta or 0.0)
    if name == "scaledtanh":
        return lambda x: mul(apply("tanh", mul(x, beta or 0.0)), alpha or 0.0)
    params = [p for p in (alpha, beta) if p is not None]
    return lambda x: graph.elementwise(NAMES.get(name, name), x, **({"params": params} if params else {}))


def _activations(ctx: NodeContext, defaults: Sequence[str], directions: int) -> list[list[Activation]]:
    """The functions of each direction; alphas and betas go in order to those that take one."""
    names = [str(n).lower() for n in ctx.attr("activations", None) or list(defaults) * directions]
    if len(names) != len(defaults) * directions or not all(n in PARAMETERS for n in names):
        raise ModelError(f"activations {names}: expected {len(defaults) * directions} of {', '.join(PARAMETERS)}", node=ctx.label)
    given: list[Iterator[float]] = [iter(ctx.attr(f"activation_{p}", None) or []) for p in ("alpha", "beta")]
    made = [_activation(n, *[None if d is None else next(values, d) for d, values in zip(PARAMETERS[n], given)]) for n in names]
    return [made[d * len(defaults):(d + 1) * len(defaults)] for d in range(directions)]


@dataclass
class Layer:
    """What the three ops share. gates: rows of the weights are gates * hidden. dtype: the model's floats; wide: those computed with."""

    ctx: NodeContext
    gates: int
    activations: list[list[Activation]]
    hidden: int = field(init=False)
    directions: list[str] = field(init=False)
    dtype: DType = field(init=False)
    wide: DType = field(init=False)

    def __post_init__(self) -> None:
        ctx = self.ctx
        direction = ctx.attr("direction", "forward").lower()
        self.directions = {"forward": ["forward"], "reverse": ["reverse"], "bidirectional": ["forward", "reverse"]}.get(direction, [])
        self.hidden = [ctx.shape(i, rank=3) for i in range(3)][2][2]
        self.layout = ctx.attr("layout", 0)
        self.clip: float | None = ctx.attr("clip", None)
        ctx.ignore("output_sequence")  # opset 1: whether the first output is wanted, which its name says too
        x, w, r = ctx.ir(0), ctx.ir(1), ctx.ir(2)
        self.x = transpose(x, (1, 0, 2)) if self.layout else x
        self.steps, self.batch, width = shape_of(self.x)
        self.dtype, self.wide = dtype_of(self.x), compute_dtype(dtype_of(self.x))
        rows, count = self.gates * self.hidden, len(self.directions)
        stated = ctx.attr("hidden_size", self.hidden)
        if shape_of(w) != (count, rows, width) or shape_of(r) != (count, rows, self.hidden) or stated != self.hidden:
            raise ModelError(f"direction {direction}: W {list(shape_of(w))} and R {list(shape_of(r))} do not fit an input of width {width} "
                             f"and hidden_size {stated}", node=ctx.label)

    def of(self, i: int, d: int) -> ir.Value | None:
        """Direction d of input i, without that dimension."""
        value = self.ctx.maybe_ir(i)
        if value is None:
            return None
        part = cut(value, 0, d, 1)
        return reshape(part, shape_of(part)[1:])

    def projections(self, bias: Callable[[ir.Value, ir.Value], ir.Value]) -> list[ir.Value]:
        """Products x W^T + bias(Wb, Rb) of all steps, per direction: [S, B, gates*hidden], wide."""
        rows, found = self.gates * self.hidden, []
        flat = reshape(self.x, (self.steps * self.batch, shape_of(self.x)[2]))
        for d in range(len(self.directions)):
            w, b = self.of(1, d), self.of(3, d)
            assert w is not None
            y = graph.einsum("rk,nk->rn", flat, w, wide=True)
            if b is not None:
                b = self.widened(b)
                y = add(y, bias(cut(b, 0, 0, rows), cut(b, 0, rows, rows)))
            found.append(reshape(y, (self.steps, self.batch, rows)))
        return found

    def initial(self, i: int, d: int) -> ir.Value:
        """The first state [B, hidden], from input i or zero."""
        value = self.ctx.maybe_ir(i)
        if value is None:
            return graph.broadcast(scalar(0, dtype_of(self.x)), shape=[self.batch, self.hidden])
        part = cut(value, 1 if self.layout else 0, d, 1)
        return reshape(part, (self.batch, self.hidden))

    def widened(self, x: ir.Value) -> ir.Value:
        return cast(x, self.wide)

    def product(self, h: ir.Value, r: ir.Value) -> ir.Value:
        """The product h R^T, wide: [B, rows]. h may be wide, and is rounded to a factor."""
        return graph.einsum("bk,nk->bn", cast(h, self.dtype), r, wide=True)

    def gate(self, x: ir.Value, g: int) -> ir.Value:
        """Columns of gate number g."""
        return cut(x, len(shape_of(x)) - 1, g * self.hidden, self.hidden)

    def clipped(self, x: ir.Value) -> ir.Value:
        return x if not self.clip else apply("max", apply("min", x, self.clip), -self.clip)

    def run(self, projections: list[ir.Value], states: list[list[ir.Value]],
            step: Callable[[int, ir.Value, list[ir.Value]], list[ir.Value]]) -> list[ir.Value | None]:
        """The loop. states: of each direction, the hidden state first. step(direction, projection, states) gives new states, all wide; what
        is carried has the states' own types.

        Returns Y, Y_h, ...
        """
        count, each = len(self.directions), len(states[0])
        valid = self._valid()
        carried = [s for direction in states for s in direction]
        slices = [*projections, *([] if valid is None else [valid] * count)]
        backwards = [d == "reverse" for d in self.directions]
        stack = TensorType((self.steps, self.batch, self.hidden), dtype_of(self.x)).mlir()
        attributes: dict[str, object] = {"trip": self.steps, "carried": len(carried)}
        if any(backwards):
            attributes["reverse"] = [*backwards * (1 if valid is None else 2), *backwards]
        loop = flow.LoopOp.build([*carried, *slices], [*[s.type for s in carried], *[stack] * count], attributes)
        inner = [TensorType.of(s).with_shape(shape_of(s)[1:]).mlir() for s in slices]
        block = loop.operation.regions[0].blocks.append(TensorType((), I64).mlir(), *[s.type for s in carried], *inner)
        with ir.InsertionPoint(block):
            _, *arguments = block.arguments
            following, outputs = [], []
            for d in range(count):
                old = arguments[d * each:(d + 1) * each]
                made = step(d, arguments[len(carried) + d], [self.widened(s) for s in old])
                new = [cast(n, dtype_of(o)) for n, o in zip(made, old)]
                output = new[0]
                if valid is not None:
                    alive = arguments[len(carried) + count + d]
                    output = apply("where", alive, new[0], 0.0)
                    new = [graph.elementwise("where", alive, n, o) for n, o in zip(new, old)]
                following += new
                outputs.append(output)
            flow.YieldOp.build([*following, *outputs], [])
        results = list(loop.operation.results)
        lead = [reshape(y, (self.steps, 1, self.batch, self.hidden)) for y in results[len(carried):]]
        y = transpose(concat(lead, 1), (2, 0, 1, 3) if self.layout else (0, 1, 2, 3))
        return [y, *[cast(self._final(results[i:len(carried):each]), self.dtype) for i in range(each)]]

    def _valid(self) -> ir.Value | None:
        """[S, B, 1]: whether a step belongs to the sequence, if lengths are given."""
        lengths = self.ctx.maybe_ir(4)
        if lengths is None:
            return None
        return apply("lt", reshape(positions(self.steps), (self.steps, 1, 1)), reshape(cast(lengths, I64), (self.batch, 1)))

    def _final(self, states: list[ir.Value]) -> ir.Value:
        axis = 1 if self.layout else 0
        shape = (self.batch, 1, self.hidden) if self.layout else (1, self.batch, self.hidden)
        return concat([reshape(s, shape) for s in states], axis)

    def recurrence(self, d: int) -> ir.Value:
        """R of direction d."""
        r = self.of(2, d)
        assert r is not None
        return r


def _count(ctx: NodeContext) -> int:
    return 2 if ctx.attr("direction", "forward").lower() == "bidirectional" else 1


@converter("RNN")
def rnn(ctx: NodeContext) -> Sequence[ir.Value | None]:
    layer = Layer(ctx, 1, _activations(ctx, ["tanh"], _count(ctx)))
    weights = [layer.recurrence(d) for d in range(len(layer.directions))]

    def step(d: int, x: ir.Value, states: list[ir.Value]) -> list[ir.Value]:
        (f,) = layer.activations[d]
        return [f(layer.clipped(add(x, layer.product(states[0], weights[d]))))]

    return layer.run(layer.projections(add), [[layer.initial(5, d)] for d in range(len(weights))], step)


@converter("GRU")
def gru(ctx: NodeContext) -> Sequence[ir.Value | None]:
    """Gates z, r, h. The recurrent bias of h is multiplied by r when linear_before_reset says so, and then not part of the projection."""
    layer = Layer(ctx, 3, _activations(ctx, ["sigmoid", "tanh"], _count(ctx)))
    n, linear = layer.hidden, bool(ctx.attr("linear_before_reset", 0))
    weights = [layer.recurrence(d) for d in range(len(layer.directions))]
    biases = [layer.of(3, d) for d in range(len(weights))]

    def bias(w: ir.Value, r: ir.Value) -> ir.Value:
        return add(w, r) if not linear else concat([add(cut(w, 0, 0, 2 * n), cut(r, 0, 0, 2 * n)), cut(w, 0, 2 * n, n)], 0)

    parts = [(cut(w, 0, 0, 2 * n), cut(w, 0, 2 * n, n)) for w in weights]
    reset_bias = [None if b is None or not linear else layer.widened(cut(b, 0, 5 * n, n)) for b in biases]

    def step(d: int, x: ir.Value, states: list[ir.Value]) -> list[ir.Value]:
        (f, g), (h,), (r_zr, r_h) = layer.activations[d], states, parts[d]
        zr = f(layer.clipped(add(cut(x, 1, 0, 2 * n), layer.product(h, r_zr))))
        z, r = layer.gate(zr, 0), layer.gate(zr, 1)
        if linear:
            inner = layer.product(h, r_h)
            shift = reset_bias[d]
            inner = mul(r, inner if shift is None else add(inner, shift))
        else:
            inner = layer.product(mul(r, h), r_h)
        candidate = g(layer.clipped(add(layer.gate(x, 2), inner)))
        return [add(mul(sub(1.0, z), candidate), mul(z, h))]

    return layer.run(layer.projections(bias), [[layer.initial(5, d)] for d in range(len(weights))], step)


@converter("LSTM")
def lstm(ctx: NodeContext) -> Sequence[ir.Value | None]:
    """Gates i, o, f, c; peepholes i, o, f."""
    layer = Layer(ctx, 4, _activations(ctx, ["sigmoid", "tanh", "tanh"], _count(ctx)))
    weights = [layer.recurrence(d) for d in range(len(layer.directions))]
    peepholes = [None if (p := layer.of(7, d)) is None else layer.widened(p) for d in range(len(weights))]
    coupled = bool(ctx.attr("input_forget", 0))

    def step(d: int, x: ir.Value, states: list[ir.Value]) -> list[ir.Value]:
        (f, g, h), (hidden, cell), peep = layer.activations[d], states, peepholes[d]
        # Gates are a dimension of their own: a block can then make the four of a hidden unit and finish the unit in place.
        shape = (layer.batch, 4, layer.hidden)
        r = reshape(weights[d], (4, layer.hidden, layer.hidden))
        x = add(reshape(x, shape), graph.einsum("bk,gnk->bgn", cast(hidden, layer.dtype), r, wide=True))

        def gate(k: int, function: Activation, seen: ir.Value | None = None) -> ir.Value:
            v = reshape(cut(x, 1, k, 1), (layer.batch, layer.hidden))
            if peep is not None and seen is not None:
                v = add(v, mul(layer.gate(peep, k), seen))
            return function(layer.clipped(v))

        i = gate(0, f, cell)
        forget = sub(1.0, i) if coupled else gate(2, f, cell)
        cell = add(mul(forget, cell), mul(i, gate(3, g)))
        return [mul(gate(1, f, cell), h(cell)), cell]

    return layer.run(layer.projections(add), [[layer.initial(5, d), layer.widened(layer.initial(6, d))] for d in range(len(weights))], step)
