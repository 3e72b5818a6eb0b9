"""Runs a CUDA artifact in this process: finds the GPU it was compiled for, and leaves the rest to `gpu_program`."""

from collections.abc import Sequence
from typing import cast

from mlc.artifact import Artifact
from mlc.backends.cuda.device import CudaDevice, choose_gpu
from mlc.backends.cuda.driver_api import Driver
from mlc.errors import ArtifactError
from mlc.runtime.gpu_program import GpuProgram
from mlc.target import Target


class CudaProgram(GpuProgram):
    """An artifact for `cuda:...`, loaded. It shares the GPU's primary context, so PyTorch's and CuPy's tensors can be passed.

    threads: has no meaning here. The plan's `driver` is the CUDA version [major, minor] that its code needs.
    Raises TargetError if the bindings, the driver or a GPU that runs the code is missing, and what `GpuProgram` raises.
    """

    def __init__(self, artifact: Artifact, threads: int | None = None) -> None:
        match artifact.plan.get("driver", [0, 0]):
            case [int(major), int(minor)]:
                needed = major, minor
            case other:
                raise ArtifactError(f"plan.json: found driver {other!r:.100}, expected [major, minor]")
        driver = Driver()
        driver.require(cast("tuple[int, int]", needed), f", or compile the model with the ptxas of CUDA {driver.version[0]}")
        super().__init__(artifact, CudaDevice(driver, choose_gpu(driver, artifact.target)))

    @staticmethod
    def check(targets: Sequence[Target]) -> None:
        """Raises TargetError if the bindings, the driver or a GPU that runs code for one of `targets` is missing."""
        choose_gpu(Driver(), str(targets[0]))
