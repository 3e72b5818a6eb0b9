"""What an ONNX name can stand for while a model is imported: a tensor (known or not), a sequence, an optional, or nothing usable."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from mlc.dtypes import BY_NAME, BY_NUMPY, DType
from mlc.ir.mlir import ir
from mlc.weights import Weight

CACHED_ELEMENTS = 1 << 16  # larger known values are read again instead of kept


class Tensor:
    """A tensor of static shape: a value of the IR, or a known constant that becomes one only when somebody asks for it.

    `op.to_ir(t)`/`ctx.ir(i)` give the IR value, `t.value` the array when `t.is_known`.
    """

    __slots__ = ("_cached", "_read", "dtype", "handle", "name", "shape")

    def __init__(self, name: str, dtype: DType, shape: tuple[int, ...], *, handle: ir.Value | None = None,
                 read: Callable[[], np.ndarray] | None = None) -> None:
        self.name, self.dtype, self.shape = name, dtype, shape
        self.handle = handle  # the IR value, once there is one
        self._read = read
        self._cached: np.ndarray | None = None

    @classmethod
    def of_ir(cls, value: ir.Value, name: str = "") -> "Tensor":
        type_ = value.type
        if not isinstance(type_, ir.RankedTensorType) or not type_.has_static_shape or str(type_.element_type) not in BY_NAME:
            raise TypeError(f"not a static tensor of a known element type: {type_}")
        return cls(name, BY_NAME[str(type_.element_type)], tuple(type_.shape), handle=value)

    @classmethod
    def known(cls, array: np.ndarray, name: str = "") -> "Tensor":
        return cls(name, BY_NUMPY[array.dtype], array.shape, read=lambda: array)

    @classmethod
    def of_weight(cls, weight: Weight) -> "Tensor":
        return cls(weight.name, weight.dtype, weight.shape, read=weight.read)

    def reshaped(self, shape: tuple[int, ...], name: str = "") -> "Tensor":
        """The same known elements in another shape, read no earlier than needed."""
        return Tensor(name, self.dtype, shape, read=lambda: self.value.reshape(shape))

    @property
    def is_known(self) -> bool:
        return self._read is not None

    @property
    def value(self) -> np.ndarray:
        """The known elements (do not write into them)."""
        if self._read is None:
            raise ValueError(f"the value of {self.name!r} is not known at compile time")
        if self._cached is not None:
            return self._cached
        array = self._read()
        if array.size <= CACHED_ELEMENTS:
            self._cached = array
        return array

    def weight(self) -> Weight:
        """The known tensor as an entry for a WeightStore."""
        assert self._read is not None
        read = self._read
        return Weight(self.name or "constant", self.dtype, self.shape, lambda: np.ascontiguousarray(read()).reshape(self.shape))

    @property
    def ir_type(self) -> ir.Type:
        """As the graph level has it; in the current context."""
        return ir.RankedTensorType.get(list(self.shape), ir.Type.parse(self.dtype.name))

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return prod(self.shape)

    def __repr__(self) -> str:
        return f"Tensor({self.name!r}, {self.dtype} {list(self.shape)}{', known' if self.is_known else ''})"


@dataclass(frozen=True)
class SequenceValue:
    """An ONNX sequence, whose length is always known: it exists only while importing."""

    items: "tuple[Value, ...]"
    dtype: DType | None = None  # of the elements; None when unknown or when the elements are not tensors


@dataclass(frozen=True)
class OptionalValue:
    """An ONNX optional: whether it holds something is always known."""

    item: "Value | None"


@dataclass(frozen=True)
class BoundedValue:
    """A tensor whose size along `axis` depends on data: `tensor` has the largest size, its first `count` (i64 scalar) slices count."""

    tensor: Tensor
    axis: int
    count: Tensor


@dataclass(frozen=True)
class Unusable:
    """A name without a value: an unsupported node should have made it (reason: None, already reported), or it cannot be held (reason)."""

    reason: str | None = None


Value = Tensor | SequenceValue | OptionalValue | BoundedValue | Unusable


def tensors_in(value: Value | None) -> list[Tensor]:
    """The tensors of a value, in order: what a control-flow op or a function argument can carry."""
    match value:
        case Tensor():
            return [value]
        case SequenceValue():
            return [t for item in value.items for t in tensors_in(item)]
        case OptionalValue():
            return tensors_in(value.item)
        case BoundedValue():
            return [value.tensor, value.count]
    return []


def rebuilt(value: Value | None, tensors: list[Tensor]) -> Value | None:
    """A value of the same structure over other tensors, taken from the front of `tensors`."""
    match value:
        case Tensor():
            return tensors.pop(0)
        case SequenceValue():
            return SequenceValue(tuple(present(rebuilt(item, tensors)) for item in value.items), value.dtype)
        case OptionalValue():
            return OptionalValue(rebuilt(value.item, tensors))
        case BoundedValue():
            return BoundedValue(tensors.pop(0), value.axis, tensors.pop(0))
    return value


def structure(value: Value | None) -> object:
    """What must agree for two values to be exchangeable: nesting, element types and shapes."""
    match value:
        case Tensor():
            return value.dtype.name, value.shape
        case SequenceValue():
            return ["sequence", *(structure(item) for item in value.items)]
        case OptionalValue():
            return ["optional", structure(value.item)]
        case BoundedValue():
            return ["bounded", value.axis, structure(value.tensor)]
    return None


def show(value: Value | None) -> str:
    """A value's type for messages."""
    match value:
        case Tensor():
            return f"tensor {value.dtype} {list(value.shape)}"
        case SequenceValue():
            return f"sequence of {len(value.items)} [{', '.join(map(show, value.items[:4]))}{', ...' if len(value.items) > 4 else ''}]"
        case OptionalValue():
            return "empty optional" if value.item is None else f"optional {show(value.item)}"
        case BoundedValue():
            return f"{show(value.tensor)} whose size in dimension {value.axis} depends on data"
    return "nothing"


def present(value: Value | None) -> Value:
    """A value that is known to be there."""
    assert value is not None
    return value
