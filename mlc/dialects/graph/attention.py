"""graph.attention, kept whole so that a backend can stream it, and graph.rotary, the rotation of its operands by position."""

from math import inf
from typing import Any

from mlc.dialects._build import Builder, Tensor
from mlc.dialects._ext import Operand, Operands, Result, VerifyError
from mlc.dialects.graph._base import GraphOp, TensorType, builder
from mlc.dialects.graph.elementwise import broadcast_read
from mlc.dialects.graph.reduce import softmax_along
from mlc.dtypes import BOOL
from mlc.ir.mlir import ir
from mlc.ir.scalar import Scalar, compute_dtype, select


class AttentionOp(GraphOp, name="attention"):
    """softmax(mask(cap(q k^T * scale))) v per head, in at least f32. Operands: q, k, v, and a mask if there is one.

    q [B, H, S, D], k [B, G, T, D], v [B, G, T, E], y [B, H, S, E]; G divides H, head h reads key-value head h / (H/G).
    softcap c > 0: cap(x) = c*tanh(x/c). mask: broadcasts to [B, H, S, T]; bool: false hides, float: added.
    Query i stands at p = i + offset and sees keys p - left <= j <= p + right; -1 leaves a side open. Causal: right = 0.
    A query that sees no key gives zeros.

    Example: %y = "graph.attention"(%q, %k, %v) {scale = 0.125, right = 0}
                  : (tensor<1x8x16x64xf32>, tensor<1x2x16x64xf32>, tensor<1x2x16x64xf32>) -> tensor<1x8x16x64xf32>
    """

    inputs: Operands
    scale: float
    offset: int = 0
    left: int = -1
    right: int = -1
    softcap: float = 0.0
    y: Result

    @staticmethod
    def infer(types: list[TensorType], scale: float, offset: int = 0, left: int = -1, right: int = -1,
              softcap: float = 0.0) -> list[TensorType]:
        if len(types) not in (3, 4) or any(t.rank != 4 for t in types[:3]):
            raise VerifyError(f"takes q, k, v of rank 4 and perhaps a mask, got {', '.join(str(t.mlir()) for t in types)}")
        q, k, v = types[:3]
        if len({q.dtype, k.dtype, v.dtype}) > 1 or not q.dtype.is_float:
            raise VerifyError(f"needs q, k, v of one float type, got {q.dtype}, {k.dtype}, {v.dtype}")
        batch, heads, length, width = q.shape
        if k.shape[:1] + k.shape[3:] != (batch, width) or v.shape[:3] != k.shape[:3] or k.shape[1] == 0 or heads % k.shape[1]:
            raise VerifyError(f"has q {list(q.shape)}, k {list(k.shape)}, v {list(v.shape)}: batch, heads, lengths or widths disagree")
        if len(types) == 4:
            mask, full = types[3], (batch, heads, length, k.shape[2])
            if mask.dtype != BOOL and not mask.dtype.is_float:
                raise VerifyError(f"needs a mask of bool or float, got {mask.dtype}")
            if mask.rank > 4 or any(m not in (1, f) for m, f in zip(reversed(mask.shape), reversed(full))):
                raise VerifyError(f"has a mask {list(mask.shape)} that does not broadcast to {list(full)}")
        return [q.with_shape((*q.shape[:3], v.shape[3]))]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        out, (q, k, v) = self.types[0], xs[:3]
        acc = compute_dtype(out.dtype)
        scores = attention_scores(b, q, k, xs[3] if len(xs) == 4 else None, scale=self.py("scale"), offset=self.py("offset"),
                                  left=self.py("left"), right=self.py("right"), softcap=self.py("softcap"))
        weights = softmax_along(b, scores, 4, acc, guarded=True)
        length = weights.shape[4]
        total = b.reduce((*weights.shape[:4], v.shape[3]), (length,), acc, 0,
                         [(weights, lambda n, g, h, s, e, t: (n, g, h, s, t)), (v, lambda n, g, h, s, e, t: (n, g, t, e))],
                         lambda s, p, x: s + p * x)
        return [b.view(b.cast(total, out.dtype), out.shape)]


def attention_scores(b: Builder, q: Tensor, k: Tensor, mask: Tensor | None, *, scale: float, offset: int, left: int, right: int,
                     softcap: float) -> Tensor:
    """What the softmax is taken of: [B, G, H/G, S, T] in the compute type.

    Heads stay split, so that nothing between the products is a view.
    """
    batch, groups, length, width = k.shape
    shared, queries, acc = q.shape[1] // groups, q.shape[2], compute_dtype(q.dtype)
    grouped, full = b.view(q, (batch, groups, shared, queries, width)), (batch, groups, shared, queries, length)
    dot = b.reduce(full, (width,), acc, 0,
                   [(grouped, lambda n, g, h, s, t, d: (n, g, h, s, d)), (k, lambda n, g, h, s, t, d: (n, g, t, d))],
                   lambda s, x, y: s + x * y)

    def body(x: Scalar, *masks: Scalar) -> Scalar:
        x = x * scale
        if softcap:
            x = softcap * (x / softcap).math("tanh")
        for m in masks:
            x = select(m, x, b.constant(-inf, acc)) if m.dtype == BOOL else x + m.to(acc)
        if left >= 0 or right >= 0:
            back = b.index(3) + offset - b.index(4)  # how far before the query's place the key lies
            seen = b.constant(True, BOOL)
            if left >= 0:
                seen = seen & (back <= left)
            if right >= 0:
                seen = seen & (back >= -right)
            x = select(seen, x, b.constant(-inf, acc))
        return x

    reads: list[Any] = [(dot, lambda *i: i)]
    if mask is not None:
        broadcast = broadcast_read(mask, 4)[1]
        reads.append((mask, lambda n, g, h, s, t: broadcast(n, g * shared + h, s, t)))
    return b.compute(full, acc, reads, body)


class RotaryOp(GraphOp, name="rotary"):
    """Rotates pairs of the last dimension (of 2r): (a, b) -> (a*cos - b*sin, a*sin + b*cos). cos and sin [.., r] broadcast to x's pairs.

    Pair k is x[k], x[r + k]; interleaved: x[2k], x[2k + 1].

    Example: %y = "graph.rotary"(%x, %c, %s)
                  : (tensor<1x8x16x64xf32>, tensor<1x1x16x32xf32>, tensor<1x1x16x32xf32>) -> tensor<1x8x16x64xf32>
    """

    x: Operand
    cos: Operand
    sin: Operand
    interleaved: bool = False
    y: Result

    @staticmethod
    def infer(types: list[TensorType], interleaved: bool = False) -> list[TensorType]:
        x, cos, sin = types
        if x.rank < 1 or x.shape[-1] % 2 or cos.shape != sin.shape or not x.dtype == cos.dtype == sin.dtype or not x.dtype.is_float:
            raise VerifyError(f"cannot rotate {x.mlir()} by {cos.mlir()} and {sin.mlir()}")
        half = (*x.shape[:-1], x.shape[-1] // 2)
        if cos.rank != x.rank or any(c not in (1, h) for c, h in zip(cos.shape, half)):
            raise VerifyError(f"has angles {list(cos.shape)} that do not broadcast to {list(half)}")
        return [x]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        (x, cos, sin), out = xs, self.types[0]
        *lead, width = out.shape
        n, pairs = len(lead), width // 2
        part, pair = (n + 1, n) if self.py("interleaved") else (n, n + 1)
        shape = (*lead, pairs, 2) if self.py("interleaved") else (*lead, 2, pairs)

        def element(which: int) -> Any:
            return lambda *i: [which if d == part else e for d, e in enumerate(i)]

        def angle(t: Tensor) -> Any:
            return t, lambda *i: [0 if d == 1 else i[pair] if k == n else i[k] for k, d in enumerate(t.shape)]

        def body(first: Scalar, second: Scalar, c: Scalar, s: Scalar) -> Scalar:
            return select(b.index(part).eq(0), first * c - second * s, first * s + second * c)

        paired = b.view(x, shape)
        y = b.compute(shape, out.dtype, [(paired, element(0)), (paired, element(1)), angle(cos), angle(sin)], body)
        return [b.view(y, out.shape)]


rotary = builder(RotaryOp)
_attention = builder(AttentionOp)


def attention(q: ir.Value, k: ir.Value, v: ir.Value, mask: ir.Value | None = None, **attrs: Any) -> ir.Value:
    """`attention(q, k, v, mask, scale=0.125, right=0)`."""
    return _attention(q, k, v, *([] if mask is None else [mask]), **attrs)


__all__ = ["AttentionOp", "RotaryOp", "attention", "attention_scores", "rotary"]
