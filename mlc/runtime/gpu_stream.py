"""A GPU behind a stream, events and graphs: what CUDA's and HIP's devices have in common. How a kernel is launched is left to them."""

import contextlib
import ctypes
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from mlc.errors import ArtifactError, MlcError
from mlc.runtime.gpu_plan import Kernel
from mlc.runtime.gpu_run import Command, Copy, Launch, Set

# Timed runs are queued while the GPU is still busy with something else, or short ones would be timed at the pace of the host.
QUEUED = 128  # of them at once: a driver's queue holds about a thousand commands, and blocks the host beyond
RUNS_PER_FILL = 2  # an estimate: filling twice the L2 takes a GPU longer than the host takes to queue so many runs and their events


class Api(Protocol):
    """Calls that CUDA's driver and HIP both have, of the thread's current device. Handles and addresses are ints, errors are typed.

    description: for messages, such as `HIP 6.3`.
    """

    @property
    def description(self) -> str: ...

    def l2_bytes(self, ordinal: int) -> int: ...
    def free_bytes(self) -> int: ...
    def allocate(self, size: int) -> int: ...
    def free(self, address: int) -> None: ...
    def allocate_host(self, size: int) -> int: ...
    def free_host(self, address: int) -> None: ...
    def upload(self, target: int, source: int, size: int, stream: int) -> None: ...
    def download(self, target: int, source: int, size: int, stream: int) -> None: ...
    def copy(self, target: int, source: int, size: int, stream: int) -> None: ...
    def fill(self, target: int, value: int, width: int, count: int, stream: int) -> None: ...
    def pointer_device(self, address: int) -> int: ...
    def stream(self) -> int: ...
    def destroy_stream(self, stream: int) -> None: ...
    def synchronize(self, stream: int) -> None: ...
    def event(self, timing: bool) -> int: ...
    def destroy_event(self, event: int) -> None: ...
    def record(self, event: int, stream: int) -> None: ...
    def wait(self, stream: int, event: int) -> None: ...
    def elapsed(self, start: int, end: int) -> float: ...
    def load_module(self, image: bytes) -> int: ...
    def unload_module(self, module: int) -> None: ...
    def begin_capture(self, stream: int) -> None: ...
    def end_capture(self, stream: int) -> int: ...
    def abort_capture(self, stream: int) -> None: ...
    def launch_graph(self, graph: int, stream: int) -> None: ...
    def destroy_graph(self, graph: int) -> None: ...


class StreamDevice(ABC):
    """Implements `gpu_device.GpuDevice` but for `capture_timed` and its like.

    kind, ordinal: DLPack's device type and number. current: makes the device this thread's; is entered again inside itself.
    """

    def __init__(self, api: Api, kind: int, ordinal: int, name: str, current: AbstractContextManager[object]) -> None:
        self.kind, self.ordinal, self.name, self.stream = kind, ordinal, name, 0
        self._api, self._current = api, current
        self._give_back = GiveBack(current)
        self._modules: list[int] = []
        with self:
            self.stream = api.stream()
        weakref.finalize(self, _close, self._give_back, api, self.stream, self._modules)

    def __enter__(self) -> "StreamDevice":
        self._current.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._current.__exit__(*error)

    @abstractmethod
    def add_kernel(self, kernel: Kernel, module: int) -> None:
        """Makes a kernel of a loaded module ready to be launched."""

    @abstractmethod
    def launch(self, command: Launch, after_kernel: bool) -> None:
        """Queues a kernel. after_kernel: what was queued before it is one, too."""

    # -- code and memory ------------------------------------------------------------------------------------------------

    def load(self, kernels: Iterable[Kernel], objects: Mapping[str, bytes]) -> None:
        modules: dict[str, int] = {}
        for kernel in kernels:
            if kernel.object not in modules:
                modules[kernel.object] = self._module(kernel.object, objects)
            try:
                self.add_kernel(kernel, modules[kernel.object])
            except MlcError as e:
                raise type(e)(f"{kernel} in {kernel.object}: {e.message}", hint=e.hint) from None

    def _module(self, name: str, objects: Mapping[str, bytes]) -> int:
        if name not in objects:
            raise ArtifactError(f"plan.json: {name} is not in the artifact")
        try:
            module = self._api.load_module(objects[name])
        except MlcError as e:
            raise type(e)(f"{name} cannot be loaded on {self.name} with {self._api.description}: {e.message}", hint=e.hint) from None
        self._modules.append(module)
        return module

    def free_bytes(self) -> int:
        return self._api.free_bytes()

    def allocate(self, size: int) -> int:
        return self._api.allocate(size)

    def free(self, address: int) -> None:
        self._give_back(self._api.free, address)

    def allocate_host(self, size: int) -> int:
        return self._api.allocate_host(size)

    def free_host(self, address: int) -> None:
        self._give_back(self._api.free_host, address)

    # -- the stream -----------------------------------------------------------------------------------------------------

    def upload(self, target: int, host: int, size: int) -> None:
        self._api.upload(target, host, size, self.stream)

    def download(self, host: int, source: int, size: int) -> None:
        self._api.download(host, source, size, self.stream)

    def synchronize(self) -> None:
        self._api.synchronize(self.stream)

    def wait_for(self, stream: int) -> None:
        event = self._api.event(timing=False)
        try:
            self._api.record(event, stream)
            self._api.wait(self.stream, event)
        finally:
            self._api.destroy_event(event)  # in effect once nothing waits for it

    def pointer_device(self, address: int) -> int:
        return self._api.pointer_device(address)

    def read(self, address: int, size: int) -> bytes:
        host = ctypes.create_string_buffer(size)  # pageable: the copy is staged, and this is no hot path
        self.download(ctypes.addressof(host), address, size)
        self.synchronize()
        return host.raw

    # -- commands -------------------------------------------------------------------------------------------------------

    def issue(self, commands: Iterable[Command]) -> None:
        after_kernel = False
        for command in commands:
            self.queue(command, after_kernel)
            after_kernel = isinstance(command, Launch)

    def queue(self, command: Command, after_kernel: bool) -> None:
        """Queues one command; see `launch`."""
        match command:
            case Launch():
                self.launch(command, after_kernel)
            case Copy():
                self._api.copy(command.target, command.source, command.bytes, self.stream)
            case Set():
                width = next(w for w in (4, 2, 1) if len(command.data) % w == 0 and command.target % w == 0)
                for at in range(0, len(command.data), width):
                    number = int.from_bytes(command.data[at:at + width], "little")
                    self._api.fill(command.target + at, number, width, 1, self.stream)

    def capture(self, commands: Sequence[Command]) -> int:
        return self.captured(lambda: self.issue(commands))

    def captured(self, work: Callable[[], None]) -> int:
        """What `work` queues, as a graph."""
        self._api.begin_capture(self.stream)
        try:
            work()
        except BaseException:
            self._api.abort_capture(self.stream)
            raise
        return self._api.end_capture(self.stream)

    def replay(self, graph: int) -> None:
        self._api.launch_graph(graph, self.stream)

    def discard(self, graph: int) -> None:
        self._give_back(self._api.destroy_graph, graph)

    # -- clocks ---------------------------------------------------------------------------------------------------------

    def time(self, work: Callable[[], None], count: int, flush: bool) -> list[float]:
        size = 2 * self._api.l2_bytes(self.ordinal)
        scratch = self.allocate(size)
        times: list[float] = []
        with self.clocks(2 * min(count, QUEUED)) as events:
            try:
                while len(times) < count:
                    pairs = list(zip(events[::2], events[1::2], strict=True))[:count - len(times)]
                    for _ in range(0 if flush else -(-len(pairs) // RUNS_PER_FILL)):
                        self._api.fill(scratch, 0, 4, size // 4, self.stream)
                    for start, end in pairs:
                        if flush:
                            self._api.fill(scratch, 0, 4, size // 4, self.stream)
                        self._api.record(start, self.stream)
                        work()
                        self._api.record(end, self.stream)
                    self.synchronize()
                    times += [self._api.elapsed(start, end) for start, end in pairs]
            finally:
                self.free(scratch)
        return times

    @contextmanager
    def clocks(self, count: int) -> Iterator[list[int]]:
        """Events that can be timed, given back at the end."""
        events = [self._api.event(timing=True) for _ in range(count)]
        try:
            yield events
        finally:
            for event in events:
                self._give_back(self._api.destroy_event, event)


class GiveBack:
    """Gives handles back, and never raises: a forked child owns nothing; a dead GPU, or one torn down at exit, has nothing left."""

    def __init__(self, current: AbstractContextManager[object]) -> None:
        self._current, self._pid = current, os.getpid()

    def __call__(self, call: Callable[[int], None], handle: int) -> None:
        if os.getpid() == self._pid:
            with contextlib.suppress(MlcError), self._current:
                call(handle)


def _close(give_back: GiveBack, api: Api, stream: int, modules: Sequence[int]) -> None:
    give_back(api.destroy_stream, stream)
    for module in modules:
        give_back(api.unload_module, module)
