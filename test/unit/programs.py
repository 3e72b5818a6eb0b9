"""Random small tensor programs: elementwise with broadcasting, movement, reductions, products; as graph ops and as numpy in float64."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlc.dialects import graph

LIMIT = 6000  # elements of one value
_UNARY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0), "tanh": np.tanh, "abs": np.abs, "neg": lambda x: -x, "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}
_BINARY: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "max": np.maximum, "min": np.minimum,
}
_REDUCE: dict[str, Callable[..., np.ndarray]] = {"sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min}


@dataclass
class Step:
    """One op: `build(*values)` makes it from graph values; operands are numbers of values (inputs and results in order)."""

    text: str
    operands: list[int]
    build: Callable[..., Any]


@dataclass
class Program:
    """Inputs (float32 and int64 arrays), steps, numbers of the values returned. `values` holds each value in float64."""

    rng: np.random.Generator
    inputs: list[np.ndarray] = field(default_factory=list)
    steps: list[Step | None] = field(default_factory=list)  # per value; None: the next input
    values: list[np.ndarray] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        made = [s.text + str(s.operands) if s else "input" for s in self.steps]
        lines = [f"%{i}: {list(v.shape)} = {text}" for i, (text, v) in enumerate(zip(made, self.values))]
        return "\n".join([*lines, f"return {self.outputs}"])

    def build(self, *arguments: Any) -> list[Any]:
        """The program as graph ops."""
        rest, made = iter(arguments), []
        for step in self.steps:
            made.append(next(rest) if step is None else step.build(*[made[i] for i in step.operands]))
        return [made[i] for i in self.outputs]

    def expected(self) -> list[np.ndarray]:
        """The results in float64."""
        return [self.values[i] for i in self.outputs]

    def constant(self, shape: Sequence[int]) -> int:
        """A constant of numbers in [-1, 1)."""
        array = self.rng.uniform(-1, 1, tuple(shape)).astype(np.float32)
        return self.step("constant", [], lambda: graph.constant(array), array)

    # -- growing ----------------------------------------------------------------------------------------------------
    def input(self, shape: Sequence[int]) -> int:
        """A fresh input of numbers in [-1, 1)."""
        array = self.rng.uniform(-1, 1, tuple(shape)).astype(np.float32)
        self.inputs.append(array)
        self.steps.append(None)
        self.values.append(array.astype(np.float64))
        return len(self.values) - 1

    def step(self, text: str, operands: list[int], build: Callable[..., Any], value: np.ndarray) -> int:
        """A new value; large ones are squashed so that rounding errors stay small."""
        self.steps.append(Step(text, operands, build))
        self.values.append(np.asarray(value, np.float64))
        at = len(self.values) - 1
        if value.size and np.abs(value).max() > 20:
            return self.step("tanh", [at], lambda x: graph.elementwise("tanh", x), np.tanh(value))
        return at

    def pick(self, rank: int = 0) -> int:
        """A value of at least a rank, recent ones more often; a fresh input if there is none."""
        found = [i for i, v in enumerate(self.values) if v.ndim >= rank and v.dtype == np.float64]
        if not found:
            return self.input(self.rng.integers(1, 12, max(rank, 1)))
        return found[-1] if self.rng.random() < 0.6 else int(self.rng.choice(found))


def random_program(seed: int, length: int = 6) -> Program:
    """A program of about `length` ops."""
    rng = np.random.default_rng(seed)
    p = Program(rng)
    rank = int(rng.integers(1, 5))
    p.input([int(n) for n in rng.integers(1, [0, 38, 38, 14, 8][rank], rank)])
    while sum(s is not None for s in p.steps) < length:
        _OPS[int(rng.integers(len(_OPS)))](p)
    made = [i for i, s in enumerate(p.steps) if s is not None]
    read = {i for s in p.steps if s is not None for i in s.operands}
    p.outputs = [i for i in made if i not in read or rng.random() < 0.15]
    return p


# -- ops ----------------------------------------------------------------------------------------------------------------


def _unary(p: Program) -> None:
    i, fn = p.pick(), str(p.rng.choice(list(_UNARY)))
    p.step(fn, [i], lambda x: graph.elementwise(fn, x), _UNARY[fn](p.values[i]))


def _binary(p: Program) -> None:
    i, fn = p.pick(), str(p.rng.choice(list(_BINARY)))
    shape = p.values[i].shape
    mates = [j for j, v in enumerate(p.values) if j != i and _broadcasts(shape, v.shape)]
    if mates and p.rng.random() < 0.6:
        j = int(p.rng.choice(mates))
    else:
        dropped = [int(p.rng.integers(2, 6)) if n == 1 and p.rng.random() < 0.5 else 1 if p.rng.random() < 0.3 else n for n in shape]
        j = p.input(dropped[int(p.rng.integers(0, len(dropped) + 1)):] if p.rng.random() < 0.3 else dropped)
    if not _broadcasts(shape, p.values[j].shape):
        return
    pair = [i, j] if p.rng.random() < 0.5 else [j, i]
    p.step(fn, pair, lambda x, y: graph.elementwise(fn, x, y), _BINARY[fn](p.values[pair[0]], p.values[pair[1]]))


def _broadcasts(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    try:
        return int(np.prod(np.broadcast_shapes(a, b))) <= LIMIT
    except ValueError:
        return False


def _reduce(p: Program) -> None:
    i, kind, keep = p.pick(1), str(p.rng.choice(list(_REDUCE))), bool(p.rng.random() < 0.6)
    x = p.values[i]
    axes = sorted(int(a) for a in p.rng.choice(x.ndim, int(p.rng.integers(1, x.ndim + 1)), replace=False))
    value = _REDUCE[kind](x, axis=tuple(axes), keepdims=keep)
    p.step(f"{kind}{axes}", [i], lambda v: graph.reduce(v, kind=kind, axes=axes, keepdims=keep), value)


def _softmax(p: Program) -> None:
    i = p.pick(1)
    x = p.values[i]
    axis = int(p.rng.integers(x.ndim))
    power = np.exp(x - x.max(axis, keepdims=True))
    p.step(f"softmax{axis}", [i], lambda v: graph.softmax(v, axis=axis), power / power.sum(axis, keepdims=True))


def _layer_norm(p: Program) -> None:
    i = p.pick(1)
    x = p.values[i]
    axis = int(p.rng.integers(x.ndim))
    axes = tuple(range(axis, x.ndim))
    centred = x - x.mean(axes, keepdims=True)
    y = centred / np.sqrt((centred * centred).mean(axes, keepdims=True) + 0.125)
    p.step(f"layer_norm{axis}", [i], lambda v: graph.layer_norm(v, axis=axis, eps=0.125), y)


def _transpose(p: Program) -> None:
    i = p.pick(2)
    perm = [int(d) for d in p.rng.permutation(p.values[i].ndim)]
    p.step(f"transpose{perm}", [i], lambda v: graph.transpose(v, perm=perm), p.values[i].transpose(perm))


def _slice(p: Program) -> None:
    i = p.pick(1)
    x = p.values[i]
    starts, sizes, steps, index = [], [], [], []
    for n in x.shape:
        step = int(p.rng.choice([1, 1, 2, 3, -1, -2]))
        size = int(p.rng.integers(1, -(-n // abs(step)) + 1))
        first = int(p.rng.integers(0, n - (size - 1) * abs(step)))
        start = first if step > 0 else first + (size - 1) * -step
        starts, sizes, steps = [*starts, start], [*sizes, size], [*steps, step]
        index.append([start + k * step for k in range(size)])
    p.step(f"slice{starts}{sizes}{steps}", [i], lambda v: graph.slice(v, starts=starts, sizes=sizes, steps=steps), x[np.ix_(*index)])


def _reshape(p: Program) -> None:
    i = p.pick(1)
    shape = list(p.values[i].shape)
    d = int(p.rng.integers(len(shape)))
    if d + 1 < len(shape) and p.rng.random() < 0.5:
        shape[d:d + 2] = [shape[d] * shape[d + 1]]
    else:
        factor = next((f for f in (4, 3, 2) if shape[d] % f == 0), 1)
        shape[d:d + 1] = [factor, shape[d] // factor]
    if len(shape) <= 5:
        p.step(f"reshape{shape}", [i], lambda v: graph.reshape(v, shape=shape), p.values[i].reshape(shape))


def _concat(p: Program) -> None:
    i = p.pick(1)
    x = p.values[i]
    axis = int(p.rng.integers(x.ndim))
    other = list(x.shape)
    other[axis] = int(p.rng.integers(1, 6))
    rest = x.shape[:axis] + x.shape[axis + 1:]
    mates = [j for j, v in enumerate(p.values) if v.ndim == x.ndim and v.shape[:axis] + v.shape[axis + 1:] == rest]
    j = int(p.rng.choice(mates)) if p.rng.random() < 0.5 else p.input(other)
    value = np.concatenate([x, p.values[j]], axis)
    if value.size <= LIMIT:
        p.step(f"concat{axis}", [i, j], lambda a, b: graph.concat(a, b, axis=axis), value)


def _pad(p: Program) -> None:
    i = p.pick(1)
    x = p.values[i]
    low, high = ([int(n) for n in p.rng.integers(0, 3, x.ndim)] for _ in range(2))
    value = np.pad(x, list(zip(low, high)))
    if value.size <= LIMIT:
        p.step(f"pad{low}{high}", [i], lambda v: graph.pad(v, low=low, high=high), value)


def _gather(p: Program) -> None:
    i = p.pick(1)
    x = p.values[i]
    axis = int(p.rng.integers(x.ndim))
    indices = p.rng.integers(0, x.shape[axis], tuple(p.rng.integers(1, 5, int(p.rng.integers(1, 3))))).astype(np.int64)
    value = np.take(x, indices, axis)
    if value.size <= LIMIT:
        p.step(f"gather{axis}", [i], lambda v: graph.gather(v, graph.constant(indices), axis=axis), value)


def _matmul(p: Program) -> None:
    i = p.pick(2)
    x = p.values[i]
    ta, tb, n = bool(p.rng.random() < 0.3), bool(p.rng.random() < 0.4), int(p.rng.integers(1, 38))
    a = x.swapaxes(-1, -2) if ta else x
    mates = [j for j, v in enumerate(p.values)
             if v.ndim >= 2 and v.shape[-1 if tb else -2] == a.shape[-1] and _broadcasts(v.shape[:-2], a.shape[:-2])]
    if mates and p.rng.random() < 0.4:
        j = int(p.rng.choice(mates))
    else:
        batch = [1 if p.rng.random() < 0.3 else d for d in a.shape[:-2]][int(p.rng.integers(0, a.ndim - 1)):]
        n = int(p.rng.choice([16, 32, 48])) if p.rng.random() < 0.4 else n
        small = n * x.size // a.shape[-2] <= graph.SMALL
        make = p.constant if small and p.rng.random() < 0.7 else p.input
        j = make([*batch, *((n, a.shape[-1]) if tb else (a.shape[-1], n))])
    value = a @ (p.values[j].swapaxes(-1, -2) if tb else p.values[j])
    if value.size <= LIMIT and a.shape[-1] * value.size < 400_000:
        p.step(f"matmul{'t' * ta}_{'t' * tb}", [i, j], lambda u, v: graph.matmul(u, v, transpose_a=ta, transpose_b=tb), value)


def _einsum(p: Program) -> None:
    """A diagonal, an outer product or a product over two dimensions."""
    i = p.pick(2)
    x = p.values[i]
    if x.ndim == 2 and x.shape[0] == x.shape[1]:
        p.step("diagonal", [i], lambda v: graph.einsum("ii->i", v), np.diagonal(x))
    elif x.ndim == 2:
        j = p.input([x.shape[0], x.shape[1], 5])
        p.step("ab,abc->c", [i, j], lambda u, v: graph.einsum("ab,abc->c", u, v), np.einsum("ab,abc->c", x, p.values[j]))
    elif x.ndim == 3:
        j = p.input([7, x.shape[2], x.shape[0]])
        p.step("abc,dca->bd", [i, j], lambda u, v: graph.einsum("abc,dca->bd", u, v), np.einsum("abc,dca->bd", x, p.values[j]))


def _conv(p: Program) -> None:
    """A strided, dilated, grouped convolution over the last dimension(s)."""
    i = p.pick(3)
    x = p.values[i]
    if x.ndim > 4 or min(x.shape[2:]) < 3:
        return
    spatial = x.ndim - 2
    groups = x.shape[1] if p.rng.random() < 0.3 else 1
    strides, dilations = ([int(n) for n in p.rng.integers(1, 3, spatial)] for _ in range(2))
    kernel = [int(p.rng.integers(1, (n - 1) // d + 2)) if n < 8 else 3 for n, d in zip(x.shape[2:], dilations)]
    kernel = [min(k, 3) for k in kernel]
    outs = groups * int(p.rng.integers(1, 4))
    j = p.input([outs, x.shape[1] // groups, *kernel])
    value = _conv_reference(x, p.values[j], strides, dilations, groups)
    if value.size <= LIMIT:
        p.step(f"conv{strides}{dilations}g{groups}", [i, j],
               lambda u, v: graph.conv(u, v, strides=strides, dilations=dilations, groups=groups), value)


def _conv_reference(x: np.ndarray, w: np.ndarray, strides: list[int], dilations: list[int], groups: int) -> np.ndarray:
    sizes = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[2:], w.shape[2:], strides, dilations)]
    per, outs = w.shape[1], w.shape[0] // groups
    y = np.zeros((x.shape[0], w.shape[0], *sizes))
    for tap in np.ndindex(*w.shape[2:]):
        reach = [slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s in zip(tap, dilations, sizes, strides)]
        window = x[(slice(None), slice(None), *reach)]
        for g in range(groups):
            part = w[(slice(g * outs, (g + 1) * outs), slice(None), *tap)]
            y[:, g * outs:(g + 1) * outs] += np.einsum("nc...,mc->nm...", window[:, g * per:(g + 1) * per], part)
    return y

_OPS = [_unary, _unary, _binary, _binary, _binary, _reduce, _reduce, _softmax, _layer_norm, _transpose, _transpose, _slice, _reshape,
        _concat, _pad, _gather, _matmul, _matmul, _einsum, _conv]
