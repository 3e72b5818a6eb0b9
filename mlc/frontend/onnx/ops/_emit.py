"""Shorthand for converters that compose graph ops: elementwise functions that take numbers, and views by shape."""

from collections.abc import Sequence

import numpy as np

from mlc.dialects import graph
from mlc.dialects.graph import TensorType
from mlc.dtypes import F32, F64, I64, DType
from mlc.ir.mlir import ir

Number = int | float


def shape_of(x: ir.Value) -> tuple[int, ...]:
    return TensorType.of(x).shape


def dtype_of(x: ir.Value) -> DType:
    return TensorType.of(x).dtype


def scalar(value: Number, dtype: DType) -> ir.Value:
    """A constant of rank 0."""
    return graph.constant(np.array(value).astype(dtype.numpy))


def apply(fn: str, *operands: ir.Value | Number) -> ir.Value:
    """`graph.elementwise` whose numbers become constants of the last operand's type that is a value."""
    dtype = [dtype_of(x) for x in operands if isinstance(x, ir.Value)][-1]
    return graph.elementwise(fn, *[x if isinstance(x, ir.Value) else scalar(x, dtype) for x in operands])


def add(a: ir.Value | Number, b: ir.Value | Number) -> ir.Value:
    return apply("add", a, b)


def sub(a: ir.Value | Number, b: ir.Value | Number) -> ir.Value:
    return apply("sub", a, b)


def mul(a: ir.Value | Number, b: ir.Value | Number) -> ir.Value:
    return apply("mul", a, b)


def div(a: ir.Value | Number, b: ir.Value | Number) -> ir.Value:
    return apply("div", a, b)


def reshape(x: ir.Value, shape: Sequence[int]) -> ir.Value:
    """`x` under another shape; itself if it has it already."""
    shape = [int(d) for d in shape]
    return x if list(shape_of(x)) == shape else graph.reshape(x, shape=shape)


def transpose(x: ir.Value, perm: Sequence[int]) -> ir.Value:
    perm = [int(p) for p in perm]
    return x if perm == list(range(len(perm))) else graph.transpose(x, perm=perm)


def cut(x: ir.Value, axis: int, start: int, size: int) -> ir.Value:
    """`size` elements from `start` along `axis`."""
    shape = list(shape_of(x))
    if (start, size) == (0, shape[axis]):
        return x
    starts = [start if d == axis else 0 for d in range(len(shape))]
    return graph.slice(x, starts=starts, sizes=[size if d == axis else n for d, n in enumerate(shape)], steps=[1] * len(shape))


def reverse(x: ir.Value, axis: int) -> ir.Value:
    """`x` from its end to its start along `axis`."""
    shape = list(shape_of(x))
    starts = [n - 1 if d == axis else 0 for d, n in enumerate(shape)]
    return x if shape[axis] < 2 else graph.slice(x, starts=starts, sizes=shape, steps=[-1 if d == axis else 1 for d in range(len(shape))])


def concat(parts: Sequence[ir.Value], axis: int) -> ir.Value:
    return parts[0] if len(parts) == 1 else graph.concat(*parts, axis=axis)


def pad(x: ir.Value, low: Sequence[int], high: Sequence[int], value: float = 0.0) -> ir.Value:
    """`x` with a constant around it."""
    if not any(low) and not any(high):
        return x
    return graph.pad(x, low=[int(v) for v in low], high=[int(v) for v in high], mode="constant", value=float(value))


def cast(x: ir.Value, dtype: DType) -> ir.Value:
    return x if dtype_of(x) == dtype else graph.cast(x, dtype)


def channelwise(v: ir.Value, rank: int, axis: int = 1) -> ir.Value:
    """A vector shaped to broadcast along dimension `axis` of a tensor of `rank`."""
    return reshape(v, [shape_of(v)[0], *[1] * (rank - axis - 1)])


def wide(dtype: DType) -> DType:
    """The type in which floats of `dtype` are summed."""
    return F64 if dtype == F64 else F32


def positions(n: int, dtype: DType = I64) -> ir.Value:
    """0, 1, ..., n-1."""
    return graph.iota([n], 0, dtype)
