"""The command line around the compiler: speed, errors, exit codes, and that nothing is left behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import mlc
from mlc.cli import isolate
from mlc.cli.isolate import Limits, run_job
from mlc.cli.main import VERBS, run
from mlc.errors import CompilerError, ModelError, OptionError, ResourceError
from mlc.progress import Progress


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLC_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory whose modules the child process finds as `mlc.cli.jobs.*`."""
    folder = tmp_path / "extra_jobs"
    folder.mkdir()
    find = f"import mlc.cli.jobs; mlc.cli.jobs.__path__.append({str(folder)!r}); from mlc"
    monkeypatch.setattr(isolate, "START", isolate.START.replace("from mlc", find, 1))
    return folder


def job(folder: Path, body: str, name: str = "fake", limits: Limits = isolate.UNLIMITED) -> dict[str, object]:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    (folder / f"{name}.py").write_text(f"def job(request, report):\n{lines}")
    with Progress("test", show=False) as progress:
        return run_job(name, {"number": 7}, progress=progress, limits=limits)


def model(path: Path) -> Path:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy")
    onnx.save(helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="act")], "g", [x], [y])), path)
    return path


# ------------------------------------------------------------------------------------------------------------- the tool as a whole


def test_help_is_quick_and_complete() -> None:
    start = time.monotonic()
    text = subprocess.run([sys.executable, "-m", "mlc.cli", "--help"], capture_output=True, text=True, check=True).stdout
    assert time.monotonic() - start < 2  # about 0.1 s on an idle machine
    assert all(verb in text for verb in VERBS)


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, mlc.cli.main as m; m.run(['compile', '--help']); print({'numpy', 'onnx', 'torch_mlir', 'rich'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.endswith("set()\n")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb, "--help"]) == 0
    assert f"Usage: mlc {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(("args", "said"), [
    (["compile", "/no/such.onnx"], "MODEL: there is no file '/no/such.onnx'"),
    (["compile", "."], "MODEL: '.' is a directory, expected a file"),
    (["compil"], "there is no command 'compil'. Did you mean 'compile'?"),
    (["compile", "{model}", "--target", "cuba"], "unknown target 'cuba'"),
    (["compile", "{model}", "--target", "cuda:sm_91"], "sm_91"),
    (["compile", "{model}", "--shape", "x=1xtwo"], "--shape 'x=1xtwo': expected NAME=DIMxDIM"),
    (["compile", "{model}", "--shape", "x=1", "--shape", "x=2"], "--shape names 'x' twice"),
    (["compile", "{model}", "-o", "/no/such/dir/m.mlc"], "--output: the directory '/no/such/dir' does not exist"),
    (["compile", "{model}", "--emit", "bytes"], "'bytes' is not one of"),
    (["compile", "{model}", "--max-memory", "lots"], "--max-memory: 'lots' is not a size"),
    (["run", "{model}"], "is an ONNX model, expected an .mlc file"),
    (["bench", "{tmp}/m.mlc", "--vs", "ort"], "there is no file"),
    (["cache", "prune", "--size", "x"], "--size: 'x' is not a size"),
])
def test_user_errors(args: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = model(tmp_path / "m.onnx")
    assert run([a.format(model=path, tmp=tmp_path) for a in args]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("mlc: error: ")
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("content", [b"", b"garbage" * 20, b"version https://git-lfs\n", b"\x08\x07\x3a\xff\xff\xff\xff\x0f"])
def test_damaged_models(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.onnx").write_bytes(content)
    assert run(["compile", "m.onnx"]) == 1
    error = capsys.readouterr().err
    assert "m.onnx" in error
    assert "Traceback" not in error
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "cache") == ["m.onnx"]


def test_a_bug_in_the_tool_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], private_cache: Path) -> None:
    monkeypatch.setattr("mlc.cli.cache.Cache.default", lambda: 1 / 0)
    assert run(["cache", "ls"]) == 70
    assert "mlc itself failed: ZeroDivisionError" in capsys.readouterr().err
    (report,) = (private_cache / "crashes").iterdir()
    assert "Traceback" in (report / "traceback.txt").read_text()


def test_cache_verbs(capsys: pytest.CaptureFixture[str], private_cache: Path) -> None:
    from mlc.cache import Cache

    Cache(private_cache).put("key", lambda path: path.write_bytes(b"x" * 2048), {"model": "m.onnx", "target": "cpu"})
    assert run(["cache", "ls"]) == 0
    assert "m.onnx" in capsys.readouterr().out
    assert run(["cache", "clear"]) == 0
    assert "removed 1 entries" in capsys.readouterr().out


def test_doctor_tells_of_packages_and_targets(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 0
    text = capsys.readouterr().out
    assert mlc.__version__ in text
    assert "rocm:gfx942" in text


# ------------------------------------------------------------------------------------------------------------- jobs in a child process


def test_a_job_answers_and_reports(jobs: Path) -> None:
    assert job(jobs, "report('tile', 1, 2)\nreturn {'double': request['number'] * 2}") == {"double": 14}


def test_typed_errors_cross_the_process(jobs: Path) -> None:
    with pytest.raises(ModelError) as caught:
        job(jobs, "from mlc.errors import ModelError\nraise ModelError('broken', node=\"'a' (ai.onnx::Relu, opset 9)\", hint='mend it')")
    assert str(caught.value) == "node 'a' (ai.onnx::Relu, opset 9): broken\n  hint: mend it"


def test_a_segmentation_fault_is_a_compiler_crash(jobs: Path, private_cache: Path) -> None:
    with pytest.raises(CompilerError, match=r"crashed \(SIGSEGV\) while in stage 'codegen'") as caught:
        job(jobs, "report('codegen', 0, 0)\nimport ctypes\nctypes.string_at(0)")
    assert caught.value.exit_code == 70
    (report,) = (private_cache / "crashes").iterdir()
    assert "Segmentation fault" in (report / "log.txt").read_text()
    assert json.loads((report / "request.json").read_text())["request"] == {"number": 7}


def test_an_exception_is_a_compiler_crash(jobs: Path, private_cache: Path) -> None:
    with pytest.raises(CompilerError, match="KeyError: 'lost'"):
        job(jobs, "raise KeyError('lost')")
    (report,) = (private_cache / "crashes").iterdir()
    assert "Traceback" in (report / "log.txt").read_text()


def test_timeout(jobs: Path) -> None:
    start = time.monotonic()
    with pytest.raises(ResourceError, match=r"--timeout 0.5 s, in stage 'tile'"):
        job(jobs, "import time\nreport('tile', 0, 0)\ntime.sleep(60)", limits=Limits(seconds=0.5))
    assert time.monotonic() - start < 10


def test_memory_limit(jobs: Path) -> None:
    with pytest.raises(ResourceError, match=r"--max-memory 1.0 GiB, in stage 'graph'"):
        job(jobs, "report('graph', 0, 0)\nreturn {'n': len(bytearray(4 << 30))}", limits=Limits(memory=1 << 30))
    with pytest.raises(ResourceError, match=r"SyntaxError: expected ':' while in stage 'start', with no more than --max-memory 1.0 GiB"):
        job(jobs, "raise SyntaxError(\"expected ':'\")", limits=Limits(memory=1 << 30))  # how Python's parser runs out of memory


def test_the_child_dies_with_an_interrupted_parent(jobs: Path, tmp_path: Path) -> None:
    (jobs / "fake.py").write_text("import os, time\nfrom pathlib import Path\ndef job(request, report):\n"
                                  f"    Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n    time.sleep(60)\n")
    code = (f"from mlc.cli import isolate, main; isolate.START = {isolate.START!r}\n"
            "from mlc.progress import Progress\n"
            "main.cli = lambda **k: isolate.run_job('fake', {}, progress=Progress('t'))\n"
            "main.cli.main = main.cli\n"
            "main.main([])")
    # A shell's background job ignores SIGINT, and its children inherit that.
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True,
                              preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert parent.poll() is None, parent.stderr and parent.stderr.read()
        time.sleep(0.05)
    parent.send_signal(signal.SIGINT)
    _, error = parent.communicate(timeout=10)
    assert parent.returncode == 130
    assert "mlc: error: interrupted" in error
    child = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


# ------------------------------------------------------------------------------------------------------------- small parts


def test_progress_is_silent_at_first_and_keeps_times(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with Progress("compiling") as progress:
        progress("graph", 0, 0)
        progress("tile", 1, 9)
    assert capsys.readouterr().err == ""
    assert list(progress.seconds) == ["start", "graph", "tile"]
    monkeypatch.setattr("mlc.progress.DELAY", 0.0)
    with Progress("compiling") as progress:
        progress("tile", 1, 9)
        progress("tile", 2, 9)
    assert capsys.readouterr().err == "compiling: tile 1/9 (0 s)\n"


def test_compare() -> None:
    from mlc.cli.jobs.compare import compare

    one = np.array([1.0, np.nan, np.inf, 0.0], np.float32)
    assert compare("y", one.copy(), one).ok
    assert not compare("y", np.array([1.0, np.nan, 5.0, 0.0], np.float32), one).ok
    assert not compare("y", np.array([1.0, 1.0, np.inf, 0.0], np.float32), one).ok
    off = compare("y", one + np.float32(0.01), one)
    assert (off.ok, off.outside) == (False, 0.5)
    assert compare("y", one[:2], one).problem == "found float32[2], expected float32[4]"
    assert not compare("n", np.array([2**62 + 1]), np.array([2**62])).ok
    assert compare("e", np.zeros((0, 3)), np.zeros((0, 3))).ok


def test_bisection() -> None:
    from mlc.cli.jobs.verify import first_true

    assert [first_true(5, lambda i, k=k: i >= k) for k in range(6)] == [0, 1, 2, 3, 4, None]


def test_the_package_is_light_and_its_names_resolve() -> None:
    code = ("import sys, mlc; print({'numpy', 'onnx', 'click', 'torch_mlir'} & set(sys.modules))\n"
            "from mlc.load import executable\n"  # binds the submodule of the same name
            "assert callable(mlc.load)")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mlc.nothing
    assert mlc.errors.OptionError is OptionError


def test_another_mlc_is_noticed(tmp_path: Path) -> None:
    """Both orders of installing mlc-python beside us: our __init__.py with their folders, and theirs with our modules."""
    package = tmp_path / "mlc"
    shutil.copytree(Path(mlc.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "_cython").mkdir()
    command = [sys.executable, "-m", "mlc.cli", "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "'mlc-python' is installed over 'mlc-compiler'" in done.stderr
    (package / "__init__.py").write_text("__version__ = '0.4.0'")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "'mlc-python' was installed over 'mlc-compiler'" in done.stderr
