"""dce and cse for our own ops, at every level: what nobody uses goes, what is computed twice is computed once."""

from dataclasses import dataclass
from typing import ClassVar

from mlc.dialects._ext import OPS
from mlc.ir.mlir import func, ir
from mlc.passes.registry import Pass, PassContext

_UPSTREAM_PURE = ("arith.", "math.", "affine.apply", "tensor.", "complex.")


def is_pure(operation: ir.Operation) -> bool:
    """No effect but its results. Ops with regions are as pure as what they hold."""
    cls = OPS.get(operation.name)
    if cls is None:
        return operation.name.startswith(_UPSTREAM_PURE) or (operation.name.startswith("linalg.") and len(operation.results) > 0)
    if not cls.pure:
        return False
    for region in operation.regions:
        for block in region:
            for op in block.operations:
                if not _is_terminator(op.operation) and not is_pure(op.operation):
                    return False
    return True


def _is_terminator(operation: ir.Operation) -> bool:
    return operation.name.endswith(".yield") or operation.name in ("func.return", "tile.return", "linalg.yield")


def drop_dead(module: ir.Module) -> int:
    """Erases pure ops whose results nobody uses; returns how many."""
    return sum(_drop_dead(region) for op in module.body.operations for region in op.operation.regions)


def _drop_dead(region: ir.Region) -> int:
    count = 0
    for block in region:
        for view in reversed(list(block.operations)):
            operation = view.operation
            results = operation.results
            if len(results) and all(next(r.uses, None) is None for r in results) and is_pure(operation):
                operation.erase()
                count += 1
            else:
                for inner in operation.regions:
                    count += _drop_dead(inner)
    return count


Key = tuple[object, ...]


def merge_equal(block: ir.Block, outer: "dict[Key, ir.Operation] | None" = None) -> int:
    """Uses the first of several equal pure ops; a region sees the ops before it in the blocks around it. Ops with regions stay apart."""
    seen: dict[Key, ir.Operation] = {}
    count = 0
    dead: list[ir.Operation] = []
    for view in block.operations:
        operation = view.operation
        if len(operation.regions):
            isolated = operation.name in ("tile.graph", "func.func", "task.kernel")
            for region in operation.regions:
                for inner in region:
                    count += merge_equal(inner, None if isolated else {**(outer or {}), **seen})
            continue
        if not len(operation.results) or not is_pure(operation) or operation.name == "tensor.empty":
            continue  # two tensor.empty are two buffers to fill, not one value
        # MLIR keeps attributes sorted by name, so equal ops list them alike.
        attributes = [(a.name, a.attr) for a in _named(operation)]
        key = (operation.name, *operation.operands, *(r.type for r in operation.results), *attributes)
        first = seen.get(key) or (outer or {}).get(key)
        if first is None:
            seen[key] = operation
            continue
        for old, new in zip(operation.results, first.results, strict=True):
            old.replace_all_uses_with(new)
        dead.append(operation)
        count += 1
    for operation in dead:
        operation.erase()
    return count


def _named(operation: ir.Operation) -> list[ir.NamedAttribute]:
    attributes = operation.attributes
    return [attributes[i] for i in range(len(attributes))]


@dataclass(frozen=True)
class Dce(Pass):
    """Removes pure ops, flow and tile ones included, whose results nobody uses."""

    name: ClassVar[str] = "mlc-dce"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        drop_dead(module)


@dataclass(frozen=True)
class Cse(Pass):
    """Merges equal pure ops; ops inside a flow region also with those before it outside."""

    name: ClassVar[str] = "mlc-cse"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        for op in module.body.operations:
            if isinstance(op, func.FuncOp):
                for region in op.operation.regions:
                    for block in region:
                        merge_equal(block)
