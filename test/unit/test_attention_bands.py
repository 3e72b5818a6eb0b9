"""Masks that are known and leave each query a band of keys become numbers of the attention; any other mask stays."""

from itertools import product
from math import inf

import numpy as np
import pytest
from graph_passes import build_module, count, ew, same_results, sample

from mlc.dialects import graph
from mlc.dialects._ext import operations
from mlc.dialects.graph import TensorType
from mlc.dtypes import BF16, BOOL, F16, F32, I64
from mlc.ir.context import make_context
from mlc.ir.mlir import ir
from mlc.passes.graph.bands import band
from mlc.passes.graph.recognise import Recognise
from mlc.passes.graph.simplify import Simplify
from mlc.passes.registry import PassContext
from mlc.weights import WeightStore

PASSES = (Simplify(), Recognise(), Simplify())
S, T, D = 5, 7, 4
QUERIES, KEYS = (sample(1, 2, S, D), sample(1, 2, T, D, seed=1)), (sample(1, 2, T, D, seed=2),)


def seen_by(queries: int, keys: int, offset: int, left: int, right: int) -> np.ndarray:
    """What graph.attention says of itself: query i stands at i + offset and sees keys from `left` before to `right` behind it."""
    behind = np.arange(keys)[None, :] - (np.arange(queries)[:, None] + offset)
    return ((left < 0) | (behind >= -left)) & ((right < 0) | (behind <= right))


def test_every_small_band_is_found():
    for queries, keys, offset, left, right in product((1, 2, 5), (1, 3, 6), range(-4, 5), range(-1, 4), range(-1, 4)):
        seen = seen_by(queries, keys, offset, left, right)
        found = band(seen)
        if found is None:
            assert not seen.any()  # a band of no key at all
        else:
            np.testing.assert_array_equal(seen_by(queries, keys, **found), seen)
            assert found["left"] >= -1 and found["right"] >= -1


def test_what_is_no_band_is_none():
    """Of all masks of 3 by 3, those found are exactly those that some numbers describe."""
    bands = {seen_by(3, 3, *numbers).tobytes() for numbers in product(range(-6, 7), range(-1, 7), range(-1, 7))}
    for bits in range(1, 1 << 9):
        seen = np.array([bits >> n & 1 for n in range(9)], np.bool_).reshape(3, 3)
        assert (band(seen) is not None) == (seen.tobytes() in bands)


def triangle(k: int, low: float) -> ir.Value:
    """As exporters write it: where(tril(ones, k) == 0, low, 0)."""
    ones = graph.broadcast(graph.constant(np.float32(1)), shape=[S, T])
    return ew("where", ew("eq", graph.trilu(ones, graph.constant(np.int64(k)), upper=False), 0.0), low, 0.0)


def ranges(window: int) -> ir.Value:
    """As HF models write it: comparisons of positions, and of their distance."""
    i, j = graph.iota((S, T), 0, I64), graph.iota((S, T), 1, I64)
    near = ew("lt", ew("sub", i, graph.constant(np.int64(window))), j)
    return ew("and", ew("le", j, i), near)


MASKS = {
    "causal, -inf": (lambda: triangle(0, -inf), {"right": 0}),
    "causal, lowest": (lambda: triangle(0, -3.4e38), {"right": 0}),
    "more keys than queries": (lambda: triangle(T - S, -inf), {"right": 0, "offset": T - S}),
    "a row that sees nothing": (lambda: triangle(-1, -inf), {"right": 0, "offset": -1}),
    "a window": (lambda: ranges(2), {"right": 0, "left": 1}),
    "all seen": (lambda: triangle(T, -inf), {}),
}


def attentions(module: ir.Module) -> list[ir.Operation]:
    return [o for o in operations(module.operation) if o.name == "graph.attention"]


@pytest.mark.parametrize("name", MASKS)
def test_band_masks_become_numbers(name):
    build, numbers = MASKS[name]
    assert same_results(lambda q, k, v: graph.attention(q, k, v, build(), scale=0.5), PASSES, *QUERIES, *KEYS) == {"attention": 1}
    with make_context(), ir.Location.unknown():
        module = build_module(lambda q, k, v: graph.attention(q, k, v, build(), scale=0.5),
                              [TensorType(x.shape, F32) for x in (*QUERIES, *KEYS)])
        Recognise().run(module, PassContext())
        (op,) = attentions(module)
        assert len(op.operands) == 3
        found = {n: op.opview.py(n) for n in ("left", "right", "offset")}
        assert found == {"left": -1, "right": -1, "offset": 0, **numbers}


@pytest.mark.parametrize("mask", [
    lambda: triangle(0, -1e4),  # scores of f32 may be larger
    lambda: triangle(-1, -3.4e38),  # a row whose keys are all hidden by the same finite number weighs them all
    lambda: ew("mul", graph.cast(graph.iota((S, T), 1, I64), F32), -0.5),  # a bias by distance
])
def test_other_masks_stay(mask):
    def build(q, k, v):
        return graph.attention(q, k, v, mask(), scale=0.5)

    with make_context(), ir.Location.unknown():
        module = build_module(build, [TensorType(x.shape, F32) for x in (*QUERIES, *KEYS)])
        Recognise().run(module, PassContext())
        assert len(attentions(module)[0].operands) == 4


def test_the_part_that_an_input_decides_stays():
    """Causal and padded: the padding is read, the triangle is not."""
    padded = np.ones((1, 1, S, T), np.bool_)
    padded[..., 3:5] = False
    ops = same_results(lambda q, k, v, p: graph.attention(q, k, v, ew("and", p, ranges(9)), scale=0.5), PASSES, *QUERIES, *KEYS, padded)
    assert ops == {"attention": 1}


def test_a_stored_mask_is_looked_at():
    """Exporters fold small masks; where the weights are not at hand (mlc-opt) they stay."""
    store = WeightStore()
    store.add_array("mask", np.where(seen_by(S, T, 0, -1, 0), np.float16(0), np.float16(-65504)).reshape(1, 1, S, T))
    for weights, masks in ((store, 0), (None, 1)):
        with make_context(), ir.Location.unknown():
            module = build_module(lambda q, k, v: graph.attention(q, k, v, graph.weight("mask", F16, (1, 1, S, T)), scale=1.0),
                                  [TensorType(x.shape, F16) for x in (*QUERIES, *KEYS)])
            Recognise().run(module, PassContext(weights=weights))
            assert len(attentions(module)[0].operands) == 3 + masks
            assert count(module)["attention"] == 1


@pytest.mark.parametrize(("dtype", "low", "masks"), [(F16, -65504.0, 0), (F16, -1e4, 1), (BF16, -1e4, 1), (BF16, -1e9, 0)])
def test_what_hides_depends_on_the_numbers_that_scores_can_be(dtype, low, masks):
    def build(q, k, v):
        return graph.attention(q, k, v, triangle(0, low), scale=1.0)

    with make_context(), ir.Location.unknown():
        module = build_module(build, [TensorType(x.shape, dtype) for x in (*QUERIES, *KEYS)])
        Recognise().run(module, PassContext())
        assert len(attentions(module)[0].operands) == 3 + masks


def test_a_mask_that_differs_between_heads_stays():
    store = WeightStore()
    both = np.stack([seen_by(S, T, 0, -1, 0), seen_by(S, T, 1, -1, 0)])[None]
    store.add_array("mask", both)
    with make_context(), ir.Location.unknown():
        module = build_module(lambda q, k, v: graph.attention(q, k, v, graph.weight("mask", BOOL, both.shape), scale=1.0),
                              [TensorType(x.shape, F32) for x in (*QUERIES, *KEYS)])
        Recognise().run(module, PassContext(weights=store))
        assert len(attentions(module)[0].operands) == 4
