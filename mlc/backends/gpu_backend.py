"""What GPU backends share: the plan as data beside kernels that a vendor's lowering and assembler turn into code objects."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mlc.backends.base import Built, Done, Run
from mlc.backends.gpu_plan import Plan, add_tensor_maps, plan_of
from mlc.errors import CompilerError
from mlc.ir.mlir import ir
from mlc.passes.tile.model import volume
from mlc.target import Target

PIPELINE = "gpu-kernel-pipeline"


@dataclass(frozen=True)
class Kernel:
    """One kernel. text: an LLVM IR module with one entry point, `name`. grid: blocks; threads: of a block; shared: its bytes of memory.

    maps: the tensor maps that follow the buffers among its arguments (see `gpu_plan.tensor_maps`). cluster: blocks of a cluster, 1 without.
    """

    name: str
    text: str
    grid: list[int]
    threads: int
    shared: int
    maps: tuple[dict[str, Any], ...] = ()
    cluster: int = 1


@dataclass(frozen=True)
class Coded:
    """A kernel's code. member: the artifact's, `objects/...`. facts: what the plan says of it beyond its name, grid, threads and nodes."""

    member: str
    symbol: str
    code: bytes
    facts: dict[str, Any]


@dataclass(frozen=True)
class GpuBackend(ABC):
    """A `Backend`, up to what differs between vendors."""

    target: Target
    opt_level: int
    levels: ClassVar[tuple[str, ...]] = ("gpu", "llvm", "asm")

    @abstractmethod
    def lower(self, module: ir.Module) -> list[Kernel]:
        """The kernels of `gpu.module @kernels` as LLVM IR."""

    @abstractmethod
    def assembly(self, kernels: Sequence[Kernel]) -> str:
        """The assembly of every kernel, one after the other."""

    @abstractmethod
    def code(self, kernels: Sequence[Kernel], done: Done) -> list[Coded]:
        """The code of each kernel, in order."""

    def emit(self, module: ir.Module, run: Run, level: str) -> str:
        if level == "gpu":
            run(module, PIPELINE)
            return str(module)
        kernels = self._kernels(_take_plan(module), module, run)
        return self.assembly(kernels) if level == "asm" else "\n".join(k.text for k in kernels)

    def build(self, module: ir.Module, run: Run, done: Done) -> Built:
        plan = _take_plan(module)
        kernels = self._kernels(plan, module, run)
        add_tensor_maps(plan.steps, {kernel.name: kernel.maps for kernel in kernels})
        coded = self.code(kernels, done)
        entries = [_entry(kernel, each, plan) for kernel, each in zip(kernels, coded)]
        objects = {each.member: each.code for each in coded}
        return Built({"arena_bytes": plan.arena, "objects": list(objects), "kernels": entries, "steps": plan.steps}, objects,
                     plan.weights, plan.constants)

    def _kernels(self, plan: Plan, module: ir.Module, run: Run) -> list[Kernel]:
        run(module, PIPELINE)
        launched = {name for name, _ in plan.launches}
        return [k for k in self.lower(module) if k.name in launched]


def _take_plan(module: ir.Module) -> Plan:
    main = next((v.operation for v in module.body.operations if v.operation.attributes["sym_name"].value == "main"), None)
    if main is None:
        raise CompilerError("module has no @main")
    plan = plan_of(main)
    main.detach_from_parent()
    return plan


def _entry(kernel: Kernel, coded: Coded, plan: Plan) -> dict[str, Any]:
    nodes = [each for name, each in plan.launches if name == kernel.name]
    return {"name": kernel.name, "object": coded.member, "symbol": coded.symbol, "grid": kernel.grid, "blocks": volume(kernel.grid),
            "threads": kernel.threads, "launches": len(nodes), "nodes": sorted({node for each in nodes for node in each}), **coded.facts}


__all__ = ["Coded", "GpuBackend", "Kernel"]
