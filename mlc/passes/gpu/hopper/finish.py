"""What follows a product of warpgroups, done on the sums in registers: the one foreach that reads them, by the threads that hold them.

A thread's sums are pairs of neighbouring columns, every eighth column on, in two rows of eight (PTX ISA 9.7.16.5.1). The four lanes that
share a row pass each other whole runs of eight columns, so that what is read and written beside the sums goes by 16 bytes, and by 64 of
a row at once. Nothing goes through shared memory, and no thread waits for another.
"""

from collections.abc import Callable, Mapping, Sequence

from mlc.dialects._ext import operations
from mlc.ir.affine import map_to_linear
from mlc.ir.mlir import arith, gpu, ir, vector
from mlc.passes.gpu.block import WIDEST, Block, aligned_lanes, delinearize
from mlc.passes.gpu.foreach import ThreadBody
from mlc.passes.gpu.hopper import wgmma
from mlc.passes.gpu.hopper.emit import add, compare, mul, rem, select, value, when
from mlc.passes.gpu.hopper.operand import Staging
from mlc.passes.gpu.hopper.wgmma import Accumulators
from mlc.passes.gpu.plan import is_shared
from mlc.passes.task.body import Body, Lanes
from mlc.passes.task.flat import Memory
from mlc.passes.tile.model import element_bytes

RUN = 8  # columns that a lane has at once
LANES = 4  # that share a row
LOADED = 16  # registers for what is loaded beside the sums, which leave few


def finishing(op: ir.Operation, staging: Staging, alignment: Mapping[ir.Value, int]) -> ir.Operation | None:
    """The foreach that can work on the sums of a task.mma where they are made; None where they have to go through memory.

    It alone reads them, each at its own point, and its other accesses are by neighbouring columns. alignment: bytes, of kernel arguments.
    """
    c = op.operands[2]
    readers = {u.owner.operation.parent.operation for u in c.uses if u.owner.operation != op}
    foreach = readers.pop() if len(readers) == 1 else None
    if not is_shared(c) or foreach is None or foreach.name != "task.foreach" or foreach.block != op.block:
        return None
    extents, indices = foreach.opview.py("extents"), list(foreach.regions[0].blocks[0].arguments)
    last, reductions = len(extents) - 1, op.opview.py("reductions")
    columns = staging.right.outer
    if (staging.turned or op.opview.py("extents")[:-reductions] != extents or not columns or columns[-1] != last
            or extents[last] % RUN or staging.right.rows % RUN or staging.right.tile.extent % (RUN * LANES)):
        return None
    inner = operations(foreach)
    if any(len(o.regions) or o.name == "memref.load" for o in inner if o != foreach):
        return None
    if any(is_shared(o.operands[n]) and o.operands[n] != c for o in inner for n in _buffer(o)):
        return None
    own = map_to_linear(op.attributes["maps"][2].value)
    if own is None or any(n > 1 and own[d].only() != d for d, n in enumerate(extents)):
        return None
    body = Body(foreach, Memory())
    identity = {v: s for v, s, n in zip(indices, Memory().strides_of(c), extents, strict=True) if n > 1}
    for o, access in body.accesses.items():
        stride, size = access.stride(indices[last]), element_bytes(access.buffer)
        if access.buffer == c:
            moving = {v: s for v, s in access.strides.items() if body.extents.get(v) != 1}
            if o.name == "task.store" or access.const or moving != identity:
                return None
        elif stride not in ((1,) if o.name == "task.store" else (0, 1)):
            return None
        elif stride and aligned_lanes(access, indices[last], WIDEST // size, alignment.get(access.buffer, 0)) * size < WIDEST:
            return None
    return foreach


def finished_by(op: ir.Operation) -> set[ir.Operation]:
    """The foreach that works on the sums of a task.mma in registers, where choose-mapping left them there; else none."""
    c = op.operands[2]
    if not is_shared(c) or c.owner.opview.py("level") != "register":
        return set()
    return {u.owner.operation.parent.operation for u in c.uses if u.owner.operation != op}


def _buffer(op: ir.Operation) -> tuple[int, ...]:
    """Which operand of an op is the buffer that it touches."""
    return {"task.load": (0,), "task.store": (1,)}.get(op.name, ())


class Finish(ThreadBody):
    """Emits the foreach on a thread's sums. sums: the product's result, which is in registers alone."""

    def __init__(self, foreach: ir.Operation, sums: ir.Value, team: Block, staging: Staging) -> None:
        super().__init__(foreach, team)
        self.sums, self.staging = sums, staging
        self.indices = list(self.block.arguments)
        wide = [element_bytes(a.buffer) for a in self.accesses.values() if a.buffer != sums and a.stride(self.indices[-1])]
        self.count = min(RUN, WIDEST // max(wide))
        self.loads = [op for op in self.accesses if op.name == "task.load"]
        beside = [self.accesses[op] for op in self.loads if op.operands[0] != sums]
        words = sum(RUN * element_bytes(a.buffer) // 4 if a.stride(self.indices[-1]) else 1 for a in beside)
        self.ahead = max(1, LOADED // max(words, 1))  # runs
        self.loaded: dict[ir.Operation, ir.Value] = {}

    def _load(self, op: ir.Operation, lanes: Lanes, env: Mapping[ir.Value, ir.Value]) -> ir.Value:
        return self.loaded[op]

    def emit(self, thread: ir.Value, first_row: ir.Value, blocks: Sequence[Accumulators]) -> None:
        """For a consumer's thread (0..127 of its warpgroup): its 64-row blocks of sums, the first of which begins at a row of the tile."""
        quarter = value(rem(thread, LANES))
        odd, high = (compare("ne", arith.AndIOp(quarter, value(bit)).result, 0) for bit in (1, 2))
        row = add(first_row, wgmma.fragment_row(thread))
        for i, block in enumerate(blocks):
            for half in (0, 1):
                runs = [_run([(block.values[4 * j + 2 * half], block.values[4 * j + 2 * half + 1]) for j in range(k, k + LANES)], odd, high)
                        for k in range(0, block.n // RUN, LANES)]
                at = value(add(row, i * wgmma.ROWS + half * RUN))
                _guarded(at, self.staging.left.rows, self.staging.left.tile.extent, lambda at=at, runs=runs: self._row(at, runs, quarter))

    def _row(self, row: ir.Value, runs: Sequence[Sequence[ir.Value]], quarter: ir.Value) -> None:
        """Loads of several runs come before the first of their stores, behind which none may move: each would be waited for."""
        points, count, padded = self._points(row, self.staging.left.outer), self.staging.right.rows, self.staging.right.tile.extent
        columns = [value(add(mul(quarter, RUN), k * RUN * LANES)) for k in range(len(runs))]
        for k in range(0, len(runs), self.ahead):
            group = list(zip(columns, runs))[k:k + self.ahead]
            loaded = [self._loaded(points, c if count == padded else arith.MinUIOp(c, value(count - RUN)).result, run) for c, run in group]
            for (column, _), found in zip(group, loaded):
                _guarded(column, count, padded, lambda c=column, f=found: self._columns(points, c, f))

    def _loaded(self, points: Mapping[int, ir.Value], column: ir.Value, run: Sequence[ir.Value]) -> list[dict[ir.Operation, ir.Value]]:
        """What the body's loads give for neighbouring columns, as many at once as make 16 bytes."""
        type_, found = ir.VectorType.get([self.count], ir.F32Type.get()), []
        for part in range(0, RUN, self.count):
            own = vector.FromElementsOp(type_, list(run[part:part + self.count])).result
            values, env = {}, self._env(points, column, part)
            for op in self.loads:
                values[op] = own if op.operands[0] == self.sums else super()._load(op, Lanes(self.indices[-1], self.count), env)
            found.append(values)
        return found

    def _columns(self, points: Mapping[int, ir.Value], column: ir.Value, loaded: Sequence[dict[ir.Operation, ir.Value]]) -> None:
        for i, values in enumerate(loaded):
            self.loaded = values
            self.ops(self.block, Lanes(self.indices[-1], self.count), self._env(points, column, i * self.count))

    def _env(self, points: Mapping[int, ir.Value], column: ir.Value, part: int) -> dict[ir.Value, ir.Value]:
        """The foreach's indices in a row, `part` columns behind a column."""
        zero = arith.ConstantOp(ir.IndexType.get(), 0).result
        at = {**points, **self._points(value(add(column, part)), self.staging.right.outer)}
        return {**self.team.env, **{v: at.get(d, zero) for d, v in enumerate(self.indices)}}

    def _points(self, number: ir.Value, loops: Sequence[int]) -> dict[int, ir.Value]:
        """The indices of the loops whose points are numbered row-major."""
        whole = arith.IndexCastUIOp(ir.IndexType.get(), number).result
        extents = list(self.extents.values())
        return dict(zip(loops, delinearize(whole, [extents[d] for d in loops])))


def _guarded(number: ir.Value, count: int, padded: int, emit: Callable[[], None]) -> None:
    """Emits under the condition that a number below `padded` is below `count`."""
    if count == padded:
        emit()
    else:
        when(compare("ult", number, count), emit)


def _run(pairs: Sequence[tuple[ir.Value, ir.Value]], odd: ir.Value, high: ir.Value) -> list[ir.Value]:
    """Eight neighbouring columns of four times eight: lane n of the four that share a row gets the n-th eight.

    pairs: the lane's two columns of each eight. odd, high: the bits of n. The 4 x 4 pairs of four lanes are transposed by two exchanges.
    """
    low = []  # of the eights 0 or 1 and 2 or 3: the pairs of lanes 2 m and 2 m + 1, m = this lane's
    for even, uneven in (pairs[0:2], pairs[2:4]):
        own, other = _pick(odd, uneven, even), _moved(_pick(odd, even, uneven), 1)
        low.append((_pick(odd, other, own), _pick(odd, own, other)))
    first, second = low
    found = [(_pick(high, b, a), _moved(_pick(high, a, b), 2)) for a, b in zip(first, second)]
    return [v for swapped in (False, True) for own, other in found
            for v in _pick(high, *((own, other) if swapped else (other, own)))]


def _pick(condition: ir.Value, a: Sequence[ir.Value], b: Sequence[ir.Value]) -> list[ir.Value]:
    return [select(condition, x, y) for x, y in zip(a, b)]


def _moved(pair: Sequence[ir.Value], offset: int) -> list[ir.Value]:
    """A pair of the lane whose number differs in the bits of `offset`."""
    n, width = value(offset), value(32)
    return [gpu.ShuffleOp(v, n, width, gpu.ShuffleMode.XOR).results[0] for v in pair]


__all__ = ["Finish", "finished_by", "finishing"]
