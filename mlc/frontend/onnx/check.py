"""Our own structural checks: after `check_model`, names resolve, graphs are acyclic and nesting is bounded.

onnx.checker accepts cycles through subgraphs, crashes on some valid files and does not bound anything, so the importer relies on this one.
"""

from collections.abc import Iterable, Mapping, Sequence

import onnx
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto

from mlc.errors import ModelError, UnsupportedError
from mlc.frontend.onnx.nodes import all_nodes, describe, local_name, needs, opsets_of, ordered, plain_domain, subgraphs

MAX_DEPTH = 24  # of graphs in nodes, and of functions in functions; protobuf itself stops at about 33 graphs
FunctionKey = tuple[str, str, str]


def function_key(item: FunctionProto | NodeProto) -> FunctionKey:
    name = item.op_type if isinstance(item, NodeProto) else item.name
    return plain_domain(item.domain), name, item.overload


def check_model(model: ModelProto) -> None:
    """Raises ModelError or UnsupportedError for the first broken rule found."""
    if not model.HasField("graph"):
        raise ModelError("not an ONNX model: it has no graph")
    opsets = _check_opsets(model.opset_import, "the model")
    functions: dict[FunctionKey, FunctionProto] = {}
    for function in model.functions:
        key = function_key(function)
        if not function.name or key in functions:
            raise ModelError(f"model-local function {function.domain}::{function.name} is defined twice or has no name")
        functions[key] = function
    for function in model.functions:
        _check_function(function, opsets)
    _check_calls(functions)
    if not model.graph.output:
        raise ModelError("the graph has no outputs")
    _check_graph(model.graph, set(), opsets, "the graph", 0)


def installed_opsets() -> dict[str, int]:
    """The newest version of each domain that the installed onnx knows."""
    versions = {"": onnx.defs.onnx_opset_version()}
    for schema in onnx.defs.get_all_schemas():
        versions[schema.domain] = max(versions.get(schema.domain, 0), schema.since_version)
    return versions


def _check_opsets(imports: Iterable[onnx.OperatorSetIdProto], where: str) -> dict[str, int]:
    imports = list(imports)
    _text([entry.domain for entry in imports], where)
    domains = [plain_domain(entry.domain) for entry in imports]
    installed = installed_opsets()
    for domain, entry in zip(domains, imports, strict=True):
        if domains.count(domain) > 1 or entry.version < 1:
            raise ModelError(f"{where} imports opset {entry.version} of domain {domain or 'ai.onnx'!r}: not a version, or not the only one")
        if entry.version > installed.get(domain, entry.version):
            raise UnsupportedError(f"{where} needs opset {entry.version} of domain {domain or 'ai.onnx'!r}; "
                                   f"the installed onnx {onnx.__version__} knows up to {installed[domain]}",
                                   hint="pip install -U onnx, or export with an older opset")
    return opsets_of(imports)


def _check_function(function: FunctionProto, model_opsets: Mapping[str, int]) -> None:
    where = f"function {function.domain}::{function.name}"
    _text([function.name, function.domain, *function.input, *function.output, *function.attribute], where)
    opsets = _check_opsets(function.opset_import, where) if function.opset_import else dict(model_opsets)
    for kind, names in (("input", function.input), ("output", function.output), ("attribute", function.attribute)):
        _unique(names, f"{where}: {kind}")
    _check_nodes(function.node, set(function.input), set(), function.output, opsets, where, 0)


def _check_graph(graph: GraphProto, outer: set[str], opsets: Mapping[str, int], where: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ModelError(f"{where}: graphs nest more than {MAX_DEPTH} deep")
    inputs = [value.name for value in graph.input]
    constants = [t.name for t in graph.initializer] + [t.values.name for t in graph.sparse_initializer]
    dims = [d.dim_param for value in graph.input for d in value.type.tensor_type.shape.dim]
    _text([graph.name, *dims, *inputs, *constants, *(value.name for value in graph.output)], where)
    _unique(inputs, f"{where}: input")
    _unique(constants, f"{where}: initializer")
    # An initializer may carry the name of an input: it is that input's default.
    _check_nodes(graph.node, {*inputs, *constants}, outer, [value.name for value in graph.output], opsets, where, depth)


def _check_nodes(nodes: Sequence[NodeProto], given: set[str], outer: set[str], outputs: Iterable[str], opsets: Mapping[str, int],
                 where: str, depth: int) -> None:
    visible = outer | _names_made(nodes, given, opsets, where)
    for i, node in enumerate(nodes):
        label = describe(node, i, opsets)
        for attribute, graph in subgraphs(node):
            _check_graph(graph, visible, opsets, f"{where}, {attribute} of {local_name(node, i)!r}", depth + 1)
        for name in sorted(needs(node) - visible):
            raise ModelError(f"{where}: input {name!r} is not defined anywhere", node=label)
    ordered(nodes, where)
    for name in outputs:
        if name not in visible:
            raise ModelError(f"{where}: output {name!r} is not defined anywhere")


def _names_made(nodes: Sequence[NodeProto], given: set[str], opsets: Mapping[str, int], where: str) -> set[str]:
    """`given` and the outputs of `nodes`, each defined once by a node that says what it is."""
    made = set(given)
    for i, node in enumerate(nodes):
        label = describe(node, i, opsets)
        _text([node.op_type, node.domain, node.name, *node.input, *node.output, *(a.name for a in node.attribute)], f"{where}: node {i}")
        if not node.op_type:
            raise ModelError(f"{where}: node {local_name(node, i)!r} has no op type")
        if plain_domain(node.domain) not in opsets:
            raise ModelError(f"the model imports no opset for domain {node.domain or 'ai.onnx'!r}", node=label)
        _unique([attribute.name for attribute in node.attribute], f"node {label}: attribute")
        for name in node.output:
            if name in made:
                raise ModelError(f"{where}: the name {name!r} is defined twice", node=label)
            if name:
                made.add(name)
    return made


def _check_calls(functions: Mapping[FunctionKey, FunctionProto]) -> None:
    """Functions must not call themselves, directly or through others."""
    done: set[FunctionKey] = set()

    def visit(key: FunctionKey, path: tuple[FunctionKey, ...]) -> None:
        if key in path or len(path) > MAX_DEPTH:
            chain = " -> ".join(f"{d}::{n}" for d, n, _ in (*path[-4:], key))
            raise ModelError(f"model-local functions call themselves or nest more than {MAX_DEPTH} deep: {chain}")
        if key in done:
            return
        for node in all_nodes(functions[key].node):
            if function_key(node) in functions:
                visit(function_key(node), (*path, key))
        done.add(key)

    for key in functions:
        visit(key, ())


def _text(names: Iterable[str], where: str) -> None:
    """Where a text field is not UTF-8, protobuf hands out bytes."""
    for name in names:
        if not isinstance(name, str):
            raise ModelError(f"{where}: the name {name!r} is not UTF-8: the file is damaged")


def _unique(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if not name:
            raise ModelError(f"{what} without a name")
        if name in seen:
            raise ModelError(f"{what} {name!r} appears twice")
        seen.add(name)
