"""What every graph op is made of: static tensor types with true element types, a shape rule, a decomposition."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mlc.dialects._build import Builder, Tensor
from mlc.dialects._ext import OpBase, VerifyError, dialect
from mlc.dtypes import BY_NAME, DType
from mlc.ir.mlir import ir

MAX_BYTES = 1 << 46  # of a value: beyond any machine, and it keeps every later product inside int64

Graph = dialect("graph", "ONNX meaning in our spelling: static shapes, true element types, value semantics.")


@dataclass(frozen=True)
class TensorType:
    """Shape and element type of a graph value; the Python face of `tensor<2x3xf32>`."""

    shape: tuple[int, ...]
    dtype: DType

    @staticmethod
    def of(value: ir.Value | ir.Type) -> "TensorType":
        type_ = value if isinstance(value, ir.Type) else value.type
        if not isinstance(type_, ir.RankedTensorType):
            raise VerifyError(f"expected a ranked tensor, got {type_}")
        name = str(type_.element_type)
        if name not in BY_NAME or not type_.has_static_shape:
            raise VerifyError(f"expected a static tensor of a known element type, got {type_}")
        return TensorType(tuple(type_.shape), BY_NAME[name])

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        n = 1
        for d in self.shape:
            n *= d
        return n

    def with_shape(self, shape: Sequence[int]) -> "TensorType":
        return TensorType(tuple(int(d) for d in shape), self.dtype)

    def with_dtype(self, dtype: DType) -> "TensorType":
        return TensorType(self.shape, dtype)

    def mlir(self) -> ir.Type:
        return ir.RankedTensorType.get(list(self.shape), ir.Type.parse(self.dtype.name))


class GraphOp(OpBase):
    """Base of graph ops.

    A subclass states `infer(types, **attrs) -> list[TensorType]` (shape rule; raises VerifyError) and
    `decompose(self, b, xs) -> list[Tensor]` (its meaning in linalg, through the Builder, on operands xs).
    Attributes are plain Python values in both: `self.py("axis")` or `self.axis`.
    """

    dialect = Graph

    @staticmethod
    def infer(types: list[TensorType], **attrs: Any) -> list[TensorType]:
        raise NotImplementedError("an op without operands states its result types where it is built")

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        raise NotImplementedError(f"{self.operation.name} has no decomposition")

    @property
    def types(self) -> list[TensorType]:
        """Types of the results."""
        return [TensorType.of(v) for v in self.operation.results]

    def check(self) -> None:
        """Result types are what `infer` says."""
        attrs = {name: self.py(name) for name in self.operation.attributes if "." not in name}
        expected = type(self).infer([TensorType.of(v) for v in self.operation.operands], **attrs)
        if expected != self.types:
            raise VerifyError(f"has result types {_spell(self.types)} but its shape rule gives {_spell(expected)}")


def _spell(types: list[TensorType]) -> str:
    return ", ".join(str(t.mlir()) for t in types)


def create(cls: type[GraphOp], operands: Sequence[ir.Value], **attrs: Any) -> list[ir.Value]:
    """Builds `cls` at the insertion point with inferred result types; returns its results."""
    types = cls.infer([TensorType.of(v) for v in operands], **attrs)
    for t in types:
        if any(d < 0 for d in t.shape) or t.size * t.dtype.bytes > MAX_BYTES:
            raise VerifyError(f"{cls.__name__} of shape {list(t.shape)}: negative, or larger than any memory")
    return list(cls.build(operands, [t.mlir() for t in types], attrs).operation.results)


def builder(cls: type[GraphOp]) -> Callable[..., ir.Value]:
    """`softmax = builder(Softmax)`: a function of operands and keyword attributes that returns the single result."""

    def build(*operands: ir.Value, **attrs: Any) -> ir.Value:
        return create(cls, operands, **attrs)[0]

    build.__doc__ = cls.__doc__
    return build
