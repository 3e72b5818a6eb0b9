"""Builder: how a decomposition says what to compute. Each call makes one `tile.graph` (or, inside `kernel`, plain linalg)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlc.dialects import tile
from mlc.dialects._ext import to_attr
from mlc.dtypes import BOOL, BY_NUMPY, I64, DType
from mlc.ir import codecs
from mlc.ir.mlir import arith, bufferization, ir, linalg, scf, tensor
from mlc.ir.scalar import Operand, Scalar, compute_dtype, constant, mlir_type

Expr = ir.AffineExpr
LINE, PARTS = 16, 4096  # of a kernel's independent parts: neighbouring elements that one should have, and how many are enough
IndexFn = Callable[..., Sequence["Expr | int"]]


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor value in storage type together with its true element type."""

    value: ir.Value
    dtype: DType

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.value.type.shape)

    @property
    def rank(self) -> int:
        return len(self.shape)


def tensor_type(shape: Sequence[int], dtype: DType) -> ir.Type:
    """The storage-typed MLIR tensor type."""
    return ir.RankedTensorType.get([int(d) for d in shape], codecs.storage_type(dtype))


class Builder:
    """Emits at the current insertion point. Loop variables are affine expressions: reads say which element of an operand each
    point of the iteration space needs, e.g. `lambda m, n, k: (m, k)`; expressions may be d*c + e, never data dependent.
    """

    def __init__(self, wide: bool = False) -> None:
        """wide: the machine is slow unless thousands of points are computed at once, so more work in more steps may be faster."""
        self.wide = wide
        self._inside: list[dict[ir.Value, ir.Value]] = []  # stack of enclosing kernel bodies: outer value -> block argument

    # -- parallel and reducing computations -------------------------------------------------------------------------
    def compute(self, shape: Sequence[int], dtype: DType, reads: Sequence[tuple[Tensor, IndexFn]],
                body: Callable[..., Scalar], rounds: bool = False) -> Tensor:
        """result[i...] = body(*elements read): one parallel loop per dimension of `shape`.

        The body gets one Scalar per read (in the compute dtype) and returns a Scalar of `compute_dtype(dtype)`. Inside it
        `index(d)` is the position along dimension d and `load(t, indices)` reads any element of a tensor in `captures`.
        rounds: that the result is rounded to `dtype` is what it is for (`tile.rounds`); else only memory asks for that.
        """
        return self._structured([(dtype, None)], shape, (), reads, lambda accs, *xs: [body(*xs)], rounds)[0]

    def compute_many(self, shape: Sequence[int], dtypes: Sequence[DType], reads: Sequence[tuple[Tensor, IndexFn]],
                     tables: Sequence[Tensor], body: Callable[..., Sequence[Scalar]]) -> list[Tensor]:
        """Several results of one `gather_compute`: the body returns one Scalar for each of `dtypes`."""
        return self._structured([(dtype, None) for dtype in dtypes], shape, (), reads, lambda accs, *xs: body(*xs), tables=tables)

    def reduce(self, shape: Sequence[int], over: Sequence[int], dtype: DType, init: float | int, reads: Sequence[tuple[Tensor, IndexFn]],
               body: Callable[..., Scalar]) -> Tensor:
        """result[i...] = fold of body(acc, *elements) over the extra loops `over`, starting from `init`; dtype must be a compute dtype."""
        return self._structured([(dtype, init)], shape, over, reads, lambda accs, *xs: [body(accs[0], *xs)])[0]

    def reduce_many(self, shape: Sequence[int], over: Sequence[int], dtypes: Sequence[DType], inits: Sequence[float | int],
                    reads: Sequence[tuple[Tensor, IndexFn]], body: Callable[..., Sequence[Scalar]]) -> list[Tensor]:
        """Like `reduce` with several accumulators: body(accs, *elements) -> new accs (argmax: value and index)."""
        return self._structured(list(zip(dtypes, inits, strict=True)), shape, over, reads, body)

    def _structured(self, results: list[tuple[DType, Any]], shape: Sequence[int], over: Sequence[int],
                    reads: Sequence[tuple[Tensor, IndexFn]], body: Callable[..., Sequence[Scalar]], rounds: bool = False,
                    tables: Sequence[Tensor] = ()) -> list[Tensor]:
        reads, body = _fold_splats(reads, body)
        tensors = _unique([*[t for t, _ in reads], *tables])
        outs = [(dtype, tuple(int(d) for d in shape)) for dtype, _ in results]

        def nest(*_: Tensor) -> list[Tensor]:
            made = self._generic(results, shape, over, reads, body)
            if rounds:
                made[0].value.owner.attributes["tile.rounds"] = ir.UnitAttr.get()
            return made

        return self.kernel(tensors, outs, nest, captures=True)

    def _generic(self, results: list[tuple[DType, Any]], shape: Sequence[int], over: Sequence[int],
                 reads: Sequence[tuple[Tensor, IndexFn]], body: Callable[..., Sequence[Scalar]]) -> list[Tensor]:
        n, loops = len(shape), len(shape) + len(over)
        dims = [Expr.get_dim(i) for i in range(loops)]
        maps = []
        for t, fn in reads:
            exprs = [Expr.get_constant(e) if isinstance(e, int) else e for e in fn(*dims)]
            if len(exprs) != t.rank:
                raise ValueError(f"read of {t.value.type} needs {t.rank} indices, got {len(exprs)}")
            maps.append(ir.AffineMap.get(loops, 0, exprs))
        ins = [self._local(t) for t, _ in reads]
        bounded = {e for m in maps for e in m.results if isinstance(e, ir.AffineDimExpr)}
        if not all(d in bounded for d in dims[n:]):  # linalg wants an operand that spans each loop: a shape-only one
            ins.append(tensor.EmptyOp([int(d) for d in over], ir.IntegerType.get_signless(8)).result)
            maps.append(ir.AffineMap.get(loops, 0, dims[n:]))
        outs = []
        for dtype, init in results:
            empty = tensor.EmptyOp([int(d) for d in shape], codecs.storage_type(dtype)).result
            if init is not None and over:
                empty = linalg.fill(_start(init, dtype), outs=[empty])
            outs.append(empty)
            maps.append(ir.AffineMap.get(loops, 0, dims[:n]))
        kinds = ["parallel"] * n + ["reduction"] * len(over)
        iterators = ir.ArrayAttr.get([ir.Attribute.parse(f"#linalg.iterator_type<{k}>") for k in kinds])
        op = linalg.GenericOp([o.type for o in outs], ins, outs, ir.ArrayAttr.get([ir.AffineMapAttr.get(m) for m in maps]), iterators)
        block = op.regions[0].blocks.append(*[v.type.element_type for v in [*ins, *outs]])
        with ir.InsertionPoint(block):
            args = list(block.arguments)
            elements = [codecs.decode(a, t.dtype) for a, (t, _) in zip(args, reads)]
            accs = [codecs.decode(a, dtype) if over else init if isinstance(init, Scalar) else constant(init, compute_dtype(dtype))
                    for a, (dtype, init) in zip(args[len(ins):], results, strict=True) if init is not None]
            values = body(accs, *elements)
            for v, (dtype, _) in zip(values, results, strict=True):
                if v.dtype != compute_dtype(dtype):
                    raise TypeError(f"body gives {v.dtype} for a result of {dtype} (computed in {compute_dtype(dtype)})")
            linalg.YieldOp([codecs.encode(v, dtype) for v, (dtype, _) in zip(values, results)])
        return [Tensor(v, dtype) for v, (dtype, _) in zip(op.results, results)]

    # -- inside a body ----------------------------------------------------------------------------------------------
    def index(self, dim: int) -> Scalar:
        """The position along loop `dim` (i64)."""
        return Scalar(arith.IndexCastOp(mlir_type(I64), linalg.IndexOp(dim).result).result, I64)

    def constant(self, value: float | int | bool, dtype: DType) -> Scalar:
        """A constant in the compute dtype of `dtype`."""
        return constant(value, compute_dtype(dtype))

    def load(self, t: Tensor, indices: Sequence[Operand]) -> Scalar:
        """Element of `t` at data-dependent indices, which the caller keeps in range; `t` must be an operand of the enclosing kernel."""
        return codecs.decode(tensor.ExtractOp(self._local(t), [_index(i) for i in indices]).result, t.dtype)

    # -- explicit kernels -------------------------------------------------------------------------------------------
    def kernel(self, inputs: Sequence[Tensor], outs: Sequence[tuple[DType, Sequence[int]]], body: Callable[..., Sequence[Tensor]],
               captures: bool = False) -> list[Tensor]:
        """One tile.graph with an explicit body, called with block-argument Tensors for `inputs`; everything else is out of reach.

        In the body, compute/reduce emit plain linalg and `for_`, `insert`, `load` build sequential code (an opaque kernel).
        captures: the body refers to `inputs` by their outer handles (compute's way). Nested kernels are inlined.
        """
        if self._inside:
            return list(body() if captures else body(*inputs))
        op = tile.GraphOp.build([t.value for t in inputs], [tensor_type(s, d) for d, s in outs])
        block = op.regions[0].blocks.append(*[t.value.type for t in inputs])
        arguments = [Tensor(a, t.dtype) for a, t in zip(block.arguments, inputs)]
        self._inside.append({t.value: a.value for t, a in zip(inputs, arguments)})
        try:
            with ir.InsertionPoint(block):
                results = list(body(*([] if captures else arguments)))
                tile.YieldOp.build([r.value for r in results], [])
        finally:
            self._inside.pop()
        return [Tensor(v, d) for v, (d, _) in zip(op.operation.results, outs)]

    def sliced_kernel(self, grid: Sequence[int], inputs: Sequence[tuple[Tensor, Sequence[int]]],
                      outs: Sequence[tuple[DType, Sequence[int], Sequence[int]]], body: Callable[..., Sequence[Tensor]]) -> list[Tensor]:
        """A kernel of independent parts, which may run at once: body(*inputs' parts, *results' parts) -> results' parts, all written.

        There are prod(grid) of them. Beside each input, and each result's type and shape, stand the dimensions that the grid's dimensions
        pick; a part is what the others span. An input with no such dimensions is seen whole by every part.
        """
        def whole(*tensors: Tensor) -> list[Tensor]:
            made = [bufferization.AllocTensorOp(tensor_type(shape, dtype), []).result for dtype, shape, _ in outs]
            loop = scf.ForallOp([0] * len(grid), [int(n) for n in grid], [1] * len(grid), made)
            with ir.InsertionPoint(loop.body):
                at, shared = list(loop.induction_variables), list(loop.inner_iter_args)
                parts = [_part(t, dims, at) for t, (_, dims) in zip(tensors, inputs, strict=True)]
                parts += [_part(Tensor(v, dtype), dims, at) for v, (dtype, _, dims) in zip(shared, outs, strict=True)]
                results = list(body(*parts))
                with ir.InsertionPoint(scf.InParallelOp().region.blocks[0]):
                    for result, v, (_, shape, dims) in zip(results, shared, outs, strict=True):
                        offsets, *static = _box(shape, dims, at)
                        tensor.ParallelInsertSliceOp(result.value, v, offsets, [], [], *static)
            return [Tensor(v, dtype) for v, (dtype, _, _) in zip(loop.results, outs, strict=True)]

        return self.kernel([t for t, _ in inputs], [(dtype, shape) for dtype, shape, _ in outs], whole)

    def gather_compute(self, shape: Sequence[int], dtype: DType, reads: Sequence[tuple[Tensor, IndexFn]], tables: Sequence[Tensor],
                       body: Callable[..., Scalar], before: Sequence[int] | None = None, zeros: bool = True) -> Tensor:
        """`compute` whose body may also `load` from `tables` at data-dependent indices.

        before: says that the body is the one table with one number around it, so many before each dimension (`tile.around`); `zeros`: that
        the number is zero (`tile.pad`).
        """
        inputs = _unique([*[t for t, _ in reads], *tables])

        def nest(*_: Tensor) -> list[Tensor]:
            made = self._generic([(dtype, None)], shape, (), reads, lambda accs, *xs: [body(*xs)])
            if before is not None:
                for name in ("tile.around", "tile.pad")[:1 + zeros]:
                    made[0].value.owner.attributes[name] = to_attr([int(n) for n in before])
            return made

        return self.kernel(inputs, [(dtype, shape)], nest, captures=True)[0]

    def _local(self, t: Tensor) -> ir.Value:
        return self._inside[-1].get(t.value, t.value) if self._inside else t.value

    # -- sequential code (inside `kernel`) --------------------------------------------------------------------------
    def empty(self, shape: Sequence[int], dtype: DType) -> Tensor:
        return Tensor(tensor.EmptyOp([int(d) for d in shape], codecs.storage_type(dtype)).result, dtype)

    def insert(self, value: Scalar, t: Tensor, indices: Sequence[Operand]) -> Tensor:
        """`t` with one element replaced."""
        return Tensor(tensor.InsertOp(codecs.encode(value, t.dtype), t.value, [_index(i) for i in indices]).result, t.dtype)

    def for_(self, start: Operand, stop: Operand, carried: Sequence[Tensor | Scalar],
             body: Callable[..., Sequence[Tensor | Scalar]]) -> list[Any]:
        """Sequential loop: body(i, *carried) -> new carried; i is an i64 Scalar."""
        one = arith.ConstantOp(ir.IndexType.get(), 1).result
        loop = scf.ForOp(_index(start), _index(stop), one, [c.value for c in carried])
        with ir.InsertionPoint(loop.body):
            i = Scalar(arith.IndexCastOp(mlir_type(I64), loop.induction_variable).result, I64)
            out = body(i, *[_like(c, v) for c, v in zip(carried, loop.inner_iter_args)])
            scf.YieldOp([o.value for o in out])
        return [_like(c, v) for c, v in zip(carried, loop.results)]

    def while_(self, carried: Sequence[Tensor | Scalar], condition: Callable[..., Scalar],
               body: Callable[..., Sequence[Tensor | Scalar]]) -> list[Any]:
        """Sequential loop: while condition(*carried): carried = body(*carried)."""
        types = [c.value.type for c in carried]
        loop = scf.WhileOp(types, [c.value for c in carried])
        before = loop.before.blocks.append(*types)
        after = loop.after.blocks.append(*types)
        with ir.InsertionPoint(before):
            inner = [_like(c, v) for c, v in zip(carried, before.arguments)]
            scf.ConditionOp(condition(*inner).value, [c.value for c in inner])
        with ir.InsertionPoint(after):
            scf.YieldOp([o.value for o in body(*[_like(c, v) for c, v in zip(carried, after.arguments)])])
        return [_like(c, v) for c, v in zip(carried, loop.results)]

    def if_(self, condition: Scalar, yes: Callable[[], Sequence[Tensor | Scalar]], no: Callable[[], Sequence[Tensor | Scalar]],
            like: Sequence[Tensor | Scalar]) -> list[Any]:
        """Branch inside sequential code; `like` gives the types of the results."""
        branch = scf.IfOp(condition.value, [c.value.type for c in like], has_else=True)
        for block, arm in ((branch.then_block, yes), (branch.else_block, no)):
            with ir.InsertionPoint(block):
                scf.YieldOp([o.value for o in arm()])
        return [_like(c, v) for c, v in zip(like, branch.results)]

    # -- free of charge ---------------------------------------------------------------------------------------------
    def view(self, t: Tensor, shape: Sequence[int]) -> Tensor:
        """The same elements under another shape."""
        if tuple(shape) == t.shape:
            return t
        return Tensor(tile.ViewOp.build([t.value], [tensor_type(shape, t.dtype)]).operation.results[0], t.dtype)

    def dense(self, array: np.ndarray) -> Tensor:
        """A small constant tensor; splats fold into the bodies that read them."""
        dtype = BY_NUMPY[array.dtype]
        type_ = tensor_type(array.shape, dtype)
        raw = np.frombuffer(array.tobytes(), np.uint8)
        storage = {"f16": np.float16, "bf16": np.uint16, "f32": np.float32, "f64": np.float64,
                   "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64}[dtype.storage]
        value = ir.DenseElementsAttr.get(raw.view(storage).reshape(array.shape), type=type_)
        return Tensor(arith.ConstantOp(type_, value).result, dtype)

    def cast(self, t: Tensor, dtype: DType) -> Tensor:
        """Elementwise conversion (see Scalar.to)."""
        if t.dtype == dtype:
            return t
        return self.compute(t.shape, dtype, [(t, lambda *i: i)], lambda x: codecs.convert(x, dtype))


def _start(init: float | int | Scalar, dtype: DType) -> ir.Value:
    """The stored element that a fold starts from: a constant where it can be, since other ops would make the nest opaque."""
    if isinstance(init, Scalar):
        return codecs.encode(init, dtype)
    if dtype == BOOL:
        type_ = codecs.storage_type(BOOL)
        return arith.ConstantOp(type_, ir.IntegerAttr.get(type_, int(bool(init)))).result
    return codecs.encode(constant(init, compute_dtype(dtype)), dtype)


def part_width(outer: int, inner: int) -> int:
    """How many of `inner` neighbouring elements an independent part takes (a divisor): LINE or more, and not more than PARTS parts."""
    return next(w for w in range(1, inner + 1) if inner % w == 0 and (w == inner or (w >= LINE and outer * inner // w <= PARTS)))


def _unique(tensors: Sequence[Tensor]) -> list[Tensor]:
    seen: dict[ir.Value, Tensor] = {}
    for t in tensors:
        seen.setdefault(t.value, t)
    return list(seen.values())


def _fold_splats(reads: Sequence[tuple[Tensor, IndexFn]],
                 body: Callable[..., Any]) -> tuple[list[tuple[Tensor, IndexFn]], Callable[..., Any]]:
    """Reads of splat constants become constants of the body."""
    splats = {i: s for i, (t, _) in enumerate(reads) if (s := _splat(t)) is not None}
    if not splats:
        return list(reads), body

    def wrapped(accs: Sequence[Scalar], *xs: Scalar) -> Any:
        rest = iter(xs)
        args = []
        for i, (t, _) in enumerate(reads):
            args.append(codecs.decode(arith.ConstantOp(splats[i].type, splats[i]).result, t.dtype) if i in splats else next(rest))
        return body(accs, *args)

    return [r for i, r in enumerate(reads) if i not in splats], wrapped


def _splat(t: Tensor) -> Any:
    owner = t.value.owner
    if not isinstance(owner, ir.Block) and owner.name == "arith.constant":
        value = owner.attributes["value"]
        if isinstance(value, ir.DenseElementsAttr) and value.is_splat:
            return value.get_splat_value()
    return None


def _box(shape: Sequence[int], dims: Sequence[int], at: Sequence[ir.Value]) -> tuple[list[ir.Value], list[int], list[int], list[int]]:
    """Dynamic offsets, static offsets, sizes and strides of the slice where dimension dims[j] is at[j] and the others are whole."""
    dynamic = ir.ShapedType.get_dynamic_stride_or_offset()
    picked = dict(zip(dims, at))
    return ([picked[d] for d in sorted(picked)], [dynamic if d in picked else 0 for d in range(len(shape))],
            [1 if d in picked else n for d, n in enumerate(shape)], [1] * len(shape))


def _part(t: Tensor, dims: Sequence[int], at: Sequence[ir.Value]) -> Tensor:
    if not dims:
        return t
    offsets, *static = _box(t.shape, dims, at)
    type_ = tensor_type([n for d, n in enumerate(t.shape) if d not in dims], t.dtype)
    return Tensor(tensor.ExtractSliceOp(type_, t.value, offsets, [], [], *static).result, t.dtype)


def _index(i: Operand) -> ir.Value:
    return i.as_index() if isinstance(i, Scalar) else arith.ConstantOp(ir.IndexType.get(), int(i)).result


def _like(old: Tensor | Scalar, value: ir.Value) -> Tensor | Scalar:
    return type(old)(value, old.dtype)


__all__ = ["Builder", "Tensor", "part_width", "tensor_type"]
