"""What users and attackers get wrong, through the real command line: one typed error that names the culprit, and nothing left behind."""

import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx_models import model

import mlc
from mlc.cli import isolate
from mlc.cli.main import run
from mlc.errors import InputError, OptionError, ResourceError, ShapeError, TargetError

pytestmark = pytest.mark.usefixtures("here")

COMMAND = [sys.executable, "-m", "mlc.cli"]
WEIGHT = np.arange(12, dtype=np.float32).reshape(4, 3)


def linear() -> ModelProto:
    """x[n, 4] times w[4, 3]."""
    return model("g (float[n, 4] x) => (float[n, 3] y) { y = MatMul(x, w) }", w=WEIGHT)


def save(proto: ModelProto, name: str = "m.onnx") -> None:
    Path(name).write_bytes(proto.SerializeToString())


def files(directory: Path) -> dict[str, int]:
    return {str(p.relative_to(directory)): p.lstat().st_size for p in directory.rglob("*") if not p.is_dir()}


def refused(args: list[str], *words: str, before: Callable[[], None] | None = None) -> None:
    """Runs `mlc ARGS`, which must fail with 1, say all of `words` in one error without a traceback, and leave no file."""
    work, cache = Path.cwd(), Path(os.environ["MLC_CACHE_DIR"])
    there = files(work)
    done = subprocess.run([*COMMAND, *args], capture_output=True, text=True, preexec_fn=before)
    assert done.returncode == 1, done
    error = re.sub(r"(?m)^(compiling|running) .* \(\d+ s\)\n", "", done.stderr)  # progress, on a slow machine
    assert error.startswith("mlc: error: ") and "Traceback" not in error, error
    assert done.stdout == ""
    missing = [word for word in words if word not in error]
    assert not missing, f"{missing} not in: {error}"
    assert files(work) == there
    assert [p for p in work.iterdir() if p.name.startswith(".mlc-")] == []
    assert not list(cache.glob("entries/*")) and not list(cache.glob("staging/*"))


# ----------------------------------------------------------------------------------------------------------- files that are no model


@pytest.mark.parametrize("content", [
    linear().SerializeToString()[:-40],
    random.Random(0).randbytes(4096),
    numpy_helper.from_array(WEIGHT, "w").SerializeToString(),
    b"PK\x03\x04" + bytes(100),
], ids=["truncated", "random", "a tensor", "a zip"])
def test_not_a_model(content: bytes) -> None:
    Path("m.onnx").write_bytes(content)
    refused(["compile", "m.onnx"], "m.onnx")
    refused(["run", "m.onnx", "--random-inputs"], "m.onnx")


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), random.Random(0).randbytes(99)], ids=["empty", "empty zip", "random"])
def test_not_an_artifact(content: bytes) -> None:
    Path("m.mlc").write_bytes(content)
    refused(["run", "m.mlc", "--random-inputs"], "m.mlc")


def test_a_pipe_is_not_waited_for() -> None:
    os.mkfifo("pipe.onnx")
    refused(["compile", "pipe.onnx"], "pipe.onnx", "pipe")
    with pytest.raises(ResourceError, match="regular file"):
        mlc.compile("pipe.onnx")


# ----------------------------------------------------------------------------------------------------------- graphs that break rules


def _cycle(m: ModelProto) -> None:
    m.graph.node[0].input[0] = "back"
    m.graph.node.append(helper.make_node("Neg", ["y"], ["back"], name="around"))


def _range(**keys: str) -> Callable[[ModelProto], None]:
    """W lies in a file, at a place given by `keys`."""
    def change(m: ModelProto) -> None:
        weight = m.graph.initializer[0]
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        for key, value in {"location": "w.bin", **keys}.items():
            weight.external_data.add(key=key, value=value)

    return change


BROKEN: dict[str, tuple[Callable[[ModelProto], object], tuple[str, ...]]] = {
    "cycle": (_cycle, ("cyclic", "'around'")),
    "missing name": (lambda m: m.graph.node[0].input.append("ghost"), ("'ghost'", "MatMul")),
    "output defined twice": (lambda m: m.graph.node.append(m.graph.node[0]), ("'y'", "twice")),
    "input listed twice": (lambda m: m.graph.input.append(m.graph.input[0]), ("'x'", "twice")),
    "no such op": (lambda m: setattr(m.graph.node[0], "op_type", "MatMull"), ("MatMull",)),
    "attribute of another type": (lambda m: m.graph.node[0].attribute.append(helper.make_attribute("axis", 1)), ("'axis'", "MatMul")),
    "bytes and shape differ": (lambda m: setattr(m.graph.initializer[0], "raw_data", b"1234"), ("'w'", "4 bytes", "needs 48")),
    "dims overflow": (lambda m: m.graph.initializer[0].dims.extend([1 << 40, 1 << 40]), ("'w'", "1099511627776")),
    "negative dim": (lambda m: m.graph.initializer[0].dims.append(-1), ("'w'", "negative")),
    "type of no tensor": (lambda m: setattr(m.graph.initializer[0], "data_type", 77), ("'w'", "77")),
    "shapes that do not fit": (lambda m: m.graph.initializer[0].dims.__setitem__(slice(2), [2, 6]), ("MatMul", "4", "2")),
    "outside: ..": (_range(location="../w.bin"), ("'w'", "../w.bin", "inside the model's directory")),
    "outside: absolute": (_range(location="/etc/passwd"), ("'w'", "/etc/passwd")),
    "outside: symbolic link": (_range(location="soft.bin"), ("'w'", "soft.bin", "link")),
    "outside: linked directory": (_range(location="up/w.bin"), ("'w'", "up/w.bin", "link")),
    "outside: hard link": (_range(location="hard.bin"), ("'w'", "hard.bin", "hard link")),
    "range short": (_range(length="47"), ("'w'", "47", "48")),
    "range negative": (_range(offset="-48"), ("'w'", "-48")),
    "range beyond the end": (_range(offset="1"), ("'w'", "49", "48", "w.bin")),
    "range oversized": (_range(length="1000000000000000"), ("'w'", "1000000000000000", "48")),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_models(case: str, here: Path) -> None:
    change, words = BROKEN[case]
    (here.parent / "w.bin").write_bytes(WEIGHT.tobytes())
    Path("w.bin").write_bytes(WEIGHT.tobytes())
    Path("soft.bin").symlink_to("../w.bin")
    Path("up").symlink_to("..")
    os.link("../w.bin", "hard.bin")
    proto = linear()
    change(proto)
    save(proto)
    refused(["compile", "m.onnx", "--shape", "x=2x4"], *words)


HUGE = {
    "weights": "g () => (float[n] y) { s = Constant<value = int64[1] {1000000000000}>() y = ConstantOfShape(s) }",
    "intermediate": "g (float[1] x) => (float[n] y) { s = Constant<value = int64[2] {1000000, 1000000}>() y = Expand(x, s) }",
    "range": "g () => (int64[n] y) { a = Constant<value = int64 {0}>() b = Constant<value = int64 {1000000000000}>() "
             "c = Constant<value = int64 {1}>() y = Range(a, b, c) }",
    "overflow": "g (float[1] x) => (float[n] y) { s = Constant<value = int64[3] {4611686018427387904, 8, 2}>() y = Expand(x, s) }",
}


@pytest.mark.parametrize("case", HUGE)
def test_a_small_file_that_asks_for_terabytes(case: str) -> None:
    save(model(HUGE[case]))
    refused(["compile", "m.onnx"], "node ")


# ----------------------------------------------------------------------------------------------------------- flags and run time


@pytest.mark.parametrize(("args", "words"), [
    (["--shape", "x=3x5"], ("'x'", "3x5", "[n, 4]")),
    (["--shape", "x=2"], ("'x'",)),
    (["--shape", "z=2x4"], ("'z'", "x")),
    (["--shape", "x=99999999999x4"], ("99999999999",)),
    (["--shape", "m=2"], ("'m'", "dimensions: n")),
    (["--shape", "x=2x4,3x4"], ("several shapes", "'x'")),
    (["--shape", "x=2x4", "--value", "z=1"], ("'z'",)),
    (["--shape", "x=2x4", "--value", "x=@no.npy"], ("no.npy",)),
    (["--shape", "x=2x4", "--target", "cuda:sm_10"], ("sm_10",)),
    (["--shape", "x=2x4", "-o", "/proc/m.mlc"], ("/proc",)),
    (["--shape", "x=2x4", "--dump-dir", "m.onnx"], ("--dump-dir", "m.onnx")),
    (["--shape", "x=2x4", "--timeout", "-1"], ("--timeout",)),
    (["--shape", "x=2x4", "--timeout", "0.01"], ("--timeout 0.01 s",)),
    (["--shape", "x=2x4", "--max-memory", "150M"], ("--max-memory 150.0 MiB",)),
    (["--shape", "x=2x4", "--max-memory", "4M"], ("--max-memory 4.0 MiB",)),
])
def test_flags_that_do_not_fit(args: list[str], words: tuple[str, ...]) -> None:
    save(linear())
    refused(["compile", "m.onnx", *args], *words)


def test_inputs_that_do_not_fit(here: Path) -> None:
    save(linear())
    exe = mlc.compile("m.onnx", shapes={"x": (2, 4)}, cache=False)
    exe.save("m.mlc")
    for name, array in {"shape": np.ones((4, 2), np.float32), "dtype": np.ones((2, 4)), "good": np.ones((2, 4), np.float32)}.items():
        np.save(f"{name}.npy", array)
    Path("pickle.npy").write_bytes(b"\x93NUMPY\x01\x00")
    refused(["run", "m.mlc", "--input", "x=shape.npy"], "'x'", "[4, 2]", "[2, 4]")
    refused(["run", "m.mlc", "--input", "x=dtype.npy"], "'x'", "f64", "f32")
    refused(["run", "m.mlc", "--input", "z=good.npy"], "'z'", "x")
    refused(["run", "m.mlc", "--input", "x=pickle.npy"], "x", "pickle.npy")
    for content, said in ((b"", "'odd.npy' is empty"), (b"1, 2, 3", "'odd.npy' is no .npy file")):
        Path("odd.npy").write_bytes(content)
        refused(["run", "m.mlc", "--input", "x=odd.npy"], "--input x", said, "hint: numpy.save")
    refused(["run", "m.mlc", "--input", "x=good.npy", "--save", "/proc/out.npz"], "--save", "/proc")
    with pytest.raises(InputError, match="'z'"):
        exe.run({"z": np.ones((2, 4), np.float32)})


def test_a_demo_that_cannot_write_its_network() -> None:
    Path("file").touch()
    refused(["demo", "-q", "--dir", "file"], "cannot write the demo's network to file/resnet50.onnx", "hint: name another place")


def test_the_api_raises_the_same_types() -> None:
    with pytest.raises(TargetError, match="abacus"):
        mlc.compile(linear(), "abacus")
    with pytest.raises(ShapeError, match="x"):
        mlc.compile(linear(), shapes={"x": (2, 5)}, cache=False)
    with pytest.raises(OptionError, match="the shape of input 'x' is '2x4', expected integers"):
        mlc.compile(linear(), shapes={"x": "2x4"}, cache=False)


@pytest.mark.parametrize("shapes", [{"x": (2, 4)}, {"x": [np.int64(2), 4]}, {"n": 2}])
def test_shapes_in_any_form(shapes: dict[str, object]) -> None:
    assert mlc.compile(linear(), shapes=shapes, cache=False).inputs[0].shape == (2, 4)


# ----------------------------------------------------------------------------------------------------------- the machine gives up


def _large(path: str, size: int = 512) -> None:
    weight = np.random.default_rng(0).standard_normal((size, size)).astype(np.float32)
    save(model(f"g (float[8, {size}] x) => (float[8, {size}] y) {{ y = MatMul(x, w) }}", w=weight), path)


@pytest.mark.parametrize(("flags", "said"), [(["--no-cache"], "--output: cannot write 'm.mlc'"), ([], "cannot write to the cache")])
def test_full_disk(flags: list[str], said: str) -> None:
    _large("m.onnx")
    refused(["compile", "m.onnx", *flags], said, "File too large",
            before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, 1 << 18)))


def test_full_disk_keeps_the_old_output() -> None:
    _large("m.onnx")
    Path("m.mlc").write_bytes(b"old")
    refused(["compile", "m.onnx", "--no-cache"], before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, 1 << 18)))
    assert Path("m.mlc").read_bytes() == b"old"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("delay", [0.0, 0.2])
def test_interrupted(number: signal.Signals, code: int, delay: float, here: Path) -> None:
    _large("m.onnx", 4096)  # takes far longer than the delay
    Path("m.mlc").write_bytes(b"old")
    # A shell's background job ignores SIGINT, and its children inherit that.
    process = subprocess.Popen([*COMMAND, "compile", "m.onnx"], stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    while not list(here.glob(".mlc-*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    time.sleep(delay)
    process.send_signal(number)
    _, error = process.communicate(timeout=10)
    assert process.returncode == code and "Traceback" not in error
    assert files(here).keys() == {"m.onnx", "m.mlc"} and Path("m.mlc").read_bytes() == b"old"
    assert not list((here.parent / "cache").glob("entries/*"))


def test_a_crash_of_the_compiler(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: Path) -> None:
    fault = "import ctypes, mlc.driver; mlc.driver.compile_model = lambda *a, **k: ctypes.string_at(0); from mlc.cli.worker"
    monkeypatch.setattr(isolate, "START", isolate.START.replace("from mlc.cli.worker", fault))
    save(linear())
    assert run(["compile", "m.onnx", "--shape", "x=2x4"]) == 70
    error = capsys.readouterr().err
    assert "SIGSEGV" in error and "bug in mlc" in error and "Traceback" not in error
    assert files(here).keys() == {"m.onnx"}
    assert onnx.load("m.onnx") == linear()
