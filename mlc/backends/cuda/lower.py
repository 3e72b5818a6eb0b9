"""gpu.module to LLVM IR text for NVPTX, one module per kernel, through upstream conversions."""

import re
from collections.abc import Iterable

from mlc.backends.cuda.functions import FUNCTIONS
from mlc.backends.cuda.intrinsics import math_to_intrinsics
from mlc.backends.gpu_backend import Kernel
from mlc.backends.gpu_plan import tensor_maps
from mlc.dialects._ext import operations, to_py
from mlc.errors import CompilerError
from mlc.ir.mlir import MLIRError, PassManager, ir, llvm
from mlc.passes.gpu.hopper.tma import MAP_BYTES
from mlc.passes.tile.model import volume
from mlc.target import Target

# Indices are computed in 32 bits where every buffer is smaller than this; half the range is left for places beyond a buffer's end that
# are computed but not accessed.
SMALL_BUFFER = 1 << 30
# Of nvptx64 (its natural alignments; without it i64 would count as aligned to 4 bytes, and be loaded in halves).
DATA_LAYOUT = "e-p6:32:32-i64:64-i128:128-i256:256-v16:16-v32:32-n16:32:64"
_TO_LLVM = (
    "builtin.module(canonicalize,cse,gpu.module(convert-nvgpu-to-nvvm,convert-vector-to-scf,canonicalize,cse,loop-invariant-code-motion,expand-strided-metadata,"
    "lower-affine,convert-scf-to-cf,arith-expand,convert-math-to-llvm,"
    "convert-gpu-to-nvvm{{use-bare-ptr-memref-call-conv=1 index-bitwidth={bits}}},"
    "convert-vector-to-llvm,convert-nvvm-to-llvm,convert-ub-to-llvm,canonicalize,cse,reconcile-unrealized-casts))"
)
_DECLARED = re.compile(r"^declare [^@]*@\"?([\w.$]+).*\n", re.MULTILINE)


def lower_kernels(module: ir.Module, target: Target) -> list[Kernel]:
    """The kernels of `gpu.module @kernels`, in order. Their block memory is dynamic: a launch has to ask for `shared` bytes.

    Raises CompilerError where a conversion fails or a kernel needs a function that no instruction computes.
    """
    body = gpu_module(module).regions[0].blocks[0]
    symbols = {op.operation.attributes["sym_name"].value: op.operation for op in body.operations if "sym_name" in op.operation.attributes}
    alignment = 1024 if target.has("tma") else 128  # of dynamic shared memory: TMA's swizzles repeat every 1024 bytes
    return [_kernel(op.operation, symbols, alignment) for op in body.operations if op.operation.name == "gpu.func"]


def gpu_module(module: ir.Module) -> ir.Operation:
    """The gpu.module that lower-task-to-gpu leaves."""
    found = [op.operation for op in module.body.operations if op.operation.name == "gpu.module"]
    if len(found) != 1:
        raise CompilerError(f"the module has {len(found)} gpu.module ops, expected one")
    return found[0]


def _kernel(function: ir.Operation, symbols: dict[str, ir.Operation], shared_alignment: int) -> Kernel:
    name = function.attributes["sym_name"].value
    threads = volume(to_py(function.attributes["known_block_size"]))
    grid, shared = to_py(function.attributes["task.grid"]), to_py(function.attributes["task.shared"])
    with function.location:
        alone = _alone(function, symbols)
    math_to_intrinsics(alone.operation, name)
    _convert(alone, name, 32 if _is_small(function) else 64)
    _finish(alone, shared_alignment)
    _check_lowered(alone, name)
    text = llvm.translate_module_to_llvmir(alone.operation)
    return Kernel(name, _linked(text, name), grid if isinstance(grid, list) else [grid], threads, shared, tensor_maps(function))


def _alone(function: ir.Operation, symbols: dict[str, ir.Operation]) -> ir.Module:
    """A module that holds a kernel in a gpu.module of its own, with the globals it names."""
    module = ir.Module.create()
    module.operation.attributes["gpu.container_module"] = ir.UnitAttr.get()
    module.operation.attributes["llvm.data_layout"] = ir.StringAttr.get(DATA_LAYOUT)
    with ir.InsertionPoint(module.body):
        parent = ir.Operation.create("gpu.module", regions=1, attributes={"sym_name": ir.StringAttr.get("kernels")})
    body = parent.regions[0].blocks.append()
    for op in [*(symbols[n] for n in _named(function) if n in symbols), function]:
        op.clone(ip=ir.InsertionPoint(body))
    return module


def _named(function: ir.Operation) -> Iterable[str]:
    """Symbols that the ops of a function refer to, each once."""
    refs = (a for op in operations(function) for a in op.attributes.values() if isinstance(a, ir.FlatSymbolRefAttr))
    return dict.fromkeys(a.value for a in refs)


def _is_small(function: ir.Operation) -> bool:
    """Whether 32-bit indices reach every element of every buffer; a size that is not static may be anything, but for shared memory.

    nvgpu's conversion knows 64-bit indices only; the pass that makes such ops computes addresses in 32 bits itself.
    """
    if any(op.name.startswith("nvgpu.") for op in operations(function)):
        return False
    types = [v.type for v in function.regions[0].blocks[0].arguments] + [r.type for op in operations(function) for r in op.results]
    return all(_elements(t) < SMALL_BUFFER for t in types if isinstance(t, ir.MemRefType))


def _elements(type_: ir.MemRefType) -> int:
    if type_.has_static_shape:
        return volume(type_.shape)
    return 0 if "workgroup" in str(type_.memory_space) else SMALL_BUFFER


def _convert(module: ir.Module, name: str, bits: int) -> None:
    try:
        PassManager.parse(_TO_LLVM.format(bits=bits)).run(module.operation)
    except MLIRError as error:
        raise CompilerError(f"kernel '{name}' to LLVM: {error}") from error


def _finish(module: ir.Module, shared_alignment: int) -> None:
    """The kernel's ops move from gpu.module to the top; what upstream spells otherwise than ptxas or the runtime wants is put right."""
    parent = gpu_module(module)
    i64 = ir.IntegerType.get_signless(64)
    for view in list(parent.regions[0].blocks[0].operations):
        op = view.operation
        if op.name == "llvm.mlir.global" and op.attributes["sym_name"].value.startswith("__dynamic_shmem__"):
            # As upstream makes it, internal and of size 0, it would be a static variable.
            op.attributes["linkage"] = ir.Attribute.parse("#llvm.linkage<external>")
            op.attributes["alignment"] = ir.IntegerAttr.get(i64, shared_alignment)
        elif "nvvm.maxntid" in op.attributes:
            op.attributes["nvvm.reqntid"] = op.attributes["nvvm.maxntid"]  # there is no other block size
            del op.attributes["nvvm.maxntid"]
            _pass_maps_by_value(op)
        op.move_before(parent)
    parent.erase()


def _pass_maps_by_value(function: ir.Operation) -> None:
    """Tensor maps are constants in the kernel's parameter memory, which no gpu.func can say."""
    maps = {m["argument"] for m in tensor_maps(function)}
    by_value = {"llvm.byval": ir.TypeAttr.get(ir.Type.parse(f"!llvm.array<{MAP_BYTES} x i8>")), "nvvm.grid_constant": ir.UnitAttr.get(),
                "llvm.align": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), 64)}
    if maps:
        arguments = range(len(function.regions[0].blocks[0].arguments))
        function.attributes["arg_attrs"] = ir.ArrayAttr.get([ir.DictAttr.get(by_value if i in maps else {}) for i in arguments])


def _check_lowered(module: ir.Module, name: str) -> None:
    """The translation crashes on an op that it does not know."""
    left = [op for op in operations(module.operation) if not op.name.startswith(("llvm.", "nvvm."))]
    if left:
        op = next((op for op in left if not op.name.startswith("builtin.")), left[0])  # casts stand around what was not lowered
        raise CompilerError(f"kernel '{name}' to LLVM: nothing lowers '{op.name}': {op}")


def _linked(text: str, name: str) -> str:
    """The text with the functions of ours that it calls. CompilerError for another that nothing defines."""
    called = [f for f in _DECLARED.findall(text) if not f.startswith("llvm.")]
    missing = next((f for f in called if f not in FUNCTIONS), None)
    if missing is not None:
        raise CompilerError(f"kernel '{name}' calls {missing}, which nothing defines", hint="no device library is linked")
    for function in called:
        text = _DECLARED.sub(lambda match: "" if match[1] == function else match[0], text) + FUNCTIONS[function]  # noqa: B023
    return text


__all__ = ["Kernel", "gpu_module", "lower_kernels"]
