"""DFT and STFT as contractions with tables of cosines and sines: one matrix, or for long signals two stages of Cooley-Tukey."""

from collections.abc import Sequence
from math import isqrt

import numpy as np

from mlc.dialects import graph
from mlc.errors import ModelError
from mlc.frontend.onnx.context import NodeContext
from mlc.frontend.onnx.ops._emit import cast, cut, dtype_of, mul, pad, reshape, shape_of, transpose, wide
from mlc.frontend.onnx.ops.reduce import axis_of
from mlc.frontend.onnx.registry import converter
from mlc.ir.mlir import ir

DENSE = 256  # longest transform that is one matrix


def _complex(angle: np.ndarray, scale: float | np.ndarray, parts: int) -> np.ndarray:
    """Multiplication by scale * exp(i*angle) as real matrices in two dimensions put behind: [..., parts in, 2 out]."""
    c, s = np.cos(angle) * scale, np.sin(angle) * scale
    return np.stack([np.stack([c, s], -1), np.stack([-s, c], -1)][:parts], -2)


def _turn(a: np.ndarray, b: np.ndarray, n: int, sign: int) -> np.ndarray:
    """The angle sign * 2 pi a b / n, with the product reduced to the circle while it is an integer."""
    return sign * 2 * np.pi * ((a * b) % n) / n


def dft_of(ctx: NodeContext, x: ir.Value, axis: int, n: int, *, inverse: bool = False) -> ir.Value:
    """The transform of length n along `axis` of x [..., 1 or 2 parts]; x is cut or continued with zeros to n. Gives two parts."""
    rank, parts, dtype = len(shape_of(x)), shape_of(x)[-1], dtype_of(x)
    if shape_of(x)[axis] > n:
        x = cut(x, axis, 0, n)
    sign, scale = (1, 1 / n) if inverse else (-1, 1.0)
    first = _factor(n) if n > DENSE else 1
    outer, inner = "abcdefgh"[:axis], "stuvwxyz"[:rank - 2 - axis]
    if first == 1:
        t, k = np.arange(shape_of(x)[axis])[:, None], np.arange(n)[None]
        table = _complex(_turn(t, k, n, sign), scale, parts).transpose(0, 2, 1, 3)
        return graph.einsum(f"{outer}i{inner}m,imko->{outer}k{inner}o", x, ctx.const(table.astype(dtype.numpy)))
    x = pad(x, [0] * rank, [n - shape_of(x)[axis] if d == axis else 0 for d in range(rank)])
    second = n // first
    # Element t = second*i + j, bin k + first*l: sum over i, then over j; the twist between them is part of the first table.
    shape = list(shape_of(x))
    x = reshape(x, [*shape[:axis], first, second, *shape[axis + 1:]])
    i, j, k = np.ogrid[:first, :second, :first]
    one = _complex(_turn(i * second + j, k, n, sign), scale, parts)  # [i, j, k, m, o]
    x = graph.einsum(f"{outer}ij{inner}m,ijkmo->{outer}kj{inner}o", x, ctx.const(one.astype(dtype.numpy)))
    two = _complex(_turn(np.arange(second)[:, None], np.arange(second)[None], second, sign), 1.0, 2)  # [j, l, m, o]
    x = graph.einsum(f"{outer}kj{inner}m,jlmo->{outer}lk{inner}o", x, ctx.const(two.astype(dtype.numpy)))
    return reshape(x, [*shape[:axis], n, *shape[axis + 1:-1], 2])


def _factor(n: int) -> int:
    """The largest divisor up to the square root."""
    return next(d for d in range(isqrt(n), 0, -1) if n % d == 0)


def _inverse_of_half(ctx: NodeContext, x: ir.Value, axis: int, n: int) -> ir.Value:
    """The real signal of length n from bins 0..n/2: the other bins are their conjugates."""
    rank, dtype = len(shape_of(x)), dtype_of(x)
    x = cut(x, axis, 0, min(shape_of(x)[axis], n // 2 + 1))
    k, t = np.arange(shape_of(x)[axis])[:, None], np.arange(n)[None]
    double = np.where((k == 0) | (2 * k == n), 1.0, 2.0) / n
    table = _complex(_turn(k, t, n, 1), double, shape_of(x)[-1]).transpose(0, 2, 1, 3)[..., :1]
    outer, inner = "abcdefgh"[:axis], "stuvwxyz"[:rank - 2 - axis]
    return graph.einsum(f"{outer}i{inner}m,imko->{outer}k{inner}o", x, ctx.const(table.astype(dtype.numpy)))


@converter("DFT", since=17)
def dft_17(ctx: NodeContext) -> Sequence[ir.Value]:
    return _dft(ctx, ctx.attr("axis", 1))


@converter("DFT", since=20)
def dft_20(ctx: NodeContext) -> Sequence[ir.Value]:
    axis = ctx.maybe_value(2)
    return _dft(ctx, -2 if axis is None else int(axis.reshape(())))


def _dft(ctx: NodeContext, axis: int) -> Sequence[ir.Value]:
    x, length = ctx.ir(0), ctx.maybe_value(1)
    inverse, onesided, dtype = bool(ctx.attr("inverse", 0)), bool(ctx.attr("onesided", 0)), dtype_of(x)
    rank = len(shape_of(x))
    at = axis_of(ctx, axis, rank)
    if rank < 2 or at == rank - 1 or shape_of(x)[-1] not in (1, 2):
        raise ModelError(f"cannot transform axis {axis} of {list(shape_of(x))}: the last dimension holds the 1 or 2 parts of a number",
                         node=ctx.label)
    extent = shape_of(x)[at]
    n = int(length.reshape(())) if length is not None else 2 * (extent - 1) if inverse and onesided else extent
    if n < 1:
        raise ModelError(f"dft_length is {n}, expected a positive number", node=ctx.label)
    x = cast(x, wide(dtype))
    if inverse and onesided:
        return [cast(_inverse_of_half(ctx, x, at, n), dtype)]
    y = dft_of(ctx, x, at, n, inverse=inverse)
    return [cast(cut(y, at, 0, n // 2 + 1) if onesided else y, dtype)]


@converter("STFT")
def stft(ctx: NodeContext) -> Sequence[ir.Value]:
    """Windowed transforms of overlapping frames: short ones are a strided convolution with the windowed table."""
    x, step, window, length = ctx.ir(0), int(ctx.value(1).reshape(())), ctx.maybe_ir(2), ctx.maybe_value(3)
    onesided, dtype = bool(ctx.attr("onesided", 1)), dtype_of(x)
    if len(shape_of(x)) == 2:
        x = reshape(x, (*shape_of(x), 1))
    batch, extent, parts = shape_of(x)
    n = int(length.reshape(())) if length is not None else shape_of(window)[0] if window is not None else 0
    if n < 1 or step < 1 or extent < n or parts not in (1, 2) or (window is not None and shape_of(window) != (n,)):
        raise ModelError(f"cannot take frames of {n} elements, {step} apart, from {list(shape_of(x))}", node=ctx.label)
    bins, frames = n // 2 + 1 if onesided else n, (extent - n) // step + 1
    x = cast(x, wide(dtype))
    if window is not None:
        window = cast(window, wide(dtype))
    if n <= DENSE:
        table = _complex(_turn(np.arange(n)[:, None], np.arange(bins)[None], n, -1), 1.0, parts)  # [t, k, m, o]
        taps = ctx.const(table.transpose(1, 3, 2, 0).reshape(bins * 2, parts, n).astype(wide(dtype).numpy))
        y = graph.conv(transpose(x, (0, 2, 1)), taps if window is None else mul(taps, window), strides=[step], dilations=[1])
        return [cast(reshape(transpose(y, (0, 2, 1)), (batch, frames, bins, 2)), dtype)]
    places = ctx.const(np.arange(frames)[:, None] * step + np.arange(n)[None])
    framed = graph.gather(x, places, axis=1)
    if window is not None:
        framed = mul(framed, reshape(window, (n, 1)))
    return [cast(cut(dft_of(ctx, framed, 2, n), 2, 0, bins), dtype)]
