"""Pools over padded images: padding is read through, not stored, and neighbours along channels are loaded as one vector."""

import re
from typing import Any

import numpy as np
import pytest
from gpu_native import compile_gpu
from schedules import tiled
from test_gpu_warpgroups import halves

from mlc.dialects import graph

KERNEL, STRIDE, PAD = 3, 2, 1


def windows(x: np.ndarray, around: float) -> np.ndarray:
    padded = np.pad(x.astype(np.float32), [(0, 0), (PAD, PAD), (PAD, PAD), (0, 0)], constant_values=around)
    return np.lib.stride_tricks.sliding_window_view(padded, (KERNEL, KERNEL), axis=(1, 2))[:, ::STRIDE, ::STRIDE]


@pytest.mark.parametrize("target", ["cuda:sm_90a", "rocm:gfx942"])
@pytest.mark.parametrize(("kind", "around"), [("max", -np.inf), ("sum", 0.0)])
def test_padding_is_part_of_the_pool(kind: str, around: float, target: str) -> None:
    x = halves(2, 47, 47, 64)

    def build(x: Any) -> Any:
        padded = graph.pad(x, low=[0, PAD, PAD, 0], high=[0, PAD, PAD, 0], value=around)
        return graph.pool(padded, kind=kind, kernel=[KERNEL] * 2, strides=[STRIDE] * 2, dilations=[1, 1], axis=1)

    simulated = compile_gpu(build, x, target=target, schedule=tiled(1, 2, 24, 64))
    assert len(simulated.kernels) == 1
    assert "vector<4xf16>" in simulated.gpu and "vector.from_elements" not in simulated.gpu
    image = re.escape(f"memref<{x.size}xf16")
    read = [line for line in simulated.gpu.splitlines() if re.search(rf"(vector|memref)\.load .*: {image}", line)]
    assert read and all(re.search("vector<[48]xf16>", line) for line in read)
    reduce = np.max if kind == "max" else np.sum
    np.testing.assert_allclose(simulated(x)[0].astype(np.float32), reduce(windows(x, around), axis=(-2, -1)), rtol=1e-3, atol=2e-3)


def test_vectors_begin_where_rows_allow() -> None:
    """Rows of 60 channels: four of them are a vector."""
    x = halves(1, 12, 12, 60)

    def build(x: Any) -> Any:
        padded = graph.pad(x, low=[0, PAD, PAD, 0], high=[0, PAD, PAD, 0], value=-np.inf)
        return graph.pool(padded, kind="max", kernel=[KERNEL] * 2, strides=[STRIDE] * 2, dilations=[1, 1], axis=1)

    simulated = compile_gpu(build, x)
    np.testing.assert_array_equal(simulated(x)[0].astype(np.float32), windows(x, -np.inf).max((-2, -1)))
