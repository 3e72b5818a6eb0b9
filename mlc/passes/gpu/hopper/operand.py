"""A factor of a matrix product as TMA brings it: the tensor map, the boxes of one pipeline stage, and where each of them starts.

The dimensions of the map are those of the buffer. A stage is `STEP` points of one reduction loop, the *inner* one; the other reduction
loops only move the boxes. What a box reads outside of the buffer is zero: the padding of a convolution, and the ragged end of a reduction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlc.ir.affine import map_to_linear
from mlc.ir.mlir import ir
from mlc.layout.linear import Linear, row_major
from mlc.layout.wgmma import SharedOperand
from mlc.passes.gpu.hopper import wgmma
from mlc.passes.gpu.hopper.tma import TensorMap
from mlc.passes.tile.model import element_bytes, volume

STEP = wgmma.PANEL  # reduction points of a stage


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


def boxes_of(op: ir.Operation, which: int, outer: Sequence[int], inner: int, unit: int) -> Boxes | None:
    """Operand `which` of a task.mma, whose rows are the loops `outer` and whose reduction is staged along `inner`; None if TMA cannot.

    unit: the tile has a multiple of it as rows.
    """
    view, buffer = op.opview, op.operands[which]
    extents, shape = view.py("extents"), tuple(buffer.type.shape)
    linear = map_to_linear(op.attributes["maps"][which].value)
    kept = [d for d, n in enumerate(shape) if n > 1 or d in view.py("bounded")[which]]
    if linear is None or len(kept) < 2:
        return None
    outer = [d for d in outer if extents[d] > 1]
    everything = [_walker(e, [*outer, inner]) for e in linear]
    walked = {d: everything[d] for d in kept}
    found = [v for v in everything if v is not None]
    if sorted(found) != sorted([*outer, inner]) or any(everything[d] is not None for d in range(len(shape)) if d not in kept):
        return None
    last, k_major = kept[-1], walked[kept[-1]] == inner
    rows = volume([extents[d] for d in outer])
    box = _box(kept, walked, extents, inner, last) if k_major else _panel_box(kept, walked, inner)
    if k_major and [v for v in found if v != inner] != outer:
        return None
    if not k_major and (len(outer) != 1 or rows % wgmma.PANEL or walked[last] != outer[0]):
        return None
    strides = row_major(shape)
    dims, steps = tuple(shape[d] for d in kept), (*(strides[d] for d in kept[:-1]), 1)
    try:
        tile = wgmma.operand(-(-rows // unit) * unit, STEP, k_major)
        map_ = TensorMap(str(buffer.type.element_type), dims, steps, box, element_bytes(buffer))
    except ValueError:
        return None
    return Boxes(map_, tile, tuple(linear[d] for d in kept), tuple(outer), rows)


def covers(boxes: Boxes, inner: int, extent: int) -> bool:
    """Whether the loop `inner`, of that extent, walks a dimension of the map from end to end: beyond it, boxes read zeros."""
    for place, size in zip(boxes.places, boxes.map.shape):
        if place.coefficients[inner]:
            return place.only() == inner and place.const == 0 and size == extent
    return False


def _walker(place: Linear, loops: Sequence[int]) -> int | None:
    """The one of `loops` that walks a dimension, by steps of one; None for none, -1 where it is not that simple."""
    found = [v for v in loops if place.coefficients[v]]
    if not found:
        return None
    return found[0] if len(found) == 1 and place.coefficients[found[0]] == 1 else -1


def _box(kept: Sequence[int], walked: Mapping[int, int | None], extents: Sequence[int], inner: int, last: int) -> tuple[int, ...]:
    """All rows of the tile by STEP contiguous points of the reduction."""
    return tuple(STEP if d == last else 1 if walked[d] in (None, inner) else extents[walked[d]] for d in kept)  # type: ignore[index]


def _panel_box(kept: Sequence[int], walked: Mapping[int, int | None], inner: int) -> tuple[int, ...]:
    """STEP points of the reduction by a panel of contiguous rows."""
    return (*(STEP if walked[d] == inner else 1 for d in kept[:-1]), wgmma.PANEL)


__all__ = ["STEP", "Boxes", "boxes_of", "covers"]
