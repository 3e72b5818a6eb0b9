"""Reading models: damaged files, structural rules, element types, and weights that stay where they are."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx_models import model

from mlc.dtypes import ALL
from mlc.errors import MlcError, ModelError, ResourceError, UnsupportedError
from mlc.frontend.onnx.check import check_model
from mlc.frontend.onnx.load import load_model
from mlc.frontend.onnx.wire import split_model

SMALL = "g (float[2] x) => (float[2] y) { y = Add(x, w) }"


def proto() -> ModelProto:
    return model(SMALL, w=np.ones(2, np.float32))


def test_path_bytes_and_proto_agree(tmp_path: Path) -> None:
    big = model(SMALL, w=np.arange(4096, dtype=np.float32))
    (tmp_path / "m.onnx").write_bytes(big.SerializeToString())
    for source in (tmp_path / "m.onnx", str(tmp_path / "m.onnx"), big.SerializeToString(), memoryview(big.SerializeToString()), big):
        assert np.array_equal(load_model(source).weights["w"].read(), np.arange(4096))
    from_file = load_model(tmp_path / "m.onnx")
    assert not from_file.proto.graph.initializer[0].raw_data and from_file.name == "m.onnx"
    assert len(big.graph.initializer[0].raw_data) == 4 * 4096  # the caller's model is left alone


def test_split_keeps_everything_else() -> None:
    big = model(SMALL, w=np.arange(4096, dtype=np.float32), v=np.ones(3, np.float32))
    skeleton, views = split_model(memoryview(big.SerializeToString()))
    again = ModelProto.FromString(skeleton)
    assert list(views) == [0]
    again.graph.initializer[0].raw_data = bytes(views[0])
    assert again == big


def test_missing_empty_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="nothing.onnx"):
        load_model(tmp_path / "nothing.onnx")
    with pytest.raises(ResourceError):
        load_model(tmp_path)
    with pytest.raises(ModelError, match="empty"):
        load_model(b"")
    with pytest.raises(ModelError, match="Git LFS"):
        load_model(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    for foreign in (b"<!DOCTYPE html><html>", b"PK\x03\x04zip", numpy_helper.from_array(np.ones(9)).SerializeToString(),
                    proto().graph.SerializeToString()):
        with pytest.raises(ModelError, match="not an ONNX model"):
            load_model(foreign)
    with pytest.raises(ModelError, match="is a zip archive, not an ONNX model") as error:
        load_model(b"PK\x03\x04zip")
    assert "mlc run" in str(error.value.hint)
    with pytest.raises(ModelError, match="the model is not an ONNX model, or is truncated or damaged: byte 0 starts a field of") as error:
        load_model(b"<!DOCTYPE html><html>")
    assert "export the model again" in str(error.value.hint)


def test_every_truncation_is_a_typed_error() -> None:
    data = proto().SerializeToString()
    for end in range(len(data)):
        try:
            load_model(data[:end])
        except MlcError:
            continue
        assert ModelProto.FromString(data[:end]).graph.output  # cut between fields: still a model


def test_mutants_never_crash() -> None:
    data, rng = proto().SerializeToString(), random.Random(0)
    for _ in range(300):
        mutant = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            mutant[rng.randrange(len(mutant))] = rng.randrange(256)
        try:
            for weight in load_model(bytes(mutant)).weights.values():
                weight.read()
        except MlcError:
            pass


@pytest.mark.parametrize("dtype", ALL, ids=str)
@pytest.mark.parametrize("field", ["raw", "typed"])
def test_every_element_type(dtype: object, field: str) -> None:
    values = np.array([1, 0, 1, 1, 2 if dtype.kind != "b" else 1]).astype(dtype.numpy)  # type: ignore[attr-defined]
    if dtype.name == "f8E8M0FNU":  # type: ignore[attr-defined]
        values = np.array([1, 2, 4, 1, 0.5]).astype(dtype.numpy)  # type: ignore[attr-defined]
    tensor = numpy_helper.from_array(values, "w")
    if field == "typed":
        tensor = helper.make_tensor("w", dtype.onnx, [5], values.astype(np.float32) if dtype.is_float else values.astype(int))  # type: ignore[attr-defined]
    m = proto()
    m.graph.initializer[0].CopyFrom(tensor)
    weight = load_model(m).weights["w"]
    assert weight.dtype is dtype and weight.read().dtype == values.dtype
    assert weight.read().astype(np.float64).tolist() == values.astype(np.float64).tolist()


def test_unaligned_weights_are_still_right() -> None:
    for pad in range(8):
        m = model(SMALL, w=np.arange(2000, dtype=np.float64))
        m.producer_name = "p" * pad
        assert np.array_equal(load_model(m.SerializeToString()).weights["w"].read(), np.arange(2000))


def test_sparse_initializers_become_dense() -> None:
    for indices in (np.array([1, 5]), np.array([[0, 1], [1, 2]])):
        m = proto()
        m.graph.sparse_initializer.append(helper.make_sparse_tensor(
            numpy_helper.from_array(np.array([3, 4], np.float32), "s"), numpy_helper.from_array(indices, "i"), [2, 3]))
        assert load_model(m).weights["s"].read().tolist() == [[0, 3, 0], [0, 0, 4]]
    m.graph.sparse_initializer[0].dims[0] = 1
    with pytest.raises(ModelError, match="outside"):
        load_model(m)


def test_strings_matter_only_when_used() -> None:
    m = proto()
    m.graph.initializer.append(helper.make_tensor("names", TensorProto.STRING, [1], [b"cat"]))
    assert "STRING" in load_model(m).skipped["names"]


def _edit(change: Callable[[ModelProto], object]) -> ModelProto:
    m = proto()
    change(m)
    return m


def _chain(m: ModelProto) -> None:
    del m.graph.node[:]
    m.graph.node.extend([helper.make_node("Add", ["x", "b"], ["a"], name="first"), helper.make_node("Relu", ["a"], ["b"], name="second"),
                         helper.make_node("Relu", ["a"], ["y"])])


def _self_captured(m: ModelProto) -> None:
    """An If whose branch reads the If's own output: onnx.checker does not see it."""
    branch = helper.make_graph([helper.make_node("Relu", ["y"], ["z"])], "b", [], [helper.make_tensor_value_info("z", 1, [2])])
    del m.graph.node[:]
    m.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch))


@pytest.mark.parametrize(("change", "says"), [
    (lambda m: m.ClearField("graph"), "no graph"),
    (lambda m: m.graph.ClearField("output"), "no outputs"),
    (lambda m: setattr(m.graph.node[0], "op_type", ""), "no op type"),
    (lambda m: m.graph.node.append(m.graph.node[0]), "'y' is defined twice"),
    (lambda m: m.graph.node[0].input.append("ghost"), "'ghost' is not defined"),
    (lambda m: setattr(m.graph.output[0], "name", "ghost"), "'ghost' is not defined"),
    (lambda m: m.graph.input.append(m.graph.input[0]), "'x' appears twice"),
    (lambda m: m.graph.initializer.append(m.graph.initializer[0]), "'w' appears twice"),
    (lambda m: m.graph.initializer.add(name="", data_type=1), "without a name"),
    (lambda m: m.graph.initializer.add(name="v", data_type=99), "no such element type"),
    (lambda m: setattr(m.graph.initializer[0], "raw_data", b"12"), "needs 8"),
    (lambda m: m.graph.initializer[0].dims.append(1 << 62), "larger than any memory"),
    (lambda m: m.graph.initializer[0].dims.append(-1), "negative"),
    (lambda m: m.graph.initializer[0].float_data.append(1), "no other data field"),
    (lambda m: setattr(m.graph.node[0], "domain", "nowhere"), "no opset for domain 'nowhere'"),
    (_chain, "cyclic: 'first', 'second'"),
    (_self_captured, "cyclic"),
])
def test_broken_rules(change: Callable[[ModelProto], object], says: str) -> None:
    with pytest.raises(ModelError) as error:
        load_model(_edit(change))
    assert says in str(error.value)


def test_opset_newer_than_onnx_is_named() -> None:
    m = _edit(lambda m: setattr(m.opset_import[0], "version", 9999))
    with pytest.raises(UnsupportedError, match=f"opset 9999 .*{onnx.defs.onnx_opset_version()}"):
        load_model(m)
    m.opset_import[0].version, m.ir_version = 20, 9999  # any IR version will do
    load_model(m)


def test_nodes_out_of_order_are_accepted() -> None:
    m = proto()
    m.graph.node.insert(0, helper.make_node("Relu", ["y"], ["z"]))
    m.graph.output[0].name = "z"
    load_model(m)


def test_nesting_is_bounded() -> None:
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "leaf", [], [helper.make_tensor_value_info("y", 1, [2])])
    for _ in range(28):
        graph = helper.make_graph([helper.make_node("If", ["c"], ["y"], then_branch=graph)], "g", [], graph.output)
    m = _edit(lambda m: m.graph.CopyFrom(graph))
    m.graph.input.extend([helper.make_tensor_value_info("c", TensorProto.BOOL, []), helper.make_tensor_value_info("x", 1, [2])])
    with pytest.raises(ModelError, match="nest more than"):
        load_model(m)


def test_functions_must_not_call_themselves() -> None:
    m = model("g (float[2] x) => (float[2] y) { y = local.f(x) }", functions='''
        <domain: "local", opset_import: ["": 20, "local": 1]> f (a) => (b) { b = local.h(a) }
        <domain: "local", opset_import: ["": 20, "local": 1]> h (a) => (b) { b = local.f(a) }''')
    with pytest.raises(ModelError, match="call themselves.*local::f -> local::h -> local::f"):
        check_model(m)
