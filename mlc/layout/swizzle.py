"""Shared memory without bank conflicts: XOR swizzles, and the counter that says what an access pattern costs."""

from collections.abc import Sequence
from dataclasses import dataclass

BANK = 4  # bytes that one bank delivers per cycle
BANKS = 32


@dataclass(frozen=True)
class Swizzle:
    """Byte offset -> byte offset: `bits` bits at `base` are XORed with those `shift` above. Its own inverse.

    This is CuTe's Swizzle<bits, base, shift>; the hardware's (TMA, wgmma) are those of `hardware`.
    """

    bits: int
    base: int = 4
    shift: int = 3

    def apply(self, offset: int) -> int:
        return offset ^ ((offset >> self.shift) & (((1 << self.bits) - 1) << self.base))

    @property
    def period(self) -> int:
        """Bytes after which the pattern repeats; the memory must start at a multiple of it."""
        return 1 << (self.base + self.shift + self.bits)

    @staticmethod
    def hardware(row_bytes: int) -> "Swizzle":
        """The swizzle of rows of 16 (none), 32, 64 or 128 bytes, in chunks of 16 (PTX ISA, "Swizzling modes"). Raises ValueError."""
        if row_bytes not in (16, 32, 64, 128):
            raise ValueError(f"no hardware swizzle for rows of {row_bytes} bytes, expected 16, 32, 64 or 128")
        return Swizzle((row_bytes // 16).bit_length() - 1)


def conflicts(addresses: Sequence[int], width: int) -> int:
    """Cycles beyond the least that a warp's access takes in shared memory, 0 if there are no bank conflicts.

    addresses: bytes, one per active lane in order, each aligned to `width` (1 to 16 bytes). Lanes are served in groups that can fill the
    banks once (16 bytes: 8 lanes, as for a row each of ldmatrix; 8 bytes: 16 lanes). Lanes that read one 4-byte word share it.
    """
    lanes = BANKS * BANK // max(width, BANK)
    extra = 0
    for start in range(0, len(addresses), lanes):
        words = {word for a in addresses[start:start + lanes] for word in range(a // BANK, (a + width - 1) // BANK + 1)}
        load = [0] * BANKS
        for word in words:
            load[word % BANKS] += 1
        extra += max(load) - 1
    return extra
