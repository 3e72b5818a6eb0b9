"""`Executable`: a compiled model as a function of arrays. Checks what comes in, allocates what goes out, leaves the run to a backend."""
# pyright: strict, reportUnknownMemberType=false

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from mlc.artifact import Artifact, TensorSpec, aligned_empty, plan_tensors
from mlc.errors import ArtifactError, InputError, OptionError
from mlc.runtime.device_array import DeviceArray, DeviceView, device_view
from mlc.runtime.gpu_device import GpuDevice
from mlc.runtime.gpu_profile import CommandTime
from mlc.runtime.gpu_program import PreparedRun
from mlc.runtime.tensors import as_tensor, check_value, random_tensor


class Program(Protocol):
    """What a backend makes of an artifact: loaded code, its memory and threads."""

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        """Runs the plan once; may be called from several threads, and returns when `outputs` are written.

        inputs: the plan's inputs without a fixed value, in order; exact dtype and shape, C-contiguous, element-aligned; not to be written.
        outputs: 64-aligned arrays to fill, in order. Zero-size arrays have a valid but meaningless address.
        """
        ...


@runtime_checkable
class DeviceProgram(Program, Protocol):
    """A program whose memory is a GPU's. `run` also takes inputs that lie there."""

    device: GpuDevice

    def run_device(self, inputs: Sequence[np.ndarray | DeviceView]) -> list[DeviceArray]:
        """As `run`, with new GPU memory for each output."""
        ...

    def prepare(self, inputs: Sequence[np.ndarray | DeviceView]) -> PreparedRun:
        """The inputs in place, for runs that copy nothing."""
        ...

    def time(self, inputs: Sequence[np.ndarray | DeviceView], count: int, warmup: int, flush: bool) -> list[float]:
        """GPU milliseconds of each of `count` runs, transfers left out. flush: each with an empty L2 cache."""
        ...

    def profile(self, inputs: Sequence[np.ndarray | DeviceView], count: int) -> list[CommandTime]:
        """Median GPU time of each kernel of a run, in order."""
        ...


@dataclass(frozen=True)
class Group:
    """One input or output as ONNX declares it: a tensor, or a sequence or optional whose tensors the plan lists one by one.

    items: indices into the plan's inputs or outputs. An optional has none or one.
    An output whose size along `axis` depends on data is `bounded`: items are a tensor of the largest size and its actual size.
    """

    name: str
    kind: str
    items: tuple[int, ...]
    axis: int = 0


@dataclass(frozen=True)
class BenchResult:
    """Times of runs, in milliseconds. clock: `wall`, of whole calls (checks, transfers and output allocation included), or `gpu`.

    times: all of them, in order.
    """

    repeat: int
    median: float
    p10: float
    p90: float
    min: float
    max: float
    mean: float
    clock: str = "wall"
    times: tuple[float, ...] = field(default=(), repr=False)

    @staticmethod
    def of(times: Sequence[float], clock: str) -> "BenchResult":
        """The statistics of at least one time in milliseconds."""
        p10, median, p90 = (float(x) for x in np.percentile(times, (10, 50, 90)))
        return BenchResult(len(times), median, p10, p90, min(times), max(times), sum(times) / len(times), clock, tuple(times))

    def __str__(self) -> str:
        what = "runs, GPU time" if self.clock == "gpu" else "runs"
        return f"median {self.median:.4g} ms (p10 {self.p10:.4g}, p90 {self.p90:.4g}, min {self.min:.4g}; {self.repeat} {what})"


class Executable:
    """A loaded model. `exe(*arrays, **named)` returns the outputs in order; `exe.run({...})` goes by name both ways.

    inputs, outputs: one TensorSpec per tensor. A sequence is passed and returned as a list of arrays, an optional as an array or None.
    An input whose value was fixed at compile time may be left out; given, it must be the same.
    Calls from several threads are safe; they take turns.
    On a GPU an input may also be a tensor in that GPU's memory (`__dlpack__` or `__cuda_array_interface__`): it does not visit the host.
    """

    def __init__(self, artifact: Artifact, program: Program) -> None:
        self.artifact = artifact
        self.inputs = plan_tensors(artifact.plan, "inputs")
        self.outputs = plan_tensors(artifact.plan, "outputs")
        signature: Mapping[str, Any] = artifact.plan.get("signature") or {}
        self.input_groups = _groups(signature.get("inputs"), self.inputs)
        self.output_groups = _groups(signature.get("outputs"), self.outputs)
        self._program = program
        self._device = program.device if isinstance(program, DeviceProgram) else None
        self._plain_outputs = all(g.kind == "tensor" for g in self.output_groups)
        self._free = [g.name for g in self.input_groups if not self._omissible(g)]
        self._names = {g.name for g in self.input_groups}

    @property
    def target(self) -> str:
        """The target it was compiled for, such as `cpu`."""
        return self.artifact.target

    @property
    def device(self) -> str | None:
        """The GPU it is loaded on, such as `NVIDIA H200 (sm_90)`; None on a CPU."""
        return None if self._device is None else self._device.name

    @property
    def plan(self) -> Mapping[str, Any]:
        """The artifact's plan.json."""
        return self.artifact.plan

    def __call__(self, /, *arrays: Any, **named: Any) -> list[Any]:
        """Runs the model. Positional arguments are all inputs in order, or all those that may not be left out; the rest goes by name.

        Returns the outputs in order, each a new numpy array (a list or None for a sequence or optional).
        Raises InputError for a wrong name, dtype, shape or value, ResourceError if an output does not fit memory.
        """
        return self._run(self._positional(arrays, named) if arrays else named)

    def run(self, inputs: Mapping[str, Any], *, device: bool = False) -> dict[str, Any]:
        """Runs the model by name: input name -> value in, output name -> value out. Raises as `__call__` does.

        device: outputs stay in GPU memory, each a new DeviceArray; OptionError if the model is not for a GPU. An output whose size depends
        on data comes with the largest size it can have, and its actual size beside it in a tuple.
        """
        values = self._run_device(inputs) if device else self._run(inputs)
        return {g.name: value for g, value in zip(self.output_groups, values, strict=True)}

    def prepare(self, inputs: Mapping[str, Any] | Sequence[Any]) -> PreparedRun:
        """Puts inputs (by name or in order) into the model's GPU memory, for runs without copies that the caller queues or captures.

        Raises what a call raises, and OptionError if the model is not for a GPU.
        """
        return self._on_device().prepare(self._bound(self._values(inputs)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the `.mlc` file. Raises ResourceError."""
        self.artifact.save(path)

    def random_inputs(self, seed: int = 0) -> dict[str, Any]:
        """Inputs for `run`, the same for the same seed: see `tensors.random_tensor` for their distribution."""
        rng = np.random.default_rng(seed)
        tensors = [random_tensor(spec, rng) for spec in self.inputs]
        return {g.name: _pack(g, tensors) for g in self.input_groups}

    def bench(self, inputs: Mapping[str, Any] | Sequence[Any] | None = None, repeat: int = 100, warmup: int = 10,
              clock: str | None = None, flush_l2: bool = False) -> BenchResult:
        """Times `repeat` runs after `warmup` unmeasured ones. inputs: by name or in order; random ones by default.

        clock: `wall` for whole calls, `gpu` for the GPU's own time of the model without transfers; default: `gpu` where there is one.
        flush_l2: empty the GPU's L2 cache before each run (`gpu` only). Raises OptionError, and what a call raises.
        """
        if repeat < 1 or warmup < 0:
            raise OptionError(f"found repeat={repeat}, warmup={warmup}, expected at least 1 and 0")
        clock = clock or ("wall" if self._device is None else "gpu")
        if clock not in ("wall", "gpu"):
            raise OptionError(f"found clock={clock!r}, expected 'wall' or 'gpu'")
        if flush_l2 and clock == "wall":
            raise OptionError("flush_l2 needs the GPU's clock", hint="clock='gpu', with a model for a GPU")
        values = self._values(inputs)
        if clock == "gpu":
            program = self._on_device()
            return BenchResult.of(program.time(self._bound(values), repeat, warmup, flush_l2), clock)
        for _ in range(warmup):
            self._run(values)
        times: list[float] = []
        for _ in range(repeat):
            start = time.perf_counter_ns()
            self._run(values)
            times.append((time.perf_counter_ns() - start) / 1e6)
        return BenchResult.of(times, clock)

    def profile(self, inputs: Mapping[str, Any] | Sequence[Any] | None = None, repeat: int = 10) -> list[CommandTime]:
        """GPU time of each kernel of a run, in order: the median of `repeat` runs. `gpu_profile.chrome_trace` makes a file of it.

        Each kernel is measured by itself, so that the sum is more than a run takes. Raises OptionError if the model is not for a GPU.
        """
        if repeat < 1:
            raise OptionError(f"found repeat={repeat}, expected at least 1")
        return self._on_device().profile(self._bound(self._values(inputs)), repeat)

    def __repr__(self) -> str:
        inputs, outputs = ", ".join(map(str, self.inputs)), ", ".join(map(str, self.outputs))
        return f"<mlc.Executable {self.target} ({inputs}) -> ({outputs})>"

    def _positional(self, arrays: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
        names = [g.name for g in self.input_groups]
        # Either everything, or what must be given, less what comes by name.
        if len(arrays) != len(names) and any(n not in self._free for n in names):
            names = [n for n in self._free if n not in named]
        if len(arrays) > len(names):
            raise self._error(f"found {len(arrays)} positional inputs, expected at most {len(names)}")
        values = dict(zip(names, arrays, strict=False))
        for name in named:
            if name in values:
                raise self._error(f"input {name!r} is given by position and by name")
        return {**values, **named}

    def _values(self, inputs: Mapping[str, Any] | Sequence[Any] | None) -> Mapping[str, Any]:
        if inputs is None:
            return self.random_inputs()
        return inputs if isinstance(inputs, Mapping) else self._positional(tuple(inputs), {})

    def _run(self, values: Mapping[str, Any]) -> list[Any]:
        inputs = self._bound(values)
        outputs = [aligned_empty(spec.shape, spec.dtype.numpy) for spec in self.outputs]
        self._program.run(inputs, outputs)
        if self._plain_outputs:
            return [outputs[g.items[0]] for g in self.output_groups]
        return [_pack(g, outputs) for g in self.output_groups]

    def _run_device(self, values: Mapping[str, Any]) -> list[Any]:
        arrays = self._on_device().run_device(self._bound(values))
        return [tuple(arrays[i] for i in g.items) if g.kind == "bounded" else _pack(g, arrays) for g in self.output_groups]

    def _on_device(self) -> DeviceProgram:
        if not isinstance(self._program, DeviceProgram):
            raise OptionError(f"the model is for target {self.target!r}, which is no GPU")
        return self._program

    def _bound(self, values: Mapping[str, Any]) -> list[Any]:
        """One array or view per plan input that is passed. Raises InputError that lists the model's inputs."""
        try:
            if self._device is None:
                return [t for t in self._bind(values) if t is not None]
            with self._device:
                return [t for t in self._bind(values) if t is not None]
        except InputError as e:
            raise self._error(e.message, e.hint) from None

    def _bind(self, values: Mapping[str, Any]) -> list[np.ndarray | DeviceView | None]:
        """One array or view per plan input, None for those with a fixed value."""
        for name in values:
            if name not in self._names:
                raise InputError(f"found an input {name!r} that the model does not have")
        tensors: list[np.ndarray | DeviceView | None] = [None] * len(self.inputs)
        for group in self.input_groups:
            if group.name not in values:
                if not self._omissible(group):
                    raise InputError(f"input {group.name!r} is missing")
                continue
            for index, value in zip(group.items, self._unpack(group, values[group.name]), strict=True):
                spec = self.inputs[index]
                if spec.value is not None:
                    check_value(as_tensor(value, spec), spec)
                    continue
                view = None if self._device is None or type(value) is np.ndarray else device_view(value, spec, self._device)
                tensors[index] = as_tensor(value, spec) if view is None else view
        return tensors

    def _unpack(self, group: Group, value: Any) -> Iterator[Any]:
        if group.kind == "sequence":
            if not isinstance(value, (list, tuple)):
                raise InputError(f"input {group.name!r}: found {type(value).__name__}, expected a list of {len(group.items)} tensors")
            items = cast("list[object]", value)
            if len(items) != len(group.items):
                raise InputError(f"input {group.name!r}: found a sequence of {len(items)} tensors, expected {len(group.items)} "
                                 "(fixed at compile time)")
            yield from items
        elif (value is None) != (not group.items):
            found, expected = ("None", "a tensor") if value is None else ("a tensor", "None")
            why = " (fixed at compile time)" if group.kind == "optional" else ""
            raise InputError(f"input {group.name!r}: found {found}, expected {expected}{why}")
        elif group.items:
            yield value

    def _omissible(self, group: Group) -> bool:
        return (group.kind == "optional" or bool(group.items)) and all(self.inputs[i].value is not None for i in group.items)

    def _error(self, message: str, hint: str | None = None) -> InputError:
        inputs = [_show(g, self.inputs) + (" (may be left out)" if self._omissible(g) else "") for g in self.input_groups]
        expected = f"the model's inputs are {', '.join(inputs) or 'none'}"
        return InputError(message, hint=expected if hint is None else f"{hint}; {expected}")


def _show(group: Group, specs: list[TensorSpec]) -> str:
    if group.kind == "tensor":
        return str(specs[group.items[0]])
    return f"{group.name}: {group.kind}({', '.join(str(specs[i]) for i in group.items)})"


def _pack(group: Group, tensors: Sequence[Any]) -> Any:
    if group.kind == "sequence":
        return [tensors[i] for i in group.items]
    if group.kind == "bounded":
        whole, size = (tensors[i] for i in group.items)
        return np.ascontiguousarray(whole[(slice(None),) * group.axis + (slice(int(size)),)])
    return tensors[group.items[0]] if group.items else None


def _groups(entries: Any, specs: list[TensorSpec]) -> list[Group]:
    """The signature's groups; without a signature every tensor is its own. Raises ArtifactError unless they cover each tensor once."""
    if entries is None:
        return [Group(spec.name, "tensor", (i,)) for i, spec in enumerate(specs)]
    index = {spec.name: i for i, spec in enumerate(specs)}
    groups: list[Group] = []
    for entry in entries:
        match entry:
            case {"name": str(name), "kind": "tensor" | "sequence" | "optional" as kind, "items": [*items]} if index.keys() >= set(items):
                groups.append(Group(name, kind, tuple(index[i] for i in items)))
            case {"name": str(name), "kind": "bounded" as kind, "items": [str(whole), str(size)] as items, "axis": int(axis)} if (
                    whole in index and size in index and 0 <= axis < len(specs[index[whole]].shape) and specs[index[size]].shape == ()):
                groups.append(Group(name, kind, (index[whole], index[size]), axis))
            case _:
                raise ArtifactError(f"plan.json: bad signature entry {str(entry)[:200]}")
        if (kind == "tensor" and len(items) != 1) or (kind == "optional" and len(items) > 1):
            raise ArtifactError(f"plan.json: signature entry {name!r} is of kind {kind} and has {len(items)} tensors")
    if sorted(i for g in groups for i in g.items) != list(range(len(specs))):
        raise ArtifactError("plan.json: the signature does not cover each tensor once")
    return groups
