"""Loop and Scan: unrolled where that resolves them at compile time, else flow.loop (counted) or flow.while (conditional)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from onnx import ValueInfoProto

from mlc.dialects import flow
from mlc.errors import MlcError, ModelError, ShapeError
from mlc.frontend.onnx.context import AlreadyReportedError, NodeContext, Subgraph
from mlc.frontend.onnx.nodes import plain_domain
from mlc.frontend.onnx.scratch import Scratch
from mlc.frontend.onnx.values import Tensor, Unusable, Value, present, rebuilt, show, structure, tensors_in
from mlc.ir.mlir import ir

MAX_UNROLL = 64  # iterations
MAX_UNROLLED_NODES = 4096
FOREVER = np.iinfo(np.int64).max


class _GiveUpError(Exception):
    """This way of importing the loop is closed; the text says why."""


@dataclass(frozen=True)
class LoopSpec:
    """An ONNX loop. initial: of the carried values; scans: how many outputs are stacked; slices: inputs taken apart along axis 0.

    limit/condition: inputs of Loop. trip: the number of iterations if known. reverse: one flag per slice, then per stacked output.
    """

    ctx: NodeContext
    body: Subgraph
    initial: list[Value]
    scans: int
    limit: Tensor | None = None
    condition: Tensor | None = None
    slices: list[Tensor] = field(default_factory=list)
    trip: int | None = None
    reverse: list[bool] = field(default_factory=list)
    is_scan: bool = False

    def arguments(self, iteration: Tensor, state: Sequence[Value], slices: Sequence[Tensor]) -> list[Value | None]:
        """The body's inputs. Inside of it the condition always holds."""
        if self.is_scan:
            return [*state, *slices]
        infos = {info.name: info for info in self.body.graph.input}
        first, second = (infos[name] for name in self.body.inputs[:2])
        return [_as_declared(self.ctx, iteration, first), _as_declared(self.ctx, Tensor.known(np.array(True)), second), *state]

    def run_body(self, iteration: Tensor, state: Sequence[Value], slices: Sequence[Tensor]) -> tuple[Tensor, list[Value], list[Value]]:
        """(whether to go on, carried values, stacked values) after one iteration imported at the insertion point."""
        outputs: list[Value] = []
        for value, name in zip(self.body.run(self.arguments(iteration, state, slices)), self.body.outputs, strict=True):
            if isinstance(value, Unusable):
                raise AlreadyReportedError
            if value is None:
                raise ModelError(f"the body's output {name!r} is absent", node=self.ctx.label)
            outputs.append(value)
        goes_on: Value = Tensor.known(np.array(True))
        if not self.is_scan:
            goes_on, *outputs = outputs
        if not isinstance(goes_on, Tensor) or goes_on.size != 1:
            raise ModelError(f"the body's condition is {show(goes_on)}, expected one bool", node=self.ctx.label)
        n = len(self.initial)
        return goes_on, outputs[:n], outputs[n:]

    def invariant(self) -> set[int]:
        """Carried values that the body hands on untouched: they stay what they were, even known."""
        source = {node.output[0]: node.input[0] for node in self.body.graph.node
                  if node.op_type == "Identity" and plain_domain(node.domain) == "" and len(node.input) == len(node.output) == 1}
        ins, outs = (0, 0) if self.is_scan else (2, 1)
        found = set()
        for k in range(len(self.initial)):
            name = self.body.outputs[outs + k]
            while name in source:
                name = source[name]
            if name == self.body.inputs[ins + k]:
                found.add(k)
        return found


def known_all(values: Sequence[Value]) -> bool:
    return all(t.is_known for value in values for t in tensors_in(value))


def run_loop(spec: LoopSpec) -> list[Value]:
    """The results of an ONNX Loop, by the first of these that fits: nothing, compile time, flow.loop, flow.while, unrolling."""
    if len(spec.body.inputs) != 2 + len(spec.initial):
        raise ModelError(f"the body takes {len(spec.body.inputs)} inputs, expected iteration, condition and {len(spec.initial)} values",
                         node=spec.ctx.label)
    trip = int(spec.limit.value.reshape(())) if spec.limit is not None and spec.limit.is_known else None
    starts = bool(spec.condition.value.reshape(())) if spec.condition is not None and spec.condition.is_known else spec.condition is None
    stops = spec.condition is not None and spec.condition.is_known and not starts
    spec = replace(spec, trip=trip)
    if stops or (trip is not None and trip <= 0):
        return [*spec.initial, *_no_scans(spec)]
    ways: list[Callable[[LoopSpec], list[Value]]] = []
    if starts and known_all(spec.initial) and (trip is not None or spec.limit is None):
        ways.append(_at_compile_time)
    if trip is not None and starts:
        ways.append(flow_loop)
    ways.append(while_loop)
    if starts and (trip is not None or spec.limit is None):
        ways.append(unroll)
    return _first_that_works(spec, ways)


def run_scan(spec: LoopSpec) -> list[Value]:
    """The results of an ONNX Scan, whose trip count is a dimension."""
    if spec.trip == 0:
        return [*spec.initial, *_no_scans(spec)]
    known = known_all([*spec.initial, *spec.slices])
    return _first_that_works(spec, [*([_at_compile_time] if known else []), flow_loop, unroll])


def _first_that_works(spec: LoopSpec, ways: Sequence[Callable[[LoopSpec], list[Value]]]) -> list[Value]:
    """Tries ways to import a loop; when all fail, raises what was wrong with the last one that was not just inapplicable."""
    reason: MlcError | None = None
    gave_up = ""
    for way in ways:
        problems = dict(spec.ctx.importer.problems)
        try:
            return way(spec)
        except ShapeError as error:
            reason = reason or error
        except _GiveUpError as error:
            gave_up = str(error)
        spec.ctx.importer.problems = problems
    # With a known trip count and first condition the loop could have been unrolled, and the iteration known in it.
    unknown = [t for t in (spec.limit, spec.condition) if t is not None and not t.is_known]
    hint = spec.ctx.importer.value_hint(unknown[0]) if unknown else None
    if reason is not None:
        reason.hint = reason.hint or hint or gave_up or None
        raise reason
    raise ShapeError(f"the loop cannot be imported: {gave_up}", node=spec.ctx.label, hint=hint)


def _at_compile_time(spec: LoopSpec) -> list[Value]:
    return unroll(spec, only_known=True)


def unroll(spec: LoopSpec, only_known: bool = False) -> list[Value]:
    """The iterations one after another. only_known: give up as soon as a carried value is not known."""
    importer, state = spec.ctx.importer, list(spec.initial)
    stacks: list[list[Value]] = [[] for _ in range(spec.scans)]
    n_in, start = len(spec.slices), importer.node_count
    with Scratch() as scratch:
        i, goes_on = 0, True
        while goes_on and (spec.trip is None or i < spec.trip):
            if i >= MAX_UNROLL or importer.node_count - start > MAX_UNROLLED_NODES:
                raise _GiveUpError(f"unrolling it takes more than {MAX_UNROLL} iterations or {MAX_UNROLLED_NODES} nodes")
            places = [spec.trip - 1 - i if spec.trip is not None and back else i for back in spec.reverse[:n_in]] or [i] * n_in
            slices = [element(spec.ctx, x, at) for x, at in zip(spec.slices, places, strict=True)]
            condition, state, scans = spec.run_body(Tensor.known(np.array(i, np.int64)), state, slices)
            if not condition.is_known or (only_known and not known_all(state)):
                raise _GiveUpError("whether it goes on is only known at run time")
            for stack_, value in zip(stacks, scans, strict=True):
                stack_.append(value)
            goes_on = bool(condition.value.reshape(()))
            i += 1
        backwards = spec.reverse[n_in:] or [False] * spec.scans
        outputs = [_stacked(spec, list(reversed(s)) if back else s) for s, back in zip(stacks, backwards, strict=True)]
    scratch.inline()
    return [*state, *outputs]


def flow_loop(spec: LoopSpec) -> list[Value]:
    """flow.loop: the number of iterations is known, and nothing inside can end it early."""
    assert spec.trip is not None
    body = _Body(spec)
    with _Undo(body.scratch):
        if not (body.condition.is_known and bool(body.condition.value.reshape(()))):
            raise _GiveUpError("its body decides when it ends")
        scans = [_scan_tensor(spec, value) for value in body.scans]
        with ir.InsertionPoint(body.scratch.block):
            flow.YieldOp.build([spec.ctx.to_ir(t) for t in [*body.next_flat, *scans]], [])
    stacked = [Tensor("", t.dtype, (spec.trip, *t.shape)) for t in scans]
    attributes = {"trip": spec.trip, "carried": len(body.flat), **({"reverse": spec.reverse} if any(spec.reverse) else {})}
    operands = [spec.ctx.to_ir(t) for t in [*body.flat, *spec.slices]]
    op = flow.LoopOp.build(operands, [t.ir_type for t in [*body.flat, *stacked]], attributes)
    body.scratch.move_into(op.operation.regions[0])
    made = [Tensor.of_ir(value) for value in op.operation.results]
    return [*body.final(made), *made]


def while_loop(spec: LoopSpec) -> list[Value]:
    """flow.while: the number of iterations is decided as it runs."""
    if spec.scans:
        what = "trip count" if spec.limit is not None and not spec.limit.is_known else "condition"
        blamed = spec.limit if what == "trip count" else spec.condition
        raise ShapeError(f"the loop stacks an output per iteration, and its {what} is only known at run time", node=spec.ctx.label,
                         hint=None if blamed is None or blamed.is_known else spec.ctx.importer.value_hint(blamed))
    ctx, body = spec.ctx, _Body(spec)
    with _Undo(body.scratch), ir.InsertionPoint(body.scratch.block):
        flow.YieldOp.build([ctx.to_ir(t) for t in [_scalar(ctx, body.condition), *body.next_flat]], [])
    limit = _scalar(ctx, spec.limit) if spec.limit is not None else Tensor.known(np.array(FOREVER), "forever")
    condition = _scalar(ctx, spec.condition) if spec.condition is not None else Tensor.known(np.array(True), "true")
    op = flow.WhileOp.build([ctx.to_ir(t) for t in [limit, condition, *body.flat]], [t.ir_type for t in body.flat])
    body.scratch.move_into(op.operation.regions[0])
    return body.final([Tensor.of_ir(value) for value in op.operation.results])


class _Body:
    """One iteration in a scratch block whose arguments are the iteration, the carried tensors and the slices."""

    def __init__(self, spec: LoopSpec) -> None:
        self.spec, self.invariant = spec, spec.invariant()
        self.flat = [t for k, value in enumerate(spec.initial) if k not in self.invariant for t in tensors_in(value)]
        parts = [Tensor("", x.dtype, x.shape[1:]) for x in spec.slices]
        index = ir.RankedTensorType.get([], ir.IntegerType.get_signless(64))
        self.scratch = Scratch([index, *[t.ir_type for t in [*self.flat, *parts]]])
        with self.scratch as scratch:
            first, *rest = [Tensor.of_ir(argument) for argument in scratch.block.arguments]
            carried = rest[:len(self.flat)]
            self.condition, after, self.scans = spec.run_body(first, self.final(carried), rest[len(self.flat):])
            for k, (before, value) in enumerate(zip(spec.initial, after, strict=True)):
                if k not in self.invariant and structure(before) != structure(value):
                    raise ShapeError(f"carried value {k} enters the loop as {show(before)} and leaves an iteration as {show(value)}",
                                     node=spec.ctx.label)
            self.next_flat = [t for k, value in enumerate(after) if k not in self.invariant for t in tensors_in(value)]

    def final(self, tensors: list[Tensor]) -> list[Value]:
        """The carried values over `tensors`, taken from the front of the list; invariant ones as they were."""
        return [value if k in self.invariant else present(rebuilt(value, tensors)) for k, value in enumerate(self.spec.initial)]


class _Undo:
    """Drops a scratch when the block under it fails."""

    def __init__(self, scratch: Scratch) -> None:
        self.scratch = scratch

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self.scratch.drop()


def _no_scans(spec: LoopSpec) -> list[Value]:
    """Stacked outputs of a loop without iterations; the body is imported, and dropped, to learn their shapes."""
    if not spec.scans:
        return []
    if known_all([*spec.initial, *spec.slices]):  # folds, so it asks for no converter
        with Scratch() as scratch:
            slices = [Tensor.known(np.zeros(x.shape[1:], x.dtype.numpy)) for x in spec.slices]
            scans = spec.run_body(Tensor.known(np.array(0, np.int64)), spec.initial, slices)[2]
    else:
        body = _Body(spec)
        scratch, scans = body.scratch, body.scans
    with _Undo(scratch):
        shapes = [(t.shape, t.dtype) for t in (_scan_tensor(spec, value) for value in scans)]
    scratch.drop()
    return [Tensor.known(np.empty((0, *shape), dtype.numpy)) for shape, dtype in shapes]


def _stacked(spec: LoopSpec, values: list[Value]) -> Value:
    tensors = [_scan_tensor(spec, value) for value in values]
    if not tensors:
        raise _GiveUpError("it has no iteration")
    if len({t.shape for t in tensors}) > 1:
        shapes = ", ".join(sorted({str(list(t.shape)) for t in tensors}))
        raise ShapeError(f"the loop stacks outputs of different shapes: {shapes}", node=spec.ctx.label)
    wide = [t for x in tensors for t in tensors_in(spec.ctx.op_call("Unsqueeze", x, np.array([0], np.int64))[0])]
    return spec.ctx.op_call("Concat", *wide, axis=0)[0]


def _scan_tensor(spec: LoopSpec, value: Value) -> Tensor:
    if not isinstance(value, Tensor):
        raise ModelError(f"the loop stacks a {show(value)}; only tensors can be stacked", node=spec.ctx.label)
    return value


def element(ctx: NodeContext, x: Tensor, i: int) -> Tensor:
    """x[i]."""
    return tensors_in(ctx.op_call("Gather", x, np.array(i, np.int64), axis=0)[0])[0]


def _as_declared(ctx: NodeContext, scalar: Tensor, info: ValueInfoProto) -> Tensor:
    """Bodies may declare the iteration and the condition as one-element vectors."""
    if not info.type.tensor_type.HasField("shape") or len(info.type.tensor_type.shape.dim) != 1:
        return scalar
    return tensors_in(ctx.op_call("Reshape", scalar, np.array([1], np.int64))[0])[0]


def _scalar(ctx: NodeContext, x: Tensor) -> Tensor:
    return x if x.rank == 0 else tensors_in(ctx.op_call("Reshape", x, np.array([], np.int64))[0])[0]
