"""What the driver asks of a backend, and the table of them: from a task-level module to text of lower levels, or to code and its facts."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mlc.ir.mlir import ir
from mlc.target import Target

Run = Callable[[ir.Module, str], None]  # runs a pipeline, by its text, on a module
Done = Callable[[int, int], None]  # (kernels finished, of how many)

# By name: a backend is imported when something is compiled for it.
_BACKENDS = {
    "cpu": "mlc.backends.cpu.backend:CpuBackend",
    "cuda": "mlc.backends.cuda.backend:CudaBackend",
    "rocm": "mlc.backends.rocm.backend:RocmBackend",
}


@dataclass(frozen=True)
class Built:
    """The code of a model. plan: this target's part of plan.json. objects: members of the artifact.

    weights: keys, in the order in which the code knows them; those in `constants` are dense attributes of the IR.
    """

    plan: Mapping[str, Any]
    objects: Mapping[str, bytes]
    weights: Sequence[str]
    constants: Mapping[str, ir.Attribute]


class Backend(Protocol):
    """Made from (target, opt_level). levels: what `emit` can give below task. `emit` and `build` use the module up."""

    levels: tuple[str, ...]

    def check(self) -> None:
        """Asked before any work. Raises TargetError where a tool that `build` needs is missing, fails or does not know the target."""
        ...

    def emit(self, module: ir.Module, run: Run, level: str) -> str:
        """The text of one level. Raises CompilerError."""
        ...

    def build(self, module: ir.Module, run: Run, done: Done) -> Built:
        """Machine code. Raises CompilerError, and what `check` raises."""
        ...


def backend_of(target: Target, opt_level: int) -> Backend:
    """The backend of a target's kind."""
    module, _, name = _BACKENDS[target.kind].partition(":")
    return getattr(importlib.import_module(module), name)(target, opt_level)


__all__ = ["Backend", "Built", "Done", "Run", "backend_of"]
