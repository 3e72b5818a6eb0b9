"""flow: control flow over tensors. Regions see the values around them; all shapes are static.

A loop that knows its trip count and slices its inputs is `flow.loop` (ONNX Scan, Loop with a constant count, recurrent layers); one that
decides as it goes is `flow.while` (Loop with a condition or a run-time count).
"""

from typing import Any

from mlc.dialects._ext import OpBase, Operand, Operands, Region, Results, VerifyError, dialect
from mlc.ir.mlir import ir

Flow = dialect("flow", "Control flow over tensors: if, loop, while.")


class FlowOp(OpBase):
    """Base of flow ops."""

    dialect = Flow


class YieldOp(FlowOp, name="yield"):
    """Ends a flow region with its values.

    Example: "flow.yield"(%a) : (tensor<4xf32>) -> ()
    """

    pure = False
    values: Operands


class IfOp(FlowOp, name="if"):
    """Values of `then` where the scalar condition holds, else of `orelse`; only the taken region runs.

    Example:
      %r = "flow.if"(%c) ({ "flow.yield"(%a) : (tensor<4xf32>) -> () }, { "flow.yield"(%b) : (tensor<4xf32>) -> () })
           : (tensor<i1>) -> tensor<4xf32>
    """

    condition: Operand
    results_: Results
    then: Region
    orelse: Region

    def check(self) -> None:
        _expect_one(self.operation.operands[0], "condition")
        for region in self.operation.regions:
            _expect_types("yields", _yield_of(region), self.operation.results)


class LoopOp(FlowOp, name="loop"):
    """`trip` iterations. Operands: `carried` initial values, then inputs sliced along their first dimension (extent `trip`), one slice per
    iteration. Body arguments: iteration (tensor<i64>), carried values, slices (first dimension dropped). It yields the new carried values,
    then slices of outputs. Results: final carried values, then outputs stacked along a new first dimension of extent `trip`.
    `reverse` is a list of flags, one per sliced input then one per stacked output: iteration i takes or fills position trip-1-i.

    Example (running sum):
      %last, %all = "flow.loop"(%zero, %x) ({
      ^bb0(%i: tensor<i64>, %s: tensor<4xf32>, %xi: tensor<4xf32>):
        %n = "graph.elementwise"(%s, %xi) {fn = "add"} : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
        "flow.yield"(%n, %n) : (tensor<4xf32>, tensor<4xf32>) -> ()
      }) {trip = 8, carried = 1} : (tensor<4xf32>, tensor<8x4xf32>) -> (tensor<4xf32>, tensor<8x4xf32>)
    """

    inputs: Operands
    results_: Results
    body: Region
    trip: int
    carried: int
    reverse: list = []

    def check(self) -> None:
        n, trip = self.carried, self.trip
        operands, results = list(self.operation.operands), list(self.operation.results)
        arguments, yielded = list(self.body.blocks[0].arguments), _yield_of(self.body)
        if trip < 0 or n > len(operands) or n > len(results):
            raise VerifyError(f"with trip {trip} and {n} carried values has {len(operands)} operands and {len(results)} results")
        if len(arguments) != 1 + len(operands) or str(arguments[0].type) != "tensor<i64>":
            raise VerifyError(f"body takes tensor<i64> and {len(operands)} values, got {[str(a.type) for a in arguments]}")
        _expect_types("body takes carried", arguments[1:1 + n], operands[:n])
        _expect_types("yields carried", yielded[:n], operands[:n])
        _expect_types("results carried", results[:n], operands[:n])
        if len(yielded) != len(results):
            raise VerifyError(f"yields {len(yielded)} values for {len(results)} results")
        for whole, part in [*zip(operands[n:], arguments[1 + n:]), *zip(results[n:], yielded[n:])]:
            w, p = whole.type, part.type
            if [trip, *p.shape] != list(w.shape) or w.element_type != p.element_type:
                raise VerifyError(f"slices {w} as {p}: expected a first dimension of {trip} dropped")
        if self.reverse and len(self.reverse) != len(operands) - n + len(results) - n:
            raise VerifyError(f"reverse has {len(self.reverse)} flags for {len(operands) + len(results) - 2 * n} sliced values")


class WhileOp(FlowOp, name="while"):
    """While the condition holds and fewer than `limit` iterations are done: ONNX's Loop without outputs per iteration.

    Operands: limit (tensor<i64>), condition (tensor<i1>), initial values. Body arguments: iteration (tensor<i64>), values. It yields the
    next condition and the next values. Results: the last values.

    Example:
      %r = "flow.while"(%limit, %go, %x) ({
      ^bb0(%i: tensor<i64>, %v: tensor<4xf32>):
        %n = "graph.elementwise"(%v) {fn = "tanh"} : (tensor<4xf32>) -> tensor<4xf32>
        "flow.yield"(%go, %n) : (tensor<i1>, tensor<4xf32>) -> ()
      }) : (tensor<i64>, tensor<i1>, tensor<4xf32>) -> tensor<4xf32>
    """

    limit: Operand
    condition: Operand
    inits: Operands
    results_: Results
    body: Region

    def check(self) -> None:
        operands, results = list(self.operation.operands), list(self.operation.results)
        arguments, yielded = list(self.body.blocks[0].arguments), _yield_of(self.body)
        _expect_one(operands[0], "limit")
        _expect_one(operands[1], "condition")
        _expect_types("body takes", arguments[1:], operands[2:])
        _expect_types("yields", yielded[1:], operands[2:])
        _expect_types("results", results, operands[2:])


def _yield_of(region: ir.Region) -> list[ir.Value]:
    blocks = list(region.blocks)
    ops = list(blocks[0].operations) if len(blocks) == 1 else []
    if not ops or ops[-1].operation.name != "flow.yield":
        raise VerifyError("needs regions of one block that end in flow.yield")
    return list(ops[-1].operation.operands)


def _expect_types(what: str, found: Any, expected: Any) -> None:
    a, b = [str(v.type) for v in found], [str(v.type) for v in expected]
    if a != b:
        raise VerifyError(f"{what} {a}, expected {b}")


def _expect_one(value: ir.Value, what: str) -> None:
    if list(value.type.shape) not in ([], [1]):
        raise VerifyError(f"{what} must be one element, got {value.type}")
