"""choose-mapping on CPUs: what runs across the lanes of a vector, and the tile of sums that a product keeps in vector registers."""

from mlc.dialects._ext import to_attr
from mlc.ir.mlir import ir
from mlc.layout.mapping import TaskMap, repeat, spatial
from mlc.layout.registers import Registers, register_tile
from mlc.passes.task.body import Body, power_of_two
from mlc.passes.task.dot import as_foreach
from mlc.passes.task.finish import finishes, foreach_behind
from mlc.passes.task.flat import Memory
from mlc.passes.task.loops import nest_of
from mlc.passes.task.product import Product, product_of
from mlc.passes.tile.model import volume

DEPTH = 512  # reduction points per piece: a panel of 64 f32 columns is then 128 KiB, an eighth of a usual L2 cache
DEEP = 768  # reductions up to this deep are not cut
ROWS = 8  # fewer rows use a piece too seldom


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
    tile = register_tile(product.rows, product.width, lanes, registers.count, exact=step is not None)
    op.attributes["registers"] = to_attr([tile.rows, tile.vectors, lanes])
    if step is not None:
        op.attributes["step"] = to_attr(step)
        return True
    foreach, between = foreach_behind(op)
    if foreach is not None and lanes > 1 and finishes(op, foreach, product):
        for other in between:
            other.move_before(op)
        op.attributes["finish"] = to_attr(True)
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
