"""Products of f32 in tf32, where a compile allows it: numbers on the simulator, the option, and targets on which it has no effect."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from arrays import uniform
from gpu_native import compile_gpu
from gpu_sim import kernels_of, launch
from native import Schedule, chosen
from onnx_models import model
from schedules import tiled

from mlc.artifact import Artifact
from mlc.cli.main import run
from mlc.dialects import graph
from mlc.dialects._ext import operations
from mlc.driver import compile_model, emit
from mlc.fingerprint import cache_key
from mlc.ir.context import make_context
from mlc.ir.mlir import ir
from mlc.options import CompileOptions
from mlc.passes.gpu.tf32 import rounded
from mlc.target import Target

ARCHS = ("sm_80", "sm_86", "sm_89", "sm_90a")
WARPS, WARPGROUPS = "mma.m16n8k8.tf32", "wgmma.m64k8"
BOUND = 2.0 ** -10 * (1 + 2.0 ** -12) + 1e-6  # of the error, over the sum of |a b|; the last for sums in f32

_COPY = """gpu.module @kernels { gpu.func @k(%x: memref<4096xf32>, %y: memref<4096xf32>) kernel attributes {
    known_block_size = array<i32: 128, 1, 1>, task.grid = [8]} {
  %c4 = arith.constant 4 : index
  %c128 = arith.constant 128 : index
  %t = gpu.thread_id x
  %b = gpu.block_id x
  %m = arith.muli %b, %c128 : index
  %s = arith.addi %m, %t : index
  %i = arith.muli %s, %c4 : index
  %v = vector.load %x[%i] : memref<4096xf32>, vector<4xf32>
  vector.store %v, %y[%i] : memref<4096xf32>, vector<4xf32>
  gpu.return } }"""


def _tf32(x: np.ndarray, even: bool = False) -> np.ndarray:
    """To nearest, ties away from zero or to even, as f64."""
    bits = x.view(np.uint32)
    half = np.uint32(0xFFF) + (bits >> np.uint32(13) & np.uint32(1)) if even else np.uint32(0x1000)
    with np.errstate(invalid="ignore"):
        return ((bits + half) & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)


def _target(arch: str) -> str:
    return str(Target.parse(f"cuda:{arch}").allowing_tf32())


def _run(build: Callable[..., Any], arch: str, *inputs: np.ndarray, schedule: Schedule = chosen, atom: str = WARPS) -> np.ndarray:
    simulated = compile_gpu(build, *inputs, target=_target(arch), schedule=schedule)
    assert set(re.findall(r'atom = "([\w.]+)"', simulated.task)) == {atom}
    return simulated(*inputs)[0]


def _agree(found: np.ndarray, product: Callable[..., np.ndarray], a: np.ndarray, b: np.ndarray, even: bool = False) -> None:
    """Within the documented bound of the exact product, and as near as sums in f32 to that of rounded factors."""
    size = product(np.abs(a).astype(np.float64), np.abs(b).astype(np.float64)) + 1e-30
    assert (np.abs(found - product(a.astype(np.float64), b.astype(np.float64))) <= BOUND * size).all()
    assert (np.abs(found - product(_tf32(a, even), _tf32(b, even))) <= 2e-6 * size).all()


@pytest.mark.parametrize("shape", [(64, 64, 64), (100, 17, 64), (130, 72, 200), (7, 100, 33), (128, 136, 256), (33, 31, 30)])
@pytest.mark.parametrize("turned", range(4))
def test_matmul(shape: tuple[int, int, int], turned: int) -> None:
    (m, n, k), ta, tb = shape, bool(turned & 1), bool(turned & 2)
    a, b = uniform(*((k, m) if ta else (m, k))), uniform(*((n, k) if tb else (k, n)), seed=1)
    found = _run(lambda x, y: graph.matmul(x, y, transpose_a=ta, transpose_b=tb), ARCHS[(m + turned) % 4], a, b,
                 schedule=tiled(min(m, 64), min(n, 32)))
    _agree(found, lambda x, y: (x.T if ta else x) @ (y.T if tb else y), a, b)


@pytest.mark.parametrize("shapes", [((3, 17, 40), (3, 40, 24)), ((3, 17, 40), (40, 24)), ((2, 3, 16, 32), (3, 32, 16))])
def test_matmul_in_batches(shapes: Any) -> None:
    a, b = (uniform(*s, seed=i) for i, s in enumerate(shapes))
    found = _run(lambda x, y: graph.matmul(x, y, transpose_a=False, transpose_b=False), "sm_90a", a, b,
                 schedule=tiled(*[1] * (a.ndim - 2), 16, 8))
    _agree(found, np.matmul, a, b)


PRODUCTS = {  # tile, (m, n, k), transposed b, atom
    "one block": ((128, 128), (128, 128, 128), True, WARPGROUPS),
    "several blocks, ring in several rounds": ((128, 128), (256, 256, 640), True, WARPGROUPS),
    "one consumer": ((64, 256), (64, 512, 128), True, WARPGROUPS),
    "ragged rows and depth": ((125, 128), (250, 200, 136), True, WARPGROUPS),
    "columns of padding": ((128, 100), (128, 200, 200), True, WARPGROUPS),
    "a factor across": ((128, 128), (128, 128, 128), False, WARPS),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_on_warpgroups(name: str) -> None:
    """TMA rounds factors as it copies them, ties to even."""
    tile, (m, n, k), tb, atom = PRODUCTS[name]
    a, b = uniform(m, k), uniform(*((n, k) if tb else (k, n)), seed=1)
    found = _run(lambda x, y: graph.matmul(x, y, transpose_a=False, transpose_b=tb), "sm_90a", a, b, schedule=tiled(*tile), atom=atom)
    _agree(found, lambda x, y: x @ (y.T if tb else y), a, b, atom == WARPGROUPS)


@pytest.mark.parametrize(("ta", "tb"), [(False, False), (True, True)])
def test_large_factors_that_lie_across_are_turned_for_warpgroups(ta: bool, tb: bool) -> None:
    """The passes alone: 4096 x 4096 x 4096, which no test can simulate; ptxas takes it."""
    inputs = [np.broadcast_to(np.float32(0), (4096, 4096))] * 2
    simulated = compile_gpu(lambda x, y: graph.matmul(x, y, transpose_a=ta, transpose_b=tb), *inputs, target=_target("sm_90a"))
    assert WARPGROUPS in simulated.task and len(simulated.kernels) == 2
    assert "wgmma.mma_async.sync.aligned.m64n256k8.f32.tf32.tf32" in simulated.gpu
    assert 'dtype = "f32", shape = [4096, 4096]' in simulated.gpu


@pytest.mark.parametrize(("padding", "rows"), [(0, 7), (1, 15)])
def test_convolutions_on_warpgroups(padding: int, rows: int) -> None:
    """Filters [kh, kw, f, c], so that both factors lie along the channels."""
    x, w = uniform(1, 16, 16, 32), uniform(3, 3, 64, 32, seed=1)

    def build(a: Any, b: Any) -> Any:
        a = graph.pad(a, low=[0, padding, padding, 0], high=[0, padding, padding, 0]) if padding else a
        return graph.conv(a, graph.transpose(b, perm=[0, 1, 3, 2]), strides=[1, 1], dilations=[1, 1], layout="nhwc")

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        wide = np.pad(a, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
        return np.einsum("nhwcij,ijfc->nhwf", np.lib.stride_tricks.sliding_window_view(wide, (3, 3), axis=(1, 2)), b)

    found = _run(build, "sm_90a", x, w, schedule=tiled(1, rows, 14 + 2 * padding, 64), atom=WARPGROUPS)
    _agree(found, product, x, w, True)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("strides", [[1, 1], [2, 2]])
def test_convolutions(strides: list[int], layout: str) -> None:
    """Implicit products: windows of an image, ragged depth."""
    x, w = uniform(1, 11, 9, 13), uniform(24, 11, 3, 3, seed=2)
    last = layout == "nhwc"
    args = (np.moveaxis(x, 1, 3), np.moveaxis(w, (0, 1), (3, 2))) if last else (x, w)

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        image, kernel = (np.moveaxis(a, 3, 1), np.moveaxis(b, (3, 2), (0, 1))) if last else (a, b)
        windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3), axis=(2, 3))[:, :, ::strides[0], ::strides[1]]
        made = np.einsum("nchwij,fcij->nfhw", windows, kernel)
        return np.moveaxis(made, 1, 3) if last else made

    args = tuple(map(np.ascontiguousarray, args))
    found = _run(lambda a, b: graph.conv(a, b, strides=strides, dilations=[1, 1], layout=layout), "sm_80", *args,
                 schedule=tiled(1, 3, 4, 24) if last else tiled(1, 8, 3, 4))
    _agree(found, product, *args)


def test_what_is_computed_around_a_product_stays_f32() -> None:
    """A prologue, a bias and an activation in the product's kernel."""
    a, b, c = uniform(96, 64), uniform(64, 80, seed=1), uniform(80, seed=2)

    def build(x: Any, y: Any, z: Any) -> Any:
        made = graph.matmul(graph.elementwise("mul", x, x), y, transpose_a=False, transpose_b=False)
        return graph.elementwise("relu", graph.elementwise("add", made, z))

    expected = np.maximum(_tf32(a * a) @ _tf32(b) + c, 0)
    np.testing.assert_allclose(_run(build, "sm_90a", a, b, c), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
@pytest.mark.parametrize(("queries", "keys", "causal"), [(17, 17, True), (64, 40, False)])
def test_attention(queries: int, keys: int, causal: bool, arch: str) -> None:
    """Both products in tf32, the softmax between them in f32."""
    q, k, v = uniform(2, 4, queries, 32), uniform(2, 2, keys, 32), uniform(2, 2, keys, 32, seed=1)
    wide = [np.repeat(t.astype(np.float64), r, 1) for t, r in ((q, 1), (k, 2), (v, 2))]
    scores = wide[0] @ wide[1].swapaxes(2, 3) * 0.25
    if causal:
        scores = np.where(np.tri(queries, keys, dtype=bool), scores, -np.inf)
    power = np.exp(scores - scores.max(3, keepdims=True))
    expected = power / power.sum(3, keepdims=True) @ wide[2]
    right = {"right": 0} if causal else {}
    found = _run(lambda a, b, c: graph.attention(a, b, c, scale=0.25, **right), arch, q, k, v)
    np.testing.assert_allclose(found, expected, rtol=0, atol=4e-3)
    assert np.abs(found - expected).max() > 1e-6


def test_rounding() -> None:
    """Then cut to 10 bits, every number is the nearest one; ties, overflow, infinities, NaN of any bits, and small ones."""
    bits = np.random.default_rng(0).integers(0, 1 << 32, 4096, np.uint32)
    bits[:10] = [0x7F800000, 0xFF800000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0x7F7FFFFF, 0x3F801000, 0xBF803000, 0x00000000, 0x80000000]
    x, y = bits.view(np.float32), np.zeros(4096, np.float32)

    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(_COPY)
        load = next(op for op in operations(module.operation) if op.name == "vector.load")
        store = next(op for op in operations(module.operation) if op.name == "vector.store")
        with ir.InsertionPoint(store):
            store.operands[0] = rounded(load.results[0])
        launch(kernels_of(module)["k"], x, y)
    cut = (y.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
    finite = np.isfinite(x) & (np.abs(x) >= 2.0 ** -126)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(cut[finite], _tf32(x).astype(np.float32)[finite])
    np.testing.assert_array_equal(np.isnan(cut), np.isnan(x))
    np.testing.assert_array_equal(cut[np.isinf(x)], x[np.isinf(x)])
    assert (np.abs(cut[~finite & ~np.isnan(x) & ~np.isinf(x)]) < 2.0 ** -125).all()


# -- the option ---------------------------------------------------------------------------------------------------------

def _product() -> onnx.ModelProto:
    return model("g (float[64, 64] x) => (float[64, 128] y) { y = MatMul(x, w) }", w=uniform(64, 128))


def _compiled(target: str, allow_tf32: bool) -> Artifact:
    return compile_model(_product(), CompileOptions(Target.parse(target), allow_tf32=allow_tf32))


@pytest.mark.parametrize("arch", ARCHS)
def test_it_must_be_allowed(arch: str) -> None:
    target = Target.parse(f"cuda:{arch}")
    code = [emit(_product(), CompileOptions(target, allow_tf32=allowed), "asm") for allowed in (False, True)]
    assert ["f32.tf32.tf32.f32" in text for text in code] == [False, True]


def test_the_plan_says_so() -> None:
    plans = [_compiled("cuda:sm_80", allowed).plan for allowed in (False, True)]
    assert [plan.get("allow_tf32") for plan in plans] == [None, True]
    assert {plan["target"] for plan in plans} == {"cuda:sm_80"}


@pytest.mark.parametrize("target", ["cpu:x86-64-v3", "cuda:sm_75", "rocm:gfx942", "rocm:gfx1100"])
def test_a_target_without_tf32_computes_as_before(target: str) -> None:
    plain, allowed = (_compiled(target, flag) for flag in (False, True))
    assert plain.plan == allowed.plan and plain.objects == allowed.objects


def test_it_decides_a_compile() -> None:
    target = Target.parse("cuda:sm_80")
    assert cache_key(_product(), CompileOptions(target)) != cache_key(_product(), CompileOptions(target, allow_tf32=True))
    assert str(target.allowing_tf32()) == "cuda:sm_80,atoms=mma.m16n8k16.f16+mma.m16n8k16.bf16+mma.m16n8k32.s8+mma.m16n8k8.tf32"
    assert Target.parse(str(target.allowing_tf32())) == target.allowing_tf32() == target.allowing_tf32().allowing_tf32()
    assert Target.parse("cuda:sm_75").allowing_tf32() == Target.parse("cuda:sm_75")


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(_product(), tmp_path / "m.onnx")
    for flags, says in (([], False), (["--allow-tf32"], True)):
        out = str(tmp_path / "m.mlc")
        assert run(["compile", str(tmp_path / "m.onnx"), "--target", "cuda:sm_80", "-o", out, "--no-cache", "-q", *flags]) == 0
        assert run(["inspect", out]) == 0
        assert ("products of f32 in tf32" in capsys.readouterr().out) == says
        assert run(["inspect", out, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["allow_tf32"] == says
    assert run(["verify", str(tmp_path / "m.onnx"), "--allow-tf32", "--no-cache"]) == 0, capsys.readouterr()  # on a CPU without effect
