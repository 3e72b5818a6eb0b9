"""Times a compiled model, in turns with ONNX Runtime if asked, so that both see the same machine."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from mlc.api import build
from mlc.cli.jobs.common import Answer, Request, make_inputs, options_of
from mlc.load import executable, load
from mlc.progress import Report

WARMUP_SECONDS = 0.3
TURN_SECONDS = 0.1
LEAST_RUNS = 5


def job(request: Request, report: Report) -> Answer:
    """request: model (.onnx or .mlc), inputs, seed, vs, threads, duration, and what `params.compiling` adds."""
    threads = request["threads"] or len(os.sched_getaffinity(0))
    if Path(request["model"]).suffix == ".mlc":
        exe = load(request["model"], threads)
    else:
        exe = executable(build(request["model"], options_of(request), cached=request["cache"], report=report).artifact, threads)
    inputs = make_inputs(exe, request["inputs"], request["seed"])
    runs: dict[str, Callable[[], object]] = {"mlc": lambda: exe.run(inputs)}
    if request["vs"] == "ort":
        from mlc.cli.jobs.reference import ort_reference

        peer = ort_reference(request["model"], optimise=True, threads=threads)
        runs[peer.name] = lambda: peer.run(inputs)
    report("measure", 0, 0)
    return {"threads": threads, "target": exe.target, "rows": measure(runs, request["duration"])}


def measure(runs: Mapping[str, Callable[[], object]], duration: float) -> list[Answer]:
    """Statistics of each run in seconds. The runs take turns of a tenth of a second, for `duration` seconds each."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        _turn(run, WARMUP_SECONDS)
    while any(sum(t) < duration or len(t) < LEAST_RUNS for t in times.values()):
        for name, run in runs.items():
            times[name] += _turn(run, TURN_SECONDS)
    return [_statistics(name, np.array(t)) for name, t in times.items()]


def _turn(run: Callable[[], object], seconds: float) -> list[float]:
    times: list[float] = []
    while sum(times) < seconds:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


def _statistics(name: str, times: np.ndarray) -> Answer:
    p10, median, p90 = (float(x) for x in np.percentile(times, (10, 50, 90)))
    return {"name": name, "runs": len(times), "min": float(times.min()), "p10": p10, "median": median, "p90": p90}
