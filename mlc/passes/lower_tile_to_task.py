"""lower-tile-to-task: tensors become buffers, tile.graphs become kernels (equal ones once), @main becomes the plan that launches them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from mlc.dialects import task
from mlc.dialects._locations import node_names
from mlc.ir.mlir import arith, func, ir, memref, scf
from mlc.passes.registry import Pass, PassContext
from mlc.passes.task.kernel import memref_type
from mlc.passes.task.opaque import opaque_kernel
from mlc.passes.task.stream import StreamEmitter
from mlc.passes.tile.cost import sink_nodes
from mlc.passes.tile.model import body_nodes
from mlc.passes.tile.region import propagate
from mlc.passes.tile.stream import as_scheduled


@dataclass(frozen=True)
class LowerTileToTask(Pass):
    """Outlines kernels, replaces tensors by memrefs and flow by scf; buffers get offsets from plan-memory."""

    name: ClassVar[str] = "lower-tile-to-task"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        for op in list(module.body.operations):
            if isinstance(op, func.FuncOp):
                _Plan(module, op).lower()


class _Plan:
    """Rewrites one function in place: new ops are built before the old ones, which are erased at the end."""

    def __init__(self, module: ir.Module, function: func.FuncOp) -> None:
        self.module, self.function = module, function
        self.memory: dict[ir.Value, ir.Value] = {}  # tensor value -> buffer
        self.target: dict[ir.Value, ir.Value] = {}  # tensor value -> buffer it should be made in
        self.kernels: dict[str, str] = {}
        self.dead: list[ir.Operation] = []

    def lower(self) -> None:
        block = self.function.regions[0].blocks[0]
        end = block.operations[len(block.operations) - 1].operation
        returned = list(end.operands)
        inputs = [memref_type(a.type) for a in block.arguments]
        outputs = [memref_type(v.type) for v in returned]
        arguments = list(block.arguments)
        with self.function.location, ir.InsertionPoint.at_block_begin(block):
            added = [block.add_argument(t, self.function.location) for t in [*inputs, *outputs]]
            self.memory.update(zip(arguments, added))
            self._aim(returned, added[len(inputs):])
            self.block(block)
        with end.location, ir.InsertionPoint(end):
            self._deliver(returned, added[len(inputs):])
            func.ReturnOp([])
        end.erase()
        for op in reversed(self.dead):
            op.erase()
        for _ in arguments:
            block.erase_argument(0)
        self.function.operation.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get([*inputs, *outputs], []))
        count = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), len(inputs))
        self.function.operation.attributes["task.inputs"] = count
        for name in ("arg_attrs", "res_attrs"):
            if name in self.function.operation.attributes:
                del self.function.operation.attributes[name]

    # -- destinations -----------------------------------------------------------------------------------------------
    def _aim(self, values: Sequence[ir.Value], buffers: Sequence[ir.Value]) -> None:
        """Values that a region hands out are made in their final place if a tile.graph or flow op makes them (first come, first served)."""
        for value, buffer in zip(values, buffers, strict=True):
            owner = value.owner
            while not isinstance(owner, ir.Block) and owner.name == "tile.view":
                value = owner.operands[0]
                buffer = task.ViewOp.build([buffer], [memref_type(value.type)]).operation.results[0]
                owner = value.owner
            if not isinstance(owner, ir.Block) and owner.name in ("tile.graph", "flow.if", "flow.loop", "flow.while"):
                self.target.setdefault(value, buffer)

    def _deliver(self, values: Sequence[ir.Value], buffers: Sequence[ir.Value]) -> None:
        """Copies the values that were not made in place; simultaneous, so sources in a target's memory go through a temporary."""
        pairs = [(self.memory[v], b) for v, b in zip(values, buffers, strict=True) if _storage(self.memory[v]) != _storage(b)]
        if not pairs:
            return
        targets = {_storage(b, "task.slice") for _, b in pairs}
        clash = [s for s, _ in pairs if _storage(s, "task.slice") in targets]
        staged = {s: self._new_buffer(s.type) for s in clash}
        if staged:
            task.CopyOp.build([*staged, *staged.values()], [])
        task.CopyOp.build([*[staged.get(s, s) for s, _ in pairs], *[t for _, t in pairs]], [])

    def _new_buffer(self, type_: ir.Type) -> ir.Value:
        return task.BufferOp.build([], [type_], {"offset": -1}).operation.results[0]

    def _result_buffer(self, value: ir.Value) -> ir.Value:
        buffer = self.target.get(value)
        return buffer if buffer is not None else self._new_buffer(memref_type(value.type))

    # -- ops --------------------------------------------------------------------------------------------------------
    def block(self, block: ir.Block) -> None:
        for view in list(block.operations):
            op = view.operation
            handler = getattr(self, "_" + op.name.replace(".", "_"), None)
            if handler is None:  # the return
                continue
            with op.location, ir.InsertionPoint(op):
                handler(op)
            self.dead.append(op)

    def _tile_weight(self, op: ir.Operation) -> None:
        key = op.attributes["key"].value
        self.memory[op.results[0]] = task.WeightOp.build([], [memref_type(op.results[0].type)], {"key": key}).operation.results[0]

    def _arith_constant(self, op: ir.Operation) -> None:
        value = op.results[0]
        if isinstance(value.type, ir.RankedTensorType):
            constant = task.ConstantOp.build([], [memref_type(value.type)], {"value": op.attributes["value"]})
            self.memory[value] = constant.operation.results[0]

    def _tile_view(self, op: ir.Operation) -> None:
        view = task.ViewOp.build([self.memory[op.operands[0]]], [memref_type(op.results[0].type)])
        self.memory[op.results[0]] = view.operation.results[0]

    def _tile_graph(self, op: ir.Operation) -> None:
        results = [self._result_buffer(v) for v in op.results]
        name, scratch = self._kernel(op)
        buffers = [*[self.memory[v] for v in op.operands], *results, *map(self._new_buffer, scratch)]
        task.LaunchOp.build(buffers, [], {"kernel": name, "nodes": node_names(op.location)})
        self.memory.update(zip(op.results, results))

    def _kernel(self, graph: ir.Operation) -> tuple[str, list[ir.Type]]:
        """The kernel for a tile.graph (equal ones share one): its name, and the buffers that it needs behind its results."""
        name = f"kernel_{len(self.kernels)}"
        with ir.InsertionPoint(self.function.operation):
            nodes = body_nodes(graph)
            if nodes is None:
                kernel = opaque_kernel(graph, name)
            else:
                kernel = _scheduled(graph, nodes, name) or opaque_kernel(graph, name)
        arguments = [a.type for a in kernel.regions[0].blocks[0].arguments]
        scratch = [t for t in arguments[len(graph.operands) + len(graph.results):] if isinstance(t, ir.MemRefType)]
        text = str(kernel.get_asm(use_local_scope=True, assume_verified=True)).replace(f'"{name}"', '"@"')
        if text in self.kernels:
            kernel.erase()
            return self.kernels[text], scratch
        self.kernels[text] = name
        return name, scratch

    def _flow_if(self, op: ir.Operation) -> None:
        results = [self._result_buffer(v) for v in op.results]
        condition = self._flag(self.memory[op.operands[0]])
        task.BarrierOp.build([], [], {"scope": "grid"})  # the branches may reuse the condition's memory
        branch = scf.IfOp(condition, has_else=True)
        for region, block in zip(op.regions, (branch.then_block, branch.else_block)):
            with ir.InsertionPoint(block):
                self._aim(_yielded(region.blocks[0]), results)
                self._region(region.blocks[0], results)
                scf.YieldOp([])
        self.memory.update(zip(op.results, results))

    def _region(self, source: ir.Block, results: Sequence[ir.Value]) -> None:
        """Lowers a flow region's ops at the insertion point, its yielded values into `results`."""
        ops = [v.operation for v in source.operations]
        yielded = list(ops[-1].operands)
        for op in ops[:-1]:
            with op.location:
                getattr(self, "_" + op.name.replace(".", "_"))(op)
        self._deliver(yielded, results)

    def _flow_loop(self, op: ir.Operation) -> None:
        """Iterations in turns: one makes the carried values in a second set of buffers, the next one back in the first; no copies.

        The first iteration stands apart, and reads what the loop is given where it is. A carried value that is also stacked is carried in
        the slice that it is stacked in.
        """
        trip, n = op.opview.py("trip"), op.opview.py("carried")
        operands, results, body = list(op.operands), list(op.results), op.regions[0].blocks[0]
        final = [self._result_buffer(v) for v in results[:n]]
        stacked = [self._result_buffer(v) for v in results[n:]]
        self.memory.update(zip(results, [*final, *stacked]))
        if not trip:
            self._deliver(operands[:n], final)
            return
        yielded = _yielded(body)
        made = [not isinstance(v.owner, ir.Block) and v.owner.name == "tile.graph" for v in yielded[:n]]
        sliced = {c: yielded.index(v, n) - n for c, v in enumerate(yielded[:n]) if made[c] and v in yielded[n:]}
        other = [self._new_buffer(b.type) if trip > 1 and c not in sliced else b for c, b in enumerate(final)]
        new, old = (final, other) if trip % 2 else (other, final)
        index = ir.IndexType.get()
        iteration = _Iteration(op, stacked, sliced)

        def at(c: int) -> ir.Value:
            return arith.ConstantOp(index, c).result

        with self._group(op):
            self._loop_body(iteration, at(0), None, new)
            pairs = (trip - 1) // 2
            if pairs:
                loop = scf.ForOp(at(1), at(1 + 2 * pairs), at(2))
                with ir.InsertionPoint(loop.body):
                    i = loop.induction_variable
                    self._loop_body(iteration, i, new, old)
                    self._loop_body(iteration, arith.AddIOp(i, at(1)).result, old, new)
                    scf.YieldOp([])
            if trip % 2 == 0:
                self._loop_body(iteration, at(trip - 1), new, old)
        for c, k in sliced.items():
            if next(iter(results[c].uses), None) is not None:
                task.CopyOp.build([self._slice(stacked[k], iteration.place(at(trip - 1), len(operands) - n + k)), final[c]], [])

    @contextmanager
    def _group(self, loop: ir.Operation) -> Iterator[None]:
        """Where a loop's iterations are lowered to: a task.group if they shall be one kernel."""
        if "tile.scope" not in loop.attributes:
            yield
            return
        group = task.GroupOp.build([], [], {"scope": loop.attributes["tile.scope"].value, "blocks": loop.attributes["tile.blocks"].value})
        with ir.InsertionPoint(group.operation.regions[0].blocks.append()):
            yield
            task.EndOp.build([], [])

    def _loop_body(self, it: "_Iteration", i: ir.Value, old: Sequence[ir.Value] | None, new: Sequence[ir.Value]) -> None:
        """Iteration i, which reads the carried values in `old` (None: what the loop is given) and makes them in `new`."""
        n = it.carried
        operands, body = list(it.op.operands), it.op.regions[0].blocks[0]
        arguments = list(body.arguments)
        self._iteration(arguments[0], i)
        slices = [self._slice(whole, it.place(i, len(operands) - n + k)) for k, whole in enumerate(it.stacked)]
        new = [slices[it.sliced[c]] if c in it.sliced else b for c, b in enumerate(new)]
        if old is None:
            values = [self.memory[v] for v in operands[:n]]
        else:
            before = arith.SubIOp(i, arith.ConstantOp(ir.IndexType.get(), 1).result).result
            values = [self._slice(it.stacked[k], it.place(before, len(operands) - n + k)) if (k := it.sliced.get(c)) is not None else b
                      for c, b in enumerate(old)]
        self.memory.update(zip(arguments[1:], values))
        for k, (argument, whole) in enumerate(zip(arguments[1 + n:], operands[n:])):
            self.memory[argument] = self._slice(self.memory[whole], it.place(i, k))
        outside = dict(self.target)
        self._aim(_yielded(body), [*new, *slices])
        self._region(body, [*new, *slices])
        self.target = outside

    def _slice(self, whole: ir.Value, at: ir.Value) -> ir.Value:
        type_ = ir.MemRefType.get(list(whole.type.shape)[1:], whole.type.element_type)
        return task.SliceOp.build([whole, at], [type_]).operation.results[0]

    def _flow_while(self, op: ir.Operation) -> None:
        operands, results = list(op.operands), list(op.results)
        body = op.regions[0].blocks[0]
        state = [self._new_buffer(self.memory[operands[1]].type), *[self._result_buffer(v) for v in results]]
        self._deliver(operands[1:], state)
        limit = self._scalar(self.memory[operands[0]])
        index, i64 = ir.IndexType.get(), ir.IntegerType.get_signless(64)
        zero, one = arith.ConstantOp(index, 0).result, arith.ConstantOp(index, 1).result
        loop = scf.WhileOp([index], [zero])
        before, after = loop.before.blocks.append(index), loop.after.blocks.append(index)
        with ir.InsertionPoint(before):
            i = before.arguments[0]
            count = arith.IndexCastOp(i64, i).result
            below = arith.CmpIOp(arith.CmpIPredicate.slt, count, limit).result
            go = arith.AndIOp(below, self._flag(state[0])).result
            task.BarrierOp.build([], [], {"scope": "grid"})
            scf.ConditionOp(go, [i])
        with ir.InsertionPoint(after):
            i = after.arguments[0]
            arguments = list(body.arguments)
            self._iteration(arguments[0], i)
            self.memory.update(zip(arguments[1:], state[1:]))
            self._region(body, state)
            scf.YieldOp([arith.AddIOp(i, one).result])
        self.memory.update(zip(results, state[1:]))

    def _iteration(self, argument: ir.Value, i: ir.Value) -> None:
        """Stores the iteration number for bodies that read it."""
        if next(iter(argument.uses), None) is None:
            return
        buffer = self._new_buffer(memref_type(argument.type))
        value = arith.IndexCastOp(ir.IntegerType.get_signless(64), i).result
        task.SetOp.build([value, buffer], [])
        self.memory[argument] = buffer

    def _scalar(self, buffer: ir.Value) -> ir.Value:
        zero = arith.ConstantOp(ir.IndexType.get(), 0).result
        return memref.LoadOp(buffer, [zero] * len(buffer.type.shape)).result

    def _flag(self, buffer: ir.Value) -> ir.Value:
        value = self._scalar(buffer)
        return arith.CmpIOp(arith.CmpIPredicate.ne, value, arith.ConstantOp(value.type, 0).result).result


@dataclass(frozen=True)
class _Iteration:
    """A flow.loop: the buffers that its results are stacked in, and which carried values are among those (carried -> stacked)."""

    op: ir.Operation
    stacked: Sequence[ir.Value]
    sliced: dict[int, int]

    @property
    def carried(self) -> int:
        return self.op.opview.py("carried")

    def place(self, i: ir.Value, k: int) -> ir.Value:
        """Where iteration i finds its part of the k-th sliced operand or stacked result."""
        reverse = self.op.opview.py("reverse")
        if not reverse or not reverse[k]:
            return i
        last = arith.ConstantOp(ir.IndexType.get(), self.op.opview.py("trip") - 1).result
        return arith.SubIOp(last, i).result


def _scheduled(graph: ir.Operation, nodes: Sequence, name: str) -> ir.Operation | None:
    """A kernel from the schedule in the IR (tile.sizes, tile.level); unscheduled graphs are one block. None: there can be none."""
    block = graph.regions[0].blocks[0]
    outs = list(block.operations[len(block.operations) - 1].operation.operands)
    nodes = as_scheduled(nodes, outs)
    inlined = {n: n.level == "register" for n in nodes}
    sinks = sink_nodes(nodes, outs)
    if not sinks:
        return None
    tile = [a.value for a in graph.attributes["tile.sizes"]] if "tile.sizes" in graph.attributes else list(sinks[-1].shape)
    regions = propagate(nodes, sinks, tile, inlined)
    if regions is None:
        return None
    return StreamEmitter(graph, nodes, tile, regions, inlined, name).emit()


def _storage(buffer: ir.Value, *also: str) -> ir.Value:
    """The buffer that views stand for; `also`: other ops to look through, for the memory that a part lies in."""
    while not isinstance(buffer.owner, ir.Block) and buffer.owner.name in ("task.view", *also):
        buffer = buffer.owner.operands[0]
    return buffer


def _yielded(block: ir.Block) -> list[ir.Value]:
    return list(block.operations[len(block.operations) - 1].operation.operands)
