"""The CUDA backend: kernels through LLVM IR and PTX to one cubin each, and what ptxas says of them."""

from collections.abc import Sequence
from dataclasses import replace

from mlc.backends.base import Built, Done, Run
from mlc.backends.cuda import assemble
from mlc.backends.cuda.lower import lower_kernels
from mlc.backends.cuda.ptxas import find_ptxas, least_driver
from mlc.backends.gpu_backend import Coded, GpuBackend, Kernel
from mlc.ir.mlir import ir


class CudaBackend(GpuBackend):
    """Raises TargetError if there is no ptxas for the target."""

    def check(self) -> None:
        assemble.check(self.target)

    def build(self, module: ir.Module, run: Run, done: Done) -> Built:
        built = super().build(module, run, done)
        return replace(built, plan={**built.plan, "driver": least_driver(find_ptxas())})

    def lower(self, module: ir.Module) -> list[Kernel]:
        return lower_kernels(module, self.target)

    def assembly(self, kernels: Sequence[Kernel]) -> str:
        return assemble.assembly(kernels, self.target, self.opt_level)

    def code(self, kernels: Sequence[Kernel], done: Done) -> list[Coded]:
        coded: list[Coded] = []
        for kernel, (symbol, cubin) in zip(kernels, assemble.cubins(kernels, self.target, self.opt_level, done)):
            facts = {"shared_bytes": kernel.shared, "static_shared_bytes": cubin.shared_bytes, "registers": cubin.registers,
                     "spill_bytes": cubin.spill_bytes, "pdl": self.target.has("pdl")}
            if kernel.cluster > 1:
                facts["cluster"] = kernel.cluster
            if cubin.remarks:
                facts["remarks"] = list(cubin.remarks)
            coded.append(Coded(f"objects/{symbol}.cubin", symbol, cubin.code, facts))
        return coded


__all__ = ["CudaBackend"]
