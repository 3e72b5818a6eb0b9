"""An opaque tile.graph as a task.kernel, through upstream bufferisation and loops: anything legal can be lowered this way.

A graph that is one scf.forall over independent parts has a grid of them; any other is one block. Memory that the code allocates becomes
buffers of the kernel behind its results (one for every block), which the plan provides: kernels allocate nothing.
"""

from collections.abc import Sequence

from mlc.dialects import task
from mlc.dialects._ext import operations
from mlc.errors import CompilerError
from mlc.ir.clone import clone
from mlc.ir.mlir import MLIRError, PassManager, func, ir, memref, scf
from mlc.passes.task.flat import index_constant
from mlc.passes.task.kernel import memref_type

_BUFFERISE = (
    "builtin.module(one-shot-bufferize{bufferize-function-boundaries=1 function-boundary-type-conversion=identity-layout-map"
    " buffer-alignment=64},"
    "buffer-results-to-out-params{hoist-static-allocs modify-public-functions},canonicalize,func.func(convert-linalg-to-loops),"
    "fold-memref-alias-ops,lower-affine,canonicalize,cse,canonicalize)"
)
_ONE_BLOCK = "builtin.module(func.func(scf-forall-to-for),canonicalize)"


def opaque_kernel(graph: ir.Operation, name: str) -> ir.Operation:
    """Creates the kernel at the current insertion point."""
    block = graph.regions[0].blocks[0]
    end = block.operations[len(block.operations) - 1].operation
    inputs, outs = [a.type for a in block.arguments], [v.type for v in end.operands]
    module = ir.Module.create()
    with ir.InsertionPoint(module.body):
        function = func.FuncOp(name, (inputs, outs))
        function.arg_attrs = [ir.DictAttr.get({"bufferization.writable": ir.BoolAttr.get(False)})] * len(inputs)
    entry = function.add_entry_block()
    env = dict(zip(block.arguments, entry.arguments))
    with ir.InsertionPoint(entry):
        for view in list(block.operations):
            if view.operation == end:
                func.ReturnOp([env[v] for v in end.operands])
                break
            clone(view.operation, env)
    _run(module, _BUFFERISE, name)
    for op in operations(module.operation):
        if op.name == "memref.copy":
            with op.location, ir.InsertionPoint(op):
                _copy(*op.operands)
            op.erase()
    loop = _parts(_entry(module, name))
    if loop is None:
        _run(module, _ONE_BLOCK, name)
    grid = [] if loop is None else list(loop.attributes["staticUpperBound"])
    return _kernel(module, loop, grid, [memref_type(t) for t in inputs], [memref_type(t) for t in outs], name)


def _run(module: ir.Module, pipeline: str, name: str) -> None:
    try:
        PassManager.parse(pipeline).run(module.operation)
    except MLIRError as error:
        raise CompilerError(f"kernel {name} could not be bufferised: {error}") from error


def _entry(module: ir.Module, name: str) -> ir.Block:
    """The block of the bufferised function (private helper functions are not expected)."""
    functions = [f for f in module.body.operations if f.operation.name == "func.func"]
    blocks = next(f for f in functions if f.operation.attributes["sym_name"].value == name).regions[0].blocks
    if len(blocks) != 1 or len(functions) != 1:
        raise CompilerError(f"kernel {name} was bufferised to {len(functions)} functions, {len(blocks)} blocks; expected one of each")
    return blocks[0]


def _parts(block: ir.Block) -> ir.Operation | None:
    """The loop over independent parts, if it is all that the function does: only constants stand beside it."""
    ops = [v.operation for v in block.operations][:-1]
    loops = [op for op in ops if op.name == "scf.forall"]
    return loops[0] if len(loops) == 1 and all(op.name == "arith.constant" for op in ops if op != loops[0]) else None


def _kernel(module: ir.Module, loop: ir.Operation | None, grid: Sequence[int], inputs: Sequence[ir.Type], outs: Sequence[ir.Type],
            name: str) -> ir.Operation:
    """Moves the bufferised function's ops into a task.kernel; memory that they allocate becomes arguments."""
    block = _entry(module, name)
    found, expected = [str(a.type) for a in block.arguments], [str(t) for t in [*inputs, *outs]]
    if found != expected:
        raise CompilerError(f"kernel {name} was bufferised with arguments {found}, expected {expected}")
    places: list[ir.Value] = [] if loop is None else list(loop.regions[0].blocks[0].arguments)
    scratch = [op for op in operations(module.operation) if op.name == "memref.alloc"]
    if not all(_is_plain(op) for op in scratch):
        raise CompilerError(f"kernel {name} allocates memory that is not one buffer as long as it runs:\n{module}")
    types = [ir.MemRefType.get([*grid, *op.results[0].type.shape], op.results[0].type.element_type) for op in scratch]
    added = [block.add_argument(t, op.location) for t, op in zip(types, scratch)]
    for op, buffer in zip(scratch, added):
        _move(op.results[0], buffer, places)
        op.erase()
    op = task.KernelOp.build([], [], {"sym_name": name, "grid": list(grid), "inputs": len(inputs)})
    body = op.operation.regions[0].blocks.append(*inputs, *outs, *types, *[ir.IndexType.get()] * len(grid))
    env = dict(zip([*block.arguments, *places], body.arguments))
    with ir.InsertionPoint(body):
        for view in block.operations:
            part = loop is not None and view.operation == loop
            for each in [v.operation for v in view.operation.regions[0].blocks[0].operations][:-1] if part else [view.operation]:
                if each.name != "func.return":
                    clone(each, env)
        task.EndOp.build([], [])
    return op.operation


def _copy(source: ir.Value, target: ir.Value, points: Sequence[ir.Value] = ()) -> None:
    """Loops that copy a whole memref, at the insertion point."""
    if len(points) == len(source.type.shape):
        memref.StoreOp(memref.LoadOp(source, points).result, target, points)
        return
    loop = scf.ForOp(index_constant(0), index_constant(source.type.shape[len(points)]), index_constant(1))
    with ir.InsertionPoint(loop.body):
        _copy(source, target, [*points, loop.induction_variable])
        scf.YieldOp([])


def _is_plain(alloc: ir.Operation) -> bool:
    """Whether an allocation can be one place for as long as the block runs: of known size, and only its elements are used."""
    return not len(alloc.operands) and all(u.owner.operation.name in ("memref.load", "memref.store") for u in alloc.results[0].uses)


def _move(old: ir.Value, new: ir.Value, places: Sequence[ir.Value]) -> None:
    """Loads and stores of `old` use the block's part of `new`."""
    for op in [use.owner.operation for use in old.uses]:
        with op.location, ir.InsertionPoint(op):
            if op.name == "memref.load":
                op.results[0].replace_all_uses_with(memref.LoadOp(new, [*places, *list(op.operands)[1:]]).result)
            else:
                memref.StoreOp(op.operands[0], new, [*places, *list(op.operands)[2:]])
        op.erase()

