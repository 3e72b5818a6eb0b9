"""connect: merges tile.graphs along their edges where the cost model says that one kernel is cheaper than two (Welder's SetConnect).

A merged group shares one grid; what flows inside stays in registers or block memory. A merge must leave the dataflow acyclic, its sinks
must have one shape, and every op's region must follow the block (`propagate`). Greedy in dataflow order, no backtracking.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from mlc.dialects import tile
from mlc.ir.clone import clone
from mlc.ir.mlir import ir
from mlc.passes.registry import Pass, PassContext
from mlc.passes.tile.cost import Pricer
from mlc.passes.tile.model import Node, Read, body_nodes
from mlc.passes.tile.stream import find_streams

MAX_NODES = 24


@dataclass(frozen=True)
class Connect(Pass):
    """Merges tile.graphs whose fused price is below the sum of their prices."""

    name: ClassVar[str] = "connect"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        pricer = Pricer(ctx.need_target())
        for op in module.body.operations:
            if op.operation.name == "func.func":
                for block in _blocks(op.operation):
                    _Connector(block, pricer).run()


def _blocks(op: ir.Operation) -> Iterator[ir.Block]:
    """Blocks that hold tile.graphs: of functions and flow regions."""
    for region in op.regions:
        for block in region:
            yield block
            for view in list(block.operations):
                if view.operation.name.startswith("flow."):
                    yield from _blocks(view.operation)


@dataclass(eq=False)
class _Group:
    """Graphs that become one kernel (or one other op, with no nodes)."""

    ops: list[ir.Operation]
    nodes: list[Node]
    order: int
    inputs: set["_Group"] = field(default_factory=set)
    outputs: set["_Group"] = field(default_factory=set)
    constant: bool = False  # depends on weights alone: evaluated at compile time, so never merged with what is not


class _Connector:
    def __init__(self, block: ir.Block, pricer: Pricer) -> None:
        self.block, self.pricer = block, pricer
        self.group_of: dict[ir.Operation, _Group] = {}
        for i, view in enumerate(block.operations):
            op = view.operation
            nodes = _host_nodes(op) if op.name == "tile.graph" else None
            self.group_of[op] = _Group([op], nodes or [], i)
        for op, group in self.group_of.items():
            for value in _used_values(op):
                source = self.group_of.get(_owner(value))
                if source is not None and source is not group:
                    group.inputs.add(source)
                    source.outputs.add(group)
            group.constant = op.name in ("tile.weight", "arith.constant") or (
                op.name in ("tile.graph", "tile.view") and len(group.inputs) > 0
                and all(self.group_of.get(_owner(v)) is not None and self.group_of[_owner(v)].constant for v in op.operands))

    def run(self) -> None:
        self._join_streams()
        for op in list(self.group_of):
            group = self.group_of[op]
            while group.nodes and self._merge_one(group):
                group = self.group_of[op]
        self._rebuild()

    def _join_streams(self) -> None:
        """Softmaxes between products, whole: streamed they are one kernel whatever the length of their rows, and no step on the way is."""
        nodes = [n for g in self.group_of.values() for n in g.nodes]
        made = {r: g for g in self.group_of.values() for n in g.nodes for r in n.results}
        for stream in find_streams(nodes, self._external([op for op in self.group_of if op.name == "tile.graph"])):
            assert stream.stream is not None
            groups = sorted({made[n.results[0]] for n in stream.stream.nodes}, key=lambda g: g.order)
            ops, parts = [op for g in groups for op in g.ops], [n for g in groups for n in g.nodes]
            plan = self.pricer.price(parts, self._external(ops))
            if len({g.constant for g in groups}) > 1 or len(parts) > MAX_NODES or plan is None or not any(plan.streamed):
                continue
            *sources, last = groups
            for source in reversed(sources):
                self._join(source, last)

    def _merge_one(self, group: _Group) -> bool:
        """Merges the group with one of its producers; the one whose edge carries most first."""
        for source in sorted(group.inputs, key=lambda g: -g.order):
            fits = source.constant == group.constant and source.nodes and len(source.nodes) + len(group.nodes) <= MAX_NODES
            if fits and not self._path_around(source, group) and self._gains(source, group):
                self._join(source, group)
                return True
        return False

    def _gains(self, source: _Group, group: _Group) -> bool:
        nodes = [*source.nodes, *group.nodes]
        merged = self.pricer.price(nodes, self._external([*source.ops, *group.ops]))
        if merged is None:
            return False
        apart = [self.pricer.price(g.nodes, self._external(g.ops)) for g in (source, group)]
        return all(p is not None for p in apart) and merged.price < sum(p.price for p in apart if p is not None)

    def _external(self, ops: Sequence[ir.Operation]) -> set[ir.Value]:
        """Results of the group that something outside of it uses."""
        inside = set(ops)
        return {r for op in ops for r in op.results if any(_in_block(u.owner.operation, self.block) not in inside for u in r.uses)}

    def _path_around(self, source: _Group, group: _Group) -> bool:
        """Whether a third group stands between the two."""
        stack, seen = [g for g in source.outputs if g is not group], set()
        while stack:
            g = stack.pop()
            if g is group:
                return True
            if g in seen or g.order > group.order:
                continue
            seen.add(g)
            stack.extend(g.outputs)
        return False

    def _join(self, source: _Group, group: _Group) -> None:
        group.ops = [*source.ops, *group.ops]
        group.nodes = [*source.nodes, *group.nodes]
        for op in source.ops:
            self.group_of[op] = group
        for other in source.inputs:
            other.outputs.discard(source)
            other.outputs.add(group)
        for other in source.outputs - {group}:
            other.inputs.discard(source)
            other.inputs.add(group)
        group.inputs = (group.inputs | source.inputs) - {source, group}
        group.outputs = (group.outputs | source.outputs) - {source, group}

    # -- writing back -----------------------------------------------------------------------------------------------
    def _rebuild(self) -> None:
        groups = list(dict.fromkeys(self.group_of.values()))
        end = self.block.operations[len(self.block.operations) - 1].operation
        last = self.group_of[end]
        done: set[_Group] = set()

        def place(group: _Group) -> None:
            stack = [group]
            while stack:
                top = stack[-1]
                waiting = [g for g in sorted(top.inputs, key=lambda g: g.order) if g not in done]
                if top in done or not waiting:
                    stack.pop()
                    if top not in done:
                        done.add(top)
                        self._emit(top, end)
                    continue
                stack.extend(waiting)

        for group in sorted(groups, key=lambda g: g.order):
            if group is not last:
                place(group)

    def _emit(self, group: _Group, end: ir.Operation) -> None:
        if len(group.ops) == 1:
            group.ops[0].move_before(end)
            return
        external = self._external(group.ops)
        outs = [r for op in group.ops for r in op.results if r in external]
        made = {r for op in group.ops for r in op.results}
        inputs = list(dict.fromkeys(v for op in group.ops for v in op.operands if v not in made))
        location = ir.Location.fused([op.location for op in group.ops], context=end.context)
        with location, ir.InsertionPoint(end):
            graph = tile.GraphOp.build(inputs, [v.type for v in outs]).operation
            body = graph.regions[0].blocks.append(*[v.type for v in inputs])
        env: dict[ir.Value, ir.Value] = dict(zip(inputs, body.arguments))
        with ir.InsertionPoint(body), location:
            for op in group.ops:
                _inline(op, env)
            tile.YieldOp.build([env[v] for v in outs], [])
        for old, new in zip(outs, graph.results):
            old.replace_all_uses_with(new)
        for op in reversed(group.ops):
            op.erase()


def _inline(graph: ir.Operation, env: dict[ir.Value, ir.Value]) -> None:
    """Clones a tile.graph's body at the insertion point; env gains its results."""
    block = graph.regions[0].blocks[0]
    inner = {a: env[v] for a, v in zip(block.arguments, graph.operands)}
    for view in block.operations:
        op = view.operation
        if op.name == "tile.yield":
            env.update(zip(graph.results, [inner[v] for v in op.operands]))
            return
        clone(op, inner)


def _host_nodes(graph: ir.Operation) -> list[Node] | None:
    """The nodes of a tile.graph with block arguments and yielded values replaced by the op's operands and results."""
    nodes = body_nodes(graph)
    if nodes is None:
        return None
    block = graph.regions[0].blocks[0]
    end = block.operations[len(block.operations) - 1].operation
    names: dict[ir.Value, ir.Value] = dict(zip(block.arguments, graph.operands))
    names.update(zip(end.operands, graph.results))
    if any(isinstance(v.owner, ir.Block) for v in end.operands) or len(set(end.operands)) != len(list(end.operands)):
        return None
    for node in nodes:
        node.reads = [Read(names.get(r.value, r.value), r.indices) for r in node.reads]
        node.captures = [names.get(v, v) for v in node.captures]
        node.results = [names.get(v, v) for v in node.results]
    return nodes


def _owner(value: ir.Value) -> ir.Operation | None:
    owner = value.owner
    return None if isinstance(owner, ir.Block) else owner


def _used_values(op: ir.Operation) -> list[ir.Value]:
    """Operands of an op and of everything inside its regions."""
    found = list(op.operands)
    if op.name == "tile.graph":
        return found
    for region in op.regions:
        for block in region:
            for inner in block.operations:
                found.extend(_used_values(inner.operation))
    return found


def _in_block(op: ir.Operation, block: ir.Block) -> ir.Operation:
    """The op of `block` that holds `op`."""
    while op.block != block:
        op = op.parent.operation
    return op
