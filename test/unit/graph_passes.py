"""Builds a module, runs graph passes on it, counts its ops, and compares what it computes before and after."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from harness import execute

from mlc.dialects import graph
from mlc.dialects._ext import operations, verify
from mlc.dialects.graph import TensorType
from mlc.dtypes import BY_NUMPY, F32, DType
from mlc.ir.context import make_context
from mlc.ir.mlir import func, ir
from mlc.passes.graph.rewrite import Known
from mlc.passes.registry import Pass, PassContext

Build = Callable[..., object]


def weight(key: str, *shape: int, dtype: DType = F32) -> ir.Value:
    return graph.weight(key, dtype, shape)


def scalar(value: float) -> ir.Value:
    return graph.constant(np.float32(value))


def ew(fn: str, *values: ir.Value | float, params: Sequence[float] = ()) -> ir.Value:
    """An elementwise op; numbers become f32 constants."""
    return graph.elementwise(fn, *[v if isinstance(v, ir.Value) else scalar(v) for v in values], params=params)


def build_module(build: Build, types: Sequence[TensorType]) -> ir.Module:
    """@main(types) of what `build` makes of its arguments; call it in a context."""
    module = ir.Module.create()
    mlir = [t.mlir() for t in types]
    with ir.InsertionPoint(module.body):
        function = func.FuncOp("main", (mlir, []))
    block = function.add_entry_block()
    with ir.InsertionPoint(block):
        made = build(*block.arguments)
        results = list(made) if isinstance(made, Sequence) else [made]
        func.ReturnOp(results)
    function.operation.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(mlir, [r.type for r in results]))
    assert not verify(module)
    return module


def run_passes(module: ir.Module, passes: Sequence[Pass]) -> None:
    for p in passes:
        p.run(module, PassContext())
        assert not verify(module), f"after {p.name}: {verify(module)}\n{module}"


def count(module: ir.Module) -> Counter[str]:
    """Ops by name without `graph.`, elementwise ones by function; what weights alone decide counts as `known`."""
    known, found = Known(), Counter()
    for op in operations(module.operation):
        if not op.name.startswith("graph."):
            continue
        name = op.opview.fn if op.name == "graph.elementwise" else op.name.removeprefix("graph.")
        found["known" if known(op.results[0]) else name] += 1
    return found


def ops_after(build: Build, passes: Sequence[Pass], *shapes: Sequence[int], dtype: DType = F32) -> Counter[str]:
    with make_context(), ir.Location.unknown():
        module = build_module(build, [TensorType(tuple(s), dtype) for s in shapes])
        run_passes(module, passes)
        return count(module)


def values_of(key: str, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """The same positive numbers for a key each time (sums of weight arithmetic stay away from zero), or bools."""
    random = np.random.default_rng([ord(c) for c in key])
    return random.random(shape) > 0.3 if dtype == np.bool_ else (random.random(shape) + 0.5).astype(dtype)


def same_results(build: Build, passes: Sequence[Pass], *inputs: np.ndarray, atol: float = 1e-5) -> Counter[str]:
    """Asserts that the passes leave the results alone, but for rounding; returns the ops left."""
    found: Counter[str] = Counter()
    results = []
    for run in ((), passes):
        with make_context(), ir.Location.unknown():
            module = build_module(build, [TensorType(a.shape, BY_NUMPY[a.dtype]) for a in inputs])
            run_passes(module, run)
            found = count(module)
            weights = {o.opview.key: TensorType.of(o.results[0]) for o in operations(module.operation) if o.name == "graph.weight"}
            block = module.body.operations[0].operation.regions[0].blocks[0]
            outs = [TensorType.of(v) for v in list(block.operations)[-1].operation.operands]
            results.append(execute(module, [np.ascontiguousarray(a) for a in inputs], outs,
                                   lambda key, weights=weights: values_of(key, weights[key].shape, weights[key].dtype.numpy)))
    for before, after in zip(*results, strict=True):
        np.testing.assert_allclose(after.astype(np.float64), before.astype(np.float64), rtol=2e-4, atol=atol)
    return found


def sample(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
