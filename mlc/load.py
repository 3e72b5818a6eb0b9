"""`load`: an `.mlc` file, or an artifact in memory, becomes an Executable on the machine its target names."""

import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any

from mlc.artifact import Artifact, read_artifact
from mlc.errors import TargetError
from mlc.runtime.executor import Executable, Program
from mlc.target import Target

# Target family -> what makes a Program of (artifact, threads), and has `check(targets)`; imported when one is needed.
_RUNTIMES = {
    "cpu": "mlc.backends.cpu.runtime:CpuProgram",
    "cuda": "mlc.backends.cuda.runtime:CudaProgram",
    "rocm": "mlc.backends.rocm.runtime:RocmProgram",
}


def load(path: str | os.PathLike[str], threads: int | None = None, verify: bool = True) -> Executable:
    """Loads a compiled model. An artifact is native code: load only what you would execute.

    threads: CPU threads per call, the caller's included (default: MLC_NUM_THREADS, else the usable cores).
    verify: check the hash of every member (about 1 s per GB).
    Raises ArtifactError if the file is damaged, TargetError if this machine cannot run it, OptionError, ResourceError.
    """
    return executable(read_artifact(path, verify), threads)


def executable(artifact: Artifact, threads: int | None = None) -> Executable:
    """As `load`, for an artifact that is already in memory."""
    make: Callable[[Artifact, int | None], Program] = _runtime(artifact.target)
    return Executable(artifact, make(artifact, threads))


def check_machine(targets: Sequence[Target]) -> None:
    """Before a compile for `targets`, of one kind, whose result shall run here: raises TargetError if it could not be loaded."""
    _runtime(str(targets[0])).check(targets)


def _runtime(target: str) -> Any:
    """The class that makes a Program of an artifact for a target."""
    family = target.partition(":")[0]
    if family not in _RUNTIMES:
        raise TargetError(f"the artifact is for target {target!r}, expected one of {', '.join(_RUNTIMES)}")
    module, _, name = _RUNTIMES[family].partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as e:
        raise TargetError(f"no runtime for target {target!r} in this installation: {e}",
                          hint="compiling for a target needs only mlc; running needs the vendor's runtime package as well") from e
