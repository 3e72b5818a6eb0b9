"""LLVM IR text of kernels to PTX and cubins, several at a time; equal kernels once, and equal input gives equal bytes."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

from mlc.backends import llvm
from mlc.backends.base import Done
from mlc.backends.codegen_pool import CodegenPool
from mlc.backends.cuda.ptxas import Cubin, assemble, find_ptxas, try_out
from mlc.backends.gpu_backend import Kernel
from mlc.target import Target

_TRIPLE = "nvptx64-nvidia-cuda"
_WORTH_A_PROCESS = 200_000  # characters of IR that take longer to compile than a process takes to start


def machine(target: Target, opt_level: int) -> llvm.Machine:
    """The LLVM target machine of a CUDA target."""
    return llvm.Machine(_TRIPLE, target.arch, f"+ptx{_ptx_version(target).replace('.', '')}", opt_level)


def _ptx_version(target: Target) -> str:
    """An old one, for ptxas of CUDA 12.3 (Blackwell: 12.9) and later."""
    return "8.3" if int(target.arch.removeprefix("sm_").rstrip("a")) <= 90 else "8.8"


def check(target: Target) -> None:
    """Assembles an empty kernel. Raises TargetError if there is no ptxas, or none that works and knows the target."""
    empty = f".version {_ptx_version(target)}\n.target {target.arch}\n.address_size 64\n.visible .entry empty() {{ ret; }}\n"
    try_out(empty, target.arch, find_ptxas())


def assembly(kernels: Sequence[Kernel], target: Target, opt_level: int) -> str:
    """PTX of every kernel, one after the other. Raises CompilerError."""
    target_machine = machine(target, opt_level)
    return "\n".join(llvm.assembly(k.text, target_machine) for k in kernels)


def cubins(kernels: Sequence[Kernel], target: Target, opt_level: int, done: Done, *, jobs: int | None = None) -> list[tuple[str, Cubin]]:
    """Entry point and machine code of each kernel, in order; equal kernels share both. done: called as kernels get ready.

    jobs: how many at a time; by default the cores this process may use.
    Raises TargetError if there is no ptxas for the target, CompilerError if LLVM or ptxas refuses a kernel.
    """
    ptxas, target_machine = find_ptxas(), machine(target, opt_level)
    first: dict[str, Kernel] = {}
    for kernel in kernels:
        first.setdefault(_anonymous(kernel), kernel)
    unique = sorted(first.values(), key=lambda k: -len(k.text))  # the longest first, so that none is left for the end
    jobs = min(jobs or len(os.sched_getaffinity(0)), max(1, len(unique)))
    processes = min(jobs, sum(len(k.text) for k in unique) // _WORTH_A_PROCESS)
    with (CodegenPool(processes, target_machine, "assembly") if processes > 1 else nullcontext() as pool,
          ThreadPoolExecutor(jobs) as threads):

        def one(kernel: Kernel) -> Cubin:
            ptx = llvm.assembly(kernel.text, target_machine) if pool is None else pool.compile(kernel.text).decode()
            return assemble(ptx, kernel.name, target.arch, opt_level, ptxas)

        made: dict[str, Cubin] = {}
        for kernel, cubin in zip(unique, threads.map(one, unique)):
            made[kernel.name] = cubin
            done(len(made), len(unique))
    symbols = [first[_anonymous(k)].name for k in kernels]
    return [(symbol, made[symbol]) for symbol in symbols]


def _anonymous(kernel: Kernel) -> str:
    return kernel.text.replace(f"@{kernel.name}(", "@(")


__all__ = ["assembly", "check", "cubins", "machine"]
