"""Lowering by one walk: op name -> rule, a map from old values to new ones, and a check that nothing illegal is left.

    to_vector = Lowering("tile-to-vector", illegal=("tile",))

    @to_vector.rule(tile.AddOp)
    def _(low, op):
        return [arith.AddFOp(low.get(op.lhs), low.get(op.rhs)).result]

    to_vector.run(module)

Plain Python calls only (no C++ callbacks), so exceptions are ordinary. A rule runs at the old op's place and location. It returns one entry
per result: the new value, or a tuple of values (1:N); then the old op goes away. It returns None to keep the op. Regions of ops without a
rule are walked; a rule decides about the regions of its own op with `low.regions(op)` (lower in place) or `low.inline(block, values)`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from mlc.ir.diagnostics import DiagnosticError, error_at
from mlc.ir.mlir import ir

_Values = Sequence[ir.Value]
Rule = Callable[["Walk", Any], "Sequence[ir.Value | _Values] | None"]


class LoweringError(DiagnosticError):
    """A rule is missing, or refused its op."""

    def __init__(self, op: Any, message: str) -> None:
        super().__init__([error_at(op, message)])


class Lowering:
    """A table of rules. illegal: op names or dialect namespaces of which none may be left after a run."""

    def __init__(self, name: str, *, illegal: Sequence[str] = ()) -> None:
        self.name, self.illegal = name, frozenset(illegal)
        self.rules: dict[str, Rule] = {}

    def rule(self, *ops: str | type) -> Callable[[Rule], Rule]:
        """Registers a rule for op classes, op names, or whole dialects (`"graph.*"`; a rule for the op itself wins)."""

        def register(fn: Rule) -> Rule:
            for op in ops:
                name = op if isinstance(op, str) else op.OPERATION_NAME  # type: ignore[attr-defined]
                if name in self.rules:
                    raise ValueError(f"{self.name}: two rules for {name}")
                self.rules[name] = fn
            return fn

        return register

    def find(self, name: str) -> Rule | None:
        return self.rules.get(name) or self.rules.get(f"{name.partition('.')[0]}.*")

    def run(self, root: Any, state: Any = None) -> None:
        """Lowers everything inside `root` (a module or an op; not the op itself). Rules see `state` as `low.state`.

        After an error the IR is half lowered: drop it.
        """
        walk = Walk(self, state)
        walk.regions(root.operation)
        walk.finish()
        self._check_legal(root.operation)

    def _check_legal(self, root: ir.Operation) -> None:
        left: list[ir.Operation] = []

        def visit(op: ir.Operation) -> ir.WalkResult:
            if op.name in self.illegal or op.name.partition(".")[0] in self.illegal:
                left.append(op)
            return ir.WalkResult.ADVANCE

        if self.illegal:
            root.walk(visit, ir.WalkOrder.PRE_ORDER)
        if left:
            counts = ", ".join(f"{n} {name}" for name, n in Counter(op.name for op in left).items())
            raise LoweringError(left[0], f"is still there after {self.name} (left: {counts})")


class Walk:
    """One run: what rules call `low`."""

    def __init__(self, lowering: Lowering, state: Any) -> None:
        self.lowering, self.state = lowering, state
        self._new: dict[ir.Value, tuple[ir.Value, ...]] = {}
        self._dead: list[ir.Operation] = []  # of the region being walked, users after what they use
        self._retired: list[tuple[ir.Block, int]] = []  # blocks whose first n arguments have been replaced

    def get(self, old: ir.Value) -> ir.Value:
        """The new value of an old one (itself if it was not replaced)."""
        new = self.values(old)
        if len(new) != 1:
            raise ValueError(f"a value of type {old.type} became {len(new)} values; use low.values")
        return new[0]

    def values(self, old: ir.Value) -> tuple[ir.Value, ...]:
        """The new values of an old one."""
        return self._new.get(old, (old,))

    def operands(self, op: Any) -> list[ir.Value]:
        """The op's operands, each as one new value."""
        return [self.get(v) for v in op.operation.operands]

    def set(self, old: ir.Value, *new: ir.Value) -> None:
        """Says what replaces a value; for block arguments (results of an op are what its rule returns)."""
        self._new[old] = new

    def regions(self, op: Any) -> None:
        """Lowers the op's regions in place."""
        for region in op.operation.regions:
            outer, self._dead = self._dead, []
            for block in region:
                for view in list(block.operations):
                    self._lower(view)
            self._erase(self._dead)
            self._dead = outer

    def inline(self, block: ir.Block, arguments: Sequence[ir.Value | _Values] = ()) -> list[ir.Value]:
        """Moves a block's ops to the current insertion point and lowers them there; returns the terminator's operands, lowered.

        arguments: what replaces the block's arguments. The terminator goes away.
        """
        for old, new in zip(block.arguments, arguments, strict=True):
            self.set(old, *_as_tuple(new))
        *body, terminator = list(block.operations)
        point = ir.InsertionPoint.current
        for view in body:
            view.operation.detach_from_parent()
            point.insert(view)
        for view in body:
            self._lower(view)
        results = [new for old in terminator.operation.operands for new in self.values(old)]
        terminator.operation.erase()
        return results

    def convert_arguments(self, block: ir.Block, convert: Callable[[ir.Type], Sequence[ir.Type]]) -> None:
        """Replaces a block's arguments by arguments of the types that `convert` gives for each (one, none or several)."""
        old = list(block.arguments)
        for argument in old:
            self.set(argument, *[block.add_argument(t, argument.location) for t in convert(argument.type)])
        self._retired.append((block, len(old)))

    def update(self, op: Any) -> None:
        """Gives a kept op its new operands, whatever their types: for terminators and other ops that accept the new types as they are."""
        operation = op.operation
        for index, old in enumerate(operation.operands):
            if old in self._new:
                operation.operands[index] = self.get(old)

    def finish(self) -> None:
        """Drops the block arguments that `convert_arguments` replaced."""
        for block, count in self._retired:
            for index in reversed(range(count)):
                argument = block.arguments[index]
                _check_unused(argument, block.owner, f"argument {index}")
                block.erase_argument(index)

    def _lower(self, view: Any) -> None:
        operation = view.operation
        rule = self.lowering.find(operation.name)
        if rule is None:
            self._keep(operation)
            self.regions(operation)
            return
        # Ops that the rule inlines use this op's block arguments, so they go before it: `_erase` runs backwards.
        position = len(self._dead)
        with operation.location, ir.InsertionPoint(operation):
            new = rule(self, view)
        if new is None:
            return
        if len(new) != len(operation.results):
            raise LoweringError(operation, f"has {len(operation.results)} results, but its {self.lowering.name} rule returned {len(new)}")
        for old, values in zip(operation.results, new, strict=True):
            self._new[old] = _as_tuple(values)
        self._dead.insert(position, operation)

    def _keep(self, operation: ir.Operation) -> None:
        """An op without a rule stays, if its operands kept their types."""
        for index, old in enumerate(operation.operands):
            if old not in self._new:
                continue
            new = self.values(old)
            if len(new) != 1 or new[0].type != old.type:
                became = ", ".join(str(v.type) for v in new) or "nothing"
                rule = f"{self.lowering.name} rule"
                raise LoweringError(operation, f"operand {index} of type {old.type} became {became}, and the op has no {rule}")
            operation.operands[index] = new[0]

    def _erase(self, dead: list[ir.Operation]) -> None:
        for operation in reversed(dead):  # users before what they use
            for index, result in enumerate(operation.results):
                _check_unused(result, operation, f"result {index}")
            operation.erase()


def _as_tuple(values: ir.Value | _Values) -> tuple[ir.Value, ...]:
    return tuple(values) if isinstance(values, (list, tuple)) else (values,)  # type: ignore[return-value]


def _check_unused(value: ir.Value, op: Any, what: str) -> None:
    """Erasing a value in use aborts the process; a rule that left a use behind (or blocks out of order) is an error instead."""
    for use in value.uses:
        raise LoweringError(op, f"{what} was lowered, but '{use.owner.operation.name}' still uses the old value")
