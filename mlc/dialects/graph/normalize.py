"""graph.layer_norm and graph.rms_norm: normalisation over trailing dimensions; scale and bias are elementwise ops of their own."""

from typing import Any

from mlc.dialects._build import Builder, Tensor
from mlc.dialects._ext import Operand, Result, VerifyError
from mlc.dialects.graph._base import GraphOp, TensorType, builder
from mlc.dialects.graph.reduce import Along
from mlc.ir.scalar import Scalar, compute_dtype


class LayerNormOp(GraphOp, name="layer_norm"):
    """(x - mean) / sqrt(variance + eps) over the dimensions from `axis` on, in two passes and at least f32.

    Example: %y = "graph.layer_norm"(%x) {axis = 2, eps = 1.0e-05} : (tensor<2x8x64xf32>) -> tensor<2x8x64xf32>
    """

    x: Operand
    axis: int
    eps: float
    y: Result

    @staticmethod
    def infer(types: list[TensorType], axis: int, eps: float) -> list[TensorType]:
        return _infer(types, axis)

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        (x,), out, eps = xs, self.types[0], self.py("eps")
        acc, along = compute_dtype(out.dtype), _trailing(out, self.py("axis"))
        mean = _mean(b, along, x, acc)
        spread = b.reduce(along.outer, along.over, acc, 0, [(x, along.read), (mean, along.kept)], lambda s, v, m: s + (v - m) * (v - m))
        inverse = _inverse_root(b, along, spread, eps)
        reads = [(x, lambda *i: i), (mean, along.spread), (inverse, along.spread)]
        return [b.compute(out.shape, out.dtype, reads, lambda v, m, r: (v - m) * r)]


class RmsNormOp(GraphOp, name="rms_norm"):
    """x / sqrt(mean(x*x) + eps) over the dimensions from `axis` on, in at least f32.

    Example: %y = "graph.rms_norm"(%x) {axis = 2, eps = 1.0e-06} : (tensor<2x8x64xf32>) -> tensor<2x8x64xf32>
    """

    x: Operand
    axis: int
    eps: float
    y: Result

    @staticmethod
    def infer(types: list[TensorType], axis: int, eps: float) -> list[TensorType]:
        return _infer(types, axis)

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        (x,), out, eps = xs, self.types[0], self.py("eps")
        acc, along = compute_dtype(out.dtype), _trailing(out, self.py("axis"))
        square = b.reduce(along.outer, along.over, acc, 0, [(x, along.read)], lambda s, v: s + v * v)
        inverse = _inverse_root(b, along, square, eps)
        return [b.compute(out.shape, out.dtype, [(x, lambda *i: i), (inverse, along.spread)], lambda v, r: v * r)]


def _infer(types: list[TensorType], axis: int) -> list[TensorType]:
    x = types[0]
    if not x.dtype.is_float or not 0 <= axis < x.rank:
        raise VerifyError(f"needs floats and an axis within the rank, got {x.mlir()} and axis {axis}")
    return [x]


def _trailing(x: TensorType, axis: int) -> Along:
    return Along(x.shape, range(axis, x.rank))


def _mean(b: Builder, along: Along, x: Tensor, acc: Any) -> Tensor:
    total = b.reduce(along.outer, along.over, acc, 0, [(x, along.read)], lambda s, v: s + v)
    return b.compute(along.outer, acc, [(total, lambda *i: i)], lambda s: s.over(along.count))


def _inverse_root(b: Builder, along: Along, total: Tensor, eps: float) -> Tensor:
    def body(s: Scalar) -> Scalar:
        return b.constant(1, total.dtype).over((s.over(along.count) + eps).math("sqrt"))

    return b.compute(along.outer, total.dtype, [(total, lambda *i: i)], body)


layer_norm = builder(LayerNormOp)
rms_norm = builder(RmsNormOp)

__all__ = ["LayerNormOp", "RmsNormOp", "layer_norm", "rms_norm"]
