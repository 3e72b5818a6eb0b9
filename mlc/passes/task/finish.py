"""What a product's sums become before they leave their registers: the task.foreach behind it, done on register tiles."""

from collections.abc import Mapping

from mlc.dialects._ext import operations
from mlc.ir.mlir import ir
from mlc.passes.task.body import Body, Lanes
from mlc.passes.task.flat import Memory, index_constant
from mlc.passes.task.product import Product, product_of


class Finish(Body):
    """The body of the foreach behind a product, on a vector of sums."""

    def __init__(self, mma: ir.Operation, foreach: ir.Operation, memory: Memory, outer: Mapping[ir.Value, ir.Value]) -> None:
        super().__init__(foreach, memory)
        self.sums, self.outer, self.points = mma.operands[2], outer, list(self.block.arguments)

    def emit(self, sums: ir.Value, at: Mapping[int, ir.Value], column: int, lanes: int) -> None:
        """Stores what becomes of `sums`, neighbours along the loop `column`. at: how far the product's loops have come, those not at 0."""
        self.current = sums
        env = {**self.outer, **{p: at[d] if d in at else index_constant(0) for d, p in enumerate(self.points)}}
        self.ops(self.block, Lanes(self.points[column], lanes), env)

    def _load(self, op: ir.Operation, lanes: Lanes, env: Mapping[ir.Value, ir.Value]) -> ir.Value:
        return self.current if self.accesses[op].buffer == self.sums else super()._load(op, lanes, env)

    def strides(self) -> list[tuple[int, ...]]:
        """Of its accesses, along the product's points."""
        return [tuple(a.stride(p) for p in self.points) for a in self.accesses.values()]


def foreach_behind(mma: ir.Operation) -> tuple[ir.Operation | None, list[ir.Operation]]:
    """The task.foreach that comes next, and the allocations and constants before it; None if something else does."""
    found, between = False, list[ir.Operation]()
    for view in mma.block.operations:
        op = view.operation
        if not found:
            found = op == mma
        elif op.name == "task.foreach":
            return op, between
        elif op.name in ("task.alloc", "arith.constant"):
            between.append(op)
        else:
            break
    return None, []


def finishes(mma: ir.Operation, foreach: ir.Operation, product: Product) -> bool:
    """Whether the foreach may be done on the sums of each register tile: it alone reads them, each at its own point, along vectors."""
    sums, points = mma.operands[2], list(foreach.regions[0].blocks[0].arguments)
    inside = operations(foreach)
    if isinstance(sums.owner, ir.Block) or foreach.opview.py("extents") != mma.opview.py("extents")[:len(points)]:
        return False
    readers = [use.owner.operation for use in sums.uses]
    if any(op != mma and not (op.name == "task.load" and op in inside) for op in readers):
        return False
    if any(len(op.regions) or op.name == "memref.load" for op in inside):
        return False
    body = Finish(mma, foreach, Memory(), {})
    long = [d for d, n in enumerate(foreach.opview.py("extents")) if n > 1]
    for (op, access), strides in zip(body.accesses.items(), body.strides(), strict=True):
        along = strides[product.column]
        if along not in ((1,) if op.name == "task.store" else (0, 1)) or (op.name == "task.store" and access.buffer in list(mma.operands)):
            return False
        if access.buffer == sums and (access.const or any(strides[d] != product.out.strides[d] for d in long)):
            return False
    same = product_of(mma, body.strides())
    return not body.used_as_value and same is not None and _loops(same) == _loops(product)


def _loops(product: Product) -> object:
    return product.extents, product.batch, product.row, product.others, product.column
