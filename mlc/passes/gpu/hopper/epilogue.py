"""Writes a consumer's accumulators as 16-bit elements through shared memory: stmatrix into swizzled strips, then TMA stores.

Each warp owns two strips of 16 rows x 64 columns and uses them in turn, so a strip is rewritten only once its copy has been read, and no
warp waits for another.
"""

from dataclasses import dataclass

from mlc.ir.mlir import arith, ir, llvm, nvvm, vector
from mlc.passes.gpu.hopper import wgmma
from mlc.passes.gpu.hopper.emit import add, advance, assembly, compare, div, mul, rem, value, when, xor
from mlc.passes.gpu.hopper.product import Consumer
from mlc.passes.gpu.hopper.tma import TensorMap, commit_stores, store_box, wait_stores

STRIP_ROWS = 16
STRIP_BYTES = STRIP_ROWS * wgmma.ROW_BYTES
STRIPS = 2  # per warp


@dataclass(frozen=True)
class StripStore:
    """Stores tiles of n columns (a multiple of 64) into an array that `result_map` describes; `strips` points to its shared memory."""

    dtype: str
    n: int
    result_map: ir.Value
    strips: ir.Value

    def __post_init__(self) -> None:
        """ValueError for a width that strips do not divide."""
        if self.n % wgmma.PANEL:
            raise ValueError(f"strips are {wgmma.PANEL} columns wide, got a tile of {self.n}")

    @staticmethod
    def bytes(consumers: int) -> int:
        """Shared memory it needs, 1024-byte aligned."""
        return consumers * 4 * STRIPS * STRIP_BYTES

    @staticmethod
    def tensor_map(dtype: str, shape: tuple[int, ...], strides: tuple[int, ...]) -> TensorMap:
        """The map of a result with this shape and these strides in elements, [..., rows, columns]."""
        return TensorMap(dtype, shape, strides, (1,) * (len(shape) - 2) + (STRIP_ROWS, wgmma.PANEL))

    def emit(self, consumer: Consumer) -> None:
        """The epilogue of a product: writes every accumulator; parts of the tile outside the array are dropped by the copy."""
        warp, lane = div(consumer.thread, 32), rem(consumer.thread, 32)
        mine = advance(self.strips, mul(add(mul(consumer.index, 4), warp), STRIPS * STRIP_BYTES))
        leads = compare("eq", lane, 0)
        # Lane l gives the address of row l % 8 of matrix l / 8; the matrices are rows 0-7 and 8-15 of one 8-column group, then of the next.
        row = value(add(rem(lane, 8), mul(rem(div(lane, 8), 2), 8)))
        row_start = mul(row, wgmma.ROW_BYTES)
        group = div(lane, 16)
        swizzle = rem(row, 8)
        for i, accumulators in enumerate(consumer.accumulators):
            top = add(add(consumer.place.row, consumer.first_row), add(mul(warp, STRIP_ROWS), i * wgmma.ROWS))
            for chunk in range(self.n // wgmma.PANEL):
                strip = advance(mine, chunk % STRIPS * STRIP_BYTES)
                wait_stores(STRIPS - 1, read=True)
                nvvm.SyncWarpOp(value(-1))
                for j in range(0, wgmma.PANEL // 8, 2):
                    at = add(row_start, mul(xor(add(group, j), swizzle), 16))
                    first = 4 * (chunk * wgmma.PANEL // 8 + j)
                    self._store_matrices(advance(strip, at), accumulators.values[first:first + 8])
                nvvm.FenceProxyOp(nvvm.ProxyKind.async_shared, space=nvvm.SharedSpace.shared_cta)
                nvvm.SyncWarpOp(value(-1))
                column = add(consumer.place.column, chunk * wgmma.PANEL)
                when(leads, lambda strip=strip, top=top, column=column: self._copy(strip, top, column, consumer))

    def finish(self) -> None:
        """Until the last strips have been read: their memory goes when the block ends."""
        wait_stores(0, read=True)

    def _copy(self, strip: ir.Value, row: ir.Value, column: ir.Value, consumer: Consumer) -> None:
        store_box(self.result_map, strip, [column, row, *consumer.place.a_outer])
        commit_stores()

    def _store_matrices(self, address: ir.Value, values: tuple[ir.Value, ...]) -> None:
        """Eight f32 accumulators as four packed pairs: pair p is the lane's part of matrix p."""
        packed = [self._pack(values[i], values[i + 1]) for i in range(0, 8, 2)]
        assembly("stmatrix.sync.aligned.m8n8.x4.shared.b16 [$0], {$1, $2, $3, $4};", [wgmma.shared_address(address), *packed])

    def _pack(self, low: ir.Value, high: ir.Value) -> ir.Value:
        pair = vector.FromElementsOp(ir.VectorType.get([2], ir.F32Type.get()), [low, high]).result
        narrow = ir.F16Type.get() if self.dtype == "f16" else ir.BF16Type.get()
        cut = arith.TruncFOp(ir.VectorType.get([2], narrow), pair).result
        return llvm.BitcastOp(ir.IntegerType.get_signless(32), cut).result
