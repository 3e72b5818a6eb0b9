"""scf and vector functions to LLVM IR text, through upstream conversions."""

from mlc.backends.cpu.entry import BARRIER, EntryBuilder
from mlc.errors import CompilerError
from mlc.ir.mlir import MLIRError, PassManager, ir
from mlc.ir.mlir import llvm as llvm_dialect

_KERNELS = (
    "builtin.module(canonicalize,cse,func.func(convert-vector-to-scf),canonicalize,cse,expand-strided-metadata,lower-affine,"
    "convert-scf-to-cf,convert-math-to-llvm,convert-math-to-libm,convert-vector-to-llvm{reassociate-fp-reductions=1},arith-expand,"
    "convert-arith-to-llvm,convert-index-to-llvm,finalize-memref-to-llvm,convert-func-to-llvm{use-bare-ptr-memref-call-conv=1},"
    "convert-cf-to-llvm,convert-ub-to-llvm,reconcile-unrealized-casts,canonicalize,cse)"
)
_ENTRY = (
    "builtin.module(canonicalize,cse,convert-scf-to-cf,convert-arith-to-llvm,convert-index-to-llvm,convert-func-to-llvm,"
    "convert-cf-to-llvm,reconcile-unrealized-casts)"
)


def run_upstream(module: ir.Module, pipeline: str, what: str) -> None:
    """Runs C++ passes; a failure is a bug of ours, with MLIR's message."""
    try:
        PassManager.parse(pipeline).run(module.operation)
    except MLIRError as error:
        raise CompilerError(f"{what}: {error}") from error


def split(module: ir.Module) -> tuple[ir.Operation, dict[str, list[int]]]:
    """Takes the plan (@main, task level) out of the module and reads the grids of its kernels, before kernels are lowered."""
    grids: dict[str, list[int]] = {}
    main = None
    for op in module.body.operations:
        if op.operation.name == "task.kernel":
            grids[op.py("sym_name")] = op.py("grid")
        elif op.operation.attributes["sym_name"].value == "main":
            main = op.operation
    if main is None:
        raise CompilerError("module has no @main")
    return main.detach_from_parent(), grids


def to_llvm_ir(module: ir.Module, main: ir.Operation, builder: EntryBuilder) -> str:
    """Kernels (scf level) and the plan to one LLVM IR module."""
    run_upstream(module, _KERNELS, "kernels to LLVM")
    with main.location:
        builder.build(module, main)
    run_upstream(module, _ENTRY, "plan to LLVM")
    text = llvm_dialect.translate_module_to_llvmir(module.operation)
    return text.replace("declare void @mlc_barrier(ptr, i64)", "") + BARRIER
