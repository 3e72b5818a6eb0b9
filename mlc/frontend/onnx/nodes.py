"""Small questions about NodeProtos: what is it called, which names does it need, in which order must nodes run."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from onnx import AttributeProto, GraphProto, NodeProto, OperatorSetIdProto

from mlc.errors import ModelError


def plain_domain(domain: str) -> str:
    """ONNX spells its own domain both '' and 'ai.onnx'."""
    return "" if domain == "ai.onnx" else domain


def opsets_of(imports: Iterable[OperatorSetIdProto]) -> dict[str, int]:
    """Domain -> version; models older than opset imports (IR version < 3) mean opset 1."""
    return {plain_domain(entry.domain): entry.version for entry in imports} or {"": 1}


def op_name(node: NodeProto) -> str:
    domain = plain_domain(node.domain) or "ai.onnx"
    return f"{domain}::{node.op_type}" + (f":{node.overload}" if node.overload else "")


def describe(node: NodeProto, index: int, opsets: Mapping[str, int], prefix: str = "") -> str:
    """`'name' (domain::Op, opset N)`, the way every error names a node."""
    version = opsets.get(plain_domain(node.domain), "unknown")
    return f"'{prefix}{local_name(node, index)}' ({op_name(node)}, opset {version})"


def local_name(node: NodeProto, index: int) -> str:
    return node.name or f"{node.op_type}_{index}"


def subgraphs(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    """(attribute name, graph) of each graph inside `node`."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH or attribute.HasField("g"):
            yield attribute.name, attribute.g
        for graph in attribute.graphs:
            yield attribute.name, graph


def all_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """`nodes` and those of every graph inside them."""
    for node in nodes:
        yield node
        for _, graph in subgraphs(node):
            yield from all_nodes(graph.node)


def captured(graph: GraphProto) -> set[str]:
    """Names that `graph` takes from around it."""
    defined = {value.name for value in graph.input} | {t.name for t in graph.initializer}
    defined |= {sparse.values.name for sparse in graph.sparse_initializer}
    needed = {value.name for value in graph.output}
    for node in graph.node:
        defined.update(node.output)
        needed |= needs(node)
    return needed - defined


def needs(node: NodeProto) -> set[str]:
    """Names that must have a value before `node` runs."""
    names = {name for name in node.input if name}
    for _, graph in subgraphs(node):
        names |= captured(graph)
    return names


def ordered(nodes: Sequence[NodeProto], where: str) -> list[tuple[int, NodeProto]]:
    """(index, node), every producer before its consumers: the file's own order when that is right, as ONNX demands."""
    producer = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    waits = [{producer[name] for name in needs(node) if name in producer} for node in nodes]
    if all(not before or max(before) < i for i, before in enumerate(waits)):
        return list(enumerate(nodes))
    followers: list[list[int]] = [[] for _ in nodes]
    for i, before in enumerate(waits):
        for j in before:
            followers[j].append(i)
    left = [len(before) for before in waits]
    order = [i for i, n in enumerate(left) if n == 0]
    for i in order:  # grows while it is walked
        for j in followers[i]:
            left[j] -= 1
            if left[j] == 0:
                order.append(j)
    if len(order) < len(nodes):
        stuck = [local_name(nodes[i], i) for i, n in enumerate(left) if n]
        raise ModelError(f"{where} is cyclic: {', '.join(map(repr, stuck[:8]))}{', ...' if len(stuck) > 8 else ''} wait for each other")
    return [(i, nodes[i]) for i in order]
