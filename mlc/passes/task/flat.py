"""Flat memory: every buffer of a CPU kernel as one dimension, every access as base + constant strides."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import gcd

from mlc.ir.affine import map_to_linear
from mlc.ir.mlir import arith, ir, memref, vector
from mlc.layout.linear import Linear, row_major
from mlc.passes.tile.model import volume


def index_constant(value: int) -> ir.Value:
    """An `index` constant at the insertion point."""
    return arith.ConstantOp(ir.IndexType.get(), value).result


@dataclass(frozen=True)
class Access:
    """Element `const + sum(stride * index)` of a flat buffer; `strides` maps index values (loop or block indices) to elements."""

    buffer: ir.Value
    const: int
    strides: Mapping[ir.Value, int]

    def stride(self, index: ir.Value) -> int:
        return self.strides.get(index, 0)

    def without(self, indices: Collection[ir.Value]) -> "Access":
        """The same element, where these indices are 0."""
        return Access(self.buffer, self.const, {v: s for v, s in self.strides.items() if v not in indices})


@dataclass
class Memory:
    """The flat counterpart of each memref value of a kernel.

    strides: of buffers that are not dense and row-major. narrow: address arithmetic has 32 bits, which every buffer must allow.
    """

    flat: dict[ir.Value, ir.Value] = field(default_factory=dict)
    strides: dict[ir.Value, tuple[int, ...]] = field(default_factory=dict)
    narrow: bool = False

    def strides_of(self, buffer: ir.Value) -> tuple[int, ...]:
        """Elements between neighbours along each dimension."""
        return self.strides.get(buffer) or row_major(buffer.type.shape)

    def access(self, buffer: ir.Value, indices: Sequence[ir.Value], map_: ir.Attribute) -> Access:
        """The access of a task.load, task.store or task.mma operand."""
        linear = map_to_linear(map_.value)
        assert linear is not None, f"not linear: {map_}"
        total = Linear.constant(0, len(indices))
        for e, s in zip(linear, self.strides_of(buffer), strict=True):
            total = total + e * s
        strides: dict[ir.Value, int] = {}
        for c, v in zip(total.coefficients, indices, strict=True):
            if c:
                strides[v] = strides.get(v, 0) + c
        return Access(buffer, total.const, strides)


def flat_type(type_: ir.Type) -> ir.Type:
    """The one-dimensional memref type of the same bytes."""
    return ir.MemRefType.get([volume(type_.shape)], type_.element_type)


def affine(const: int, terms: Sequence[tuple[ir.Value, int]], narrow: bool = False) -> ir.Value:
    """The index const + sum(value * factor). narrow: 32-bit arithmetic, for non-negative values and results below 2^31."""
    type_ = ir.IntegerType.get_signless(32) if narrow else ir.IndexType.get()
    total: ir.Value | None = None
    for value, factor in terms:
        if not factor:
            continue
        term = arith.IndexCastUIOp(type_, value).result if narrow else value
        if factor != 1:
            term = arith.MulIOp(term, arith.ConstantOp(type_, factor).result).result
        total = term if total is None else arith.AddIOp(total, term).result
    if total is None:
        return index_constant(const)
    if const:
        total = arith.AddIOp(total, arith.ConstantOp(type_, const).result).result
    return arith.IndexCastUIOp(ir.IndexType.get(), total).result if narrow else total


def linear_index(access: Access, value_of: Mapping[ir.Value, ir.Value], narrow: bool = False) -> ir.Value:
    """The element number as an index value; `value_of` gives the current SSA value of each index."""
    return affine(access.const, [(value_of[index], stride) for index, stride in access.strides.items()], narrow)


def vector_type(lanes: int, element: ir.Type) -> ir.Type:
    """vector<lanes x element>."""
    return ir.VectorType.get([lanes], element)


def load_scalar(buffer: ir.Value, at: ir.Value) -> ir.Value:
    return memref.LoadOp(buffer, [at]).result


def divisor(value: ir.Value) -> int:
    """A number that divides an index value whatever the block: 0 for the constant 0, 1 if nothing is known."""
    owner = value.owner
    if isinstance(owner, ir.Block):
        return 1
    operands = list(owner.operands)
    match owner.name:
        case "arith.constant":
            return abs(owner.attributes["value"].value)
        case "arith.muli":
            return divisor(operands[0]) * divisor(operands[1])
        case "arith.addi" | "arith.subi" | "arith.minsi" | "arith.maxsi":
            return gcd(divisor(operands[0]), divisor(operands[1]))
    return 1


def load_lanes(buffer: ir.Value, at: ir.Value, stride: int, lanes: int) -> ir.Value:
    """`lanes` elements starting at `at`, `stride` apart."""
    type_ = vector_type(lanes, buffer.type.element_type)
    if stride == 1:
        return vector.LoadOp(type_, buffer, [at]).result
    offsets = arith.MulIOp(step(lanes), splat(index_constant(stride), lanes)).result
    return gather(buffer, at, offsets, lanes)


def gather(buffer: ir.Value, base: ir.Value, offsets: ir.Value, lanes: int) -> ir.Value:
    """Elements at base + offsets (vector of index)."""
    element = buffer.type.element_type
    i1 = ir.IntegerType.get_signless(1)
    mask = splat(arith.ConstantOp(i1, ir.IntegerAttr.get(i1, -1)).result, lanes)
    zero = ir.FloatAttr.get(element, 0.0) if _is_float(element) else ir.IntegerAttr.get(element, 0)
    passthrough = splat(arith.ConstantOp(element, zero).result, lanes)
    return vector.GatherOp(vector_type(lanes, element), buffer, [base], offsets, mask, passthrough).result


def step(lanes: int) -> ir.Value:
    """[0, 1, 2, ...] as a vector of index."""
    return vector.StepOp(vector_type(lanes, ir.IndexType.get())).result


def splat(value: ir.Value, lanes: int) -> ir.Value:
    """The scalar in every lane."""
    return vector.BroadcastOp(vector_type(lanes, value.type), value).result


def _is_float(type_: ir.Type) -> bool:
    return isinstance(type_, ir.F32Type | ir.F64Type | ir.F16Type | ir.BF16Type)
