"""task.mma on a CPU: register tiles of rows x vectors, accumulators carried through the reduction loops.

The tile, and the pieces that a deep reduction is cut into, stand on the op (choose-mapping); partial sums of pieces live in the result's
buffer. One factor supplies a scalar per row that is broadcast, the other a vector of columns, along which the result is contiguous. A
column factor that is not contiguous there is packed into panels first. Rows are split evenly into tiles of one height or a row less. Ragged
columns overlap: the last register tile is moved back inside, which computes some elements twice and needs no masks.

Panels are prefetched: each step asks the first cache for the row some steps ahead, and, since a panel is read once for each tile of rows,
the second cache for this tile's share of the panel that comes next.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mlc.ir.diagnostics import DiagnosticError
from mlc.ir.mlir import arith, ir, memref, vector
from mlc.layout.linear import row_major
from mlc.passes.task.finish import Finish
from mlc.passes.task.flat import Access, Memory, index_constant, linear_index, load_scalar, splat, vector_type
from mlc.passes.task.loops import loop
from mlc.passes.task.product import Operand, Product
from mlc.passes.tile.model import volume

NEAR = 8  # steps from which on the first cache is asked: about 100 cycles, as long as the second one takes under load (measured)
LINE = 64  # bytes


@dataclass(frozen=True)
class _Operand:
    """One operand: flat buffer, start offset value, and strides per loop dimension."""

    buffer: ir.Value
    base: ir.Value
    strides: tuple[int, ...]
    panel: int = 0  # width of the panels it is stored in; its column stride then means nothing
    depth: int = 0  # elements per column of a panelled operand
    at: Mapping[int, ir.Value] | None = None  # how far each loop has come, where that is noted


@dataclass(frozen=True)
class _Tile:
    """A register tile: its row loop (m long) and height, other row loops, its column loop and vectors; resume: adds to what is stored."""

    row: int | None
    others: Sequence[int]
    column: int
    m: int
    height: int
    vectors: int
    lanes: int
    resume: bool


class MatrixProduct:
    """Emits one task.mma, which is `product`, at the insertion point, by the register tile on the op."""

    def __init__(self, op: ir.Operation, product: Product, memory: Memory, env: dict[ir.Value, ir.Value],
                 scratch: Callable[[ir.Type], ir.Value], finish: Finish | None = None) -> None:
        """finish: what is stored instead of the sums."""
        self.op, self.product, self.scratch, self.finish = op, product, scratch, finish
        self.extents, self.folded = list(product.extents), product.folded
        self.rows, self.columns = (self._operand(o, memory, env) for o in (product.left, product.right))
        out = product.out
        self.out = _Operand(out.buffer, index_constant(0), out.strides, at={}) if finish is not None else self._operand(out, memory, env)
        self.element = op.operands[2].type.element_type
        height, vectors, lanes = op.opview.py("registers")
        self.step: int | None = op.opview.py("step")
        self.tile = _Tile(product.row, product.others, product.column, product.rows, height, vectors, lanes, self.step is not None)
        if self.step is not None and (not product.resumable or product.width % (vectors * lanes)):
            raise DiagnosticError.at(op, f"would add pieces of {self.step} points twice where tiles of {vectors * lanes} columns overlap")

    def _operand(self, operand: Operand, memory: Memory, env: dict[ir.Value, ir.Value]) -> _Operand:
        base = linear_index(Access(operand.buffer, operand.const, operand.starts), env)
        return _Operand(memory.flat[operand.buffer], base, operand.strides, operand.panel, operand.depth)

    def emit(self) -> None:
        self._batch(self.product.batch, [self.rows, self.columns, self.out], self._panels)

    def _batch(self, dims: Sequence[int], operands: Sequence[_Operand], body: Callable[..., object]) -> None:
        """Loops over `dims` around body(*operands), each where the loops have moved it."""
        if not dims:
            body(*operands)
            return
        d, rest = dims[0], dims[1:]

        def inside(i: ir.Value) -> list[ir.Value]:
            self._batch(rest, [self._advance(o, d, i) for o in operands], body)
            return []

        loop(self.extents[d], 0, 1, [], inside)

    def _advance(self, operand: _Operand, dim: int, i: ir.Value) -> _Operand:
        if operand.at is not None:
            there = arith.AddIOp(operand.at[dim], i).result if dim in operand.at else i
            operand = replace(operand, at={**operand.at, dim: there})
        stride = operand.strides[dim]
        if stride == 0:
            return operand
        step = i if stride == 1 else arith.MulIOp(i, index_constant(stride)).result
        return replace(operand, base=arith.AddIOp(operand.base, step).result)

    # -- register tiles ---------------------------------------------------------------------------------------------
    def _panels(self, rows: _Operand, columns: _Operand, out: _Operand) -> None:
        tile, column = self.tile, self.tile.column
        if not columns.panel and columns.strides[column] != 1:
            columns = self._pack(columns, column)
        if self.step is None:
            self._sweep(rows, columns, out, tile, self.folded)
            return
        self._clear(out, [*tile.others, *([tile.row] if tile.row is not None else [])], column, self.extents[column], tile.lanes)
        outer, cut, size = self._cut(self.step)
        inner = self.folded[len(outer):]

        def piece(r: _Operand, k: _Operand, length: int) -> None:
            full, self.extents[cut] = self.extents[cut], length
            self._sweep(r, k, out, tile, inner)
            self.extents[cut] = full

        def pieces(r: _Operand, k: _Operand) -> None:
            whole = self.extents[cut] // size * size

            def at(i: ir.Value) -> list[ir.Value]:
                piece(self._advance(r, cut, i), self._advance(k, cut, i), size)
                return []

            loop(whole, 0, size, [], at)
            if whole < self.extents[cut]:
                i = index_constant(whole)
                piece(self._advance(r, cut, i), self._advance(k, cut, i), self.extents[cut] - whole)

        self._batch(outer, [rows, columns], pieces)

    def _cut(self, step: int) -> tuple[Sequence[int], int, int]:
        """Pieces of `step` reduction points: the loops outside the register tiles, the loop that is cut, and the length of its parts."""
        outer, inside = list(self.folded), 1
        cut = outer.pop()
        while outer and inside * self.extents[cut] <= step:
            inside *= self.extents[cut]
            cut = outer.pop()
        return outer, cut, max(1, step // inside)

    def _clear(self, out: _Operand, dims: Sequence[int], column: int, n: int, lanes: int) -> None:
        """Zeroes the result, to which chunks are added."""
        zero = self._zero(lanes)

        def at(i: ir.Value) -> list[ir.Value]:
            self._batch(dims, [self._advance(out, column, i)], lambda o: vector.StoreOp(zero, o.buffer, [o.base]))
            return []

        loop(n, 0, lanes, [], at)

    def _sweep(self, rows: _Operand, columns: _Operand, out: _Operand, tile: "_Tile", folded: Sequence[int]) -> None:
        """Register tiles over all rows and columns, folding the loops `folded`."""
        width, column, n = tile.vectors * tile.lanes, tile.column, self.extents[tile.column]

        def place(start: ir.Value, source: ir.Value) -> list[ir.Value]:
            """Register tiles of the columns from `start`, whose factor begins at element `source`."""
            panel, target = replace(columns, base=source), self._advance(out, column, start)
            operands = [rows, panel, target, *([self._next(panel, tile, folded)] if panel.panel else [])]
            self._batch(tile.others, operands, lambda r, k, o, ahead=None: self._rows(r, k, o, ahead, tile, folded))
            return []

        panel = columns.panel
        if panel:
            depth = columns.depth

            def panelled(first: ir.Value) -> list[ir.Value]:
                """Of the panel that is stored as number `first` / panel; the last one's columns begin where they end with the others."""
                begin = arith.MinSIOp(first, index_constant(n - panel)).result if n % panel else first
                base = arith.AddIOp(columns.base, arith.MulIOp(first, index_constant(depth)).result).result
                inside = panel // width * width
                loop(inside, 0, width, [], lambda i: place(arith.AddIOp(begin, i).result, arith.AddIOp(base, i).result))
                if inside < panel:
                    i = index_constant(panel - width)
                    place(arith.AddIOp(begin, i).result, arith.AddIOp(base, i).result)
                return []

            loop(n, 0, panel, [], panelled)
            return
        whole = n // width * width
        loop(whole, 0, width, [], lambda start: place(start, self._advance(columns, column, start).base))
        if whole < n:
            start = index_constant(n - width)
            place(start, self._advance(columns, column, start).base)

    def _next(self, columns: _Operand, tile: "_Tile", folded: Sequence[int]) -> _Operand:
        """The panel after this one, divided among the rows: where the share begins that a step of a tile of rows prefetches."""
        rows, depth = tile.m * volume([self.extents[d] for d in tile.others]), volume([self.extents[d] for d in folded])
        step = -(-tile.height * columns.panel // rows)
        share, strides = step * depth // tile.height, [0] * len(self.extents)
        for d in folded:
            strides[d] = columns.strides[d] // columns.panel * step
        for d in (*([tile.row] if tile.row is not None else []), *tile.others):
            strides[d] = share
            share *= self.extents[d]
        base = arith.AddIOp(columns.base, index_constant(columns.panel * columns.depth)).result
        return _Operand(columns.buffer, base, tuple(strides), panel=step)

    def _rows(self, rows: _Operand, columns: _Operand, out: _Operand, ahead: _Operand | None, tile: "_Tile",
              folded: Sequence[int]) -> None:
        row, m, height = tile.row, tile.m, tile.height

        def at(i: ir.Value, high: int) -> list[ir.Value]:
            if row is None:
                self._tile(rows, columns, out, ahead, tile, high, folded)
            else:
                moved = ahead and self._advance(ahead, row, i)
                self._tile(self._advance(rows, row, i), columns, self._advance(out, row, i), moved, tile, high, folded)
            return []

        parts = -(-m // height)
        height = -(-m // parts)
        high = m - parts * (height - 1)  # so many tiles of this height; the others have a row less
        loop(high * height, 0, height, [], lambda i: at(i, height))
        loop(m, high * height, height - 1, [], lambda i: at(i, height - 1))

    def _zero(self, lanes: int) -> ir.Value:
        type_ = vector_type(lanes, self.element)
        return arith.ConstantOp(type_, ir.DenseElementsAttr.get_splat(type_, ir.FloatAttr.get(self.element, 0.0))).result

    def _tile(self, rows: _Operand, columns: _Operand, out: _Operand, ahead: _Operand | None, tile: "_Tile", height: int,
              folded: Sequence[int]) -> None:
        vectors, lanes = tile.vectors, tile.lanes
        row_stride = rows.strides[tile.row] if tile.row is not None else 0
        out_stride = out.strides[tile.row] if tile.row is not None else 0
        places = []
        if self.finish is None:
            offsets = [i * out_stride + v * lanes for i in range(height) for v in range(vectors)]
            places = [arith.AddIOp(out.base, index_constant(offset)).result for offset in offsets]
        if tile.resume:
            accs = [vector.LoadOp(vector_type(lanes, self.element), out.buffer, [at]).result for at in places]
        else:
            accs = [self._zero(lanes)] * (height * vectors)

        # Few accumulators would wait for each other: several sets take turns along the innermost loop, and are added at the end.
        sets = next((u for u in (8, 4, 2) if u * len(accs) <= 8 and folded and self.extents[folded[-1]] % u == 0), 1)
        count = len(accs)

        def nest(level: int, r: _Operand, c: _Operand, a: _Operand | None, *carried: ir.Value) -> list[ir.Value]:
            d = folded[level]
            if level < len(folded) - 1:
                def deeper(k: ir.Value, *inner: ir.Value) -> list[ir.Value]:
                    return nest(level + 1, self._advance(r, d, k), self._advance(c, d, k), a and self._advance(a, d, k), *inner)

                return loop(self.extents[d], 0, 1, carried, deeper)

            def steps(k: ir.Value, *inner: ir.Value) -> list[ir.Value]:
                out: list[ir.Value] = []
                if a is not None:
                    self._prefetch(self._advance(c, d, k), NEAR * c.strides[d], vectors * lanes, near=True)
                    self._prefetch(self._advance(a, d, k), 0, a.panel, near=False)
                for u in range(sets):
                    at = arith.AddIOp(k, index_constant(u)).result if u else k
                    part = inner[u * count:(u + 1) * count]
                    out += self._step(self._advance(r, d, at), self._advance(c, d, at), row_stride, height, vectors, lanes, part)
                return out

            return loop(self.extents[d], 0, sets, carried, steps)

        total = nest(0, rows, columns, ahead, *accs, *[self._zero(lanes)] * (count * (sets - 1))) if folded else accs
        for u in range(1, sets):
            total = [arith.AddFOp(a, b).result for a, b in zip(total[:count], total[u * count:(u + 1) * count])] + total[count:]
        if self.finish is not None:
            self._finish(self.finish, out, tile, total[:count])
            return
        for at, value in zip(places, total[:count], strict=True):
            vector.StoreOp(value, out.buffer, [at])

    def _finish(self, finish: Finish, out: _Operand, tile: "_Tile", sums: Sequence[ir.Value]) -> None:
        for n, value in enumerate(sums):
            i, v = divmod(n, tile.vectors)
            place = self._advance(out, tile.column, index_constant(v * tile.lanes)) if v else out
            if i and tile.row is not None:
                place = self._advance(place, tile.row, index_constant(i))
            finish.emit(value, place.at or {}, tile.column, tile.lanes)

    def _prefetch(self, operand: _Operand, offset: int, count: int, near: bool) -> None:
        """Asks the first (near) or second cache for `count` elements at `offset` from an operand's place."""
        for i in range(0, count, LINE * 8 // operand.buffer.type.element_type.width):
            at = arith.AddIOp(operand.base, index_constant(offset + i)).result
            memref.PrefetchOp(operand.buffer, [at], False, 3 if near else 2, True)

    def _step(self, rows: _Operand, columns: _Operand, row_stride: int, height: int, vectors: int, lanes: int,
              accs: Sequence[ir.Value]) -> list[ir.Value]:
        """One reduction point: height broadcasts x vectors loads -> multiply-adds."""
        right = []
        type_ = vector_type(lanes, columns.buffer.type.element_type)
        for v in range(vectors):
            at = arith.AddIOp(columns.base, index_constant(v * lanes)).result
            right.append(self._widen(vector.LoadOp(type_, columns.buffer, [at]).result, lanes))
        out = []
        for i in range(height):
            at = arith.AddIOp(rows.base, index_constant(i * row_stride)).result if i else rows.base
            left = splat(self._widen(load_scalar(rows.buffer, at), 0), lanes)
            out += [vector.FMAOp(left, right[v], accs[i * vectors + v]).result for v in range(vectors)]
        return out

    def _widen(self, value: ir.Value, lanes: int) -> ir.Value:
        type_ = vector_type(lanes, self.element) if lanes else self.element
        return value if value.type == type_ else arith.ExtFOp(type_, value).result

    # -- packing ----------------------------------------------------------------------------------------------------
    def _pack(self, columns: _Operand, column: int) -> _Operand:
        """Copies the column factor to rows of n contiguous columns, [reduction...][n]."""
        n, folded = self.extents[column], [self.extents[d] for d in self.folded]
        buffer = self.scratch(ir.MemRefType.get([volume(folded) * n], columns.buffer.type.element_type))
        inner = row_major([*folded, n])

        def column_of(j: ir.Value) -> list[ir.Value]:
            return nest(0, self._advance(columns, column, j), j)

        def nest(level: int, at: _Operand, to: ir.Value) -> list[ir.Value]:
            if level == len(folded):
                memref.StoreOp(load_scalar(at.buffer, at.base), buffer, [to])
                return []
            d = self.folded[level]

            def inside(k: ir.Value) -> list[ir.Value]:
                moved = arith.AddIOp(to, arith.MulIOp(k, index_constant(inner[level])).result).result
                return nest(level + 1, self._advance(at, d, k), moved)

            return loop(folded[level], 0, 1, [], inside)

        loop(n, 0, 1, [], column_of)
        strides = list(columns.strides)
        for d, s in zip(self.folded, inner):
            strides[d] = s
        strides[column] = 1
        return _Operand(buffer, index_constant(0), tuple(strides))
