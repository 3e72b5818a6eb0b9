"""The plan of a GPU as JSON: references, loops, branches, and numbers read at the right time."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from mlc.backends.gpu_plan import Plan, plan_of
from mlc.errors import CompilerError
from mlc.ir.context import make_context
from mlc.ir.mlir import ir


def _plan(body: str, arguments: str = "%x: memref<4xf32>, %y: memref<4xf32>", inputs: int = 1) -> Plan:
    text = f"func.func @main({arguments}) attributes {{task.inputs = {inputs} : i64, task.arena = 256 : i64}} {{ {body} return }}"
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        plan = plan_of(module.body.operations[0].operation)
        json.dumps(plan.steps)  # plain data
        return Plan(plan.steps, plan.arena, plan.weights, {k: str(v) for k, v in plan.constants.items()}, plan.launches)  # type: ignore


def _launch(kernel: str, *values: str, types: Sequence[str] = ()) -> str:
    listed = ", ".join(types or ["memref<4xf32>"] * len(values))
    return f'"task.launch"({", ".join(values)}) {{kernel = "{kernel}", nodes = ["n.{kernel}"]}} : ({listed}) -> ()\n'


_INDEX = "".join(f"%c{n} = arith.constant {n} : index\n" for n in (0, 1, 2, 3))


_FUNCTIONS: dict[str, Callable[[int, int], int]] = {
    "add": int.__add__, "sub": int.__sub__, "mul": int.__mul__, "and": int.__and__, "or": int.__or__, "xor": int.__xor__, "min": min,
    "max": max, "lt": int.__lt__, "le": int.__le__, "gt": int.__gt__, "ge": int.__ge__, "eq": int.__eq__, "ne": int.__ne__}


@dataclass
class Machine:
    """Follows a plan on numpy buffers of bytes, keyed by (space, index): the meaning of the JSON, in the fewest words."""

    memory: dict[tuple[str, int], np.ndarray]
    kernels: dict[str, Callable[..., object]]
    variables: dict[str, int] = field(default_factory=dict)

    def run(self, steps: Sequence[dict[str, Any]]) -> None:
        for step in steps:
            getattr(self, "_" + step["op"])(step)

    def at(self, ref: dict[str, Any]) -> np.ndarray:
        return self.memory[ref["space"], ref.get("index", 0)][self.value(ref["offset"]):]

    def value(self, expr: Any) -> int:
        match expr:
            case str():
                return self.variables[expr]
            case ["load", ref, kind]:
                dtype = np.dtype(kind.replace("i", "int"))
                return int(self.at(ref)[:dtype.itemsize].view(dtype)[0])
            case [op, left, right]:
                return int(_FUNCTIONS[op](self.value(left), self.value(right)))
        return int(expr)

    def _launch(self, s: dict[str, Any]) -> None:
        self.kernels[s["kernel"]](*(self.at(r) for r in s["args"]))

    def _copy(self, s: dict[str, Any]) -> None:
        self.at(s["target"])[:s["bytes"]] = self.at(s["source"])[:s["bytes"]]

    def _let(self, s: dict[str, Any]) -> None:
        self.variables[s["var"]] = self.value(s["value"])

    def _set(self, s: dict[str, Any]) -> None:
        assert s["type"] == "i64"
        self.at(s["target"])[:8].view(np.int64)[0] = self.value(s["value"])

    def _for(self, s: dict[str, Any]) -> None:
        for i in range(self.value(s["start"]), self.value(s["stop"]), self.value(s["step"])):
            self.variables[s["var"]] = i
            self.run(s["body"])

    def _while(self, s: dict[str, Any]) -> None:
        self.variables[s["var"]] = self.value(s["start"])
        while self.value(s["condition"]):
            self.run(s["body"])
            self.variables[s["var"]] = self.value(s["next"])

    def _if(self, s: dict[str, Any]) -> None:
        self.run(s["then" if self.value(s["condition"]) else "else"])


def test_references_to_every_space() -> None:
    plan = _plan('%w = "task.weight"() {key = "w"} : () -> memref<4xf32>\n'
                 '%c = "task.constant"() {value = dense<2.0> : tensor<4xf32>} : () -> memref<4xf32>\n'
                 '%t = "task.buffer"() {offset = 64 : i64} : () -> memref<2x2xf32>\n'
                 '%v = "task.view"(%t) : (memref<2x2xf32>) -> memref<4xf32>\n'
                 '%w2 = "task.weight"() {key = "w"} : () -> memref<4xf32>\n'
                 + _launch("k", "%x", "%w", "%c", "%v", "%w2", "%y"))
    assert (plan.arena, plan.weights, plan.launches) == (256, ["w", "constant.0"], [("k", ["n.k"])])
    assert plan.constants == {"constant.0": "dense<2.000000e+00> : tensor<4xf32>"}
    weight = {"space": "weight", "index": 0, "offset": 0}
    assert plan.steps == [{"op": "launch", "kernel": "k", "args": [
        {"space": "input", "index": 0, "offset": 0}, weight, {"space": "weight", "index": 1, "offset": 0},
        {"space": "arena", "offset": 64}, weight, {"space": "output", "index": 0, "offset": 0}]}]


def test_copies_of_several_buffers_and_none_of_nothing() -> None:
    plan = _plan('"task.copy"(%x, %e, %y, %z) : (memref<4xf32>, memref<0xf32>, memref<4xf32>, memref<0xf32>) -> ()\n',
                 "%x: memref<4xf32>, %e: memref<0xf32>, %y: memref<4xf32>, %z: memref<0xf32>", inputs=2)
    assert plan.steps == [{"op": "copy", "source": {"space": "input", "index": 0, "offset": 0},
                           "target": {"space": "output", "index": 0, "offset": 0}, "bytes": 16}]


def test_nested_loops_over_slices_forward_and_back() -> None:
    body = _INDEX + """
      scf.for %i = %c0 to %c3 step %c1 {
        %back = arith.subi %c2, %i : index
        %row = "task.slice"(%x, %back) : (memref<3x2x4xf32>, index) -> memref<2x4xf32>
        %out = "task.slice"(%y, %i) : (memref<3x2x4xf32>, index) -> memref<2x4xf32>
        scf.for %j = %c0 to %c2 step %c1 {
          %a = "task.slice"(%row, %j) : (memref<2x4xf32>, index) -> memref<4xf32>
          %b = "task.slice"(%out, %j) : (memref<2x4xf32>, index) -> memref<4xf32>
          "task.copy"(%a, %b) : (memref<4xf32>, memref<4xf32>) -> ()
        }
      }
    """
    plan = _plan(body, "%x: memref<3x2x4xf32>, %y: memref<3x2x4xf32>")
    x, y = np.arange(24, dtype=np.float32), np.zeros(24, np.float32)
    Machine({("input", 0): x.view(np.uint8), ("output", 0): y.view(np.uint8)}, {}).run(plan.steps)
    np.testing.assert_array_equal(y.reshape(3, 2, 4), x.reshape(3, 2, 4)[::-1])
    assert plan.steps[0]["body"][0]["body"][0]["source"]["offset"] == ["add", ["mul", ["sub", 2, "v0"], 32], ["mul", "v1", 16]]


def test_while_reads_its_limit_once_and_its_condition_every_round() -> None:
    # The limit's memory is free once it has been read: the body overwrites it.
    body = """
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %zero = arith.constant 0 : i8
      %limit = memref.load %n[] : memref<i64>
      %go = "task.buffer"() {offset = 64 : i64} : () -> memref<i8>
      "task.launch"(%go, %y) {kernel = "start"} : (memref<i8>, memref<i64>) -> ()
      %r = scf.while (%i = %c0) : (index) -> index {
        %count = arith.index_cast %i : index to i64
        %below = arith.cmpi slt, %count, %limit : i64
        %flag = memref.load %go[] : memref<i8>
        %set = arith.cmpi ne, %flag, %zero : i8
        %both = arith.andi %below, %set : i1
        "task.barrier"() {scope = "grid"} : () -> ()
        scf.condition(%both) %i : index
      } do {
      ^bb0(%i: index):
        %k = "task.buffer"() {offset = 0 : i64} : () -> memref<i64>
        %count = arith.index_cast %i : index to i64
        "task.set"(%count, %k) : (i64, memref<i64>) -> ()
        "task.launch"(%n, %k, %go, %y) {kernel = "round"} : (memref<i64>, memref<i64>, memref<i8>, memref<i64>) -> ()
        %next = arith.addi %i, %c1 : index
        scf.yield %next : index
      }
    """
    plan = _plan(body, "%n: memref<i64>, %y: memref<i64>")

    def start(go: np.ndarray, y: np.ndarray) -> None:
        go[0] = 1

    def rounds(stop_at: int, limit: int) -> int:
        n, y, arena = np.array([limit]), np.zeros(1, np.int64), np.zeros(256, np.uint8)

        def body(n: np.ndarray, k: np.ndarray, go: np.ndarray, y: np.ndarray) -> None:
            n[:8].view(np.int64)[0] = 0
            assert k[:8].view(np.int64)[0] == y[:8].view(np.int64)[0]
            y[:8].view(np.int64)[0] += 1
            go[0] = int(y[:8].view(np.int64)[0]) != stop_at

        memory = {("input", 0): n.view(np.uint8), ("output", 0): y.view(np.uint8), ("arena", 0): arena}
        Machine(memory, {"start": start, "round": body}).run(plan.steps)
        return int(y[0])

    assert [rounds(9, 4), rounds(3, 5), rounds(1, 0)] == [4, 3, 0]


def test_branches() -> None:
    body = """
      %zero = arith.constant 0 : i8
      %flag = memref.load %x[] : memref<i8>
      %c = arith.cmpi ne, %flag, %zero : i8
      scf.if %c {
        "task.launch"(%y) {kernel = "yes"} : (memref<i8>) -> ()
      } else {
        "task.launch"(%y) {kernel = "no"} : (memref<i8>) -> ()
      }
      %true = arith.constant true
      %again = arith.xori %c, %true : i1
      %twice = arith.xori %again, %true : i1
      scf.if %twice {
        "task.launch"(%y) {kernel = "yes"} : (memref<i8>) -> ()
      }
    """
    plan = _plan(body, "%x: memref<i8>, %y: memref<i8>")
    assert plan.steps[2]["else"] == []

    def taken(flag: int) -> list[str]:
        x, seen = np.array([flag], np.uint8), []
        kernels = {"yes": lambda y: (seen.append("yes"), x.fill(0)), "no": lambda y: (seen.append("no"), x.fill(1))}
        Machine({("input", 0): x, ("output", 0): x.copy()}, kernels).run(plan.steps)  # the branch overwrites its condition
        return seen

    assert (taken(1), taken(0)) == (["yes", "yes"], ["no"])


@pytest.mark.parametrize(("body", "why"), [
    ("%c = arith.constant 1 : i64 %d = arith.divsi %c, %c : i64", "'arith.divsi' .* unknown operation"),
    ("%c = arith.constant 1 : i64 %d = arith.cmpi ult, %c, %c : i64", "unsigned comparison"),
    ("%c = arith.constant 1 : index %d = memref.load %x[%c] : memref<4xf32>", "one-element buffers of integers"),
    (_INDEX + "%r = scf.for %i = %c0 to %c2 step %c1 iter_args(%a = %c0) -> index { scf.yield %i : index }", "'scf.for' .* carries values"),
])
def test_what_a_plan_cannot_hold_is_named(body: str, why: str) -> None:
    with pytest.raises(CompilerError, match=why):
        _plan(body)
