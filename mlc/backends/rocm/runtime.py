"""Runs a ROCm artifact in this process: finds a GPU that it holds code for, and leaves the rest to `gpu_program`."""

from collections.abc import Sequence

from mlc.artifact import Artifact
from mlc.backends.rocm.device import HipDevice, choose_gpu
from mlc.backends.rocm.hip_api import Hip
from mlc.backends.rocm.variants import architectures, variant
from mlc.runtime.gpu_program import GpuProgram
from mlc.target import Target


class RocmProgram(GpuProgram):
    """An artifact for `rocm:...`, loaded. HIP shares a GPU's context in a process, so PyTorch's tensors can be passed.

    threads: has no meaning here. hip: instead of the installed library.
    Raises TargetError if HIP or a GPU that runs the code is missing, and what `GpuProgram` raises.
    """

    def __init__(self, artifact: Artifact, threads: int | None = None, hip: Hip | None = None) -> None:
        hip = hip or Hip()
        gpu = choose_gpu(hip, architectures(artifact))
        super().__init__(variant(artifact, gpu.arch), HipDevice(hip, gpu))

    @staticmethod
    def check(targets: Sequence[Target]) -> None:
        """Raises TargetError if HIP or a GPU that runs code for one of `targets` is missing."""
        choose_gpu(Hip(), [target.arch for target in targets])
