"""choose-mapping: which thread (GPU) or lane of a vector (CPU) does what, and where a block's buffers lie, written into the task level."""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import ClassVar

from mlc.dialects._ext import operations, to_attr
from mlc.errors import CompilerError
from mlc.ir.mlir import ir
from mlc.layout.mapping import TaskMap, repeat, spatial
from mlc.passes.gpu.block import HALVES, WIDEST, aligned_lanes
from mlc.passes.gpu.contraction import Product, product_of
from mlc.passes.gpu.fma_plan import FmaPlan, choose_fma, fma_product, fma_warps
from mlc.passes.gpu.hopper.plan import ALIGNMENT, WarpGroupPlan, choose_warpgroups, result_bytes
from mlc.passes.gpu.hopper.streaming import Streaming, choose_streaming
from mlc.passes.gpu.kept import Kept, kept_key
from mlc.passes.gpu.plan import MmaPlan, choose, shares, warps_wanted
from mlc.passes.gpu.row_plan import choose_rows
from mlc.passes.gpu.unit import Unit, unit_for
from mlc.passes.gpu.warp_streaming import WarpStreaming, choose_warps
from mlc.passes.registry import Pass, PassContext
from mlc.passes.task.body import Body
from mlc.passes.task.dot import as_foreach
from mlc.passes.task.flat import Memory
from mlc.passes.task.lanes import Registers, choose_lanes
from mlc.passes.task.plan_memory import ALIGN, best_fit
from mlc.passes.tile.model import element_bytes, index_roots, volume
from mlc.target import Target

LEAST, MOST = 64, 512  # threads of a block
PER_THREAD = 4  # points (of a reduction, too) that a thread should have at least, before more threads help
PLACE = 128  # bytes: alignment of buffers in shared memory
EARLY = 4  # points of a thread whose operands it may load at the beginning of a phase
FEW_ROWS = 4  # of a product in a loop, up to which threads multiply by a factor in their registers as fast as tensor cores
NARROW = 1 << 31  # elements that 32-bit address arithmetic reaches
CROSSING = 1024  # bytes of shared memory in which warps join their parts of reductions, at most
# Bytes for a product's stages where the buffers of all ops together leave less: they do not live at once. If they do, fewer; then none.
LEAST_STAGES = (16 << 10, 8 << 10, 4 << 10, 0)
SHORT_ROW = 64  # elements that a thread stores side by side where its neighbours load side by side
SHORT = 32  # ops of a body that gathers, up to which it is done on vectors
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
        self.loops = [v.operation for v in self.body.operations if v.operation.name == "scf.for"]
        self.ops = list(_steps(self.body))
        self.aligned = dict(zip(self.buffers, alignment or [1] * len(self.buffers)))
        self.memory = Memory()
        self.kept: dict[Kept, int] = {}  # bytes of a thread

    def choose(self) -> None:
        if any(not op.name.startswith(("task.", "arith.")) for op in self.ops):
            self.kernel.attributes["threads"] = to_attr(1)  # opaque: sequential code
            return
        self.kernel.attributes["alignment"] = to_attr([self.aligned[b] for b in self.buffers])
        multiplies = any(op.name in ("task.mma", "task.stream") for op in self.ops)
        rows = None if multiplies or self.loops else choose_rows(self.kernel, self.aligned, self.target)
        self.ops = list(_steps(self.body))
        self._pitches()
        stream = self._stream()
        wide = stream or self._warpgroups()
        products = {} if wide else self._products()
        foreaches = [op for op in self.ops if op.name == "task.foreach"]
        bodies = {op: Body(op, self.memory) for op in foreaches}
        threads = wide.workers if wide else max([plan.threads for plan in products.values()], default=0)
        wanted = max([self._wanted(b) for op, b in bodies.items() if op.opview.py("map") is None], default=0 if rows else LEAST)
        threads = threads or max(wanted, rows.threads if rows else 0)
        everybody = wide.threads if wide else threads
        self.kernel.attributes["threads"] = to_attr(everybody)
        crossing = 0
        for op, body in sorted(bodies.items(), key=lambda item: item[0].block == self.body):  # loops first: they say what is kept
            map_ = op.opview.py("map") or self._map(body, threads)
            op.attributes["map"] = to_attr(map_)
            sharing = volume([d.extent for d in map_.digits() if d.spatial and d.dim == 1])
            self._keep(op, body, map_, threads)
            if sharing > self.target.warp and body.reductions:
                crossing = max(crossing, max(len(list(r.results)) for r in body.reductions))
        for block in {op.block: None for op in foreaches}:
            self._load_early([v.operation for v in block.operations])
        self._places(products, wide, 8 * HALVES * crossing * -(-everybody // self.target.warp))

    # -- buffers ----------------------------------------------------------------------------------------------------
    def _allocs(self) -> list[ir.Operation]:
        """Those in shared memory."""
        return [op for op in self.ops if op.name == "task.alloc" and op.opview.py("level") == "shared"]

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
        return [op for op in self.ops if op.name == "task.mma"]

    def _stream(self) -> Streaming | WarpStreaming | None:
        """The schedule of a kernel's streamed softmax, if it has one: there are no other products then."""
        op = next((v.operation for v in self.body.operations if v.operation.name == "task.stream"), None)
        if op is None:
            return None
        budget = self.target.shared_bytes - CROSSING - sum(_bytes(a) for a in self._allocs())
        plan = choose_streaming(op, self.target, budget, self.aligned)
        plan = plan or choose_warps(op, self.target, budget, self.memory, self.aligned)
        if plan is None:
            raise CompilerError(f"kernel {self.kernel.opview.py('sym_name')}: nothing of {self.target} can compute {op}")
        op.attributes["atom"], op.attributes["warps"] = to_attr(plan.atom), to_attr(plan.workers // self.target.warp)
        op.attributes["step"], op.attributes["stages"] = to_attr(plan.step), to_attr(plan.stages)
        return plan

    def _warpgroups(self) -> WarpGroupPlan | None:
        """The schedule of a kernel's one large product, if TMA and warpgroups take it."""
        mmas = self._mmas()
        product = product_of(mmas[0], self.memory) if len(mmas) == 1 and not self.loops else None
        if product is None or self._unit(mmas[0], product) is None:
            return None
        op, grid = mmas[0], self.kernel.opview.py("grid")
        others = CROSSING + sum(-(-_bytes(a) // ALIGNMENT) * ALIGNMENT for a in self._allocs() if a.results[0] != op.operands[2])
        plan = choose_warpgroups(op, product, self.aligned, self.target, self.target.shared_bytes - others, volume(grid))
        if plan is None:
            return None
        op.attributes["atom"], op.attributes["step"] = to_attr(plan.atom), to_attr(plan.staging.step)
        op.attributes["warps"], op.attributes["stages"] = to_attr([plan.workers // self.target.warp, 1, 1]), to_attr(plan.stages)
        if len(grid) > 1 and volume(grid) > self.target.sms and grid[-2] > BAND:
            self.kernel.attributes["band"] = to_attr(BAND)
        return plan

    def _unit(self, op: ir.Operation, product: Product | None) -> Unit | None:
        return unit_for(product, op.operands[2], self.target, op.opview.py("codes")) if self._narrow(op) else None

    def _narrow(self, op: ir.Operation) -> bool:
        return all(volume(v.type.shape) < NARROW for v in list(op.operands)[:3])

    def _products(self) -> dict[ir.Operation, MmaPlan | FmaPlan]:
        """Schedules of the matrix products that matrix units or register tiles take; the others become plain loops."""
        budget = self.target.shared_bytes - CROSSING - sum(_bytes(op) for op in self._allocs())
        products, tiles = {}, {}
        for op in self._mmas():
            product = product_of(op, self.memory)
            if product is None or self._slim(op, product):
                continue
            if (unit := self._unit(op, product)) is not None:
                products[op] = product, unit
            elif self._narrow(op) and fma_product(product, op.operands[2]):
                tiles[op] = product
        warps = max([warps_wanted(*p) for p in products.values()], default=0)
        warps = warps or (fma_warps(list(tiles.values()), self.target.warp) if tiles else 0)
        found: dict[ir.Operation, MmaPlan | FmaPlan] = {}
        for least in LEAST_STAGES:
            found = self._plans(products, tiles, warps, budget, least)
            if self._layout(found, None)[1] <= self.target.shared_bytes - CROSSING:
                break
        for op in self._mmas():
            if op not in found:
                self._as_loops(op)
        for op, plan in found.items():
            op.attributes["atom"] = to_attr(plan.shape.atom.name if isinstance(plan, FmaPlan) else products[op][1].atom.name)
            op.attributes["warps"], op.attributes["step"] = to_attr(list(plan.warps)), to_attr(plan.step)
            op.attributes["stages"] = to_attr(plan.stages)
        return found

    def _plans(self, products: Mapping[ir.Operation, tuple[Product, Unit]], tiles: Mapping[ir.Operation, Product], warps: int, budget: int,
               least: int) -> dict[ir.Operation, MmaPlan | FmaPlan]:
        """Schedules for products on units and in register tiles whose stages take `budget` bytes, or `least` if that is more."""
        found: dict[ir.Operation, MmaPlan | FmaPlan] = {}
        for op, (product, unit) in products.items():
            own = sum(_bytes(a) for a in self._allocs() if a.results[0] == op.operands[2] and shares(product, unit))
            if (plan := choose(product, unit, warps, self.aligned, max(budget + own, least))) is not None:
                found[op] = plan
        for op, product in tiles.items():
            if (plan := choose_fma(product, warps, self.aligned, max(budget, least), self.target)) is not None:
                found[op] = plan
        return found

    def _as_loops(self, op: ir.Operation) -> None:
        """A product that no unit takes."""
        as_foreach(op)
        op.erase()
        self.ops = list(_steps(self.body))

    def _layout(self, products: Mapping[ir.Operation, MmaPlan | FmaPlan],
                wide: WarpGroupPlan | Streaming | WarpStreaming | None) -> tuple[dict[ir.Operation, int], int]:
        """Offsets in shared memory and the bytes of all, by liveness over the kernel's ops; a product's is that of its workspace.

        An op takes two points of time: a product whose sums may take the place of what it reads makes them at the second. A warpgroups'
        result takes the place of their stages.
        """
        order = {op: 2 * i for i, op in enumerate(self.ops)}
        late = {op.operands[2]: order[op] for op, plan in products.items() if plan.shares}
        spans: list[tuple[int, int, int, ir.Operation]] = []
        mma = self._mmas()[0] if isinstance(wide, WarpGroupPlan) else None
        for op in self._allocs():
            users = [order[_top(u.owner.operation, order)] for u in op.results[0].uses]
            if isinstance(wide, WarpGroupPlan) and mma and op.results[0] == mma.operands[2]:
                spans.append((wide.workspace(result_bytes(mma)), min(users), max(users), op))
            elif users:
                first = min(users)
                spans.append((_bytes(op), first + (late.get(op.results[0]) == first), max(users) + 1, op))
        if isinstance(wide, Streaming | WarpStreaming):
            stream = next(op for op in order if op.name == "task.stream")
            spans.append((wide.workspace, order[stream], order[stream] + 1, stream))
        if isinstance(wide, WarpGroupPlan) and mma and not result_bytes(mma):
            spans.append((wide.workspace(0), order[mma], order[mma] + 1, mma))
        spans += [(plan.workspace, order[op], order[op] + (not plan.shares), op) for op, plan in products.items() if plan.workspace]
        placed: list[tuple[int, int, int, int]] = []
        offsets: dict[ir.Operation, int] = {}
        for size, first, last, op in sorted(spans, key=lambda s: (-s[0], s[1])):
            offsets[op] = best_fit([p for p in placed if p[2] <= last and first <= p[3]], size, ALIGNMENT if wide else PLACE)
            placed.append((offsets[op], size, first, last))
        return offsets, -(-max([o + s for o, s, *_ in placed], default=0) // PLACE) * PLACE

    def _places(self, products: Mapping[ir.Operation, MmaPlan | FmaPlan], wide: WarpGroupPlan | Streaming | WarpStreaming | None,
                crossing: int) -> None:
        """Writes where buffers and workspaces lie. Raises CompilerError where the buffers alone are too much, which no tile allows."""
        offsets, top = self._layout(products, wide)
        mma = self._mmas()[0] if isinstance(wide, WarpGroupPlan) else None
        for op, offset in offsets.items():
            if mma and op.name == "task.alloc" and op.results[0] == mma.operands[2]:
                mma.attributes["workspace"] = to_attr(offset)
            op.attributes["offset" if op.name == "task.alloc" else "workspace"] = to_attr(offset)
        self.kernel.attributes["scratch"] = to_attr(top)
        self.kernel.attributes["shared"] = to_attr(top + crossing)
        if top + crossing > self.target.shared_bytes:
            raise CompilerError(f"kernel {self.kernel.opview.py('sym_name')} needs {top + crossing} bytes of shared memory, "
                                f"{self.target} has {self.target.shared_bytes}")

    # -- what loops repeat ------------------------------------------------------------------------------------------
    def _lasts(self, values: Iterable[ir.Value]) -> bool:
        """Whether none of the values is made in a loop of the kernel."""
        return all((v.owner if isinstance(v.owner, ir.Block) else v.owner.operation.block) == self.body for v in values)

    def _room(self, threads: int) -> int:
        """Bytes of registers in which a thread may keep what it loads once."""
        return 4 * (self.target.registers // threads) // 2

    def _slim(self, op: ir.Operation, product: Product) -> bool:
        """Whether a loop's product is few rows by a factor that stays in registers: threads then need no atoms, and no pipeline."""
        if not self.loops or product.batch:
            return False
        inputs = self.buffers[:self.kernel.opview.py("inputs")]
        for kept, other in ((product.a, product.b), (product.b, product.a)):
            elements = kept.outer.count * kept.depth.count
            if (kept.buffer in inputs and self._lasts(kept.start.strides) and other.outer.count <= FEW_ROWS
                    and elements * element_bytes(kept.buffer) <= MOST * self._room(MOST)):
                return True
        return False

    def _lasting(self, body: Body) -> list[ir.Operation]:
        """The loads of a body's one reduction that are the same in every iteration of the kernel's loops."""
        if not self.loops or len(body.reductions) != 1:
            return []
        inputs = self.buffers[:self.kernel.opview.py("inputs")]
        op = body.reductions[0]
        loops = {*body.block.arguments, *op.regions[0].blocks[0].arguments}
        return [o for o in body.accesses if o.name == "task.load" and o.parent == op and o.operands[0] in inputs
                and self._lasts(v for v in list(o.operands)[1:] if v not in loops)]

    def _keep(self, foreach: ir.Operation, body: Body, map_: TaskMap, threads: int) -> None:
        """Marks the loads of a reduction that give a thread the same in every iteration, as far as registers reach."""
        if not self._lasting(body) or map_.workers != threads:
            return
        op, digits = body.reductions[0], map_.digits()
        own = [volume([d.extent for d in digits if not d.spatial and d.dim == dim]) for dim in (0, 1)]
        whole = map_.shape == (volume(list(body.extents.values())), volume(op.opview.py("extents")))
        shared = any(d.dim == 1 and (d.spatial or d == digits[-1]) for d in digits)
        if not whole or not shared:
            return
        for load in self._lasting(body):
            key = kept_key(load, foreach, map_)
            size = own[0] * own[1] * element_bytes(load.operands[0])
            if key in self.kept or (foreach.block != self.body and sum(self.kept.values()) + size <= self._room(threads)):
                self.kept[key] = size
                load.attributes["kept"] = to_attr(True)

    def _load_early(self, ops: Sequence[ir.Operation]) -> None:
        """Marks loads behind the first step after a barrier, of buffers that nothing has written since: they need not wait for it."""
        written: set[ir.Value] | None = None  # None: the phase has not begun
        for op in ops if self.loops else ():
            if op.name in ("task.barrier", "scf.for"):
                written = None
            elif op.name in ("task.foreach", "task.mma"):
                inner = operations(op)
                if op.name == "task.foreach" and written is not None and not any(o.name in ("task.reduce", "memref.load") for o in inner):
                    points = volume([d.extent for d in op.opview.py("map").digits() if not d.spatial])
                    for load in [o for o in inner if o.name == "task.load" and points <= EARLY]:
                        if load.operands[0] in self.buffers and load.operands[0] not in written:
                            load.attributes["early"] = to_attr(True)
                stores = {o.operands[1] for o in inner if o.name == "task.store"} if op.name == "task.foreach" else {op.operands[2]}
                written = (written or set()) | stores

    # -- loops ------------------------------------------------------------------------------------------------------
    def _map(self, body: Body, threads: int) -> TaskMap:
        points = volume(list(body.extents.values()))
        if not body.reductions:
            if (shape := self._turned(body)) is not None:
                outer, inner, lanes = shape
                return repeat(-(-outer // threads), 1) * spatial(threads, 1) * repeat(inner // lanes, 1) * repeat(lanes, 1)
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
        beside = along and not self._lasting(body)  # neighbours read what lies side by side; what is read but once may lie anywhere
        while sharing < threads and sharing * lanes < depth and (points * sharing < threads or (beside and sharing < 32)):
            sharing *= 2
        groups = threads // sharing
        return repeat(-(-points // groups), -(-depth // (sharing * lanes))) * spatial(groups, sharing) * repeat(1, lanes)

    def _wanted(self, body: Body) -> int:
        """Threads that a foreach can use well: a power of two between LEAST and MOST."""
        shape = self._turned(body)
        work = volume(list(body.extents.values())) if shape is None else shape[0] * PER_THREAD * 4 // 3  # a quarter of them may be idle
        for op in body.reductions:
            work *= max(1, volume(op.opview.py("extents")))
        # Loads whose places depend on other loads leave a thread waiting at each point: one is enough.
        each = 1 if not body.reductions and _chases(body) else PER_THREAD
        threads = LEAST
        while threads < MOST and 2 * threads * each <= work:
            threads *= 2
        return threads

    def _turned(self, body: Body) -> tuple[int, int, int] | None:
        """For points whose loads all run along another dimension than their stores: how many up to that dimension, how many behind it for
        each of these, and how many of them are a vector. Neighbouring threads then load neighbours, and each stores short rows."""
        extents, arguments = list(body.extents.values()), list(body.block.arguments)
        walked = set()
        for op in operations(body.block.owner.operation):
            if op.name == "task.load":
                walked |= {d for d in range(len(extents)) if extents[d] > 1 and body.accesses[op].stride(arguments[d]) == 1}
            elif op.name == "memref.load" and len(op.operands) > 1:
                roots = index_roots(list(op.operands)[-1])
                walked |= {d for d in range(len(extents)) if extents[d] > 1 and arguments[d] in roots}
        if body.reductions or len(walked) != 1 or extents[-1] == 1 or walked == {len(extents) - 1}:
            return None
        split = walked.pop() + 1
        outer, inner = volume(extents[:split]), volume(extents[split:])
        lanes = self._lanes(body, 1, outer * inner)
        return (outer, inner, lanes) if outer >= self.target.warp and lanes > 1 and inner <= SHORT_ROW and inner % lanes == 0 else None

    def _gathers(self, body: Body) -> bool:
        return body.loops or any(o.name == "memref.load" for o in operations(body.block.owner.operation))

    def _gathers_much(self, body: Body) -> bool:
        """Whether lanes, which gather one by one, would take many registers: each op of the body is there for each of them."""
        ops = operations(body.block.owner.operation)
        return body.loops or (self._gathers(body) and (sum(o.name == "memref.load" for o in ops) > 1 or len(ops) > SHORT))

    def _across(self, body: Body, loads: Sequence) -> int:
        """Loads that walk memory contiguously along the last point dimension."""
        extents = list(body.extents.values())
        if not extents or extents[-1] == 1:
            return 0
        return sum(a.stride(body.block.arguments[len(extents) - 1]) == 1 for a in loads)

    def _lanes(self, body: Body, threads: int, points: int) -> int:
        """The vector length along the last point dimension: stores must be contiguous and aligned, and threads not idle."""
        extents = list(body.extents.values())
        if not extents or self._gathers_much(body):
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


def _chases(body: Body) -> bool:
    """Whether a body loads at places that depend on what it loaded, or in loops."""
    loaded: set[ir.Value] = set()  # what depends on a gathered element
    for op in operations(body.block.owner.operation):
        follows = any(v in loaded for v in op.operands)
        if follows and op.name == "memref.load":
            return True
        if follows or op.name == "memref.load":
            loaded.update(op.results)
    return body.loops


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


def _steps(block: ir.Block) -> Iterator[ir.Operation]:
    """The ops of a kernel's body in order, those of its loops in the place of the loops."""
    for view in block.operations:
        op = view.operation
        if op.name == "scf.for" and not len(op.results) and all(_held(v.operation) for v in op.regions[0].blocks[0].operations):
            yield from _steps(op.regions[0].blocks[0])
        elif op.name != "scf.yield":
            yield op


def _held(op: ir.Operation) -> bool:
    """Whether an op may stand in a loop around phases."""
    return op.name.startswith(("task.", "arith.")) or op.name in ("scf.for", "scf.yield")


def _top(op: ir.Operation, among: Container[ir.Operation]) -> ir.Operation:
    """The op of `among` that holds `op`."""
    while op not in among:
        op = op.parent.operation
    return op
