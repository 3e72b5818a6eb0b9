"""A GPU artifact as a Program: its memory on the device, its inputs and outputs through pinned staging, its plan through `gpu_run`."""

import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

import numpy as np

from mlc.artifact import Artifact, plan_tensors
from mlc.errors import CompilerError, OptionError, ResourceError
from mlc.options import env, format_size
from mlc.runtime.device_array import Block, DeviceArray, DeviceView, host_bytes
from mlc.runtime.gpu_debug import SyncDevice
from mlc.runtime.gpu_device import GpuDevice, KernelFault
from mlc.runtime.gpu_plan import GpuPlan, Kernel
from mlc.runtime.gpu_profile import CommandTime, TimedDevice, medians
from mlc.runtime.gpu_run import Buffer, Copy, PlanRunner
from mlc.runtime.gpu_ungraphed import Ungraphed

ALIGN = 256  # bytes, of every buffer: as device memory itself


class GpuProgram:
    """Implements `mlc.runtime.executor.DeviceProgram`. Calls from several threads take turns.

    Loading allocates everything: the arena, the weights, and fixed buffers for inputs and outputs. Raises ResourceError with all four sizes
    if the GPU has less free, ArtifactError if the artifact is malformed, and what the device raises for code that it cannot load.
    """

    def __init__(self, artifact: Artifact, device: GpuDevice) -> None:
        self.device = device
        self._plan = GpuPlan.parse(artifact.plan)
        self._lock = threading.Lock()
        weights = [_raw(w) for w in artifact.weights]
        inputs = [s.bytes for s in plan_tensors(artifact.plan, "inputs") if s.value is None]
        self._outputs = plan_tensors(artifact.plan, "outputs")
        outputs = [s.bytes for s in self._outputs]
        with device:
            device.load(self._plan.kernels.values(), artifact.objects)
            spaces = {"arena": [self._plan.arena_bytes], "weight": [len(w) for w in weights], "input": inputs, "output": outputs}
            layouts = {space: _layout(sizes) for space, sizes in spaces.items()}
            self._blocks = self._allocated({space: total for space, (_, total) in layouts.items()})
            self._memory = {space: [Buffer(block.address + at, size) for at, size in zip(layouts[space][0], spaces[space], strict=True)]
                            for space, block in self._blocks.items()}
            for array, buffer in zip(weights, self._memory["weight"], strict=True):
                if buffer.bytes:
                    device.upload(buffer.address, array.__array_interface__["data"][0], buffer.bytes)
            device.synchronize()
        self._runner = PlanRunner(self._plan, self._memory, device if env("MLC_DEBUG_SYNC") is None else SyncDevice(device))
        weakref.finalize(self, self._runner.close)

    def run(self, inputs: Sequence[np.ndarray | DeviceView], outputs: Sequence[np.ndarray]) -> None:
        """See `mlc.runtime.executor.Program`; an input may also be a view of this GPU's memory, which is copied there."""
        with self._running(inputs):
            self._runner.run()
            for buffer, staged in zip(self._memory["output"], self._staged_outputs, strict=True):
                if buffer.bytes:
                    self.device.download(staged.ctypes.data, buffer.address, buffer.bytes)
            self.device.synchronize()
            for array, staged in zip(outputs, self._staged_outputs, strict=True):
                _raw(array)[:] = staged

    def run_device(self, inputs: Sequence[np.ndarray | DeviceView]) -> list[DeviceArray]:
        """As `run`, with new GPU memory for each output."""
        with self._running(inputs):
            blocks = [Block(spec.bytes, self.device.allocate, self.device.free) for spec in self._outputs]
            arrays = [DeviceArray(spec, self.device, block.address, block) for spec, block in zip(self._outputs, blocks, strict=True)]
            self._runner.run()
            self.device.issue([Copy(array.address, buffer.address, buffer.bytes)
                               for array, buffer in zip(arrays, self._memory["output"], strict=True) if buffer.bytes])
            self.device.synchronize()
            return arrays

    def time(self, inputs: Sequence[np.ndarray | DeviceView], count: int, warmup: int, flush: bool) -> list[float]:
        """GPU milliseconds of `count` runs of the plan, inputs and outputs in place. flush: with an empty L2 cache.

        Runs are queued ahead of the GPU; where one takes less than queueing it (about 15 us), it is the host that is measured.
        """
        with self._running(inputs):
            for _ in range(max(1, warmup)):
                self._runner.run()
            return self.device.time(self._runner.run, count, flush)

    def profile(self, inputs: Sequence[np.ndarray | DeviceView], count: int) -> list[CommandTime]:
        """GPU time of each command of a run, in order: the median of `count` runs, each command measured by itself."""
        with self._running(inputs):
            timed = TimedDevice(self.device)
            runner = PlanRunner(self._plan, self._memory, timed)
            runs: list[list[CommandTime]] = []
            try:
                for _ in range(count + 1):  # one for warming up
                    runner.run()
                    runs.append(timed.take())
            finally:
                runner.close()
            return medians(runs[1:])

    def prepare(self, inputs: Sequence[np.ndarray | DeviceView]) -> "PreparedRun":
        """Puts the inputs in place, for any number of runs that copy nothing."""
        with self._running(inputs):
            self.device.synchronize()  # behind this, arrays of the caller's are not needed any more
        outputs = [DeviceArray(spec, self.device, buffer.address, self)
                   for spec, buffer in zip(self._outputs, self._memory["output"], strict=True)]
        return PreparedRun(self, outputs, self._plan.is_static)

    def queue(self) -> None:
        """See `PreparedRun`, as for the next two."""
        with self._using():
            self._runner.run()

    def record(self) -> int:
        if not self._plan.is_static:
            raise OptionError("the model decides from values in memory what it runs, so that it cannot be recorded", hint="queue() runs it")
        with self._using():
            device = Ungraphed(self.device)
            PlanRunner(self._plan, self._memory, device).run()
            return device.count

    def wait(self) -> None:
        with self._using():
            self.device.synchronize()

    @contextmanager
    def _using(self) -> Iterator[None]:
        """The device is this thread's, and nobody else's; a fault names the kernels."""
        with self._lock, self.device:
            try:
                yield
            except KernelFault as fault:
                raise self._described(fault) from fault

    @contextmanager
    def _running(self, inputs: Sequence[np.ndarray | DeviceView]) -> Iterator[None]:
        """One call, with its inputs in place."""
        with self._using():
            self._feed(inputs)
            yield

    def _feed(self, inputs: Sequence[np.ndarray | DeviceView]) -> None:
        for i, (value, buffer) in enumerate(zip(inputs, self._memory["input"], strict=True)):
            if not buffer.bytes:
                continue
            if isinstance(value, DeviceView):
                self.device.issue([Copy(buffer.address, value.address, buffer.bytes)])
            else:
                staged = self._staged_inputs[i]
                staged[:] = _raw(value)
                self.device.upload(buffer.address, staged.ctypes.data, buffer.bytes)

    @cached_property
    def _staging(self) -> dict[str, tuple[Block, list[np.ndarray]]]:
        """Pinned memory for inputs and outputs, made when host arrays are first passed."""
        staging: dict[str, tuple[Block, list[np.ndarray]]] = {}
        for space in ("input", "output"):
            sizes = [b.bytes for b in self._memory[space]]
            offsets, total = _layout(sizes)
            block = Block(total, self.device.allocate_host, self.device.free_host)
            staging[space] = block, [host_bytes(block.address + at, size) for at, size in zip(offsets, sizes, strict=True)]
        return staging

    @property
    def _staged_inputs(self) -> list[np.ndarray]:
        return self._staging["input"][1]

    @property
    def _staged_outputs(self) -> list[np.ndarray]:
        return self._staging["output"][1]

    def _allocated(self, sizes: dict[str, int]) -> dict[str, Block]:
        """A block of GPU memory per space. ResourceError says what the model needs, also where memory that is free cannot be had."""
        needed, free = sum(sizes.values()), self.device.free_bytes()
        parts = (f"arena {format_size(sizes['arena'])}, weights {format_size(sizes['weight'])}, "
                 f"inputs {format_size(sizes['input'])}, outputs {format_size(sizes['output'])}")
        wants = f"the model needs {format_size(needed)} of GPU memory ({parts}), found {format_size(free)} free on {self.device.name}"
        if needed > free:
            raise ResourceError(wants, hint="end other users of the GPU's memory, or compile for a smaller batch")
        try:
            return {space: Block(size, self.device.allocate, self.device.free) for space, size in sizes.items()}
        except ResourceError as e:
            raise ResourceError(f"{wants}, but {e.message}", hint=e.hint) from None

    def _described(self, fault: KernelFault) -> CompilerError:
        kernels = list(self._plan.kernels.values())
        if len(kernels) == 1:
            return CompilerError(f"{fault.reason}: {kernels[0]} faulted", hint=fault.hint)
        if isinstance(self._runner.device, SyncDevice):
            return CompilerError(f"{fault.reason}: a kernel faulted", hint=fault.hint)
        return CompilerError(f"{fault.reason}: one of the model's {len(kernels)} kernels faulted ({_few(kernels)})",
                             hint=f"MLC_DEBUG_SYNC=1 waits for each kernel and names the one at fault; {fault.hint}")


class PreparedRun:
    """Runs a model on the inputs it was prepared with (`Executable.prepare`), as often as wanted; nothing is copied or waited for.

    stream: handle of the GPU stream that runs are queued on; `torch.cuda.ExternalStream(run.stream)` makes it PyTorch's.
    outputs: in the order of `Executable.outputs`, over the model's own memory: each run overwrites them. Wait before reading them.
    is_static: every run is the same kernels, so that it can be recorded.
    Any other use of the executable replaces inputs and outputs.
    """

    def __init__(self, program: GpuProgram, outputs: list[DeviceArray], is_static: bool) -> None:
        self._program, self.outputs, self.is_static = program, outputs, is_static
        self.stream = program.device.stream

    def queue(self) -> None:
        """Queues one run as a call does it, as a graph where it can be. Waits only for values that decide what is run."""
        self._program.queue()

    def record(self) -> int:
        """Queues the kernels and copies of one run one by one, and counts them: for a caller who is capturing `stream` into a graph.

        Raises OptionError if the run is not static.
        """
        return self._program.record()

    def wait(self) -> None:
        """Returns when all that was queued is done. Raises CompilerError if a kernel faulted."""
        self._program.wait()


def _few(kernels: Sequence[Kernel]) -> str:
    return ", ".join(k.name for k in kernels[:5]) + (", ..." if len(kernels) > 5 else "")


def _raw(array: np.ndarray) -> np.ndarray:
    """The bytes of a C-contiguous array."""
    return array.reshape(-1).view(np.uint8)


def _layout(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Aligned offsets in one block, and the block's size."""
    offsets: list[int] = []
    end = 0
    for size in sizes:
        offsets.append(end)
        end += -(-size // ALIGN) * ALIGN
    return offsets, end
