"""The schedule of rows on a GPU: how many threads share a row, what stays in their registers, and the kernel rewritten so that it does.

Every op of the rows gets one map over [rows, columns]; then the thread that writes an element of a buffer is the one that reads it, and the
buffer is of level "register". What several ops read from memory is loaded once, by an op of its own in front of them. A buffer with one
element per row is in the registers of all threads that share the row: they all compute it. Very long rows are in shared memory instead, or
split among the blocks of a cluster.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from mlc.dialects import task
from mlc.dialects._ext import operations, to_attr
from mlc.ir.affine import from_linear
from mlc.ir.mlir import ir
from mlc.layout.linear import Linear
from mlc.layout.mapping import TaskMap, repeat, spatial
from mlc.passes.gpu.block import WIDEST, aligned_lanes
from mlc.passes.gpu.rows import RowOp, Rows, accesses, find_rows
from mlc.passes.task.body import Body
from mlc.passes.task.flat import Access, Memory
from mlc.passes.tile.model import element_bytes, volume
from mlc.target import Target

MOST_THREADS = 1024  # of a block, on all GPUs
BLOCK = 512  # threads of a block that rows of fewer threads are put together to, at most
MOST_REGISTERS = 255  # of a thread
OTHERS = 28  # registers of a thread besides the rows' elements: addresses, and what is being computed
LINE = 8  # threads of a row that together read whole lines of cache
FEW = 4  # vectors of a row that a thread has where that takes more than a warp per row
MANY = 8  # vectors that a thread has before a warp is too few for a row, which saves barriers
MARGIN = 4 << 10  # bytes of shared memory for all else
MOST_VECTORS = 32  # of a thread: its code is straight
SPLIT = 256  # threads of a block that has a part of a row: some of them share an SM
CLUSTER = 8  # blocks of a cluster before they get more threads
IDLE = 1024  # threads that an SM would have in flight if it were busy
COMING = 256  # bytes that a thread loads, where more threads could
KEPT = 208  # bytes of a thread's elements where more threads could have them


@dataclass(frozen=True)
class RowPlan:
    """rows, columns: that one thread has, in vectors of `lanes` along the columns (or, `across`, along the rows).

    level: where buffers with an element per column are. In shared memory, too, a thread reads what it wrote. split: blocks of a cluster
    that a row's threads are in.
    """

    rows: int
    columns: int
    groups: int
    sharing: int
    lanes: int
    across: bool = False
    level: str = "register"
    split: int = 1

    @property
    def threads(self) -> int:
        return self.groups * self.sharing

    @property
    def thread_rows(self) -> int:
        return self.rows * (self.lanes if self.across else 1)

    @property
    def thread_points(self) -> int:
        return self.rows * self.columns * self.lanes

    @property
    def map(self) -> TaskMap:
        """Of the box [rows, columns]."""
        vector = repeat(self.lanes, 1) if self.across else repeat(1, self.lanes)
        return repeat(self.rows, self.columns) * spatial(self.groups, self.sharing) * vector

    @property
    def row_map(self) -> TaskMap:
        """Of ops with one point per row: all threads that share the row do them."""
        return repeat(self.rows, 1) * spatial(self.groups, self.sharing) * repeat(self.lanes if self.across else 1, 1)


def choose_rows(kernel: ir.Operation, aligned: Mapping[ir.Value, int], target: Target) -> RowPlan | None:
    """Rewrites a kernel's body, with maps and register buffers, if the rows of its ops fit in registers; else leaves it alone.

    aligned: bytes that the start of each of the kernel's arguments is aligned to.
    """
    rows = find_rows(kernel.regions[0].blocks[0])
    if rows is None:
        return None
    handed, loaded = _handed_on(rows, aligned), _loaded(rows, aligned)
    repeated = [group for group in loaded if len({f.op for f, _ in group}) > 1]
    kept = [_Kept.of(rows, group) for group in (*handed.values(), *repeated)]
    plan = _schedule(rows, kept, aligned, target, target.cluster if _apart(kernel, rows, handed) else 1)
    if plan is None or not (handed or repeated):
        return None
    if plan.level == "register" and volume(kernel.opview.py("grid")) * plan.threads <= target.sms * IDLE:
        # Nothing else hides how long memory takes, so everything comes at once.
        every = [_Kept.of(rows, group) for group in (*handed.values(), *loaded)]
        repeated = loaded if _bytes(every, plan.thread_rows, plan.thread_points) <= KEPT and _fits(plan, every, target) else repeated
    ops = [*(_load_once(rows, group, plan.level) for group in repeated), *rows.ops]
    for buffer, group in handed.items():
        level = plan.level if _Kept.of(rows, group).full else "register"
        if buffer in aligned:
            _keep_result(rows, group, level)
        else:
            buffer.owner.attributes["level"] = to_attr(level)
    for f in ops:
        f.op.attributes["map"] = to_attr(plan.map if f.columns else plan.row_map)
        if f.dims:
            f.op.attributes["columns"] = to_attr(f.dims)
    return plan


# -- what stays in registers ---------------------------------------------------------------------------------------------
Group = list[tuple[RowOp, ir.Operation]]  # accesses of one element per thread and point, with their ops, in order


def _handed_on(rows: Rows, arguments: Collection[ir.Value]) -> dict[ir.Value, Group]:
    """Buffers that one op of the rows writes and others read at the same place: block buffers without other users, and results."""
    box = {*rows.row_loops, *rows.column_loops}
    groups: dict[ir.Value, Group] = {}
    for f in rows.ops:
        for access, buffer in accesses(f.op):
            groups.setdefault(buffer, []).append((f, access))
    found = {}
    for buffer, group in groups.items():
        stores = [access for _, access in group if access.name == "task.store"]
        first = group[0][1]
        if len(stores) != 1 or first != stores[0] or rows.walked(first) not in (box, set(rows.row_loops)):
            continue
        alike = [(f, access) for f, access in group if rows.place(access) == rows.place(first)]
        users = len(list(buffer.uses))
        if len(alike) > 1 and (users == len(group) if buffer in arguments else users == len(alike)):
            found[buffer] = alike
    return found


def _apart(kernel: ir.Operation, rows: Rows, handed: Mapping[ir.Value, Group]) -> bool:
    """Whether no thread reads what another wrote, so that those that share a row need not be in one block."""
    known = {f.op for f in rows.ops}
    foreaches = [v.operation for v in kernel.regions[0].blocks[0].operations if v.operation.name == "task.foreach"]
    written = {access.operands[1] for op in foreaches for access, _ in accesses(op) if access.name == "task.store"}
    read = [(access, buffer) for op in foreaches for access, buffer in accesses(op) if access.name == "task.load" and buffer in written]
    mine = {access for group in handed.values() for _, access in group}
    return all(op in known for op in foreaches) and all(access in mine for access, _ in read)


def _loaded(rows: Rows, arguments: Collection[ir.Value]) -> list[Group]:
    """Loads of the same elements along the columns of an argument that the kernel does not write."""
    box, columns = {*rows.row_loops, *rows.column_loops}, set(rows.column_loops)
    groups: dict[object, Group] = {}
    for f in rows.ops:
        for access, buffer in accesses(f.op):
            walked = rows.walked(access)
            written = any(u.owner.operation.name != "task.load" for u in buffer.uses)
            if buffer in arguments and not written and walked is not None and columns <= walked <= box:
                groups.setdefault((buffer, rows.place(access)), []).append((f, access))
    return list(groups.values())


@dataclass(frozen=True)
class _Kept:
    """A register buffer: bytes of an element, whether it has one per column or one per row, and the first and last op that touch it."""

    size: int
    full: bool
    first: int
    last: int

    @staticmethod
    def of(rows: Rows, group: Group) -> "_Kept":
        order = [rows.ops.index(f) for f, _ in group]
        access = group[0][1]
        walked, stored = rows.walked(access), access.name == "task.store"
        size = element_bytes(access.operands[1 if stored else 0])
        full = walked is not None and set(rows.column_loops) <= walked
        # What narrower elements than 16 bits take is a register each.
        return _Kept(4 if size == 1 else size, full, order[0] if stored else 0, order[-1])


def _bytes(kept: Sequence[_Kept], rows: int, points: int) -> int:
    """Most bytes of register buffers that a thread with so many rows and points has at once."""
    last = max((k.last for k in kept), default=0)
    return max(sum(k.size * points if k.full else max(k.size, 4) * rows for k in kept if k.first <= at <= k.last) for at in range(last + 1))


def _load_once(rows: Rows, group: Group, level: str) -> RowOp:
    """A foreach in front of all that loads what the group's accesses do, and keeps it where they then find it."""
    (_, access), shape = group[0], [*rows.rows, *rows.columns]
    buffer, place = access.operands[0], rows.place(access)
    assert place is not None
    with rows.ops[0].op.location, ir.InsertionPoint(rows.ops[0].op):
        copy = _buffer(rows, access, buffer.type.element_type, level)
        op = task.ForeachOp.build([], [], {"extents": shape}).operation
    body = op.regions[0].blocks.append(*[ir.IndexType.get()] * len(shape))
    points = dict(zip((*rows.row_loops, *rows.column_loops), body.arguments))
    with access.location, ir.InsertionPoint(body):
        terms = [{**{points[v]: 1 for v in loop}, **dict(fixed)} for loop, (fixed, _) in zip(place.loops, place.rest)]
        # In an order of their own: `rest` has none, and equal models give equal code.
        indices = [v for v in (*body.arguments, *dict.fromkeys(list(access.operands)[1:])) if any(v in own for own in terms)]
        linear = [Linear(tuple(own.get(v, 0) for v in indices), const) for own, (_, const) in zip(terms, place.rest)]
        map_ = ir.AffineMapAttr.get(from_linear(linear, len(indices)))
        value = task.LoadOp.build([buffer, *indices], [buffer.type.element_type], {"map": map_}).operation.results[0]
        _store(copy, value, [points[v] for v in _order(rows, access)])
        task.YieldOp.build([], [])
    for f, load in group:
        _load_instead(rows, f, load, copy)
    count = len(rows.row_loops)
    arguments = list(body.arguments)
    return RowOp(op, tuple(arguments[:count]), tuple(arguments[count:]), None)


def _keep_result(rows: Rows, group: Group, level: str) -> None:
    """What is stored to a result and read again is kept, too."""
    (f, store), *loads = group
    with f.op.location, ir.InsertionPoint(f.op):
        copy = _buffer(rows, store, store.operands[1].type.element_type, level)
    own = _own_loops(rows, f)
    with store.location, ir.InsertionPoint(store):
        _store(copy, store.operands[0], [own[v] for v in _order(rows, store)])
    for g, load in loads:
        _load_instead(rows, g, load, copy)


def _order(rows: Rows, access: ir.Operation) -> list[ir.Value]:
    walked = rows.walked(access) or set()
    return [v for v in (*rows.row_loops, *rows.column_loops) if v in walked]


def _own_loops(rows: Rows, f: RowOp) -> dict[ir.Value, ir.Value]:
    return {rows.same[v]: v for v in (*f.rows, *f.columns)}


def _buffer(rows: Rows, access: ir.Operation, element: ir.Type, level: str) -> ir.Value:
    type_ = ir.MemRefType.get([rows.extents[v] for v in _order(rows, access)], element)
    return task.AllocOp.build([], [type_], {"level": level}).operation.results[0]


def _store(buffer: ir.Value, value: ir.Value, indices: Sequence[ir.Value]) -> None:
    task.StoreOp.build([value, buffer, *indices], [], {"map": _identity(len(indices))})


def _load_instead(rows: Rows, f: RowOp, load: ir.Operation, buffer: ir.Value) -> None:
    own = _own_loops(rows, f)
    indices = [own[v] for v in _order(rows, load)]
    with load.location, ir.InsertionPoint(load):
        new = task.LoadOp.build([buffer, *indices], [buffer.type.element_type], {"map": _identity(len(indices))}).operation
    load.results[0].replace_all_uses_with(new.results[0])
    load.erase()


def _identity(rank: int) -> ir.Attribute:
    return ir.AffineMapAttr.get(ir.AffineMap.get_identity(rank))


# -- threads -------------------------------------------------------------------------------------------------------------
def _schedule(rows: Rows, kept: Sequence[_Kept], aligned: Mapping[ir.Value, int], target: Target, split: int) -> RowPlan | None:
    """Threads by what memory likes: neighbours in it are vectors, then threads. None where a thread would have too much.

    split: blocks, at most, that may share a row.
    """
    moved = [(f, op, a) for f in rows.ops for op, a in Body(f.op, Memory()).accesses.items() if a.buffer in aligned]
    along = [(a, f.columns[-1]) for f, _, a in moved if f.columns and a.stride(f.columns[-1]) == 1]
    across = [(a, f.rows[-1]) for f, _, a in moved if f.columns and f.rows and a.stride(f.rows[-1]) == 1]
    if len(across) > len(along):
        return _across(rows, kept, _lanes(across, rows.rows[-1], aligned), target)
    if not along:
        return None
    loads = {(a.buffer, rows.place(op)): _times(f, op) * element_bytes(a.buffer)
             for f, op, a in moved if f.columns and op.name == "task.load"}
    lanes, load = _lanes(along, rows.columns[-1], aligned), sum(loads.values())
    plan = _along(rows, kept, load, lanes, target)
    if plan is not None and _fits(plan, kept, target):
        return plan
    if plan is not None:  # its threads have too few registers: those of several blocks have more
        return _split(rows, kept, load, lanes, target, plan.sharing, split) if _computes(rows) else None
    alone, parts = _in_shared(rows, kept, lanes, target), _split(rows, kept, load, lanes, target, 2 * MOST_THREADS, split)
    return parts if parts is not None and (alone is None or _computes(rows)) else alone


def _computes(rows: Rows) -> bool:
    """Whether whole rows meet functions (exp), which take so long that they should overlap with loads and stores of other rows."""
    return any(inner.name.startswith("math.") for f in rows.ops if f.columns for inner in operations(f.op))


def _times(f: RowOp, load: ir.Operation) -> int:
    """How often a load of an op is done for one column: in a reduction besides the columns', for each of its points."""
    inside = load.parent
    return volume(inside.opview.py("extents")) if inside.name == "task.reduce" and f.reduction is None else 1


def _lanes(walked: Sequence[tuple[Access, ir.Value]], extent: int, aligned: Mapping[ir.Value, int]) -> int:
    """Elements of a vector that are always whole and aligned."""
    lanes = WIDEST // max(element_bytes(a.buffer) for a, _ in walked)
    while lanes > 1 and extent % lanes:
        lanes //= 2
    return min(aligned_lanes(a, v, lanes, aligned[a.buffer]) for a, v in walked)


def _along(rows: Rows, kept: Sequence[_Kept], load: int, lanes: int, target: Target) -> RowPlan | None:
    """Neighbouring threads share a row: a warp, or fewer that come out even, and several warps where those would have too much.

    load: bytes that are loaded for a column.
    """
    count, vectors = volume(rows.rows), volume(rows.columns) // lanes
    even = vectors & -vectors
    sharing = min(target.warp, even if even >= LINE else _power_above(vectors))
    while sharing <= MOST_THREADS:
        plan = _grouped(sharing, count, vectors, lanes, target)
        coming = plan.thread_points * load
        few = plan.rows * plan.columns <= (MANY if sharing <= target.warp else FEW) and (coming <= COMING or plan.columns == 1)
        if few and _bytes(kept, plan.thread_rows, plan.thread_points) <= KEPT:
            return plan
        sharing *= 2
    return None


def _split(rows: Rows, kept: Sequence[_Kept], load: int, lanes: int, target: Target, sharing: int,
           most: int) -> RowPlan | None:
    """Several blocks of a cluster share a row, so small that an SM has some of them: while one joins parts or computes, others load.

    load: as of `_along`. sharing: threads, at least. most: blocks; more than `CLUSTER` are slow to begin and to meet, so that larger blocks
    are better.
    """
    count, vectors = volume(rows.rows), volume(rows.columns) // lanes
    while sharing <= MOST_THREADS * most:
        threads = SPLIT if sharing <= CLUSTER * SPLIT else 2 * SPLIT
        plan = RowPlan(count, -(-vectors // sharing), 1, sharing, lanes, split=max(1, min(most, sharing // threads)))
        few = count * plan.columns <= MANY and (plan.thread_points * load <= COMING or plan.columns == 1)
        if few and _bytes(kept, plan.thread_rows, plan.thread_points) <= KEPT and _fits(plan, kept, target):
            return plan
        sharing *= 2
    return None


def _in_shared(rows: Rows, kept: Sequence[_Kept], lanes: int, target: Target) -> RowPlan | None:
    """One block for a row, which lies in its shared memory."""
    plan = replace(_grouped(MOST_THREADS, volume(rows.rows), volume(rows.columns) // lanes, lanes, target), level="shared")
    held = sum(k.size * volume(rows.rows) * volume(rows.columns) for k in kept if k.full)
    return plan if plan.rows * plan.columns <= MOST_VECTORS and held <= target.shared_bytes - MARGIN else None


def _grouped(sharing: int, count: int, vectors: int, lanes: int, target: Target) -> RowPlan:
    """As many rows side by side as a block takes."""
    groups = max(1, target.warp // sharing, min(_power_above(count), BLOCK // sharing))
    return RowPlan(-(-count // groups), -(-vectors // sharing), groups, sharing, lanes)


def _across(rows: Rows, kept: Sequence[_Kept], lanes: int, target: Target) -> RowPlan | None:
    """Rows are neighbours in memory, so each has a thread of its own, or a vector of them has."""
    count, columns = volume(rows.rows), volume(rows.columns)
    while lanes >= 1:
        groups = min(BLOCK, max(target.warp, _power_above(-(-count // lanes))))
        plan = RowPlan(-(-count // (groups * lanes)), columns, groups, 1, lanes, across=True)
        if _bytes(kept, plan.thread_rows, plan.thread_points) <= KEPT and _fits(plan, kept, target):
            return plan
        lanes //= 2
    return None


def _fits(plan: RowPlan, kept: Sequence[_Kept], target: Target) -> bool:
    """Whether a thread's registers hold its elements, and its code stays short."""
    registers = min(MOST_REGISTERS, target.registers * plan.split // plan.threads)
    held = _bytes(kept, plan.thread_rows, plan.thread_points)
    return plan.rows * plan.columns <= MOST_VECTORS and held <= 4 * (registers - OTHERS)


def _power_above(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << (n - 1).bit_length() if n > 1 else 1
