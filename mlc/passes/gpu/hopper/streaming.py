"""The schedule of a task.stream on warpgroups: which ones TMA and wgmma take, and their consumers, steps and pipeline stages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mlc.ir.affine import map_to_linear
from mlc.ir.mlir import ir
from mlc.passes.gpu.hopper import wgmma
from mlc.passes.gpu.hopper.mbarrier import BARRIER_BYTES, Ring
from mlc.passes.gpu.hopper.operand import CHUNK, Side
from mlc.passes.gpu.hopper.panels import Panels, panels_of
from mlc.passes.gpu.hopper.plan import ATOM, GROUP
from mlc.passes.gpu.plan import is_shared
from mlc.passes.task.flat import divisor
from mlc.passes.tile.model import volume
from mlc.target import Target

MOST_ROWS = 128  # of a block
MOST_WIDTH = 256  # of a head
MOST_STAGES = 4
LONG_STEP, SHORT_STEP = 128, 64  # keys of a stage: as many as registers allow beside the sums of a head up to 128, and above


@dataclass(frozen=True)
class Streaming:
    """q, k, v: how they come. rows: real ones of a block; keys: of all steps. width: columns of the sums, padded to panels."""

    q: Panels
    k: Panels
    v: Panels
    rows: int
    keys: int
    step: int
    stages: int = 2

    @property
    def consumers(self) -> int:
        """Warpgroups that multiply, 64 rows each."""
        return self.q.tile.extent // wgmma.ROWS

    @property
    def atom(self) -> str:
        return ATOM

    @property
    def workers(self) -> int:
        """Threads that multiply; the producer's warpgroup follows them."""
        return GROUP * self.consumers

    @property
    def threads(self) -> int:
        return self.workers + GROUP

    @property
    def height(self) -> int:
        """Rows of a block, with padding."""
        return self.q.tile.extent

    @property
    def depth(self) -> int:
        return self.q.tile.depth

    @property
    def width(self) -> int:
        return self.v.tile.extent

    @property
    def steps(self) -> int:
        return -(-self.keys // self.step)

    @property
    def k_offset(self) -> int:
        """Where the stages of k lie in the workspace; those of v follow, then the barriers."""
        return self.q.tile.bytes

    @property
    def v_offset(self) -> int:
        return self.k_offset + self.stages * self.k.tile.bytes

    @property
    def barrier_offset(self) -> int:
        return self.v_offset + self.stages * self.v.tile.bytes

    @property
    def workspace(self) -> int:
        """Bytes of shared memory, from a multiple of 1024 on."""
        return self.barrier_offset + 2 * Ring.bytes(self.stages) + BARRIER_BYTES

    @property
    def registers(self) -> tuple[int, int] | None:
        """Registers of a thread of the producer and of a consumer, where consumers need more than their share."""
        return (24, 240) if self.consumers == 2 else None


def streaming(sides: Sequence[Side], extents: Sequence[int], columns: Sequence[int]) -> Streaming | None:
    """How warpgroups stream: sides of q, k and v; extents: points, keys, depth; None where TMA or wgmma cannot take it."""
    q, k, v = sides
    n = len(extents) - 2
    key, depth, keys = n, n + 1, extents[n]
    rows = [d for d in range(n) if d not in columns and extents[d] > 1]
    wide = [d for d in columns if extents[d] > 1]
    if {s.dtype for s in sides} not in ({"f16"}, {"bf16"}) or len(wide) != 1 or not keys:
        return None
    shared = {d for side in (k, v) for e in side.places for d in rows if e.coefficients[d]}
    count, width = volume([extents[d] for d in rows]), extents[wide[0]]
    if shared or count > MOST_ROWS or max(width, extents[depth]) > MOST_WIDTH or width % 8:
        return None
    across, deep = (-(-m // wgmma.PANEL) * wgmma.PANEL for m in (width, extents[depth]))
    step = min(LONG_STEP if max(across, deep) <= LONG_STEP else SHORT_STEP, -(-keys // 16) * 16)
    sizes = [*extents[:n], step, extents[depth]]
    groups = 1 if count <= wgmma.ROWS else 2
    tile_q, tile_k, tile_v = (
        panels_of(q, sizes, extents, rows, depth, wgmma.operand(groups * wgmma.ROWS, deep, True)),
        panels_of(k, sizes, extents, [key], depth, wgmma.operand(step, deep, True)),
        panels_of(v, sizes, extents, [key], wide[0], wgmma.operand(across, step, False)))
    if tile_q is None or tile_k is None or tile_v is None:
        return None
    return Streaming(tile_q, tile_k, tile_v, count, keys, step)


def stream_plan(op: ir.Operation) -> Streaming | None:
    """The schedule of a task.stream whose factors lie in global memory, with the stages that it has, or two."""
    view = op.opview
    if any(is_shared(op.operands[i]) for i in range(3)):
        return None
    found = streaming([_side(op, i) for i in range(3)], view.py("extents"), view.py("columns"))
    return None if found is None else replace(found, stages=view.py("stages") or 2)


def choose_streaming(op: ir.Operation, target: Target, budget: int, alignment: Mapping[ir.Value, int]) -> Streaming | None:
    """The schedule with as many stages as fit in `budget` bytes and are of use. alignment: bytes, of the factors' buffers."""
    plan = stream_plan(op) if target.has("wgmma") and target.has("tma") else None
    if plan is None or any(alignment.get(b, 0) % CHUNK for b in list(op.operands)[:3]):
        return None
    for stages in range(min(MOST_STAGES, max(plan.steps, 1)), 0, -1):
        found = replace(plan, stages=stages)
        if found.workspace <= budget:
            return found
    return None


def _side(op: ir.Operation, operand: int) -> Side:
    linear = map_to_linear(ir.AffineMapAttr(op.attributes["maps"][operand]).value)
    assert linear is not None
    type_ = op.operands[operand].type
    return Side(tuple(type_.shape), str(type_.element_type), tuple(linear), divisors=tuple(map(divisor, list(op.operands)[3:])))


__all__ = ["Streaming", "choose_streaming", "stream_plan", "streaming"]
