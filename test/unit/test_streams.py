"""Streamed softmaxes: found by structure, right on the simulator for every mask and ragged size, chosen for long rows, taken by ptxas."""

from typing import Any

import numpy as np
import pytest
from gpu_native import Simulated, compile_gpu
from harness import module_of

from mlc.backends.cuda.assemble import cubins
from mlc.backends.cuda.lower import lower_kernels
from mlc.dialects import graph
from mlc.dtypes import BF16, F16, F32
from mlc.ir.context import make_context
from mlc.ir.mlir import ir
from mlc.passes.pipeline import run_pipeline
from mlc.passes.registry import PassContext
from mlc.passes.tile.rates import GpuRates
from mlc.target import Target

OP = '"task.stream"'


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams cost next to nothing, so that every one that can be is."""
    monkeypatch.setattr(GpuRates, "_price_stream", lambda self, work, stream: 1 + work.blocks * 1e-6)


def numbers(*shape: int, dtype: Any = np.float16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None, *, scale: float, offset: int = 0, left: int = -1,
              right: int = -1, softcap: float = 0.0) -> np.ndarray:
    """As graph.attention, in f64."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    k, v = (np.repeat(x, q.shape[1] // x.shape[1], axis=1) for x in (k, v))
    scores = q @ k.swapaxes(2, 3) * scale
    if softcap:
        scores = softcap * np.tanh(scores / softcap)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask.astype(np.float64)
    back = np.arange(scores.shape[2])[:, None] + offset - np.arange(scores.shape[3])
    for hidden, active in ((back > left, left >= 0), (back < -right, right >= 0)):
        scores = np.where(hidden & active, -np.inf, scores)
    power = np.exp(scores - np.maximum(scores.max(3, keepdims=True), np.finfo(np.float32).min))
    return power @ v / np.maximum(power.sum(3, keepdims=True), 1e-30)


def hidden_rows(shape: tuple[int, ...]) -> np.ndarray:
    mask = np.random.default_rng(1).random(shape) < 0.7
    mask[..., 3, :] = False
    return mask


LEAST = np.finfo(np.float16).min
CASES: dict[str, tuple[tuple[int, int, int, int, int, int, int], dict[str, Any], Any]] = {  # (b, h, g, s, t, d, e), attributes, mask
    "steps in several rounds of the ring": ((1, 1, 1, 128, 1024, 64, 64), {}, None),
    "causal, blocks of different length": ((1, 2, 2, 256, 256, 128, 128), {"right": 0}, None),
    "window, rows that see nothing": ((2, 8, 2, 40, 72, 64, 64), {"left": 5, "right": 0, "offset": 32}, hidden_rows((2, 1, 40, 72))),
    "window that starts late": ((1, 1, 1, 64, 1024, 64, 64), {"left": 100, "right": 0, "offset": 700}, None),
    "keys end within a step": ((1, 2, 2, 50, 77, 64, 64), {}, None),
    "added mask, keys end within a step": ((1, 2, 2, 50, 77, 64, 64), {}, numbers(50, 77)),
    "rows hidden by a finite number": ((1, 1, 1, 64, 64, 64, 64), {}, np.where(hidden_rows((64, 64)), 0, LEAST).astype(np.float16)),
    "windows of narrow heads": ((2, 3, 3, 49, 49, 32, 32), {}, numbers(3, 49, 49)),
    "capped": ((1, 2, 2, 70, 192, 64, 64), {"softcap": 3.0}, None),
    "one query for each of a group's heads": ((1, 8, 2, 1, 300, 128, 128), {"right": 0, "offset": 299}, None),
    "wide heads": ((1, 1, 1, 130, 130, 256, 256), {}, None),
    "values of another width": ((1, 1, 1, 130, 300, 96, 40), {}, None),
    "depth of whole 16 bytes, not of whole atoms": ((1, 2, 1, 70, 130, 72, 72), {"right": 0, "offset": 60}, numbers(70, 130)),
    "depth and width of no whole vectors": ((1, 2, 2, 65, 65, 33, 35), {}, None),
    "one key": ((1, 2, 2, 65, 1, 20, 20), {}, None),
}
UNITS = {"cuda:sm_80": "mma.m16n8k16", "rocm:gfx942": "mfma.f32_16x16x16", "rocm:gfx1100": "wmma.gfx11", "rocm:gfx1201": "wmma.gfx12"}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [np.float16, BF16.numpy])
def test_attention(name: str, dtype: Any, always: None) -> None:
    _check(name, dtype, "cuda:sm_90a")


def _check(name: str, dtype: Any, target: str) -> Simulated:
    """One kernel that streams, and gives what a case says."""
    (b, h, g, s, t, d, e), attributes, mask = CASES[name]
    arrays = [numbers(b, h, s, d, dtype=dtype), numbers(b, g, t, d, dtype=dtype, seed=1), numbers(b, g, t, e, dtype=dtype, seed=2)]
    arrays += [] if mask is None else [mask]
    attributes = {"scale": d**-0.5, **attributes}
    simulated = compile_gpu(lambda *a: graph.attention(*a, **attributes), *arrays, target=target)
    assert OP in simulated.task and len(simulated.kernels) == 1
    found, expected = simulated(*arrays)[0].astype(np.float64), attention(*arrays, **attributes)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1.5e-2 if dtype == BF16.numpy else 2e-3)
    return simulated


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("target", UNITS)
def test_attention_on_warps(name: str, target: str, always: None) -> None:
    for dtype in (np.float16, BF16.numpy) if name == "steps in several rounds of the ring" else (np.float16,):
        simulated = _check(name, dtype, target)
        assert f'atom = "{UNITS[target]}' in simulated.task


@pytest.mark.parametrize("name", ["causal, blocks of different length", "added mask, keys end within a step"])
def test_factors_of_32_bits_where_units_multiply_them(name: str, always: None) -> None:
    _check(name, np.float32, "rocm:gfx942")


@pytest.mark.parametrize("name", [name for name in CASES if name != "wide heads"])  # too wide for shared memory
def test_factors_of_32_bits_where_tf32_is_allowed(name: str, always: None) -> None:
    """A lane's keys of the second product are those whose scores it has."""
    simulated = _check(name, np.float32, str(Target.parse("cuda:sm_80").allowing_tf32()))
    assert 'atom = "mma.m16n8k8.tf32"' in simulated.task


@pytest.mark.parametrize("first", [8, 4, 1])
@pytest.mark.parametrize("target", ["cuda:sm_90a", "cuda:sm_80", "rocm:gfx942"])
def test_factors_that_are_parts_of_one_matrix(first: int, target: str, always: None) -> None:
    """q, k and v begin at any column of a matrix: where TMA's boxes cannot, warps bring them, by vectors as long as memory allows."""
    rows = numbers(96, first + 3 * 64)

    def build(rows: Any) -> Any:
        parts = [graph.slice(rows, starts=[0, first + 64 * i], sizes=[96, 64], steps=[1, 1]) for i in range(3)]
        return graph.attention(*(graph.reshape(part, shape=[1, 1, 96, 64]) for part in parts), scale=0.125, right=0)

    simulated = compile_gpu(build, rows, target=target)
    assert OP in simulated.task
    parts = [rows[None, None, :, first + 64 * i:first + 64 * (i + 1)] for i in range(3)]
    np.testing.assert_allclose(simulated(rows)[0].astype(np.float64), attention(*parts, scale=0.125, right=0), rtol=0, atol=2e-3)


@pytest.mark.parametrize("target", ["cuda:sm_90a", "cuda:sm_80", "rocm:gfx942"])
def test_heads_side_by_side(target: str, always: None) -> None:
    """q, k and v are columns of one product, and so is the result: no kernel moves them, and what scales the moved result is part, too."""
    b, s, h, d = 2, 70, 3, 64
    packed, factors = numbers(b, s, 3 * h * d), numbers(h, d, seed=1)

    def build(packed: Any, factors: Any) -> Any:
        parts = [graph.slice(packed, starts=[0, 0, h * d * i], sizes=[b, s, h * d], steps=[1] * 3) for i in range(3)]
        q, k, v = (graph.transpose(graph.reshape(part, shape=[b, s, h, d]), perm=[0, 2, 1, 3]) for part in parts)
        moved = graph.transpose(graph.attention(q, k, v, scale=0.125), perm=[0, 2, 1, 3])
        return graph.reshape(graph.elementwise("mul", moved, factors), shape=[b, s, h * d])

    simulated = compile_gpu(build, packed, factors, target=target)
    assert OP in simulated.task and len(simulated.kernels) == 1
    q, k, v = (packed[..., h * d * i:h * d * (i + 1)].reshape(b, s, h, d).swapaxes(1, 2) for i in range(3))
    expected = (attention(q, k, v, scale=0.125).swapaxes(1, 2) * factors).reshape(b, s, h * d)
    np.testing.assert_allclose(simulated(packed, factors)[0].astype(np.float64), expected, rtol=0, atol=4e-3)


def test_softmax_between_products_in_its_own_words(always: None) -> None:
    """Division after the second product, a row of -inf: NaN, as softmax has it."""
    q, k, v, mask = numbers(2, 64, 64), numbers(2, 96, 64, seed=1), numbers(2, 96, 64, seed=2), np.zeros((64, 96), np.float32)
    mask[5] = -np.inf

    def build(q: Any, k: Any, v: Any, mask: Any) -> Any:
        scores = graph.cast(graph.matmul(q, k, transpose_a=False, transpose_b=True), to=F32)
        weights = graph.cast(graph.softmax(graph.elementwise("add", scores, mask), axis=2), to=F16)
        return graph.matmul(weights, v, transpose_a=False, transpose_b=False)

    simulated = compile_gpu(build, q, k, v, mask)
    assert OP in simulated.task
    found = simulated(q, k, v, mask)[0].astype(np.float64)
    scores = q.astype(np.float64) @ k.astype(np.float64).swapaxes(1, 2)
    power = np.exp(scores - scores.max(2, keepdims=True))
    expected = power @ v.astype(np.float64) / power.sum(2, keepdims=True)
    seen = np.arange(64) != 5
    assert np.isnan(found[:, 5]).all()
    np.testing.assert_allclose(found[:, seen], expected[:, seen], rtol=0, atol=1e-2)


LONG = {"narrow": ((4, 16, 4096, 64), {}), "narrow, causal": ((4, 16, 4096, 64), {"right": 0}), "wide": ((4, 16, 4096, 128), {}),
        "wide, causal": ((4, 16, 4096, 128), {"right": 0})}


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("arch", ["sm_90a", "sm_80", "sm_86"])
def test_long_rows_are_streamed_and_ptxas_takes_them(name: str, arch: str, dtype: Any) -> None:
    target, (shape, attributes) = Target.parse(f"cuda:{arch}"), LONG[name]
    target = target.allowing_tf32() if dtype == np.float32 else target
    ctx, array = PassContext(target), np.broadcast_to(dtype(0), shape)
    with make_context(), ir.Location.unknown():
        module, _ = module_of(lambda *a: graph.attention(*a, scale=0.125, **attributes), [array] * 3)
        run_pipeline(module, "builtin.module(lower-graph-to-tile,mlc-dce,mlc-cse,tile-pipeline,task-pipeline)", ctx)
        assert OP in str(module)
        run_pipeline(module, "builtin.module(gpu-kernel-pipeline)", ctx)
        kernel, = lower_kernels(module, target)
    (_, cubin), = cubins([kernel], target, 3, lambda *_: None)
    assert cubin.spill_bytes <= (16 if dtype == np.float32 else 0) and cubin.remarks == ()
    assert kernel.shared <= target.shared_bytes and cubin.registers * kernel.threads <= target.registers


@pytest.mark.parametrize("target", ["cuda:sm_90a", "rocm:gfx1100", "cuda:sm_75"])
def test_factors_that_no_unit_multiplies_keep_their_rows(target: str) -> None:
    arrays = [numbers(1, 2, 64, 64, dtype=np.float32)] * 3
    assert OP not in compile_gpu(lambda *a: graph.attention(*a, scale=0.125), *arrays, target=target).task
