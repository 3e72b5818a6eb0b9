"""The plan as data: @main of the task level becomes the JSON steps of docs/architecture.md, which a GPU runtime follows on the host."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlc.backends.plan_weights import WeightTable
from mlc.dialects._ext import to_py
from mlc.errors import CompilerError
from mlc.ir.mlir import arith, ir
from mlc.passes.gpu.hopper.tma import TENSOR_MAPS
from mlc.passes.tile.model import element_bytes, volume

Step = dict[str, Any]
Expr = int | str | list[Any]

_BINARY = {"arith.addi": "add", "arith.subi": "sub", "arith.muli": "mul", "arith.andi": "and", "arith.ori": "or", "arith.xori": "xor",
           "arith.minsi": "min", "arith.maxsi": "max"}
_COMPARE = {"eq": "eq", "ne": "ne", "slt": "lt", "sle": "le", "sgt": "gt", "sge": "ge"}
_SAME = ("arith.index_cast", "arith.extsi")  # an Expr is a whole number of any size
_ENDS = ("func.return", "scf.yield", "scf.condition")


@dataclass(frozen=True)
class Plan:
    """What a GPU does, in order.

    steps: JSON (see docs/architecture.md). arena: bytes. weights: keys in the order of "weight" references; those in `constants` are dense
    attributes of the IR. launches: (kernel, names of its ONNX nodes) of each launch in the text, however often it runs.
    """

    steps: list[Step]
    arena: int
    weights: list[str]
    constants: dict[str, ir.Attribute]
    launches: list[tuple[str, list[str]]]


def plan_of(main: ir.Operation) -> Plan:
    """The plan of a task-level @main; CompilerError for an op that a plan cannot hold."""
    builder = _PlanBuilder(main.attributes["task.inputs"].value)
    block = main.regions[0].blocks[0]
    builder.arguments(list(block.arguments))
    return Plan(builder.block(block), main.attributes["task.arena"].value, builder.weights.keys, builder.weights.constants,
                builder.launches)


@dataclass(frozen=True)
class _Place:
    """Where a buffer starts."""

    space: str
    index: int | None
    offset: Expr

    def json(self) -> dict[str, Any]:
        return {"space": self.space, **({} if self.index is None else {"index": self.index}), "offset": self.offset}


@dataclass
class _PlanBuilder:
    """`places`: buffers; `values`: scalars. Both are SSA values that the steps so far have defined."""

    inputs: int
    weights: WeightTable = field(default_factory=WeightTable)
    launches: list[tuple[str, list[str]]] = field(default_factory=list)
    places: dict[ir.Value, _Place] = field(default_factory=dict)
    values: dict[ir.Value, Expr] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    variables: int = 0

    def arguments(self, arguments: list[ir.Value]) -> None:
        for i, value in enumerate(arguments):
            self.places[value] = _Place("input", i, 0) if i < self.inputs else _Place("output", i - self.inputs, 0)

    def block(self, block: ir.Block) -> list[Step]:
        """The steps of a block, terminator left to the caller."""
        outer, self.steps = self.steps, []
        for view in block.operations:
            op = view.operation
            if op.name in _ENDS:
                continue
            handler = getattr(self, "_" + op.name.replace(".", "_"), None)
            if handler is not None:
                handler(op)
            else:
                self.values[op.results[0]] = self._computed(op)
        inner, self.steps = self.steps, outer
        return inner

    def _variable(self) -> str:
        self.variables += 1
        return f"v{self.variables - 1}"

    def _refuse(self, op: ir.Operation, why: str) -> CompilerError:
        return CompilerError(f"'{op.name}' cannot stand in a GPU's plan: {why}: {op}")

    # -- scalars ----------------------------------------------------------------------------------------------------
    def _computed(self, op: ir.Operation) -> Expr:
        operands = [self.values[v] for v in op.operands]
        if op.name in _SAME:
            return operands[0]
        if op.name in _BINARY:
            return expression(_BINARY[op.name], *operands)
        if op.name == "arith.cmpi":
            predicate = str(arith.CmpIPredicate(op.attributes["predicate"].value))
            if predicate in _COMPARE:
                return expression(_COMPARE[predicate], *operands)
            raise self._refuse(op, "unsigned comparison")
        raise self._refuse(op, "unknown operation")

    def _arith_constant(self, op: ir.Operation) -> None:
        value, type_ = int(op.attributes["value"].value), op.results[0].type
        self.values[op.results[0]] = value & 1 if str(type_) == "i1" else value  # true is not -1

    def _memref_load(self, op: ir.Operation) -> None:
        """A condition or trip count, read now: its memory may hold something else when the value is used."""
        type_ = op.results[0].type
        if volume(op.operands[0].type.shape) != 1 or not isinstance(type_, ir.IntegerType):
            raise self._refuse(op, "only one-element buffers of integers are read")
        variable = self._variable()
        self.steps.append({"op": "let", "var": variable, "value": ["load", self.places[op.operands[0]].json(), str(type_)]})
        self.values[op.results[0]] = variable

    # -- buffers ----------------------------------------------------------------------------------------------------
    def _task_weight(self, op: ir.Operation) -> None:
        self.places[op.results[0]] = _Place("weight", self.weights.index(op), 0)

    _task_constant = _task_weight

    def _task_buffer(self, op: ir.Operation) -> None:
        self.places[op.results[0]] = _Place("arena", None, op.attributes["offset"].value)

    def _task_view(self, op: ir.Operation) -> None:
        self.places[op.results[0]] = self.places[op.operands[0]]

    def _task_slice(self, op: ir.Operation) -> None:
        result, whole = op.results[0], self.places[op.operands[0]]
        at = expression("mul", self.values[op.operands[1]], volume(result.type.shape) * element_bytes(result))
        self.places[result] = _Place(whole.space, whole.index, expression("add", whole.offset, at))

    # -- steps ------------------------------------------------------------------------------------------------------
    def _task_launch(self, op: ir.Operation) -> None:
        name = op.attributes["kernel"].value
        self.launches.append((name, [a.value for a in op.attributes["nodes"]] if "nodes" in op.attributes else []))
        self.steps.append({"op": "launch", "kernel": name, "args": [self.places[v].json() for v in op.operands]})

    def _task_copy(self, op: ir.Operation) -> None:
        operands = list(op.operands)
        n = len(operands) // 2
        for source, target in zip(operands[:n], operands[n:]):
            if size := volume(source.type.shape) * element_bytes(source):
                self.steps.append({"op": "copy", "source": self.places[source].json(), "target": self.places[target].json(), "bytes": size})

    def _task_set(self, op: ir.Operation) -> None:
        value, target = op.operands[0], op.operands[1]
        self.steps.append({"op": "set", "target": self.places[target].json(), "type": str(value.type), "value": self.values[value]})

    def _task_barrier(self, op: ir.Operation) -> None:
        """Nothing: a step sees the writes of those before it."""

    def _scf_if(self, op: ir.Operation) -> None:
        if len(op.results):
            raise self._refuse(op, "it has results")
        then, other = (self.block(r.blocks[0]) if len(r.blocks) else [] for r in op.regions)
        self.steps.append({"op": "if", "condition": self.values[op.operands[0]], "then": then, "else": other})

    def _scf_for(self, op: ir.Operation) -> None:
        if len(op.results):
            raise self._refuse(op, "it carries values")
        variable, body = self._variable(), op.regions[0].blocks[0]
        self.values[body.arguments[0]] = variable
        start, stop, step = (self.values[v] for v in op.operands)
        self.steps.append({"op": "for", "var": variable, "start": start, "stop": stop, "step": step, "body": self.block(body)})

    def _scf_while(self, op: ir.Operation) -> None:
        """`before` is read anew ahead of every round, so what it loads stands in the condition itself."""
        before, after = (r.blocks[0] for r in op.regions)
        if len(before.arguments) != 1 or len(after.arguments) != 1 or any(next(iter(r.uses), None) for r in op.results):
            raise self._refuse(op, "it carries more than one number, or hands one out")
        variable = self._variable()
        self.values[before.arguments[0]] = variable
        start = self.values[op.operands[0]]
        tests = self.block(before)
        if any(step["op"] != "let" for step in tests):
            raise self._refuse(op, "its condition does more than read")
        read = {step["var"]: step["value"] for step in tests}
        condition, passed = (self.values[v] for v in _last(before).operands)
        if passed != variable:
            raise self._refuse(op, "its body sees another number than its condition")
        self.values[after.arguments[0]] = variable
        body = self.block(after)
        following = self.values[_last(after).operands[0]]
        self.steps.append({"op": "while", "var": variable, "start": start, "condition": _replaced(condition, read), "next": following,
                           "body": body})


def tensor_maps(function: ir.Operation) -> tuple[dict[str, Any], ...]:
    """The tensor maps among a kernel function's arguments, behind its buffers and in order.

    Each has `argument` (its number), `buffer` (number of the argument that it describes), and what the host encodes: `dtype`, `shape`,
    `strides` and `box` in elements, outermost first, and `swizzle` in bytes.
    """
    return tuple(to_py(function.attributes[TENSOR_MAPS])) if TENSOR_MAPS in function.attributes else ()


def add_tensor_maps(steps: list[Step], maps: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Appends to the launches of each kernel named in `maps` its tensor maps, which refer to the launch's buffers."""
    for step in steps:
        if step["op"] == "launch":
            buffers = list(step["args"])
            for map_ in maps.get(step["kernel"], ()):
                fields = {name: map_[name] for name in ("dtype", "shape", "strides", "box", "swizzle")}
                step["args"].append({"tensormap": {"buffer": buffers[map_["buffer"]], **fields}})
        for inner in ("body", "then", "else"):
            add_tensor_maps(step.get(inner, []), maps)


def expression(op: str, a: Expr, b: Expr) -> Expr:
    """`[op, a, b]`, or the number or operand it plainly is."""
    if isinstance(a, int) and isinstance(b, int) and op in ("add", "sub", "mul"):
        return a + b if op == "add" else a - b if op == "sub" else a * b
    if b == {"add": 0, "sub": 0, "mul": 1}.get(op):
        return a
    if a == {"add": 0, "mul": 1}.get(op):
        return b
    return [op, a, b]


def _replaced(expr: Expr, values: dict[str, Expr]) -> Expr:
    """The expression with variables replaced by what they stand for."""
    if isinstance(expr, list) and expr[0] != "load":
        return [expr[0], *(_replaced(e, values) for e in expr[1:])]
    return values.get(expr, expr) if isinstance(expr, str) else expr


def _last(block: ir.Block) -> ir.Operation:
    return block.operations[len(block.operations) - 1].operation


__all__ = ["Expr", "Plan", "Step", "add_tensor_maps", "expression", "plan_of", "tensor_maps"]
