"""Register tiles of a vector unit: rows x vectors of sums that a product keeps in registers, and what a multiply-add of one costs."""

from dataclasses import dataclass
from itertools import product

from mlc.target import Target

VECTORS = (1, 2, 3, 4, 6, 8)  # of a tile's row
SPILL = 1.8  # multiply-adds that a step of a tile takes longer for a sum that has no register (measured)


@dataclass(frozen=True)
class Registers:
    """The vector unit: lanes of an f32 register, and how many registers there are."""

    lanes: int
    count: int

    @staticmethod
    def of(target: Target) -> "Registers":
        """AVX-512 has 32, vector units before it 16."""
        return Registers(target.vector_bits // 32, 32 if target.vector_bits >= 512 else 16)


@dataclass(frozen=True)
class RegisterTile:
    """Rows and vectors of columns. cost: of a product's multiply-add by such tiles, in about half cycles; columns done twice are in it."""

    rows: int
    vectors: int
    cost: float


def register_tile(m: int, n: int, lanes: int, registers: int, exact: bool = False) -> RegisterTile:
    """The cheapest tile of m rows and n columns, `lanes` to a vector: as square as the registers allow. exact: columns must divide.

    Beside the sums, a row of vectors of the column factor and one broadcast element of the other want registers; a sum too many spills.
    Rows are split evenly, so that some tiles have a row less; the last columns' tile overlaps the one before.
    """
    best = RegisterTile(1, 1, float("inf"))
    for vectors, beside in product(VECTORS, (1, 0)):
        most, width = (registers - beside) // vectors - 1, vectors * lanes
        if most < 1 or (vectors > 1 and (width > n or (exact and n % width))):
            continue
        parts = -(-m // most)
        height, rows = m / parts, -(-m // parts)  # in the mean, at most
        # A multiply-add waits for its share of the loads (a row of vectors, a broadcast per row); few sums wait for each other.
        cost = (1 / height + 1 / vectors + 0.6) / min(1.0, vectors * height / 8) * (-(-n // width) * width / n)
        if (rows + 1) * vectors + 1 > registers:
            cost *= 1 + SPILL / (rows * vectors)
        if cost < best.cost:
            best = RegisterTile(rows, vectors, cost)
    return best
