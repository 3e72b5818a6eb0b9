"""sink-transposes: transposes move down through ops that can run in the order from before them, where that saves moving elements.

One forward walk decides per op, by the elements that transposes would move. What follows is known from a backward walk: a value is *wanted*
in another order where a transpose, a reduction or a matmul further down would cancel, shrink or absorb the transpose.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from mlc.dialects.graph import MatmulOp
from mlc.dialects.graph.movement import BroadcastOp, ReshapeOp, TransposeOp
from mlc.dialects.graph.reduce import ReduceOp
from mlc.ir.mlir import ir
from mlc.passes.cleanup import drop_dead
from mlc.passes.graph.movements import chain, shortest
from mlc.passes.graph.permute import Perm, can_permute, is_permutable, is_vector, main_rank, permuted
from mlc.passes.graph.rewrite import Known, blocks, operand, operands, rank, replace, result, shape, single_use, size, users
from mlc.passes.graph.simplify import simplify
from mlc.passes.graph.views import inverse, transposes
from mlc.passes.registry import Pass, PassContext

_TRANSPOSE, _RESHAPE = TransposeOp.OPERATION_NAME, ReshapeOp.OPERATION_NAME
_BROADCAST = BroadcastOp.OPERATION_NAME
_MATMUL, _REDUCE = MatmulOp.OPERATION_NAME, ReduceOp.OPERATION_NAME


@dataclass
class Wanted:
    """In which orders users further down would take a value: any, such that a matmul swaps it back, or as a second operand comes."""

    any: bool = False
    swapped: bool = False
    perms: frozenset[Perm] = frozenset()

    def __contains__(self, perm: Perm) -> bool:
        return self.any or perm in self.perms or (self.swapped and perm[-2] == len(perm) - 1)

    def add(self, other: "Wanted") -> None:
        self.any, self.swapped, self.perms = self.any or other.any, self.swapped or other.swapped, self.perms | other.perms


def wanted(block: ir.Block) -> dict[ir.Value, Wanted]:
    """The wishes of a block's ops for their operands, from the last op to the first."""
    found: dict[ir.Value, Wanted] = {}
    orders = _orders(block)
    for view in reversed(list(block.operations)):
        operation = view.operation
        name = operation.name
        if name == _TRANSPOSE or (name == _REDUCE and 4 * size(operation.results[0]) <= size(operation.operands[0])):
            wish = Wanted(any=True)
        elif name == _MATMUL:
            wish = Wanted(swapped=True)
        elif name == _RESHAPE:  # one transpose does what two around a reshape do
            after = found.get(operation.results[0], Wanted())
            wish = Wanted(any=after.any or after.swapped)
        elif is_permutable(name):
            wish = Wanted()
            if rank(operation.results[0]) == main_rank(operation.opview):
                wish.add(found.get(operation.results[0], wish))
            reached = [orders.get(v, frozenset()) for v in set(operation.operands)]
            wish.perms |= {p for i, perms in enumerate(reached) for p in perms if any(p in other for other in reached[:i])}
        else:
            continue
        for value in operation.operands:
            if rank(value) > 1:
                found.setdefault(value, Wanted()).add(wish)
    return found


def _orders(block: ir.Block) -> dict[ir.Value, frozenset[Perm]]:
    """The transposes that could move down to each value: two operands that could lose the same one lose it together."""
    found: dict[ir.Value, frozenset[Perm]] = {}
    for view in block.operations:
        operation = view.operation
        if operation.name == _TRANSPOSE:
            found[operation.results[0]] = frozenset([tuple(operation.opview.perm)])
        elif is_permutable(operation.name) and rank(operation.results[0]) == main_rank(operation.opview):
            perms = frozenset().union(*(found.get(v, frozenset()) for v in operation.operands))
            if perms:
                found[operation.results[0]] = perms
    return found


class _Sink:
    def __init__(self, block: ir.Block, known: Known) -> None:
        self.block, self.known = block, known
        self.transposed = {op.operation.results[0] for op in block.operations if op.operation.name == _TRANSPOSE}
        self.wanted = wanted(block) if self.transposed else {}

    def run(self) -> int:
        count = 0
        for view in list(self.block.operations) if self.transposed else ():
            operation = view.operation
            if is_permutable(operation.name) and any(v in self.transposed for v in operation.operands):
                count += self.visit(operation.opview)
        return count

    def visit(self, op: Any) -> int:
        values = operands(op)
        order = main_rank(op)
        candidates: dict[Perm, list[int]] = {}
        for i, value in enumerate(values):
            if value in self.transposed and rank(value) == order and not self.known(value):
                candidates.setdefault(tuple(value.owner.opview.perm), []).append(i)
        best = max(candidates, key=lambda perm: sum(size(values[i]) for i in candidates[perm]), default=None)
        if best is None or not can_permute(op, best) or not self.pays(op, best, candidates[best]):
            return 0
        sources = [operand(v.owner) if i in candidates[best] else None for i, v in enumerate(values)]
        with ir.InsertionPoint(op), op.location:
            made = permuted(op, best, sources)
        replace(result(op), made)
        self.transposed.add(made)
        return 1

    def pays(self, op: Any, perm: Perm, moved: list[int]) -> bool:
        """Fewer elements moved by transposes after than before."""
        wish = self.wanted.get(result(op))
        helps = wish is not None and perm in wish
        if op.operation.name == _BROADCAST and helps:  # what is repeated is better moved before, unless a partner moves with it
            helps = perm in wish.perms
        rest = {v for i, v in enumerate(operands(op)) if i not in moved}
        after = sum(self.reordering(v, perm) for v in rest) + (0 if helps else size(result(op)))
        # A transpose that others use too does not go away by this alone.
        before = sum(size(v) / len(users(v)) for v in {operands(op)[i] for i in moved}) + (size(result(op)) if helps else 0)
        return after < before or (after == before and len(moved) > 1)  # fewer ops, then


    def reordering(self, value: ir.Value, perm: Perm) -> int:
        """The elements that bringing one more operand into source order moves: none for one that is transposed anyway."""
        if self.known(value) or is_vector(value):
            return 0
        source, steps = chain(value)
        if steps and rank(value) == len(perm) and single_use(value):
            whole = (*steps, ("transpose", inverse(perm)))
            if transposes(shortest(shape(source), whole) or whole) <= transposes(steps):
                return 0
        return size(value)


def sink_transposes(module: ir.Module) -> int:
    """One round over every block; returns how many ops were turned round."""
    known = Known()
    count = sum(_Sink(block, known).run() for block in blocks(module))
    drop_dead(module)
    return count


def settle(module: ir.Module, rounds: int) -> None:
    """Sinks transposes and shortens the chains they come to stand in, until neither helps."""
    for _ in range(rounds):
        if not sink_transposes(module):
            return
        simplify(module, movements_only=True)


@dataclass(frozen=True)
class SinkTransposes(Pass):
    """Moves transposes down until they cancel, shrink or are absorbed, and simplifies what they meet."""

    name: ClassVar[str] = "sink-transposes"
    rounds: int = 4

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        settle(module, self.rounds)
