"""Memories of a simulated GPU, as bytes, and their checks: bounds, alignment, and what is known of each piece of shared memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

POISON = 0xFF  # a byte of memory nobody wrote: NaN as a float
EMPTY, READY, IN_FLIGHT = 0, 1, 2  # states of a piece of shared memory


class Fault(AssertionError):
    """A kernel did what a GPU forbids or leaves undefined; the simulator adds the kernel and the op."""


class Space:
    """One allocation: `size` bytes, in as many copies as there are blocks (shared) or lanes (local); `start` has each lane's first byte.

    Global memory has one copy and no `start`.
    """

    def __init__(self, name: str, data: np.ndarray, size: int, start: np.ndarray | None = None) -> None:
        self.name, self.data, self.size, self.start = name, data, size, start
        self.written = False
        self.shadow: Any = None  # a Shadow, or the Traces of an argument that is written
        self._views: dict[np.dtype, np.ndarray] = {}

    def view(self, dtype: np.dtype) -> np.ndarray:
        """The bytes as elements of a type."""
        if dtype not in self._views:
            n = self.data.size // dtype.itemsize * dtype.itemsize
            self._views[dtype] = self.data[:n].view(dtype)
        return self._views[dtype]


@dataclass(slots=True)
class Ref:
    """A memref: byte offset into a space, sizes and strides in elements. Offset and sizes may differ between lanes."""

    space: Space
    offset: Any
    shape: tuple[Any, ...]
    strides: tuple[Any, ...]
    dtype: np.dtype


@dataclass
class Shadow:
    """What is known of every `granule` bytes of shared memory: its state, and who wrote and read it since the last barrier.

    A tag is `base` + 1 + thread, or `base` alone if several threads did; tags below `base` are from before the barrier.
    """

    granule: int
    pieces: int
    threads: int
    state: np.ndarray = field(init=False)
    writer: np.ndarray = field(init=False)
    reader: np.ndarray = field(init=False)
    base: int = 1

    def __post_init__(self) -> None:
        self.state = np.zeros(self.pieces, np.int8)
        self.writer, self.reader = np.zeros(self.pieces, np.int32), np.zeros(self.pieces, np.int32)

    def barrier(self, blocks: np.ndarray | None, size: int) -> None:
        """All threads of the blocks (None: of all blocks) have met."""
        if blocks is None:
            self.base += self.threads + 1
        else:
            for tags in (self.writer, self.reader):
                tags.reshape(-1, size // self.granule)[blocks] = 0

    def own(self, lanes: Any, active: Any = slice(None)) -> np.ndarray:
        """Tags of lanes."""
        return (self.base + 1 + lanes.thread[active])[:, None]

    def read(self, at: np.ndarray, own: Any) -> None:
        """Threads read pieces `at`; `own` has their tags, or is `base` where a value goes to several threads."""
        state = self.state[at]
        if not (state == READY).all():
            raise Fault("reads shared memory that an asynchronous copy still writes" if (state == IN_FLIGHT).any()
                        else "reads uninitialised shared memory")
        writer = self.writer[at]
        if ((writer >= self.base) & ((writer != own) | (writer == self.base))).any():
            raise Fault("data race: reads shared memory that another thread wrote, with no barrier between")
        reader = self.reader[at]
        self._mark(self.reader, at, own, (reader >= self.base) & (reader != own))

    def write(self, at: np.ndarray, own: Any, differs: Any, state: int = READY) -> None:
        """Threads write pieces `at`; `differs`: where the value is not the one that is there."""
        if (self.state[at] == IN_FLIGHT).any():
            raise Fault("data race: writes shared memory that an asynchronous copy still writes")
        reader = self.reader[at]
        if ((reader >= self.base) & (reader != own)).any():
            raise Fault("data race: writes shared memory that another thread read, with no barrier between")
        writer = self.writer[at]
        others = (writer >= self.base) & (writer != own)
        if (others & differs).any():
            raise Fault("data race: writes shared memory that another thread wrote, with no barrier between")
        self._mark(self.writer, at, own, others)
        self.state[at] = state

    def land(self, at: np.ndarray, own: Any) -> None:
        """Asynchronous copies of `own` threads to pieces `at` are done."""
        self.state[at] = READY
        self.writer[at] = own

    def _mark(self, tags: np.ndarray, at: np.ndarray, own: Any, others: np.ndarray) -> None:
        """Several threads, earlier or in this very op, leave `base`."""
        tags[at] = np.where(others, self.base, own)
        clash = tags[at] != own
        if clash.any():
            tags[at[clash]] = self.base


def spread(positions: Any, count: int, step: int) -> np.ndarray:
    """Places of `count` neighbours at byte positions, in units of `step` bytes: [lanes, count]."""
    return (np.asarray(positions) // step)[..., None] + np.arange(count)


def check_index(index: Any, limit: Any, mask: np.ndarray | None, what: str, reach: int = 1) -> None:
    """Fault unless 0 <= index and index + reach <= limit in all active lanes."""
    found = np.asarray(index, np.int64)
    if np.ndim(limit):
        found, limit = np.broadcast_arrays(found, limit)
    if found.ndim and mask is not None:
        found, limit = found[mask], limit[mask] if np.ndim(limit) else limit
    bad = (found < 0) | (found > limit - reach)
    if bad.any():
        lane = int(bad.argmax()) if bad.ndim else 0
        index, limit = (int(x[lane]) if np.ndim(x) else int(x) for x in (found, limit))
        raise Fault(f"out of bounds: index {index}{f'..{index + reach - 1}' if reach > 1 else ''} of {limit} in {what}")


def locate(ref: Ref, indices: Sequence[Any], mask: np.ndarray | None, width: int = 1) -> Any:
    """Byte position, within a lane's copy, of the element at `indices`, with bounds checked for `width` elements from there."""
    position = ref.offset
    last = len(indices) - 1
    for d, index in enumerate(indices):
        check_index(index, ref.shape[d], mask, f"dimension {d} of {ref.space.name}", width if d == last else 1)
        position = position + np.asarray(index, np.int64) * (ref.strides[d] * ref.dtype.itemsize)
    if width > 1 and indices and ref.strides[-1] != 1:
        raise Fault(f"accesses {width} neighbours in {ref.space.name}, whose last stride is {ref.strides[-1]}")
    return position


def check_alignment(position: Any, alignment: int, mask: np.ndarray | None) -> None:
    """Fault unless the byte positions of all active lanes are multiples of `alignment`."""
    rest = np.asarray(position) % alignment
    if rest.ndim and mask is not None:
        rest = rest[mask]
    if rest.any():
        raise Fault(f"misaligned: a byte position is {int(rest.flat[rest.argmax()])} past a multiple of {alignment}")


def bits(values: np.ndarray) -> np.ndarray:
    """The values as unsigned numbers, so that NaNs compare."""
    return np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")
