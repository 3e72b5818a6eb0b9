"""ONNX model -> graph and flow ops: each node becomes a known constant, IR made by its converter, or its function body."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import FunctionProto, GraphProto, NodeProto, helper

from mlc.dialects._ext import VerifyError
from mlc.errors import CompilerError, MlcError, ModelError, ResourceError, ShapeError, UnsupportedError, ValueHint
from mlc.frontend.onnx.attributes import bind, check_attributes
from mlc.frontend.onnx.check import FunctionKey, function_key
from mlc.frontend.onnx.constants import Constants
from mlc.frontend.onnx.context import AlreadyReportedError, NodeContext
from mlc.frontend.onnx.fold import fold, schema_of, type_proto
from mlc.frontend.onnx.functions import call_arguments, function_opsets, onnx_function
from mlc.frontend.onnx.inference import objection
from mlc.frontend.onnx.load import LoadedModel, ModelSource, load_model
from mlc.frontend.onnx.nodes import op_name, ordered
from mlc.frontend.onnx.registry import KNOWN_OPSETS, find_converter
from mlc.frontend.onnx.scope import Scope
from mlc.frontend.onnx.signature import Argument, Inputs, Port, ShapeSpec, ValueSpec, model_inputs, output_port
from mlc.frontend.onnx.tensors import type_name
from mlc.frontend.onnx.values import Tensor, Unusable, Value
from mlc.ir.mlir import func, ir
from mlc.weights import WeightStore

MAX_NODES = 1 << 20  # after inlining and unrolling: a small file with nested functions can ask for billions
MAX_NESTING = 64
MAX_TENSOR_BYTES = 1 << 40
CALL_OPSET = 18  # of the ops that converters build from


@dataclass(frozen=True)
class ImportedModel:
    """A model in the IR. arguments/results: the tensors of @main in order (an argument with a value is fixed and not passed to @main).

    signature: {"inputs": [{"name", "kind", "items"}], "outputs": [...]}, what the user sees of them.
    """

    module: ir.Module
    weights: WeightStore
    signature: dict[str, list[dict[str, object]]]
    arguments: tuple[Argument, ...]
    results: tuple[Argument, ...]


def import_model(model: LoadedModel | ModelSource, *, shapes: ShapeSpec | None = None, values: ValueSpec | None = None,
                 context: ir.Context) -> ImportedModel:
    """Imports `model` as @main of a new module in `context`, which has the graph and flow dialects loaded.

    shapes: sizes for inputs (or symbolic dimensions) that the model leaves open. values: inputs fixed at compile time.
    UnsupportedError lists every node that mlc cannot do; ShapeError says which flag is missing.
    """
    loaded = load_model(model)
    inputs = model_inputs(loaded.proto.graph, {*loaded.weights, *loaded.skipped}, shapes or {}, values or {})
    with context, ir.Location.file(loaded.name, 0, 0):
        return Importer(loaded).run(inputs)


class Importer:
    """The import of one model."""

    def __init__(self, model: LoadedModel) -> None:
        self.model, self.reader = model, model.reader
        self.functions: dict[FunctionKey, FunctionProto] = {function_key(f): f for f in model.proto.functions}
        self.problems: dict[str, UnsupportedError] = {}  # by node
        self.node_count = 0
        self.constants: Constants
        self.argument_names: list[tuple[str, ir.Value]] = []

    def run(self, inputs: Inputs) -> ImportedModel:
        graph = self.model.proto.graph
        module = ir.Module.create()
        types = [t.ir_type for t in inputs.tensors]
        with ir.InsertionPoint(module.body):
            main = func.FuncOp("main", ir.FunctionType.get(types, []))
        entry = main.add_entry_block()
        for tensor, argument in zip(inputs.tensors, entry.arguments, strict=True):
            tensor.handle = argument
        self.argument_names = [(t.name, argument) for t, argument in zip(inputs.tensors, entry.arguments, strict=True)]
        self.constants = Constants(entry, self.location)
        scope = Scope(self.model.opsets)
        scope.names.update(inputs.values)
        for name, weight in self.model.weights.items():
            scope.names.setdefault(name, Tensor.of_weight(weight))
        for name, reason in self.model.skipped.items():
            scope[name] = Unusable(reason)
        with ir.InsertionPoint(entry):
            values = self._run_nodes(graph.node, scope, [value.name for value in graph.output], "the graph")
            self._raise_problems()
            ports, tensors = self._outputs(graph, values)
            handles = [self.to_ir(tensor) for _, tensor in tensors]
            func.ReturnOp(handles)
        main.operation.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(types, [h.type for h in handles]))
        main.operation.attributes["arg_attrs"] = _names([t.name for t in inputs.tensors])
        main.operation.attributes["res_attrs"] = _names([name for name, _ in tensors])
        self.constants.drop_unused()
        return ImportedModel(module, self.constants.store,
                             {"inputs": [p.as_plan() for p in inputs.ports], "outputs": [p.as_plan() for p in ports]},
                             tuple(inputs.arguments), tuple(Argument(name, t.dtype, t.shape) for name, t in tensors))

    def _outputs(self, graph: GraphProto, values: Sequence[Value | None]) -> tuple[list[Port], list[tuple[str, Tensor]]]:
        ports: list[Port] = []
        tensors: list[tuple[str, Tensor]] = []
        for info, value in zip(graph.output, values, strict=True):
            if value is None:
                raise ModelError(f"graph output {info.name!r} is an absent optional input")
            if isinstance(value, Unusable):
                raise UnsupportedError(f"graph output {info.name!r}: {value.reason}")
            declared = info.type.tensor_type.elem_type
            if isinstance(value, Tensor) and declared not in (0, value.dtype.onnx):
                raise ModelError(f"graph output {info.name!r} is {value.dtype}, the model declares {type_name(declared)}")
            port, named = output_port(info.name, value)
            ports.append(port)
            tensors += named
        return ports, tensors

    # Nodes

    def run_graph(self, graph: GraphProto, scope: Scope) -> list[Value | None]:
        """Imports a nested graph whose inputs are bound in `scope`."""
        if scope.depth > MAX_NESTING:
            raise ModelError(f"graphs and functions nest more than {MAX_NESTING} deep")
        weights, skipped = self.reader.initializers(graph, f"initializer in graph {graph.name!r}:")
        for name, weight in weights.items():
            scope.names.setdefault(name, Tensor.of_weight(weight))
        for name, reason in skipped.items():
            scope[name] = Unusable(reason)
        return self._run_nodes(graph.node, scope, [value.name for value in graph.output], f"graph {graph.name!r}")

    def _run_nodes(self, nodes: Sequence[NodeProto], scope: Scope, outputs: Sequence[str], where: str) -> list[Value | None]:
        for index, node in ordered(nodes, where):
            self.import_node(node, index, scope)
        return [scope[name] if name else None for name in outputs]

    def import_node(self, node: NodeProto, index: int, scope: Scope) -> None:
        """Gives the outputs of `node` values in `scope`. An unsupported node is noted, and so are the others, before anything is raised."""
        self.node_count += 1
        node = bind(node, scope.arguments)
        ctx = NodeContext(self, scope, node, index, schema_of(node, scope.opsets))
        if self.node_count > MAX_NODES:
            raise ResourceError(f"the model has more than {MAX_NODES} nodes once functions and loops are unrolled", node=ctx.label)
        outputs: Sequence[Value | None] = [Unusable()] * len(node.output)
        with ctx.location:
            try:
                outputs = self._named(ctx, self._convert(ctx))
            except AlreadyReportedError:
                pass
            except UnsupportedError as error:
                error.node = error.node or ctx.label
                self.problems.setdefault(error.node, error)
            except VerifyError as error:
                raise ShapeError(str(error), node=ctx.label) from error
            except MlcError as error:
                error.node = error.node or ctx.label
                raise
            except (RecursionError, MemoryError) as error:
                raise ResourceError(f"importing it ran out of resources: {type(error).__name__}", node=ctx.label) from error
            except Exception as error:
                wrong = objection(ctx.schema, node, [scope[name] if name else None for name in node.input], scope.opsets)
                if wrong is not None:  # the node is invalid, in a way that its converter does not look for
                    raise ModelError(f"ONNX refuses it: {wrong}", node=ctx.label) from error
                raise CompilerError(f"its converter failed: {type(error).__name__}: {error}", node=ctx.label) from error
        for name, value in zip(node.output, outputs, strict=False):
            if name:
                scope[name] = value

    def _convert(self, ctx: NodeContext) -> Sequence[Any]:
        node, schema = ctx.node, ctx.schema
        inputs = [ctx.scope[name] if name else None for name in node.input]
        for name, value in zip(node.input, inputs, strict=True):
            if isinstance(value, Unusable):
                if value.reason is None:  # for want of a node before this one, which need not be all that is wanting
                    if not self._has_meaning(ctx):
                        raise ctx.unsupported("no converter for this op")
                    raise AlreadyReportedError
                raise ctx.unsupported(f"input {name!r}: {value.reason}")
        local = self.functions.get(function_key(node))
        if local is not None:
            return self._inline(ctx, local, inputs, None)
        _check_against_schema(ctx)
        known = [value for value in inputs if value is None or (isinstance(value, Tensor) and value.is_known)]
        if len(known) == len(inputs):
            folded = fold(node, known, ctx.scope.opsets)
            if folded is not None:
                return folded
        convert = find_converter(ctx.domain, node.op_type, ctx.opset)
        if convert is not None:
            outputs = list(convert(ctx))
            ctx.check_all_read()
            return outputs
        body = self._body(ctx, inputs)
        if body is not None:
            return self._inline(ctx, body, inputs, schema)
        raise ctx.unsupported("no converter for this op")

    def _named(self, ctx: NodeContext, outputs: Sequence[Any]) -> list[Value | None]:
        """What a converter returned, as environment values that carry the names of the node's outputs."""
        result: list[Value | None] = []
        for i, name in enumerate(ctx.node.output):
            value = outputs[i] if i < len(outputs) else None
            if name and value is None:
                raise ctx.unsupported(f"output {i} ({name!r}) is not supported")
            if isinstance(value, (np.ndarray, np.generic)):
                value = Tensor.known(np.asarray(value), ctx.scope.prefix + name)
            elif isinstance(value, ir.Value):
                value = Tensor.of_ir(value, ctx.scope.prefix + name)
            if isinstance(value, Tensor):
                value.name = value.name or ctx.scope.prefix + name
                size = prod(value.shape) * value.dtype.bytes
                if size > MAX_TENSOR_BYTES:
                    raise ResourceError(f"output {name!r} {value.dtype} {list(value.shape)} takes {size} bytes", node=ctx.label)
            result.append(value)
        return result

    # Functions

    def _has_meaning(self, ctx: NodeContext) -> bool:
        """Whether there is a converter or a function body, as far as the op alone tells."""
        schema = ctx.schema
        return (function_key(ctx.node) in self.functions or find_converter(ctx.domain, ctx.node.op_type, ctx.opset) is not None
                or (schema is not None and (schema.has_function or schema.has_context_dependent_function)))

    def _body(self, ctx: NodeContext, inputs: Sequence[Value | None]) -> FunctionProto | None:
        if ctx.schema is None or not (ctx.schema.has_function or ctx.schema.has_context_dependent_function):
            return None
        types = [type_proto(value) if isinstance(value, Tensor) else onnx.TypeProto() for value in inputs]
        return onnx_function(ctx.schema, ctx.node, ctx.opset, types)

    def _inline(self, ctx: NodeContext, function: FunctionProto, inputs: Sequence[Value | None],
                schema: onnx.defs.OpSchema | None) -> list[Value | None]:
        if len(inputs) > len(function.input) or len(ctx.node.output) > len(function.output):
            raise ModelError(f"{len(inputs)} inputs and {len(ctx.node.output)} outputs; the function has {len(function.input)} and "
                             f"{len(function.output)}", node=ctx.label)
        arguments = call_arguments(function, ctx.node, ctx.label, schema)
        scope = ctx.scope.body(function_opsets(function, ctx.scope.opsets), arguments, ctx.name.removeprefix(ctx.scope.prefix))
        if scope.depth > MAX_NESTING:
            raise ModelError(f"graphs and functions nest more than {MAX_NESTING} deep", node=ctx.label)
        padded = [*inputs, *[None] * (len(function.input) - len(inputs))]
        scope.names.update(zip(function.input, padded, strict=True))
        # A body that ONNX makes for one node leaves out what that node does not ask for.
        wanted = [name if asked else "" for name, asked in zip(function.output, ctx.node.output, strict=False)]
        outputs = self._run_nodes(function.node, scope, wanted, f"function {function.name}")
        if any(isinstance(value, Unusable) for value in outputs):
            raise AlreadyReportedError
        return outputs

    # For converters

    def location(self, name: str) -> ir.Location:
        file = ir.Location.file(self.model.name, 0, 0)
        return ir.Location.name(name, file) if name else file

    def to_ir(self, tensor: Tensor) -> ir.Value:
        """The IR value of a tensor; a known one becomes a constant or a weight at the top of @main the first time."""
        if tensor.handle is None:
            tensor.handle = self.constants.materialise(tensor)
        return tensor.handle

    def call_op(self, ctx: NodeContext, op: str, inputs: Sequence[Tensor | np.ndarray | None], outputs: int, domain: str,
                attributes: Mapping[str, Any]) -> list[Value]:
        scope = Scope({**ctx.scope.opsets, "": CALL_OPSET}, prefix=ctx.scope.prefix, depth=ctx.scope.depth + 1)
        names = ["" if value is None else f"in{i}" for i, value in enumerate(inputs)]
        for name, value in zip(names, inputs, strict=True):
            if value is not None:
                scope[name] = Tensor.known(value, f"{ctx.name}.{name}") if isinstance(value, np.ndarray) else value
        made = [f"{ctx.name.removeprefix(ctx.scope.prefix)}.{op}.{i}" for i in range(outputs)]
        node = helper.make_node(op, names, made, name=f"{ctx.name.removeprefix(ctx.scope.prefix)}.{op}", domain=domain, **attributes)
        self.import_node(node, 0, scope)
        results = [scope[name] for name in made]
        if any(value is None or isinstance(value, Unusable) for value in results):
            raise AlreadyReportedError
        return [value for value in results if value is not None]

    def value_hint(self, tensor: Tensor) -> ValueHint | None:
        """How to make `tensor` known: the graph inputs it is computed from, fixed. None if there are none to be seen."""
        seen: set[ir.Value] = set()
        todo = [] if tensor.handle is None else [tensor.handle]
        names: list[str] = []
        while todo:
            value = todo.pop()
            if value in seen:
                continue
            seen.add(value)
            if isinstance(value.owner, ir.Block):
                names += [name for name, argument in self.argument_names if argument == value]
            else:
                todo += list(value.owner.operands)
        if not names:
            return None
        names.sort()
        return ValueHint(f"it is computed from graph input{'s' * (len(names) > 1)} {', '.join(map(repr, names))}; "
                         f"fix one with values={{{names[0]!r}: array}} (--value {names[0]}=...)", tuple(names))

    def _raise_problems(self) -> None:
        problems = list(self.problems.values())
        if len(problems) == 1:
            raise problems[0]
        if problems:
            lines = "".join(f"\n  {p.node}: {p.message}" for p in problems)
            raise UnsupportedError(f"{len(problems)} nodes ask for something that mlc does not do:{lines}")


def _check_against_schema(ctx: NodeContext) -> None:
    """What ONNX says about the op's version: that it exists, its attributes, and how many inputs and outputs it has."""
    node, schema = ctx.node, ctx.schema
    if schema is None and ctx.domain in KNOWN_OPSETS:
        raise ctx.unsupported(f"{op_name(node)} does not exist in opset {ctx.opset}")
    if schema is None:
        return  # an op of another domain
    if schema.deprecated:
        raise ctx.unsupported(f"the op is deprecated in opset {ctx.opset}: it has no meaning there")
    if schema.since_version > KNOWN_OPSETS.get(ctx.domain, schema.since_version):
        raise ctx.unsupported(f"this version of the op (since opset {schema.since_version}) is newer than mlc")
    check_attributes(node, schema, ctx.label)
    if not schema.min_input <= len(node.input) <= schema.max_input or len(node.output) > schema.max_output:
        raise ModelError(f"{len(node.input)} inputs and {len(node.output)} outputs; the op takes {schema.min_input} to {schema.max_input} "
                         f"inputs and gives {schema.min_output} to {schema.max_output} outputs", node=ctx.label)


def _names(names: Sequence[str]) -> ir.Attribute:
    return ir.ArrayAttr.get([ir.DictAttr.get({"mlc.name": ir.StringAttr.get(name)}) for name in names])

