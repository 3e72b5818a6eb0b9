"""What a vendor's runtime gives to `gpu_program`: memory, transfers, code, graphs and clocks of one GPU, on one stream."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from mlc.errors import CompilerError
from mlc.runtime.gpu_plan import Kernel
from mlc.runtime.gpu_run import Command, Device


class KernelFault(CompilerError):
    """A kernel made the GPU stop. reason: the vendor's name for it. Whoever knows which kernels ran names them in an error of his own."""

    def __init__(self, call: str, reason: str) -> None:
        super().__init__(f"{call}: {reason}: a kernel faulted", hint="a GPU fault ends all GPU work of a process: start a new one")
        self.reason = reason


class GpuDevice(Device[Any], AbstractContextManager[object], Protocol):
    """One GPU. Every method is called inside `with device:`, which makes its context current on this thread.

    name: for messages. kind, ordinal: DLPack's device type and number. stream: handle of the stream on which everything is queued.
    Addresses are of device memory unless the parameter says host. Raises KernelFault where a kernel's fault comes to light.
    """

    name: str
    kind: int
    ordinal: int
    stream: int

    def load(self, kernels: Iterable[Kernel], objects: Mapping[str, bytes]) -> None:
        """Puts code on the GPU. Raises TargetError, ArtifactError."""
        ...

    def free_bytes(self) -> int:
        """Memory that is free now."""
        ...

    def allocate(self, size: int) -> int:
        """Device memory, 256-aligned. Raises ResourceError."""
        ...

    def free(self, address: int) -> None:
        """Never raises: after a fault, and at the end of the process, the driver has freed everything."""
        ...

    def allocate_host(self, size: int) -> int:
        """Pinned host memory. Raises ResourceError."""
        ...

    def free_host(self, address: int) -> None:
        """As `free`."""
        ...

    def upload(self, target: int, host: int, size: int) -> None:
        """Queues a copy from host memory, which must stay until it is done."""
        ...

    def download(self, host: int, source: int, size: int) -> None:
        """Queues a copy to host memory."""
        ...

    def synchronize(self) -> None:
        """Waits for everything queued."""
        ...

    def wait_for(self, stream: int) -> None:
        """What is queued from now on waits for what another stream has queued."""
        ...

    def pointer_device(self, address: int) -> int:
        """Number of the device that an address belongs to. Raises InputError if it belongs to none."""
        ...

    def time(self, work: Callable[[], None], count: int, flush: bool) -> list[float]:
        """GPU milliseconds of each of `count` calls of `work`, which queues commands. flush: empty the L2 cache before each."""
        ...

    def capture_timed(self, commands: Sequence[Command]) -> Any:
        """As `capture`, with a clock between any two commands."""
        ...

    def replay_timed(self, graph: Any) -> list[float]:
        """Runs such a graph and waits: milliseconds of each command."""
        ...

    def discard_timed(self, graph: Any) -> None:
        """Gives such a graph back."""
        ...
