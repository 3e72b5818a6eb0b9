"""The factors of a streamed softmax in shared memory: how threads bring a step's tile there, and read it as fragments of an atom.

As for other products (`gpu.mma`, `gpu.wave`): asynchronous copies and ldmatrix, or a step ahead in registers and vectors. Points beyond the
end of a factor are zeros.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from mlc.ir.mlir import arith, ir, memref, nvgpu, vector
from mlc.passes.gpu.block import WIDEST, Block, delinearize
from mlc.passes.gpu.fragments import corner_of_piece, read_fragments, row_and_group, row_of_piece
from mlc.passes.gpu.hopper.emit import compare, i32_type, when
from mlc.passes.gpu.result import place
from mlc.passes.gpu.tf32 import rounded
from mlc.passes.gpu.unit import Unit
from mlc.passes.gpu.warp_streaming import Tile
from mlc.passes.task.flat import affine, index_constant, linear_index
from mlc.passes.tile.model import element_bytes, volume


class StreamTile(ABC):
    """One factor while its stream is emitted. base: bytes at which its stages begin; steps: of keys, at most."""

    def __init__(self, tile: Tile, unit: Unit, team: Block, base: int, stages: int, steps: int, lane: ir.Value) -> None:
        buffer = tile.factor.buffer
        self.tile, self.staged, self.unit, self.team, self.lane = tile, tile.staged, unit, team, lane
        self.element, self.bytes = buffer.type.element_type, element_bytes(buffer)
        self.source = team.memory.flat[buffer]
        self.start = linear_index(tile.factor.start, team.env, narrow=True)
        self.memory = team.shared(base, self.staged.size * stages, self.element)
        self.reach = [own + move * (steps - 1) for own, move in zip((tile.outer, tile.depth), tile.moves)]

    @abstractmethod
    def bring(self, step: ir.Value, slot: ir.Value) -> list[ir.Value]:
        """Begins to bring the tile of a step of keys to a stage; what it returns, `put` takes."""

    @abstractmethod
    def put(self, slot: ir.Value, values: Sequence[ir.Value]) -> None:
        """Ends what `bring` began."""

    @abstractmethod
    def fragments(self, slot: ir.Value, outer: ir.Value, depth: int, together: int, left: bool) -> list[list[ir.Value]]:
        """Per atom along the outer points, of 16 in all, its fragments of `together` atoms along the depth. left: of the left factor."""

    def _zero(self, type_: ir.Type) -> ir.Value:
        zero = ir.FloatAttr.get(self.element, 0.0)
        return arith.ConstantOp(type_, ir.DenseElementsAttr.get_splat(type_, zero) if isinstance(type_, ir.VectorType) else zero).result

    def _source(self, step: ir.Value, outer: ir.Value, depth: ir.Value) -> tuple[ir.Value, ir.Value | None]:
        """Where a vector of a step's tile lies in memory, and the condition under which it does: the place can be read in any case."""
        turned = self.staged.by_depth or self.staged.turns
        terms, inside = [(self.start, 1)], None
        loops = (self.tile.factor.outer, self.tile.factor.depth)
        for i, (own, point) in enumerate(zip(loops, (outer, depth))):
            at = affine(0, [(point, 1), (step, self.tile.moves[i])], narrow=True)
            if self.reach[i] > own.count:
                real = arith.CmpIOp(arith.CmpIPredicate.ult, at, index_constant(own.count)).result
                inside = real if inside is None else arith.AndIOp(inside, real).result
                run = self.staged.vector if turned == (i == 0) else 1
                at = arith.MinUIOp(at, index_constant(own.count - run)).result
            terms.append((place(own, at), 1))
        return affine(0, terms, narrow=True), inside


class CopiedTile(StreamTile):
    """By cp.async, read by ldmatrix."""

    def bring(self, step: ir.Value, slot: ir.Value) -> list[ir.Value]:
        tile, staged, v = self.tile, self.staged, self.staged.vector
        shape = [tile.depth, tile.outer // v] if staged.by_depth else [tile.outer, tile.depth // v]
        base = affine(0, [(slot, staged.size)], narrow=True)

        def one(number: ir.Value) -> None:
            row, chunk = delinearize(number, shape)
            along = affine(0, [(chunk, v)], narrow=True)
            source, inside = self._source(step, *((along, row) if staged.by_depth else (row, along)))
            target = affine(0, [(base, 1), (row, staged.pitch), (along, 1)], narrow=True)
            if v * self.bytes < 4:
                loaded = memref.LoadOp(self.source, [source]).result
                if inside is not None:
                    loaded = arith.SelectOp(inside, loaded, self._zero(self.element)).result
                memref.StoreOp(loaded, self.memory, [target])
                return
            present = None if inside is None else arith.SelectOp(inside, index_constant(v), index_constant(0)).result
            bypass = v * self.bytes == WIDEST or None
            nvgpu.DeviceAsyncCopyOp(self.memory, [target], self.source, [source], v, srcElements=present, bypassL1=bypass)

        count, threads = volume(shape), self.team.threads
        for i in range(-(-count // threads)):
            number = affine(i * threads, [(self.team.thread, 1)], narrow=True)
            if (i + 1) * threads <= count:
                one(number)
            else:
                when(compare("ult", arith.IndexCastUIOp(i32_type(), number).result, count), lambda number=number: one(number))
        return []

    def put(self, slot: ir.Value, values: Sequence[ir.Value]) -> None:
        return

    def fragments(self, slot: ir.Value, outer: ir.Value, depth: int, together: int, left: bool) -> list[list[ir.Value]]:
        """Four pieces of 8 outer points by 16 bytes of depth: outer points first for the left factor, else depth (PTX ISA).

        By ldmatrix; what it cannot bring, elements of 32 bits that lie across or in another order, is loaded one by one.
        """
        assert together == 1
        four = self._elements(slot, outer, depth, left) if self._single else self._pieces(slot, outer, depth, left)
        if self.unit.atom.input == "tf32":
            four = rounded(four)
        if left:
            return [[four]]
        width = four.type.shape[1]
        two = ir.VectorType.get([2, width], self.element)
        return [[vector.ExtractStridedSliceOp(two, four, [k, 0], [2, width], [1, 1]).result] for k in (0, 2)]

    @property
    def _single(self) -> bool:
        points = self.tile.points
        return self.bytes == 4 and (self.staged.by_depth or points != tuple(range(len(points))))

    def _elements(self, slot: ir.Value, outer: ir.Value, depth: int, left: bool) -> ir.Value:
        """Lane l has outer point l // 4 and depth point l % 4 of each piece."""
        points, staged = self.tile.points, self.staged
        assert all(p == points[i // 4 * 4] + i % 4 * points[1] for i, p in enumerate(points)), "points that are not evenly apart"
        group, member = delinearize(self.lane, [8, 4])
        o_step, d_step = (1, staged.pitch) if staged.by_depth else (staged.pitch, 1)
        found = []
        for i in range(4):
            down, deep = corner_of_piece(i, left)
            at = affine((depth + points[4 * deep]) * d_step + 8 * down * o_step,
                        [(slot, staged.size), (outer, o_step), (group, o_step), (member, points[1] * d_step)], narrow=True)
            found.append(memref.LoadOp(self.memory, [at]).result)
        return vector.FromElementsOp(ir.VectorType.get([4, 1], self.element), found).result

    def _pieces(self, slot: ir.Value, outer: ir.Value, depth: int, left: bool) -> ir.Value:
        staged = self.staged
        outers, depths = row_of_piece(self.lane, 4, left, staged.by_depth, self.bytes)
        o, d = affine(0, [(outer, 1), *outers], narrow=True), affine(depth, depths, narrow=True)
        o_step, d_step = (1, staged.pitch) if staged.by_depth else (staged.pitch, 1)
        at = affine(0, [(slot, staged.size), (o, o_step), (d, d_step)], narrow=True)
        type_ = ir.VectorType.get([4, 4 // self.bytes], self.element)
        return nvgpu.LdMatrixOp(type_, self.memory, [at], staged.by_depth, 4).result


class CarriedTile(StreamTile):
    """Through registers, as rows along the depth; read as vectors."""

    def _patches(self) -> list[int]:
        """Patches that threads bring: along the outer points, along the depth."""
        return [self.tile.outer // (self.staged.vector if self.staged.turns else 1), self.tile.depth // self.staged.patch]

    def _place(self, number: ir.Value) -> tuple[ir.Value, ir.Value]:
        """The first outer and depth point of a patch; neighbouring threads have neighbours in memory."""
        shape, staged = self._patches(), self.staged
        if staged.turns:
            depth, outer = delinearize(number, shape[::-1])
            return affine(0, [(outer, staged.vector)], narrow=True), affine(0, [(depth, staged.patch)], narrow=True)
        outer, depth = delinearize(number, shape)
        return outer, affine(0, [(depth, staged.patch)], narrow=True)

    def _numbers(self) -> list[ir.Value]:
        """The thread's patches. Where there are not enough of them, threads bring the last one again: LLVM would move what is computed in
        between behind a branch, and all that it needs before it."""
        count, threads = volume(self._patches()), self.team.threads
        found = [affine(i * threads, [(self.team.thread, 1)], narrow=True) for i in range(-(-count // threads))]
        if count % threads:
            found[-1] = arith.MinUIOp(found[-1], index_constant(count - 1)).result
        return found

    @property
    def _loads(self) -> int:
        """Of a patch."""
        return self.staged.patch if self.staged.turns else self.staged.patch // self.staged.vector

    def bring(self, step: ir.Value, slot: ir.Value) -> list[ir.Value]:
        staged, v = self.staged, self.staged.vector
        type_ = ir.VectorType.get([v], self.element)

        found: list[ir.Value] = []
        for number in self._numbers():
            outer, depth = self._place(number)
            for i in range(self._loads):
                at = affine(i * (1 if staged.turns else v), [(depth, 1)], narrow=True)
                source, inside = self._source(step, outer, at)
                loaded = vector.LoadOp(type_, self.source, [source], alignment=v * self.bytes).result
                found.append(loaded if inside is None else arith.SelectOp(inside, loaded, self._zero(type_)).result)
        return found

    def put(self, slot: ir.Value, values: Sequence[ir.Value]) -> None:
        staged, v, loads = self.staged, self.staged.vector, self._loads
        type_ = ir.VectorType.get([staged.patch], self.element)

        for i, number in enumerate(self._numbers()):
            outer, depth = self._place(number)
            own = values[i * loads:(i + 1) * loads]
            for column in range(v if staged.turns else 1):
                parts = [(part, column) for part in own] if staged.turns else [(part, k) for part in own for k in range(v)]
                row = vector.FromElementsOp(type_, [vector.ExtractOp(part, [], [k]).result for part, k in parts]).result
                at = affine(column * staged.pitch, [(slot, staged.size), (outer, staged.pitch), (depth, 1)], narrow=True)
                vector.StoreOp(row, self.memory, [at], alignment=staged.patch * self.bytes)

    def fragments(self, slot: ir.Value, outer: ir.Value, depth: int, together: int, left: bool) -> list[list[ir.Value]]:
        """A lane's part of an atom is depth points that are neighbours, those of `together` atoms behind each other."""
        staged, size = self.staged, self.unit.a.size
        row, group = row_and_group(self.lane, self.unit)
        o = affine(0, [(outer, 1), (row, 1)], narrow=True)
        at = affine(depth, [(slot, staged.size), (o, staged.pitch), (group, size * together)], narrow=True)
        return [read_fragments(self.memory, at, size, together, self.bytes)]


__all__ = ["CarriedTile", "CopiedTile", "StreamTile"]
