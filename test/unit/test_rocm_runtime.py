"""The ROCm runtime against a fake HIP library (fake_hip.c), compiled here: what is called, with which arguments, and what failures say."""

import gc
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from mlc.artifact import Artifact
from mlc.backends.rocm.code_object import read_code_object
from mlc.backends.rocm.device import HipDevice, choose_gpu
from mlc.backends.rocm.hip_api import Hip
from mlc.backends.rocm.runtime import RocmProgram
from mlc.backends.rocm.variants import architectures, join, variant
from mlc.driver import compile_model
from mlc.errors import ArtifactError, CompilerError, InputError, ResourceError, TargetError
from mlc.options import CompileOptions
from mlc.runtime.gpu_run import Set
from mlc.target import Target

KERNEL = b"\x7fELFdouble_it\0"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    path = tmp_path_factory.mktemp("hip") / "libamdhip64.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", str(Path(__file__).with_name("fake_hip.c")), "-o", str(path)],
                   check=True)
    return str(path)


@pytest.fixture
def log(library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    gc.collect()  # programs of earlier tests
    path = tmp_path / "log"
    monkeypatch.setenv("FAKE_HIP_LOG", str(path))
    return path


def calls(log: Path, *names: str) -> list[str]:
    return [line for line in log.read_text().splitlines() if line.split()[0] in names]


def ref(space: str, offset: int = 0, **index: int) -> dict[str, Any]:
    return {"space": space, "offset": offset, **index}


def artifact(arch: str = "gfx942", weights: list[np.ndarray] | None = None, code: bytes = KERNEL, blocks: int = 2) -> Artifact:
    """Output = 4 * input, by two launches of the fake's kernel; and the weight, if any, is copied to a second output."""
    name = f"objects/{arch}/k.hsaco"
    arrays = weights or []
    specs = [{"name": f"w{i}", "dtype": "f32", "shape": list(w.shape)} for i, w in enumerate(arrays)]
    shape = {"dtype": "f32", "shape": [128]}
    plan = {
        "target": f"rocm:{arch}", "arena_bytes": 1024, "inputs": [{"name": "x", **shape}], "weights": specs, "objects": [name],
        "outputs": [{"name": "y", **shape}, *([{"name": "z", "dtype": "f32", "shape": specs[0]["shape"]}] if specs else [])],
        "kernels": [{"name": "k", "object": name, "symbol": "double_it", "blocks": blocks, "threads": 64, "nodes": ["Mul_0"]}],
        "steps": [{"op": "launch", "kernel": "k", "args": [ref("input", index=0), ref("arena", 512)]},
                  {"op": "launch", "kernel": "k", "args": [ref("arena", 512), ref("output", index=0)]},
                  *([{"op": "copy", "source": ref("weight", index=len(arrays) - 1), "target": ref("output", index=1),
                      "bytes": arrays[-1].nbytes}] if specs else [])],
    }
    return Artifact.build(plan=plan, objects={name: code}, weights=[(s["name"], w) for s, w in zip(specs, arrays)])


def test_a_plan_is_captured_once_and_replayed(library: str, log: Path) -> None:
    program = RocmProgram(artifact(), hip=Hip(library))
    x, y = np.arange(128, dtype=np.float32), np.zeros(128, np.float32)
    for _ in range(3):
        program.run([x], [y])
        assert (y == 4 * x).all()
        x = x + 1
    assert calls(log, "hipModuleLaunchKernel") == ["hipModuleLaunchKernel double_it 2 64 0 captured"] * 2
    assert calls(log, "hipGraphInstantiate", "hipGraphLaunch") == ["hipGraphInstantiate 2"] + ["hipGraphLaunch 2"] * 3
    assert calls(log, "hipMalloc") == ["hipMalloc 1024", "hipMalloc 1", "hipMalloc 512", "hipMalloc 512"]


def test_everything_is_given_back(library: str, log: Path) -> None:
    program = RocmProgram(artifact(weights=[np.ones(4, np.float32)]), hip=Hip(library))
    program.run([np.ones(128, np.float32)], [np.zeros(128, np.float32), np.zeros(4, np.float32)])
    del program
    gc.collect()
    assert len(calls(log, "hipFree")) == len(calls(log, "hipMalloc")) and len(calls(log, "hipModuleUnload", "hipStreamDestroy")) == 2


def test_timing_and_profile(library: str, log: Path) -> None:
    program = RocmProgram(artifact(), hip=Hip(library))
    x = np.ones(128, np.float32)
    assert program.time([x], 3, 1, flush=True) == [0.5, 0.5, 0.5]
    assert calls(log, "hipMemsetD32Async") == ["hipMemsetD32Async 0 2048"] * 3
    assert [t.milliseconds for t in program.profile([x], 2)] == [0.5, 0.5]


def test_numbers_are_set_and_read_back(library: str, log: Path) -> None:
    hip = Hip(library)
    device = HipDevice(hip, choose_gpu(hip, ["gfx942"]))
    with device:
        address = device.allocate(64)
        device.issue([Set(address, (1234567890123).to_bytes(8, "little")), Set(address + 9, b"\x07"), Set(address + 10, b"\x01\x02")])
        data = device.read(address, 12)
        assert int.from_bytes(data[:8], "little") == 1234567890123 and data[9:] == b"\x07\x01\x02"
        device.wait_for(device.stream)
        assert device.pointer_device(address) == 0
        with pytest.raises(InputError, match="0x10 is not an address"):
            device.pointer_device(16)


def test_the_thread_keeps_its_device(library: str, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_HIP_ARCHS", "gfx90a,gfx942")
    hip = Hip(library)
    program = RocmProgram(artifact(), hip=hip)
    assert program.device.ordinal == 1 and hip.current_device() == 0
    hip.use_device(1)
    assert choose_gpu(hip, ["gfx90a", "gfx942"]).ordinal == 1
    hip.use_device(0)


@pytest.mark.parametrize(("archs", "message"), [
    ("gfx1100", r"holds code for gfx90a and gfx942, this machine has Fake 0 \(gfx1100\)\n.*--target rocm:gfx1100"),
    ("gfx90c", r"Fake 0 \(gfx90c\)\n.*no code for these GPUs"),
    ("gfx90c,gfx1201", r"Fake 0 \(gfx90c\), Fake 1 \(gfx1201\)\n.*--target rocm:gfx1201$"),
])
def test_an_artifact_for_other_gpus(library: str, monkeypatch: pytest.MonkeyPatch, archs: str, message: str) -> None:
    monkeypatch.setenv("FAKE_HIP_ARCHS", archs)
    with pytest.raises(TargetError, match=message):
        RocmProgram(join([artifact("gfx90a"), artifact("gfx942")]), hip=Hip(library))


def test_a_model_compiled_for_two_architectures(library: str, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each, its own code object and launches; the fake's kernel stands for the code."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1 << 18])
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    graph = helper.make_graph(nodes, "g", [x], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1 << 18])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    first, *also = Target.parse_all("rocm:gfx942,gfx1100,sms=48")
    made = compile_model(model, CompileOptions(first, also=tuple(also)))
    assert made.target == "rocm:gfx942,gfx1100" and made.plan["variants"]["gfx1100"]["target"] == "rocm:gfx1100,sms=48"
    for arch in ("gfx1100", "gfx942"):
        monkeypatch.setenv("FAKE_HIP_ARCHS", arch)
        (kernel,) = variant(made, arch).plan["kernels"]
        assert read_code_object(made.objects[kernel["object"]]).arch == arch
        coded = replace(made, objects={kernel["object"]: b"\x7fELF" + kernel["symbol"].encode() + b"\0"})
        program = RocmProgram(coded, hip=Hip(library))
        program.run([np.ones(1 << 18, np.float32)], [np.zeros(1 << 18, np.float32)])
        launched = calls(log, "hipModuleLaunchKernel")[-1]
        assert launched == f"hipModuleLaunchKernel {kernel['symbol']} {kernel['blocks']} {kernel['threads']} 0"


def test_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TargetError, match=r"HIP runtime \(libamdhip64\) is not on this machine(.|\n)*install ROCm"):
        Hip(str(tmp_path / "libamdhip64.so"))
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/libamdhip64.so").write_text("not a library")
    monkeypatch.setenv("ROCM_PATH", str(tmp_path))
    with pytest.raises(TargetError, match="HIP runtime"):
        Hip()


@pytest.mark.parametrize(("variables", "error", "message"), [
    ({"FAKE_HIP_FAIL": "hipInit:100"}, TargetError, r"hipInit: hipErrorNoDevice(.|\n)*HIP_VISIBLE_DEVICES"),
    ({"FAKE_HIP_ARCHS": ""}, TargetError, r"for gfx942, found no AMD GPU\n.*HIP_VISIBLE_DEVICES"),
    ({"FAKE_HIP_VERSION": "50730000"}, TargetError, r"found HIP 5\.7, expected 6\.0 or newer"),
    ({"FAKE_HIP_FREE": "1000"}, ResourceError, r"arena 1\.0 KiB.* found 1000 B free on Fake 0 \(gfx942\)"),
    ({"FAKE_HIP_FAIL": "hipMalloc:2"}, ResourceError, r"cannot allocate 1\.0 KiB on the GPU: .*OutOfMemory \(out of memory\)"),
    ({"FAKE_HIP_FAIL": "hipModuleGetFunction:500"}, ArtifactError, r"kernel 'k' \(nodes 'Mul_0'.*hipErrorNotFound"),
    ({"FAKE_HIP_FAIL": "hipStreamCreateWithFlags:1"}, CompilerError, r"hipStreamCreateWithFlags: hipErrorInvalidValue \(words\)"),
])
def test_failures_to_load(library: str, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], error: type, message: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(error, match=message):
        RocmProgram(artifact(), hip=Hip(library))


def test_damaged_code(library: str) -> None:
    with pytest.raises(ArtifactError, match=r"objects/gfx942/k\.hsaco cannot be loaded on Fake 0 \(gfx942\) with HIP 6\.3"):
        RocmProgram(artifact(code=b"nonsense"), hip=Hip(library))


def test_a_fault_names_the_kernel(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = RocmProgram(artifact(), hip=Hip(library))
    monkeypatch.setenv("FAKE_HIP_FAIL", "hipStreamSynchronize:700")
    with pytest.raises(CompilerError, match=r"hipErrorIllegalAddress: kernel 'k' \(nodes 'Mul_0'; 2 blocks of 64 threads\) faulted"):
        program.run([np.ones(128, np.float32)], [np.zeros(128, np.float32)])


def test_a_failed_capture_leaves_the_stream_usable(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = RocmProgram(artifact(), hip=Hip(library))
    x, y = np.ones(128, np.float32), np.zeros(128, np.float32)
    with monkeypatch.context() as failing:
        failing.setenv("FAKE_HIP_FAIL", "hipModuleLaunchKernel:1")
        with pytest.raises(CompilerError, match="hipModuleLaunchKernel"):
            program.run([x], [y])
    program.run([x], [y])
    assert (y == 4).all()


# -- variants -----------------------------------------------------------------------------------------------------------


def test_variants_share_equal_weights_and_run(library: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    same, own = np.full(4, 3, np.float32), np.full(4, 5, np.float32)
    both = join([artifact("gfx90a", [same]), artifact("gfx942", [own.copy(), same.copy(), own])])
    assert architectures(both) == ("gfx90a", "gfx942") and both.target == "rocm:gfx90a,gfx942"
    assert [w["name"] for w in both.plan["weights"]] == ["w0", "w0.1"] and both.plan["variants"]["gfx942"]["weights"] == [1, 0, 1]
    both.save(tmp_path / "both.mlc")
    for arch, weight in (("gfx90a", same), ("gfx942", own)):
        monkeypatch.setenv("FAKE_HIP_ARCHS", arch)
        y, z = np.zeros(128, np.float32), np.zeros(4, np.float32)
        RocmProgram(both, hip=Hip(library)).run([np.ones(128, np.float32)], [y, z])
        assert (y == 4).all() and (z == weight).all()


def test_one_variant_is_the_artifact_itself() -> None:
    one = artifact()
    assert join([one]) is one and variant(one, "gfx942") is one and architectures(one) == ("gfx942",)


def test_variants_must_be_of_one_model() -> None:
    with pytest.raises(CompilerError, match="the inputs or outputs for rocm:gfx942 are not those for rocm:gfx90a"):
        join([artifact("gfx90a"), artifact("gfx942", [np.ones(4, np.float32)])])


@pytest.mark.parametrize(("change", "message"), [
    ({"variants": []}, "found variants"),
    ({"variants": {"gfx942": {"weights": [7]}}}, "indices below"),
])
def test_malformed_variants(change: dict[str, Any], message: str) -> None:
    good = artifact()
    bad = Artifact(good.manifest, {**good.plan, **change}, good.weights, good.objects)
    with pytest.raises(ArtifactError, match=message):
        variant(bad, architectures(bad)[0])
