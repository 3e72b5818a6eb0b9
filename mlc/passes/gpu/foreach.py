"""A mapped task.foreach on a GPU: each thread does the points and reduction points that the map gives it."""

from collections.abc import Mapping, Sequence

from mlc.ir.mlir import arith, gpu, ir, memref, scf, vector
from mlc.layout.mapping import Digit, TaskMap
from mlc.passes.gpu.block import WIDEST, Block, aligned_lanes, delinearize
from mlc.passes.gpu.kept import kept_key, turns
from mlc.passes.gpu.plan import is_shared
from mlc.passes.task.body import KINDS, Body, Lanes, combine, neutral
from mlc.passes.task.flat import Access, index_constant, load_scalar, splat, vector_type
from mlc.passes.task.loops import loop
from mlc.passes.tile.model import element_bytes, volume

POINTS, REDUCED = 0, 1  # dimensions of a map
UNROLL, FEW = 4, 24  # points emitted side by side, where their bodies have few ops
STRAIGHT = 8  # such points of a thread, up to which there is no loop


def last_long(extents: Sequence[int]) -> int:
    """The innermost loop of more than one point (else the innermost): along it lie the elements of a vector."""
    return max([d for d, n in enumerate(extents) if n > 1], default=len(extents) - 1)


def vector_of(map_: TaskMap) -> Digit | None:
    """The innermost repeat of a map: the elements that a thread takes as one vector."""
    digits = map_.digits()
    return digits[-1] if digits and not digits[-1].spatial and digits[-1].stride == 1 and digits[-1].period == 1 else None


class ThreadBody(Body):
    """The body of a region of an op, for one thread: vectors of memory where these are contiguous and aligned."""

    def __init__(self, op: ir.Operation, team: Block, region: int = 0) -> None:
        super().__init__(op, team.memory, region)
        self.team = team

    def _aligned(self, access: Access, lanes: Lanes) -> bool:
        return aligned_lanes(access, lanes.index, lanes.count, self.team.align_of(access.buffer)) == lanes.count

    def read_lanes(self, access: Access, at: ir.Value, stride: int, lanes: Lanes) -> ir.Value:
        buffer = self.memory.flat[access.buffer]
        type_ = vector_type(lanes.count, buffer.type.element_type)
        if stride == 1 and self._aligned(access, lanes):
            return vector.LoadOp(type_, buffer, [at], alignment=lanes.count * element_bytes(access.buffer)).result
        places = [at, *[arith.AddIOp(at, index_constant(i * stride)).result for i in range(1, lanes.count)]]
        return vector.FromElementsOp(type_, [load_scalar(buffer, p) for p in places]).result

    def gather_lanes(self, buffer: ir.Value, places: ir.Value, lanes: Lanes) -> ir.Value:
        type_ = vector_type(lanes.count, buffer.type.element_type)
        each = [vector.ExtractOp(places, [], [i]).result for i in range(lanes.count)]
        return vector.FromElementsOp(type_, [load_scalar(buffer, p) for p in each]).result

    def read_near(self, buffer: ir.Value, at: ir.Value, lanes: Lanes, even: int) -> ir.Value:
        size, flat = element_bytes(buffer), self.memory.flat[buffer]
        type_ = vector_type(lanes.count, flat.type.element_type)
        if even % lanes.count == 0 and lanes.count * size <= min(self.team.align_of(buffer), WIDEST):
            return vector.LoadOp(type_, flat, [at], alignment=lanes.count * size).result
        each = [load_scalar(flat, arith.AddIOp(at, index_constant(i)).result) for i in range(lanes.count)]
        return vector.FromElementsOp(type_, each).result

    def write_lanes(self, access: Access, at: ir.Value, lanes: Lanes, value: ir.Value) -> None:
        buffer, size = self.memory.flat[access.buffer], element_bytes(access.buffer)
        whole = aligned_lanes(access, lanes.index, lanes.count, self.team.align_of(access.buffer))
        for i in range(0, lanes.count, whole):
            place = arith.AddIOp(at, index_constant(i)).result if i else at
            if whole == 1:
                memref.StoreOp(vector.ExtractOp(value, [], [i]).result, buffer, [place])
            else:
                part = value if whole == lanes.count else vector.ExtractStridedSliceOp(
                    vector_type(whole, value.type.element_type), value, [i], [whole], [1]).result
                vector.StoreOp(part, buffer, [place], alignment=whole * size)


class MappedForeach(ThreadBody):
    """Emits one foreach at the insertion point, for all threads of the block."""

    def __init__(self, foreach: ir.Operation, team: Block) -> None:
        super().__init__(foreach, team)
        self.map: TaskMap = foreach.opview.py("map")
        self.vector = vector_of(self.map)
        self.digits = [d for d in self.map.digits() if d != self.vector]
        self.sharing = self._spatial(REDUCED)  # threads that share a reduction
        self.guard: ir.Value | None = None
        self.kept = {op: kept_key(op, foreach, self.map) for op in self.accesses if op.name == "task.load" and op.opview.py("kept")}
        self.early: dict[ir.Operation, dict[tuple[int, ...], ir.Value]] = {
            op: {} for op in self.accesses if op.name == "task.load" and op.opview.py("early")}
        self.turn: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())  # of points and reduction points, where these are unrolled

    def _spatial(self, dim: int) -> int:
        return volume([d.extent for d in self.digits if d.spatial and d.dim == dim])

    def _repeats(self, dim: int) -> list[Digit]:
        return [d for d in self.digits if not d.spatial and d.dim == dim]

    def _own(self, dim: int) -> ir.Value:
        """The thread's part of the index along a dimension of the map."""
        total = index_constant(0)
        for d in self.digits:
            if d.spatial and d.dim == dim:
                part = delinearize(self.team.thread, [max(1, self.team.threads // (d.period * d.extent)), d.extent, d.period])[1]
                total = arith.AddIOp(total, arith.MulIOp(part, index_constant(d.stride)).result).result
        return total

    def emit(self) -> None:
        if self.map.workers == self.team.threads or self.sharing > 1:
            self._nest(self._repeats(POINTS), self._own(POINTS))
            return
        busy = scf.IfOp(below(self.team.thread, self.map.workers))
        with ir.InsertionPoint(busy.then_block):
            self._nest(self._repeats(POINTS), self._own(POINTS))
            scf.YieldOp([])

    def keep(self) -> None:
        """Loads, for the kernel's loops, what this foreach's `kept` loads give, where no other has done so."""
        for op, key in self.kept.items():
            if key in self.team.kept:
                continue
            values = self.team.kept[key] = {}
            arguments, extents = list(op.parent.regions[0].blocks[0].arguments), op.parent.opview.py("extents")
            count = self.vector.extent if self.vector is not None and self.vector.dim == REDUCED else 1
            lanes = Lanes(arguments[len(extents) - 1] if count > 1 else None, count)
            for points, on in turns(self._repeats(POINTS)):
                point = delinearize(arith.AddIOp(self._own(POINTS), index_constant(on)).result, list(self.extents.values()))
                for reduced, further in turns(self._repeats(REDUCED)):
                    at = delinearize(arith.AddIOp(self._own(REDUCED), index_constant(further)).result, extents)
                    env = {**self.team.env, **dict(zip(self.block.arguments, point)), **dict(zip(arguments, at))}
                    values[points, reduced] = super()._load(op, lanes, env)

    def load_early(self) -> None:
        """Loads what `early` loads give; threads without a point load that of another."""
        extents = list(self.extents.values())
        lanes = self._point_lanes(extents)
        for points, on in turns(self._repeats(POINTS)):
            at = arith.AddIOp(self._own(POINTS), index_constant(on)).result
            if self.map.shape[POINTS] > volume(extents):
                at = arith.MinUIOp(at, index_constant(volume(extents) - lanes.count)).result
            env = {**self.team.env, **dict(zip(self.block.arguments, delinearize(at, extents)))}
            for op, values in self.early.items():
                values[points] = super()._load(op, lanes, env)

    def _load(self, op: ir.Operation, lanes: Lanes, env: Mapping[ir.Value, ir.Value]) -> ir.Value:
        if op in self.early:
            return self.early[op][self.turn[0]]
        return self.team.kept[self.kept[op]][self.turn] if op in self.kept else super()._load(op, lanes, env)

    def _nest(self, repeats: Sequence[Digit], point: ir.Value) -> None:
        if not repeats:
            self._point(point)
            return
        if self.kept or self.early or (self._moves() and volume([d.extent for d in repeats]) <= STRAIGHT):
            for points, on in turns(repeats):
                self.turn = points, ()
                self._point(arith.AddIOp(point, index_constant(on)).result)
            return

        unroll = UNROLL if len(repeats) == 1 and repeats[0].extent % UNROLL == 0 and self._moves() else 1

        def inside(i: ir.Value) -> list[ir.Value]:
            for u in range(unroll):
                own = arith.AddIOp(i, index_constant(u)).result if u else i
                self._nest(repeats[1:], arith.AddIOp(point, arith.MulIOp(own, index_constant(repeats[0].stride)).result).result)
            return []

        loop(repeats[0].extent, 0, unroll, [], inside)

    def _moves(self) -> bool:
        """Whether a point is little more than a move between shared and global memory: several at once hide the time that it takes."""
        shared = {is_shared(a.buffer) for a in self.accesses.values()}
        return not self.reductions and not self.loops and len(list(self.block.operations)) <= FEW and shared == {True, False}

    def _point(self, point: ir.Value) -> None:
        extents = list(self.extents.values())
        count = volume(extents)
        valid = below(point, count) if self.map.shape[POINTS] > count else None
        if self.map.workers < self.team.threads and self.sharing > 1:
            busy = below(self.team.thread, self.map.workers)
            valid = busy if valid is None else arith.AndIOp(valid, busy).result
        if self.sharing == 1:
            if valid is None:
                self._emit_at(point, extents)
                return
            branch = scf.IfOp(valid)
            with ir.InsertionPoint(branch.then_block):
                self._emit_at(point, extents)
                scf.YieldOp([])
            return
        # All threads take part in shuffles and barriers; only the first of a group stores.
        first = arith.CmpIOp(arith.CmpIPredicate.eq, self._own(REDUCED), index_constant(0)).result
        self.guard = first if valid is None else arith.AndIOp(first, valid).result
        if valid is not None:
            point = arith.MinUIOp(point, index_constant(count - 1)).result
        self._emit_at(point, extents)
        self.guard = None

    def _emit_at(self, point: ir.Value, extents: Sequence[int]) -> None:
        env = {**self.team.env, **dict(zip(self.block.arguments, delinearize(point, extents)))}
        self.ops(self.block, self._point_lanes(extents), env)

    def _point_lanes(self, extents: Sequence[int]) -> Lanes:
        wide = self.vector is not None and self.vector.dim == POINTS
        return Lanes(self.block.arguments[last_long(extents)], self.vector.extent) if wide else Lanes(None, 1)

    # -- memory -----------------------------------------------------------------------------------------------------
    def _store(self, op: ir.Operation, lanes: Lanes, env: dict[ir.Value, ir.Value]) -> None:
        if self.guard is None:
            super()._store(op, lanes, env)
            return
        branch = scf.IfOp(self.guard)
        with ir.InsertionPoint(branch.then_block):
            super()._store(op, lanes, env)
            scf.YieldOp([])

    # -- reductions -------------------------------------------------------------------------------------------------
    def reduce(self, op: ir.Operation, lanes: Lanes, env: dict[ir.Value, ir.Value]) -> list[ir.Value]:
        block, extents = op.regions[0].blocks[0], op.opview.py("extents")
        arguments = list(block.arguments)
        indices, accs = arguments[:len(extents)], arguments[len(extents):]
        inits = [self._value(v, lanes, env) for v in op.operands]
        if not volume(extents):
            return inits
        wide = self.vector is not None and self.vector.dim == REDUCED
        if self.sharing == 1 and not wide:
            inits = [v if isinstance(v.type, ir.VectorType) or lanes.count == 1 else splat(v, lanes.count) for v in inits]
            return self._in_order(block, list(zip(indices, extents)), accs, inits, lanes, env)
        names = op.opview.py("combine")
        count = self.vector.extent if wide else 1
        inner = Lanes(indices[-1] if count > 1 else None, count)
        start = [neutral(name, v.type) for name, v in zip(names, inits)]
        parts = self._own_part(block, indices, extents, accs, [splat(v, count) for v in start] if count > 1 else start, inner, env)
        if count > 1:
            parts = [vector.ReductionOp(v.type, ir.Attribute.parse(f"#vector.kind<{KINDS[name]}>"), p).result
                     for name, v, p in zip(names, inits, parts)]
        if self.sharing > 1:
            parts = self._across(names, parts)
        return [combine(name, v, p) for name, v, p in zip(names, inits, parts)]

    def _in_order(self, block: ir.Block, loops: list[tuple[ir.Value, int]], accs: list[ir.Value], carried: Sequence[ir.Value], lanes: Lanes,
                  env: dict[ir.Value, ir.Value]) -> list[ir.Value]:
        """The whole reduction by one thread."""
        if not loops:
            out = self.ops(block, lanes, {**env, **dict(zip(accs, carried))})
            return [splat(o, lanes.count) if isinstance(c.type, ir.VectorType) and not isinstance(o.type, ir.VectorType) else o
                    for o, c in zip(out, carried)]
        (index, extent), *rest = loops
        return loop(extent, 0, 1, carried, lambda i, *c: self._in_order(block, rest, accs, c, lanes, {**env, index: i}))

    def _own_part(self, block: ir.Block, indices: list[ir.Value], extents: list[int], accs: list[ir.Value], start: list[ir.Value],
                  lanes: Lanes, env: dict[ir.Value, ir.Value]) -> list[ir.Value]:
        """The reduction points that the map gives this thread."""
        count = volume(extents)
        beyond = self.map.shape[REDUCED] > count

        def one(at: ir.Value, carried: Sequence[ir.Value]) -> list[ir.Value]:
            inner = {**env, **dict(zip(indices, delinearize(at, extents))), **dict(zip(accs, carried))}
            out = self.ops(block, lanes, inner)
            return [v if lanes.count == 1 or isinstance(v.type, ir.VectorType) else splat(v, lanes.count) for v in out]

        def nest(repeats: Sequence[Digit], at: ir.Value, carried: Sequence[ir.Value]) -> list[ir.Value]:
            if self.kept:
                for reduced, on in turns(repeats):
                    self.turn = self.turn[0], reduced
                    carried = one(arith.AddIOp(at, index_constant(on)).result, carried)
                return list(carried)
            if repeats:
                step = index_constant(repeats[0].stride)
                return loop(repeats[0].extent, 0, 1, carried, lambda i, *c: nest(
                    repeats[1:], arith.AddIOp(at, arith.MulIOp(i, step).result).result, c))
            if not beyond:
                return one(at, carried)
            branch = scf.IfOp(below(at, count), [v.type for v in carried], has_else=True)
            with ir.InsertionPoint(branch.then_block):
                scf.YieldOp(one(at, carried))
            with ir.InsertionPoint(branch.else_block):
                scf.YieldOp(list(carried))
            return list(branch.results)

        return nest(self._repeats(REDUCED), self._own(REDUCED), start)

    def _across(self, names: list[str], parts: list[ir.Value]) -> list[ir.Value]:
        """Joins the parts of the threads that share a reduction, which are neighbours; all of them get the result."""
        warp = self.team.warp
        parts = shuffled(names, parts, min(self.sharing, warp), warp)
        if self.sharing <= warp:
            return parts
        warps = self.sharing // warp
        number, lane = delinearize(self.team.thread, [self.team.threads // warp, warp])
        group = delinearize(self.team.thread, [self.team.threads // self.sharing, self.sharing])[0]
        joined = []
        gpu.BarrierOp()  # the memory may still be read from the last time
        buffers = [self.team.shared(self.team.scratch + 8 * i * (self.team.threads // warp), self.team.threads // warp, p.type)
                   for i, p in enumerate(parts)]
        leads = scf.IfOp(arith.CmpIOp(arith.CmpIPredicate.eq, lane, index_constant(0)).result)
        with ir.InsertionPoint(leads.then_block):
            for p, buffer in zip(parts, buffers):
                memref.StoreOp(p, buffer, [number])
            scf.YieldOp([])
        gpu.BarrierOp()
        base = arith.MulIOp(group, index_constant(warps)).result
        for name, buffer in zip(names, buffers):
            total = load_scalar(buffer, base)
            for i in range(1, warps):
                total = combine(name, total, load_scalar(buffer, arith.AddIOp(base, index_constant(i)).result))
            joined.append(total)
        self.team.exchanged = {0, 1}
        return joined


def below(value: ir.Value, bound: int) -> ir.Value:
    """Whether an index is less than a bound, as i1."""
    return arith.CmpIOp(arith.CmpIPredicate.ult, value, index_constant(bound)).result


def shuffled(names: Sequence[str], parts: Sequence[ir.Value], lanes: int, warp: int) -> list[ir.Value]:
    """The parts of `lanes` neighbouring lanes (a power of two) joined; all of them get the result."""
    joined, offset = list(parts), 1
    while offset < lanes:
        joined = [combine(name, p, shuffle_xor(p, offset, warp)) for name, p in zip(names, joined)]
        offset *= 2
    return joined


def shuffle_xor(value: ir.Value, offset: int, warp: int) -> ir.Value:
    """The value of the lane whose number differs in the bits of `offset`, for any scalar type (hardware moves 32 bits)."""
    type_ = value.type
    i32 = ir.IntegerType.get_signless(32)
    bits = ir.IntegerType.get_signless(type_.width)
    raw = value if isinstance(type_, ir.IntegerType) else arith.BitcastOp(bits, value).result

    def move(word: ir.Value) -> ir.Value:
        n, width = (arith.ConstantOp(i32, c).result for c in (offset, warp))
        return gpu.ShuffleOp(word, n, width, gpu.ShuffleMode.XOR).results[0]

    if type_.width < 32:
        moved = arith.TruncIOp(bits, move(arith.ExtUIOp(i32, raw).result)).result
    elif type_.width == 32:
        moved = move(raw)
    else:
        half = arith.ConstantOp(bits, 32).result
        low = move(arith.TruncIOp(i32, raw).result)
        high = move(arith.TruncIOp(i32, arith.ShRUIOp(raw, half).result).result)
        wide = arith.ShLIOp(arith.ExtUIOp(bits, high).result, half).result
        moved = arith.OrIOp(wide, arith.ExtUIOp(bits, low).result).result
    return moved if isinstance(type_, ir.IntegerType) else arith.BitcastOp(type_, moved).result
