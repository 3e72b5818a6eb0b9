"""Times a compiled model, in turns with a peer if asked, so that both see the same machine; on a GPU by the GPU's own clock as well."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlc.api import build_to_run
from mlc.cli.jobs.common import Answer, Request, allows_tf32, make_inputs, options_of
from mlc.errors import OptionError, ResourceError
from mlc.load import load
from mlc.progress import Report
from mlc.runtime.executor import Executable
from mlc.runtime.gpu_profile import CommandTime, chrome_trace

WARMUP_SECONDS = 0.3
TURN_SECONDS = 0.1
LEAST_RUNS = 5

Turn = Callable[[float], list[float]]
"""Runs for about so many seconds; gives the seconds of each run."""


def job(request: Request, report: Report) -> Answer:
    """request: model (.onnx or .mlc), inputs, seed, vs, threads, duration, profile (a path or None), and what `params.compiling` adds."""
    threads = request["threads"] or len(os.sched_getaffinity(0))
    if Path(request["model"]).suffix == ".mlc":
        exe = load(request["model"], threads)
    else:
        _, exe = build_to_run(request["model"], options_of(request), threads, cached=request["cache"], report=report)
    if request["profile"] is not None and exe.device is None:  # said before anything is measured
        raise OptionError(f"--profile: the model is for target {exe.target!r}, which is no GPU", hint="it shows the time of GPU kernels")
    inputs = make_inputs(exe, request["inputs"], request["seed"])
    turns = {"mlc": _turns(lambda: exe.run(inputs))} if exe.device is None else {
        "mlc, GPU time": _gpu_turns(exe, inputs, flush=False),
        "mlc, GPU time, cold L2": _gpu_turns(exe, inputs, flush=True),
        "mlc, whole call": _turns(lambda: exe.run(inputs))}
    peer = _peer(request, exe, inputs, threads)
    report("measure", 0, 0)
    rows = measure_turns({**turns, **peer}, request["duration"])
    answer = {"threads": threads, "target": exe.target, "device": exe.device, "rows": rows, "peer": next(iter(peer), None)}
    if request["profile"] is not None:
        report("profile", 0, 0)
        answer["kernels"] = _profile(exe, inputs, request["profile"])
    return answer


def measure(runs: Mapping[str, Callable[[], object]], duration: float) -> list[Answer]:
    """Statistics of each run in seconds of wall clock. The runs take turns of a tenth of a second, for `duration` seconds each."""
    return measure_turns({name: _turns(run) for name, run in runs.items()}, duration)


def measure_turns(turns: Mapping[str, Turn], duration: float) -> list[Answer]:
    """As `measure`, for contestants with a clock of their own."""
    times: dict[str, list[float]] = {name: [] for name in turns}
    for turn in turns.values():
        turn(WARMUP_SECONDS)
    started = time.monotonic()
    while any(len(t) < LEAST_RUNS for t in times.values()) or time.monotonic() - started < duration * len(turns):
        for name, turn in turns.items():
            times[name] += turn(TURN_SECONDS)
    return [_statistics(name, np.array(t)) for name, t in times.items()]


def _peer(request: Request, exe: Executable, inputs: Mapping[str, Any], threads: int) -> dict[str, Turn]:
    """The contestant that --vs asks for, by its name first. On a GPU torch is measured by the GPU's clock, as one graph, warm and cold."""
    if request["vs"] == "ort":
        from mlc.cli.jobs.reference import ort_reference

        ort = ort_reference(request["model"], optimise=True, threads=threads)
        return {ort.name: _turns(lambda: ort.run(inputs))}
    if request["vs"] == "torch":
        from mlc.cli.jobs.torch_peer import TorchPeer

        torch = TorchPeer(request["model"], inputs, on_gpu=exe.device is not None, threads=threads,
                          allow_tf32=allows_tf32(exe.plan))
        if exe.device is None:
            return {torch.name: _turns(torch.run)}
        return {torch.name: _counted(lambda count: torch.gpu_times(count, flush=False)),
                f"{torch.name}, cold L2": _counted(lambda count: torch.gpu_times(count, flush=True))}
    return {}


def _profile(exe: Executable, inputs: Mapping[str, Any], path: str) -> list[Answer]:
    """Writes the trace; gives the time of each kernel, launches of one kernel together, the longest first."""
    times = exe.profile(inputs)
    try:
        Path(path).write_text(chrome_trace(times, f"mlc {exe.target} on {exe.device}"))
    except OSError as error:
        raise ResourceError(f"--profile: cannot write the trace: {error.strerror}") from error
    whole = sum(t.milliseconds for t in times) or 1.0
    groups: dict[str, list[CommandTime]] = {}
    for each in times:
        groups.setdefault(each.name, []).append(each)
    rows = [{"name": name, "launches": len(group), "seconds": sum(t.milliseconds for t in group) / 1e3,
             "share": sum(t.milliseconds for t in group) / whole, "nodes": list(group[0].nodes)} for name, group in groups.items()]
    return sorted(rows, key=lambda row: -row["seconds"])


def _turns(run: Callable[[], object]) -> Turn:
    return lambda seconds: _turn(run, seconds)


def _gpu_turns(exe: Executable, inputs: Mapping[str, Any], flush: bool) -> Turn:
    return _counted(lambda count: [t / 1e3 for t in exe.bench(inputs, count, 1, "gpu", flush_l2=flush).times])


def _counted(times: Callable[[int], list[float]]) -> Turn:
    """A turn out of what times a number of runs."""
    def turn(seconds: float) -> list[float]:
        first = times(LEAST_RUNS)
        more = min(1000, int((seconds - sum(first)) / max(np.median(first), 1e-6)))
        return first if more < 1 else [*first, *times(more)]

    return turn


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
