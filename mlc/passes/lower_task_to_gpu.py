"""lower-task-to-gpu: mapped task.kernels become gpu.funcs of one gpu.module; it obeys the schedule that choose-mapping wrote."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import ClassVar

from mlc.dialects._ext import operations, to_attr
from mlc.errors import CompilerError
from mlc.ir.clone import clone
from mlc.ir.mlir import arith, gpu, ir, scf
from mlc.layout.fma import PREFIX, FmaAtom
from mlc.passes.gpu import cluster
from mlc.passes.gpu.block import NARROW, SHARED, Block, banded, delinearize, global_type, grid_control
from mlc.passes.gpu.buffers import elements_of, overlapping, spans_of, strides_of
from mlc.passes.gpu.contraction import Product, product_of
from mlc.passes.gpu.fma import FmaProduct
from mlc.passes.gpu.fma_plan import FmaPlan, Shape
from mlc.passes.gpu.foreach import MappedForeach
from mlc.passes.gpu.hopper.finish import Finish, finished_by
from mlc.passes.gpu.hopper.plan import PREFIX as WARPGROUPS
from mlc.passes.gpu.hopper.plan import RESERVED, WarpGroupPlan, result_bytes, warpgroup_plan
from mlc.passes.gpu.hopper.product import WarpGroupProduct
from mlc.passes.gpu.hopper.stream import WarpGroupStream
from mlc.passes.gpu.hopper.streaming import Streaming, stream_plan
from mlc.passes.gpu.hopper.tma import TENSOR_MAPS, TensorMap
from mlc.passes.gpu.mma import TensorCoreProduct
from mlc.passes.gpu.plan import MmaPlan
from mlc.passes.gpu.row_foreach import RowForeach
from mlc.passes.gpu.unit import Unit
from mlc.passes.gpu.warp_stream import WarpStream
from mlc.passes.gpu.warp_streaming import warp_plan
from mlc.passes.gpu.wave import WaveProduct
from mlc.passes.registry import Pass, PassContext
from mlc.passes.task.flat import Memory, index_constant
from mlc.passes.tile.model import volume
from mlc.target import Target

MODULE = "kernels"


@dataclass(frozen=True)
class LowerTaskToGpu(Pass):
    """Kernels to gpu, scf, memref, vector and arith for one thread, with matrix instructions as nvgpu or amdgpu ops."""

    name: ClassVar[str] = "lower-task-to-gpu"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        kernels = [v.operation for v in module.body.operations if v.operation.name == "task.kernel"]
        with module.operation.location, ir.InsertionPoint.at_block_begin(module.body):
            holder = gpu.GPUModuleOp(MODULE)
            block = holder.regions[0].blocks[0] if len(holder.regions[0].blocks) else holder.regions[0].blocks.append()
        for op in kernels:
            with op.location, ir.InsertionPoint(block):
                _Kernel(op, ctx.need_target()).lower()
            op.erase()


class _Kernel:
    def __init__(self, kernel: ir.Operation, target: Target) -> None:
        view = kernel.opview
        self.name, self.grid, self.threads = view.py("sym_name"), view.py("grid"), view.py("threads")
        if self.threads is None:
            raise CompilerError(f"kernel {self.name} has no mapping; run choose-mapping first")
        self.kernel, self.target, self.split = kernel, target, view.py("split")
        self.body = kernel.regions[0].blocks[0]
        self.opaque = "alignment" not in kernel.attributes
        arguments = list(self.body.arguments)
        self.buffers, self.indices = arguments[:len(arguments) - len(self.grid)], arguments[len(arguments) - len(self.grid):]
        self.wide = self._warpgroups()
        multiplied = [v.operation for v in self.body.operations if v.operation.name == "task.mma"]
        self.finished = finished_by(multiplied[0]) if isinstance(self.wide, WarpGroupPlan) else set[ir.Operation]()

    def _warpgroups(self) -> WarpGroupPlan | Streaming | None:
        """The plan of the kernel's one product, or of its streamed softmax, where that is one of warpgroups."""
        for view in self.body.operations:
            op = view.operation
            if op.name == "task.stream" and op.opview.py("atom").startswith(WARPGROUPS):
                stream = stream_plan(op)
                if stream is None:
                    raise CompilerError(f"kernel {self.name}: warpgroups cannot compute {op}")
                return stream
            if op.name == "task.mma" and op.opview.py("atom").startswith(WARPGROUPS):
                product = product_of(op, Memory(strides={op.operands[2]: strides_of(op.operands[2])}))
                alignment = dict(zip(self.buffers, self.kernel.opview.py("alignment")))
                plan = None if product is None else warpgroup_plan(op, product, op.opview.py("stages"), alignment)
                if plan is None:
                    raise CompilerError(f"kernel {self.name}: warpgroups cannot compute {op}")
                return plan
        return None

    def lower(self) -> None:
        types = [b.type if self.opaque else global_type(b.type) for b in self.buffers]
        maps = _tensor_maps(self.wide, self.body) if self.wide else []
        types += [ir.Type.parse("!llvm.ptr")] * len(maps)
        blocks = volume(self.grid) * self.split
        size = [self.threads // self.split, 1, 1]
        function = gpu.GPUFuncOp(ir.FunctionType.get(types, []), self.name, kernel=True, known_block_size=size)
        function.operation.attributes["task.grid"] = to_attr([blocks])
        if self.kernel.opview.py("cluster") or self.split > 1:
            together = blocks if self.kernel.opview.py("cluster") else self.split
            function.operation.attributes["known_cluster_size"] = ir.DenseI32ArrayAttr.get([together, 1, 1])
        function.operation.attributes["task.shared"] = to_attr(0 if self.opaque else self.kernel.opview.py("shared"))
        if maps:
            self._describe(function.operation, maps)
        entry = function.add_entry_block()
        with ir.InsertionPoint(entry):
            env: dict[ir.Value, ir.Value] = dict(zip(self.buffers, entry.arguments))
            if self.split > 1:
                cluster.arrive(relaxed=True)
            if self.grid:
                block, band = gpu.BlockIdOp(gpu.Dimension.x).result, self.kernel.opview.py("band")
                if self.split > 1:
                    block = arith.DivUIOp(block, index_constant(self.split)).result
                env.update(zip(self.indices, banded(block, self.grid, band) if band else delinearize(block, self.grid)))
            if self.opaque:
                if self.target.has("pdl"):
                    grid_control("wait")
                for view in self.body.operations:
                    if view.operation.name != "task.end":
                        clone(view.operation, env)
            else:
                self._ops(env, list(entry.arguments)[len(self.buffers):])
            gpu.ReturnOp([])

    def _describe(self, function: ir.Operation, maps: Sequence[tuple[TensorMap, ir.Value]]) -> None:
        """The tensor maps among the arguments, and how many blocks shall share an SM."""
        found = [map_.attribute(len(self.buffers) + i, self.buffers.index(buffer)) for i, (map_, buffer) in enumerate(maps)]
        function.attributes[TENSOR_MAPS] = ir.ArrayAttr.get(found)
        residents = (self.target.shared_bytes + RESERVED) // (self.kernel.opview.py("shared") + RESERVED)
        most = 1 if isinstance(self.wide, Streaming) else 2  # a stream's threads have all registers
        function.attributes["nvvm.minctasm"] = ir.IntegerAttr.get(ir.IntegerType.get_signless(32), max(1, min(most, residents)))

    def _ops(self, env: dict[ir.Value, ir.Value], maps: Sequence[ir.Value]) -> None:
        memory = Memory(flat={b: env[b] for b in self.buffers}, narrow=all(volume(b.type.shape) < NARROW for b in self.buffers))
        dynamic = None
        if self.kernel.opview.py("shared"):
            i8 = ir.IntegerType.get_signless(8)
            type_ = ir.MemRefType.get([ir.ShapedType.get_dynamic_size()], i8, memory_space=ir.Attribute.parse(SHARED))
            dynamic = gpu.DynamicSharedMemoryOp(type_).result
        alignment = dict(zip(self.buffers, self.kernel.opview.py("alignment")))
        constants = {self.buffers[i] for i in self.kernel.opview.py("constants")}
        team = Block(self.target.warp, self.threads, self._thread(), dynamic, memory, env, alignment,
                     self.kernel.opview.py("scratch"), constants, self.target.has("pdl"), split=self.split)
        overlaps = overlapping(spans_of(self.kernel))
        self._keep(team)
        self._steps(self.body, team, overlaps, maps)
        team.wait()  # a kernel without any work still ends after those before it

    def _thread(self) -> ir.Value:
        """The thread's number in its block, which may be split among the blocks of a cluster."""
        thread = gpu.ThreadIdOp(gpu.Dimension.x).result
        if self.split == 1:
            return thread
        part = arith.RemUIOp(gpu.BlockIdOp(gpu.Dimension.x).result, index_constant(self.split)).result
        return arith.AddIOp(arith.MulIOp(part, index_constant(self.threads // self.split)).result, thread).result

    def _keep(self, team: Block) -> None:
        """What the kernel's loops repeat is loaded ahead of them; weights ahead of all else."""
        foreaches = [op for op in operations(self.kernel) if op.name == "task.foreach" and op not in self.finished]
        emitters = [e for e in (MappedForeach(op, team) for op in foreaches) if e.kept]
        if not emitters:
            return
        for op in [v.operation for v in self.body.operations if v.operation.name.startswith("arith.")]:
            clone(op, team.env)
        if not all(load.operands[0] in team.constants for e in emitters for load in e.kept):
            team.wait()
        for emitter in emitters:
            emitter.keep()

    def _steps(self, block: ir.Block, team: Block, overlaps: Mapping[ir.Value, set[ir.Value]], maps: Sequence[ir.Value]) -> None:
        ops = [v.operation for v in block.operations]
        emitters: dict[ir.Operation, MappedForeach] = {}
        begins = True
        for i, op in enumerate(ops):
            with op.location:
                if begins and op.name in ("task.alloc", "task.foreach", "task.mma", "task.stream"):
                    emitters, begins = self._phase(ops[i:], team), False
                match op.name:
                    case "task.foreach" if op not in self.finished:
                        reads, writes = _touched(op)
                        if not (reads <= team.constants and writes <= team.registers.keys()):
                            team.wait()
                        team.order(reads - team.registers.keys(), writes - team.registers.keys(), overlaps)
                        of_rows = self.split > 1 or bool(op.opview.py("columns")) or not team.registers.keys().isdisjoint(reads | writes)
                        emitter = emitters.get(op) or (RowForeach if of_rows else MappedForeach)(op, team)
                        emitter.emit()
                    case "task.mma":
                        self._mma(op, team, overlaps, maps)
                    case "task.stream":
                        if isinstance(self.wide, Streaming):
                            team.order(*_touched(op), overlaps)
                            WarpGroupStream(op, self.wide, team, op.opview.py("workspace"), maps).emit()
                        else:
                            team.settle()  # what lay in the workspace before is no longer read
                            plan = warp_plan(op, self.target, team.memory, team.alignment)
                            WarpStream(op, plan, team, op.opview.py("workspace")).emit()
                        team.barrier()
                    case "task.barrier":
                        team.meet(op.opview.py("scope"))
                        begins = True
                    case "scf.for":
                        self._loop(op, team, overlaps, maps)
                        begins = True
                    case "task.alloc" | "task.end" | "scf.yield" | "task.foreach":  # buffers are the phase's, a finish its product's
                        continue
                    case _:
                        if begins:
                            clone(op, team.env)

    def _phase(self, ops: Sequence[ir.Operation], team: Block) -> dict[ir.Operation, MappedForeach]:
        """What a phase (up to the next barrier or loop) needs first: its buffers and indices, and what it can load early."""
        phase = list(takewhile(lambda op: op.name not in ("task.barrier", "scf.for"), ops))
        for op in phase:
            if op.name == "task.alloc":
                self._alloc(op, team)
            elif op.name.startswith("arith."):
                clone(op, team.env)
        foreaches = [op for op in phase if op.name == "task.foreach" and op not in self.finished]
        emitters = {op: emitter for op in foreaches if (emitter := MappedForeach(op, team)).early}
        for emitter in emitters.values():
            team.wait()
            emitter.load_early()
        return emitters

    def _loop(self, op: ir.Operation, team: Block, overlaps: Mapping[ir.Value, set[ir.Value]], maps: Sequence[ir.Value]) -> None:
        """A loop around phases; threads meet at its ends unless they just have."""
        team.wait()
        team.settle()
        source = op.regions[0].blocks[0]
        loop = scf.ForOp(*[team.env[v] for v in op.operands])
        team.env[source.arguments[0]] = loop.induction_variable
        with ir.InsertionPoint(loop.body):
            self._steps(source, team, overlaps, maps)
            team.settle()
            scf.YieldOp([])

    def _alloc(self, op: ir.Operation, team: Block) -> None:
        value, offset = op.results[0], op.opview.py("offset")
        if op.opview.py("level") == "register":
            team.registers[value] = {}
        if offset is None:
            return  # in registers, or nobody uses it
        team.memory.strides[value] = strides_of(value)
        team.memory.flat[value] = team.shared(offset, elements_of(op), value.type.element_type)

    def _mma(self, op: ir.Operation, team: Block, overlaps: Mapping[ir.Value, set[ir.Value]], maps: Sequence[ir.Value]) -> None:
        view = op.opview
        if isinstance(self.wide, WarpGroupPlan):
            finish = next((Finish(f, op.operands[2], team, self.wide.staging) for f in self.finished), None)
            WarpGroupProduct(op, self.wide, team, view.py("workspace"), result_bytes(op), maps, finish).emit()
            team.barrier()
            return
        product = product_of(op, team.memory)
        assert product is not None
        plan = self._plan(view, product, team)
        if plan.workspace and (team.written or team.read):
            team.barrier()  # what lay in the workspace before is no longer read
        else:
            team.order(*_touched(op), overlaps)
        workspace = view.py("workspace", 0)
        if isinstance(plan, FmaPlan):
            FmaProduct(op, plan, team, workspace).emit()
        else:
            (TensorCoreProduct if plan.unit.streams else WaveProduct)(op, plan, team, workspace).emit()
        team.written.add(op.operands[2])
        team.read |= set(list(op.operands)[:2])
        # Threads may still read the last stage: whoever writes into its place waits for them.
        start = view.py("workspace", 0)
        team.read |= {value for value, low, high in spans_of(self.kernel) if low < start + plan.workspace and start < high}

    def _plan(self, view: ir.OpView, product: Product, team: Block) -> FmaPlan | MmaPlan:
        """The schedule that a task.mma's attributes give."""
        atom, warps, step, stages = (view.py(name) for name in ("atom", "warps", "step", "stages"))
        if atom.startswith(PREFIX):
            return FmaPlan.of(product, Shape(tuple(warps), FmaAtom.parse(atom)), step, stages, team.alignment, self.target)
        return MmaPlan.of(product, Unit.named(atom, self.target), warps, step, stages, team.alignment)


def _tensor_maps(plan: WarpGroupPlan | Streaming, body: ir.Block) -> list[tuple[TensorMap, ir.Value]]:
    """The tensor maps of a kernel's arguments, and the buffer that each of them is of."""
    if isinstance(plan, WarpGroupPlan):
        return [(plan.staging.left.map, plan.product.a.buffer), (plan.staging.right.map, plan.product.b.buffer)]
    stream = next(v.operation for v in body.operations if v.operation.name == "task.stream")
    return list(zip((tile.map for tile in (plan.q, plan.k, plan.v)), list(stream.operands)[:3]))


def _touched(op: ir.Operation) -> tuple[set[ir.Value], set[ir.Value]]:
    """Buffers that an op of a kernel reads, and those it writes."""
    if op.name == "task.mma":
        return set(list(op.operands)[:2]), {op.operands[2]}
    reads, writes = set(), set()
    for inner in operations(op):
        if inner.name in ("task.load", "memref.load"):
            reads.add(inner.operands[0])
        elif inner.name == "task.store":
            writes.add(inner.operands[1])
    return reads, writes
