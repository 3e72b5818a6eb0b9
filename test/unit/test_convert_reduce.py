"""Reductions, scans, softmax, normalisations, images, signals and losses against numpy and onnxruntime, on larger and asymmetric shapes."""

from functools import partial

import ml_dtypes
import numpy as np
import pytest
from arrays import normal
from graph_run import run
from onnx_run import against_onnxruntime, node_model, run_model

from mlc.dialects import graph

RNG = np.random.default_rng(11)
data = partial(normal, RNG)


@pytest.mark.parametrize("kind", ["Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp"])
@pytest.mark.parametrize("axes", [[0, 2], [-1], None])
def test_reduce(kind, axes):
    for dtype in (np.float32, np.int32):
        if dtype == np.int32 and kind in ("L2", "LogSumExp"):
            continue
        x = data(3, 5, 7) if dtype == np.float32 else RNG.integers(-4, 5, (3, 5, 7)).astype(dtype)
        against_onnxruntime(f"Reduce{kind}", {"x": x, "axes": None if axes is None else np.array(axes)}, weights=("axes",), keepdims=0)


def test_reduce_of_narrow_floats_does_not_overflow_inside():
    x = np.full((3, 400), 30, np.float16)
    y, z = run(lambda x: [graph.reduce(x, kind="l2", axes=[1]), graph.reduce(x, kind="mean", axes=[1])], x)
    np.testing.assert_allclose(y, 600)
    np.testing.assert_allclose(z, 30)


def test_log_sum_exp_of_extremes():
    x = np.array([[1000, 1000], [-1000, -1001], [-np.inf, -np.inf], [np.inf, 0]], np.float32)
    (y,) = run(lambda x: graph.reduce(x, kind="log_sum_exp", axes=[1]), x)
    np.testing.assert_allclose(y, np.logaddexp(x[:, 0], x[:, 1]))


def test_reductions_of_nothing():
    x = np.zeros((3, 0, 2), np.float32)
    found = run(lambda x: [graph.reduce(x, kind=k, axes=[1]) for k in ("sum", "prod", "max", "min", "mean", "log_sum_exp")], x)
    for y, expected in zip(found, (0, 1, -np.inf, np.inf, np.nan, -np.inf)):
        np.testing.assert_array_equal(y, np.full((3, 2), expected))
    (y,) = run(lambda x: graph.reduce(x, kind="max", axes=[0]), np.zeros((0, 2), np.bool_))
    np.testing.assert_array_equal(y, [False, False])


def test_max_of_bool_and_nan():
    x = RNG.integers(0, 2, (4, 5)).astype(bool)
    f = data(3, 4)
    f[1, 2] = np.nan
    y, z, m = run(lambda x, f: [graph.reduce(x, kind="max", axes=[1]), graph.reduce(x, kind="min", axes=[0]),
                                graph.reduce(f, kind="max", axes=[1])], x, f)
    np.testing.assert_array_equal(y, x.any(1))
    np.testing.assert_array_equal(z, x.all(0))
    np.testing.assert_array_equal(m, f.max(1))


@pytest.mark.parametrize("kind", ["max", "min"])
def test_arg(kind):
    x = RNG.integers(0, 4, (5, 9)).astype(np.float32)
    x[3, [4, 6]] = np.nan
    first, last, number = run(lambda x, i: [graph.arg(x, kind=kind, axis=1), graph.arg(x, kind=kind, axis=1, last=True, keepdims=True),
                                            graph.arg(i, kind=kind, axis=0)], x, x[:3].astype(np.int8))
    fn = np.argmax if kind == "max" else np.argmin
    np.testing.assert_array_equal(first, fn(x, 1))
    np.testing.assert_array_equal(last[:, 0], 8 - fn(x[:, ::-1], 1))
    np.testing.assert_array_equal(number, fn(x[:3], 0))


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_scan(exclusive, reverse):
    for x in (data(3, 17, 5), RNG.integers(-9, 9, (3, 17, 5))):
        against_onnxruntime("CumSum", {"x": x, "axis": np.array(1)}, weights=("axis",), exclusive=exclusive, reverse=reverse)
    (y,) = run(lambda x: graph.scan(x, kind="prod", axis=0), x := data(4, 3))
    np.testing.assert_allclose(y, np.cumprod(x, 0), rtol=1e-6)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize(("opset", "axis"), [(11, 1), (11, 0), (11, 2), (13, 1), (13, -1), (13, 0)])
def test_softmax(op, opset, axis):
    against_onnxruntime(op, {"x": data(3, 6, 7) * 4}, opset=opset, axis=axis)


def test_softmax_of_narrow_floats():
    for dtype in (np.float16, ml_dtypes.bfloat16):
        x = (data(5, 33) * 5).astype(dtype)
        (y,) = run(lambda x: graph.softmax(x, axis=1), x)
        e = np.exp(x.astype(np.float64) - x.astype(np.float64).max(1, keepdims=True))
        np.testing.assert_allclose(y.astype(np.float64), e / e.sum(1, keepdims=True), rtol=1e-3 if dtype == np.float16 else 8e-3, atol=1e-6)


# Normalisations


def test_layer_norm_far_from_zero():
    x = data(4, 6, 50) + 1000
    against_onnxruntime("LayerNormalization", {"x": x, "s": data(50), "b": data(50)}, 3, axis=-1, epsilon=1e-3, rtol=1e-3, atol=1e-3)
    (y,) = run(lambda x: graph.layer_norm(x, axis=1, eps=1e-5), x)
    z = x.astype(np.float64)
    np.testing.assert_allclose(y, (z - z.mean((1, 2), keepdims=True)) / np.sqrt(z.var((1, 2), keepdims=True) + 1e-5), atol=1e-3)


def test_batch_norm():
    inputs = {"x": data(3, 5, 4, 6), "s": data(5), "b": data(5), "m": data(5), "v": np.abs(data(5)) + 0.1}
    against_onnxruntime("BatchNormalization", inputs, weights=("s", "b", "m", "v"))
    against_onnxruntime("BatchNormalization", inputs, 3, training_mode=1, momentum=0.7)


@pytest.mark.parametrize(("op", "inputs", "attributes"), [
    ("InstanceNormalization", {"x": (2, 6, 5, 7), "s": (6,), "b": (6,)}, {}),
    ("GroupNormalization", {"x": (2, 6, 5, 7), "s": (6,), "b": (6,)}, {"num_groups": 3}),
    ("LpNormalization", {"x": (3, 5, 7)}, {"axis": 1, "p": 1}),
    ("LRN", {"x": (2, 9, 3, 4)}, {"size": 5, "alpha": 0.3, "beta": 0.6, "bias": 1.5}),
    ("MeanVarianceNormalization", {"x": (3, 4, 5, 6)}, {}),
    ("SkipLayerNormalization", {"x": (2, 5, 8), "k": (2, 5, 8), "s": (8,), "b": (8,), "c": (8,)}, {"domain": "com.microsoft"}),
    ("SkipSimplifiedLayerNormalization", {"x": (2, 5, 8), "k": (2, 5, 8), "s": (8,), "c": (8,)}, {"domain": "com.microsoft"}),
])
def test_normalisation(op, inputs, attributes):
    against_onnxruntime(op, {name: data(*shape) for name, shape in inputs.items()}, **attributes)


def test_skip_outputs():
    inputs = {name: data(*shape) for name, shape in {"x": (2, 5, 8), "k": (2, 5, 8), "s": (8,), "b": (8,)}.items()}
    model = node_model("SkipLayerNormalization", inputs, 4, domain="com.microsoft")
    model.graph.node[0].output[1:3] = ["", ""]
    del model.graph.output[1:3]
    found = run_model(model, inputs)
    np.testing.assert_allclose(found[1], inputs["x"] + inputs["k"], rtol=1e-6)


def test_embed_layer_norm():
    ids = RNG.integers(0, 20, (2, 5)).astype(np.int32)
    inputs = {"ids": ids, "segments": (ids % 2).astype(np.int32), "words": data(20, 8), "places": data(9, 8), "kinds": data(2, 8),
              "g": data(8), "b": data(8), "mask": (ids > 3).astype(np.int32)}
    against_onnxruntime("EmbedLayerNormalization", inputs, 2, domain="com.microsoft")


# Images, signals, losses


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(("coordinates", "size"), [("half_pixel", (13, 6)), ("align_corners", (5, 18)), ("asymmetric", (14, 27)),
                                                   ("pytorch_half_pixel", (1, 20))])
def test_resize(mode, coordinates, size):
    against_onnxruntime("Resize", {"x": data(2, 3, 7, 9), "roi": None, "scales": None, "sizes": np.array([2, 3, *size])}, mode=mode,
                        coordinate_transformation_mode=coordinates, weights=("sizes",), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_resize_antialias(mode):
    x = data(1, 2, 17, 23)
    against_onnxruntime("Resize", {"x": x, "roi": None, "scales": np.array([1, 1, 0.4, 0.3], np.float32)}, mode=mode, antialias=1,
                        exclude_outside=1, weights=("scales",), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("aligned", [0, 1])
def test_grid_sample(mode, padding, aligned):
    grid = RNG.uniform(-1.6, 1.6, (2, 5, 6, 2)).astype(np.float32)
    against_onnxruntime("GridSample", {"x": data(2, 3, 7, 9), "grid": grid}, mode=mode, padding_mode=padding, align_corners=aligned,
                        opset=20, rtol=1e-3, atol=1e-4)


def test_regions():
    rois = np.array([[0, 0, 5, 6], [2, 3, 11, 9], [1, 1, 1.5, 1.2]], np.float32)
    for sampling in (0, 2):
        against_onnxruntime("RoiAlign", {"x": data(2, 3, 10, 12), "rois": rois, "batch": np.array([0, 1, 1])}, output_height=3,
                            output_width=4, sampling_ratio=sampling, spatial_scale=0.8)
    boxes = np.concatenate([np.array([[0], [1], [1]], np.float32), rois], 1)
    against_onnxruntime("MaxRoiPool", {"x": data(2, 3, 10, 12), "rois": boxes}, pooled_shape=[3, 2], spatial_scale=0.8)


def test_deform_conv():
    inputs = {"x": data(2, 6, 8, 9), "w": data(4, 3, 3, 2), "o": data(2, 24, 4, 6), "b": data(4), "m": data(2, 12, 4, 6)}
    against_onnxruntime("DeformConv", inputs, group=2, offset_group=2, strides=[2, 2], pads=[1, 1, 1, 2], opset=19)


@pytest.mark.parametrize("n", [30, 300, 1024])
@pytest.mark.parametrize("inverse", [0, 1])
def test_dft(n, inverse):
    x = data(2, n, 2)
    (y,) = run_model(node_model("DFT", {"x": x}, inverse=inverse, opset=20), {"x": x})
    z = (np.fft.ifft if inverse else np.fft.fft)(x[..., 0].astype(np.float64) + 1j * x[..., 1], axis=1)
    np.testing.assert_allclose(y, np.stack([z.real, z.imag], -1), atol=2e-4 if not inverse else 1e-5)


@pytest.mark.parametrize("n", [16, 400])
def test_stft(n):
    x, window = data(2, 1200, 1), np.hanning(n).astype(np.float32)
    model = node_model("STFT", {"x": x, "step": np.array(7 * n // 16), "w": window}, weights=("step", "w"))
    (y,) = run_model(model, {"x": x})
    step, x = 7 * n // 16, x[..., 0].astype(np.float64)
    z = np.stack([np.fft.rfft(x[:, s:s + n] * window) for s in range(0, 1200 - n + 1, step)], 1)
    np.testing.assert_allclose(y, np.stack([z.real, z.imag], -1), atol=1e-4)


def test_losses():
    x, target = data(3, 5, 4, 2), RNG.integers(0, 5, (3, 4, 2))
    for reduction in ("none", "sum", "mean"):
        for weight in (None, np.abs(data(5))):
            against_onnxruntime("SoftmaxCrossEntropyLoss", {"x": x, "t": target, "w": weight}, 2, reduction=reduction, ignore_index=2)


def test_determinant():
    x = data(4, 5, 5)
    x[2, 1] = x[2, 0]
    against_onnxruntime("Det", {"x": x})
