"""Compares a compiled model with a reference, and finds the first node whose output diverges."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto

from mlc.api import build_to_run
from mlc.cli.jobs.common import Answer, Request, allows_tf32, make_inputs, options_of
from mlc.cli.jobs.compare import Difference, compare
from mlc.cli.jobs.reference import Reference, make_reference
from mlc.cli.jobs.run import flatten
from mlc.errors import ResourceError
from mlc.frontend.onnx.nodes import op_name
from mlc.progress import Report

PROTOBUF_LIMIT = 2 << 30


def job(request: Request, report: Report) -> Answer:
    """request: model, inputs, seed, reference, rtol, atol, per_node, threads, and what `params.compiling` adds."""
    _, exe = build_to_run(request["model"], options_of(request), request["threads"], cached=request["cache"], report=report)
    inputs = make_inputs(exe, request["inputs"], request["seed"])
    report("reference", 0, 0)
    reference = make_reference(request["reference"], request["model"])
    expected = flatten(dict(zip([g.name for g in exe.output_groups], reference.run(inputs), strict=True)))
    report("run", 0, 0)
    found = flatten(exe.run(inputs))
    differences = [compare(name, found[name], np.asarray(array), request["rtol"], request["atol"], allows_tf32(exe.plan))
                   for name, array in expected.items()]
    ok = all(d.ok for d in differences)
    first = Divergence(request, inputs, report).find(ok) if request["per_node"] else None
    return {"reference": reference.name, "outputs": [d.as_json() for d in differences], "ok": ok, "first": first}


class Divergence:
    """Finds the first node that diverges, by making intermediate tensors outputs of the model."""

    def __init__(self, request: Request, inputs: dict[str, Any], report: Report) -> None:
        self.request, self.inputs, self.report = request, inputs, report
        self.model = onnx.load(request["model"])
        if self.model.ByteSize() >= PROTOBUF_LIMIT:
            raise ResourceError("--per-node cannot take a model of 2 GiB or more", hint="cut the model, or export it with fewer layers")
        self.candidates = _intermediates(self.model)

    def find(self, outputs_agree: bool) -> Answer | None:
        """The first diverging tensor with its node; None if there is none. Every tensor is looked at in one compile; a divergence that
        goes away when everything is an output comes from fusion, and is found by bisection with one extra output at a time."""
        for tensor, difference in self._differences(self.candidates):
            if not difference.ok:
                return self._describe(tensor, difference, fused=False)
        if outputs_agree or not self.candidates:
            return None
        at = first_true(len(self.candidates), lambda i: not self._single(i).ok)
        return None if at is None else self._describe(self.candidates[at], self._single(at), fused=True)

    def _single(self, index: int) -> Difference:
        return self._differences([self.candidates[index]])[0][1]

    def _differences(self, tensors: Sequence[ValueInfoProto]) -> list[tuple[ValueInfoProto, Difference]]:
        marked = ModelProto()
        marked.CopyFrom(self.model)
        marked.graph.output.extend(tensors)
        _, exe = build_to_run(marked, options_of(self.request), self.request["threads"], cached=False, report=self.report)
        reference: Reference = make_reference(self.request["reference"], self.request["model"], marked)
        expected = dict(zip([o.name for o in marked.graph.output], reference.run(self.inputs), strict=True))
        found = exe.run(self.inputs)
        bounds = self.request["rtol"], self.request["atol"]
        return [(t, compare(t.name, found[t.name], np.asarray(expected[t.name]), *bounds, allows_tf32(exe.plan))) for t in tensors]

    def _describe(self, tensor: ValueInfoProto, difference: Difference, *, fused: bool) -> Answer:
        node = next(n for n in self.model.graph.node if tensor.name in n.output)
        return {"node": node.name or tensor.name, "op": op_name(node), "fused": fused, **difference.as_json()}


def first_true(count: int, test: Callable[[int], bool]) -> int | None:
    """The smallest index for which a monotonic test holds, by bisection; None if it never does."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if test(middle):
            high = middle
        else:
            low = middle + 1
    return low if low < count else None


def _intermediates(model: ModelProto) -> list[ValueInfoProto]:
    """The outputs of top-level nodes that are tensors of a known element type and not outputs yet, in node order."""
    known = {v.name: v for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
    taken = {o.name for o in model.graph.output}
    found: list[ValueInfoProto] = []
    for node in model.graph.node:
        for name in node.output:
            element = known[name].type.tensor_type.elem_type if name in known else TensorProto.UNDEFINED
            if name not in taken and element not in (TensorProto.UNDEFINED, TensorProto.STRING):
                found.append(onnx.helper.make_tensor_value_info(name, element, None))
    return found
