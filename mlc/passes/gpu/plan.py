"""The schedule of a matrix product on tensor cores: warp tiles, pipeline stages, and how each factor lies in shared memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlc.ir.mlir import ir
from mlc.passes.gpu.block import WIDEST
from mlc.passes.gpu.contraction import Factor, Loops, Product
from mlc.passes.gpu.unit import Unit
from mlc.passes.tile.model import element_bytes, volume

PAD = 16  # bytes between rows of a staged factor, so that eight neighbouring rows' 16 bytes lie in different banks
STEPS = (128, 64, 32)  # bytes of a factor's row in one stage
IN_FLIGHT = 24 << 10  # bytes of copies on their way in one block: what an SM's share of bandwidth times the latency of memory comes to
MOST_STAGES = 8
CARRIED = 160  # bytes of the next stage that a thread may hold: beside sums, fragments and addresses, more would not fit its registers


@dataclass(frozen=True)
class Staged:
    """A factor's part of one pipeline stage in shared memory.

    by_depth: rows are depth points ([depth][outer]), else outer points ([outer][depth]). vector: elements of one copy. size: elements.
    patch: depth points that a thread brings at once, by copies below each other if it `turns` them, else behind each other. turns: copies
    run along the outer loops, rows along the depth.
    """

    by_depth: bool
    vector: int
    pitch: int
    size: int
    patch: int = 0
    turns: bool = False


@dataclass(frozen=True)
class MmaPlan:
    """warps: [rows, columns, depth]; step: depth points of a stage; warp_rows, warp_columns: one warp's tile, whole atoms.

    left, right: None where the factor is read where it lies in shared memory.
    """

    product: Product
    unit: Unit
    warps: tuple[int, int, int]
    step: int
    stages: int
    warp_rows: int
    warp_columns: int
    left: Staged | None
    right: Staged | None

    @staticmethod
    def of(product: Product, unit: Unit, warps: Sequence[int], step: int, stages: int, alignment: Mapping[ir.Value, int]) -> "MmaPlan":
        """The plan of a schedule; alignment: bytes, of kernel arguments (block buffers are aligned to 128)."""
        rows, columns = product.a.outer.count, product.b.outer.count
        warp_rows = up(-(-rows // warps[0]), unit.rows)
        warp_columns = up(-(-columns // warps[1]), unit.columns)
        threads = unit.lanes * volume(warps)
        left = staged(product.a, unit, warp_rows * warps[0], step, alignment, threads)
        right = staged(product.b, unit, warp_columns * warps[1], step, alignment, threads)
        return MmaPlan(product, unit, (warps[0], warps[1], warps[2]), step, stages, warp_rows, warp_columns, left, right)

    @property
    def threads(self) -> int:
        return self.unit.lanes * volume(self.warps)

    @property
    def steps(self) -> int:
        return -(-self.product.a.depth.count // self.step)

    @property
    def atoms(self) -> tuple[int, int]:
        """Atoms of one warp: down, across."""
        return self.warp_rows // self.unit.rows, self.warp_columns // self.unit.columns

    @property
    def staged_elements(self) -> int:
        return self.stages * sum(s.size for s in (self.left, self.right) if s is not None)

    @property
    def shares(self) -> bool:
        return shares(self.product, self.unit)

    @property
    def workspace(self) -> int:
        """Bytes of shared memory besides the operands' buffers: pipeline stages, later the parts of the warps along the depth."""
        parts = (self.warps[2] - 1) * self.warps[0] * self.warps[1] * self.warp_rows * self.warp_columns * 4
        return max(self.staged_elements * element_bytes(self.product.a.buffer), parts)


def shares(product: Product, unit: Unit) -> bool:
    """Whether the sums take the place of the stages, where both lie in shared memory: threads wait for each other in between."""
    return not unit.streams and not product.batch


def up(n: int, multiple: int) -> int:
    """The least multiple that is not less than n."""
    return -(-n // multiple) * multiple


def staged(factor: Factor, unit: Unit, outer: int, step: int, alignment: Mapping[ir.Value, int], threads: int,
           apart: int = 1) -> Staged | None:
    """How a factor lies in a stage. apart: depth points between those that neighbouring lanes read, where they read single elements."""
    if _readable(factor, unit, step):
        return None
    turned = factor.outer.contiguous and not factor.depth.contiguous
    along, other = (factor.outer, factor.depth) if turned else (factor.depth, factor.outer)
    size = element_bytes(factor.buffer)
    vector = factor.vector(along, other, alignment.get(factor.buffer, 128), ends=unit.streams and not turned)
    if unit.streams:
        if is_shared(factor.buffer) or vector * size < 4:
            vector = 1  # asynchronous copies come from global memory, and are no shorter than 4 bytes
        # Elements of 32 bits that lie across are read by four depth points and eight outer ones at once.
        pitch = outer + (8 // apart - outer) % 16 if turned and size == 4 else (outer if turned else step) + PAD // size
        return Staged(turned, vector, pitch, pitch * (step if turned else outer))
    pitch = step + PAD // size
    patch = min(WIDEST // size, step)
    while patch * size > 4 and patch > (1 if turned else vector) and outer * step < threads * patch * (vector if turned else 1):
        patch //= 2  # all threads take part
    return Staged(False, vector, pitch, pitch * outer, patch, turned)


def is_shared(buffer: ir.Value) -> bool:
    """Whether a task-level buffer lies in the block's shared memory."""
    return not isinstance(buffer.owner, ir.Block) and buffer.owner.name == "task.alloc"


def _readable(factor: Factor, unit: Unit, step: int) -> bool:
    """Whether fragments can be read where the factor lies: 16-byte rows of shared memory, whole steps."""
    if not is_shared(factor.buffer) or factor.depth.count % step or factor.guards:
        return False
    ways = [(factor.depth, factor.outer, unit.depth if unit.streams else unit.vector(factor.buffer))]
    if unit.streams:
        ways.append((factor.outer, factor.depth, 8))
    return any(_rows(along, other, whole) and factor.vector(along, other, 128) * element_bytes(factor.buffer) == WIDEST
               for along, other, whole in ways)


def _rows(along: Loops, other: Loops, whole: int) -> bool:
    return along.contiguous and along.extents[-1] % whole == 0


def warps_wanted(product: Product, unit: Unit) -> int:
    """Warps that a product can use well: four, or eight where each then still has a tile of 32 x 32."""
    rows, columns = up(product.a.outer.count, unit.rows), up(product.b.outer.count, unit.columns)
    return 8 if rows * columns >= 8 * 32 * 32 else 4


def choose(product: Product, unit: Unit, warps: int, alignment: Mapping[ir.Value, int], budget: int) -> MmaPlan | None:
    """The plan for a number of warps whose workspace fits in `budget` bytes: least work per warp, stages to hide latency."""
    depth, size = product.a.depth.count, element_bytes(product.a.buffer)
    steps = [n // size for n in STEPS]
    for step in steps:
        if step > steps[-1] and (step > up(depth, steps[-1]) or (_direct(product) and depth % step)):
            continue
        down, across, deep = min(_shares(warps, step // unit.depth), key=lambda shares: _work(product, unit, shares, step))
        one = MmaPlan.of(product, unit, (down, across, deep), step, 1, alignment)
        stage = one.staged_elements * size
        if not unit.streams and stage > CARRIED * one.threads and step > steps[-1]:
            continue
        for stages in _stages(unit, max(1, stage), -(-depth // step)):
            plan = MmaPlan.of(product, unit, (down, across, deep), step, stages, alignment)
            if plan.workspace <= budget:
                return plan
    return None


def _stages(unit: Unit, stage: int, steps: int) -> Sequence[int]:
    """Numbers of stages to try, the best first. stage: bytes of one; steps: how many of them the product takes."""
    if not unit.streams:
        return (2, 1)  # what is on its way stays in registers
    wanted = min(MOST_STAGES, max(3, -(-IN_FLIGHT // stage) + 1), steps + 1)
    return range(max(wanted, 2), 1, -1)


def _shares(warps: int, atoms: int) -> list[tuple[int, int, int]]:
    """Ways to share [rows, columns, depth] among warps; `atoms`: of one stage's depth."""
    powers = [1 << i for i in range(warps.bit_length())]
    return [(a, b, warps // (a * b)) for a in powers for b in powers if warps % (a * b) == 0 and atoms % (warps // (a * b)) == 0]


def _work(product: Product, unit: Unit, shares: tuple[int, int, int], step: int) -> tuple[int, int]:
    """What a warp does in one stage: atoms, then elements it loads. Joining the parts along the depth costs about a stage's atoms."""
    down, across, deep = shares
    rows = -(-up(product.a.outer.count, unit.rows) // unit.rows // down)
    columns = -(-up(product.b.outer.count, unit.columns) // unit.columns // across)
    parts = step // unit.depth // deep
    return rows * columns * parts + (rows * columns if deep > 1 else 0), (unit.a.size * rows + unit.b.size * columns) * parts


def _direct(product: Product) -> bool:
    return is_shared(product.a.buffer) or is_shared(product.b.buffer)
