"""A simulated GPU's core: kernels as lists of Python closures, run in lockstep by all lanes (threads of several blocks) at once.

A value is a numpy array of its own shape (equal in all lanes) or with the lanes as a leading axis; index, memref and token values likewise.
Inactive lanes compute garbage that is never stored. Families of ops register rules in `RULES` and `PURE`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from gpu_sim_memory import Fault, Ref, Space
from gpu_sim_turns import Turns, operations_of, waits

from mlc.dtypes import BY_NAME
from mlc.ir.mlir import ir

Step = Callable[["Lanes"], None]
Function = Callable[..., Any]
RULES: dict[str, Callable[["Program", ir.Operation], Step | None]] = {}
PURE: dict[str, Callable[[ir.Operation], Function]] = {}

_TYPES = {"index": np.dtype(np.int64), "i1": np.dtype(bool)} | {
    name: BY_NAME[name].numpy for name in ("f16", "f32", "f64", "bf16", "f8E4M3FN", "f8E5M2", "f8E4M3FNUZ", "f8E5M2FNUZ", "i8", "i16",
                                           "i32", "i64")}


def rule(*names: str) -> Callable[[Callable[["Program", ir.Operation], Step | None]], Any]:
    """Registers how ops become steps: called once per op, gives what runs each time (None: nothing to do)."""
    def register(function: Callable[["Program", ir.Operation], Step | None]) -> Any:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def pure(*names: str) -> Callable[[Callable[[ir.Operation], Function]], Any]:
    """Registers ops without effects: called once per op, gives a function from operand arrays to the result (or tuple of results)."""
    def register(function: Callable[[ir.Operation], Function]) -> Any:
        PURE.update(dict.fromkeys(names, function))
        return function

    return register


def dtype_of(type_: ir.Type) -> np.dtype:
    """The numpy type for a scalar type or the elements of a shaped one."""
    element = type_.element_type if isinstance(type_, ir.VectorType | ir.MemRefType | ir.RankedTensorType) else type_
    if str(element) not in _TYPES:
        raise Fault(f"the simulator has no type {element}")
    return np.dtype(_TYPES[str(element)])


def shape_of(type_: ir.Type) -> tuple[int, ...]:
    """A vector's shape; () for scalars."""
    return tuple(type_.shape) if isinstance(type_, ir.VectorType) else ()


def rank_of(value: ir.Value) -> int:
    return len(shape_of(value.type))


def fit(value: Any, rank: int, other: int) -> Any:
    """A value of `rank` so that it broadcasts against ones of rank `other`: lanes stay the leading axis."""
    value = np.asarray(value)
    return value.reshape(value.shape + (1,) * (other - rank)) if value.ndim > rank else value


def choose(mask: np.ndarray, new: Any, old: Any, rank: int) -> Any:
    """`new` in the lanes of `mask`, else `old`."""
    if new is old or isinstance(new, Ref):
        return new
    return np.where(mask.reshape(mask.shape + (1,) * rank), new, old)


@dataclass
class Lanes:
    """Some blocks of a launch, run together: `blocks` x `threads` lanes. mask: the active lanes, None for all."""

    name: str
    env: list[Any]
    block: np.ndarray
    thread: np.ndarray
    blocks: int
    threads: int
    warp: int
    grid: int
    shared: Space
    dynamic: int  # bytes of shared memory that the launch asks for
    mask: np.ndarray | None = None
    copies: list[Any] = field(default_factory=list)  # asynchronous ones under way
    committed: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # groups, per lane
    epoch: Any = 0  # barriers that the block has passed; per lane where blocks differ
    barriers: dict[int, Any] = field(default_factory=dict)  # mbarriers, by address
    warpgroups: Any = None  # matrix products under way
    traces: list[Any] = field(default_factory=list)  # of the arguments that are written
    cluster: int = 0  # blocks of a cluster
    arrived: str = ""  # how the blocks did at the cluster's barrier, before they pass it
    met: bool = False  # whether all blocks of the cluster have begun for sure
    told: bool = False  # whether a block has written to another since they met
    turns: Turns | None = None  # of the two sides of a branch that wait for each other

    @property
    def count(self) -> int:
        return len(self.thread)

    def active(self) -> np.ndarray:
        """Numbers of the active lanes."""
        return np.arange(self.count) if self.mask is None else np.flatnonzero(self.mask)

    def run(self, code: Sequence[tuple[Step, ir.Operation]]) -> None:
        """Runs steps; a fault gets the kernel's name and the op."""
        done = 0
        try:
            for step, _ in code:
                step(self)
                done += 1
        except Fault as fault:
            if not fault.args[0].startswith("kernel "):
                raise Fault(f"kernel @{self.name}: {fault.args[0]}, in: {_quoted(code[done][1])}") from None
            raise
        except Exception as error:
            error.add_note(f"in kernel @{self.name}: {_quoted(code[done][1])}")
            raise


def _quoted(op: ir.Operation) -> str:
    """An op as text, without what is in it."""
    return str(op).partition("\n")[0]


@dataclass
class Program:
    """A gpu.func as steps. env: the values known from the start."""

    slots: dict[ir.Value, int] = field(default_factory=dict)
    env: list[Any] = field(default_factory=list)

    def slot(self, value: ir.Value) -> int:
        """Where a value lies in `Lanes.env`."""
        if value not in self.slots:
            self.slots[value] = len(self.env)
            self.env.append(None)
        return self.slots[value]

    def slots_of(self, values: Any) -> list[int]:
        return [self.slot(v) for v in values]

    def block(self, block: ir.Block) -> list[tuple[Step, ir.Operation]]:
        """Steps of a block; its terminator is left to whoever asks."""
        code = []
        for view in block.operations:
            op = view.operation
            if op.name in ("scf.yield", "scf.condition", "gpu.return", "func.return"):
                continue
            step = self.step(op)
            if step is not None:
                code.append((step, op))
        return code

    def step(self, op: ir.Operation) -> Step | None:
        if op.name in RULES:
            return RULES[op.name](self, op)
        if op.name in PURE:
            return self._pure(PURE[op.name](op), self.slots_of(op.operands), self.slots_of(op.results))
        raise Fault(f"the simulator does not know {op.name}: {op}")

    def _pure(self, function: Function, sources: Sequence[int], targets: Sequence[int]) -> Step:
        if len(targets) != 1:
            def several(lanes: Lanes) -> None:
                env = lanes.env
                for t, value in zip(targets, function(*[env[s] for s in sources]), strict=True):
                    env[t] = value
            return several
        target = targets[0]
        if len(sources) == 1:
            source = sources[0]

            def one(lanes: Lanes) -> None:
                lanes.env[target] = function(lanes.env[source])
            return one
        if len(sources) == 2:
            left, right = sources

            def two(lanes: Lanes) -> None:
                env = lanes.env
                env[target] = function(env[left], env[right])
            return two

        def many(lanes: Lanes) -> None:
            env = lanes.env
            env[target] = function(*[env[s] for s in sources])
        return many


# -- control flow -------------------------------------------------------------------------------------------------------


def _end(block: ir.Block) -> ir.Operation:
    return block.operations[len(block.operations) - 1].operation


def _uniform(value: Any, mask: np.ndarray | None) -> Any:
    """The number that all active lanes agree on, or None."""
    if np.ndim(value) == 0:
        return value
    found = value if mask is None else value[mask]
    return found[0] if (found == found[0]).all() else None


@rule("scf.for")
def _for(program: Program, op: ir.Operation) -> Step:
    block = op.regions[0].blocks[0]
    bounds, inits = program.slots_of(list(op.operands)[:3]), program.slots_of(list(op.operands)[3:])
    variable, *carried = program.slots_of(block.arguments)
    ranks = [rank_of(v) for v in op.results]
    code = program.block(block)
    yielded, results = program.slots_of(_end(block).operands), program.slots_of(op.results)

    def together(lanes: Lanes, low: int, high: int, step: int) -> None:
        env = lanes.env
        for i in range(low, high, step):
            env[variable] = np.int64(i)
            lanes.run(code)
            for s, value in zip(carried, [env[y] for y in yielded]):
                env[s] = value

    def apart(lanes: Lanes, low: Any, high: Any, step: Any) -> None:
        env, outer = lanes.env, lanes.mask
        at = np.broadcast_to(low, lanes.count).copy()
        while True:
            busy = (at < high) if outer is None else (at < high) & outer
            if not busy.any():
                break
            env[variable], lanes.mask = at, busy
            lanes.run(code)
            for s, value, rank in zip(carried, [env[y] for y in yielded], ranks):
                env[s] = choose(busy, value, env[s], rank)
            at = at + step
        lanes.mask = outer

    def run(lanes: Lanes) -> None:
        env = lanes.env
        low, high, step = (env[s] for s in bounds)
        for s, value in zip(carried, [env[i] for i in inits]):
            env[s] = value
        agreed = [_uniform(b, lanes.mask) for b in (low, high, step)]
        if any(b is None for b in agreed):
            apart(lanes, low, high, step)
        else:
            together(lanes, *[int(b) for b in agreed])
        for r, s in zip(results, carried):
            env[r] = env[s]

    return run


@rule("scf.if")
def _if(program: Program, op: ir.Operation) -> Step:
    condition, results = program.slot(op.operands[0]), program.slots_of(op.results)
    ranks = [rank_of(v) for v in op.results]
    blocks = [r.blocks[0] if len(r.blocks) else None for r in op.regions]
    codes = [program.block(b) if b is not None else [] for b in blocks]
    yields = [program.slots_of(_end(b).operands) if b is not None and results else [] for b in blocks]
    together = all(any(waits(o) for o in operations_of(r)) for r in op.regions)

    def run(lanes: Lanes) -> None:
        env, outer = lanes.env, lanes.mask
        flag = env[condition]
        agreed = _uniform(flag, outer)
        if agreed is not None:
            side = 0 if agreed else 1
            lanes.run(codes[side])
            for r, y in zip(results, yields[side]):
                env[r] = env[y]
            return
        values: list[list[Any]] = [[], []]

        def side(number: int, mask: np.ndarray) -> None:
            lanes.mask = mask if outer is None else mask & outer
            lanes.run(codes[number])
            values[number] = [env[s] for s in yields[number]]

        sides = [partial(side, 0, flag), partial(side, 1, ~flag)]
        if together:
            Turns(lanes).run(sides)
        else:
            sides[0]()
            sides[1]()
        lanes.mask = outer
        for r, then, other, rank in zip(results, *values, ranks):
            env[r] = choose(flag, then, other, rank)

    return run


@rule("scf.while")
def _while(program: Program, op: ir.Operation) -> Step:
    before, after = (r.blocks[0] for r in op.regions)
    inits, results = program.slots_of(op.operands), program.slots_of(op.results)
    heads, bodies = program.slots_of(before.arguments), program.slots_of(after.arguments)
    test, body = program.block(before), program.block(after)
    condition, *passed = program.slots_of(_end(before).operands)
    yielded = program.slots_of(_end(after).operands)
    head_ranks, ranks = [rank_of(v) for v in before.arguments], [rank_of(v) for v in op.results]

    def run(lanes: Lanes) -> None:
        env, outer = lanes.env, lanes.mask
        for s, value in zip(heads, [env[i] for i in inits]):
            env[s] = value
        busy = np.ones(lanes.count, bool) if outer is None else outer
        lanes.mask = outer
        first = True
        while True:
            lanes.run(test)
            for r, value, rank in zip(results, [env[p] for p in passed], ranks):
                env[r] = value if first else choose(busy, value, env[r], rank)
            first = False
            busy = busy & env[condition]
            if not busy.any():
                break
            lanes.mask = None if busy.all() else busy
            for s, r in zip(bodies, results):
                env[s] = env[r]
            lanes.run(body)
            for s, value, rank in zip(heads, [env[y] for y in yielded], head_ranks):
                env[s] = choose(busy, value, env[s], rank)
        lanes.mask = outer

    return run
