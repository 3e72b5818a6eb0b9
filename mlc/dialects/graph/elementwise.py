"""graph.elementwise and graph.cast: one function per element, numpy broadcasting."""


from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import pi, sqrt

from mlc.dialects._build import Builder, Tensor
from mlc.dialects._ext import Operand, Operands, Result, VerifyError
from mlc.dialects.graph._base import GraphOp, TensorType, builder
from mlc.dtypes import BOOL, BY_NAME, DType
from mlc.ir.mlir import ir
from mlc.ir.scalar import Scalar, compute_dtype, select


def broadcast(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """numpy's broadcast shape; VerifyError when there is none."""
    rank = max((len(s) for s in shapes), default=0)
    out = []
    for axis in range(-rank, 0):
        sizes = {s[axis] for s in shapes if len(s) >= -axis} - {1}
        if len(sizes) > 1:
            raise VerifyError(f"shapes {', '.join(str(list(s)) for s in shapes)} do not broadcast")
        out.append(sizes.pop() if sizes else 1)
    return tuple(out)


def broadcast_read(t: Tensor, rank: int) -> tuple[Tensor, Callable[..., list]]:
    """A read of `t` broadcast to `rank` loops."""
    return t, lambda *i: [0 if d == 1 else i[rank - t.rank + k] for k, d in enumerate(t.shape)]


@dataclass(frozen=True)
class Function:
    """One elementwise function: how many operands, what it emits (on compute scalars), and the kinds and result it takes and gives."""

    arity: int
    emit: Callable[..., Scalar]
    kinds: str = "fiu"
    result: DType | None = None  # None: the operands' type


def _logistic(x: Scalar) -> Scalar:
    return 1.0 / (1.0 + (-x).math("exp"))


FUNCTIONS: dict[str, Function] = {
    "add": Function(2, lambda a, b: a + b),
    "sub": Function(2, lambda a, b: a - b),
    "mul": Function(2, lambda a, b: a * b),
    "div": Function(2, lambda a, b: a / b),
    "min": Function(2, lambda a, b: a.min(b)),
    "max": Function(2, lambda a, b: a.max(b)),
    "neg": Function(1, lambda x: -x),
    "abs": Function(1, lambda x: x.abs()),
    "relu": Function(1, lambda x: x.max(0)),
    "sigmoid": Function(1, _logistic, "f"),
    "gelu": Function(1, lambda x: 0.5 * x * (1.0 + (x * (1 / sqrt(2))).math("erf")), "f"),
    "gelu_tanh": Function(1, lambda x: 0.5 * x * (1.0 + (sqrt(2 / pi) * (x + 0.044715 * x * x * x)).math("tanh")), "f"),
    **{name: Function(1, lambda x, name=name: x.math(name), "f") for name in ("exp", "log", "sqrt", "tanh", "erf", "sin", "cos", "floor", "ceil")},
    "eq": Function(2, lambda a, b: a.eq(b), "fiub", BOOL),
    "lt": Function(2, lambda a, b: a < b, "fiu", BOOL),
    "and": Function(2, lambda a, b: a & b, "b"),
    "or": Function(2, lambda a, b: a | b, "b"),
    "not": Function(1, lambda a: ~a, "b"),
    "where": Function(3, select, "fiub"),
}


class ElementwiseOp(GraphOp, name="elementwise"):
    """y[i] = fn(x0[i], x1[i], ...) with numpy broadcasting; operands of one element type (`where`: bool first).

    Floats narrower than 32 bits compute in f32 and round once. Integer arithmetic wraps.

    Example: %y = "graph.elementwise"(%a, %b) {fn = "add"} : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
    """

    inputs: Operands
    fn: str
    y: Result

    @staticmethod
    def infer(types: list[TensorType], fn: str) -> list[TensorType]:
        if fn not in FUNCTIONS:
            raise VerifyError(f"knows no function '{fn}'; there are {', '.join(sorted(FUNCTIONS))}")
        spec = FUNCTIONS[fn]
        if len(types) != spec.arity:
            raise VerifyError(f"'{fn}' takes {spec.arity} operands, got {len(types)}")
        values = types[1:] if fn == "where" else types
        if fn == "where" and types[0].dtype != BOOL:
            raise VerifyError(f"'where' needs a bool condition, got {types[0].dtype}")
        if len({t.dtype for t in values}) > 1:
            raise VerifyError(f"'{fn}' needs operands of one element type, got {', '.join(t.dtype.name for t in values)}")
        if values[0].dtype.kind not in spec.kinds:
            raise VerifyError(f"'{fn}' is not defined on {values[0].dtype}")
        return [TensorType(broadcast([t.shape for t in types]), spec.result or values[0].dtype)]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        out = self.types[0]
        spec = FUNCTIONS[self.py("fn")]
        return [b.compute(out.shape, out.dtype, [broadcast_read(x, out.rank) for x in xs], spec.emit)]


class CastOp(GraphOp, name="cast"):
    """Element type conversion: floats round to nearest even, float to integer truncates, integers wrap, bool is x != 0.

    Example: %y = "graph.cast"(%x) {to = i32} : (tensor<4xf32>) -> tensor<4xi32>
    """

    x: Operand
    to: ir.Type
    y: Result

    @staticmethod
    def infer(types: list[TensorType], to: ir.Type) -> list[TensorType]:
        return [types[0].with_dtype(BY_NAME[str(to)])]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        out = self.types[0]
        return [b.compute(out.shape, out.dtype, [(xs[0], lambda *i: i)], lambda x: x.to(compute_dtype(out.dtype)))]


_elementwise = builder(ElementwiseOp)
_cast = builder(CastOp)


def elementwise(fn: str, *operands: object) -> object:
    """`elementwise("add", x, y)`."""
    return _elementwise(*operands, fn=fn)


def cast(x: object, to: DType) -> object:
    """`cast(x, F16)`."""
    return _cast(x, to=TensorType((), to).mlir().element_type)


__all__ = ["FUNCTIONS", "CastOp", "ElementwiseOp", "Function", "broadcast", "broadcast_read", "cast", "elementwise"]
