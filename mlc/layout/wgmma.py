"""Operands of wgmma in shared memory: where an element lies, and the descriptor that tells the instruction.

Source: PTX ISA 9.0, "Shared Memory Matrix Layout" (canonical layouts) and "Matrix Descriptor Format" of wgmma.mma_async.
"""

from dataclasses import dataclass

from mlc.layout.swizzle import Swizzle

_MODES = {128: 1, 64: 2, 32: 3}


@dataclass(frozen=True)
class SharedOperand:
    """A tile of A ([m, k]) or B ([n, k]), stored in panels of `row` bytes of its contiguous dimension, swizzled: what TMA writes.

    extent: m or n, a multiple of 8. depth: elements of k. element: bytes of one. k_major: k is contiguous, else m or n (2-byte elements
    only: the instruction's transpose flag). row: 128, 64 or 32, at most the bytes of the contiguous dimension. Raises ValueError.
    """

    extent: int
    depth: int
    element: int
    k_major: bool = True
    row: int = 128

    def __post_init__(self) -> None:
        contiguous = (self.depth if self.k_major else self.extent) * self.element
        if self.row not in _MODES or contiguous % self.row or self._lines % 8:
            raise ValueError(f"{self} does not consist of whole swizzle atoms: 8 rows of 32, 64 or 128 bytes")
        if not self.k_major and self.element != 2:
            raise ValueError(f"{self} has k across, expected elements of 2 bytes")

    @property
    def _lines(self) -> int:
        """Rows of a panel: extent of the dimension that is not contiguous."""
        return self.extent if self.k_major else self.depth

    @property
    def bytes(self) -> int:
        return self.extent * self.depth * self.element

    @property
    def alignment(self) -> int:
        """Bytes that the start must be a multiple of."""
        return Swizzle.hardware(self.row).period

    def offset(self, outer: int, k: int) -> int:
        """Byte offset of element [outer, k] from the start."""
        line, along = (outer, k * self.element) if self.k_major else (k, outer * self.element)
        return along // self.row * self._lines * self.row + Swizzle.hardware(self.row).apply(line * self.row + along % self.row)

    def step(self, k: int) -> int:
        """Byte offset that the descriptor's start takes to begin at k, a multiple of the instruction's depth (32 bytes)."""
        if not self.k_major:
            return k * self.row
        along = k * self.element
        return along // self.row * self._lines * self.row + along % self.row

    def descriptor(self) -> int:
        """The descriptor with start address 0; add `(address + step(k)) >> 4` of a shared-memory address (below 2^18 bytes)."""
        atom = 8 * self.row
        leading = 16 if self.k_major else self._lines * self.row  # from panel to panel; not used where k is contiguous
        return leading >> 4 << 16 | atom >> 4 << 32 | _MODES[self.row] << 62
