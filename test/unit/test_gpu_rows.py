"""Rows in registers: what the passes choose for softmaxes, norms and their chains, and that the kernels give numpy's results."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from arrays import uniform
from gpu_native import Simulated, compile_gpu
from native import chosen
from schedules import at_random

from mlc.dialects import graph
from mlc.dtypes import BF16, F32
from mlc.passes.gpu import row_plan

TARGETS = ("cuda:sm_90a,sms=2", "rocm:gfx942,sms=2")  # so small that a few rows keep them busy

numbers = partial(uniform, reach=2)


def _softmax(x: np.ndarray, axis: int) -> np.ndarray:
    power = np.exp(x - x.max(axis, keepdims=True))
    return power / power.sum(axis, keepdims=True)


def _norm(x: np.ndarray, eps: float = 1e-3) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)


def _check(compiled: Simulated, inputs: tuple[np.ndarray, ...], expected: list[np.ndarray], tolerance: float) -> None:
    for got, want in zip(compiled(*inputs), expected, strict=True):
        np.testing.assert_allclose(got.astype(np.float64), want, rtol=0, atol=tolerance * (1 + np.abs(want).max()))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(3, 24), (5, 96), (37, 200), (4, 1000), (3, 1001), (2, 4096), (2, 3, 130)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, BF16.numpy])
def test_softmax_and_norm_of_rows(shape: tuple[int, ...], dtype: Any, target: str) -> None:
    """Of a few threads, a warp and several warps; even and ragged."""
    x = numbers(*shape, dtype=dtype)
    axis = len(shape) - 1
    tolerance = {2: 1e-3 if dtype == np.float16 else 8e-3, 4: 1e-5}[x.itemsize]
    for build, expected in ((lambda v: graph.softmax(v, axis=axis), _softmax(x.astype(np.float64), axis)),
                            (lambda v: graph.layer_norm(v, axis=axis, eps=1e-3), _norm(x.astype(np.float64)))):
        compiled = compile_gpu(build, x, target=target)
        assert 'level = "register"' in compiled.task and 'level = "shared"' not in compiled.task
        _check(compiled, (x,), [expected], tolerance)


def test_a_row_is_read_once() -> None:
    x = numbers(64, 768, dtype=np.float16)
    compiled = compile_gpu(lambda v: graph.layer_norm(v, axis=1, eps=1e-3), x, target=TARGETS[0])
    assert compiled.gpu.count("vector.load") == 3 and "gpu.barrier" not in compiled.gpu
    assert compiled.gpu.count("vector.store") == 3


@pytest.mark.parametrize("rows", [4, 512])
def test_loads_do_not_wait_for_stores(rows: int) -> None:
    """The scale of a row's later vectors: at the start in a few blocks, at least ahead of the row's stores in many."""
    x, scale = numbers(rows, 768, dtype=np.float16), numbers(768, dtype=np.float16)

    def build(v: Any, s: Any) -> Any:
        return graph.elementwise("mul", graph.layer_norm(v, axis=1, eps=1e-3), s)

    compiled = compile_gpu(build, x, scale, target=TARGETS[0])
    assert compiled.gpu.count("vector.load") == 6 and compiled.gpu.rindex("vector.load") < compiled.gpu.index("vector.store")
    if rows == 4:
        assert compiled.gpu.rindex("vector.load") < compiled.gpu.index("gpu.shuffle")
        _check(compiled, (x, scale), [_norm(x.astype(np.float64)) * scale], 2e-3)


def test_warps_join_their_parts_behind_one_barrier_each() -> None:
    x = numbers(2, 8192, dtype=np.float16)
    compiled = compile_gpu(lambda v: graph.softmax(v, axis=1), x, target=TARGETS[0])
    assert compiled.gpu.count("gpu.barrier") == 2
    _check(compiled, (x,), [_softmax(x.astype(np.float64), 1)], 1e-3)


@pytest.mark.parametrize("target", ["cuda:sm_80,sms=2", TARGETS[1]])
def test_rows_beyond_shared_memory_are_computed_again_instead_of_stored(target: str) -> None:
    x = numbers(2, 65536, dtype=np.float16)
    compiled = compile_gpu(lambda v: graph.softmax(v, axis=1), x, target=target)
    assert len(compiled.kernels) == 1 and "split" not in compiled.task
    if "cuda" in target:  # where a row fits in shared memory
        assert '"task.alloc"() {level = "shared", offset = 0 : i64} : () -> memref<65536xf16>' in compiled.task
    _check(compiled, (x,), [_softmax(x.astype(np.float64), 1)], 1e-3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("shape", [(3, 65536), (2, 33000), (3, 50001), (1, 131072), (2, 262144)])
def test_long_rows_are_split_among_blocks_of_a_cluster(shape: tuple[int, int], dtype: Any) -> None:
    """One kernel reads a row once; its blocks meet once for each join, and no block has a part of a row in shared memory."""
    x = numbers(*shape, dtype=dtype)
    tolerance = 2e-3 if dtype == np.float16 else 1e-5
    alone = x.itemsize * shape[1] <= 223 << 10 and shape[1] % 2 == 0  # one block holds a row, as vectors: then only softmaxes gain
    for build, expected, split in ((lambda v: graph.softmax(v, axis=1), _softmax(x.astype(np.float64), 1), True),
                                   (lambda v: graph.layer_norm(v, axis=1, eps=1e-3), _norm(x.astype(np.float64)), not alone)):
        compiled = compile_gpu(build, x, target=TARGETS[0])
        assert len(compiled.kernels) == 1 and ("split = " in compiled.task) == split and ('level = "shared"' in compiled.task) != split
        assert not split or ("gpu.barrier" not in compiled.gpu and compiled.gpu.count("nvvm.cluster.wait") == 3)
        _check(compiled, (x,), [expected], tolerance)


def test_what_a_block_has_too_few_registers_for_is_split() -> None:
    """A softmax's row as f16 and its powers as f32 are 192 bytes of each of 1024 threads."""
    x = numbers(3, 32768, dtype=np.float16)
    compiled = compile_gpu(lambda v: graph.softmax(v, axis=1), x, target=TARGETS[0])
    assert "split = 4" in compiled.task and 'level = "shared"' not in compiled.task
    _check(compiled, (x,), [_softmax(x.astype(np.float64), 1)], 2e-3)


def test_a_residual_and_its_norm_of_long_rows() -> None:
    """The sum leaves the kernel, and no block reads what another wrote of it."""
    a, b, scale = (numbers(*shape, dtype=np.float16, seed=i) for i, shape in enumerate([(2, 130000), (2, 130000), (130000,)]))

    def build(x: Any, y: Any, z: Any) -> list[Any]:
        total = graph.elementwise("add", x, y)
        return [total, graph.elementwise("mul", graph.layer_norm(total, axis=1, eps=1e-3), z)]

    total = a.astype(np.float64) + b
    compiled = compile_gpu(build, a, b, scale, target=TARGETS[0])
    assert "split = " in compiled.task
    _check(compiled, (a, b, scale), [total, _norm(total) * scale], 4e-3)


@pytest.mark.parametrize("seed", range(12))
def test_split_chains_under_any_schedule(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short rows in blocks of a few threads: clusters of all sizes, kernels with ops that forbid them."""
    monkeypatch.setattr(row_plan, "MOST_THREADS", 64)
    monkeypatch.setattr(row_plan, "SPLIT", 32)
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 4)), int(rng.integers(1, 4)), int(rng.choice([1024, 2000, 3001, 4096])))
    axis, x, y = int(rng.choice([1, 2])) if seed % 2 else 2, numbers(*shape), numbers(*shape, seed=1)

    def build(a: Any, b: Any) -> list[Any]:
        norm = graph.layer_norm(a, axis=2, eps=1e-3)
        return [norm, graph.softmax(graph.elementwise("add", norm, b), axis=axis)]

    norm = _norm(x.astype(np.float64))
    compiled = compile_gpu(build, x, y, schedule=at_random(seed) if seed % 2 else chosen, target=TARGETS[0])
    _check(compiled, (x, y), [norm, _softmax(norm + y, axis)], 1e-4)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(2, 8, 64), (1, 12, 33), (3, 16, 5)])
def test_rows_across_memory(shape: tuple[int, ...], target: str) -> None:
    x = numbers(*shape)
    _check(compile_gpu(lambda v: graph.softmax(v, axis=1), x, target=target), (x,), [_softmax(x.astype(np.float64), 1)], 1e-5)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("columns", [64, 100, 768])
def test_a_residual_and_its_norm(columns: int, target: str) -> None:
    """The sum leaves the kernel, too: its elements are stored and stay in registers."""
    a, b, bias = numbers(9, columns, dtype=np.float16), numbers(9, columns, dtype=np.float16, seed=1), numbers(columns, dtype=np.float16)

    def build(x: Any, y: Any, z: Any) -> list[Any]:
        total = graph.elementwise("add", graph.elementwise("add", x, z), y)
        return [total, graph.layer_norm(total, axis=1, eps=1e-3)]

    total = a.astype(np.float64) + bias + b
    _check(compile_gpu(build, a, b, bias, target=target), (a, b, bias), [total, _norm(total)], 4e-3)


@pytest.mark.parametrize("target", TARGETS)
def test_a_sum_of_parts_and_its_norm(target: str) -> None:
    """Split-K: each thread adds the parts of its own elements."""
    parts, b = numbers(4, 6, 96), numbers(6, 96, dtype=np.float16)

    def build(x: Any, y: Any) -> Any:
        total = graph.elementwise("add", graph.reduce(x, kind="sum", axes=[0], keepdims=False), graph.cast(y, to=F32))
        return graph.layer_norm(total, axis=1, eps=1e-3)

    _check(compile_gpu(build, parts, b, target=target), (parts, b), [_norm(parts.astype(np.float64).sum(0) + b)], 1e-5)


@pytest.mark.parametrize("seed", range(12))
def test_chains_under_any_schedule(seed: int) -> None:
    """Tiles that cut rows, buffers where the compiler would put none, targets in turns."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.choice([1, 3, 8, 33, 64, 130], 3))
    axis, x, y = int(rng.integers(3)), numbers(*shape), numbers(*shape, seed=1)

    def build(a: Any, b: Any) -> list[Any]:
        norm = graph.layer_norm(a, axis=2, eps=1e-3)
        return [norm, graph.softmax(graph.elementwise("add", norm, b), axis=axis)]

    norm = _norm(x.astype(np.float64))
    _check(compile_gpu(build, x, y, schedule=at_random(seed), target=TARGETS[seed % 2]), (x, y), [norm, _softmax(norm + y, axis)], 1e-4)


def test_reductions_in_order_stay_out_of_it() -> None:
    x = numbers(4, 1, 96)
    how = {"kernel": [96], "strides": [1], "dilations": [1], "axis": 2, "low": [0], "size": [96]}
    found = compile_gpu(lambda v: [graph.softmax(v, axis=2), graph.max_pool_indices(v, **how)], x, target=TARGETS[0])(x)
    np.testing.assert_array_equal(found[1][:, 0, 0], x[:, 0].argmax(1) + 96 * np.arange(4))
    np.testing.assert_allclose(found[0], _softmax(x, 2), rtol=0, atol=1e-6)
