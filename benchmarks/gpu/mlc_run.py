"""mlc as a contestant: compiled in a process of its own, then run on the device's own buffers so that torch's clock can time it."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
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
    """A loaded artifact with its inputs."""

    def __init__(self, artifact: Path, inputs: Sequence[np.ndarray], device: str) -> None:
        import mlc

        self._exe, self._inputs, self._device = mlc.load(artifact), list(inputs), device
        kernels = self._exe.plan.get("kernels", [])
        self.facts = {"version": mlc.__version__, "kernels": len(kernels), "nodes": sum(k.get("launches", 1) for k in kernels),
                      "spills": sum(k.get("spill_bytes", 0) for k in kernels), "arena": self._exe.plan.get("arena_bytes", 0)}

    def once(self) -> list[Tensor]:
        """A plain call, from arrays to arrays."""
        return [torch.from_numpy(np.asarray(a)).to(self._device) for a in self._exe(*self._inputs)]

    def call(self) -> list[Tensor]:
        return [torch.from_numpy(np.asarray(a)) for a in self._exe(*self._inputs)]
