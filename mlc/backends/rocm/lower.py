"""gpu.module to LLVM IR text for AMD GPUs, one module per kernel, through upstream conversions."""

import json
import re
from dataclasses import dataclass

from mlc.backends.gpu_approximate import AMD, approximate_ops
from mlc.backends.gpu_backend import Kernel
from mlc.backends.gpu_intrinsics import math_to_intrinsics
from mlc.backends.gpu_lower import convert, gpu_module, index_bits, launch_facts, single_kernels
from mlc.backends.rocm.barriers import relax_barriers
from mlc.backends.rocm.buffers import Buffer, buffers_of
from mlc.backends.rocm.shuffles import lower_shuffles
from mlc.dialects._ext import operations
from mlc.errors import CompilerError
from mlc.ir.mlir import ir, llvm
from mlc.target import Target

CODE_OBJECT_VERSION = 500  # what ROCm 6 makes itself; its first releases refuse 6
_SHARED_ALIGN = 128  # of a kernel's block memory, in bytes
_GENERIC, _GLOBAL, _PRIVATE = "!llvm.ptr", "!llvm.ptr<1>", "!llvm.ptr<5>"
_TO_LLVM = (
    "builtin.module(canonicalize,cse,gpu.module(convert-vector-to-scf,canonicalize,cse,loop-invariant-code-motion,expand-strided-metadata,"
    "lower-affine,convert-scf-to-cf,arith-expand,"
    "convert-gpu-to-rocdl{{chipset={arch} runtime=HIP use-bare-ptr-memref-call-conv=1 index-bitwidth={bits}}},"
    "convert-vector-to-llvm,convert-math-to-llvm,convert-ub-to-llvm,canonicalize,cse,reconcile-unrealized-casts))"
)


@dataclass(frozen=True)
class RocmKernel(Kernel):
    """buffers: its arguments, in order."""

    buffers: tuple[Buffer, ...] = ()


def lower_kernels(module: ir.Module, target: Target) -> list[RocmKernel]:
    """The kernels of `gpu.module @kernels`, in order. Their block memory is part of their code: `shared` says how much, none is dynamic.

    Raises CompilerError where a conversion fails, or a kernel calls a function that nothing defines.
    """
    return [_kernel(function, alone, target) for function, alone in single_kernels(module)]


def _kernel(function: ir.Operation, alone: ir.Module, target: Target) -> RocmKernel:
    facts = launch_facts(function)
    name = facts["name"]
    with function.location:
        approximate_ops(alone.operation, AMD)
        math_to_intrinsics(alone.operation, name)
        body = next(op for op in operations(alone.operation) if op.name == "gpu.func")
        lower_shuffles(body, target)
        buffers = buffers_of(body)
        ordered = relax_barriers(body, buffers)
        convert(alone, _TO_LLVM.format(arch=target.arch, bits=index_bits(function)), name)
        _finish(alone, facts["shared"], _features(target, ordered))
    _check_lowered(alone, name)
    text = llvm.translate_module_to_llvmir(alone.operation)
    return RocmKernel(text=_portable(text), buffers=buffers, **facts)


def _features(target: Target, ordered: bool) -> list[str]:
    """LLVM features of one kernel, all of them: a function's own take the place of its target machine's. ordered: some barrier orders
    global memory.

    No access is wider than its alignment: the code is right in both of the memory's alignment modes. On RDNA no register is split into
    halves (true16), which costs moves between them, and registers. As with ECC in registers, a 16-bit load is not to keep the other half
    of its register: it would wait for whoever loads that half. And a block that orders global memory runs on one compute unit instead of
    a pair of them: its barriers then have no cache to empty.
    """
    every = [f"+wavefrontsize{target.warp}", "-unaligned-access-mode"]
    if target.arch.startswith("gfx9"):
        return every
    return [*every, "-real-true16", "+sramecc-support", *(["+cumode"] if ordered else [])]


def _finish(module: ir.Module, shared: int, features: list[str]) -> None:
    """The kernel's ops move from gpu.module to the top, and every pointer gets its address space."""
    parent = gpu_module(module)
    # Alignments in the text follow from it; without it i64 would count as aligned to 4 bytes.
    module.operation.attributes["llvm.data_layout"] = parent.attributes["llvm.data_layout"]
    for view in list(parent.regions[0].blocks[0].operations):
        op = view.operation
        if op.name == "llvm.mlir.global" and op.attributes["sym_name"].value.startswith("__dynamic_shmem__"):
            # Of its true size, the code object states what a launch needs; dynamic, the launch would have to know.
            op.attributes["global_type"] = ir.TypeAttr.get(ir.Type.parse(f"!llvm.array<{shared} x i8>"))
            op.attributes["alignment"] = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), _SHARED_ALIGN)
        elif op.name == "llvm.func" and op.regions[0].blocks:
            _global_arguments(op)
            _private_stack(op)
            op.attributes["target_features"] = ir.Attribute.parse(f"#llvm.target_features<{json.dumps(features)}>")
        op.move_before(parent)
    parent.erase()
    for op in [op for op in operations(module.operation) if _is_fmod(op)]:
        with op.location, ir.InsertionPoint(op):  # LLVM's own is exact, and needs no library
            new = ir.Operation.create("llvm.frem", results=[op.results[0].type], operands=list(op.operands))
        op.results[0].replace_all_uses_with(new.results[0])
        op.erase()
    for op in [op for op in operations(module.operation) if _is_declaration(op) and op.attributes["sym_name"].value.startswith(_FMOD)]:
        op.erase()


_FMOD = "__ocml_fmod_"


def _is_fmod(op: ir.Operation) -> bool:
    return op.name == "llvm.call" and "callee" in op.attributes and op.attributes["callee"].value.startswith(_FMOD)


def _is_declaration(op: ir.Operation) -> bool:
    return op.name == "llvm.func" and not op.regions[0].blocks


def _global_arguments(function: ir.Operation) -> None:
    """Buffers are in global memory: said of the arguments, LLVM carries it to every access."""
    entry = function.regions[0].blocks[0]
    with ir.InsertionPoint.at_block_begin(entry):
        for argument in entry.arguments:
            if str(argument.type) == _GENERIC:
                argument.set_type(ir.Type.parse(_GLOBAL))
                cast = ir.Operation.create("llvm.addrspacecast", results=[ir.Type.parse(_GENERIC)], operands=[argument])
                argument.replace_all_uses_except(cast.results[0], cast)
    signature = ", ".join(str(a.type) for a in entry.arguments)
    function.attributes["function_type"] = ir.TypeAttr.get(ir.Type.parse(f"!llvm.func<void ({signature})>"))


def _private_stack(function: ir.Operation) -> None:
    """Stack memory is private memory, and is taken at the entry: elsewhere it would be a stack that grows at run time."""
    entry = function.regions[0].blocks[0]
    for op in [op for op in operations(function) if op.name == "llvm.alloca"]:
        size = op.operands[0].owner
        with op.location, ir.InsertionPoint.at_block_begin(entry) if size.name == "llvm.mlir.constant" else ir.InsertionPoint(op):
            count = size.clone().results[0] if size.name == "llvm.mlir.constant" else op.operands[0]
            new = ir.Operation.create("llvm.alloca", results=[ir.Type.parse(_PRIVATE)], operands=[count],
                                      attributes={name: op.attributes[name] for name in op.attributes}).results[0]
            if str(op.results[0].type) == _GENERIC:
                new = ir.Operation.create("llvm.addrspacecast", results=[ir.Type.parse(_GENERIC)], operands=[new]).results[0]
        op.results[0].replace_all_uses_with(new)
        op.erase()


def _check_lowered(module: ir.Module, name: str) -> None:
    for op in operations(module.operation):
        if not op.name.startswith(("llvm.", "rocdl.")):  # the translation would crash
            raise CompilerError(f"kernel '{name}' to LLVM: nothing lowers '{op.name}': {op}")
        if _is_declaration(op):
            raise CompilerError(f"kernel '{name}' calls {op.attributes['sym_name'].value}, which nothing defines",
                                hint="no device library is linked; if it is a function of mathematics, expand-math does not know its type")


def _portable(text: str) -> str:
    """What the reader's LLVM spells otherwise, and the version of the code object."""
    text = re.sub(r'"uniform-work-group-size"(?!=)', '"uniform-work-group-size"="true"', text)
    number = max((int(n) for n in re.findall(r"^!(\d+) = ", text, re.MULTILINE)), default=-1) + 1
    flags = re.search(r"^!llvm\.module\.flags = !\{.*(?=\}$)", text, re.MULTILINE)
    if flags is None:
        raise CompilerError("LLVM IR without module flags")
    version = f'!{number} = !{{i32 1, !"amdhsa_code_object_version", i32 {CODE_OBJECT_VERSION}}}\n'
    return f"{text[:flags.end()]}, !{number}{text[flags.end():]}{version}"


__all__ = ["CODE_OBJECT_VERSION", "RocmKernel", "lower_kernels"]
