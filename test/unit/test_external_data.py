"""External weight files: every place a model may not read from, and the layouts that must work."""

import hashlib
import os
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mlc.errors import MlcError, ModelError
from mlc.frontend.onnx.load import LoadedModel, load_model

DATA = np.arange(6, dtype=np.float32).reshape(2, 3)


def save(directory: Path, location: str = "w.bin", *, dims: tuple[int, ...] = (2, 3), code: int = TensorProto.FLOAT,
         name: str = "model.onnx", **keys: str) -> Path:
    tensor = TensorProto(name="w", dims=dims, data_type=code, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **keys}.items():
        tensor.external_data.add(key=key, value=value)
    output = helper.make_tensor_value_info("y", code, dims)
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [output], [tensor])
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


def weight(model: LoadedModel) -> np.ndarray:
    return model.weights["w"].read()


def test_reads_at_an_offset_without_copying(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"x" * 64 + DATA.tobytes())
    model = load_model(save(tmp_path, offset="64", length="24"))
    assert np.array_equal(weight(model), DATA)
    assert not weight(model).flags.owndata and not weight(model).flags.writeable


def test_packed_four_bit_data(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes([0x21, 0xF3, 0x08]))
    array = weight(load_model(save(tmp_path, dims=(5,), code=TensorProto.INT4)))
    assert array.dtype == ml_dtypes.int4 and array.astype(int).tolist() == [1, 2, 3, -1, -8]


def test_subdirectory_and_link_inside_the_tree(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "real.bin").write_bytes(DATA.tobytes())
    (tmp_path / "w.bin").symlink_to("data/real.bin")
    assert np.array_equal(weight(load_model(save(tmp_path, "data/real.bin"))), DATA)
    assert np.array_equal(weight(load_model(save(tmp_path, "w.bin"))), DATA)


@pytest.mark.parametrize("linked_root", [False, True])
def test_hugging_face_cache(tmp_path: Path, linked_root: bool) -> None:
    blobs, snapshot = tmp_path / "models--x" / "blobs", tmp_path / "models--x" / "snapshots" / "abc" / "onnx"
    save(blobs, "model.onnx_data", name="sha-model")
    (blobs / "sha-data").write_bytes(DATA.tobytes())
    snapshot.mkdir(parents=True)
    (snapshot / "model.onnx").symlink_to("../../../blobs/sha-model")
    (snapshot / "model.onnx_data").symlink_to("../../../blobs/sha-data")
    path = snapshot / "model.onnx"
    if linked_root:  # the whole cache behind a link, as on shared disks
        (tmp_path / "cache").symlink_to(tmp_path / "models--x")
        path = tmp_path / "cache" / "snapshots" / "abc" / "onnx" / "model.onnx"
    assert np.array_equal(weight(load_model(path)), DATA)


@pytest.mark.parametrize("location", [
    "../secret.bin", "a/../../secret.bin", "", "a\\..\\secret.bin", "{outside}/secret.bin", "missing.bin", "."])
def test_locations_that_leave_or_lead_nowhere(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(DATA.tobytes())
    with pytest.raises(ModelError):
        load_model(save(tmp_path / "model", location.format(outside=tmp_path)))


def test_links_that_leave(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(DATA.tobytes())
    path = save(tmp_path / "model")
    (tmp_path / "model" / "w.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ModelError, match="link out of the model's directory"):
        load_model(path)
    (tmp_path / "model" / "d").symlink_to(tmp_path)
    with pytest.raises(ModelError, match="link out of the model's directory"):
        load_model(save(tmp_path / "model", "d/secret.bin", name="d.onnx"))
    (tmp_path / "model" / "w.bin").unlink()
    os.link(tmp_path / "secret.bin", tmp_path / "model" / "w.bin")
    with pytest.raises(ModelError, match="hard link"):
        load_model(path)
    os.mkfifo(tmp_path / "model" / "pipe")
    with pytest.raises(ModelError, match="regular file"):
        load_model(save(tmp_path / "model", "pipe"))


@pytest.mark.parametrize("keys", [
    {"offset": "4"}, {"offset": "-4"}, {"offset": "1e3"}, {"length": "23"}, {"length": "1000000000000000"}, {"length": "-1"},
    {"offset": "99999999999999999999999"}, {"basepath": "/etc"}, {"__class__": "x"}, {"checksum": "00"}])
def test_bad_ranges_and_keys(tmp_path: Path, keys: dict[str, str]) -> None:
    (tmp_path / "w.bin").write_bytes(DATA.tobytes())
    with pytest.raises(ModelError):
        load_model(save(tmp_path, **keys))


def test_checksum_is_checked(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(DATA.tobytes())
    digest = hashlib.sha1(DATA.tobytes()).hexdigest()
    assert np.array_equal(weight(load_model(save(tmp_path, checksum=digest))), DATA)


@pytest.mark.parametrize("dims", [(1 << 62, 4), (-2, 3), (1 << 40,), (3, 3)])
def test_shapes_that_do_not_match_the_bytes(tmp_path: Path, dims: tuple[int, ...]) -> None:
    (tmp_path / "w.bin").write_bytes(DATA.tobytes())
    with pytest.raises(ModelError):
        load_model(save(tmp_path, dims=dims))


def test_a_model_in_memory_needs_to_be_told_where_its_data_is(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(DATA.tobytes())
    data = save(tmp_path).read_bytes()
    with pytest.raises(MlcError, match="without a directory"):
        load_model(data)
    assert np.array_equal(weight(load_model(data, directory=tmp_path)), DATA)
    assert np.array_equal(weight(load_model(onnx.ModelProto.FromString(data), directory=tmp_path)), DATA)


def test_an_empty_file_holds_an_empty_tensor(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"")
    assert weight(load_model(save(tmp_path, dims=(0, 3)))).shape == (0, 3)
