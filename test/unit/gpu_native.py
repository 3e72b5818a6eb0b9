"""Runs a graph-level function through the real GPU path in this process: kernels on the simulator, the plan on numpy memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from gpu_sim import Kernel, kernels_of
from gpu_sim_hopper import MapValue
from harness import module_of
from native import Schedule, chosen
from test_gpu_plan import Machine

from mlc.backends.gpu_plan import add_tensor_maps, plan_of, tensor_maps
from mlc.dialects._ext import operations, verify
from mlc.driver import _constant as constant_array
from mlc.frontend.onnx.importer import import_model
from mlc.ir.context import make_context
from mlc.ir.mlir import ir
from mlc.passes.pipeline import run_pipeline
from mlc.passes.registry import PassContext
from mlc.target import Target

POISON = 0xA5  # what outputs and the arena hold before


class _Simulated(Machine):
    """A plan's machine whose kernels take a buffer of bytes and a place in it."""

    def _launch(self, s: dict[str, Any]) -> None:
        kernel: Any = self.kernels[s["kernel"]]
        kernel.launch(*[self._argument(r) for r in s["args"]])

    def _argument(self, r: dict[str, Any]) -> Any:
        if "tensormap" in r:
            return MapValue(r["tensormap"], *self._argument(r["tensormap"]["buffer"]))
        return self.memory[r["space"], r.get("index", 0)], self.value(r["offset"])


@dataclass(frozen=True)
class Simulated:
    """A lowered function: its task-level text, that of its kernels, and `call`. kernels: by name."""

    task: str
    gpu: str
    kernels: dict[str, Kernel]
    call: Callable[..., list[np.ndarray]]

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        return self.call(*inputs)


def compile_gpu(build: Callable[..., object], *inputs: np.ndarray, schedule: Schedule = chosen, target: str = "cuda:sm_90a",
                graph_passes: str = "mlc-dce") -> Simulated:
    """Lowers `build(*values)` for the types of `inputs`. schedule: the passes of the tile level."""
    ctx = PassContext(Target.parse(target))
    with make_context(), ir.Location.unknown():
        module, outs = module_of(build, inputs)
        run_pipeline(module, f"builtin.module({graph_passes},lower-graph-to-tile,mlc-dce,mlc-cse)", ctx)
        schedule(module, ctx)
        return _compiled(module, outs, ctx)


def compile_gpu_model(model: onnx.ModelProto, target: str = "cuda:sm_90a") -> Simulated:
    """Lowers an ONNX model as the driver does, but for what is evaluated at compile time; `call` takes its inputs in order."""
    with make_context() as context, ir.Location.unknown():
        imported = import_model(model, context=context)
        ctx = PassContext(Target.parse(target), imported.weights)
        run_pipeline(imported.module, "builtin.module(graph-pipeline,lower-graph-to-tile,mlc-dce,mlc-cse,tile-pipeline)", ctx)
        return _compiled(imported.module, imported.results, ctx)


def _compiled(module: ir.Module, outs: Sequence[Any], ctx: PassContext) -> Simulated:
    """The rest of the way, from the tile level. outs: shape and dtype of each result."""
    assert not (broken := verify(module)), broken
    run_pipeline(module, "builtin.module(task-pipeline)", ctx)
    assert not (broken := verify(module)), broken
    task = str(module)
    run_pipeline(module, "builtin.module(gpu-kernel-pipeline)", ctx)
    assert not (broken := verify(module)), broken
    text = str(module)
    main = next(op.operation for op in module.body.operations if op.operation.name == "func.func")
    plan = plan_of(main)
    functions = [op for op in operations(module.operation) if op.name == "gpu.func"]
    add_tensor_maps(plan.steps, {op.attributes["sym_name"].value: tensor_maps(op) for op in functions})
    constants = [constant_array(plan.constants[k]) if k in plan.constants else ctx.need_weights()[k].read() for k in plan.weights]
    kernels = kernels_of(module, ctx.need_target().warp)

    def call(*arrays: np.ndarray) -> list[np.ndarray]:
        sizes = [int(np.prod(o.shape)) * np.dtype(o.dtype.numpy).itemsize for o in outs]
        memory = {("arena", 0): np.full(plan.arena, POISON, np.uint8)}
        memory.update((("output", i), np.full(n, POISON, np.uint8)) for i, n in enumerate(sizes))
        for space, sources in (("input", arrays), ("weight", constants)):
            memory.update(((space, i), _bytes(a)) for i, a in enumerate(sources))
        _Simulated(memory, dict(kernels)).run(plan.steps)  # type: ignore[arg-type]
        for i, array in enumerate(arrays):
            assert memory["input", i].tobytes() == np.ascontiguousarray(array).tobytes(), "wrote to an input"
        return [memory["output", i].view(o.dtype.numpy).reshape(o.shape) for i, o in enumerate(outs)]

    return Simulated(task, text, kernels, call)


def _bytes(array: np.ndarray) -> np.ndarray:
    """A copy that may be written to."""
    return np.frombuffer(bytearray(np.ascontiguousarray(array).tobytes()), np.uint8)


def run_gpu(build: Callable[..., object], *inputs: np.ndarray, schedule: Schedule = chosen,
            target: str = "cuda:sm_90a") -> list[np.ndarray]:
    """The results of `build` on `inputs`."""
    return compile_gpu(build, *inputs, schedule=schedule, target=target)(*inputs)
