"""`mlc bench` and `mlc run` where a GPU is concerned: clocks, the profile, torch as a peer, and what is said where there is no GPU."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from fake_cuda import FakeCuda
from fake_plans import X, artifact
from onnx import TensorProto, helper

import mlc
from mlc.cli.jobs import bench, doctor
from mlc.cli.jobs import run as run_job
from mlc.cli.main import run
from mlc.errors import OptionError, TargetError


def quiet(stage: str, done: int, total: int) -> None:
    """A report that goes nowhere."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy")
    onnx.save(helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    artifact().save(tmp_path / "m.mlc")
    return tmp_path / "m.mlc"


def request(path: Path, **more: Any) -> dict[str, Any]:
    return {"model": str(path), "inputs": [], "seed": 0, "vs": None, "duration": 0.01, "threads": None, "profile": None, **more}


def test_bench_has_the_gpus_clock_and_the_callers(cuda: FakeCuda, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "WARMUP_SECONDS", 0.01)
    monkeypatch.setattr(bench, "TURN_SECONDS", 0.01)
    trace = tmp_path / "trace.json"
    answer = bench.job(request(saved, profile=str(trace)), quiet)
    assert answer["device"] == "NVIDIA Fake (sm_90)" and answer["peer"] is None
    assert [row["name"] for row in answer["rows"]] == ["mlc, GPU time", "mlc, GPU time, cold L2", "mlc, whole call"]
    assert answer["rows"][0]["median"] == 2e-3  # two kernels of a tick
    kernels = [(k["name"], k["launches"], k["share"], k["nodes"]) for k in answer["kernels"]]
    assert kernels == [("mul", 1, 0.5, ["/mul"]), ("inc", 1, 0.5, ["/inc"])]
    assert len(json.loads(trace.read_text())["traceEvents"]) == 3


def test_torch_is_measured_warm_and_cold_as_well(cuda: FakeCuda, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Peer:
        name = "torch 2"

        def __init__(self, path: str, inputs: Any, on_gpu: bool, threads: int, allow_tf32: bool) -> None:
            assert on_gpu and not allow_tf32

        def gpu_times(self, count: int, flush: bool) -> list[float]:
            return [2.0 if flush else 1.0] * count

    monkeypatch.setattr("mlc.cli.jobs.torch_peer.TorchPeer", Peer)
    monkeypatch.setattr(bench, "WARMUP_SECONDS", 0.01)
    monkeypatch.setattr(bench, "TURN_SECONDS", 0.01)
    answer = bench.job(request(saved, vs="torch"), quiet)
    assert answer["peer"] == "torch 2"
    assert {r["name"]: r["median"] for r in answer["rows"][3:]} == {"torch 2": 1.0, "torch 2, cold L2": 2.0}


def test_run_on_a_gpu(cuda: FakeCuda, saved: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    answer = run_job.job({"artifact": str(saved), "inputs": [f"x={tmp_path / 'x.npy'}"], "random": False, "seed": 0, "threads": None,
                          "save": str(tmp_path / "out.npz")}, quiet)
    assert answer["outputs"][0]["max"] == 7.0


@pytest.mark.parametrize("verb", ["run --random-inputs", "bench"])
def test_without_a_gpu(saved: Path, verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    name, *flags = verb.split()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert run([name, str(saved), *flags]) == 1
    said = capsys.readouterr().err
    assert "hint:" in said and any(word in said for word in ("not installed", "not on this machine", "no NVIDIA GPU", "NO_DEVICE"))


@pytest.mark.parametrize("target", ["cuda:sm_90a", "rocm:gfx942"])
def test_nothing_is_compiled_to_be_run_on_a_gpu_that_is_not_here(target: str, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("compiled")

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "")
    monkeypatch.setattr("mlc.api.build", never)
    for start in (lambda: mlc.compile(model, target), lambda: mlc.jit(model, target)(np.zeros((2, 3), np.float32))):
        with pytest.raises(TargetError):
            start()


def test_profile_needs_a_gpu(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", str(model), "--profile", str(tmp_path / "t.json"), "--duration", "0.01", "--no-cache"]) == 1
    assert "which is no GPU" in capsys.readouterr().err
    assert not (tmp_path / "t.json").exists()


def test_torch_as_a_peer_needs_torch(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlc.cli.jobs.torch_peer import TorchPeer

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(OptionError, match=r"PyTorch is not installed\n  hint: pip install torch"):
        TorchPeer(str(model), {}, on_gpu=False)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False), __version__="2"))  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="PyTorch 2 finds no GPU"):
        TorchPeer(str(model), {}, on_gpu=True)


def test_vs_needs_the_model(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", str(saved), "--vs", "torch"]) == 1
    assert "--vs torch needs the ONNX model" in capsys.readouterr().err


def library(**answers: Any) -> Callable[[str], Any]:
    """A libcuda whose calls succeed and write these values through their first argument."""

    class Library:
        def __getattr__(self, name: str) -> Callable[..., int]:
            def call(target: Any, *rest: Any) -> int:
                value = answers.get(name)
                if value is not None:
                    place = target if name == "cuDeviceGetName" else target._obj
                    place.value = value.get(rest[0]) if isinstance(value, dict) else value
                return 0

            return call

    return lambda name: Library()


@pytest.mark.parametrize(("version", "state", "said"), [(13000, "ok", "supports CUDA 13.0"), (12020, "problem", "expected 12.4 or newer")])
def test_doctor_shows_gpus(version: int, state: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "ptxas"
    tool.write_text("#!/bin/sh\necho V13.0.88\n")
    tool.chmod(0o755)
    monkeypatch.setattr("mlc.backends.cuda.ptxas.find_ptxas", lambda: tool)
    monkeypatch.setattr(doctor.ctypes, "CDLL", library(cuDriverGetVersion=version, cuDeviceGetCount=1, cuDeviceGetName=b"NVIDIA H200",
                                                       cuDeviceGetAttribute={75: 9, 76: 0}, cuDeviceTotalMem_v2=141 << 30))
    rows = {what: (found, detail) for _, what, found, detail in doctor._cuda()}
    assert rows["driver"][0] == state and said in rows["driver"][1]
    assert (rows["ptxas"][0], "to run here take the ptxas of CUDA 12" in rows["ptxas"][1]) == (state, state == "problem")
    assert rows["device 0"] == ("ok", "NVIDIA H200, sm_90, 141.0 GiB of memory: --target cuda:sm_90a")
