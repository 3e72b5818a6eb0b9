"""The schedule of a matrix product on warpgroups: which products TMA and wgmma take, and their consumers and pipeline stages."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mlc.ir.affine import map_to_linear
from mlc.ir.mlir import ir
from mlc.passes.gpu.contraction import Product
from mlc.passes.gpu.hopper import wgmma
from mlc.passes.gpu.hopper.mbarrier import Ring
from mlc.passes.gpu.hopper.operand import MOST_ACCUMULATORS, Side, Staging, staging
from mlc.passes.gpu.plan import is_shared
from mlc.passes.task.flat import divisor
from mlc.passes.tile.model import element_bytes, volume
from mlc.target import Target

PREFIX = "wgmma."  # of the atoms of warpgroups
ATOM = f"{PREFIX}m{wgmma.ROWS}k{wgmma.DEPTH}"  # of 16-bit factors
GROUP = 128  # threads of a warpgroup
WARP = 32
ALIGNMENT = 1024  # bytes, of swizzled tiles in shared memory
RESERVED = 1024  # bytes of an SM's shared memory that each block takes for itself
MOST_STAGES = 6


@dataclass(frozen=True)
class WarpGroupPlan:
    """The rows of `product.a` are the instruction's rows; staging.left is how it comes."""

    product: Product
    staging: Staging
    stages: int

    @property
    def atom(self) -> str:
        return f"{PREFIX}m{wgmma.ROWS}k{self.staging.kind.depth}"

    @property
    def workers(self) -> int:
        """Threads that multiply; the producer's warp follows them."""
        return GROUP * self.staging.consumers

    @property
    def threads(self) -> int:
        return self.workers + WARP

    @property
    def steps(self) -> int:
        return volume(self.staging.chunks)

    @property
    def ring_bytes(self) -> int:
        return Ring.bytes(self.stages)

    def ring_offset(self, result_bytes: int) -> int:
        """Where the barriers lie in the workspace: behind the stages, and behind the result, which takes the stages' place in the end."""
        return max(self.stages * self.staging.stage_bytes, -(-result_bytes // wgmma.ROW_BYTES) * wgmma.ROW_BYTES)

    def workspace(self, result_bytes: int) -> int:
        """Bytes of shared memory, from a multiple of `ALIGNMENT` on. result_bytes: of c if it lies there too."""
        return self.ring_offset(result_bytes) + self.ring_bytes


def warpgroup_plan(op: ir.Operation, product: Product, stages: int, alignment: Mapping[ir.Value, int]) -> WarpGroupPlan | None:
    """The plan of a task.mma with that many stages, or None where TMA cannot bring a factor or the tile is not one for wgmma."""
    if product.batch or any(is_shared(f.buffer) or alignment.get(f.buffer, 0) % 16 for f in (product.a, product.b)):
        return None
    view = op.opview
    extents = view.py("extents")
    found = staging(_side(op, product.a.operand), _side(op, product.b.operand), extents, len(extents) - view.py("reductions"))
    return None if found is None else WarpGroupPlan(product.turned if found.turned else product, found, stages)


def choose_warpgroups(op: ir.Operation, product: Product, alignment: Mapping[ir.Value, int], target: Target, budget: int,
                      blocks: int) -> WarpGroupPlan | None:
    """The plan for a grid of `blocks`, with `budget` bytes of shared memory left; two blocks share an SM where they can."""
    if not (target.has("wgmma") and target.has("tma")):
        return None
    plan = warpgroup_plan(op, product, 2, alignment)
    if plan is None:
        return None
    for residents, least in ((2, 3), (1, 2)):
        if residents > 1 and (blocks <= target.sms or plan.staging.accumulators > MOST_ACCUMULATORS // residents):
            continue
        share = min(budget, (target.shared_bytes + RESERVED) // residents - RESERVED)
        for stages in range(min(MOST_STAGES, plan.steps), min(least, plan.steps) - 1, -1):
            found = replace(plan, stages=stages)
            if found.workspace(result_bytes(op)) <= share:
                return found
    return None


def result_bytes(op: ir.Operation) -> int:
    """Bytes of a task.mma's result in shared memory; 0 where it goes elsewhere, or stays in registers."""
    c = op.operands[2]
    if not is_shared(c) or c.owner.opview.py("level") == "register":
        return 0
    pitch, shape = c.owner.opview.py("pitch"), list(c.type.shape)
    return (volume(shape[:-1]) * pitch if pitch else volume(shape)) * element_bytes(c)


def _side(op: ir.Operation, operand: int) -> Side:
    linear = map_to_linear(op.attributes["maps"][operand].value)
    assert linear is not None
    type_ = op.operands[operand].type
    return Side(tuple(type_.shape), str(type_.element_type), tuple(linear), tuple(op.opview.py("bounded")[operand]),
                tuple(map(divisor, list(op.operands)[3:])))


__all__ = ["ALIGNMENT", "ATOM", "PREFIX", "WarpGroupPlan", "choose_warpgroups", "result_bytes", "warpgroup_plan"]
