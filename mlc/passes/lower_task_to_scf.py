"""lower-task-to-scf: a task.kernel becomes a function over a range of blocks; loops become scf and vector code for one CPU thread.

`func @kernel(%buffers..., %first: index, %last: index)` runs blocks first..last-1. Buffers are flat memrefs for structured kernels and keep
their shape for opaque ones; both are bare pointers in the end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from mlc.ir.clone import clone
from mlc.ir.mlir import arith, func, ir, memref, scf
from mlc.layout.linear import row_major
from mlc.passes.registry import Pass, PassContext
from mlc.passes.task.dot import as_foreach
from mlc.passes.task.finish import Finish, foreach_behind
from mlc.passes.task.flat import Memory, flat_type, index_constant
from mlc.passes.task.loops import Loops
from mlc.passes.task.matmul import MatrixProduct
from mlc.passes.task.product import product_of
from mlc.passes.tile.model import volume

STACK = 1 << 18  # bytes of one block buffer that may lie on a thread's stack
_STRUCTURED = ("task.", "arith.")  # opaque kernels hold memref and scf


@dataclass(frozen=True)
class LowerTaskToScf(Pass):
    """Kernels to scf, vector, memref and arith for one thread of a CPU."""

    name: ClassVar[str] = "lower-task-to-scf"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        for op in list(module.body.operations):
            if op.operation.name == "task.kernel":
                with op.operation.location, ir.InsertionPoint(op.operation):
                    _Kernel(op.operation).lower()
                op.operation.erase()


class _Kernel:
    def __init__(self, kernel: ir.Operation) -> None:
        self.kernel = kernel
        self.name, self.grid = kernel.opview.py("sym_name"), kernel.opview.py("grid")
        self.body = kernel.regions[0].blocks[0]
        self.structured = all(v.operation.name.startswith(_STRUCTURED) for v in self.body.operations)
        self.memory = Memory()
        self.heap: list[ir.Value] = []
        self.done: set[ir.Operation] = set()  # foreaches that products did
        self.env: dict[ir.Value, ir.Value] = {}

    def lower(self) -> None:
        arguments = list(self.body.arguments)
        buffers = arguments[:len(arguments) - len(self.grid)]
        flat = [self.structured or not volume(b.type.shape) for b in buffers]  # empty ones have no bare pointer in other shapes
        types = [flat_type(b.type) if f else b.type for b, f in zip(buffers, flat, strict=True)]
        index = ir.IndexType.get()
        function = func.FuncOp(self.name, ([*types, index, index], []))
        # Buffers of one launch never overlap: plan-memory keeps a launch's inputs alive while its outputs are made.
        alone = ir.DictAttr.get({"llvm.noalias": ir.UnitAttr.get()})
        function.arg_attrs = [*[alone] * len(buffers), ir.DictAttr.get({}), ir.DictAttr.get({})]
        self.entry = function.add_entry_block()
        values = list(self.entry.arguments)
        for buffer, value in zip(buffers, values):
            self.env[buffer] = self.memory.flat[buffer] = value
        with ir.InsertionPoint(self.entry):
            self._shape_empty(buffers)
            if not self.grid:
                self._ops()
                self._return()
                return
            blocks = scf.ForOp(values[-2], values[-1], index_constant(1))
            self.anchor = blocks.operation
        with ir.InsertionPoint(blocks.body):
            self._blocks(blocks.induction_variable, arguments[len(buffers):])
            self._ops()
            scf.YieldOp([])
        with ir.InsertionPoint(self.entry):
            self._return()

    def _shape_empty(self, buffers: Sequence[ir.Value]) -> None:
        """Opaque code sees its empty arguments in their shape."""
        for buffer in buffers:
            shape = list(buffer.type.shape)
            if not self.structured and not volume(shape) and len(shape) != 1:
                self.env[buffer] = memref.ReinterpretCastOp(buffer.type, self.env[buffer], [], [], [], [0], shape, row_major(shape)).result

    def _blocks(self, linear: ir.Value, indices: Sequence[ir.Value]) -> None:
        """Block indices from the linear block number."""
        for v, size, stride in zip(indices, self.grid, row_major(self.grid)):
            quotient = arith.DivUIOp(linear, index_constant(stride)).result if stride > 1 else linear
            self.env[v] = arith.RemUIOp(quotient, index_constant(size)).result if len(self.grid) > 1 and v is not indices[0] else quotient

    def _scratch(self, type_: ir.Type) -> ir.Value:
        """Memory of one thread, allocated once in front of the loop over blocks."""
        place = ir.InsertionPoint(self.anchor) if self.grid else ir.InsertionPoint.at_block_begin(self.entry)
        with place:
            if volume(type_.shape) * max(1, type_.element_type.width // 8) <= STACK:
                return memref.AllocaOp(flat_type(type_), [], [], alignment=64).memref
            block = memref.AllocOp(flat_type(type_), [], [], alignment=64).memref
        self.heap.append(block)
        return block

    def _return(self) -> None:
        for block in self.heap:
            memref.DeallocOp(block)
        func.ReturnOp([])

    def _ops(self) -> None:
        for view in self.body.operations:
            op = view.operation
            with op.location:
                if op.name == "task.alloc":
                    if not any(_finished(use.owner.operation, op.results[0]) for use in op.results[0].uses):
                        self.memory.flat[op.results[0]] = self._scratch(op.results[0].type)
                elif op.name == "task.foreach":
                    if op not in self.done:
                        self._foreach(op)
                elif op.name == "task.mma":
                    self._mma(op)
                elif op.name == "task.end":
                    continue  # one thread runs a block: its program order is the barrier
                else:
                    clone(op, self.env)

    def _foreach(self, op: ir.Operation) -> None:
        if volume(op.opview.py("extents")):
            Loops(op, self.memory, self.env).emit()

    def _mma(self, op: ir.Operation) -> None:
        product = product_of(op) if op.opview.py("registers") is not None else None
        if product is None:  # no matrix unit: what the op means
            foreach = as_foreach(op)
            self._foreach(foreach)
            foreach.erase()
            return
        finish = None
        if op.opview.py("finish"):
            foreach, _ = foreach_behind(op)
            assert foreach is not None, "a product to finish has a foreach behind it"
            finish = Finish(op, foreach, self.memory, self.env)
            self.done.add(foreach)
        MatrixProduct(op, product, self.memory, self.env, self._scratch, finish).emit()


def _finished(op: ir.Operation, sums: ir.Value) -> bool:
    """Whether an op is a product of these sums that leaves none of them."""
    return op.name == "task.mma" and op.operands[2] == sums and op.opview.py("finish")
