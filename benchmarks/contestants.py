"""One contestant of a benchmark, alone in its process: prepares a model, runs it when told to, and answers in JSON lines.

    PYTHON benchmarks/contestants.py KIND        # mlc, ort, torch, torch.compile

Requests come on standard input, one JSON object per line: {"do": "load", "model": path, "name": ..., "kernel": bool, "threads": n} answers
with versions and times, {"do": "run", "inputs": npz, "outputs": npz} runs once and keeps the results, {"do": "turn", "seconds": s} answers
with the time of every run. It imports nothing of the project but what it measures: the interpreter may be one that has only PyTorch.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np

Arrays = list[np.ndarray]
Call = Callable[[], Any]
LEAST_RUNS = 3
SETTLE_SECONDS = 0.05


class Mlc:
    """mlc through its public API. `cold` only compiles; the process that is timed then loads from the cache, as a deployed one does."""

    def load(self, request: Mapping[str, Any]) -> dict[str, Any]:
        start = time.perf_counter()
        from mlc.api import build  # the import is part of what a user waits for
        from mlc.load import executable
        from mlc.options import CompileOptions
        from mlc.progress import Progress
        from mlc.target import Target

        with Progress("compiling", show=False) as progress:
            built = build(request["model"], CompileOptions(target=Target.parse("cpu")), report=progress)
        if not request.get("cold"):
            self.exe = executable(built.artifact, request["threads"])
        seconds = time.perf_counter() - start
        import mlc

        kernels = built.artifact.plan.get("kernels", [])
        return {"version": mlc.__version__, "load": seconds, "hit": built.hit, "stages": progress.seconds, "target": built.artifact.target,
                "kernels": len(kernels), "launches": sum(k.get("launches", 1) for k in kernels),
                "arena": built.artifact.plan.get("arena_bytes", 0)}

    def bind(self, inputs: Arrays) -> Call:
        return lambda: self.exe(*inputs)

    def arrays(self, answer: Any) -> Arrays:
        return [np.asarray(a) for a in answer]


class Ort:
    """ONNX Runtime on the CPU, all graph optimisations on."""

    def load(self, request: Mapping[str, Any]) -> dict[str, Any]:
        start = time.perf_counter()
        import onnxruntime as ort

        ort.set_default_logger_severity(4)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = request["threads"]
        self.session = ort.InferenceSession(request["model"], options, providers=["CPUExecutionProvider"])
        return {"version": ort.__version__, "load": time.perf_counter() - start}

    def bind(self, inputs: Arrays) -> Call:
        feed = dict(zip([i.name for i in self.session.get_inputs()], inputs, strict=True))
        return lambda: self.session.run(None, feed)

    def arrays(self, answer: Any) -> Arrays:
        return list(answer)


class Torch:
    """PyTorch on the module that was exported (same seed, so same weights), eager or through torch.compile."""

    def __init__(self, compiled: bool) -> None:
        self.compiled = compiled

    def load(self, request: Mapping[str, Any]) -> dict[str, Any]:
        start = time.perf_counter()
        import torch

        torch.set_num_threads(request["threads"])
        torch.set_grad_enabled(False)
        if request["kernel"]:
            from cases import KERNELS

            self.module = KERNELS[request["name"]].torch()
        else:
            from zoo import build

            self.module = build(request["name"])[0]
        if self.compiled:
            self.module = torch.compile(self.module)  # compiles in the first run, which `run` counts as its `first`
        return {"version": torch.__version__, "load": time.perf_counter() - start}

    def bind(self, inputs: Arrays) -> Call:
        import torch

        tensors = [torch.from_numpy(a) for a in inputs]
        return lambda: self.module(*tensors)

    def arrays(self, answer: Any) -> Arrays:
        return [t.numpy() for t in (answer if isinstance(answer, tuple) else (answer,))]


KINDS: dict[str, Callable[[], Any]] = {"mlc": Mlc, "ort": Ort, "torch": lambda: Torch(False), "torch.compile": lambda: Torch(True)}


def turn(call: Call, seconds: float) -> list[float]:
    """The time of each run. The runs of the first moments are left out: the caches still hold what another contestant left there."""
    end = time.perf_counter() + SETTLE_SECONDS
    call()
    while time.perf_counter() < end:
        call()
    times: list[float] = []
    while len(times) < LEAST_RUNS or sum(times) < seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def answer(contestant: Any, request: Mapping[str, Any], calls: list[Call]) -> dict[str, Any]:
    """Does what one request asks for. calls: the bound run, once there is one."""
    if request["do"] == "load":
        return contestant.load(request)
    if request["do"] == "run":
        with np.load(request["inputs"]) as stored:
            calls[:] = [contestant.bind([stored[f"in{i}"] for i in range(sum(name.startswith("in") for name in stored.files))])]
        start = time.perf_counter()
        results = contestant.arrays(calls[0]())
        first = time.perf_counter() - start
        np.savez(request["outputs"], **{f"out{i}": a for i, a in enumerate(results)})
        return {"first": first}
    return {"times": turn(calls[0], request["seconds"])}


def main(kind: str) -> None:
    """Answers requests until standard input ends. Libraries that print get standard error: standard output carries answers only."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    contestant, calls = KINDS[kind](), []
    for line in sys.stdin:
        try:
            reply = answer(contestant, json.loads(line), calls)
        except Exception as error:  # every failure is a cell of the table, whatever library it comes from
            reply = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        print(json.dumps(reply), file=channel)


if __name__ == "__main__":
    main(sys.argv[1])
