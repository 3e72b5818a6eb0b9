"""Runs the device tests under NVIDIA's compute-sanitizer and says per file and tool what it found.

    python tools/gpu/sanitize.py                                   # memcheck and racecheck over test/device
    python tools/gpu/sanitize.py test/device/test_gemm.py --tools racecheck --budget 500 --out DIR

Each file and tool is a process of its own, so that a fault ends only that one. Exit code: 1 if anything was found, or did not finish.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
FOUND = 99  # the sanitizer's exit code when it found something, which pytest has no use for
PLACES = (Path("/usr/local/cuda/bin"), *sorted(Path("/opt/nvidia").glob("nsight-compute/*/host/*/sanitizer")))
SUMMARY = re.compile(r"(?:ERROR|RACECHECK) SUMMARY: (\d+) (?:errors?|hazards?)")
KINDS = re.compile(r"^=+\s+((?:Invalid|Error|Misaligned|Race|Warning|Barrier|Uninitialized|Program hit|Malloc|Leaked)[^\n]{0,120})",
                   re.MULTILINE)
PLACE = re.compile(r"^=+\s+at (?:[^\n]*?)(\w+)\+0x[0-9a-f]+", re.MULTILINE)
PASSED = re.compile(r"^=* ?((?:\d+ \w+(?:, )?)+) in [\d.]+s", re.MULTILINE)


@dataclass
class Finding:
    """What one tool said of one file. count: of errors or hazards, None if it did not get to its summary."""

    file: str
    tool: str
    seconds: float = 0.0
    count: int | None = None
    tests: str = ""
    problem: str = ""
    kinds: dict[str, int] = field(default_factory=dict)
    kernels: dict[str, int] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        return self.count == 0 and not self.problem

    def line(self) -> str:
        """For the table."""
        state = "clean" if self.clean else f"{self.count} found" if self.count else self.problem or "no summary"
        details = "; ".join([*(f"{n} x {kind}" for kind, n in list(self.kinds.items())[:3]),
                             *(f"in {kernel}" for kernel in list(self.kernels)[:4])])
        return f"| {self.file} | {self.tool} | {state} | {self.tests} | {self.seconds:.0f} | {details.replace('|', '/')} |"


def sanitizer() -> str | None:
    """The program, on PATH or where CUDA puts it."""
    known = (place / "compute-sanitizer" for place in PLACES)
    return shutil.which("compute-sanitizer") or next((str(path) for path in known if path.exists()), None)


def examine(file: Path, tool: str, program: str, args: argparse.Namespace, deadline: float) -> Finding:
    """Runs one file under one tool. deadline: by time.monotonic."""
    out: Path = args.out
    finding = Finding(str(file), tool)
    start = time.monotonic()
    if start >= deadline:
        finding.problem = "not run: the budget was used up"
        return finding
    log = f"{file.stem}.{tool}.%p.log"  # one of each process
    for old in out.glob(log.replace("%p", "*")):
        old.unlink()
    command = [program, "--tool", tool, "--target-processes", "all", "--error-exitcode", str(FOUND), "--log-file", str(out / log),
               sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(["-k", args.keyword] if args.keyword else []), str(file)]
    if tool == "memcheck":
        command[3:3] = ["--report-api-errors", "no"]  # libraries probe for what is there
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                             start_new_session=True, env={**os.environ, "MLC_CACHE_SIZE": "0"})
    try:
        printed, _ = child.communicate(timeout=min(args.timeout, deadline - start))
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        printed, _ = child.communicate()
        finding.problem = "not finished in time"
    finding.seconds = time.monotonic() - start
    if not finding.problem and child.returncode not in (0, FOUND, 5):  # 5: pytest found no test
        last = printed.strip().splitlines()[-1:] or ["no output"]
        finding.problem = f"exit code {child.returncode}: {last[0][:160]}"
    understand(finding, "\n".join(path.read_text(errors="replace") for path in sorted(out.glob(log.replace("%p", "*")))), printed)
    return finding


def understand(finding: Finding, log: str, printed: str) -> None:
    """Fills in what the log and pytest's output say."""
    summaries = SUMMARY.findall(log)
    finding.count = sum(map(int, summaries)) if summaries else None
    finding.kinds = dict(Counter(re.sub(r"0x[0-9a-f]+", "N", kind.strip()) for kind in KINDS.findall(log)).most_common(10))
    finding.kernels = dict(Counter(PLACE.findall(log)).most_common(10))
    passed = PASSED.findall(printed)
    finding.tests = passed[-1] if passed else ""


def examinations(files: Sequence[Path], tools: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Each file under each tool."""
    for tool in tools:
        for file in files:
            yield file, tool


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("tests", nargs="*", type=Path, default=[Path("test/device")], help="files or folders; default: test/device")
    add("--tools", default="memcheck,racecheck", help=f"of {', '.join(TOOLS)}; default: %(default)s")
    add("--keyword", metavar="EXPR", default="not a_fault", help="pytest's -k; default: %(default)s, for some tests fault on purpose")
    add("--timeout", type=float, default=300.0, metavar="SECONDS", help="for one file and tool; default: %(default)s")
    add("--budget", type=float, default=86400.0, metavar="SECONDS", help="for everything")
    add("--jobs", type=int, default=4, help="files at once; default: %(default)s")
    add("--out", type=Path, default=ROOT / ".bench" / "sanitize", metavar="DIR", help="gets logs, sanitize.json and sanitize.md")
    args = parser.parse_args()
    tools = args.tools.split(",")
    if unknown := [tool for tool in tools if tool not in TOOLS]:
        parser.error(f"--tools: found {', '.join(unknown)}, expected {', '.join(TOOLS)}")
    files = [file for path in args.tests for file in (sorted(path.glob("test_*.py")) if path.is_dir() else [path])]
    if not files:
        parser.error(f"no test file in {', '.join(map(str, args.tests))}")
    program = sanitizer()
    if program is None:
        parser.error("compute-sanitizer is not on PATH: install the CUDA toolkit")
    args.out.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + args.budget
    findings: list[Finding] = []
    with ThreadPoolExecutor(args.jobs) as pool:
        done = pool.map(lambda each: examine(each[0], each[1], program, args, deadline), examinations(files, tools))
        for finding in done:
            findings.append(finding)
            print(finding.line(), flush=True)
            (args.out / "sanitize.json").write_text(json.dumps([asdict(f) for f in findings], indent=1))
            table = ["| file | tool | result | tests | s | details |", "|---|---|---|---|---|---|", *(f.line() for f in findings)]
            (args.out / "sanitize.md").write_text("\n".join(table) + "\n")
    dirty = [f for f in findings if not f.clean]
    print(f"{len(findings) - len(dirty)} of {len(findings)} clean")
    return int(bool(dirty))


if __name__ == "__main__":
    sys.exit(main())
