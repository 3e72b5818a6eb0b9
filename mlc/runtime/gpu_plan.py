"""A GPU's plan (docs/architecture.md) as typed steps, and the scalar expressions they hold. Plain data: `gpu_run` follows it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

from mlc.dtypes import BY_NAME
from mlc.errors import ArtifactError

SPACES = ("input", "output", "weight", "arena")


@dataclass(frozen=True)
class Apply:
    """An operation of two expressions."""

    op: str
    left: "Expr"
    right: "Expr"


@dataclass(frozen=True)
class Ref:
    """A place in memory. index: of the input, output or weight; 0 for the arena. offset: bytes."""

    space: str
    index: int
    offset: "Expr"


@dataclass(frozen=True)
class Load:
    """The value that memory holds at this point of the plan: what makes a plan dynamic."""

    place: Ref
    type: str


Expr = int | str | Apply | Load

# Numbers are whole and of any size: the compiler emits signed 64-bit arithmetic that does not wrap.
OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b,
    "and": lambda a, b: a & b, "or": lambda a, b: a | b, "xor": lambda a, b: a ^ b,
    "min": min, "max": max,
    "eq": lambda a, b: int(a == b), "ne": lambda a, b: int(a != b), "lt": lambda a, b: int(a < b), "le": lambda a, b: int(a <= b),
    "gt": lambda a, b: int(a > b), "ge": lambda a, b: int(a >= b),
}


@dataclass(frozen=True)
class Kernel:
    """One entry of the plan's kernels. blocks, threads: of its 1-d grid and block. shared_bytes: dynamic shared memory.

    cluster: blocks of a cluster, which the code fixes, 1 without. pdl: it waits for the kernel before it by itself (programmatic dependent
    launch). nodes: the ONNX nodes it computes.
    """

    name: str
    object: str
    symbol: str
    blocks: int
    threads: int
    shared_bytes: int
    pdl: bool
    nodes: tuple[str, ...]
    cluster: int = 1

    def __str__(self) -> str:
        nodes = ", ".join(map(repr, self.nodes[:6])) + (f" and {len(self.nodes) - 6} more" if len(self.nodes) > 6 else "")
        return f"kernel {self.name!r} (nodes {nodes or 'unknown'}; {self.blocks} blocks of {self.threads} threads)"


@dataclass(frozen=True)
class MapLayout:
    """A buffer as the hardware that copies boxes of it sees it.

    shape, strides, box: elements, outermost dimension first. swizzle: bytes, the period of the order in which a box lies in shared memory.
    """

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]
    swizzle: int

    @property
    def bytes(self) -> int:
        """From the first element to the end of the last."""
        return (1 + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))) * BY_NAME[self.dtype].numpy.itemsize


@dataclass(frozen=True)
class MapRef:
    """A launch argument that describes a buffer to the hardware (a CUDA tensor map)."""

    buffer: Ref
    layout: MapLayout


@dataclass(frozen=True)
class LaunchStep:
    kernel: Kernel
    args: tuple[Ref | MapRef, ...]


@dataclass(frozen=True)
class CopyStep:
    source: Ref
    target: Ref
    bytes: int


@dataclass(frozen=True)
class SetStep:
    target: Ref
    type: str
    value: Expr


@dataclass(frozen=True)
class LetStep:
    """Binds a variable to a value read now."""

    var: str
    value: Expr


@dataclass(frozen=True)
class ForStep:
    var: str
    start: Expr
    stop: Expr
    step: Expr
    body: tuple["Step", ...]


@dataclass(frozen=True)
class WhileStep:
    """var = start; while condition: body, then var = next."""

    var: str
    start: Expr
    condition: Expr
    next: Expr
    body: tuple["Step", ...]


@dataclass(frozen=True)
class IfStep:
    condition: Expr
    then: tuple["Step", ...]
    other: tuple["Step", ...]


Step = LaunchStep | CopyStep | SetStep | LetStep | ForStep | WhileStep | IfStep


@dataclass(frozen=True)
class GpuPlan:
    """kernels by name, steps in order, the arena's bytes."""

    kernels: Mapping[str, Kernel]
    steps: tuple[Step, ...]
    arena_bytes: int

    @staticmethod
    def parse(plan: Mapping[str, Any]) -> "GpuPlan":
        """From plan.json. Raises ArtifactError that names what is malformed."""
        arena, kernels, steps = plan.get("arena_bytes"), plan.get("kernels"), plan.get("steps")
        if type(arena) is not int or arena < 0 or not isinstance(kernels, list) or not isinstance(steps, list):
            raise ArtifactError("plan.json: expected arena_bytes, kernels and steps")
        table = {k.name: k for k in map(_kernel, cast("list[Any]", kernels))}
        reader = _Reader(table, {space: len(plan.get(key, ())) for space, key in (("weight", "weights"), ("output", "outputs"))}
                         | {"input": sum("value" not in i for i in plan.get("inputs", ())), "arena": 1})
        return GpuPlan(table, reader.steps(steps), arena)

    @property
    def is_static(self) -> bool:
        """Whether no expression reads memory: the whole plan is then one fixed sequence of commands."""
        return all(map(is_static, self.steps))


def is_static(part: Any) -> bool:
    """Whether a step, reference or expression reads no memory, in any part of it."""
    return not any(isinstance(p, Load) for p in _parts(part))


def free_variables(steps: Sequence[Step]) -> tuple[str, ...]:
    """Names that the steps use and do not bind, sorted."""
    bound = {p.var for p in _parts(tuple(steps)) if isinstance(p, LetStep | ForStep | WhileStep)}
    return tuple(sorted({e for p in _parts(tuple(steps)) for e in _expressions(p) if isinstance(e, str)} - bound))


def _parts(part: Any) -> Iterator[Any]:
    """A step and everything inside it; kernels are not looked into."""
    if isinstance(part, tuple):
        for item in cast("tuple[Any, ...]", part):
            yield from _parts(item)
    elif isinstance(part, Apply | Ref | MapRef | Load | LaunchStep | CopyStep | SetStep | LetStep | ForStep | WhileStep | IfStep):
        yield part
        for field in fields(part):
            yield from _parts(getattr(part, field.name))


def _expressions(part: Any) -> tuple[Any, ...]:
    """The direct fields of a part that hold expressions."""
    match part:
        case Apply():
            return part.left, part.right
        case Ref():
            return (part.offset,)
        case SetStep() | LetStep():
            return (part.value,)
        case ForStep():
            return part.start, part.stop, part.step
        case WhileStep():
            return part.start, part.condition, part.next
        case IfStep():
            return (part.condition,)
        case _:
            return ()


def _kernel(entry: Any) -> Kernel:
    match entry:
        case {"name": str(name), "object": str(object_), "symbol": str(symbol), "blocks": int(blocks), "threads": int(threads)} if (
                blocks >= 0 and threads > 0):
            shared, nodes = entry.get("shared_bytes", 0), entry.get("nodes", [])
            return Kernel(name, object_, symbol, blocks, threads, int(shared), bool(entry.get("pdl", False)), tuple(map(str, nodes)),
                          int(entry.get("cluster", 1)))
        case _:
            raise ArtifactError(f"plan.json: bad kernel {str(entry)[:200]}, expected name, object, symbol, blocks, threads")


class _Reader:
    """Steps out of JSON. counts: how many buffers each space has."""

    def __init__(self, kernels: Mapping[str, Kernel], counts: Mapping[str, int]) -> None:
        self._kernels, self._counts = kernels, counts

    def steps(self, entries: Sequence[Any]) -> tuple[Step, ...]:
        return tuple(map(self.step, entries))

    def step(self, entry: Any) -> Step:
        match entry:
            case {"op": "launch", "kernel": str(kernel), "args": [*args]} if kernel in self._kernels:
                return LaunchStep(self._kernels[kernel], tuple(map(self.argument, args)))
            case {"op": "copy", "source": source, "target": target, "bytes": int(size)} if size >= 0:
                return CopyStep(self.ref(source), self.ref(target), size)
            case {"op": "set", "target": target, "type": str(kind), "value": value} if kind in BY_NAME:
                return SetStep(self.ref(target), kind, self.expr(value))
            case {"op": "let", "var": str(var), "value": value}:
                return LetStep(var, self.expr(value))
            case {"op": "for", "var": str(var), "start": start, "stop": stop, "step": step, "body": [*body]}:
                return ForStep(var, self.expr(start), self.expr(stop), self.expr(step), self.steps(body))
            case {"op": "while", "var": str(var), "start": start, "condition": condition, "next": following, "body": [*body]}:
                return WhileStep(var, self.expr(start), self.expr(condition), self.expr(following), self.steps(body))
            case {"op": "if", "condition": condition, "then": [*then], "else": [*other]}:
                return IfStep(self.expr(condition), self.steps(then), self.steps(other))
            case _:
                raise ArtifactError(f"plan.json: bad step {str(entry)[:200]}")

    def argument(self, entry: Any) -> Ref | MapRef:
        match entry:
            case {"tensormap": {"buffer": buffer, "dtype": str(dtype), "shape": [*shape], "strides": [*strides], "box": [*box],
                                "swizzle": int(swizzle)}} if (
                    dtype in BY_NAME and len(shape) == len(strides) == len(box) and all(type(n) is int for n in (*shape, *strides, *box))):
                return MapRef(self.ref(buffer), MapLayout(dtype, tuple(shape), tuple(strides), tuple(box), swizzle))
            case {"tensormap": _}:
                raise ArtifactError(f"plan.json: bad tensor map {str(entry)[:200]}")
            case _:
                return self.ref(entry)

    def ref(self, entry: Any) -> Ref:
        match entry:
            case {"space": str(space), "offset": offset} if space in SPACES:
                index = entry.get("index", 0)
                if type(index) is int and 0 <= index < self._counts[space]:
                    return Ref(space, index, self.expr(offset))
        raise ArtifactError(f"plan.json: bad reference {str(entry)[:200]}, expected space ({', '.join(SPACES)}), index and offset")

    def expr(self, entry: Any) -> Expr:
        match entry:
            case int() | str() if type(entry) is not bool:
                return entry
            case ["load", place, str(kind)] if kind in BY_NAME and BY_NAME[kind].kind != "f":
                return Load(self.ref(place), kind)
            case [str(op), left, right] if op in OPERATIONS:
                return Apply(op, self.expr(left), self.expr(right))
            case _:
                raise ArtifactError(f"plan.json: bad expression {str(entry)[:200]}")
