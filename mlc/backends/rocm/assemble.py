"""Kernels to AMD code objects (.hsaco) or GCN assembly, several at a time; equal input gives equal bytes."""

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from mlc.backends import llvm
from mlc.backends.codegen_pool import CodegenPool
from mlc.backends.gpu_backend import Kernel
from mlc.backends.rocm.code_object import read_code_object
from mlc.errors import CompilerError, TargetError
from mlc.target import Target

_TRIPLE = "amdgcn-amd-amdhsa"
_WORTH_A_PROCESS = 200_000  # characters of IR that take longer to compile than a process takes to start
_ROCM = "/opt/rocm"  # where ROCm's packages put it
_ATTRIBUTES = re.compile(r"(^define amdgpu_kernel .* #(\d+) [^\n]*\{\n.*^attributes #\2 = \{)", re.MULTILINE | re.DOTALL)
_LINKERS = ("llvm/bin/ld.lld", "lib/llvm/bin/ld.lld")  # below ROCm's root; its layout changed once


def machine(target: Target, opt_level: int) -> llvm.Machine:
    """The LLVM target machine of a ROCm target. Each kernel states its features."""
    return llvm.Machine(_TRIPLE, target.arch, "", opt_level)


def assembly(kernels: Sequence[Kernel], target: Target, opt_level: int = 3) -> str:
    """GCN assembly of every kernel, one after the other. Raises CompilerError."""
    return "\n".join(llvm.assembly(k.text, machine(target, opt_level)) for k in kernels)


def code_objects(kernels: Sequence[Kernel], target: Target, opt_level: int = 3, *, jobs: int | None = None,
                 done: Callable[[int, int], None] | None = None) -> list[bytes]:
    """A linked code object of each kernel, in order. done(finished, of): called as they get ready, in any thread.

    jobs: how many at a time; by default the cores this process may use.
    Raises TargetError if there is no linker, CompilerError if LLVM or the linker refuses a kernel.
    """
    texts = [k.text for k in kernels]
    linker, target_machine = find_linker(), machine(target, opt_level)
    jobs = min(jobs or len(os.sched_getaffinity(0)), max(1, len(texts)))
    processes = min(jobs, sum(map(len, texts)) // _WORTH_A_PROCESS)
    finished: list[int] = []
    with CodegenPool(processes, target_machine) if processes > 1 else nullcontext() as pool, ThreadPoolExecutor(jobs) as threads:

        def one(index: int) -> bytes:
            text = texts[index]
            linked = link(llvm.object_code(text, target_machine) if pool is None else pool.compile(text), linker)
            if (spilled := _spills(linked)) and _spills(again := link(with_few_registers(text, target_machine), linker)) < spilled:
                linked = again
            finished.append(index)
            if done is not None:
                done(len(finished), len(texts))
            return linked

        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))  # the longest first, so that none is left for the end
        results = dict(zip(order, threads.map(one, order)))
    return [results[i] for i in range(len(texts))]


def with_few_registers(text: str, machine: llvm.Machine) -> bytes:
    """A kernel's relocatable object with loops as they are, scheduled for the fewest registers.

    LLVM's usual schedule moves loads ahead until the registers are full, those of all iterations where a loop is unrolled; where that goes
    wrong, some are spilled.
    """
    sparing = _ATTRIBUTES.sub(r'\1 "amdgpu-sched-strategy"="iterative-minreg"', text)
    return llvm.object_code(sparing, replace(machine, unroll=False))


def _spills(code: bytes) -> int:
    """Vector registers that a code object's kernels keep in memory."""
    return sum(k.vgpr_spills for k in read_code_object(code, "a kernel's code").kernels)


def find_linker() -> list[str]:
    """The command that starts LLVM's ELF linker: ROCm's (PATH, ROCM_PATH), else ziglang's. TargetError if there is none."""
    roots = [Path(root) for root in (os.environ.get("ROCM_PATH"), _ROCM) if root]
    candidates = [shutil.which("ld.lld"), *(str(root / name) for root in roots for name in _LINKERS)]
    found = next((c for c in candidates if c and os.access(c, os.X_OK)), None)
    if found is not None:
        return [found]
    spec = importlib.util.find_spec("ziglang")
    if spec is None or not spec.submodule_search_locations:
        raise TargetError("no linker for AMD code objects: found no ld.lld on PATH, in ROCM_PATH or in /opt/rocm, and no ziglang package",
                          hint="pip install 'mlc-compiler[rocm]', or install ROCm or LLVM's lld")
    # Its executable, not `python -m ziglang`, which would start an interpreter per kernel.
    return [str(Path(spec.submodule_search_locations[0]) / "zig"), "ld.lld"]


def link(code: bytes, linker: Sequence[str]) -> bytes:
    """A relocatable object to the shared object that the HIP runtime loads. CompilerError if a symbol is undefined."""
    with tempfile.TemporaryDirectory(prefix="mlc-") as folder:
        source, result = Path(folder, "kernel.o"), Path(folder, "kernel.hsaco")
        source.write_bytes(code)
        command = [*linker, "-shared", "--no-undefined", "-o", str(result), str(source)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode or not result.exists():
            raise CompilerError(f"{linker[0]} refuses generated code: {run.stderr.strip() or f'exit code {run.returncode}'}")
        return result.read_bytes()
