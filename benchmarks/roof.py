"""What the machine could do at best: its measured peak rates, and the least work that a model's shapes imply."""

import ctypes
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import onnx

from mlc.target import Target

CHAINS = 12  # independent accumulators: more than latency times throughput of any x86 FMA unit, and fewer than 16 registers
SMALL = 1024  # bytes of an initializer that shape inference may want to read
MEASURE_SECONDS = 0.01  # about a time slice: some of the tries then meet no other process
TRIES = 30
GATHERS = ("Gather", "GatherElements", "GatherND")


class Machine:
    """Measures this machine with a few lines of LLVM IR, on `threads` threads at once."""

    def __init__(self, threads: int) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self.threads, self.lanes = threads, Target.host().vector_bits // 32
        host, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
        machine = llvm.Target.from_default_triple().create_target_machine(cpu=host, features=features, opt=2)
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(_ir(self.lanes)), machine)
        self._pool = ThreadPoolExecutor(threads)
        self._bandwidths: dict[int, float] = {}

    def flops(self) -> float:
        """Float32 operations per second, a fused multiply-add counting as two."""
        buffers = [np.full(CHAINS * self.lanes, 0.5, np.float32) for _ in range(self.threads)]
        work = self._rate(lambda reps: [("fma", b.ctypes.data, 0, 0, reps) for b in buffers])
        return work * CHAINS * self.lanes * 2 * self.threads

    def bandwidth(self, size: int) -> float:
        """Bytes per second when `size` bytes are gone over again and again: the better of reading and of copying one half to the other."""
        step = CHAINS * self.lanes * 4
        size = max(1 << max(size - 1, 1).bit_length(), 2 * step * self.threads)  # to a power of two, so that few sizes are measured
        if size not in self._bandwidths:
            part = size // self.threads // (2 * step) * step  # bytes of half a thread's share
            buffers = [np.ones(2 * part // 4, np.float32) for _ in range(self.threads)]
            read = self._rate(lambda reps: [("read", b.ctypes.data, 0, 2 * part // 4, reps) for b in buffers])
            copy = self._rate(lambda reps: [("copy", b.ctypes.data, b.ctypes.data + part, part, reps) for b in buffers])
            self._bandwidths[size] = max(read, copy) * 2 * part * self.threads
        return self._bandwidths[size]

    def _rate(self, calls: Callable[[int], list[tuple[str, int, int, int, int]]]) -> float:
        """Repetitions per second of one call per thread; the best of some tries, since other work can only slow it down."""
        reps, best = 1, 0.0
        tries = 0
        while tries < TRIES:
            start = time.perf_counter()
            list(self._pool.map(self._call, calls(reps)))
            seconds = time.perf_counter() - start
            if seconds < MEASURE_SECONDS:
                reps *= 2
                continue
            best, tries = max(best, reps / seconds), tries + 1
        return best

    def _call(self, call: tuple[str, int, int, int, int]) -> None:
        name, *arguments = call
        ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)(self._engine.get_function_address(name))(*arguments)


def _ir(lanes: int) -> str:
    """Three loops: `fma` in registers, `read` through n floats at p, `copy` n bytes from p to q; each `reps` times."""
    vector = f"<{lanes} x float>"

    def each(text: str) -> str:
        return "\n".join(text.format(i=i, at=i * lanes, v=vector, next=f"%next{i}") for i in range(CHAINS))

    return f"""
declare {vector} @llvm.fmuladd.v{lanes}f32({vector}, {vector}, {vector})
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

define void @fma(ptr %p, ptr %q, i64 %n, i64 %reps) {{
entry:
{each("  %at{i} = getelementptr float, ptr %p, i64 {at}" + chr(10) + "  %start{i} = load {v}, ptr %at{i}, align 4")}
  %factor = load volatile {vector}, ptr %p, align 4
  br label %loop
loop:
  %r = phi i64 [ 0, %entry ], [ %more, %loop ]
{each("  %sum{i} = phi {v} [ %start{i}, %entry ], [ {next}, %loop ]")}
{each(f"  {{next}} = call {{v}} @llvm.fmuladd.v{lanes}f32({{v}} %sum{{i}}, {{v}} %factor, {{v}} %factor)")}
  %more = add i64 %r, 1
  %again = icmp slt i64 %more, %reps
  br i1 %again, label %loop, label %done
done:
{each("  store {v} {next}, ptr %at{i}, align 4")}
  ret void
}}

define void @read(ptr %p, ptr %q, i64 %n, i64 %reps) {{
entry:
  br label %outer
outer:
  %r = phi i64 [ 0, %entry ], [ %more, %end ]
  br label %loop
loop:
  %k = phi i64 [ 0, %outer ], [ %step, %loop ]
{each("  %sum{i} = phi {v} [ zeroinitializer, %outer ], [ {next}, %loop ]")}
{each("  %off{i} = add i64 %k, {at}" + chr(10) + "  %at{i} = getelementptr float, ptr %p, i64 %off{i}" + chr(10)
      + "  %x{i} = load volatile {v}, ptr %at{i}, align 4" + chr(10) + "  {next} = fadd {v} %sum{i}, %x{i}")}
  %step = add i64 %k, {CHAINS * lanes}
  %inside = icmp slt i64 %step, %n
  br i1 %inside, label %loop, label %end
end:
  %more = add i64 %r, 1
  %again = icmp slt i64 %more, %reps
  br i1 %again, label %outer, label %done
done:
  ret void
}}

define void @copy(ptr %p, ptr %q, i64 %n, i64 %reps) {{
entry:
  br label %loop
loop:
  %r = phi i64 [ 0, %entry ], [ %more, %loop ]
  call void @llvm.memcpy.p0.p0.i64(ptr %q, ptr %p, i64 %n, i1 false)
  %more = add i64 %r, 1
  %again = icmp slt i64 %more, %reps
  br i1 %again, label %loop, label %done
done:
  ret void
}}
"""


@dataclass(frozen=True)
class Work:
    """The least a model must do: flops of its convolutions and matrix products; bytes of inputs, outputs and used weights, each once."""

    flops: int
    bytes: int

    def seconds(self, machine: Machine, peak: float) -> tuple[float, str]:
        """The roof of this much work, and which of the two it is: `compute` or `memory`."""
        compute, memory = self.flops / peak, self.bytes / machine.bandwidth(self.bytes)
        return max((compute, "compute"), (memory, "memory"))


def work_of(path: Path) -> Work | None:
    """Counts a model's work from shapes; None where they do not tell: control flow, or shapes that inference does not find."""
    model = onnx.load(path, load_external_data=False)
    constants: dict[str, int] = {}
    for tensor in model.graph.initializer:
        constants[tensor.name] = math.prod(tensor.dims) * max(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize, 1)
        if constants[tensor.name] > SMALL:  # inference serialises the model, and wants no weights
            tensor.ClearField("raw_data")
    shapes: dict[str, tuple[int, ...]] = {t.name: tuple(t.dims) for t in model.graph.initializer}
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    sizes: dict[str, int] = {}
    for value in (*graph.input, *graph.output, *graph.value_info):
        kind = value.type.tensor_type
        dims = [d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim]
        if kind.elem_type and kind.HasField("shape") and min(dims, default=0) >= 0:
            shapes[value.name] = tuple(dims)
            sizes[value.name] = math.prod(dims) * onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize
    read, looked_up = set[str](), 0
    for node in graph.node:
        table = node.input[0] if node.op_type in GATHERS and node.input[0] in constants else None
        read |= {name for name in node.input if name in constants and name != table}
        looked_up += sizes.get(node.output[0], 0) if table else 0  # of a table only the rows looked up
    ends = sum(sizes.get(v.name, 0) for v in (*graph.input, *graph.output))
    flops = [_flops(node, shapes) for node in graph.node]
    if None in flops:
        return None
    return Work(sum(n for n in flops if n), ends + looked_up + sum(constants[name] for name in read))


def _flops(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """Twice the multiplications of a convolution, matrix product or recurrent layer; 0 for all else; None if unknown."""
    rule = _RULES.get(node.op_type)
    if rule is None:
        return None if any(attribute.HasField("g") for attribute in node.attribute) else 0
    names = [*node.input[:2], *node.output[:1]]
    return 2 * rule(node, *(shapes[name] for name in names)) if all(name in shapes for name in names) else None


def _gemm(node: onnx.NodeProto, a: tuple[int, ...], b: tuple[int, ...], y: tuple[int, ...]) -> int:
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return math.prod(y) * a[0 if transposed else 1]


def _recurrent(node: onnx.NodeProto, x: tuple[int, ...], w: tuple[int, ...], y: tuple[int, ...]) -> int:
    return x[0] * x[1] * w[0] * w[1] * (w[2] + y[-1])


def _attention(node: onnx.NodeProto, q: tuple[int, ...], k: tuple[int, ...], y: tuple[int, ...]) -> int:
    return (math.prod(q) + math.prod(y)) * k[-2]


_Rule = Callable[[onnx.NodeProto, tuple[int, ...], tuple[int, ...], tuple[int, ...]], int]
_RULES: dict[str, _Rule] = {
    "Conv": lambda node, x, w, y: math.prod(y) * math.prod(w[1:]),
    "ConvTranspose": lambda node, x, w, y: math.prod(x) * math.prod(w[1:]),
    "MatMul": lambda node, a, b, y: math.prod(y) * a[-1],
    "Gemm": _gemm,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "Attention": _attention,
}
