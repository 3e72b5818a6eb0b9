"""What vendors share in lowering a gpu.module to LLVM: each kernel in a module of its own, with indices as narrow as its buffers allow."""

from typing import Any

from mlc.dialects._ext import operations, to_py
from mlc.errors import CompilerError
from mlc.ir.mlir import MLIRError, PassManager, ir
from mlc.passes.tile.model import volume

# Indices are computed in 32 bits where every buffer has fewer elements than this; half the range is left for places beyond a buffer's
# end that are computed but not accessed.
SMALL_BUFFER = 1 << 30


def gpu_module(module: ir.Module) -> ir.Operation:
    """The gpu.module that lower-task-to-gpu leaves."""
    found = [op.operation for op in module.body.operations if op.operation.name == "gpu.module"]
    if len(found) != 1:
        raise CompilerError(f"the module has {len(found)} gpu.module ops, expected one")
    return found[0]


def single_kernels(module: ir.Module) -> list[tuple[ir.Operation, ir.Module]]:
    """Each kernel of `gpu.module @kernels`, in order, and a copy of it in a gpu.module of its own, with the globals that it names."""
    body = gpu_module(module).regions[0].blocks[0]
    symbols = {op.operation.attributes["sym_name"].value: op.operation for op in body.operations if "sym_name" in op.operation.attributes}
    return [(op.operation, _alone(op.operation, symbols)) for op in body.operations if op.operation.name == "gpu.func"]


def _alone(function: ir.Operation, symbols: dict[str, ir.Operation]) -> ir.Module:
    with function.location:
        module = ir.Module.create()
        module.operation.attributes["gpu.container_module"] = ir.UnitAttr.get()
        with ir.InsertionPoint(module.body):
            parent = ir.Operation.create("gpu.module", regions=1, attributes={"sym_name": ir.StringAttr.get("kernels")})
        body = parent.regions[0].blocks.append()
        named = dict.fromkeys(a.value for op in operations(function) for a in op.attributes.values() if isinstance(a, ir.FlatSymbolRefAttr))
        for op in [*(symbols[n] for n in named if n in symbols), function]:
            op.clone(ip=ir.InsertionPoint(body))
    return module


def launch_facts(function: ir.Operation) -> dict[str, Any]:
    """A kernel's `name`, `grid`, `threads`, `shared` and `cluster`: fields of `gpu_backend.Kernel`."""
    grid = to_py(function.attributes["task.grid"])
    return {"name": function.attributes["sym_name"].value, "grid": grid if isinstance(grid, list) else [grid],
            "threads": volume(to_py(function.attributes["known_block_size"])), "shared": to_py(function.attributes["task.shared"]),
            "cluster": volume(to_py(function.attributes["known_cluster_size"])) if "known_cluster_size" in function.attributes else 1}


def index_bits(function: ir.Operation) -> int:
    """32 if such indices reach every element of every buffer, else 64. A size that is not static may be anything, but for block memory."""
    types = [v.type for v in function.regions[0].blocks[0].arguments] + [r.type for op in operations(function) for r in op.results]
    return 32 if all(_elements(t) < SMALL_BUFFER for t in types if isinstance(t, ir.MemRefType)) else 64


def _elements(type_: ir.MemRefType) -> int:
    if type_.has_static_shape:
        return volume(type_.shape)
    return 0 if "workgroup" in str(type_.memory_space) else SMALL_BUFFER


def convert(module: ir.Module, pipeline: str, kernel: str) -> None:
    """Runs upstream's passes on a kernel's module; CompilerError names the kernel."""
    try:
        PassManager.parse(pipeline).run(module.operation)
    except MLIRError as error:
        raise CompilerError(f"kernel '{kernel}' to LLVM: {error}") from error


__all__ = ["SMALL_BUFFER", "convert", "gpu_module", "index_bits", "launch_facts", "single_kernels"]
