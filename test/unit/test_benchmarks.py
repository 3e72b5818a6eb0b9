"""benchmarks/: what turns measurements into claims must be right, whatever the machine does."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def write(path: Path, nodes: list[Any], shapes: dict[str, tuple[int, ...]], output: tuple[int, ...], **weights: np.ndarray) -> Path:
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(a, n) for n, a in weights.items()])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def test_work_counts_flops_and_bytes(tmp_path: Path) -> None:
    from roof import Work, work_of

    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Flatten", ["c"], ["f"]),
             helper.make_node("Gemm", ["f", "b"], ["y"], transB=1)]
    path = write(tmp_path / "m.onnx", nodes, {"x": (1, 3, 8, 8)}, (1, 10), w=np.ones((4, 3, 3, 3), np.float32),
                 b=np.ones((10, 144), np.float32))
    assert work_of(path) == Work(2 * 4 * 36 * 27 + 2 * 10 * 144, 4 * (3 * 64 + 10 + 4 * 27 + 1440))


def test_work_of_a_lookup_is_the_rows_looked_up(tmp_path: Path) -> None:
    from roof import Work, work_of

    node = helper.make_node("Gather", ["table", "rows"], ["y"])
    path = write(tmp_path / "m.onnx", [node], {}, (2, 16), table=np.ones((1000, 16), np.float32), rows=np.array([3, 5]))
    assert work_of(path) == Work(0, 2 * 4 * 2 * 16 + 2 * 8)


def test_work_is_unknown_with_control_flow(tmp_path: Path) -> None:
    from roof import work_of

    def branch(op: str) -> Any:
        return helper.make_graph([helper.make_node(op, ["x"], [op])], op, [], [helper.make_tensor_value_info(op, TensorProto.FLOAT, (4,))])

    node = helper.make_node("If", ["flag"], ["y"], then_branch=branch("Relu"), else_branch=branch("Tanh"))
    assert work_of(write(tmp_path / "m.onnx", [node], {"x": (4,)}, (4,), flag=np.array(True))) is None


@pytest.mark.parametrize(("found", "expected"), [
    ([1.0, -2.0], 0.0), ([1.0, -2.2], 0.1), ([1.0, float("nan")], float("inf")), ([1.0], float("inf")),
])
def test_difference(tmp_path: Path, found: list[float], expected: float) -> None:
    from race import difference

    np.savez(tmp_path / "ours.npz", out0=np.array(found))
    np.savez(tmp_path / "ort.npz", out0=np.array([1.0, -2.0]))
    assert difference(tmp_path / "ours.npz", tmp_path / "ort.npz") == pytest.approx(expected)


@pytest.mark.parametrize(("values", "expected"), [([0.0, 0.0], False), ([1e-40, 2e-40], False), ([0.0, 1.0], True)])
def test_a_reference_that_says_nothing(tmp_path: Path, values: list[float], expected: bool) -> None:
    from race import telling

    np.savez(tmp_path / "ort.npz", in0=np.ones(3), out0=np.array(values, np.float32))
    assert telling(tmp_path / "ort.npz") == expected
    np.savez(tmp_path / "none.npz", in0=np.ones(3))
    assert not telling(tmp_path / "none.npz")


def row(name: str, ours: float | None, peer: float | None, kernel: bool = False) -> dict[str, Any]:
    def result(time: float | None) -> dict[str, Any]:
        return {"problem": "died"} if time is None else {"median": time, "p10": time, "p90": time}

    return {"name": name, "kernel": kernel, "busy": 0.0, "results": {"mlc": result(ours), "ort": result(peer)}}


def test_means_leave_out_what_has_no_time() -> None:
    from report import means, problems

    rows = [row("bert", 1.0, 4.0), row("lstm", 1.0, 1.0), row("gpt2", None, 1.0), row("softmax", 2.0, 1.0, kernel=True)]
    assert means(rows, ["ort"]) == ["headline models, geometric mean of peer time / mlc time: ONNX Runtime 2.00 (of 2)",
                                    "kernels, geometric mean of peer time / mlc time: ONNX Runtime 0.50 (of 1)"]
    assert problems(rows) == ["gpt2: mlc: died"]


def test_page_keeps_all_but_the_section(tmp_path: Path) -> None:
    from report import BEGIN, END, insert

    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    insert(page, "new")
    insert(page, "newer")
    assert page.read_text() == f"before\n{BEGIN}\n\nnewer\n\n{END}\nafter\n"
    page.write_text("no markers")
    with pytest.raises(ValueError, match="lacks"):
        insert(page, "new")


def test_the_page_has_the_markers() -> None:
    from report import BEGIN, END

    text = (BENCHMARKS.parent / "docs" / "performance.md").read_text()
    assert text.count(BEGIN) == text.count(END) == 1


def test_race_reports_a_contestant_that_dies(tmp_path: Path) -> None:
    from cases import Kernel
    from race import Case, Settings, race

    Kernel("Softmax", {"x": (4, 8)}, (4, 8), lambda torch: torch.softmax, 0, {"axis": -1}).write(tmp_path / "k.onnx")
    results = race(Case("k", tmp_path / "k.onnx", kernel=True),
                   Settings({"ort": sys.executable, "torch": "/bin/false"}, threads=1, rounds=2, turn=0.001, timeout=60, logs=tmp_path))
    assert results["ort"]["runs"] >= 6 and results["ort"]["median"] > 0
    assert "died with status 1" in results["torch"]["problem"]
