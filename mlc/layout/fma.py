"""Register tiles: the outer products that the FMA units of a warp add to sums held by its lanes, as one more kind of atom.

A step takes one column of A and one row of B. Lanes form a grid; each has a tile of sums, in runs of neighbours that one load brings.
"""

import re
from dataclasses import dataclass

from mlc.errors import OptionError

PREFIX = "fma."
_NAME = re.compile(r"fma\.(\d+)x(\d+)\.(\d+)x(\d+)")


@dataclass(frozen=True)
class FmaAtom:
    """lanes, tile: [rows, columns] of the grid of lanes and of one lane's sums, powers of two."""

    lanes: tuple[int, int]
    tile: tuple[int, int]

    @staticmethod
    def parse(name: str) -> "FmaAtom":
        """The atom that `name` gave. Raises OptionError."""
        match = _NAME.fullmatch(name)
        if match is None:
            raise OptionError(f"'{name}' is no atom of FMA units", hint="such as: fma.4x8.8x8")
        a, b, c, d = map(int, match.groups())
        return FmaAtom((a, b), (c, d))

    @property
    def name(self) -> str:
        return f"{PREFIX}{self.lanes[0]}x{self.lanes[1]}.{self.tile[0]}x{self.tile[1]}"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a warp's sums."""
        return self.lanes[0] * self.tile[0], self.lanes[1] * self.tile[1]

    @property
    def sums(self) -> int:
        """Those of one lane."""
        return self.tile[0] * self.tile[1]

    def place(self, lane: int) -> tuple[int, int]:
        """Row and column of a lane in the grid. Neighbours differ in their row first: pairs of lanes then load the same part of B, and
        groups of two the same part of A, which shared memory gives in one go."""
        rows, columns = self.lanes
        if rows == 1:
            return 0, lane
        return lane % 2 + lane // (2 * columns) * 2, lane // 2 % columns

    def runs(self, dim: int, longest: int) -> tuple[int, list[int]]:
        """Along rows (0) or columns (1): the length of a run, at most `longest`, and where a lane's runs begin, relative to its first."""
        length = min(self.tile[dim], longest)
        return length, [i * self.lanes[dim] * length for i in range(self.tile[dim] // length)]


__all__ = ["PREFIX", "FmaAtom"]
