"""lower-task-to-gpu: mapped task.kernels become gpu.funcs of one gpu.module; it obeys the schedule that choose-mapping wrote."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from mlc.dialects._ext import operations, to_attr
from mlc.errors import CompilerError
from mlc.ir.clone import clone
from mlc.ir.mlir import gpu, ir
from mlc.passes.choose_mapping import NARROW, pitched
from mlc.passes.gpu.block import SHARED, Block, delinearize, global_type
from mlc.passes.gpu.contraction import product_of
from mlc.passes.gpu.foreach import MappedForeach
from mlc.passes.gpu.mma import TensorCoreProduct
from mlc.passes.gpu.plan import MmaPlan
from mlc.passes.registry import Pass, PassContext
from mlc.passes.task.flat import Memory
from mlc.passes.tile.model import element_bytes, volume
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
        self.kernel, self.target = kernel, target
        self.body = kernel.regions[0].blocks[0]
        self.opaque = "alignment" not in kernel.attributes
        arguments = list(self.body.arguments)
        self.buffers, self.indices = arguments[:len(arguments) - len(self.grid)], arguments[len(arguments) - len(self.grid):]

    def lower(self) -> None:
        types = [b.type if self.opaque else global_type(b.type) for b in self.buffers]
        blocks = volume(self.grid)
        function = gpu.GPUFuncOp(ir.FunctionType.get(types, []), self.name, kernel=True, known_block_size=[self.threads, 1, 1])
        function.operation.attributes["task.grid"] = to_attr([blocks])
        function.operation.attributes["task.shared"] = to_attr(0 if self.opaque else self.kernel.opview.py("shared"))
        entry = function.add_entry_block()
        with ir.InsertionPoint(entry):
            if self.target.has("pdl"):
                # The next kernel may take free SMs now; it waits here, as this one does, until the one before it is done.
                for action in ("launch_dependents", "wait"):
                    ir.Operation.create("nvvm.griddepcontrol", attributes={"kind": ir.Attribute.parse(f"#nvvm<grid_dep_action {action}>")})
            env: dict[ir.Value, ir.Value] = dict(zip(self.buffers, entry.arguments))
            if self.grid:
                env.update(zip(self.indices, delinearize(gpu.BlockIdOp(gpu.Dimension.x).result, self.grid)))
            if self.opaque:
                for view in self.body.operations:
                    if view.operation.name != "task.end":
                        clone(view.operation, env)
            else:
                self._ops(env)
            gpu.ReturnOp([])

    def _ops(self, env: dict[ir.Value, ir.Value]) -> None:
        memory = Memory(flat={b: env[b] for b in self.buffers}, narrow=all(volume(b.type.shape) < NARROW for b in self.buffers))
        dynamic = None
        if self.kernel.opview.py("shared"):
            i8 = ir.IntegerType.get_signless(8)
            type_ = ir.MemRefType.get([ir.ShapedType.get_dynamic_size()], i8, memory_space=ir.Attribute.parse(SHARED))
            dynamic = gpu.DynamicSharedMemoryOp(type_).result
        alignment = dict(zip(self.buffers, self.kernel.opview.py("alignment")))
        team = Block(self.target.warp, self.threads, gpu.ThreadIdOp(gpu.Dimension.x).result, dynamic, memory, env, alignment,
                     self.kernel.opview.py("scratch"))
        overlaps = _overlaps([v.operation for v in self.body.operations if v.operation.name == "task.alloc"])
        for view in self.body.operations:
            op = view.operation
            with op.location:
                match op.name:
                    case "task.alloc":
                        self._alloc(op, team)
                    case "task.foreach":
                        team.order(*_touched(op), overlaps)
                        MappedForeach(op, team).emit()
                    case "task.mma":
                        self._mma(op, team, overlaps)
                    case "task.end" | "task.barrier":
                        continue  # barriers stand where buffers need them
                    case _:
                        clone(op, env)

    def _alloc(self, op: ir.Operation, team: Block) -> None:
        value, pitch, offset = op.results[0], op.opview.py("pitch"), op.opview.py("offset")
        if offset is None:
            return  # nobody uses it
        shape = list(value.type.shape)
        count = volume(shape[:-1]) * pitch if pitch else volume(shape)
        if pitch:
            team.memory.strides[value] = pitched(shape, pitch)
        team.memory.flat[value] = team.shared(offset, count, value.type.element_type)

    def _mma(self, op: ir.Operation, team: Block, overlaps: Mapping[ir.Value, set[ir.Value]]) -> None:
        view = op.opview
        product = product_of(op, team.memory)
        assert product is not None
        plan = MmaPlan.of(product, view.py("warps"), view.py("step"), view.py("stages"), team.alignment)
        if plan.workspace:
            team.barrier()  # what lay in the workspace before is no longer read
        else:
            team.order(*_touched(op), overlaps)
        TensorCoreProduct(op, plan, team, view.py("workspace", 0)).emit()
        team.written.add(op.operands[2])
        team.read |= set(list(op.operands)[:2])


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


def _overlaps(allocs: Sequence[ir.Operation]) -> dict[ir.Value, set[ir.Value]]:
    """For each block buffer, those that lie in the same shared memory at another time, itself included."""
    spans = []
    for op in allocs:
        offset, pitch, value = op.opview.py("offset"), op.opview.py("pitch"), op.results[0]
        if offset is not None:
            shape = list(value.type.shape)
            size = (volume(shape[:-1]) * pitch if pitch else volume(shape)) * element_bytes(value)
            spans.append((value, offset, offset + size))
    return {a: {b for b, start, end in spans if start < high and low < end} for a, low, high in spans}


