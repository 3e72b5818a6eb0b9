"""Matrix fragments: every element is held, products put together from fragments are numpy's, PTX's formulas, and ldmatrix feeds mma."""

import numpy as np
import pytest

from mlc.layout.fragments import ATOMS, Atom, Fragment, LdMatrix, ldmatrix, wgmma

WGMMA = [wgmma(n, t, from_registers=True) for n, t in ((8, "f16"), (128, "bf16"), (256, "f16"), (24, "tf32"), (64, "i8"), (16, "f8E4M3FN"))]
ALL = [*ATOMS.values(), *WGMMA]


def _scatter(tile: np.ndarray, fragment: Fragment) -> np.ndarray:
    """[lane, element]: what each lane holds of a tile."""
    return np.array([[tile[fragment.at(lane, i)] for i in range(fragment.size)] for lane in range(fragment.lanes)])


def _gather(held: np.ndarray, fragment: Fragment) -> np.ndarray:
    """The tile again; the lanes must agree on what several hold."""
    tile = np.full(fragment.shape, -1)
    for lane in range(fragment.lanes):
        for i in range(fragment.size):
            at = fragment.at(lane, i)
            assert tile[at] in (-1, held[lane, i])
            tile[at] = held[lane, i]
    return tile


@pytest.mark.parametrize("atom", ALL, ids=lambda a: a.name)
def test_fragments_cover_their_tiles(atom: Atom) -> None:
    m, n, k = atom.shape
    for fragment, shape in ((atom.a, (m, k)), (atom.b, (k, n)), (atom.c, (m, n))):
        if fragment is None:
            continue
        assert fragment.shape == shape
        count = np.zeros(shape, int)
        for lane in range(fragment.lanes):
            for i in range(fragment.size):
                count[fragment.at(lane, i)] += 1
        copies = 2 if "gfx11" in atom.name and fragment is not atom.c else 1  # lanes 16-31 repeat A and B
        assert (count == copies).all()


@pytest.mark.parametrize("atom", [a for a in ALL if a.b is not None], ids=lambda a: a.name)
def test_product_of_fragments(atom: Atom) -> None:
    """Lanes exchange what they hold; the accumulators they end with are the product."""
    assert atom.a is not None and atom.b is not None
    m, n, k = atom.shape
    rng = np.random.default_rng(0)
    a, b, c = rng.integers(0, 8, (m, k)), rng.integers(0, 8, (k, n)), rng.integers(0, 8, (m, n))
    product = _gather(_scatter(a, atom.a), atom.a) @ _gather(_scatter(b, atom.b), atom.b)
    held = _scatter(c, atom.c)
    for lane in range(atom.c.lanes):
        for i in range(atom.c.size):
            held[lane, i] += product[atom.c.at(lane, i)]
    np.testing.assert_array_equal(_gather(held, atom.c), c + a @ b)


def test_ptx_formulas_of_m16n8k16() -> None:
    atom = ATOMS["mma.m16n8k16.f16"]
    assert atom.a is not None and atom.b is not None
    for lane in range(32):
        group, thread = lane >> 2, lane % 4
        for i in range(8):
            row = group if 0 <= i < 2 or 4 <= i < 6 else group + 8
            assert atom.a.at(lane, i) == (row, thread * 2 + (i & 1) + (0 if i < 4 else 8))
        for i in range(4):
            assert atom.b.at(lane, i) == (thread * 2 + (i & 1) + (0 if i < 2 else 8), group)
            assert atom.c.at(lane, i) == (group if i < 2 else group + 8, thread * 2 + (i & 1))


def test_ptx_formulas_of_m16n8k8_tf32() -> None:
    atom = ATOMS["mma.m16n8k8.tf32"]
    assert atom.a is not None and atom.b is not None
    for lane in range(32):
        group, thread = lane >> 2, lane % 4
        for i in range(4):
            assert atom.a.at(lane, i) == (group if i in (0, 2) else group + 8, thread if i in (0, 1) else thread + 4)
        assert [atom.b.at(lane, i) for i in range(2)] == [(thread, group), (thread + 4, group)]


@pytest.mark.parametrize("name", ["mma.m16n8k32.s8", "mma.m16n8k32.e4m3"])
def test_ptx_formulas_of_m16n8k32(name: str) -> None:
    atom = ATOMS[name]
    assert atom.a is not None and atom.b is not None
    for lane in range(32):
        group, thread = lane >> 2, lane % 4
        for i in range(16):
            row = group if 0 <= i < 4 or 8 <= i < 12 else group + 8
            assert atom.a.at(lane, i) == (row, thread * 4 + (i & 3) + (0 if i < 8 else 16))
        for i in range(8):
            assert atom.b.at(lane, i) == (thread * 4 + (i & 3) + (0 if i < 4 else 16), group)


def test_cdna_and_rdna_by_hand() -> None:
    """Single entries as the instruction set documents give them."""
    mfma = ATOMS["mfma.f32_32x32x8_f16"]
    assert mfma.a is not None and mfma.b is not None
    assert mfma.a.at(33, 2) == (1, 6)  # v1[15:0] of lane 33: row 1, k 6
    assert mfma.c.at(32, 5) == (13, 0)  # a5 of lane 32
    rdna3, rdna4 = ATOMS["wmma.gfx11.f32_16x16x16_f16"], ATOMS["wmma.gfx12.f32_16x16x16_f16"]
    assert rdna3.a is not None and rdna4.a is not None
    assert rdna3.a.at(17, 5) == rdna3.a.at(1, 5) == (1, 5)
    assert rdna3.c.at(17, 3) == (7, 1)
    assert [rdna4.a.at(17, i)[1] for i in range(8)] == [4, 5, 6, 7, 12, 13, 14, 15]
    assert rdna4.c.at(17, 3) == (11, 1)


def test_wgmma_accumulators_are_those_of_mma_in_four_warps() -> None:
    wide, narrow = wgmma(64, "f16").c, ATOMS["mma.m16n8k16.f16"].c
    for thread in range(128):
        for i in range(wide.size):
            row, column = narrow.at(thread % 32, i % 4)
            assert wide.at(thread, i) == (row + 16 * (thread // 32), column + 8 * (i // 4))


@pytest.mark.parametrize(("atom", "a", "c"), [("mma.m16n8k16.f16", (1, 2), (1, 2)), ("mma.m16n8k32.s8", (1, 4), (1, 2)),
                                              ("mma.m16n8k8.tf32", (1, 1), (1, 2)), ("mfma.f32_16x16x16_f16", (1, 4), (4, 1)),
                                              ("mfma.f32_16x16x4_f32", (1, 1), (4, 1)), ("wmma.gfx11.f32_16x16x16_f16", (1, 16), (1, 1)),
                                              ("wmma.gfx12.f32_16x16x16_f16", (1, 4), (8, 1))])
def test_runs(atom: str, a: tuple[int, int], c: tuple[int, int]) -> None:
    fragment = ATOMS[atom].a
    assert fragment is not None
    assert (fragment.run(), ATOMS[atom].c.run()) == (a, c)


def _load(memory: np.ndarray, load: LdMatrix) -> np.ndarray:
    """The load as PTX describes it: rows come from the lanes' addresses, then are handed out. [lane, element]"""
    held = np.zeros((32, 2 * len(load.corners)), memory.dtype)
    for j in range(len(load.corners)):
        rows = np.array([memory[r, c:c + 8] for r, c in (load.source(8 * j + r) for r in range(8))])
        matrix = rows.T if load.trans else rows
        for lane in range(32):
            held[lane, 2 * j:2 * j + 2] = matrix[lane // 4, lane % 4 * 2:lane % 4 * 2 + 2]
    return held


@pytest.mark.parametrize("k_major", [True, False])
@pytest.mark.parametrize("operand", ["a", "b", "bb"])
def test_ldmatrix_gives_mma_its_operands(operand: str, k_major: bool) -> None:
    atom = ATOMS["mma.m16n8k16.f16"]
    assert atom.a is not None and atom.b is not None
    memory = np.arange(256).reshape(16, 16)[:8 if operand == "b" and k_major else 16, :8 if operand == "b" and not k_major else 16]
    load = ldmatrix(operand, k_major)  # type: ignore[arg-type]
    held = _load(memory, load)
    assert all(held[lane, i] == memory[load.element(lane, i)] for lane in range(32) for i in range(held.shape[1]))
    outer_k = memory if k_major else memory.T
    if operand == "a":
        expected = _scatter(outer_k, atom.a)
    else:
        expected = np.hstack([_scatter(outer_k.T[:, n:n + 8], atom.b) for n in range(0, outer_k.shape[0], 8)])
    np.testing.assert_array_equal(held, expected)


def test_ldmatrix_of_bytes_counts_pairs() -> None:
    """The same load feeds m16n8k32: 32 bytes of k are 16 pairs."""
    atom = ATOMS["mma.m16n8k32.s8"]
    assert atom.a is not None
    memory = np.random.default_rng(0).integers(0, 100, (16, 32)).astype(np.int8)
    held = _load(memory.view(np.int16), ldmatrix("a", True)).view(np.int8)
    np.testing.assert_array_equal(held, _scatter(memory, atom.a))


@pytest.mark.parametrize("name", [n for n in ATOMS if n.startswith(("mfma", "wmma"))])
def test_a_wave_s_lane_has_one_outer_point_and_the_same_depth_points_of_both_factors(name: str) -> None:
    """What `gpu.wave` builds on: so any depth points serve, as long as the lanes of one outer point share all of them."""
    a, b, (side, _, depth) = ATOMS[name].a, ATOMS[name].b, ATOMS[name].shape
    assert a is not None and b is not None and a.size == b.size
    for lane in range(a.lanes):
        own = [(a.at(lane, e), b.at(lane, e)) for e in range(a.size)]
        assert all(row == column == lane % side and k == other for (row, k), (other, column) in own)
        group = lane // side % (depth // a.size)
        twin = [a.at(group * side, e)[1] for e in range(a.size)]
        assert [k for (_, k), _ in own] == twin
    assert sorted(a.at(g * side, e)[1] for g in range(depth // a.size) for e in range(a.size)) == list(range(depth))
