"""Recurrent layers on simulated GPUs: a loop is one kernel whose blocks meet at barriers, and computes what numpy computes."""

from typing import Any

import numpy as np
import pytest
from gpu_native import Simulated, compile_gpu_model
from onnx_run import node_model, run_model

RNG = np.random.default_rng(11)


def _layer(op: str, gates: int, steps: int, batch: int, width: int, hidden: int, directions: int, dtype: Any) -> dict[str, np.ndarray]:
    def data(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (RNG.standard_normal(shape) * scale).astype(dtype)

    rows = gates * hidden
    return {"x": data(steps, batch, width), "w": data(directions, rows, width, scale=width ** -0.5),
            "r": data(directions, rows, hidden, scale=hidden ** -0.5), "b": data(directions, 2 * rows, scale=0.1)}


def _check(op: str, feeds: dict[str, np.ndarray], outputs: int, tolerance: float, target: str = "cuda:sm_90a",
           **attributes: Any) -> Simulated:
    """Against the importer's own meaning in f64."""
    weights = ("w", "r", "b")
    compiled = compile_gpu_model(node_model(op, feeds, outputs, weights=weights, **attributes), target)
    wide = {name: a.astype(np.float64) for name, a in feeds.items()}
    expected = run_model(node_model(op, wide, outputs, weights=weights, **attributes), {"x": wide["x"]})
    for got, want in zip(compiled(feeds["x"]), expected, strict=True):
        assert np.abs(got.astype(np.float64) - want).max() <= tolerance
    return compiled


@pytest.mark.parametrize("steps", [3, 4, 6])
def test_lstm_is_one_cluster(steps: int) -> None:
    compiled = _check("LSTM", _layer("LSTM", 4, steps, 1, 64, 128, 1, np.float16), 3, 2e-3, hidden_size=128)
    assert "known_cluster_size" in compiled.gpu and "kept = true" in compiled.task and "scf.for" not in compiled.task.partition("@main")[2]


@pytest.mark.parametrize(("op", "gates", "outputs"), [("LSTM", 4, 3), ("GRU", 3, 2), ("RNN", 1, 2)])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("batch", "hidden"), [(1, 64), (3, 40), (16, 64)])
def test_recurrent_layers(op: str, gates: int, outputs: int, direction: str, batch: int, hidden: int) -> None:
    feeds = _layer(op, gates, 5, batch, 32, hidden, 1 + (direction == "bidirectional"), np.float16)
    compiled = _check(op, feeds, outputs, 4e-3, hidden_size=hidden, direction=direction)
    assert any(name.startswith("loop") for name in compiled.kernels)


@pytest.mark.parametrize("target", ["cuda:sm_80", "rocm:gfx942", "rocm:gfx1100"])
def test_without_clusters_a_loop_is_one_block_or_launches(target: str) -> None:
    compiled = _check("LSTM", _layer("LSTM", 4, 6, 1, 16, 16, 1, np.float32), 3, 1e-5, target, hidden_size=16)
    assert "known_cluster_size" not in compiled.gpu
