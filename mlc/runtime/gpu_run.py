"""Follows a GPU plan: expressions become numbers, stretches without a read become graphs that are captured once and replayed."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Protocol, TypeVar

import numpy as np

from mlc.dtypes import BY_NAME
from mlc.errors import ArtifactError
from mlc.runtime.gpu_plan import (
    OPERATIONS,
    Apply,
    CopyStep,
    Expr,
    ForStep,
    GpuPlan,
    IfStep,
    Kernel,
    LaunchStep,
    LetStep,
    Load,
    MapLayout,
    MapRef,
    Ref,
    SetStep,
    Step,
    WhileStep,
    free_variables,
    is_static,
)

GRAPH_COMMANDS = 1 << 16  # a graph node costs about a kilobyte: longer stretches are not made into graphs
GRAPHS = 64  # kept per stretch: one for each recent value of the loop variables around it


@dataclass(frozen=True)
class TensorMap:
    """A `gpu_plan.MapRef` whose buffer is bound to an address."""

    address: int
    layout: MapLayout


@dataclass(frozen=True)
class Launch:
    """args: device addresses, and tensor maps that the kernel takes by value."""

    kernel: Kernel
    args: tuple[int | TensorMap, ...]


@dataclass(frozen=True)
class Copy:
    target: int
    source: int
    bytes: int


@dataclass(frozen=True)
class Set:
    target: int
    data: bytes


Command = Launch | Copy | Set
Graph = TypeVar("Graph")


class Device(Protocol[Graph]):
    """What the plan needs of a GPU. Each command sees the writes of those before it; only `read` waits."""

    def issue(self, commands: Iterable[Command]) -> None:
        """Queues commands one by one."""
        ...

    def capture(self, commands: Sequence[Command]) -> Graph:
        """Makes commands into a graph, without running them."""
        ...

    def replay(self, graph: Graph) -> None:
        """Queues a graph."""
        ...

    def discard(self, graph: Graph) -> None:
        """Gives a graph back."""
        ...

    def read(self, address: int, size: int) -> bytes:
        """Bytes of device memory, when all that was queued before is done."""
        ...


@dataclass(frozen=True)
class Buffer:
    """A range of device memory."""

    address: int
    bytes: int


Memory = Mapping[str, Sequence[Buffer]]
"""Space (`input`, `output`, `weight`, `arena`) -> its buffers, by index."""


@dataclass(eq=False)
class Stretch:
    """Consecutive steps that read nothing: for given values of their free variables always the same commands.

    graphs: by those values; None for values met once. Without free variables the first visit captures, else the second:
    a value that never comes back is not worth a graph.
    """

    steps: tuple[Step, ...]
    free: tuple[str, ...]
    graphs: OrderedDict[tuple[int, ...], Any] = field(default_factory=OrderedDict[tuple[int, ...], Any])


Node = Step | Stretch
Values = dict[str, int]


class PlanRunner:
    """A plan bound to memory and a device. `run` queues one run; a static plan is one graph. Not safe for concurrent calls."""

    def __init__(self, plan: GpuPlan, memory: Memory, device: Device[Any]) -> None:
        self._memory, self.device = memory, device
        self._nodes = _partition(plan.steps)

    def run(self) -> None:
        """Queues the plan's commands; where the plan reads memory, waits for it. Raises what the device raises, ArtifactError."""
        values: Values = {}
        for node in self._walk(self._nodes, values):
            if isinstance(node, Stretch):
                self._stretch(node, values)
            else:
                self.device.issue([self._command(node, values)])

    def close(self) -> None:
        """Gives all graphs back."""
        for stretch in _stretches(self._nodes):
            while stretch.graphs:
                self._drop(stretch)

    def _stretch(self, stretch: Stretch, values: Values) -> None:
        key = tuple(self._value(name, values) for name in stretch.free)
        graph = stretch.graphs.get(key)
        if graph is not None:
            stretch.graphs.move_to_end(key)
            self.device.replay(graph)
            return
        inner = dict(values)
        commands = (self._command(step, inner) for step in self._walk(stretch.steps, inner))
        head = list(islice(commands, GRAPH_COMMANDS + 1))
        if len(head) > GRAPH_COMMANDS:
            self.device.issue(chain(head, commands))
        elif len(head) < 2 or (stretch.free and key not in stretch.graphs):
            self._remember(stretch, key, None)
            self.device.issue(head)
        else:
            graph = self.device.capture(head)
            self._remember(stretch, key, graph)
            self.device.replay(graph)

    def _remember(self, stretch: Stretch, key: tuple[int, ...], graph: Any) -> None:
        stretch.graphs[key] = graph
        if len(stretch.graphs) > GRAPHS:
            self._drop(stretch)

    def _drop(self, stretch: Stretch) -> None:
        _, graph = stretch.graphs.popitem(last=False)
        if graph is not None:
            self.device.discard(graph)

    def _walk(self, nodes: Sequence[Node], values: Values) -> Iterator[Any]:
        """The launches, copies, sets and stretches in the order of control flow; `values` are those of the moment each is handed out."""
        for node in nodes:
            match node:
                case LetStep():
                    values[node.var] = self._value(node.value, values)
                case ForStep():
                    start, stop, step = (self._value(e, values) for e in (node.start, node.stop, node.step))
                    if step < 1:
                        raise ArtifactError(f"plan.json: a loop over {node.var} has step {step}, expected at least 1")
                    for values[node.var] in range(start, stop, step):
                        yield from self._walk(node.body, values)
                case WhileStep():
                    values[node.var] = self._value(node.start, values)
                    while self._value(node.condition, values):
                        yield from self._walk(node.body, values)
                        values[node.var] = self._value(node.next, values)
                case IfStep():
                    yield from self._walk(node.then if self._value(node.condition, values) else node.other, values)
                case LaunchStep(kernel=Kernel(blocks=0)) | CopyStep(bytes=0):
                    pass  # of empty tensors
                case _:
                    yield node

    def _command(self, step: Step, values: Values) -> Command:
        match step:
            case LaunchStep():
                return Launch(step.kernel, tuple(self._argument(arg, values) for arg in step.args))
            case CopyStep():
                return Copy(self._address(step.target, step.bytes, values), self._address(step.source, step.bytes, values), step.bytes)
            case SetStep():
                dtype = BY_NAME[step.type]
                number = self._value(step.value, values)
                wrapped = np.array(number & 0xFFFFFFFFFFFFFFFF, np.uint64).astype(dtype.numpy) if dtype.is_integer else np.array(number)
                data = wrapped.astype(dtype.numpy).tobytes()
                return Set(self._address(step.target, len(data), values), data)
            case _:
                raise AssertionError(step)

    def _argument(self, arg: Ref | MapRef, values: Values) -> int | TensorMap:
        if isinstance(arg, Ref):
            return self._address(arg, 0, values)
        return TensorMap(self._address(arg.buffer, arg.layout.bytes, values), arg.layout)

    def _address(self, ref: Ref, size: int, values: Values) -> int:
        buffer, offset = self._memory[ref.space][ref.index], self._value(ref.offset, values)
        if not 0 <= offset <= buffer.bytes - size:
            raise ArtifactError(f"plan.json: {size} bytes at {offset} of {ref.space} {ref.index}, which has {buffer.bytes}")
        return buffer.address + offset

    def _value(self, expr: Expr, values: Values) -> int:
        match expr:
            case int():
                return expr
            case str():
                if expr not in values:
                    raise ArtifactError(f"plan.json: {expr!r} is used where it has no value")
                return values[expr]
            case Apply():
                return OPERATIONS[expr.op](self._value(expr.left, values), self._value(expr.right, values))
            case Load():
                dtype = BY_NAME[expr.type].numpy
                data = self.device.read(self._address(expr.place, dtype.itemsize, values), dtype.itemsize)
                return int(np.frombuffer(data, dtype)[0])


def _partition(steps: Sequence[Step]) -> tuple[Node, ...]:
    """The steps with maximal runs of those that read nothing made into stretches. A `let` stays outside: later steps need its value."""
    nodes: list[Any] = []
    run: list[Step] = []

    def close() -> None:
        if run:
            nodes.append(Stretch(tuple(run), free_variables(run)))
            run.clear()

    for step in steps:
        if is_static(step) and not isinstance(step, LetStep):
            run.append(step)
            continue
        close()
        match step:  # what holds steps holds nodes from here on, which the type does not say
            case ForStep():
                step = ForStep(step.var, step.start, step.stop, step.step, _partition(step.body))  # type: ignore[arg-type]
            case WhileStep():
                step = WhileStep(step.var, step.start, step.condition, step.next, _partition(step.body))  # type: ignore[arg-type]
            case IfStep():
                step = IfStep(step.condition, _partition(step.then), _partition(step.other))  # type: ignore[arg-type]
            case _:
                pass
        nodes.append(step)
    close()
    return tuple(nodes)


def _stretches(nodes: Sequence[Node]) -> Iterator[Stretch]:
    for node in nodes:
        match node:
            case Stretch():
                yield node
            case ForStep() | WhileStep():
                yield from _stretches(node.body)
            case IfStep():
                yield from _stretches((*node.then, *node.other))
            case _:
                pass
