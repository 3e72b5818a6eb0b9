"""Control flow through the CPU path: values carried, stacked, passed through views and written in place."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from native import run_native
from programs import random_program

from mlc.dialects import flow, graph
from mlc.dtypes import F32
from mlc.ir.mlir import ir

Body = Callable[..., Sequence[ir.Value]]


def _f32(*shape: int) -> ir.Type:
    return ir.RankedTensorType.get(list(shape), ir.F32Type.get())


def _number() -> ir.Type:
    return ir.RankedTensorType.get([], ir.IntegerType.get_signless(64))


def _fill(op: Any, region: int, types: Sequence[ir.Type], body: Body) -> None:
    block = op.operation.regions[region].blocks.append(*types)
    with ir.InsertionPoint(block):
        flow.YieldOp.build(body(*block.arguments), [])


def _loop(operands: Sequence[ir.Value], trip: int, carried: int, results: Sequence[ir.Type], body: Body,
          reverse: Sequence[bool] = ()) -> list[ir.Value]:
    op = flow.LoopOp.build(operands, results, {"trip": trip, "carried": carried, "reverse": list(reverse)})
    slices = [ir.RankedTensorType.get(list(v.type.shape)[1:], v.type.element_type) for v in operands[carried:]]
    _fill(op, 0, [_number(), *[v.type for v in operands[:carried]], *slices], body)
    return list(op.operation.results)


def _while(limit: ir.Value, condition: ir.Value, inits: Sequence[ir.Value], body: Body) -> list[ir.Value]:
    op = flow.WhileOp.build([limit, condition, *inits], [v.type for v in inits])
    _fill(op, 0, [_number(), *[v.type for v in inits]], body)
    return list(op.operation.results)


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def _check(build: Callable[..., object], expected: Sequence[np.ndarray], *inputs: np.ndarray) -> None:
    for got, want in zip(run_native(build, *inputs), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def add(x: ir.Value, y: ir.Value) -> ir.Value:
    return graph.elementwise("add", x, y)


def test_carried_values_swap_through_views() -> None:
    a, b = _random(4, 1), _random(4)

    def build(a: ir.Value, b: ir.Value) -> list[ir.Value]:
        return _loop([a, b], 5, 2, [_f32(4, 1), _f32(4)], lambda i, x, y: [graph.reshape(y, shape=[4, 1]), graph.reshape(x, shape=[4])])

    _check(build, [b.reshape(4, 1), a.reshape(4)], a, b)


def test_view_of_a_carried_value_is_taken_before_it_changes() -> None:
    a, b = _random(2, 3), _random(6)

    def build(a: ir.Value, b: ir.Value) -> list[ir.Value]:
        return _loop([a, b], 3, 2, [_f32(2, 3), _f32(6)],
                     lambda i, x, y: [add(x, graph.reshape(y, shape=[2, 3])), graph.reshape(x, shape=[6])])

    x, y = a, b
    for _ in range(3):
        x, y = x + y.reshape(2, 3), x.reshape(6)
    _check(build, [x, y], a, b)


def test_stacked_view_of_what_the_iteration_started_with() -> None:
    start, x = _random(4), _random(8, 4)

    def build(start: ir.Value, x: ir.Value) -> list[ir.Value]:
        return _loop([start, x], 8, 1, [_f32(4), _f32(8, 2, 2)], lambda i, s, xi: [xi, graph.reshape(s, shape=[2, 2])])

    _check(build, [x[7], np.concatenate([start[None], x[:7]]).reshape(8, 2, 2)], start, x)


def test_reversed_slices_and_stacks() -> None:
    start, x = _random(4), _random(8, 4)

    def body(i: ir.Value, s: ir.Value, xi: ir.Value) -> list[ir.Value]:
        total = add(s, xi)
        return [total, total, graph.elementwise("relu", xi)]

    sums = start + np.cumsum(x[::-1], 0)
    _check(lambda s, v: _loop([s, v], 8, 1, [_f32(4), _f32(8, 4), _f32(8, 4)], body, [True, False, True]),
           [sums[-1], sums, np.maximum(x, 0)], start, x)


def test_loop_in_a_loop() -> None:
    start, x = _random(1), _random(3, 4)

    def inner(s: ir.Value, xi: ir.Value) -> ir.Value:
        return _loop([s, graph.reshape(xi, shape=[4, 1])], 4, 1, [_f32(1)], lambda j, u, v: [add(graph.elementwise("mul", u, v), v)])[0]

    def body(i: ir.Value, s: ir.Value, xi: ir.Value) -> list[ir.Value]:
        last = inner(s, xi)
        return [last, last]

    state, every = start, []
    for row in x:
        for v in row:
            state = state * v + v
        every.append(state)
    _check(lambda s, v: _loop([s, v], 3, 1, [_f32(1), _f32(3, 1)], body), [state, np.array(every)], start, x)


def test_if_yields_outer_values_in_either_order() -> None:
    def build(a: ir.Value, b: ir.Value) -> list[ir.Value]:
        y, z = graph.elementwise("relu", a), graph.elementwise("tanh", b)
        sums = [graph.reduce(v, kind="sum", axes=[0]) for v in (a, b)]
        op = flow.IfOp.build([graph.elementwise("lt", *sums)], [_f32(4), _f32(4)])
        _fill(op, 0, [], lambda: [y, z])
        _fill(op, 1, [], lambda: [z, add(y, z)])
        return [*op.operation.results, y]

    low, high = -np.abs(_random(4)), np.abs(_random(4))
    for a, b in ((low, high), (high, low)):
        y, z = np.maximum(a, 0), np.tanh(b)
        _check(build, [y, z, y] if a.sum() < b.sum() else [z, y + z, y], a, b)


def test_while_stops_by_condition_and_by_limit() -> None:
    x = np.abs(_random(4))

    def build(a: ir.Value) -> list[ir.Value]:
        yes = graph.constant(np.array(True))

        def double(i: ir.Value, v: ir.Value, before: ir.Value) -> list[ir.Value]:
            twice = add(v, v)
            return [graph.elementwise("lt", graph.reduce(twice, kind="sum", axes=[0]), graph.constant(np.array(50, np.float32))), twice, v]

        counted = _while(graph.constant(np.array(7)), yes, [a], lambda i, v: [yes, add(v, graph.cast(i, F32))])
        return [*_while(graph.constant(np.array(100)), yes, [a, a], double), *counted]

    now, before = x + x, x
    while now.sum() < 50:
        now, before = now + now, now
    _check(build, [now, before, x + 21], x)


@pytest.mark.parametrize("seed", range(300, 304))
def test_a_loop_is_its_body_again_and_again(seed: int) -> None:
    """A random program as a loop body (memory is used again within and between iterations) against the same ops written out."""
    program = random_program(seed)
    start, *rest = program.inputs
    shape = list(start.shape)

    def body(x: ir.Value, others: Sequence[ir.Value]) -> ir.Value:
        for value in program.build(x, *others):
            mean = graph.reduce(value, kind="mean", axes=list(range(len(value.type.shape)))) if len(value.type.shape) else value
            x = graph.elementwise("tanh", add(x, mean))
        return x

    def looped(x: ir.Value, *others: ir.Value) -> list[ir.Value]:
        return _loop([x], 3, 1, [_f32(*shape), _f32(3, *shape)], lambda i, v: [(new := body(v, others)), new])

    def unrolled(x: ir.Value, *others: ir.Value) -> list[ir.Value]:
        every = []
        for _ in range(3):
            x = body(x, others)
            every.append(graph.reshape(x, shape=[1, *shape]))
        return [x, graph.concat(*every, axis=0)]

    _check(looped, run_native(unrolled, start, *rest), start, *rest)
