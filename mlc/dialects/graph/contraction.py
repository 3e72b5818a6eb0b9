"""graph.matmul and graph.einsum: sums of products, with transposes expressed as reads."""

from collections.abc import Callable

from mlc.dialects._build import Builder, Tensor
from mlc.dialects._ext import Operand, Operands, Result, VerifyError
from mlc.dialects.graph._base import GraphOp, TensorType, builder
from mlc.dialects.graph.elementwise import broadcast
from mlc.dtypes import F32, I8, DType
from mlc.ir import codecs
from mlc.ir.mlir import ir
from mlc.ir.scalar import Scalar, compute_dtype, select


class MatmulOp(GraphOp, name="matmul"):
    """numpy.matmul on operands of rank >= 2: batch dimensions broadcast. Floats accumulate in (at least) f32; integers wrap.

    transpose_a, transpose_b: the operand is stored with its last two dimensions swapped. Operands of float8, which may be of two types,
    have a result of f32.

    Example: %y = "graph.matmul"(%a, %b) {transpose_b = true} : (tensor<8x4x16xf32>, tensor<32x16xf32>) -> tensor<8x4x32xf32>
    """

    a: Operand
    b: Operand
    transpose_a: bool = False
    transpose_b: bool = False
    y: Result

    @staticmethod
    def infer(types: list[TensorType], transpose_a: bool = False, transpose_b: bool = False) -> list[TensorType]:
        a, b = types
        if a.rank < 2 or b.rank < 2:
            raise VerifyError(f"needs operands of rank 2 or more, got {list(a.shape)} and {list(b.shape)}")
        m, k = reversed(a.shape[-2:]) if transpose_a else a.shape[-2:]
        k2, n = reversed(b.shape[-2:]) if transpose_b else b.shape[-2:]
        if k != k2:
            raise VerifyError(f"cannot multiply {list(a.shape)} by {list(b.shape)}: {k} is not {k2}")
        small = a.dtype.is_float8 and b.dtype.is_float8
        if (a.dtype != b.dtype and not small) or a.dtype.kind == "b":
            raise VerifyError(f"needs operands of one numeric element type, got {a.dtype} and {b.dtype}")
        return [TensorType((*broadcast([a.shape[:-2], b.shape[:-2]]), m, n), F32 if small else a.dtype)]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        x, y = xs
        out = self.types[0]
        batch, acc = out.rank - 2, compute_dtype(out.dtype)

        def read(t: Tensor, row: int, col: int) -> tuple[Tensor, Callable[..., list]]:
            lead = batch - (t.rank - 2)
            return t, lambda *i: [*[0 if d == 1 else i[lead + k] for k, d in enumerate(t.shape[:-2])], i[row], i[col]]

        m, n, k = batch, batch + 1, batch + 2
        left = read(x, k, m) if self.py("transpose_a") else read(x, m, k)
        right = read(y, n, k) if self.py("transpose_b") else read(y, k, n)
        depth = x.shape[-2 if self.py("transpose_a") else -1]
        if x.dtype.is_float8 and b.wide:  # in the form by which matrix units are found
            reads = [(Tensor(t.value, I8), at) for t, at in (left, right)]
            total = b.reduce(out.shape, (depth,), acc, 0, reads, lambda s, p, q: s + codecs.widen(p, x.dtype) * codecs.widen(q, y.dtype))
        else:
            total = b.reduce(out.shape, (depth,), acc, 0, [left, right], lambda s, p, q: s + p * q)
        return [b.cast(total, out.dtype)]


class EinsumOp(GraphOp, name="einsum"):
    """Sum of products by an explicit equation of single letters ("abc,bd->acd"): letters that the result lacks are summed.

    A letter may repeat within an operand (its diagonal) and, where another operand gives its extent, stand for a dimension of 1
    (broadcast). Every letter of the result stands in an operand. Floats accumulate in (at least) f32; integers wrap. `wide`: the result has
    the type that it accumulates in.

    Example: %y = "graph.einsum"(%a, %b) {equation = "bik,bjk->bij"} : (tensor<2x3x4xf32>, tensor<2x5x4xf32>) -> tensor<2x3x5xf32>
    """

    inputs: Operands
    equation: str
    wide: bool = False
    y: Result

    @staticmethod
    def infer(types: list[TensorType], equation: str, wide: bool = False) -> list[TensorType]:
        terms, result = _terms(equation)
        if len(terms) != len(types) or len({t.dtype for t in types}) != 1:
            found = ", ".join(str(t.mlir()) for t in types)
            raise VerifyError(f"'{equation}' needs {len(terms)} operands of one element type, got {found}")
        extents = _extents(equation, [t.shape for t in types])
        if len(set(result)) != len(result) or any(c not in extents for c in result):
            raise VerifyError(f"the result of '{equation}' repeats a letter or has one that no operand has")
        dtype = compute_dtype(types[0].dtype) if wide else types[0].dtype
        return [TensorType(tuple(extents[c] for c in result), dtype)]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        out, equation = self.types[0], self.py("equation")
        terms, result = _terms(equation)
        extents = _extents(equation, [x.shape for x in xs])
        summed = [c for c in extents if c not in result]
        loop = {c: i for i, c in enumerate([*result, *summed])}

        def read(t: Tensor, term: str) -> tuple[Tensor, Callable[..., list]]:
            return t, lambda *i: [0 if d == 1 else i[loop[c]] for c, d in zip(term, t.shape)]

        reads = [read(x, term) for x, term in zip(xs, terms, strict=True)]

        def product(*factors):
            total = factors[0]
            for f in factors[1:]:
                total = total * f
            return total

        if not summed:
            return [b.compute(out.shape, out.dtype, reads, product)]
        acc = compute_dtype(out.dtype)
        total = b.reduce(out.shape, [extents[c] for c in summed], acc, 0, reads, lambda s, *factors: s + product(*factors))
        return [b.cast(total, out.dtype)]


def _terms(equation: str) -> tuple[list[str], str]:
    left, arrow, result = equation.partition("->")
    if not arrow or not all(c.isalpha() or c == "," for c in left) or (result and not result.isalpha()):
        raise VerifyError(f"'{equation}' is not an equation of the form ab,bc->ac")
    return left.split(","), result


def _extents(equation: str, shapes: list[tuple[int, ...]]) -> dict[str, int]:
    """Extent of each letter, in order of first use."""
    extents: dict[str, int] = {}
    for term, shape in zip(_terms(equation)[0], shapes, strict=True):
        if len(term) != len(shape):
            raise VerifyError(f"'{equation}' gives {len(term)} letters to an operand of rank {len(shape)}")
        for c, d in zip(term, shape):
            known = extents.setdefault(c, d)
            if known == 1:
                extents[c] = d
            elif d not in (1, known):
                raise VerifyError(f"'{equation}' uses '{c}' for extents {known} and {d}")
    return extents


class DeterminantOp(GraphOp, name="determinant"):
    """Determinants of a batch of square matrices, by elimination with row pivoting in (at least) f32.

    Example: %y = "graph.determinant"(%x) : (tensor<8x3x3xf32>) -> tensor<8xf32>
    """

    x: Operand
    y: Result

    @staticmethod
    def infer(types: list[TensorType]) -> list[TensorType]:
        x = types[0]
        if x.rank != 3 or x.shape[1] != x.shape[2] or not x.dtype.is_float:
            raise VerifyError(f"needs a batch of square float matrices, got {x.mlir()}")
        return [x.with_shape(x.shape[:1])]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        out, n = self.types[0], xs[0].shape[1]
        acc = compute_dtype(out.dtype)

        if not n * out.size:  # the product of nothing
            return [b.compute(out.shape, out.dtype, [], lambda: b.constant(1, out.dtype))]
        outs = [(out.dtype, out.shape, (0,))]
        return b.sliced_kernel(out.shape, [(xs[0], (0,))], outs, lambda x, y: [b.insert(self._one(b, x, acc), y, [])])

    def _one(self, b: Builder, x: Tensor, acc: DType) -> Scalar:
        """The product of the pivots, its sign turned by each exchange of rows."""
        n = x.shape[0]
        work = b.empty((n, n), acc)
        work = b.for_(0, n, [work], lambda r, m: b.for_(0, n, [m], lambda c, m: [b.insert(b.load(x, [r, c]), m, [r, c])]))[0]

        def step(k: Scalar, total: Scalar, m: Tensor) -> list[Scalar | Tensor]:
            def seek(r: Scalar, best: Scalar, where: Scalar) -> list[Scalar]:
                size = b.load(m, [r, k]).abs()
                return [select(size > best, size, best), select(size > best, r, where)]

            _, pivot_row = b.for_(k, n, [b.constant(-1.0, acc), k], seek)
            pivot = b.load(m, [pivot_row, k])

            def exchange(c: Scalar, m: Tensor) -> list[Tensor]:
                upper, lower = b.load(m, [k, c]), b.load(m, [pivot_row, c])
                return [b.insert(lower, b.insert(upper, m, [pivot_row, c]), [k, c])]

            m = b.for_(k, n, [m], exchange)[0]

            def eliminate(r: Scalar, m: Tensor) -> list[Tensor]:
                factor = select(pivot.eq(0), b.constant(0, acc), b.load(m, [r, k]) / pivot)
                return b.for_(k, n, [m], lambda c, m: [b.insert(b.load(m, [r, c]) - factor * b.load(m, [k, c]), m, [r, c])])

            m = b.for_(k + 1, n, [m], eliminate)[0]
            return [select(pivot_row.eq(k), total, -total) * pivot, m]

        return b.for_(0, n, [b.constant(1, acc), work], step)[0]


_einsum = builder(EinsumOp)
determinant = builder(DeterminantOp)
matmul = builder(MatmulOp)


def einsum(equation: str, *operands: ir.Value, wide: bool = False) -> ir.Value:
    """`einsum("bik,bjk->bij", x, y)`."""
    return _einsum(*operands, equation=equation, wide=wide)


__all__ = ["DeterminantOp", "EinsumOp", "MatmulOp", "determinant", "einsum", "matmul"]
