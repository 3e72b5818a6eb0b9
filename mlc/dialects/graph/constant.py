"""graph.weight and graph.constant: values known at compile time."""

import numpy as np

from mlc.dialects._build import Builder, Tensor, tensor_type
from mlc.dialects._ext import Result, VerifyError
from mlc.dialects.graph._base import GraphOp, TensorType
from mlc.dialects.tile import WeightOp as TileWeightOp
from mlc.dtypes import BY_NUMPY, DType
from mlc.ir.mlir import ir

SMALL = 1024  # elements: larger constants belong in the WeightStore


class WeightOp(GraphOp, name="weight"):
    """A constant whose bytes live outside the IR, under `key` in the WeightStore.

    Example: %w = "graph.weight"() {key = "fc.weight"} : () -> tensor<10x4xf32>
    """

    key: str
    y: Result

    def check(self) -> None:
        self.types[0]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        out = self.types[0]
        op = TileWeightOp.build([], [tensor_type(out.shape, out.dtype)], {"key": self.py("key")})
        return [Tensor(op.operation.results[0], out.dtype)]


class ConstantOp(GraphOp, name="constant"):
    """A small constant: `bytes` (hex of the elements, row-major, in storage type, little endian).

    Example: %c = "graph.constant"() {bytes = "0000803F00000040"} : () -> tensor<2xf32>
    """

    bytes: str
    y: Result

    def check(self) -> None:
        out = self.types[0]
        found = len(self.py("bytes")) // 2
        if found != out.size * out.dtype.bytes:
            raise VerifyError(f"needs {out.size * out.dtype.bytes} bytes for {out.mlir()}, got {found}")

    @property
    def array(self) -> np.ndarray:
        """The elements (of `dtype.numpy`)."""
        out = self.types[0]
        return np.frombuffer(bytes.fromhex(self.py("bytes")), out.dtype.numpy).reshape(out.shape)

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        return [b.dense(self.array)]


def weight(key: str, dtype: DType, shape: tuple[int, ...]) -> ir.Value:
    """A reference to the weight `key`."""
    return WeightOp.build([], [TensorType(tuple(shape), dtype).mlir()], {"key": key}).operation.results[0]


def constant(array: np.ndarray) -> ir.Value:
    """A small constant in the IR (at most SMALL elements)."""
    array = np.ascontiguousarray(array).reshape(np.shape(array))
    if array.size > SMALL:
        raise ValueError(f"constant of {array.size} elements: put it in the WeightStore")
    type_ = TensorType(array.shape, BY_NUMPY[array.dtype]).mlir()
    return ConstantOp.build([], [type_], {"bytes": array.tobytes().hex().upper()}).operation.results[0]


__all__ = ["SMALL", "ConstantOp", "WeightOp", "constant", "weight"]
