"""A task.mma on flat memory: which of its loops are rows, columns, batch and reduction of a product that register tiles can do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlc.ir.affine import map_to_linear
from mlc.ir.mlir import ir
from mlc.layout.linear import Linear, flatten, row_major
from mlc.passes.tile.model import volume

FEW = 4  # rows below which packing the column factor costs more than it saves


@dataclass(frozen=True)
class Operand:
    """A buffer, the element at which the block's part starts (`const` + block offsets * `starts`), and strides per loop of the product.

    panel: the width of the panels it is stored in, or 0; its column stride then means nothing, and a column has `depth` elements.
    """

    buffer: ir.Value
    const: int
    starts: Mapping[ir.Value, int]
    strides: tuple[int, ...]
    panel: int
    depth: int


@dataclass(frozen=True)
class Product:
    """out[batch, row, column] = sum of left[batch, row, k] * right[batch, k, column], by loops whose `extents` the lists number.

    left supplies a scalar per row, right a vector of columns, along which the result is contiguous. row: the longest row loop (None: one
    row); others: the other row loops. folded: the reduction's loops. resumable: sums may be left in the result and added to later.
    """

    left: Operand
    right: Operand
    out: Operand
    extents: tuple[int, ...]
    batch: tuple[int, ...]
    row: int | None
    others: tuple[int, ...]
    column: int
    folded: tuple[int, ...]
    resumable: bool

    @property
    def rows(self) -> int:
        """Iterations of the row loop."""
        return self.extents[self.row] if self.row is not None else 1

    @property
    def width(self) -> int:
        """Columns that lie beside each other in the column factor: those of a panel, or all."""
        return self.right.panel or self.extents[self.column]

    @property
    def depth(self) -> int:
        """Reduction points."""
        return volume([self.extents[d] for d in self.folded])


def product_of(op: ir.Operation, beside: Sequence[tuple[int, ...]] = ()) -> Product | None:
    """The product that a task.mma is, or None: no loop can be its columns, or they would have to be packed for very few rows.

    beside: strides along the points of what else is accessed in its loops.
    """
    view = op.opview
    extents: list[int] = view.py("extents")
    points = len(extents) - view.py("reductions")
    a, b, c, *offsets = list(op.operands)
    operands = [_operand(buffer, map_, offsets, extents, points, panel)
                for buffer, map_, panel in zip((a, b, c), op.attributes["maps"], [*view.py("panels"), 0])]
    folded, parallel = list(range(points, len(extents))), list(range(points))
    stored = next((o for o in operands if o.panel), None)
    if stored is not None:  # a sum may be taken in any order, and a panel is read as one stream
        folded.sort(key=lambda d: -stored.strides[d])
    _join(folded, extents, [o.strides for o in operands[:2]])
    _join(parallel, extents, [*(o.strides for o in operands), *beside])
    parallel = [d for d in parallel if extents[d] > 1]
    left, right, out = operands
    column = next((d for d in parallel if out.strides[d] == 1 and (left.strides[d] == 0) != (right.strides[d] == 0)), None)
    if column is None:
        return None
    if left.strides[column]:
        left, right = right, left
    rows = [d for d in parallel if d != column and left.strides[d] and not right.strides[d]]
    if not right.panel and right.strides[column] != 1 and volume([extents[d] for d in rows]) < FEW:
        return None  # dot products along the reduction do better
    row = max(rows, key=lambda d: extents[d], default=None)
    # Partial sums may live in a buffer of the block, or in a result that no other block writes, whose columns are added to once.
    clamped = any(not isinstance(o.owner, ir.Block) and o.owner.name == "arith.minsi" for o in offsets)
    once = not right.panel or extents[column] % right.panel == 0
    return Product(left, right, out, tuple(extents), tuple(d for d in parallel if d != column and d not in rows), row,
                   tuple(d for d in rows if d != row), column, tuple(folded), once and (not isinstance(c.owner, ir.Block) or not clamped))


def _operand(buffer: ir.Value, map_: ir.Attribute, offsets: Sequence[ir.Value], extents: Sequence[int], points: int, panel: int) -> Operand:
    linear = map_to_linear(map_.value)
    assert linear is not None, f"not linear: {map_}"
    n, depth = len(extents), volume(extents[points:])
    if panel:  # groups start on a panel, so the offset of stored column o is o * (all of k)
        column, *inner = linear
        total = column * depth
        sizes = [1 if (loop := e.only()) is None else extents[loop] for e in inner]
        for e, s in zip(inner, row_major([*sizes, panel]), strict=False):
            total = total + e * s
    else:
        total: Linear = flatten(linear, buffer.type.shape, n + len(offsets))
    starts = {v: c for v, c in zip(offsets, total.coefficients[n:], strict=True) if c}
    return Operand(buffer, total.const, starts, total.coefficients[:n], panel, depth)


def _join(dims: list[int], extents: list[int], accesses: Sequence[tuple[int, ...]]) -> None:
    """Joins neighbouring loops that all accesses, given by strides, walk contiguously: the inner one takes over."""
    i = 0
    while i + 1 < len(dims):
        outer, inner = dims[i], dims[i + 1]
        if extents[outer] == 1 or all(s[outer] == s[inner] * extents[inner] for s in accesses):
            extents[inner] *= extents[outer]
            extents[outer] = 1
            dims.pop(i)
        elif extents[inner] == 1:
            dims.pop(i + 1)
        else:
            i += 1
