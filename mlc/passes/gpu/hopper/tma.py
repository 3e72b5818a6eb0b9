"""TMA: tensor maps as data, and the bulk tensor copies that use them (PTX ISA 9.7.9.25, "cp.async.bulk.tensor").

A tensor map (CUtensorMap) describes a strided array and the box that one copy moves. The host encodes it; the kernel takes it as a 128-byte
parameter passed by value. Dimensions here are outermost first, as in a shape; the instruction's coordinates are innermost first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mlc.dialects._ext import to_attr
from mlc.dtypes import BY_NAME
from mlc.ir.mlir import ir, llvm, nvvm
from mlc.passes.gpu.hopper.emit import Int, value
from mlc.passes.gpu.hopper.mbarrier import Barrier

TENSOR_MAPS = "task.tensormaps"  # attribute of a gpu.func: what those of its arguments are that are maps
MAP_BYTES = 128
SWIZZLE = 128  # bytes: width of a box row, and period of the swizzle, of every map made here


@dataclass(frozen=True)
class TensorMap:
    """What the host encodes: `shape` and `strides` in elements, outermost first, the last stride being 1; `box` likewise.

    Parts of a box outside of the array are read as zero. Elements of f32 are rounded to tf32: nobody but tensor cores reads them.
    """

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]

    @property
    def element_bytes(self) -> int:
        return BY_NAME[self.dtype].bits // 8

    def __post_init__(self) -> None:
        """Limits of cuTensorMapEncodeTiled; ValueError names the one that does not hold."""
        rank = len(self.shape)
        if not 2 <= rank <= 5 or len(self.strides) != rank or len(self.box) != rank:
            raise ValueError(f"a tensor map has 2 to 5 dimensions, got shape {self.shape}, strides {self.strides}, box {self.box}")
        if self.strides[-1] != 1 or any(s * self.element_bytes % 16 or not 0 < s * self.element_bytes < 1 << 40 for s in self.strides[:-1]):
            raise ValueError(f"a tensor map needs a contiguous last dimension and strides of whole 16 bytes, got {self.strides}")
        if any(not 0 < n < 1 << 32 for n in self.shape) or any(not 0 < n <= 256 for n in self.box):
            raise ValueError(f"a tensor map's box has 1 to 256 elements per dimension, got {self.box} of {self.shape}")
        if self.box[-1] * self.element_bytes != SWIZZLE:
            raise ValueError(f"a box row has {SWIZZLE} bytes, got {self.box[-1]} elements of {self.element_bytes} bytes")

    def attribute(self, argument: int, buffer: int) -> ir.Attribute:
        """An element of a gpu.func's `task.tensormaps`: kernel argument number `argument` is this map of the launch's buffer `buffer`."""
        return to_attr({"argument": argument, "buffer": buffer, "dtype": self.dtype, "shape": self.shape, "strides": self.strides,
                        "box": self.box, "swizzle": SWIZZLE})


def prefetch_map(tensor_map: ir.Value) -> None:
    """Brings the map itself into the descriptor cache."""
    nvvm.PrefetchOp(tensor_map, tensormap=True)


def load_box(tensor_map: ir.Value, target: ir.Value, coordinates: Sequence[Int], barrier: Barrier) -> None:
    """Copies the box at `coordinates` (innermost first) to shared memory; its bytes count towards the barrier. One thread does this."""
    cluster = llvm.AddrSpaceCastOp(ir.Type.parse("!llvm.ptr<7>"), target).result
    nvvm.CpAsyncBulkTensorGlobalToSharedClusterOp(cluster, tensor_map, [value(c) for c in coordinates], barrier.pointer, [])
