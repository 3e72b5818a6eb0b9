"""Every exported model of a directory through mlc, beside ONNX Runtime and the outputs that its framework gave.

    python test/models/zoo_check.py DIR [NAME ...] [--target cuda:sm_90a] [--compile-only] [--markdown FILE] [--timeout 600] [--no-latency]

A model is DIR/NAME.onnx with NAME.npz beside it: in0, in1, ... in the order of the graph's inputs, out0, ... as the framework computed.
NAME is `<model>.<style>`, the style telling how it was exported; `resnet50` alone means all its styles. Each model runs in a child process,
so that a crash, a hang or a hunger for memory is a row of the table. With --compile-only nothing is run, and the target's device need not
be there; the table then has what kernels use of a GPU: how many of them spill registers, the most registers of a thread and shared memory
of a block, and the least occupancy (of a multiprocessor's or SIMD's places for warps, as registers and shared memory allow).

    python test/models/zoo_check.py DIR --compile-only --target rocm:gfx942

Exit code: 1 if a model failed or is inaccurate, or, with --compile-only, a kernel spills.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

MEMORY = 14 << 30
TOLERANCE = 1e-3  # of an output's scale
HALF_TOLERANCE = 2e-2  # where the framework's outputs are float16
LATENCY_SECONDS = 0.5
VANISHING = 1e-30  # an untrained network may fade out into denormal numbers, where every library rounds as it likes


@dataclass
class Row:
    """What is known of one model. Errors are the largest over the outputs, each relative to that output's largest value."""

    model: str
    style: str
    problem: str = ""
    kernels: int = 0
    launches: int = 0
    compile_s: float = 0.0
    ort_error: float = float("nan")
    torch_error: float = float("nan")
    argmax: bool = False
    empty: bool = False  # the outputs are zero or vanish: they say nothing
    half: bool = False
    compiled: bool = False  # and not run
    resources: dict[str, float] = field(default_factory=dict)  # of a GPU, with compiled
    latency_ms: float = float("nan")
    ort_ms: float = float("nan")
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        if self.problem or self.compiled:
            return not self.problem and not self.resources.get("spills")
        if self.half:  # classes of nearly equal scores may change places, and the two references are as far from each other
            return self.torch_error <= HALF_TOLERANCE
        return max(self.ort_error, self.torch_error) <= TOLERANCE and (self.argmax or self.empty)

    def cells(self) -> list[str]:
        head = [self.model, self.style]
        if self.problem:
            return [*head, *[""] * (len(COMPILED if self.compiled else HEADER) - 3), self.problem.replace("|", "\\|")]
        if self.compiled:
            used = [f"{self.resources[key]:g}" if key in self.resources else "" for key in RESOURCES]
            return [*head, str(self.kernels), str(self.launches), f"{self.compile_s:.1f}", *used]
        ratio = self.ort_ms / self.latency_ms
        return [*head, str(self.kernels), str(self.launches), f"{self.compile_s:.1f}", f"{self.ort_error:.1e}", f"{self.torch_error:.1e}",
                "-" if self.empty else "yes" if self.argmax else "NO", f"{self.latency_ms:.2f}", f"{self.ort_ms:.2f}",
                f"{ratio:.2f}" + ("" if self.ok else " INACCURATE")]


RESOURCES = ("spills", "registers", "shared KiB", "occupancy")
COMPILED = ["model", "style", "kernels", "launches", "compile s", *RESOURCES]
HEADER = ["model", "style", "kernels", "launches", "compile s", "error/ORT", "error/torch", "argmax", "mlc ms", "ORT ms", "ORT/mlc"]


# -- the child -----------------------------------------------------------------------------------------------------------


def check(path: Path, target: str, compile_only: bool, threads: int, latency: bool) -> Row:
    """Compiles, runs and compares one model, in this process."""
    from mlc.api import build
    from mlc.cli.jobs.bench import measure
    from mlc.cli.jobs.reference import ort_reference
    from mlc.load import executable
    from mlc.options import CompileOptions
    from mlc.progress import Progress
    from mlc.target import Target

    row = Row(*split_name(path.stem))
    with np.load(path.with_suffix(".npz")) as arrays:
        given, framework = (_numbered(arrays, prefix) for prefix in ("in", "out"))
    names = _input_names(path)
    feeds = dict(zip(names, given, strict=True))
    start = time.monotonic()
    with Progress("", show=False) as progress:
        artifact = build(path, CompileOptions(target=Target.parse(target), shapes={n: a.shape for n, a in feeds.items()}), cached=False,
                         report=lambda stage, done, total: (_stage(stage), progress(stage, done, total))[1]).artifact
    row.compile_s, row.seconds = time.monotonic() - start, progress.seconds
    row.kernels, row.launches = len(artifact.plan["kernels"]), sum(k["launches"] for k in artifact.plan["kernels"])
    row.half = any(a.dtype == np.float16 for a in framework)
    if compile_only:
        row.compiled, row.resources = True, resources(artifact.plan["kernels"])
        return row
    _stage("ort")
    reference = ort_reference(str(path), optimise=True, threads=threads)
    expected = reference.run(feeds)
    exe = executable(artifact, threads)
    inputs = [feeds[name] for name in names]
    _stage("run")
    found = exe(*inputs)
    _stage("compare")
    row.ort_error, row.torch_error = distance(found, expected), distance(found, framework)
    row.argmax = all(np.array_equal(a.argmax(-1), b.argmax(-1)) for a, b in zip(found, expected, strict=True) if a.ndim and a.size)
    row.empty = all(abs(b).max(initial=0) < VANISHING for b in expected)
    if latency:
        _stage("measure")
        if not target.startswith("cpu"):  # ONNX Runtime is on the CPU: no peer
            row.latency_ms = exe.bench(inputs).median
            return row
        rows = measure({"mlc": lambda: exe(*inputs), "ort": lambda: reference.run(feeds)}, LATENCY_SECONDS)
        row.latency_ms, row.ort_ms = (r["median"] * 1e3 for r in rows)
    return row


def resources(kernels: list[dict[str, Any]]) -> dict[str, float]:
    """What the kernels of a GPU's plan use, at the worst; the occupancy only where the plan records it."""
    if not any("registers" in k for k in kernels):
        return {}
    shared = max(sum(k.get(key, 0) for key in ("shared_bytes", "static_shared_bytes", "lds_bytes")) for k in kernels)
    found: dict[str, float] = {"spills": sum(k.get("spill_bytes", 0) > 0 or k.get("scratch_bytes", 0) > 0 for k in kernels),
                               "registers": max(k.get("registers", 0) for k in kernels), "shared KiB": round(shared / 1024, 1)}
    return found | ({"occupancy": min(k["occupancy"] for k in kernels)} if all("occupancy" in k for k in kernels) else {})


def distance(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """The largest error of any output, relative to that output's largest value; infinity for another shape or a NaN of one side only."""
    worst = 0.0
    for a, b in zip(found, expected, strict=True):
        if a.shape != b.shape:
            return float("inf")
        if not a.size:
            continue
        wide, reference = a.astype(np.float64), b.astype(np.float64)
        with np.errstate(invalid="ignore"):
            same = (wide == reference) | (np.isnan(wide) & np.isnan(reference))
            error = np.where(same, 0.0, np.abs(wide - reference)).max()
        finite = np.abs(reference[np.isfinite(reference)])
        scale = max(finite.max(initial=0), VANISHING)
        worst = max(worst, float(error / scale) if np.isfinite(error) else float("inf"))
    return worst


def _input_names(path: Path) -> list[str]:
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    constants = {t.name for t in graph.initializer}
    return [i.name for i in graph.input if i.name not in constants]


def _numbered(arrays: Any, prefix: str) -> list[np.ndarray]:
    count = sum(name.removeprefix(prefix).isdigit() for name in arrays.files)
    return [arrays[f"{prefix}{i}"] for i in range(count)]


def _stage(name: str) -> None:
    sys.stdout.write(json.dumps({"stage": name}) + "\n")  # at once: another thread may say so, too
    sys.stdout.flush()


# -- the parent ----------------------------------------------------------------------------------------------------------


def supervised(path: Path, options: argparse.Namespace) -> Row:
    """`check` in a child of limited time and memory."""
    flags = [f for f, on in (("--no-latency", options.no_latency), ("--compile-only", options.compile_only)) if on]
    command = [sys.executable, __file__, "--child", str(path), "--target", options.target, "--threads", str(options.threads), *flags]

    def limited() -> None:
        if options.target.startswith("cpu") or options.compile_only:  # a GPU's driver reserves more addresses than there is memory
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", preexec_fn=limited)
    timeout = options.timeout
    try:
        out, err = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        child.kill()
        out, err = child.communicate()
        err = f"no result after {timeout:g} s"
    messages = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    if messages and "row" in messages[-1]:
        return Row(**messages[-1]["row"])
    stage = messages[-1]["stage"] if messages else "start"
    code = child.returncode
    crash = f"{signal.Signals(-code).name}: " if code < 0 and not err.startswith("no result") else ""
    return Row(*split_name(path.stem), problem=f"{stage}: {crash}{_cause(err)}", compiled=options.compile_only)


def _cause(err: str) -> str:
    """The last words of a child that failed."""
    lines = [line.strip() for line in err.strip().splitlines() if line.strip()]
    text = next((line for line in reversed(lines) if "Error: " in line or "no result" in line), lines[-1] if lines else "no message")
    return text[:300]


def split_name(stem: str) -> tuple[str, str]:
    model, _, style = stem.partition(".")
    return model, style


def markdown(rows: list[Row]) -> str:
    header = COMPILED if rows[0].compiled else HEADER
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *(f"| {' | '.join(row.cells())} |" for row in rows)]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--target", default="cpu", help="default: %(default)s")
    parser.add_argument("--compile-only", action="store_true", help="do not run")
    parser.add_argument("--jobs", type=int, default=1, help="models at once; latencies mean little then")
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--timeout", type=float, default=600)
    parser.add_argument("--no-latency", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        row = check(options.directory, options.target, options.compile_only, options.threads, not options.no_latency)
        print(json.dumps({"row": asdict(row)}), flush=True)
        os._exit(0)  # tearing down native libraries may crash, and there is nothing left to do
    paths = [p for p in sorted(options.directory.glob("*.onnx")) if p.with_suffix(".npz").exists()]
    if options.names:
        paths = [p for p in paths if p.stem in options.names or split_name(p.stem)[0] in options.names]
    if not paths:
        parser.error(f"no model with a .npz beside it in {options.directory}")
    rows: list[Row] = []
    with ThreadPoolExecutor(options.jobs) as threads:
        for path, row in zip(paths, threads.map(lambda path: supervised(path, options), paths), strict=True):
            rows.append(row)
            print(f"{path.stem:24} " + ("" if row.ok else "FAILED  ") + "  ".join(row.cells()[2:]).strip(), flush=True)
            if options.markdown is not None:
                options.markdown.write_text(markdown(rows))
    good = sum(row.ok for row in rows)
    print(f"{good} of {len(rows)} models are right")
    return int(good < len(rows))


if __name__ == "__main__":
    sys.exit(main())
