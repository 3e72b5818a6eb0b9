"""Loads, stores and copies of a simulated GPU: memref, vector and nvgpu ops on the checked memories of `gpu_sim_memory`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gpu_sim_core import Fault, Lanes, Program, Step, dtype_of, rule, shape_of
from gpu_sim_memory import IN_FLIGHT, POISON, Ref, Space, bits, check_alignment, locate, spread

from mlc.ir.mlir import ir

DYNAMIC = ir.ShapedType.get_dynamic_size()


def load(lanes: Lanes, ref: Ref, indices: Sequence[Any], width: int, alignment: int) -> np.ndarray:
    """`width` elements from `indices`: [width], or [lanes, width] with zeros in inactive lanes."""
    position = locate(ref, indices, lanes.mask, width)
    space, size = ref.space, ref.dtype.itemsize
    check_alignment(position, max(alignment, size), lanes.mask)
    if space.start is None and space.shadow is None and not np.ndim(position):
        first = int(position) // size
        return space.view(ref.dtype)[first:first + width]
    position = np.broadcast_to(position, lanes.count)
    active = None if lanes.mask is None else np.flatnonzero(lanes.mask)
    start = 0 if space.start is None else space.start
    at = position + start if active is None else (position + start)[active]
    if space.shadow is not None:
        shadow = space.shadow
        own = shadow.own(lanes, slice(None) if active is None else active)
        shadow.read(spread(at, width * size // shadow.granule, shadow.granule), own)
    found = space.view(ref.dtype)[spread(at, width, size)]
    if active is None:
        return found
    whole = np.zeros((lanes.count, width), ref.dtype)
    whole[active] = found
    return whole


def store(lanes: Lanes, ref: Ref, indices: Sequence[Any], value: Any, alignment: int, allowed: np.ndarray | None = None) -> None:
    """value: [width] or [lanes, width]. allowed: lanes and elements to store, of those that are active."""
    value = np.asarray(value)
    width = value.shape[-1]
    mask = lanes.mask if allowed is None else allowed if lanes.mask is None else allowed & lanes.mask
    if mask is not None and not mask.any():
        return
    position = locate(ref, indices, mask, width)
    space, size = ref.space, ref.dtype.itemsize
    check_alignment(position, max(alignment, size), mask)
    space.written = True
    active = slice(None) if mask is None else np.flatnonzero(mask)
    at = (np.broadcast_to(position, lanes.count) + (0 if space.start is None else space.start))[active]
    value = np.broadcast_to(value, (lanes.count, width))[active]
    elements, view, wanted = spread(at, width, size), space.view(ref.dtype), bits(value)
    shadow = space.shadow
    if shadow is not None:
        pieces = size // shadow.granule
        differs = np.repeat(bits(view[elements]) != wanted, pieces, 1) if pieces > 1 else bits(view[elements]) != wanted
        shadow.write(spread(at, width * pieces, shadow.granule), shadow.own(lanes, active), differs)
    view[elements] = value
    if (bits(view[elements]) != wanted).any():
        raise Fault(f"data race: two threads write different values to one place of {space.name}")


# -- memrefs ------------------------------------------------------------------------------------------------------------


def strides_of(type_: ir.Type) -> tuple[tuple[int, ...], int]:
    strides, offset = type_.get_strides_and_offset()
    return tuple(strides), offset


@rule("gpu.dynamic_shared_memory")
def _dynamic(program: Program, op: ir.Operation) -> Step:
    target = program.slot(op.results[0])

    def run(lanes: Lanes) -> None:
        lanes.env[target] = Ref(lanes.shared, 0, (lanes.dynamic,), (1,), np.dtype(np.int8))

    return run


@rule("memref.view")
def _view(program: Program, op: ir.Operation) -> Step:
    (source, shift, *sizes), target = program.slots_of(op.operands), program.slot(op.results[0])
    type_ = op.results[0].type
    dtype, strides = dtype_of(type_), strides_of(type_)[0]
    static = list(type_.shape)

    def run(lanes: Lanes) -> None:
        env = lanes.env
        whole, rest = env[source], iter(sizes)
        shape = tuple(env[next(rest)] if n == DYNAMIC else n for n in static)
        end = env[shift] + int(np.prod(shape)) * dtype.itemsize
        if np.max(end) > whole.shape[0]:
            raise Fault(f"out of bounds: a view up to byte {np.max(end)} of {whole.shape[0]} in {whole.space.name}")
        env[target] = Ref(whole.space, whole.offset + env[shift], shape, strides, dtype)

    return run


@rule("memref.subview", "memref.reinterpret_cast")
def _subview(program: Program, op: ir.Operation) -> Step:
    source, target = program.slot(op.operands[0]), program.slot(op.results[0])
    dynamic = program.slots_of(list(op.operands)[1:])
    static = [list(op.attributes[f"static_{k}"]) for k in ("offsets", "sizes", "strides")]
    kept, cast = len(op.results[0].type.shape), op.name == "memref.reinterpret_cast"

    def run(lanes: Lanes) -> None:
        env, rest = lanes.env, iter(dynamic)
        offsets, sizes, strides = ([env[next(rest)] if n == DYNAMIC else n for n in part] for part in static)
        whole = env[source]
        if cast:
            env[target] = Ref(whole.space, offsets[0] * whole.dtype.itemsize, tuple(sizes), tuple(strides), whole.dtype)
            return
        shift = sum((o * s for o, s in zip(offsets, whole.strides)), 0) * whole.dtype.itemsize
        dims = [(n, s * own) for n, s, own in zip(sizes, strides, whole.strides)]
        unit = len(dims) - kept
        for d in range(len(dims) - 1, -1, -1):
            if unit and np.ndim(dims[d][0]) == 0 and dims[d][0] == 1:
                del dims[d]
                unit -= 1
        env[target] = Ref(whole.space, whole.offset + shift, tuple(n for n, _ in dims), tuple(s for _, s in dims), whole.dtype)

    return run


@rule("memref.collapse_shape", "memref.expand_shape")
def _reshaped(program: Program, op: ir.Operation) -> Step:
    source, target = program.slot(op.operands[0]), program.slot(op.results[0])
    shape, strides = tuple(op.results[0].type.shape), strides_of(op.results[0].type)[0]

    def run(lanes: Lanes) -> None:
        whole = lanes.env[source]
        lanes.env[target] = Ref(whole.space, whole.offset, shape, strides, whole.dtype)

    return run


@rule("memref.cast", "memref.memory_space_cast", "memref.assume_alignment")
def _same(program: Program, op: ir.Operation) -> Step:
    source, target = program.slot(op.operands[0]), program.slot(op.results[0])

    def run(lanes: Lanes) -> None:
        lanes.env[target] = lanes.env[source]

    return run


@rule("memref.alloca", "memref.alloc")
def _alloc(program: Program, op: ir.Operation) -> Step:
    target, type_ = program.slot(op.results[0]), op.results[0].type
    dtype, strides, shape = dtype_of(type_), strides_of(type_)[0], tuple(type_.shape)
    if DYNAMIC in shape:
        raise Fault(f"the simulator has no memory of unknown size: {op}")
    size = -(-int(np.prod(shape)) * dtype.itemsize // 64) * 64

    def run(lanes: Lanes) -> None:
        data = np.full(lanes.count * size, POISON, np.uint8)
        space = Space("a thread's own memory", data, size, np.arange(lanes.count) * size)
        lanes.env[target] = Ref(space, 0, shape, strides, dtype)

    return run


@rule("memref.dealloc")
def _dealloc(program: Program, op: ir.Operation) -> Step | None:
    return None


@rule("memref.dim")
def _dim(program: Program, op: ir.Operation) -> Step:
    (source, which), target = program.slots_of(op.operands), program.slot(op.results[0])

    def run(lanes: Lanes) -> None:
        lanes.env[target] = np.int64(lanes.env[source].shape[int(lanes.env[which])])

    return run


# -- loads and stores ---------------------------------------------------------------------------------------------------


def _alignment(op: ir.Operation) -> int:
    return op.attributes["alignment"].value if "alignment" in op.attributes else 1


@rule("memref.load", "vector.load")
def _load(program: Program, op: ir.Operation) -> Step:
    (source, *indices), target = program.slots_of(op.operands), program.slot(op.results[0])
    shape, alignment = shape_of(op.results[0].type), _alignment(op)
    width = shape[0] if shape else 1

    def run(lanes: Lanes) -> None:
        env = lanes.env
        value = load(lanes, env[source], [env[i] for i in indices], width, alignment)
        env[target] = value.copy() if shape else value[..., 0].copy()

    return run


@rule("memref.store", "vector.store")
def _store(program: Program, op: ir.Operation) -> Step:
    value, target, *indices = program.slots_of(op.operands)
    scalar, alignment = not shape_of(op.operands[0].type), _alignment(op)

    def run(lanes: Lanes) -> None:
        env = lanes.env
        stored = np.asarray(env[value])
        store(lanes, env[target], [env[i] for i in indices], stored[..., None] if scalar else stored, alignment)

    return run


@rule("vector.maskedload", "vector.gather")
def _masked_load(program: Program, op: ir.Operation) -> Step:
    """Lane by lane of the vector: only what the mask allows is touched."""
    gather, target = op.name == "vector.gather", program.slot(op.results[0])
    source, *indices = program.slots_of(list(op.operands)[:-3 if gather else -2])
    places = program.slot(op.operands[len(op.operands) - 3]) if gather else None
    flags, other = program.slots_of(list(op.operands)[-2:])
    width = shape_of(op.results[0].type)[0]

    def run(lanes: Lanes) -> None:
        env, outer = lanes.env, lanes.mask
        allowed = np.broadcast_to(env[flags], (lanes.count, width))
        result = np.broadcast_to(env[other], (lanes.count, width)).copy()
        for k in range(width):
            lanes.mask = allowed[:, k] if outer is None else allowed[:, k] & outer
            if lanes.mask.any():
                step = k if places is None else env[places][..., k].astype(np.int64)
                at = [*[env[i] for i in indices[:-1]], env[indices[-1]] + step]
                result[:, k] = np.where(lanes.mask, load(lanes, env[source], at, 1, 1)[..., 0], result[:, k])
        lanes.mask = outer
        env[target] = result

    return run


@rule("vector.maskedstore", "vector.scatter")
def _masked_store(program: Program, op: ir.Operation) -> Step:
    scatter = op.name == "vector.scatter"
    target, *indices = program.slots_of(list(op.operands)[:-3 if scatter else -2])
    places = program.slot(op.operands[len(op.operands) - 3]) if scatter else None
    flags, value = program.slots_of(list(op.operands)[-2:])
    width = shape_of(op.operands[len(op.operands) - 1].type)[0]

    def run(lanes: Lanes) -> None:
        env = lanes.env
        allowed = np.broadcast_to(env[flags], (lanes.count, width))
        for k in range(width):
            step = k if places is None else env[places][..., k].astype(np.int64)
            at = [*[env[i] for i in indices[:-1]], env[indices[-1]] + step]
            store(lanes, env[target], at, env[value][..., k:k + 1], 1, allowed[:, k])

    return run


@rule("memref.copy", "linalg.copy")
def _copy(program: Program, op: ir.Operation) -> Step:
    source, target = program.slots_of(op.operands)
    count = list(op.operands[0].type.shape)

    def run(lanes: Lanes) -> None:
        for index in np.ndindex(*count[:-1]):
            for k in range(count[-1] if count else 1):
                at = [*index, k][:len(count)]
                store(lanes, lanes.env[target], at, load(lanes, lanes.env[source], at, 1, 1), 1)

    return run


# -- asynchronous copies ------------------------------------------------------------------------------------------------


@dataclass
class _Copy:
    """Bytes on their way to shared memory, per lane. waiting: lanes whose copy has not landed; group: the one it will belong to."""

    space: Space
    bytes_at: np.ndarray
    values: np.ndarray
    group: np.ndarray
    waiting: np.ndarray


@rule("nvgpu.device_async_copy")
def _async_copy(program: Program, op: ir.Operation) -> Step:
    operands = list(op.operands)
    sizes = list(op.attributes["operandSegmentSizes"])
    ends = np.cumsum(sizes)
    target, into, source, start, given = (program.slots_of(operands[e - n:e]) for n, e in zip(sizes, ends))
    elements = op.attributes["dstElements"].value

    def run(lanes: Lanes) -> None:
        env = lanes.env
        from_, to = env[source[0]], env[target[0]]
        size = elements * to.dtype.itemsize
        if size not in (4, 8, 16):
            raise Fault(f"an asynchronous copy of {size} bytes; there are 4, 8 and 16")
        position = locate(to, [env[i] for i in into], lanes.mask, elements)
        check_alignment(position, size, lanes.mask)
        count = np.broadcast_to(env[given[0]] if given else np.int64(elements), lanes.count)
        values, outer = np.zeros((lanes.count, elements), to.dtype), lanes.mask
        for n in np.unique(count if outer is None else count[outer]):
            if n:
                lanes.mask = chosen = count == n if outer is None else (count == n) & outer
                values[:, :n] = np.where(chosen[:, None], load(lanes, from_, [env[i] for i in start], int(n), size), values[:, :n])
        lanes.mask = outer
        active, shadow = lanes.active(), to.space.shadow
        assert shadow is not None and to.space.start is not None
        at = np.broadcast_to(position, lanes.count) + to.space.start
        pieces = spread(at[active], size // shadow.granule, shadow.granule)
        shadow.write(pieces, shadow.own(lanes, active), True, IN_FLIGHT)
        if (shadow.writer[pieces] == shadow.base).any():
            raise Fault("data race: two threads copy to one place of shared memory")
        bytes_at = spread(at, size, 1)
        to.space.data[bytes_at[active]] = POISON
        waiting = np.zeros(lanes.count, bool)
        waiting[active] = True
        lanes.copies.append(_Copy(to.space, bytes_at, values.view(np.uint8), lanes.committed.copy(), waiting))

    return run


@rule("nvvm.cp.async.commit.group")
def _commit(program: Program, op: ir.Operation) -> Step:
    def run(lanes: Lanes) -> None:
        lanes.committed[lanes.active()] += 1

    return run


@rule("nvvm.cp.async.wait.group")
def _wait(program: Program, op: ir.Operation) -> Step:
    """All but the last `n` groups of the thread have landed; other threads see them after a barrier."""
    left = op.attributes["n"].value

    def run(lanes: Lanes) -> None:
        for copy in lanes.copies:
            done = copy.waiting & (copy.group < lanes.committed - left)
            if lanes.mask is not None:
                done &= lanes.mask
            landed = np.flatnonzero(done)
            if not len(landed):
                continue
            shadow, at = copy.space.shadow, copy.bytes_at[landed]
            assert shadow is not None
            copy.space.data[at] = copy.values[landed]
            shadow.land(at[:, ::shadow.granule] // shadow.granule, shadow.own(lanes, landed))
            copy.waiting &= ~done
        lanes.copies = [c for c in lanes.copies if c.waiting.any()]

    return run

