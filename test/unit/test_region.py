"""Regions of reads: interval analysis agrees with looking at every point of a reader's box, from every block."""

from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from linears import random_linear, value_at

from mlc.layout.linear import Linear
from mlc.passes.tile.model import Node, Read
from mlc.passes.tile.region import Region, read_region

ROOTS = 2


def _read(shape: tuple[int, ...], *places: Linear) -> Any:
    return Read(SimpleNamespace(type=SimpleNamespace(shape=shape)), places)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(30))
def test_a_region_is_the_box_of_all_places(seed: int) -> None:
    rng = np.random.default_rng(seed)
    place = random_linear(rng, 3) if seed % 3 else Linear.variable(int(rng.integers(3)), 3)
    at = Region((random_linear(rng, ROOTS), random_linear(rng, ROOTS)), tuple(int(n) for n in rng.integers(1, 5, 2)))
    node: Any = SimpleNamespace(over=(int(rng.integers(1, 5)),))
    box = read_region(_read((1000,), place), node, at, ROOTS)
    for block in product(range(3), repeat=ROOTS):
        starts = [value_at(offset, block) for offset in at.offsets]
        values = [value_at(place, (starts[0] + i, starts[1] + j, k)) for i, j, k in product(*map(range, (*at.extents, *node.over)))]
        assert value_at(box.offsets[0], block) == min(values)
        assert box.extents == (max(values) - min(values) + 1,)


def test_a_box_wider_than_the_tensor_is_the_tensor() -> None:
    at, node = Region((Linear((1, 0), 0),), (4,)), SimpleNamespace(over=())
    read = _read((7, 4), Linear((2,), -1), Linear((1,), 0))
    assert read_region(read, node, at, ROOTS) == Region((Linear((0, 0)), Linear((0, 0))), (7, 4))  # type: ignore[arg-type]


def test_reads_seen_through_others_are_made_once() -> None:
    inner, outer = _read((8, 8), Linear((0, 1), 0), Linear((1, 0), 2)), _read((8, 8), Linear((1, 0, 1), 0), Linear((0, 1, 0), 1))
    seen = inner.through(outer, 3)
    assert seen.indices == (Linear((0, 1, 0), 1), Linear((1, 0, 1), 2)) and seen.value is inner.value
    assert inner.through(outer, 3) is seen and seen.walked == {0, 1, 2} and seen.terms[1] == ((0, 1), (2, 1))
    node = Node(None, (9, 8), (), [], ["inside"], [], 1, False, around=(1, 0))  # type: ignore[arg-type]
    assert outer.past_padding(node).indices == (Linear((1, 0, 1), -1), Linear((0, 1, 0), 1))
    assert outer.past_padding(node) is outer.past_padding(node)
