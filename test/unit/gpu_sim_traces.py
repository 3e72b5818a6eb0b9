"""Who wrote and read each element of a simulated kernel's argument: no block may depend on another, no thread on one it has not met."""

from typing import Any

import numpy as np
from gpu_sim_memory import Fault

BLOCK, EPOCH = 40, 20  # where these start in a tag, above the thread
MANY = (1 << EPOCH) - 1  # in place of a thread: several of a block, between two barriers
SEVERAL = -1  # several blocks, or several writers of one value


class Traces:
    """For each of `count` elements of `granule` bytes from byte `start` on: the tag of its last writer and reader, 0 for nobody."""

    def __init__(self, granule: int, start: int, count: int) -> None:
        self.granule, self.first = granule, start // granule
        self.writer, self.reader = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self.before = self.writer, self.reader  # at the last arrival
        self.past = np.zeros(count, np.int64), np.zeros(count, np.int64)  # what other clusters still must not touch

    def own(self, lanes: Any, active: Any = slice(None)) -> np.ndarray:
        """Tags of lanes."""
        return ((lanes.block << BLOCK) + (np.asarray(lanes.epoch, np.int64) << EPOCH) + lanes.thread + 1)[active][:, None]

    def arrive(self) -> None:
        """All threads of all blocks are at a barrier: what they did until now the others see behind it."""
        self.before = self.writer.copy(), self.reader.copy()

    def meet(self) -> None:
        """They pass it."""
        for tags, before, past in zip((self.writer, self.reader), self.before, self.past):
            settled = (tags == before) & (tags != 0)
            past[settled] = tags[settled]
            tags[settled] = 0

    def depart(self) -> None:
        """The blocks have ended: to others, their barriers mean nothing."""
        for tags, past in zip((self.writer, self.reader), self.past):
            np.copyto(tags, past, where=tags == 0)
            past[:] = 0

    def read(self, at: np.ndarray, own: np.ndarray) -> None:
        """Threads read elements; a value that several wrote alike is no matter."""
        at = at - self.first
        writer = self.writer[at]
        if (_foreign(writer, own) & (writer != SEVERAL)).any():
            raise Fault("data race: reads global memory that another block, or another thread with no barrier between, wrote")
        reader = self.reader[at]
        self.reader[at] = new = np.where(_foreign(reader, own), _joined(reader, own), own)
        back = self.reader[at]
        clash = back != new
        if clash.any():
            self.reader[at[clash]] = _joined(back, np.broadcast_to(own, back.shape))[clash]

    def write(self, at: np.ndarray, own: np.ndarray, differs: np.ndarray) -> None:
        """Threads write elements; `differs`: where the value is not the one that is there."""
        at = at - self.first
        writer, reader = self.writer[at], self.reader[at]
        if (_foreign(reader, own) & differs).any():
            raise Fault("data race: writes global memory that another block, or another thread with no barrier between, read")
        others = _foreign(writer, own)
        if (others & differs).any():
            raise Fault("data race: writes another value to global memory than another block, or another thread with no barrier between")
        self.writer[at] = new = np.where(others, SEVERAL, own)
        clash = self.writer[at] != new
        if clash.any():
            self.writer[at[clash]] = SEVERAL


def _foreign(tag: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Whether a tag is of threads that the own one has not met at a barrier."""
    return (tag != 0) & (tag != own) & ((tag >> BLOCK != own >> BLOCK) | (tag >> EPOCH == own >> EPOCH))


def _joined(tag: np.ndarray, own: np.ndarray) -> np.ndarray:
    return np.where(tag >> BLOCK == own >> BLOCK, own | MANY, SEVERAL)
