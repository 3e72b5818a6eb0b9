"""Runs gpu.funcs without a GPU: every block, all threads in lockstep, checked by `gpu_sim_memory`. The tests' oracle for kernels."""

from collections.abc import Sequence
from typing import Any

import gpu_sim_access
import gpu_sim_hopper
import gpu_sim_ops
import gpu_sim_vector
import gpu_sim_warp
import numpy as np
from gpu_sim_access import DYNAMIC, strides_of
from gpu_sim_core import Lanes, Program, dtype_of
from gpu_sim_hopper import MapValue, Warpgroups
from gpu_sim_memory import POISON, Fault, Ref, Shadow, Space
from gpu_sim_traces import Traces

from mlc.dialects._ext import operations
from mlc.ir.mlir import ir

LANES = 4096  # that run together: enough to hide Python's own time, few enough to stay in caches
SHARED = 1 << 22  # bytes of shared memory of the blocks that run together
_FAMILIES = (gpu_sim_access, gpu_sim_hopper, gpu_sim_ops, gpu_sim_vector, gpu_sim_warp)  # importing them registers their ops

_READS = ("memref.load", "vector.load", "vector.maskedload", "vector.gather")

Argument = tuple[np.ndarray, int]


class Kernel:
    """A gpu.func, ready to launch. warp: threads of a warp. module: the IR it lies in, which faults quote."""

    def __init__(self, function: ir.Operation, module: ir.Module, warp: int = 32) -> None:
        self.module = module
        self.name, self.warp = function.attributes["sym_name"].value, warp
        self.threads = int(next(iter(function.attributes["known_block_size"])))
        self.grid = _grid(function.attributes["task.grid"])
        self.cluster = _cluster(function, self.grid)
        self.dynamic = _number(function.attributes["task.shared"]) if "task.shared" in function.attributes else 0
        block = function.regions[0].blocks[0]
        arguments = list(block.arguments)
        count = len(ir.FunctionType(ir.TypeAttr(function.attributes["function_type"]).value).inputs)
        statics = function.attributes["workgroup_attributions"].value if "workgroup_attributions" in function.attributes else 0
        self.program = Program()
        self.slots = self.program.slots_of(arguments)
        self.types = [a.type for a in arguments]
        self.count, self.statics = count, arguments[count:count + statics]
        self.granule = _granule(function)
        self.written = [any(use.owner.operation.name not in _READS for use in a.uses) for a in arguments[:count]]
        self.code = self.program.block(block)

    def launch(self, *arguments: Argument | MapValue) -> None:
        """Runs all blocks. Each buffer is an array of bytes, written in place, and the byte of it that the buffer starts at; a tensor map
        is a `MapValue`."""
        if len(arguments) != self.count:
            raise Fault(f"kernel @{self.name} takes {self.count} buffers, got {len(arguments)}")
        refs = [_buffer(f"argument {i} of kernel @{self.name}", t, *a) if isinstance(t, ir.MemRefType) else a
                for i, (t, a) in enumerate(zip(self.types, arguments))]
        for ref, written in zip(refs, self.written):
            if written and isinstance(ref, Ref) and self.grid * self.threads > 1:
                ref.space.shadow = Traces(ref.dtype.itemsize, ref.offset, int(np.prod(ref.shape)))
        together = self.cluster or max(1, min(LANES // self.threads, SHARED // max(1, self.dynamic), self.grid))
        with np.errstate(all="ignore"):
            for first in range(0, self.grid, together):
                self._run(first, min(together, self.grid - first), refs)
        self._check_overlaps([r for r in refs if isinstance(r, Ref)])

    def _run(self, first: int, blocks: int, refs: Sequence[Ref | MapValue]) -> None:
        env = list(self.program.env)
        for slot, ref in zip(self.slots, refs):
            env[slot] = ref
        own = np.repeat(np.arange(blocks), self.threads)
        sizes = [_bytes(v.type) for v in self.statics]
        size = -(-(self.dynamic + sum(sizes)) // 128) * 128 + 128
        shared = Space("shared memory", np.full(blocks * size, POISON, np.uint8), size, own * size)
        shared.shadow = Shadow(self.granule, blocks * size // self.granule, self.threads)
        place = -(-self.dynamic // 128) * 128
        for slot, value, n in zip(self.slots[self.count:], self.statics, sizes):
            env[slot] = Ref(shared, place, tuple(value.type.shape), strides_of(value.type)[0], dtype_of(value.type))
            place += n
        lanes = Lanes(self.name, env, first + own, np.tile(np.arange(self.threads), blocks), blocks, self.threads, self.warp, self.grid,
                      shared, self.dynamic, committed=np.zeros(blocks * self.threads, np.int64), warpgroups=Warpgroups(),
                      traces=[r.space.shadow for r in refs if isinstance(r, Ref) and isinstance(r.space.shadow, Traces)],
                      cluster=self.cluster)
        lanes.run(self.code)
        if lanes.told:
            raise Fault(f"kernel @{self.name}: a block may end before another has written to it")
        for traces in lanes.traces:
            traces.depart()

    def _check_overlaps(self, refs: Sequence[Ref]) -> None:
        """A buffer that was written may share no byte with another."""
        spans = []
        for r in refs:
            start = r.space.data.ctypes.data + r.offset
            spans.append((r.space, start, start + int(np.prod(r.shape)) * r.dtype.itemsize))
        for i, (space, low, high) in enumerate(spans):
            for other, start, end in spans[:i] + spans[i + 1:]:
                if space.written and start < high and low < end:
                    raise Fault(f"kernel @{self.name}: {space.name} is written and shares memory with {other.name}")


def _number(attribute: Any) -> int:
    return int(getattr(attribute, "value", attribute))


def _cluster(function: ir.Operation, grid: int) -> int:
    """Blocks of a cluster, 0 without; each runs by itself."""
    if "known_cluster_size" not in function.attributes:
        return 0
    size = int(np.prod(list(function.attributes["known_cluster_size"])))
    if grid % size or size > 16:
        raise Fault(f"a cluster of {size} blocks in a grid of {grid}, expected whole clusters of at most 16")
    return size


def _grid(attribute: ir.Attribute) -> int:
    return int(np.prod([_number(n) for n in attribute])) if isinstance(attribute, ir.ArrayAttr) else _number(attribute)


def _bytes(type_: ir.Type) -> int:
    return int(np.prod(type_.shape)) * dtype_of(type_).itemsize


def _granule(function: ir.Operation) -> int:
    """Bytes of the smallest element that the kernel reads or writes in shared memory, 4 at most."""
    sizes = [4]
    for op in operations(function):
        types = [v.type for v in op.operands if isinstance(v.type, ir.MemRefType) and op.name != "memref.view"]
        sizes += [dtype_of(t).itemsize for t in types if "workgroup" in str(t.memory_space)]
    return min(sizes)


def _buffer(name: str, type_: ir.Type, data: np.ndarray, start: int) -> Ref:
    """A kernel argument; one of unknown size is all that is there."""
    dtype, shape = dtype_of(type_), tuple(type_.shape)
    shape = tuple((data.size - start) // dtype.itemsize if n == DYNAMIC else n for n in shape)
    if start + int(np.prod(shape)) * dtype.itemsize > data.size:
        raise Fault(f"{name} is {type_}, but memory ends {data.size - start} bytes after its start")
    return Ref(Space(name, data, data.size), start, shape, strides_of(type_)[0], dtype)


def kernels_of(module: ir.Module, warp: int = 32) -> dict[str, Kernel]:
    """The kernels of a module's gpu.modules, by name."""
    found = [Kernel(op, module, warp) for op in operations(module.operation) if op.name == "gpu.func"]
    return {k.name: k for k in found}


def launch(kernel: Kernel, *arrays: np.ndarray) -> None:
    """Runs a kernel on contiguous arrays, in place."""
    kernel.launch(*[(a.reshape(-1).view(np.uint8), 0) for a in arrays])
