"""Convolutions over few channels: their windows become rows, which matrix units read like any other factor."""

import re
from typing import Any

import numpy as np
import pytest
from gpu_native import Simulated, compile_gpu, compile_gpu_model
from onnx import TensorProto, helper, numpy_helper
from test_gpu_warpgroups import agrees, halves, on_warpgroups

from mlc.dialects import graph
from mlc.layout.linear import Linear
from mlc.passes.gpu.hopper.operand import Boxes, Side
from mlc.passes.tile import window_rows

CASES = {  # batch, channels, size, results, kernel, strides, padding, dilations
    "an image network's first": (2, 3, (32, 224), 64, (7, 7), (2, 2), 3, (1, 1)),
    "few results": (2, 3, (33, 130), 24, (3, 3), (2, 2), 1, (1, 1)),
    "windows side by side": (2, 3, (32, 64), 40, (3, 3), (1, 1), 1, (1, 1)),
    "one channel": (2, 1, (36, 140), 32, (5, 5), (2, 2), 0, (1, 1)),
    "five channels, strides that differ": (1, 5, (41, 113), 48, (5, 7), (2, 3), 1, (1, 1)),
    "lines apart": (2, 3, (40, 64), 32, (3, 3), (2, 2), 2, (2, 1)),
    "one line": (2, 3, (8, 260), 64, (1, 9), (1, 4), 0, (1, 1)),
    "signals": (2, 3, (4096,), 64, (25,), (2,), 12, (1,)),
    "volumes": (1, 3, (6, 20, 66), 32, (3, 3, 3), (1, 2, 2), 1, (1, 1, 1)),
}


def convolution(x: np.ndarray, w: np.ndarray, strides: tuple[int, ...], padding: int, dilations: tuple[int, ...]) -> np.ndarray:
    rank = x.ndim - 2
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *[(padding, padding)] * rank])
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, w.shape[2:])]
    windows = np.lib.stride_tricks.sliding_window_view(x, reach, axis=tuple(range(2, 2 + rank)))
    windows = windows[(slice(None), slice(None), *(slice(None, None, s) for s in strides), *(slice(None, None, d) for d in dilations))]
    return np.moveaxis(np.tensordot(windows, w.astype(np.float64), ((1, *range(2 + rank, 2 + 2 * rank)), (1, *range(2, 2 + rank)))), -1, 1)


def compiled(x: np.ndarray, w: np.ndarray, strides: tuple[int, ...], padding: int, dilations: tuple[int, ...],
             target: str = "cuda:sm_90a") -> Simulated:
    pads = [0, 0, *[padding] * (x.ndim - 2)]

    def build(x: Any, w: Any) -> Any:
        x = graph.pad(x, low=pads, high=pads) if padding else x
        return graph.elementwise("relu", graph.conv(x, w, strides=list(strides), dilations=list(dilations)))

    return compile_gpu(build, x, w, target=target, graph_passes="choose-layout,simplify,mlc-dce")


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prices that favour rows: what is new has four operations."""
    monkeypatch.setattr(window_rows, "_price", lambda graphs, pricer: -float(len(graphs)))


def checked(name: str, target: str = "cuda:sm_90a") -> Simulated:
    n, c, size, m, kernel, strides, padding, dilations = CASES[name]
    x, w = halves(n, c, *size), halves(m, c, *kernel, seed=1)
    simulated = compiled(x, w, strides, padding, dilations, target)
    agrees(simulated(x, w)[0], np.maximum(convolution(x, w, strides, padding, dilations), 0))
    return simulated


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("name", CASES)
def test_rows_of_any_window(name: str) -> None:
    """One reduction loop walks taps and channels."""
    (extents,) = re.findall(r'"task.mma".*?extents = \[([^\]]*)\]', checked(name).task)
    _, channels, size, _, kernel, *_ = CASES[name]
    *_, row, once = map(int, extents.split(", "))
    assert once == 1 and row % kernel[-1] == 0 and row // kernel[-1] >= channels
    assert len(extents.split(", ")) == 3 + len(size) + len(kernel) - kernel.count(1)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("target", ["cuda:sm_80", "rocm:gfx942"])
def test_on_other_units(target: str) -> None:
    checked("an image network's first", target)


def test_warpgroups_read_overlapping_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a weight, whose copy costs nothing, and were sectors no matter; TMA brings a line of windows at once."""
    monkeypatch.setattr(Boxes, "between_sectors", False)
    x, w = halves(1, 3, 224, 224), halves(64, 3, 7, 7, seed=1)
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2], pads=[3] * 4)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, shape) for name, shape in (("x", x.shape), ("y", (1, 64, 112, 112)))]
    made = helper.make_graph([node], "first", values[:1], values[1:], [numpy_helper.from_array(w, "w")])
    simulated = compile_gpu_model(helper.make_model(made))
    assert on_warpgroups(simulated)
    agrees(simulated(x)[0], convolution(x, w, (2, 2), 3, (1, 1)))


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("name", ["an image network's first", "few results"])
def test_what_lies_beside_a_window_is_not_multiplied(name: str) -> None:
    """Not even by zero: it may be infinite."""
    n, c, size, m, kernel, strides, padding, dilations = CASES[name]
    x, w = np.abs(halves(n, c, *size)), np.abs(halves(m, c, *kernel, seed=1))
    x[0, 1, 10, 60:120:7] = np.inf
    found = compiled(x, w, strides, padding, dilations)(x, w)[0]
    expected = convolution(x, w, strides, padding, dilations)
    assert np.isinf(expected).any() and (np.isinf(found) == np.isinf(expected)).all() and not np.isnan(found).any()


def test_overlapping_windows_are_a_dimension_of_the_map() -> None:
    place = Linear((0, 8, 1), 16)
    side = Side((5, 920), "f16", (Linear((1, 0, 0)), place))
    found = side.windows(2, 32)
    assert found is not None
    assert found.shape == (5, 112, 32) and found.steps == (920, 8, 1)
    assert found.places[1:] == (Linear((0, 1, 0), 2), Linear((0, 0, 1)))
    assert side.windows(1, 112) is None  # no window: its loop goes by steps
    assert Side((5, 920), "f16", (Linear((1, 0, 0)), Linear((0, 6, 1)))).windows(2, 32) is None  # begins between pieces
