"""The schedule of a matrix product on warpgroups: which products TMA and wgmma take, and their consumers and pipeline stages."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mlc.ir.affine import map_to_linear
from mlc.ir.mlir import ir
from mlc.passes.gpu.contraction import Product
from mlc.passes.gpu.hopper import wgmma
from mlc.passes.gpu.hopper.mbarrier import Ring
from mlc.passes.gpu.hopper.operand import STEP, Boxes, boxes_of, covers
from mlc.passes.gpu.plan import is_shared
from mlc.passes.tile.model import element_bytes, volume
from mlc.target import Target

ATOM = "wgmma.m64k16"
GROUP = 128  # threads of a warpgroup
WARP = 32
ALIGNMENT = 1024  # bytes, of swizzled tiles in shared memory
RESERVED = 1024  # bytes of an SM's shared memory that each block takes for itself
LEAST_POINTS = 64 * 128  # of a block's tile: below, the start of the pipeline costs more than the faster instruction gains
LEAST_DEPTH = 2 * STEP
MOST_ACCUMULATORS = 128  # registers of a thread
MOST_STAGES = 6


@dataclass(frozen=True)
class WarpGroupPlan:
    """left, right: how the factors come; rows of a are the instruction's rows. chunks: loops of the reduction, the last one in `STEP`s."""

    product: Product
    left: Boxes
    right: Boxes
    consumers: int
    stages: int
    depth_loops: tuple[int, ...]  # loop numbers, outermost first; the last is the inner one
    chunks: tuple[int, ...]  # how many steps each of them takes

    @property
    def workers(self) -> int:
        """Threads that multiply; the producer's warp follows them."""
        return GROUP * self.consumers

    @property
    def threads(self) -> int:
        return self.workers + WARP

    @property
    def steps(self) -> int:
        return volume(self.chunks)

    @property
    def blocks(self) -> int:
        """64-row blocks of one consumer."""
        return self.left.tile.extent // (wgmma.ROWS * self.consumers)

    @property
    def accumulators(self) -> int:
        """Registers of a thread that hold sums."""
        return self.blocks * self.right.tile.extent // 2

    @property
    def stage_bytes(self) -> int:
        return self.left.tile.bytes + self.right.tile.bytes

    @property
    def ring_bytes(self) -> int:
        return Ring.bytes(self.stages)

    def ring_offset(self, result_bytes: int) -> int:
        """Where the barriers lie in the workspace: behind the stages, and behind the result, which takes the stages' place in the end."""
        return max(self.stages * self.stage_bytes, -(-result_bytes // wgmma.ROW_BYTES) * wgmma.ROW_BYTES)

    def workspace(self, result_bytes: int) -> int:
        """Bytes of shared memory, from a multiple of `ALIGNMENT` on. result_bytes: of c if it lies there too."""
        return self.ring_offset(result_bytes) + self.ring_bytes


def warpgroup_plan(op: ir.Operation, product: Product, stages: int, alignment: Mapping[ir.Value, int]) -> WarpGroupPlan | None:
    """The plan of a task.mma with that many stages, or None where TMA cannot bring a factor or the tile is not one for wgmma."""
    rows, columns = product.a.outer.count, product.b.outer.count
    consumers = 1 if rows <= wgmma.ROWS else 2
    if product.batch or any(is_shared(f.buffer) or alignment.get(f.buffer, 0) % 16 for f in (product.a, product.b)):
        return None
    if rows * columns < LEAST_POINTS or rows < 48 or product.a.depth.count < LEAST_DEPTH:
        return None
    view = op.opview
    extents, n = view.py("extents"), len(view.py("extents")) - view.py("reductions")
    used = [_loops_of(op, f.operand) for f in (product.a, product.b)]
    row_loops, column_loops = ([d for d in range(n) if extents[d] > 1 and d in u] for u in used)
    depth = [d for d in range(n, len(extents)) if extents[d] > 1]
    for inner in reversed(depth):
        left = boxes_of(op, product.a.operand, row_loops, inner, wgmma.ROWS * consumers)
        right = boxes_of(op, product.b.operand, column_loops, inner, 8)
        if left is None or right is None:
            continue
        whole = extents[inner] % STEP == 0 or all(covers(b, inner, extents[inner]) for b in (left, right))
        loops = (*(d for d in depth if d != inner), inner)
        chunks = (*(extents[d] for d in loops[:-1]), -(-extents[inner] // STEP))
        plan = WarpGroupPlan(product, left, right, consumers, stages, loops, chunks)
        if whole and right.tile.extent <= 256 and plan.accumulators <= MOST_ACCUMULATORS:
            return plan
    return None


def choose_warpgroups(op: ir.Operation, product: Product, alignment: Mapping[ir.Value, int], target: Target, budget: int,
                      blocks: int) -> WarpGroupPlan | None:
    """The plan for a grid of `blocks`, with `budget` bytes of shared memory left; two blocks share an SM where they can."""
    if not (target.has("wgmma") and target.has("tma")):
        return None
    plan = warpgroup_plan(op, product, 2, alignment)
    if plan is None:
        return None
    for residents, least in ((2, 3), (1, 2)):
        if residents > 1 and (blocks <= target.sms or plan.accumulators > MOST_ACCUMULATORS // residents):
            continue
        share = min(budget, (target.shared_bytes + RESERVED) // residents - RESERVED)
        for stages in range(min(MOST_STAGES, max(least, plan.steps)), least - 1, -1):
            found = replace(plan, stages=stages)
            if found.workspace(result_bytes(op)) <= share:
                return found
    return None


def result_bytes(op: ir.Operation) -> int:
    """Bytes of a task.mma's result in shared memory; 0 where it goes elsewhere."""
    c = op.operands[2]
    if not is_shared(c):
        return 0
    pitch, shape = c.owner.opview.py("pitch"), list(c.type.shape)
    return (volume(shape[:-1]) * pitch if pitch else volume(shape)) * element_bytes(c)


def _loops_of(op: ir.Operation, operand: int) -> set[int]:
    linear = map_to_linear(op.attributes["maps"][operand].value)
    assert linear is not None
    return {i for e in linear for i, c in enumerate(e.coefficients) if c}


__all__ = ["ALIGNMENT", "ATOM", "WarpGroupPlan", "choose_warpgroups", "result_bytes", "warpgroup_plan"]
