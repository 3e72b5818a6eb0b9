"""task.foreach and task.reduce as loops: one dimension becomes vector lanes, the others scf.for."""

from collections.abc import Callable, Mapping, Sequence

from mlc.ir.mlir import arith, ir, scf, vector
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


class Loops(Body):
    """Emits the loops of one foreach at the insertion point."""

    def __init__(self, foreach: ir.Operation, memory: Memory, outer: Mapping[ir.Value, ir.Value], lanes: int) -> None:
        super().__init__(foreach, memory)
        self.outer, self.max_lanes = outer, lanes

    def emit(self) -> None:
        dims = self._merge(list(self.block.arguments))
        lanes = self._choose(dims)
        self._nest(dims, lanes, dict(self.outer))

    # -- shape of the nest ------------------------------------------------------------------------------------------
    def _merge(self, dims: list[ir.Value]) -> list[ir.Value]:
        """Drops dimensions of extent 1 and joins neighbours that every access walks contiguously."""
        kept: list[ir.Value] = []
        self.zero = [d for d in dims if self.extents[d] == 1]
        for d in dims:
            if self.extents[d] == 1:
                continue
            last = kept[-1] if kept else None
            if (last is not None and last not in self.used_as_value and d not in self.used_as_value
                    and all(a.stride(last) == a.stride(d) * self.extents[d] for a in self.accesses.values())):
                self.zero.append(last)
                self.extents[d] *= self.extents[last]
                kept[-1] = d
            else:
                kept.append(d)
        return kept

    def _choose(self, dims: list[ir.Value]) -> Lanes:
        """Lanes along the last parallel dimension if stores are contiguous there, unless a reduction walks memory better."""
        stores = [a for op, a in self.accesses.items() if op.name == "task.store"]
        loads = [a for op, a in self.accesses.items() if op.name == "task.load"]
        parallel = dims[-1] if dims and all(a.stride(dims[-1]) == 1 for a in stores) and self.extents[dims[-1]] > 1 else None
        bad = sum(a.stride(parallel) not in (0, 1) for a in loads) if parallel is not None else len(loads) + 1
        if self.reductions and bad:
            last = [list(r.regions[0].blocks[0].arguments)[len(r.opview.py("extents")) - 1] for r in self.reductions]
            inner = [r.opview.py("extents")[-1] for r in self.reductions]
            worse = sum(a.stride(x) not in (0, 1) for a in loads for x in last)
            if all(all(r.opview.py("combine")) for r in self.reductions) and min(inner) > 1 and worse < bad:
                return Lanes(None, self.max_lanes)
        if parallel is None:
            return Lanes(None, 1)
        return Lanes(parallel, power_of_two(min(self.max_lanes, self.extents[parallel])))

    def _nest(self, dims: list[ir.Value], lanes: Lanes, env: dict[ir.Value, ir.Value]) -> None:
        if self.zero:
            env = {**env, **dict.fromkeys(self.zero, index_constant(0))}
        if not dims:
            self.ops(self.block, lanes, env)
            return
        d, rest = dims[0], dims[1:]
        extent = self.extents[d]
        if lanes.index is None or d != lanes.index:
            loop(extent, 0, 1, [], lambda i: self._nest_inside(rest, lanes, {**env, d: i}))
            return
        whole = extent // lanes.count * lanes.count
        loop(whole, 0, lanes.count, [], lambda i: self._nest_inside(rest, lanes, {**env, d: i}))
        if whole < extent:  # the last lanes overlap the ones before: every point writes the same value twice
            self._nest_inside(rest, lanes, {**env, d: index_constant(extent - lanes.count)})

    def _nest_inside(self, rest: list[ir.Value], lanes: Lanes, env: dict[ir.Value, ir.Value]) -> list[ir.Value]:
        self.zero = []
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
