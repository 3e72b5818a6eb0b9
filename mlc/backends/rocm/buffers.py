"""Which of its arguments a kernel reads and writes, and their sizes, read off its gpu.func."""

from dataclasses import dataclass

from mlc.dialects._ext import operations
from mlc.ir.mlir import ir
from mlc.passes.tile.model import element_bytes, volume

_READS = ("memref.load", "vector.load", "vector.transfer_read", "vector.maskedload", "vector.gather")
_WRITES = ("memref.store", "vector.store", "vector.transfer_write", "vector.maskedstore", "vector.scatter")
_VIEWS = ("memref.view", "memref.subview", "memref.cast", "memref.reinterpret_cast", "memref.memory_space_cast", "memref.expand_shape",
          "memref.collapse_shape", "memref.extract_strided_metadata", "memref.assume_alignment")
_OWN = ("memref.alloca", "gpu.dynamic_shared_memory", "memref.get_global")  # a thread's, a block's, or constant


@dataclass(frozen=True)
class Buffer:
    """An argument in global memory. bytes: of the whole buffer."""

    bytes: int
    read: bool
    written: bool

    @property
    def access(self) -> str:
        """`read`, `write`, `readwrite` or `none`."""
        return ("read" if self.read else "") + ("write" if self.written else "") or "none"


def buffers_of(kernel: ir.Operation) -> tuple[Buffer, ...]:
    """The arguments of a gpu.func, all of them buffers. An access that is not understood counts as reading and writing every argument."""
    arguments = list(kernel.regions[0].blocks[0].arguments)
    read: set[ir.Value] = set()
    written: set[ir.Value] = set()
    for op in operations(kernel):
        if op.name in _VIEWS:
            continue
        for value in op.operands:
            if not isinstance(value.type, ir.MemRefType) or "workgroup" in str(value.type.memory_space):
                continue
            root = _root(value)
            if isinstance(root.owner, ir.Block):
                touched = {root} if root in arguments else set(arguments)
            else:
                touched = set() if root.owner.name in _OWN else set(arguments)
            read |= touched if op.name not in _WRITES else set()
            written |= touched if op.name not in _READS else set()
    return tuple(Buffer(volume(a.type.shape) * element_bytes(a), a in read, a in written) for a in arguments)


def _root(value: ir.Value) -> ir.Value:
    """The buffer that a view is of."""
    while not isinstance(value.owner, ir.Block) and value.owner.name in _VIEWS:
        value = value.owner.operands[0]
    return value
