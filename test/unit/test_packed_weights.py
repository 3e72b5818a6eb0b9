"""Products and convolutions by packed weights, whose columns need not divide into panels nor their rows into register tiles."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_run import node_model

import mlc

RNG = np.random.default_rng(0)


def _normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def _run(tmp_path: Path, target: str, op: str, x: np.ndarray, w: np.ndarray, **attributes: Any) -> np.ndarray:
    path = tmp_path / "one.onnx"
    path.write_bytes(node_model(op, {"x": x, "w": w}, weights=["w"], **attributes).SerializeToString())
    return mlc.compile(str(path), target, cache=False, progress=False)(x)[0]


# Whole panels; one ragged group; ragged groups; a last group of another size; all of it, and a depth that is cut into pieces.
@pytest.mark.parametrize(("m", "k", "n"), [(37, 40, 128), (23, 40, 100), (128, 24, 1100), (64, 96, 3001), (70, 1600, 50), (70, 1600, 1030)])
@pytest.mark.parametrize("target", ["cpu", "cpu,vector_bits=256", "cpu,cores=16"])
def test_products(tmp_path: Path, target: str, m: int, k: int, n: int) -> None:
    x, w = _normal(m, k), _normal(k, n)
    want = x.astype(np.float64) @ w
    np.testing.assert_allclose(_run(tmp_path, target, "MatMul", x, w), want, atol=3e-6 * k)


@pytest.mark.parametrize(("channels", "maps", "size"), [(3, 24, 17), (24, 144, 9), (40, 80, 14), (160, 200, 7)])
def test_convolutions(tmp_path: Path, channels: int, maps: int, size: int) -> None:
    x, w = _normal(2, channels, size, size), _normal(maps, channels, 3, 3)
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    want = np.einsum("nchwij,mcij->nmhw", windows, w)
    np.testing.assert_allclose(_run(tmp_path, "cpu", "Conv", x, w, pads=[1, 1, 1, 1]), want, atol=3e-5 * channels)
