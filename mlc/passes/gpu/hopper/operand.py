"""A factor of a matrix product as TMA brings it: the tensor map, the boxes of one pipeline stage, and where each of them starts.

The dimensions of the map are those of the buffer, but for one along which windows lie (`Side.windows`): that is two, the windows, which may
overlap, and what is inside one. A stage is a shared row's points (`Staging.step`) of one reduction loop, the *inner*
one; the other reduction loops only move the boxes. What a box reads outside of the buffer is zero: the padding of a convolution, and the
ragged end of a reduction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd

from mlc.dtypes import BY_NAME
from mlc.layout.linear import Linear, row_major
from mlc.layout.wgmma import SharedOperand
from mlc.passes.gpu.hopper import wgmma
from mlc.passes.gpu.hopper.tma import TensorMap
from mlc.passes.tile.model import volume

CHUNK = 16  # bytes of memory, from a multiple of it, that TMA moves at a time; a box that begins elsewhere is a fault of the kernel
SECTOR = 2 * CHUNK  # bytes that memory and caches move at least
LEAST_ROWS, MOST_SIDE = 48, 256
LEAST_POINTS, MOST_POINTS = 64 * 64, 128 * 256  # of a block's tile
LEAST_STEPS = 2  # of a block's reduction
LEAST_WORK = 1 << 20  # multiply-adds of a block: below, the start of the pipeline costs more than the faster instruction gains
LEAST_STREAM = 1024  # reduction points of a product of few rows: it waits for its other factor, which the ring brings at memory's rate
MOST_ACCUMULATORS = 128  # registers of a thread


@dataclass(frozen=True)
class Boxes:
    """map: what the host encodes. tile: a stage in shared memory. places: per dimension of the map, over the product's loops and offsets.

    outer: the loops whose points are the rows of the tile, in order. rows: how many of these are real.
    """

    map: TensorMap
    tile: SharedOperand
    places: tuple[Linear, ...]
    outer: tuple[int, ...]
    rows: int

    @property
    def count(self) -> int:
        """Boxes of a stage: one, or one per panel where the reduction is not contiguous."""
        return 1 if self.tile.k_major else wgmma.panels(self.tile)

    @property
    def bytes(self) -> int:
        """What the copies of a stage move."""
        return self.count * volume(self.map.box) * self.map.element_bytes

    @property
    def between_sectors(self) -> bool:
        """Whether rows of boxes may begin in the middle of a sector, which halves the rate (a first convolution on an H100)."""
        return any(s * self.map.element_bytes % SECTOR for s in self.map.strides[:-1])


@dataclass(frozen=True)
class Side:
    """A factor before it is known whether TMA can bring it. places: per dimension, over the product's loops, then anything else.

    bounded: dimensions along which places may lie outside. divisors: numbers that divide the values of what follows the loops.
    strides: elements from one index to the next, per dimension; none: those of a dense array.
    """

    shape: tuple[int, ...]
    dtype: str
    places: tuple[Linear, ...]
    bounded: tuple[int, ...] = ()
    divisors: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    @property
    def steps(self) -> tuple[int, ...]:
        """Elements from one index to the next, per dimension."""
        return self.strides or row_major(self.shape)

    def windows(self, inner: int, length: int) -> "Side | None":
        """The same factor with its last dimension as two: which window, and the place inside it, where the loop `inner` walks `length`.

        None where that loop does not walk the last dimension, or windows begin between chunks. Nothing lies behind a window's end.
        """
        last, place = len(self.shape) - 1, self.places[-1] if self.places else Linear((), 0)
        if last < 0 or last in self.bounded or len(place.coefficients) <= inner or place.coefficients[inner] != 1:
            return None
        between = Linear(tuple(0 if i == inner else c for i, c in enumerate(place.coefficients)), place.const)
        step = gcd(*between.coefficients, between.const)
        if not step or step * BY_NAME[self.dtype].bits // 8 % CHUNK:
            return None
        which = Linear(tuple(c // step for c in between.coefficients), between.const // step)
        within = Linear.variable(inner, len(place.coefficients))
        shape = (*self.shape[:-1], (self.shape[last] - length) // step + 1, length)
        return replace(self, shape=shape, places=(*self.places[:-1], which, within), strides=(*self.steps[:-1], step, 1))

    def moving(self, extents: Sequence[int]) -> "Side":
        """Without loops of one iteration."""
        still = {d for d, n in enumerate(extents) if n == 1}
        return replace(self, places=tuple(Linear(tuple(0 if i in still else c for i, c in enumerate(e.coefficients)), e.const)
                                          for e in self.places))

    def begins_aligned(self, dim: int, walker: int | None) -> bool:
        """Whether boxes begin at whole chunks of the contiguous dimension `dim`, along which the loop `walker` goes by boxes."""
        place, beyond = self.places[dim], len(self.places[dim].coefficients) - len(self.divisors)
        moves = [c * (self.divisors[i - beyond] if i >= beyond else 1) for i, c in enumerate(place.coefficients) if i != walker]
        return not any(n * BY_NAME[self.dtype].bits // 8 % CHUNK for n in (place.const, *moves))


@dataclass(frozen=True)
class Staging:
    """How both factors come. loops: those of the reduction, the inner one last; chunks: how many steps each of them takes.

    turned: `left` is the right factor, of the transposed product.
    """

    left: Boxes
    right: Boxes
    loops: tuple[int, ...]
    chunks: tuple[int, ...]
    turned: bool = False

    @property
    def kind(self) -> wgmma.Kind:
        return wgmma.KINDS[self.left.map.dtype]

    @property
    def step(self) -> int:
        """Reduction points of a stage."""
        return self.kind.panel

    @property
    def consumers(self) -> int:
        """Warpgroups that multiply."""
        return _consumers(self.left.rows)

    @property
    def blocks(self) -> int:
        """64-row blocks of one consumer."""
        return self.left.tile.extent // (wgmma.ROWS * self.consumers)

    @property
    def accumulators(self) -> int:
        """Registers of a consumer's thread that hold sums."""
        return self.blocks * self.right.tile.extent // 2

    @property
    def stage_bytes(self) -> int:
        return self.left.tile.bytes + self.right.tile.bytes


def staging(left: Side, right: Side, extents: Sequence[int], parallel: int) -> Staging | None:
    """How TMA and wgmma do a product whose first `parallel` loops are rows (of the left factor) or columns, the others its reduction.

    None where they cannot, or where the tile is too small or shallow to be worth it. Too few rows, where the product has no more, become
    the columns of the transposed product.
    """
    kind = wgmma.KINDS.get(left.dtype)
    if kind is None or left.dtype != right.dtype:
        return None
    left, right = (side.moving(extents) for side in (left, right))
    used = [{i for e in side.places for i, c in enumerate(e.coefficients) if c} for side in (left, right)]
    loops = [d for d in range(parallel) if extents[d] > 1]
    rows, columns = ([d for d in loops if d in u] for u in used)
    depth = [d for d in range(parallel, len(extents)) if extents[d] > 1]
    height, width = volume([extents[d] for d in rows]), volume([extents[d] for d in columns])
    if sorted([*rows, *columns]) != loops:
        return None
    turned = height < LEAST_ROWS and _whole(left, depth, height)
    if turned:
        left, right, rows, columns, height, width = right, left, columns, rows, width, height
    points = volume([extents[d] for d in depth])
    if not LEAST_ROWS <= height <= MOST_SIDE or width > MOST_SIDE or height * width > MOST_POINTS:
        return None
    waits = width < LEAST_ROWS and points >= LEAST_STREAM and _whole(right, depth, width)
    if not waits and (height * width < LEAST_POINTS or points < LEAST_STEPS * kind.panel or height * width * points < LEAST_WORK):
        return None
    for inner in reversed(depth):
        a = _whole_boxes(left, extents, rows, inner, wgmma.ROWS * _consumers(height), kind)
        b = _whole_boxes(right, extents, columns, inner, 8, kind)
        if a is None or b is None:
            continue
        order = (*(d for d in depth if d != inner), inner)
        found = Staging(a, b, order, (*(extents[d] for d in order[:-1]), -(-extents[inner] // kind.panel)), turned)
        return found if found.accumulators <= MOST_ACCUMULATORS else None
    return None


def _whole(side: Side, depth: Sequence[int], rows: int) -> bool:
    """Whether a tile has all the rows of a factor."""
    return rows == volume([n for n, place in zip(side.shape, side.places) if not any(place.coefficients[d] for d in depth)])


def _consumers(rows: int) -> int:
    return 1 if rows <= wgmma.ROWS else 2


def boxes_of(side: Side, extents: Sequence[int], outer: Sequence[int], inner: int, unit: int, kind: wgmma.Kind) -> Boxes | None:
    """How TMA brings a factor whose rows are the loops `outer` and whose reduction is staged along `inner`; None if it cannot.

    unit: the tile has a multiple of it as rows.
    """
    shape, linear = side.shape, side.places
    kept = [d for d, n in enumerate(shape) if n > 1 or d in side.bounded]
    if len(kept) == 1 and kept[0]:  # a map has two dimensions
        kept = [kept[0] - 1, *kept]
    if len(kept) < 2:
        return None
    outer = [d for d in outer if extents[d] > 1]
    everything = [_walker(e, [*outer, inner]) for e in linear]
    walked = {d: everything[d] for d in kept}
    found = [v for v in everything if v is not None]
    if sorted(found) != sorted([*outer, inner]) or any(everything[d] is not None for d in range(len(shape)) if d not in kept):
        return None
    last, k_major = kept[-1], walked[kept[-1]] == inner
    if not side.begins_aligned(last, walked[last]):
        return None
    rows = volume([extents[d] for d in outer])
    box = _box(kept, walked, extents, inner, last, kind) if k_major else _panel_box(kept, walked, inner, kind)
    if k_major and [v for v in found if v != inner] != outer:
        return None
    if not k_major and (not kind.across or len(outer) != 1 or rows % kind.panel or walked[last] != outer[0]):
        return None
    strides = side.steps
    # Beyond what the loop visits, boxes read zeros, whatever lies there.
    dims = tuple(min(shape[d], extents[inner]) if linear[d].only() == inner else shape[d] for d in kept)
    try:
        tile = wgmma.operand(-(-rows // unit) * unit, kind.panel, k_major, kind)
        map_ = TensorMap(side.dtype, dims, (*(strides[d] for d in kept[:-1]), 1), box)
    except ValueError:
        return None
    return Boxes(map_, tile, tuple(linear[d] for d in kept), tuple(outer), rows)


def _whole_boxes(side: Side, extents: Sequence[int], outer: Sequence[int], inner: int, unit: int, kind: wgmma.Kind) -> Boxes | None:
    """The boxes of a factor, as it is or in windows, that bring nothing but zeros behind the end of the loop `inner`."""
    for way in (side, side.windows(inner, extents[inner])):
        found = None if way is None else boxes_of(way, extents, outer, inner, unit, kind)
        if found is not None and (extents[inner] % kind.panel == 0 or _covers(found, inner)):
            return found
    return None


def _covers(boxes: Boxes, inner: int) -> bool:
    """Whether the loop `inner` walks a dimension of the map from end to end: beyond it, boxes read zeros."""
    return any(place.only() == inner for place in boxes.places)


def _walker(place: Linear, loops: Sequence[int]) -> int | None:
    """The one of `loops` that walks a dimension, by steps of one; None for none, -1 where it is not that simple."""
    found = [v for v in loops if place.coefficients[v]]
    if not found:
        return None
    return found[0] if len(found) == 1 and place.coefficients[found[0]] == 1 else -1


def _box(kept: Sequence[int], walked: Mapping[int, int | None], extents: Sequence[int], inner: int, last: int,
         kind: wgmma.Kind) -> tuple[int, ...]:
    """All rows of the tile by a stage's contiguous points of the reduction."""
    return tuple(kind.panel if d == last else 1 if walked[d] in (None, inner) else extents[walked[d]] for d in kept)  # type: ignore[index]


def _panel_box(kept: Sequence[int], walked: Mapping[int, int | None], inner: int, kind: wgmma.Kind) -> tuple[int, ...]:
    """A stage's points of the reduction by a panel of contiguous rows."""
    return (*(kind.panel if walked[d] == inner else 1 for d in kept[:-1]), kind.panel)


__all__ = ["LEAST_ROWS", "MOST_ACCUMULATORS", "Boxes", "Side", "Staging", "staging"]
