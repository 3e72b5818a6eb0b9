"""A task.mma seen as a matrix product: which loops are rows, columns, batches and depth, and where each operand's element lies."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlc.ir.affine import map_to_linear
from mlc.ir.mlir import ir
from mlc.layout.linear import Linear
from mlc.passes.gpu.block import WIDEST
from mlc.passes.task.flat import Access, Memory, divisor
from mlc.passes.tile.model import element_bytes, volume


@dataclass(frozen=True)
class Loops:
    """Some loops of a product, outermost first: extents, and the stride in elements of an operand along each."""

    extents: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def count(self) -> int:
        return volume(self.extents)

    @property
    def contiguous(self) -> bool:
        """Whether neighbouring points of the innermost loop are neighbours in memory."""
        return bool(self.strides) and self.strides[-1] == 1


@dataclass(frozen=True)
class Guard:
    """A dimension of an operand beyond whose `size` elements are zero: its index is start + outer and depth loops times their strides."""

    size: int
    start: Access
    outer: tuple[int, ...]
    depth: tuple[int, ...]
    batch: tuple[int, ...]


@dataclass(frozen=True)
class Factor:
    """An operand of the product. outer: its rows (or columns); depth: its reduction loops; start: where the block's part begins.

    operand: its number among those of the task.mma.
    """

    operand: int
    buffer: ir.Value
    start: Access
    outer: Loops
    depth: Loops
    guards: tuple[Guard, ...] = ()

    def vector(self, along: Loops, other: Loops, alignment: int, ends: bool = False) -> int:
        """Elements, a power of two, that are always contiguous and aligned along the innermost of the loops `along`.

        ends: the last ones of the only such loop may be fewer.
        """
        ends = ends and len(along.extents) == 1
        lanes = WIDEST // element_bytes(self.buffer)
        while lanes > 1:
            others = [*along.strides[:-1], *other.strides, self.start.const, *(s * divisor(v) for v, s in self.start.strides.items())]
            walked = [(g.outer if along is self.outer else g.depth)[-1] for g in self.guards if along.contiguous]
            if (along.contiguous and not any(walked) and (ends or along.extents[-1] % lanes == 0) and all(s % lanes == 0 for s in others)
                    and lanes * element_bytes(self.buffer) <= alignment):
                return lanes
            lanes //= 2
        return 1


@dataclass(frozen=True)
class Product:
    """c[row, column] = sum over depth of a[row, depth] * b[column, depth], for every point of `batch`.

    out_rows, out_columns: the loops of c. batch: extents, with the strides of a, b and c.
    """

    a: Factor
    b: Factor
    c: Access
    out_rows: Loops
    out_columns: Loops
    batch: tuple[tuple[int, int, int, int], ...]

    @property
    def turned(self) -> "Product":
        """The transposed product."""
        return Product(self.b, self.a, self.c, self.out_columns, self.out_rows, tuple((e, y, x, z) for e, x, y, z in self.batch))


def is_vector(product: Product) -> bool:
    """Whether a factor is one row or column. Nothing is shared then: loops load the other once, without stages, by all threads at once."""
    return min(product.a.outer.count, product.b.outer.count) == 1


def product_of(op: ir.Operation, memory: Memory) -> Product | None:
    """The product of a task.mma; None where an operand is stored in panels. Of the two factors, `a` is the one that wastes fewer atoms."""
    view = op.opview
    if any(view.py("panels")):
        return None
    extents, reductions = view.py("extents"), view.py("reductions")
    buffers, offsets = list(op.operands)[:3], list(op.operands)[3:]
    places = [place_of(b, m, offsets, len(extents), memory) for b, m in zip(buffers, op.attributes["maps"])]
    (a, sa), (b, sb), (c, sc) = places
    n = len(extents) - reductions
    kinds: dict[str, list[int]] = {"row": [], "column": [], "batch": []}
    for d in range(n):
        if extents[d] > 1:
            kinds["row" if sa[d] and not sb[d] else "column" if sb[d] and not sa[d] else "batch"].append(d)
    depth = sorted((d for d in range(n, len(extents)) if extents[d] > 1), key=lambda d: (-sa[d], -sb[d]))
    guards = [_guards(op, which, offsets, len(extents)) for which in range(2)]
    checked = [s for _, s in (*guards[0], *guards[1])]
    rows = joined(kinds["row"], extents, (sa, sc, *checked))
    columns = joined(kinds["column"], extents, (sb, sc, *checked))
    folded = joined(depth, extents, (sa, sb, *checked))

    def factor(which: int, place: Access, outer: Joined) -> Factor:
        first = 2 + (len(guards[0]) if which else 0)
        own = tuple(Guard(size, start, outer.strides[first + i], folded.strides[first + i], tuple(s[d] for d in kinds["batch"]))
                    for i, ((size, start), s) in enumerate(guards[which]))
        inner = Loops(folded.extents, folded.strides[which])
        return Factor(which, buffers[which], place, Loops(outer.extents, outer.strides[0]), inner, own)

    left, right = factor(0, a, rows), factor(1, b, columns)
    out = Loops(rows.extents, rows.strides[1]), Loops(columns.extents, columns.strides[1])
    batch = tuple((extents[d], sa[d], sb[d], sc[d]) for d in kinds["batch"])
    found = Product(left, right, c, *out, batch)
    # Columns that are neighbours in c are stored in pairs: worth some waste.
    wasteful = 4 * _padded(left.outer.count, right.outer.count) > 5 * _padded(right.outer.count, left.outer.count)
    return found.turned if wasteful else found


def _guards(op: ir.Operation, which: int, offsets: Sequence[ir.Value], loops: int) -> list[tuple[tuple[int, Access], list[int]]]:
    """Per bounded dimension of an operand: its size and where its index starts, and the index's strides along the loops."""
    linear = map_to_linear(op.attributes["maps"][which].value)
    assert linear is not None
    buffer = op.operands[which]
    found = []
    for d in op.opview.py("bounded")[which]:
        start = Access(buffer, linear[d].const, {v: c for v, c in zip(offsets, linear[d].coefficients[loops:]) if c})
        found.append(((buffer.type.shape[d], start), list(linear[d].coefficients[:loops])))
    return found


def _padded(rows: int, columns: int) -> int:
    """Points of 16 x 8 atoms that cover rows x columns."""
    return -(-rows // 16) * -(-columns // 8)


def place_of(buffer: ir.Value, map_: ir.Attribute, offsets: Sequence[ir.Value], loops: int, memory: Memory) -> tuple[Access, list[int]]:
    """Where the block's part of an operand starts, and its strides along the loops."""
    linear = map_to_linear(map_.value)
    assert linear is not None, f"not linear: {map_}"
    total = Linear.constant(0, loops + len(offsets))
    for e, s in zip(linear, memory.strides_of(buffer), strict=True):
        total = total + e * s
    strides: dict[ir.Value, int] = {}
    for v, c in zip(offsets, total.coefficients[loops:], strict=True):
        if c:
            strides[v] = strides.get(v, 0) + c
    return Access(buffer, total.const, strides), list(total.coefficients[:loops])


@dataclass(frozen=True)
class Joined:
    """Loops after joining: their extents, and per walker its strides."""

    extents: tuple[int, ...]
    strides: list[tuple[int, ...]]


def joined(dims: Sequence[int], extents: Sequence[int], strides: Sequence[Sequence[int]]) -> Joined:
    """The loops `dims`, neighbours joined where all walkers take them as one."""
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for d in dims:
        if sizes and all(own[-1] == s[d] * extents[d] for own, s in zip(steps, strides)):
            sizes[-1] *= extents[d]
            for own, s in zip(steps, strides):
                own[-1] = s[d]
        else:
            sizes.append(extents[d])
            for own, s in zip(steps, strides):
                own.append(s[d])
    return Joined(tuple(sizes), [tuple(s) for s in steps])
