"""One AMD GPU as `gpu_program` uses it: which one, and how kernels are launched. `gpu_stream` has the rest."""

import contextlib
import ctypes
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mlc.backends.rocm.hip_api import Hip
from mlc.errors import MlcError, TargetError
from mlc.runtime.gpu_plan import Kernel
from mlc.runtime.gpu_run import Command, Launch
from mlc.runtime.gpu_stream import StreamDevice
from mlc.target import Target

DLPACK_ROCM = 10


@dataclass(frozen=True)
class Gpu:
    """A GPU of this machine. arch: `gfx942`."""

    ordinal: int
    name: str
    arch: str

    def __str__(self) -> str:
        return f"{self.name} ({self.arch})"


def gpus(hip: Hip) -> list[Gpu]:
    """All GPUs that this process may use."""
    return [Gpu(i, hip.device_name(i), hip.device_arch(i).partition(":")[0]) for i in range(hip.device_count())]


def choose_gpu(hip: Hip, archs: Sequence[str]) -> Gpu:
    """The GPU that code for one of `archs` runs on: this thread's current one if it can, else the first that can.

    Raises TargetError that names the architectures and what was found.
    """
    wanted = " and ".join(archs)
    here = gpus(hip)
    if not here:
        raise TargetError(f"the artifact is for {wanted}, found no AMD GPU",
                          hint="rocminfo and HIP_VISIBLE_DEVICES say which GPUs this process may use")
    current = hip.current_device()
    for gpu in sorted(here, key=lambda g: g.ordinal != current):
        if gpu.arch in archs:
            return gpu
    names = sorted({g.arch for g in here if f"rocm:{g.arch}" in Target.known()})
    raise TargetError(f"the artifact holds code for {wanted}, this machine has {', '.join(map(str, here))}",
                      hint=f"compile the model with --target rocm:{','.join(names)}" if names else "mlc has no code for these GPUs")


class _Selected(threading.local):
    """A device that is this thread's inside `with`; `outer` are the devices that it had before it entered."""

    def __init__(self, hip: Hip, ordinal: int) -> None:
        self._hip, self._ordinal = hip, ordinal
        self._outer: list[int] = []

    def __enter__(self) -> None:
        before = self._hip.current_device()
        self._hip.use_device(self._ordinal)
        self._outer.append(before)

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(MlcError):  # of a dead device; what killed it is already on its way up
            self._hip.use_device(self._outer.pop())


class HipDevice(StreamDevice):
    """Implements `mlc.runtime.gpu_device.GpuDevice`."""

    def __init__(self, hip: Hip, gpu: Gpu) -> None:
        self._hip = hip
        self._functions: dict[str, int] = {}
        super().__init__(hip, DLPACK_ROCM, gpu.ordinal, str(gpu), _Selected(hip, gpu.ordinal))

    def add_kernel(self, kernel: Kernel, module: int) -> None:
        self._functions[kernel.name] = self._hip.function(module, kernel.symbol)

    def launch(self, command: Launch, after_kernel: bool) -> None:
        """HIP has no early launch behind a kernel."""
        kernel, args = command.kernel, [a for a in command.args if isinstance(a, int)]  # tensor maps are CUDA's alone
        n = len(args)
        values = (ctypes.c_uint64 * n)(*args)
        start = ctypes.addressof(values)
        pointers = (ctypes.c_uint64 * n)(*range(start, start + 8 * n, 8))
        self._hip.launch(self._functions[kernel.name], kernel.blocks, kernel.threads, kernel.shared_bytes, self.stream,
                         ctypes.addressof(pointers))

    def capture_timed(self, commands: Sequence[Command]) -> list[Command]:
        """Only a list: not every HIP can record events inside a graph."""
        return list(commands)

    def replay_timed(self, graph: Sequence[Command]) -> list[float]:
        with self.clocks(len(graph) + 1) as events:
            self._hip.record(events[0], self.stream)
            for command, event in zip(graph, events[1:], strict=True):
                self.issue([command])
                self._hip.record(event, self.stream)
            self.synchronize()
            return [self._hip.elapsed(start, end) for start, end in pairwise(events)]

    def discard_timed(self, graph: Sequence[Command]) -> None:
        """Nothing: see `capture_timed`."""
