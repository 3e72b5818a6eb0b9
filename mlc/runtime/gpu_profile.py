"""Where a run's GPU time goes: each command timed by itself, and the result as a trace that Perfetto and chrome://tracing open."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlc.errors import CompilerError
from mlc.runtime.gpu_device import GpuDevice
from mlc.runtime.gpu_run import Command, Copy, Launch


@dataclass(frozen=True)
class CommandTime:
    """GPU time of one launch, copy or set. name: the kernel's, or `copy`, `set`. nodes: the ONNX nodes that the kernel computes."""

    name: str
    milliseconds: float
    nodes: tuple[str, ...] = ()
    blocks: int = 0
    threads: int = 0
    shared_bytes: int = 0


class TimedDevice:
    """A device (see `gpu_run.Device`) that times each command. A kernel's time is its own: nothing overlaps, and none starts early."""

    def __init__(self, device: GpuDevice) -> None:
        self._device = device
        self._times: list[CommandTime] = []

    def take(self) -> list[CommandTime]:
        """What was timed since the last `take`."""
        times, self._times = self._times, []
        return times

    def issue(self, commands: Iterable[Command]) -> None:
        graph = self.capture(list(commands))
        try:
            self.replay(graph)
        finally:
            self.discard(graph)

    def capture(self, commands: Sequence[Command]) -> tuple[Any, Sequence[Command]]:
        return self._device.capture_timed(commands), commands

    def replay(self, graph: tuple[Any, Sequence[Command]]) -> None:
        self._times += map(_record, graph[1], self._device.replay_timed(graph[0]))

    def discard(self, graph: tuple[Any, Sequence[Command]]) -> None:
        self._device.discard_timed(graph[0])

    def read(self, address: int, size: int) -> bytes:
        return self._device.read(address, size)


def _record(command: Command, milliseconds: float) -> CommandTime:
    if isinstance(command, Launch):
        kernel = command.kernel
        return CommandTime(kernel.name, milliseconds, kernel.nodes, kernel.blocks, kernel.threads, kernel.shared_bytes)
    return CommandTime("copy" if isinstance(command, Copy) else "set", milliseconds)


def medians(runs: Sequence[Sequence[CommandTime]]) -> list[CommandTime]:
    """The runs as one, each command with the median of its times. Raises CompilerError if they did not run the same commands."""
    if len({tuple(c.name for c in run) for run in runs}) != 1:
        raise CompilerError("the same inputs made the model run different kernels from run to run")
    return [replace(column[0], milliseconds=float(np.median([c.milliseconds for c in column]))) for column in zip(*runs, strict=True)]


def chrome_trace(times: Sequence[CommandTime], process: str) -> str:
    """JSON in the trace event format: the commands one behind the other on a row called `process`, ONNX nodes among the arguments."""
    events: list[dict[str, Any]] = [{"ph": "M", "name": "process_name", "pid": 0, "args": {"name": process}}]
    start = 0.0
    for time in times:
        microseconds = 1e3 * time.milliseconds
        arguments = {"onnx nodes": list(time.nodes), "blocks": time.blocks, "threads": time.threads, "shared bytes": time.shared_bytes}
        events.append({"ph": "X", "name": time.name, "cat": "kernel" if time.blocks else "memory", "pid": 0, "tid": 0, "ts": start,
                       "dur": microseconds, "args": arguments if time.blocks else {}})
        start += microseconds
    return json.dumps({"displayTimeUnit": "ns", "traceEvents": events}, indent=1) + "\n"
