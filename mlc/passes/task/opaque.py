"""An opaque tile.graph as a task.kernel of one block, through upstream bufferisation and loops: anything legal can be lowered this way."""

from mlc.dialects import task
from mlc.errors import CompilerError
from mlc.ir.clone import clone
from mlc.ir.mlir import MLIRError, PassManager, func, ir
from mlc.passes.task.kernel import memref_type

_PIPELINE = (
    "builtin.module(one-shot-bufferize{bufferize-function-boundaries=1 function-boundary-type-conversion=identity-layout-map"
    " buffer-alignment=64},"
    "buffer-results-to-out-params{hoist-static-allocs modify-public-functions},canonicalize,func.func(convert-linalg-to-loops),"
    "buffer-deallocation-pipeline,canonicalize,cse)"
)


def opaque_kernel(graph: ir.Operation, name: str) -> ir.Operation:
    """Creates the kernel at the current insertion point."""
    block = graph.regions[0].blocks[0]
    end = block.operations[len(block.operations) - 1].operation
    inputs, outs = [a.type for a in block.arguments], [v.type for v in end.operands]
    op = task.KernelOp.build([], [], {"sym_name": name, "grid": [], "inputs": len(inputs)})
    body = op.operation.regions[0].blocks.append(*[memref_type(t) for t in [*inputs, *outs]])
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
    try:
        PassManager.parse(_PIPELINE).run(module.operation)
    except MLIRError as error:
        raise CompilerError(f"kernel {name} could not be bufferised: {error}") from error
    _inline_body(module, name, body)
    return op.operation


def _inline_body(module: ir.Module, name: str, body: ir.Block) -> None:
    """Moves the bufferised function's ops into the kernel's block (private helper functions, such as deallocation's, are not expected)."""
    functions = [f for f in module.body.operations if f.operation.name == "func.func"]
    entry = next(f for f in functions if f.operation.attributes["sym_name"].value == name).regions[0].blocks
    if len(entry) != 1 or len(functions) != 1:
        raise CompilerError(f"kernel {name} was bufferised to {len(functions)} functions, {len(entry)} blocks; expected one of each")
    block = entry[0]
    found, expected = [str(a.type) for a in block.arguments], [str(a.type) for a in body.arguments]
    if found != expected:
        raise CompilerError(f"kernel {name} was bufferised with arguments {found}, expected {expected}")
    env = dict(zip(block.arguments, body.arguments))
    with ir.InsertionPoint(body):
        for view in block.operations:
            if view.operation.name == "func.return":
                task.EndOp.build([], [])
            else:
                clone(view.operation, env)
