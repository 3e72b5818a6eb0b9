"""The ONNX backend node suite through mlc, in crash-proof workers: prints a summary, and for the CPU writes docs/conformance.md.

    python test/models/conformance.py --jobs 16 --results cpu.json --output cpu.md
    python test/models/conformance.py --target cuda:sm_90a --jobs 16 --budget 480 --baseline cpu.json --output cuda.md
    python test/models/conformance.py --target rocm:gfx942 --compile-only

The tests come from the installed onnx package. mlc compiles for static shapes: shapes come from each test's inputs, and inputs whose value
decides a shape are compiled in (`mlc.jit`). Comparison is the suite's own: element type, shape, and values within its rtol and atol.
"""

import argparse
import importlib
import json
import re
import sys
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from pool import run_all

ROOT = Path(__file__).resolve().parents[2]
CONTROL_FLOW = {"If", "Loop", "Scan", "SequenceMap"}
Case = Any  # onnx.backend.test.case.test_case.TestCase


# -- the suite ----------------------------------------------------------------------------------------------------------


def collect() -> list[Case]:
    """All node tests, by name."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sorted(collect_testcases(None), key=lambda case: case.name)


def plain(value: Any) -> Any:
    """A test's value as arrays, lists of arrays, or None."""
    match value:
        case onnx.TensorProto():
            return numpy_helper.to_array(value)
        case onnx.SequenceProto():
            return [np.asarray(item) for item in numpy_helper.to_list(value)]
        case onnx.OptionalProto():
            return plain(numpy_helper.to_optional(value))
        case list() | tuple():
            return [plain(item) for item in value]
        case None:
            return None
    return np.asarray(value)


def compare(found: Any, expected: Any, rtol: float, atol: float) -> None:
    """Raises AssertionError where they differ."""
    if isinstance(expected, list):
        assert isinstance(found, list), f"found {type(found).__name__}, expected a sequence"
        assert len(found) == len(expected), f"found a sequence of {len(found)}, expected {len(expected)}"
        for a, z in zip(found, expected, strict=True):
            compare(a, z, rtol, atol)
        return
    if expected is None:
        assert found is None, "found a tensor, expected an empty optional"
        return
    assert isinstance(found, np.ndarray), f"found {type(found).__name__}, expected a tensor"
    assert found.shape == expected.shape, f"wrong shape: found {list(found.shape)}, expected {list(expected.shape)}"
    assert found.dtype == expected.dtype, f"wrong element type: found {found.dtype}, expected {expected.dtype}"
    if found.dtype.name == "bfloat16":
        rtol = max(rtol, 2**-6)  # the suite's own allowance: two units in the last place
    if found.dtype.kind == "V" or found.dtype.name.startswith(("bfloat", "float8", "float4", "int4", "uint4", "int2", "uint2")):
        found, expected = found.astype(np.float32), expected.astype(np.float32)
    try:
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)
    except AssertionError as error:
        worst = re.search(r"Mismatched elements: [^\n]*", str(error))
        raise AssertionError(f"wrong values: {worst[0] if worst else str(error).strip().splitlines()[0]}") from None


def is_random(case: Case) -> bool:
    """Whether the expected values are one draw of a generator that ONNX does not define. The other checks still mean something."""
    ops = {node.op_type for node in case.model.graph.node}
    return any(op.startswith(("Random", "Bernoulli", "Multinomial")) for op in ops) or ("Dropout" in ops and "training" in case.name)


def op_of(case: Case) -> str:
    """The op under test: that of the first node, or of the function an expanded test was made from."""
    name = case.name.removesuffix("_expanded")
    twin = _PLAIN.get(re.sub(r"_expanded.*$", "", case.name))
    graph = (twin or case).model.graph
    ops = [f"{n.domain}.{n.op_type}" if n.domain not in ("", "ai.onnx") else n.op_type for n in graph.node]
    special = [o for o in ops if o in CONTROL_FLOW]
    return (special or ops or [name])[0]


_PLAIN: dict[str, Case] = {}


def has_control_flow(case: Case) -> bool:
    def inside(graph: onnx.GraphProto) -> Iterator[str]:
        for node in graph.node:
            yield node.op_type
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    yield from inside(attribute.g)

    functions = (n.op_type for f in case.model.functions for n in f.node)
    return bool(CONTROL_FLOW & {*inside(case.model.graph), *functions})


# -- running ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checker:
    """Runs the tests of one target. compile_only: what runs is left out, so that the target's device need not be there."""

    cases: Sequence[Case]
    target: str = "cpu"
    compile_only: bool = False
    _last: list[Any] = field(default_factory=list)
    """The function last tested, kept until there is another: a GPU's context ends with the last executable, and is slow to make."""

    def __call__(self, index: int) -> str | None:
        """Why the test fails; None if it passes."""
        case = self.cases[index]
        try:
            for inputs, outputs in case.data_sets:
                self._data_set(case, [plain(v) for v in inputs], [plain(v) for v in outputs])
        except AssertionError as error:
            return f"{error}{' (they are random by definition)' if is_random(case) else ''}"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return None

    def _data_set(self, case: Case, given: list[Any], expected: list[Any]) -> None:
        import mlc

        function = mlc.jit(case.model, self.target, opt_level=1, threads=1, cache=False)
        if self.compile_only:
            function.executable(dict(zip(function.inputs, given, strict=False)))
            return
        found = function(*given)
        self._last[:] = [function]
        assert len(found) == len(expected), f"found {len(found)} outputs, expected {len(expected)}"
        for a, z in zip(found, expected, strict=True):
            compare(a, z, case.rtol, case.atol)


def preload(compile_only: bool) -> None:
    """Imports the compiler before the first fork: a worker starts at once, and all of them run the same code while it is being edited."""
    for module in ("mlc.jit", "mlc.api", "mlc.driver", "mlc.load"):
        importlib.import_module(module)
    importlib.import_module("mlc.frontend.onnx.registry").known_ops()
    if compile_only:  # jit asks for both with each artifact; the driver, whose constants are computed here, has it already
        load = importlib.import_module("mlc.load")
        load.check_machine, load.executable = lambda targets: None, lambda artifact, threads=None: artifact


# -- the report ---------------------------------------------------------------------------------------------------------


def reason_of(failure: str) -> str:
    """The class of a failure: its text without names and numbers."""
    first = failure.strip().splitlines()[0] if failure.strip() else "failed"
    first = re.sub(r"^(\w+Error): node '[^']*' \(([^,]*), opset \d+\): ", r"\1: \2: ", first)
    first = re.sub(r"'[^']*'|\[[^\]]*\]|tensor<[^>]*>|%\w+", "...", first)
    if first.startswith("wrong values"):
        return "wrong values" + (" (they are random by definition)" if first.endswith("definition)") else "")
    return re.sub(r"\d+(\.\d+)?", "N", first)[:150]


def summary(cases: Sequence[Case], results: dict[int, str | None], how: str, baseline: Sequence[str] | None) -> str:
    """The report. how: the tests were compiled and run; baseline: names of the tests that pass on the CPU."""
    def ratio(chosen: Sequence[int]) -> str:
        return f"{sum(results[i] is None for i in chosen)} / {len(chosen)}"

    everything = range(len(cases))
    by_op: dict[str, list[int]] = defaultdict(list)
    for i in everything:
        by_op[op_of(cases[i])].append(i)
    reasons = Counter(reason_of(text) for text in results.values() if text is not None)
    examples: dict[str, str] = {}
    for i in everything:
        if results[i] is not None:
            examples.setdefault(reason_of(results[i] or ""), cases[i].name)
    complete = [op for op, chosen in by_op.items() if all(results[i] is None for i in chosen)]
    lines = [
        "# ONNX conformance", "",
        f"The node tests of onnx {onnx.__version__} (`onnx.backend.test.case.node`), {how}.", "",
        "| tests | passed / total |", "|---|---|",
        f"| all | {ratio(everything)} |",
        *([] if baseline is None else [f"| those that pass on the CPU | {ratio([i for i in everything if cases[i].name in baseline])} |"]),
        f"| ops as single nodes | {ratio([i for i in everything if '_expanded' not in cases[i].name])} |",
        f"| ops expanded to their function bodies | {ratio([i for i in everything if '_expanded' in cases[i].name])} |",
        f"| with control flow (If, Loop, Scan, SequenceMap) | {ratio([i for i in everything if has_control_flow(cases[i])])} |",
        f"| ops that pass all their tests | {len(complete)} / {len(by_op)} |", "",
        "## Why tests fail", "", "| tests | reason | for example |", "|---|---|---|",
        *[f"| {count} | {reason.replace('|', '/')} | {examples[reason]} |" for reason, count in reasons.most_common()], "",
        "## Ops", "", "| op | passed / total |", "|---|---|",
        *[f"| {op} | {ratio(chosen)} |" for op, chosen in sorted(by_op.items())], "",
    ]
    return "\n".join(lines)


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--target", default="cpu", help="default: %(default)s")
    add("--compile-only", action="store_true", help="do not run: for targets whose device is not here")
    add("--name", help="only tests whose name matches this regular expression")
    add("--op", action="append", help="only tests of this op (may be repeated)")
    add("--failures", action="store_true", help="print each failure with its message")
    add("--jobs", type=int, default=2, help="worker processes (default 2)")
    add("--timeout", type=float, default=30.0, help="seconds per test (default 30)")
    add("--budget", type=float, default=86400.0, help="seconds for all tests; those left over count as failed")
    add("--results", type=Path, metavar="JSON", help="write why each test failed, null if it passed")
    add("--baseline", type=Path, metavar="JSON", help="such a file of the CPU: also count only what passes there")
    add("--output", type=Path, help="where to write the report (default: docs/conformance.md for a run of all tests on the CPU)")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    options = arguments(given)
    cases = collect()
    _PLAIN.update({case.name: case for case in cases})
    chosen = [c for c in cases if (not options.name or re.search(options.name, c.name)) and (not options.op or op_of(c) in options.op)]
    if not chosen:
        print("no test matches", file=sys.stderr)
        return 2

    def report(index: int, failure: str | None, done: int) -> None:
        if failure is not None and options.failures:
            print(f"FAIL {chosen[index].name}: {failure}", flush=True)
        if sys.stderr.isatty():
            print(f"\r{done} / {len(chosen)} ", end="", file=sys.stderr, flush=True)

    start = time.monotonic()
    preload(options.compile_only)
    results = run_all(range(len(chosen)), Checker(chosen, options.target, options.compile_only), options.jobs, options.timeout,
                      options.budget, report)
    passing = None
    if options.baseline is not None:
        passing = [name for name, failure in json.loads(options.baseline.read_text()).items() if failure is None]
    if options.results is not None:
        options.results.write_text(json.dumps({case.name: results[i] for i, case in enumerate(chosen)}, indent=1))
    on_cpu = options.target == "cpu" and not options.compile_only
    where = "on the CPU" if on_cpu else f"for `{options.target}`"
    how = f"compiled {'' if options.compile_only else 'and run '}by mlc {where}{', made by `make conformance`' if on_cpu else ''}"
    text = summary(chosen, results, how, passing)
    whole = len(chosen) == len(cases)
    output = options.output or (ROOT / "docs" / "conformance.md" if whole and on_cpu else None)
    if output is not None:
        output.write_text(text)
    print(text.split("## Ops")[0].strip() if len(chosen) > 1 else "")
    failed = sum(failure is not None for failure in results.values())
    print(f"\n{len(chosen) - failed} of {len(chosen)} passed in {time.monotonic() - start:.0f} s{f'; see {output}' if output else ''}")
    return 0 if whole or not failed else 1


if __name__ == "__main__":
    sys.exit(main())
