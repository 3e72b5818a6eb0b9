"""The nine networks in the onnx wheel, with random instead of constant weights, against ONNX Runtime."""

from math import prod, sqrt
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

import mlc

onnxruntime = pytest.importorskip("onnxruntime")

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NAMES = ("bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet", "vgg19", "zfnet512")
TOLERANCE = 1e-3  # of the output's scale: sums of up to 25088 products in another order
LOGIT = 4.0  # what softmax gets: large enough that classes differ, small enough that it does not saturate


def _draw(rng: np.random.Generator, shape: tuple[int, ...], reader: str, position: int) -> np.ndarray:
    """Weights that keep activations near unit scale through the network. reader: the op that reads them, as its input `position`."""
    if reader in ("Conv", "Gemm") and position == 1:
        fan_in = prod(shape[1:])
        return rng.standard_normal(shape, np.float32) * np.float32(sqrt(2 / fan_in))
    if (reader, position) in (("BatchNormalization", 1), ("BatchNormalization", 4), ("Mul", 1)):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)  # scales and variances
    return rng.standard_normal(shape, np.float32) * np.float32(0.1)


def randomised(name: str) -> ModelProto:
    """The light model, whose weights are constants (so that all channels are equal), with seeded random weights as initializers."""
    model = onnx.load(LIGHT / f"light_{name}.onnx")
    graph, rng = model.graph, np.random.default_rng(0)
    shapes = {t.name: tuple(t.dims) for t in graph.initializer if t.data_type == TensorProto.FLOAT}
    sizes = {t.name: tuple(numpy_helper.to_array(t)) for t in graph.initializer if t.data_type == TensorProto.INT64}
    shapes |= {n.output[0]: sizes[n.input[0]] for n in graph.node if n.op_type == "ConstantOfShape"}
    readers: dict[str, tuple[str, int]] = {}
    for node in reversed(graph.node):
        if node.op_type == "Unsqueeze":  # of a vector for a Mul or Add: seen through
            readers[node.input[0]] = readers[node.output[0]]
        else:
            readers |= {name: (node.op_type, i) for i, name in enumerate(node.input)}
    kept = [n for n in graph.node if n.op_type != "ConstantOfShape"]
    used = {name for n in kept for name in n.input}
    integers = [t for t in graph.initializer if t.data_type != TensorProto.FLOAT and t.name in used]
    drawn = [numpy_helper.from_array(_draw(rng, shape, *readers[name]), name) for name, shape in shapes.items() if name in readers]
    inputs = [i for i in graph.input if i.name in used and i.name not in shapes and i.name not in sizes]  # initializers are listed too
    del graph.node[:], graph.initializer[:], graph.input[:]
    graph.node.extend(kept)
    graph.initializer.extend([*integers, *drawn])
    graph.input.extend(inputs)
    return model


def _calibrate(model: ModelProto, feeds: dict[str, np.ndarray]) -> None:
    """Scales the last weights so that softmax sees logits of size LOGIT."""
    last = model.graph.node[-1]
    if last.op_type != "Softmax":
        return
    probe = ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.add(name=last.input[0])
    (logits,) = _session(probe.SerializeToString()).run(None, feeds)
    weighted = next(n for n in reversed(model.graph.node) if n.op_type in ("Conv", "Gemm"))
    for tensor in model.graph.initializer:
        if tensor.name in weighted.input:
            array = numpy_helper.to_array(tensor) * np.float32(LOGIT / abs(logits).max())
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _session(model: bytes | str) -> "onnxruntime.InferenceSession":
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", NAMES)
def test_light(name: str, tmp_path: Path) -> None:
    model = randomised(name)
    (data,) = model.graph.input
    shape = [d.dim_value for d in data.type.tensor_type.shape.dim]
    feeds = {data.name: np.random.default_rng(1).standard_normal(shape, np.float32)}
    _calibrate(model, feeds)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    del model
    (expected,) = _session(str(path)).run(None, feeds)
    (found,) = mlc.compile(path, cache=False, progress=False)(*feeds.values())
    path.unlink()  # up to 550 MB
    assert found.shape == expected.shape and found.dtype == expected.dtype
    scale = abs(expected).max()
    assert expected.std() > 1e-3 * scale  # the classes differ, or the test would say little
    assert abs(found - expected).max() <= TOLERANCE * scale
    assert found.argmax() == expected.argmax()
