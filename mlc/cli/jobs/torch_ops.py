"""ONNX ops in terms of PyTorch, for `mlc bench --vs torch`: what exported networks are made of. `torch` is handed in, not imported."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from mlc.errors import UnsupportedError


class NodeView(Protocol):
    """One ONNX node while it is evaluated."""

    torch: Any
    opset: int

    def x(self, index: int) -> Any:
        """An input as a torch tensor, None where it is left out."""
        ...

    def value(self, index: int) -> list[Any] | None:
        """An input that decides shapes, as a list; None where it is left out. UnsupportedError if it depends on the model's inputs."""
        ...

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        ...

    @property
    def inputs(self) -> int:
        """How many inputs are written down."""
        ...

    @property
    def outputs(self) -> int:
        """As `inputs`."""
        ...


Op = Callable[[NodeView], Any]
"""Gives a tensor, or a sequence of them."""

UNARY = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Erf": "erf", "Sqrt": "sqrt", "Exp": "exp", "Log": "log", "Neg": "neg",
         "Abs": "abs", "Reciprocal": "reciprocal", "Floor": "floor", "Ceil": "ceil", "Not": "logical_not", "Sin": "sin", "Cos": "cos",
         "IsNaN": "isnan", "Sign": "sign"}
BINARY = {"Add": "add", "Sub": "sub", "Mul": "mul", "Pow": "pow", "Equal": "eq", "Greater": "gt", "GreaterOrEqual": "ge", "Less": "lt",
          "LessOrEqual": "le", "And": "logical_and", "Or": "logical_or", "Xor": "logical_xor", "MatMul": "matmul"}
REDUCE = {"ReduceMean": "mean", "ReduceSum": "sum", "ReduceMax": "amax", "ReduceMin": "amin"}


def _unary(name: str) -> Op:
    return lambda n: getattr(n.torch, name)(n.x(0))


def _binary(name: str) -> Op:
    return lambda n: getattr(n.torch, name)(n.x(0), n.x(1))


def _extreme(name: str) -> Op:
    def op(n: NodeView) -> Any:
        result = n.x(0)
        for i in range(1, n.inputs):
            result = getattr(n.torch, name)(result, n.x(i))
        return result

    return op


def _div(n: NodeView) -> Any:
    a, b = n.x(0), n.x(1)
    return a / b if a.is_floating_point() else n.torch.div(a, b, rounding_mode="trunc")


def _list(n: NodeView, index: int) -> list[Any]:
    """An input that decides shapes and that the op cannot do without."""
    return n.value(index) or []


def _axes(n: NodeView) -> list[int] | None:
    """Axes are an attribute in older opsets, an input in newer ones."""
    return n.value(1) if n.inputs > 1 else n.attr("axes")


def _reduce(name: str) -> Op:
    def op(n: NodeView) -> Any:
        x, axes = n.x(0), _axes(n)
        if not axes and n.attr("noop_with_empty_axes", 0):
            return x
        return getattr(x, name)(dim=axes or list(range(x.dim())), keepdim=bool(n.attr("keepdims", 1)))

    return op


def _reduce_l2(n: NodeView) -> Any:
    x = n.x(0)
    return n.torch.linalg.vector_norm(x, dim=_axes(n) or list(range(x.dim())), keepdim=bool(n.attr("keepdims", 1)))


def _padded(n: NodeView, x: Any, kernel: Sequence[int], fill: float) -> tuple[Any, list[int]]:
    """The window's input with what torch's symmetric padding cannot express already added, and the padding that is left."""
    rank = len(kernel)
    pads = n.attr("pads") or [0] * 2 * rank
    automatic = n.attr("auto_pad", b"NOTSET").decode()
    if automatic.startswith("SAME"):
        pads = _same(n, x.shape[2:], kernel, upper=automatic == "SAME_UPPER")
    if pads[:rank] == pads[rank:] and all(2 * p <= k for p, k in zip(pads, kernel)):
        return x, pads[:rank]
    flat = [p for pair in zip(reversed(pads[:rank]), reversed(pads[rank:])) for p in pair]
    return n.torch.nn.functional.pad(x, flat, value=fill), [0] * rank


def _same(n: NodeView, sizes: Sequence[int], kernel: Sequence[int], upper: bool) -> list[int]:
    rank = len(kernel)
    strides, dilations = n.attr("strides") or [1] * rank, n.attr("dilations") or [1] * rank
    totals = [max(0, (-(-size // s) - 1) * s + d * (k - 1) + 1 - size) for size, s, d, k in zip(sizes, strides, dilations, kernel)]
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return [*small, *large] if upper else [*large, *small]


def _conv(n: NodeView) -> Any:
    x, w = n.x(0), n.x(1)
    rank = w.dim() - 2
    x, padding = _padded(n, x, w.shape[2:], 0.0)
    conv = getattr(n.torch.nn.functional, f"conv{rank}d")
    return conv(x, w, n.x(2), n.attr("strides") or [1] * rank, padding, n.attr("dilations") or [1] * rank, n.attr("group", 1))


def _pool(name: str) -> Op:
    def op(n: NodeView) -> Any:
        kernel = n.attr("kernel_shape")
        rank = len(kernel)
        maximum = name == "max"
        x, padding = _padded(n, n.x(0), kernel, float("-inf") if maximum else 0.0)
        pool, ceil = getattr(n.torch.nn.functional, f"{name}_pool{rank}d"), bool(n.attr("ceil_mode", 0))
        strides = n.attr("strides") or [1] * rank
        if x is not n.x(0) and not maximum and not n.attr("count_include_pad", 0):
            raise UnsupportedError("--vs torch does not know AveragePool with uneven padding that it does not count")
        if maximum:
            return pool(x, kernel, strides, padding, n.attr("dilations") or [1] * rank, ceil)
        return pool(x, kernel, strides, padding, ceil, bool(n.attr("count_include_pad", 0)))

    return op


def _global_average(n: NodeView) -> Any:
    x = n.x(0)
    return x.mean(dim=list(range(2, x.dim())), keepdim=True)


def _batch_norm(n: NodeView) -> Any:
    return n.torch.nn.functional.batch_norm(n.x(0), n.x(3), n.x(4), n.x(1), n.x(2), eps=n.attr("epsilon", 1e-5))


def _layer_norm(n: NodeView) -> Any:
    x = n.x(0)
    shape = x.shape[n.attr("axis", -1) % x.dim():]
    bias = n.x(2)
    return n.torch.nn.functional.layer_norm(x, shape, n.x(1).expand(shape), None if bias is None else bias.expand(shape),
                                            n.attr("epsilon", 1e-5))


def _instance_norm(n: NodeView) -> Any:
    return n.torch.nn.functional.instance_norm(n.x(0), weight=n.x(1), bias=n.x(2), eps=n.attr("epsilon", 1e-5))


def _gemm(n: NodeView) -> Any:
    a, b, c = (n.x(i) for i in range(3))
    a, b = a.T if n.attr("transA", 0) else a, b.T if n.attr("transB", 0) else b
    alpha, beta = n.attr("alpha", 1.0), n.attr("beta", 1.0)
    if c is None:
        return a @ b if alpha == 1 else alpha * (a @ b)
    return n.torch.addmm(c, a, b, beta=beta, alpha=alpha)


def _softmax(name: str) -> Op:
    def op(n: NodeView) -> Any:
        x = n.x(0)
        axis = n.attr("axis", -1 if n.opset >= 13 else 1)
        if n.opset < 13:  # over everything from the axis on
            axis %= x.dim()
            return getattr(n.torch, name)(x.flatten(axis), -1).reshape(x.shape)
        return getattr(n.torch, name)(x, axis)

    return op


def _reshape(n: NodeView) -> Any:
    x = n.x(0)
    return x.reshape([x.shape[i] if d == 0 and not n.attr("allowzero", 0) else d for i, d in enumerate(_list(n, 1))])


def _unsqueeze(n: NodeView) -> Any:
    x, axes = n.x(0), _axes(n) or []
    for axis in sorted(a % (x.dim() + len(axes)) for a in axes):
        x = x.unsqueeze(axis)
    return x


def _squeeze(n: NodeView) -> Any:
    axes = _axes(n)
    return n.x(0).squeeze() if axes is None else n.x(0).squeeze(tuple(axes))


def _slice(n: NodeView) -> Any:
    x = n.x(0)
    if n.inputs == 1:
        starts, ends, axes, steps = n.attr("starts"), n.attr("ends"), n.attr("axes"), None
    else:
        starts, ends, axes, steps = _list(n, 1), _list(n, 2), n.value(3), n.value(4)
    for i, (start, end) in enumerate(zip(starts, ends)):
        axis, step = axes[i] if axes else i, steps[i] if steps else 1
        places = range(*slice(start, end, step).indices(x.shape[axis])) if step < 0 else None
        index = [slice(None)] * x.dim()
        index[axis] = slice(start, end, step)
        x = x[tuple(index)] if places is None else x.index_select(axis, n.torch.tensor(list(places), device=x.device))
    return x


def _split(n: NodeView) -> Any:
    x, axis = n.x(0), n.attr("axis", 0)
    sizes = n.value(1) if n.inputs > 1 else n.attr("split")
    if sizes is None:
        size, count = x.shape[axis], n.attr("num_outputs", n.outputs)
        part = -(-size // count)
        sizes = [min(part, max(0, size - i * part)) for i in range(count)]
    return n.torch.split(x, sizes, axis)


def _gather(n: NodeView) -> Any:
    x, indices, axis = n.x(0), n.x(1).long(), n.attr("axis", 0) % n.x(0).dim()
    indices = n.torch.where(indices < 0, indices + x.shape[axis], indices)
    picked = x.index_select(axis, indices.reshape(-1))
    return picked.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1:]])


def _gather_elements(n: NodeView) -> Any:
    x, indices, axis = n.x(0), n.x(1).long(), n.attr("axis", 0)
    return x.gather(axis, n.torch.where(indices < 0, indices + x.shape[axis], indices))


def _places(n: NodeView, x: Any, indices: Any) -> tuple[Any, ...]:
    """ONNX's index tuples, which lie along the last dimension, as torch indexes."""
    if n.attr("batch_dims", 0) or n.attr("reduction", b"none") != b"none":
        raise UnsupportedError("--vs torch does not know GatherND with batch_dims and ScatterND with a reduction")
    return tuple(n.torch.where(i < 0, i + size, i) for i, size in zip(indices.long().unbind(-1), x.shape))


def _gather_nd(n: NodeView) -> Any:
    return n.x(0)[_places(n, n.x(0), n.x(1))]


def _scatter_nd(n: NodeView) -> Any:
    return n.x(0).index_put(_places(n, n.x(0), n.x(1)), n.x(2))


def _pad(n: NodeView) -> Any:
    x, mode = n.x(0), n.attr("mode", b"constant").decode()
    pads = _list(n, 1) if n.inputs > 1 else n.attr("pads")
    fill = n.value(2)
    axes = n.value(3) or list(range(x.dim()))
    before, after = [0] * x.dim(), [0] * x.dim()
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[i + len(axes)]
    flat = [p for pair in zip(reversed(before), reversed(after)) for p in pair]
    if mode == "constant":
        return n.torch.nn.functional.pad(x, flat, value=fill[0] if fill else 0)
    while flat[-2:] == [0, 0]:
        flat = flat[:-2]
    return n.torch.nn.functional.pad(x, flat, mode={"edge": "replicate"}.get(mode, mode))


def _clip(n: NodeView) -> Any:
    if n.inputs == 1:
        return n.torch.clamp(n.x(0), n.attr("min"), n.attr("max"))
    low, high = n.value(1), n.value(2)
    return n.torch.clamp(n.x(0), None if low is None else low[0], None if high is None else high[0])


def _depth_to_space(n: NodeView) -> Any:
    x, size = n.x(0), n.attr("blocksize")
    if n.attr("mode", b"DCR") == b"CRD":
        return n.torch.nn.functional.pixel_shuffle(x, size)
    batch, channels, height, width = x.shape
    blocks = x.reshape(batch, size, size, channels // size**2, height, width).permute(0, 3, 4, 1, 5, 2)
    return blocks.reshape(batch, channels // size**2, height * size, width * size)


def _gelu(n: NodeView) -> Any:
    return n.torch.nn.functional.gelu(n.x(0), approximate=n.attr("approximate", b"none").decode())


def _cast(n: NodeView) -> Any:
    return n.x(0).to(torch_type(n.torch, n.attr("to")))


def torch_type(torch: Any, onnx_type: int) -> Any:
    """The torch dtype of an ONNX element type. Raises KeyError for one that torch lacks."""
    return {1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64, 9: torch.bool,
            10: torch.float16, 11: torch.float64, 16: torch.bfloat16}[onnx_type]


def _expand(n: NodeView) -> Any:
    x = n.x(0)
    return x.expand(n.torch.broadcast_shapes(x.shape, tuple(_list(n, 1))))


def _lstm(n: NodeView) -> Any:
    """One direction or two, without peepholes: torch's own, its gates in torch's order (i f g o instead of i o f g)."""
    x, w, r, b = (n.x(i) for i in range(4))
    hidden, directions = n.attr("hidden_size"), w.shape[0]

    def gates(t: Any) -> Any:
        i, o, f, g = t.split(hidden, 0)
        return n.torch.cat([i, f, g, o])

    weights: list[Any] = []
    for d in range(directions):
        biases = b[d] if b is not None else x.new_zeros(8 * hidden)
        weights += [gates(w[d]), gates(r[d]), gates(biases[:4 * hidden]), gates(biases[4 * hidden:])]
    zero = x.new_zeros(directions, x.shape[1], hidden)
    h, c = (zero if n.x(i) is None else n.x(i) for i in (5, 6))
    y, h, c = n.torch.lstm(x, (h.contiguous(), c.contiguous()), weights, True, 1, 0.0, False, directions == 2, False)
    return y.reshape(*y.shape[:2], directions, hidden).transpose(1, 2), h, c


OPS: dict[str, Op] = {
    **{name: _unary(torch_name) for name, torch_name in UNARY.items()},
    **{name: _binary(torch_name) for name, torch_name in BINARY.items()},
    **{name: _reduce(torch_name) for name, torch_name in REDUCE.items()},
    "Max": _extreme("maximum"), "Min": _extreme("minimum"), "Div": _div, "ReduceL2": _reduce_l2, "Conv": _conv, "MaxPool": _pool("max"),
    "AveragePool": _pool("avg"), "GlobalAveragePool": _global_average, "BatchNormalization": _batch_norm, "LayerNormalization": _layer_norm,
    "InstanceNormalization": _instance_norm, "Gemm": _gemm, "Softmax": _softmax("softmax"), "LogSoftmax": _softmax("log_softmax"),
    "Reshape": _reshape, "Unsqueeze": _unsqueeze, "Squeeze": _squeeze, "Slice": _slice, "Split": _split, "Gather": _gather,
    "GatherElements": _gather_elements, "Pad": _pad, "Clip": _clip, "GatherND": _gather_nd, "ScatterND": _scatter_nd,
    "DepthToSpace": _depth_to_space, "Gelu": _gelu, "Cast": _cast,
    "Expand": _expand, "LSTM": _lstm,
    "Transpose": lambda n: n.x(0).permute(n.attr("perm") or list(range(n.x(0).dim()))[::-1]),
    "Concat": lambda n: n.torch.cat([n.x(i) for i in range(n.inputs)], n.attr("axis")),
    "Flatten": lambda n: n.x(0).reshape(int(np.prod(n.x(0).shape[:n.attr("axis", 1)])), -1),
    "Where": lambda n: n.torch.where(n.x(0), n.x(1), n.x(2)),
    "Identity": lambda n: n.x(0), "Dropout": lambda n: n.x(0),
    "Shape": lambda n: n.torch.tensor(list(n.x(0).shape)[n.attr("start", 0):n.attr("end")], dtype=n.torch.int64),
    "LeakyRelu": lambda n: n.torch.nn.functional.leaky_relu(n.x(0), n.attr("alpha", 0.01)),
    "HardSigmoid": lambda n: n.torch.clamp(n.attr("alpha", 0.2) * n.x(0) + n.attr("beta", 0.5), 0, 1),
    "HardSwish": lambda n: n.torch.nn.functional.hardswish(n.x(0)),
    "Trilu": lambda n: (n.torch.triu if n.attr("upper", 1) else n.torch.tril)(n.x(0), (n.value(1) or [0])[0]),
    "Tile": lambda n: n.x(0).repeat(*_list(n, 1)),
}
