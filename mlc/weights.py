"""Weights beside the IR: a name -> array table whose arrays are read (or memory-mapped) only when asked for."""

import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np

from mlc.dtypes import BY_NUMPY, DType


@dataclass(frozen=True)
class Weight:
    """One constant tensor. `read` returns a C-contiguous array of `dtype.numpy` and `shape` (a view on a mapped file if possible)."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.bytes


def release(array: np.ndarray) -> None:
    """Says that the pages of an array on a mapped file will not be needed soon: they stop counting as this process's memory."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = cast("object", base.base)  # the stubs know only of arrays
    mapped = base.obj if isinstance(base, memoryview) else None
    if isinstance(mapped, mmap.mmap):
        mapped.madvise(mmap.MADV_DONTNEED)


class WeightStore:
    """The weights of one module, by the name that `graph.weight` carries."""

    def __init__(self) -> None:
        self._by_name: dict[str, Weight] = {}

    def add(self, weight: Weight) -> Weight:
        """Adds under a unique name and returns what was stored: a taken name gets a numeric suffix."""
        name, n = weight.name, 0
        while name in self._by_name:
            n += 1
            name = f"{weight.name}.{n}"
        stored = weight if name == weight.name else Weight(name, weight.dtype, weight.shape, weight.read)
        self._by_name[name] = stored
        return stored

    def add_array(self, name: str, array: np.ndarray) -> Weight:
        array = np.ascontiguousarray(array).reshape(array.shape)
        return self.add(Weight(name, BY_NUMPY[array.dtype], array.shape, lambda: array))

    def __getitem__(self, name: str) -> Weight:
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[Weight]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def discard(self, name: str) -> None:
        self._by_name.pop(name, None)
