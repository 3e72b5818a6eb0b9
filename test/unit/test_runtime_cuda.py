"""The CUDA runtime on a fake driver: memory, copies, graphs, programmatic launches, errors, and arrays that stay on the device."""

import gc
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from fake_cuda import CUresult, FakeCuda
from fake_plans import SCALE, W, X, arena, artifact, copy, fake, kernel, launch, ref

from mlc.artifact import Artifact
from mlc.backends.cuda.device import Gpu
from mlc.dtypes import F32
from mlc.errors import ArtifactError, CompilerError, InputError, OptionError, ResourceError, TargetError
from mlc.load import executable
from mlc.runtime.device_array import DeviceArray
from mlc.runtime.dlpack import make_capsule
from mlc.runtime.executor import Executable
from mlc.runtime.gpu_profile import chrome_trace


def load(steps: list[dict[str, Any]] = SCALE, **more: Any) -> Executable:
    return executable(artifact(steps, **more))


# ---------------------------------------------------------------------------------------------------------------------- running


def test_a_static_plan_is_one_graph(cuda: FakeCuda) -> None:
    exe = load()
    for seed in range(3):
        x = exe.random_inputs(seed)["x"]
        np.testing.assert_array_equal(exe(x)[0], x * W + 1)
    names = cuda.names()
    assert names.count("cuStreamBeginCapture") == 1 and names.count("cuGraphLaunch") == 3
    # The second kernel waits by itself; the first has nothing to overlap with.
    assert cuda.launches == [("mul_sym", False), ("inc_sym", True)]
    assert not cuda.contexts  # the caller's context is current again


def test_loops_are_unrolled(cuda: FakeCuda) -> None:
    round_trip = [launch("inc", arena(["mul", "i", 256]), arena(["add", ["mul", "i", 256], 256]))]
    exe = load([copy(ref("input"), arena(0), 16), {"op": "for", "var": "i", "start": 0, "stop": 3, "step": 1, "body": round_trip},
                copy(arena(768), ref("output"), 16)])
    for _ in range(2):
        np.testing.assert_array_equal(exe(X)[0], X + 3)
    # Behind the copy a kernel with the attribute is launched plainly.
    assert cuda.launches == [("inc_sym", False), ("inc_sym", True), ("inc_sym", True)]


@pytest.mark.parametrize(("kind", "value", "expected"), [
    ("i64", -5, np.int64(-5)), ("i64", 1 << 40, np.int64(1 << 40)), ("i1", 1, np.bool_(True)), ("i16", -2, np.int16(-2)),
    ("ui8", 255, np.uint8(255)), ("f32", 3, np.float32(3))])
def test_set(cuda: FakeCuda, kind: str, value: int, expected: np.generic) -> None:
    exe = load([{"op": "set", "target": ref("output", offset=8), "type": kind, "value": value}, launch("inc", arena(0), arena(256))],
               outputs=[{"name": "y", "dtype": "ui8", "shape": [16]}])
    for _ in range(2):
        assert exe(X)[0][8:8 + expected.itemsize].tobytes() == expected.tobytes()


LOAD = ["load", ref("input", 1), "i64"]
COUNTED = {"inputs": [{"name": "x", "dtype": "f32", "shape": [4]}, {"name": "n", "dtype": "i64", "shape": []}]}


def counted(body: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Y = x, then `body` n times."""
    return [copy(ref("input"), ref("output"), 16), {"op": "let", "var": "n", "value": LOAD},
            {"op": "for", "var": "i", "start": 0, "stop": "n", "step": 1, "body": body}]


def test_a_trip_count_is_read(cuda: FakeCuda) -> None:
    body = [launch("inc", ref("output"), ref("output")), launch("inc", ref("output"), ref("output"))]
    exe = load(counted(body), **COUNTED)
    for n in (3, 0, 5):
        np.testing.assert_array_equal(exe(X, np.int64(n))[0], X + 2 * n)
    # The loop reads nothing itself, so it is a stretch with the key n; each count came once, and none was worth a graph.
    assert cuda.names().count("cuGraphLaunch") == 0
    exe(X, np.int64(5))
    exe(X, np.int64(5))
    assert cuda.names().count("cuStreamBeginCapture") == 1 and cuda.names().count("cuGraphLaunch") == 2


def test_a_while_loop_reads_its_condition(cuda: FakeCuda) -> None:
    def less(a: int, b: int) -> None:
        cuda.view(b, 1)[0] = cuda.array(a, 4).max() < 7

    cuda.kernels["less_sym"] = less
    flag = ["load", arena(0), "i1"]
    body = [launch("inc", ref("output"), ref("output")), launch("less", ref("output"), arena(0))]
    steps = [copy(ref("input"), ref("output"), 16), {"op": "set", "target": arena(0), "type": "i1", "value": 1},
             {"op": "while", "var": "i", "start": 0, "condition": ["and", ["lt", "i", 10], flag], "next": ["add", "i", 1], "body": body}]
    exe = load(steps, kernels=[kernel("inc", pdl=True), kernel("less")])
    for _ in range(2):
        np.testing.assert_array_equal(exe(X)[0], X + 4)
    assert cuda.names().count("cuStreamBeginCapture") == 2  # the part ahead of the loop, and its body
    assert cuda.names().count("cuGraphLaunch") == 2 * (1 + 4)


def test_a_branch_reads_its_condition(cuda: FakeCuda) -> None:
    branch = {"op": "if", "condition": ["lt", 0, LOAD], "then": [launch("inc", ref("input"), ref("output"))],
              "else": [copy(ref("input"), ref("output"), 16)]}
    exe = load([branch], **COUNTED)
    np.testing.assert_array_equal(exe(X, np.int64(1))[0], X + 1)
    np.testing.assert_array_equal(exe(X, np.int64(-1))[0], X)


def test_empty_tensors(cuda: FakeCuda) -> None:
    empty = {"dtype": "f32", "shape": [0, 4]}
    exe = load([launch("inc", ref("input"), ref("output")), copy(ref("input"), ref("output"), 0)], kernels=[kernel("inc", blocks=0)],
               weights=[], arena_bytes=0, inputs=[{"name": "x", **empty}], outputs=[{"name": "y", **empty}])
    assert exe(np.zeros((0, 4), np.float32))[0].shape == (0, 4)
    assert exe.run({"x": np.zeros((0, 4), np.float32)}, device=True)["y"].numpy().shape == (0, 4)


def test_everything_is_given_back(cuda: FakeCuda) -> None:
    exe = load()
    exe(X)
    exe.bench(repeat=3, flush_l2=True)
    exe.profile(repeat=2)
    assert len(cuda.blocks) == 4 and cuda.pinned and cuda.graphs and cuda.retained == 1
    del exe
    gc.collect()
    assert (cuda.blocks, cuda.pinned, cuda.graphs, cuda.events, cuda.retained) == ({}, {}, {}, {}, 0)


def test_large_dynamic_shared_memory_is_allowed(cuda: FakeCuda) -> None:
    load(kernels=[kernel("mul", shared_bytes=200_000), kernel("inc")])
    assert [args[1:] for name, args in cuda.calls if name == "cuFuncSetAttribute"] == [("shared", 200_000)]


def test_large_clusters_are_allowed(cuda: FakeCuda) -> None:
    load(kernels=[kernel("mul", cluster=16), kernel("inc", cluster=8)])
    assert [args[1:] for name, args in cuda.calls if name == "cuFuncSetAttribute"] == [("cluster", 1)]


# ---------------------------------------------------------------------------------------------------------------- device arrays


class CudaTensor:
    """What PyTorch hands over, as far as DLPack goes."""

    def __init__(self, cuda: FakeCuda, values: np.ndarray, device: int = 0, dtype: Any = F32) -> None:
        self.address = cuda.allocation(max(1, values.nbytes))
        cuda.view(self.address, values.nbytes)[:] = values.reshape(-1).view(np.uint8)
        self.shape, self.device, self.dtype = values.shape, device, dtype
        self.streams: list[int] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.device

    def __dlpack__(self, stream: int | None = None) -> Any:
        self.streams += [stream] if stream is not None else []
        return make_capsule(self, self.address, self.dtype, self.shape, (2, self.device))


def interface(cuda: FakeCuda, values: np.ndarray, **more: Any) -> Any:
    address = cuda.allocation(values.nbytes)
    cuda.view(address, values.nbytes)[:] = values.reshape(-1).view(np.uint8)
    return SimpleNamespace(__cuda_array_interface__={"shape": values.shape, "typestr": values.dtype.str, "data": (address, False),
                                                     "version": 3, "strides": None, "stream": None, **more})


def test_inputs_on_the_device_stay_there(cuda: FakeCuda) -> None:
    exe = load()
    for make in (lambda: CudaTensor(cuda, X), lambda: interface(cuda, X), lambda: interface(cuda, X, stream=7)):
        cuda.calls.clear()
        np.testing.assert_array_equal(exe(make())[0], X * W + 1)
        assert "cuMemcpyHtoDAsync" not in cuda.names() and "cuMemcpyDtoDAsync" in cuda.names()
    # A stream that still writes the tensor is waited for, ahead of the copy.
    assert ("cuEventRecord", 7) in [(name, args[1]) for name, args in cuda.calls if name == "cuEventRecord"]
    assert cuda.names().index("cuStreamWaitEvent") < cuda.names().index("cuMemcpyDtoDAsync")
    tensor = CudaTensor(cuda, X)
    exe(tensor)
    assert tensor.streams == [exe._program.device.stream]


def test_a_tensor_is_kept_until_it_is_copied_and_no_longer(cuda: FakeCuda) -> None:
    exe, tensor = load(), CudaTensor(cuda, X)
    gone = weakref.ref(tensor)
    exe(tensor)
    del tensor
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(("make", "message"), [
    (lambda c: CudaTensor(c, X, device=1), r"on CUDA device 1, expected device 0"),
    (lambda c: CudaTensor(c, X.reshape(2, 2)), r"input 'x': found .*CudaTensor f32\[2, 2\], expected f32\[4\]"),
    (lambda c: interface(c, X.astype(np.float64)), r"f64\[4\], expected f32\[4\]"),
    (lambda c: interface(c, X, strides=(8,)), r"strides \[2\], expected it contiguous"),
    (lambda c: interface(c, X, mask=X), "with a mask"),
    (lambda c: interface(c, X, data=(64, False)), "input 'x': found .*: 0x40 is not an address of CUDA device memory"),
    (lambda c: interface(c, X, typestr="what"), "bad __cuda_array_interface__"),
])
def test_device_arrays_that_are_refused(cuda: FakeCuda, make: Callable[[FakeCuda], Any], message: str) -> None:
    exe = load()
    with pytest.raises(InputError, match=message) as e:
        exe(make(cuda))
    assert "the model's inputs are x: f32[4]" in str(e.value)


def test_a_pointer_of_another_device(cuda: FakeCuda) -> None:
    exe, x = load(), interface(cuda, X)
    cuda._cuPointerGetAttribute = lambda attribute, address: (CUresult.CUDA_SUCCESS, 1)  # type: ignore[method-assign]
    with pytest.raises(InputError, match=r"on CUDA device 1, expected device 0, where the model is loaded\n.*move it to device 0"):
        exe(x)


def test_host_arrays_go_through_pinned_memory(cuda: FakeCuda) -> None:
    exe = load()
    exe(X)
    copies = [args[1] for name, args in cuda.calls if name == "cuMemcpyHtoDAsync"][1:]  # the weights come first
    copies += [args[0] for name, args in cuda.calls if name == "cuMemcpyDtoHAsync"]
    assert len(copies) == 2 and all(any(base <= at < base + len(b) for base, b in cuda.pinned.items()) for at in copies)


def test_outputs_on_the_device(cuda: FakeCuda) -> None:
    exe = load()
    y = exe.run({"x": X}, device=True)["y"]
    again = exe.run({"x": y}, device=True)["y"]  # what one model gives, the next one takes
    assert isinstance(y, DeviceArray) and y.address != again.address
    np.testing.assert_array_equal(y.numpy(), X * W + 1)
    np.testing.assert_array_equal(np.asarray(again), (X * W + 1) * W + 1)
    assert y.__dlpack_device__() == (2, 0)
    assert y.__cuda_array_interface__ == {"shape": (4,), "typestr": "<f4", "data": (y.address, False), "version": 3, "strides": None,
                                          "stream": None}
    assert repr(y) == "<mlc.DeviceArray f32[4] on NVIDIA Fake (sm_90)>"
    blocks, capsule = len(cuda.blocks), y.__dlpack__(stream=1)
    del y, again
    gc.collect()
    assert len(cuda.blocks) == blocks - 1  # the capsule keeps its memory
    del capsule
    gc.collect()
    assert len(cuda.blocks) == blocks - 2


def test_bfloat16_leaves_through_dlpack(cuda: FakeCuda) -> None:
    exe = load([copy(ref("input"), ref("output"), 8)], inputs=[{"name": "x", "dtype": "bf16", "shape": [4]}],
               outputs=[{"name": "y", "dtype": "bf16", "shape": [4]}])
    y = exe.run({"x": X.astype(ml_dtypes.bfloat16)}, device=True)["y"]
    assert not hasattr(y, "__cuda_array_interface__")
    np.testing.assert_array_equal(exe(y)[0].astype(np.float32), X)


def test_jit_takes_and_gives_device_arrays(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    from onnx import parser  # here: this file is also run where the compiler's packages are not

    from mlc.jit import Jit, jit

    compiled: list[Any] = []
    monkeypatch.setattr(Jit, "_compile", lambda self, values, fixed: compiled.append(fixed) or load())
    f = jit(parser.parse_model('<ir_version: 8, opset_import: ["": 20]> g (float[n] x, float[n] w) => (float[n] y) '
                               '<float[4] w = {1, 1, 1, 1}> { y = Mul(x, w) }'), target="cuda:sm_90a")
    f(X)
    for x in (CudaTensor(cuda, X), interface(cuda, X), X):
        cuda.calls.clear()
        np.testing.assert_array_equal(f(x)[0], X * W + 1)
        assert ("cuMemcpyHtoDAsync" in cuda.names()) == isinstance(x, np.ndarray)
    y = f.run({"x": CudaTensor(cuda, X)}, device=True)["y"]
    assert isinstance(y, DeviceArray) and compiled == [frozenset()]  # one signature, wherever the tensor lies
    np.testing.assert_array_equal(f(y)[0], (X * W + 1) * W + 1)
    with pytest.raises(InputError, match=r"input 'w': its value decides a shape, and it is in GPU memory\n.*host memory"):
        f(X, w=CudaTensor(cuda, X))
    with pytest.raises(InputError, match="input 'x': found .* that cannot be read"):
        f(interface(cuda, X, typestr="what"))


def test_jit_for_the_cpu_refuses_device_arrays(cuda: FakeCuda) -> None:
    from onnx import parser

    from mlc.jit import jit

    f = jit(parser.parse_model('<ir_version: 8, opset_import: ["": 20]> g (float[n] x) => (float[n] y) { y = Neg(x) }'), cache=False)
    with pytest.raises(InputError, match=r"CudaTensor on a CUDA device, expected a host tensor\n.*move it to the host"):
        f(CudaTensor(cuda, X))


def test_device_outputs_need_a_device() -> None:
    class Host:
        def run(self, inputs: Any, outputs: Any) -> None: ...

    exe = Executable(Artifact.build(plan={"target": "cpu", "inputs": [], "outputs": []}, objects={}), Host())
    for call in (lambda: exe.run({}, device=True), lambda: exe.prepare({}), lambda: exe.bench(clock="gpu"), exe.profile,
                 lambda: exe.bench(flush_l2=True), lambda: exe.bench(clock="sun")):
        with pytest.raises(OptionError):
            call()
    assert exe.bench(repeat=2).clock == "wall"


# ---------------------------------------------------------------------------------------------------------------- prepared runs


def test_a_prepared_run_copies_nothing(cuda: FakeCuda) -> None:
    exe = load()
    run = exe.prepare([X])
    cuda.calls.clear()
    for _ in range(2):
        run.queue()
    run.wait()
    np.testing.assert_array_equal(run.outputs[0].numpy(), X * W + 1)
    assert not {"cuMemcpyHtoDAsync", "cuMemcpyDtoDAsync"} & set(cuda.names()) and cuda.names().count("cuGraphLaunch") == 2
    exe.prepare({"x": CudaTensor(cuda, 2 * X)}).queue()  # another one, from the GPU: the same memory
    np.testing.assert_array_equal(run.outputs[0].numpy(), 2 * X * W + 1)


def test_a_prepared_run_goes_into_the_caller_s_graph(cuda: FakeCuda) -> None:
    run = load().prepare([X])
    outputs, cuda.capturing = run.outputs, []  # as if the caller had begun to capture run.stream
    assert run.is_static and run.record() == 2
    graph, cuda.capturing = cuda.capturing, None
    assert "cuStreamBeginCapture" not in cuda.names() and len(graph) == 2 and run.stream == run.outputs[0]._device.stream
    cuda.array(outputs[0].address, 4).fill(0)
    for work in graph:
        work()
    np.testing.assert_array_equal(outputs[0].numpy(), X * W + 1)


def test_a_prepared_run_that_decides_as_it_goes(cuda: FakeCuda) -> None:
    run = load(counted([launch("inc", ref("output"), ref("output"))]), **COUNTED).prepare({"x": X, "n": np.int64(3)})
    with pytest.raises(OptionError, match="decides from values in memory"):
        run.record()
    assert not run.is_static
    run.queue()
    np.testing.assert_array_equal(run.outputs[0].numpy(), X + 3)


def test_a_prepared_run_names_what_faulted(cuda: FakeCuda) -> None:
    run = load([launch("bad", ref("input"))]).prepare([X])
    run.queue()
    with pytest.raises(CompilerError, match=r"one of the model's 3 kernels faulted"):
        run.wait()


# ---------------------------------------------------------------------------------------------------------------------- clocks


def test_bench(cuda: FakeCuda) -> None:
    exe = load()
    result = exe.bench(repeat=600, warmup=1)
    assert (result.median, result.repeat, result.clock) == (2.0, 600, "gpu")  # two kernels, a tick each: neither copies nor flushes
    assert str(result) == "median 2 ms (p10 2, p90 2, min 2; 600 runs, GPU time)"
    cuda.calls.clear()
    assert exe.bench(repeat=3, flush_l2=True).median == 2.0
    assert [args[2] for name, args in cuda.calls if name == "cuMemsetD32Async"] == [2048] * 3  # twice the L2, in words
    assert exe.bench(repeat=3, clock="wall").clock == "wall"


def test_profile(cuda: FakeCuda) -> None:
    exe = load([*SCALE, copy(arena(256), arena(512), 16), {"op": "let", "var": "n", "value": ["load", arena(512), "i8"]},
                launch("inc", arena(512), arena(768))])
    times = exe.profile(repeat=3)
    assert [(t.name, t.milliseconds, t.nodes) for t in times] == [("mul", 1.0, ("/mul",)), ("inc", 1.0, ("/inc",)), ("copy", 1.0, ()),
                                                                  ("inc", 1.0, ("/inc",))]
    trace = json.loads(chrome_trace(times, "model"))
    slices = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    assert [(e["name"], e["ts"], e["dur"]) for e in slices[:2]] == [("mul", 0.0, 1000.0), ("inc", 1000.0, 1000.0)]
    assert slices[0]["args"]["onnx nodes"] == ["/mul"]


# ---------------------------------------------------------------------------------------------------------------------- errors


def test_a_fault_is_named(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [*SCALE, launch("bad", arena(0))]
    with pytest.raises(CompilerError, match=r"ILLEGAL_ADDRESS: one of the model's 3 kernels faulted \(mul, inc, bad\)") as e:
        load(steps)(X)
    assert "MLC_DEBUG_SYNC=1" in str(e.value)
    cuda.dead = False
    monkeypatch.setenv("MLC_DEBUG_SYNC", "1")
    exe = load(steps)
    with pytest.raises(CompilerError, match=r"kernel 'bad' \(nodes '/bad'; 2 blocks of 64 threads\) faulted, with arguments at 0x"):
        exe(X)
    cuda.dead = False
    np.testing.assert_array_equal(load()(X)[0], X * W + 1)


def test_after_a_fault_everything_can_still_be_dropped(cuda: FakeCuda) -> None:
    exe = load([launch("bad", arena(0))], kernels=[kernel("bad")])
    with pytest.raises(CompilerError, match=r"kernel 'bad' .* faulted"):
        exe(X)
    del exe
    gc.collect()


@pytest.mark.parametrize(("target", "capability", "ok"), [
    ("sm_90a", (9, 0), True), ("sm_90a", (10, 0), False), ("sm_80", (8, 6), True), ("sm_89", (8, 6), False), ("sm_80", (9, 0), False),
    ("sm_100f", (10, 3), True), ("sm_120a", (12, 0), True), ("gfx942", (9, 0), False)])
def test_which_gpu_runs_what(target: str, capability: tuple[int, int], ok: bool) -> None:
    assert Gpu(0, "GPU", capability).runs(target) is ok


def test_the_wrong_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = fake(monkeypatch, capabilities=((8, 0), (9, 0)))
    assert load()._program.device.ordinal == 1  # the first that can
    cuda.contexts.append(1)  # the caller works on device 0
    with pytest.raises(TargetError, match=r"the artifact is for sm_90a, this machine has NVIDIA Fake \(sm_80\)") as e:
        load()
    assert "cuda:sm_80" in str(e.value)
    fake(monkeypatch, capabilities=())
    with pytest.raises(TargetError, match="found no NVIDIA GPU"):
        load()


def test_driver_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, version=12020)
    with pytest.raises(TargetError, match=r"supports CUDA 12\.2, expected 12\.4 or newer"):
        load()
    fake(monkeypatch, version=12080)
    with pytest.raises(TargetError, match=r"supports CUDA 12\.8, expected 13\.0 or newer\n.*or compile .* with the ptxas of CUDA 12"):
        load(driver=[13, 0])
    with pytest.raises(ArtifactError, match="found driver"):
        load(driver="13")


@pytest.mark.parametrize(("call", "status", "error", "message"), [
    ("cuInit", CUresult.CUDA_ERROR_NO_DEVICE, TargetError, "NO_DEVICE .*CUDA_VISIBLE_DEVICES"),
    ("cuInit", CUresult.CUDA_ERROR_NOT_INITIALIZED, TargetError, r"fork\(\)"),
    ("cuMemAlloc", CUresult.CUDA_ERROR_OUT_OF_MEMORY, ResourceError, r"\(arena 1\.0 KiB, weights .*, but cannot allocate .*OUT_OF_MEMORY"),
    ("cuModuleLoadData", CUresult.CUDA_ERROR_NO_BINARY_FOR_GPU, TargetError, r"kernels\.cubin cannot be loaded on NVIDIA Fake.* CUDA 13"),
    ("cuModuleGetFunction", CUresult.CUDA_ERROR_NOT_FOUND, ArtifactError, r"kernel 'mul' .*NOT_FOUND"),
    ("cuGraphInstantiate", CUresult.CUDA_ERROR_INVALID_VALUE, CompilerError, r"INVALID_VALUE \(text of CUDA_ERROR_INVALID_VALUE\)"),
])
def test_driver_errors(cuda: FakeCuda, call: str, status: CUresult, error: type[Exception], message: str) -> None:
    cuda.errors[call] = status
    with pytest.raises(error, match=f"(?s){message}"):
        load()(X)


def test_a_failed_capture_is_ended(cuda: FakeCuda) -> None:
    exe = load()
    cuda.errors["cuLaunchKernelEx"] = CUresult.CUDA_ERROR_INVALID_VALUE
    with pytest.raises(CompilerError, match="cuLaunchKernelEx"):
        exe(X)
    cuda.errors.clear()
    np.testing.assert_array_equal(exe(X)[0], X * W + 1)


def test_memory_is_checked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = fake(monkeypatch, free=1 << 20)
    with pytest.raises(ResourceError, match=r"needs 3\.0 MiB of GPU memory \(arena 3\.0 MiB, .*found 1\.0 MiB free on NVIDIA Fake"):
        load(arena_bytes=3 << 20)
    assert "cuMemAlloc" not in cuda.names()


@pytest.mark.parametrize(("more", "message"), [
    ({"steps": [{"op": "dance"}]}, "bad step"),
    ({"steps": [launch("nobody")]}, "bad step"),
    ({"steps": [launch("mul", ref("input", 1))]}, "bad reference"),
    ({"steps": [launch("mul", ref("moon"))]}, "bad reference"),
    ({"steps": [launch("mul", arena(["pow", 2, 3]))]}, "bad expression"),
    ({"steps": [launch("mul", arena(["load", arena(0), "f32"]))]}, "bad expression"),
    ({"kernels": [{"name": "mul"}]}, "bad kernel"),
    ({"arena_bytes": -1}, "expected arena_bytes"),
    ({"kernels": [kernel("mul", object="objects/gone.cubin"), kernel("inc")]}, "objects/gone.cubin is not in the artifact"),
    ({"steps": [copy(ref("input"), arena(1020), 16)]}, "16 bytes at 1020 of arena 0, which has 1024"),
    ({"steps": [launch("inc", arena("i"), arena(0))]}, "'i' is used where it has no value"),
    ({"steps": [{"op": "for", "var": "i", "start": 0, "stop": 2, "step": 0, "body": SCALE}]}, "step 0"),
])
def test_bad_plans(cuda: FakeCuda, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        load(**more)(X)


def blocked(*packages: str) -> str:
    """A program's first lines: these packages cannot be imported."""
    return f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.startswith({packages!r}):
            raise ImportError('blocked: ' + name)
sys.meta_path.insert(0, Blocker())
"""


def python(program: str, *args: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), str(root / "test" / "unit")])
    return subprocess.run([sys.executable, "-c", program, *args], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)


def test_runs_without_the_compiler(tmp_path: Path) -> None:
    artifact().save(tmp_path / "m.mlc")
    done = python(blocked("mlc.ir", "mlc.dialects", "mlc.passes", "mlc.frontend", "torch_mlir", "llvmlite", "onnx", "torch.") + """
import numpy as np, pytest
from fake_plans import W, X, fake
fake(pytest.MonkeyPatch())
from mlc.load import load
exe = load(sys.argv[1])
assert (exe(X)[0] == X * W + 1).all()
print(exe.bench(repeat=5).clock)
""", str(tmp_path / "m.mlc"))
    assert done.stdout == "gpu\n", done.stderr


def test_without_bindings(tmp_path: Path) -> None:
    artifact().save(tmp_path / "m.mlc")
    program = "import mlc\ntry: mlc.load(sys.argv[1])\nexcept mlc.errors.TargetError as e: print(e)"
    done = python(blocked("cuda") + program, str(tmp_path / "m.mlc"))
    assert "bindings for Python are not installed" in done.stdout and "pip install 'mlc-compiler[cuda]'" in done.stdout, done.stderr


def test_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(flags: int) -> Any:
        raise RuntimeError("libcuda.so.1 cannot be found")

    monkeypatch.setattr(fake(monkeypatch), "cuInit", no_library, raising=False)
    with pytest.raises(TargetError, match=r"libcuda\.so\.1\) is not on this machine"):
        load()
