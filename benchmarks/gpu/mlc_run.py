"""mlc as a contestant: compiled in a process of its own, then run on its own device memory so that torch's clock can time it."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpu.timing import Clock, Replay

ROOT = Path(__file__).resolve().parents[2]
PROFILED = 12
SCRIPT = Path(__file__).with_name("compile_job.py")


class Compile:
    """A compile under way."""

    def __init__(self, path: Path, target: str) -> None:
        self.artifact = path.with_suffix(".mlc")
        self._process = subprocess.Popen([sys.executable, str(SCRIPT), str(path), target, str(self.artifact)], cwd=ROOT, text=True,
                                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def wait(self, timeout: float) -> dict[str, Any]:
        """Compile time and its stages. Raises RuntimeError."""
        try:
            out, err = self._process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise RuntimeError(f"not compiled within {timeout:.0f} s") from None
        answers = [line for line in out.splitlines() if line.startswith("{")]
        if not answers:
            last = err.strip().splitlines()[-1:] or ["no message"]
            raise RuntimeError(f"the compiler ended with status {self._process.returncode}: {last[0]}")
        facts = json.loads(answers[-1])
        if "problem" in facts:
            raise RuntimeError(facts["problem"])
        return facts


class MlcRun:
    """A loaded artifact with its inputs. facts: of the plan."""

    def __init__(self, artifact: Path, inputs: Sequence[np.ndarray]) -> None:
        import mlc

        self._exe, self._inputs = mlc.load(artifact), list(inputs)
        kernels = self._exe.plan.get("kernels", [])
        self.facts = {"version": mlc.__version__, "kernels": len(kernels), "nodes": sum(k.get("launches", 1) for k in kernels),
                      "spills": sum(k.get("spill_bytes", 0) for k in kernels), "arena": self._exe.plan.get("arena_bytes", 0)}

    def once(self) -> list[Tensor]:
        """A plain call, from arrays to arrays."""
        return [torch.from_numpy(np.asarray(a)) for a in self._exe(*self._inputs)]

    def profile(self) -> list[dict[str, Any]]:
        """The kernels that take the most time, each measured by itself: all launches of one together."""
        total: dict[str, dict[str, Any]] = {}
        for command in self._exe.profile(self._inputs):
            entry = total.setdefault(command.name, {"name": command.name, "seconds": 0.0, "launches": 0, "blocks": command.blocks,
                                                    "threads": command.threads, "shared": command.shared_bytes,
                                                    "nodes": list(command.nodes[:4])})
            entry["seconds"] += command.milliseconds / 1e3
            entry["launches"] += 1
        return sorted(total.values(), key=lambda entry: -entry["seconds"])[:PROFILED]

    def ready(self, clock: Clock) -> Replay:
        """Made ready to be timed: on a GPU what a call launches, but for the copies of inputs and outputs."""
        if self._exe.device is None:
            return clock.ready(self.once)
        run = self._exe.prepare(self._inputs)
        outputs = [torch.from_dlpack(array) for array in run.outputs]

        def call(step: Callable[[], Any]) -> Callable[[], list[Tensor]]:
            def stepped() -> list[Tensor]:
                step()
                return outputs

            return stepped

        replay = clock.ready(call(run.record) if run.is_static else None, torch.cuda.ExternalStream(run.stream), call(run.queue))
        replay.nodes = run.record() if run.is_static else None
        return replay
