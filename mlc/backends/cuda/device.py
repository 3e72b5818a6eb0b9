"""One NVIDIA GPU as `gpu_program` uses it: which one, its primary context, and how kernels are launched. `gpu_stream` has the rest."""

import contextlib
import ctypes
import os
import re
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mlc.backends.cuda.driver_api import Driver
from mlc.errors import MlcError, TargetError
from mlc.runtime.gpu_plan import Kernel
from mlc.runtime.gpu_run import Command, Launch, TensorMap
from mlc.runtime.gpu_stream import StreamDevice

DLPACK_CUDA = 2


@dataclass(frozen=True)
class Gpu:
    """A GPU of this machine. capability: (major, minor) compute capability."""

    ordinal: int
    name: str
    capability: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.name} (sm_{self.capability[0]}{self.capability[1]})"

    def runs(self, arch: str) -> bool:
        """Whether machine code for `arch` runs here: sm_90a only on 9.0, sm_100f on 10.x, sm_86 on 8.6 and later 8.x."""
        match = re.fullmatch(r"sm_(\d+)(\d)([af]?)", arch)
        if match is None:
            return False
        wanted = int(match[1]), int(match[2])
        if match[3] == "a":
            return self.capability == wanted
        return self.capability[0] == wanted[0] and self.capability >= wanted


def gpus(driver: Driver) -> list[Gpu]:
    """All GPUs that this process may use."""
    found: list[Gpu] = []
    for ordinal in range(driver.device_count()):
        device = driver.device(ordinal)
        major, minor = (driver.attribute(device, f"COMPUTE_CAPABILITY_{part}") for part in ("MAJOR", "MINOR"))
        found.append(Gpu(ordinal, driver.device_name(device), (major, minor)))
    return found


def choose_gpu(driver: Driver, target: str) -> Gpu:
    """The GPU that an artifact for `target` (`cuda:sm_90a,...`) runs on: that of the thread's CUDA context, else the first that can.

    Raises TargetError that names the architecture and what was found.
    """
    arch = target.partition(":")[2].partition(",")[0]
    here = gpus(driver)
    if not here:
        raise TargetError(f"the artifact is for {target.partition(',')[0]}, found no NVIDIA GPU",
                          hint="nvidia-smi and CUDA_VISIBLE_DEVICES say which GPUs this process may use")
    current = driver.current_device()
    candidates = here if current is None else [gpu for gpu in here if driver.device(gpu.ordinal) == current]
    for gpu in candidates:
        if gpu.runs(arch):
            return gpu
    found = ", ".join(map(str, candidates))
    names = sorted({f"cuda:sm_{g.capability[0]}{g.capability[1]}{'a' * (g.capability[0] >= 9)}" for g in candidates})
    raise TargetError(f"the artifact is for {arch}, this machine has {found}", hint=f"compile the model for {' or '.join(names)}")


@dataclass(frozen=True)
class _Loaded:
    """A kernel on the GPU, with its two launch configurations: behind anything, and behind a kernel it need not wait for."""

    function: int
    plain: Any
    dependent: Any


@dataclass(frozen=True)
class _Context:
    """A CUDA context that is this thread's inside `with`."""

    driver: Driver
    handle: int

    def __enter__(self) -> None:
        self.driver.push(self.handle)

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(MlcError):  # of a dead context; what killed it is already on its way up
            self.driver.pop()


class CudaDevice(StreamDevice):
    """Implements `mlc.runtime.gpu_device.GpuDevice`."""

    def __init__(self, driver: Driver, gpu: Gpu) -> None:
        self._driver = driver
        self._kernels: dict[str, _Loaded] = {}
        self._maps: dict[TensorMap, tuple[object, int]] = {}
        device = driver.device(gpu.ordinal)
        context = driver.retain_context(device)
        weakref.finalize(self, _release, driver, device, os.getpid())  # runs last: finalizers run in reverse order
        super().__init__(driver, DLPACK_CUDA, gpu.ordinal, str(gpu), _Context(driver, context))

    def add_kernel(self, kernel: Kernel, module: int) -> None:
        function = self._driver.function(module, kernel.symbol, kernel.shared_bytes, kernel.cluster)
        plain, dependent = (self._driver.launch_config(kernel.blocks, kernel.threads, kernel.shared_bytes, self.stream, pdl)
                            for pdl in (False, True))
        self._kernels[kernel.name] = _Loaded(function, plain, dependent)

    def launch(self, command: Launch, after_kernel: bool) -> None:
        """A programmatic dependency is one between two kernels: behind a copy or a set, a kernel is launched plainly."""
        loaded, n = self._kernels[command.kernel.name], len(command.args)
        values = (ctypes.c_uint64 * n)(*(a if isinstance(a, int) else 0 for a in command.args))
        start = ctypes.addressof(values)
        places = (start + 8 * i if isinstance(a, int) else self._map(a) for i, a in enumerate(command.args))
        pointers = (ctypes.c_uint64 * n)(*places)
        config = loaded.dependent if command.kernel.pdl and after_kernel else loaded.plain
        self._driver.launch(config, loaded.function, ctypes.addressof(pointers))

    def _map(self, map_: TensorMap) -> int:
        """Where the encoded map lies in host memory; each is encoded once."""
        if map_ not in self._maps:
            self._maps[map_] = self._driver.tensor_map(map_.address, map_.layout)
        return self._maps[map_][1]

    def capture_timed(self, commands: Sequence[Command]) -> tuple[int, list[int]]:
        events = [self._driver.event(timing=True) for _ in range(len(commands) + 1)]

        def work() -> None:
            self._driver.record_in_graph(events[0], self.stream)
            for command, event in zip(commands, events[1:], strict=True):
                self.queue(command, after_kernel=False)
                self._driver.record_in_graph(event, self.stream)

        return self.captured(work), events

    def replay_timed(self, graph: tuple[int, list[int]]) -> list[float]:
        self.replay(graph[0])
        self.synchronize()
        return [self._driver.elapsed(start, end) for start, end in pairwise(graph[1])]

    def discard_timed(self, graph: tuple[int, list[int]]) -> None:
        self.discard(graph[0])
        for event in graph[1]:
            self._give_back(self._driver.destroy_event, event)


def _release(driver: Driver, device: int, pid: int) -> None:
    if os.getpid() == pid:
        with contextlib.suppress(MlcError):
            driver.release_context(device)
