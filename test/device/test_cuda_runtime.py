"""The CUDA runtime on an NVIDIA GPU: kernels in PTX under plans written by hand, then small models from ONNX, against numpy.

    python -m pytest -m gpu test/device/test_cuda_runtime.py
"""

import gc
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import mlc
from mlc.artifact import Artifact
from mlc.backends.cuda.device import Gpu, gpus
from mlc.backends.cuda.driver_api import Driver
from mlc.cli.main import run
from mlc.errors import CompilerError, InputError, ResourceError, TargetError
from mlc.load import executable
from mlc.runtime.executor import Executable
from mlc.runtime.gpu_profile import chrome_trace

pytestmark = pytest.mark.gpu

N = 4096
X = np.linspace(-2, 2, N, dtype=np.float32)
SIZE = 4 * N
# out[i] = in[i] + 1, one thread per element; `wait` is what lets it be launched early.
INC = """.version 7.8
.target {arch}
.address_size 64
.visible .entry inc(.param .u64 in, .param .u64 out) {{
  .reg .u64 %a, %b, %o;
  .reg .u32 %t, %c, %n;
  .reg .f32 %f;
  {wait}
  ld.param.u64 %a, [in];
  ld.param.u64 %b, [out];
  mov.u32 %t, %tid.x;
  mov.u32 %c, %ctaid.x;
  mov.u32 %n, %ntid.x;
  mad.lo.u32 %t, %c, %n, %t;
  mul.wide.u32 %o, %t, 4;
  add.u64 %a, %a, %o;
  add.u64 %b, %b, %o;
  ld.global.f32 %f, [%a];
  add.f32 %f, %f, 0f3F800000;
  st.global.f32 [%b], %f;
  ret;
}}
"""
FAULT = """.version 7.8
.target {arch}
.address_size 64
.visible .entry fault(.param .u64 out) {{
  .reg .u64 %a;
  mov.u64 %a, 64;
  st.global.u64 [%a], %a;
  ret;
}}
"""


@pytest.fixture(scope="module")
def gpu() -> Gpu:
    return gpus(Driver())[0]


def ref(space: str, offset: Any = 0, index: int = 0) -> dict[str, Any]:
    return {"space": space, "index": index, "offset": offset}


def inc(source: dict[str, Any], target: dict[str, Any]) -> dict[str, Any]:
    return {"op": "launch", "kernel": "inc", "args": [source, target]}


def copy(source: dict[str, Any], target: dict[str, Any]) -> dict[str, Any]:
    return {"op": "copy", "source": source, "target": target, "bytes": SIZE}


def plan(gpu: Gpu, steps: Sequence[dict[str, Any]], **more: Any) -> Artifact:
    early = gpu.capability >= (9, 0)
    arch = f"sm_{gpu.capability[0]}{gpu.capability[1]}"
    kernels = [{"name": name, "object": f"objects/{name}.ptx", "symbol": name, "grid": [N // 128], "blocks": N // 128, "threads": 128,
                "shared_bytes": 0, "pdl": early and name == "inc", "nodes": [f"/{name}"]} for name in ("inc", "fault")]
    vector = {"dtype": "f32", "shape": [N]}
    text = {"inc": INC.format(arch="sm_90" if early else "sm_75", wait="griddepcontrol.wait;" if early else ""),
            "fault": FAULT.format(arch="sm_75")}
    return Artifact.build(plan={"target": f"cuda:{arch}", "arena_bytes": 4 * SIZE, "steps": list(steps), "kernels": kernels,
                                "inputs": [{"name": "x", **vector}], "outputs": [{"name": "y", **vector}], "weights": [], **more},
                          objects={f"objects/{name}.ptx": code.encode() + b"\0" for name, code in text.items()})


CHAIN = [copy(ref("input"), ref("arena")), inc(ref("arena"), ref("arena", SIZE)), inc(ref("arena", SIZE), ref("arena", 2 * SIZE)),
         inc(ref("arena", 2 * SIZE), ref("output"))]


# ----------------------------------------------------------------------------------------------------------------- plans by hand


def test_a_captured_plan(gpu: Gpu) -> None:
    """Early launches behind a copy, a kernel and a set."""
    steps = [*CHAIN, {"op": "set", "target": ref("output", 8), "type": "i64", "value": -1}, inc(ref("output"), ref("output"))]
    exe = executable(plan(gpu, steps))
    for seed in range(20):
        x = np.random.default_rng(seed).standard_normal(N).astype(np.float32)
        expected = x + 1 + 1 + 1 + 1
        found = exe(x)[0]
        assert np.isnan(found[2:4]).all()
        np.testing.assert_array_equal(np.delete(found, [2, 3]), np.delete(expected, [2, 3]))


def test_unrolled_and_dynamic_loops(gpu: Gpu) -> None:
    static = [copy(ref("input"), ref("output")),
              {"op": "for", "var": "i", "start": 0, "stop": 500, "step": 1, "body": [inc(ref("output"), ref("output"))]}]
    np.testing.assert_array_equal(executable(plan(gpu, static))(np.zeros(N, np.float32))[0], np.full(N, 500, np.float32))
    more = {"inputs": [{"name": "x", "dtype": "f32", "shape": [N]}, {"name": "n", "dtype": "i64", "shape": []}]}
    body = [inc(ref("output"), ref("arena")), copy(ref("arena"), ref("output"))]
    count = ["load", ref("input", index=1), "i64"]
    loop = {"op": "while", "var": "i", "start": 0, "condition": ["lt", "i", count], "next": ["add", "i", 1], "body": body}
    counted = executable(plan(gpu, [copy(ref("input"), ref("output")), loop], **more))
    for n in (3, 0, 7, 3):
        np.testing.assert_array_equal(counted(np.zeros(N, np.float32), np.int64(n))[0], np.full(N, n, np.float32))


def test_threads_take_turns(gpu: Gpu) -> None:
    exe, wrong = executable(plan(gpu, CHAIN)), list[int]()

    def work(seed: int) -> None:
        x = exe.random_inputs(seed)["x"]
        wrong.extend(1 for _ in range(30) if not np.array_equal(exe(x)[0], x + 1 + 1 + 1))

    threads = [threading.Thread(target=work, args=(s,)) for s in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_outputs_stay_and_go_in_again(gpu: Gpu) -> None:
    exe = executable(plan(gpu, CHAIN))
    y = exe.run({"x": X}, device=True)["y"]
    z = exe.run({"x": y}, device=True)["y"]
    np.testing.assert_array_equal(y.numpy(), X + 1 + 1 + 1)
    np.testing.assert_array_equal(np.asarray(z), X + 1 + 1 + 1 + 1 + 1 + 1)


def test_torch_tensors(gpu: Gpu) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    exe = executable(plan(gpu, CHAIN))
    for stream in (torch.cuda.default_stream(), torch.cuda.Stream()):
        with torch.cuda.stream(stream):
            for _ in range(20):
                x = torch.zeros(N, device="cuda")
                for _ in range(50):  # still being written when it is passed
                    x += 1
                y = torch.from_dlpack(exe.run({"x": x}, device=True)["y"])
                assert bool((y * 2 == 106).all())
    with pytest.raises(InputError, match="contiguous"):
        exe(torch.zeros(2 * N, device="cuda")[::2])
    if torch.cuda.device_count() > 1:
        with pytest.raises(InputError, match="on CUDA device 1, expected device 0"):
            exe(torch.zeros(N, device="cuda:1"))


def test_clocks(gpu: Gpu) -> None:
    exe = executable(plan(gpu, CHAIN))
    warm, cold, wall = exe.bench(repeat=50), exe.bench(repeat=50, flush_l2=True), exe.bench(repeat=50, clock="wall")
    assert 0 < warm.median < 1 and 0 < cold.median < 1 and wall.median > 0
    times = exe.profile(repeat=5)
    assert [t.name for t in times] == ["copy", "inc", "inc", "inc"]
    assert all(0 < t.milliseconds < 1 for t in times)
    assert len(json.loads(chrome_trace(times, "test"))["traceEvents"]) == 5


def test_memory_comes_back(gpu: Gpu) -> None:
    executable(plan(gpu, CHAIN))(X)  # what CUDA keeps for itself is there from the first time on
    free: list[int] = []
    for _ in range(10):
        exe = executable(plan(gpu, CHAIN, arena_bytes=256 << 20))
        exe(X)
        exe.run({"x": X}, device=True)
        exe.profile(repeat=1)
        with exe._program.device as device:
            free.append(device.free_bytes())
        del exe
        gc.collect()
    assert free[-1] > free[1] - (64 << 20), free


def test_too_much_memory_is_refused(gpu: Gpu) -> None:
    with pytest.raises(ResourceError, match=r"needs .* of GPU memory \(arena 1\.0 TiB"):
        executable(plan(gpu, CHAIN, arena_bytes=1 << 40))


def test_another_architecture_is_refused(gpu: Gpu) -> None:
    with pytest.raises(TargetError, match="the artifact is for sm_70a, this machine has"):
        executable(plan(gpu, CHAIN, target="cuda:sm_70a"))


def test_damaged_code_is_refused(gpu: Gpu) -> None:
    made = plan(gpu, CHAIN)
    with pytest.raises((mlc.errors.ArtifactError, TargetError), match=r"objects/inc\.ptx cannot be loaded"):
        executable(Artifact(made.manifest, made.plan, [], {**made.objects, "objects/inc.ptx": b"not code"}))


@pytest.mark.parametrize(("debug", "said"), [
    ("", r"ILLEGAL_ADDRESS: one of the model's 2 kernels faulted"),
    ("1", r"kernel 'fault' \(nodes '/fault'; 32 blocks of 128 threads\) faulted"),
])
def test_a_fault_is_named(gpu: Gpu, tmp_path: Path, debug: str, said: str) -> None:
    """In a process of its own, whose CUDA context dies of it."""
    plan(gpu, [*CHAIN, {"op": "launch", "kernel": "fault", "args": [ref("output")]}]).save(tmp_path / "m.mlc")
    program = f"""
import numpy as np, re, mlc
exe = mlc.load({str(tmp_path / 'm.mlc')!r})
for attempt in range(2):
    try:
        exe(np.zeros({N}, np.float32))
    except mlc.errors.CompilerError as e:
        assert re.search({said!r}, str(e)) or attempt, e
        print("named")
"""
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "MLC_DEBUG_SYNC": debug}, capture_output=True, text=True)
    assert done.stdout == "named\nnamed\n" and done.returncode == 0, done.stderr


def test_a_forked_child_is_told(gpu: Gpu) -> None:
    exe = executable(plan(gpu, CHAIN))
    exe(X)
    pid = os.fork()
    if pid == 0:
        try:
            exe(X)
        except (TargetError, CompilerError):
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    np.testing.assert_array_equal(exe(X)[0], X + 1 + 1 + 1)


# --------------------------------------------------------------------------------------------------------------------- from ONNX


def network(nodes: Sequence[onnx.NodeProto], weights: dict[str, np.ndarray], shape: Sequence[int], outputs: Sequence[str] = ("y",),
            extra: Sequence[onnx.ValueInfoProto] = ()) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(list(nodes), "g", [x, *extra], results, [numpy_helper.from_array(w, n) for n, w in weights.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def compiled(model: onnx.ModelProto) -> Executable:
    return mlc.compile(model, "cuda", cache=False)


RNG = np.random.default_rng(7)
W = (RNG.standard_normal((96, 80)) / 8).astype(np.float32)
B = RNG.standard_normal(80).astype(np.float32)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_product_and_softmax(gpu: Gpu, rows: int) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "b"], ["s"]),
             helper.make_node("Softmax", ["s"], ["y"], axis=-1)]
    exe = compiled(network(nodes, {"w": W, "b": B}, [rows, 96]))
    x = RNG.standard_normal((rows, 96)).astype(np.float32)
    np.testing.assert_allclose(exe(x)[0], softmax(x.astype(np.float64) @ W + B), atol=1e-5)


def test_elementwise_and_reduction(gpu: Gpu) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("ReduceMean", ["r", "axes"], ["m"], keepdims=1),
             helper.make_node("Sub", ["r", "m"], ["y"])]
    exe = compiled(network(nodes, {"axes": np.array([-1])}, [33, 257]))
    x = RNG.standard_normal((33, 257)).astype(np.float32)
    r = np.maximum(x, 0)
    np.testing.assert_allclose(exe(x)[0], r - r.mean(-1, keepdims=True), atol=1e-5)


def test_a_loop_whose_count_is_an_input(gpu: Gpu) -> None:
    info = helper.make_tensor_value_info
    carried = [info("i", TensorProto.INT64, []), info("c", TensorProto.BOOL, []), info("a", TensorProto.FLOAT, [8])]
    inner = [helper.make_node("Add", ["a", "a"], ["a2"]), helper.make_node("Identity", ["c"], ["c2"])]
    body = helper.make_graph(inner, "body", carried, [info("c2", TensorProto.BOOL, []), info("a2", TensorProto.FLOAT, [8])])
    model = network([helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)], {}, [8], extra=[info("n", TensorProto.INT64, [])])
    exe = compiled(model)
    x = np.ones(8, np.float32)
    for n in (3, 0, 5):
        np.testing.assert_array_equal(exe(x, np.int64(n))[0], x * 2**n)


def test_the_command_line(gpu: Gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLC_CACHE_DIR", str(tmp_path / "cache"))
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"], name="product"), helper.make_node("Relu", ["h"], ["y"], name="act")]
    onnx.save(network(nodes, {"w": W}, [64, 96]), "m.onnx")
    assert run(["compile", "m.onnx", "--target", "cuda"]) == 0
    assert run(["run", "m.mlc", "--random-inputs", "--save", "out.npz"]) == 0
    assert run(["verify", "m.onnx", "--target", "cuda"]) == 0
    assert run(["bench", "m.mlc", "--duration", "0.2", "--profile", "trace.json"]) == 0
    said = capsys.readouterr().out
    assert "GPU time" in said and "product" in said
    events = json.loads(Path("trace.json").read_text())["traceEvents"]
    assert any("product" in " ".join(e["args"].get("onnx nodes", [])) for e in events)
    assert run(["doctor"]) in (0, 1)
    assert "device 0" in capsys.readouterr().out
