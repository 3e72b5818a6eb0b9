"""Converters of moving, indexing, sorting and ai.onnx.ml ops through the whole compiler, against numpy, onnx.reference or ONNX Runtime."""

from functools import partial

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from arrays import integers
from onnx import helper, parser
from onnx.reference import ReferenceEvaluator

import mlc
from mlc.errors import MlcError, ModelError, ShapeError, UnsupportedError

RNG = np.random.default_rng(2)
data = partial(integers, RNG)


def model(text, opset=20, ml=4):
    return parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}, "ai.onnx.ml": {ml}, "com.microsoft": 1]> {text}')


def node_model(node, dtype, shape, outputs, ml_opset=3):
    """A model of one node on one input; outputs: (name, type code)."""
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", dtype, shape)],
                              [helper.make_tensor_value_info(name, code, None) for name, code in outputs])
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", ml_opset)])


def run(text, *inputs, opset=20):
    return mlc.jit(model(text, opset), opt_level=1, threads=1, cache=False)(*inputs)


def same(found, *expected):
    for a, z in zip(found, expected, strict=True):
        assert a.dtype == z.dtype
        assert a.shape == z.shape
        np.testing.assert_array_equal(a, z)


@pytest.mark.parametrize(("opset", "text"), [
    (1, "g (float[2,0,3] x) => (float[k] y) { y = Reshape<shape = [3, -1]>(x) }"),
    (13, "g (float[2,0,3] x, int64[2] s) => (float[m,n] y) { y = Reshape(x, s) }"),
])
def test_reshape_of_nothing(opset, text):
    found = run(text, *([data(2, 0, 3)] if opset == 1 else [data(2, 0, 3), np.array([3, -1])]), opset=opset)
    assert found[0].shape == (3, 0)


def test_reshape_zero_and_errors():
    text = "g (float[2,3,4] x, int64[k] s) => (float[] y) { y = Reshape(x, s) }"
    same(run(text, x := data(2, 3, 4), np.array([0, -1])), x.reshape(2, 12))
    for bad in ([5, -1], [-1, -1], [0, 0, 0, 0], [7]):
        with pytest.raises(MlcError):
            run(text, x, np.array(bad))
    with pytest.raises(ModelError, match="allowzero"):
        run("g (float[0,3] x, int64[2] s) => (float[] y) { y = Reshape<allowzero = 1>(x, s) }", data(0, 3), np.array([0, -1]))


def test_slice():
    x = data(7, 9)
    for start, end, step in ((1, 6, 2), (-1, -100, -1), (5, -100, -3), (100, 0, -2), (-3, 100, 1), (4, 4, 1), (-100, -100, -1)):
        text = "g (float[7,9] x, int64[1] s, int64[1] e, int64[1] a, int64[1] t) => (float[] y) { y = Slice(x, s, e, a, t) }"
        given = [x, *map(np.array, ([start], [end], [1], [step]))]
        expected = ReferenceEvaluator(model(text)).run(None, dict(zip("xseat", given, strict=True)))[0]
        if (start, end, step) == (-100, -100, -1):
            expected = x[:, :1]  # a start before the front is moved to it (numpy gives nothing)
        same(run(text, *given), expected)
    same(run("g (float[7,9] x) => (float[] y) { y = Slice<starts = [2, -4], ends = [-1, 1000]>(x) }", x, opset=9), x[2:-1, -4:])


def test_split():
    x = data(2, 7)
    text = "g (float[2,7] x) => (float[] a, float[] b, float[] c) { a, b, c = Split<axis = 1, num_outputs = 3>(x) }"
    same(run(text, x), x[:, :3], x[:, 3:6], x[:, 6:])
    same(run("g (float[2,7] x, int64[2] s) => (float[] a, float[] b) { a, b = Split<axis = -1>(x, s) }", x, np.array([0, 7])), x[:, :0], x)
    same(run("g (float[2,7] x) => (float[] a, float[] b) { a, b = Split<axis = 1, split = [2, 5]>(x) }", x, opset=11), x[:, :2], x[:, 2:])
    with pytest.raises(ShapeError):
        run("g (float[2,7] x) => (float[] a, float[] b) { a, b = Split<axis = 1>(x) }", x, opset=13)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_blocks(mode):
    x = data(2, 18, 3, 5)  # 2 channels out for a block of 3
    text = f'g (float[2,18,3,5] x) => (float[] y) {{ y = DepthToSpace<blocksize = 3, mode = "{mode}">(x) }}'
    same(run(text, x), ReferenceEvaluator(model(text)).run(None, {"x": x})[0])
    back = f'g (float[2,2,9,15] x) => (float[] y) {{ y = SpaceToDepth<blocksize = 3, mode = "{mode}">(x) }}'
    same(run(back, run(text, x)[0], opset=28), x)


@pytest.mark.parametrize(("mode", "opset"), [("constant", 2), ("reflect", 11), ("edge", 18), ("wrap", 19)])
def test_pad(mode, opset):
    x = data(3, 4, 5)
    if opset == 2:
        found = run("g (float[3,4,5] x) => (float[] y) { y = Pad<pads = [1, 0, 2, 0, -1, 1], value = 2.5>(x) }", x, opset=2)
        same(found, np.pad(x[:, :3], ((1, 0), (0, 0), (2, 1)), constant_values=2.5))
        return
    if opset == 11:
        text = 'g (float[3,4,5] x, int64[6] p) => (float[] y) { y = Pad<mode = "reflect">(x, p) }'
        found = run(text, x, np.array([2, 0, 3, 1, 3, 0]), opset=11)
        same(found, np.pad(x, ((2, 1), (0, 3), (3, 0)), "reflect"))
        return
    text = f'g (float[3,4,5] x, int64[4] p, int64[2] a) => (float[] y) {{ y = Pad<mode = "{mode}">(x, p, , a) }}'
    found = run(text, x, np.array([3, 4, 6, 1]), np.array([-1, 0]), opset=opset)
    same(found, np.pad(x, ((4, 1), (0, 0), (3, 6)), mode))


def test_pad_by_a_runtime_integer():
    x, v = data(2, 3, dtype=np.int64), np.array(2**60 + 1)
    same(run("g (int64[2,3] x, int64[4] p, int64 v) => (int64[] y) { y = Pad(x, p, v) }", x, np.array([0, 1, 1, 0]), v),
         np.pad(x, ((0, 1), (1, 0)), constant_values=v))


def test_expand_tile_transpose_concat():
    x = data(3, 1, 2)
    text = "g (float[3,1,2] x, int64[4] s) => (float[] y) { y = Expand(x, s) }"
    same(run(text, x, np.array([2, 1, 4, 1])), np.broadcast_to(x, (2, 3, 4, 2)))
    same(run("g (float[3,1,2] x, int64[3] r) => (float[] y) { y = Tile(x, r) }", x, np.array([2, 3, 0])), np.tile(x, (2, 3, 0)))
    same(run("g (float[3,1,2] x, int64[3] r) => (float[] y) { y = Tile(x, r) }", x, np.array([2, 3, 4])), np.tile(x, (2, 3, 4)))
    same(run("g (float[3,1,2] x) => (float[] y) { y = Transpose(x) }", x), x.T)
    text = "g (float[3,1,2] x, float[3,5,2] z, float[3,0,2] e) => (float[] y) { y = Concat<axis = -2>(z, e, x) }"
    same(run(text, x, z := data(3, 5, 2), data(3, 0, 2)), np.concatenate([z, x], 1))


def test_gather_by_known_indices():
    x = data(6, 4)
    for indices in (2, [1, 3, 5], [5, 4, 3], [[-1, -2]], [0, 0], [2, 0, 1]):
        weight = np.array(indices)
        proto = model("g (float[6,4] x) => (float[] y) { y = Gather(x, i) }")
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "i"))
        same(mlc.jit(proto, opt_level=1, threads=1, cache=False)(x), x[weight])
    proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.array([6]), "i"))
    with pytest.raises(ModelError, match="outside"):
        mlc.jit(proto, cache=False)(x)


def test_counted_outputs():
    x, c = np.array([[0, 3, 0], [4, 0, 5]], np.float32), np.array([True, False, True])
    same(run("g (float[2,3] x) => (int64[] y) { y = NonZero(x) }", x), np.array(np.nonzero(x)))
    same(run("g (float[2,3] x) => (int64[] z) { y = NonZero(x) z = Transpose(y) }", x), np.argwhere(x))
    same(run("g (float[2,3] x, bool[3] c) => (float[] y) { y = Compress<axis = 1>(x, c) }", x, c), x[:, c])
    text = "g (float[2,3] x) => (float[] y) { y = Compress(x, c) c = Constant<value = bool[4] {0, 1, 1, 0}>() }"
    same(run(text, x), x.reshape(-1)[[1, 2]])
    same(run("g (float[2,3] x) => (float[] y, int64[] i, int64[] v, int64[] n) { y, i, v, n = Unique<sorted = 0>(x) }", x),
         np.array([0, 3, 4, 5], np.float32), np.array([0, 1, 3, 5]), np.array([0, 1, 0, 2, 0, 3]), np.array([3, 1, 1, 1]))


def test_counted_outputs_are_kept_from_ops_that_need_a_shape():
    text = "g (float[2,3] x) => (int64[] z) { y = NonZero(x) z = Add(y, y) }"
    with pytest.raises(ShapeError, match="depends on data"):
        mlc.compile(model(text), cache=False)
    x = np.array([[0, 3, 0], [4, 0, 5]], np.float32)
    same(run(text, x), 2 * np.array(np.nonzero(x)))  # mlc.jit compiles the values in


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_one_hot(axis):
    text = f"g (float[2,3] i, int32 d, int8[2] v) => (int8[] y) {{ y = OneHot<axis = {axis}>(i, d, v) }}"
    args = [np.array([[0, -1, 9], [2, 4, -5]], np.float32), np.array(5, np.int32), np.array([-3, 7], np.int8)]
    proto = model(text)
    found = mlc.jit(proto, opt_level=1, threads=1, cache=False)(*args)[0]
    places = np.where(args[0] < 0, args[0] + 5, args[0])
    expected = np.where(np.moveaxis(np.arange(5) == places[..., None], -1, axis), 7, -3).astype(np.int8)
    same([found], expected)


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
def test_tfidf(mode):
    counts, pool, places = [0, 3, 7], [2, 3, 5, 5, 4, 5, 6, 2, 3, 5], [0, 1, 3, 4, 6, 5]
    weights = [1.0, 2.0, 0.5, 3.0, 1.0, 2.0]
    node = helper.make_node("TfIdfVectorizer", ["x"], ["y"], mode=mode, min_gram_length=1, max_gram_length=3, max_skip_count=2,
                            ngram_counts=counts, ngram_indexes=places, pool_int64s=pool, weights=weights)
    proto = node_model(node, 7, (2, 8), [("y", 1)])
    x = np.array([[2, 3, 5, 4, 5, 6, 2, 3], [5, 5, 6, 6, 3, 2, 4, 5]])
    expected = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_allclose(mlc.jit(proto, opt_level=1, threads=1, cache=False)(x)[0], expected)


# -- ai.onnx.ml ---------------------------------------------------------------------------------------------------------


def against_ort(node, x, outputs, opset=3):
    proto = node_model(node, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape, outputs, opset)
    expected = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": x})
    found = mlc.jit(proto, opt_level=1, threads=1, cache=False)(x)
    for a, z in zip(found, expected, strict=True):
        assert a.dtype == z.dtype
        np.testing.assert_allclose(a.reshape(z.shape), z, rtol=1e-5, atol=1e-6)


def ml(op, outputs=("y",), **attributes):
    return helper.make_node(op, ["x"], list(outputs), domain="ai.onnx.ml", **attributes)


FLOATS = [("y", 1)]


def test_ml_elementwise():
    x = data(4, 3)
    against_ort(ml("Binarizer", threshold=3.0), x, FLOATS, 1)
    against_ort(ml("Scaler", offset=[1.0, 2.0, 3.0], scale=[0.5, 2.0, 1.0]), x, FLOATS, 1)
    holes = np.where(x > 0, np.nan, x).astype(np.float32)
    against_ort(ml("Imputer", imputed_value_floats=[1.0, 2.0, 3.0], replaced_value_float=float("nan")), holes, FLOATS, 1)
    for norm in ("L1", "L2"):
        against_ort(ml("Normalizer", norm=norm), x, FLOATS, 1)
    against_ort(ml("OneHotEncoder", cats_int64s=[3, 1, 7]), np.array([[1, 3], [7, 9]]), FLOATS, 1)
    against_ort(ml("LabelEncoder", keys_int64s=[4, 2], values_floats=[1.5, 2.5], default_float=-1.0), np.array([[2, 4, 9]]), FLOATS, 2)


def test_linear_models():
    x = RNG.standard_normal((5, 3)).astype(np.float32)
    weights, bias = [float(v) for v in RNG.standard_normal(6)], [0.5, -1.0]
    against_ort(ml("LinearRegressor", coefficients=weights, intercepts=bias, targets=2), x, FLOATS, 1)
    for transform in ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"):
        node = ml("LinearClassifier", ("l", "y"), coefficients=weights, intercepts=bias, classlabels_ints=[7, 4], post_transform=transform)
        against_ort(node, x, [("l", 7), ("y", 1)], 1)


TREES = {
    "nodes_treeids": [0, 0, 0, 0, 0, 1, 1, 1], "nodes_nodeids": [0, 1, 2, 3, 4, 0, 1, 2], "nodes_featureids": [0, 1, 0, 0, 0, 2, 0, 0],
    "nodes_values": [0.1, -0.2, 0.0, 0.0, 0.0, 0.3, 0.0, 0.0],
    "nodes_modes": ["BRANCH_LEQ", "BRANCH_GT", "LEAF", "LEAF", "LEAF", "BRANCH_LT", "LEAF", "LEAF"],
    "nodes_truenodeids": [1, 3, 0, 0, 0, 1, 0, 0], "nodes_falsenodeids": [2, 4, 0, 0, 0, 2, 0, 0],
    "nodes_missing_value_tracks_true": [1, 0, 0, 0, 0, 1, 0, 0], "nodes_hitrates": [1.0] * 8,
}


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
def test_tree_regressor(aggregate):
    x = RNG.standard_normal((9, 3)).astype(np.float32)
    x[0] = np.nan
    node = ml("TreeEnsembleRegressor", **TREES, target_treeids=[0, 0, 0, 1, 1, 1], target_nodeids=[2, 3, 4, 1, 1, 2],
              target_ids=[0, 1, 0, 0, 1, 0], target_weights=[1.0, 2.0, -3.0, 0.5, 0.25, -1.0], n_targets=2, aggregate_function=aggregate)
    against_ort(node, x, FLOATS, 3)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize("case", ["two", "negative", "three"])
def test_tree_classifier(case, transform):
    if case == "two" and transform != "NONE":
        pytest.skip("probabilities take no transform")
    x = RNG.standard_normal((9, 3)).astype(np.float32)
    ids = [0, 1, 2, 0, 1, 2] if case == "three" else [0] * 6
    weights = [0.1, 0.2, 0.4, 0.15, 0.25, 0.3] if case == "two" else [0.1, -0.2, 0.4, 0.15, -0.3, 0.37]
    if case == "negative" and transform == "SOFTMAX":
        pytest.skip("no runtime agrees with another here")
    node = ml("TreeEnsembleClassifier", ("l", "y"), **TREES, class_treeids=[0, 0, 0, 1, 1, 1], class_nodeids=[2, 3, 4, 1, 1, 2],
              class_ids=ids, class_weights=weights, classlabels_int64s=[5, 6, 7] if case == "three" else [5, 6], post_transform=transform)
    against_ort(node, x, [("l", 7), ("y", 1)], 3)


def test_refusals_say_what_to_do():
    proto = node_model(helper.make_node("ImageDecoder", ["x"], ["y"]), 2, (4,), [("y", 2)])
    with pytest.raises(UnsupportedError, match="decode before the model"):
        mlc.compile(proto, cache=False)
