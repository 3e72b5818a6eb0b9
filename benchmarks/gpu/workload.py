"""One case made concrete: the ONNX model, inputs, torch's ways to compute the same, and the result in f64."""

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import models
import numpy as np
import torch
from roof import work_of
from torch import Tensor

from gpu.cases import Case
from gpu.kernels import KERNELS

Call = Callable[[], Any]


@dataclass
class Workload:
    """path: of the ONNX model; inputs: on the host, in the order of the model's. Calls take nothing and leave their results on the device.

    peers: library -> makes the call; it may take long. own: those, best first, that compute as the model is written: torch's own error.
    """

    path: Path
    inputs: list[np.ndarray]
    peers: dict[str, Callable[[], Call]]
    exact: Callable[[], list[Tensor]]
    own: tuple[str, ...]
    flops: int = 0
    bytes: int = 0
    written: int = 0


def outputs_of(result: Any) -> list[Tensor]:
    """The tensors of a call's result."""
    return [result] if isinstance(result, Tensor) else list(result)


def strict() -> None:
    """Torch computes f32 in f32, as mlc does, and accumulates f16 products in f32."""
    torch.set_grad_enabled(False)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False


def make(case: Case, folder: Path, device: str, seed: int) -> Workload:
    """Writes the model into folder and makes the rest."""
    strict()
    return _kernel(case, folder, device, seed) if case.kernel else _model(case, folder, device, seed)


def fresh(inputs: Sequence[Tensor], seed: int) -> list[Tensor]:
    """Other inputs of the same kind: floats of the same spread, numbers of the same range; what is all equal, such as a mask, stays."""
    generator = torch.Generator().manual_seed(seed)

    def another(t: Tensor) -> Tensor:
        if t.is_floating_point():
            return (torch.randn(t.shape, generator=generator) * t.float().std() + t.float().mean()).to(t.dtype)
        low, high = int(t.min()), int(t.max())
        return torch.randint(low, high + 1, t.shape, generator=generator, dtype=t.dtype)

    return [another(t) for t in inputs]


def _model(case: Case, folder: Path, device: str, seed: int) -> Workload:
    from zoo import build

    warnings.filterwarnings("ignore")
    module, given, names = build(case.model, case.batch)
    if case.dtype == "f16":
        module, given = module.half(), tuple(t.half() if t.is_floating_point() else t for t in given)
    path = folder / f"{case.name}.onnx"
    with models.silent():
        models.write(module, given, names, path, "18")
    inputs = fresh(given, seed)
    there = module.to(device)
    tensors = [t.to(device) for t in inputs]

    def exact() -> list[Tensor]:
        wide = copy.deepcopy(there).double()
        return outputs_of(wide(*(t.double() if t.is_floating_point() else t for t in tensors)))

    def compiled() -> Call:
        fast = torch.compile(there)
        return lambda: fast(*tensors)

    work = work_of(path)
    return Workload(path, [t.numpy() for t in inputs], {"eager": lambda: lambda: there(*tensors), "compile": compiled}, exact, ("eager",),
                    *((work.flops, work.bytes) if work else ()))


def _kernel(case: Case, folder: Path, device: str, seed: int) -> Workload:
    kernel = KERNELS[case.kernel]
    arrays = kernel.arrays(seed)
    path = folder / f"{case.name}.onnx"
    kernel.write(path, arrays)
    every = [torch.from_numpy(a).to(device) for a in arrays.values()]
    count = len(every) - kernel.weights
    tensors, weights = every[:count], every[count:]

    def peer(make: Callable[..., Callable[..., Any]]) -> Callable[[], Call]:
        def prepared() -> Call:
            function = make(torch, *weights)
            return lambda: function(*tensors)

        return prepared

    return Workload(path, list(arrays.values())[:count], {name: peer(make) for name, make in kernel.peers.items()},
                    lambda: [kernel.exact(torch, *(t.double() for t in every))], tuple(kernel.peers),
                    kernel.flops, kernel.bytes, kernel.written)
