"""One NVIDIA GPU as `gpu_program` uses it: primary context, stream, modules, graphs, events. Errors come typed out of `driver_api`."""

import contextlib
import ctypes
import os
import re
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlc.backends.cuda.driver_api import Driver
from mlc.errors import ArtifactError, MlcError, TargetError
from mlc.runtime.gpu_plan import Kernel
from mlc.runtime.gpu_run import Command, Copy, Launch, Set, TensorMap

DLPACK_CUDA = 2
_QUEUED = 512  # timed runs in flight: the driver's queue holds about a thousand commands


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


class CudaDevice:
    """Implements `mlc.runtime.gpu_device.GpuDevice`."""

    kind = DLPACK_CUDA

    def __init__(self, driver: Driver, gpu: Gpu) -> None:
        self._driver, self._gpu = driver, gpu
        self.name, self.ordinal = str(gpu), gpu.ordinal
        self._device = driver.device(gpu.ordinal)
        self._context = driver.retain_context(self._device)
        self._pid = os.getpid()
        self._modules: list[int] = []
        self._kernels: dict[str, _Loaded] = {}
        self._maps: dict[TensorMap, tuple[object, int]] = {}
        self.stream = 0
        weakref.finalize(self, _close, driver, self._context, self._device, self._pid, self._modules)
        with self:
            self.stream = driver.stream()
        weakref.finalize(self, _destroy_stream, driver, self._context, self._pid, self.stream)

    def __enter__(self) -> "CudaDevice":
        self._driver.push(self._context)
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(MlcError):  # of a dead context; what killed it is already on its way up
            self._driver.pop()

    # -- code and memory ------------------------------------------------------------------------------------------------

    def load(self, kernels: Iterable[Kernel], objects: Mapping[str, bytes]) -> None:
        modules: dict[str, int] = {}
        for kernel in kernels:
            if kernel.object not in modules:
                modules[kernel.object] = self._module(kernel.object, objects)
            try:
                function = self._driver.function(modules[kernel.object], kernel.symbol, kernel.shared_bytes)
            except MlcError as e:
                raise type(e)(f"{kernel} in {kernel.object}: {e.message}", hint=e.hint) from None
            plain, dependent = (self._driver.launch_config(kernel.blocks, kernel.threads, kernel.shared_bytes, self.stream, pdl)
                                for pdl in (False, True))
            self._kernels[kernel.name] = _Loaded(function, plain, dependent)

    def _module(self, name: str, objects: Mapping[str, bytes]) -> int:
        if name not in objects:
            raise ArtifactError(f"plan.json: {name} is not in the artifact")
        try:
            module = self._driver.load_module(objects[name])
        except MlcError as e:
            version = ".".join(map(str, self._driver.version))
            raise type(e)(f"{name} cannot be loaded on {self.name} with a driver for CUDA {version}: {e.message}", hint=e.hint) from None
        self._modules.append(module)
        return module

    def free_bytes(self) -> int:
        return self._driver.memory()[0]

    def allocate(self, size: int) -> int:
        return self._driver.allocate(size)

    def free(self, address: int) -> None:
        _quietly(self._driver, self._context, self._pid, self._driver.free, address)

    def allocate_host(self, size: int) -> int:
        return self._driver.allocate_host(size)

    def free_host(self, address: int) -> None:
        _quietly(self._driver, self._context, self._pid, self._driver.free_host, address)

    # -- the stream -----------------------------------------------------------------------------------------------------

    def upload(self, target: int, host: int, size: int) -> None:
        self._driver.upload(target, host, size, self.stream)

    def download(self, host: int, source: int, size: int) -> None:
        self._driver.download(host, source, size, self.stream)

    def synchronize(self) -> None:
        self._driver.synchronize(self.stream)

    def wait_for(self, stream: int) -> None:
        event = self._driver.event(timing=False)
        try:
            self._driver.record(event, stream)
            self._driver.wait(self.stream, event)
        finally:
            self._driver.destroy_event(event)  # in effect once nothing waits for it

    def pointer_device(self, address: int) -> int:
        return self._driver.pointer_device(address)

    def read(self, address: int, size: int) -> bytes:
        host = ctypes.create_string_buffer(size)  # pageable: the copy is staged, and this is no hot path
        self._driver.download(ctypes.addressof(host), address, size, self.stream)
        self.synchronize()
        return host.raw

    # -- commands -------------------------------------------------------------------------------------------------------

    def issue(self, commands: Iterable[Command]) -> None:
        previous: Command | None = None
        for command in commands:
            # A programmatic dependency is one between two kernels: behind a copy or a set, a kernel is launched plainly.
            self._queue(command, isinstance(previous, Launch))
            previous = command

    def _queue(self, command: Command, after_kernel: bool) -> None:
        match command:
            case Launch():
                loaded, n = self._kernels[command.kernel.name], len(command.args)
                values = (ctypes.c_uint64 * n)(*(a if isinstance(a, int) else 0 for a in command.args))
                start = ctypes.addressof(values)
                places = (start + 8 * i if isinstance(a, int) else self._map(a) for i, a in enumerate(command.args))
                pointers = (ctypes.c_uint64 * n)(*places)
                config = loaded.dependent if command.kernel.pdl and after_kernel else loaded.plain
                self._driver.launch(config, loaded.function, ctypes.addressof(pointers))
            case Copy():
                self._driver.copy(command.target, command.source, command.bytes, self.stream)
            case Set():
                width = next(w for w in (4, 2, 1) if len(command.data) % w == 0 and command.target % w == 0)
                for at in range(0, len(command.data), width):
                    number = int.from_bytes(command.data[at:at + width], "little")
                    self._driver.fill(command.target + at, number, width, 1, self.stream)

    def _map(self, map_: TensorMap) -> int:
        """Where the encoded map lies in host memory; each is encoded once."""
        if map_ not in self._maps:
            self._maps[map_] = self._driver.tensor_map(map_.address, map_.dtype, map_.shape, map_.strides, map_.box, map_.swizzle)
        return self._maps[map_][1]

    def capture(self, commands: Sequence[Command]) -> int:
        return self._captured(lambda: self.issue(commands))

    def _captured(self, work: Callable[[], None]) -> int:
        self._driver.begin_capture(self.stream)
        try:
            work()
        except BaseException:
            self._driver.abort_capture(self.stream)
            raise
        return self._driver.end_capture(self.stream)

    def replay(self, graph: int) -> None:
        self._driver.launch_graph(graph, self.stream)

    def discard(self, graph: int) -> None:
        _quietly(self._driver, self._context, self._pid, self._driver.destroy_graph, graph)

    # -- clocks ---------------------------------------------------------------------------------------------------------

    def time(self, work: Callable[[], None], count: int, flush: bool) -> list[float]:
        size = 2 * self._driver.attribute(self._device, "L2_CACHE_SIZE") if flush else 0
        scratch = self._driver.allocate(size) if flush else 0
        times: list[float] = []
        with self._events(2 * min(count, _QUEUED)) as events:
            try:
                while len(times) < count:
                    pairs = list(zip(events[::2], events[1::2], strict=True))[:count - len(times)]
                    for start, end in pairs:
                        if flush:
                            self._driver.fill(scratch, 0, 4, size // 4, self.stream)
                        self._driver.record(start, self.stream)
                        work()
                        self._driver.record(end, self.stream)
                    self.synchronize()
                    times += [self._driver.elapsed(start, end) for start, end in pairs]
            finally:
                if flush:
                    self.free(scratch)
        return times

    def capture_timed(self, commands: Sequence[Command]) -> tuple[int, list[int]]:
        events = [self._driver.event(timing=True) for _ in range(len(commands) + 1)]

        def work() -> None:
            self._driver.record_in_graph(events[0], self.stream)
            for command, event in zip(commands, events[1:], strict=True):
                self._queue(command, after_kernel=False)
                self._driver.record_in_graph(event, self.stream)

        return self._captured(work), events

    def replay_timed(self, graph: tuple[int, list[int]]) -> list[float]:
        self.replay(graph[0])
        self.synchronize()
        return [self._driver.elapsed(start, end) for start, end in zip(graph[1], graph[1][1:], strict=False)]

    def discard_timed(self, graph: tuple[int, list[int]]) -> None:
        self.discard(graph[0])
        for event in graph[1]:
            _quietly(self._driver, self._context, self._pid, self._driver.destroy_event, event)

    @contextlib.contextmanager
    def _events(self, count: int) -> Any:
        events = [self._driver.event(timing=True) for _ in range(count)]
        try:
            yield events
        finally:
            for event in events:
                _quietly(self._driver, self._context, self._pid, self._driver.destroy_event, event)


def _quietly(driver: Driver, context: int, pid: int, call: Callable[[int], None], handle: int) -> None:
    """Gives something back. A forked child owns nothing; a dead context, or one torn down at exit, has nothing left."""
    if os.getpid() != pid:
        return
    with contextlib.suppress(MlcError):
        driver.push(context)
        try:
            call(handle)
        finally:
            driver.pop()


def _destroy_stream(driver: Driver, context: int, pid: int, stream: int) -> None:
    _quietly(driver, context, pid, driver.destroy_stream, stream)


def _close(driver: Driver, context: int, device: int, pid: int, modules: list[int]) -> None:
    for module in modules:
        _quietly(driver, context, pid, driver.unload_module, module)
    if os.getpid() == pid:
        with contextlib.suppress(MlcError):
            driver.release_context(device)
