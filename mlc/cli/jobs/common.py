"""What several jobs need: options out of a request, input arrays, an executable, and a summary of an artifact."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlc.api import Built, build
from mlc.artifact import Artifact, TensorSpec, plan_tensors
from mlc.backends.rocm.variants import architectures, variant
from mlc.errors import InputError, OptionError
from mlc.options import CompileOptions, given_shape, load_npy, parse_value
from mlc.progress import Report
from mlc.runtime.executor import Executable
from mlc.runtime.tensors import as_tensor
from mlc.target import Target

Request = Mapping[str, Any]
Answer = dict[str, Any]


def options_of(request: Request) -> CompileOptions:
    """The CompileOptions of a request made by `params.compiling`."""
    values: dict[str, np.ndarray] = {}
    for name, array in map(parse_value, request["values"]):
        if name in values:
            raise OptionError(f"--value names {name!r} twice")
        values[name] = array
    dump_dir = request.get("dump_dir")
    target, *also = Target.parse_all(request["target"])
    return CompileOptions(
        target=target,
        also=tuple(also),
        shapes={name: given_shape(name, shape) for name, shape in request["shapes"].items()},
        values=values,
        dump_dir=None if dump_dir is None else Path(dump_dir),
        timing=request.get("timing", False),
        opt_level=request["opt_level"],
        allow_tf32=request["allow_tf32"],
    )


def allows_tf32(plan: Mapping[str, Any]) -> bool:
    """Whether a plan's products of f32 may have been computed in tf32."""
    return plan.get("allow_tf32", False)


def build_of(request: Request, report: Report) -> Built:
    """Compiles what the request names, or takes it out of the cache."""
    return build(request["model"], options_of(request), cached=request["cache"], report=report)


def specs(artifact: Artifact, key: str) -> list[TensorSpec]:
    return plan_tensors(artifact.plan, key)


def make_inputs(exe: Executable, given: Sequence[str], seed: int, random: bool = True) -> dict[str, Any]:
    """One value per input: from `name=file.npy` where given, elsewhere random (or, if not `random`, an error)."""
    by_name = {spec.name: spec for spec in exe.inputs}
    values = exe.random_inputs(seed)
    arrays: dict[str, np.ndarray] = {}
    for text in given:
        name, sep, path = text.partition("=")
        if not sep or not path:
            raise OptionError(f"--input {text!r}: expected NAME=FILE.npy")
        if name not in by_name or name not in values or name in arrays:
            what = "given twice" if name in arrays else f"not an input; the inputs are {', '.join(map(str, exe.inputs)) or 'none'}"
            raise InputError(f"--input {name!r} is {what}")
        array = load_npy(Path(path), f"--input {name}")
        wanted = by_name[name].dtype.numpy
        if array.dtype.kind == "V" and array.dtype.itemsize == wanted.itemsize:  # .npy has no name for bfloat16 and its like
            array = array.view(wanted)
        arrays[name] = as_tensor(array, by_name[name])
    missing = [str(spec) for spec in exe.inputs if spec.name not in arrays and spec.value is None]
    if missing and not random:
        raise InputError(f"no value for {', '.join(missing)}", hint="give --input NAME=FILE.npy for each, or --random-inputs")
    return {**values, **arrays}


def summary(artifact: Artifact) -> Answer:
    """What people want to know of an artifact; of one for several architectures, `variants` has what is a single one's."""
    plan = artifact.plan
    variants = {arch: _code(variant(artifact, arch).plan) for arch in architectures(artifact)} if "variants" in plan else {}
    weights = specs(artifact, "weights")
    largest = sorted(weights, key=lambda s: -s.bytes)[:5]
    return {
        "target": plan["target"],
        "allow_tf32": allows_tf32(plan),
        "mlc": artifact.manifest.get("mlc"),
        "schema": artifact.manifest.get("schema"),
        "inputs": [_spec(s) for s in specs(artifact, "inputs")],
        "outputs": [_spec(s) for s in specs(artifact, "outputs")],
        "weights": {"count": len(weights), "bytes": sum(s.bytes for s in weights), "largest": [_spec(s) for s in largest]},
        "objects": {name: len(data) for name, data in artifact.objects.items()},
        "variants": variants,
        **(_code(plan) if not variants else {}),
    }


def _code(plan: Mapping[str, Any]) -> Answer:
    """What is code's for one architecture."""
    kernels = plan.get("kernels", [])
    return {"arena_bytes": plan.get("arena_bytes", 0), "kernels": kernels, "launches": sum(k.get("launches", 1) for k in kernels),
            "notes": plan.get("notes", [])}


def _spec(spec: TensorSpec) -> Answer:
    entry: Answer = {"name": spec.name, "dtype": spec.dtype.name, "shape": list(spec.shape), "bytes": spec.bytes}
    return entry if spec.value is None else {**entry, "value": spec.value.tolist()}
