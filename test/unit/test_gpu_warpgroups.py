"""Products on warpgroups through the whole GPU path: right on the simulator, chosen where they pay, and taken by ptxas without spills."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from arrays import uniform
from gpu_native import Simulated, compile_gpu
from gpu_sim_hopper import MapValue
from gpu_sim_memory import Fault
from gpu_sim_turns import Turns
from harness import module_of
from schedules import tiled

from mlc.backends.cuda.assemble import assembly, cubins
from mlc.backends.cuda.lower import lower_kernels
from mlc.backends.gpu_plan import add_tensor_maps
from mlc.dialects import graph
from mlc.dtypes import BF16, BY_NAME
from mlc.ir.context import make_context
from mlc.ir.mlir import ir
from mlc.layout.linear import Linear
from mlc.passes.gpu.hopper.operand import Side, staging
from mlc.passes.pipeline import run_pipeline
from mlc.passes.registry import PassContext
from mlc.target import Target

halves = partial(uniform, dtype=np.float16)


def agrees(found: np.ndarray, expected: np.ndarray, tolerance: float = 2e-3) -> None:
    wide = expected.astype(np.float64)
    np.testing.assert_allclose(found.astype(np.float64), wide, rtol=0, atol=tolerance * np.abs(wide).max())


def on_warpgroups(simulated: Simulated) -> bool:
    return 'atom = "wgmma.m64k16"' in simulated.task


PRODUCTS = {  # tile, (m, n, k), transposed a, transposed b
    "one block": ((128, 128), (128, 128, 128), False, False),
    "several blocks, ring in several rounds": ((128, 128), (256, 256, 640), False, False),
    "widest tile, a across": ((128, 256), (128, 256, 512), True, False),
    "b along": ((128, 128), (256, 128, 192), False, True),
    "both across": ((128, 128), (256, 128, 192), True, True),
    "one consumer": ((64, 256), (64, 512, 128), False, False),
    "tall": ((256, 64), (256, 128, 128), False, True),
    "ragged rows, columns and depth": ((125, 128), (250, 200, 136), False, False),
    "columns of padding": ((128, 100), (128, 200, 200), False, True),
}


@pytest.mark.parametrize("dtype", [np.float16, BF16.numpy])
@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name: str, dtype: Any) -> None:
    tile, (m, n, k), ta, tb = PRODUCTS[name]
    a, b = halves(*((k, m) if ta else (m, k)), dtype=dtype), halves(*((n, k) if tb else (k, n)), dtype=dtype, seed=1)
    simulated = compile_gpu(lambda x, y: graph.matmul(x, y, transpose_a=ta, transpose_b=tb), a, b, schedule=tiled(*tile))
    assert on_warpgroups(simulated)
    expected = (a.T if ta else a).astype(np.float32) @ (b.T if tb else b).astype(np.float32)
    agrees(simulated(a, b)[0], expected, 2e-3 if dtype == np.float16 else 1e-2)


FEW_ROWS = {  # tile, (m, n, k), transposed b
    "one row": ((1, 64), (1, 128, 1024), False),
    "one row, weights along the depth": ((1, 128), (1, 256, 1088), True),
    "three rows": ((3, 128), (3, 256, 1024), False),
    "whole atoms": ((16, 256), (16, 256, 1024), False),
    "a ragged depth": ((8, 64), (8, 192, 1032), False),
    "many for an atom, too few for its rows": ((40, 64), (40, 64, 1024), False),
}


@pytest.mark.parametrize("name", FEW_ROWS)
def test_few_rows_are_columns_of_the_transposed_product(name: str) -> None:
    tile, (m, n, k), tb = FEW_ROWS[name]
    a, b = halves(m, k), halves(*((n, k) if tb else (k, n)), seed=1)
    simulated = compile_gpu(lambda x, y: graph.matmul(x, y, transpose_a=False, transpose_b=tb), a, b, schedule=tiled(*tile))
    assert on_warpgroups(simulated)
    agrees(simulated(a, b)[0], a.astype(np.float32) @ (b.T if tb else b).astype(np.float32))


def test_few_rows_that_are_a_tile_of_many_are_left_to_warps() -> None:
    a, b = halves(64, 1024), halves(1024, 128, seed=1)
    simulated = compile_gpu(plain_product, a, b, schedule=tiled(16, 128))
    assert not on_warpgroups(simulated)


def test_batches() -> None:
    a, b = halves(2, 128, 128), halves(2, 128, 256, seed=1)
    simulated = compile_gpu(lambda x, y: graph.matmul(x, y, transpose_a=False, transpose_b=False), a, b, schedule=tiled(1, 128, 128))
    assert on_warpgroups(simulated)
    agrees(simulated(a, b)[0], a.astype(np.float32) @ b.astype(np.float32))


FOLLOWED = {  # tile, (m, n, k), dtype of the residual and the result, whether it is done on the sums in registers
    "two warpgroups": ((128, 128), (256, 256, 128), np.float16, True),
    "64 rows by wide ones": ((64, 192), (128, 384, 128), np.float16, True),
    "blocks of two times 64 rows": ((256, 64), (256, 128, 192), np.float16, True),
    "ragged rows and columns": ((125, 64), (250, 200, 136), np.float16, True),
    "results of 32 bits": ((128, 128), (128, 256, 128), np.float32, True),
    "columns of no whole runs of four lanes": ((128, 72), (128, 144, 128), np.float16, False),
    "columns that begin anywhere": ((128, 64), (128, 204, 128), np.float16, False),
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_what_follows_in_the_kernel_runs_on_all_consumers(name: str) -> None:
    tile, (m, n, k), dtype, in_registers = FOLLOWED[name]
    a, b, bias, rest = halves(m, k), halves(n, k, seed=1), halves(n, seed=2), halves(m, n, seed=3, dtype=dtype)

    def build(a: Any, b: Any, bias: Any, rest: Any) -> Any:
        product = graph.elementwise("add", graph.matmul(a, b, transpose_a=False, transpose_b=True), bias)
        wide = graph.cast(graph.elementwise("relu", product), to=BY_NAME[str(rest.type.element_type)])
        return graph.elementwise("add", wide, rest)

    simulated = compile_gpu(build, a, b, bias, rest, schedule=tiled(*tile))
    assert on_warpgroups(simulated) and len(simulated.kernels) == 1
    assert ('level = "register"' in simulated.task) == in_registers
    agrees(simulated(a, b, bias, rest)[0], np.maximum(a.astype(np.float32) @ b.T.astype(np.float32) + bias, 0) + rest, 4e-3)


def test_row_reductions_follow() -> None:
    a, b = halves(128, 128), halves(128, 256, seed=1)

    def build(a: Any, b: Any) -> Any:
        return graph.softmax(graph.matmul(a, b, transpose_a=False, transpose_b=False), axis=1)

    simulated = compile_gpu(build, a, b, schedule=tiled(64, 256))
    power = np.exp(a.astype(np.float32) @ b.astype(np.float32))
    agrees(simulated(a, b)[0], power / power.sum(1, keepdims=True), 2e-2)


CONVOLUTIONS = {  # image [n, h, w, c], filters, kernel, padding, tile
    "1x1": ((2, 8, 16, 192), 128, 1, 0, (1, 8, 16, 128)),
    "3x3": ((1, 10, 18, 64), 128, 3, 0, (1, 8, 16, 128)),
    "3x3 with zeros around": ((1, 16, 16, 64), 128, 3, 1, (1, 8, 16, 128)),
    "3x3, ragged rows, two images a block": ((4, 7, 7, 128), 128, 3, 1, (2, 7, 7, 128)),
    "3x3, channels that do not fill a step": ((1, 16, 16, 40), 64, 3, 1, (1, 8, 16, 64)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str) -> None:
    (n, h, w, c), f, k, padding, tile = CONVOLUTIONS[name]
    x, weight = halves(n, h, w, c), halves(k, k, c, f, seed=1)

    def build(x: Any, weight: Any) -> Any:
        x = graph.pad(x, low=[0, padding, padding, 0], high=[0, padding, padding, 0]) if padding else x
        return graph.conv(x, weight, strides=[1, 1], dilations=[1, 1], layout="nhwc")

    simulated = compile_gpu(build, x, weight, schedule=tiled(*tile))
    assert on_warpgroups(simulated) and len(simulated.kernels) == 1
    wide = np.pad(x.astype(np.float32), [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(wide, (k, k), axis=(1, 2))
    agrees(simulated(x, weight)[0], np.einsum("nhwcij,ijcf->nhwf", windows, weight.astype(np.float32)))


def side(shape: tuple[int, ...], *places: Linear, dtype: str = "f16") -> Side:
    return Side(shape, dtype, places)


def loops(*coefficients: int, const: int = 0) -> Linear:
    return Linear(coefficients, const)


def test_what_is_staged() -> None:
    """Loops m, n, k of 128 x 128 x 192; the same product with an operand that TMA cannot bring is refused."""
    extents, m, n, k = (128, 128, 192), loops(1, 0, 0), loops(0, 1, 0), loops(0, 0, 1)
    found = staging(side((128, 192), m, k), side((192, 128), k, n), extents, 2)
    assert found is not None and found.chunks == (3,) and found.accumulators == 64
    assert found.left.map.box == (128, 64) and found.right.map.box == (64, 64) and found.right.count == 2
    assert found.left.bytes == found.right.bytes == 128 * 64 * 2
    right = side((192, 128), k, n)
    assert staging(side((128, 196), m, k), right, extents, 2) is None  # rows of 392 bytes
    assert staging(side((256, 192), loops(2, 0, 0), k), right, extents, 2) is None  # every other row
    assert staging(side((128, 320), m, loops(1, 0, 1)), right, extents, 2) is None  # a diagonal
    assert staging(side((128, 192), m, k), right, (32, 128, 192), 2) is None  # too few rows, of more
    assert staging(side((1, 192), m, k), right, (1, 128, 192), 2) is None  # few rows, too shallow
    few = staging(side((1, 1024), m, k), side((1024, 128), k, n), (1, 128, 1024), 2)
    assert few is not None and few.turned and few.left.rows == 128 and few.right.map.box == (1, 64) and few.right.tile.extent == 8
    assert staging(side((128, 192), m, k), right, (128, 128, 64), 2) is None  # too shallow
    assert staging(side((128, 192), m, loops(0, 0, 1, const=4)), right, (128, 128, 160), 2) is None  # begins between pieces
    part = staging(side((128, 192), m, loops(0, 0, 1, const=8)), right, (128, 128, 160), 2)  # a window, behind which there is nothing
    assert part is not None and part.left.map.shape == (128, 5, 160) and part.left.map.strides == (192, 8, 1)
    cut = staging(side((128, 192), m, k), right, (128, 128, 160), 2)  # from the first element on, the map ends where the loop does
    assert cut is not None and cut.left.map.shape == (128, 160) and cut.right.map.shape == (160, 128)
    assert staging(side((128, 136), m, k), side((136, 128), k, n), (128, 128, 136), 2) is not None  # one that is


def test_sides_that_wait_for_each_other_for_ever_are_a_fault() -> None:
    class Idle:
        turns, mask = None, None

    def waits() -> None:
        idle.turns.wait(lambda: False)

    idle: Any = Idle()
    with pytest.raises(Fault, match="deadlock|other side"):
        Turns(idle).run([waits, waits])


@pytest.mark.parametrize(("first", "width", "taken"), [(8, 256, True), (3, 256, False), (0, 200, True), (0, 196, False)])
def test_factors_that_are_parts_of_a_matrix(first: int, width: int, taken: bool) -> None:
    """A box begins at a multiple of 16 bytes of memory: where a part begins, and where the last tile does, which is moved back inside."""
    a, b = halves(128, 256), halves(256, 320, seed=1)

    def build(x: Any, y: Any) -> Any:
        return graph.matmul(x, graph.slice(y, starts=[0, first], sizes=[256, width], steps=[1, 1]), transpose_a=False, transpose_b=False)

    simulated = compile_gpu(build, a, b, schedule=tiled(128, 128))
    assert on_warpgroups(simulated) == taken
    agrees(simulated(a, b)[0], a.astype(np.float32) @ b[:, first:first + width].astype(np.float32))


def test_boxes_outside_of_an_array_are_zeros() -> None:
    data = np.arange(8 * 64, dtype=np.uint16)
    spec = {"dtype": "f16", "shape": [8, 64], "strides": [64, 1], "box": [4, 64], "swizzle": 128}
    box = MapValue(spec, data.view(np.uint8), 0).box([-1, 0]).view(np.uint16)
    assert (box[0] == 0).all() and (box[1:] == data.reshape(8, 64)[:3]).all()


def kernels(build: Any, *inputs: np.ndarray) -> tuple[str, list[Any], Any]:
    """Task-level text, kernels as LLVM IR, and the target."""
    target = Target.parse("cuda:sm_90a")
    with make_context(), ir.Location.unknown():
        ctx = PassContext(target)
        module, _ = module_of(build, inputs)
        run_pipeline(module, "builtin.module(lower-graph-to-tile,mlc-dce,mlc-cse,tile-pipeline,task-pipeline)", ctx)
        text = str(module)
        run_pipeline(module, "builtin.module(gpu-kernel-pipeline)", ctx)
        return text, lower_kernels(module, target), target


def gelu_product(a: Any, b: Any, bias: Any) -> Any:
    return graph.elementwise("gelu", graph.elementwise("add", graph.matmul(a, b, transpose_a=False, transpose_b=False), bias))


def plain_product(a: Any, b: Any) -> Any:
    return graph.matmul(a, b, transpose_a=False, transpose_b=False)


MODELS = {
    "4096^3": (plain_product, [(4096, 4096), (4096, 4096)]),
    "feed-forward": (gelu_product, [(2048, 768), (768, 3072), (3072,)]),
    "1000^3": (plain_product, [(1000, 1000), (1000, 1000)]),
    "bert, batch 64": (plain_product, [(8192, 768), (768, 768)]),
}


@pytest.mark.parametrize("name", MODELS)
def test_large_products_are_chosen_and_ptxas_takes_them(name: str) -> None:
    build, shapes = MODELS[name]
    text, found, target = kernels(build, *(np.broadcast_to(np.float16(0), s) for s in shapes))
    assert 'atom = "wgmma.m64k16"' in text
    wide = [k for k in found if k.maps]
    assert [m["buffer"] for k in wide for m in k.maps] == [0, 1]
    for kernel, (_, cubin) in zip(wide, cubins(wide, target, 3, lambda *_: None), strict=True):
        assert cubin.spill_bytes == 0 and cubin.remarks == ()
        assert kernel.shared <= target.shared_bytes and kernel.threads == 288
        assert cubin.registers * kernel.threads <= target.registers
    ptx = assembly(wide, target, 3)
    assert ptx.count(".param .align 64 .b8") == 2 and ".local" not in ptx  # tensor maps by value, and used where they are
    for instruction in ("wgmma.mma_async.sync.aligned.m64n", "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier",
                        "mbarrier.try_wait.parity.shared::cta.b64", "griddepcontrol.wait", "fence.proxy.async.shared::cta"):
        assert instruction in ptx, instruction


@pytest.mark.parametrize("shape", [(1, 8192, 8192), (16, 8192, 8192), (16, 28672, 8192), (32, 8192, 8192)])
def test_a_product_of_few_rows_is_one_kernel_that_reads_the_weights_once(shape: tuple[int, int, int]) -> None:
    """They come at memory's rate whatever the tile: parts of the depth would add only their sum."""
    m, n, k = shape
    text, found, _ = kernels(plain_product, *(np.broadcast_to(np.float16(0), s) for s in ((m, k), (k, n))))
    assert len(found) == 1 and found[0].maps and text.count("task.mma") == 1
    assert found[0].maps[0]["buffer"] == 1 and list(found[0].maps[1]["box"]) == [m, 64]


def test_launches_get_their_maps() -> None:
    buffer = {"space": "input", "index": 0, "offset": 0}
    steps: list[dict[str, Any]] = [{"op": "for", "body": [{"op": "launch", "kernel": "k", "args": [buffer]}]}]
    spec = {"dtype": "f16", "shape": [64, 64], "strides": [64, 1], "box": [64, 64], "swizzle": 128}
    add_tensor_maps(steps, {"k": [{"argument": 1, "buffer": 0, **spec}]})
    assert steps[0]["body"][0]["args"][1] == {"tensormap": {"buffer": buffer, **spec}}
