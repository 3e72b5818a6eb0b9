"""task.mma on a CPU: register tiles of rows x vectors, accumulators carried through the reduction loops.

A deep reduction is cut in chunks whose factors stay in cache; partial sums then live in the result's buffer. One factor supplies a scalar
per row that is broadcast, the other a vector of columns; columns are the dimension in which the result is contiguous. A column factor that
is not contiguous there is packed into panels first. Ragged edges overlap: the last register tile is moved back inside, which computes some
elements twice and needs no masks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mlc.ir.affine import map_to_linear
from mlc.ir.mlir import arith, ir, memref, vector
from mlc.layout.linear import flatten, row_major
from mlc.passes.task.flat import Access, Memory, index_constant, linear_index, load_scalar, splat, vector_type
from mlc.passes.task.loops import loop
from mlc.passes.tile.model import volume

DEPTH = 512  # reduction points per chunk: a panel of 64 f32 columns is then 128 KiB, an eighth of a usual L2 cache
DEEP = 768  # reductions up to this deep are not cut


@dataclass(frozen=True)
class Registers:
    """The vector unit: lanes of an f32 register, and how many registers may hold accumulators."""

    lanes: int
    accumulators: int


@dataclass(frozen=True)
class _Operand:
    """One operand: flat buffer, start offset value, and strides per loop dimension."""

    buffer: ir.Value
    base: ir.Value
    strides: tuple[int, ...]
    panel: int = 0  # width of the panels it is stored in; its column stride then means nothing
    depth: int = 0  # elements per column of a panelled operand


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
    """Emits one task.mma at the insertion point; `supported` is False when no dimension can be the columns."""

    def __init__(self, op: ir.Operation, memory: Memory, env: dict[ir.Value, ir.Value], registers: Registers,
                 scratch: Callable[[ir.Type], ir.Value]) -> None:
        view = op.opview
        self.registers, self.scratch = registers, scratch
        self.extents: list[int] = view.py("extents")
        self.reductions: int = view.py("reductions")
        a, b, c, *offsets = list(op.operands)
        panels = [*view.py("panels"), 0]
        self.operands = [self._operand(buffer, map_, offsets, memory, env, panel)
                         for buffer, map_, panel in zip((a, b, c), op.attributes["maps"], panels)]
        self.element = c.type.element_type
        # Partial sums may live in a buffer of the block, or in a result that no other block writes.
        clamped = any(not isinstance(o.owner, ir.Block) and o.owner.name == "arith.minsi" for o in offsets)
        self.resumable = not isinstance(c.owner, ir.Block) or not clamped
        self.parallel = list(range(len(self.extents) - self.reductions))
        self.folded = list(range(len(self.extents) - self.reductions, len(self.extents)))
        self._join(self.folded, self.operands[:2])
        self._join(self.parallel, self.operands)
        self.parallel = [d for d in self.parallel if self.extents[d] > 1]

    def _operand(self, buffer: ir.Value, map_: ir.Attribute, offsets: Sequence[ir.Value], memory: Memory, env: dict[ir.Value, ir.Value],
                 panel: int) -> _Operand:
        linear = map_to_linear(map_.value)
        n = len(self.extents)
        assert linear is not None
        if panel:
            # Element [column][k...] of panels: blocks start on a panel, so the offset of column o is o * (all of k).
            folded = self.extents[n - self.reductions:]
            shape = [*folded, panel]
            column, *inner = linear
            total = column * volume(folded)
            for e, s in zip(inner, row_major(shape), strict=False):
                total = total + e * s
        else:
            total = flatten(linear, buffer.type.shape, n + len(offsets))
        strides = {v: c for v, c in zip(offsets, total.coefficients[n:]) if c}
        depth = volume(self.extents[n - self.reductions:])
        return _Operand(memory.flat[buffer], linear_index(Access(buffer, total.const, strides), env), total.coefficients[:n], panel, depth)

    def _join(self, dims: list[int], operands: Sequence[_Operand]) -> None:
        """Joins neighbouring loops that all operands walk contiguously."""
        i = 0
        while i + 1 < len(dims):
            outer, inner = dims[i], dims[i + 1]
            if self.extents[outer] == 1 or all(o.strides[outer] == o.strides[inner] * self.extents[inner] for o in operands):
                self.extents[inner] *= self.extents[outer]
                self.extents[outer] = 1
                dims.pop(i)
            elif self.extents[inner] == 1:
                dims.pop(i + 1)
            else:
                i += 1

    # -- roles ------------------------------------------------------------------------------------------------------
    def emit(self) -> bool:
        """Emits the product; False (and nothing emitted) when columns cannot be found."""
        a, b, c = self.operands
        column = next((d for d in self.parallel if c.strides[d] == 1 and (a.strides[d] == 0) != (b.strides[d] == 0)), None)
        if column is None:
            return False
        rows, columns = (a, b) if a.strides[column] == 0 else (b, a)
        row_dims = [d for d in self.parallel if d != column and rows.strides[d] and not columns.strides[d]]
        if not columns.panel and columns.strides[column] != 1 and volume([self.extents[d] for d in row_dims]) < 4:
            return False  # packing would cost more than it saves: dot products along the reduction
        batch = [d for d in self.parallel if d != column and d not in row_dims]
        row = max(row_dims, key=lambda d: self.extents[d], default=None)
        others = [d for d in row_dims if d != row]
        bits = self.element.width
        lanes = self.registers.lanes * 32 // bits
        while lanes > self.extents[column]:
            lanes //= 2
        self._batch(batch, rows, columns, c, lambda r, k, o: self._panels(r, k, o, row, others, column, max(lanes, 1)))
        return True

    def _batch(self, dims: Sequence[int], rows: _Operand, columns: _Operand, out: _Operand,
               body: Callable[[_Operand, _Operand, _Operand], object]) -> None:
        if not dims:
            body(rows, columns, out)
            return
        d, rest = dims[0], dims[1:]

        def inside(i: ir.Value) -> list[ir.Value]:
            self._batch(rest, self._advance(rows, d, i), self._advance(columns, d, i), self._advance(out, d, i), body)
            return []

        loop(self.extents[d], 0, 1, [], inside)

    def _advance(self, operand: _Operand, dim: int, i: ir.Value) -> _Operand:
        stride = operand.strides[dim]
        if stride == 0:
            return operand
        step = i if stride == 1 else arith.MulIOp(i, index_constant(stride)).result
        return replace(operand, base=arith.AddIOp(operand.base, step).result)

    # -- register tiles ---------------------------------------------------------------------------------------------
    def _panels(self, rows: _Operand, columns: _Operand, out: _Operand, row: int | None, others: Sequence[int], column: int,
                lanes: int) -> None:
        m = self.extents[row] if row is not None else 1
        n = self.extents[column]
        chunks = self._chunks(m * volume([self.extents[d] for d in others]), columns.panel or n, lanes)
        vectors, height = self._shape(m, columns.panel or n, lanes, exact=chunks is not None)
        if not columns.panel and columns.strides[column] != 1:
            columns = self._pack(columns, column)
        tile = _Tile(row, others, column, m, height, vectors, lanes, chunks is not None)
        if chunks is None:
            self._sweep(rows, columns, out, tile, self.folded)
            return
        self._clear(out, [*others, *([row] if row is not None else [])], column, n, lanes)
        outer, cut, size = chunks
        inner = self.folded[len(outer):]

        def chunk(r: _Operand, k: _Operand, length: int) -> None:
            full, self.extents[cut] = self.extents[cut], length
            self._sweep(r, k, out, tile, inner)
            self.extents[cut] = full

        def parts(r: _Operand, k: _Operand, _: _Operand) -> None:
            whole = self.extents[cut] // size * size

            def at(i: ir.Value) -> list[ir.Value]:
                chunk(self._advance(r, cut, i), self._advance(k, cut, i), size)
                return []

            loop(whole, 0, size, [], at)
            if whole < self.extents[cut]:
                i = index_constant(whole)
                chunk(self._advance(r, cut, i), self._advance(k, cut, i), self.extents[cut] - whole)

        self._batch(outer, rows, columns, out, parts)

    def _chunks(self, m: int, n: int, lanes: int) -> tuple[list[int], int, int] | None:
        """How a deep reduction is cut: loops outside the register tiles, the loop that is cut, and the length of its pieces."""
        if volume([self.extents[d] for d in self.folded]) <= DEEP or m < 8 or n % lanes or not self.resumable:
            return None
        inside, outer = 1, list(self.folded)
        while outer:
            d = outer.pop()
            if inside * self.extents[d] > DEPTH or not outer:
                parts = -(-inside * self.extents[d] // DEPTH)
                even = next((p for p in range(parts, 2 * parts) if self.extents[d] % p == 0), parts)
                return outer, d, -(-self.extents[d] // even)
            inside *= self.extents[d]
        return None

    def _clear(self, out: _Operand, dims: Sequence[int], column: int, n: int, lanes: int) -> None:
        """Zeroes the result, to which chunks are added."""
        zero = self._zero(lanes)

        def at(i: ir.Value) -> list[ir.Value]:
            self._batch(dims, out, out, self._advance(out, column, i), lambda r, k, o: vector.StoreOp(zero, o.buffer, [o.base]))
            return []

        loop(n, 0, lanes, [], at)

    def _sweep(self, rows: _Operand, columns: _Operand, out: _Operand, tile: "_Tile", folded: Sequence[int]) -> None:
        """Register tiles over all rows and columns, folding the loops `folded`."""
        width, column, n = tile.vectors * tile.lanes, tile.column, self.extents[tile.column]

        def place(start: ir.Value, source: ir.Value) -> list[ir.Value]:
            """Register tiles of the columns from `start`, whose factor begins at element `source`."""
            target = self._advance(out, column, start)
            self._batch(tile.others, rows, replace(columns, base=source), target, lambda r, k, o: self._rows(r, k, o, tile, folded))
            return []

        panel = columns.panel
        if panel:
            depth = columns.depth

            def panelled(first: ir.Value) -> list[ir.Value]:
                base = arith.AddIOp(columns.base, arith.MulIOp(first, index_constant(depth)).result).result
                inside = panel // width * width
                loop(inside, 0, width, [], lambda i: place(arith.AddIOp(first, i).result, arith.AddIOp(base, i).result))
                if inside < panel:
                    i = index_constant(panel - width)
                    place(arith.AddIOp(first, i).result, arith.AddIOp(base, i).result)
                return []

            loop(n, 0, panel, [], panelled)
            return
        whole = n // width * width
        loop(whole, 0, width, [], lambda start: place(start, self._advance(columns, column, start).base))
        if whole < n:
            start = index_constant(n - width)
            place(start, self._advance(columns, column, start).base)

    def _shape(self, m: int, n: int, lanes: int, exact: bool) -> tuple[int, int]:
        """(vectors, rows) of a register tile: as square as the accumulators allow, rows split evenly. exact: columns must divide."""
        budget = self.registers.accumulators
        fitting = max(1, n // lanes)
        best, best_score = (1, 1), -1.0
        for vectors in (1, 2, 3, 4, 6, 8):
            if vectors > fitting or vectors > budget or (exact and n % (vectors * lanes)):
                continue
            most = max(1, budget // vectors)
            parts = -(-m // most)
            height = -(-m // parts)
            done_twice = (parts * height) / m * (-(-n // (vectors * lanes)) * vectors * lanes) / n
            # Loads per multiply-add: a vector per column block and a broadcast per row.
            score = min(1.0, vectors * height / 8) / ((1 / height + 1 / vectors + 0.6) * done_twice)
            if score > best_score:
                best, best_score = (vectors, height), score
        return best

    def _rows(self, rows: _Operand, columns: _Operand, out: _Operand, tile: "_Tile", folded: Sequence[int]) -> None:
        row, m, height = tile.row, tile.m, tile.height

        def at(i: ir.Value, high: int) -> list[ir.Value]:
            r = self._advance(rows, row, i) if row is not None else rows
            o = self._advance(out, row, i) if row is not None else out
            self._tile(r, columns, o, tile, high, folded)
            return []

        whole = m // height * height
        loop(whole, 0, height, [], lambda i: at(i, height))
        if whole < m and tile.resume:  # adding twice would be wrong: a lower tile
            at(index_constant(whole), m - whole)
        elif whole < m:
            at(index_constant(m - height), height)

    def _zero(self, lanes: int) -> ir.Value:
        type_ = vector_type(lanes, self.element)
        return arith.ConstantOp(type_, ir.DenseElementsAttr.get_splat(type_, ir.FloatAttr.get(self.element, 0.0))).result

    def _tile(self, rows: _Operand, columns: _Operand, out: _Operand, tile: "_Tile", height: int, folded: Sequence[int]) -> None:
        vectors, lanes = tile.vectors, tile.lanes
        row_stride = rows.strides[tile.row] if tile.row is not None else 0
        out_stride = out.strides[tile.row] if tile.row is not None else 0
        places = [arith.AddIOp(out.base, index_constant(i * out_stride + v * lanes)).result for i in range(height) for v in range(vectors)]
        if tile.resume:
            accs = [vector.LoadOp(vector_type(lanes, self.element), out.buffer, [at]).result for at in places]
        else:
            accs = [self._zero(lanes)] * (height * vectors)

        # Few accumulators would wait for each other: several sets take turns along the innermost loop, and are added at the end.
        sets = next((u for u in (8, 4, 2) if u * len(accs) <= 8 and folded and self.extents[folded[-1]] % u == 0), 1)
        count = len(accs)

        def nest(level: int, r: _Operand, c: _Operand, *carried: ir.Value) -> list[ir.Value]:
            d = folded[level]
            if level < len(folded) - 1:
                def deeper(k: ir.Value, *inner: ir.Value) -> list[ir.Value]:
                    return nest(level + 1, self._advance(r, d, k), self._advance(c, d, k), *inner)

                return loop(self.extents[d], 0, 1, carried, deeper)

            def steps(k: ir.Value, *inner: ir.Value) -> list[ir.Value]:
                out: list[ir.Value] = []
                for u in range(sets):
                    at = arith.AddIOp(k, index_constant(u)).result if u else k
                    part = inner[u * count:(u + 1) * count]
                    out += self._step(self._advance(r, d, at), self._advance(c, d, at), row_stride, height, vectors, lanes, part)
                return out

            return loop(self.extents[d], 0, sets, carried, steps)

        total = nest(0, rows, columns, *accs, *[self._zero(lanes)] * (count * (sets - 1))) if folded else accs
        for u in range(1, sets):
            total = [arith.AddFOp(a, b).result for a, b in zip(total[:count], total[u * count:(u + 1) * count])] + total[count:]
        for at, value in zip(places, total[:count], strict=True):
            vector.StoreOp(value, out.buffer, [at])

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
