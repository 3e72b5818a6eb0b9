"""gpu.module to LLVM IR text for NVPTX, one module per kernel, through upstream conversions."""

import re

from mlc.backends.cuda.functions import FUNCTIONS
from mlc.backends.gpu_approximate import NVIDIA, approximate_ops
from mlc.backends.gpu_backend import Kernel
from mlc.backends.gpu_intrinsics import math_to_intrinsics
from mlc.backends.gpu_lower import convert, gpu_module, index_bits, launch_facts, single_kernels
from mlc.backends.gpu_plan import tensor_maps
from mlc.dialects._ext import operations
from mlc.errors import CompilerError
from mlc.ir.mlir import ir, llvm
from mlc.passes.gpu.hopper.tma import MAP_BYTES
from mlc.target import Target

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
    alignment = 1024 if target.has("tma") else 128  # of dynamic shared memory: TMA's swizzles repeat every 1024 bytes
    return [_kernel(function, alone, alignment) for function, alone in single_kernels(module)]


def _kernel(function: ir.Operation, alone: ir.Module, shared_alignment: int) -> Kernel:
    facts = launch_facts(function)
    name = facts["name"]
    # nvgpu's conversion knows 64-bit indices only; the pass that makes such ops computes addresses in 32 bits itself.
    bits = 64 if any(op.name.startswith("nvgpu.") for op in operations(function)) else index_bits(function)
    alone.operation.attributes["llvm.data_layout"] = ir.StringAttr.get(DATA_LAYOUT)
    approximate_ops(alone.operation, NVIDIA)
    math_to_intrinsics(alone.operation, name)
    convert(alone, _TO_LLVM.format(bits=bits), name)
    _finish(alone, shared_alignment)
    _check_lowered(alone, name)
    text = llvm.translate_module_to_llvmir(alone.operation)
    return Kernel(text=_linked(text, name), maps=tensor_maps(function), **facts)


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
    for op in operations(module.operation):
        if op.name == "nvvm.mma.sync" and "intOverflowBehavior" in op.attributes:  # integers wrap, as everywhere; upstream saturates
            op.attributes["intOverflowBehavior"] = ir.Attribute.parse("#nvvm.mma_int_overflow<wrapped>")


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


__all__ = ["lower_kernels"]
