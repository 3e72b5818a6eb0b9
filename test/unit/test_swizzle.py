"""Shared memory: the conflict counter, and that padded and swizzled tiles are read and written without conflicts, also by wgmma's rules."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc.layout.fragments import ATOMS, ldmatrix
from mlc.layout.swizzle import Swizzle, conflicts
from mlc.layout.wgmma import SharedOperand


def test_counter() -> None:
    assert conflicts([4 * lane for lane in range(32)], 4) == 0
    assert conflicts([0] * 32, 4) == 0  # one word for all
    assert conflicts([128 * lane for lane in range(32)], 4) == 31  # all in bank 0
    assert conflicts([8 * lane for lane in range(32)], 4) == 1  # every second bank
    assert conflicts([8 * lane for lane in range(32)], 8) == 0
    assert conflicts([16 * lane for lane in range(32)], 16) == 0
    assert conflicts([128 * lane for lane in range(32)], 16) == 4 * 7
    assert conflicts([lane for lane in range(32)], 1) == 0  # four lanes to a word
    assert conflicts([], 4) == 0


@given(st.integers(0, 4), st.integers(0, 6), st.integers(0, 6))
def test_swizzle_is_its_own_inverse_and_keeps_chunks(bits: int, base: int, extra: int) -> None:
    swizzle = Swizzle(bits, base, bits + extra)
    offsets = range(2 * swizzle.period if swizzle.period <= 1 << 10 else 1 << 10)
    assert all(swizzle.apply(swizzle.apply(o)) == o for o in offsets)
    assert all(swizzle.apply(o) % (1 << base) == o % (1 << base) for o in offsets)


def test_hardware_swizzles() -> None:
    """128 bytes: chunk c of row r goes to chunk c ^ r % 8."""
    for row in range(16):
        for chunk in range(8):
            assert Swizzle.hardware(128).apply(128 * row + 16 * chunk) == 128 * row + 16 * (chunk ^ row % 8)
    assert [Swizzle.hardware(r).period for r in (32, 64, 128)] == [256, 512, 1024]
    with pytest.raises(ValueError, match="48 bytes"):
        Swizzle.hardware(48)


@pytest.mark.parametrize("row_bytes", [64, 96, 128, 256, 1024])
def test_padded_rows(row_bytes: int) -> None:
    """As choose-mapping pads rows of 32-byte multiples: reads by ldmatrix at any column and row stores of 16 bytes, without conflicts."""
    pitch = row_bytes + 16
    for column in range(0, row_bytes - 15, 16):
        assert conflicts([row * pitch + column for row in range(8)], 16) == 0
    if row_bytes % 128 == 0:  # eight lanes store 128 bytes of a row
        assert conflicts([lane // 8 * pitch + lane % 8 * 16 for lane in range(32)], 16) == 0


@pytest.mark.parametrize("k_major", [True, False])
@pytest.mark.parametrize("operand", ["a", "bb"])
def test_ldmatrix_of_padded_and_swizzled_tiles(operand: str, k_major: bool) -> None:
    """64 rows of 128 bytes: each of ldmatrix's 8x8 matrices conflicts when plain, never when padded or swizzled."""
    load = ldmatrix(operand, k_major)  # type: ignore[arg-type]
    pitch, swizzle = 128 + 16, Swizzle.hardware(128)
    places = {"plain": lambda r, c: 128 * r + 2 * c, "padded": lambda r, c: pitch * r + 2 * c,
              "swizzled": lambda r, c: swizzle.apply(128 * r + 2 * c)}
    for row in range(0, 64, 16):
        for column in range(0, 64, 16):
            cost = {}
            for name, place in places.items():
                lanes = [load.source(lane) for lane in range(32)]
                cost[name] = conflicts([place(row + r, column + c) for r, c in lanes], 16)
            assert cost == {"plain": 28, "padded": 0, "swizzled": 0}


def test_row_stores_of_swizzled_tiles() -> None:
    swizzle = Swizzle.hardware(128)
    for row in range(0, 64, 4):  # a warp stores four rows of 128 bytes
        assert conflicts([swizzle.apply(128 * (row + lane // 8) + 16 * (lane % 8)) for lane in range(32)], 16) == 0


def test_stores_of_accumulators_to_padded_rows() -> None:
    """Pairs of f32 accumulators of mma.sync go to rows of 64 f32 without conflicts if the pitch is a quarter of the banks off."""
    c = ATOMS["mma.m16n8k16.f16"].c
    at = [c.at(lane, 0) for lane in range(32)]
    assert conflicts([4 * (64 * row + column) for row, column in at], 8) > 0
    assert conflicts([4 * (72 * row + column) for row, column in at], 8) == 0


def _hardware(operand: SharedOperand, start: int, outer: int, k: int) -> int:
    """The byte that wgmma reads for element [outer, k] of an instruction: PTX's canonical layouts, by the descriptor's fields."""
    descriptor = operand.descriptor() + (start >> 4)
    address, leading, stride = (16 * (descriptor >> low & 0x3FFF) for low in (0, 16, 32))
    width = {1: 128, 2: 64, 3: 32}[descriptor >> 62]
    if operand.k_major:
        place = outer % 8 * width + outer // 8 * stride + k * operand.element
    else:
        place = outer * operand.element % width + outer * operand.element // width * leading + k % 8 * width + k // 8 * stride
    swizzle = Swizzle((width // 16).bit_length() - 1)
    return swizzle.apply(address + place)


@pytest.mark.parametrize(("operand", "depth"), [
    (SharedOperand(64, 64, 2), 16), (SharedOperand(128, 128, 2), 16), (SharedOperand(64, 32, 4), 8), (SharedOperand(256, 128, 1), 32),
    (SharedOperand(64, 32, 2, row=64), 16), (SharedOperand(64, 16, 2, row=32), 16), (SharedOperand(8, 64, 2), 16),
    (SharedOperand(64, 32, 2, k_major=False), 16), (SharedOperand(128, 64, 2, k_major=False), 16),
    (SharedOperand(32, 32, 2, k_major=False, row=64), 16), (SharedOperand(16, 32, 2, k_major=False, row=32), 16),
], ids=str)
def test_descriptor_finds_every_element(operand: SharedOperand, depth: int) -> None:
    offsets = {operand.offset(o, k) for o in range(operand.extent) for k in range(operand.depth)}
    assert offsets == set(range(0, operand.bytes, operand.element))
    base = 3 * 1024
    assert base % operand.alignment == 0
    for k0 in range(0, operand.depth, depth):
        for outer in range(operand.extent):
            for k in range(depth):
                assert _hardware(operand, base + operand.step(k0), outer, k) == base + operand.offset(outer, k0 + k)


def test_descriptor_fields_of_the_ptx_example() -> None:
    """MN-major, 64-byte swizzle, bf16, 64 x 16. (PTX's example has its atoms in another order, so other offsets between them.)"""
    descriptor = SharedOperand(64, 16, 2, k_major=False, row=64).descriptor()
    assert descriptor >> 62 == 2
    assert descriptor >> 32 & 0x3FFF == 8 * 64 >> 4
    assert descriptor >> 16 & 0x3FFF == 16 * 64 >> 4


@pytest.mark.parametrize("fields", [(64, 48, 2), (12, 64, 2), (64, 64, 2, True, 16), (64, 32, 4, False)])
def test_shapes_that_do_not_fit(fields: tuple) -> None:
    with pytest.raises(ValueError, match="expected elements of 2 bytes|whole swizzle atoms"):
        SharedOperand(*fields)


def test_reads_of_wgmma_rows_do_not_conflict() -> None:
    operand = SharedOperand(64, 64, 2)
    for k in range(0, 64, 8):
        assert conflicts([operand.offset(row, k) for row in range(32)], 16) == 0
    assert np.gcd.reduce([operand.offset(row, 0) for row in range(1, 64)]) % 16 == 0
