"""Runs every check that needs no GPU and prints one table; fails if one failed. `check.py NAME...` runs only those named."""

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TAIL = 60
COUNTED = r"\d+ (passed|failed|error)|(Passed|Failed)\s*:\s*\d+|Found \d+ error|All checks passed"
PYTHON = sys.executable

CHECKS: dict[str, list[str]] = {
    "ruff": [PYTHON, "-m", "ruff", "check", "--output-format", "concise", "."],
    "pyright": [PYTHON, "-m", "pyright", "--project", "pyproject.toml", "--pythonpath", PYTHON],
    "layers": [PYTHON, "-m", "pytest", "-q", "-p", "no:xdist", "test/unit/test_layers.py"],
    "lit": [str(Path(PYTHON).with_name("lit")), "-sv", "test/lit"],
    "pytest": [PYTHON, "-m", "pytest", "-q", "-n", "2", "-m", "not gpu", "--ignore", "test/unit/test_layers.py"],
}


@dataclass(frozen=True)
class Outcome:
    """How one check went. said: the line in which the tool counts."""

    name: str
    ok: bool
    seconds: float
    said: str
    output: str


def run(name: str) -> Outcome:
    """Runs one check, its output kept."""
    start = time.monotonic()
    bin_first = os.pathsep.join([str(Path(PYTHON).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1", "PATH": bin_first, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    done = subprocess.run(CHECKS[name], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace")
    return Outcome(name, done.returncode == 0, time.monotonic() - start, counts(done.stdout), done.stdout)


def counts(output: str) -> str:
    """The last line that counts something, without decoration."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip("= \n") for line in output.splitlines()]
    found = [line for line in lines if re.search(COUNTED, line)]
    return re.sub(r" in [\d.]+s.*$", "", found[-1]) if found else ""


def main(names: list[str]) -> int:
    """Exit code: 1 if a check failed."""
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        print(f"no check is called {', '.join(unknown)}; there are {', '.join(CHECKS)}", file=sys.stderr)
        return 2
    outcomes: list[Outcome] = []
    for name in names or CHECKS:
        print(f"{name} ...", end=" ", flush=True)
        outcome = run(name)
        print("ok" if outcome.ok else "FAILED", flush=True)
        if not outcome.ok:
            lines = outcome.output.splitlines()
            print(*([f"  ({len(lines) - TAIL} lines above left out)"] if len(lines) > TAIL else []), *lines[-TAIL:], sep="\n")
        outcomes.append(outcome)
    width = max(len(o.name) for o in outcomes)
    print("\nsummary")
    for o in outcomes:
        print(f"  {o.name.ljust(width)}  {'ok    ' if o.ok else 'FAILED'}  {o.seconds:6.1f} s  {o.said}".rstrip())
    return int(any(not o.ok for o in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
