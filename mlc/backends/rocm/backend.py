"""The ROCm backend: a task-level module to code objects, assembly or LLVM IR, and the facts that the plan records of each kernel."""

from collections.abc import Sequence
from typing import Any

from mlc.backends.base import Done
from mlc.backends.gpu_backend import Coded, GpuBackend, Kernel
from mlc.backends.rocm import assemble
from mlc.backends.rocm.code_object import CodeObject, KernelFacts, occupancy, read_code_object
from mlc.backends.rocm.lower import RocmKernel, lower_kernels
from mlc.errors import CompilerError
from mlc.ir.mlir import ir


class RocmBackend(GpuBackend):
    """Raises what `assemble.code_objects` raises, and CompilerError for a kernel that no GPU of the architecture can run."""

    def check(self) -> None:
        assemble.find_linker()

    def lower(self, module: ir.Module) -> list[Kernel]:
        return [*lower_kernels(module, self.target)]

    def assembly(self, kernels: Sequence[Kernel]) -> str:
        return assemble.assembly(kernels, self.target, self.opt_level)

    def code(self, kernels: Sequence[Kernel], done: Done) -> list[Coded]:
        coded: list[Coded] = []
        for kernel, data in zip(kernels, assemble.code_objects(kernels, self.target, self.opt_level, done=done)):
            member = f"objects/{self.target.arch}/{kernel.name}.hsaco"
            facts = _checked(kernel, read_code_object(data, member))
            arguments = [{"bytes": b.bytes, "access": b.access} for b in kernel.buffers] if isinstance(kernel, RocmKernel) else []
            coded.append(Coded(member, facts.name, data, {"shared_bytes": 0, "arguments": arguments, **_recorded(facts)}))
        return coded


def _recorded(facts: KernelFacts) -> dict[str, Any]:
    """What `mlc inspect` shows. lds_bytes is part of the code: a launch asks for none (`shared_bytes`)."""
    return {"registers": facts.vgprs, "agprs": facts.agprs, "sgprs": facts.sgprs, "lds_bytes": facts.lds_bytes,
            "scratch_bytes": facts.scratch_bytes, "spill_bytes": 4 * facts.vgpr_spills, "wavefront": facts.wavefront,
            "occupancy": round(occupancy(facts), 3)}


def _checked(kernel: Kernel, code: CodeObject) -> KernelFacts:
    """The one kernel of a code object, sure to be what the plan launches."""
    if len(code.kernels) != 1 or code.kernels[0].name != kernel.name or code.undefined:
        raise CompilerError(f"the code object of kernel '{kernel.name}' holds {[k.name for k in code.kernels]}, "
                            f"and leaves undefined: {', '.join(code.undefined) or 'nothing'}")
    facts = code.kernels[0]
    if occupancy(facts) == 0:
        raise CompilerError(f"kernel '{kernel.name}' does not fit {facts.arch}: blocks of {kernel.threads} threads with {facts.vgprs} "
                            f"registers each and {facts.lds_bytes} bytes of LDS")
    return facts


__all__ = ["RocmBackend"]
