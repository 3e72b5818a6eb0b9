"""Where the lanes of a warp find their parts of an atom's factors, and which of its sums they hold.

By ldmatrix and mma.sync a factor is pieces of 8 outer points by 16 bytes of depth, those of the left factor numbered outer points first,
those of the right one depth first (PTX ISA, fragments of mma.m16n8k32, k16 and k8). Waves read vectors along the depth.
"""

from collections.abc import Sequence

from mlc.ir.mlir import ir, vector
from mlc.layout.fragments import Term
from mlc.passes.gpu.block import WIDEST, delinearize
from mlc.passes.gpu.unit import Unit
from mlc.passes.task.flat import affine

Terms = list[tuple[ir.Value, int]]  # values and their factors, to be added up


# -- pieces -------------------------------------------------------------------------------------------------------------
def row_of_piece(lane: ir.Value, pieces: int, left: bool, by_depth: bool, size: int) -> tuple[Terms, Terms]:
    """The outer and the depth point at which the row begins whose address a lane gives to ldmatrix: row l % 8 of piece l // 8.

    by_depth: rows of memory are depth points, and ldmatrix transposes. size: bytes of an element.
    """
    piece, row = delinearize(lane, [4, 8])
    high, low = delinearize(piece, [2, 2])
    down, deep = (low, high) if left else (high, low)
    outer = [(down, 8)] if left or pieces == 4 else []  # of two pieces of the right factor none lies below the other
    depth = [(deep, WIDEST // size)]
    (depth if by_depth else outer).append((row, 1))
    return outer, depth


def corner_of_piece(number: int, left: bool) -> tuple[int, int]:
    """How many pieces lie before a piece along the outer points, and along the depth."""
    return (number % 2, number // 2) if left else (number // 2, number % 2)


# -- vectors ------------------------------------------------------------------------------------------------------------
def row_and_group(lane: ir.Value, unit: Unit) -> tuple[ir.Value, ir.Value]:
    """The outer point of a factor of which a lane holds a part, and which of the parts along the depth that is."""
    size = unit.a.size
    _, group, row = delinearize(lane, [unit.lanes * size // (unit.rows * unit.depth), unit.depth // size, unit.rows])
    return row, group


def read_fragments(memory: ir.Value, at: ir.Value, size: int, together: int, element_bytes: int) -> list[ir.Value]:
    """The fragments of `together` atoms, of `size` elements each, behind each other in memory: one read."""
    element, count = memory.type.element_type, size * together
    whole = vector.LoadOp(ir.VectorType.get([count], element), memory, [at], alignment=min(WIDEST, count * element_bytes)).result
    if together == 1:
        return [whole]
    own = ir.VectorType.get([size], element)
    return [vector.ExtractStridedSliceOp(own, whole, [k * size], [size], [1]).result for k in range(together)]


# -- sums ---------------------------------------------------------------------------------------------------------------
def lane_part(terms: Sequence[Term], lane: ir.Value, lanes: int) -> ir.Value:
    """What a lane adds to the row or column of its sums."""
    digits = [([lanes // (t.period * t.extent), t.extent, t.period], t.stride) for t in terms if t.source == "lane"]
    return affine(0, [(delinearize(lane, shape)[1], stride) for shape, stride in digits], narrow=True)


def element_part(terms: Sequence[Term], element: int) -> int:
    """What an element's number among a lane's sums adds to its row or column."""
    return sum(t.value(0, element) for t in terms if t.source == "element")
