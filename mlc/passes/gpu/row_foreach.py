"""A task.foreach of a kernel's rows on a GPU: straight code for a thread's vectors, which it keeps in registers for the ops to come."""

from collections.abc import Iterator, Sequence
from itertools import product

from mlc.ir.mlir import arith, ir, vector
from mlc.passes.gpu.block import Block, delinearize
from mlc.passes.gpu.foreach import POINTS, REDUCED, MappedForeach, below, shuffled
from mlc.passes.task.body import KINDS, Lanes, combine, neutral
from mlc.passes.task.flat import index_constant, splat
from mlc.passes.tile.model import element_bytes, volume

AHEAD = 96  # bytes that a thread loads before it comes to them
STRAIGHT = 8  # steps of a thread's own reduction that are not a loop


class RowForeach(MappedForeach):
    """Emits one foreach of the rows at the insertion point, for all threads of the block.

    Where the map covers more than the box, a thread does the last vector again instead of none: loads stay inside, stores are left out.
    `key`: which of its rows, and in it which of its vectors, a thread is at; register buffers hold a value per key.
    """

    def __init__(self, foreach: ir.Operation, team: Block) -> None:
        super().__init__(foreach, team)
        points, dims = list(self.extents), foreach.opview.py("columns")
        self.rows = [v for d, v in enumerate(points) if d not in dims]
        self.along: ir.Operation | None = None  # the reduction over columns
        if dims or not self.reductions or self.map.shape[REDUCED] == 1:
            self.columns = {points[d]: self.extents[points[d]] for d in dims}
        else:
            self.along = self.reductions[0]
            extents = self.along.opview.py("extents")
            self.columns = dict(zip(self.along.regions[0].blocks[0].arguments, extents))
        self.key: tuple[int, ...] = ()
        self.ahead: dict[tuple[ir.Operation, tuple[int, ...]], ir.Value] = {}  # what a load gives, by the vector's key

    def emit(self) -> None:
        extents = [self.extents[v] for v in self.rows]
        for i, (row, valid) in enumerate(self._places(POINTS, volume(extents))):
            env = {**self.team.env, **dict(zip(self.rows, delinearize(row, extents)))}
            if self.along is not None or not self.columns:
                self.key, self.guard = (i,), _both(valid, self._first())
                self.ops(self.block, self._lanes_of(POINTS, self.rows), env)
                continue
            points = list(self._column_points())
            envs, lanes = [{**env, **inside} for inside, _ in points], self._own_lanes()
            for j, (_, within) in enumerate(points):
                self._load_ahead(i, j, envs, lanes)
                self.key, self.guard = (i, j), _both(_both(valid, within), self._working())
                self.ops(self.block, lanes, envs[j])

    def _load_ahead(self, i: int, j: int, envs: Sequence[dict[ir.Value, ir.Value]], lanes: Lanes) -> None:
        """Emits the loads from memory of the vectors after `j`: behind its stores, the assembler would leave them there."""
        loads = [v.operation for v in self.block.operations if v.operation.name == "task.load"]
        loads = [op for op in loads if op.operands[0] not in self.team.registers]
        each = lanes.count * sum(element_bytes(op.operands[0]) for op in loads)
        for k in range(j, min(len(envs), j + 1 + max(1, AHEAD // max(each, 1)))):
            for op in loads:
                if (op, (i, k)) not in self.ahead:
                    self.ahead[op, (i, k)] = super()._load(op, lanes, envs[k])

    def _own_lanes(self) -> Lanes:
        own = self._lanes_of(REDUCED, list(self.columns))
        return own if own.count > 1 else self._lanes_of(POINTS, self.rows)

    def _lanes_of(self, dim: int, loops: Sequence[ir.Value]) -> Lanes:
        """The lanes along a dimension of the map: those of its last loop that moves."""
        if self.vector is None or self.vector.dim != dim:
            return Lanes(None, 1)
        extents = {**self.extents, **self.columns}
        return Lanes(next(v for v in reversed(loops) if extents[v] > 1), self.vector.extent)

    def _column_points(self) -> Iterator[tuple[dict[ir.Value, ir.Value], ir.Value | None]]:
        """For each of the thread's vectors: the column loops' values, and whether the vector is in the box (None: always)."""
        extents = list(self.columns.values())
        for column, valid in self._places(REDUCED, volume(extents)):
            yield dict(zip(self.columns, delinearize(column, extents))), valid

    def _places(self, dim: int, count: int) -> Iterator[tuple[ir.Value, ir.Value | None]]:
        """The thread's indices along a dimension of the map, kept inside of the box, and whether they were (None: always)."""
        own, repeats = self._own(dim), self._repeats(dim)
        width = self.vector.extent if self.vector is not None and self.vector.dim == dim else 1
        for steps in product(*[range(d.extent) for d in repeats]):
            ahead = sum(s * d.stride for s, d in zip(steps, repeats))
            at = arith.AddIOp(own, index_constant(ahead)).result if ahead else own
            if self.map.shape[dim] > count:
                yield arith.MinUIOp(at, index_constant(count - width)).result, below(at, count)
            else:
                yield at, None

    def _working(self) -> ir.Value | None:
        """Whether the thread is one of the map's workers."""
        return below(self.team.thread, self.map.workers) if self.map.workers < self.team.threads else None

    def _first(self) -> ir.Value | None:
        """Whether the thread is the one that stores what all that share its row have."""
        if self.sharing == 1:
            return self._working()
        first = arith.CmpIOp(arith.CmpIPredicate.eq, self._own(REDUCED), index_constant(0)).result
        return _both(first, self._working())

    # -- registers ---------------------------------------------------------------------------------------------------
    def _load(self, op: ir.Operation, lanes: Lanes, env: dict[ir.Value, ir.Value]) -> ir.Value:
        held = self.team.registers.get(op.operands[0])
        if held is None:
            return self.ahead[op, self.key] if (op, self.key) in self.ahead else super()._load(op, lanes, env)
        return held[self.key] if self.key in held else held[self.key[:1]]

    def _store(self, op: ir.Operation, lanes: Lanes, env: dict[ir.Value, ir.Value]) -> None:
        held = self.team.registers.get(op.operands[1])
        if held is None:
            super()._store(op, lanes, env)
            return
        value = self._value(op.operands[0], lanes, env)
        moves = lanes.count > 1 and lanes.index is not None and self.accesses[op].stride(lanes.index) != 0
        held[self.key] = splat(value, lanes.count) if moves and not isinstance(value.type, ir.VectorType) else value

    # -- reductions --------------------------------------------------------------------------------------------------
    def reduce(self, op: ir.Operation, lanes: Lanes, env: dict[ir.Value, ir.Value]) -> list[ir.Value]:
        block, extents, names = op.regions[0].blocks[0], op.opview.py("extents"), op.opview.py("combine")
        indices, accs = list(block.arguments)[:len(extents)], list(block.arguments)[len(extents):]
        inits = [self._value(v, lanes, env) for v in op.operands]
        if self.along is None or op != self.along:
            inits = [splat(v, lanes.count) if lanes.count > 1 and not isinstance(v.type, ir.VectorType) else v for v in inits]
            return self._alone(block, list(zip(indices, extents)), accs, inits, lanes, env)
        row, inner = self.key, self._own_lanes()
        scalars = [v.type if not isinstance(v.type, ir.VectorType) else v.type.element_type for v in inits]
        parts = [neutral(name, t) for name, t in zip(names, scalars)]
        if inner.count > 1:
            parts = [splat(p, inner.count) for p in parts]
        for j, (inside, within) in enumerate(self._column_points()):
            self.key = (*row, j)
            out = self.ops(block, inner, {**env, **inside, **dict(zip(accs, parts))})
            out = [splat(o, inner.count) if inner.count > 1 and not isinstance(o.type, ir.VectorType) else o for o in out]
            parts = out if within is None else [arith.SelectOp(within, o, p).result for o, p in zip(out, parts)]
        self.key = row
        if inner.count > 1 and lanes.count == 1:
            parts = [vector.ReductionOp(t, ir.Attribute.parse(f"#vector.kind<{KINDS[name]}>"), p).result
                     for name, t, p in zip(names, scalars, parts)]
        if self.sharing > 1:
            parts = self._across(names, parts)
        inits = [splat(v, lanes.count) if lanes.count > 1 and not isinstance(v.type, ir.VectorType) else v for v in inits]
        return [combine(name, v, p) for name, v, p in zip(names, inits, parts)]

    def _alone(self, block: ir.Block, loops: list[tuple[ir.Value, int]], accs: list[ir.Value], carried: list[ir.Value], lanes: Lanes,
               env: dict[ir.Value, ir.Value]) -> list[ir.Value]:
        """A reduction besides the columns', by one thread."""
        if volume([n for _, n in loops]) > STRAIGHT:
            return self._in_order(block, loops, accs, carried, lanes, env)
        for point in product(*[range(n) for _, n in loops]):
            inner = {**env, **{v: index_constant(at) for (v, _), at in zip(loops, point)}, **dict(zip(accs, carried))}
            out = self.ops(block, lanes, inner)
            carried = [splat(o, lanes.count) if lanes.count > 1 and not isinstance(o.type, ir.VectorType) else o for o in out]
        return carried

    def _across(self, names: list[str], parts: list[ir.Value]) -> list[ir.Value]:
        """Joins the parts of the threads that share a row: shuffles in a warp, then, behind one barrier, the warps' parts from memory.

        Of more warps than a warp has lanes, each lane joins several parts first.
        """
        warp = self.team.warp
        parts = shuffled(names, parts, min(self.sharing, warp), warp)
        if self.sharing <= warp:
            return parts
        warps = self.sharing // warp
        group, _, lane = delinearize(self.team.thread, [self.team.threads // self.sharing, warps, warp])
        place = arith.AddIOp(arith.MulIOp(group, index_constant(warps)).result, arith.RemUIOp(lane, index_constant(warps)).result).result
        places = [place, *(arith.AddIOp(place, index_constant(n)).result for n in range(warp, warps, warp))]
        own, *others = self.team.exchange(parts, places)
        for other in others:
            own = [combine(name, p, q) for name, p, q in zip(names, own, other)]
        return shuffled(names, own, min(warps, warp), warp)


def _both(a: ir.Value | None, b: ir.Value | None) -> ir.Value | None:
    """Both conditions; None is true."""
    return b if a is None else a if b is None else arith.AndIOp(a, b).result
