"""A scheduled tile.graph as a task.kernel: one buffer, foreach or mma per computed op; inlined ops are emitted inside their readers."""

from collections.abc import Mapping, Sequence

from mlc.dialects import task, tile
from mlc.dialects._ext import operations
from mlc.dtypes import BY_NAME
from mlc.ir import codecs
from mlc.ir.affine import from_linear
from mlc.ir.clone import clone
from mlc.ir.mlir import arith, ir, memref
from mlc.layout.linear import Linear
from mlc.passes.tile.cost import sink_nodes
from mlc.passes.tile.model import Node, Read, float8_factors, volume
from mlc.passes.tile.region import Region

_COMBINE = {"addf", "mulf", "maximumf", "minimumf", "addi", "muli", "andi", "ori", "xori", "maxsi", "maxui", "minsi", "minui"}


def memref_type(tensor: ir.Type) -> ir.Type:
    """The dense row-major memref type of a tensor type."""
    return ir.MemRefType.get(list(tensor.shape), tensor.element_type)


class KernelEmitter:
    """Builds one task.kernel from a tile.graph op whose nodes, tile and regions are decided."""

    def __init__(self, graph: ir.Operation, nodes: Sequence[Node], tile: Sequence[int], regions: Mapping[Node, Region],
                 inlined: Mapping[Node, bool], name: str) -> None:
        self.graph, self.nodes, self.regions, self.inlined = graph, nodes, regions, inlined
        self.producer = {v: n for n in nodes for v in n.results}
        block = graph.regions[0].blocks[0]
        self.end = block.operations[len(block.operations) - 1].operation
        root = sink_nodes(nodes, list(self.end.operands))[-1].shape
        self.grid = [-(-n // t) if t else 1 for n, t in zip(root, tile, strict=True)]
        self.tile, self.root, self.name = list(tile), root, name
        self.constants: dict[ir.Value, ir.Value] = {}

    def emit(self) -> ir.Operation:
        """Creates the kernel at the current insertion point."""
        block = self.graph.regions[0].blocks[0]
        outs = list(self.end.operands)
        dims = [i for i, n in enumerate(self.grid) if n > 1]
        op = task.KernelOp.build([], [], {"sym_name": self.name, "grid": [self.grid[i] for i in dims], "inputs": len(block.arguments)})
        index = ir.IndexType.get()
        types = [*[memref_type(a.type) for a in block.arguments], *[memref_type(v.type) for v in outs], *[index] * len(dims)]
        body = op.operation.regions[0].blocks.append(*types)
        self.memory: dict[ir.Value, ir.Value] = dict(zip(block.arguments, body.arguments))
        self.outputs = {v: body.arguments[len(block.arguments) + i] for i, v in enumerate(outs)}
        self.panels: dict[ir.Value, tile.MapOp] = {}  # logical tensors that are stored in panels
        for view in block.operations:
            if view.operation.name == "tile.map":
                self.memory[view.operation.results[0]] = self.memory[view.operation.operands[0]]
                self.panels[view.operation.results[0]] = view
        with ir.InsertionPoint(body):
            self.blocks = dict(zip(dims, list(body.arguments)[len(types) - len(dims):]))
            self.offsets = [self._offset(i, self.blocks.get(i)) for i in range(len(self.tile))]
            for node in self.nodes:
                if not self.inlined.get(node):
                    with node.op.location:
                        self._node(node)
            task.EndOp.build([], [])
        return op.operation

    def _offset(self, dim: int, block: ir.Value | None) -> ir.Value | None:
        """First index of the block's tile: the last tile is moved back inside, so every tile is whole."""
        if block is None:
            return None
        size = arith.ConstantOp(ir.IndexType.get(), self.tile[dim]).result
        start = arith.MulIOp(block, size).result
        if self.root[dim] % self.tile[dim] == 0:
            return start
        last = arith.ConstantOp(ir.IndexType.get(), self.root[dim] - self.tile[dim]).result
        return arith.MinSIOp(start, last).result

    # -- one node ---------------------------------------------------------------------------------------------------
    def _node(self, node: Node) -> None:
        at = self.regions[node]
        targets = self._targets(node, at)
        if not volume(at.extents):
            return
        if node.contraction and volume(node.over) and self._mma(node, at, targets[0]):
            return
        n = len(at.extents)
        loop = task.ForeachOp.build([], [], {"extents": list(at.extents)})
        body = loop.operation.regions[0].blocks.append(*[ir.IndexType.get()] * n)
        with ir.InsertionPoint(body):
            self.constants = {}
            values = self._values(node, at, list(body.arguments))
            for v, (target, is_global) in zip(values, targets, strict=True):
                self._access(task.StoreOp, [v, target], self._place(at, is_global, n), list(body.arguments))
            task.YieldOp.build([], [])

    def _targets(self, node: Node, at: Region) -> list[tuple[ir.Value, bool]]:
        """Where the node's results go: an argument of the kernel (true), or a buffer of the block."""
        targets: list[tuple[ir.Value, bool]] = []
        for value in node.results:
            if value in self.outputs:
                targets.append((self.outputs[value], True))
            else:
                type_ = ir.MemRefType.get(list(at.extents), value.type.element_type)
                local = task.AllocOp.build([], [type_], {"level": "shared"}).operation.results[0]
                self.memory[value] = local
                targets.append((local, False))
        return targets

    def _place(self, at: Region, is_global: bool, loops: int) -> list[Linear]:
        """Where the node's point d is stored, over (d, block offsets)."""
        count = loops + len(self.tile)
        return [self._coordinate(Linear.variable(i, count), at.offsets[i], loops) if is_global else Linear.variable(i, count)
                for i in range(len(at.extents))]

    def _coordinate(self, local: Linear, offset: Linear, loops: int) -> Linear:
        """Local + offset, both over (loop indices, block offsets)."""
        return local + Linear((*[0] * loops, *offset.coefficients), offset.const)

    def _values(self, node: Node, at: Region, indices: list[ir.Value]) -> list[ir.Value]:
        """The node's results at the point `indices` of its region."""
        n, k = len(at.extents), len(node.over)
        loops = n + k
        count = loops + len(self.tile)
        coordinates = [self._coordinate(Linear.variable(i, count), at.offsets[i], loops) for i in range(n)]
        coordinates += [Linear.variable(n + j, count) for j in range(k)]
        if not k:
            return self._body(node, coordinates, indices, [])
        inits = [self._constant(v) for v in node.inits]
        types = [v.type for v in inits]
        reduce = task.ReduceOp.build(inits, types, {"extents": list(node.over), "combine": _combiners(node)})
        block = reduce.operation.regions[0].blocks.append(*[ir.IndexType.get()] * k, *types)
        outer, self.constants = self.constants, {}
        with ir.InsertionPoint(block):
            args = list(block.arguments)
            task.YieldOp.build(self._body(node, coordinates, [*indices, *args[:k]], args[k:]), [])
        self.constants = outer
        return list(reduce.operation.results)

    def _body(self, node: Node, coordinates: Sequence[Linear], indices: Sequence[ir.Value], accs: Sequence[ir.Value]) -> list[ir.Value]:
        """The node's scalar body at `coordinates` of its loops; expressions are over (indices, block offsets)."""
        block = node.op.regions[0].blocks[0]
        env: dict[ir.Value, ir.Value] = {}
        reads = iter(node.reads)
        arguments = list(block.arguments)
        inputs = len(arguments) - len(node.results)
        for argument in arguments[:inputs]:
            if next(iter(argument.uses), None) is not None:
                env[argument] = self._read(next(reads), coordinates, indices)
        env.update(zip(arguments[inputs:], accs))
        for view in block.operations:
            op = view.operation
            if op.name == "linalg.yield":
                return [self._value(v, env) for v in op.operands]
            if op.name == "linalg.index":
                env[op.results[0]] = self._index(coordinates[op.attributes["dim"].value], indices)
            elif op.name == "tensor.extract":
                operands = [self._value(v, env) for v in list(op.operands)[1:]]
                env[op.results[0]] = memref.LoadOp(self.memory[op.operands[0]], operands).result
            elif op.name == "arith.bitcast" and str(op.results[0].type) in BY_NAME and BY_NAME[str(op.results[0].type)].is_float8:
                env[op.results[0]] = self._value(op.operands[0], env)
            elif (coded := codecs.narrowed(op.results[0]) if op.results else None) is not None:
                env[op.results[0]] = codecs.decode(self._value(coded[0], env), coded[1]).value
            elif len(op.regions):
                self._loop(op, env)
            else:
                values = [self._value(v, env) for v in op.operands]  # constants among them are made here, so before the op
                copy = op.clone()
                for i, v in enumerate(values):
                    copy.operands[i] = v
                env.update(zip(op.results, copy.results))
        raise AssertionError("linalg body without a terminator")

    def _loop(self, op: ir.Operation, env: dict[ir.Value, ir.Value]) -> None:
        """A loop or branch of a body: constants of the graph are copied in front of it, and loads inside read this kernel's memory."""
        inner = operations(op)
        made = {v for o in inner for v in o.results}
        for value in [v for o in (op, *inner) for v in o.operands]:
            if value not in made and value not in env and not isinstance(value.owner, ir.Block) and value.owner.name == "arith.constant":
                env[value] = self._constant(value)
        for o in operations(clone(op, env)):
            if o.name == "tensor.extract":
                with o.location, ir.InsertionPoint(o):
                    o.results[0].replace_all_uses_with(memref.LoadOp(self.memory[o.operands[0]], list(o.operands)[1:]).result)
                o.erase()

    def _value(self, value: ir.Value, env: Mapping[ir.Value, ir.Value]) -> ir.Value:
        return env[value] if value in env else self._constant(value)

    def _constant(self, value: ir.Value) -> ir.Value:
        """A constant of the graph body, copied here once per region."""
        if value not in self.constants:
            op = value.owner
            values = [self._constant(v) for v in op.operands]
            copy = op.clone()
            for i, v in enumerate(values):
                copy.operands[i] = v
            self.constants[value] = copy.results[0]
        return self.constants[value]

    def _read(self, read: Read, coordinates: Sequence[Linear], indices: Sequence[ir.Value]) -> ir.Value:
        count = len(coordinates[0].coefficients) if coordinates else len(self.tile) + len(indices)
        place = [e.compose(coordinates, count) for e in read.indices]
        value = read.value
        source = self.producer.get(value)
        if source is not None and self.inlined.get(source):
            return self._body(source, place, indices, [])[0]
        return self._access(task.LoadOp, [self._buffer(value)], self._localise(value, place, count), indices)

    def _buffer(self, value: ir.Value) -> ir.Value:
        return self.outputs[value] if value in self.outputs else self.memory[value]

    def _localise(self, value: ir.Value, place: Sequence[Linear], count: int) -> list[Linear]:
        """Coordinates in the whole tensor as coordinates in the buffer that holds the block's part of it."""
        source = self.producer.get(value)
        if source is None or value in self.outputs:
            return list(place)
        loops = count - len(self.tile)
        return [p + Linear((*[0] * loops, *o.coefficients), o.const) * -1 for p, o in zip(place, self.regions[source].offsets, strict=True)]

    def _access(self, op: type, operands: list[ir.Value], place: Sequence[Linear], indices: Sequence[ir.Value]) -> ir.Value | None:
        """A task.load or task.store whose map takes only the indices it uses."""
        pool = [*indices, *self.offsets]
        loops = len(place[0].coefficients) - len(self.tile) if place else 0
        pool = [*list(indices)[:loops], *self.offsets]
        used = sorted({i for e in place for i, c in enumerate(e.coefficients) if c and pool[i] is not None})
        short = [Linear(tuple(e.coefficients[i] for i in used), e.const) for e in place]
        map_ = ir.AffineMapAttr.get(from_linear(short, len(used)))
        results = [operands[0].type.element_type] if op is task.LoadOp else []
        built = op.build([*operands, *[pool[i] for i in used]], results, {"map": map_}).operation
        return built.results[0] if results else None

    def _index(self, expression: Linear, indices: Sequence[ir.Value]) -> ir.Value:
        """A coordinate as an index value."""
        pool = [*list(indices)[:len(expression.coefficients) - len(self.tile)], *self.offsets]
        total = arith.ConstantOp(ir.IndexType.get(), expression.const).result
        for c, v in zip(expression.coefficients, pool, strict=True):
            if c and v is not None:
                term = v if c == 1 else arith.MulIOp(v, arith.ConstantOp(ir.IndexType.get(), c).result).result
                total = arith.AddIOp(total, term).result
        return total

    def _through_copies(self, read: Read, loops: int) -> Read:
        """The read of what inlined movement stands for."""
        source = self.producer.get(read.value)
        if source is None or not self.inlined.get(source) or not source.copies:
            return read
        inner = source.reads[0]
        return self._through_copies(Read(inner.value, tuple(e.compose(read.indices, loops) for e in inner.indices)), loops)

    # -- matrix products --------------------------------------------------------------------------------------------
    def _mma(self, node: Node, at: Region, target: tuple[ir.Value, bool]) -> bool:
        """Emits a task.mma when both factors are buffers, perhaps with zeros around them."""
        if len(node.reads) != 2:
            return False
        reads = [self._through_copies(r, node.loops) for r in node.reads]
        sources = [s if (s := self.producer.get(r.value)) is not None and self.inlined.get(s) else None for r in reads]
        if any(s is not None and s.pad is None for s in sources):
            return False
        n, k = len(at.extents), len(node.over)
        count = n + k + len(self.tile)
        coordinates = [self._coordinate(Linear.variable(i, count), at.offsets[i], n + k) for i in range(n)]
        coordinates += [Linear.variable(n + j, count) for j in range(k)]
        places, buffers, bounded = [], [], []
        stored: ir.Value | None = None
        for r, source in zip(reads, sources):
            place = [e.compose(coordinates, count) for e in r.indices]
            if source is not None and source.pad is not None:
                whole = source.captures[0]
                places.append([p + -low for p, low in zip(place, source.pad, strict=True)])
                buffers.append(self._buffer(whole))
                sizes = zip(source.shape, whole.type.shape, strict=True)
                bounded.append([d for d, (padded, n) in enumerate(sizes) if padded != n])
                continue
            buffers.append(self._buffer(r.value))
            bounded.append([])
            if (panels := self.panels.get(r.value)) is not None:  # its stored column, then the reduction indices
                stored = self._stored(panels, at.offsets[-1])
                column = coordinates[n - 1] if stored is None else Linear.variable(n - 1, count)
                places.append([column, *(place[d] for d in panels.py("order"))])
            else:
                places.append(self._localise(r.value, place, count))
        own = self._place(at, target[1], n + k)
        keep = [*range(n + k), *[n + k + i for i, o in enumerate(self.offsets) if o is not None]]
        kept = [[Linear(tuple(e.coefficients[i] for i in keep), e.const) for e in p] for p in (*places, own)]
        offsets = [o for o in self.offsets if o is not None]
        if stored is not None:  # one more offset, of the column of the factor in panels
            panelled = [r.value in self.panels for r in reads]
            kept = [[Linear((*e.coefficients, int(i == 0 and p)), e.const) for i, e in enumerate(place)]
                    for place, p in zip(kept, [*panelled, False], strict=True)]
            offsets.append(stored)
        maps = [ir.AffineMapAttr.get(from_linear(p, len(keep) + (stored is not None))) for p in kept]
        task.MmaOp.build([*buffers, target[0], *offsets], [],
                         {"atom": "fma", "extents": [*at.extents, *node.over], "reductions": k, "maps": maps,
                          "panels": [self.panels[r.value].py("width") if r.value in self.panels else 0 for r in reads], "bounded": bounded,
                          **({"codes": codes} if (codes := float8_factors(node.op)) else {})})
        return True

    def _stored(self, panels: tile.MapOp, offset: Linear) -> ir.Value | None:
        """Where the block's group of columns begins in panels that are not whole or moved back inside; None: where its columns do."""
        dim, width, group = offset.only(), panels.py("width"), panels.py("group")
        size = -(-group // width) * width
        if dim is None or dim not in self.blocks or (size == group and self.root[dim] % group == 0):
            return None
        return arith.MulIOp(self.blocks[dim], arith.ConstantOp(ir.IndexType.get(), size).result).result


def _combiners(node: Node) -> list[str]:
    """Per accumulator: the arith op that joins partial results, or "" when the body is not op(acc, independent of acc)."""
    block = node.op.regions[0].blocks[0]
    arguments = list(block.arguments)
    accs = arguments[len(arguments) - len(node.results):]
    end = block.operations[len(block.operations) - 1].operation
    names = []
    for acc, value in zip(accs, end.operands):
        name = ""
        uses = list(acc.uses)
        if len(uses) == 1 and not isinstance(value.owner, ir.Block) and value.owner == uses[0].owner.operation:
            candidate = value.owner.name.removeprefix("arith.")
            name = candidate if candidate in _COMBINE else ""
        names.append(name)
    return names if all(names) else [""] * len(names)
