"""Turned reads on a GPU: what a foreach reads along another dimension than it writes goes through shared memory, so both run along rows.

A foreach over a box that stores along its last loop, and loads along another, becomes two: the first walks the box as the source lies in
memory and copies it to a block buffer, the second is as before, but reads the buffer. Only shared memory is then walked across rows, whose
pitch spreads them over all banks. It does not matter what else the foreach computes or reads, nor how many of its reads are turned. Where
all that is stored behind a step of the loop that loads run along is a thread's vector, neighbouring threads take its steps as it is.
"""

from collections.abc import Sequence

from mlc.dialects import task
from mlc.ir.clone import clone
from mlc.ir.mlir import arith, ir
from mlc.passes.gpu.buffers import bytes_of
from mlc.passes.gpu.mapping.kernel import CROSSING, Kernel
from mlc.passes.task.body import Body
from mlc.passes.task.flat import Memory
from mlc.passes.tile.model import element_bytes, index_roots, volume
from mlc.passes.tile.turned import is_vector

SECTOR = 32  # bytes: what lies side by side in the source at least, so that a warp's loads are whole sectors
BANK = 4  # bytes
LEAST_ROW = 64  # bytes of a buffer's row, from which on it is padded


def turned_pitch(row: int, size: int) -> int:
    """Elements between rows of `row` elements that are written along and read across: an odd number of banks. size: bytes of an element."""
    if row * size < LEAST_ROW:
        return row
    step = max(1, BANK // size)
    return (-(-row // step) | 1) * step


def stage_turned(kernel: Kernel) -> None:
    """Rewrites the foreaches whose reads are turned, as far as shared memory reaches; `kernel.turned` are then the new block buffers.

    Boxes of fewer points than a warp has threads stay as they are.
    """
    room = kernel.target.shared_bytes - CROSSING - sum(bytes_of(op) for op in kernel.allocs())
    for op in kernel.named("task.foreach"):
        for load, loops in _turned(op, kernel.target.warp):
            extents = dict(zip(op.regions[0].blocks[0].arguments, op.opview.py("extents")))
            shape, size = [extents[v] for v in loops], element_bytes(load.operands[0])
            need = volume(shape[:-1]) * turned_pitch(shape[-1], size) * size
            if need <= room:
                room -= need
                kernel.turned.add(_stage(op, load, loops, extents))


def _turned(foreach: ir.Operation, warp: int) -> list[tuple[ir.Operation, list[ir.Value]]]:
    """Loads that run along another loop than the stores, each with the loops that move it, outermost in memory first."""
    body = Body(foreach, Memory())
    extents = {v: n for v, n in body.extents.items() if n > 1}
    if body.reductions or body.loops or len(extents) < 2 or volume(list(extents.values())) < warp:
        return []
    last = list(extents)[-1]
    if any(a.stride(last) != 1 for o, a in body.accesses.items() if o.name == "task.store"):
        return []
    found = []
    for view in body.block.operations:
        op = view.operation
        if op.name == "task.load":
            access = body.accesses[op]
            strides = {v: access.stride(v) for v in extents if access.stride(v)}
        elif op.name == "memref.load":
            strides = _gathered(op, extents)
        else:
            continue
        loops = sorted(strides, key=lambda v: -strides[v])
        if not loops or is_vector([extents[v] for v in list(extents)[list(extents).index(loops[-1]) + 1:]], element_bytes(op.operands[0])):
            continue
        if last in strides and strides[loops[-1]] == 1 and loops[-1] != last and op.operands[0].owner == foreach.block:
            run = 1
            for v in reversed(loops):
                run *= extents[v] if strides[v] == run else 1
            if run * element_bytes(op.operands[0]) >= SECTOR:
                found.append((op, loops))
    return found


def _gathered(load: ir.Operation, extents: dict[ir.Value, int]) -> dict[ir.Value, int]:
    """As strides, the order in which computed places follow the loops, where they depend on nothing else and one alone moves the last."""
    buffer, *places = list(load.operands)
    roots = [index_roots(v) for v in places]
    if not places or any(not isinstance(r.owner, ir.Block) or not isinstance(r.type, ir.IndexType) for r in set().union(*roots)):
        return {}
    inner = [v for v in extents if v in roots[-1]]
    if len(inner) != 1:
        return {}
    found = {inner[0]: 1}
    for v in reversed(extents):
        if v not in found and any(v in r for r in roots):
            found[v] = max(found.values()) * max(extents[inner[0]], buffer.type.shape[-1])
    return found


def _stage(foreach: ir.Operation, load: ir.Operation, loops: Sequence[ir.Value], extents: dict[ir.Value, int]) -> ir.Value:
    """Puts a foreach in front that copies what `load` reads to a block buffer [loops], which is read instead."""
    element = load.results[0].type
    shape, identity = [extents[v] for v in loops], ir.AffineMapAttr.get(ir.AffineMap.get_identity(len(loops)))
    with foreach.location, ir.InsertionPoint(foreach):
        buffer = task.AllocOp.build([], [ir.MemRefType.get(shape, element)], {"level": "shared"}).operation.results[0]
        copy = task.ForeachOp.build([], [], {"extents": shape}).operation
    body = copy.regions[0].blocks.append(*[ir.IndexType.get()] * len(shape))
    with load.location, ir.InsertionPoint(body):
        zero = arith.ConstantOp(ir.IndexType.get(), 0).result
        env: dict[ir.Value, ir.Value] = {**dict.fromkeys(extents, zero), **dict(zip(loops, body.arguments))}
        for op in _slice(load):
            clone(op, env)
        task.StoreOp.build([env[load.results[0]], buffer, *body.arguments], [], {"map": identity})
        task.YieldOp.build([], [])
    with load.location, ir.InsertionPoint(load):
        new = task.LoadOp.build([buffer, *loops], [element], {"map": identity}).operation
    load.results[0].replace_all_uses_with(new.results[0])
    load.erase()
    return buffer


def _slice(load: ir.Operation) -> list[ir.Operation]:
    """The ops of its block that a load depends on, itself included, in order."""
    needed, stack = set[ir.Operation](), [load]
    while stack:
        op = stack.pop()
        if op not in needed:
            needed.add(op)
            stack += [v.owner.operation for v in op.operands if not isinstance(v.owner, ir.Block) and v.owner.operation.block == load.block]
    return [v.operation for v in load.block.operations if v.operation in needed]
