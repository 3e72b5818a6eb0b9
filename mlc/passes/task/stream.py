"""A streamed node as a task.stream: its factors become operands, what happens to scores and to results two scalar regions."""

from collections.abc import Mapping, Sequence

from mlc.dialects import task
from mlc.ir.affine import from_linear
from mlc.ir.mlir import arith, ir
from mlc.layout.linear import Linear
from mlc.passes.task.kernel import KernelEmitter
from mlc.passes.tile.body import arguments_of
from mlc.passes.tile.model import Node, Read
from mlc.passes.tile.region import Region
from mlc.passes.tile.stream import Stream, scaling


class StreamEmitter(KernelEmitter):
    """Builds a kernel, streamed nodes among its nodes."""

    def __init__(self, graph: ir.Operation, nodes: Sequence[Node], tile: Sequence[int], regions: Mapping[Node, Region],
                 inlined: Mapping[Node, bool], name: str) -> None:
        super().__init__(graph, nodes, tile, regions, inlined, name)
        self.given: dict[ir.Value, ir.Value] = {}  # tensors of which the point at hand has the element

    def _node(self, node: Node) -> None:
        if node.stream is None:
            super()._node(node)
            return
        for source in (*node.stream.between, *node.stream.tail[:-1]):  # computed where they are read
            self.producer[source.results[0]] = source
            self.inlined = {**self.inlined, source: True}
        self._stream(node, node.stream)

    def _read(self, read: Read, coordinates: Sequence[Linear], indices: Sequence[ir.Value]) -> ir.Value:
        if read.value in self.given:
            return self.given[read.value]
        return super()._read(read, coordinates, indices)

    def _stream(self, node: Node, stream: Stream) -> None:
        at, n = self.regions[node], len(node.shape)
        targets = self._targets(node, at)
        keep = [*range(n + 2), *[n + 2 + i for i, o in enumerate(self.offsets) if o is not None]]

        def attribute(places: Sequence[Linear]) -> ir.Attribute:
            kept = [Linear(tuple(e.coefficients[i] for i in keep), e.const) for e in places]
            return ir.AffineMapAttr.get(from_linear(kept, len(keep)))

        variables = self._variables(at, n + 2)
        factors = [self._through_copies(r, node.loops) for r in node.reads[:3]]
        maps = [attribute(self._localise(r.value, [e.compose(variables, len(variables[0].coefficients)) for e in r.indices],
                                         len(variables[0].coefficients))) for r in factors]
        seen = attribute([e.compose(variables, len(variables[0].coefficients)) for e in stream.seen])
        op = task.StreamOp.build([*[self._buffer(r.value) for r in factors], *[o for o in self.offsets if o is not None]], [], {
            "extents": [*at.extents, *node.over], "columns": list(stream.columns), "maps": maps, "seen": seen})
        scale = self._score(op.operation.regions[0], stream, at)
        if scale != 1.0:
            op.operation.attributes["scale"] = ir.FloatAttr.get_f64(scale)
        self._result(op.operation.regions[1], node, stream, at, targets)

    def _variables(self, at: Region, loops: int) -> list[Linear]:
        """The node's loops (points, key, depth) over `loops` of the region's indices and the block offsets; those left out are 0."""
        n = len(at.extents)
        count = loops + len(self.tile)
        points = [self._coordinate(Linear.variable(i, count), at.offsets[i], loops) for i in range(n)]
        return points + [Linear.variable(i, count) if i < loops else Linear.constant(0, count) for i in (n, n + 1)]

    def _coordinates(self, stream: Stream, node: Node, at: Region, loops: int) -> list[Linear]:
        variables = self._variables(at, loops)
        return [e.compose(variables, len(variables[0].coefficients)) for e in stream.places[node]]

    # -- regions ----------------------------------------------------------------------------------------------------
    def _score(self, region: ir.Region, stream: Stream, at: Region) -> float:
        """Emits what becomes of a product before the exponential, but for what `seen` says; returns the factor taken out of it."""
        n, f32 = len(at.extents), ir.F32Type.get()
        block = region.blocks.append(*[ir.IndexType.get()] * (n + 1), f32)
        *indices, product = block.arguments
        scale = 1.0
        with ir.InsertionPoint(block):
            self.constants, self.given = {}, {stream.scores.results[0]: product}
            x = product
            if stream.between:
                last = stream.between[-1]
                x = self._body(last, self._coordinates(stream, last, at, n + 1), indices, [])[0]
            if stream.seen:
                x = x.owner.operands[1]
            if (found := _factor(x)) is not None:
                scale, x = found
            if x.type != f32:
                x = arith.ExtFOp(f32, x).result
            task.YieldOp.build([x], [])
            self.given = {}
        _drop_unused(block)
        return scale

    def _result(self, region: ir.Region, node: Node, stream: Stream, at: Region, targets: Sequence[tuple[ir.Value, bool]]) -> None:
        n, f32 = len(at.extents), ir.F32Type.get()
        block = region.blocks.append(*[ir.IndexType.get()] * n, f32, f32)
        *indices, value, total = block.arguments
        with ir.InsertionPoint(block):
            self.constants, self.given = {}, {stream.total.results[0]: total}
            if stream.normal is not None:
                value = self._normalised(value, stream, at, indices)
            values = [value]
            if stream.tail:
                self.given[stream.second.results[0]] = value
                values = self._body(stream.last, self._coordinates(stream, stream.last, at, n), indices, [])
            self.given = {}
            for v, (target, is_global) in zip(values, targets, strict=True):
                self._access(task.StoreOp, [v, target], self._place(at, is_global, n), indices)
            task.YieldOp.build([], [])

    def _normalised(self, value: ir.Value, stream: Stream, at: Region, indices: Sequence[ir.Value]) -> ir.Value:
        """The weighted sum divided (or multiplied) by what the weights were."""
        node = stream.normal
        assert node is not None
        name, factor = scaling(stream)
        coordinates = self._coordinates(stream, node, at, len(indices))
        inside = {v for part in stream.nodes if part is not stream.total for v in part.results}
        env = {a: self._read(r, coordinates, indices) for a, r in arguments_of(node).items() if r.value not in inside}
        factor = _copied(factor, env)
        if name == "arith.divf":
            factor = arith.DivFOp(arith.ConstantOp(factor.type, 1.0).result, factor).result
        return arith.MulFOp(value, factor).result


def _copied(value: ir.Value, env: Mapping[ir.Value, ir.Value]) -> ir.Value:
    """A scalar expression at the insertion point, its leaves replaced."""
    if value in env:
        return env[value]
    operands = [_copied(v, env) for v in value.owner.operands]
    copy = value.owner.clone()
    for i, v in enumerate(operands):
        copy.operands[i] = v
    return copy.results[0]


def _factor(value: ir.Value) -> tuple[float, ir.Value] | None:
    """(c, x) where a value is x times a positive constant c."""
    op = value.owner
    if isinstance(op, ir.Block) or op.name != "arith.mulf":
        return None
    for x, c in (tuple(op.operands), tuple(op.operands)[::-1]):
        if not isinstance(c.owner, ir.Block) and c.owner.name == "arith.constant" and (number := c.owner.attributes["value"].value) > 0:
            return number, x
    return None


def _drop_unused(block: ir.Block) -> None:
    """Erases ops whose results nobody uses; what the block does is to yield."""
    for view in reversed(list(block.operations)):
        op = view.operation
        if op.results and all(next(iter(r.uses), None) is None for r in op.results):
            op.erase()


__all__ = ["StreamEmitter"]
