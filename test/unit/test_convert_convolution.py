"""Convolutions, pooling and products of sums against onnxruntime and numpy: asymmetric shapes, every way of padding."""

from functools import partial

import ml_dtypes
import numpy as np
import pytest
from arrays import normal
from harness import run_graph
from onnx_run import against_onnxruntime, node_model, run_model

from mlc.dialects import graph
from mlc.frontend.onnx.ops.contraction import einsum_of, parse_equation

RNG = np.random.default_rng(3)
data = partial(normal, RNG)


@pytest.mark.parametrize(("spatial", "kernel", "groups", "attributes"), [
    ((17,), (4,), 1, {"strides": [3], "pads": [2, 1], "dilations": [2]}),
    ((9, 13), (3, 5), 1, {"strides": [2, 3], "pads": [1, 0, 2, 4]}),
    ((9, 13), (3, 4), 2, {"auto_pad": "SAME_UPPER", "strides": [2, 1]}),
    ((9, 13), (2, 4), 2, {"auto_pad": "SAME_LOWER", "strides": [2, 3]}),
    ((9, 13), (3, 1), 6, {"auto_pad": "VALID"}),
    ((9, 13), (1, 1), 6, {}),
    ((5, 6, 7), (2, 1, 3), 3, {"strides": [1, 2, 2], "pads": [1, 0, 1, 0, 1, 2]}),
])
def test_conv(spatial, kernel, groups, attributes):
    inputs = {"x": data(2, 6, *spatial), "w": data(12, 6 // groups, *kernel), "b": data(12)}
    against_onnxruntime("Conv", inputs, group=groups, weights=("b",), **attributes)


@pytest.mark.parametrize(("spatial", "kernel", "groups", "attributes"), [
    ((7,), (4,), 1, {"strides": [2], "pads": [1, 1]}),
    ((7,), (3,), 2, {"strides": [2], "pads": [1, 1], "output_padding": [1]}),
    ((7,), (5,), 1, {"strides": [3], "pads": [2, 1]}),
    ((7,), (2,), 1, {"strides": [5], "output_padding": [2]}),
    ((4, 6), (3, 4), 1, {"strides": [1, 2], "pads": [2, 0, 1, 3], "dilations": [2, 1]}),
    ((4, 6), (3, 3), 3, {"strides": [2, 3], "dilations": [3, 2]}),
    ((4, 6), (3, 3), 1, {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ((4, 6), (2, 3), 1, {"strides": [2, 3], "output_shape": [7, 16]}),
    ((3, 4, 5), (2, 3, 2), 6, {"strides": [2, 1, 3]}),
])
def test_conv_transpose(spatial, kernel, groups, attributes):
    inputs = {"x": data(2, 6, *spatial), "w": data(6, 4, *kernel), "b": data(4 * groups)}
    against_onnxruntime("ConvTranspose", inputs, group=groups, **attributes)


def test_nhwc_is_nchw():
    x, w, v = data(2, 6, 9, 13), data(12, 3, 3, 4), data(6, 4, 3, 5)

    def build(x, w, v):
        last = graph.transpose(x, perm=[0, 2, 3, 1])
        one = graph.conv(last, graph.transpose(w, perm=[2, 3, 1, 0]), strides=[2, 1], dilations=[1, 2], groups=2, layout="nhwc")
        up = {"strides": [2, 3], "dilations": [1, 1], "pads": [1, 2], "size": [17, 39], "groups": 3}
        two = graph.conv_transpose(last, graph.transpose(v, perm=[2, 3, 0, 1]), **up, layout="nhwc")
        return [graph.transpose(one, perm=[0, 3, 1, 2]), graph.conv(x, w, strides=[2, 1], dilations=[1, 2], groups=2),
                graph.transpose(two, perm=[0, 3, 1, 2]), graph.conv_transpose(x, v, **up)]

    a, b, c, d = run_graph(build, x, w, v)
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(c, d, rtol=1e-5, atol=1e-5)


def test_fused_conv():
    inputs = {"x": data(1, 4, 6, 7), "w": data(5, 4, 3, 3), "b": data(5), "z": data(1, 5, 6, 7)}
    against_onnxruntime("FusedConv", inputs, domain="com.microsoft", pads=[1, 1, 1, 1], activation="Relu")


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize(("kernel", "attributes"), [
    ((3, 2), {"strides": [2, 3], "pads": [1, 0, 2, 1]}),
    ((3, 3), {"strides": [2, 2], "ceil_mode": 1}),
    ((3, 4), {"strides": [3, 2], "ceil_mode": 1, "pads": [1, 2, 1, 1]}),
    ((2, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ((3, 2), {"dilations": [2, 3], "pads": [1, 1, 1, 1]}),
    ((3, 3), {"strides": [2, 2], "ceil_mode": 1, "pads": [1, 1, 1, 1], "count_include_pad": 1}),
])
def test_pool(op, kernel, attributes):
    attributes = {k: v for k, v in attributes.items() if op == "AveragePool" or k != "count_include_pad"}
    if op == "LpPool":
        attributes["p"] = 3
    against_onnxruntime(op, {"x": data(2, 3, 10, 11)}, kernel_shape=kernel, opset=22 if op == "LpPool" else 21, **attributes)


@pytest.mark.parametrize("storage_order", [0, 1])
def test_max_pool_indices(storage_order):
    attributes = {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 1, 1, 0]}
    against_onnxruntime("MaxPool", {"x": data(2, 3, 7, 9)}, 2, storage_order=storage_order, **attributes)
    against_onnxruntime("MaxPool", {"x": RNG.integers(-128, 127, (1, 2, 6, 8)).astype(np.int8)}, kernel_shape=[3, 3], pads=[1, 1, 1, 1])


@pytest.mark.parametrize(("a", "b"), [((4, 5), (5, 3)), ((5,), (2, 5, 3)), ((2, 4, 5), (5,)), ((5,), (5,)), ((3, 1, 4, 5), (2, 5, 6))])
def test_matmul(a, b):
    against_onnxruntime("MatMul", {"a": data(*a), "b": data(*b)})
    x, y = RNG.integers(-99, 99, a), RNG.integers(-99, 99, b)
    (z,) = run_model(node_model("MatMul", {"a": x, "b": y}), {"a": x, "b": y})
    np.testing.assert_array_equal(z, x @ y)


def test_matmul_accumulates_in_f32():
    for dtype in (np.float16, ml_dtypes.bfloat16):
        a, b = (data(8, 2048) + 0.5).astype(dtype), (data(2048, 4) + 0.5).astype(dtype)
        (y,) = run_graph(graph.matmul, a, b)
        expected = a.astype(np.float64) @ b.astype(np.float64)
        np.testing.assert_allclose(y.astype(np.float64), expected, rtol=1e-3 if dtype == np.float16 else 8e-3)


@pytest.mark.parametrize("c", [(), (1,), (6,), (4, 1), (4, 6), None])
def test_gemm(c):
    inputs = {"a": data(5, 4), "b": data(6, 5), "c": None if c is None else data(*c)}
    against_onnxruntime("Gemm", inputs, alpha=0.35, beta=-1.7, transA=1, transB=1)


@pytest.mark.parametrize("equation", ["ij,jk->ik", "ij,jk", "bij , bkj", "...ij,...jk->...ik", "ii->i", "ii", "i,j->ij", "...i->...",
                                      "ij->ji", "i...->...", "abc,cd,dae->be", "a,b,c,d->dcba", "ij,ij->", "bhwc,hkc->bhwk", "...a,...a"])
def test_einsum(equation):
    sizes = dict(zip("abcdehijkw", (2, 3, 4, 5, 6, 3, 4, 4, 5, 2)))
    operands = []
    for i, term in enumerate(equation.replace(" ", "").split("->")[0].split(",")):
        letters = term.replace("...", "")
        lead = ((3, 2), (1, 2), (2,))[i] if "..." in term else ()
        body = tuple(sizes[c] for c in letters)
        operands.append(data(*lead, *body) if term.startswith("...") else data(*body, *lead))
    terms, result = parse_equation(equation, [x.ndim for x in operands])
    (y,) = run_graph(lambda *xs: einsum_of(xs, terms, result), *operands)
    np.testing.assert_allclose(y, np.einsum(equation, *[x.astype(np.float64) for x in operands]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("equation", ["ij,jk->il", "ij,jk->ii", "ij->ijk", "i1->i", "ij"])
def test_wrong_equations(equation):
    with pytest.raises(ValueError, match="equation"):
        parse_equation(equation, [3] if equation == "ij" else [2] * equation.split("->")[0].count(",") + [2])
