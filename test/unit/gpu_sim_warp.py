"""What the threads of a block do together on a simulated GPU: who they are, barriers, shuffles and matrix instructions."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from gpu_sim_core import Fault, Lanes, Program, Step, dtype_of, rule, shape_of
from gpu_sim_memory import check_alignment, check_index, locate, spread

from mlc.ir.mlir import ir
from mlc.layout.fragments import ATOMS, Fragment

_IDENTITIES: dict[str, Callable[[Lanes], Any]] = {
    "gpu.thread_id": lambda s: s.thread, "gpu.block_id": lambda s: s.block, "gpu.block_dim": lambda s: np.int64(s.threads),
    "gpu.grid_dim": lambda s: np.int64(s.grid), "gpu.lane_id": lambda s: s.thread % s.warp, "gpu.subgroup_id": lambda s: s.thread // s.warp,
    "gpu.subgroup_size": lambda s: np.int64(s.warp), "gpu.num_subgroups": lambda s: np.int64(-(-s.threads // s.warp)),
}


@rule(*_IDENTITIES)
def _identity(program: Program, op: ir.Operation) -> Step:
    target, of = program.slot(op.results[0]), _IDENTITIES[op.name]
    if "dimension" in op.attributes and "dim x" not in str(op.attributes["dimension"]):
        of = (lambda s: np.int64(0)) if op.name.endswith("_id") else lambda s: np.int64(1)

    def run(lanes: Lanes) -> None:
        lanes.env[target] = of(lanes)

    return run


@rule("nvvm.griddepcontrol", "nvvm.prefetch")
def _nothing(program: Program, op: ir.Operation) -> Step | None:
    return None


@rule("gpu.barrier", "nvvm.barrier0")
def _barrier(program: Program, op: ir.Operation) -> Step:
    if "scope" in op.attributes and "workgroup" not in str(op.attributes["scope"]):
        raise Fault(f"the simulator has no barrier of this scope: {op}")

    def run(lanes: Lanes) -> None:
        blocks = None
        if lanes.mask is not None:
            arrived = lanes.mask.reshape(lanes.blocks, lanes.threads)
            if (arrived.any(1) != arrived.all(1)).any():
                raise Fault("a barrier that only some threads of a block reach")
            blocks = None if arrived.all() else np.flatnonzero(arrived.any(1))
        lanes.epoch = lanes.epoch + (1 if blocks is None else lanes.mask.astype(np.int64))
        assert lanes.shared.shadow is not None
        lanes.shared.shadow.barrier(blocks, lanes.shared.size)

    return run


@rule("nvvm.cluster.arrive", "nvvm.cluster.arrive.relaxed")
def _cluster_arrive(program: Program, op: ir.Operation) -> Step:
    how = "relaxed" if op.name.endswith("relaxed") else "released"

    def run(lanes: Lanes) -> None:
        if not lanes.cluster:
            raise Fault("a cluster barrier in a kernel without clusters")
        if lanes.mask is not None and not lanes.mask.all():
            raise Fault("a cluster barrier that only some threads reach")
        if lanes.arrived:
            raise Fault("arrives at a cluster barrier twice, with no wait between")
        lanes.arrived = how
        if how == "released":
            for traces in lanes.traces:
                traces.arrive()

    return run


@rule("nvvm.cluster.wait")
def _cluster_wait(program: Program, op: ir.Operation) -> Step:
    def run(lanes: Lanes) -> None:
        if not lanes.arrived:
            raise Fault("waits at a cluster barrier without having arrived")
        relaxed, lanes.arrived, lanes.met = lanes.arrived == "relaxed", "", True
        if relaxed:
            return
        lanes.told = False
        lanes.epoch = lanes.epoch + 1
        assert lanes.shared.shadow is not None
        lanes.shared.shadow.barrier(None, lanes.shared.size)
        for traces in lanes.traces:
            traces.meet()

    return run


@rule("nvvm.mapa")
def _mapa(program: Program, op: ir.Operation) -> Step:
    (address, number), target = program.slots_of(op.operands), program.slot(op.results[0])

    def run(lanes: Lanes) -> None:
        check_index(lanes.env[number], lanes.cluster, lanes.mask, "the cluster's blocks")
        lanes.env[target] = np.broadcast_to(lanes.env[address], lanes.count), np.broadcast_to(lanes.env[number], lanes.count)

    return run


@rule("llvm.store")
def _store_far(program: Program, op: ir.Operation) -> Step:
    """To the shared memory of any block of the cluster; a thread's number there is none of that block's."""
    value, pointer = program.slots_of(op.operands)
    dtype = dtype_of(op.operands[0].type)
    if "ptr<7>" not in str(op.operands[1].type):
        raise Fault(f"the simulator stores by pointers to a cluster's memory only: {op}")

    def run(lanes: Lanes) -> None:
        if not lanes.met:
            raise Fault("writes to another block, which may not have begun")
        if lanes.arrived:
            raise Fault("writes to another block between arriving at a cluster barrier and waiting")
        lanes.told = True
        address, number = lanes.env[pointer]
        shared, active = lanes.shared, lanes.active()
        at, size, shadow = address[active], dtype.itemsize, lanes.shared.shadow
        check_index(at, lanes.dynamic, None, "another block's shared memory", size)
        check_alignment(at, size, None)
        at = at + number[active] * shared.size
        pieces, given = spread(at, size // shadow.granule, shadow.granule), np.broadcast_to(lanes.env[value], lanes.count)[active]
        if (shadow.writer[pieces] >= shadow.base).any() or (shadow.reader[pieces] >= shadow.base).any() or len(set(at)) < len(at):
            raise Fault("data race: writes shared memory of another block that some thread read or wrote, with no barrier between")
        shadow.write(pieces, shadow.base, True)
        shared.view(dtype)[at // size] = given.astype(dtype)

    return run


@rule("gpu.shuffle")
def _shuffle(program: Program, op: ir.Operation) -> Step:
    sources, (result, valid) = program.slots_of(op.operands), program.slots_of(op.results)
    mode = str(op.attributes["mode"]).removeprefix("#gpu<shuffle_mode ").removesuffix(">")
    rank = len(shape_of(op.operands[0].type))

    def run(lanes: Lanes) -> None:
        value, offset, width = (lanes.env[s] for s in sources)
        lane = lanes.thread % lanes.warp
        first = lane - lane % width
        offset = np.asarray(offset, np.int64)
        wanted = {"xor": lane ^ offset, "up": lane - offset, "down": lane + offset, "idx": first + offset}[mode]
        inside = (wanted >= first) & (wanted < first + width)
        source = np.where(inside, wanted, lane)
        at = np.arange(lanes.count) - lane + source
        missing = lanes.thread - lane + source >= lanes.threads
        at = np.where(missing, 0, at)
        if lanes.mask is not None:
            missing = (missing | ~lanes.mask[at]) & lanes.mask
        if missing.any():
            raise Fault("a shuffle that reads an inactive lane")
        lanes.env[result] = np.asarray(value)[at] if np.ndim(value) > rank else value
        lanes.env[valid] = inside

    return run


def _warps(lanes: Lanes) -> np.ndarray:
    """Numbers of the active warps; whole ones, or it is a fault."""
    if lanes.threads % lanes.warp:
        raise Fault(f"a block of {lanes.threads} threads has no whole warps of {lanes.warp}")
    if lanes.mask is None:
        return np.arange(lanes.count // lanes.warp)
    together = lanes.mask.reshape(-1, lanes.warp)
    if (together.any(1) != together.all(1)).any():
        raise Fault("an instruction of a whole warp that only some of its threads reach")
    return np.flatnonzero(together.any(1))


def _of_warps(lanes: Lanes, value: Any, rank: int) -> np.ndarray:
    """[warps, lanes, elements] of a vector."""
    value = np.asarray(value)
    shape = value.shape[value.ndim - rank:]
    return np.broadcast_to(value, (lanes.count, *shape)).reshape(-1, lanes.warp, int(np.prod(shape)))


@rule("nvgpu.ldmatrix")
def _ldmatrix(program: Program, op: ir.Operation) -> Step:
    (source, *indices), target = program.slots_of(op.operands), program.slot(op.results[0])
    matrices, trans = op.attributes["numTiles"].value, bool(op.attributes["transpose"].value)
    shape, dtype = shape_of(op.results[0].type), dtype_of(op.results[0].type)
    lane, k = np.arange(32)[:, None, None], np.arange(matrices)[None, :, None]
    pair = lane % 4 * 2 + np.arange(2)
    rows, columns = (pair, lane // 4) if trans else (lane // 4, pair)

    def run(lanes: Lanes) -> None:
        env, ref = lanes.env, lanes.env[source]
        shadow, outer, warps = ref.space.shadow, lanes.mask, _warps(lanes)
        if shadow is None:
            raise Fault("ldmatrix reads shared memory only")
        gives = lanes.thread % 32 < 8 * matrices
        lanes.mask = gives if outer is None else gives & outer
        position = locate(ref, [env[i] for i in indices], lanes.mask, 16 // ref.dtype.itemsize)
        check_alignment(position, 16, lanes.mask)
        at = (np.broadcast_to(position, lanes.count) + ref.space.start)[lanes.mask]
        lanes.mask = outer
        shadow.read(spread(at, 16 // shadow.granule, shadow.granule), shadow.base)
        tiles = ref.space.data[spread(at, 16, 1)].view(np.uint16).reshape(len(warps), matrices, 8, 8)
        found = np.zeros((lanes.count // 32, 32, matrices * 2), np.uint16)
        found[warps] = tiles[:, k, rows, columns].reshape(len(warps), 32, -1)
        env[target] = found.view(dtype).reshape(lanes.count, *shape)

    return run


@cache
def _places(fragment: Fragment) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns, each [lanes, elements]."""
    at = np.array([[fragment.at(lane, e) for e in range(fragment.size)] for lane in range(fragment.lanes)])
    return at[..., 0], at[..., 1]


def _tile(fragment: Fragment, values: np.ndarray, wide: np.dtype) -> np.ndarray:
    """[warps, rows, columns] from what the lanes hold."""
    tile = np.zeros((len(values), *fragment.shape), wide)
    tile[:, *_places(fragment)] = values.astype(wide)
    return tile


def _product(program: Program, op: ir.Operation, atom: str, narrow: Callable[[np.ndarray], np.ndarray] = lambda x: x) -> Step:
    """The sum c + a * b of the fragments of ATOMS, in f32 (or i32). narrow: what the instruction does to its factors first."""
    if atom not in ATOMS:
        raise Fault(f"the simulator has no instruction {atom}")
    known = ATOMS[atom]
    a, b, c = known.a, known.b, known.c
    assert a is not None and b is not None
    sources, target = program.slots_of(list(op.operands)[:3]), program.slot(op.results[0])
    ranks = [len(shape_of(v.type)) for v in list(op.operands)[:3]]
    shape, dtype = shape_of(op.results[0].type), dtype_of(op.results[0].type)
    wide = np.dtype(np.int32 if known.output == "i32" else np.float32)

    def run(lanes: Lanes) -> None:
        if lanes.warp != c.lanes:
            raise Fault(f"{atom} is an instruction of {c.lanes} lanes, warps have {lanes.warp}")
        warps = _warps(lanes)
        left, right, sums = (_of_warps(lanes, lanes.env[s], rank)[warps] for s, rank in zip(sources, ranks))
        x, y = _tile(a, narrow(left), wide), _tile(b, narrow(right), wide)
        made = (_tile(c, sums, wide) + x @ y)[:, *_places(c)].astype(dtype)
        result = np.zeros((lanes.count // lanes.warp, lanes.warp, c.size), dtype)
        result[warps] = made
        lanes.env[target] = result.reshape(lanes.count, *shape)

    return run


def _tf32(x: np.ndarray) -> np.ndarray:
    """f32 without the 13 bits of fraction that tensor cores do not read."""
    return (np.ascontiguousarray(x).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


@rule("nvgpu.mma.sync")
def _mma(program: Program, op: ir.Operation) -> Step:
    m, n, k = (int(getattr(x, "value", x)) for x in op.attributes["mmaShape"])
    element = str(op.operands[0].type.element_type)
    kind = {"i8": "s8", "f32": "tf32", "f8E4M3FN": "e4m3"}.get(element, element)
    if kind == "tf32" and "tf32Enabled" not in op.attributes:
        raise Fault("mma.sync of f32 without tf32Enabled")
    return _product(program, op, f"mma.m{m}n{n}k{k}.{kind}", _tf32 if kind == "tf32" else lambda x: x)


@rule("amdgpu.mfma")
def _mfma(program: Program, op: ir.Operation) -> Step:
    m, n, k, blocks = (op.attributes[name].value for name in ("m", "n", "k", "blocks"))
    if blocks != 1 or op.attributes["cbsz"].value or op.attributes["abid"].value or "none" not in str(op.attributes["blgp"]):
        raise Fault("the simulator has no mfma of several blocks, broadcasts or permutations")
    out, element = (str(getattr(v.type, "element_type", v.type)) for v in (op.results[0], op.operands[0]))
    return _product(program, op, f"mfma.{out}_{m}x{n}x{k}_{element}")


@rule("amdgpu.wmma")
def _wmma(program: Program, op: ir.Operation) -> Step:
    m, n, k = (op.attributes[name].value for name in ("m", "n", "k"))
    element, size = op.operands[0].type.element_type, op.operands[0].type.shape[0]
    out = str(op.results[0].type.element_type)
    return _product(program, op, f"wmma.{'gfx11' if size == 16 else 'gfx12'}.{out}_{m}x{n}x{k}_{element}")
