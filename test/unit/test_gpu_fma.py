"""Products on FMA units: the layout of their tiles, right on the simulator for every class of shapes, and taken by ptxas without spills."""

from typing import Any

import numpy as np
import pytest
from arrays import uniform
from gpu_native import Simulated, compile_gpu
from harness import module_of
from schedules import tiled

from mlc.backends.cuda.assemble import cubins
from mlc.backends.cuda.lower import lower_kernels
from mlc.dialects import graph
from mlc.errors import OptionError
from mlc.ir.context import make_context
from mlc.ir.mlir import ir
from mlc.layout.fma import FmaAtom
from mlc.layout.swizzle import conflicts
from mlc.passes.gpu.fma_plan import best_shape, cycles, fma_cycles, shapes
from mlc.passes.pipeline import run_pipeline
from mlc.passes.registry import PassContext
from mlc.target import Target

ATOMS = [FmaAtom((4, 8), (8, 8)), FmaAtom((8, 4), (4, 8)), FmaAtom((1, 32), (4, 4)), FmaAtom((32, 1), (2, 16)), FmaAtom((8, 8), (8, 8)),
         FmaAtom((2, 16), (1, 2))]


@pytest.mark.parametrize("atom", ATOMS, ids=lambda a: a.name)
def test_lanes_hold_every_sum_once(atom: FmaAtom) -> None:
    assert FmaAtom.parse(atom.name) == atom
    count = np.zeros(atom.shape, int)
    (high, down), (long, right) = atom.runs(0, 4), atom.runs(1, 4)
    for lane in range(atom.lanes[0] * atom.lanes[1]):
        row, column = atom.place(lane)
        rows = [row * high + start + i for start in down for i in range(high)]
        columns = [column * long + start + i for start in right for i in range(long)]
        count[np.ix_(rows, columns)] += 1
    assert (count == 1).all()


@pytest.mark.parametrize("dim", [0, 1])
def test_lanes_read_stages_without_bank_conflicts(dim: int) -> None:
    atom = FmaAtom((4, 8), (8, 8))
    run, starts = atom.runs(dim, 4)
    for start in starts:
        assert conflicts([4 * (atom.place(lane)[dim] * run + start) for lane in range(32)], 16) == 0


def test_names_that_are_none() -> None:
    with pytest.raises(OptionError, match="4x8.8x8"):
        FmaAtom.parse("fma.8x8")


def test_shapes_cover_a_tile_with_all_warps() -> None:
    for rows, columns, warp in ((128, 128, 32), (49, 200, 32), (4, 1000, 32), (64, 64, 64), (300, 16, 64)):
        for warps in (4, 8):
            found = shapes(rows, columns, warps, warp, 8)
            assert found
            for shape in found:
                assert shape.rows >= rows and shape.columns >= columns and np.prod(shape.warps) == warps


def test_what_is_chosen() -> None:
    """The classic tile: eight warps of 8 x 8 sums a lane. Deep small products share the depth; vectors have no price."""
    found = best_shape(128, 128, 8, 32, 4096, 4)
    assert found is not None
    assert found[0].atom.tile == (8, 8) and found[0].warps[2] == 1
    small = best_shape(16, 32, 8, 32, 4096, 4)
    assert small is not None and small[0].warps[2] > 1
    assert fma_cycles(1, 4096, 32, 4096, 4) is None
    assert cycles(found[0], 4) < 128 * 128 / 128 * 1.5


def agrees(found: np.ndarray, expected: np.ndarray, tolerance: float = 3e-6) -> None:
    np.testing.assert_allclose(found.astype(np.float64), expected, rtol=0, atol=tolerance * max(1.0, np.abs(expected).max()))


def on_fma(simulated: Simulated) -> bool:
    return 'atom = "fma.' in simulated.task


PRODUCTS = {  # tile, (m, n, k), transposed a, transposed b
    "one block of 8 x 8": ((128, 128), (128, 128, 48), False, False),
    "both factors turned": ((64, 64), (64, 128, 40), False, True),
    "no factor turned": ((64, 64), (128, 64, 40), True, False),
    "only the left one as it is": ((32, 64), (32, 64, 64), True, True),
    "ragged rows, columns and depth": ((50, 72), (101, 137, 37), False, False),
    "less depth than a step": ((32, 32), (64, 64, 5), False, True),
    "skinny": ((5, 256), (5, 512, 100), False, False),
    "skinny the other way": ((128, 6), (256, 6, 64), False, True),
    "deep and small": ((16, 16), (16, 32, 640), False, False),
}


@pytest.mark.parametrize("target", ["cuda:sm_90a", "cuda:sm_75", "rocm:gfx1100"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name: str, target: str) -> None:
    tile, (m, n, k), ta, tb = PRODUCTS[name]
    a, b = uniform(*((k, m) if ta else (m, k))), uniform(*((n, k) if tb else (k, n)), seed=1)
    simulated = compile_gpu(lambda x, y: graph.matmul(x, y, transpose_a=ta, transpose_b=tb), a, b, schedule=tiled(*tile), target=target)
    assert on_fma(simulated)
    agrees(simulated(a, b)[0], (a.T if ta else a).astype(np.float64) @ (b.T if tb else b).astype(np.float64))


@pytest.mark.parametrize(("dtype", "target"), [(np.float64, "cuda:sm_90a"), (np.float64, "rocm:gfx942"), (np.float16, "cuda:sm_75")])
def test_other_types(dtype: Any, target: str) -> None:
    a, b = uniform(40, 50, dtype=dtype), uniform(50, 72, dtype=dtype, seed=1)
    simulated = compile_gpu(lambda x, y: graph.matmul(x, y, transpose_a=False, transpose_b=False), a, b, schedule=tiled(32, 72),
                            target=target)
    assert on_fma(simulated)
    agrees(simulated(a, b)[0], a.astype(np.float64) @ b.astype(np.float64), 1e-13 if dtype == np.float64 else 2e-3)


@pytest.mark.parametrize("target", ["cuda:sm_90a", "rocm:gfx1100"])
def test_batches_and_what_follows(target: str) -> None:
    a, b, bias = uniform(3, 33, 40), uniform(3, 40, 64, seed=1), uniform(64, seed=2)

    def build(a: Any, b: Any, bias: Any) -> Any:
        return graph.elementwise("relu", graph.elementwise("add", graph.matmul(a, b, transpose_a=False, transpose_b=False), bias))

    for tile in ((1, 33, 64), (3, 16, 32)):
        simulated = compile_gpu(build, a, b, bias, schedule=tiled(*tile), target=target)
        assert on_fma(simulated) and len(simulated.kernels) == 1
        agrees(simulated(a, b, bias)[0], np.maximum(a.astype(np.float64) @ b.astype(np.float64) + bias, 0))


@pytest.mark.parametrize("target", ["cuda:sm_90a", "cuda:sm_75"])
def test_a_factor_that_the_kernel_computes(target: str) -> None:
    a, b, c = uniform(32, 24), uniform(24, 48, seed=1), uniform(48, 40, seed=2)

    def build(a: Any, b: Any, c: Any) -> Any:
        inner = graph.elementwise("tanh", graph.matmul(a, b, transpose_a=False, transpose_b=False))
        return graph.matmul(inner, c, transpose_a=False, transpose_b=False)

    simulated = compile_gpu(build, a, b, c, schedule=tiled(16, 40), target=target)
    assert on_fma(simulated)
    agrees(simulated(a, b, c)[0], np.tanh(a.astype(np.float64) @ b) @ c)


CONVOLUTIONS = {  # image, filters, padding, strides, layout, tile
    "images of channels, zeros around": ((2, 6, 9, 11), 12, 1, 1, "nchw", (1, 12, 9, 11)),
    "images of channels, strides": ((1, 8, 12, 12), 16, 1, 2, "nchw", (1, 16, 6, 6)),
    "channels last, zeros around": ((1, 9, 10, 24), 16, 1, 1, "nhwc", (1, 3, 10, 16)),
    "channels last, no zeros": ((1, 8, 8, 16), 8, 0, 1, "nhwc", (1, 6, 6, 8)),
}


@pytest.mark.parametrize("target", ["cuda:sm_90a", "rocm:gfx1201"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str, target: str) -> None:
    shape, filters, pad, stride, layout, tile = CONVOLUTIONS[name]
    last = layout == "nhwc"
    channels = shape[3] if last else shape[1]
    x, weight = uniform(*shape), uniform(*((3, 3, channels, filters) if last else (filters, channels, 3, 3)), seed=1)
    low = [0, pad, pad, 0] if last else [0, 0, pad, pad]

    def build(x: Any, weight: Any) -> Any:
        x = graph.pad(x, low=low, high=low) if pad else x
        return graph.conv(x, weight, strides=[stride, stride], dilations=[1, 1], layout=layout)

    simulated = compile_gpu(build, x, weight, schedule=tiled(*tile), target=target)
    assert on_fma(simulated) and len(simulated.kernels) == 1
    wide = np.pad(x.astype(np.float64), [(n, n) for n in low])
    axes = (1, 2) if last else (2, 3)
    windows = np.lib.stride_tricks.sliding_window_view(wide, (3, 3), axis=axes)
    if last:
        expected = np.einsum("nhwcij,ijcf->nhwf", windows[:, ::stride, ::stride], weight.astype(np.float64))
    else:
        expected = np.einsum("nchwij,fcij->nfhw", windows[:, :, ::stride, ::stride], weight.astype(np.float64))
    agrees(simulated(x, weight)[0], expected)


def test_vectors_and_depthwise_convolutions_stay_loops() -> None:
    x, w = uniform(1, 64), uniform(64, 256, seed=1)
    assert not on_fma(compile_gpu(lambda a, b: graph.matmul(a, b, transpose_a=False, transpose_b=False), x, w))
    image, filters = uniform(1, 8, 8, 32), uniform(3, 3, 1, 32, seed=1)
    depthwise = compile_gpu(lambda a, b: graph.conv(a, b, strides=[1, 1], dilations=[1, 1], groups=32, layout="nhwc"), image, filters)
    assert not on_fma(depthwise)


MODELS = {
    "4096^3": [(4096, 4096), (4096, 4096)],
    "1000^3": [(1000, 1000), (1000, 1000)],
    "feed-forward": [(128, 768), (768, 3072)],
    "skinny": [(8, 4096), (4096, 4096)],
}


@pytest.mark.parametrize("name", MODELS)
def test_ptxas_takes_what_is_chosen(name: str) -> None:
    target = Target.parse("cuda:sm_90a")
    with make_context(), ir.Location.unknown():
        ctx = PassContext(target)
        inputs = [np.broadcast_to(np.float32(0), s) for s in MODELS[name]]
        module, _ = module_of(lambda a, b: graph.matmul(a, b, transpose_a=False, transpose_b=False), inputs)
        run_pipeline(module, "builtin.module(lower-graph-to-tile,mlc-dce,mlc-cse,tile-pipeline,task-pipeline)", ctx)
        assert 'atom = "fma.' in str(module)
        run_pipeline(module, "builtin.module(gpu-kernel-pipeline)", ctx)
        found = lower_kernels(module, target)
    for kernel, (_, cubin) in zip(found, cubins(found, target, 3, lambda *_: None), strict=True):
        assert cubin.spill_bytes == 0
        assert cubin.registers * kernel.threads * 2 <= target.registers  # two blocks share an SM


def test_in_a_loop_of_a_kernel() -> None:
    """ONNX's LinearAttention: a loop whose products have register tiles between barriers."""
    from gpu_native import compile_gpu_model
    from onnx.backend.test.case.node import collect_testcases

    case = next(c for c in collect_testcases("LinearAttention") if c.name == "test_linear_attention_delta")
    assert case.model is not None and case.data_sets is not None
    (inputs, outputs), *_ = case.data_sets
    simulated = compile_gpu_model(case.model)
    for found, expected in zip(simulated(*inputs), outputs, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
