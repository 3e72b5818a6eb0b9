"""The schedule of a matrix product on FMA units: each lane holds a tile of sums, factors come through stages laid out by depth.

In a stage a row is one depth point ([depth][outer]), so a lane reads what it needs of it as vectors, whatever the factor is like in memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from mlc.ir.mlir import ir
from mlc.layout.fma import FmaAtom
from mlc.passes.gpu.block import WIDEST
from mlc.passes.gpu.contraction import Factor, Product
from mlc.passes.gpu.plan import IN_FLIGHT, MOST_STAGES, Staged, is_shared
from mlc.passes.tile.model import element_bytes, volume
from mlc.target import Target

STEPS = (32, 16, 8)  # depth points of a stage
LARGE_STAGE = 12 << 10  # bytes of a stage beyond which a shorter one serves as well
RING_POINTS = 48  # depth points of all stages together, for the price
THREADS = (256, 128, 512)  # of a block: best, where several are equal, is the first
LANES, LINE = 128, 128  # FMA units of an SM; bytes that shared memory gives at once
ROOMY_SUMS, MOST_SUMS = 64 * 256, 128  # of a block, so many that two blocks share an SM; of a lane
EXTENTS = (1, 2, 4, 8, 16)  # of a lane's tile
FLOATS = ("f16", "bf16", "f32", "f64")


@dataclass(frozen=True)
class Rows(Staged):
    """A factor's part of a stage: [depth][outer].

    turned: memory has the depth contiguous, so neighbouring threads copy neighbouring depth points. asynchronous: by cp.async.
    """

    turned: bool = False
    asynchronous: bool = False


class Shape(NamedTuple):
    """How warps [rows, columns, depth] share a product, and what each lane of them does."""

    warps: tuple[int, int, int]
    atom: FmaAtom

    @property
    def rows(self) -> int:
        return self.warps[0] * self.atom.shape[0]

    @property
    def columns(self) -> int:
        return self.warps[1] * self.atom.shape[1]


@dataclass(frozen=True)
class FmaPlan:
    """A warp's tile is one atom. step: depth points of a stage."""

    product: Product
    shape: Shape
    step: int
    stages: int
    left: Rows
    right: Rows

    @staticmethod
    def of(product: Product, shape: Shape, step: int, stages: int, alignment: Mapping[ir.Value, int], target: Target) -> "FmaPlan":
        """The plan of a schedule; alignment: bytes, of kernel arguments (block buffers are aligned to 128)."""
        left, right = (_rows(factor, outer, step, alignment, target)
                       for factor, outer in ((product.a, shape.rows), (product.b, shape.columns)))
        return FmaPlan(product, shape, step, stages, left, right)

    @property
    def warps(self) -> tuple[int, int, int]:
        return self.shape.warps

    @property
    def warp_rows(self) -> int:
        return self.shape.atom.shape[0]

    @property
    def warp_columns(self) -> int:
        return self.shape.atom.shape[1]

    @property
    def threads(self) -> int:
        return volume(self.warps) * volume(self.shape.atom.lanes)

    @property
    def steps(self) -> int:
        return -(-self.product.a.depth.count // self.step)

    @property
    def stage_bytes(self) -> int:
        return sum(s.size * element_bytes(f.buffer) for s, f in ((self.left, self.product.a), (self.right, self.product.b)))

    @property
    def shares(self) -> bool:
        """Sums never take the place of the stages."""
        return False

    @property
    def workspace(self) -> int:
        """Bytes of shared memory: the stages, later the parts of the warps along the depth."""
        parts = (self.warps[2] - 1) * self.shape.rows * self.shape.columns * element_bytes(self.product.c.buffer)
        return max(self.stages * self.stage_bytes, parts)


def _rows(factor: Factor, outer: int, step: int, alignment: Mapping[ir.Value, int], target: Target) -> Rows:
    size = element_bytes(factor.buffer)
    vector = factor.vector(factor.outer, factor.depth, alignment.get(factor.buffer, 128))
    vector = min(vector, outer & -outer)
    turned = vector == 1 and factor.depth.contiguous
    pitch = outer + WIDEST // size
    pitch += -pitch % (WIDEST // size)
    asynchronous = target.has("cp.async") and not is_shared(factor.buffer) and vector * size >= 4
    return Rows(True, vector, pitch, pitch * step, turned=turned, asynchronous=asynchronous)


def fma_product(product: Product | None, c: ir.Value) -> bool:
    """Whether register tiles serve: floats, sums no narrower than the factors, and rows and columns that are not batches."""
    if product is None or str(c.type.element_type) not in ("f32", "f64"):
        return False
    kinds = [f.buffer.type.element_type for f in (product.a, product.b)]
    # Neighbours in memory are a batch's products (a depthwise convolution): threads load them side by side, a tile would be one of many.
    apart = any(extent > 1 and a == b == 1 for extent, a, b, _ in product.batch)
    narrow = all(str(k) in FLOATS and k.width <= c.type.element_type.width for k in kinds)
    return narrow and not apart and worthwhile(product.a.outer.count, product.b.outer.count)


def worthwhile(rows: int, columns: int) -> bool:
    """Whether sharing factors among lanes saves loads: vectors times matrices are done as well by loops."""
    return min(rows, columns) >= 4


def shapes(rows: int, columns: int, warps: int, warp: int, deepest: int) -> list[Shape]:
    """Ways in which `warps` warps of `warp` lanes cover a tile once, with at most `deepest` of them along the depth."""
    found = []
    for down in _powers(warps):
        for across in _powers(warps // down):
            deep = warps // (down * across)
            if deep > deepest:
                continue
            for lanes in _powers(warp):
                grid = (lanes, warp // lanes)
                tile = tuple(next((e for e in EXTENTS if n * lane * e >= extent), 0)
                             for n, lane, extent in ((down, grid[0], rows), (across, grid[1], columns)))
                if all(tile) and volume(tile) <= MOST_SUMS:
                    found.append(Shape((down, across, deep), FmaAtom(grid, (tile[0], tile[1]))))
    return found


def cycles(shape: Shape, size: int) -> float:
    """What one depth point of a tile takes of an SM: of its FMA units or of its shared memory. size: bytes of an element.

    A warp's load takes a turn of shared memory for each 128 bytes that lanes do not share, and most of one more; a copy takes two.
    """
    threads, loads = volume(shape.warps) * volume(shape.atom.lanes), [-(-t * size // WIDEST) for t in shape.atom.tile]
    issue = max(1.0, threads / LANES) * (shape.atom.sums + sum(loads))
    shared = threads / 32 * sum(n * (1 + lanes * WIDEST / LINE) for n, lanes in zip(loads, shape.atom.lanes))
    crowded = 1.0 if shape.atom.sums * threads <= ROOMY_SUMS else 1.15
    both = (max(issue, shared) + min(issue, shared) / 4) * crowded / shape.warps[2]
    return both + (shape.rows + shape.columns) * size / LINE * 2


def best_shape(rows: int, columns: int, warps: int, warp: int, depth: int, size: int) -> tuple[Shape, float] | None:
    """The shape that takes the fewest cycles per depth point, and how many. Joining parts of the depth costs as much as several points."""
    def price(shape: Shape) -> float:
        return cycles(shape, size) + (shape.atom.sums * 8 * shape.warps[2] / max(depth, 1) if shape.warps[2] > 1 else 0.0)

    found = shapes(rows, columns, warps, warp, max(1, min(8, depth // 4)))
    if not found:
        return None
    best = min(found, key=price)
    return best, price(best)


def choose_fma(product: Product, warps: int, alignment: Mapping[ir.Value, int], budget: int, target: Target) -> FmaPlan | None:
    """The plan for a number of warps whose workspace fits in `budget` bytes; None if there is none."""
    size = max(element_bytes(f.buffer) for f in (product.a, product.b))
    depth = product.a.depth.count
    found = best_shape(product.a.outer.count, product.b.outer.count, warps, target.warp, depth, size)
    if found is None:
        return None
    shape = found[0]
    for step in STEPS:
        if step < shape.warps[2] or (step > STEPS[-1] and step >= 2 * depth):
            continue
        one = FmaPlan.of(product, shape, step, 1, alignment, target)
        if step > 16 and one.stage_bytes > LARGE_STAGE:
            continue
        for stages in _stages(one, -(-depth // step)):
            plan = FmaPlan.of(product, shape, step, stages, alignment, target)
            if plan.workspace <= budget:
                return plan
    return None


def _stages(one: FmaPlan, steps: int) -> Sequence[int]:
    """Numbers of stages to try, the best first."""
    if not (one.left.asynchronous or one.right.asynchronous):
        return (2,)  # what is on its way stays in registers
    wanted = min(MOST_STAGES, max(3, -(-IN_FLIGHT // one.stage_bytes) + 1), steps + 1)
    return range(max(wanted, 2), 1, -1)


@cache
def fma_cycles(rows: int, columns: int, warp: int, depth: int, size: int) -> float | None:
    """What one depth point of a tile takes of an SM, in cycles, with as many warps as are best; None where register tiles do not serve.

    depth: points of the reduction; size: bytes of an element.
    """
    if not worthwhile(rows, columns):
        return None
    found = [best_shape(rows, columns, n // warp, warp, depth, size) for n in THREADS]
    return min((cycles for _, cycles in (f for f in found if f is not None)), default=None)


def fma_warps(products: Sequence[Product], warp: int) -> int:
    """How many warps do these products best."""
    def price(warps: int) -> float:
        found = [best_shape(p.a.outer.count, p.b.outer.count, warps, warp, p.a.depth.count, element_bytes(p.a.buffer)) for p in products]
        return sum(f[1] for f in found if f is not None) + 1e9 * sum(f is None for f in found)

    return min((n // warp for n in THREADS), key=price)  # of equals the first


def _powers(most: int) -> list[int]:
    return [1 << i for i in range(most.bit_length())]


__all__ = ["FLOATS", "RING_POINTS", "FmaPlan", "Rows", "Shape", "choose_fma", "fma_cycles", "fma_product", "fma_warps"]
