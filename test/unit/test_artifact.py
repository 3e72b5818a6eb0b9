"""The .mlc file: what goes in comes out, bytes are reproducible and aligned, and a damaged file is an error that says where."""

import errno
import json
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from safetensors import safe_open

from mlc import artifact as module
from mlc.artifact import ALIGN, Artifact, TensorSpec, read_artifact, write_artifact
from mlc.dtypes import ALL, BY_NUMPY, F32
from mlc.errors import ArtifactError, CompilerError, MlcError, ResourceError
from mlc.weights import Weight, WeightStore


def arrays() -> dict[str, np.ndarray]:
    out: dict[str, np.ndarray] = {
        f"w.{t.name}": np.arange(6).reshape(2, 3).astype(t.numpy) if t.bits > 2 else np.ones((2, 3), t.numpy) for t in ALL
    }
    return {**out, "empty": np.zeros((0, 3), np.float32), "scalar": np.asarray(2.5, np.float32), "nämé/1:0": np.arange(100, dtype=np.int64)}


def plan_of(weights: dict[str, np.ndarray], **more: Any) -> dict[str, Any]:
    entries = [{"name": n, "dtype": BY_NUMPY[a.dtype].name, "shape": list(a.shape)} for n, a in weights.items()]
    return {
        "target": "cpu",
        "entry": "mlc_main",
        "arena_bytes": 0,
        "inputs": [],
        "outputs": [],
        "weights": entries,
        "objects": ["objects/m.o"],
        **more,
    }


def write(path: Path, weights: dict[str, np.ndarray] | None = None) -> Path:
    weights = arrays() if weights is None else weights
    write_artifact(
        path,
        target="cpu",
        plan=plan_of(weights),
        weights=weights.items(),
        objects={"objects/m.o": b"code"},
        extra={"ir/tile.mlir": b"module {}"},
    )
    return path


def test_round_trip(tmp_path: Path) -> None:
    got = read_artifact(write(tmp_path / "m.mlc"))
    assert got.manifest["schema"] == 1
    assert got.manifest["target"] == got.target == "cpu"
    assert set(got.manifest["sha256"]) == {"plan.json", "weights.safetensors", "objects/m.o", "ir/tile.mlir"}
    assert got.objects == {"objects/m.o": b"code"}
    assert got.extra == {"ir/tile.mlir": b"module {}"}
    for (name, want), found in zip(arrays().items(), got.weights, strict=True):
        assert (found.dtype, found.shape, found.tobytes()) == (want.dtype, want.shape, want.tobytes()), name
        assert not found.flags.writeable
        assert found.size == 0 or found.__array_interface__["data"][0] % ALIGN == 0


def test_weights_are_aligned_safetensors(tmp_path: Path) -> None:
    path = write(tmp_path / "m.mlc")
    raw = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        data = archive.read("weights.safetensors")
    start = raw.index(data)
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    assert all(
        (start + 8 + length + entry["data_offsets"][0]) % ALIGN == 0 for name, entry in header.items() if not name.startswith("__pad")
    )
    (tmp_path / "w.safetensors").write_bytes(data)
    with safe_open(tmp_path / "w.safetensors", "numpy") as f:  # the reference reader accepts the layout
        assert "w.f32" in f.keys()
        assert f.get_slice("w.i4").get_dtype() == "U8"
    some = {k: v for k, v in arrays().items() if v.dtype.isbuiltin == 1}
    with zipfile.ZipFile(write(tmp_path / "n.mlc", some)) as archive:
        loaded = safetensors.numpy.load(archive.read("weights.safetensors"))
    assert all(np.array_equal(loaded[k], v) for k, v in some.items())


def test_bytes_are_reproducible(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1.mlc"), write(tmp_path / "2.mlc")
    assert one.read_bytes() == two.read_bytes()
    read_artifact(one).save(tmp_path / "3.mlc")
    assert (tmp_path / "3.mlc").read_bytes() == one.read_bytes()
    read_artifact(one).save(one)  # onto the file it is mapped from
    assert one.read_bytes() == two.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["1.mlc", "2.mlc", "3.mlc"]


def test_store_is_read_one_at_a_time(tmp_path: Path) -> None:
    store, alive = WeightStore(), []

    class Tracked(np.ndarray):
        def __del__(self) -> None:
            alive.remove(1)

    def read() -> np.ndarray:
        alive.append(1)
        assert len(alive) <= 2  # the one being written and the next
        return np.zeros(1000, np.float32).view(Tracked)

    for i in range(5):
        store.add(Weight(f"w{i}", F32, (1000,), read))
    plan = plan_of({w.name: np.zeros(1000, np.float32) for w in store})
    write_artifact(tmp_path / "m.mlc", target="cpu", plan=plan, weights=store, objects={})
    assert len(read_artifact(tmp_path / "m.mlc").weights) == 5


def test_in_memory() -> None:
    made = Artifact.build(plan=plan_of({"w": np.ones(3, np.float32)}), objects={"objects/m.o": b""}, weights=[("w", np.ones(3, ">f4"))])
    assert made.target == "cpu"
    assert made.weights[0].dtype == np.float32
    assert made.manifest["sha256"] == {}
    with pytest.raises(CompilerError, match="weight w: f32"):
        Artifact.build(plan=plan_of({"w": np.ones(3, np.float32)}), objects={}, weights=[("w", np.ones(4, np.float32))])
    with pytest.raises(CompilerError, match="given as nothing"):
        Artifact.build(plan=plan_of({"w": np.ones(3, np.float32)}), objects={})
    with pytest.raises(CompilerError, match="more weights"):
        Artifact.build(plan=plan_of({}), objects={}, weights=[("w", np.ones(3))])
    with pytest.raises(CompilerError, match="bad or repeated"):
        Artifact.build(plan=plan_of({}), objects={"objects/../../x": b""})


def test_large_members_use_zip64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    assert read_artifact(write(tmp_path / "m.mlc")).weights[0].tobytes() == arrays()["w.f32"].tobytes()


def test_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write(tmp_path / "m.mlc", {})
    before = (tmp_path / "m.mlc").read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match=r"m\.mlc: No space left"):
        write(tmp_path / "m.mlc")
    assert os.listdir(tmp_path) == ["m.mlc"]
    assert (tmp_path / "m.mlc").read_bytes() == before


def test_unwritable_paths(tmp_path: Path) -> None:
    for path in (tmp_path / "no" / "m.mlc", Path("/proc/m.mlc"), tmp_path):
        with pytest.raises(ResourceError, match="cannot write"):
            write(path)
    assert os.listdir(tmp_path) == []

    def failing():
        yield "w", np.ones(1, np.float32)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_artifact(
            tmp_path / "m.mlc",
            target="cpu",
            plan=plan_of({"w": np.ones(1, np.float32), "v": np.ones(1, np.float32)}),
            weights=failing(),
            objects={},
        )
    assert os.listdir(tmp_path) == []


def repack(source: Path, path: Path, edit: dict[str, bytes | None], compression: int = zipfile.ZIP_STORED) -> Path:
    """The same members, some replaced or dropped (None)."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", compression) as new:
        for name in old.namelist():
            data = edit.get(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
        for name, data in edit.items():
            if name not in old.namelist() and data is not None:
                new.writestr(name, data)
    return path


def test_repacked_by_another_tool(tmp_path: Path) -> None:
    got = read_artifact(repack(write(tmp_path / "m.mlc"), tmp_path / "r.mlc", {}))
    assert all(w.__array_interface__["data"][0] % ALIGN == 0 for w in got.weights if w.size)
    assert [w.tobytes() for w in got.weights] == [w.tobytes() for w in arrays().values()]


def test_damage_is_named(tmp_path: Path) -> None:
    good = write(tmp_path / "m.mlc")
    manifest = json.loads(zipfile.ZipFile(good).read("manifest.json"))
    out = tmp_path / "bad.mlc"
    cases: list[tuple[dict[str, bytes | None], str]] = [
        ({"plan.json": b"{}"}, r"bad\.mlc: member plan\.json: sha256 found [0-9a-f]{64}, expected"),
        ({"objects/m.o": None}, r"member objects/m\.o: is missing"),
        ({"manifest.json": None}, r"member manifest\.json: is missing"),
        ({"weights.safetensors": None}, r"member weights\.safetensors: is missing"),
        ({"evil": b""}, r"member evil: is not in the manifest"),
        ({"manifest.json": b"[" * 100000}, r"member manifest\.json: is not JSON"),
        ({"manifest.json": b"[]"}, r"member manifest\.json: is not a JSON object"),
        ({"manifest.json": json.dumps({**manifest, "schema": 99}).encode()}, r"manifest\.json: schema 99, expected 1"),
        ({"manifest.json": json.dumps({**manifest, "target": "tpu"}).encode()}, r"plan\.json: target 'cpu', expected the manifest's 'tpu'"),
    ]
    for edit, message in cases:
        with pytest.raises(ArtifactError, match=message):
            read_artifact(repack(good, out, edit))
    with pytest.raises(ArtifactError, match=r"stored"):
        read_artifact(repack(good, out, {}, zipfile.ZIP_DEFLATED))
    for data in (b"", b"PK", b"hello" * 100):
        out.write_bytes(data)
        with pytest.raises(ArtifactError, match=r"bad\.mlc: not an \.mlc file|cannot read .*bad\.mlc"):
            read_artifact(out)
    with pytest.raises(ArtifactError, match="No such file"):
        read_artifact(tmp_path / "none.mlc")


def test_safetensors_are_checked_without_hashes(tmp_path: Path) -> None:
    good, out = write(tmp_path / "m.mlc", {"w": np.ones(4, np.float32)}), tmp_path / "bad.mlc"
    for entry in (
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 1 << 40]},
        {"dtype": "F32", "shape": [4], "data_offsets": [-16, 0]},
        {"dtype": "F32", "shape": [1 << 62], "data_offsets": [0, 16]},
        {"dtype": "I32", "shape": [4], "data_offsets": [0, 16]},
        7,
    ):
        text = json.dumps({"w": entry}).encode()
        with pytest.raises(ArtifactError, match=r"weights\.safetensors"):
            read_artifact(repack(good, out, {"weights.safetensors": struct.pack("<Q", len(text)) + text + bytes(16)}), verify=False)
    for data in (b"", b"\xff" * 8, struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 3) + b"{}}"):
        with pytest.raises(ArtifactError, match=r"weights\.safetensors"):
            read_artifact(repack(good, out, {"weights.safetensors": data}), verify=False)


def test_hostile_directories(tmp_path: Path) -> None:
    good, out = write(tmp_path / "m.mlc", {}), tmp_path / "bad.mlc"
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        with pytest.warns(UserWarning, match="Duplicate"):
            new.writestr("plan.json", old.read("plan.json"))
    with pytest.raises(ArtifactError, match=r"plan\.json: appears twice"):
        read_artifact(out)
    raw = bytearray(good.read_bytes())
    first = raw.index(b"PK\1\2")
    for offset, value, message in (
        (42, 0xFFFFFFF0, "outside the file|not an"),
        (42, 50, "no local header|appears|overlaps"),
        (24, 1 << 30, "stored"),
        (42, struct.unpack_from("<I", raw, raw.index(b"PK\1\2", first + 4) + 42)[0], "no local header|overlaps"),
    ):
        bad = bytearray(raw)
        struct.pack_into("<I", bad, first + offset, value)
        out.write_bytes(bad)
        with pytest.raises(ArtifactError, match=message):
            read_artifact(out)
    bad = bytearray(raw)
    struct.pack_into("<II", bad, first + 20, 1 << 30, 1 << 30)
    out.write_bytes(bad)
    with pytest.raises(ArtifactError, match="ends at"):
        read_artifact(out)


def test_every_flipped_byte_is_noticed_or_harmless(tmp_path: Path) -> None:
    good = read_artifact(write(tmp_path / "m.mlc", {"w": np.arange(40, dtype=np.float32)}))
    raw, out, noticed = (tmp_path / "m.mlc").read_bytes(), tmp_path / "bad.mlc", 0
    for at in range(0, len(raw), 3):
        bad = bytearray(raw)
        bad[at] ^= 0x55
        out.write_bytes(bad)
        try:
            got = read_artifact(out)
        except MlcError:
            noticed += 1
        else:
            assert got.plan == good.plan
            assert got.objects == good.objects
            assert got.weights[0].tobytes() == good.weights[0].tobytes()
    assert noticed > len(raw) // 3 * 0.7


def test_specs_are_checked() -> None:
    spec = TensorSpec.parse({"name": "x", "dtype": "i4", "shape": [2], "value": [-8, 7]}, "here")
    assert str(spec) == "x: i4[2]"
    assert spec.value is not None
    assert spec.value.dtype == ml_dtypes.int4
    assert spec.value.tolist() == [-8, 7]
    bad: list[Any] = [
        7,
        {},
        {"name": "x", "dtype": "q8", "shape": []},
        {"name": "x", "dtype": "f32", "shape": [-1]},
        {"name": "x", "dtype": "f32", "shape": [True]},
        {"name": "x", "dtype": "f32", "shape": "23"},
        {"name": "x", "dtype": "f32", "shape": [2], "value": [1]},
    ]
    for entry in bad:
        with pytest.raises(ArtifactError, match="here"):
            TensorSpec.parse(entry, "here")
    assert module.plan_tensors({}, "inputs") == []
    with pytest.raises(ArtifactError, match="not a list"):
        module.plan_tensors({"inputs": {}}, "inputs")
