"""Runs a graph-level function through upstream bufferisation and loops in this process: the slow, independent oracle for decompositions."""

import ctypes
from collections.abc import Callable, Sequence

import llvmlite.binding as llvm
import numpy as np

from mlc.backends.llvm import Machine, optimise
from mlc.dialects._build import Builder
from mlc.dialects._ext import verify
from mlc.dialects.graph import TensorType
from mlc.dtypes import BY_NUMPY
from mlc.ir.context import make_context
from mlc.ir.mlir import PassManager, arith, func, ir, scf, tensor
from mlc.ir.mlir import llvm as llvm_dialect
from mlc.passes.lower_graph_to_tile import LowerGraphToTile
from mlc.passes.registry import PassContext
from mlc.target import Target

PIPELINE = (
    "builtin.module(canonicalize,cse,"
    "one-shot-bufferize{bufferize-function-boundaries=1 function-boundary-type-conversion=identity-layout-map buffer-alignment=64 "
    "allow-return-allocs-from-loops=1},buffer-results-to-out-params{hoist-static-allocs modify-public-functions},canonicalize,"
    "func.func(convert-linalg-to-loops,scf-forall-to-for),fold-memref-alias-ops,canonicalize,cse,canonicalize,expand-strided-metadata,lower-affine,convert-scf-to-cf,convert-math-to-libm,"
    "convert-math-to-llvm,arith-expand,convert-arith-to-llvm,convert-index-to-llvm,finalize-memref-to-llvm,"
    "convert-func-to-llvm{use-bare-ptr-memref-call-conv=1},convert-cf-to-llvm,reconcile-unrealized-casts,canonicalize)"
)


def module_of(build: Callable[..., object], inputs: Sequence[np.ndarray]) -> tuple[ir.Module, list[TensorType]]:
    """A module whose @main is `build` on the inputs' types, and its result types. Needs a context and a location."""
    module = ir.Module.create()
    types = [TensorType(a.shape, BY_NUMPY[a.dtype]) for a in inputs]
    with ir.InsertionPoint(module.body):
        function = func.FuncOp("main", ([t.mlir() for t in types], []))
    block = function.add_entry_block()
    with ir.InsertionPoint(block):
        results = build(*block.arguments)
        results = list(results) if isinstance(results, Sequence) else [results]
        func.ReturnOp(results)
    outs = [TensorType.of(r) for r in results]
    signature = ir.FunctionType.get([t.mlir() for t in types], [o.mlir() for o in outs])
    function.operation.attributes["function_type"] = ir.TypeAttr.get(signature)
    return module, outs


def run_graph(build: Callable[..., object], *inputs: np.ndarray, target: str | None = None) -> list[np.ndarray]:
    """`build(*values)` makes graph ops from ir.Values and returns a value or list of values; gives the results on `inputs`.

    target: the machine that ops are decomposed for; the loops run here.
    """
    arrays = [np.ascontiguousarray(a).reshape(np.shape(a)) for a in inputs]
    with make_context(), ir.Location.unknown():
        module, outs = module_of(build, arrays)
        return execute(module, arrays, outs, target=target)


def execute(module: ir.Module, arrays: Sequence[np.ndarray], outs: Sequence[TensorType],
            weight: Callable[[str], np.ndarray] | None = None, target: str | None = None) -> list[np.ndarray]:
    """Runs @main, the first function of `module`, which is at the graph level; `weight` gives the value of a weight by key."""
    with module.context, ir.Location.unknown():
        broken = verify(module)
        assert not broken, broken
        LowerGraphToTile().run(module, PassContext(Target.parse(target) if target else None))
        broken = verify(module)
        assert not broken, broken
        block = module.body.operations[0].operation.regions[0].blocks[0]
        for view in list(block.operations):
            if (op := view.operation).name == "tile.weight":
                assert weight is not None
                with ir.InsertionPoint(op):
                    op.results[0].replace_all_uses_with(Builder().dense(np.ascontiguousarray(weight(op.opview.key))).value)
                op.erase()
        loops_to_scf(block)
        _inline(block)
        _own_results(block)
        PassManager.parse(PIPELINE).run(module.operation)
        text = llvm_dialect.translate_module_to_llvmir(module.operation)
    results = [np.empty(o.shape, o.dtype.numpy) for o in outs]
    host = Machine(llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten())
    engine_module, machine = optimise(text, host)
    engine = llvm.create_mcjit_compiler(engine_module, machine)
    engine.finalize_object()
    pointers = [a.ctypes.data for a in [*arrays, *results]]
    ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(pointers))(engine.get_function_address("main"))(*pointers)
    return results


def _own_results(block: ir.Block) -> None:
    """Gives every result a buffer of its own: upstream crashes on one that is an argument or another result."""
    end = list(block.operations)[-1].operation
    with ir.InsertionPoint(end):
        for i, value in enumerate(end.operands):
            segments = ir.DenseI32ArrayAttr.get([0, 1, 0])
            end.operands[i] = ir.Operation.create("bufferization.alloc_tensor", results=[value.type], operands=[value],
                                                  attributes={"operandSegmentSizes": segments}, loc=ir.Location.unknown()).results[0]


def loops_to_scf(block: ir.Block) -> None:
    """Replaces flow.loop by scf.for over slices, innermost first."""
    for view in list(block.operations):
        op = view.operation
        for region in op.regions:
            for inner in region:
                loops_to_scf(inner)
        if op.name == "flow.loop":
            with ir.InsertionPoint(op), op.location:
                results = _scf_loop(op)
            for old, new in zip(op.results, results, strict=True):
                old.replace_all_uses_with(new)
            op.erase()


def _scf_loop(op: ir.Operation) -> list[ir.Value]:
    loop, index = op.opview, ir.IndexType.get()
    trip, n = loop.trip, loop.carried
    operands, flags = list(op.operands), loop.reverse or [False] * (len(op.operands) + len(op.results) - 2 * loop.carried)
    stacks = [tensor.EmptyOp(list(r.type.shape), r.type.element_type).result for r in list(op.results)[n:]]
    zero, last, end, one = (arith.ConstantOp(index, v).result for v in (0, trip - 1, trip, 1))
    made = scf.ForOp(zero, end, one, [*operands[:n], *stacks])
    body = op.regions[0].blocks[0]
    *ops, end_op = [o.operation for o in body.operations]
    with ir.InsertionPoint(made.body):
        i = made.induction_variable
        at = [arith.SubIOp(last, i).result if flag else i for flag in flags]
        dynamic = ir.ShapedType.get_dynamic_size()
        count = arith.IndexCastOp(ir.IntegerType.get_signless(64), i).result
        arguments = [tensor.FromElementsOp(ir.RankedTensorType.get([], count.type), [count]).result, *list(made.inner_iter_args)[:n]]
        for whole, place in zip(operands[n:], at):
            shape = list(whole.type.shape)
            part = ir.RankedTensorType.get(shape[1:], whole.type.element_type)
            arguments.append(tensor.ExtractSliceOp(part, whole, [place], [], [], [dynamic, *[0] * (len(shape) - 1)], [1, *shape[1:]],
                                                   [1] * len(shape)).result)
        for old, new in zip(body.arguments, arguments, strict=True):
            old.replace_all_uses_with(new)
        values = list(end_op.operands)
        results = values[:n]
        closing = scf.YieldOp(values)
        for o in ops:
            o.move_before(closing.operation)
    with ir.InsertionPoint(closing):
        for value, whole, place in zip(values[n:], list(made.inner_iter_args)[n:], at[len(operands) - n:]):
            shape = list(whole.type.shape)
            results.append(tensor.InsertSliceOp(value, whole, [place], [], [], [dynamic, *[0] * (len(shape) - 1)], [1, *shape[1:]],
                                                [1] * len(shape)).result)
        scf.YieldOp(results)
    closing.operation.erase()
    return list(made.results)


def _inline(block: ir.Block) -> None:
    """Replaces tile.graph and tile.view by their contents."""
    for view in list(block.operations):
        op = view.operation
        for region in op.regions:
            for inner in region:
                if op.name != "tile.graph" and not op.name.startswith("linalg."):
                    _inline(inner)
        if op.name == "tile.graph":
            body = op.regions[0].blocks[0]
            for argument, value in zip(body.arguments, op.operands):
                argument.replace_all_uses_with(value)
            *ops, end = [o.operation for o in body.operations]
            for o in ops:
                o.move_before(op)
            for result, value in zip(op.results, list(end.operands)):
                result.replace_all_uses_with(value)
            end.erase()
            op.erase()
        elif op.name == "tile.view":
            source, target = op.operands[0].type, op.results[0].type
            with ir.InsertionPoint(op), op.location:
                shape = ir.RankedTensorType.get([len(target.shape)], ir.IndexType.get())
                dims = arith.ConstantOp(shape, ir.DenseElementsAttr.get(np.array(target.shape, np.int64), type=shape)).result
                op.results[0].replace_all_uses_with(tensor.ReshapeOp(target, op.operands[0], dims).result)
                del source
            op.erase()
