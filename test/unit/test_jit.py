"""mlc.jit: one compile per signature, values compiled in only where asked for, sequences and optionals; and the ONNX backend interface."""

import numpy as np
import onnx
import pytest
from onnx import helper, parser

import mlc
from mlc import onnx_backend
from mlc.errors import InputError


def model(text):
    return parser.parse_model(f'<ir_version: 8, opset_import: ["": 20]> {text}')


def jit(text):
    return mlc.jit(model(text), opt_level=1, threads=1, cache=False)


def test_compiles_through_the_cache():
    proto, x = model("g (float[n] x) => (float[n] y) { y = Neg(x) }"), np.float32([1, 2])
    for _ in range(2):
        np.testing.assert_array_equal(mlc.jit(proto, opt_level=1, threads=1)(x)[0], -x)


def test_compiles_once_per_shape():
    f = jit("g (float[n,m] x) => (float[n,m] y) { y = Add(x, x) }")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(f(x)[0], 2 * x)
    first = f.executable({"x": x})[0]
    assert f.executable({"x": x + 1})[0] is first
    assert f.executable({"x": x.T.copy()})[0] is not first
    assert not f.fixed


def test_learns_which_values_decide_shapes():
    f = jit("g (float[n,m] x, int64[k] s) => (float[] y) { y = Reshape(x, s) }")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for shape in ([3, 2], [6, 1], [-1]):
        np.testing.assert_array_equal(f(x, s=np.array(shape))[0], x.reshape(shape))
    assert f.fixed == {"s"}


def test_inputs_by_name_and_default():
    proto = model("g (float[2] x, float[2] w) => (float[2] y) { y = Mul(x, w) }")
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2, 3], np.float32), "w"))
    f, x = mlc.jit(proto, opt_level=1, threads=1, cache=False), np.array([1, 10], np.float32)
    np.testing.assert_array_equal(f(x=x)[0], [2, 30])
    np.testing.assert_array_equal(f.run({"x": x, "w": np.array([5, 7], np.float32)})["y"], [5, 70])
    with pytest.raises(InputError, match="missing"):
        f()
    with pytest.raises(InputError, match="no input 'q'"):
        f(x, q=x)


def test_sequences():
    f = jit("g (seq(float[n]) s) => (float[k] y) { y = ConcatFromSequence<axis = 0>(s) }")
    parts = [np.array([1, 2], np.float32), np.array([3], np.float32)]
    np.testing.assert_array_equal(f(parts)[0], [1, 2, 3])
    np.testing.assert_array_equal(f(parts[1:])[0], [3])


def test_onnx_backend():
    node = helper.make_node("Add", ["a", "b"], ["c"])
    a, b = np.ones((2, 3), np.float32), np.full(3, 2, np.float32)
    np.testing.assert_array_equal(onnx_backend.run_node(node, [a, b], opset_version=20, cache=False)[0], a + b)
    assert onnx_backend.supports_device("CPU")
    assert not onnx_backend.supports_device("CUDA")
    prepared = onnx_backend.prepare(model("g (float[n] x) => (float[n] y) { y = Neg(x) }"), cache=False)
    np.testing.assert_array_equal(prepared.run([b])[0], -b)
    np.testing.assert_array_equal(prepared.run({"x": b})[0], -b)
