"""The CPU backend: a task-level module to LLVM IR, assembly or an object, and the facts that the plan records of it."""

from collections.abc import Callable
from dataclasses import dataclass

from mlc.backends.cpu.entry import ENTRY, EntryBuilder
from mlc.backends.cpu.lower import split, to_llvm_ir
from mlc.backends.llvm import Machine, assembly, object_code
from mlc.ir.mlir import ir
from mlc.target import Target

# LLVM features of each level beyond the level itself come from Target.features.
_TRIPLE = "x86_64-unknown-linux-gnu"


@dataclass(frozen=True)
class Code:
    """LLVM IR of a whole plan. weights: keys in the order of the weights argument, those in `constants` are dense attributes of the IR."""

    text: str
    arena: int
    weights: list[str]
    constants: dict[str, ir.Attribute]
    launches: list[tuple[str, list[str]]]
    grids: dict[str, list[int]]
    entry: str = ENTRY


def machine(target: Target, opt_level: int) -> Machine:
    """The LLVM target machine of a CPU target."""
    features = [f"+{f}" for f in target.features]
    if target.vector_bits >= 512:
        features += ["-prefer-256-bit"]
    return Machine(_TRIPLE, target.arch, ",".join(features), opt_level)


def generate(module: ir.Module, lower_kernels: Callable[[ir.Module], None]) -> Code:
    """Takes the plan out of the module, lowers kernels with the given passes, and builds the entry."""
    main, grids = split(module)
    arena = main.attributes["task.arena"].value
    lower_kernels(module)
    builder = EntryBuilder(grids)
    text = to_llvm_ir(module, main, builder)
    return Code(text, arena, builder.weights, builder.constants, builder.launches, grids)


__all__ = ["Code", "assembly", "generate", "machine", "object_code"]
