"""The CPU backend: a task-level module to LLVM IR, assembly or an object, and the facts that the plan records of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mlc.backends.base import Built, Done, Run
from mlc.backends.cpu.entry import ENTRY, EntryBuilder
from mlc.backends.cpu.lower import split, to_llvm_ir
from mlc.backends.llvm import Machine, assembly, object_code
from mlc.ir.mlir import ir
from mlc.passes.tile.model import volume
from mlc.target import Target

# LLVM features of each level beyond the level itself come from Target.features.
_TRIPLE = "x86_64-unknown-linux-gnu"
_OBJECT = "objects/model.o"


@dataclass(frozen=True)
class Code:
    """LLVM IR of a whole plan. weights: keys in the order of the weights argument, those in `constants` are dense attributes of the IR."""

    text: str
    arena: int
    weights: list[str]
    constants: dict[str, ir.Attribute]
    launches: list[tuple[str, list[str]]]
    grids: dict[str, list[int]]


@dataclass(frozen=True)
class CpuBackend:
    """A `Backend`: the whole model is one object with one entry point."""

    target: Target
    opt_level: int
    levels: ClassVar[tuple[str, ...]] = ("llvm", "asm")

    def check(self) -> None:
        """LLVM is part of mlc."""

    def emit(self, module: ir.Module, run: Run, level: str) -> str:
        text = generate(module, run).text
        return text if level == "llvm" else assembly(text, machine(self.target, self.opt_level))

    def build(self, module: ir.Module, run: Run, done: Done) -> Built:
        code = generate(module, run)
        object_ = object_code(code.text, machine(self.target, self.opt_level))
        done(1, 1)
        plan = {"entry": ENTRY, "arena_bytes": code.arena, "objects": [_OBJECT], "kernels": _kernels(code),
                "cpu_features": list(self.target.features), "max_threads": max(map(volume, code.grids.values()), default=1) or 1}
        return Built(plan, {_OBJECT: object_}, code.weights, code.constants)


def machine(target: Target, opt_level: int) -> Machine:
    """The LLVM target machine of a CPU target."""
    features = [f"+{f}" for f in target.features]
    if target.vector_bits >= 512:
        features += ["-prefer-256-bit"]
    return Machine(_TRIPLE, target.arch, ",".join(features), opt_level)


def generate(module: ir.Module, run: Run) -> Code:
    """Takes the plan out of the module, lowers kernels, and builds the entry."""
    main, grids = split(module)
    arena = main.attributes["task.arena"].value
    run(module, "cpu-kernel-pipeline")
    builder = EntryBuilder(grids)
    text = to_llvm_ir(module, main, builder)
    return Code(text, arena, builder.weights.keys, builder.weights.constants, builder.launches, grids)


def _kernels(code: Code) -> Sequence[dict[str, Any]]:
    launches: dict[str, list[list[str]]] = {}
    for name, nodes in code.launches:
        launches.setdefault(name, []).append(nodes)
    return [{"name": name, "blocks": volume(code.grids[name]), "grid": code.grids[name], "launches": len(each),
             "nodes": sorted({node for nodes in each for node in nodes})} for name, each in launches.items()]


__all__ = ["CpuBackend", "generate", "machine"]
