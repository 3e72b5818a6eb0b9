"""Runs ONNX models through the importer and the harness, and through onnxruntime, to compare the two."""

import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
from harness import execute
from onnx import helper

from mlc.dialects import graph
from mlc.dialects.graph import TensorType
from mlc.frontend.onnx.importer import import_model
from mlc.ir.context import make_context
from mlc.ir.mlir import ir


def run_model(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], values: Sequence[str] = ()) -> list[np.ndarray]:
    """The outputs of `model`; the inputs named in `values` are fixed at compile time."""
    fixed = {name: feeds[name] for name in values}
    imported = import_model(model, shapes={name: a.shape for name, a in feeds.items()}, values=fixed, context=make_context())
    outs = [TensorType(a.shape, a.dtype) for a in imported.results]
    _flatten_empty(imported.module)
    arrays = [np.ascontiguousarray(feeds[a.name]).reshape(a.shape) for a in imported.arguments if a.name not in fixed]
    return execute(imported.module, arrays, outs, lambda key: imported.weights[key].read())


def _flatten_empty(module: ir.Module) -> None:
    """Lets tensors without elements cross the border of @main flat: upstream's bare pointers cannot carry an inner size of 0."""
    with module.context, ir.Location.unknown():
        block = module.body.operations[0].operation.regions[0].blocks[0]
        end = list(block.operations)[-1].operation
        for argument in block.arguments:
            type_ = TensorType.of(argument)
            if not type_.size:
                argument.set_type(type_.with_shape([0]).mlir())
                with ir.InsertionPoint.at_block_begin(block):
                    whole = graph.reshape(argument, shape=list(type_.shape))
                argument.replace_all_uses_except(whole, whole.owner)
        with ir.InsertionPoint(end):
            for i, value in enumerate(end.operands):
                if not TensorType.of(value).size:
                    end.operands[i] = graph.reshape(value, shape=[0])
        main = module.body.operations[0].operation
        function_type = ir.FunctionType.get([a.type for a in block.arguments], [v.type for v in end.operands])
        main.attributes["function_type"] = ir.TypeAttr.get(function_type)


def node_model(op: str, inputs: Mapping[str, np.ndarray | None], outputs: int = 1, *, weights: Sequence[str] = (), domain: str = "",
               opset: int = 21, **attributes: Any) -> onnx.ModelProto:
    """A model of one node. An input that is None is left out; those named in `weights` are initializers."""
    names = [name if a is not None else "" for name, a in inputs.items()]
    while names and not names[-1]:
        names.pop()
    node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], domain=domain, **attributes)
    infos = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in inputs.items()
             if a is not None and n not in weights]
    graph = helper.make_graph([node], "one", infos, [onnx.ValueInfoProto(name=f"y{i}") for i in range(outputs)],
                              [onnx.numpy_helper.from_array(a, n) for n, a in inputs.items() if a is not None and n in weights])
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def onnxruntime_run(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs that onnxruntime gives."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, dict(feeds))


def against_onnxruntime(op: str, inputs: Mapping[str, np.ndarray | None], outputs: int = 1, *, values: Sequence[str] = (),
                        compared: int | None = None, rtol: float = 1e-4, atol: float = 1e-5, **options: Any) -> None:
    """One node, run both ways, must agree (in the first `compared` outputs)."""
    model = node_model(op, inputs, outputs, **options)
    feeds = {name: a for name, a in inputs.items() if a is not None and name not in options.get("weights", ())}
    for got, expected in list(zip(run_model(model, feeds, values), onnxruntime_run(model, feeds), strict=True))[:compared]:
        assert got.shape == expected.shape and got.dtype == expected.dtype
        np.testing.assert_allclose(got.astype(np.float64), expected.astype(np.float64), rtol=rtol, atol=atol)


@cache
def _cases() -> list[Any]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [c for c in collect_testcases(None) if c.model is not None and c.data_sets and "_expanded" not in c.name]


def check_cases(op: str, *, skip: Sequence[str] = ()) -> int:
    """Runs ONNX's own cases of one node of type `op` (a few seconds to collect, once); returns how many there were."""
    cases = [c for c in _cases() if [n.op_type for n in c.model.graph.node] == [op] and c.name not in skip]
    failed = {}
    for case in cases:
        try:
            check_case(case)
        except Exception as error:
            failed[case.name] = f"{type(error).__name__}: {error}"
    assert not failed, failed
    return len(cases)


def _array(value: Any) -> np.ndarray:
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def check_case(case: Any) -> None:
    """Runs one of ONNX's cases; inputs that decide shapes are fixed."""
    for inputs, expected in case.data_sets:
        names = [i.name for i in case.model.graph.input]
        feeds = {name: _array(a) for name, a in zip(names, inputs, strict=True)}
        needed = [n for n, a in feeds.items() if a.size == 0]
        while True:
            try:
                results = run_model(case.model, feeds, needed)
                break
            except Exception as error:
                more = [n for n in names if f"'{n}'" in str(error) and n not in needed]
                if "known at compile time" not in str(error) or not more:
                    raise
                needed += more
        for got, want in zip(results, map(_array, expected), strict=True):
            assert got.shape == want.shape and got.dtype == want.dtype
            loose = want.dtype.kind != "f" or want.dtype.itemsize < 4
            np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=2e-2 if loose else max(case.rtol, 1e-4),
                                       atol=2e-3 if loose else max(case.atol, 1e-6))
