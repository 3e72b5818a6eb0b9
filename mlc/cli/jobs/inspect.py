"""Facts about a model (ops, inputs, what mlc supports of it) or an artifact (kernels, memory, weights)."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from mlc.artifact import read_artifact
from mlc.cli.jobs.common import Answer, Request, summary
from mlc.frontend.onnx.check import function_key
from mlc.frontend.onnx.load import LoadedModel, load_model
from mlc.frontend.onnx.nodes import all_nodes, plain_domain
from mlc.frontend.onnx.registry import find_converter
from mlc.progress import Report


def job(request: Request, report: Report) -> Answer:
    """request: path."""
    if Path(request["path"]).suffix == ".mlc":
        report("load", 0, 0)
        return {"kind": "artifact", **summary(read_artifact(request["path"]))}
    report("import", 0, 0)
    return {"kind": "model", **describe(load_model(request["path"]))}


def describe(model: LoadedModel) -> Answer:
    """What stands in an ONNX file."""
    graph, opsets = model.proto.graph, model.opsets
    local = {function_key(f) for f in model.proto.functions}
    counts = Counter((plain_domain(n.domain), n.op_type) for n in all_nodes(graph.node))
    calls = {function_key(n) for n in all_nodes(graph.node)}
    ops = [{"op": f"{domain or 'ai.onnx'}::{op}", "count": count, "support": support(domain, op, opsets, local & calls)}
           for (domain, op), count in counts.most_common()]
    weights = list(model.weights.values())
    return {
        "ir_version": model.proto.ir_version,
        "producer": f"{model.proto.producer_name} {model.proto.producer_version}".strip(),
        "opsets": {domain or "ai.onnx": version for domain, version in opsets.items()},
        "inputs": [_value(v) for v in graph.input if v.name not in model.weights],
        "outputs": [_value(v) for v in graph.output],
        "nodes": sum(counts.values()),
        "ops": ops,
        "weights": {"count": len(weights), "bytes": sum(w.bytes for w in weights),
                    "largest": [{"name": w.name, "dtype": w.dtype.name, "shape": list(w.shape), "bytes": w.bytes}
                                for w in sorted(weights, key=lambda w: -w.bytes)[:5]]},
    }


def support(domain: str, op: str, opsets: Mapping[str, int], local: set[Any]) -> str:
    """`yes`, `as a function` (mlc compiles the op's own definition), or `no`."""
    if any(key[:2] == (domain, op) for key in local):
        return "as a function"
    version = opsets.get(domain, 1)
    if find_converter(domain, op, version) is not None:
        return "yes"
    try:
        schema = onnx.defs.get_schema(op, version, domain)
    except onnx.defs.SchemaError:
        return "no"
    return "as a function" if schema.has_function or schema.has_context_dependent_function else "no"


def _value(value: onnx.ValueInfoProto) -> Answer:
    if not value.type.HasField("tensor_type"):
        return {"name": value.name, "dtype": value.type.WhichOneof("value") or "?", "shape": []}
    tensor = value.type.tensor_type
    dims = [d.dim_param or (d.dim_value if d.HasField("dim_value") else "?") for d in tensor.shape.dim]
    return {"name": value.name, "dtype": onnx.TensorProto.DataType.Name(tensor.elem_type).lower(), "shape": dims}
