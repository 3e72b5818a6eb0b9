"""The plan as native code: @main of the task level becomes `mlc_main`, which every thread runs (the ABI of docs/architecture.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlc.backends.plan_weights import WeightTable
from mlc.ir.clone import clone
from mlc.ir.mlir import arith, func, ir, llvm, scf
from mlc.passes.tile.model import element_bytes, volume

ENTRY = "mlc_main"
CHUNKS = 8  # chunks of blocks per thread: fine enough to balance, coarse enough that taking one costs nothing

# Sense-reversing barrier on sync[0] (arrivals) and sync[8] (generation); yields the processor when others are late. The last to arrive
# also rewinds sync[4], the next block of the launch, from which threads take blocks as they become free.
BARRIER = """
declare i32 @sched_yield()
declare void @llvm.x86.sse2.pause()
define internal void @mlc_barrier(ptr %sync, i64 %threads) noinline {
entry:
  %next_block_at = getelementptr i64, ptr %sync, i64 4
  %alone = icmp ule i64 %threads, 1
  br i1 %alone, label %rewind, label %arrive
rewind:
  store atomic i64 0, ptr %next_block_at monotonic, align 8
  br label %done
arrive:
  %generation_at = getelementptr i64, ptr %sync, i64 8
  %generation = load atomic i64, ptr %generation_at acquire, align 8
  %before = atomicrmw add ptr %sync, i64 1 acq_rel
  %last = sub i64 %threads, 1
  %is_last = icmp eq i64 %before, %last
  br i1 %is_last, label %release, label %spin
release:
  store atomic i64 0, ptr %sync monotonic, align 8
  store atomic i64 0, ptr %next_block_at monotonic, align 8
  %next = add i64 %generation, 1
  store atomic i64 %next, ptr %generation_at release, align 8
  br label %done
spin:
  %tries = phi i64 [ 0, %arrive ], [ %more, %again ]
  %now = load atomic i64, ptr %generation_at acquire, align 8
  %open = icmp ne i64 %now, %generation
  br i1 %open, label %done, label %wait
wait:
  call void @llvm.x86.sse2.pause()
  %more = add i64 %tries, 1
  %late = icmp ugt i64 %more, 4096
  br i1 %late, label %yield, label %again
yield:
  %ignored = call i32 @sched_yield()
  br label %again
again:
  br label %spin
done:
  ret void
}
"""


@dataclass
class EntryBuilder:
    """Builds the entry function in a module where kernels are llvm.func already. `weights`: the weights array."""

    grids: Mapping[str, Sequence[int]]
    weights: WeightTable = field(default_factory=WeightTable)
    launches: list[tuple[str, list[str]]] = field(default_factory=list)
    loops: int = 0  # around the op being built

    def build(self, module: ir.Module, main: ir.Operation) -> None:
        """Adds `mlc_main` to `module` from the task-level function `main`."""
        pointer, i64 = llvm.PointerType.get(), ir.IntegerType.get_signless(64)
        with ir.InsertionPoint(module.body):
            llvm.LLVMFuncOp("mlc_barrier", ir.TypeAttr.get(ir.Type.parse("!llvm.func<void (ptr, i64)>")))
            entry = func.FuncOp(ENTRY, ([pointer] * 4 + [i64, i64, pointer], []))
        block = entry.add_entry_block()
        self.inputs, self.outputs, self.weight_array, self.arena, self.thread, self.threads, self.sync = block.arguments
        self.env: dict[ir.Value, ir.Value] = {}
        with ir.InsertionPoint(block):
            self.i64, self.pointer = i64, pointer
            arguments = list(main.regions[0].blocks[0].arguments)
            count = main.attributes["task.inputs"].value
            for i, argument in enumerate(arguments):
                array, at = (self.inputs, i) if i < count else (self.outputs, i - count)
                self.env[argument] = self._element(array, at)
            self._block(main.regions[0].blocks[0])
            func.ReturnOp([])

    # -- pieces -----------------------------------------------------------------------------------------------------
    def _const(self, value: int) -> ir.Value:
        return arith.ConstantOp(self.i64, value).result

    def _element(self, array: ir.Value, index: int) -> ir.Value:
        return llvm.LoadOp(self.pointer, self._offset(array, self._const(8 * index))).res

    def _offset(self, pointer: ir.Value, bytes_: ir.Value) -> ir.Value:
        dynamic = ir.DenseI32ArrayAttr.get([-(2**31)])
        return llvm.GEPOp(self.pointer, pointer, [bytes_], dynamic, ir.IntegerType.get_signless(8), None).res

    def _barrier(self) -> None:
        self._call("mlc_barrier", [self.sync, self.threads])

    def _call(self, name: str, operands: Sequence[ir.Value]) -> None:
        ir.Operation.create("llvm.call", operands=list(operands), attributes={
            "callee": ir.FlatSymbolRefAttr.get(name), "operandSegmentSizes": ir.DenseI32ArrayAttr.get([len(operands), 0]),
            "op_bundle_sizes": ir.DenseI32ArrayAttr.get([])})

    def _on_first_thread(self) -> scf.IfOp:
        first = arith.CmpIOp(arith.CmpIPredicate.eq, self.thread, self._const(0)).result
        return scf.IfOp(first)

    # -- ops --------------------------------------------------------------------------------------------------------
    def _block(self, block: ir.Block) -> None:
        for view in block.operations:
            op = view.operation
            handler = getattr(self, "_" + op.name.replace(".", "_"), None)
            if handler is not None:
                handler(op)
            elif op.name not in ("func.return", "scf.yield", "scf.condition"):
                clone(op, self.env)

    def _task_weight(self, op: ir.Operation) -> None:
        self.env[op.results[0]] = self._element(self.weight_array, self.weights.index(op))

    _task_constant = _task_weight

    def _task_buffer(self, op: ir.Operation) -> None:
        self.env[op.results[0]] = self._offset(self.arena, self._const(op.attributes["offset"].value))

    def _task_view(self, op: ir.Operation) -> None:
        self.env[op.results[0]] = self.env[op.operands[0]]

    def _task_slice(self, op: ir.Operation) -> None:
        result = op.results[0]
        size = self._const(volume(result.type.shape) * element_bytes(result))
        at = arith.IndexCastOp(self.i64, self.env[op.operands[1]]).result
        self.env[result] = self._offset(self.env[op.operands[0]], arith.MulIOp(at, size).result)

    def _task_launch(self, op: ir.Operation) -> None:
        name = op.attributes["kernel"].value
        nodes = [a.value for a in op.attributes["nodes"]] if "nodes" in op.attributes else []
        self.launches.append((name, nodes))
        blocks = volume(self.grids[name])
        buffers = [self.env[v] for v in op.operands]
        if blocks <= 1:
            branch = self._on_first_thread()
            with ir.InsertionPoint(branch.then_block):
                self._call(name, [*buffers, self._const(0), self._const(1)])
                scf.YieldOp([])
        else:
            self._share(name, buffers, blocks)
        self._barrier()

    def _share(self, name: str, buffers: Sequence[ir.Value], blocks: int) -> None:
        """Threads take chunks of blocks until none is left: a late or slower thread holds nobody up for longer than one chunk."""
        total, one = self._const(blocks), self._const(1)
        if self.loops:  # the same blocks on the same thread in every iteration: what they read stays in that core's cache
            first = arith.DivUIOp(arith.MulIOp(self.thread, total).result, self.threads).result
            last = arith.DivUIOp(arith.MulIOp(arith.AddIOp(self.thread, one).result, total).result, self.threads).result
            self._call(name, [*buffers, first, last])
            return
        per = arith.DivUIOp(total, arith.MulIOp(self.threads, self._const(CHUNKS)).result).result
        chunk = arith.MaxUIOp(per, one).result
        counter = self._offset(self.sync, self._const(32))
        loop = scf.WhileOp([self.i64], [])
        before, after = loop.before.blocks.append(), loop.after.blocks.append(self.i64)
        with ir.InsertionPoint(before):
            first = llvm.AtomicRMWOp(llvm.AtomicBinOp.add, counter, chunk, llvm.AtomicOrdering.monotonic).res
            scf.ConditionOp(arith.CmpIOp(arith.CmpIPredicate.ult, first, total).result, [first])
        with ir.InsertionPoint(after):
            first = after.arguments[0]
            last = arith.MinUIOp(arith.AddIOp(first, chunk).result, total).result
            self._call(name, [*buffers, first, last])
            scf.YieldOp([])

    def _task_copy(self, op: ir.Operation) -> None:
        operands = list(op.operands)
        n = len(operands) // 2
        branch = self._on_first_thread()
        with ir.InsertionPoint(branch.then_block):
            for source, target in zip(operands[:n], operands[n:]):
                size = volume(source.type.shape) * element_bytes(source)
                llvm.MemcpyOp(self.env[target], self.env[source], self._const(size), False)
            scf.YieldOp([])
        self._barrier()

    def _task_set(self, op: ir.Operation) -> None:
        branch = self._on_first_thread()
        with ir.InsertionPoint(branch.then_block):
            llvm.StoreOp(self.env[op.operands[0]], self.env[op.operands[1]])
            scf.YieldOp([])
        self._barrier()

    def _task_barrier(self, op: ir.Operation) -> None:
        self._barrier()

    def _memref_load(self, op: ir.Operation) -> None:
        """A condition or trip count: the first element of a one-element buffer."""
        self.env[op.results[0]] = llvm.LoadOp(op.results[0].type, self.env[op.operands[0]]).res

    def _scf_if(self, op: ir.Operation) -> None:
        branch = scf.IfOp(self.env[op.operands[0]], has_else=True)
        for region, block in zip(op.regions, (branch.then_block, branch.else_block)):
            with ir.InsertionPoint(block):
                if len(region.blocks):
                    self._block(region.blocks[0])
                scf.YieldOp([])

    def _scf_for(self, op: ir.Operation) -> None:
        self.loops += 1
        loop = scf.ForOp(*[self.env[v] for v in list(op.operands)[:3]])
        self.env[op.regions[0].blocks[0].arguments[0]] = loop.induction_variable
        with ir.InsertionPoint(loop.body):
            self._block(op.regions[0].blocks[0])
            scf.YieldOp([])
        self.loops -= 1

    def _scf_while(self, op: ir.Operation) -> None:
        self.loops += 1
        types = [r.type for r in op.results]
        loop = scf.WhileOp(types, [self.env[v] for v in op.operands])
        for region, new in zip(op.regions, (loop.before, loop.after)):
            block = new.blocks.append(*types)
            old = region.blocks[0]
            self.env.update(zip(old.arguments, block.arguments))
            with ir.InsertionPoint(block):
                self._block(old)
                end = old.operations[len(old.operations) - 1].operation
                values = [self.env[v] for v in end.operands]
                if end.name == "scf.condition":
                    scf.ConditionOp(values[0], values[1:])
                else:
                    scf.YieldOp(values)
        self.env.update(zip(op.results, loop.results))
        self.loops -= 1
