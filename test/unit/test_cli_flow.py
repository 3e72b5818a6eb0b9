"""The verbs on a real model, end to end: what they write, what they print, and that the cache and the errors work with the compiler."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import mlc
from mlc.cli.main import run
from mlc.errors import InputError, ModelError, UnsupportedError

pytestmark = pytest.mark.usefixtures("here")


def two_layers(path: Path) -> Path:
    """Two products with a softmax: several launches of several blocks each."""
    rng = np.random.default_rng(0)
    weights = [numpy_helper.from_array(rng.standard_normal((256, 256)).astype(np.float32) / 16, name) for name in ("w0", "w1")]
    nodes = [helper.make_node("MatMul", ["x", "w0"], ["h"], name="first"), helper.make_node("Softmax", ["h"], ["s"], name="soft"),
             helper.make_node("MatMul", ["s", "w1"], ["y"], name="second")]
    return save(path, nodes, ["batch", 256], weights)


def save(path: Path, nodes: list[onnx.NodeProto], shape: list[int | str], weights: list[TensorProto]) -> Path:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.acme", 1)]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [x], [y], weights), opset_imports=opsets, ir_version=10), path)
    return path


def test_compile_run_inspect(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two_layers(here / "m.onnx")
    assert run(["compile", "m.onnx", "--shape", "x=64x256"]) == 0
    assert "(compiled)" in capsys.readouterr().out
    assert run(["compile", "m.onnx", "--shape", "x=64x256", "-o", "again.mlc"]) == 0
    assert "(from the cache)" in capsys.readouterr().out
    assert Path("m.mlc").read_bytes() == Path("again.mlc").read_bytes()

    x = np.random.default_rng(1).standard_normal((64, 256)).astype(np.float32)
    np.save("x.npy", x)
    assert run(["run", "m.mlc", "--input", "x=x.npy", "--save", "out.npz"]) == 0
    (expected,) = mlc.load("m.mlc")(x)
    with np.load("out.npz") as outputs:
        assert np.array_equal(outputs["y"], expected)

    capsys.readouterr()
    assert run(["inspect", "m.mlc", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["inputs"][0]["shape"] == [64, 256]
    assert {n for k in facts["kernels"] for n in k["nodes"]} == {"first", "soft", "second"}
    assert run(["inspect", "m.onnx"]) == 0
    assert "ai.onnx::Softmax" in capsys.readouterr().out
    assert sorted(p.name for p in here.iterdir()) == ["again.mlc", "m.mlc", "m.onnx", "out.npz", "x.npy"]


@pytest.mark.parametrize("threads", ["1", "2", "3"])
def test_verify(threads: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two_layers(here / "m.onnx")
    assert run(["verify", "m.onnx", "--shape", "x=64x256", "--threads", threads]) == 0, capsys.readouterr()
    assert "ONNX Runtime" in capsys.readouterr().out


def test_verify_per_node(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two_layers(here / "m.onnx")
    assert run(["verify", "m.onnx", "--shape", "x=4x256", "--per-node"]) == 0, capsys.readouterr()
    assert "every node's output agrees" in capsys.readouterr().out


def test_verify_finds_the_node(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With no room for rounding at all, one of the first two nodes differs; which one depends on how each library adds up."""
    two_layers(here / "m.onnx")
    assert run(["verify", "m.onnx", "--shape", "x=64x256", "--per-node", "--rtol", "0", "--atol", "0"]) == 1
    assert re.search(r"first node to diverge .*: '(first|soft)' \(ai.onnx::", capsys.readouterr().out)


def test_bench(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two_layers(here / "m.onnx")
    assert run(["bench", "m.onnx", "--shape", "x=4x256", "--vs", "ort", "--duration", "0.05", "--threads", "1"]) == 0
    assert "x the time of ONNX Runtime" in capsys.readouterr().out


@pytest.mark.parametrize("level", ["graph", "tile", "task", "llvm", "asm"])
def test_emit(level: str, here: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    two_layers(here / "m.onnx")
    assert run(["compile", "m.onnx", "--shape", "x=4x256", "--emit", level]) == 0
    word = {"graph": b"graph.matmul", "tile": b"tile.graph", "task": b"task.kernel", "llvm": b"define", "asm": b"mlc_main:"}[level]
    assert word in capfdbinary.readouterr().out
    assert [p.name for p in here.iterdir()] == ["m.onnx"]


def test_dump_dir_and_timing(here: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    two_layers(here / "m.onnx")
    assert run(["compile", "m.onnx", "--shape", "x=4x256", "--dump-dir", "dump", "--timing"]) == 0
    assert any(Path("dump").iterdir())
    assert "codegen" in capsys.readouterr().out
    assert not list((tmp_path / "cache").glob("entries/*"))  # its plan holds times: no other compile may get it


def test_unsupported_op_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(here / "m.onnx", [helper.make_node("MyAct", ["x"], ["y"], name="act0", domain="com.acme")], [2], [])
    assert run(["compile", "m.onnx"]) == 1
    error = capsys.readouterr().err
    assert "node 'act0' (com.acme::MyAct, opset 1)" in error
    assert [p.name for p in here.iterdir()] == ["m.onnx"]
    with pytest.raises(UnsupportedError):
        mlc.compile("m.onnx")


def test_a_missing_shape_is_asked_for(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two_layers(here / "m.onnx")
    assert run(["compile", "m.onnx"]) == 1
    assert "--shape x=" in capsys.readouterr().err


def test_api_takes_paths_bytes_and_protos(here: Path) -> None:
    path = two_layers(here / "m.onnx")
    shapes = {"x": (2, 256)}
    x = np.ones((2, 256), np.float32)
    models = [str(path), path, path.read_bytes(), onnx.load(path)]
    first, *others = [mlc.compile(m, shapes=shapes, progress=False)(x=x)[0] for m in models]
    assert all(np.array_equal(first, other) for other in others)
    exe = mlc.compile(path, "cpu", shapes=shapes, threads=1)
    with pytest.raises(InputError, match=r"found f32\[3, 256\], expected f32\[2, 256\]"):
        exe(np.ones((3, 256), np.float32))
    with pytest.raises(ModelError):
        mlc.compile(b"not a model")


def test_a_damaged_cache_entry_is_made_again(here: Path, tmp_path: Path) -> None:
    path = two_layers(here / "m.onnx")
    x = np.ones((2, 256), np.float32)
    (first,) = mlc.compile(path, shapes={"x": (2, 256)})(x)
    (entry,) = (tmp_path / "cache" / "entries").glob("*/artifact.mlc")
    entry.write_bytes(entry.read_bytes()[:-100])
    (again,) = mlc.compile(path, shapes={"x": (2, 256)})(x)
    assert np.array_equal(first, again)
    assert mlc.load(entry).target.startswith("cpu")


def test_artifacts_are_reproducible(here: Path) -> None:
    two_layers(here / "m.onnx")
    for name in ("a", "b"):
        assert run(["compile", "m.onnx", "--shape", "x=4x256", "-o", f"{name}.mlc", "--no-cache"]) == 0
    assert Path("a.mlc").read_bytes() == Path("b.mlc").read_bytes()
