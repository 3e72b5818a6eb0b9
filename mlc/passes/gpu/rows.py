"""Which ops of a kernel walk the same rows and columns, so that a thread can hand its part of a row on to the next op in registers.

A softmax or a norm is a few ops over one box: reductions of each row, values per row, and elementwise work on whole rows. Loops of
different ops are the same loop where they walk the same dimension of a buffer; those that a reduction shares with another op are columns.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlc.dialects._ext import operations
from mlc.ir.affine import map_to_linear
from mlc.ir.mlir import ir

Rest = tuple[frozenset[tuple[ir.Value, int]], int]


@dataclass(frozen=True)
class Place:
    """Per dimension of a buffer: the loop that walks it (or none), and what is added: block offsets with their factors, and a constant."""

    loops: tuple[tuple[()] | tuple[ir.Value], ...]
    rest: tuple[Rest, ...]


@dataclass(frozen=True, eq=False)
class RowOp:
    """A foreach over rows: its row loops and column loops (none: one value per row), outermost first; reduction: the one over columns."""

    op: ir.Operation
    rows: tuple[ir.Value, ...]
    columns: tuple[ir.Value, ...]
    reduction: ir.Operation | None

    @property
    def dims(self) -> list[int]:
        """Those dimensions of its extents that are columns."""
        points = list(self.op.regions[0].blocks[0].arguments)
        return [] if self.reduction is not None else [points.index(v) for v in self.columns]


@dataclass(frozen=True)
class Rows:
    """The ops that share rows, in order, and their box: its loops without those of extent 1, outermost first, and the extents.

    same: loop -> the loop that stands for it and for those that are the same, as in `row_loops` and `column_loops`.
    """

    ops: list[RowOp]
    row_loops: tuple[ir.Value, ...]
    column_loops: tuple[ir.Value, ...]
    same: Mapping[ir.Value, ir.Value]
    extents: Mapping[ir.Value, int]

    @property
    def rows(self) -> list[int]:
        return [self.extents[v] for v in self.row_loops]

    @property
    def columns(self) -> list[int]:
        return [self.extents[v] for v in self.column_loops]

    def place(self, access: ir.Operation) -> Place | None:
        """What accesses of the same element at the same row and column have in common, in all ops; None where that is not known."""
        own = place_of(access, self.extents)
        return None if own is None else Place(tuple((self.same[v[0]],) if v else () for v in own.loops), own.rest)

    def walked(self, access: ir.Operation) -> set[ir.Value] | None:
        """The loops along which an access moves; None where that is not known."""
        place = self.place(access)
        return None if place is None else {v[0] for v in place.loops if v}


def place_of(op: ir.Operation, extents: Mapping[ir.Value, int]) -> Place | None:
    """The place of a task.load or task.store; None if a dimension's index is more than one loop plus what is fixed in a block.

    extents: of all loops. Those of extent 1 do not count.
    """
    first = 1 if op.name == "task.load" else 2
    indices, linear = list(op.operands)[first:], map_to_linear(op.attributes["map"].value)
    assert linear is not None, f"not linear: {op}"
    loops: list[tuple[()] | tuple[ir.Value]] = []
    rest: list[Rest] = []
    for e in linear:
        walked: dict[ir.Value, int] = {}
        fixed: dict[ir.Value, int] = {}
        for v, c in zip(indices, e.coefficients, strict=True):
            if c and extents.get(v) != 1:
                kind = walked if v in extents else fixed
                kind[v] = kind.get(v, 0) + c
        if len(walked) > 1 or any(c != 1 for c in walked.values()):
            return None
        loops.append((next(iter(walked)),) if walked else ())
        rest.append((frozenset(fixed.items()), e.const))
    return Place(tuple(loops), tuple(rest))


def accesses(op: ir.Operation) -> Iterator[tuple[ir.Operation, ir.Value]]:
    """The task.loads and task.stores of a foreach, each with its buffer."""
    for inner in operations(op):
        if inner.name in ("task.load", "task.store"):
            yield inner, inner.operands[0 if inner.name == "task.load" else 1]


def find_rows(block: ir.Block) -> Rows | None:
    """The ops of a kernel's body that share rows; None if there are not two of them, one a reduction, or if bodies hold loops."""
    foreaches = [v.operation for v in block.operations if v.operation.name == "task.foreach"]
    if any(inner.name.startswith("scf.") for op in foreaches for inner in operations(op)):
        return None
    extents = {v: n for op in foreaches for v, n in _loops(op)}
    same = _same_loops(foreaches, extents)
    if any(len({same[v] for v, _ in own}) < len(own) for op in foreaches if (own := [(v, n) for v, n in _loops(op) if n > 1])):
        return None
    folded = {v for op in foreaches for r in _reductions(op) for v in _indices(r)}
    members: dict[ir.Value, set[ir.Value]] = {}
    for v in extents:
        members.setdefault(same[v], set()).add(v)
    columns = {root for root, own in members.items() if len(own) > 1 and own & folded}
    found = [_row_op(op, columns, same, extents) for op in foreaches]
    model = next((f for f in found if f is not None and f.reduction is not None), None)
    if model is None:
        return None

    def classes(loops: Sequence[ir.Value]) -> list[ir.Value]:
        return [same[v] for v in loops]

    ops = [f for f in found if f is not None and classes(f.rows) == classes(model.rows)
           and (classes(f.columns) == classes(model.columns) or not (f.columns or _reductions(f.op)))]
    if len(ops) < 2:
        return None
    return Rows(ops, tuple(classes(model.rows)), tuple(classes(model.columns)), same, extents)


def _reductions(op: ir.Operation) -> list[ir.Operation]:
    return [inner for inner in operations(op) if inner.name == "task.reduce"]


def _indices(reduction: ir.Operation) -> list[ir.Value]:
    return list(reduction.regions[0].blocks[0].arguments)[:len(reduction.opview.py("extents"))]


def _loops(op: ir.Operation) -> list[tuple[ir.Value, int]]:
    """All loops of a foreach with their extents: its points, then its reductions'."""
    found = list(zip(op.regions[0].blocks[0].arguments, op.opview.py("extents"), strict=True))
    for r in _reductions(op):
        found += zip(_indices(r), r.opview.py("extents"), strict=True)
    return found


def _same_loops(foreaches: Sequence[ir.Operation], extents: Mapping[ir.Value, int]) -> dict[ir.Value, ir.Value]:
    """Each loop's representative: loops of one extent that walk the same dimension of the same buffer from the same place are one."""
    parent = {v: v for v in extents}

    def root(v: ir.Value) -> ir.Value:
        while parent[v] != v:
            v = parent[v]
        return v

    walkers: dict[object, ir.Value] = {}
    for op in foreaches:
        for access, buffer in accesses(op):
            place = place_of(access, extents)
            for d, (v, rest) in enumerate(zip(place.loops, place.rest) if place is not None else ()):
                if v:
                    parent[root(v[0])] = root(walkers.setdefault((buffer, d, rest, extents[v[0]]), v[0]))
    return {v: root(v) for v in extents}


def _row_op(op: ir.Operation, columns: set[ir.Value], same: Mapping[ir.Value, ir.Value], extents: Mapping[ir.Value, int]) -> RowOp | None:
    """The foreach by its rows and columns; None if it cannot share rows."""
    points = [v for v in op.regions[0].blocks[0].arguments if extents[v] > 1]
    rows, own = tuple(v for v in points if same[v] not in columns), tuple(v for v in points if same[v] in columns)
    reductions = _reductions(op)
    over = [[v for v in _indices(r) if same[v] in columns] for r in reductions]
    if not any(over):
        return RowOp(op, rows, own, None)
    whole = len(reductions) == 1 and len(over[0]) == sum(extents[v] > 1 for v in _indices(reductions[0]))
    if own or not whole or not all(reductions[0].opview.py("combine")):
        return None
    return RowOp(op, rows, tuple(over[0]), reductions[0])
