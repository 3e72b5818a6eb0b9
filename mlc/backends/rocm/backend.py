"""The ROCm backend: a task-level module to code objects, assembly or LLVM IR, and the facts that the plan records of each kernel."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlc.backends.gpu_plan import Plan, plan_of
from mlc.backends.rocm import assemble
from mlc.backends.rocm.code_object import CodeObject, KernelFacts, occupancy, read_code_object
from mlc.backends.rocm.lower import Kernel, lower_kernels
from mlc.errors import CompilerError
from mlc.ir.mlir import ir
from mlc.passes.tile.model import volume
from mlc.target import Target


@dataclass(frozen=True)
class Code:
    """Everything of a model but machine code. kernels: those that the plan launches, as LLVM IR."""

    target: Target
    plan: Plan
    kernels: list[Kernel]

    @property
    def text(self) -> str:
        """LLVM IR of every kernel, one module after the other."""
        return "\n".join(k.text for k in self.kernels)


def generate(module: ir.Module, target: Target, lower: Callable[[ir.Module], None]) -> Code:
    """Takes the plan (@main) out of the module and lowers what is left with the given passes. Raises CompilerError."""
    main = next((v.operation for v in module.body.operations if v.operation.attributes["sym_name"].value == "main"), None)
    if main is None:
        raise CompilerError("module has no @main")
    plan = plan_of(main)
    main.detach_from_parent()
    lower(module)
    launched = {name for name, _ in plan.launches}
    return Code(target, plan, [k for k in lower_kernels(module, target) if k.name in launched])


def assembly(code: Code, opt_level: int) -> str:
    """GCN assembly of every kernel, one after the other."""
    return assemble.assembly(code.kernels, code.target, opt_level)


def objects(code: Code, opt_level: int, *, jobs: int | None = None,
            done: Callable[[int, int], None] | None = None) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """The artifact's members (`objects/gfx942/name.hsaco`), and the entries of the plan's `kernels`.

    Raises what `assemble.code_objects` raises, and CompilerError for a kernel that no GPU of the architecture can run.
    """
    members: dict[str, bytes] = {}
    entries: list[dict[str, Any]] = []
    for kernel, data in zip(code.kernels, assemble.code_objects(code.kernels, code.target, opt_level, jobs=jobs, done=done)):
        member = f"objects/{code.target.arch}/{kernel.name}.hsaco"
        members[member] = data
        facts = _checked(kernel, read_code_object(data, member))
        nodes = [n for name, n in code.plan.launches if name == kernel.name]
        entries.append({"name": kernel.name, "object": member, "symbol": facts.name, "grid": kernel.grid, "blocks": volume(kernel.grid),
                        "threads": kernel.threads, "shared_bytes": 0, "launches": len(nodes),
                        "nodes": sorted({node for each in nodes for node in each}), **_recorded(facts)})
    return members, entries


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


__all__ = ["Code", "assembly", "generate", "objects"]
