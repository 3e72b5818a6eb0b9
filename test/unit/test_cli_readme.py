"""The README tells the truth: its code runs, its flags, verbs and variables exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from mlc.cli.main import VERBS
from mlc.options import ENVIRONMENT

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.strip().partition("#")[0] for line in README.splitlines() if re.match(r" {4}mlc ", line)]


def block(word: str) -> str:
    (found,) = [code for code in CODE if word in code]
    return found


def help_of(verb: str) -> str:
    return subprocess.run([sys.executable, "-m", "mlc.cli", verb, "--help"], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_exist(command: str) -> None:
    verb, *args = shlex.split(command)[1:]
    assert verb in VERBS
    assert not [a for a in args if a.startswith("--") and a not in help_of(verb)]


def test_every_flag_in_the_text_exists() -> None:
    text = "".join(help_of(verb) for verb in VERBS)
    named = {flag for flag in re.findall(r"`(--[a-z-]+)", README)}
    assert named - set(re.findall(r"--[a-z-]+", text)) == set()


def test_variables_are_those_of_the_table() -> None:
    named = set(re.findall(r"^\| `(MLC_\w+)`", README, re.MULTILINE))
    assert named == {name for name in ENVIRONMENT if name.startswith("MLC_")}


def test_op_example() -> None:
    from mlc.frontend.onnx.importer import import_model
    from mlc.ir.context import make_context

    exec(block("com.example"), {})
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Square", ["x"], ["y"], domain="com.example")], "g", [x], [y])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.example", 1)]
    assert "graph.elementwise" in str(import_model(helper.make_model(graph, opset_imports=opsets), context=make_context()).module)


def test_pass_example(capsys: pytest.CaptureFixture[str]) -> None:
    from mlc.ir.context import make_context
    from mlc.ir.mlir import ir
    from mlc.passes.registry import PassContext

    scope: dict[str, type] = {"__name__": __name__}  # type: ignore[dict-item]
    exec(block("CountOps"), scope)
    with make_context():
        scope["CountOps"]().run(ir.Module.parse("func.func @f() { return }"), PassContext())
    assert capsys.readouterr().out == "1 functions\n"


def test_python_example(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 224, 224])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    onnx.save(helper.make_model(helper.make_graph([helper.make_node("Relu", ["input"], ["y"])], "g", [x], [y])), tmp_path / "model.onnx")
    subprocess.run([sys.executable, "-c", block("mlc.compile")], cwd=tmp_path, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (tmp_path / "model.mlc").exists()


def test_the_example_script(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(ROOT / "examples" / "compile_and_run.py")], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert "the saved artifact gives the same bits" in done.stdout
