"""One AMD GPU as `gpu_program` uses it: stream, modules, graphs, events. Errors come typed out of `hip_api`."""

import contextlib
import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mlc.backends.rocm.hip_api import Hip
from mlc.errors import ArtifactError, MlcError, TargetError
from mlc.runtime.gpu_plan import Kernel
from mlc.runtime.gpu_run import Command, Copy, Launch, Set
from mlc.target import Target

DLPACK_ROCM = 10
_QUEUED = 256  # timed runs in flight


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


class HipDevice:
    """Implements `mlc.runtime.gpu_device.GpuDevice`."""

    kind = DLPACK_ROCM

    def __init__(self, hip: Hip, gpu: Gpu) -> None:
        self._hip = hip
        self.name, self.ordinal = str(gpu), gpu.ordinal
        self._pid = os.getpid()
        self._modules: list[int] = []
        self._functions: dict[str, int] = {}
        self._outer = threading.local()  # the devices that this thread had before it entered
        self.stream = 0
        with self:
            self.stream = hip.stream()
        weakref.finalize(self, _close, hip, self.ordinal, self._pid, self.stream, self._modules)

    def __enter__(self) -> "HipDevice":
        stack: list[int] = self._outer.__dict__.setdefault("stack", [])
        stack.append(self._hip.current_device())
        self._hip.use_device(self.ordinal)
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(MlcError):  # of a dead device; what killed it is already on its way up
            self._hip.use_device(self._outer.stack.pop())

    # -- code and memory ------------------------------------------------------------------------------------------------

    def load(self, kernels: Iterable[Kernel], objects: Mapping[str, bytes]) -> None:
        modules: dict[str, int] = {}
        for kernel in kernels:
            if kernel.object not in modules:
                modules[kernel.object] = self._module(kernel.object, objects)
            try:
                self._functions[kernel.name] = self._hip.function(modules[kernel.object], kernel.symbol)
            except MlcError as e:
                raise type(e)(f"{kernel} in {kernel.object}: {e.message}", hint=e.hint) from None

    def _module(self, name: str, objects: Mapping[str, bytes]) -> int:
        if name not in objects:
            raise ArtifactError(f"plan.json: {name} is not in the artifact")
        try:
            module = self._hip.load_module(objects[name])
        except MlcError as e:
            version = ".".join(map(str, self._hip.version))
            raise type(e)(f"{name} cannot be loaded on {self.name} with HIP {version}: {e.message}", hint=e.hint) from None
        self._modules.append(module)
        return module

    def free_bytes(self) -> int:
        return self._hip.free_bytes()

    def allocate(self, size: int) -> int:
        return self._hip.allocate(size)

    def free(self, address: int) -> None:
        _quietly(self._pid, self._hip.free, address)

    def allocate_host(self, size: int) -> int:
        return self._hip.allocate_host(size)

    def free_host(self, address: int) -> None:
        _quietly(self._pid, self._hip.free_host, address)

    # -- the stream -----------------------------------------------------------------------------------------------------

    def upload(self, target: int, host: int, size: int) -> None:
        self._hip.upload(target, host, size, self.stream)

    def download(self, host: int, source: int, size: int) -> None:
        self._hip.download(host, source, size, self.stream)

    def synchronize(self) -> None:
        self._hip.synchronize(self.stream)

    def wait_for(self, stream: int) -> None:
        event = self._hip.event(timing=False)
        try:
            self._hip.record(event, stream)
            self._hip.wait(self.stream, event)
        finally:
            self._hip.destroy_event(event)  # in effect once nothing waits for it

    def pointer_device(self, address: int) -> int:
        return self._hip.pointer_device(address)

    def read(self, address: int, size: int) -> bytes:
        host = ctypes.create_string_buffer(size)
        self._hip.download(ctypes.addressof(host), address, size, self.stream)
        self.synchronize()
        return host.raw

    # -- commands -------------------------------------------------------------------------------------------------------

    def issue(self, commands: Iterable[Command]) -> None:
        for command in commands:
            match command:
                case Launch():
                    self._launch(command.kernel, [a for a in command.args if isinstance(a, int)])  # tensor maps are CUDA's alone
                case Copy():
                    self._hip.copy(command.target, command.source, command.bytes, self.stream)
                case Set():
                    width = next(w for w in (4, 2, 1) if len(command.data) % w == 0 and command.target % w == 0)
                    for at in range(0, len(command.data), width):
                        number = int.from_bytes(command.data[at:at + width], "little")
                        self._hip.fill(command.target + at, number, width, 1, self.stream)

    def _launch(self, kernel: Kernel, args: Sequence[int]) -> None:
        n = len(args)
        values = (ctypes.c_uint64 * n)(*args)
        start = ctypes.addressof(values)
        pointers = (ctypes.c_uint64 * n)(*range(start, start + 8 * n, 8))
        self._hip.launch(self._functions[kernel.name], kernel.blocks, kernel.threads, kernel.shared_bytes, self.stream,
                         ctypes.addressof(pointers))

    def capture(self, commands: Sequence[Command]) -> int:
        self._hip.begin_capture(self.stream)
        try:
            self.issue(commands)
        except BaseException:
            self._hip.abort_capture(self.stream)
            raise
        return self._hip.end_capture(self.stream)

    def replay(self, graph: int) -> None:
        self._hip.launch_graph(graph, self.stream)

    def discard(self, graph: int) -> None:
        _quietly(self._pid, self._hip.destroy_graph, graph)

    # -- clocks ---------------------------------------------------------------------------------------------------------

    def time(self, work: Callable[[], None], count: int, flush: bool) -> list[float]:
        size = 2 * self._hip.l2_bytes(self.ordinal) if flush else 0
        scratch = self._hip.allocate(size) if flush else 0
        times: list[float] = []
        with self._events(2 * min(count, _QUEUED)) as events:
            try:
                while len(times) < count:
                    pairs = list(zip(events[::2], events[1::2], strict=True))[:count - len(times)]
                    for start, end in pairs:
                        if flush:
                            self._hip.fill(scratch, 0, 4, size // 4, self.stream)
                        self._hip.record(start, self.stream)
                        work()
                        self._hip.record(end, self.stream)
                    self.synchronize()
                    times += [self._hip.elapsed(start, end) for start, end in pairs]
            finally:
                if flush:
                    self.free(scratch)
        return times

    def capture_timed(self, commands: Sequence[Command]) -> list[Command]:
        """Only a list: not every HIP can record events inside a graph."""
        return list(commands)

    def replay_timed(self, graph: Sequence[Command]) -> list[float]:
        with self._events(len(graph) + 1) as events:
            self._hip.record(events[0], self.stream)
            for command, event in zip(graph, events[1:], strict=True):
                self.issue([command])
                self._hip.record(event, self.stream)
            self.synchronize()
            return [self._hip.elapsed(start, end) for start, end in pairwise(events)]

    def discard_timed(self, graph: Sequence[Command]) -> None:
        """Nothing: see `capture_timed`."""

    @contextlib.contextmanager
    def _events(self, count: int) -> Iterator[list[int]]:
        events = [self._hip.event(timing=True) for _ in range(count)]
        try:
            yield events
        finally:
            for event in events:
                _quietly(self._pid, self._hip.destroy_event, event)


def _quietly(pid: int, call: Callable[[int], None], handle: int) -> None:
    """Gives something back. A forked child owns nothing; a dead device, or one torn down at exit, has nothing left."""
    if os.getpid() == pid:
        with contextlib.suppress(MlcError):
            call(handle)


def _close(hip: Hip, device: int, pid: int, stream: int, modules: Sequence[int]) -> None:
    _quietly(pid, hip.use_device, device)
    for module in modules:
        _quietly(pid, hip.unload_module, module)
    _quietly(pid, hip.destroy_stream, stream)
