"""wgmma: shared operand tiles and their matrix descriptors, accumulator fragments, and the instruction (PTX ISA 9.7.15, "wgmma").

One instruction multiplies m64 x k16 by k16 x nN (N = 8, 16, ..., 256) for a warpgroup of four warps, f16 or bf16 into f32.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mlc.ir.mlir import arith, ir, nvvm
from mlc.passes.gpu.hopper.emit import Int, add, assembly, mul, shared_address, value

ROWS = 64  # of one instruction
DEPTH = 16  # reduction points of one instruction, at 2 bytes per element
ROW_BYTES = 128  # of a shared row, which is the swizzle's period too
CHUNK = ROW_BYTES // 2  # elements of a shared row
GROUP_BYTES = 8 * ROW_BYTES  # eight rows: the unit of the swizzle pattern

_SWIZZLE_128B = 1  # in bits 62-63


def descriptor_bits(leading: int, stride: int) -> int:
    """A matrix descriptor without its start address (PTX ISA 9.7.15.5.1.2.2): the leading and stride byte offsets and the swizzle."""
    for name, offset in (("leading", leading), ("stride", stride)):
        if offset % 16 or not 0 <= offset < 1 << 18:
            raise ValueError(f"the {name} byte offset is a multiple of 16 below 2^18, got {offset}")
    return (leading >> 4) << 16 | (stride >> 4) << 32 | _SWIZZLE_128B << 62


@dataclass(frozen=True)
class SharedTile:
    """rows x depth elements of 2 bytes in shared memory, 1024-byte aligned, as TMA boxes with a 128-byte swizzle leave them.

    rows is the M or N dimension. major "k": the reduction is contiguous; chunks of 64 reduction points, each [rows][64]. major "mn": the
    rows are contiguous; chunks of 64 rows, each [depth][64].
    """

    rows: int
    depth: int
    major: str

    def __post_init__(self) -> None:
        if self.major not in ("k", "mn"):
            raise ValueError(f"major is 'k' or 'mn', got '{self.major}'")
        if self.rows % (8 if self.major == "k" else CHUNK) or self.depth % (CHUNK if self.major == "k" else DEPTH):
            raise ValueError(f"{self.rows} x {self.depth} does not divide into chunks ({self.major}-major)")

    @property
    def bytes(self) -> int:
        return 2 * self.rows * self.depth

    @property
    def chunks(self) -> int:
        """How many [*, 64] chunks there are."""
        return (self.depth if self.major == "k" else self.rows) // CHUNK

    @property
    def chunk_rows(self) -> int:
        """Shared rows (of 128 bytes) of a chunk."""
        return self.rows if self.major == "k" else self.depth

    @property
    def bits(self) -> int:
        """The constant part of its descriptors. Eight-row groups lie 1024 bytes apart; the leading offset joins chunks of 64 rows, and
        means nothing where the reduction is contiguous (one instruction's 32 bytes lie within a row)."""
        return descriptor_bits(16 if self.major == "k" else self.chunk_rows * ROW_BYTES, GROUP_BYTES)

    def offset(self, row: Int, k: int) -> Int:
        """Bytes from the tile's start to where a descriptor for rows from `row` and reduction points from k starts; row is a multiple of 8
        (k-major) or 64 (mn-major)."""
        if self.major == "k":
            return add(mul(row, ROW_BYTES), k // CHUNK * self.rows * ROW_BYTES + k % CHUNK * 2)
        return add(mul(row, self.depth * ROW_BYTES // CHUNK), k * ROW_BYTES)

    def descriptor(self, tile: ir.Value, offset: Int = 0) -> ir.Value:
        """The i64 descriptor at `offset` bytes into the tile at shared pointer `tile`."""
        start = arith.ShRUIOp(value(add(shared_address(tile), offset)), value(4)).result
        i64 = ir.IntegerType.get_signless(64)
        return arith.OrIOp(arith.ExtUIOp(i64, start).result, value(_signed(self.bits), 64)).result


def advance_descriptor(descriptor: ir.Value, offset: int) -> ir.Value:
    """The descriptor `offset` bytes further: its address field counts 16 bytes, and shared memory is too small for a carry out of it."""
    return arith.AddIOp(descriptor, value(offset >> 4, 64)).result if offset else descriptor


@dataclass(frozen=True)
class Fragment:
    """A warpgroup's 64 x n f32 accumulators: per thread, n/2 values (PTX ISA 9.7.15.5.1.1.1, matrix D).

    Warp w holds rows 16w to 16w+15. Value 4j+2h+i of a lane is at row lane/4 + 8h of these, column 8j + 2(lane % 4) + i.
    """

    n: int
    values: tuple[ir.Value, ...]

    @staticmethod
    def zeros(n: int) -> "Fragment":
        if n % 8 or not 8 <= n <= 256:
            raise ValueError(f"wgmma has 8, 16, ..., 256 columns, got {n}")
        zero = arith.ConstantOp(ir.F32Type.get(), 0.0).result
        return Fragment(n, (zero,) * (n // 2))

    def pairs(self) -> list[tuple[int, int, ir.Value, ir.Value]]:
        """(row, column, value, its right neighbour), relative to the thread's first element."""
        return [(8 * h, 8 * j, self.values[4 * j + 2 * h], self.values[4 * j + 2 * h + 1]) for j in range(self.n // 8) for h in (0, 1)]


def fragment_row(thread: ir.Value) -> ir.Value:
    """Row of the first element of thread `thread` (0..127) of a warpgroup."""
    warp, lane = arith.DivUIOp(thread, value(32)).result, arith.RemUIOp(thread, value(32)).result
    return value(add(mul(warp, 16), arith.DivUIOp(lane, value(4)).result))


def fragment_column(thread: ir.Value) -> ir.Value:
    """Column of the first element of a thread."""
    return value(mul(arith.RemUIOp(thread, value(4)).result, 2))


def multiply(dtype: str, accumulator: Fragment, a: ir.Value | Sequence[ir.Value], b: ir.Value, a_major: str = "k",
             b_major: str = "k") -> Fragment:
    """The sum accumulator + a @ b, asynchronously: reads before `wait` are undefined. dtype: f16 or bf16.

    a: a descriptor, or four i32 registers (two elements each, laid out like matrix A of mma.m16n8k16 per warp). b: a descriptor.
    """
    if dtype not in ("f16", "bf16"):
        raise ValueError(f"wgmma takes f16 or bf16 here, got {dtype}")
    registers = [a] if isinstance(a, ir.Value) else list(a)
    in_shared = len(registers) == 1
    if not in_shared and (len(registers) != 4 or a_major != "k"):
        raise ValueError("matrix A from registers is four registers of k-major elements")
    count = len(accumulator.values)
    place = 2 * count
    targets = ", ".join(f"${i}" for i in range(count))
    left = f"${place}" if in_shared else "{" + ", ".join(f"${place + i}" for i in range(4)) + "}"
    transposes = [str(int(major == "mn")) for major in ((a_major, b_major) if in_shared else (b_major,))]
    text = (f"{{ .reg .pred add; setp.eq.b32 add, 0, 0; wgmma.mma_async.sync.aligned.m{ROWS}n{accumulator.n}k{DEPTH}.f32.{dtype}.{dtype} "
            f"{{{targets}}}, {left}, ${place + len(registers)}, add, 1, 1, {', '.join(transposes)}; }}")
    return Fragment(accumulator.n, tuple(assembly(text, [*registers, b], accumulator.values)))


def fence() -> None:
    """Orders register accesses before with the wgmma that follow: needed before the first, and after touching accumulators."""
    nvvm.WgmmaFenceAlignedOp()


def commit() -> None:
    """Closes the warpgroup's current group of wgmma."""
    nvvm.WgmmaGroupSyncAlignedOp()


def wait(pending: int) -> None:
    """Until at most `pending` groups are unfinished: the operands of the others may be overwritten, the accumulators not yet read."""
    nvvm.WgmmaWaitGroupSyncOp(pending)


def finish(fragments: Sequence[Fragment]) -> list[Fragment]:
    """Until every group is done: gives the accumulators, now readable. They pass through the wait, so no read moves before it."""
    values = [v for fragment in fragments for v in fragment.values]
    done = iter(assembly("wgmma.wait_group.sync.aligned 0;", [], values))
    return [Fragment(f.n, tuple(next(done) for _ in f.values)) for f in fragments]


def _signed(bits: int) -> int:
    return bits - (1 << 64) if bits >> 63 else bits
