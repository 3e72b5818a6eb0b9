"""ONNX to GPU artifacts, without a GPU: members and plan agree, levels print, bytes repeat, and control flow becomes steps."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_models import model

from mlc.artifact import Artifact
from mlc.driver import compile_model, emit
from mlc.errors import OptionError
from mlc.ir.context import make_context
from mlc.ir.mlir import ir
from mlc.options import CompileOptions
from mlc.target import Target

TARGETS = ("cuda:sm_90a", "cuda:sm_80", "rocm:gfx942")
LOOP = """g (float[4] x, int64 n) => (float[4] y) {
    yes = Constant<value = bool {1}>()
    y = Loop(n, yes, x) <body = b (int64 i, bool c, float[4] v) => (bool d, float[4] w) {
        d = Identity(c)
        f = Cast<to = 1>(i)
        w = Add(v, f)
    }>
}"""


def _matmul() -> onnx.ModelProto:
    w = np.random.default_rng(0).standard_normal((64, 128)).astype(np.float16)
    return model("g (float16[32, 64] x) => (float16[32, 128] y) { m = MatMul(x, w) y = Softmax(m) }", w=w)


def _compiled(proto: onnx.ModelProto, target: str, opt_level: int = 3) -> Artifact:
    return compile_model(proto, CompileOptions(target=Target.parse(target), opt_level=opt_level))


def _steps(steps: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for step in steps:
        yield step
        for key in ("body", "then", "else"):
            yield from _steps(step.get(key, []))


@pytest.mark.parametrize("target", TARGETS)
def test_members_and_plan_agree(target: str) -> None:
    artifact = _compiled(_matmul(), target)
    plan = artifact.plan
    json.dumps(plan)
    assert plan["target"] == artifact.target == target and "entry" not in plan
    assert ("driver" in plan) == target.startswith("cuda")
    assert set(artifact.objects) == set(plan["objects"]) == {k["object"] for k in plan["kernels"]}
    assert all(data.startswith(b"\x7fELF") for data in artifact.objects.values())
    for kernel in plan["kernels"]:
        assert kernel["symbol"].encode() in artifact.objects[kernel["object"]]
        assert kernel["blocks"] == np.prod(kernel["grid"]) > 0 and kernel["threads"] % 32 == 0 and kernel["registers"] > 0
        assert {"shared_bytes", "spill_bytes", "nodes", "launches"} <= set(kernel)
    launched = {s["kernel"] for s in _steps(plan["steps"]) if s["op"] == "launch"}
    assert launched == {k["name"] for k in plan["kernels"]}
    refs = [r for s in _steps(plan["steps"]) if s["op"] == "launch" for r in s["args"]]
    assert {r["index"] for r in refs if r["space"] == "weight"} == set(range(len(plan["weights"])))


@pytest.mark.parametrize("target", TARGETS)
def test_the_same_model_gives_the_same_bytes(target: str) -> None:
    first, second = _compiled(_matmul(), target), _compiled(_matmul(), target)
    assert first.plan == second.plan and first.objects == second.objects


@pytest.mark.parametrize("target", ["cuda:sm_90a", "rocm:gfx942"])
def test_a_loop_of_unknown_length_is_a_while_step(target: str) -> None:
    steps = list(_steps(_compiled(model(LOOP), target).plan["steps"]))
    loop, = (s for s in steps if s["op"] == "while")
    assert {s["op"] for s in loop["body"]} >= {"set", "launch"}
    limit, = (s for s in steps if s["op"] == "let")
    assert limit["value"] == ["load", {"space": "input", "index": 1, "offset": 0}, "i64"]


@pytest.mark.parametrize(("level", "texts"), [
    ("graph", ['"graph.matmul"']), ("tile", ['"tile.graph"']), ("task", ['"task.kernel"', '"task.launch"']),
    ("gpu", ["gpu.module @kernels", "known_block_size", '"task.launch"']), ("llvm", ["define ptx_kernel void @kernel_"]),
    ("asm", [".version 8.3", ".target sm_80", ".visible .entry kernel_"])])
def test_levels(level: str, texts: Sequence[str]) -> None:
    found = emit(_matmul(), CompileOptions(target=Target.parse("cuda:sm_80")), level)
    assert [text for text in texts if text not in found] == []


@pytest.mark.parametrize(("target", "pipeline"), [("cuda:sm_80", "nvvm.cp.async.commit.group"), ("cuda:sm_90a", "nvgpu.ldmatrix")])
def test_the_gpu_level_parses_back(target: str, pipeline: str) -> None:
    text = emit(_matmul(), CompileOptions(target=Target.parse(target)), "gpu")
    assert pipeline in text
    with make_context() as context:
        assert str(ir.Module.parse(text, context)) == text


def test_a_level_that_the_target_has_not() -> None:
    with pytest.raises(OptionError, match="--emit gpu: target 'cpu:x86-64-v3' has the levels graph, tile, task, llvm, asm"):
        emit(_matmul(), CompileOptions(target=Target.parse("cpu:x86-64-v3")), "gpu")


@pytest.mark.parametrize("type_", ["float16", "bfloat16", "float", "double"])
@pytest.mark.parametrize("target", ["cuda:sm_75", "cuda:sm_90a", "rocm:gfx942"])
def test_functions_of_every_type(type_: str, target: str) -> None:
    names = ["Exp", "Tanh", "Sin", "Erf", "Sqrt", "Log", "Sigmoid", "Asinh", "Cosh", "Atan", "Acos", "Floor", "Round"]
    chain = " ".join(f"v{i + 1} = {name}(v{i})" for i, name in enumerate(names))
    body = f"g ({type_}[70] v0) => ({type_}[70] y) {{ {chain} p = Pow(v0, v{len(names)}) y = Mod<fmod = 1>(p, v0) }}"
    assert _compiled(model(body, opset=22), target, opt_level=1).objects


def test_progress_counts_kernels() -> None:
    seen: list[tuple[str, int, int]] = []
    compile_model(_matmul(), CompileOptions(target=Target.parse("cuda:sm_80")), progress=lambda *report: seen.append(report))
    counted = [(done, of) for stage, done, of in seen if stage == "codegen" and of]
    assert counted == [(i + 1, len(counted)) for i in range(len(counted))] and counted
