"""Const-eval's split: what depends on weights alone leaves @main for a module of its own, to be run once at compile time."""

from collections.abc import Callable

from mlc.dtypes import BY_NAME
from mlc.ir.clone import clone
from mlc.ir.mlir import func, ir
from mlc.passes.tile.model import volume

_SOURCES = ("tile.weight", "arith.constant")


def split_constants(module: ir.Module, store: Callable[[ir.Value], str], budget: int) -> ir.Module | None:
    """Moves tile.graphs (and views) that read only weights into `@main() -> results` of a new module; None if there are none.

    Each result that @main still needs becomes a `tile.weight` whose key is `store(result)`, called in the order of the new @main's results.
    budget: bytes of results, one at least, to move now; the rest is for further calls, so that not all weights are in memory twice.
    """
    main = next(op for op in module.body.operations if op.operation.name == "func.func")
    block = main.regions[0].blocks[0]
    constant = _constant_ops(block)
    inside = set(constant)
    needed = [v for op in constant for v in op.results if any(u.owner.operation not in inside for u in v.uses) and _computed(v, inside)]
    if not needed:
        return None
    needed = _within(needed, budget)
    inside = _behind(needed, inside)
    new = _module_of(module, block, inside, needed)
    for value in needed:
        with value.owner.location, ir.InsertionPoint(value.owner):
            weight = ir.Operation.create("tile.weight", results=[value.type], attributes={"key": ir.StringAttr.get(store(value))})
        value.replace_all_uses_with(weight.results[0])
    for op in reversed(constant):
        if op in inside and not any(next(iter(r.uses), None) is not None for r in op.results):
            op.erase()
    return new


def _constant_ops(block: ir.Block) -> list[ir.Operation]:
    """The tile.graphs and views that depend on weights alone, in order."""
    known: set[ir.Value] = set()
    found: list[ir.Operation] = []
    for view in block.operations:
        op = view.operation
        if op.name in _SOURCES:
            known.update(op.results)
        elif op.name in ("tile.graph", "tile.view") and len(op.operands) and all(v in known for v in op.operands):
            known.update(op.results)
            found.append(op)
    return found


def _module_of(module: ir.Module, block: ir.Block, inside: set[ir.Operation], results: list[ir.Value]) -> ir.Module:
    """A module whose @main has the ops `inside` of a block, with the weights and constants they read, and returns `results`."""
    with module.operation.location:
        new = ir.Module.create()
        with ir.InsertionPoint(new.body):
            function = func.FuncOp("main", ([], [v.type for v in results]))
        env: dict[ir.Value, ir.Value] = {}
        with ir.InsertionPoint(function.add_entry_block()):
            for view in block.operations:
                op = view.operation
                if op in inside or (op.name in _SOURCES and any(u.owner.operation in inside for r in op.results for u in r.uses)):
                    clone(op, env)
            func.ReturnOp([env[v] for v in results])
    return new


def _within(values: list[ir.Value], budget: int) -> list[ir.Value]:
    """The first values, as many as together have `budget` bytes; one at least."""
    size = 0
    for i, value in enumerate(values):
        size += volume(value.type.shape) * BY_NAME[str(value.type.element_type)].bytes
        if i and size > budget:
            return values[:i]
    return values


def _behind(values: list[ir.Value], candidates: set[ir.Operation]) -> set[ir.Operation]:
    """Those candidates that compute the values."""
    found: set[ir.Operation] = set()
    todo = [v.owner for v in values]
    while todo:
        op = todo.pop()
        if op in candidates and op not in found:
            found.add(op)
            todo += [v.owner for v in op.operands]
    return found


def _computed(value: ir.Value, inside: set[ir.Operation]) -> bool:
    """Whether a kernel stands behind the value (a view of a plain weight needs no run)."""
    owner = value.owner
    while not isinstance(owner, ir.Block) and owner.name == "tile.view" and owner in inside:
        owner = owner.operands[0].owner
    return not isinstance(owner, ir.Block) and owner.name == "tile.graph"
