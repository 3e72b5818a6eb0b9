"""Reads that run along another dimension than the stores go through shared memory: loads and stores are then both along rows."""

from typing import Any

import numpy as np
import pytest
from gpu_native import Simulated, compile_gpu
from test_gpu_warpgroups import halves

from mlc.dialects import graph
from mlc.passes.gpu.mapping.turned import turned_pitch

TARGETS = ["cuda:sm_90a", "rocm:gfx942"]
CASES = {  # shape, permutation
    "matrix": ((640, 768), [1, 0]),
    "ragged": ((517, 1031), [1, 0]),
    "batches": ((5, 320, 200), [0, 2, 1]),
    "channels last": ((4, 128, 28, 28), [0, 2, 3, 1]),
    "channels first": ((4, 28, 28, 128), [0, 3, 1, 2]),
    "first and last": ((96, 6, 7, 160), [3, 1, 2, 0]),
    "cycle": ((712, 3, 517), [1, 2, 0]),
    "few channels": ((2, 3, 64, 64), [0, 2, 3, 1]),
}


def block_buffers(simulated: Simulated) -> int:
    return simulated.task.count('"task.alloc"')


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.float32, np.float64])
def test_elements_of_all_sizes(dtype: Any, target: str) -> None:
    x = (halves(640, 768, dtype=np.float64) * 100).astype(dtype)
    simulated = compile_gpu(lambda v: graph.transpose(v, perm=[1, 0]), x, target=target)
    assert block_buffers(simulated) == 1 and f" * repeat({16 // x.itemsize}, 1)>" in simulated.task
    np.testing.assert_array_equal(simulated(x)[0], x.T)


@pytest.mark.parametrize("name", CASES)
def test_permutations(name: str) -> None:
    shape, perm = CASES[name]
    x = halves(*shape)
    simulated = compile_gpu(lambda v: graph.transpose(v, perm=perm), x)
    assert block_buffers(simulated) == 1
    np.testing.assert_array_equal(simulated(x)[0], x.transpose(perm))


def test_what_keeps_its_last_dimension_is_not_turned() -> None:
    x = halves(2, 128, 12, 64)
    simulated = compile_gpu(lambda v: graph.transpose(v, perm=[0, 2, 1, 3]), x)
    assert not block_buffers(simulated)
    np.testing.assert_array_equal(simulated(x)[0], x.transpose(0, 2, 1, 3))


@pytest.mark.parametrize("target", TARGETS)
def test_each_turned_input_of_fused_work_has_a_buffer(target: str) -> None:
    """Two inputs are turned, a third runs along the rows, a fourth moves along the columns alone."""
    x, y, z, w = (halves(*s, dtype=np.float32, seed=i) for i, s in enumerate([(700, 300), (700, 300), (300, 700), (300, 1)]))

    def build(x: Any, y: Any, z: Any, w: Any) -> Any:
        first = graph.elementwise("mul", graph.transpose(x, perm=[1, 0]), z)
        return graph.elementwise("add", graph.elementwise("add", first, graph.transpose(y, perm=[1, 0])), w)

    simulated = compile_gpu(build, x, y, z, w, target=target)
    assert len(simulated.kernels) == 1 and block_buffers(simulated) == 2
    np.testing.assert_allclose(simulated(x, y, z, w)[0], x.T * z + y.T + w, rtol=1e-6, atol=1e-6)


def test_elements_at_computed_places() -> None:
    """The edges are repeated on the way: places are clamped."""
    x = halves(4, 64, 30, 32)

    def build(v: Any) -> Any:
        return graph.transpose(graph.pad(v, low=[0, 0, 1, 0], high=[0, 0, 1, 0], mode="edge"), perm=[0, 2, 3, 1])

    simulated = compile_gpu(build, x)
    expected = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)), mode="edge").transpose(0, 2, 3, 1)
    assert len(simulated.kernels) == 1 and block_buffers(simulated) == 1
    np.testing.assert_array_equal(simulated(x)[0], expected)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("row", [64, 67, 96, 128])
def test_rows_of_a_buffer_are_odd_numbers_of_banks(row: int, size: int) -> None:
    pitch = turned_pitch(row, size)
    assert row <= pitch <= row + 2 * max(1, 4 // size)
    assert (pitch * size // 4 if size <= 4 else pitch) % 2 == 1 and pitch * size % 4 == 0
