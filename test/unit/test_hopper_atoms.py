"""Hopper builders: descriptors, fragments and maps against the PTX ISA's words; kernels as PTX, and what ptxas makes of them."""

import re

import pytest
from hopper_gemm import Gemm

from mlc.backends.cuda.ptxas import assemble, find_ptxas
from mlc.ir.context import make_context
from mlc.ir.mlir import arith, func, ir
from mlc.layout import fragments
from mlc.passes.gpu.hopper import wgmma
from mlc.passes.gpu.hopper.emit import assembly, value
from mlc.passes.gpu.hopper.epilogue import StripStore
from mlc.passes.gpu.hopper.mbarrier import Ring
from mlc.passes.gpu.hopper.product import REGISTERS, WarpGroupProduct
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

    registers, shared = re.findall(r'"(\{ .reg .pred add.*?)"', text_of(emit))
    targets = "{$0, $1, $2, $3, $4, $5, $6, $7}"
    assert f"wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {targets}, {{$16, $17, $18, $19}}, $20, add, 1, 1, 1;" in registers
    assert f"wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 {targets}, $16, $17, add, 1, 1, 1, 0;" in shared


def test_wgmma_refusals():
    def emit() -> None:
        acc = wgmma.Accumulators.zeros(16)
        with pytest.raises(ValueError, match="f16 or bf16"):
            wgmma.multiply("f32", acc, value(0, 64), value(0, 64))
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


def test_products_that_do_not_fit_are_refused():
    for sizes, options in (((96, 256, 64), {}), ((384, 64, 64), {}), ((128, 264, 64), {}), ((128, 96, 64), {"b_k_major": False}),
                           ((128, 192, 64), {"b_k_major": False, "cluster": 2}), ((128, 256, 64), {"consumers": 1})):
        with pytest.raises(ValueError, match=r"consumers need|does not divide"):
            WarpGroupProduct(*sizes, depth=64, stages=4, **options)
    with pytest.raises(ValueError, match="strips"):
        StripStore("f16", 96, None, None)


def test_registers_fit_the_multiprocessor():
    for consumers, (producer, consumer) in REGISTERS.items():
        assert producer % 8 == consumer % 8 == 0
        assert 128 * (producer + consumers * consumer) <= 65536


def test_boxes_and_shared_memory():
    product = WarpGroupProduct(128, 256, 64, depth=4096, stages=4, cluster=2)
    assert product.box("a") == (128, 64) and product.box("b") == (128, 64)  # each block loads half of b
    assert product.shared_bytes == 1024 + 4 * 48 * 1024 + Ring.bytes(4) and product.threads == 384
    product = WarpGroupProduct(128, 256, 64, depth=4096, stages=4, a_k_major=False, b_k_major=False)
    assert product.box("a") == product.box("b") == (64, 64)
    assert product.tensor_map("b", (3, 4096, 1024), (4096 * 1024, 1024, 1)).box == (1, 64, 64)


def test_ptx_of_a_product():
    gemm = Gemm(1024, 1024, 1024)
    ptx = gemm.ptx()
    assert ptx.count(".param .align 64 .b8 gemm_param_") == 3  # tensor maps by value,
    assert ".local" not in ptx and "cvta.param" in ptx  # and used where they are
    for instruction, count in (("wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16", None), ("wgmma.fence.sync.aligned", None),
                               ("wgmma.wait_group.sync.aligned \t1", None), ("setmaxnreg.dec.sync.aligned.u32 \t40", 1),
                               ("setmaxnreg.inc.sync.aligned.u32 \t232", 1), ("mbarrier.init.shared.b64", 2 * gemm.stages),
                               ("fence.mbarrier_init.release.cluster", 1), ("fence.proxy.async.shared::cta", 4),
                               ("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes", None),
                               ("cp.async.bulk.tensor.2d.global.shared::cta", 4), ("stmatrix.sync.aligned.m8n8.x4.shared.b16", 16),
                               ("mbarrier.try_wait.parity.shared::cta.b64", None), ("griddepcontrol.wait", 1)):
        assert ptx.count(instruction) == count if count else instruction in ptx, instruction


def test_ptx_of_a_cluster():
    ptx = Gemm(1024, 1024, 1024, cluster=2).ptx()
    assert ".reqnctapercluster 2, 1, 1" in ptx
    assert "complete_tx::bytes.multicast::cluster" in ptx
    assert "mapa.shared::cluster.u32" in ptx and "mbarrier.arrive.release.cluster.shared::cluster.b64" in ptx
    assert "barrier.cluster.arrive" in ptx and "bar.sync" not in ptx


KERNELS = {
    "plain": {},
    "direct store": {"staged": False},
    "bf16, both across": {"dtype": "bf16", "a_k_major": False, "b_k_major": False},
    "cluster": {"cluster": 2, "b_k_major": False},
    "tall": {"tile": (256, 128, 64)},
    "three consumers": {"tile": (192, 192, 64), "stages": 3, "consumers": 3},
    "two panels": {"tile": (128, 256, 128), "stages": 2},
}


@pytest.mark.parametrize("name", KERNELS)
def test_ptxas_takes_it_without_spills_or_serialised_wgmma(name):
    gemm = Gemm(1000, 1000, 1000, **KERNELS[name])
    cubin = assemble(gemm.ptx(), "gemm", "sm_90a", 3, find_ptxas())
    assert cubin.spill_bytes == 0 and cubin.remarks == ()
    assert gemm.shared_bytes <= 227 << 10
    assert cubin.registers * gemm.product.threads <= 65536
