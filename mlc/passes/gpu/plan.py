"""The schedule of a matrix product on tensor cores: warp tiles, pipeline stages, and how each factor lies in shared memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlc.ir.mlir import ir
from mlc.passes.gpu.contraction import Factor, Loops, Product
from mlc.passes.tile.model import element_bytes, volume
from mlc.target import Target

ROWS, COLUMNS, DEPTH = 16, 8, 16  # of one mma.sync of 16-bit floats
PAD = 8  # elements between rows of a staged factor, so that the eight 16-byte rows of an ldmatrix lie in different banks
ATOM = "mma.m16n8k16"
IN_FLIGHT = 24 << 10  # bytes of copies on their way in one block: what an SM's share of bandwidth times the latency of memory comes to
MOST_STAGES = 8


@dataclass(frozen=True)
class Staged:
    """A factor's part of one pipeline stage in shared memory.

    by_depth: rows are depth points ([depth][outer]), else outer points ([outer][depth]). vector: elements of one copy. size: elements.
    """

    by_depth: bool
    vector: int
    pitch: int
    size: int


@dataclass(frozen=True)
class MmaPlan:
    """warps: [rows, columns, depth]; step: depth points of a stage; warp_rows, warp_columns: one warp's tile, whole atoms.

    left, right: None where the factor is read where it lies in shared memory.
    """

    product: Product
    warps: tuple[int, int, int]
    step: int
    stages: int
    warp_rows: int
    warp_columns: int
    left: Staged | None
    right: Staged | None

    @staticmethod
    def of(product: Product, warps: Sequence[int], step: int, stages: int, alignment: Mapping[ir.Value, int]) -> "MmaPlan":
        """The plan of a schedule; alignment: bytes, of kernel arguments (block buffers are aligned to 128)."""
        rows, columns = product.a.outer.count, product.b.outer.count
        warp_rows = _up(-(-rows // warps[0]), ROWS)
        warp_columns = _up(-(-columns // warps[1]), COLUMNS)
        left = _staged(product.a, warp_rows * warps[0], step, alignment)
        right = _staged(product.b, warp_columns * warps[1], step, alignment)
        return MmaPlan(product, (warps[0], warps[1], warps[2]), step, stages, warp_rows, warp_columns, left, right)

    @property
    def threads(self) -> int:
        return 32 * volume(self.warps)

    @property
    def steps(self) -> int:
        return -(-self.product.a.depth.count // self.step)

    @property
    def atoms(self) -> tuple[int, int]:
        """Atoms of one warp: down, across."""
        return self.warp_rows // ROWS, self.warp_columns // COLUMNS

    @property
    def staged_elements(self) -> int:
        return self.stages * sum(s.size for s in (self.left, self.right) if s is not None)

    @property
    def workspace(self) -> int:
        """Bytes of shared memory besides the operands' buffers: pipeline stages, later the parts of the warps along the depth."""
        parts = (self.warps[2] - 1) * self.warps[0] * self.warps[1] * self.warp_rows * self.warp_columns * 4
        return max(self.staged_elements * element_bytes(self.product.a.buffer), parts)


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _staged(factor: Factor, outer: int, step: int, alignment: Mapping[ir.Value, int]) -> Staged | None:
    if _readable(factor, step):
        return None
    by_depth = factor.outer.contiguous and not factor.depth.contiguous
    along, other = (factor.outer, factor.depth) if by_depth else (factor.depth, factor.outer)
    vector = factor.vector(along, other, alignment.get(factor.buffer, 128))
    if is_shared(factor.buffer) or vector * element_bytes(factor.buffer) < 4:
        vector = 1  # asynchronous copies come from global memory, and are no shorter than 4 bytes
    pitch = (outer if by_depth else step) + PAD
    return Staged(by_depth, vector, pitch, pitch * (step if by_depth else outer))


def is_shared(buffer: ir.Value) -> bool:
    """Whether a task-level buffer lies in the block's shared memory."""
    return not isinstance(buffer.owner, ir.Block) and buffer.owner.name == "task.alloc"


def _readable(factor: Factor, step: int) -> bool:
    """Whether ldmatrix can read the factor where it lies: 16-byte rows of shared memory, whole steps."""
    if not is_shared(factor.buffer) or factor.depth.count % step or factor.guards:
        return False
    for along, other, whole in ((factor.depth, factor.outer, DEPTH), (factor.outer, factor.depth, 8)):
        if _rows(along, other, whole) and factor.vector(along, other, 128) == 8:
            return True
    return False


def _rows(along: Loops, other: Loops, whole: int) -> bool:
    return along.contiguous and along.extents[-1] % whole == 0


def tensor_product(product: Product | None, c: ir.Value, target: Target) -> bool:
    """Whether the target's tensor cores compute the product: 16-bit floats, f32 sums, and rows and columns that are not batches."""
    if product is None or not target.has("mma"):
        return False
    kinds = {str(f.buffer.type.element_type) for f in (product.a, product.b)}
    # Neighbours in memory are a batch's products (a depthwise convolution): threads load them side by side, an atom would use one in eight.
    apart = any(extent > 1 and a == b == 1 for extent, a, b, _ in product.batch)
    return len(kinds) == 1 and kinds <= {"f16", "bf16"} and str(c.type.element_type) == "f32" and not apart


def warps_wanted(product: Product) -> int:
    """Warps that a product can use well: four, or eight where each then still has a tile of 32 x 32."""
    rows, columns = _up(product.a.outer.count, ROWS), _up(product.b.outer.count, COLUMNS)
    return 8 if rows * columns >= 8 * 32 * 32 else 4


def choose(product: Product, warps: int, alignment: Mapping[ir.Value, int], budget: int) -> MmaPlan | None:
    """The plan for a number of warps whose workspace fits in `budget` bytes: least work per warp, stages to hide latency."""
    depth = product.a.depth.count
    for step in (64, 32, 16):
        if step > 16 and (step > _up(depth, DEPTH) or (_direct(product) and depth % step)):
            continue
        down, across, deep = min(_shares(warps, step // DEPTH), key=lambda shares: _work(product, shares, step))
        one = MmaPlan.of(product, (down, across, deep), step, 1, alignment)
        stage = max(1, one.staged_elements * element_bytes(product.a.buffer))
        wanted = min(MOST_STAGES, max(3, -(-IN_FLIGHT // stage) + 1), -(-depth // step) + 1)
        for stages in range(max(wanted, 2), 1, -1):
            plan = MmaPlan.of(product, (down, across, deep), step, stages, alignment)
            if plan.workspace <= budget:
                return plan
    return None


def _shares(warps: int, atoms: int) -> list[tuple[int, int, int]]:
    """Ways to share [rows, columns, depth] among warps; `atoms`: of one stage's depth."""
    powers = [1 << i for i in range(warps.bit_length())]
    return [(a, b, warps // (a * b)) for a in powers for b in powers if warps % (a * b) == 0 and atoms % (warps // (a * b)) == 0]


def _work(product: Product, shares: tuple[int, int, int], step: int) -> tuple[int, int]:
    """What a warp does in one stage: atoms, then pieces it loads. Joining the parts along the depth costs about a stage's atoms."""
    down, across, deep = shares
    rows, columns = -(-_up(product.a.outer.count, ROWS) // ROWS // down), -(-_up(product.b.outer.count, COLUMNS) // COLUMNS // across)
    parts = step // DEPTH // deep
    return rows * columns * parts + (rows * columns if deep > 1 else 0), (2 * rows + columns) * parts


def _direct(product: Product) -> bool:
    return is_shared(product.a.buffer) or is_shared(product.b.buffer)
