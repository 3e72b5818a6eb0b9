"""Constant folding: shape arithmetic disappears, nothing big is ever built, and every value agrees with the ONNX reference."""

import time
import warnings

import numpy as np
import pytest
from onnx import helper, numpy_helper
from onnx_models import load, model, results, text

from mlc.errors import MlcError, ResourceError, ShapeError, UnsupportedError
from mlc.frontend.onnx.fold import fold
from mlc.frontend.onnx.values import Tensor

OPSETS = {"": 20}


def run(op: str, *inputs: np.ndarray, opset: int = 20, outputs: int = 1, **attributes: object) -> list[np.ndarray] | None:
    node = helper.make_node(op, [f"x{i}" for i in range(len(inputs))], [f"y{i}" for i in range(outputs)], **attributes)
    folded = fold(node, [Tensor.known(x) for x in inputs], {"": opset})
    return None if folded is None else [t.value for t in folded if t is not None]


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_shape_arithmetic_leaves_no_trace() -> None:
    body = """g (float[2,3,4] x) => (int64[k] s) {
        d = Shape(x) zero = Constant<value_ints=[0]>() n = Gather(d, zero)
        minus = Constant<value_ints=[-1]>() s = Concat<axis=0>(n, minus) }"""
    imported = load(model(body))
    assert results(imported)["s"].tolist() == [2, -1]
    assert len(list(imported.module.body.operations[0].regions[0].blocks[0].operations)) == 2  # the result and the return


@pytest.mark.parametrize(("op", "inputs", "attributes"), [
    ("ConstantOfShape", (i64(1 << 40),), {}),
    ("ConstantOfShape", (i64(1 << 40, 1 << 40),), {}),
    ("Expand", (np.ones(1, np.float32), i64(1 << 20, 1 << 20)), {}),
    ("Tile", (np.ones(4, np.float32), i64(1 << 40)), {}),
    ("Range", (np.int64(0), np.int64(1 << 40), np.int64(1)), {}),
    ("Range", (np.float32(0), np.float32(1e30), np.float32(1)), {}),
    ("Pad", (np.ones(4, np.float32), i64(0, 1 << 40)), {}),
    ("OneHot", (i64(1), np.int64(1 << 40), i64(0, 1)), {}),
    ("Resize", (np.ones((1, 1, 2, 2), np.float32), np.ones(0, np.float32), np.array([1, 1, 1e6, 1e6], np.float32)), {}),
    ("Einsum", (np.ones(1 << 14), np.ones(1 << 14)), {"equation": "i,j->ij"}),
    ("Add", (np.ones((1 << 15, 1)), np.ones((1, 1 << 15))), {}),
    ("HannWindow", (np.int64(1 << 40),), {}),
    ("Col2Im", (np.ones((1, 4, 1), np.float32), i64(1 << 20, 1 << 20), i64(2, 2)), {}),
    ("NonZero", (np.ones((1 << 10, 1 << 10), np.float32),), {}),
])
def test_bombs_are_not_folded(op: str, inputs: tuple[np.ndarray, ...], attributes: dict[str, object]) -> None:
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert run(op, *map(np.asarray, inputs), **attributes) is None
    assert time.perf_counter() - start < 2


def test_a_four_terabyte_constant_is_an_error() -> None:
    with pytest.raises(MlcError):
        load(model("g () => (float[n] y) { s = Constant<value_ints=[1099511627776]>() y = ConstantOfShape(s) }"))
    with pytest.raises(ResourceError, match="takes .* bytes"):
        load(model("g () => (float[n] y) { s = Constant<value_ints=[1099511627776]>() y = test.Fill(s) }"))


def test_old_versions_with_another_meaning_are_left_to_converters() -> None:
    """onnx.reference computes Softmax 11 as if it were Softmax 13."""
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert run("Softmax", x, opset=13, axis=0)[0].sum() == pytest.approx(3)
    assert run("Softmax", x, opset=11, axis=0) is None
    assert run("Add", x, x, opset=6) is None and run("PRelu", x, x, opset=6) is None and run("Resize", x, x[0, :2], opset=10) is None
    assert run("Add", x, x, opset=7) is not None and run("Gather", x, i64(0), opset=1) is not None
    assert run("Squeeze", x[None], opset=11, axes=[0])[0].shape == (2, 3)  # the reference has this version
    assert run("ReduceMean", x, opset=13, axes=[1])[0].shape == (2, 1)


def test_integer_division_truncates() -> None:
    assert run("Div", i64(-7, 7, -8), i64(2, -2, 2))[0].tolist() == [-3, -3, -4]


def test_what_is_random_is_not_constant() -> None:
    assert run("RandomNormalLike", np.ones(3, np.float32)) is None
    assert run("Bernoulli", np.ones(3, np.float32)) is None
    assert run("Mystery", np.ones(3, np.float32)) is None


def test_views_of_large_weights_are_not_copied() -> None:
    weight = np.arange(1 << 22, dtype=np.float32)
    view = run("Reshape", weight, i64(2, -1))
    assert view is not None and view[0].shape == (2, 1 << 21) and np.shares_memory(view[0], weight)
    assert run("Transpose", weight.reshape(2, -1)) is None  # the compiled program does that, once


def test_multiple_and_skipped_outputs() -> None:
    node = helper.make_node("Split", ["x", "s"], ["a", "", "b"])
    folded = fold(node, [Tensor.known(i64(1, 2, 3)), Tensor.known(i64(1, 1, 1))], OPSETS)
    assert folded is not None and folded[1] is None and folded[2].value.tolist() == [3]


def test_a_value_that_must_be_known_names_the_way_out() -> None:
    proto = model("g (int64[2] dims, float[2] x) => (float[a,b] y) { d = test.Sum(dims, dims) y = test.Fill(d) }")
    with pytest.raises(ShapeError) as error:
        load(proto)
    assert "node 'Fill_1' (test::Fill, opset 1): input 'd' (0)" in str(error.value)
    assert "values={'dims': array} (--value dims=...)" in str(error.value)


def test_constants_are_shared_and_small_ones_inlined() -> None:
    body = "g (float[100] x) => (float[100] y, float[100] z) { y = test.Sum(x, w) z = test.Sum(y, w) }"
    printed = text(model(body, w=np.ones(100, np.float32)))
    assert printed.count("graph.weight") == 1 and "graph.constant" not in printed
    printed = text(model(body.replace("100", "1"), w=np.ones(1, np.float32)))
    assert printed.count("graph.constant") == 1 and "graph.weight" not in printed


def test_unused_weights_are_left_out() -> None:
    imported = load(model("g (float[2] x) => (float[2] y) { y = Identity(x) }", w=np.ones(100, np.float32)))
    assert len(imported.weights) == 0


NODE_TESTS = tuple(f"test_{name}" for name in (
    "cast clip concat constant cumsum dequantizelinear div expand gather identity if loop mod nonzero optional quantizelinear "
    "range reduce_sum reshape scan sequence shape size slice split_to squeeze tile unsqueeze where").split())


def _plain(value: object) -> object:
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value if value is None else numpy_helper.to_array(value) if hasattr(value, "data_type") else np.asarray(value)


def test_onnx_node_tests_with_fixed_inputs() -> None:
    """With every input fixed a model is a constant: control flow, sequences and function bodies included."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        cases = [case for case in collect_testcases(None) if case.name.startswith(NODE_TESTS)]
    assert len(cases) > 300
    failures, checked = [], 0
    for case in cases:
        inputs, outputs = case.data_sets[0]
        names = [value.name for value in case.model.graph.input]
        try:
            imported = load(case.model, values={name: _plain(value) for name, value in zip(names, inputs, strict=False)})
        except UnsupportedError as error:
            if "STRING" not in str(error):
                failures.append(f"{case.name}: {error}")
            continue
        found = results(imported)
        for port, expected in zip(imported.signature["outputs"], map(_plain, outputs), strict=True):
            parts = expected if isinstance(expected, list) else [] if expected is None else [expected]
            for item, part in zip(port["items"], parts, strict=True):
                got = found.get(item)
                if got is None or got.dtype != part.dtype or got.shape != part.shape or not np.allclose(
                        got.astype(np.float64), part.astype(np.float64), rtol=1e-4, atol=1e-6, equal_nan=True):
                    failures.append(f"{case.name}: {item}")
        checked += 1
    assert not failures
    assert checked > 300
