"""graph.pool and graph.max_pool_indices: reductions over sliding windows; padding is a separate op."""

from typing import Any

from mlc.dialects._build import Builder, Tensor
from mlc.dialects._ext import Operand, Result, VerifyError
from mlc.dialects.graph._base import GraphOp, TensorType, builder
from mlc.dialects.graph.reduce import lowest
from mlc.dtypes import I64
from mlc.ir.scalar import Scalar, compute_dtype, select

KINDS = ("max", "sum")


def _infer(x: TensorType, kernel: list, strides: list, dilations: list, axis: int) -> TensorType:
    rank = len(kernel)
    if len(strides) != rank or len(dilations) != rank or not 0 <= axis <= x.rank - rank:
        raise VerifyError(f"pools {rank} dimensions from {axis} of {list(x.shape)} with strides {strides} and dilations {dilations}")
    if min([*kernel, *strides, *dilations], default=1) < 1:
        raise VerifyError(f"needs positive kernel, strides and dilations, got {kernel}, {strides} and {dilations}")
    shape = list(x.shape)
    for d in range(rank):
        reach = dilations[d] * (kernel[d] - 1) + 1
        if shape[axis + d] < reach:
            raise VerifyError(f"has a window of {reach} over {shape[axis + d]} elements in dimension {axis + d}")
        shape[axis + d] = (shape[axis + d] - reach) // strides[d] + 1
    return x.with_shape(shape)


class PoolOp(GraphOp, name="pool"):
    """Maximum or sum over windows of the dimensions axis, axis+1, ...: y[.., o, ..] = fold over k of x[.., o*stride + k*dilation, ..].

    kind: "max" (NaN wins) or "sum" (floats in at least f32, integers wrap).

    Example: %y = "graph.pool"(%x) {kind = "max", kernel = [3, 3], strides = [2, 2], dilations = [1, 1], axis = 2}
                  : (tensor<1x8x9x9xf32>) -> tensor<1x8x4x4xf32>
    """

    x: Operand
    kind: str
    kernel: list
    strides: list
    dilations: list
    axis: int
    y: Result

    @staticmethod
    def infer(types: list[TensorType], kind: str, kernel: list, strides: list, dilations: list, axis: int) -> list[TensorType]:
        if kind not in KINDS:
            raise VerifyError(f"has kind '{kind}', expected one of {', '.join(KINDS)}")
        return [_infer(types[0], kernel, strides, dilations, axis)]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        out = self.types[0]
        taps, read = _windows(self, xs[0])
        acc = compute_dtype(out.dtype)
        if self.py("kind") == "max":
            total = b.reduce(out.shape, taps, acc, lowest(acc), [read], lambda m, v: m.max(v))
        else:
            total = b.reduce(out.shape, taps, acc, 0, [read], lambda s, v: s + v)
        return [b.cast(total, out.dtype)]


class MaxPoolIndicesOp(GraphOp, name="max_pool_indices"):
    """Where the maximum of each window of `pool(kind = "max")` stands: its position (of the first one) in the flattened, unpadded input.

    low, size: leading padding and unpadded extents of the pooled dimensions, which are the last ones. A position counts all dimensions,
    row-major; column_major counts the pooled dimensions in reverse order of significance.

    Example: %i = "graph.max_pool_indices"(%x) {kernel = [2], strides = [2], dilations = [1], axis = 2, low = [0], size = [8]}
                  : (tensor<1x3x8xf32>) -> tensor<1x3x4xi64>
    """

    x: Operand
    kernel: list
    strides: list
    dilations: list
    axis: int
    low: list
    size: list
    column_major: bool = False
    y: Result

    @staticmethod
    def infer(types: list[TensorType], kernel: list, strides: list, dilations: list, axis: int, low: list, size: list,
              column_major: bool = False) -> list[TensorType]:
        if axis + len(kernel) != types[0].rank or len(low) != len(kernel) or len(size) != len(kernel):
            raise VerifyError(f"pools the last {len(kernel)} dimensions, but axis is {axis}, low {low} and size {size}")
        return [_infer(types[0], kernel, strides, dilations, axis).with_dtype(I64)]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        out, x = self.types[0], xs[0]
        taps, read = _windows(self, x)
        kernel, strides, dilations = self.py("kernel"), self.py("strides"), self.py("dilations")
        axis, low, size = self.py("axis"), self.py("low"), self.py("size")
        acc = compute_dtype(x.dtype)

        def position() -> tuple[Scalar, Scalar]:
            """Where the element stands, and whether it is one of the unpadded input."""
            at, tap = [], out.rank
            for d in range(len(kernel)):
                i = b.index(axis + d) * strides[d] - low[d]
                if kernel[d] > 1 or not taps:
                    i = i + b.index(tap) * dilations[d]
                    tap += 1
                at.append(i)
            order = list(range(len(kernel)))
            flat = b.constant(0, I64)
            for d in range(axis):
                flat = flat * x.shape[d] + b.index(d)
            for n in size:
                flat = flat * n
            inner = b.constant(0, I64)
            for d in reversed(order) if self.py("column_major") else order:
                inner = inner * size[d] + at[d]
            inside = flat >= 0
            for i, n in zip(at, size):
                inside = inside & (i >= 0) & (i < n)
            return flat + inner, inside

        def body(accs: list[Scalar], v: Scalar) -> list[Scalar]:
            best, where = accs
            better = v > best
            if v.dtype.is_float:
                better = better | (v.is_nan() & ~best.is_nan())
            at, inside = position()
            better = inside & (better | (where < 0))
            return [select(better, v, best), select(better, at, where)]

        return [b.reduce_many(out.shape, taps, [acc, I64], [lowest(acc), -1], [read], body)[1]]


def _windows(op: Any, x: Tensor) -> tuple[list[int], tuple[Tensor, Any]]:
    """Extents of the tap loops (of windows wider than 1, or all of them), and the read."""
    kernel, strides, dilations, axis = op.py("kernel"), op.py("strides"), op.py("dilations"), op.py("axis")
    wide = [d for d, k in enumerate(kernel) if k > 1] or list(range(len(kernel)))

    def read(*i: Any) -> list[Any]:
        at = list(i[:x.rank])
        for d in range(len(kernel)):
            at[axis + d] = i[axis + d] * strides[d] + (i[x.rank + wide.index(d)] * dilations[d] if d in wide else 0)
        return at

    return [kernel[d] for d in wide], (x, read)


pool = builder(PoolOp)
max_pool_indices = builder(MaxPoolIndicesOp)

__all__ = ["MaxPoolIndicesOp", "PoolOp", "max_pool_indices", "pool"]
