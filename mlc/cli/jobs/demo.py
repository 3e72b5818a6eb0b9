"""ResNet-50 from the onnx package with seeded random weights: compiled, run, timed and compared with ONNX Runtime."""

import os
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper

from mlc.api import build_to_run
from mlc.cli.jobs.bench import measure
from mlc.cli.jobs.common import Answer, Request, options_of, summary
from mlc.cli.jobs.compare import compare
from mlc.cli.jobs.reference import ort_reference
from mlc.errors import ResourceError
from mlc.progress import Report

TOPOLOGY = "backend/test/data/light/light_resnet50.onnx"
SEED = 50
BENCH_SECONDS = 3.0


def job(request: Request, report: Report) -> Answer:
    """request: model (where the network is put, if it is not there yet), threads, and what `params.compiling` adds."""
    path = Path(request["model"])
    if not path.exists():
        report("make the network", 0, 0)
        _write(resnet50(), path)
    threads = request["threads"] or len(os.sched_getaffinity(0))
    built, exe = build_to_run(path, options_of(request), threads, cached=request["cache"], report=report)
    inputs = exe.random_inputs(SEED)
    report("ONNX Runtime", 0, 0)
    peer = ort_reference(str(path), optimise=True, threads=threads)
    report("run", 0, 0)
    (found,), (expected,) = exe.run(inputs).values(), peer.run(inputs)
    difference = compare(exe.outputs[0].name, found, expected)
    report("measure", 0, 0)
    rows = measure({"mlc": lambda: exe.run(inputs), peer.name: lambda: peer.run(inputs)}, BENCH_SECONDS)
    nodes = len(onnx.load(path, load_external_data=False).graph.node)
    return {**summary(built.artifact), "hit": built.hit, "nodes": nodes, "threads": threads, "rows": rows,
            "difference": difference.as_json()}


def resnet50() -> ModelProto:
    """The network of the onnx package, which fills its weights with a constant, with weights that keep activations in range instead."""
    model = onnx.load(Path(onnx.__file__).parent / TOPOLOGY)
    graph = model.graph
    fills = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "ConstantOfShape"}
    shapes = {t.name: tuple(numpy_helper.to_array(t).tolist()) for t in graph.initializer if t.name in set(fills.values())}
    rng = np.random.default_rng(SEED)
    weights = [numpy_helper.from_array(_weight(name, shapes[shape], rng), name) for name, shape in sorted(fills.items())]
    nodes = [node for node in graph.node if node.op_type != "ConstantOfShape"]
    used = {name for node in nodes for name in node.input}
    kept = [t for t in graph.initializer if t.name in used]
    inputs = [v for v in graph.input if v.name in used and v.name not in fills and v.name not in {t.name for t in kept}]
    network = onnx.helper.make_graph(nodes, "resnet50", inputs, list(graph.output), kept + weights)
    # IR version 4: the first whose weights need not be inputs
    return onnx.helper.make_model(network, opset_imports=list(model.opset_import), ir_version=max(model.ir_version, 4),
                                  producer_name="mlc demo")


def _weight(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    kind = name.rsplit("_", 2)[1] if "_bn_" in name else "b" if name.endswith("_b_0") else "w"
    if kind == "riv":  # running variance
        array = rng.uniform(0.5, 1.5, shape)
    elif kind == "s":  # scale; small on the branch that is added to the shortcut, or 16 additions would blow the activations up
        array = rng.uniform(0.5, 1.5, shape) * (0.2 if "branch2c" in name else 1.0)
    elif kind in ("b", "rm"):
        array = rng.normal(0, 0.1, shape)
    else:
        gain = 0.2 if "pred_" in name else 2**0.5  # a small last layer, so that softmax does not pick one class outright
        array = rng.normal(0, gain / np.prod(shape[1:]) ** 0.5, shape)
    return array.astype(np.float32)


def _write(model: ModelProto, path: Path) -> None:
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            onnx.save(model, staged)
            staged.replace(path)
        finally:
            staged.unlink(missing_ok=True)
    except OSError as error:
        raise ResourceError(f"cannot write the demo's network to {path}: {error.strerror}",
                            hint="name another place: mlc demo --dir DIR") from error
