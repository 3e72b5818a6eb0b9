"""join-foreaches: two foreaches over one box become one where the second reads of the first only what is made at its own point."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from mlc.dialects._ext import operations
from mlc.ir.affine import map_to_linear
from mlc.ir.clone import clone
from mlc.ir.mlir import ir
from mlc.passes.registry import Pass, PassContext


@dataclass(frozen=True)
class JoinForeaches(Pass):
    """Saves a barrier, and a way through memory. Does nothing for a target without threads, whose loops stay small."""

    name: ClassVar[str] = "join-foreaches"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        if not ctx.need_target().warp:
            return
        for view in module.body.operations:
            if view.operation.name == "task.kernel":
                _join(view.operation.regions[0].blocks[0])


def _join(block: ir.Block) -> None:
    first: ir.Operation | None = None
    between: list[ir.Operation] = []  # what has to come before a joined foreach
    for op in [v.operation for v in block.operations]:
        if op.name in ("task.alloc", "arith.constant"):
            between.append(op)
        elif op.name != "task.foreach":
            first = None
        elif first is not None and (values := _forwarded(first, op)) is not None:
            for other in between:
                other.move_before(first)
            _append(first, op, values)
            between = []
        else:
            first, between = op, []


def _forwarded(first: ir.Operation, second: ir.Operation) -> dict[ir.Value, ir.Value] | None:
    """What each of the second's loads of the first's results stands for, if the two can be one; else None."""
    if first.opview.py("extents") != second.opview.py("extents"):
        return None
    outer, inner = operations(first), operations(second)
    if any(op.name in ("task.reduce", "memref.load") for op in (*outer, *inner)):
        return None
    points = dict(zip(second.regions[0].blocks[0].arguments, first.regions[0].blocks[0].arguments))
    stores = {op.operands[1]: op for op in outer if op.name == "task.store"}
    written = {op.operands[1] for op in inner if op.name == "task.store"}
    if written & ({op.operands[0] for op in outer if op.name == "task.load"} | set(stores)):
        return None
    found: dict[ir.Value, ir.Value] = {}
    for op in inner:
        if op.name != "task.load" or op.operands[0] not in stores:
            continue
        store = stores[op.operands[0]]
        if (place := _point(op, 1, {**points, **_still(second)})) is None or place != _point(store, 2, _still(first)):
            return None
        found[op.results[0]] = store.operands[0]
    return found


def _still(foreach: ir.Operation) -> dict[ir.Value, None]:
    """The indices of a foreach that are always zero."""
    return {v: None for v, n in zip(foreach.regions[0].blocks[0].arguments, foreach.opview.py("extents")) if n == 1}


def _point(access: ir.Operation, first: int, names: Mapping[ir.Value, ir.Value | None]) -> list[tuple[int, dict[ir.Value, int]]] | None:
    """Along each dimension: a constant and the factor of each index. names: what an index counts as, None for zero."""
    linear = map_to_linear(access.attributes["map"].value)
    if linear is None:
        return None
    found = []
    for e in linear:
        factors: dict[ir.Value, int] = {}
        for v, c in zip(list(access.operands)[first:], e.coefficients, strict=True):
            name = names.get(v, v)
            if c and name is not None:
                factors[name] = factors.get(name, 0) + c
        found.append((e.const, factors))
    return found


def _append(first: ir.Operation, second: ir.Operation, values: dict[ir.Value, ir.Value]) -> None:
    """Moves the second's body behind the first's."""
    block, source = first.regions[0].blocks[0], second.regions[0].blocks[0]
    env = {**values, **dict(zip(source.arguments, block.arguments))}
    with ir.InsertionPoint(block.operations[len(block.operations) - 1]):
        for view in source.operations:
            op = view.operation
            if op.name != "task.yield" and not (op.name == "task.load" and op.results[0] in values):
                clone(op, env)
    second.erase()
