"""choose-mapping: which thread of a block does what, and where its buffers lie, written into the task level. For targets with threads."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import ClassVar

from mlc.dialects._ext import operations, to_attr
from mlc.errors import CompilerError
from mlc.ir.mlir import ir
from mlc.layout.mapping import TaskMap, repeat, spatial
from mlc.passes.gpu.block import WIDEST, aligned_lanes
from mlc.passes.gpu.contraction import product_of
from mlc.passes.gpu.plan import ATOM, MmaPlan, choose, tensor_product, warps_wanted
from mlc.passes.registry import Pass, PassContext
from mlc.passes.task.body import Body
from mlc.passes.task.dot import as_foreach
from mlc.passes.task.flat import Memory
from mlc.passes.task.plan_memory import best_fit
from mlc.passes.tile.model import element_bytes, volume
from mlc.target import Target

LEAST, MOST = 64, 512  # threads of a block
PER_THREAD = 4  # vectors that a thread should have to do at least, before more threads help
PLACE = 128  # bytes: alignment of buffers in shared memory
NARROW = 1 << 31  # elements that 32-bit address arithmetic reaches


@dataclass(frozen=True)
class ChooseMapping(Pass):
    """Writes threads, task maps, pipelines, pitches and shared-memory offsets. Does nothing for a target without threads."""

    name: ClassVar[str] = "choose-mapping"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        target = ctx.need_target()
        if not target.warp:
            return
        alignment = _launch_alignment(module)
        for op in list(module.body.operations):
            if op.operation.name == "task.kernel":
                _Kernel(op.operation, target, alignment.get(op.opview.py("sym_name"), [])).choose()


def _launch_alignment(module: ir.Module) -> dict[str, list[int]]:
    """Per kernel and buffer: bytes that its start is aligned to in every launch. Slices of a loop may start anywhere."""
    found: dict[str, list[int]] = {}
    for op in operations(module.operation):
        if op.name == "task.launch":
            own = [_alignment(v) for v in op.operands]
            name = op.opview.py("kernel")
            found[name] = [gcd(a, b) for a, b in zip(found.get(name, own), own)]
    return found


def _alignment(buffer: ir.Value) -> int:
    if isinstance(buffer.owner, ir.Block) or buffer.owner.name not in ("task.slice", "task.view"):
        return 64
    own = volume(buffer.type.shape) * element_bytes(buffer) if buffer.owner.name == "task.slice" else 64
    return gcd(own, _alignment(buffer.owner.operands[0]))


class _Kernel:
    def __init__(self, kernel: ir.Operation, target: Target, alignment: Sequence[int]) -> None:
        self.kernel, self.target = kernel, target
        self.body = kernel.regions[0].blocks[0]
        arguments = list(self.body.arguments)
        self.buffers = arguments[:len(arguments) - len(kernel.opview.py("grid"))]
        self.aligned = dict(zip(self.buffers, alignment or [1] * len(self.buffers)))
        self.memory = Memory()

    def choose(self) -> None:
        if any(not v.operation.name.startswith(("task.", "arith.")) for v in self.body.operations):
            self.kernel.attributes["threads"] = to_attr(1)  # opaque: sequential code
            return
        self.kernel.attributes["alignment"] = to_attr([self.aligned[b] for b in self.buffers])
        self._pitches()
        products = self._products()
        foreaches = [v.operation for v in self.body.operations if v.operation.name == "task.foreach"]
        bodies = {op: Body(op, self.memory) for op in foreaches}
        threads = max([plan.threads for plan in products.values()], default=0)
        threads = threads or max([_wanted(b) for b in bodies.values()], default=LEAST)
        self.kernel.attributes["threads"] = to_attr(threads)
        crossing = 0
        for op, body in bodies.items():
            map_ = self._map(body, threads)
            op.attributes["map"] = to_attr(map_)
            sharing = volume([d.extent for d in map_.digits() if d.spatial and d.dim == 1])
            if sharing > self.target.warp:
                crossing = max(crossing, max(len(list(r.results)) for r in body.reductions))
        self._places(products, 8 * crossing * -(-threads // self.target.warp))

    # -- buffers ----------------------------------------------------------------------------------------------------
    def _allocs(self) -> list[ir.Operation]:
        return [v.operation for v in self.body.operations if v.operation.name == "task.alloc"]

    def _pitches(self) -> None:
        """Rows of 16-bit elements are padded so that the 16-byte pieces of neighbouring rows lie in different banks."""
        for op in self._allocs():
            type_ = op.results[0].type
            shape = list(type_.shape)
            row = shape[-1] * element_bytes(op.results[0]) if shape else 0
            if len(shape) > 1 and volume(shape[:-1]) > 1 and row % WIDEST == 0 and row >= 64:
                pitch = shape[-1] + WIDEST // element_bytes(op.results[0])
                op.attributes["pitch"] = to_attr(pitch)
                self.memory.strides[op.results[0]] = pitched(shape, pitch)

    def _products(self) -> dict[ir.Operation, "MmaPlan"]:
        """Schedules of the matrix products that tensor cores take; the others become plain loops."""
        budget = max(self.target.shared_bytes - 1024 - sum(_bytes(op) for op in self._allocs()), 16 << 10)
        products = {}
        for view in list(self.body.operations):
            op = view.operation
            if op.name != "task.mma":
                continue
            product = product_of(op, self.memory)
            narrow = all(volume(v.type.shape) < NARROW for v in list(op.operands)[:3])
            if product is not None and narrow and tensor_product(product, op.operands[2], self.target):
                products[op] = product
            else:
                as_foreach(op)
                op.erase()
        warps = max([warps_wanted(p) for p in products.values()], default=0)
        found = {}
        for op, product in products.items():
            plan = choose(product, warps, self.aligned, budget)
            if plan is None:
                as_foreach(op)
                op.erase()
                continue
            op.attributes["atom"] = to_attr(ATOM)
            op.attributes["warps"], op.attributes["step"] = to_attr(list(plan.warps)), to_attr(plan.step)
            op.attributes["stages"] = to_attr(plan.stages)
            found[op] = plan
        return found

    def _places(self, products: dict[ir.Operation, MmaPlan], crossing: int) -> None:
        """Offsets in shared memory, by liveness over the kernel's ops."""
        order = {v.operation: i for i, v in enumerate(self.body.operations)}
        spans: list[tuple[int, int, int, ir.Operation]] = []
        for op in self._allocs():
            users = [order[_top(u.owner.operation, self.body)] for u in op.results[0].uses]
            if users:
                spans.append((_bytes(op), min(users), max(users), op))
        spans += [(plan.workspace, order[op], order[op], op) for op, plan in products.items() if plan.workspace]
        placed: list[tuple[int, int, int, int]] = []
        for size, first, last, op in sorted(spans, key=lambda s: (-s[0], s[1])):
            offset = best_fit([p for p in placed if p[2] <= last and first <= p[3]], size, PLACE)
            placed.append((offset, size, first, last))
            op.attributes["offset" if op.name == "task.alloc" else "workspace"] = to_attr(offset)
        top = -(-max([o + s for o, s, *_ in placed], default=0) // PLACE) * PLACE
        self.kernel.attributes["scratch"] = to_attr(top)
        self.kernel.attributes["shared"] = to_attr(top + crossing)
        if top + crossing > self.target.shared_bytes:
            raise CompilerError(f"kernel {self.kernel.opview.py('sym_name')} needs {top + crossing} bytes of shared memory, "
                                f"{self.target} has {self.target.shared_bytes}")

    # -- loops ------------------------------------------------------------------------------------------------------
    def _map(self, body: Body, threads: int) -> TaskMap:
        points = volume(list(body.extents.values()))
        if not body.reductions:
            lanes = self._lanes(body, threads, points)
            return repeat(-(-points // (threads * lanes)), 1) * spatial(threads, 1) * repeat(lanes, 1)
        op = body.reductions[0]
        extents = op.opview.py("extents")
        depth = volume(extents)
        last = list(op.regions[0].blocks[0].arguments)[len(extents) - 1]
        loads = [a for o, a in body.accesses.items() if o.name == "task.load" and o.parent == op]
        along = sum(a.stride(last) == 1 for a in loads)
        across = self._across(body, loads)
        apart = points >= threads and (across >= along if across else not along)
        if apart or not depth or not all(op.opview.py("combine")):
            lanes = self._lanes(body, threads, points) if across else 1
            return repeat(-(-points // (threads * lanes)), max(depth, 1)) * spatial(threads, 1) * repeat(lanes, 1)
        lanes = self._depth_lanes(body, loads, last, extents[-1]) if not self._gathers(body) else 1
        while lanes > 1 and depth // lanes < 8:
            lanes //= 2
        sharing = 1
        while sharing < threads and sharing * lanes < depth and (points * sharing < threads or (along and sharing < 32)):
            sharing *= 2
        groups = threads // sharing
        return repeat(-(-points // groups), -(-depth // (sharing * lanes))) * spatial(groups, sharing) * repeat(1, lanes)

    def _gathers(self, body: Body) -> bool:
        return any(o.name == "memref.load" for o in operations(body.block.owner.operation))

    def _across(self, body: Body, loads: Sequence) -> int:
        """Loads that walk memory contiguously along the last point dimension."""
        extents = list(body.extents.values())
        if not extents or extents[-1] == 1:
            return 0
        return sum(a.stride(body.block.arguments[len(extents) - 1]) == 1 for a in loads)

    def _lanes(self, body: Body, threads: int, points: int) -> int:
        """The vector length along the last point dimension: stores must be contiguous and aligned, and threads not idle."""
        extents = list(body.extents.values())
        if not extents or self._gathers(body):
            return 1
        last = body.block.arguments[len(extents) - 1]
        stores = [a for o, a in body.accesses.items() if o.name == "task.store"]
        if any(a.stride(last) != 1 for a in stores):
            return 1
        widest = max([element_bytes(a.buffer) for a in body.accesses.values() if a.stride(last) == 1])
        lanes = WIDEST // widest
        while lanes > 1 and (extents[-1] % lanes or points // lanes < threads):
            lanes //= 2
        return min([aligned_lanes(a, last, lanes, self.aligned.get(a.buffer, PLACE)) for a in stores], default=1)

    def _depth_lanes(self, body: Body, loads: Sequence, last: ir.Value, extent: int) -> int:
        contiguous = [a for a in loads if a.stride(last) == 1]
        if not contiguous:
            return 1
        lanes = WIDEST // max(element_bytes(a.buffer) for a in contiguous)
        while lanes > 1 and extent % lanes:
            lanes //= 2
        return min(aligned_lanes(a, last, lanes, self.aligned.get(a.buffer, PLACE)) for a in contiguous)


def pitched(shape: Sequence[int], pitch: int) -> tuple[int, ...]:
    """Row-major strides of a buffer whose rows are `pitch` elements apart."""
    strides, step = [1], pitch
    for d in reversed(list(shape)[:-1]):
        strides.append(step)
        step *= d
    return tuple(reversed(strides))


def _bytes(alloc: ir.Operation) -> int:
    value = alloc.results[0]
    shape = list(value.type.shape)
    pitch = alloc.opview.py("pitch")
    count = volume(shape[:-1]) * pitch if pitch else volume(shape)
    return max(1, count * element_bytes(value))


def _top(op: ir.Operation, block: ir.Block) -> ir.Operation:
    """The op of `block` that holds `op`."""
    while op.block != block:
        op = op.parent.operation
    return op


def _wanted(body: Body) -> int:
    """Threads that a foreach can use well: a power of two between LEAST and MOST."""
    work = volume(list(body.extents.values()))
    for op in body.reductions:
        work *= max(1, volume(op.opview.py("extents")))
    threads = LEAST
    while threads < MOST and threads * 8 * PER_THREAD <= work:
        threads *= 2
    return threads
