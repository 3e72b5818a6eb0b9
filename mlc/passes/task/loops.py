"""task.foreach and task.reduce as loops: one dimension becomes vector lanes, the others scf.for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mlc.dialects._ext import operations
from mlc.ir.mlir import arith, ir, scf, vector
from mlc.layout.linear import row_major
from mlc.passes.task.flat import Access, Memory, gather, index_constant, linear_index, load_lanes, load_scalar, splat, step, vector_type

_KINDS = {"addf": "add", "addi": "add", "mulf": "mul", "muli": "mul", "maximumf": "maximumf", "minimumf": "minimumf", "andi": "and",
          "ori": "or", "xori": "xor", "maxsi": "maxsi", "maxui": "maxui", "minsi": "minsi", "minui": "minui"}
UNROLL = 4  # independent accumulators of a lane-parallel reduction: hides the latency of the combining op


def loop(extent: int, start: int, step_: int, carried: Sequence[ir.Value], body: Callable[..., Sequence[ir.Value]]) -> list[ir.Value]:
    """scf.for over range(start, extent, step), or straight code when there is one iteration."""
    if extent - start <= step_:
        return list(body(index_constant(start), *carried)) if extent > start else list(carried)
    op = scf.ForOp(index_constant(start), index_constant(extent), index_constant(step_), list(carried))
    with ir.InsertionPoint(op.body):
        scf.YieldOp(list(body(op.induction_variable, *op.inner_iter_args)))
    return list(op.results)


@dataclass
class _Lanes:
    """Which loop index runs across lanes, and how many lanes there are."""

    index: ir.Value | None
    count: int


class Loops:
    """Emits the loops of one foreach at the insertion point."""

    def __init__(self, foreach: ir.Operation, memory: Memory, outer: Mapping[ir.Value, ir.Value], lanes: int) -> None:
        self.memory, self.outer, self.max_lanes = memory, outer, lanes
        self.block = foreach.regions[0].blocks[0]
        self.extents = dict(zip(self.block.arguments, foreach.opview.py("extents"), strict=True))
        self.accesses: dict[ir.Operation, Access] = {}
        self.reductions: list[ir.Operation] = []
        self.used_as_value: set[ir.Value] = set()
        for op in operations(foreach):
            operands = list(op.operands)
            if op.name == "task.load":
                self.accesses[op] = memory.access(operands[0], operands[1:], op.attributes["map"])
            elif op.name == "task.store":
                self.accesses[op] = memory.access(operands[1], operands[2:], op.attributes["map"])
            else:
                self.used_as_value.update(v for v in operands if isinstance(v.type, ir.IndexType))
            if op.name == "task.reduce":
                self.reductions.append(op)

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

    def _choose(self, dims: list[ir.Value]) -> _Lanes:
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
                return _Lanes(None, self.max_lanes)
        if parallel is None:
            return _Lanes(None, 1)
        return _Lanes(parallel, _power_of_two(min(self.max_lanes, self.extents[parallel])))

    def _nest(self, dims: list[ir.Value], lanes: _Lanes, env: dict[ir.Value, ir.Value]) -> None:
        if self.zero:
            env = {**env, **dict.fromkeys(self.zero, index_constant(0))}
        if not dims:
            self._body(lanes, env)
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

    def _nest_inside(self, rest: list[ir.Value], lanes: _Lanes, env: dict[ir.Value, ir.Value]) -> list[ir.Value]:
        self.zero = []
        self._nest(rest, lanes, env)
        return []

    # -- bodies -----------------------------------------------------------------------------------------------------
    def _body(self, lanes: _Lanes, env: dict[ir.Value, ir.Value]) -> None:
        self._ops(self.block, lanes, env)

    def _ops(self, block: ir.Block, lanes: _Lanes, env: dict[ir.Value, ir.Value]) -> list[ir.Value]:
        """Emits a block's ops; returns the values it yields."""
        for view in block.operations:
            op = view.operation
            with op.location:
                if op.name == "task.yield":
                    return [env[v] for v in op.operands]
                if op.name == "task.load":
                    env[op.results[0]] = self._load(op, lanes, env)
                elif op.name == "task.store":
                    self._store(op, lanes, env)
                elif op.name == "task.reduce":
                    env.update(zip(op.results, self._reduce(op, lanes, env)))
                elif op.name == "memref.load":
                    env[op.results[0]] = self._gather(op, lanes, env)
                else:
                    self._clone(op, lanes, env)
        return []

    def _value(self, value: ir.Value, lanes: _Lanes, env: Mapping[ir.Value, ir.Value]) -> ir.Value:
        """The current value; the lane index used as a value is a vector."""
        current = env[value]
        if lanes.index is not None and value == lanes.index:
            return arith.AddIOp(splat(current, lanes.count), step(lanes.count)).result
        return current

    def _clone(self, op: ir.Operation, lanes: _Lanes, env: dict[ir.Value, ir.Value]) -> None:
        """The same op on scalars, or on vectors when an operand is one."""
        operands = [self._value(v, lanes, env) for v in op.operands]
        wide = any(isinstance(v.type, ir.VectorType) for v in operands)
        if wide:
            operands = [v if isinstance(v.type, ir.VectorType) else splat(v, lanes.count) for v in operands]
        types = [vector_type(lanes.count, r.type) if wide else r.type for r in op.results]
        copy = ir.Operation.create(op.name, results=types, operands=operands, attributes={k: op.attributes[k] for k in op.attributes})
        env.update(zip(op.results, copy.results))

    def _load(self, op: ir.Operation, lanes: _Lanes, env: Mapping[ir.Value, ir.Value]) -> ir.Value:
        access = self.accesses[op]
        buffer, at = self.memory.flat[access.buffer], linear_index(access, env)
        stride = access.stride(lanes.index) if lanes.index is not None else 0
        return load_scalar(buffer, at) if stride == 0 or lanes.count == 1 else load_lanes(buffer, at, stride, lanes.count)

    def _store(self, op: ir.Operation, lanes: _Lanes, env: Mapping[ir.Value, ir.Value]) -> None:
        access = self.accesses[op]
        buffer, at = self.memory.flat[access.buffer], linear_index(access, env)
        value = self._value(op.operands[0], lanes, env)
        if lanes.index is not None and lanes.count > 1 and access.stride(lanes.index):
            value = value if isinstance(value.type, ir.VectorType) else splat(value, lanes.count)
            vector.StoreOp(value, buffer, [at])
        else:
            ir.Operation.create("memref.store", operands=[value, buffer, at])

    def _gather(self, op: ir.Operation, lanes: _Lanes, env: Mapping[ir.Value, ir.Value]) -> ir.Value:
        """A data-dependent element: indices are values, perhaps vectors; consecutive ones (the last follows the lanes) are one load."""
        buffer, places = op.operands[0], list(op.operands)[1:]
        if lanes.count > 1 and places and (offset := _offset_from(places[-1], lanes.index)) is not None:
            rest = [self._value(v, lanes, env) for v in places[:-1]]
            if not any(isinstance(v.type, ir.VectorType) for v in rest):
                total = arith.AddIOp(env[lanes.index], index_constant(offset)).result  # type: ignore[index]
                for v, s in zip(rest, row_major(buffer.type.shape)):
                    total = arith.AddIOp(total, arith.MulIOp(v, index_constant(s)).result).result
                return load_lanes(self.memory.flat[buffer], total, 1, lanes.count)
        indices = [self._value(v, lanes, env) for v in places]
        wide = any(isinstance(v.type, ir.VectorType) for v in indices)
        total = index_constant(0)
        total = splat(total, lanes.count) if wide else total
        for v, s in zip(indices, row_major(buffer.type.shape), strict=True):
            factor = index_constant(s)
            if wide:
                v = v if isinstance(v.type, ir.VectorType) else splat(v, lanes.count)
                factor = splat(factor, lanes.count)
            total = arith.AddIOp(total, arith.MulIOp(v, factor).result).result
        flat = self.memory.flat[buffer]
        return gather(flat, index_constant(0), total, lanes.count) if wide else load_scalar(flat, total)

    # -- reductions -------------------------------------------------------------------------------------------------
    def _reduce(self, op: ir.Operation, lanes: _Lanes, env: dict[ir.Value, ir.Value]) -> list[ir.Value]:
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
                out = self._ops(block, lanes, inner)
                wide = [isinstance(c.type, ir.VectorType) for c in carried]
                return [splat(o, lanes.count) if w and not isinstance(o.type, ir.VectorType) else o for o, w in zip(out, wide)]
            return loop(extents[level], 0, 1, carried, lambda i, *c: nest(level + 1, {**inner, indices[level]: i}, *c))

        return nest(0, dict(env), *inits)

    def _reduce_lanes(self, op: ir.Operation, extents: list[int], indices: list[ir.Value], accs: list[ir.Value], inits: list[ir.Value],
                      lanes: int, env: dict[ir.Value, ir.Value]) -> list[ir.Value]:
        """Partial results across lanes (and UNROLL vectors), joined at the end; leftover points one by one."""
        block, names = op.regions[0].blocks[0], op.opview.py("combine")
        last, n = indices[-1], extents[-1]
        lanes = _power_of_two(min(lanes, n))
        unroll = max(1, min(UNROLL, n // lanes))
        chunk = lanes * unroll
        whole = n // chunk * chunk
        neutral = [splat(_neutral(name, v.type), lanes) for name, v in zip(names, inits)]
        start = [v for _ in range(unroll) for v in neutral]

        def nest(level: int, inner: dict[ir.Value, ir.Value], stop: int, width: int, carried: Sequence[ir.Value]) -> list[ir.Value]:
            if level < len(extents) - 1:
                return loop(extents[level], 0, 1, carried, lambda i, *c: nest(level + 1, {**inner, indices[level]: i}, stop, width, c))
            if width == 1:
                return loop(n, whole, 1, carried, lambda i, *c: self._ops(block, _Lanes(None, 1), {**inner, last: i, **dict(zip(accs, c))}))

            def step_(i: ir.Value, *c: ir.Value) -> list[ir.Value]:
                out: list[ir.Value] = []
                for u in range(unroll):
                    at = arith.AddIOp(i, index_constant(u * lanes)).result if u else i
                    part = dict(zip(accs, c[u * len(accs):(u + 1) * len(accs)]))
                    got = self._ops(block, _Lanes(last, lanes), {**inner, last: at, **part})
                    out += [splat(v, lanes) if not isinstance(v.type, ir.VectorType) else v for v in got]
                return out

            return loop(whole, 0, chunk, carried, step_)

        vectors = nest(0, dict(env), whole, chunk, start)
        results = []
        for j, (name, init) in enumerate(zip(names, inits)):
            parts = vectors[j::len(accs)]
            while len(parts) > 1:
                parts = [_combine(name, *parts[i:i + 2]) if i + 1 < len(parts) else parts[i] for i in range(0, len(parts), 2)]
            kind = ir.Attribute.parse(f"#vector.kind<{_KINDS[name]}>")
            results.append(_combine(name, init, vector.ReductionOp(init.type, kind, parts[0]).result))
        return nest(0, dict(env), n, 1, results) if whole < n else results


def _offset_from(value: ir.Value, index: ir.Value | None) -> int | None:
    """C where the value is plainly index + c (through casts), else None."""
    offset = 0
    while index is not None:
        if value == index:
            return offset
        owner = value.owner
        if isinstance(owner, ir.Block):
            return None
        if owner.name == "arith.addi" and not isinstance(right := owner.operands[1].owner, ir.Block) and right.name == "arith.constant":
            offset += right.attributes["value"].value
        elif owner.name != "arith.index_cast":
            return None
        value = owner.operands[0]
    return None


def _combine(name: str, a: ir.Value, b: ir.Value) -> ir.Value:
    return ir.Operation.create(f"arith.{name}", results=[a.type], operands=[a, b]).results[0]


def _neutral(name: str, type_: ir.Type) -> ir.Value:
    """The value that leaves the other operand of a combining op unchanged."""
    if name.endswith("f"):
        value = {"addf": 0.0, "mulf": 1.0, "maximumf": float("-inf"), "minimumf": float("inf")}[name]
        return arith.ConstantOp(type_, ir.FloatAttr.get(type_, value)).result
    bits = ir.IntegerType(type_).width
    least = -(1 << (bits - 1))
    value = {"addi": 0, "muli": 1, "andi": -1, "ori": 0, "xori": 0, "maxsi": least, "maxui": 0, "minsi": -least - 1, "minui": -1}[name]
    return arith.ConstantOp(type_, ir.IntegerAttr.get(type_, value)).result


def _power_of_two(n: int) -> int:
    return 1 << (n.bit_length() - 1) if n > 0 else 1
