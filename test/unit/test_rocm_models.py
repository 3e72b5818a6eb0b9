"""ONNX models to ROCm artifacts, without a GPU: what the plan records, and kernels as files."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from mlc.artifact import Artifact
from mlc.backends.rocm.code_object import read_code_object
from mlc.backends.rocm.kernels import write_kernels
from mlc.backends.rocm.variants import join
from mlc.cli.main import run
from mlc.driver import compile_model, emit
from mlc.errors import OptionError, TargetError
from mlc.options import CompileOptions
from mlc.target import Target


def product() -> onnx.ModelProto:
    """Softmax(x w), with a weight."""
    w = np.random.default_rng(0).standard_normal((64, 48)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["t"], name="product"), helper.make_node("Softmax", ["t"], ["y"], name="shares")]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [32, 64])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [32, 48])], [numpy_helper.from_array(w, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def artifact(target: str) -> Artifact:
    return compile_model(product(), CompileOptions(target=Target.parse(target)))


@pytest.mark.parametrize("arch", ["gfx90a", "gfx942", "gfx1100", "gfx1201"])
def test_the_plan_records_what_kernels_use(arch: str) -> None:
    made = artifact(f"rocm:{arch}")
    for kernel in made.plan["kernels"]:
        (facts,) = read_code_object(made.objects[kernel["object"]]).kernels
        assert (kernel["symbol"], kernel["registers"], kernel["lds_bytes"]) == (facts.name, facts.vgprs, facts.lds_bytes)
        assert kernel["spill_bytes"] == kernel["scratch_bytes"] == kernel["shared_bytes"] == 0
        assert 0 < kernel["occupancy"] <= 1 and kernel["threads"] == facts.threads and kernel["object"].startswith(f"objects/{arch}/")


@pytest.mark.parametrize(("arch", "width"), [("gfx1100", 64), ("gfx1201", 80)])
def test_streamed_softmax_keeps_its_registers(arch: str, width: int) -> None:
    """LLVM's usual schedule fills all registers with what it loads ahead, and spills; the next one it is given does not."""
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, [1, 4, 512, width]) for name in "qkvy"]
    graph = helper.make_graph([helper.make_node("Attention", ["q", "k", "v"], ["y"])], "g", infos[:3], infos[3:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    kernel, = compile_model(model, CompileOptions(target=Target.parse(f"rocm:{arch}"))).plan["kernels"]
    assert kernel["spill_bytes"] == kernel["scratch_bytes"] == 0


def test_patches_keep_their_registers() -> None:
    """A product of three steps, which LLVM unrolls: all loads of all steps come first, and 620 registers were spilled."""
    rng = np.random.default_rng(3)
    weights = [numpy_helper.from_array(rng.standard_normal(s, np.float32), n) for n, s in (("w", (96, 3, 4, 4)), ("b", (96,)))]
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"], strides=[4, 4]),
             helper.make_node("Transpose", ["c"], ["y"], perm=[0, 2, 3, 1])]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 3, 224, 224]), ("y", [1, 56, 56, 96])))
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y], weights), opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    kernel, = compile_model(model, CompileOptions(target=Target.parse("rocm:gfx1100"))).plan["kernels"]
    assert kernel["spill_bytes"] == kernel["scratch_bytes"] == 0


@pytest.mark.parametrize(("arch", "instruction"), [("gfx942", "v_mfma_f32_16x16x32_fp8_bf8"), ("gfx1201", ""), ("gfx90a", "")])
def test_float8_that_no_atom_takes_is_a_note(arch: str, instruction: str) -> None:
    """Never an error: the products are computed in wider types."""
    kinds = TensorProto.FLOAT8E4M3FNUZ, TensorProto.FLOAT8E5M2FNUZ
    infos = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in zip("ab", kinds, ([128, 256], [256, 128]))]
    nodes = [helper.make_node("Cast", [name], [f"{name}w"], to=TensorProto.FLOAT) for name in "ab"]
    nodes.append(helper.make_node("MatMul", ["aw", "bw"], ["y"], name="proj"))
    graph = helper.make_graph(nodes, "g", infos, [helper.make_tensor_value_info("y", TensorProto.FLOAT, [128, 128])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = CompileOptions(target=Target.parse(f"rocm:{arch}"))
    notes = compile_model(model, options).plan.get("notes", [])
    if instruction:
        assert not notes and instruction in emit(model, options, "asm")
    else:
        note, = notes
        assert note.startswith("proj: products of f8E4M3FNUZ and f8E5M2FNUZ are computed in wider types on rocm:" + arch)


def test_equal_input_gives_an_equal_artifact() -> None:
    one, two = artifact("rocm:gfx942"), artifact("rocm:gfx942")
    assert one.plan == two.plan and one.objects == two.objects


def test_assembly_of_a_model() -> None:
    text = emit(product(), CompileOptions(target=Target.parse("rocm:gfx1100")), "asm")
    assert '.amdgcn_target "amdgcn-amd-amdhsa--gfx1100"' in text and "s_endpgm" in text


def test_kernels_as_files(tmp_path: Path) -> None:
    made = artifact("rocm:gfx942")
    paths = write_kernels(made, tmp_path)
    assert len(paths) == len(made.plan["kernels"])
    assert json.loads((tmp_path / "plan.json").read_text())["steps"] == made.plan["steps"]
    weights = load_file(tmp_path / "weights.safetensors")
    for entry, expected in zip(made.plan["weights"], made.weights, strict=True):
        np.testing.assert_array_equal(weights[entry["name"]], expected)
    written: set[str] = set()
    for path in paths:
        assert read_code_object(path.read_bytes()).arch == "gfx942"
        described = json.loads(path.with_suffix(".json").read_text())
        assert described["block"][1:] == described["grid"][1:] == [1, 1] and described["dynamic_lds_bytes"] == 0
        assert [a["offset"] for a in described["arguments"]] == [8 * i for i in range(len(described["arguments"]))]
        for launch in described["launches"]:
            assert len(launch) == len(described["arguments"])
            written |= {ref["space"] for ref, a in zip(launch, described["arguments"]) if "write" in a["access"]}
            assert all("write" not in a["access"] for ref, a in zip(launch, described["arguments"]) if ref["space"] in ("input", "weight"))
    assert "output" in written


def test_kernels_of_two_architectures_and_of_another_kind(tmp_path: Path) -> None:
    paths = write_kernels(join([artifact("rocm:gfx90a"), artifact("rocm:gfx1100")]), tmp_path)
    assert {p.parent.name for p in paths} == {"gfx90a", "gfx1100"}
    with pytest.raises(OptionError, match="cannot be written as AMD code objects"):
        write_kernels(artifact("cpu:x86-64-v3"), tmp_path)


@pytest.mark.parametrize(("text", "expected"), [
    ("rocm:gfx90a,gfx942", ["rocm:gfx90a", "rocm:gfx942"]),
    ("rocm:gfx90a,sms=110,gfx942,sms=38", ["rocm:gfx90a,sms=110", "rocm:gfx942,sms=38"]),
    ("rocm:gfx942,features=mfma", ["rocm:gfx942,features=mfma"]),
    ("cuda:sm_80,sms=1", ["cuda:sm_80,sms=1"]),
])
def test_targets_of_several_architectures(text: str, expected: list[str]) -> None:
    assert [str(t) for t in Target.parse_all(text)] == expected


@pytest.mark.parametrize(("text", "message"), [
    ("rocm:gfx90a,gfx943", r"unknown rocm architecture 'gfx943'\n.*did you mean 'gfx942'"),
    ("rocm:gfx942,gfx942", "names gfx942 twice"),
    ("cuda:sm_80,sm_90a", r"names another architecture, 'sm_90a'"),
    ("rocm:gfx942,lds=3", "unknown target fact 'lds'"),
])
def test_bad_lists_of_targets(text: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        Target.parse_all(text)


def test_kernels_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MLC_CACHE_DIR", str(tmp_path / "cache"))
    onnx.save(product(), tmp_path / "m.onnx")
    compile_ = ["compile", str(tmp_path / "m.onnx"), "--target", "rocm:gfx1100", "--emit", "kernels"]
    assert run([*compile_, "--output-dir", str(tmp_path / "out")]) == 0
    assert sorted(p.suffix for p in (tmp_path / "out").glob("kernel_0*")) == [".hsaco", ".json"]
    assert run(compile_) == 1
    assert "--emit kernels takes --output-dir DIR" in capsys.readouterr().err


def test_two_architectures_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MLC_CACHE_DIR", str(tmp_path / "cache"))
    source, made = tmp_path / "m.onnx", tmp_path / "m.mlc"
    onnx.save(product(), source)
    compile_ = ["compile", str(source), "-o", str(made), "--target"]
    assert run([*compile_, "rocm:gfx90a,gfx1100"]) == 0
    said = capsys.readouterr().out
    assert "rocm:gfx90a,gfx1100" in said and "kernels gfx90a" in said and "kernels gfx1100" in said and "(compiled)" in said
    assert run([*compile_, "rocm:gfx90a,gfx1100"]) == 0 and "from the cache" in capsys.readouterr().out
    assert run([*compile_, "rocm:gfx90a"]) == 0 and "(compiled)" in capsys.readouterr().out
    assert run([*compile_, "rocm:gfx90a,gfx1100"]) == 0 and "from the cache" in capsys.readouterr().out
    assert run(["inspect", str(made)]) == 0
    assert re.findall(r"^(gfx\w+): \d+ kernels", capsys.readouterr().out, re.MULTILINE) == ["gfx1100", "gfx90a"]
    assert run(["inspect", str(made), "--json"]) == 0
    variants = json.loads(capsys.readouterr().out)["variants"]
    assert [k["wavefront"] for arch in ("gfx90a", "gfx1100") for k in variants[arch]["kernels"][:1]] == [64, 32]
    assert run(["compile", str(source), "--target", "rocm:gfx90a,gfx1100", "--emit", "asm"]) == 1
    assert "'rocm:gfx90a,gfx1100' has several architectures, expected one" in capsys.readouterr().err


@pytest.mark.parametrize(("arch", "instruction"), [
    ("gfx90a", "v_mfma_i32_16x16x16i8"), ("gfx942", "v_mfma_i32_16x16x32_i8"), ("gfx1100", "v_wmma_i32_16x16x16_iu8"),
    ("gfx1201", "v_wmma_i32_16x16x16_iu8")])
def test_integer_products(arch: str, instruction: str) -> None:
    """Unsigned codes with a zero point by signed weights: the instruction takes signed ones."""
    x, y = helper.make_tensor_value_info("x", TensorProto.UINT8, [64, 256]), helper.make_tensor_value_info("y", TensorProto.INT32, [64, 96])
    weights = [numpy_helper.from_array(np.ones((256, 96), np.int8), "w"), numpy_helper.from_array(np.array(3, np.uint8), "z")]
    graph = helper.make_graph([helper.make_node("MatMulInteger", ["x", "w", "z"], ["y"])], "g", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    assert instruction in emit(model, CompileOptions(target=Target.parse(f"rocm:{arch}")), "asm")


def test_targets_are_named_as_they_are_parsed() -> None:
    text = "rocm:gfx90a,sms=110,gfx942,atoms="
    assert Target.name_all(Target.parse_all(text)) == text and Target.parse_all(text)[1].atoms == ()
    with pytest.raises(TargetError, match=r"unknown atom 'mfma.f32_16x16x16_f18'(.|\n)*did you mean 'mfma.f32_16x16x16_f16'"):
        Target.parse("rocm:gfx942,atoms=mfma.f32_16x16x16_f18")


@pytest.mark.parametrize(("arch", "dtype", "instruction"), [
    ("gfx90a", np.float16, "v_mfma_f32_16x16x16f16"), ("gfx90a", np.float32, "v_mfma_f32_16x16x4f32"),
    ("gfx942", np.float16, "v_mfma_f32_16x16x16_f16"), ("gfx942", np.float32, "v_mfma_f32_16x16x4_f32"),
    ("gfx1100", np.float16, "v_wmma_f32_16x16x16_f16"), ("gfx1201", np.float16, "v_wmma_f32_16x16x16_f16")])
def test_products_and_convolutions_use_matrix_instructions_and_no_scratch(arch: str, dtype: Any, instruction: str) -> None:
    """Twelve stages of a product, and a 3x3 convolution: enough for LLVM to run out of registers if loops were unrolled."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    weights = {"w": np.zeros((768, 512), dtype), "k": np.zeros((256, 256, 3, 3), dtype)}
    values = [helper.make_tensor_value_info(n, kind, s) for n, s in (("x", [128, 768]), ("i", [1, 256, 14, 14]))]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Conv", ["i", "k"], ["z"], pads=[1, 1, 1, 1])]
    outs = [helper.make_tensor_value_info(n, kind, s) for n, s in (("y", [128, 512]), ("z", [1, 256, 14, 14]))]
    graph = helper.make_graph(nodes, "g", values, outs, [numpy_helper.from_array(a, n) for n, a in weights.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = CompileOptions(target=Target.parse(f"rocm:{arch}"))
    text = emit(model, options, "asm")
    assert text.count(instruction) >= 4
    assert re.search(r"global_load_(dwordx4|b128)", text) and re.search(r"ds_(read|load)_b128", text)
    kernels = compile_model(model, options).plan["kernels"]
    assert all(k["spill_bytes"] == k["scratch_bytes"] == 0 for k in kernels)
