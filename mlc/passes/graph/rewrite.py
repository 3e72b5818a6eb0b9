"""Matching and replacing over def-use chains: what every graph rewrite shares, and the driver that sweeps rules until nothing changes.

A rule takes an op (its OpView), builds ops at the insertion point, and returns the value that replaces its only result, or None.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mlc.dialects.graph import ConstantOp, GraphOp, TensorType
from mlc.errors import CompilerError
from mlc.ir.mlir import func, ir
from mlc.passes.cleanup import drop_dead

Rule = Callable[[Any], "ir.Value | None"]
MAX_SWEEPS = 64  # of real models none needs more than ten; more means two rules undo each other


def producer(value: ir.Value, cls: type, /, **attributes: object) -> Any:
    """The op that makes `value`, if it is a `cls` whose attributes have these values; else None."""
    operation = defining(value)
    if operation is None or operation.name != cls.OPERATION_NAME:
        return None
    op = operation.opview
    return op if all(op.py(name) == expected for name, expected in attributes.items()) else None


def defining(value: ir.Value) -> ir.Operation | None:
    """The operation that makes `value`; None for block arguments."""
    owner = value.owner
    return None if isinstance(owner, ir.Block) else owner.operation


def beside(op: Any, value: ir.Value) -> ir.Operation | None:
    """The operation that makes `value`, if it stands in the block of `op`: work must not move from before a loop into it."""
    operation = defining(value)
    return operation if operation is not None and operation.block == op.operation.block else None


def operands(op: Any) -> list[ir.Value]:
    return list(op.operation.operands)


def operand(op: Any, index: int = 0) -> ir.Value:
    return op.operation.operands[index]


def result(op: Any) -> ir.Value:
    return op.operation.results[0]


def shape(value: ir.Value) -> tuple[int, ...]:
    return tuple(value.type.shape)


def rank(value: ir.Value) -> int:
    return value.type.rank


def size(value: ir.Value) -> int:
    n = 1
    for d in value.type.shape:
        n *= d
    return n


def users(value: ir.Value) -> list[Any]:
    return [use.owner for use in value.uses]


def single_use(value: ir.Value) -> bool:
    uses = value.uses
    return next(uses, None) is not None and next(uses, None) is None


def array(value: ir.Value) -> np.ndarray | None:
    """The elements of a `graph.constant`."""
    op = producer(value, ConstantOp)
    return None if op is None else op.array


def splat(value: ir.Value) -> float | int | bool | None:
    """The one number that all elements of a `graph.constant` are."""
    elements = array(value)
    if elements is None or elements.size == 0:
        return None
    first = elements.reshape(-1)[0]
    # Compared as bytes: NaN is itself, and 0.0 is not -0.0.
    return first.item() if elements.size == 1 or elements.tobytes() == first.tobytes() * elements.size else None


class Known:
    """Which values depend on weights and constants alone: they are computed at compile time. Valid while no op is erased."""

    def __init__(self) -> None:
        self._memo: dict[ir.Value, bool] = {}

    def __call__(self, value: ir.Value) -> bool:
        memo = self._memo
        stack = [value]  # not recursive: weight arithmetic can be as deep as a model
        while stack:
            top = stack[-1]
            if top not in memo:
                operation = defining(top)
                if operation is None or not isinstance(operation.opview, GraphOp):
                    memo[top] = False
                else:
                    waiting = None
                    for v in operation.operands:
                        seen = memo.get(v)
                        if seen is False:  # one is enough: most values depend on an input, a few ops up
                            memo[top] = False
                            break
                        if seen is None and waiting is None:
                            waiting = v
                    else:
                        if waiting is not None:
                            stack.append(waiting)
                            continue
                        memo[top] = True
            stack.pop()
        return memo[value]


def blocks(module: ir.Module) -> Iterator[ir.Block]:
    """Every block that holds graph ops: function bodies and the flow regions inside them, outer ones first."""
    for op in module.body.operations:
        if isinstance(op, func.FuncOp):
            for region in op.operation.regions:
                for block in region:
                    yield from _nested(block)


def _nested(block: ir.Block) -> Iterator[ir.Block]:
    yield block
    for op in block.operations:
        for region in op.operation.regions:
            for inner in region:
                yield from _nested(inner)


def is_dead(operation: ir.Operation) -> bool:
    return all(next(r.uses, None) is None for r in operation.results)


def replace(old: ir.Value, new: ir.Value) -> None:
    """Every use of `old` becomes `new`; the op that made `old` is left for `drop_dead`."""
    if old.type != new.type:
        raise CompilerError(f"a rewrite of {old.owner} gives {new.type}, not {old.type}")
    old.replace_all_uses_with(new)


def sweep(module: ir.Module, rules: dict[str, list[Rule]]) -> int:
    """Tries the rules of each op's name once, in program order, and on what they make at once; returns how often one applied."""
    count = 0
    for block in blocks(module):
        for view in list(block.operations):
            operation = view.operation
            if operation.name in rules and not is_dead(operation):
                count += _apply(operation, rules)
    return count


def _apply(operation: ir.Operation, rules: dict[str, list[Rule]]) -> int:
    count = 0
    while True:
        new = None
        found = rules.get(operation.name, ())
        if found:
            op = operation.opview
            with ir.InsertionPoint(operation), operation.location:
                for rule in found:
                    new = rule(op)
                    if new is not None:
                        break
        if new is None:
            return count
        count += 1
        if count > MAX_SWEEPS:
            raise CompilerError(f"rewrites of {operation} do not come to an end")
        replace(operation.results[0], new)
        made = defining(new)
        if made is None or len(made.results) != 1:
            return count
        operation = made


def run_rules(module: ir.Module, rules: Callable[[Known], dict[str, list[Rule]]]) -> int:
    """Sweeps until nothing changes, removing dead ops in between (never within a sweep: values found there stay valid)."""
    total = 0
    for _ in range(MAX_SWEEPS):
        count = sweep(module, rules(Known()))
        drop_dead(module)
        total += count
        if count == 0:
            return total
    raise CompilerError(f"rewrites do not come to an end after {MAX_SWEEPS} sweeps")


def type_of(value: ir.Value) -> TensorType:
    return TensorType.of(value)
