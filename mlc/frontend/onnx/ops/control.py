"""If, Loop, Scan, SequenceMap: decided while importing where the model allows it, else flow.if, flow.loop and flow.while."""

from collections.abc import Sequence
from typing import Any

from mlc.dialects import flow
from mlc.errors import ModelError, ShapeError
from mlc.frontend.onnx.context import AlreadyReportedError, NodeContext, Subgraph
from mlc.frontend.onnx.loops import LoopSpec, element, run_loop, run_scan
from mlc.frontend.onnx.ops.structured import stack
from mlc.frontend.onnx.registry import converter
from mlc.frontend.onnx.scratch import Scratch
from mlc.frontend.onnx.values import SequenceValue, Tensor, Unusable, Value, rebuilt, show, structure, tensors_in
from mlc.ir.mlir import ir

SAME_CONSTANT_ELEMENTS = 1 << 10


@converter("If")
def if_(ctx: NodeContext) -> Sequence[Any]:
    then, orelse, condition = ctx.subgraph("then_branch"), ctx.subgraph("else_branch"), ctx.tensor(0)
    if condition.size != 1:
        raise ModelError(f"the condition has {condition.size} elements, expected one", node=ctx.label)
    if condition.is_known:
        return (then if bool(condition.value.reshape(())) else orelse).run([])
    return _flow_if(ctx, condition, then, orelse)


def _flow_if(ctx: NodeContext, condition: Tensor, then: Subgraph, orelse: Subgraph) -> list[Value | None]:
    scratches, results = [], []
    handle = ctx.to_ir(condition)
    for branch in (then, orelse):
        with Scratch() as scratch:
            values = branch.run([])
            if any(isinstance(value, Unusable) for value in values):
                raise AlreadyReportedError
        scratches.append(scratch)
        results.append(values)
    outputs: list[Value | None] = []
    merged: list[int] = []
    for i, (a, b) in enumerate(zip(*results, strict=True)):
        if structure(a) != structure(b):
            raise ShapeError(f"the branches give {show(a)} and {show(b)} for output {ctx.node.output[i]!r}", node=ctx.label,
                             hint=ctx.importer.value_hint(condition))
        outputs.append(a)
        if not _same_constant(a, b):
            merged.append(i)
    if not merged:
        for scratch in scratches:
            scratch.drop()
        return outputs
    for scratch, values in zip(scratches, results, strict=True):
        with ir.InsertionPoint(scratch.block):
            flow.YieldOp.build([ctx.to_ir(t) for i in merged for t in tensors_in(values[i])], [])
    tensors = [t for i in merged for t in tensors_in(outputs[i])]
    op = flow.IfOp.build([handle], [ctx.to_ir(t).type for t in tensors]).operation
    for scratch, region in zip(scratches, op.regions, strict=True):
        scratch.move_into(region)
    made = [Tensor.of_ir(value) for value in op.results]
    for i in merged:
        outputs[i] = rebuilt(outputs[i], made)
    return outputs


def _same_constant(a: Value | None, b: Value | None) -> bool:
    pairs = list(zip(tensors_in(a), tensors_in(b), strict=True))
    return all(x is y or (x.is_known and y.is_known and x.size <= SAME_CONSTANT_ELEMENTS and x.value.tobytes() == y.value.tobytes())
               for x, y in pairs) and (a is b or all(x.is_known for x, _ in pairs))


@converter("Loop")
def loop(ctx: NodeContext) -> Sequence[Any]:
    body = ctx.subgraph("body")
    trip, condition = ctx.maybe_tensor(0), ctx.maybe_tensor(1)
    initial = [_present(ctx, ctx.input(i), i) for i in range(2, len(ctx.node.input))]
    for what, tensor in (("trip count", trip), ("condition", condition)):
        if tensor is not None and tensor.size != 1:
            raise ModelError(f"the {what} has {tensor.size} elements, expected one", node=ctx.label)
    if len(body.outputs) < 1 + len(initial):
        raise ModelError(f"the body gives {len(body.outputs)} outputs, expected a condition and {len(initial)} values", node=ctx.label)
    spec = LoopSpec(ctx, body, initial, scans=len(body.outputs) - 1 - len(initial), limit=trip, condition=condition)
    return run_loop(spec)


@converter("Scan", since=9)
def scan(ctx: NodeContext) -> Sequence[Any]:
    body = ctx.subgraph("body")
    states, inputs = _scan_inputs(ctx, 0)
    n = len(inputs)
    axes = _per_tensor(ctx, "scan_input_axes", n)
    directions = _per_tensor(ctx, "scan_input_directions", n)
    outputs = len(body.outputs) - len(states)
    out_axes = _per_tensor(ctx, "scan_output_axes", outputs)
    reverse = [*directions, *_per_tensor(ctx, "scan_output_directions", outputs)]
    moved = [_axis_first(ctx, x, axis) for x, axis in zip(inputs, axes, strict=True)]
    results = _scan(ctx, body, states, moved, [bool(flag) for flag in reverse])
    stacked = [_first_to_axis(ctx, t, axis) for value, axis in zip(results[len(states):], out_axes, strict=True) for t in tensors_in(value)]
    return [*results[:len(states)], *stacked]


@converter("Scan", since=8)
def scan_batched(ctx: NodeContext) -> Sequence[Any]:
    """Opset 8 alone has a batch dimension in front of everything: one scan per element of it."""
    if ctx.has(0):
        raise ctx.unsupported("Scan with sequence lengths (opset 8 only) is not supported")
    body = ctx.subgraph("body")
    states, inputs = _scan_inputs(ctx, 1)
    reverse = [bool(flag) for flag in _per_tensor(ctx, "directions", len(inputs))] + [False] * (len(body.outputs) - len(states))
    batches = {t.shape[0] if t.rank else -1 for t in [*states, *inputs]}
    if len(batches) != 1 or batches <= {0, -1}:
        raise ShapeError("states and inputs must have the same, positive, first dimension (batch)", node=ctx.label)
    rows = []
    for b in range(batches.pop()):
        part = [element(ctx, t, b) for t in [*states, *inputs]]
        rows.append(_scan(ctx, body, part[:len(states)], part[len(states):], reverse))
    return [stack(ctx, [t for row in rows for t in tensors_in(row[i])], 0)[0] for i in range(len(body.outputs))]


@converter("SequenceMap")
def sequence_map(ctx: NodeContext) -> Sequence[Any]:
    body, first = ctx.subgraph("body"), ctx.sequence(0)
    others = ctx.inputs[1:]
    for value in others:
        if isinstance(value, SequenceValue) and len(value.items) != len(first.items):
            raise ShapeError(f"maps over sequences of {len(first.items)} and {len(value.items)} items", node=ctx.label)
    rows = []
    for i, item in enumerate(first.items):
        rows.append(body.run([item, *(value.items[i] if isinstance(value, SequenceValue) else value for value in others)]))
    if any(isinstance(value, Unusable) for row in rows for value in row):
        raise AlreadyReportedError
    columns = [[_present(ctx, row[k], k) for row in rows] for k in range(len(body.outputs))]
    return [SequenceValue(tuple(column), tensors_in(column[0])[0].dtype if column else None) for column in columns]


def _scan_inputs(ctx: NodeContext, first: int) -> tuple[list[Tensor], list[Tensor]]:
    tensors = [ctx.tensor(i) for i in range(first, len(ctx.node.input))]
    n = ctx.attr("num_scan_inputs")
    if not 1 <= n <= len(tensors):
        raise ModelError(f"num_scan_inputs is {n}, the node has {len(tensors)} inputs", node=ctx.label)
    return tensors[:-n], tensors[-n:]


def _scan(ctx: NodeContext, body: Subgraph, states: Sequence[Tensor], inputs: Sequence[Tensor], reverse: list[bool]) -> list[Value]:
    lengths = {t.shape[0] for t in inputs}
    if len(lengths) != 1:
        raise ShapeError(f"scan inputs have different lengths: {sorted(lengths)}", node=ctx.label)
    if len(body.inputs) != len(states) + len(inputs) or len(body.outputs) < len(states):
        raise ModelError(f"the body takes {len(body.inputs)} inputs and gives {len(body.outputs)} outputs; "
                         f"the node has {len(states)} states and {len(inputs)} scan inputs", node=ctx.label)
    spec = LoopSpec(ctx, body, list(states), scans=len(body.outputs) - len(states), slices=list(inputs), trip=lengths.pop(),
                    reverse=reverse, is_scan=True)
    return run_scan(spec)


def _per_tensor(ctx: NodeContext, name: str, n: int) -> list[int]:
    values = ctx.attr(name, None) or [0] * n
    if len(values) != n:
        raise ModelError(f"attribute {name!r} has {len(values)} entries, expected {n}", node=ctx.label)
    return list(values)


def _axis_first(ctx: NodeContext, x: Tensor, axis: int) -> Tensor:
    if not -x.rank <= axis < x.rank:
        raise ModelError(f"scan axis {axis} is outside of a tensor of rank {x.rank}", node=ctx.label)
    order = [axis % x.rank, *(i for i in range(x.rank) if i != axis % x.rank)]
    return x if axis % x.rank == 0 else tensors_in(ctx.op_call("Transpose", x, perm=order)[0])[0]


def _first_to_axis(ctx: NodeContext, x: Tensor, axis: int) -> Tensor:
    if not -x.rank <= axis < x.rank:
        raise ModelError(f"scan output axis {axis} is outside of a tensor of rank {x.rank}", node=ctx.label)
    order = list(range(1, x.rank))
    order.insert(axis % x.rank, 0)
    return x if axis % x.rank == 0 else tensors_in(ctx.op_call("Transpose", x, perm=order)[0])[0]


def _present(ctx: NodeContext, value: Value | None, i: int) -> Value:
    if value is None:
        raise ModelError(f"value {i} is absent", node=ctx.label)
    return value


