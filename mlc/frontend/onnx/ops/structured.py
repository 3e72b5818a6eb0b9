"""What needs no computation: constants, static shapes, sequences and optionals are resolved while importing."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlc.dtypes import I64
from mlc.errors import ModelError, ResourceError, ShapeError, UnsupportedError
from mlc.frontend.onnx.context import AlreadyReportedError, NodeContext
from mlc.frontend.onnx.registry import converter
from mlc.frontend.onnx.tensors import dtype_of
from mlc.frontend.onnx.values import OptionalValue, SequenceValue, Tensor, Unusable, Value, tensors_in

MAX_ITEMS = 1 << 12
CONSTANT_FORMS = ("value", "sparse_value", "value_float", "value_floats", "value_int", "value_ints", "value_string", "value_strings")
STRINGS = "it is a string constant, which mlc cannot hold"


@converter("Constant")
def constant(ctx: NodeContext) -> Sequence[Any]:
    present = [name for name in CONSTANT_FORMS if ctx.has_attr(name)]
    if len(present) != 1:
        raise ModelError(f"a Constant has exactly one value, this has {', '.join(present) or 'none'}", node=ctx.label)
    name = present[0]
    if name == "value":
        try:
            return [ctx.weight_attr(name)]
        except UnsupportedError as error:  # of an element type mlc cannot hold: wrong only if somebody uses it
            return [Unusable(error.message)]
    data = ctx.attr(name)
    if name == "sparse_value":
        return [ctx.sparse_weight(data, name)]
    if name.startswith("value_string"):
        return [Unusable(STRINGS)]
    return [np.array(data, np.int64 if name.startswith("value_int") else np.float32)]


@converter("Shape")
def shape(ctx: NodeContext) -> Sequence[Any]:
    dims = ctx.shape(0)[slice(ctx.attr("start", 0), ctx.attr("end", None))]
    return [np.array(dims, np.int64)]


@converter("Size")
def size(ctx: NodeContext) -> Sequence[Any]:
    return [np.array(ctx.tensor(0).size, np.int64)]


@converter("Identity")
def identity(ctx: NodeContext) -> Sequence[Any]:
    return [ctx.input(0)]


@converter("SequenceEmpty")
def sequence_empty(ctx: NodeContext) -> Sequence[Any]:
    code = ctx.attr("dtype", 1)
    return [SequenceValue((), dtype_of(code, "attribute 'dtype'"))]


@converter("SequenceConstruct")
def sequence_construct(ctx: NodeContext) -> Sequence[Any]:
    items = tuple(ctx.tensor(i) for i in range(len(ctx.node.input)))
    _check_element_types(ctx, items)
    return [SequenceValue(items, items[0].dtype)]


@converter("SequenceAt")
def sequence_at(ctx: NodeContext) -> Sequence[Any]:
    sequence = ctx.sequence(0)
    return [sequence.items[_position(ctx, 1, len(sequence.items))]]


@converter("SequenceLength")
def sequence_length(ctx: NodeContext) -> Sequence[Any]:
    return [np.array(len(ctx.sequence(0).items), np.int64)]


@converter("SequenceInsert")
def sequence_insert(ctx: NodeContext) -> Sequence[Any]:
    sequence, item = ctx.sequence(0), ctx.tensor(1)
    items = list(sequence.items)
    at = _position(ctx, 2, len(items), end=True) if ctx.has(2) else len(items)
    items.insert(at, item)
    _check_element_types(ctx, items)
    return [SequenceValue(tuple(items), item.dtype)]


@converter("SequenceErase")
def sequence_erase(ctx: NodeContext) -> Sequence[Any]:
    sequence = ctx.sequence(0)
    at = _position(ctx, 1, len(sequence.items)) if ctx.has(1) else len(sequence.items) - 1
    if at < 0:
        raise ShapeError("cannot erase from an empty sequence", node=ctx.label)
    return [SequenceValue(sequence.items[:at] + sequence.items[at + 1:], sequence.dtype)]


@converter("ConcatFromSequence")
def concat_from_sequence(ctx: NodeContext) -> Sequence[Any]:
    items = [t for item in ctx.sequence(0).items for t in tensors_in(item)]
    axis, new_axis = ctx.attr("axis"), ctx.attr("new_axis", 0)
    if not items:
        raise ShapeError("cannot concatenate an empty sequence: the result has no shape", node=ctx.label)
    if new_axis not in (0, 1):
        raise ModelError(f"new_axis is {new_axis}, expected 0 or 1", node=ctx.label)
    return stack(ctx, items, axis) if new_axis else ctx.op_call("Concat", *items, axis=axis)


def stack(ctx: NodeContext, items: Sequence[Tensor], axis: int) -> list[Value]:
    """Tensors of one shape joined along a new axis, which is counted in the result."""
    rank = items[0].rank + 1
    if not -rank <= axis < rank:
        raise ModelError(f"axis {axis} is outside of a tensor of rank {rank}", node=ctx.label)
    at = axis % rank
    widened = [t for item in items for t in tensors_in(ctx.op_call("Unsqueeze", item, np.array([at], np.int64))[0])]
    return ctx.op_call("Concat", *widened, axis=at)


@converter("SplitToSequence")
def split_to_sequence(ctx: NodeContext) -> Sequence[Any]:
    x, axis, keepdims = ctx.tensor(0), ctx.attr("axis", 0), ctx.attr("keepdims", 1)
    if not -x.rank <= axis < x.rank:
        raise ModelError(f"axis {axis} is outside of a tensor of rank {x.rank}", node=ctx.label)
    axis %= x.rank
    extent, split = x.shape[axis], ctx.maybe_value(1)
    if extent > MAX_ITEMS:
        raise ResourceError(f"splitting a dimension of {extent} may make as many tensors; the limit is {MAX_ITEMS}", node=ctx.label)
    if split is None:
        sizes = [1] * extent
    elif split.ndim == 0:
        step = int(split)
        if step < 1:
            raise ModelError(f"split is {step}, expected a positive size", node=ctx.label)
        sizes = [min(step, extent - start) for start in range(0, extent, step)]
    else:
        sizes = [int(s) for s in split]
    if min(sizes, default=0) < 0 or sum(sizes) != extent:
        raise ShapeError(f"split sizes {sizes} do not add up to dimension {axis} of {list(x.shape)}", node=ctx.label)
    if not sizes:
        return [SequenceValue((), x.dtype)]
    parts: list[Value] = ctx.op_call("Split", x, np.array(sizes, np.int64), outputs=len(sizes), axis=axis)
    if split is None and not keepdims:
        parts = [ctx.op_call("Squeeze", t, np.array([axis], np.int64))[0] for part in parts for t in tensors_in(part)]
    return [SequenceValue(tuple(parts), x.dtype)]


@converter("Optional")
def optional(ctx: NodeContext) -> Sequence[Any]:
    ctx.ignore("type")  # of an empty optional: nothing to compute with
    return [OptionalValue(ctx.input(0))]


@converter("OptionalHasElement")
def optional_has_element(ctx: NodeContext) -> Sequence[Any]:
    value = ctx.input(0)
    return [np.array(value.item is not None if isinstance(value, OptionalValue) else value is not None)]


@converter("OptionalGetElement")
def optional_get_element(ctx: NodeContext) -> Sequence[Any]:
    value = ctx.input(0)
    if isinstance(value, Unusable):
        raise AlreadyReportedError
    item = value.item if isinstance(value, OptionalValue) else value
    if item is None:
        raise ShapeError("the optional is empty at compile time, so it has no element", node=ctx.label,
                         hint="give the optional input a shape, or guard the node with OptionalHasElement and If")
    return [item]


def _position(ctx: NodeContext, i: int, length: int, end: bool = False) -> int:
    """Input `i` as an index into a sequence; `end` allows the place behind the last item."""
    value = ctx.value(i)
    if value.size != 1 or value.dtype not in (I64.numpy, np.dtype(np.int32)):
        raise ModelError(f"input {ctx.input_name(i)} must be one i64 or i32 position", node=ctx.label)
    at = int(value.reshape(()))
    if not -length <= at < length + end:
        raise ShapeError(f"position {at} is outside of a sequence of {length}", node=ctx.label)
    return at + length if at < 0 else at


def _check_element_types(ctx: NodeContext, items: Sequence[Value]) -> None:
    types = sorted({t.dtype.name for item in items for t in tensors_in(item)})
    if len(types) > 1:
        raise ModelError(f"a sequence holds one element type, got {', '.join(types)}", node=ctx.label)
