"""Which atoms' sums are a factor of the next product: by the tables, and what becomes of each sum."""

import pytest

from mlc.layout.chain import chain_of
from mlc.layout.fragments import ATOMS


def test_atoms_that_chain() -> None:
    chains = {n: chain_of(a, neighbours=False) for n, a in ATOMS.items() if n.startswith("mma") and a.output == "f32"}
    by_tables = {n for n, chain in chains.items() if chain is not None and chain.depth_keys == tuple(range(chain.span))}
    by_keys = {n for n, chain in chains.items() if chain is not None} - by_tables
    by_neighbours = {n for n, a in ATOMS.items() if not n.startswith("mma") and a.output == "f32" and chain_of(a, neighbours=True)}
    assert by_tables == {"mma.m16n8k16.f16", "mma.m16n8k16.bf16"}
    assert by_keys == {"mma.m16n8k8.tf32"}
    assert by_neighbours == {
        "mfma.f32_16x16x16_f16", "mfma.f32_16x16x16_bf16", "mfma.f32_16x16x4_f32", "wmma.gfx11.f32_16x16x16_f16",
        "wmma.gfx11.f32_16x16x16_bf16", "wmma.gfx12.f32_16x16x16_f16", "wmma.gfx12.f32_16x16x16_bf16",
        "wmma.gfx12.f32_16x16x16_f8E4M3FN", "wmma.gfx12.f32_16x16x16_f8E5M2"}


@pytest.mark.parametrize("name", ["mfma.f32_16x16x16_f16", "mfma.f32_16x16x4_f32", "wmma.gfx11.f32_16x16x16_f16",
                                  "wmma.gfx12.f32_16x16x16_f16"])
def test_a_lane_has_the_sums_that_its_part_of_the_factor_is_made_of(name: str) -> None:
    """Its depth points are neighbours, groups of lanes in order: key by key what the lanes that exchange have of its query."""
    atom = ATOMS[name]
    chain = chain_of(atom, neighbours=True)
    assert chain is not None and chain.transposed and atom.b is not None and chain.span == 16
    for lane in range(atom.c.lanes):
        base = lane & ~sum(chain.exchange)
        pool = [atom.c.at(base | other, e) for other in (0, *chain.exchange) for e in range(atom.c.size)]
        found = [pool[n] for n in chain.order]
        own = atom.b.size * chain.factors
        first = lane // 16 % (16 // own) * own
        assert found == [(first + e, atom.b.at(lane, 0)[1]) for e in range(own)]
        queries = {atom.c.at(lane ^ d, 0)[1] for d in (0, *chain.sharing)}
        assert len(queries) == 1 and atom.c.size << len(chain.sharing) == 16


def test_sums_of_two_neighbouring_atoms_are_a_left_factor() -> None:
    atom = ATOMS["mma.m16n8k16.f16"]
    chain = chain_of(atom, neighbours=False)
    assert chain is not None and not chain.transposed and (chain.sums, chain.factors, chain.exchange) == (2, 1, ())
    assert atom.a is not None and chain.order == tuple(range(8)) and chain.sharing == (1, 2)
    for lane in range(32):
        sums = [(row, column + 8 * n) for n in range(2) for row, column in (atom.c.at(lane, e) for e in range(4))]
        assert sums == [atom.a.at(lane, e) for e in range(8)]


def test_depth_points_may_be_the_keys_that_a_lane_has() -> None:
    atom = ATOMS["mma.m16n8k8.tf32"]
    chain = chain_of(atom, neighbours=False)
    assert chain is not None and atom.a is not None and sorted(chain.depth_keys) == list(range(atom.shape[2]))
    for lane in range(32):
        sums = [(row, column + 8 * n) for n in range(chain.sums) for row, column in (atom.c.at(lane, e) for e in range(4))]
        wanted = [(row, chain.depth_keys[point]) for row, point in (atom.a.at(lane, e) for e in range(atom.a.size))]
        assert [sums[n] for n in chain.order] == wanted
