"""A device without graphs: what would be a graph's replay is queued anew, command by command, for somebody else to watch or to capture."""

from collections.abc import Iterable, Sequence

from mlc.runtime.gpu_device import GpuDevice
from mlc.runtime.gpu_run import Command


class Ungraphed:
    """A device (see `gpu_run.Device`) whose graphs are lists. count: of the commands queued so far."""

    def __init__(self, device: GpuDevice) -> None:
        self.device, self.count = device, 0

    def issue(self, commands: Iterable[Command]) -> None:
        queued = list(commands)
        self.count += len(queued)
        self.device.issue(queued)

    def capture(self, commands: Sequence[Command]) -> Sequence[Command]:
        return commands

    def replay(self, graph: Sequence[Command]) -> None:
        self.issue(graph)

    def discard(self, graph: Sequence[Command]) -> None:
        """Nothing to give back."""

    def read(self, address: int, size: int) -> bytes:
        return self.device.read(address, size)
