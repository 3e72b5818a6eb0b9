"""choose-mapping on CPUs: what runs across the lanes of a vector, and the tile of sums that a product keeps in vector registers."""

from dataclasses import dataclass

from mlc.dialects._ext import to_attr
from mlc.ir.mlir import ir
from mlc.layout.mapping import TaskMap, repeat, spatial
from mlc.passes.task.body import Body, power_of_two
from mlc.passes.task.dot import as_foreach
from mlc.passes.task.flat import Memory
from mlc.passes.task.loops import nest_of
from mlc.passes.task.product import Product, product_of
from mlc.passes.tile.model import volume
from mlc.target import Target

DEPTH = 512  # reduction points per piece: a panel of 64 f32 columns is then 128 KiB, an eighth of a usual L2 cache
DEEP = 768  # reductions up to this deep are not cut
ROWS = 8  # fewer rows use a piece too seldom


@dataclass(frozen=True)
class Registers:
    """The vector unit: lanes of an f32 register, and how many registers there are."""

    lanes: int
    count: int

    @staticmethod
    def of(target: Target) -> "Registers":
        """AVX-512 has 32, vector units before it 16."""
        return Registers(target.vector_bits // 32, 32 if target.vector_bits >= 512 else 16)


def choose_lanes(kernel: ir.Operation, registers: Registers) -> None:
    """Gives each foreach a map and each product a register tile; products that have none become foreaches."""
    for view in list(kernel.regions[0].blocks[0].operations):
        op = view.operation
        if op.name == "task.mma" and not _choose_tile(op, registers):
            with op.location:
                foreach = as_foreach(op)
            op.erase()
            op = foreach
        if op.name == "task.foreach" and volume(op.opview.py("extents")):
            op.attributes["map"] = to_attr(map_of(Body(op, Memory()), registers.lanes))


# -- loops --------------------------------------------------------------------------------------------------------------
def map_of(body: Body, most: int) -> TaskMap:
    """Lanes along the last run of points if stores are contiguous there, unless a reduction walks memory better; at most `most`."""
    nest = nest_of(body)
    points = volume(list(nest.extents.values()))
    reductions = [(op.opview.py("extents"), list(op.regions[0].blocks[0].arguments), op.opview.py("combine")) for op in body.reductions]
    depth = max((volume(extents) for extents, _, _ in reductions), default=1)
    stores = [a for op, a in body.accesses.items() if op.name == "task.store"]
    loads = [a for op, a in body.accesses.items() if op.name == "task.load"]
    if body.loops:
        return repeat(max(points, 1), max(depth, 1))
    last = nest.dims[-1] if nest.dims and all(a.stride(nest.dims[-1]) == 1 for a in stores) else None
    bad = sum(a.stride(last) not in (0, 1) for a in loads) if last is not None else len(loads) + 1
    if reductions and bad and min(extents[-1] for extents, _, _ in reductions) > 1 and all(all(names) for _, _, names in reductions):
        worse = sum(a.stride(indices[len(extents) - 1]) not in (0, 1) for a in loads for extents, indices, _ in reductions)
        if worse < bad:
            extents = max((extents for extents, _, _ in reductions), key=lambda e: e[-1])
            lanes = power_of_two(min(most, extents[-1]))
            steps = max(volume(e) // e[-1] * -(-e[-1] // lanes) for e, _, _ in reductions)
            return repeat(max(points, 1), steps) * spatial(1, lanes)
    if last is None:
        return repeat(max(points, 1), max(depth, 1))
    lanes = power_of_two(min(most, nest.extents[last]))
    vectors = points // nest.extents[last] * -(-nest.extents[last] // lanes)
    return repeat(vectors, max(depth, 1)) * spatial(lanes, 1)


# -- products -----------------------------------------------------------------------------------------------------------
def _choose_tile(op: ir.Operation, registers: Registers) -> bool:
    product = product_of(op)
    if product is None:
        return False
    lanes = registers.lanes * 32 // op.operands[2].type.element_type.width
    while lanes > product.extents[product.column]:
        lanes //= 2
    lanes = max(lanes, 1)
    step = _piece(product, lanes)
    rows, vectors = _tile(product.rows, product.width, lanes, registers.count, exact=step is not None)
    op.attributes["registers"] = to_attr([rows, vectors, lanes])
    if step is not None:
        op.attributes["step"] = to_attr(step)
    return True


def _piece(product: Product, lanes: int) -> int | None:
    """Reduction points of the pieces that a deep reduction is cut into, or None: it is not cut."""
    rows = product.rows * volume([product.extents[d] for d in product.others])
    if product.depth <= DEEP or rows < ROWS or product.width % lanes or not product.resumable:
        return None
    inside = 1
    for d in reversed(product.folded):
        extent = product.extents[d]
        if inside * extent > DEPTH:
            parts = -(-inside * extent // DEPTH)
            even = next((p for p in range(parts, 2 * parts) if extent % p == 0), parts)
            return inside * -(-extent // even)
        inside *= extent
    return None


def _tile(m: int, n: int, lanes: int, registers: int, exact: bool) -> tuple[int, int]:
    """(rows, vectors) of a register tile: as square as the registers allow. exact: columns must divide.

    Beside the sums, a row of vectors of the column factor and one broadcast element of the other want registers: with less, sums spill.
    """
    fitting = max(1, n // lanes)
    best, best_score = (1, 1), -1.0
    for vectors in (1, 2, 3, 4, 6, 8):
        most = (registers - 1) // vectors - 1
        if vectors > fitting or most < 1 or (exact and n % (vectors * lanes)):
            continue
        parts = -(-m // most)
        height = m / parts  # in the mean
        done_twice = -(-n // (vectors * lanes)) * vectors * lanes / n
        # Loads per multiply-add: a vector per column block and a broadcast per row.
        score = min(1.0, vectors * height / 8) / ((1 / height + 1 / vectors + 0.6) * done_twice)
        if score > best_score:
            best, best_score = (-(-m // parts), vectors), score
    return best
