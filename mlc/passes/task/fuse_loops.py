"""fuse-loops: a task.group becomes one task.kernel, loops and all, whose blocks meet at barriers instead of at launches.

Each launch is a phase: the launched kernel's body, for the block of its grid that has the fused kernel's block number. Blocks beyond a
phase's grid do its last block over again, to the same values. Slices of the plan become indices of the whole buffer. Phases that touch
nothing of each other's need no barrier between them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from mlc.dialects import task
from mlc.dialects._ext import operations, to_attr
from mlc.ir.affine import from_linear, map_to_linear
from mlc.ir.clone import clone
from mlc.ir.mlir import arith, ir, scf
from mlc.layout.linear import Linear
from mlc.passes.registry import Pass, PassContext
from mlc.passes.tile.model import volume

_ALIASES = ("task.slice", "task.view")
_ACCESSES = {"task.load": (0,), "task.store": (1,), "memref.load": (0,), "task.mma": (0, 1, 2)}  # operands that are buffers


@dataclass(frozen=True)
class FuseLoops(Pass):
    """Kernels for task.groups (equal ones once); what no kernel can hold stays as launches. Kernels that nobody launches go."""

    name: ClassVar[str] = "fuse-loops"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        kernels = {op.operation.attributes["sym_name"].value: op.operation for op in module.body.operations
                   if op.operation.name == "task.kernel"}
        groups = [op for op in operations(module.operation) if op.name == "task.group"]
        known: dict[str, str] = {}
        for group in groups:
            with group.location, ir.InsertionPoint(group):
                fused = _Group(group, kernels)
                if fused.legal():
                    fused.lower(f"loop_{len(known)}", known)
                else:
                    _dissolve(group)
        launched = {op.opview.py("kernel") for op in operations(module.operation) if op.name == "task.launch"}
        for name, op in kernels.items():
            if groups and name not in launched:
                op.erase()


def _dissolve(group: ir.Operation) -> None:
    for view in list(group.regions[0].blocks[0].operations):
        if view.operation.name != "task.end":
            view.operation.move_before(group)
    group.erase()


@dataclass(frozen=True)
class _Place:
    """A launch's buffer: `whole` seen with `shape`, at some indices of its first dimensions."""

    whole: ir.Value
    shape: tuple[int, ...]
    at: tuple[ir.Value, ...]

    @property
    def key(self) -> "Key":
        return self.whole, self.shape


Key = tuple[ir.Value, tuple[int, ...]]  # a whole buffer, under a shape


@dataclass(eq=False)
class _Group:
    group: ir.Operation
    kernels: Mapping[str, ir.Operation]
    buffers: dict[Key, ir.Value] = field(default_factory=dict)  # of the fused kernel
    env: dict[ir.Value, ir.Value] = field(default_factory=dict)  # index values of the plan -> of the fused kernel
    offsets: dict[str, dict[ir.Value, ir.Value]] = field(default_factory=dict)  # per phase's kernel: what depends on the block alone
    read: set[Key] = field(default_factory=set)  # since the last barrier
    written: set[Key] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.blocks = self.group.opview.py("blocks")
        self.scope = self.group.opview.py("scope")
        self.inside = set(operations(self.group))
        self.launches = [op for op in operations(self.group) if op.name == "task.launch"]

    # -- what a kernel can hold -------------------------------------------------------------------------------------
    def legal(self) -> bool:
        """Whether the group is loops around launches of small enough kernels, none of which reads a buffer under one name and writes it
        under another."""
        for op in self.inside:
            known = op.name in ("task.launch", "task.slice", "task.view", "task.buffer", "task.end", "scf.yield") or (
                op.name.startswith("arith.") or (op.name == "scf.for" and not len(op.results)))
            if not known or any(isinstance(v.type, ir.IndexType) and not self._owned(v) for v in op.operands):
                return False
        read, written = self._uses(self.launches)
        bases: dict[ir.Value, set[Key]] = {}
        for key in read | written:
            bases.setdefault(_base(key[0]), set()).add(key)
        alone = all(len(bases[_base(whole)]) == 1 for whole, _ in written)
        return bool(self.launches) and alone and all(self._fits(self.kernels[op.opview.py("kernel")]) for op in self.launches)

    def _owned(self, value: ir.Value) -> bool:
        """Whether an index is known inside of the kernel: made in the group, or a constant."""
        if isinstance(value.owner, ir.Block):
            return value.owner.owner.operation in self.inside
        return value.owner.operation in self.inside or value.owner.operation.name == "arith.constant"

    def _fits(self, kernel: ir.Operation) -> bool:
        small = volume(kernel.opview.py("grid")) <= self.blocks
        return small and all(v.operation.name.startswith(("task.", "arith.")) for v in kernel.regions[0].blocks[0].operations)

    def _uses(self, launches: Sequence[ir.Operation]) -> tuple[set[Key], set[Key]]:
        """The wholes that launches read, and those that they write."""
        read: set[Key] = set()
        written: set[Key] = set()
        for op in launches:
            inputs = self.kernels[op.opview.py("kernel")].opview.py("inputs")
            for i, value in enumerate(op.operands):
                (read if i < inputs else written).add(self._place(value).key)
        return read, written

    def _place(self, buffer: ir.Value) -> _Place:
        """Views inside of the group move to the whole: a view of a slice is a slice of a view."""
        shape, sliced, at = list(buffer.type.shape), [], []
        while not isinstance(buffer.owner, ir.Block) and buffer.owner.operation in self.inside and buffer.owner.name in _ALIASES:
            if buffer.owner.name == "task.slice":
                at.insert(0, buffer.owner.operands[1])
                sliced.insert(0, buffer.owner.operands[0].type.shape[0])
            buffer = buffer.owner.operands[0]
        return _Place(buffer, (*sliced, *shape), tuple(at))

    # -- the kernel -------------------------------------------------------------------------------------------------
    def lower(self, name: str, known: dict[str, str]) -> None:
        """Replaces the group by a launch. known: names of fused kernels by their text."""
        _, written = self._uses(self.launches)
        places = [self._place(v) for op in self.launches for v in op.operands]
        keys = [k for k in dict.fromkeys(p.key for p in places) if k not in written]
        inputs = len(keys)
        keys += [k for k in dict.fromkeys(p.key for p in places) if k in written]
        for op in operations(self.group):
            if op.name == "task.buffer":
                op.move_before(self.group)
        wholes = [_viewed(*key) for key in keys]
        main = self.group.parent
        while main.name != "func.func":
            main = main.parent
        with ir.InsertionPoint(main):
            kernel = task.KernelOp.build([], [], {"sym_name": name, "grid": [self.blocks] if self.blocks > 1 else [], "inputs": inputs,
                                                  "cluster": self.scope == "cluster"}).operation
        index = [ir.IndexType.get()] * (self.blocks > 1)
        body = kernel.regions[0].blocks.append(*[w.type for w in wholes], *index)
        self.buffers = dict(zip(keys, body.arguments))
        self.number = body.arguments[len(keys)] if index else None
        with ir.InsertionPoint(body):
            self.top = task.EndOp.build([], []).operation  # for now: offsets are put in front of it, phases behind it
            self._steps(self.group.regions[0].blocks[0])
            task.EndOp.build([], [])
        self.top.erase()
        text = str(kernel.get_asm(use_local_scope=True, assume_verified=True)).replace(f'"{name}"', '"@"')
        if text in known:
            kernel.erase()
        known.setdefault(text, name)
        nodes = dict.fromkeys(n for op in self.launches for n in op.opview.py("nodes"))
        task.LaunchOp.build(wholes, [], {"kernel": known[text], "nodes": list(nodes)})
        self.group.erase()

    def _steps(self, block: ir.Block) -> None:
        for op in [v.operation for v in block.operations]:
            if op.name == "task.launch":
                read, written = self._uses([op])
                if (read | written) & self.written or written & self.read:
                    self._meet()
                self._phase(op)
                self.read, self.written = self.read | read, self.written | written
            elif op.name == "scf.for":
                self._meet()
                loop = scf.ForOp(*[self._index(v) for v in op.operands])
                self.env[op.regions[0].blocks[0].arguments[0]] = loop.induction_variable
                with ir.InsertionPoint(loop.body):
                    self._steps(op.regions[0].blocks[0])
                    self._meet()
                    scf.YieldOp([])
            elif op.name.startswith("arith."):
                for v in op.operands:
                    self.env[v] = self._index(v)
                clone(op, self.env)

    def _meet(self) -> None:
        """A barrier, if a phase has passed since the last one."""
        if self.written:
            task.BarrierOp.build([], [], {"scope": self.scope})
            self.read, self.written = set(), set()

    def _index(self, value: ir.Value) -> ir.Value:
        """The kernel's value of an index of the plan; constants from around the group are copied."""
        if value not in self.env:
            clone(value.owner, self.env)
        return self.env[value]

    def _phase(self, launch: ir.Operation) -> None:
        """A kernel's body on the launch's buffers."""
        kernel = self.kernels[launch.opview.py("kernel")]
        source = kernel.regions[0].blocks[0]
        places = dict(zip(source.arguments, map(self._place, launch.operands)))
        env = {**self._offsets(kernel), **{argument: self.buffers[p.key] for argument, p in places.items()}}
        for op in [v.operation for v in source.operations]:
            if op.name == "task.end" or op.name.startswith("arith."):
                continue
            copy = _copied(op, env)
            for old, new in zip([op, *operations(op)], [copy, *operations(copy)]):
                at = {i: [self._index(v) for v in places[old.operands[i]].at] for i in _ACCESSES.get(old.name, ())
                      if old.operands[i] in places}
                if any(at.values()):
                    _sliced(new, at)

    def _offsets(self, kernel: ir.Operation) -> dict[ir.Value, ir.Value]:
        """The kernel's block indices and what is computed of them, ahead of all phases."""
        name = kernel.opview.py("sym_name")
        if name not in self.offsets:
            grid, body = kernel.opview.py("grid"), kernel.regions[0].blocks[0]
            with ir.InsertionPoint(self.top):
                env = dict(zip(list(body.arguments)[len(body.arguments) - len(grid):], self._block(grid)))
                for view in body.operations:
                    if view.operation.name.startswith("arith."):
                        clone(view.operation, env)
            self.offsets[name] = env
        return self.offsets[name]

    def _block(self, grid: Sequence[int]) -> Iterator[ir.Value]:
        """Indices in a phase's grid of this block, or of the grid's last one."""
        if not grid:
            return
        assert self.number is not None

        def at(c: int) -> ir.Value:
            return arith.ConstantOp(ir.IndexType.get(), c).result

        number = self.number if volume(grid) == self.blocks else arith.MinSIOp(self.number, at(volume(grid) - 1)).result
        for d, extent in enumerate(grid):
            step = volume(grid[d + 1:])
            part = number if step == 1 else arith.DivUIOp(number, at(step)).result
            yield part if not d else arith.RemUIOp(part, at(extent)).result


def _copied(op: ir.Operation, env: dict[ir.Value, ir.Value]) -> ir.Operation:
    """A clone at the insertion point, as `clone` makes it, with the op itself."""
    marker = task.EndOp.build([], []).operation
    with ir.InsertionPoint(marker):
        clone(op, env)
    block = marker.block
    copy = list(block.operations)[[v.operation for v in block.operations].index(marker) - 1].operation
    marker.erase()
    return copy


def _sliced(op: ir.Operation, at: Mapping[int, Sequence[ir.Value]]) -> None:
    """Gives an access further indices: `at` of operand i go in front of its own."""
    operands, attributes = list(op.operands), {name: op.attributes[name] for name in op.attributes}
    added = [v for i in sorted(at) for v in at[i]]
    if op.name == "memref.load":
        operands = [operands[0], *added, *operands[1:]]
    elif op.name == "task.mma":
        count = op.attributes["maps"][0].value.n_dims
        maps, bounded, first = [], [], count
        for i, map_ in enumerate(op.attributes["maps"]):
            own = at.get(i, ())
            maps.append(_prefixed(map_, range(first, first + len(own)), count + len(added), 0))
            first += len(own)
            if i < 2:
                bounded.append([d + len(own) for d in op.opview.py("bounded")[i]])
        operands += added
        attributes["maps"] = ir.ArrayAttr.get(maps)
        if any(bounded):
            attributes["bounded"] = to_attr(bounded)
    else:
        (which,) = _ACCESSES[op.name]
        operands = [*operands[:which + 1], *added, *operands[which + 1:]]
        map_ = op.attributes["map"]
        attributes["map"] = _prefixed(map_, range(len(added)), map_.value.n_dims + len(added), len(added))
    with op.location, ir.InsertionPoint(op):
        new = ir.Operation.create(op.name, results=[r.type for r in op.results], operands=operands, attributes=attributes)
    for old, result in zip(op.results, new.results):
        old.replace_all_uses_with(result)
    op.erase()


def _prefixed(map_: ir.Attribute, front: range, dims: int, shift: int) -> ir.Attribute:
    """The map with the dimensions `front` as its first results, over `dims` dimensions of which its own start at `shift`."""
    linear = map_to_linear(map_.value)
    assert linear is not None, f"not linear: {map_}"
    after = dims - shift - map_.value.n_dims
    moved = [Linear((*[0] * shift, *e.coefficients, *[0] * after), e.const) for e in linear]
    return ir.AffineMapAttr.get(from_linear([*(Linear.variable(d, dims) for d in front), *moved], dims))


def _base(buffer: ir.Value) -> ir.Value:
    while not isinstance(buffer.owner, ir.Block) and buffer.owner.name in _ALIASES:
        buffer = buffer.owner.operands[0]
    return buffer


def _viewed(buffer: ir.Value, shape: Sequence[int]) -> ir.Value:
    """The buffer under a shape, at the insertion point."""
    if list(buffer.type.shape) == list(shape):
        return buffer
    return task.ViewOp.build([buffer], [ir.MemRefType.get(list(shape), buffer.type.element_type)]).operation.results[0]
