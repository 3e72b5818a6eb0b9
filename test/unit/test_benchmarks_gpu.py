"""benchmarks/gpu: its tables and the parent's side of its workers, which need neither torch nor a GPU."""

import json
import sys
import time
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
MACHINE = {"gpu": "Some GPU", "sms": 1, "l2": 1 << 20, "driver": "1", "torch": "2", "cudnn": 3, "copy": 2e12, "read": 1e12, "f16": 1e14,
           "f32": 1e13}


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def row(name: str, kernel: bool = False, group: str = "models", **medians: float | None) -> dict[str, Any]:
    def result(time: float | None) -> dict[str, Any]:
        if time is None:
            return {"problem": "died"}
        return {"warm": {"median": time, "p10": time, "p90": time, "runs": 100}, "cold": {"median": 2 * time, "p10": time, "p90": time}}

    return {"name": name, "group": group, "dtype": "f16", "batch": 1, "kernel": kernel, "flops": 10**9, "bytes": 10**6,
            "written": 5 * 10**5, "results": {kind: result(time) for kind, time in medians.items()}}


def report(*rows: dict[str, Any], gpu: str = "Some GPU") -> dict[str, Any]:
    return {"date": "2026-01-01", "commit": "abc", "machine": {**MACHINE, "gpu": gpu}, "rows": list(rows),
            "settings": {"target": "cuda:sm_90a", "runs": 100, "jobs": 8, "seed": 1}}


def test_the_fastest_peer_counts() -> None:
    from gpu.table import best_peer, means, speedup

    assert best_peer(row("a", mlc=1.0, eager=3.0, compile=2.0)) == ("compile", 2.0)
    assert best_peer(row("a", mlc=1.0, eager=None)) is None
    assert speedup(row("a", mlc=1.0, eager=3.0, compile=2.0)) == 2.0
    assert speedup(row("a", mlc=None, eager=3.0)) is None
    lines = means([row("a", mlc=1.0, eager=4.0), row("b", mlc=2.0, eager=2.0), row("c", mlc=None, eager=1.0)])
    assert lines == ["models: fastest peer / mlc, geometric mean 2.00 over 2 of 3; mlc ahead in 1; least 1.00 (b)"]


def test_roof_of_a_kernel_that_writes_is_the_copy_rate() -> None:
    from gpu.table import roof

    assert roof({**row("a"), "flops": 10**9, "bytes": 10**6}, MACHINE) == (1e-5, "compute")
    assert roof({**row("a"), "flops": 0}, MACHINE) == (1e-6, "memory")
    assert roof({**row("a", kernel=True), "flops": 0}, MACHINE) == (5e-7, "memory")
    assert roof({**row("a", kernel=True), "flops": 0, "written": 0}, MACHINE) == (1e-6, "memory")
    assert roof({**row("a"), "bytes": 0}, MACHINE) is None


def test_markdown_and_page(tmp_path: Path) -> None:
    from gpu.table import BEGIN, END, insert, markdown

    some = report(row("bert.b1.f16", mlc=1e-3, eager=3e-3, compile=2e-3), row("gemm", kernel=True, group="kernels", mlc=None, cublas=1e-3))
    text = markdown(some)
    assert "| bert.b1.f16 | 1.00 (1.00-1.00) | 3.00 | 2.00 | 2.00 |" in text
    assert "- gemm: mlc: died" in text and "Some GPU" in text
    page = tmp_path / "page.md"
    page.write_text(f"a\n{BEGIN}\n{END}\nb\n")
    insert(page, text)
    assert text in page.read_text() and page.read_text().endswith("\nb\n")


def test_a_page_without_markers_is_refused_at_once(tmp_path: Path) -> None:
    from gpu.table import page

    with pytest.raises(ArgumentTypeError, match="cannot be read"):
        page(str(tmp_path / "none.md"))
    (tmp_path / "page.md").write_text("text\n")
    with pytest.raises(ArgumentTypeError, match="lacks the lines"):
        page(str(tmp_path / "page.md"))


def test_what_the_exporter_changed_is_not_our_error() -> None:
    from gpu.table import exporters, inaccurate

    some = {**row("folded", mlc=1e-3, eager=1e-3), "dtype": "f16"}
    some["results"]["mlc"] |= {"error": 9e-4, "own_error": 3e-4, "exported_error": 9e-4, "error_of_exported": 4e-4}
    assert not inaccurate([some])
    assert exporters([some]) == ["folded: the exported model itself, computed in f64, differs by 9e-04 from PyTorch's module in f64; "
                                 "mlc's results differ by 4e-04 from it, and the ratio is of that"]


def test_a_model_in_f64_keeps_its_weights() -> None:
    from gpu.widen import widened

    text = "g (float16[2] x) => (float16[2] y) <float16[2] w = {11878, 3}> { f = Cast <to = 1> (x) h = Cast <to = 10> (f) y = Add(h, w) }"
    model = widened(parser.parse_model('<ir_version: 10, opset_import: ["": 20]>' + text))
    w = numpy_helper.to_array(model.graph.initializer[0])
    assert w.dtype == np.float64 and w[0] == np.array(11878, np.uint16).view(np.float16)
    assert [n.attribute[0].i for n in model.graph.node if n.op_type == "Cast"] == [1, 11]
    assert model.graph.input[0].type.tensor_type.elem_type == model.graph.output[0].type.tensor_type.elem_type == 11


def test_errors_are_bounded_by_torch_s_own() -> None:
    from gpu.table import inaccurate, markdown

    def checked(name: str, ours: float, own: float | None, dtype: str = "f16") -> dict[str, Any]:
        some = {**row(name, mlc=1e-3, eager=1e-3), "dtype": dtype}
        some["results"]["mlc"] |= {"error": ours, "own_error": own}
        return some

    rows = [checked("fine", 2e-3, 1e-3), checked("rough", 5e-3, 1e-3), checked("wide", 5e-3, 1e-3, "f32"), checked("alone", 5e-3, None),
            checked("exact", 0.0, 0.0), checked("inexact", 1e-4, 0.0)]
    assert inaccurate(rows) == ["rough: mlc's error is 5.0 times torch's own, the bound is 2",
                                "inexact: mlc's error is inf times torch's own, the bound is 2"]
    text = markdown(report(*rows))
    assert "| 5e-03 / 1e-03 | 5.0 ! |" in text and "| 2e-03 / 1e-03 | 2.0 |" in text and "### Less accurate than allowed" in text


def test_runs_of_one_device_are_merged() -> None:
    from gpu.table import merged

    both = merged([report(row("a", mlc=1.0), row("b", mlc=1.0)), report(row("b", mlc=2.0))])
    assert [(r["name"], r["results"]["mlc"]["warm"]["median"]) for r in both["rows"]] == [("a", 1.0), ("b", 2.0)]
    with pytest.raises(ValueError, match="different devices"):
        merged([report(), report(gpu="Another")])


def test_cases_have_names_that_parse() -> None:
    from gpu.cases import kernels, models, parse

    every = [*models(["all"]), *kernels(["all"])]
    assert len({case.name for case in every}) == len(every) and all(parse(case.name) == case for case in every)
    assert [case.name for case in models(["bert"])] == ["bert.b1.f16", "bert.b64.f16", "bert.b1.f32"]
    assert not any(case.name.startswith("tiny") for case in every)
    with pytest.raises(ValueError, match="no case"):
        parse("bert")


def test_every_kernel_is_a_valid_model(tmp_path: Path) -> None:
    from gpu.kernels import KERNELS

    for name, kernel in KERNELS.items():
        if kernel.bytes < 1 << 20:
            kernel.write(tmp_path / f"{name}.onnx", kernel.arrays(0))
            onnx.checker.check_model(str(tmp_path / f"{name}.onnx"), full_check=True)
    assert KERNELS["gemm_128x3072x768"].flops == 2 * 128 * 3072 * 768
    assert KERNELS["attention_b4h16s4096d64_causal"].flops == 2 * 4 * 16 * 4096 * 4096 * 64
    assert KERNELS["softmax_8192x8192"].bytes == 4 * 8192 * 8192


def settings(script: str, tmp_path: Path) -> Any:
    from gpu.children import Settings

    (tmp_path / "worker.py").write_text(script)

    class Scripted(Settings):
        def command(self, case: Any) -> list[str]:
            return [sys.executable, str(tmp_path / "worker.py"), case.name]

    return Scripted("cpu", ["mlc"], jobs=2, runs=5, seed=0, timeout=20.0, work=tmp_path)


WORKER = """
import json, os, sys
def say(**facts): print(json.dumps(facts), flush=True)
say(results={"eager": {"first": 1.0}})
if sys.argv[1] == "gru.b1.f16": os.kill(os.getpid(), 9)
say(ready=True)
sys.stdin.readline()
say(results={"eager": {"warm": {"median": 1.0}}})
say(done=True)
"""


def test_a_case_that_dies_leaves_what_it_said(tmp_path: Path) -> None:
    from gpu.cases import parse
    from gpu.children import measure

    rows: list[dict[str, Any]] = []
    cases = [parse("gru.b1.f16"), parse("bert.b1.f16")]
    measure(cases, settings(WORKER, tmp_path), time.monotonic() + 60, rows.append)
    dead, fine = rows
    assert "died with status -9" in dead["problem"] and dead["results"]["eager"] == {"first": 1.0}
    assert fine["results"]["eager"] == {"first": 1.0, "warm": {"median": 1.0}} and "problem" not in fine
    json.dumps(rows)


def test_nothing_begins_after_the_budget(tmp_path: Path) -> None:
    from gpu.cases import parse
    from gpu.children import measure

    rows: list[dict[str, Any]] = []
    measure([parse("bert.b1.f16")], settings(WORKER, tmp_path), time.monotonic() + 1, rows.append)
    assert "budget" in rows[0]["problem"]


def test_the_page_has_the_markers() -> None:
    from gpu.table import BEGIN, END

    text = (BENCHMARKS.parent / "docs" / "performance.md").read_text()
    assert text.count(BEGIN) == text.count(END) == 1
