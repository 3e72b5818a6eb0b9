"""graph.elementwise, graph.cast, graph.bitcast: one function per element, numpy broadcasting."""

from collections.abc import Callable, Sequence

from mlc.dialects._build import Builder, Tensor
from mlc.dialects._ext import Operand, Operands, Result, VerifyError
from mlc.dialects.graph._base import GraphOp, TensorType, builder
from mlc.dialects.graph.functions import FUNCTIONS, Function
from mlc.dtypes import BOOL, BY_NAME, U8, DType
from mlc.ir import codecs
from mlc.ir.mlir import arith, ir, linalg, tensor


def broadcast(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Numpy's broadcast shape; VerifyError when there is none."""
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


class ElementwiseOp(GraphOp, name="elementwise"):
    """y[i] = fn(x0[i], x1[i], ...) with numpy broadcasting; operands of one element type (`where`: bool first).

    params: the numbers that some functions take (alpha, beta, ...), in the order of `FUNCTIONS[fn].params`.
    Floats narrower than 32 bits compute in f32 and round once. Integer arithmetic wraps; x / 0 = 0.

    Example: %y = "graph.elementwise"(%a, %b) {fn = "add"} : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
             %z = "graph.elementwise"(%y) {fn = "elu", params = [1.0]} : (tensor<2x3xf32>) -> tensor<2x3xf32>
    """

    inputs: Operands
    fn: str
    params: list = []
    y: Result

    @staticmethod
    def infer(types: list[TensorType], fn: str, params: Sequence[float] = ()) -> list[TensorType]:
        if fn not in FUNCTIONS:
            raise VerifyError(f"knows no function '{fn}'; there are {', '.join(sorted(FUNCTIONS))}")
        spec = FUNCTIONS[fn]
        if len(types) != spec.arity:
            raise VerifyError(f"'{fn}' takes {spec.arity} operands, got {len(types)}")
        if len(params) != len(spec.params) or not all(isinstance(p, int | float) for p in params):
            raise VerifyError(f"'{fn}' takes {len(spec.params)} params ({', '.join(spec.params) or 'none'}), got {list(params)}")
        if fn == "power" and (params[0] < 0 or params[0] != int(params[0])):
            raise VerifyError(f"'power' takes an integer exponent >= 0, got {params[0]}")
        values = types[1:] if fn == "where" else types
        if fn == "where" and types[0].dtype != BOOL:
            raise VerifyError(f"'where' needs a bool condition, got {types[0].dtype}")
        if len({t.dtype for t in values}) > 1:
            raise VerifyError(f"'{fn}' needs operands of one element type, got {', '.join(t.dtype.name for t in values)}")
        if values[0].dtype.kind not in spec.kinds:
            raise VerifyError(f"'{fn}' is not defined on {values[0].dtype}")
        return [TensorType(broadcast([t.shape for t in types]), spec.result or values[0].dtype)]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        out, params = self.types[0], self.py("params")
        emit = FUNCTIONS[self.py("fn")].emit
        return [b.compute(out.shape, out.dtype, [broadcast_read(x, out.rank) for x in xs], lambda *scalars: emit(*scalars, *params))]


class CastOp(GraphOp, name="cast"):
    """Element type conversion: floats round to nearest even, once; float to integer truncates; integers wrap; bool is x != 0.

    saturate: too large a value, infinity included, becomes the largest of a float8 type; else infinity, or NaN where the type has none.
    round_mode: `up`, `down` or `nearest`, for f8E8M0FNU only, which takes magnitudes.
    A float too large for an integer type gives some integer.

    Example: %y = "graph.cast"(%x) {to = i32} : (tensor<4xf32>) -> tensor<4xi32>
    """

    x: Operand
    to: ir.Type
    saturate: bool = True
    round_mode: str = "up"
    y: Result

    @staticmethod
    def infer(types: list[TensorType], to: ir.Type, saturate: bool = True, round_mode: str = "up") -> list[TensorType]:
        if round_mode not in codecs.ROUND_MODES:
            raise VerifyError(f"has round_mode '{round_mode}', expected one of {', '.join(codecs.ROUND_MODES)}")
        return [types[0].with_dtype(element_type(to))]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        out, saturate, round_mode = self.types[0], self.py("saturate"), self.py("round_mode")
        x = xs[0].dtype
        if x == out.dtype or (x.is_integer and out.dtype.is_integer and x.bits == out.dtype.bits >= 8):
            return [Tensor(xs[0].value, out.dtype)]
        read = broadcast_read(xs[0], out.rank)
        rounds = x.is_float and out.dtype.is_float and out.dtype.bits < x.bits
        return [b.compute(out.shape, out.dtype, [read], lambda x: codecs.convert(x, out.dtype, saturate, round_mode), rounds)]


class BitcastOp(GraphOp, name="bitcast"):
    """The same bits read as another element type of equal width (bool counts as one byte of 0 or 1).

    Example: %y = "graph.bitcast"(%x) {to = i32} : (tensor<4xf32>) -> tensor<4xi32>
    """

    x: Operand
    to: ir.Type
    y: Result

    @staticmethod
    def infer(types: list[TensorType], to: ir.Type) -> list[TensorType]:
        x, dtype = types[0].dtype, element_type(to)
        if _width(x) != _width(dtype):
            raise VerifyError(f"needs types of one width, got {x} ({_width(x)} bits) and {dtype} ({_width(dtype)} bits)")
        return [types[0].with_dtype(dtype)]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        x, out = xs[0], self.types[0]
        if out.dtype == BOOL:
            return [b.cast(Tensor(x.value, U8), BOOL)]
        if x.dtype.storage == out.dtype.storage:
            return [Tensor(x.value, out.dtype)]  # no codec in between: NaNs keep their payload
        return b.kernel([x], [(out.dtype, x.shape)], lambda t: [_reinterpret(t, out.dtype)])


def _width(dtype: DType) -> int:
    return 8 if dtype == BOOL else dtype.bits


def _reinterpret(t: Tensor, dtype: DType) -> Tensor:
    stored = codecs.storage_type(dtype)
    empty = tensor.EmptyOp(list(t.shape), stored).result
    identity = ir.AffineMapAttr.get(ir.AffineMap.get_identity(t.rank))
    kinds = ir.ArrayAttr.get([ir.Attribute.parse("#linalg.iterator_type<parallel>")] * t.rank)
    op = linalg.GenericOp([empty.type], [t.value], [empty], ir.ArrayAttr.get([identity, identity]), kinds)
    block = op.regions[0].blocks.append(t.value.type.element_type, stored)
    with ir.InsertionPoint(block):
        linalg.YieldOp([arith.BitcastOp(stored, block.arguments[0]).result])
    return Tensor(op.results[0], dtype)


_elementwise = builder(ElementwiseOp)
_cast = builder(CastOp)
_bitcast = builder(BitcastOp)


def elementwise(fn: str, *operands: ir.Value, params: Sequence[float] = ()) -> ir.Value:
    """`elementwise("add", x, y)`, `elementwise("elu", x, params=[1.0])`."""
    return _elementwise(*operands, fn=fn, params=[float(p) for p in params])


def cast(x: ir.Value, to: DType, saturate: bool = True, round_mode: str = "up") -> ir.Value:
    """`cast(x, F16)`; x itself when it has that type."""
    if TensorType.of(x).dtype == to:
        return x
    return _cast(x, to=type_attribute(to), saturate=saturate, round_mode=round_mode)


def bitcast(x: ir.Value, to: DType) -> ir.Value:
    """`bitcast(x, I32)`."""
    return _bitcast(x, to=type_attribute(to))


def type_attribute(dtype: DType) -> ir.Type:
    """An element type as the value of an attribute."""
    return ir.Type.parse(dtype.name)


def element_type(type_: ir.Type) -> DType:
    """The element type that an attribute names; VerifyError for one that mlc does not know."""
    if str(type_) not in BY_NAME:
        raise VerifyError(f"knows no element type {type_}")
    return BY_NAME[str(type_)]


__all__ = ["FUNCTIONS", "BitcastOp", "CastOp", "ElementwiseOp", "Function", "bitcast", "broadcast", "broadcast_read", "cast",
           "element_type", "elementwise", "type_attribute"]
