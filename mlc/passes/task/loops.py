"""task.foreach and task.reduce as loops: one dimension becomes vector lanes, the others scf.for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mlc.ir.mlir import arith, ir, scf, vector
from mlc.layout.mapping import TaskMap
from mlc.passes.task.body import KINDS, Body, Lanes, combine, neutral, power_of_two
from mlc.passes.task.flat import Memory, index_constant, splat

UNROLL = 4  # independent accumulators of a lane-parallel reduction: hides the latency of the combining op


def loop(extent: int, start: int, step_: int, carried: Sequence[ir.Value], body: Callable[..., Sequence[ir.Value]]) -> list[ir.Value]:
    """scf.for over range(start, extent, step), or straight code when there is one iteration."""
    if extent - start <= step_:
        return list(body(index_constant(start), *carried)) if extent > start else list(carried)
    op = scf.ForOp(index_constant(start), index_constant(extent), index_constant(step_), list(carried))
    with ir.InsertionPoint(op.body):
        scf.YieldOp(list(body(op.induction_variable, *op.inner_iter_args)))
    return list(op.results)


@dataclass(frozen=True)
class Nest:
    """The point loops of a foreach that are left, in order, with their extents, once those of one iteration (`single`) are gone and
    neighbours that every access walks contiguously are joined.
    """

    dims: list[ir.Value]
    extents: dict[ir.Value, int]
    single: list[ir.Value]


def nest_of(body: Body) -> Nest:
    """The loops over a body's points. Where two are joined, the index of the inner one runs over both."""
    dims: list[ir.Value] = []
    extents = dict(body.extents)
    single: list[ir.Value] = []
    for d in body.block.arguments:
        last = dims[-1] if dims else None
        if extents[d] == 1:
            single.append(d)
        elif (last is not None and last not in body.used_as_value and d not in body.used_as_value
                and all(a.stride(last) == a.stride(d) * extents[d] for a in body.accesses.values())):
            single.append(last)
            extents[d] *= extents[last]
            dims[-1] = d
        else:
            dims.append(d)
    return Nest(dims, {d: extents[d] for d in dims}, single)


class Loops(Body):
    """Emits the loops of one foreach at the insertion point; its map says what runs across lanes."""

    def __init__(self, foreach: ir.Operation, memory: Memory, outer: Mapping[ir.Value, ir.Value]) -> None:
        super().__init__(foreach, memory)
        self.outer, self.nest = outer, nest_of(self)
        map_: TaskMap | None = foreach.opview.py("map")
        shared = [d for d in map_.digits() if d.spatial] if map_ is not None else []
        along = self.nest.dims[-1] if shared and shared[0].dim == 0 else None
        self.lanes = Lanes(along, shared[0].extent if shared else 1)

    def emit(self) -> None:
        env = dict(self.outer)
        if self.nest.single:
            env.update(dict.fromkeys(self.nest.single, index_constant(0)))
        self._nest(self.nest.dims, self.lanes, env)

    # -- shape of the nest ------------------------------------------------------------------------------------------
    def _nest(self, dims: list[ir.Value], lanes: Lanes, env: dict[ir.Value, ir.Value]) -> None:
        if not dims:
            self.ops(self.block, lanes, env)
            return
        d, rest = dims[0], dims[1:]
        extent = self.nest.extents[d]
        if lanes.index is None or d != lanes.index:
            loop(extent, 0, 1, [], lambda i: self._nest_inside(rest, lanes, {**env, d: i}))
            return
        whole = extent // lanes.count * lanes.count
        loop(whole, 0, lanes.count, [], lambda i: self._nest_inside(rest, lanes, {**env, d: i}))
        if whole < extent:  # the last lanes overlap the ones before: every point writes the same value twice
            self._nest_inside(rest, lanes, {**env, d: index_constant(extent - lanes.count)})

    def _nest_inside(self, rest: list[ir.Value], lanes: Lanes, env: dict[ir.Value, ir.Value]) -> list[ir.Value]:
        self._nest(rest, lanes, env)
        return []

    # -- reductions -------------------------------------------------------------------------------------------------
    def reduce(self, op: ir.Operation, lanes: Lanes, env: dict[ir.Value, ir.Value]) -> list[ir.Value]:
        block = op.regions[0].blocks[0]
        extents = op.opview.py("extents")
        indices = list(block.arguments)[:len(extents)]
        accs = list(block.arguments)[len(extents):]
        inits = [self._value(v, lanes, env) for v in op.operands]
        if any(e == 0 for e in extents):
            return inits
        if lanes.index is None and lanes.count > 1 and extents[-1] > 1:
            return self._reduce_lanes(op, extents, indices, accs, inits, lanes.count, env)
        if lanes.count > 1 and lanes.index is not None:
            inits = [v if isinstance(v.type, ir.VectorType) else splat(v, lanes.count) for v in inits]

        def nest(level: int, inner: dict[ir.Value, ir.Value], *carried: ir.Value) -> list[ir.Value]:
            if level == len(extents):
                inner.update(zip(accs, carried))
                out = self.ops(block, lanes, inner)
                wide = [isinstance(c.type, ir.VectorType) for c in carried]
                return [splat(o, lanes.count) if w and not isinstance(o.type, ir.VectorType) else o for o, w in zip(out, wide)]
            return loop(extents[level], 0, 1, carried, lambda i, *c: nest(level + 1, {**inner, indices[level]: i}, *c))

        return nest(0, dict(env), *inits)

    def _reduce_lanes(self, op: ir.Operation, extents: list[int], indices: list[ir.Value], accs: list[ir.Value], inits: list[ir.Value],
                      lanes: int, env: dict[ir.Value, ir.Value]) -> list[ir.Value]:
        """Partial results across lanes (and UNROLL vectors), joined at the end; leftover points one by one."""
        block, names = op.regions[0].blocks[0], op.opview.py("combine")
        last, n = indices[-1], extents[-1]
        lanes = power_of_two(min(lanes, n))
        unroll = max(1, min(UNROLL, n // lanes))
        chunk = lanes * unroll
        whole = n // chunk * chunk
        none_yet = [splat(neutral(name, v.type), lanes) for name, v in zip(names, inits)]
        start = [v for _ in range(unroll) for v in none_yet]

        def nest(level: int, inner: dict[ir.Value, ir.Value], stop: int, width: int, carried: Sequence[ir.Value]) -> list[ir.Value]:
            if level < len(extents) - 1:
                return loop(extents[level], 0, 1, carried, lambda i, *c: nest(level + 1, {**inner, indices[level]: i}, stop, width, c))
            if width == 1:
                return loop(n, whole, 1, carried, lambda i, *c: self.ops(block, Lanes(None, 1), {**inner, last: i, **dict(zip(accs, c))}))

            def step_(i: ir.Value, *c: ir.Value) -> list[ir.Value]:
                out: list[ir.Value] = []
                for u in range(unroll):
                    at = arith.AddIOp(i, index_constant(u * lanes)).result if u else i
                    part = dict(zip(accs, c[u * len(accs):(u + 1) * len(accs)]))
                    got = self.ops(block, Lanes(last, lanes), {**inner, last: at, **part})
                    out += [splat(v, lanes) if not isinstance(v.type, ir.VectorType) else v for v in got]
                return out

            return loop(whole, 0, chunk, carried, step_)

        vectors = nest(0, dict(env), whole, chunk, start)
        results = []
        for j, (name, init) in enumerate(zip(names, inits)):
            parts = vectors[j::len(accs)]
            while len(parts) > 1:
                parts = [combine(name, *parts[i:i + 2]) if i + 1 < len(parts) else parts[i] for i in range(0, len(parts), 2)]
            kind = ir.Attribute.parse(f"#vector.kind<{KINDS[name]}>")
            results.append(combine(name, init, vector.ReductionOp(init.type, kind, parts[0]).result))
        return nest(0, dict(env), n, 1, results) if whole < n else results
