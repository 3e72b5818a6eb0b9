"""The order of stages: model -> graph -> tile -> task -> code -> artifact. The only module that knows it."""

import itertools
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mlc.artifact import Artifact
from mlc.backends.base import Built, backend_of
from mlc.dtypes import BF16, BY_NAME
from mlc.errors import OptionError
from mlc.frontend.onnx.importer import ImportedModel, import_model
from mlc.frontend.onnx.load import LoadedModel, ModelSource
from mlc.ir.context import make_context
from mlc.ir.mlir import ir
from mlc.load import executable
from mlc.options import CompileOptions
from mlc.passes.graph.dequantized_products import widened_products
from mlc.passes.instrument import Instrumentation, Timing
from mlc.passes.pipeline import run_pipeline
from mlc.passes.registry import PassContext
from mlc.passes.tile.split_constants import split_constants
from mlc.target import Target
from mlc.weights import Weight, WeightStore, release

Progress = Callable[[str, int, int], None]
LEAST_PART = 64 << 20  # bytes of results of one part of const-eval
PARTS = 6  # at most about as many: each is compiled anew, though equal kernels of one part only once
LEVELS = ("graph", "tile", "task")  # and those below, which the target's backend names


@dataclass
class _Stages:
    """What is known while one model is compiled. notes: for the user, on what is computed otherwise than one would think."""

    options: CompileOptions
    ctx: PassContext
    progress: Progress | None
    watch: Instrumentation = field(default_factory=Instrumentation)
    notes: list[str] = field(default_factory=list[str])

    @staticmethod
    def of(options: CompileOptions, progress: Progress | None) -> "_Stages":
        watch = Instrumentation(dump_dir=options.dump_dir, timing=Timing() if options.timing else None)
        return _Stages(options, PassContext(options.machine), progress, watch)

    def enter(self, stage: str) -> None:
        if self.progress is not None:
            self.progress(stage, 0, 0)

    def of_codegen(self, finished: int, kernels: int) -> None:
        if self.progress is not None:
            self.progress("codegen", finished, kernels)

    def run(self, module: ir.Module, pipeline: str) -> None:
        run_pipeline(module, f"builtin.module({pipeline})", self.ctx, instrumentation=self.watch)


def compile_model(model: ModelSource | LoadedModel, options: CompileOptions, *, progress: Progress | None = None) -> Artifact:
    """Compiles a model for `options.target`, and for those beside it. Raises a subclass of MlcError."""
    if options.also:
        from mlc.backends.rocm.variants import join  # the only kind of which an artifact holds several

        return join([compile_model(model, _alone(options, target), progress=progress) for target in options.targets])
    backend = backend_of(options.machine, options.opt_level)
    backend.check()
    with make_context() as context:
        stages, imported = _import(model, options, progress, context)
        with ir.Location.unknown():
            _to_task(imported.module, stages)
            stages.enter("codegen")
            built = backend.build(imported.module, stages.run, stages.of_codegen)
            plan = _plan(imported, built, stages)
        timing = stages.watch.timing
        extra = {} if timing is None else {"timing.json": json.dumps(timing.seconds).encode()}
        return Artifact.build(plan=plan, objects=built.objects, weights=_weights(built, imported.weights), extra=extra)


def _alone(options: CompileOptions, target: Target) -> CompileOptions:
    """One architecture of several, its IR in a directory of its own."""
    return replace(options, target=target, also=(), dump_dir=None if options.dump_dir is None else options.dump_dir / target.arch)


def emit(model: ModelSource, options: CompileOptions, level: str, *, progress: Progress | None = None) -> str:
    """The text of one level: graph, tile, task, or one that the target's backend names (gpu, llvm, asm)."""
    if options.also:
        raise OptionError(f"--emit {level}: target '{Target.name_all(options.targets)}' has several architectures, expected one")
    backend = backend_of(options.machine, options.opt_level)
    if level not in (*LEVELS, *backend.levels):
        raise OptionError(f"--emit {level}: target '{options.target}' has the levels {', '.join((*LEVELS, *backend.levels))}")
    with make_context() as context:
        stages, imported = _import(model, options, progress, context)
        with ir.Location.unknown():
            if not _to_task(imported.module, stages, stop=level):
                return str(imported.module)
            stages.enter("codegen")
            return backend.emit(imported.module, stages.run, level)


def _import(model: ModelSource | LoadedModel, options: CompileOptions, progress: Progress | None,
            context: ir.Context) -> tuple[_Stages, ImportedModel]:
    stages = _Stages.of(options, progress)
    stages.enter("import")
    imported = import_model(model, shapes=options.shapes, values=options.values, context=context)
    stages.ctx = PassContext(options.machine, imported.weights)
    return stages, imported


def _to_task(module: ir.Module, stages: _Stages, stop: str = "") -> bool:
    """Runs the levels down to task; False when it stopped at the level asked for."""
    stages.enter("graph")
    stages.run(module, "graph-pipeline")
    stages.notes = widened_products(module, stages.ctx.need_target())
    if stop == "graph":
        return False
    stages.enter("tile")
    stages.run(module, "lower-graph-to-tile,mlc-dce,mlc-cse")
    stages.run(module, "tile-pipeline")
    _evaluate_constants(module, stages)
    if stop == "tile":
        return False
    stages.enter("task")
    stages.run(module, "task-pipeline")
    return stop != "task"


# -- constants ----------------------------------------------------------------------------------------------------------


def _evaluate_constants(module: ir.Module, stages: _Stages) -> None:
    """Const-eval: compiles and runs what depends on weights alone; its results become weights.

    In parts, so that of a large model only one part at a time is in memory both as it was and as it becomes.
    """
    budget = max(LEAST_PART, sum(w.bytes for w in stages.ctx.need_weights()) // PARTS)
    while _evaluate_part(module, stages, budget):
        stages.run(module, "mlc-dce")


def _evaluate_part(module: ir.Module, stages: _Stages, budget: int) -> bool:
    weights = stages.ctx.need_weights()
    keys: list[str] = []
    shapes: list[tuple[tuple[int, ...], str]] = []

    def store(value: ir.Value) -> str:
        keys.append(next(k for n in itertools.count(len(weights)) if (k := f"folded.{n}") not in weights and k not in keys))
        shapes.append((tuple(value.type.shape), str(value.type.element_type)))
        return keys[-1]

    constants = split_constants(module, store, budget)
    if constants is None:
        return False
    host = Target.host()  # runs here and now, whatever the model is compiled for
    inner = _Stages(CompileOptions(target=host, opt_level=2), PassContext(host, weights), None)
    inner.run(constants, "choose-tiles,task-pipeline")
    built = backend_of(host, inner.options.opt_level).build(constants, inner.run, inner.of_codegen)
    specs = [{"name": k, "dtype": t, "shape": list(s)} for k, (s, t) in zip(keys, shapes)]
    plan = _plan_of(built, inner.options, [], specs, weights)
    inputs = _weights(built, weights)
    artifact = Artifact.build(plan=plan, objects=built.objects, weights=inputs)
    for key, array in zip(keys, executable(artifact)()):
        weights.add_array(key, array)
    for _, array in inputs:
        release(array)
    return True


def _weights(built: Built, weights: WeightStore) -> list[tuple[str, np.ndarray]]:
    """Arrays of the weights argument, in order."""
    return [(key, _constant(built.constants[key]) if key in built.constants else weights[key].read()) for key in built.weights]


def _constant(value: ir.Attribute) -> np.ndarray:
    """The array of a dense attribute in storage type."""
    type_ = value.type
    dtype, shape = BY_NAME[str(type_.element_type)].numpy, tuple(type_.shape)
    if dtype == BF16.numpy:  # the bindings cannot read bf16
        return _from_text(str(value), shape)
    array = np.array(value)
    return np.ascontiguousarray(array.view(dtype) if array.dtype.itemsize == dtype.itemsize else array.astype(dtype)).reshape(shape)


def _from_text(text: str, shape: tuple[int, ...]) -> np.ndarray:
    """bf16 elements of a printed dense attribute: numbers, hexadecimal bits of a number, or one string of all bits."""
    body = text[text.index("<") + 1:text.rindex("> :")]
    if body.startswith('"'):
        array = np.frombuffer(bytes.fromhex(body[3:-1]), np.uint16).view(BF16.numpy)
    else:
        words = re.findall(r"[^\s,\[\]]+", body)
        numbers = [np.array(int(w, 16), np.uint16).view(BF16.numpy) if w.startswith("0x") else BF16.numpy.type(w) for w in words]
        array = np.array(numbers, BF16.numpy)
    return np.ascontiguousarray(np.broadcast_to(array, (math.prod(shape),)) if array.size == 1 else array).reshape(shape)


# -- the plan -----------------------------------------------------------------------------------------------------------


def _plan(imported: ImportedModel, built: Built, stages: _Stages) -> dict[str, Any]:
    inputs = [_entry(a.name, a.dtype.name, a.shape) | ({} if a.value is None else {"value": a.value.tolist()}) for a in imported.arguments]
    outputs = [_entry(a.name, a.dtype.name, a.shape) for a in imported.results]
    plan = _plan_of(built, stages.options, inputs, outputs, imported.weights)
    plan["signature"] = imported.signature
    if stages.notes:
        plan["notes"] = stages.notes
    return plan


def _plan_of(built: Built, options: CompileOptions, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]],
             weights: WeightStore) -> dict[str, Any]:
    entries = []
    for key in built.weights:
        if key in built.constants:
            array = _constant(built.constants[key])
            entries.append(_entry(key, str(built.constants[key].type.element_type), array.shape))
        else:
            weight: Weight = weights[key]
            entries.append(_entry(key, weight.dtype.name, weight.shape))
    allowed = {"allow_tf32": True} if options.machine != options.target else {}
    return {"target": str(options.target), **allowed, "inputs": list(inputs), "outputs": list(outputs), "weights": entries, **built.plan}


def _entry(name: str, dtype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": [int(d) for d in shape]}


__all__ = ["LEVELS", "compile_model", "emit"]
