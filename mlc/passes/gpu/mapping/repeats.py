"""What the loops of a kernel repeat: loads whose elements stay in registers, and loads that need not wait for the barrier before them."""

from collections.abc import Sequence

from mlc.dialects._ext import operations, to_attr
from mlc.ir.mlir import ir
from mlc.layout.mapping import TaskMap
from mlc.passes.gpu.contraction import Product
from mlc.passes.gpu.kept import Kept, kept_key
from mlc.passes.gpu.mapping.kernel import Kernel
from mlc.passes.task.body import Body
from mlc.passes.tile.model import element_bytes, volume
from mlc.target import Target

EARLY = 4  # points of a thread whose operands it may load at the beginning of a phase
FEW_ROWS = 4  # of a product in a loop, up to which threads multiply by a factor in their registers as fast as tensor cores


def room(target: Target, threads: int) -> int:
    """Bytes of registers in which a thread may keep what it loads once: half of its share of 4-byte registers."""
    return 4 * (target.registers // threads) // 2


def is_slim(kernel: Kernel, product: Product, threads: int) -> bool:
    """Whether a loop's product is few rows by a factor that stays in the registers of `threads`, which then need no atoms, no pipeline."""
    if not kernel.loops or product.batch:
        return False
    for kept, other in ((product.a, product.b), (product.b, product.a)):
        elements = kept.outer.count * kept.depth.count
        if (kept.buffer in kernel.inputs and kernel.outlives(kept.start.strides) and other.outer.count <= FEW_ROWS
                and elements * element_bytes(kept.buffer) <= threads * room(kernel.target, threads)):
            return True
    return False


def lasting_loads(kernel: Kernel, body: Body) -> list[ir.Operation]:
    """The loads of a body's one reduction that are the same in every iteration of the kernel's loops."""
    if not kernel.loops or len(body.reductions) != 1:
        return []
    op = body.reductions[0]
    loops = {*body.block.arguments, *op.regions[0].blocks[0].arguments}
    return [o for o in body.accesses if o.name == "task.load" and o.parent == op and o.operands[0] in kernel.inputs
            and kernel.outlives(v for v in list(o.operands)[1:] if v not in loops)]


class KeptLoads:
    """Marks loads as `kept`, as far as the registers of `threads` reach. Foreaches in loops come first: they say what is kept."""

    def __init__(self, kernel: Kernel, threads: int) -> None:
        self.kernel, self.threads = kernel, threads
        self.bytes: dict[Kept, int] = {}  # of a thread

    def mark(self, foreach: ir.Operation, body: Body, map_: TaskMap) -> None:
        """Marks the loads of a foreach's reduction that give a thread the same in every iteration."""
        loads = lasting_loads(self.kernel, body)
        if not loads or map_.workers != self.threads:
            return
        op, digits = body.reductions[0], map_.digits()
        own = [volume([d.extent for d in digits if not d.spatial and d.dim == dim]) for dim in (0, 1)]
        whole = map_.shape == (volume(list(body.extents.values())), volume(op.opview.py("extents")))
        shared = any(d.dim == 1 and (d.spatial or d == digits[-1]) for d in digits)
        if not whole or not shared:
            return
        for load in loads:
            key = kept_key(load, foreach, map_)
            size = own[0] * own[1] * element_bytes(load.operands[0])
            fits = sum(self.bytes.values()) + size <= room(self.kernel.target, self.threads)
            if key in self.bytes or (foreach.block != self.kernel.body and fits):
                self.bytes[key] = size
                load.attributes["kept"] = to_attr(True)


def mark_early(kernel: Kernel, ops: Sequence[ir.Operation]) -> None:
    """Marks loads behind the first step after a barrier, of buffers that nothing has written since: they need not wait for it."""
    written: set[ir.Value] | None = None  # None: the phase has not begun
    for op in ops if kernel.loops else ():
        if op.name in ("task.barrier", "scf.for"):
            written = None
        elif op.name in ("task.foreach", "task.mma"):
            inner = operations(op)
            if op.name == "task.foreach" and written is not None and not any(o.name in ("task.reduce", "memref.load") for o in inner):
                points = volume([d.extent for d in op.opview.py("map").digits() if not d.spatial])
                for load in [o for o in inner if o.name == "task.load" and points <= EARLY]:
                    if load.operands[0] in kernel.buffers and load.operands[0] not in written:
                        load.attributes["early"] = to_attr(True)
            stores = {o.operands[1] for o in inner if o.name == "task.store"} if op.name == "task.foreach" else {op.operands[2]}
            written = (written or set()) | stores
