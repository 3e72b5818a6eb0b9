"""The model's inputs and outputs as static tensors: symbols resolved, sequences and optionals laid flat, fixed inputs set aside."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import GraphProto, TypeProto, ValueInfoProto

from mlc.dtypes import BY_NUMPY, DType
from mlc.errors import InputError, ModelError, ShapeError, UnsupportedError
from mlc.frontend.onnx.tensors import checked_shape, dtype_of
from mlc.frontend.onnx.values import BoundedValue, OptionalValue, SequenceValue, Tensor, Value, tensors_in

# For a tensor: its dimensions. For a sequence: the dimensions of each item, or their number when the type says their shape.
# For an optional: as for what it holds, or None when it is empty. Under the name of a symbolic dimension: its size.
ShapeSpec = Mapping[str, Any]
ValueSpec = Mapping[str, Any]


@dataclass(frozen=True)
class Argument:
    """One tensor that crosses the border of @main. value: fixed at compile time, and then no argument at all."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    value: np.ndarray | None = None


@dataclass(frozen=True)
class Port:
    """One input or output of the model. kind: tensor, sequence, optional or bounded; items: the tensors that make it up.

    bounded: an output whose size along `axis` depends on data. Its items: a tensor of the largest size, and the actual size (i64 scalar).
    """

    name: str
    kind: str
    items: tuple[str, ...]
    axis: int | None = None

    def as_plan(self) -> dict[str, object]:
        plan: dict[str, object] = {"name": self.name, "kind": self.kind, "items": list(self.items)}
        if self.axis is not None:
            plan["axis"] = self.axis
        return plan


@dataclass
class Inputs:
    """What the graph's inputs turned out to be. values: per graph input, a value over tensors that have no IR handle yet."""

    ports: list[Port] = field(default_factory=list)
    arguments: list[Argument] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)
    tensors: list[Tensor] = field(default_factory=list)  # of the arguments, in order


def model_inputs(graph: GraphProto, constants: Iterable[str], shapes: ShapeSpec, values: ValueSpec) -> Inputs:
    """Decides every input's static type. ShapeError names the input, the dimension and the flag when something is left open."""
    constants = set(constants)
    infos = [info for info in graph.input if info.name not in constants or info.name in values]
    symbols = _symbols(infos, shapes, values)
    names = {info.name for info in infos}
    for name in shapes:
        if name not in names and name not in symbols:
            raise ShapeError(f"shapes: the model has no input and no symbolic dimension {name!r}", hint=_has(names, _dimensions(infos)))
    for name in values:
        if name not in names:
            raise InputError(f"values: the model has no input {name!r}", hint=_has(names, {}))
    result = Inputs()
    for info in infos:
        builder = _PortBuilder(info, symbols, result)
        name = info.name
        result.values[name] = builder.build(info.type, name in shapes, shapes.get(name), name in values, values.get(name))
        result.ports.append(Port(info.name, builder.kind, tuple(builder.items)))
    taken = [argument.name for argument in result.arguments]
    for name in taken:
        if taken.count(name) > 1:
            raise ModelError(f"two inputs would be called {name!r} once sequences are laid flat")
    return result


def output_port(name: str, value: Value) -> tuple[Port, list[tuple[str, Tensor]]]:
    """A graph output and its tensors, named."""
    tensors = tensors_in(value)
    if isinstance(value, Tensor):
        return Port(name, "tensor", (name,)), [(name, value)]
    if isinstance(value, BoundedValue):
        count = f"{name}.count"
        return Port(name, "bounded", (name, count), value.axis), [(name, value.tensor), (count, value.count)]
    inner = value.item if isinstance(value, OptionalValue) else value
    if isinstance(inner, SequenceValue):
        names = tuple(f"{name}.{i}" for i in range(len(tensors)))
        return Port(name, "sequence", names), list(zip(names, tensors, strict=True))
    return Port(name, "optional", (name,) * len(tensors)), [(name, t) for t in tensors]


class _PortBuilder:
    """Turns one graph input into a value, its arguments and the items of its port."""

    def __init__(self, info: ValueInfoProto, symbols: Mapping[str, int], into: Inputs) -> None:
        self.name, self.symbols, self.into = info.name, symbols, into
        self.kind, self.items = "tensor", list[str]()

    def build(self, type_: TypeProto, has_shape: bool, shape: Any, has_value: bool, value: Any) -> Value:
        match type_.WhichOneof("value"):
            case "tensor_type":
                return self._tensor(self.name, type_.tensor_type, shape if has_shape else None, value if has_value else None)
            case "sequence_type":
                return self._sequence(type_.sequence_type.elem_type, shape, value)
            case "optional_type":
                self.kind = "optional"
                if (has_shape and shape is None) or (has_value and value is None):
                    return OptionalValue(None)
                return OptionalValue(self.build(type_.optional_type.elem_type, has_shape, shape, has_value, value))
        raise UnsupportedError(f"graph input {self.name!r} has type {type_.WhichOneof('value') or 'unknown'}; "
                               "mlc takes tensors, sequences and optionals")

    def _tensor(self, name: str, type_: TypeProto.Tensor, shape: Any, value: Any) -> Tensor:
        dtype = dtype_of(type_.elem_type, f"graph input {self.name!r}")
        self.items.append(name)
        if value is not None:
            array = np.asarray(value)
            if array.dtype != dtype.numpy or (type_.HasField("shape") and not _fits(array.shape, type_, self.symbols)):
                raise InputError(f"values: input {name!r} is {BY_NUMPY.get(array.dtype, array.dtype)} {list(array.shape)}, "
                                 f"the model declares {dtype} {_declared(type_)}")
            array = np.array(array, order="C")  # the caller may change its own later
            array.setflags(write=False)
            self.into.arguments.append(Argument(name, dtype, array.shape, array))
            return Tensor.known(array, name)
        dims = _static(name, type_, shape, self.symbols)
        tensor = Tensor(name, dtype, checked_shape(dims, dtype, f"graph input {name!r}"))
        self.into.arguments.append(Argument(name, dtype, tensor.shape))
        self.into.tensors.append(tensor)
        return tensor

    def _sequence(self, element: TypeProto, shapes: Any, values: Any) -> SequenceValue:
        self.kind = "sequence"
        if element.WhichOneof("value") != "tensor_type":
            raise UnsupportedError(f"graph input {self.name!r} is a sequence of something else than tensors")
        if values is None and shapes is None:
            raise ShapeError(f"graph input {self.name!r} is a sequence: its length and its items' shapes must be known at compile time",
                             hint=f"shapes={{{self.name!r}: [(2, 3), (4, 3)]}} (--shape {self.name}=2x3,4x3), or values= to fix it")
        if values is not None:
            parts = [(None, v) for v in values]
        else:
            parts = [(s, None) for s in _item_shapes(element.tensor_type, shapes)]
        items = [self._tensor(f"{self.name}.{i}", element.tensor_type, s, v) for i, (s, v) in enumerate(parts)]
        return SequenceValue(tuple(items), dtype_of(element.tensor_type.elem_type, f"graph input {self.name!r}"))


def _item_shapes(type_: TypeProto.Tensor, given: Any) -> list[tuple[int, ...] | None]:
    """Shapes of a sequence's items. A tuple alone is what one can write on a command line: their number where the type says their shape,
    lengths where it says that they are vectors, else the shape of the one item."""
    if isinstance(given, list):
        return [tuple(shape) for shape in given]
    fixed = type_.HasField("shape") and all(d.HasField("dim_value") for d in type_.shape.dim)
    if isinstance(given, int) or (fixed and len(given) == 1):
        return [None] * (given if isinstance(given, int) else given[0])
    if type_.HasField("shape") and len(type_.shape.dim) == 1:
        return [(n,) for n in given]
    return [tuple(given)]


def _dimensions(infos: Sequence[ValueInfoProto]) -> set[str]:
    """Names of symbolic dimensions."""
    return {d.dim_param for info in infos for t in _tensor_types(info.type) for d in t.shape.dim if d.dim_param}


def _symbols(infos: Sequence[ValueInfoProto], shapes: ShapeSpec, values: ValueSpec) -> dict[str, int]:
    """Sizes of symbolic dimensions: those given by name, and those that a given shape or value implies."""
    known = _dimensions(infos)
    inputs = {info.name for info in infos}
    given_by_name = {name: size[0] if isinstance(size, tuple) and len(size) == 1 else size for name, size in shapes.items()}
    symbols: dict[str, tuple[int, str]] = {
        name: (int(size), f"shapes[{name!r}]") for name, size in given_by_name.items()
        if name in known and name not in inputs and isinstance(size, int)}
    for info in infos:
        type_ = info.type
        while type_.WhichOneof("value") == "optional_type":
            type_ = type_.optional_type.elem_type
        if type_.WhichOneof("value") != "tensor_type":
            continue
        given = np.shape(values[info.name]) if values.get(info.name) is not None else shapes.get(info.name)
        given = (given,) if isinstance(given, int) else given
        if given is None or isinstance(given, list) or len(given) != len(type_.tensor_type.shape.dim):
            continue  # what does not fit is reported where the input is built
        for dim, size in zip(type_.tensor_type.shape.dim, given, strict=True):
            if not dim.dim_param:
                continue
            first = symbols.setdefault(dim.dim_param, (int(size), f"input {info.name!r}"))
            if first[0] != size:
                raise ShapeError(f"dimension {dim.dim_param!r} is {first[0]} in {first[1]} and {size} in input {info.name!r}")
    return {name: size for name, (size, _) in symbols.items()}


def _tensor_types(type_: TypeProto) -> list[TypeProto.Tensor]:
    match type_.WhichOneof("value"):
        case "tensor_type":
            return [type_.tensor_type]
        case "sequence_type":
            return _tensor_types(type_.sequence_type.elem_type)
        case "optional_type":
            return _tensor_types(type_.optional_type.elem_type)
    return []


def _static(name: str, type_: TypeProto.Tensor, given: Any, symbols: Mapping[str, int]) -> tuple[int, ...]:
    if given is not None:
        if isinstance(given, list) and given:
            raise ShapeError(f"several shapes were given for input {name!r}, which is one tensor: {given}")
        shape = (given,) if isinstance(given, int) else tuple(int(d) for d in given)
        if type_.HasField("shape") and not _fits(shape, type_, symbols):
            text = "x".join(map(str, shape)) or "scalar"
            raise ShapeError(f"shape {text} was given for input {name!r}, the model declares {_declared(type_)}",
                             hint="only dimensions that the model leaves open can be chosen; the others must be as declared")
        if any(d < 0 for d in shape):
            raise ShapeError(f"shape {list(shape)} was given for input {name!r}: dimensions cannot be negative")
        return shape
    if not type_.HasField("shape"):
        raise ShapeError(f"graph input {name!r} has no declared shape", hint=f"shapes={{{name!r}: (1, 128)}} (--shape {name}=1x128)")
    sizes, example, open_dims = [], [], []
    for i, dim in enumerate(type_.shape.dim):
        size = dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else symbols.get(dim.dim_param, -1)
        sizes.append(size)
        example.append(1 if size < 0 else size)
        if size < 0:
            open_dims.append(repr(dim.dim_param) if dim.dim_param else f"number {i}")
    if open_dims:
        raise ShapeError(f"graph input {name!r} {_declared(type_)} has no static size for dimension {', '.join(open_dims)}",
                         hint=f"shapes={{{name!r}: {tuple(example)}}} (--shape {name}={'x'.join(map(str, example))})")
    return tuple(sizes)


def _fits(shape: Sequence[int], type_: TypeProto.Tensor, symbols: Mapping[str, int]) -> bool:
    if len(shape) != len(type_.shape.dim):
        return False
    for size, dim in zip(shape, type_.shape.dim, strict=True):
        declared = dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else symbols.get(dim.dim_param, size)
        if declared != size:
            return False
    return True


def _declared(type_: TypeProto.Tensor) -> str:
    if not type_.HasField("shape"):
        return "no shape"
    return "[" + ", ".join(str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in type_.shape.dim) + "]"


def _has(names: Iterable[str], symbols: Iterable[str]) -> str:
    return f"inputs: {', '.join(sorted(names)) or 'none'}; dimensions: {', '.join(sorted(symbols)) or 'none'}"
