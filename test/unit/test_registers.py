"""Register tiles fit the registers, divide rows evenly, and never leave the columns that there are."""

import pytest

from mlc.layout.registers import register_tile


@pytest.mark.parametrize(("lanes", "registers"), [(16, 32), (8, 16), (4, 16)])
def test_tiles_fit(lanes: int, registers: int) -> None:
    for m in range(1, 70):
        for n in (1, lanes, 3 * lanes, 64, 100):
            tile = register_tile(m, n, lanes, registers)
            assert (tile.rows + 1) * tile.vectors <= registers, "a row of the factor has registers beside the sums"
            assert tile.vectors == 1 or tile.vectors * lanes <= n
            parts = -(-m // tile.rows)
            assert parts * (tile.rows - 1) < m, "tiles of this height or a row less are all rows"


def test_the_best_tiles() -> None:
    def best(m: int, n: int, lanes: int, registers: int, exact: bool = False) -> tuple[int, int]:
        tile = register_tile(m, n, lanes, registers, exact)
        return tile.rows, tile.vectors

    assert best(128, 64, 16, 32) == (6, 4)
    assert best(128, 64, 8, 16) == (6, 2)
    assert best(7, 64, 16, 32) == (7, 4), "one sum too many for the registers is better than four rows and three"
    assert best(128, 48, 16, 32) == (9, 3)
    assert best(128, 144, 16, 32, exact=True) == (9, 3)
