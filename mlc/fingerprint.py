"""The full text that identifies a compile: everything that decides the bytes of the artifact, and nothing else."""

import hashlib
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import mlc
from mlc.backends.cuda import ptxas
from mlc.frontend.onnx.load import LoadedModel, ModelSource, load_model
from mlc.options import CompileOptions
from mlc.weights import release

TOOLCHAIN = ("torch-mlir", "llvmlite", "onnx", "numpy", "ml_dtypes")


def cache_key(model: ModelSource | LoadedModel, options: CompileOptions) -> str | None:
    """The key text of a compile; None if it cannot be told from the model alone (weights outside the model and its initializers)."""
    loaded = load_model(model)
    if any(tensor.data_location == tensor.EXTERNAL for tensor in _attribute_tensors(loaded.proto)):
        return None
    lines = [f"mlc {mlc.__version__} {source_digest()}", *(f"{name} {_version(name)}" for name in TOOLCHAIN)]
    if options.target.kind == "cuda":
        lines += [f"ptxas {ptxas.identity()}"]
    lines += [*(f"target {target!r}" for target in options.targets), f"opt_level {options.opt_level}",
              f"allow_tf32 {options.allow_tf32}"]
    lines += [f"shape {name!r} {shape!r}" for name, shape in sorted(options.shapes.items())]
    lines += [f"value {name!r} {_array(value)}" for name, value in sorted(options.values.items())]
    lines += [f"model {_model_digest(loaded)}"]
    return "\n".join(lines) + "\n"


@cache
def source_digest() -> str:
    """SHA-256 over the compiler's own source: an edited pass never meets artifacts of the pass before the edit."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        text = path.read_bytes()
        digest.update(f"{path.relative_to(root)} {len(text)}\n".encode() + text)
    return digest.hexdigest()


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "absent"


def _array(array: np.ndarray | list[np.ndarray] | None) -> str:
    if array is None or isinstance(array, list):
        return str(array if array is None else [_array(item) for item in array])
    return f"{array.dtype.name} {array.shape} {hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()}"


def _model_digest(loaded: LoadedModel) -> str:
    digest = hashlib.sha256(loaded.proto.SerializeToString(deterministic=True))
    for name, weight in sorted(loaded.weights.items()):
        array = np.ascontiguousarray(weight.read())
        digest.update(f"\n{name!r} {weight.dtype} {weight.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
        release(array)
    return digest.hexdigest()


def _attribute_tensors(proto: Any) -> Iterator[Any]:
    """Every tensor that is an attribute of a node, in nested graphs and model-local functions too."""
    graphs = [proto.graph, *proto.functions]
    while graphs:
        graph = graphs.pop()
        for node in graph.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)
                graphs += [attribute.g, *attribute.graphs]
