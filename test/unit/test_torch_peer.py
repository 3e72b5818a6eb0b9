"""PyTorch as a peer: each op it has words for computes what ONNX Runtime computes. Skipped without PyTorch."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlc.cli.jobs.torch_peer import TorchPeer
from mlc.errors import UnsupportedError

pytest.importorskip("torch")
ort = pytest.importorskip("onnxruntime")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 4, 9, 7)).astype(np.float32)
W = RNG.standard_normal((6, 2, 3, 3)).astype(np.float32)
LSTM = tuple(RNG.standard_normal(shape).astype(np.float32) for shape in ((2, 12, 5), (2, 12, 3), (2, 24)))


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def f32(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


CASES: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("AveragePool", [X], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("AveragePool", [X], {"kernel_shape": [3, 3], "pads": [0, 1, 1, 0], "count_include_pad": 1}),
    ("MaxPool", [X], {"kernel_shape": [3, 3], "auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ("MaxPool", [X], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("Conv", [X, W], {"group": 2, "pads": [0, 1, 2, 1], "strides": [2, 1], "dilations": [1, 2]}),
    ("Conv", [X, W, f32(6)], {"group": 2, "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Slice", [X, i64(-1, 5), i64(-100, 1), i64(2, 3), i64(-2, -1)], {}),
    ("Slice", [X, i64(1), i64(2**62), i64(-1)], {}),
    ("Pad", [X, i64(1, 2), np.float32(3), i64(-1)], {}),
    ("Pad", [X, i64(0, 0, 1, 2, 0, 0, 2, 0)], {"mode": "reflect"}),
    ("ReduceMean", [X, i64(2, 3)], {"keepdims": 0}),
    ("ReduceSum", [X], {}),
    ("ReduceL2", [X, i64(-1)], {}),
    ("Split", [X, i64(1, 3)], {"axis": 1}),
    ("Split", [X], {"axis": 2, "num_outputs": 2}),
    ("Softmax", [X], {"axis": 1}),
    ("Clip", [X, np.float32(-0.5), np.float32(0.5)], {}),
    ("Gemm", [X[0, 0], f32(5, 7), f32(5)], {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    ("DepthToSpace", [X], {"blocksize": 2}),
    ("DepthToSpace", [X], {"blocksize": 2, "mode": "CRD"}),
    ("Gather", [X, np.array([[0, -1]])], {"axis": 2}),
    ("GatherND", [X, np.array([[0, -1], [1, 2]])], {}),
    ("ScatterND", [X, np.array([[0, -1], [1, 2]]), f32(2, 9, 7)], {}),
    ("LayerNormalization", [X, f32(9, 7)], {"axis": 2}),
    ("InstanceNormalization", [X, f32(4), f32(4)], {}),
    ("Squeeze", [X[:, :1]], {}),
    ("Unsqueeze", [X, i64(-1, 0)], {}),
    ("Reshape", [X, i64(0, -1, 7)], {}),
    ("Expand", [X, i64(3, 1, 1, 1, 1)], {}),
    ("Flatten", [X], {"axis": 0}),
    ("Trilu", [X, np.int64(1)], {}),
    ("Tile", [X, i64(1, 2, 1, 1)], {}),
    ("Gelu", [X], {"approximate": "tanh"}),
    ("LSTM", [RNG.standard_normal((4, 2, 5)).astype(np.float32), *LSTM], {"hidden_size": 3, "direction": "bidirectional"}),
]


def save(path: Path, op: str, values: list[Any], outputs: int, attributes: dict[str, Any], fixed: bool = True) -> str:
    names = [f"x{i}" for i in range(len(values))]
    inputs = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(np.asarray(v).dtype), np.asarray(v).shape)
              for n, v in zip(names, values)]
    weights = [numpy_helper.from_array(np.asarray(v), n) for n, v in zip(names[1:], values[1:])] if fixed else []
    results = [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, None) for i in range(outputs)]
    node = helper.make_node(op, names, [r.name for r in results], **attributes)
    graph = helper.make_graph([node], "g", inputs[:1] if fixed else inputs, results, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return str(path)


@pytest.mark.parametrize(("op", "values", "attributes"), CASES)
def test_ops(tmp_path: Path, op: str, values: list[Any], attributes: dict[str, Any]) -> None:
    path = save(tmp_path / "m.onnx", op, values, {"Split": 2, "LSTM": 3}.get(op, 1), attributes)
    expected = ort.InferenceSession(path).run(None, {"x0": values[0]})
    found = TorchPeer(path, {"x0": values[0]}, on_gpu=False).run()
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(b.numpy(), a, atol=1e-5)


def test_what_depends_on_the_inputs_is_refused(tmp_path: Path) -> None:
    values = [X, i64(0, -1, 7)]
    path = save(tmp_path / "m.onnx", "Reshape", values, 1, {}, fixed=False)
    with pytest.raises(UnsupportedError, match="'x1' of node .* depends on the model's inputs"):
        TorchPeer(path, {"x0": X, "x1": values[1]}, on_gpu=False)


def test_unknown_ops_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", "NonZero", [X], 1, {})
    with pytest.raises(UnsupportedError, match="does not know ai.onnx::NonZero"):
        TorchPeer(path, {"x0": X}, on_gpu=False)
