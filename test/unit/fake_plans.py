"""Plans, artifacts and kernels for the fake CUDA driver."""

from typing import Any

import numpy as np
import pytest
from fake_cuda import FakeCuda, Fault

from mlc.artifact import Artifact

W = np.linspace(0.5, 2.0, 4, dtype=np.float32)
X = np.arange(4, dtype=np.float32)


def ref(space: str, index: int = 0, offset: Any = 0) -> dict[str, Any]:
    return {"space": space, "index": index, "offset": offset}


def arena(offset: Any) -> dict[str, Any]:
    return {"space": "arena", "offset": offset}


def kernel(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "object": "objects/kernels.cubin", "symbol": f"{name}_sym", "grid": [1], "blocks": 2, "threads": 64,
            "nodes": [f"/{name}"], "shared_bytes": 0, **more}


def launch(name: str, *args: dict[str, Any]) -> dict[str, Any]:
    return {"op": "launch", "kernel": name, "args": list(args)}


def copy(source: dict[str, Any], target: dict[str, Any], size: int) -> dict[str, Any]:
    return {"op": "copy", "source": source, "target": target, "bytes": size}


# y = (x * w) + 1, in two kernels over the arena
SCALE = [launch("mul", ref("input"), ref("weight"), arena(256)), launch("inc", arena(256), ref("output"))]


def fake(patch: pytest.MonkeyPatch, **more: Any) -> FakeCuda:
    """Installs a driver that has the kernels `mul`, `inc` and `bad` (which faults)."""
    cuda = FakeCuda(**more)

    def mul(a: int, b: int, c: int) -> None:
        cuda.array(c, 4)[:] = cuda.array(a, 4) * cuda.array(b, 4)

    def inc(a: int, b: int) -> None:
        cuda.array(b, 4)[:] = cuda.array(a, 4) + 1

    def bad(a: int) -> None:
        raise Fault

    cuda.kernels.update(mul_sym=mul, inc_sym=inc, bad_sym=bad)
    return cuda.install(patch)


def artifact(steps: list[dict[str, Any]] = SCALE, **more: Any) -> Artifact:
    kernels = [kernel("mul"), kernel("inc", pdl=True), kernel("bad")]
    plan = {"target": "cuda:sm_90a", "arena_bytes": 1024, "steps": steps, "kernels": kernels,
            "inputs": [{"name": "x", "dtype": "f32", "shape": [4]}], "outputs": [{"name": "y", "dtype": "f32", "shape": [4]}],
            "weights": [{"name": "w", "dtype": "f32", "shape": [4]}], "objects": ["objects/kernels.cubin"], **more}
    return Artifact.build(plan=plan, objects={"objects/kernels.cubin": b"cubin"}, weights=[("w", W)] if plan["weights"] else [])
