"""MLC_DEBUG_SYNC=1: every command is waited for, so that a fault is reported by the kernel that made it, with its ONNX nodes."""

from collections.abc import Iterable, Sequence

from mlc.errors import CompilerError
from mlc.runtime.gpu_device import GpuDevice, KernelFault
from mlc.runtime.gpu_run import Command, Launch


class SyncDevice:
    """A device (see `gpu_run.Device`) whose graphs are lists, run command by command."""

    def __init__(self, device: GpuDevice) -> None:
        self._device = device

    def issue(self, commands: Iterable[Command]) -> None:
        """Runs commands one at a time. Raises CompilerError that names the kernel at fault."""
        for command in commands:
            try:
                self._device.issue([command])
                self._device.synchronize()
            except KernelFault as fault:
                what = f"{command.kernel} faulted" if isinstance(command, Launch) else f"{command} failed"
                addresses = [a if isinstance(a, int) else a.address for a in command.args] if isinstance(command, Launch) else []
                where = f", with arguments at {', '.join(map(hex, addresses))}" if addresses else ""
                raise CompilerError(f"{fault.reason}: {what}{where}", hint=fault.hint) from fault

    def capture(self, commands: Sequence[Command]) -> Sequence[Command]:
        return commands

    def replay(self, graph: Sequence[Command]) -> None:
        self.issue(graph)

    def discard(self, graph: Sequence[Command]) -> None:
        """Nothing to give back."""

    def read(self, address: int, size: int) -> bytes:
        return self._device.read(address, size)
