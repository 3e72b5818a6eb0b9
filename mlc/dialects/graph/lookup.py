"""Ops that find things: the place of a value in a list, and the leaf that a row reaches in a decision tree."""

from collections.abc import Callable

from mlc.dialects._build import Builder, Tensor
from mlc.dialects._ext import Operand, Result, VerifyError
from mlc.dialects.graph._base import GraphOp, TensorType, builder
from mlc.dialects.graph.movement import in_range, wrapped, zeros
from mlc.dtypes import BOOL, I64, U8
from mlc.ir.mlir import ir
from mlc.ir.scalar import Scalar, constant, select

# How a node compares its feature with its split: 0..5, and 6: whether the feature is one of the node's members.
COMPARISONS: tuple[Callable[[Scalar, Scalar], Scalar], ...] = (
    lambda x, s: x <= s, lambda x, s: x < s, lambda x, s: x >= s, lambda x, s: x > s, lambda x, s: x.eq(s), lambda x, s: x.ne(s),
)


class FindOp(GraphOp, name="find"):
    """For each element of x the position of the last equal element of `keys`, or the number of keys where there is none. NaN equals NaN.

    Example: %y = "graph.find"(%x, %keys) : (tensor<2x3xi64>, tensor<5xi64>) -> tensor<2x3xi64>
    """

    x: Operand
    keys: Operand
    y: Result

    @staticmethod
    def infer(types: list[TensorType]) -> list[TensorType]:
        x, keys = types
        if keys.rank != 1 or keys.dtype != x.dtype:
            raise VerifyError(f"needs a vector of keys of the element type of {x.mlir()}, got {keys.mlir()}")
        return [x.with_dtype(I64)]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        x, keys = xs
        n, rank = keys.shape[0], x.rank

        def step(at: Scalar, e: Scalar, key: Scalar) -> Scalar:
            same = e.eq(key)
            if e.dtype.is_float:
                same = same | (e.is_nan() & key.is_nan())
            return at.max(select(same, b.index(rank), constant(-1, I64)))

        if 0 in x.shape or not n:
            return [zeros(b, x.shape, I64)]
        last = b.reduce(x.shape, (n,), I64, -1, [(x, lambda *i: i[:rank]), (keys, lambda *i: i[rank:])], step)
        return [b.compute(x.shape, I64, [(last, lambda *i: i)], lambda at: select(at < 0, constant(n, I64), at))]


class TreeLeavesOp(GraphOp, name="tree_leaves"):
    """The leaf that each row of x [N, F] reaches in each tree.

    A node compares x[feature] with its split by its mode (see COMPARISONS) and goes on to `yes` or `no`; where x[feature] is NaN it goes
    to `yes` if `missing` says so, else `no`. A number from the count of nodes on is a leaf (its number less that count). roots: where
    each tree starts. Mode 6 asks whether x[feature] is among members[first..last], with `first` and `last` in the node's row of `span`.

    Example: %leaf = "graph.tree_leaves"(%x, %feature, %mode, %split, %yes, %no, %missing, %span, %members, %roots)
                 : (tensor<8x3xf32>, tensor<7xi64>, tensor<7xui8>, tensor<7xf32>, tensor<7xi64>, tensor<7xi64>, tensor<7xi1>,
                    tensor<7x2xi64>, tensor<1xf32>, tensor<2xi64>) -> tensor<8x2xi64>
    """

    x: Operand
    feature: Operand
    mode: Operand
    split: Operand
    yes: Operand
    no: Operand
    missing: Operand
    span: Operand
    members: Operand
    roots: Operand
    y: Result

    @staticmethod
    def infer(types: list[TensorType]) -> list[TensorType]:
        x, feature, mode, split, yes, no, missing, span, members, roots = types
        if x.rank != 2 or x.dtype.kind != "f" or feature.rank != 1 or feature.shape[0] == 0:
            raise VerifyError(f"needs rows of floats and one node or more, got {x.mlir()} and {feature.mlir()}")
        index = TensorType(feature.shape, I64)
        if not feature == yes == no == index or [t.dtype for t in (mode, missing, split)] != [U8, BOOL, x.dtype] or (
                not mode.shape == missing.shape == split.shape == index.shape):
            raise VerifyError("needs one feature, mode, split, yes, no and missing per node")
        types_fit = span == TensorType((*feature.shape, 2), I64) and (members.dtype, roots.dtype) == (x.dtype, I64)
        if not types_fit or members.rank != 1 or 0 in members.shape or roots.rank != 1:
            raise VerifyError("needs a span per node, one member or more and i64 roots")
        return [TensorType((x.shape[0], *roots.shape), I64)]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        out = self.types[0]
        if out.size == 0 or 0 in xs[0].shape:
            return [zeros(b, out.shape, I64)]
        x, *tables = xs
        inputs = [(x, (0,)), *[(t, ()) for t in tables]]
        return b.sliced_kernel(out.shape[:1], inputs, [(I64, out.shape, (0,))], lambda *ts: _leaves(b, *ts))


def _leaves(b: Builder, x: Tensor, feature: Tensor, mode: Tensor, split: Tensor, yes: Tensor, no: Tensor, missing: Tensor, span: Tensor,
            members: Tensor, roots: Tensor, leaves: Tensor) -> list[Tensor]:
    """One row's leaf in each tree."""
    nodes = feature.shape[0]

    def holds(at: Scalar) -> Scalar:
        """Whether the row goes to `yes` from node `at`."""
        value, kind = b.load(x, [wrapped(b.load(feature, [at]), x.shape[0])]), b.load(mode, [at])
        threshold = b.load(split, [at])
        result = COMPARISONS[0](value, threshold)
        for code, compare in enumerate(COMPARISONS[1:], 1):
            result = select(kind.eq(code), compare(value, threshold), result)
        first, last = b.load(span, [at, 0]), b.load(span, [at, 1])

        def member(i: Scalar) -> Scalar:
            return (i < last) & b.load(members, [in_range(i, members.shape[0])]).ne(value)

        (stop,) = b.while_([first], member, lambda i: [i + 1])
        result = select(kind.eq(len(COMPARISONS)), stop < last, result)
        return select(value.is_nan(), b.load(missing, [at]), result)

    def tree(t: Scalar, y: Tensor) -> list[Tensor]:
        def step(at: Scalar, left: Scalar) -> list[Scalar]:
            return [select(holds(at), b.load(yes, [at]), b.load(no, [at])), left - 1]

        # A path longer than the number of nodes goes in circles: no table of nodes, however wrong, keeps the kernel busy for ever.
        at, _ = b.while_([b.load(roots, [t]), constant(nodes, I64)], lambda at, left: (at >= 0) & (at < nodes) & (left > 0), step)
        return [b.insert(at - nodes, y, [t])]

    return b.for_(0, roots.shape[0], [leaves], tree)


find: Callable[..., ir.Value] = builder(FindOp)
tree_leaves: Callable[..., ir.Value] = builder(TreeLeavesOp)

__all__ = ["COMPARISONS", "FindOp", "TreeLeavesOp", "find", "tree_leaves"]
