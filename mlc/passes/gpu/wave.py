"""task.mma by mfma or wmma: global memory goes through registers into padded rows of shared memory, fragments are read as vectors.

While a block multiplies one stage, its threads hold the next one in registers, loaded 16 bytes at a time where memory allows. A factor
that is contiguous along its outer loops is turned on the way: a thread loads a patch of several depth points, and stores its columns.

A lane's part of a factor is `size` depth points of one outer point, and any of them serve as long as both factors agree (`Atom`, checked by
enumeration). So a lane takes points that are neighbours in memory, for several atoms at once where that makes a read of 16 bytes.
"""

from collections.abc import Callable, Sequence
from math import gcd

from mlc.ir.mlir import amdgpu, arith, gpu, ir, scf, vector
from mlc.layout.fragments import Atom
from mlc.passes.gpu.block import WIDEST, delinearize
from mlc.passes.gpu.fragments import element_part, lane_part, read_fragments, row_and_group
from mlc.passes.gpu.plan import MmaPlan, Staged
from mlc.passes.gpu.product import MatrixProduct, Side
from mlc.passes.gpu.result import ResultTile
from mlc.passes.task.flat import affine, index_constant
from mlc.passes.task.loops import loop
from mlc.passes.tile.model import element_bytes, volume


class WaveProduct(MatrixProduct[MmaPlan]):
    """By the matrix instructions of AMD's waves."""

    # -- the pipeline -----------------------------------------------------------------------------------------------
    def _pipeline(self) -> list[ir.Value]:
        plan = self.plan
        accs = self._zeros([plan.unit.atom.c.size])
        sides = [(s, s.staged) for s in (self.left, self.right) if s.staged is not None]
        if not sides:
            return rolled(loop(plan.steps, 0, 1, accs, lambda i, *c: self._compute(i, index_constant(0), c)))

        def store(values: list[list[ir.Value]], slot: ir.Value) -> None:
            for (side, staged), own in zip(sides, values):
                self._put(side, staged, slot, own)

        def load(step: ir.Value) -> list[list[ir.Value]]:
            return [self._get(side, staged, step) for side, staged in sides]

        def step(i: ir.Value, *carried: ir.Value) -> list[ir.Value]:
            gpu.BarrierOp()
            following = arith.AddIOp(i, index_constant(1)).result
            ahead = load(following)
            sums = self._compute(i, self._slot(i), carried)
            if plan.stages == 1:
                gpu.BarrierOp()  # nobody reads the stage any more
            store(ahead, self._slot(following))
            return sums

        store(load(index_constant(0)), index_constant(0))
        accs = rolled(loop(plan.steps - 1, 0, 1, accs, step))
        gpu.BarrierOp()
        last = index_constant(plan.steps - 1)
        return self._compute(last, self._slot(last), accs)

    # -- copies -----------------------------------------------------------------------------------------------------
    def _patches(self, side: Side, staged: Staged) -> list[int]:
        """Patches of a stage: along the outer loops, along the depth."""
        return [-(-side.outer // (staged.vector if staged.turns else 1)), self.plan.step // staged.patch]

    def _each(self, side: Side, staged: Staged, emit: Callable[[int, ir.Value], list[ir.Value]],
              results: Sequence[ir.Type]) -> list[ir.Value]:
        """Calls emit(round, number) for this thread's patches of a stage, under a condition where some threads have none left.

        What it returns, of the types `results`, is joined; zeros where there is nothing.
        """
        count, threads = volume(self._patches(side, staged)), self.team.threads
        found: list[ir.Value] = []
        for i in range(-(-count // threads)):
            number = affine(i * threads, [(self.team.thread, 1)], narrow=True)
            if (i + 1) * threads <= count:
                found += emit(i, number)
                continue
            left = arith.CmpIOp(arith.CmpIPredicate.ult, number, index_constant(count)).result
            busy = scf.IfOp(left, list(results), has_else=bool(results))
            with ir.InsertionPoint(busy.then_block):
                scf.YieldOp(emit(i, number))
            if results:
                with ir.InsertionPoint(busy.else_block):
                    scf.YieldOp([self._zero(t) for t in results])
            found += list(busy.results)
        return found

    def _zero(self, type_: ir.Type) -> ir.Value:
        zero = (ir.IntegerAttr if isinstance(self.element, ir.IntegerType) else ir.FloatAttr).get(self.element, 0)
        return arith.ConstantOp(type_, ir.DenseElementsAttr.get_splat(type_, zero)).result

    def _outer_and_depth(self, side: Side, staged: Staged, number: ir.Value) -> tuple[ir.Value, ir.Value]:
        """The first outer point of a patch, and its first depth point in the stage."""
        shape = self._patches(side, staged)
        if staged.turns:  # neighbouring threads load neighbouring vectors of a row
            depth, outer = delinearize(number, shape[::-1])
            return affine(0, [(outer, staged.vector)], narrow=True), affine(0, [(depth, staged.patch)], narrow=True)
        outer, depth = delinearize(number, shape)
        return outer, affine(0, [(depth, staged.patch)], narrow=True)

    def _get(self, side: Side, staged: Staged, step: ir.Value) -> list[ir.Value]:
        """This thread's part of a step: per patch its loads, vectors of `staged.vector`."""
        v, real = staged.vector, side.factor.outer.count
        type_ = ir.VectorType.get([v], self.element)
        first = affine(0, [(step, self.plan.step)], narrow=True)
        loads = staged.patch if staged.turns else staged.patch // v

        def one(_: int, number: ir.Value) -> list[ir.Value]:
            outer, depth = self._outer_and_depth(side, staged, number)
            if side.outer > real:  # rows of padding repeat the last ones: their results are dropped
                outer = arith.MinUIOp(outer, index_constant(real - (v if staged.turns else 1))).result
            found = []
            for i in range(loads):
                at = affine(i * (1 if staged.turns else v), [(first, 1), (depth, 1)], narrow=True)
                source, inside = self._source(side, v, outer, at)
                value = vector.LoadOp(type_, side.source, [source], alignment=v * element_bytes(side.factor.buffer)).result
                found.append(value if inside is None else arith.SelectOp(inside, value, self._zero(type_)).result)
            return found

        return self._each(side, staged, one, [type_] * loads)

    def _put(self, side: Side, staged: Staged, slot: ir.Value, values: Sequence[ir.Value]) -> None:
        """Stores what `_get` loaded into a slot, as rows along the depth."""
        v = staged.vector
        loads = staged.patch if staged.turns else staged.patch // v
        base = affine(0, [(slot, staged.size)], narrow=True)
        type_ = ir.VectorType.get([staged.patch], self.element)

        def one(i: int, number: ir.Value) -> list[ir.Value]:
            outer, depth = self._outer_and_depth(side, staged, number)
            own = values[i * loads:(i + 1) * loads]
            for column in range(v if staged.turns else 1):
                if staged.turns:
                    row = vector.FromElementsOp(type_, [vector.ExtractOp(part, [], [column]).result for part in own]).result
                elif loads == 1:
                    row = own[0]
                else:
                    row = vector.FromElementsOp(type_, [vector.ExtractOp(part, [], [k]).result for part in own for k in range(v)]).result
                at = affine(column * staged.pitch, [(base, 1), (outer, staged.pitch), (depth, 1)], narrow=True)
                vector.StoreOp(row, side.memory, [at], alignment=staged.patch * element_bytes(side.factor.buffer))
            return []

        self._each(side, staged, one, [])

    # -- fragments --------------------------------------------------------------------------------------------------
    def _compute(self, step: ir.Value, slot: ir.Value, accs: Sequence[ir.Value]) -> list[ir.Value]:
        """One step's products added to a warp's accumulators."""
        plan, out = self.plan, list(accs)
        down, across = plan.atoms
        rows, columns, deep = plan.unit.atom.shape
        parts = plan.step // deep // plan.warps[2]
        together = gcd(parts, max(1, WIDEST // (plan.unit.a.size * element_bytes(plan.product.a.buffer))))
        for s in range(0, parts, together):
            depth = affine(s * deep, [(self.warp_depth, parts * deep)], narrow=True)
            a = [self._fragments(self.left, step, slot, self.warp_row, plan.warp_rows, i * rows, depth, together) for i in range(down)]
            b = [self._fragments(self.right, step, slot, self.warp_column, plan.warp_columns, j * columns, depth, together)
                 for j in range(across)]
            for k in range(together):
                for i in range(down):
                    for j in range(across):
                        out[i * across + j] = self._atom(a[i][k], b[j][k], out[i * across + j])
        return out

    def _fragments(self, side: Side, step: ir.Value, slot: ir.Value, warp: ir.Value, tile: int, outer: int, depth: ir.Value,
                   together: int) -> list[ir.Value]:
        """A factor's fragments of `together` atoms behind each other, from outer point warp * tile + outer and depth point `depth`."""
        row, group = row_and_group(self.lane, self.plan.unit)
        size = self.plan.unit.a.size
        o = affine(outer, [(warp, tile), (row, 1)], narrow=True)
        d = affine(0, [(depth, 1), (group, size * together)], narrow=True)
        return read_fragments(side.memory, self._where(side, step, slot)(o, d), size, together, element_bytes(side.factor.buffer))

    @property
    def _swapped(self) -> bool:
        """Whether the atom multiplies the transposed product: where a lane's sums are neighbouring rows, they become columns."""
        return self.plan.unit.atom.c.run()[0] > 1

    def _atom(self, a: ir.Value, b: ir.Value, sums: ir.Value) -> ir.Value:
        """Sums + a * b, or its transpose."""
        a, b = self._as_codes(a, self.left), self._as_codes(b, self.right)
        first, second = (b, a) if self._swapped else (a, b)
        return wave_atom(self.plan.unit.atom, first, second, sums)

    def _as_codes(self, fragment: ir.Value, side: Side) -> ir.Value:
        """A fragment of codes as what they stand for."""
        codes = self.op.opview.py("codes")
        if not codes:
            return fragment
        type_ = ir.VectorType.get(fragment.type.shape, ir.Type.parse(codes[side.factor.operand]))
        return vector.BitCastOp(type_, fragment).result

    # -- results ----------------------------------------------------------------------------------------------------
    def _store_tile(self, accs: Sequence[ir.Value], start: ir.Value) -> None:
        plan, c = self.plan, self.plan.unit.atom.c
        down, across = plan.atoms
        result = ResultTile(self.op, plan.product, self.team, start, plan.warp_rows * plan.warps[0], plan.warp_columns * plan.warps[1])
        along_rows, along_columns = (c.columns, c.rows) if self._swapped else (c.rows, c.columns)
        run = min(WIDEST // element_bytes(self.c), c.run()[0] if self._swapped else c.run()[1])
        own_row, own_column = (lane_part(terms, self.lane, plan.unit.lanes) for terms in (along_rows, along_columns))
        type_ = ir.VectorType.get([run], self.sum)

        def at_row(head: ir.Value, i: int, elements: Sequence[int]) -> None:
            for j in range(across):
                for e in elements:
                    column = affine(j * plan.unit.columns + element_part(along_columns, e),
                                    [(self.warp_column, plan.warp_columns), (own_column, 1)], narrow=True)
                    values = vector.ExtractStridedSliceOp(type_, accs[i * across + j], [e], [run], [1]).result
                    result.store(head, column, values)

        rows: dict[int, list[int]] = {}
        for e in range(0, c.size, run):
            rows.setdefault(element_part(along_rows, e), []).append(e)
        for i in range(down):
            for offset, elements in rows.items():
                row = affine(i * plan.unit.rows + offset, [(self.warp_row, plan.warp_rows), (own_row, 1)], narrow=True)
                result.row(row, lambda head, i=i, elements=elements: at_row(head, i, elements))


def rolled(results: list[ir.Value]) -> list[ir.Value]:
    """The results of a loop that LLVM is not to unroll: it would move the loads of many stages ahead, and run out of registers."""
    owner = results[0].owner
    if not isinstance(owner, ir.Block) and owner.name == "scf.for":
        owner.attributes["loop_annotation"] = ir.Attribute.parse("#llvm.loop_annotation<unroll = <disable = true>>")
    return results


def wave_atom(atom: Atom, a: ir.Value, b: ir.Value, sums: ir.Value) -> ir.Value:
    """Sums + a * b by one instruction."""
    m, n, k = atom.shape
    if atom.name.startswith("wmma"):
        return amdgpu.WMMAOp(m, n, k, a, b, sums).result
    return amdgpu.MFMAOp(m, n, k, _scalar(a), _scalar(b), sums, cbsz=0, abid=0).result


def _scalar(fragment: ir.Value) -> ir.Value:
    """A fragment as mfma takes it: a lane's only element by itself."""
    return vector.ExtractOp(fragment, [], [0]).result if fragment.type.shape[0] == 1 else fragment


__all__ = ["WaveProduct", "rolled", "wave_atom"]
