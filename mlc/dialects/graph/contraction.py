"""graph.matmul: contractions over one shared dimension."""

from mlc.dialects._build import Builder, Tensor
from mlc.dialects._ext import Operand, Result, VerifyError
from mlc.dialects.graph._base import GraphOp, TensorType, builder
from mlc.dialects.graph.elementwise import broadcast
from mlc.ir.scalar import compute_dtype


class MatmulOp(GraphOp, name="matmul"):
    """numpy.matmul on operands of rank >= 2: batch dimensions broadcast. Floats accumulate in (at least) f32; integers wrap.

    Example: %y = "graph.matmul"(%a, %b) : (tensor<8x4x16xf32>, tensor<16x32xf32>) -> tensor<8x4x32xf32>
    """

    a: Operand
    b: Operand
    y: Result

    @staticmethod
    def infer(types: list[TensorType]) -> list[TensorType]:
        a, b = types
        if a.rank < 2 or b.rank < 2 or a.shape[-1] != b.shape[-2]:
            raise VerifyError(f"cannot multiply {list(a.shape)} by {list(b.shape)}")
        if a.dtype != b.dtype:
            raise VerifyError(f"needs operands of one element type, got {a.dtype} and {b.dtype}")
        return [a.with_shape((*broadcast([a.shape[:-2], b.shape[:-2]]), a.shape[-2], b.shape[-1]))]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        x, y = xs
        out = self.types[0]
        batch, acc = out.rank - 2, compute_dtype(out.dtype)

        def read(t: Tensor, row: int, col: int):
            lead = batch - (t.rank - 2)
            return t, lambda *i: [*[0 if d == 1 else i[lead + k] for k, d in enumerate(t.shape[:-2])], i[row], i[col]]

        m, n, k = batch, batch + 1, batch + 2
        total = b.reduce(out.shape, (x.shape[-1],), acc, 0, [read(x, m, k), read(y, k, n)], lambda s, p, q: s + p * q)
        return [b.cast(total, out.dtype)]


matmul = builder(MatmulOp)
