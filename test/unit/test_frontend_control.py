"""Control flow, sequences and optionals: resolved at compile time where possible, flow ops elsewhere."""

import numpy as np
import pytest
from onnx_models import load, model, results, text

from mlc.errors import ModelError, ShapeError, UnsupportedError

IF = """g (bool c, float[2] x) => (float[2] y) { y = If(c) <
    then_branch = t () => (float[2] a) { a = test.Twice(x) }, else_branch = e () => (float[%s] b) { b = %s(x) }> }"""
LOOP = """g (float[2] x, int64 n) => (float[2] y) { y = Loop(n, , x) <
    body = b (int64 i, bool c, float[2] s) => (bool co, float[2] so) { co = Identity(c) so = test.Sum(s, x) }> }"""
WHILE = """g (float[2] x, bool[1] start, float limit) => (float[2] y, float z) { one = Constant<value_float=1.0>()
    y, z = Loop( , start, x, one) <body = b (int64 i, bool c, float[2] s, float k) => (bool co, float[2] so, float ko) {
        so = test.Sum(s, x) ko = test.Sum(k, one) co = test.Less(ko, limit) }> }"""


def test_if_with_a_run_time_condition() -> None:
    printed = text(model(IF % ("2", "Identity")))
    assert printed.count("flow.if") == 1 and printed.count("flow.yield") == 2 and "builtin.module" not in printed


@pytest.mark.parametrize("taken", [True, False])
def test_if_with_a_known_condition_is_its_branch(taken: bool) -> None:
    """The other branch may be unsupported."""
    printed = text(model(IF % ("2", "test.Twice" if not taken else "test.Unheard")), values={"c": np.array(taken)})
    assert "flow" not in printed and printed.count("graph.elementwise") == 1


def test_if_with_branches_of_different_shape() -> None:
    with pytest.raises(ShapeError, match=r"(?s)tensor f32 \[2\] and tensor i64 \[1\] for output 'y'.*--value c="):
        load(model(IF.replace("float[%s] b", "int64[1] b") % "Shape"))


def test_if_whose_branches_agree_on_a_constant() -> None:
    body = """g (bool c, float[2] x) => (int64[1] y) { y = If(c) <
        then_branch = t () => (int64[1] a) { a = Shape(x) }, else_branch = e () => (int64[1] b) { b = Constant<value_ints=[2]>() }> }"""
    imported = load(model(body))
    assert results(imported)["y"].tolist() == [2] and "flow" not in str(imported.module)


def test_unsupported_nodes_of_both_branches_are_reported() -> None:
    with pytest.raises(UnsupportedError, match="test::Unheard"):
        load(model(IF % ("2", "test.Unheard")))


def test_counted_loop() -> None:
    printed = text(model(LOOP), values={"n": np.array(1000)})
    assert "flow.loop" in printed and "trip = 1000" in printed and printed.count("graph.elementwise") == 1


def test_loop_with_a_run_time_count() -> None:
    assert "flow.while" in text(model(LOOP))


def test_while_loop() -> None:
    body = WHILE.replace("bool[1] start", "bool start")
    printed = text(model(body))
    assert '"flow.while"' in printed and "tensor<i1>" in printed and printed.count("flow.yield") == 1


@pytest.mark.parametrize("n", [0, -3])
def test_a_loop_that_never_runs_hands_its_inputs_on(n: int) -> None:
    printed = text(model(LOOP), values={"n": np.array(n)})
    assert "flow" not in printed and "elementwise" not in printed


def test_a_loop_over_known_values_is_computed() -> None:
    """Sum of 0..9, and the list of partial sums."""
    body = """g (int64 n) => (int64 total, int64[k] parts) { zero = Constant<value_int=0>() total, parts = Loop(n, , zero) <
        body = b (int64 i, bool c, int64 s) => (bool co, int64 so, int64 p) { co = Identity(c) so = Add(s, i) p = Identity(so) }> }"""
    found = results(load(model(body), values={"n": np.array(10)}))
    assert found["total"] == 45 and found["parts"].tolist() == np.cumsum(range(10)).tolist()
    empty = results(load(model(body), values={"n": np.array(0)}))
    assert empty["parts"].shape == (0,) and empty["total"] == 0


def test_a_loop_that_ends_itself_at_compile_time() -> None:
    body = """g () => (int64 s) { zero = Constant<value_int=0>() ten = Constant<value_int=10>() s = Loop( , , zero) <
        body = b (int64 i, bool c, int64 s) => (bool co, int64 so) { so = Add(s, i) co = Less(so, ten) }> }"""
    assert results(load(model(body)))["s"] == 10


def test_loop_state_that_changes_shape_is_unrolled() -> None:
    body = """g (float[1] x) => (float[k] y) { n = Constant<value_int=3>() y = Loop(n, , x) <
        body = b (int64 i, bool c, float[k] s) => (bool co, float[m] so) { co = Identity(c) so = Concat<axis=0>(s, s) }> }"""
    assert results(load(model(body), values={"x": np.ones(1, np.float32)}))["y"].shape == (8,)
    body = body.replace("Concat<axis=0>(s, s)", "test.Sum(s, w)").replace("value_int=3", "value_int=300")
    with pytest.raises(ShapeError, match=r"carried value 0 enters the loop as tensor f32 \[1\] and leaves"):
        load(model(body, w=np.ones(2, np.float32)))


def test_stacking_needs_a_known_count() -> None:
    body = """g (float[2] x, int64 n) => (float[2] y, float[k,2] all) { y, all = Loop(n, , x) <
        body = b (int64 i, bool c, float[2] s) => (bool co, float[2] so, float[2] p) {
            co = Identity(c) so = test.Sum(s, x) p = Identity(so) }> }"""
    with pytest.raises(ShapeError, match=r"(?s)stacks an output per iteration.*trip count.*--value n="):
        load(model(body))
    assert "-> (tensor<2xf32>, tensor<5x2xf32>)" in text(model(body), values={"n": np.array(5)})


def test_an_invariant_known_value_stays_known_inside() -> None:
    body = """g (float[2] x, int64 n, int64[1] dims) => (float[2] y) { y, d = Loop(n, , x, dims) <
        body = b (int64 i, bool c, float[2] s, int64[1] k) => (bool co, float[2] so, int64[1] ko) {
            co = Identity(c) ko = Identity(k) f = test.Fill(k) so = test.Sum(s, f) }> }"""
    printed = text(model(body), values={"dims": np.array([2])})
    assert "flow.while" in printed and "-> tensor<2xf32>\n" in printed  # dims is not carried
    with pytest.raises(ShapeError, match="--value dims="):
        load(model(body))


def test_scan_slices_and_stacks() -> None:
    body = """g (float[3] s, float[5,3] x) => (float[3] last, float[5,3] all) { last, all = Scan(s, x) <
        num_scan_inputs=1, scan_input_directions=[1],
        body = b (float[3] a, float[3] xi) => (float[3] ao, float[3] o) { ao = test.Sum(a, xi) o = Identity(ao) }> }"""
    printed = text(model(body))
    assert "carried = 1 : i64, reverse = [true, false], trip = 5" in printed
    x = np.arange(15, dtype=np.float32).reshape(5, 3)
    known = body.replace("test.Sum", "Add")
    found = results(load(model(known), values={"s": np.zeros(3, np.float32), "x": x}))
    assert np.array_equal(found["all"], np.cumsum(x[::-1], 0)) and np.array_equal(found["last"], x.sum(0))


SEQUENCE = """g (seq(float[N]) s, float[2] x) => (seq(float[N]) y, int64 n) {
    zero = Constant<value_int=0>() t = SequenceInsert(s, x, zero) y = SequenceErase(t) n = SequenceLength(y) }"""


def test_sequences_are_laid_flat() -> None:
    imported = load(model(SEQUENCE), shapes={"s": [(3,), (4,)]})
    assert imported.signature == {
        "inputs": [{"name": "s", "kind": "sequence", "items": ["s.0", "s.1"]}, {"name": "x", "kind": "tensor", "items": ["x"]}],
        "outputs": [{"name": "y", "kind": "sequence", "items": ["y.0", "y.1"]}, {"name": "n", "kind": "tensor", "items": ["n"]}]}
    assert [(a.name, a.shape) for a in imported.results] == [("y.0", (2,)), ("y.1", (3,)), ("n", ())]
    assert results(imported)["n"] == 2
    assert [a.shape for a in load(model(SEQUENCE), shapes={"s": (3, 4)}).arguments] == [(3,), (4,), (2,)]  # --shape s=3,4
    with pytest.raises(ShapeError, match=r"(?s)'s' is a sequence: its length.*shapes=\{'s': \[\(2, 3\), \(4, 3\)\]\}"):
        load(model(SEQUENCE))


def test_fixed_and_empty_sequences() -> None:
    fixed = load(model(SEQUENCE), values={"s": [np.ones(3, np.float32)]})
    assert [a.name for a in fixed.arguments if a.value is None] == ["x"]
    assert load(model(SEQUENCE), shapes={"s": []}).signature["outputs"][0]["items"] == []


def test_sequence_positions_are_checked() -> None:
    body = "g (float[2] x) => (float[2] y) { s = SequenceConstruct(x, x) k = Constant<value_int=%d>() y = SequenceAt(s, k) }"
    assert "return %arg0" in text(model(body % -2))
    with pytest.raises(ShapeError, match="position 2 is outside of a sequence of 2"):
        load(model(body % 2))
    with pytest.raises(ModelError, match="expected a sequence"):
        load(model(body.replace("SequenceAt(s, k)", "SequenceAt(x, k)") % 0))


def test_sequences_through_control_flow() -> None:
    body = """g (bool c, float[2] x) => (seq(float[2]) y) { s = SequenceConstruct(x, x) y = If(c) <
        then_branch = t () => (seq(float[2]) a) { d = test.Twice(x) a = SequenceConstruct(d, x) },
        else_branch = e () => (seq(float[2]) b) { b = Identity(s) }> }"""
    imported = load(model(body))
    assert "-> (tensor<2xf32>, tensor<2xf32>)" in str(imported.module) and imported.signature["outputs"][0]["kind"] == "sequence"
    with pytest.raises(ShapeError, match=r"sequence of 2 .* and sequence of 3"):
        load(model(body.replace("b = Identity(s)", "b = SequenceInsert(s, x)")))


def test_sequence_map() -> None:
    body = """g (seq(float[N]) s, float[1] x) => (seq(float[N]) y) { y = SequenceMap(s, x) <
        body = b (float[N] a, float[1] k) => (float[N] o) { o = test.Sum(a, k) }> }"""
    imported = load(model(body), shapes={"s": [(3,), (4,)]})
    assert [a.shape for a in imported.results] == [(3,), (4,)]


OPTIONAL = """g (optional(float[2]) o, float[2] x) => (float[2] y, bool h) { h = OptionalHasElement(o) y = If(h) <
    then_branch = t () => (float[2] a) { a = OptionalGetElement(o) }, else_branch = e () => (float[2] b) { b = Identity(x) }> }"""


def test_optionals_are_decided_at_compile_time() -> None:
    present, absent = load(model(OPTIONAL)), load(model(OPTIONAL), shapes={"o": None})
    assert present.signature["inputs"][0] == {"name": "o", "kind": "optional", "items": ["o"]} and results(present)["h"]
    assert absent.signature["inputs"][0] == {"name": "o", "kind": "optional", "items": []} and not results(absent)["h"]
    assert "return %arg0" in str(present.module) and "return %arg0" in str(absent.module)
