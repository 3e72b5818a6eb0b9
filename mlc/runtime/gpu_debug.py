"""MLC_DEBUG_SYNC=1: every command is waited for, so that a fault is reported by the kernel that made it, with its ONNX nodes."""

from collections.abc import Iterable

from mlc.errors import CompilerError
from mlc.runtime.gpu_device import KernelFault
from mlc.runtime.gpu_run import Command, Launch
from mlc.runtime.gpu_ungraphed import Ungraphed


class SyncDevice(Ungraphed):
    """A device (see `gpu_run.Device`) that runs one command at a time."""

    def issue(self, commands: Iterable[Command]) -> None:
        """Runs commands one at a time. Raises CompilerError that names the kernel at fault."""
        for command in commands:
            try:
                super().issue([command])
                self.device.synchronize()
            except KernelFault as fault:
                what = f"{command.kernel} faulted" if isinstance(command, Launch) else f"{command} failed"
                addresses = [a if isinstance(a, int) else a.address for a in command.args] if isinstance(command, Launch) else []
                where = f", with arguments at {', '.join(map(hex, addresses))}" if addresses else ""
                raise CompilerError(f"{fault.reason}: {what}{where}", hint=fault.hint) from fault
