"""choose-mapping: which thread (GPU) or lane of a vector (CPU) does what, and where a block's buffers lie, written into the task level."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import ClassVar

from mlc.dialects._ext import operations, to_attr
from mlc.errors import CompilerError
from mlc.ir.mlir import ir
from mlc.layout.mapping import TaskMap, repeat, spatial
from mlc.passes.gpu.block import HALVES, WIDEST, aligned_lanes
from mlc.passes.gpu.contraction import Product, product_of
from mlc.passes.gpu.hopper.operand import STEP
from mlc.passes.gpu.hopper.plan import ALIGNMENT, WarpGroupPlan, choose_warpgroups, result_bytes
from mlc.passes.gpu.hopper.plan import ATOM as WARPGROUP_ATOM
from mlc.passes.gpu.plan import MmaPlan, choose, shares, warps_wanted
from mlc.passes.gpu.row_plan import choose_rows
from mlc.passes.gpu.unit import Unit, unit_for
from mlc.passes.registry import Pass, PassContext
from mlc.passes.task.body import Body
from mlc.passes.task.dot import as_foreach
from mlc.passes.task.flat import Memory
from mlc.passes.task.lanes import Registers, choose_lanes
from mlc.passes.task.plan_memory import ALIGN, best_fit
from mlc.passes.tile.model import element_bytes, volume
from mlc.target import Target

LEAST, MOST = 64, 512  # threads of a block
PER_THREAD = 4  # points (of a reduction, too) that a thread should have at least, before more threads help
PLACE = 128  # bytes: alignment of buffers in shared memory
NARROW = 1 << 31  # elements that 32-bit address arithmetic reaches
BAND = 8  # rows of tiles that neighbouring blocks of a large product walk down together, so that they share what they read in L2


@dataclass(frozen=True)
class ChooseMapping(Pass):
    """Writes task maps and schedules of products; for GPUs also threads, pitches and shared-memory offsets."""

    name: ClassVar[str] = "choose-mapping"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        target = ctx.need_target()
        if not target.warp:
            registers = Registers.of(target)
            for op in module.body.operations:
                if op.operation.name == "task.kernel":
                    choose_lanes(op.operation, registers)
            return
        alignment, constants = _launch_alignment(module), _constants(module)
        for op in list(module.body.operations):
            if op.operation.name == "task.kernel":
                name = op.opview.py("sym_name")
                op.attributes["constants"] = to_attr(sorted(constants.get(name, set())))
                _Kernel(op.operation, target, alignment.get(name, [])).choose()


def _launch_alignment(module: ir.Module) -> dict[str, list[int]]:
    """Per kernel and buffer: bytes that its start is aligned to in every launch. Slices of a loop may start anywhere."""
    found: dict[str, list[int]] = {}
    for op in operations(module.operation):
        if op.name == "task.launch":
            own = [_alignment(v) for v in op.operands]
            name = op.opview.py("kernel")
            found[name] = [gcd(a, b) for a, b in zip(found.get(name, own), own)]
    return found


def _constants(module: ir.Module) -> dict[str, set[int]]:
    """Per kernel: which of its buffers are weights or constants in every launch."""
    found: dict[str, set[int]] = {}
    for op in operations(module.operation):
        if op.name == "task.launch":
            own = {i for i, v in enumerate(op.operands) if _is_constant(v)}
            name = op.opview.py("kernel")
            found[name] = found.get(name, own) & own
    return found


def _is_constant(buffer: ir.Value) -> bool:
    while not isinstance(buffer.owner, ir.Block) and buffer.owner.name in ("task.view", "task.slice"):
        buffer = buffer.owner.operands[0]
    return not isinstance(buffer.owner, ir.Block) and buffer.owner.name in ("task.weight", "task.constant")


def _alignment(buffer: ir.Value) -> int:
    if isinstance(buffer.owner, ir.Block) or buffer.owner.name not in ("task.slice", "task.view"):
        return ALIGN
    own = volume(buffer.type.shape) * element_bytes(buffer) if buffer.owner.name == "task.slice" else ALIGN
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
        rows = None if self._mmas() else choose_rows(self.kernel, self.aligned, self.target)
        self._pitches()
        wide = self._warpgroups()
        products = {} if wide else self._products()
        foreaches = [v.operation for v in self.body.operations if v.operation.name == "task.foreach"]
        bodies = {op: Body(op, self.memory) for op in foreaches}
        threads = wide.workers if wide else max([plan.threads for plan in products.values()], default=0)
        wanted = max([_wanted(b) for op, b in bodies.items() if op.opview.py("map") is None], default=0 if rows else LEAST)
        threads = threads or max(wanted, rows.threads if rows else 0)
        everybody = wide.threads if wide else threads
        self.kernel.attributes["threads"] = to_attr(everybody)
        crossing = 0
        for op, body in bodies.items():
            map_ = op.opview.py("map") or self._map(body, threads)
            op.attributes["map"] = to_attr(map_)
            sharing = volume([d.extent for d in map_.digits() if d.spatial and d.dim == 1])
            if sharing > self.target.warp and body.reductions:
                crossing = max(crossing, max(len(list(r.results)) for r in body.reductions))
        self._places(products, wide, 8 * HALVES * crossing * -(-everybody // self.target.warp))

    # -- buffers ----------------------------------------------------------------------------------------------------
    def _allocs(self) -> list[ir.Operation]:
        """Those in shared memory."""
        return [v.operation for v in self.body.operations if v.operation.name == "task.alloc" and v.py("level") == "shared"]

    def _pitches(self) -> None:
        """Rows are padded so that what neighbouring rows are read or written by lies in different banks."""
        for op in self._allocs():
            type_ = op.results[0].type
            shape = list(type_.shape)
            row = shape[-1] * element_bytes(op.results[0]) if shape else 0
            if len(shape) > 1 and volume(shape[:-1]) > 1 and row % WIDEST == 0 and row >= 64:
                # Sums of products (f32) are written as 8-byte pairs by 4 x 4 threads at once, other rows read 16 bytes by 8.
                size = element_bytes(op.results[0])
                pitch = shape[-1] + (2 * WIDEST if size == 4 else WIDEST) // size
                op.attributes["pitch"] = to_attr(pitch)
                self.memory.strides[op.results[0]] = pitched(shape, pitch)

    def _mmas(self) -> list[ir.Operation]:
        return [v.operation for v in self.body.operations if v.operation.name == "task.mma"]

    def _warpgroups(self) -> WarpGroupPlan | None:
        """The schedule of a kernel's one large product, if TMA and warpgroups take it."""
        mmas = self._mmas()
        product = product_of(mmas[0], self.memory) if len(mmas) == 1 else None
        if product is None or self._unit(mmas[0], product) is None:
            return None
        op, grid = mmas[0], self.kernel.opview.py("grid")
        others = sum(_bytes(a) for a in self._allocs() if a.results[0] != op.operands[2])
        plan = choose_warpgroups(op, product, self.aligned, self.target, self.target.shared_bytes - others, volume(grid))
        if plan is None:
            return None
        op.attributes["atom"], op.attributes["step"] = to_attr(WARPGROUP_ATOM), to_attr(STEP)
        op.attributes["warps"], op.attributes["stages"] = to_attr([plan.workers // self.target.warp, 1, 1]), to_attr(plan.stages)
        if len(grid) > 1 and volume(grid) > self.target.sms and grid[-2] > BAND:
            self.kernel.attributes["band"] = to_attr(BAND)
        return plan

    def _unit(self, op: ir.Operation, product: Product | None) -> Unit | None:
        narrow = all(volume(v.type.shape) < NARROW for v in list(op.operands)[:3])
        return unit_for(product, op.operands[2], self.target) if narrow else None

    def _products(self) -> dict[ir.Operation, "MmaPlan"]:
        """Schedules of the matrix products that matrix units take; the others become plain loops."""
        budget = self.target.shared_bytes - 1024 - sum(_bytes(op) for op in self._allocs())
        products = {}
        for op in self._mmas():
            product = product_of(op, self.memory)
            unit = self._unit(op, product)
            if product is not None and unit is not None:
                products[op] = product, unit
            else:
                as_foreach(op)
                op.erase()
        warps = max([warps_wanted(*p) for p in products.values()], default=0)
        found = {}
        for op, (product, unit) in products.items():
            own = sum(_bytes(a) for a in self._allocs() if a.results[0] == op.operands[2] and shares(product, unit))
            plan = choose(product, unit, warps, self.aligned, max(budget + own, 16 << 10))
            if plan is None:
                as_foreach(op)
                op.erase()
                continue
            op.attributes["atom"] = to_attr(unit.atom.name)
            op.attributes["warps"], op.attributes["step"] = to_attr(list(plan.warps)), to_attr(plan.step)
            op.attributes["stages"] = to_attr(plan.stages)
            found[op] = plan
        return found

    def _places(self, products: dict[ir.Operation, MmaPlan], wide: WarpGroupPlan | None, crossing: int) -> None:
        """Offsets in shared memory, by liveness over the kernel's ops. A warpgroups' result takes the place of their stages.

        An op takes two points of time: a product whose sums may take the place of what it reads makes them at the second.
        """
        order = {v.operation: 2 * i for i, v in enumerate(self.body.operations)}
        late = {op.operands[2]: order[op] for op, plan in products.items() if plan.shares}
        spans: list[tuple[int, int, int, ir.Operation]] = []
        mma = self._mmas()[0] if wide else None
        for op in self._allocs():
            users = [order[_top(u.owner.operation, self.body)] for u in op.results[0].uses]
            if wide and mma and op.results[0] == mma.operands[2]:
                spans.append((wide.workspace(result_bytes(mma)), min(users), max(users), op))
            elif users:
                first = min(users)
                spans.append((_bytes(op), first + (late.get(op.results[0]) == first), max(users) + 1, op))
        if wide and mma and not result_bytes(mma):
            spans.append((wide.workspace(0), order[mma], order[mma] + 1, mma))
        spans += [(plan.workspace, order[op], order[op] + (not plan.shares), op) for op, plan in products.items() if plan.workspace]
        placed: list[tuple[int, int, int, int]] = []
        for size, first, last, op in sorted(spans, key=lambda s: (-s[0], s[1])):
            offset = best_fit([p for p in placed if p[2] <= last and first <= p[3]], size, ALIGNMENT if wide else PLACE)
            placed.append((offset, size, first, last))
            if wide and mma and op.name == "task.alloc" and op.results[0] == mma.operands[2]:
                mma.attributes["workspace"] = to_attr(offset)
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
    while threads < MOST and 2 * threads * PER_THREAD <= work:
        threads *= 2
    return threads
