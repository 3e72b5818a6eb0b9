"""Matrix instructions: which element of A, B and C each lane's register holds, and which memory ldmatrix gives to which lane.

A row or column is a sum of digits of the lane and of the element's number in the lane's fragment, so a `Fragment` is data that can be
evaluated (`at`), checked by enumeration, or emitted as index arithmetic.

Sources: NVIDIA's from PTX ISA 9.0, "Matrix Fragments for mma.m16n8k8 / m16n8k16 / m16n8k32", "ldmatrix" and "wgmma register fragments".
AMD's from the instruction set documents of CDNA 3 (section "Matrix Arithmetic Instructions"), RDNA 3 and RDNA 4 ("Wave Matrix Multiply
Accumulate"), compared element by element with AMD's matrix instruction calculator.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple


class Term(NamedTuple):
    """`source // period % extent * stride`, source being the lane or the element's number in the fragment."""

    source: Literal["lane", "element"]
    period: int
    extent: int
    stride: int

    def value(self, lane: int, element: int) -> int:
        return (lane if self.source == "lane" else element) // self.period % self.extent * self.stride


def _lane(period: int, extent: int, stride: int) -> Term:
    return Term("lane", period, extent, stride)


def _element(period: int, extent: int, stride: int) -> Term:
    return Term("element", period, extent, stride)


@dataclass(frozen=True)
class Fragment:
    """Who holds a tile of `shape` = [rows, columns]: each of `lanes` lanes holds `size` elements, packed from low bits to high."""

    shape: tuple[int, int]
    lanes: int
    size: int
    rows: tuple[Term, ...]
    columns: tuple[Term, ...]

    def at(self, lane: int, element: int) -> tuple[int, int]:
        """(row, column) of an element, 0 <= element < size."""
        return sum(t.value(lane, element) for t in self.rows), sum(t.value(lane, element) for t in self.columns)

    def run(self) -> tuple[int, int]:
        """(rows, columns): how many consecutive elements of its fragment a lane has next to each other along the dimension."""
        return self._run(self.rows), self._run(self.columns)

    def _run(self, terms: tuple[Term, ...]) -> int:
        length = 1
        while (t := next((t for t in terms if t.extent > 1 and t == ("element", length, t.extent, length)), None)) is not None:
            length *= t.extent
        return length


@dataclass(frozen=True)
class Atom:
    """One matrix instruction: C[m, n] += A[m, k] * B[k, n], element types as `DType` names ("tf32": f32, of whose fraction 10 bits count).

    A fragment is None where the operand is not in registers.
    """

    name: str
    shape: tuple[int, int, int]
    input: str
    output: str
    a: Fragment | None
    b: Fragment | None
    c: Fragment

    @property
    def element(self) -> str:
        """The `DType` of factors in memory: float8 are codes there."""
        return "f32" if self.input == "tf32" else "i8" if self.input.startswith("f8") else self.input


def _mma_c(rows: int = 16, columns: int = 8) -> Fragment:
    """Accumulators of mma.sync and, with four warps of rows, wgmma."""
    warps = (_lane(32, 4, 16),) if rows == 64 else ()
    return Fragment((rows, columns), 2 * rows, columns // 2, (_lane(4, 8, 1), _element(2, 2, 8), *warps),
                    (_lane(1, 4, 2), _element(1, 2, 1), _element(4, columns // 8, 8)))


def _mma(input_: str, output: str, packed: int, kind: str) -> Atom:
    """mma.sync.m16n8k(8 * packed): a 32-bit register holds `packed` consecutive k of one row of A or column of B; A has four, B two."""
    k = 8 * packed
    ks = (_lane(1, 4, packed), _element(1, packed, 1))
    a = Fragment((16, k), 32, 4 * packed, (_lane(4, 8, 1), _element(packed, 2, 8)), (*ks, _element(2 * packed, 2, k // 2)))
    b = Fragment((k, 8), 32, 2 * packed, (*ks, _element(packed, 2, k // 2)), (_lane(4, 8, 1),))
    return Atom(f"mma.m16n8k{k}.{kind}", (16, 8, k), input_, output, a, b, _mma_c())


def wgmma(n: int, input_: str, from_registers: bool = False) -> Atom:
    """wgmma.mma_async.m64nNk(256 bits of K): four warps; B, and A unless `from_registers`, are in shared memory (`mlc.layout.wgmma`).

    n: a multiple of 8 up to 256. input_: "f16", "bf16", "tf32", "i8" or "f8E4M3FN".
    """
    packed = {"f16": 2, "bf16": 2, "tf32": 1, "i8": 4, "f8E4M3FN": 4}[input_]
    k = 8 * packed
    rows = (_lane(4, 8, 1), _element(packed, 2, 8), _lane(32, 4, 16))
    columns = (_lane(1, 4, packed), _element(1, packed, 1), _element(2 * packed, 2, k // 2))
    a = Fragment((64, k), 128, 4 * packed, rows, columns) if from_registers else None
    return Atom(f"wgmma.m64n{n}k{k}.{input_}", (64, n, k), input_, "i32" if input_ == "i8" else "f32", a, None, _mma_c(64, n))


def _mfma(name: str, side: int, k: int, input_: str, output: str) -> Atom:
    """v_mfma of one block, 64 lanes: lane % side is the row of A and column of B, each lane has consecutive k."""
    groups = 64 // side
    size = k // groups
    ks = (_lane(side, groups, size), _element(1, size, 1))
    rows = (_lane(side, groups, 4), _element(1, 4, 1), _element(4, side // (4 * groups), 4 * groups))
    c = Fragment((side, side), 64, side * side // 64, rows, (_lane(1, side, 1),))
    return Atom(name, (side, side, k), input_, output, Fragment((side, k), 64, size, (_lane(1, side, 1),), ks),
                Fragment((k, side), 64, size, ks, (_lane(1, side, 1),)), c)


def _wmma_rdna3(name: str, input_: str, output: str = "f32") -> Atom:
    """v_wmma of gfx11, wave32: a lane has a whole row of A and column of B, lanes 16-31 the same as 0-15."""
    ks, side = (_element(1, 16, 1),), (_lane(1, 16, 1),)
    c = Fragment((16, 16), 32, 8, (_lane(16, 2, 1), _element(1, 8, 2)), side)
    return Atom(name, (16, 16, 16), input_, output, Fragment((16, 16), 32, 16, side, ks), Fragment((16, 16), 32, 16, ks, side), c)


def _wmma_rdna4(name: str, input_: str, output: str = "f32") -> Atom:
    """v_wmma of gfx12, wave32: lane groups take turns of four k. (Any order of k serves, if it is the same in A and B.)"""
    ks, side = (_lane(16, 2, 4), _element(1, 4, 1), _element(4, 2, 8)), (_lane(1, 16, 1),)
    c = Fragment((16, 16), 32, 8, (_lane(16, 2, 8), _element(1, 8, 1)), side)
    return Atom(name, (16, 16, 16), input_, output, Fragment((16, 16), 32, 8, side, ks), Fragment((16, 16), 32, 8, ks, side), c)


ATOMS: dict[str, Atom] = {atom.name: atom for atom in (
    _mma("f16", "f32", 2, "f16"), _mma("bf16", "f32", 2, "bf16"), _mma("tf32", "f32", 1, "tf32"),
    _mma("i8", "i32", 4, "s8"), _mma("f8E4M3FN", "f32", 4, "e4m3"),
    _mfma("mfma.f32_16x16x16_f16", 16, 16, "f16", "f32"), _mfma("mfma.f32_16x16x16_bf16", 16, 16, "bf16", "f32"),
    _mfma("mfma.f32_32x32x8_f16", 32, 8, "f16", "f32"), _mfma("mfma.f32_32x32x8_bf16", 32, 8, "bf16", "f32"),
    _mfma("mfma.f32_16x16x4_f32", 16, 4, "f32", "f32"), _mfma("mfma.i32_16x16x32_i8", 16, 32, "i8", "i32"),
    _mfma("mfma.i32_16x16x16_i8", 16, 16, "i8", "i32"),
    _mfma("mfma.f32_16x16x32_f8E4M3FNUZ", 16, 32, "f8E4M3FNUZ", "f32"), _mfma("mfma.f32_16x16x32_f8E5M2FNUZ", 16, 32, "f8E5M2FNUZ", "f32"),
    _wmma_rdna3("wmma.gfx11.f32_16x16x16_f16", "f16"), _wmma_rdna3("wmma.gfx11.f32_16x16x16_bf16", "bf16"),
    _wmma_rdna3("wmma.gfx11.i32_16x16x16_i8", "i8", "i32"), _wmma_rdna4("wmma.gfx12.i32_16x16x16_i8", "i8", "i32"),
    _wmma_rdna4("wmma.gfx12.f32_16x16x16_f8E4M3FN", "f8E4M3FN"), _wmma_rdna4("wmma.gfx12.f32_16x16x16_f8E5M2", "f8E5M2"),
    _wmma_rdna4("wmma.gfx12.f32_16x16x16_f16", "f16"), _wmma_rdna4("wmma.gfx12.f32_16x16x16_bf16", "bf16"),
)}


@dataclass(frozen=True)
class LdMatrix:
    """ldmatrix.x{1, 2, 4}[.trans].b16: loads 8x8 matrices of 16-bit elements, whose first elements are at `corners` of a tile in memory.

    Memory is [row][column], columns contiguous; 8-bit elements count in pairs. Register i of a lane has elements 2i and 2i + 1.
    """

    corners: tuple[tuple[int, int], ...]
    trans: bool = False

    def source(self, lane: int) -> tuple[int, int]:
        """(row, column) of the 16 bytes whose address the lane supplies: lane 8j + r has row r of matrix j (beyond: unused)."""
        row, column = self.corners[lane // 8 % len(self.corners)]
        return row + lane % 8, column

    def element(self, lane: int, element: int) -> tuple[int, int]:
        """(row, column) in memory of an element that the lane receives, 0 <= element < 2 * len(corners)."""
        row, column = self.corners[element // 2]
        outer, inner = lane // 4, lane % 4 * 2 + element % 2
        return (row + inner, column + outer) if self.trans else (row + outer, column + inner)


def ldmatrix(operand: Literal["a", "b", "bb"], k_major: bool) -> LdMatrix:
    """The load that gives mma.sync its operand: 16 rows of A, 8 columns of B, or 16 columns of B ("bb": two fragments after each other).

    k_major: memory is [m][k] or [n][k] (K contiguous; rows of 32 bytes); otherwise [k][m] or [k][n], 16-bit elements only (k 16).
    """
    outer_first = ((0, 0), (8, 0), (0, 8), (8, 8))
    inner_first = ((0, 0), (0, 8), (8, 0), (8, 8))
    match operand:
        case "a":
            return LdMatrix(outer_first if k_major else inner_first, not k_major)
        case "b":
            return LdMatrix(inner_first[:2] if k_major else outer_first[:2], not k_major)
        case "bb":
            return LdMatrix(inner_first if k_major else outer_first, not k_major)
