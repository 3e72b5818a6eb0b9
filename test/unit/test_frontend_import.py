"""Importing: signatures, errors that name everything, functions, attributes, and passing things through."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_models import load, model, results, text

from mlc.errors import InputError, ModelError, ResourceError, ShapeError, UnsupportedError
from mlc.frontend.onnx import importer, registry
from mlc.frontend.onnx.registry import converter, find_converter

ONE = "g (float[N,3] x) => (float[N,3] y) { y = test.Twice(x) }"


def test_main_carries_the_names() -> None:
    printed = text(model("g (float[2] x, int64[1] n) => (float[2] y) { y = test.Twice(x) }"))
    assert '@main(%arg0: tensor<2xf32> {mlc.name = "x"}, %arg1: tensor<1xi64> {mlc.name = "n"}) -> ' in printed
    assert '-> (tensor<2xf32> {mlc.name = "y"})' in printed


def test_locations_name_the_node() -> None:
    proto = model(ONE)
    proto.graph.node[0].name = "double it"
    module = load(proto, shapes={"x": (2, 3)}).module
    assert 'loc("double it"(' in module.operation.get_asm(enable_debug_info=True)


def test_outputs_that_are_inputs_constants_or_repeated() -> None:
    imported = load(model("g (float[2] x) => (float[2] x, float[100] w, float[2] y, float[2] z) { y = test.Twice(x) z = Identity(y) }",
                          w=np.ones(100, np.float32)))
    returned = list(list(imported.module.body.operations[0].regions[0].blocks[0].operations)[-1].operands)
    assert returned[2] == returned[3] and [r.name for r in imported.results] == ["x", "w", "y", "z"]
    assert results(imported)["w"].shape == (100,)


def test_missing_dimension_names_input_symbol_and_flag() -> None:
    with pytest.raises(ShapeError) as error:
        load(model(ONE))
    assert "graph input 'x' [N, 3] has no static size for dimension 'N'" in str(error.value)
    assert "--shape x=1x3" in str(error.value)


def test_shapes_by_input_or_symbol() -> None:
    for shapes in ({"x": (5, 3)}, {"N": 5}, {"N": (5,)}):
        assert load(model(ONE), shapes=shapes).arguments[0].shape == (5, 3)
    two = model("g (float[N,3] x, float[N] v) => (float[N,3] y) { y = test.Twice(x) }")
    assert load(two, shapes={"v": (4,)}).arguments[0].shape == (4, 3)
    with pytest.raises(ShapeError, match="'N' is 4 in input 'x' and 5 in input 'v'"):
        load(two, shapes={"x": (4, 3), "v": (5,)})
    with pytest.raises(ShapeError, match="2x4 was given for input 'x', the model declares"):
        load(model(ONE), shapes={"x": (2, 4)})
    with pytest.raises(ShapeError, match=r"no input and no symbolic dimension 'z'\n.*inputs: x; dimensions: N"):
        load(model(ONE), shapes={"z": (2, 4)})
    with pytest.raises(ShapeError, match="several shapes were given for input 'x', which is one tensor"):
        load(model(ONE), shapes={"x": [(5, 3), (4, 3)]})
    with pytest.raises(ShapeError, match="5 was given for input 'x', the model declares"):
        load(model(ONE), shapes={"x": 5})


def test_fixed_values() -> None:
    proto = model("g (int64[2] dims, float[2] x) => (float[a,b] y, float[2] z) { y = test.Fill(dims) z = test.Twice(x) }")
    imported = load(proto, values={"dims": np.array([2, 3])})
    assert [a.name for a in imported.arguments if a.value is None] == ["x"] and imported.arguments[0].value.tolist() == [2, 3]
    assert results(imported)["y"].shape == (2, 3)
    with pytest.raises(InputError, match="input 'dims' is f64"):
        load(proto, values={"dims": np.array([2.0, 3.0])})
    with pytest.raises(InputError, match="no input 'nope'"):
        load(proto, values={"nope": np.array([2.0, 3.0])})


def test_every_unsupported_node_is_reported() -> None:
    proto = model("""g (float[2] x) => (float[2] y) {
        a = test.Unheard(x) b = test.Twice(a) c = test.AlsoUnheard(b, a) d = Identity(c) y = NoSuchOp(d) }""")
    for node, name in zip(proto.graph.node, "pqrst", strict=True):
        node.name = name
    with pytest.raises(UnsupportedError) as error:
        load(proto)
    assert error.value.message.splitlines() == [
        "3 nodes ask for something that mlc does not do:",
        "  'p' (test::Unheard, opset 1): no converter for this op",
        "  'r' (test::AlsoUnheard, opset 1): no converter for this op",  # which waits for 'p' through a node that is supported
        "  't' (ai.onnx::NoSuchOp, opset 20): no converter for this op"]


def test_unsupported_nodes_do_not_hide_each_other() -> None:
    proto = model("g (float[2] x) => (float[2] y, float[2] z) { y = test.Unheard(x) z = NoSuchOp(x) }")
    with pytest.raises(UnsupportedError, match="2 nodes") as error:
        load(proto)
    assert "'Unheard_0' (test::Unheard, opset 1)" in str(error.value) and "'NoSuchOp_1' (ai.onnx::NoSuchOp, opset 20)" in str(error.value)


@pytest.mark.parametrize(("node", "says"), [
    ("y = Shape<begin=1>(x)", "unknown attribute 'begin'; this version of the op has: end, start"),
    ("y = Shape<start=1.5>(x)", "attribute 'start' is FLOAT; the op takes INT"),
    ("y = Cast(x)", "required attribute 'to' is missing"),
    ("y = Shape(x, x)", "2 inputs and 1 outputs; the op takes 1 to 1 inputs"),
])
def test_nodes_against_their_schema(node: str, says: str) -> None:
    with pytest.raises(ModelError) as error:
        load(model(f"g (float[2] x) => (int64[k] y) {{ {node} }}"))
    assert says in str(error.value)


def test_an_attribute_from_a_later_opset_says_so() -> None:
    with pytest.raises(ModelError, match="exists since opset 15"):
        load(model("g (float[2] x) => (int64[k] y) { y = Shape<start=1>(x) }", opset=13))


def test_nothing_a_node_says_is_overlooked() -> None:
    with pytest.raises(UnsupportedError, match="attribute 'speed' is not supported"):
        load(model("g (float[2] x) => (float[2] y) { y = test.Twice<speed=3>(x) }"))
    with pytest.raises(UnsupportedError, match="input 'w'.* is not supported"):
        load(model("g (float[2] x, float[2] w) => (float[2] y) { y = test.Twice(x, w) }"))
    with pytest.raises(UnsupportedError, match="output 1 .*is not supported"):
        load(model("g (float[2] x) => (float[2] y) { y, z = test.Twice(x) }"))


def test_op_versions_newer_than_mlc_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.KNOWN_OPSETS, "", 12)
    with pytest.raises(UnsupportedError, match="newer than mlc"):
        load(model("g (float[2] x) => (int64[k] y) { y = Shape(x) }"))


def test_the_converter_for_the_opset_is_found() -> None:
    for since in (1, 7, 13):
        converter("Versioned", domain="test", since=since)(lambda ctx, since=since: [since])
    assert [find_converter("test", "Versioned", v)(None)[0] for v in (1, 6, 7, 12, 13, 99)] == [1, 1, 7, 7, 13, 13]  # type: ignore[misc, index, arg-type]
    assert find_converter("test", "Versioned", 0) is None


def test_local_functions_are_inlined_with_their_own_names() -> None:
    """Names inside (t, x) are not the caller's; a location tells the path of calls."""
    functions = """<domain: "local", opset_import: ["test": 1, "local": 1]> outer (a) => (b) { t = test.Twice(a) b = local.inner(t) }
        <domain: "local", opset_import: ["test": 1]> inner (t) => (b) { b = test.Twice(t) }"""
    proto = model("g (float[2] x) => (float[2] y) { t = test.Twice(x) s = local.outer(t) y = test.Sum(s, t) }", functions=functions)
    proto.graph.node[1].name = "call"
    module = load(proto).module
    assert str(module).count("graph.elementwise") == 4
    assert all(f'loc("{name}"(' in module.operation.get_asm(enable_debug_info=True) for name in ("call/Twice_0", "call/inner_1/Twice_0"))


def test_function_attributes_and_defaults() -> None:
    functions = '''<domain: "local", opset_import: ["": 20]> f <k: int = 7, l> (a) => (b, c) {
        b = Constant<value_int: int = @k>() c = Constant<value_int: int = @l>() }'''
    found = results(load(model("g (float[2] x) => (int64 y, int64 z) { y, z = local.f<l=5>(x) }", functions=functions)))
    assert (found["y"], found["z"]) == (7, 5)
    with pytest.raises(ModelError, match="unknown attribute 'm'; the function has: k, l"):
        load(model("g (float[2] x) => (int64 y, int64 z) { y, z = local.f<m=5>(x) }", functions=functions))


def test_nested_functions_cannot_explode(monkeypatch: pytest.MonkeyPatch) -> None:
    twice = '<domain: "local", opset_import: ["": 20, "local": 1]> f%d (a) => (b) { c = local.f%d(a) b = local.f%d(c) }\n'
    functions = "".join(twice % (i, i + 1, i + 1) for i in range(22))
    functions += '<domain: "local", opset_import: ["": 20]> f22 (a) => (b) { b = Identity(a) }'
    monkeypatch.setattr(importer, "MAX_NODES", 1000)
    with pytest.raises(ResourceError, match="more than 1000 nodes"):
        load(model("g (float[2] x) => (float[2] y) { y = local.f0(x) }", functions=functions))


def test_onnx_function_bodies_stand_in_for_missing_converters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celu is defined by ONNX through Elu, Div and Mul: those are reported, not Celu."""
    monkeypatch.setattr(importer, "find_converter", lambda *key: find_converter(*key) if key[1] == "Constant" else None)
    with pytest.raises(UnsupportedError, match="'Celu_0/") as error:
        load(model("g (float[2] x) => (float[2] y) { y = Celu<alpha=2.0>(x) }"))
    assert "ai.onnx::Celu," not in str(error.value)


def test_strings_are_refused_where_they_are_used() -> None:
    proto = model("g (float[2] x) => (float[2] y) { y = test.Twice(x) }")
    proto.graph.initializer.append(helper.make_tensor("names", TensorProto.STRING, [1], [b"cat"]))
    load(proto)
    proto.graph.node.append(helper.make_node("Identity", ["names"], ["z"], name="n"))
    with pytest.raises(UnsupportedError, match="node 'n' .*STRING"):
        load(proto)


def test_defaults_of_inputs_are_constants_unless_overridden() -> None:
    proto = model("g (float[2] x, float[2] w) => (float[2] y, float[2] v) { y = test.Sum(x, w) v = Identity(w) }", w=np.ones(2, np.float32))
    assert results(load(proto))["v"].tolist() == [1, 1]
    assert results(load(proto, values={"w": np.zeros(2, np.float32)}))["v"].tolist() == [0, 0]


def test_wrong_declared_output_type() -> None:
    with pytest.raises(ModelError, match="'y' is i64, the model declares FLOAT"):
        load(model("g (float[2] x) => (float[1] y) { y = Shape(x) }"))


def test_the_same_model_gives_the_same_module() -> None:
    weights = {name: np.ones(100, np.float32) for name in "vw"}
    proto = model("g (float[100] x) => (float[100] y) { a = test.Sum(x, w) y = test.Sum(a, v) }", **weights)
    assert text(proto) == text(proto)
