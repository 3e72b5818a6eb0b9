"""A tile as TMA brings it in panels: lines of 64 contiguous elements each, one box per panel, swizzled as wgmma reads them."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlc.layout.linear import Linear, row_major
from mlc.layout.wgmma import SharedOperand
from mlc.passes.gpu.hopper import wgmma
from mlc.passes.gpu.hopper.operand import Side
from mlc.passes.gpu.hopper.tma import TensorMap
from mlc.passes.tile.model import volume


@dataclass(frozen=True)
class Panels:
    """map: what the host encodes. tile: where the panels lie in shared memory. places: per dimension of the map, over loops and offsets."""

    map: TensorMap
    tile: SharedOperand
    places: tuple[Linear, ...]

    @property
    def count(self) -> int:
        return wgmma.panels(self.tile)

    @property
    def bytes(self) -> int:
        """What the copies of a tile move."""
        return self.count * volume(self.map.box) * self.map.element_bytes


def panels_of(side: Side, sizes: Sequence[int], ends: Sequence[int], lines: Sequence[int], along: int,
              tile: SharedOperand) -> Panels | None:
    """How TMA brings a tile whose lines are the loops `lines`, in order, and whose contiguous dimension is the loop `along`.

    sizes: how far the loops go within a tile; ends: how far they go at all. What lies beyond an end is read as zero; None where that, or
    anything else, cannot be had. The tile may have more lines than the loops have points: these are left alone.
    """
    lines = [d for d in lines if sizes[d] > 1]
    loops = [*lines, along]
    shape = list(side.shape)
    walkers = [[d for d in loops if e.coefficients[d]] for e in side.places]
    kept = [i for i, n in enumerate(shape) if n > 1 or walkers[i] or i >= len(shape) - 2]
    if any(len(w) > 1 or (w and e.coefficients[w[0]] != 1) for w, e in zip(walkers, side.places)):
        return None
    if len(kept) < 2 or [w[0] for w in walkers if w] != loops or walkers[-1] != [along] or side.bounded:
        return None
    for i in kept:
        if walkers[i]:
            loop, place = walkers[i][0], side.places[i]
            unit = wgmma.PANEL if loop == along else sizes[loop]
            if ends[loop] % unit:  # the last box reaches beyond the end
                if sum(map(bool, place.coefficients)) != 1:
                    return None
                shape[i] = place.const + ends[loop]
    if not side.begins_aligned(kept[-1], along):
        return None
    strides = row_major(side.shape)
    box = tuple(wgmma.PANEL if w == [along] else sizes[w[0]] if w else 1 for w in (walkers[i] for i in kept))
    try:
        map_ = TensorMap(side.dtype, tuple(shape[i] for i in kept), (*(strides[i] for i in kept[:-1]), 1), box)
    except ValueError:
        return None
    return Panels(map_, tile, tuple(side.places[i] for i in kept))


__all__ = ["Panels", "panels_of"]
