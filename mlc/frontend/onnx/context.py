"""What a converter sees of its node: typed attributes, inputs as IR or as known values, subgraphs, and other ops to build from."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto

from mlc.dtypes import DType
from mlc.errors import CompilerError, ModelError, ShapeError, UnsupportedError
from mlc.frontend.onnx.attributes import python_value
from mlc.frontend.onnx.nodes import describe, local_name, plain_domain
from mlc.frontend.onnx.scope import Scope
from mlc.frontend.onnx.tensors import dtype_of
from mlc.frontend.onnx.values import BoundedValue, SequenceValue, Tensor, Unusable, Value, show
from mlc.ir.mlir import ir as mlir  # the name ir is a method here

if TYPE_CHECKING:
    from mlc.frontend.onnx.importer import Importer

_SCHEMA: Any = object()


class NodeContext:
    """One node being converted. Every attribute and input that it has must be asked for: what nobody reads is an error, not ignored."""

    def __init__(self, importer: "Importer", scope: Scope, node: NodeProto, index: int, schema: onnx.defs.OpSchema | None) -> None:
        self.importer, self.scope, self.node, self.schema = importer, scope, node, schema
        self.domain = plain_domain(node.domain)
        self.op = node.op_type
        self.opset = scope.opsets[self.domain]
        self.label = describe(node, index, scope.opsets, scope.prefix)
        self.name = scope.prefix + local_name(node, index)
        self._inputs: list[Value | None] = [scope[name] if name else None for name in node.input]
        self._attributes = {a.name: a for a in node.attribute}
        self._unread_attributes = set(self._attributes)
        self._unread_inputs = {i for i, value in enumerate(self._inputs) if value is not None}

    # Outputs

    @property
    def out_count(self) -> int:
        """Number of outputs the node lists."""
        return len(self.node.output)

    def wants(self, i: int) -> bool:
        """Whether the node names output `i`."""
        return i < len(self.node.output) and bool(self.node.output[i])

    @property
    def location(self) -> mlir.Location:
        return self.importer.location(self.name)

    # Inputs

    @property
    def inputs(self) -> list[Value | None]:
        """All inputs as environment values; None where an optional one is absent."""
        self._unread_inputs.clear()
        return list(self._inputs)

    def has(self, i: int) -> bool:
        """Whether input `i` is present."""
        return i < len(self._inputs) and self._inputs[i] is not None

    def input(self, i: int) -> Value | None:
        self._unread_inputs.discard(i)
        return self._inputs[i] if i < len(self._inputs) else None

    def maybe_tensor(self, i: int) -> Tensor | None:
        """Input `i` as a Tensor (dtype, shape, perhaps a known value); None if absent."""
        value = self.input(i)
        if isinstance(value, Unusable):
            raise AlreadyReportedError
        if value is None or isinstance(value, Tensor):
            return value
        if isinstance(value, BoundedValue):
            raise ShapeError(f"input {self.input_name(i)} is a {show(value)}", node=self.label,
                             hint=self.importer.value_hint(value.count) or "such a tensor can only be an output of the model")
        raise ModelError(f"input {self.input_name(i)} is a {show(value)}, expected a tensor", node=self.label)

    def tensor(self, i: int) -> Tensor:
        """Input `i` as a Tensor; ModelError if absent."""
        tensor = self.maybe_tensor(i)
        if tensor is None:
            raise ModelError(f"required input {self.input_name(i)} is missing", node=self.label)
        return tensor

    def ir(self, i: int) -> mlir.Value:
        """Input `i` as a value of the graph dialect."""
        return self.importer.to_ir(self.tensor(i))

    def maybe_ir(self, i: int) -> mlir.Value | None:
        tensor = self.maybe_tensor(i)
        return None if tensor is None else self.importer.to_ir(tensor)

    def irs(self) -> list[mlir.Value]:
        """All inputs, for variadic ops."""
        return [self.ir(i) for i in range(len(self._inputs))]

    def shape(self, i: int, rank: int | None = None) -> tuple[int, ...]:
        """The shape of input `i`; ModelError if it must have another rank."""
        shape = self.tensor(i).shape
        if rank is not None and len(shape) != rank:
            raise ModelError(f"input {self.input_name(i)} has shape {list(shape)}; it must have {rank} dimensions", node=self.label)
        return shape

    def dtype(self, i: int) -> DType:
        return self.tensor(i).dtype

    def value(self, i: int) -> np.ndarray:
        """The elements of input `i`, which decide something at compile time; ShapeError if they are only known at run time."""
        tensor = self.tensor(i)
        if not tensor.is_known:
            raise ShapeError(f"input {self.input_name(i)} must be known at compile time: it decides a shape or the program's structure",
                             node=self.label, hint=self.importer.value_hint(tensor))
        return tensor.value

    def maybe_value(self, i: int) -> np.ndarray | None:
        """The elements of input `i` if it is present; ShapeError if present but not known."""
        return self.value(i) if self.has(i) else None

    def sequence(self, i: int) -> SequenceValue:
        value = self.input(i)
        if isinstance(value, Unusable):
            raise AlreadyReportedError
        if not isinstance(value, SequenceValue):
            raise ModelError(f"input {self.input_name(i)} is a {show(value)}, expected a sequence", node=self.label)
        return value

    def input_name(self, i: int) -> str:
        """`'W' (1: weight)`: the name in the model, the position, and what the op calls it."""
        actual = self.node.input[i] if i < len(self.node.input) else ""
        formal = ""
        if self.schema is not None and self.schema.inputs:
            formal = f": {self.schema.inputs[min(i, len(self.schema.inputs) - 1)].name}"
        return f"{actual!r} ({i}{formal})"

    # Attributes

    def attr(self, name: str, default: Any = _SCHEMA) -> Any:
        """Attribute `name` as int, float, str, list, array (tensors) or proto; `default`, else the schema's, if the node has none."""
        if name in self._attributes:
            self._unread_attributes.discard(name)
            value = python_value(self._attributes[name])
            return self.array(value, name) if isinstance(value, TensorProto) else value
        if default is not _SCHEMA:
            return default
        if self.schema is None:
            raise CompilerError(f"attribute {name!r} has no default: {self.domain}::{self.op} has no schema", node=self.label)
        if name not in self.schema.attributes:
            return None  # another version of the op has it
        known = self.schema.attributes[name].default_value
        return python_value(known) if known.name else None

    def has_attr(self, name: str) -> bool:
        return name in self._attributes

    def ignore(self, *names: str) -> None:
        """States that these attributes change nothing in inference (momentum, seed of an unused output, ...)."""
        self._unread_attributes.difference_update(names)

    def dtype_attr(self, name: str, default: DType | None = None) -> DType:
        """An attribute that holds an element type code."""
        code = self.attr(name, None if default is None else default.onnx)
        if code is None:
            raise ModelError(f"required attribute {name!r} is missing", node=self.label)
        return dtype_of(int(code), f"attribute {name!r}")

    def array(self, tensor: TensorProto, what: str) -> np.ndarray:
        return self._weight(tensor, what).value

    def weight_attr(self, name: str) -> Tensor:
        """A tensor attribute as a known tensor that is not read yet: it may be a large weight."""
        self._unread_attributes.discard(name)
        return self._weight(self._attributes[name].t, name)

    def sparse_weight(self, sparse: onnx.SparseTensorProto, what: str) -> Tensor:
        weight = self.importer.reader.sparse(sparse, f"attribute {what!r} of node {self.label}")
        return Tensor("", weight.dtype, weight.shape, read=weight.read)

    def _weight(self, tensor: TensorProto, what: str) -> Tensor:
        weight = self.importer.reader.weight(tensor, f"attribute {what!r} of node {self.label}")
        return Tensor("", weight.dtype, weight.shape, read=weight.read)

    # Building

    def subgraph(self, name: str) -> "Subgraph":
        """The graph in attribute `name`."""
        graph = self.attr(name, None)
        if not isinstance(graph, GraphProto):
            raise ModelError(f"required attribute {name!r} is missing", node=self.label)
        return Subgraph(self, name, graph)

    def to_ir(self, tensor: Tensor) -> mlir.Value:
        return self.importer.to_ir(tensor)

    def const(self, array: np.ndarray) -> mlir.Value:
        """A constant of the IR."""
        return self.importer.to_ir(Tensor.known(np.asarray(array), f"{self.name}.constant"))

    def op_call(self, op: str, *inputs: Tensor | np.ndarray | None, outputs: int = 1, domain: str = "", **attributes: Any) -> list[Value]:
        """The outputs of another ONNX op (opset 18) on these inputs: converted like a node of the model, folded if all are known."""
        return self.importer.call_op(self, op, inputs, outputs, domain, attributes)

    def unsupported(self, what: str) -> UnsupportedError:
        """The error to raise for a legal use of the op that mlc cannot do."""
        return UnsupportedError(what, node=self.label)

    def check_all_read(self) -> None:
        """Nothing that the node says may have been overlooked."""
        for name in sorted(self._unread_attributes):
            known = self.schema.attributes.get(name) if self.schema is not None else None
            if known is None or not known.default_value.name or python_value(known.default_value) != python_value(self._attributes[name]):
                raise self.unsupported(f"attribute {name!r} is not supported")
        for i in sorted(self._unread_inputs):
            raise self.unsupported(f"input {self.input_name(i)} is not supported")


class AlreadyReportedError(Exception):
    """Control flow of the importer: an input has no value because of an error that is already in the list."""


class Subgraph:
    """A graph attribute of a node. Names it does not define come from the scope around the node."""

    def __init__(self, ctx: NodeContext, name: str, graph: GraphProto) -> None:
        self._ctx, self.name, self.graph = ctx, name, graph
        constants = {t.name for t in graph.initializer}
        self.inputs = [value.name for value in graph.input if value.name not in constants]
        self.outputs = [value.name for value in graph.output]

    def run(self, arguments: Sequence[Value | None]) -> list[Value | None]:
        """Imports the body at the current insertion point, with `arguments` for its inputs; returns its outputs.

        To fill a region: `with ir.InsertionPoint(block): outs = sub.run([Tensor.of_ir(a) for a in block.arguments])`.
        """
        if len(arguments) != len(self.inputs):
            raise ModelError(f"{self.name} takes {len(self.inputs)} inputs, the op passes {len(arguments)}", node=self._ctx.label)
        scope = self._ctx.scope.child()
        scope.names.update(zip(self.inputs, arguments, strict=True))
        return self._ctx.importer.run_graph(self.graph, scope)
