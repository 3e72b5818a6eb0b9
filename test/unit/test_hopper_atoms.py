"""Hopper builders: descriptors, fragments and maps against the PTX ISA's words."""

import re

import pytest

from mlc.ir.context import make_context
from mlc.ir.mlir import arith, func, ir
from mlc.layout import fragments
from mlc.passes.gpu.hopper import wgmma
from mlc.passes.gpu.hopper.emit import assembly, value
from mlc.passes.gpu.hopper.tma import TensorMap


def field(bits: int, low: int, high: int) -> int:
    return (bits >> low) & ((1 << (high - low + 1)) - 1)


@pytest.mark.parametrize(("rows", "depth", "k_major", "leading"), [
    (128, 64, True, 16), (256, 64, False, 64 * 128), (64, 128, False, 128 * 128),
])
def test_descriptor_fields(rows, depth, k_major, leading):
    bits = wgmma.operand(rows, depth, k_major).descriptor()
    assert field(bits, 0, 13) == 0  # start address: added when emitted
    assert field(bits, 16, 29) == leading >> 4
    assert field(bits, 32, 45) == 1024 >> 4  # from eight rows to the next eight
    assert field(bits, 49, 51) == 0  # base offset: tiles are 1024-byte aligned
    assert field(bits, 62, 63) == 1  # 128-byte swizzle


@pytest.mark.parametrize("k_major", [True, False])
def test_row_offsets_and_steps_start_where_the_layout_says(k_major):
    tile = wgmma.operand(256, 128, k_major)
    for row in range(0, 256, 64):
        for k in range(0, 128, 16):
            assert wgmma.row_offset(tile, row) + tile.step(k) == tile.offset(row, k)  # a first row of eight: the swizzle leaves it alone
    assert wgmma.panels(tile) * wgmma.panel_bytes(tile) == tile.bytes == 2 * 256 * 128


def test_tiles_that_panels_do_not_divide_are_refused():
    for arguments in ((100, 64, True), (128, 48, True), (96, 64, False), (64, 24, False)):
        with pytest.raises(ValueError, match="do not divide"):
            wgmma.operand(*arguments)


@pytest.mark.parametrize("n", [8, 64, 256])
def test_accumulator_pairs_are_the_fragment_of_the_isa(n):
    with make_context(), ir.Location.unknown(), ir.InsertionPoint(ir.Module.create().body):
        values = tuple(arith.ConstantOp(ir.F32Type.get(), float(i)).result for i in range(n // 2))
        numbers = {v: i for i, v in enumerate(values)}
        pairs = [(row, column, numbers[a], numbers[b]) for row, column, a, b in wgmma.Accumulators(n, values).pairs()]
    c = fragments.wgmma(n, "f16").c
    for thread in (0, 5, 37, 127):
        first = thread // 32 * 16 + thread % 32 // 4, thread % 4 * 2
        for row, column, a, b in pairs:
            assert c.at(thread, a) == (first[0] + row, first[1] + column)
            assert c.at(thread, b) == (first[0] + row, first[1] + column + 1)


def text_of(emit) -> str:
    """What `emit` builds, as MLIR text."""
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body), ir.InsertionPoint(func.FuncOp("f", ([], [])).add_entry_block()):
            emit()
            func.ReturnOp([])
        module.operation.verify()
        return str(module)


def test_wgmma_from_registers_and_shared():
    def emit() -> None:
        acc = wgmma.Accumulators.zeros(16)
        b = value(0, 64)
        acc = wgmma.multiply("bf16", acc, [value(0)] * 4, b, b_k_major=False)
        wgmma.multiply("f16", acc, value(0, 64), b, a_k_major=False)

        wgmma.multiply("f32", acc, value(0, 64), b)

    registers, shared, wide = re.findall(r'"(\{ .reg .pred add.*?)"', text_of(emit))
    targets = "{$0, $1, $2, $3, $4, $5, $6, $7}"
    assert f"wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {targets}, {{$16, $17, $18, $19}}, $20, add, 1, 1, 1;" in registers
    assert f"wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 {targets}, $16, $17, add, 1, 1, 1, 0;" in shared
    assert f"wgmma.mma_async.sync.aligned.m64n16k8.f32.tf32.tf32 {targets}, $16, $17, add, 1, 1;" in wide


def test_wgmma_refusals():
    def emit() -> None:
        acc = wgmma.Accumulators.zeros(16)
        with pytest.raises(ValueError, match="f16 or bf16"):
            wgmma.multiply("f64", acc, value(0, 64), value(0, 64))
        with pytest.raises(ValueError, match="k contiguous only"):
            wgmma.multiply("f32", acc, value(0, 64), value(0, 64), b_k_major=False)
        with pytest.raises(ValueError, match="four registers"):
            wgmma.multiply("f16", acc, [value(0)] * 4, value(0, 64), a_k_major=False)
        for n in (4, 12, 264):
            with pytest.raises(ValueError, match="columns"):
                wgmma.Accumulators.zeros(n)

    text_of(emit)


def test_assembly_constraints_follow_from_types():
    def emit() -> None:
        f = arith.ConstantOp(ir.F32Type.get(), 0.0).result
        assembly("nop $0 $1 $4 $5;", [value(0), value(0, 64)], [f, f])

    assert '"=f,=f,0,1,r,l,~{memory}"' in text_of(emit)


@pytest.mark.parametrize(("fields", "message"), [
    (dict(shape=(64,), strides=(1,), box=(64,)), "2 to 5 dimensions"),
    (dict(shape=(64, 60), strides=(60, 1), box=(64, 64)), "16 bytes"),
    (dict(shape=(64, 64), strides=(1, 64), box=(64, 64)), "contiguous"),
    (dict(shape=(512, 64), strides=(64, 1), box=(512, 64)), "1 to 256"),
    (dict(shape=(64, 64), strides=(64, 1), box=(64, 32)), "box row"),
])
def test_maps_that_the_hardware_refuses(fields, message):
    with pytest.raises(ValueError, match=message):
        TensorMap("f16", **fields)
