"""CONTRIBUTING tells the truth: its op, its converter, its pass and its lit test work as they stand there, each in a process of its own."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def block(word: str) -> str:
    """The one indented block that holds a word."""
    (found,) = [b for b in re.findall(r"(?:^ {4,}.*\n|^\n)+", TEXT, re.MULTILINE) if word in b]
    return textwrap.dedent(found).strip() + "\n"


def python(*command: str | Path) -> str:
    path = os.pathsep.join([str(ROOT), str(ROOT / "test" / "unit")])
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_converter() -> None:
    python("-c", "\n".join([
        "from collections.abc import Sequence", "from typing import Any",
        "import numpy as np", "from onnx_run import node_model, run_model",
        "from mlc.frontend.onnx.context import NodeContext", "from mlc.frontend.onnx.ops._emit import mul",
        "from mlc.frontend.onnx.registry import converter", block("def cube"),
        "x = np.arange(4, dtype=np.float32)",
        "(y,) = run_model(node_model('Cube', {'x': x}, domain='com.microsoft'), {'x': x})", "assert (y == x**3).all()"]))


def test_the_graph_op() -> None:
    python("-c", "\n".join([
        "import numpy as np", "from graph_run import run",
        "from mlc.dialects import graph", "from mlc.dialects._build import Builder, Tensor",
        "from mlc.dialects._ext import Operand, Result, VerifyError", "from mlc.dialects.graph._base import GraphOp, TensorType, builder",
        block("class ReverseOp"), "graph.reverse = builder(ReverseOp)", "x = np.arange(6, dtype=np.float32).reshape(2, 3)",
        "(y,) = run(lambda x: graph.reverse(x, axis=1), x)", "assert (y == x[:, ::-1]).all()"]))


def test_the_pass_and_its_lit_test(tmp_path: Path) -> None:
    (tmp_path / "drop_casts.py").write_text("\n".join([
        '"""The example of CONTRIBUTING."""', "from dataclasses import dataclass", "from typing import ClassVar",
        "from mlc.dialects._ext import operations", "from mlc.ir.mlir import ir",
        "from mlc.passes.registry import Pass, PassContext, register_pass", "@register_pass", block("class DropCasts")]))
    lit = block("// RUN: %mlc-opt %s --drop-casts")
    (tmp_path / "drop-casts.mlir").write_text(lit)
    printed = python(ROOT / "tools" / "mlc-opt.py", "--load-pass-plugin", tmp_path / "drop_casts.py", tmp_path / "drop-casts.mlir",
                     "--drop-casts")
    assert "func.func @main" in printed and "graph.cast" not in printed and "graph.cast" in lit
