"""Runs the contestants of one case against each other: separate processes, only one of them awake, results checked before a time counts."""

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TOLERANCE = 1e-3  # of an output's scale; contestants differ by rounding only, about 1e-6
SMALLEST = 1e-30  # float32 numbers lose precision below 1e-38
SCRIPT = Path(__file__).with_name("contestants.py")
ORACLE = "ort"


class Failed(Exception):
    """Why a contestant has no time."""


@dataclass(frozen=True)
class Settings:
    """How to measure. pythons: the interpreter of each contestant, in the order of the table."""

    pythons: Mapping[str, str]
    threads: int = 2
    rounds: int = 10
    turn: float = 0.3
    timeout: float = 180.0
    logs: Path = Path(".bench/logs")


@dataclass(frozen=True)
class Case:
    """A model or a kernel: an .onnx file with its inputs in the .npz beside it."""

    name: str
    path: Path
    kernel: bool = False


@dataclass
class Child:
    """A contestant's process. It is stopped whenever it is not being asked, so that no thread of it spins while another one is timed."""

    process: subprocess.Popen[str]
    log: Path
    stopped: bool = False

    @staticmethod
    @contextlib.contextmanager
    def start(kind: str, settings: Settings, case: Case, cache: str) -> Iterator["Child"]:
        settings.logs.mkdir(parents=True, exist_ok=True)
        log = settings.logs / f"{case.name}.{kind}.log"
        threads, command = str(settings.threads), [settings.pythons[kind], str(SCRIPT), kind]
        environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": threads,
                       "MKL_NUM_THREADS": threads, "MLC_CACHE_DIR": cache, "TORCHINDUCTOR_CACHE_DIR": str(Path(cache, "inductor"))}
        with log.open("w") as stderr, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
                                                       env=environment, text=True, start_new_session=True) as process:
            child = Child(process, log)
            try:
                yield child
            finally:
                child.signal(signal.SIGKILL)
                if process.stdin:
                    with contextlib.suppress(BrokenPipeError):  # a request that it died before reading is still in the buffer
                        process.stdin.close()

    def signal(self, number: signal.Signals) -> None:
        """To the whole session, because torch.compile has workers of its own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def ask(self, request: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        """One request and its answer. Raises Failed."""
        assert self.process.stdin and self.process.stdout
        if self.stopped:
            self.signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(request), file=self.process.stdin, flush=True)
        ready, _, _ = select.select([self.process.stdout], [], [], timeout)
        if not ready:
            raise Failed(f"no answer within {timeout:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"died with status {self.process.wait()}; see {self.log}")
        self.signal(signal.SIGSTOP)
        self.stopped = True
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer


def race(case: Case, settings: Settings) -> dict[str, dict[str, Any]]:
    """For each contestant its times in seconds and what it said of itself, or its `problem`."""
    results: dict[str, dict[str, Any]] = {kind: {} for kind in settings.pythons}
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlc-bench-")))
        children: dict[str, Child] = {}
        for kind in sorted(results, key=lambda k: k != ORACLE):  # it first: the others are compared with its results
            try:
                children[kind] = _prepare(kind, case, settings, directory, stack, results[kind])
            except Failed as failure:
                results[kind]["problem"] = str(failure)
        _rounds(children, settings, results)
    return results


def _prepare(kind: str, case: Case, settings: Settings, directory: Path, stack: contextlib.ExitStack, result: dict[str, Any]) -> Child:
    """A child that gives the right results and is ready for its turns. Raises Failed."""
    cache = directory / "cache"
    cache.mkdir(mode=0o700, exist_ok=True)
    load = {"do": "load", "model": str(case.path), "name": case.name, "kernel": case.kernel, "threads": settings.threads}
    if kind == "mlc":  # compiles in one process and is timed in another, which finds the artifact in the cache
        with Child.start(kind, settings, case, str(cache)) as cold:
            result["cold"] = cold.ask({**load, "cold": True}, settings.timeout)
    child = stack.enter_context(Child.start(kind, settings, case, str(cache)))
    result |= child.ask(load, settings.timeout)
    outputs = directory / f"{kind}.npz"
    result |= child.ask({"do": "run", "inputs": str(case.path.with_suffix(".npz")), "outputs": str(outputs)}, settings.timeout)
    known = [directory / f"{ORACLE}.npz", case.path.with_suffix(".npz")]  # where ONNX Runtime refuses a model, what its exporter computed
    reference = next((path for path in known if path.exists() and telling(path)), None)
    if reference is None:
        raise Failed("unchecked: there are no results to compare with, or they are constant")
    result["error"] = difference(outputs, reference)
    if not result["error"] <= TOLERANCE:
        raise Failed(f"wrong: differs from {reference.stem} by {result['error']:.1e} of the output's scale")
    return child


def _outputs(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files if name.startswith("out")}


def telling(path: Path) -> bool:
    """Whether agreeing with these outputs means something: they are there, vary, and are not so small that any code gives about zero."""
    arrays = _outputs(path).values()
    return bool(arrays) and all(a.size == 1 or (a.min() != a.max() and np.abs(a.astype(np.float64)).max() > SMALLEST) for a in arrays)


def difference(outputs: Path, reference: Path) -> float:
    """The largest error over all outputs, each as a fraction of the output's largest value; infinite where shapes differ or NaN appears."""
    ours, theirs = _outputs(outputs), _outputs(reference)
    if ours.keys() != theirs.keys():
        return float("inf")
    worst = 0.0
    for name, expected in theirs.items():
        found = ours[name]
        if found.shape != expected.shape:
            return float("inf")
        if expected.size:
            error = np.abs(found.astype(np.float64) - expected).max() / (np.abs(expected.astype(np.float64)).max() or 1.0)
            worst = max(worst, float(error) if np.isfinite(error) else float("inf"))
    return worst


def _rounds(children: dict[str, Child], settings: Settings, results: dict[str, dict[str, Any]]) -> None:
    """Turns in alternating order, so that a drift of the machine meets all contestants alike. A child that fails is out."""
    times: dict[str, list[float]] = {kind: [] for kind in children}
    for number in range(settings.rounds):
        for kind in sorted(children, reverse=bool(number % 2)):
            try:
                times[kind] += children[kind].ask({"do": "turn", "seconds": settings.turn}, settings.timeout)["times"]
            except Failed as failure:
                results[kind]["problem"] = str(failure)
                del children[kind]
    for kind in children:
        results[kind] |= statistics(times[kind])


def statistics(times: Sequence[float]) -> dict[str, Any]:
    """Median, spread and number of runs."""
    p10, median, p90 = (float(x) for x in np.percentile(times, (10, 50, 90)))
    return {"median": median, "p10": p10, "p90": p90, "min": min(times), "runs": len(times)}


def busy(seconds: float = 0.5) -> float:
    """The fraction of the usable cores that other processes keep busy just now."""
    cores = {f"cpu{n}" for n in os.sched_getaffinity(0)}

    def sample() -> tuple[int, int]:
        rows = [line.split() for line in Path("/proc/stat").read_text().splitlines() if line.split()[0] in cores]
        ticks = [[int(n) for n in row[1:9]] for row in rows]
        return sum(sum(t) - t[3] - t[4] for t in ticks), sum(map(sum, ticks))  # all but idle and iowait; all

    before = sample()
    time.sleep(seconds)
    after = sample()
    return (after[0] - before[0]) / max(after[1] - before[1], 1)
