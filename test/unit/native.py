"""Runs a graph-level function through the real CPU path in this process, tile level to machine code; schedules can be forced."""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import llvmlite.binding as llvm
import numpy as np
from harness import module_of

from mlc.backends.cpu import backend as cpu
from mlc.backends.llvm import optimise
from mlc.dialects._ext import operations, verify
from mlc.dialects.graph import TensorType
from mlc.driver import _constant as constant_array
from mlc.ir.context import make_context
from mlc.ir.mlir import ir
from mlc.passes.pipeline import run_pipeline
from mlc.passes.registry import PassContext
from mlc.target import Target

Schedule = Callable[[ir.Module, PassContext], None]


def chosen(module: ir.Module, ctx: PassContext) -> None:
    """The schedule that the compiler chooses."""
    run_pipeline(module, "builtin.module(tile-pipeline)", ctx)


@dataclass(frozen=True)
class Native:
    """A compiled function: its kernels, the task-level text, and `__call__`."""

    kernels: int
    task: str
    call: Callable[..., list[np.ndarray]]

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        return self.call(*inputs)


def compile_native(build: Callable[..., object], *inputs: np.ndarray, schedule: Schedule = chosen, target: str = "cpu",
                   opt_level: int = 1) -> Native:
    """Compiles `build(*values)` for the types of `inputs`. schedule: the passes of the tile level."""
    ctx = PassContext(Target.parse(target))
    with make_context(), ir.Location.unknown():
        module, outs = module_of(build, inputs)
        run_pipeline(module, "builtin.module(lower-graph-to-tile,mlc-dce,mlc-cse)", ctx)
        schedule(module, ctx)
        assert not (broken := verify(module)), broken
        run_pipeline(module, "builtin.module(task-pipeline)", ctx)
        text = str(module)
        count = sum(op.name == "task.kernel" for op in operations(module.operation))
        code = cpu.generate(module, lambda m, text: run_pipeline(m, f"builtin.module({text})", ctx))
        constants = [constant_array(code.constants[key]) for key in code.weights]
    compiled, machine = optimise(code.text, cpu.machine(ctx.need_target(), opt_level))
    engine = llvm.create_mcjit_compiler(compiled, machine)
    engine.finalize_object()

    def call(*arrays: np.ndarray) -> list[np.ndarray]:
        return _call(engine, code.arena, arrays, constants, outs)

    return Native(count, text, call)


def run_native(build: Callable[..., object], *inputs: np.ndarray, schedule: Schedule = chosen, target: str = "cpu") -> list[np.ndarray]:
    """The results of `build` on `inputs`."""
    return compile_native(build, *inputs, schedule=schedule, target=target)(*inputs)


GUARD = 256  # bytes around every buffer that nobody may touch


def _call(engine: llvm.ExecutionEngine, arena: int, inputs: Sequence[np.ndarray], constants: Sequence[np.ndarray],
          outs: Sequence[TensorType]) -> list[np.ndarray]:
    """One call of mlc_main on one thread; asserts that it wrote nothing outside of its outputs and arena."""
    sources = [np.ascontiguousarray(a) for a in inputs]
    before = [a.copy() for a in sources]
    sizes = [int(np.prod(o.shape)) * np.dtype(o.dtype.numpy).itemsize for o in outs]
    guarded = [_guarded(n) for n in [*sizes, arena]]
    results = [whole[GUARD:GUARD + n] for whole, n in zip(guarded, sizes)]
    sync = np.zeros(32, np.int64)

    def pointers(arrays: Sequence[np.ndarray]) -> object:
        return (ctypes.c_void_p * max(1, len(arrays)))(*[a.ctypes.data for a in arrays])

    signature = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    entry = signature(engine.get_function_address("mlc_main"))
    entry(pointers(sources), pointers(results), pointers(constants), guarded[-1].ctypes.data + GUARD, 0, 1, sync.ctypes.data)
    for whole, n in zip(guarded, [*sizes, arena]):
        assert (whole[:GUARD] == 0xA5).all() and (whole[GUARD + n:] == 0xA5).all(), "wrote outside of a buffer"
    for a, b in zip(sources, before):
        assert a.tobytes() == b.tobytes(), "wrote to an input"
    return [r.view(o.dtype.numpy).reshape(o.shape) for r, o in zip(results, outs)]


def _guarded(size: int) -> np.ndarray:
    """`size` bytes at a multiple of 64 in a larger array, all bytes 0xA5 (an unlikely float, and no valid result)."""
    raw = np.full(size + 2 * GUARD + 64, 0xA5, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start:start + size + 2 * GUARD]
