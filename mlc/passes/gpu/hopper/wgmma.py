"""wgmma: operands and their descriptors, accumulators, and the instruction (PTX ISA 9.7.15, "wgmma").

One instruction multiplies m64 x k by k x nN (N = 8, 16, ..., 256; k: 32 bytes) for a warpgroup of four warps, f16, bf16 or tf32 into f32.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mlc.ir.mlir import arith, ir, nvvm
from mlc.layout.wgmma import SharedOperand
from mlc.passes.gpu.hopper.emit import Int, add, assembly, mul, produced, shared_address, value

ROWS = 64  # of one instruction
DEPTH_BYTES = 32  # of a row that one instruction reads
ROW_BYTES = 128  # of a shared row, which is the swizzle's period too


@dataclass(frozen=True)
class Kind:
    """Factors of one element type. name: the instruction's. across: whether they may be stored with m or n contiguous, not only with k."""

    name: str
    bytes: int = 2
    across: bool = True

    @property
    def panel(self) -> int:
        """Elements of a shared row."""
        return ROW_BYTES // self.bytes

    @property
    def depth(self) -> int:
        """Reduction points of one instruction."""
        return DEPTH_BYTES // self.bytes


KINDS = {"f16": Kind("f16"), "bf16": Kind("bf16"), "f32": Kind("tf32", 4, across=False)}
PANEL, DEPTH = KINDS["f16"].panel, KINDS["f16"].depth  # of 16-bit elements


def operand(rows: int, depth: int, k_major: bool, kind: Kind = KINDS["f16"]) -> SharedOperand:
    """A tile of `rows` (m or n) by `depth` reduction points in panels of 128 bytes; ValueError if these do not divide it."""
    if rows % (8 if k_major else kind.panel) or depth % (kind.panel if k_major else kind.depth):
        raise ValueError(f"{rows} x {depth} elements do not divide into panels of {kind.panel} ({'k' if k_major else 'mn'}-major)")
    return SharedOperand(rows, depth, kind.bytes, k_major, ROW_BYTES)


def panels(tile: SharedOperand) -> int:
    """How many panels of 128 contiguous bytes a tile has."""
    return (tile.depth if tile.k_major else tile.extent) * tile.element // ROW_BYTES


def panel_bytes(tile: SharedOperand) -> int:
    return tile.bytes // panels(tile)


def row_offset(tile: SharedOperand, row: Int) -> Int:
    """Bytes from the tile's start to row `row`, a multiple of 8 (k-major) or 64 (else)."""
    return mul(row, ROW_BYTES if tile.k_major else panel_bytes(tile) // PANEL)


def descriptor(tile: SharedOperand, start: ir.Value, offset: Int = 0) -> ir.Value:
    """The i64 matrix descriptor of a tile at shared pointer `start`, for what begins `offset` bytes into it."""
    address = arith.ShRUIOp(value(add(shared_address(start), offset)), value(4)).result
    i64 = ir.IntegerType.get_signless(64)
    return arith.OrIOp(arith.ExtUIOp(i64, address).result, value(tile.descriptor(), 64)).result


def advance_descriptor(descriptor: ir.Value, offset: int) -> ir.Value:
    """The descriptor `offset` bytes further: its address field counts 16 bytes, and shared memory is too small for a carry out of it."""
    return arith.AddIOp(descriptor, value(offset >> 4, 64)).result if offset else descriptor


@dataclass(frozen=True)
class Accumulators:
    """A warpgroup's 64 x n f32 accumulators: per thread, n/2 values (PTX ISA 9.7.15.5.1.1.1, matrix D).

    Warp w holds rows 16w to 16w+15. Value 4j+2h+i of a lane is at row lane/4 + 8h of these, column 8j + 2(lane % 4) + i.
    """

    n: int
    values: tuple[ir.Value, ...]

    @staticmethod
    def zeros(n: int) -> "Accumulators":
        if n % 8 or not 8 <= n <= 256:
            raise ValueError(f"wgmma has 8, 16, ..., 256 columns, got {n}")
        zero = arith.ConstantOp(ir.F32Type.get(), 0.0).result
        return Accumulators(n, (zero,) * (n // 2))

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


def multiply(dtype: str, accumulator: Accumulators | int, a: ir.Value | Sequence[ir.Value], b: ir.Value, a_k_major: bool = True,
             b_k_major: bool = True) -> Accumulators:
    """The sum accumulator + a @ b, asynchronously: reads before `wait` are undefined. dtype: of `KINDS`; f32 is read as tf32.

    accumulator: a number of columns alone starts from zero.
    a: a descriptor, or four i32 registers (two elements each, laid out like matrix A of mma.m16n8k16 per warp). b: a descriptor.
    """
    if dtype not in KINDS:
        raise ValueError(f"wgmma takes {' or '.join(KINDS)} here, got {dtype}")
    kind = KINDS[dtype]
    if not kind.across and not (a_k_major and b_k_major):
        raise ValueError(f"wgmma takes {dtype} with k contiguous only")
    registers = [a] if isinstance(a, ir.Value) else list(a)
    in_shared = len(registers) == 1
    if not in_shared and (len(registers) != 4 or not a_k_major):
        raise ValueError("matrix A from registers is four registers of k-major elements")
    n, old = (accumulator, ()) if isinstance(accumulator, int) else (accumulator.n, accumulator.values)
    count = n // 2
    place = count + len(old)
    targets = ", ".join(f"${i}" for i in range(count))
    left = f"${place}" if in_shared else "{" + ", ".join(f"${place + i}" for i in range(4)) + "}"
    majors = (a_k_major, b_k_major) if in_shared else (b_k_major,)
    transposes = "".join(f", {int(not k_major)}" for k_major in majors) if kind.across else ""
    text = (f"{{ .reg .pred add; setp.{'eq' if old else 'ne'}.b32 add, 0, 0; "
            f"wgmma.mma_async.sync.aligned.m{ROWS}n{n}k{kind.depth}.f32.{kind.name}.{kind.name} "
            f"{{{targets}}}, {left}, ${place + len(registers)}, add, 1, 1{transposes}; }}")
    made = assembly(text, [*registers, b], old) if old else produced(text, [*registers, b], [ir.F32Type.get()] * count)
    return Accumulators(n, tuple(made))


def fence() -> None:
    """Orders register accesses before with the wgmma that follow: needed before the first, and after touching accumulators."""
    nvvm.WgmmaFenceAlignedOp()


def commit() -> None:
    """Closes the warpgroup's current group of wgmma."""
    nvvm.WgmmaGroupSyncAlignedOp()


def wait(pending: int) -> None:
    """Until at most `pending` groups are unfinished: the operands of the others may be overwritten, the accumulators not yet read."""
    nvvm.WgmmaWaitGroupSyncOp(pending)


def finish(accumulators: Sequence[Accumulators], pending: int = 0) -> list[Accumulators]:
    """Until all groups but the last `pending` are done: gives the accumulators of those, now readable.

    They pass through the wait, so no read moves before it.
    """
    values = [v for a in accumulators for v in a.values]
    done = iter(assembly(f"wgmma.wait_group.sync.aligned {pending};", [], values))
    return [Accumulators(a.n, tuple(next(done) for _ in a.values)) for a in accumulators]
