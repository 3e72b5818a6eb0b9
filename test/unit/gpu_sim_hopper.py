"""What sm_90a adds to a simulated GPU: mbarriers, copies of boxes by tensor maps, and matrix products of warpgroups (PTX ISA 9.7).

Shared addresses are bytes from the start of a block's memory. A box lands when it is asked for; a product reads its operands when it is
waited for: as early, and as late, as the hardware may. What mbarriers order is not checked for races, so it shows in the numbers.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gpu_sim_core import Fault, Lanes, Program, Step, pure, rule
from gpu_sim_memory import READY

from mlc.dtypes import BY_NAME
from mlc.ir.mlir import ir

GROUP = 128  # threads of a warpgroup
BOX_ROW = 128  # bytes, and the period of the swizzle in rows of 8


@dataclass
class MapValue:
    """A tensor map as a kernel argument: what plan.json says of it, and the memory it describes."""

    spec: dict[str, Any]
    data: np.ndarray
    start: int

    def box(self, at: list[int]) -> np.ndarray:
        """Bytes of the box at `at` (outermost first), [rows, bytes of a row]; zeros outside of the array."""
        dtype = BY_NAME[self.spec["dtype"]].numpy
        shape, strides, box = (self.spec[k] for k in ("shape", "strides", "box"))
        count = 1 + sum((n - 1) * s for n, s in zip(shape, strides))
        if self.start % 16 or any(s * dtype.itemsize % 16 for s in strides[:-1]) or strides[-1] != 1:
            raise Fault(f"a tensor map of memory that is not aligned to 16 bytes: {self.spec}")
        if at[-1] * dtype.itemsize % 16:
            raise Fault(f"a box begins at element {at[-1]}, which is not at a multiple of 16 bytes")
        raw = np.dtype(f"u{dtype.itemsize}")
        flat = self.data[self.start:self.start + count * dtype.itemsize].view(raw)
        indices = [np.arange(first, first + n) for first, n in zip(at, box)]
        inside = np.ones((), bool)
        place = np.zeros((), np.int64)
        for d, (index, size, stride) in enumerate(zip(indices, shape, strides)):
            form = [-1 if k == d else 1 for k in range(len(box))]
            inside = inside & ((index >= 0) & (index < size)).reshape(form)
            place = place + (np.clip(index, 0, size - 1) * stride).reshape(form)
        found = np.where(inside, flat[place], 0).astype(raw)
        if self.spec["dtype"] == "f32":
            found = _tf32(found)
        return found.reshape(-1, box[-1]).view(np.uint8)


def _tf32(bits: np.ndarray) -> np.ndarray:
    """f32 to the nearest number of tf32, ties to even; what is not finite stays."""
    one = np.uint32(1)
    nearest = bits + np.uint32(0xFFF) + (bits >> np.uint32(13) & one) & np.uint32(0xFFFFE000)
    return np.where(bits & np.uint32(0x7F800000) == np.uint32(0x7F800000), bits, nearest)


@dataclass
class Barrier:
    """An mbarrier in each block: arrivals of a phase, those and the bytes still to come, and the parity of the phase under way."""

    count: int
    pending: np.ndarray
    bytes: np.ndarray
    parity: np.ndarray

    def settle(self, lanes: Lanes) -> None:
        """Ends the phase where nothing is to come."""
        done = (self.pending == 0) & (self.bytes == 0)
        self.parity[done] ^= 1
        self.pending[done] = self.count
        if done.any() and lanes.turns is not None:
            lanes.turns.stuck = 0


@dataclass
class Warpgroups:
    """Products that were issued and not waited for: closures, in groups."""

    open: list[Callable[[], None]] = field(default_factory=list)
    groups: list[list[Callable[[], None]]] = field(default_factory=list)

    def wait(self, pending: int) -> None:
        while len(self.groups) > pending:
            for product in self.groups.pop(0):
                product()


def _one(value: Any, lanes: Lanes) -> int:
    """The number that all active lanes agree on."""
    found = np.unique(np.broadcast_to(value, lanes.count)[lanes.active()])
    if len(found) != 1:
        raise Fault("an address or coordinate that differs between threads or blocks")
    return int(found[0])


def _per_block(value: Any, lanes: Lanes) -> dict[int, int]:
    """Block -> the number that its one active thread has."""
    active = lanes.active()
    blocks = active // lanes.threads
    if len(np.unique(blocks)) != len(blocks):
        raise Fault("an operation of one thread that several threads of a block reach")
    return dict(zip(blocks.tolist(), np.broadcast_to(value, lanes.count)[active].tolist()))


# -- pointers -----------------------------------------------------------------------------------------------------------


@rule("memref.extract_aligned_pointer_as_index")
def _address(program: Program, op: ir.Operation) -> Step:
    source, target = program.slot(op.operands[0]), program.slot(op.results[0])

    def run(lanes: Lanes) -> None:
        lanes.env[target] = np.int64(lanes.env[source].offset)

    return run


@pure("llvm.inttoptr", "llvm.ptrtoint", "llvm.addrspacecast")
def _same(op: ir.Operation) -> Callable[[Any], Any]:
    return lambda x: x


@pure("llvm.getelementptr")
def _advanced(op: ir.Operation) -> Callable[..., Any]:
    constants = [c for c in op.attributes["rawConstantIndices"] if c != -(1 << 31)]
    if len(constants) + len(op.operands) != 2 or str(op.attributes["elem_type"]) != "i8":
        raise Fault(f"the simulator moves pointers by bytes only: {op}")
    return (lambda x: x + np.int32(constants[0])) if constants else lambda x, offset: x + offset


@rule("llvm.extractvalue")
def _part(program: Program, op: ir.Operation) -> Step:
    source, target, = program.slot(op.operands[0]), program.slot(op.results[0])
    number, = op.attributes["position"]

    def run(lanes: Lanes) -> None:
        lanes.env[target] = lanes.env[source][number]

    return run


# -- mbarriers ----------------------------------------------------------------------------------------------------------


@rule("nvvm.mbarrier.init")
def _init(program: Program, op: ir.Operation) -> Step:
    pointer, count = program.slots_of(op.operands)

    def run(lanes: Lanes) -> None:
        arrivals = _one(lanes.env[count], lanes)
        zeros = np.zeros(lanes.blocks, np.int64)
        lanes.barriers[_one(lanes.env[pointer], lanes)] = Barrier(arrivals, zeros + arrivals, zeros.copy(), zeros.copy())

    return run


@rule("nvvm.fence.mbarrier.init", "nvvm.fence.proxy", "nvvm.wgmma.fence.aligned", "nvvm.bar.warp.sync")
def _fence(program: Program, op: ir.Operation) -> Step | None:
    return None


@rule("nvvm.barrier")
def _named_barrier(program: Program, op: ir.Operation) -> Step:
    threads = program.slot(op.operands[1])

    def run(lanes: Lanes) -> None:
        arrived = len(lanes.active())
        if arrived != lanes.blocks * _one(lanes.env[threads], lanes):
            raise Fault("a named barrier that another number of threads reaches")
        lanes.epoch = lanes.epoch + 1
        lanes.shared.shadow.barrier(None, lanes.shared.size)

    return run


def _barriers(lanes: Lanes, pointer: Any) -> list[tuple[Barrier, np.ndarray]]:
    """The mbarriers that active lanes name, and which lanes name each."""
    active = lanes.active()
    found = np.broadcast_to(pointer, lanes.count)[active]
    missing = [int(a) for a in np.unique(found) if int(a) not in lanes.barriers]
    if missing:
        raise Fault(f"an mbarrier at {missing[0]} that was not initialised")
    return [(lanes.barriers[int(a)], active[found == a]) for a in np.unique(found)]


def _arrive(lanes: Lanes, pointer: Any, more: Any = 0) -> None:
    for barrier, active in _barriers(lanes, pointer):
        barrier.pending -= np.bincount(active // lanes.threads, minlength=lanes.blocks)
        barrier.bytes[np.unique(active // lanes.threads)] += _one(more, lanes)
        if (barrier.pending < 0).any():
            raise Fault("more arrivals at an mbarrier than it expects")
        barrier.settle(lanes)


def _wait(lanes: Lanes, pointer: Any, parity: Any) -> None:
    wanted = np.broadcast_to(parity, lanes.count)
    waits = [(barrier, active // lanes.threads, wanted[active]) for barrier, active in _barriers(lanes, pointer)]
    if lanes.turns is None:
        raise Fault("waits for an mbarrier outside of a branch whose other side could complete it")
    lanes.turns.wait(lambda: all(bool((barrier.parity[blocks] != own).all()) for barrier, blocks, own in waits))


@rule("nvvm.cp.async.bulk.tensor.shared.cluster.global")
def _load_box(program: Program, op: ir.Operation) -> Step:
    segments = list(op.attributes["operandSegmentSizes"])
    slots = program.slots_of(op.operands)
    rank = segments[2]
    target, source, coordinates, barrier = slots[0], slots[1], slots[2:2 + rank], slots[2 + rank]
    if segments[3:4] != [1] or sum(segments) != len(slots) or len(slots) != 3 + rank:
        raise Fault(f"the simulator has no such copy: {op}")

    def run(lanes: Lanes) -> None:
        env, map_ = lanes.env, lanes.env[source]
        places = [_per_block(env[c], lanes) for c in coordinates]
        shared = lanes.shared
        states = {int(lane) // lanes.threads: state for state, active in _barriers(lanes, env[barrier]) for lane in active}
        for block, to in _per_block(env[target], lanes).items():
            box = map_.box([p[block] for p in places][::-1])
            if to % (8 * BOX_ROW) or map_.spec["swizzle"] != BOX_ROW or box.shape[1] != BOX_ROW or to + box.size > lanes.dynamic:
                raise Fault(f"a box of {box.shape} bytes at {to}: rows of {BOX_ROW} at a multiple of {8 * BOX_ROW}, inside, are expected")
            start = block * shared.size + to
            at = np.arange(box.size).reshape(-1, 16)
            at ^= (at >> 7 & 7) << 4
            shared.data[start + at] = box.reshape(-1, 16)
            pieces = slice(start // shared.shadow.granule, (start + box.size) // shared.shadow.granule)
            shared.shadow.state[pieces], shared.shadow.writer[pieces], shared.shadow.reader[pieces] = READY, 0, 0
            states[block].bytes[block] -= box.size
        for state in states.values():
            state.settle(lanes)

    return run


# -- products of warpgroups ---------------------------------------------------------------------------------------------


def _operand(lanes: Lanes, block: int, descriptor: int, rows: int, depth: int, k_major: bool, size: int) -> np.ndarray:
    """[rows, depth] elements of `size` bytes that a matrix descriptor names (128-byte swizzle)."""
    start, leading, stride = ((descriptor >> shift & 0x3FFF) << 4 for shift in (0, 16, 32))
    if descriptor >> 62 != 1 or descriptor >> 49 & 7:
        raise Fault(f"the simulator knows the 128-byte swizzle only, got descriptor {descriptor:#x}")
    row, k = np.arange(rows)[:, None], np.arange(depth)[None, :]
    along, line = (k, row) if k_major else (row, k)
    elements = BOX_ROW // size
    if k_major and depth > elements:
        raise Fault("one instruction reads no further than a row")
    at = start + line // 8 * stride + line % 8 * BOX_ROW + along // elements * leading * (not k_major) + along % elements * size
    at = at ^ ((at >> 7 & 7) << 4)
    place = block * lanes.shared.size + at  # what nobody wrote is NaN: a tile may have rows of padding
    return lanes.shared.data[place[..., None] + np.arange(size)].view(f"u{size}")[..., 0]


def _multiply(lanes: Lanes, shape: str, dtype: str, transposed: tuple[int, int], sums: list[Any], a: list[Any],
              b: Any) -> tuple[np.ndarray, ...]:
    """sums: of before, none for zero. a: a descriptor, or four registers."""
    n, kind = int(shape), np.dtype(np.float32) if dtype == "tf32" else BY_NAME[dtype].numpy
    size, depth = kind.itemsize, 32 // kind.itemsize
    made = tuple(np.zeros(lanes.count, np.float32) for _ in range(n // 2))
    groups = lanes.active().reshape(-1, GROUP)
    if (groups % lanes.threads % GROUP != np.arange(GROUP)).any():
        raise Fault("wgmma that only some threads of a warpgroup reach")
    lane = np.arange(GROUP)
    first_row, first_column = lane // 32 * 16 + lane % 32 // 4, lane % 4 * 2

    def read(block: int, descriptor: Any, group: np.ndarray, rows: int, k_major: bool) -> np.ndarray:
        bits = _operand(lanes, block, _descriptor(lanes, descriptor, group), rows, depth, k_major, size)
        return (bits & bits.dtype.type(0xFFFFE000) if dtype == "tf32" else bits).view(kind).astype(np.float32)

    def product() -> None:
        for group in groups:
            block = int(group[0]) // lanes.threads
            right = read(block, b, group, n, not transposed[1])
            if len(a) == 1:
                left = read(block, a[0], group, 64, not transposed[0])
            else:
                left = np.zeros((64, 16), np.float32)
                for i, register in enumerate(a):
                    pair = np.ascontiguousarray(np.broadcast_to(register, lanes.count)[group]).view(kind).reshape(GROUP, 2)
                    for k in range(2):
                        left[first_row + i % 2 * 8, first_column + i // 2 * 8 + k] = pair[:, k]
            tile = left @ right.T
            for i, new in enumerate(made):
                row, column = first_row + i // 2 % 2 * 8, first_column + i // 4 * 8 + i % 2
                new[group] = (np.broadcast_to(sums[i], lanes.count)[group] if sums else 0) + tile[row, column]

    lanes.warpgroups.open.append(product)
    return made


def _descriptor(lanes: Lanes, value: Any, group: np.ndarray) -> int:
    found = np.unique(np.broadcast_to(value, lanes.count)[group])
    if len(found) != 1:
        raise Fault("a matrix descriptor that differs within a warpgroup")
    return int(found[0]) & (1 << 64) - 1


@rule("nvvm.wgmma.commit.group.sync.aligned")
def _commit(program: Program, op: ir.Operation) -> Step:
    def run(lanes: Lanes) -> None:
        groups = lanes.warpgroups
        groups.groups.append(groups.open)
        groups.open = []

    return run


@rule("nvvm.wgmma.wait.group.sync.aligned")
def _wait_group(program: Program, op: ir.Operation) -> Step:
    pending = op.attributes["group"].value

    def run(lanes: Lanes) -> None:
        lanes.warpgroups.wait(pending)

    return run


# -- assembly -----------------------------------------------------------------------------------------------------------

_WGMMA = re.compile(r"\{ \.reg \.pred add; setp\.(eq|ne)\.b32 add, 0, 0; "
                    r"wgmma\.mma_async\.sync\.aligned\.m64n(\d+)k(?:16|8)\.f32\.(\w+)\.\3 "
                    r"\{([$\d, ]+)\}, (\$\d+|\{\$\d+, \$\d+, \$\d+, \$\d+\}), \$(\d+), add, 1, 1(?:, ([01]))?(?:, ([01]))?; \}")


_TRY_WAIT = ("{ .reg .pred done; again: mbarrier.try_wait.parity.shared::cta.b64 done, [$0], $1; @done bra finished; bra again; "
             "finished: }")


@rule("llvm.inline_asm")
def _assembly(program: Program, op: ir.Operation) -> Step | None:
    text, sources = op.attributes["asm_string"].value, program.slots_of(op.operands)
    if match := re.fullmatch(r"wgmma\.wait_group\.sync\.aligned (\d+);", text):
        target, pending = program.slot(op.results[0]), int(match[1])

        def finish(lanes: Lanes) -> None:
            lanes.warpgroups.wait(pending)
            lanes.env[target] = tuple(lanes.env[s] for s in sources)

        return finish
    if re.fullmatch(r"setmaxnreg\.(inc|dec)\.sync\.aligned\.u32 \d+;", text):
        return None
    if match := _WGMMA.fullmatch(text):
        count = int(match[2]) // 2
        target, tied = program.slot(op.results[0]), count if match[1] == "eq" else 0
        left = [int(n) for n in re.findall(r"\d+", match[5])]
        expected = list(range(count + tied, count + tied + len(left) + 1))
        named = match[4] == ", ".join(f"${i}" for i in range(count)) and [*left, int(match[6])] == expected
        if not named or len(sources) != tied + len(left) + 1:
            raise Fault(f"wgmma with other registers than expected: {text}")
        flips = (int(match[7] or 0), int(match[8] or 0)) if len(left) == 1 else (0, int(match[7]))
        if (match[3] == "tf32") != ("k8." in text) or (match[3] == "tf32") != (match[7] is None):
            raise Fault(f"wgmma that the instruction set does not have: {text}")

        def multiply(lanes: Lanes) -> None:
            values = [lanes.env[s] for s in sources]
            lanes.env[target] = _multiply(lanes, match[2], match[3], flips, values[:tied], values[tied:-1], values[-1])

        return multiply
    action = {_TRY_WAIT: _wait, "mbarrier.arrive.shared::cta.b64 _, [$0];": _arrive,
              "mbarrier.arrive.expect_tx.shared::cta.b64 _, [$0], $1;": _arrive}.get(text)
    if action is None:
        raise Fault(f"the simulator does not know the assembly {text}")

    def act(lanes: Lanes) -> None:
        action(lanes, *[lanes.env[s] for s in sources])

    return act
