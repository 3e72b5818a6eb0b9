"""tile: future kernels. A `tile.graph` is one grid of blocks whose body says what to compute in linalg on tensors.

Canonical body: every op is a `linalg.generic` whose loops are the result's dimensions in order followed by reduction dimensions, so its
output map is the identity on the leading loops; reductions start from a `linalg.fill`. Such graphs can be merged (connect) and tiled.
A graph with any other op inside (scf loops, tensor.insert) is *opaque*: it is legal, never merged, and lowered by bufferisation.

Attributes that passes add (law 1: the schedule stands in the IR):
  tile.sizes   on tile.graph: tile size per grid dimension of the root op (the last generic)
  tile.rounds  on a linalg op: rounding its result to the element type is what it is for, so it must happen (an explicit conversion)
  tile.level   on a linalg op: where its result lives inside the block: "register" (inlined into its readers), "shared", "global",
               or "stream" on the ops that become one task.stream (`passes/tile/stream.py`): nowhere whole
"""

from mlc.dialects._ext import OpBase, Operand, Operands, Region, Result, Results, VerifyError, dialect
from mlc.ir.mlir import ir

Tile = dialect("tile", "Future kernels: tile graphs on tensors of storage types.")


class TileOp(OpBase):
    """Base of tile ops."""

    dialect = Tile


class YieldOp(TileOp, name="yield"):
    """Ends a tile.graph body with the values that leave the kernel.

    Example: "tile.yield"(%y) : (tensor<4xf32>) -> ()
    """

    pure = False
    values: Operands


class GraphOp(TileOp, name="graph"):
    """One future kernel. Operands enter as block arguments of equal type; `tile.yield` gives the results.

    Example:
      %r = "tile.graph"(%x) ({
      ^bb0(%a: tensor<4xf32>):
        %e = tensor.empty() : tensor<4xf32>
        %y = linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>], iterator_types = ["parallel"]}
               ins(%a : tensor<4xf32>) outs(%e : tensor<4xf32>) {
        ^bb1(%v: f32, %out: f32):
          %n = arith.negf %v : f32
          linalg.yield %n : f32
        } -> tensor<4xf32>
        "tile.yield"(%y) : (tensor<4xf32>) -> ()
      }) : (tensor<4xf32>) -> tensor<4xf32>
    """

    inputs: Operands
    outs: Results
    body: Region

    def check(self) -> None:
        op = self
        if len(op.regions[0].blocks) != 1:
            raise VerifyError("must have one block")
        block = op.regions[0].blocks[0]
        found, expected = [a.type for a in block.arguments], [v.type for v in op.operation.operands]
        if found != expected:
            raise VerifyError(f"block arguments {list(map(str, found))} must have the operands' types {list(map(str, expected))}")
        ops = list(block.operations)
        if not ops or ops[-1].operation.name != "tile.yield":
            raise VerifyError("body must end in tile.yield")
        found, expected = [v.type for v in ops[-1].operation.operands], [v.type for v in op.operation.results]
        if found != expected:
            raise VerifyError(f"yields {list(map(str, found))} but has results {list(map(str, expected))}")


class ViewOp(TileOp, name="view"):
    """The same bytes under another static shape (row-major); costs nothing.

    Example: %r = "tile.view"(%x) : (tensor<2x3xf32>) -> tensor<6xf32>
    """

    x: Operand
    y: Result

    def check(self) -> None:
        source, target = self.operation.operands[0].type, self.operation.results[0].type
        if not (isinstance(source, ir.RankedTensorType) and isinstance(target, ir.RankedTensorType)):
            raise VerifyError(f"needs ranked tensors, got {source} and {target}")
        if source.element_type != target.element_type or _count(source) != _count(target):
            raise VerifyError(f"must keep element type and count, got {source} and {target}")


class MapOp(TileOp, name="map"):
    """Inside a tile.graph: x is y stored in panels of `width` columns, [panel][k...][column], where dimension `columns` of y has columns
    and k... are its other dimensions in the order `order`. Columns come in groups of `group`, what one block reads. The last panel of a
    group is moved back inside it where it is not whole, and so is the last group. Free: it only says how y is addressed.

    Example: %w = "tile.map"(%p) {width = 16, columns = 1, order = [0], group = 32} : (tensor<4x8x16xf32>) -> tensor<8x64xf32>
    """

    x: Operand
    y: Result
    width: int
    columns: int
    order: list
    group: int

    def check(self) -> None:
        source, target = self.operation.operands[0].type, self.operation.results[0].type
        shape, n = list(target.shape), self.columns
        if not 0 <= n < len(shape) or sorted([n, *self.order]) != list(range(len(shape))) or not 0 < self.width <= self.group <= shape[n]:
            raise VerifyError(f"has columns {n}, order {self.order}, panels of {self.width} in groups of {self.group} for {target}")
        panels = -(-shape[n] // self.group) * -(-self.group // self.width)
        stored = [panels, *(shape[d] for d in self.order), self.width]
        if source.element_type != target.element_type or list(source.shape) != stored:
            raise VerifyError(f"stores {target} as {stored}, got {source}")


class WeightOp(TileOp, name="weight"):
    """A constant that lives outside the IR, in storage type; `key` is its name in the WeightStore.

    Example: %w = "tile.weight"() {key = "fc.weight"} : () -> tensor<10x4xf32>
    """

    key: str
    y: Result


def _count(type_: ir.RankedTensorType) -> int:
    n = 1
    for d in type_.shape:
        n *= d
    return n
