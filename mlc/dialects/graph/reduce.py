"""graph.reduce, graph.arg, graph.scan and graph.softmax: what runs along axes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from mlc.dialects._build import Builder, Tensor
from mlc.dialects._ext import Operand, Result, VerifyError
from mlc.dialects.graph._base import GraphOp, TensorType, builder
from mlc.dialects.graph._scans import running
from mlc.dtypes import F64, I64, DType
from mlc.ir.scalar import Scalar, compute_dtype, select


def lowest(dtype: DType) -> float | int:
    """The identity of max."""
    return -inf if dtype.is_float else -(1 << (dtype.bits - 1)) if dtype.kind == "i" else 0


def highest(dtype: DType) -> float | int:
    """The identity of min."""
    return inf if dtype.is_float else (1 << (dtype.bits - (dtype.kind == "i"))) - 1


@dataclass(frozen=True)
class Reduction:
    """fold(acc, before(x)) from `init`, then after(acc, count of elements). wide: integers are folded in f64 and truncated."""

    fold: Callable[[Scalar, Scalar], Scalar]
    init: Callable[[DType], float | int] = lambda dtype: 0
    before: Callable[[Scalar], Scalar] = lambda x: x
    after: Callable[[Scalar, int], Scalar] | None = None
    kinds: str = "fiu"
    wide: bool = False


def _add(acc: Scalar, x: Scalar) -> Scalar:
    return acc + x


REDUCTIONS: dict[str, Reduction] = {
    "sum": Reduction(_add),
    "mean": Reduction(_add, after=lambda s, n: s / n),
    "prod": Reduction(lambda acc, x: acc * x, lambda dtype: 1),
    "max": Reduction(lambda acc, x: acc.max(x), lowest, kinds="fiub"),
    "min": Reduction(lambda acc, x: acc.min(x), highest, kinds="fiub"),
    "l1": Reduction(_add, before=lambda x: x.abs()),
    "l2": Reduction(_add, before=lambda x: x * x, after=lambda s, n: s.math("sqrt"), wide=True),
    "sum_square": Reduction(_add, before=lambda x: x * x),
    "log_sum": Reduction(_add, after=lambda s, n: s.math("log"), wide=True),
    "log_sum_exp": Reduction(_add, wide=True),
}


class ReduceOp(GraphOp, name="reduce"):
    """Reduction over `axes` (sorted, not negative); keepdims leaves them as dimensions of 1.

    kind: sum, mean, prod, max, min (NaN wins), l1, l2, sum_square, log_sum, log_sum_exp (the maximum taken out first).
    Floats accumulate in (at least) f32; integers in their type, but for l2 and the logarithms in f64. Over no elements: the identity.

    Example: %y = "graph.reduce"(%x) {kind = "sum", axes = [1], keepdims = true} : (tensor<2x3x4xf32>) -> tensor<2x1x4xf32>
    """

    x: Operand
    kind: str
    axes: list
    keepdims: bool = False
    y: Result

    @staticmethod
    def infer(types: list[TensorType], kind: str, axes: list, keepdims: bool = False) -> list[TensorType]:
        x = types[0]
        if kind not in REDUCTIONS:
            raise VerifyError(f"knows no reduction '{kind}'; there are {', '.join(REDUCTIONS)}")
        if x.dtype.kind not in REDUCTIONS[kind].kinds:
            raise VerifyError(f"'{kind}' is not defined on {x.dtype}")
        return [x.with_shape(_reduced(x.shape, axes, keepdims))]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        (x,), out, rule = xs, self.types[0], REDUCTIONS[self.py("kind")]
        own = compute_dtype(x.dtype)
        acc = F64 if rule.wide and not own.is_float else own
        along = Along(x.shape, self.py("axes"))
        if self.py("kind") == "log_sum_exp":
            y = self._log_sum_exp(b, x, acc, along)
        else:
            y = b.reduce(along.outer, along.over, acc, rule.init(acc), [(x, along.read)], lambda s, v: rule.fold(s, rule.before(v.to(acc))))
            if (after := rule.after) is not None:
                y = b.compute(along.outer, out.dtype, [(y, _same)], lambda s: after(s, along.count).to(own))
        return [b.view(b.cast(y, out.dtype), out.shape)]

    def _log_sum_exp(self, b: Builder, x: Tensor, acc: DType, along: "Along") -> Tensor:
        peak = b.reduce(along.outer, along.over, acc, lowest(acc), [(x, along.read)], lambda m, v: m.max(v.to(acc)))
        # An infinite peak would make inf - inf; without it the sum is inf or 0 by itself.
        peak = b.compute(along.outer, acc, [(peak, _same)], lambda m: select(m.abs().eq(inf), b.constant(0, acc), m))
        total = b.reduce(along.outer, along.over, acc, 0, [(x, along.read), (peak, along.kept)],
                         lambda s, v, m: s + (v.to(acc) - m).math("exp"))
        return b.compute(along.outer, self.types[0].dtype, [(total, _same), (peak, _same)],
                         lambda s, m: (s.math("log") + m).to(compute_dtype(self.types[0].dtype)))


class Along:
    """The loops of a reduction of `shape` over `axes`: the other dimensions in order (`outer`), then the reduced ones (`over`)."""

    def __init__(self, shape: Sequence[int], axes: Sequence[int]) -> None:
        self.axes = list(axes)
        self.rank = len(shape)
        self.kept_axes = [d for d in range(self.rank) if d not in self.axes]
        self.outer = [shape[d] for d in self.kept_axes]
        self.over = [shape[d] for d in self.axes]

    @property
    def count(self) -> int:
        n = 1
        for d in self.over:
            n *= d
        return n

    def read(self, *i: Any) -> list[Any]:
        """The element of the full shape, in a loop nest over outer then over."""
        at: list[Any] = [0] * self.rank
        for loop, axis in enumerate([*self.kept_axes, *self.axes]):
            at[axis] = i[loop]
        return at

    def kept(self, *i: Any) -> list[Any]:
        """The element of a reduced tensor in that nest."""
        return list(i[:len(self.outer)])

    def spread(self, *i: Any) -> list[Any]:
        """The element of a reduced tensor in a nest over the full shape."""
        return [i[d] for d in self.kept_axes]


def _same(*i: Any) -> tuple[Any, ...]:
    return i


def _reduced(shape: Sequence[int], axes: Sequence[int], keepdims: bool) -> list[int]:
    if sorted(set(axes)) != list(axes) or any(not 0 <= a < len(shape) for a in axes):
        raise VerifyError(f"needs sorted axes within rank {len(shape)}, got {list(axes)}")
    return [1 if d in axes else n for d, n in enumerate(shape) if keepdims or d not in axes]


class ArgOp(GraphOp, name="arg"):
    """Position along `axis` of the maximum or minimum (kind "max", "min"): the first, or the last. NaN beats everything, as in numpy.

    Example: %i = "graph.arg"(%x) {kind = "max", axis = 1} : (tensor<2x5xf32>) -> tensor<2xi64>
    """

    x: Operand
    kind: str
    axis: int
    last: bool = False
    keepdims: bool = False
    y: Result

    @staticmethod
    def infer(types: list[TensorType], kind: str, axis: int, last: bool = False, keepdims: bool = False) -> list[TensorType]:
        if kind not in ("max", "min"):
            raise VerifyError(f"has kind '{kind}', expected max or min")
        return [TensorType(tuple(_reduced(types[0].shape, [axis], keepdims)), I64)]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        (x,), last, largest = xs, self.py("last"), self.py("kind") == "max"
        acc = compute_dtype(x.dtype)
        along = Along(x.shape, [self.py("axis")])
        # Two folds that any number of threads or lanes can share, where one that carries a pair would run in order.
        best = b.reduce(along.outer, along.over, acc, lowest(acc) if largest else highest(acc), [(x, along.read)],
                        lambda m, v: m.max(v) if largest else m.min(v))

        def place(at: Scalar, v: Scalar, best: Scalar) -> Scalar:
            found = v.eq(best)
            if acc.is_float:
                found = found | (v.is_nan() & best.is_nan())
            none = b.constant(-1 if last else along.count, I64)
            here = select(found, b.index(len(along.outer)), none)
            return at.max(here) if last else at.min(here)

        found = b.reduce(along.outer, along.over, I64, -1 if last else along.count, [(x, along.read), (best, along.kept)], place)
        return [b.view(found, self.types[0].shape)]


class ScanOp(GraphOp, name="scan"):
    """Running sum or product (kind "sum", "prod") along `axis`; exclusive leaves out the element itself; reverse starts at the end.

    Example: %y = "graph.scan"(%x) {kind = "sum", axis = 1} : (tensor<2x5xf32>) -> tensor<2x5xf32>
    """

    x: Operand
    kind: str
    axis: int
    exclusive: bool = False
    reverse: bool = False
    y: Result

    @staticmethod
    def infer(types: list[TensorType], kind: str, axis: int, exclusive: bool = False, reverse: bool = False) -> list[TensorType]:
        if kind not in ("sum", "prod") or not 0 <= axis < types[0].rank or types[0].dtype.kind == "b":
            raise VerifyError(f"cannot run '{kind}' along axis {axis} of {types[0].mlir()}")
        return types[:1]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        (x,), out, axis = xs, self.types[0], self.py("axis")
        exclusive, reverse, product = self.py("exclusive"), self.py("reverse"), self.py("kind") == "prod"
        acc = compute_dtype(out.dtype)
        outer, n, inner = 1, x.shape[axis], 1
        for d in x.shape[:axis]:
            outer *= d
        for d in x.shape[axis + 1:]:
            inner *= d

        if not out.size:
            return [x]

        def lane(x: Tensor, y: Tensor) -> list[Tensor]:
            def step(i: Scalar, total: Scalar, y: Tensor) -> list[Any]:
                at = [(n - 1) - i if reverse else i]
                v = b.load(x, at)
                following = total * v if product else total + v
                return [following, b.insert(total if exclusive else following, y, at)]

            return b.for_(0, n, [b.constant(1 if product else 0, acc), y], step)[1:]

        shape = (outer, n, inner)
        if b.wide:
            fold, start = (lambda t, v: t * v, 1) if product else (_add, 0)
            return [b.view(running(b, b.view(x, shape), out.dtype, fold, start, exclusive=exclusive, reverse=reverse), out.shape)]
        flat = b.sliced_kernel([outer, inner], [(b.view(x, shape), (0, 2))], [(out.dtype, shape, (0, 2))], lane)[0]
        return [b.view(flat, out.shape)]


class SoftmaxOp(GraphOp, name="softmax"):
    """exp(x - max) / sum(exp(x - max)) along `axis`, or its logarithm; computed in (at least) f32.

    Example: %y = "graph.softmax"(%x) {axis = 1} : (tensor<4x10xf32>) -> tensor<4x10xf32>
    """

    x: Operand
    axis: int
    log: bool = False
    y: Result

    @staticmethod
    def infer(types: list[TensorType], axis: int, log: bool = False) -> list[TensorType]:
        if not 0 <= axis < types[0].rank or not types[0].dtype.is_float:
            raise VerifyError(f"needs floats and an axis within the rank, got {types[0].mlir()} and axis {axis}")
        return types[:1]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        return [softmax_along(b, xs[0], self.py("axis"), self.types[0].dtype, log=self.py("log"))]


def softmax_along(b: Builder, x: Tensor, axis: int, dtype: DType, *, log: bool = False, guarded: bool = False) -> Tensor:
    """The computes of a softmax of `x` that gives `dtype`. guarded: a row of -inf gives zeros instead of NaN."""
    along, acc = Along(x.shape, [axis]), compute_dtype(dtype)
    peak = b.reduce(along.outer, along.over, acc, lowest(acc), [(x, along.read)], lambda m, v: m.max(v))
    if log:
        total = b.reduce(along.outer, along.over, acc, 0, [(x, along.read), (peak, along.kept)], lambda s, v, m: s + (v - m).math("exp"))
        return b.compute(x.shape, dtype, [(x, _same), (peak, along.spread), (total, along.spread)], lambda v, m, s: v - m - s.math("log"))

    finite = float(np.finfo(acc.numpy).min)  # rows hidden by a large finite number are not rows of -inf

    def power_of(v: Scalar, m: Scalar) -> Scalar:
        return (v - (m.max(finite) if guarded else m)).math("exp")

    power = b.compute(x.shape, acc, [(x, _same), (peak, along.spread)], power_of)
    total = b.reduce(along.outer, along.over, acc, 0, [(power, along.read)], lambda s, e: s + e)
    smallest = 1e-30  # the sum is at least 1, or 0 in a row of -inf
    return b.compute(x.shape, dtype, [(power, _same), (total, along.spread)], lambda e, s: e.over(s.max(smallest) if guarded else s))


reduce = builder(ReduceOp)
arg = builder(ArgOp)
scan = builder(ScanOp)
softmax = builder(SoftmaxOp)

__all__ = ["REDUCTIONS", "Along", "ArgOp", "ReduceOp", "ScanOp", "SoftmaxOp", "arg", "highest", "lowest", "reduce", "scan", "softmax",
           "softmax_along"]
