"""Where the elements of a tensor come from: through permutations, and zeros around a tensor, that graphs of their own make."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlc.dialects._build import Builder, Tensor
from mlc.dtypes import BY_NAME
from mlc.ir.mlir import ir
from mlc.ir.scalar import Scalar, compute_dtype, select
from mlc.passes.tile.model import Node, body_nodes


@dataclass(frozen=True)
class Origin:
    """A tensor whose elements are those of `source`, or zero where that has none.

    dims: per dimension of the source, which one of the tensor it is. low: zeros in front of it. open: whether places may lie outside.
    graphs: what makes the tensor from the source, the last one first.
    """

    source: ir.Value
    dims: tuple[int, ...]
    low: tuple[int, ...]
    open: tuple[bool, ...]
    graphs: tuple[ir.Operation, ...] = ()

    def element(self, b: Builder, places: Sequence[Scalar]) -> Scalar:
        """The element at these indices of the tensor, in a body that may load from the source."""
        dtype = BY_NAME[str(self.source.type.element_type)]
        inside: Scalar | None = None
        at = []
        for dim, low, is_open, size in zip(self.dims, self.low, self.open, self.source.type.shape):
            place = places[dim] - low if low else places[dim]
            if is_open:
                own = (place >= 0) & (place < size) if low else place < size
                inside = own if inside is None else inside & own
                place = (place.max(0) if low else place).min(size - 1)
            at.append(place)
        value = b.load(Tensor(self.source, dtype), at)
        return value if inside is None else select(inside, value, b.constant(0, compute_dtype(dtype)))


def origin_of(value: ir.Value, open_dims: Sequence[int]) -> Origin:
    """The origin of a tensor that is read beyond the ends of its dimensions `open_dims`, where it counts as zero."""
    rank = len(value.type.shape)
    found = Origin(value, tuple(range(rank)), (0,) * rank, tuple(d in open_dims for d in range(rank)))
    while (node := _moved(found.source)) is not None:
        graph = found.source.owner
        inner = (node.captures or [r.value for r in node.reads])[0]
        graphs, source = (*found.graphs, graph), graph.operands[inner.arg_number]
        if node.pad is not None:
            padded = [n != m for n, m in zip(node.shape, inner.type.shape)]
            low = tuple(a + b for a, b in zip(found.low, node.pad))
            found = Origin(source, found.dims, low, tuple(a or b for a, b in zip(found.open, padded)), graphs)
            continue
        order = [e.only() for e in node.reads[0].indices]
        if None in order or sorted(order) != list(range(rank)):  # type: ignore[type-var]
            break
        dims, low, opened = (tuple(values[v] for v in order) for values in (found.dims, found.low, found.open))  # type: ignore[index]
        found = Origin(source, dims, low, opened, graphs)  # type: ignore[arg-type]
    return found


def _moved(value: ir.Value) -> Node | None:
    """The node that makes a value by padding or movement, alone in its graph."""
    if isinstance(value.owner, ir.Block) or value.owner.name != "tile.graph":
        return None
    nodes = body_nodes(value.owner)
    return nodes[0] if nodes is not None and len(nodes) == 1 and (nodes[0].pad is not None or nodes[0].copies) else None


__all__ = ["Origin", "origin_of"]
