"""Workers as the parent sees them: started in waves, prepared side by side, then timed one after another, killed when their time is up."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu.cases import Case

SCRIPT = Path(__file__).with_name("worker.py")
LEAST_SECONDS = 30.0  # no case is begun with less of the budget left
LOG_LINES = 15
TIMING_SECONDS = 120.0


@dataclass(frozen=True)
class Settings:
    """jobs: cases prepared at once. timeout: seconds for preparing a case. work: gets models, artifacts, caches and logs."""

    target: str
    contestants: Sequence[str]
    jobs: int
    runs: int
    seed: int
    timeout: float
    work: Path
    zoo: Path | None = None

    def command(self, case: Case) -> list[str]:
        extra = ["--zoo", str(self.zoo)] if self.zoo else []
        return [sys.executable, str(SCRIPT), case.name, "--folder", str(self.work / case.name), "--target", self.target, "--contestants",
                ",".join(self.contestants), "--seed", str(self.seed), "--runs", str(self.runs), "--timeout", str(self.timeout), *extra]

    def environment(self, threads: int) -> dict[str, str]:
        root = str(SCRIPT.parents[2])
        path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH", "")) if p)
        return {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads),
                "TORCHINDUCTOR_CACHE_DIR": str(self.work / "inductor"), "TORCHINDUCTOR_COMPILE_THREADS": str(threads)}


@dataclass
class Child:
    """One worker. row: what it said so far, merged."""

    case: Case
    log: Path
    process: subprocess.Popen[str]
    row: dict[str, Any]
    state: str = "preparing"  # then ready, then over
    rest: str = ""
    since: float = field(default_factory=time.monotonic)

    @staticmethod
    def start(case: Case, settings: Settings, threads: int) -> "Child":
        (settings.work / case.name).mkdir(parents=True, exist_ok=True)
        log = settings.work / f"{case.name}.log"
        with log.open("w") as errors:
            process = subprocess.Popen(settings.command(case), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                                       env=settings.environment(threads), start_new_session=True)
        assert process.stdout
        os.set_blocking(process.stdout.fileno(), False)
        row = {"name": case.name, "group": case.group, "dtype": case.dtype, "batch": case.batch, "kernel": bool(case.kernel), "results": {}}
        return Child(case, log, process, row)

    def listen(self) -> None:
        """Takes in what has arrived."""
        assert self.process.stdout
        data = self.process.stdout.read()
        if data == "":
            self.over(None if "done" in self.row else f"died with status {self.process.wait()}")
            return
        *lines, self.rest = (self.rest + (data or "")).split("\n")
        for line in lines:
            self.merge(json.loads(line))

    def merge(self, facts: dict[str, Any]) -> None:
        for kind, result in facts.pop("results", {}).items():
            self.row["results"].setdefault(kind, {}).update(result)
        self.row.update(facts)
        if "done" in facts:
            self.over(None)
        elif "ready" in facts:
            self.state = "ready"

    def over(self, problem: str | None) -> None:
        """Ends the process and whatever it started."""
        if self.state == "over":
            return
        self.state = "over"
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.row["seconds"] = time.monotonic() - self.since
        if problem:
            self.row.setdefault("problem", problem)
        if problem or "problem" in self.row:
            self.row["log"] = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]

    def go(self) -> None:
        """Begins the timing."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            print(file=self.process.stdin, flush=True)


def measure(cases: Sequence[Case], settings: Settings, deadline: float, report: Callable[[dict[str, Any]], None]) -> None:
    """Runs all cases; `report` gets each row as soon as it is known. deadline: by time.monotonic."""
    threads = max(1, len(os.sched_getaffinity(0)) // settings.jobs)
    for wave in _waves(cases, settings.jobs):
        if deadline - time.monotonic() < LEAST_SECONDS:
            for case in wave:
                report({"name": case.name, "group": case.group, "dtype": case.dtype, "batch": case.batch, "kernel": bool(case.kernel),
                        "results": {}, "problem": "not measured: the budget was used up"})
            continue
        children: list[Child] = []
        try:
            children.extend(Child.start(case, settings, threads) for case in wave)
            _until(children, lambda c: c.state != "preparing", min(deadline, time.monotonic() + settings.timeout), "not ready in time")
            for child in children:
                if child.state == "ready":
                    child.go()
                    _until([child], lambda c: c.state == "over", min(deadline, time.monotonic() + TIMING_SECONDS), "not timed in time")
                report(child.row)
        finally:
            for child in children:
                child.over("interrupted")


def _waves(cases: Sequence[Case], jobs: int) -> Iterator[Sequence[Case]]:
    for start in range(0, len(cases), jobs):
        yield cases[start:start + jobs]


def _until(children: Sequence[Child], done: Callable[[Child], bool], deadline: float, problem: str) -> None:
    """Listens to the children until each is done; those that are not when time is up are ended."""
    with selectors.DefaultSelector() as selector:
        for child in children:
            if child.process.stdout:
                selector.register(child.process.stdout, selectors.EVENT_READ, child)
        while not all(map(done, children)) and time.monotonic() < deadline:
            for key, _ in selector.select(timeout=min(1.0, max(deadline - time.monotonic(), 0))):
                key.data.listen()
                if key.data.state == "over":
                    selector.unregister(key.fileobj)
    for child in children:
        if not done(child):
            child.over(problem)
