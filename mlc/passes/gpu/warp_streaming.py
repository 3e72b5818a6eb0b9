"""The schedule of a task.stream on warps: whose rows a warp has, how many keys a step takes, and how factors lie in shared memory.

Any unit does whose sums are a factor of the next product in registers (`mlc.layout.chain`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import lcm

from mlc.ir.mlir import ir
from mlc.layout.chain import Chain
from mlc.passes.gpu.block import NARROW
from mlc.passes.gpu.contraction import Factor, Loops, joined, place_of
from mlc.passes.gpu.plan import PAD, Staged, is_shared, staged, up
from mlc.passes.gpu.unit import Unit, chained_units
from mlc.passes.task.flat import Memory
from mlc.passes.tile.model import element_bytes, volume
from mlc.target import Target

MOST_ROWS = 128  # of a block
MOST_WIDTH = 256  # of a head
STEPS = (64, 32, 16)  # keys of a stage
WARPS = 4  # that a block has before a warp takes more rows than an atom has
DOWN = (2, 1)  # atoms of rows of a warp: with two, what it reads of keys and values serves twice
REGISTERS, SPILLED = 255, 16  # of a thread; those that may spill where nothing else fits: a few cost less than rows of scores in memory
BESIDE, FRAGMENTS = 32, 8  # of them for addresses and the like; fragments of factors that are on their way at once
MOST_PAD = 8  # elements between rows of a factor that comes by cp.async


@dataclass(frozen=True)
class WarpShape:
    """rows, keys: real ones, of a block and of all steps. depth, width: of a head, padded to whole atoms. down: atoms of rows of a warp."""

    unit: Unit
    element_bytes: int
    rows: int
    keys: int
    depth: int
    width: int
    step: int
    stages: int
    warps: int
    down: int

    @property
    def chain(self) -> Chain:
        chain = self.unit.chain
        assert chain is not None
        return chain

    @property
    def threads(self) -> int:
        return self.unit.lanes * self.warps

    @property
    def height(self) -> int:
        """Rows of a block, with padding."""
        return self.warps * self.down * self.chain.queries

    @property
    def steps(self) -> int:
        return -(-self.keys // self.step)

    @property
    def registers(self) -> int:
        """Of a thread, but for the rows of q: sums, scores and what it brings of the next step."""
        own = self.down * self.chain.queries * (self.width + self.step) // self.unit.lanes
        carried = 0 if self.unit.streams else self.step * (self.depth + self.width) * self.element_bytes // (4 * self.threads)
        return own + carried + BESIDE + FRAGMENTS * self.unit.a.size * self.element_bytes // 4

    @property
    def held(self) -> bool:
        """Whether a thread keeps its fragments of q in registers; else it reads them in every step."""
        factor = self.unit.b if self.chain.transposed else self.unit.a
        bytes_ = self.down * self.depth // self.unit.depth * factor.size * self.element_bytes
        return self.registers + bytes_ // 4 <= REGISTERS

    def workspace(self, q: int, k: int, v: int) -> int:
        """Bytes of shared memory for tiles of so many elements: stages of k and v, and q beside them unless it is held."""
        ring = self.stages * (k + v)
        return self.element_bytes * (max(q, ring) if self.held else q + ring)

    @property
    def most_workspace(self) -> int:
        """Of any way that factors lie in memory."""
        def tile(outer: int, depth: int) -> int:
            pad = MOST_PAD if self.unit.streams else PAD // self.element_bytes
            return max((outer + pad) * depth, (depth + pad) * outer)

        return self.workspace(tile(self.height, self.depth), tile(self.step, self.depth), tile(self.width, self.step))


def warp_shape(unit: Unit | None, size: int, rows: int, keys: int, depth: int, width: int, budget: int) -> WarpShape | None:
    """How warps stream: rows of a block, keys of all steps, depth and width of a head, elements of `size` bytes; None where they cannot.

    Of what fits `budget` bytes of shared memory and the registers: most work per fragment read, then the longest steps, most stages.
    """
    if unit is None or unit.chain is None or not keys or rows > MOST_ROWS or max(depth, width) > MOST_WIDTH:
        return None
    block = lcm(*unit.atom.shape)
    deep, across, most = (up(n, block) for n in (depth, width, keys))
    for most_registers, down, step, stages in product((REGISTERS, REGISTERS + SPILLED), DOWN, STEPS, (2,) if unit.streams else (2, 1)):
        warps = -(-rows // (down * unit.chain.queries))
        shape = WarpShape(unit, size, rows, keys, deep, across, min(up(step, block), most), stages, warps, down)
        if (down > 1 and warps < WARPS) or shape.registers > most_registers or shape.most_workspace > budget:
            continue
        return shape
    return None


@dataclass(frozen=True)
class Tile:
    """A factor's part in shared memory: `outer` by `depth` points, with padding. moves: outer and depth points between steps of keys.

    points: which of an atom's depth points its instruction takes for each of its own (`Chain.depth_keys`).
    """

    factor: Factor
    outer: int
    depth: int
    moves: tuple[int, int]
    staged: Staged
    points: tuple[int, ...]


@dataclass(frozen=True)
class WarpStreaming:
    """The shape, and how the factors q, k and v lie in shared memory: their outer points are rows, keys and columns."""

    shape: WarpShape
    q: Tile
    k: Tile
    v: Tile

    @staticmethod
    def of(op: ir.Operation, shape: WarpShape, memory: Memory, alignment: Mapping[ir.Value, int]) -> "WarpStreaming":
        """The factors of a task.stream; alignment: bytes, of kernel arguments."""
        q, k, v = stream_factors(op, memory)

        def tile(factor: Factor, outer: int, depth: int, moves: tuple[int, int], points: Sequence[int]) -> Tile:
            own = staged(factor, shape.unit, outer, depth, alignment, shape.threads, points[1])
            assert own is not None, "a factor in shared memory"
            return Tile(factor, outer, depth, moves, own, tuple(points))

        order = range(shape.unit.depth)
        return WarpStreaming(shape, tile(q, shape.height, shape.depth, (0, 0), order),
                             tile(k, shape.step, shape.depth, (shape.step, 0), order),
                             tile(v, shape.width, shape.step, (0, shape.step), shape.chain.depth_keys))

    @property
    def atom(self) -> str:
        return self.shape.unit.atom.name

    @property
    def step(self) -> int:
        return self.shape.step

    @property
    def stages(self) -> int:
        return self.shape.stages

    @property
    def workers(self) -> int:
        return self.shape.threads

    @property
    def threads(self) -> int:
        return self.shape.threads

    @property
    def workspace(self) -> int:
        """Bytes of shared memory."""
        return self.shape.workspace(*(t.staged.size for t in (self.q, self.k, self.v)))


def stream_factors(op: ir.Operation, memory: Memory) -> tuple[Factor, Factor, Factor]:
    """The factors q with rows and depth, k with keys and depth, v with columns and keys."""
    extents, columns, offsets = op.opview.py("extents"), op.opview.py("columns"), list(op.operands)[3:]
    n = len(extents) - 2
    rows = [d for d in range(n) if d not in columns and extents[d] > 1]
    wide = [d for d in columns if extents[d] > 1]

    def factor(which: int, outer: Sequence[int], depth: Sequence[int]) -> Factor:
        start, strides = place_of(op.operands[which], op.attributes["maps"][which], offsets, len(extents), memory)
        loops = []
        for dims in (outer, depth):
            found = joined([d for d in dims if extents[d] > 1], extents, (strides,))
            loops.append(Loops(found.extents, found.strides[0]))
        return Factor(which, op.operands[which], start, *loops)

    return factor(0, rows, [n + 1]), factor(1, [n], [n + 1]), factor(2, wide, [n])


def choose_warps(op: ir.Operation, target: Target, budget: int, memory: Memory, alignment: Mapping[ir.Value, int]) -> WarpStreaming | None:
    """The schedule of a task.stream within `budget` bytes of shared memory; None where no unit takes it.

    alignment: bytes, of kernel arguments.
    """
    factors = list(op.operands)[:3]
    kind, *others = {str(f.type.element_type) for f in factors}
    if others or any(is_shared(f) or volume(f.type.shape) >= NARROW for f in factors):
        return None
    shape = warp_shape(chained_units(target).get(kind), element_bytes(factors[0]), *_sizes(op), budget)
    return None if shape is None else WarpStreaming.of(op, shape, memory, alignment)


def warp_plan(op: ir.Operation, target: Target, memory: Memory, alignment: Mapping[ir.Value, int]) -> WarpStreaming:
    """The schedule that a task.stream's attributes give."""
    unit, warps, step, stages = Unit.named(op.opview.py("atom"), target), *(op.opview.py(name) for name in ("warps", "step", "stages"))
    rows, keys, depth, width = _sizes(op)
    block = lcm(*unit.atom.shape)
    shape = WarpShape(unit, element_bytes(op.operands[0]), rows, keys, up(depth, block), up(width, block), step, stages, warps, 1)
    return WarpStreaming.of(op, replace(shape, down=-(-rows // shape.height)), memory, alignment)


def _sizes(op: ir.Operation) -> tuple[int, int, int, int]:
    """Rows, keys, depth and width of a task.stream."""
    *points, keys, depth = op.opview.py("extents")
    columns = op.opview.py("columns")
    rows, width = (volume([e for d, e in enumerate(points) if (d in columns) == mine]) for mine in (False, True))
    return rows, keys, depth, width


__all__ = ["Tile", "WarpShape", "WarpStreaming", "choose_warps", "warp_plan", "warp_shape"]
