"""simplify, sink-transposes, fold-scales, fold-constants, dce and cse: what they do, what they leave, and that results stay."""

import time

import numpy as np
import pytest
from graph_passes import build_module, count, ew, ops_after, run_passes, same_results, sample, scalar, weight

from mlc.dialects import graph
from mlc.dialects.graph import TensorType
from mlc.dtypes import BF16, F16, F32, F64, I8, I32, U8
from mlc.ir.context import make_context
from mlc.ir.mlir import ir
from mlc.passes.cleanup import Cse, Dce
from mlc.passes.graph.fold import FoldConstants
from mlc.passes.graph.fold_scales import FoldScales
from mlc.passes.graph.identities import lossless
from mlc.passes.graph.recognise import Recognise
from mlc.passes.graph.simplify import Simplify
from mlc.passes.graph.sink import SinkTransposes


@pytest.mark.parametrize(("a", "b", "expected"), [
    (F16, F32, True), (BF16, F32, True), (F16, BF16, False), (BF16, F16, False), (F32, F64, True), (F64, F32, False), (I8, F16, True),
    (I32, F32, False), (I32, F64, True), (U8, I32, True), (I8, U8, False), (I32, I8, False),
])
def test_lossless(a, b, expected):
    assert lossless(a, b) is expected


def test_neutral_elements_vanish_unless_they_broadcast():
    ops = ops_after(lambda x: ew("div", ew("mul", ew("add", x, 0.0), 1.0), 1.0), [Simplify()], [2, 3])
    assert not ops
    ops = ops_after(lambda x: ew("add", x, graph.constant(np.zeros((4, 1), np.float32))), [Simplify()], [3])
    assert ops["add"] == 1


def test_multiplying_by_zero_keeps_nan():
    assert ops_after(lambda x: ew("mul", x, 0.0), [Simplify()], [3])["mul"] == 1


def test_a_lossy_cast_stays():
    assert ops_after(lambda x: graph.cast(graph.cast(x, F16), F32), [Simplify()], [3])["cast"] == 2
    assert not ops_after(lambda x: graph.cast(graph.cast(x, F64), F32), [Simplify()], [3])


def test_constants_fold_but_weights_wait():
    def build(x):
        table = graph.transpose(graph.constant(np.arange(6, dtype=np.float32).reshape(2, 3)), perm=[1, 0])
        return [ew("add", x, ew("mul", table, 2.0)), ew("mul", weight("w", 3, 2), 2.0)]

    ops = ops_after(build, [FoldConstants(), Dce()], [3, 2])
    assert ops["known"] == 4 and ops["add"] == 1  # the folded table; w, 2.0 and their product


def test_integer_division_is_not_folded():
    def build(x):
        return ew("add", x, graph.cast(graph.elementwise("div", graph.constant(np.int32(-7)), graph.constant(np.int32(2))), F32))

    assert ops_after(build, [FoldConstants()], [3])["known"] == 4


def heads(x: ir.Value) -> list[ir.Value]:
    """Stacked q, k, v as the exporter of torchvision's ViT takes them apart."""
    y = graph.reshape(graph.transpose(graph.reshape(x, shape=[1, 5, 1, 3, 8]), perm=[3, 1, 2, 0, 4]), shape=[3, 5, 1, 8])
    picked = [graph.gather(y, graph.constant(np.array(i)), axis=0) for i in range(3)]
    return [graph.transpose(graph.reshape(p, shape=[5, 2, 4]), perm=[1, 0, 2]) for p in picked]


def test_selecting_stacked_heads_becomes_slices():
    ops = same_results(heads, [Simplify()], sample(5, 1, 24))
    assert ops["slice"] == 3 and ops["transpose"] == 3 and not ops["gather"]


def test_slices_of_shuffled_channels_move_up():
    def build(x):
        y = graph.reshape(graph.transpose(graph.reshape(x, shape=[1, 2, 4, 3]), perm=[0, 2, 1, 3]), shape=[1, 8, 3])
        return [graph.slice(y, starts=[0, start, 0], sizes=[1, 4, 3], steps=[1, 1, 1]) for start in (0, 4)]

    same_results(build, [Simplify()], sample(1, 8, 3))


def test_movements_of_all_kinds():
    def build(x):
        y = graph.pad(graph.pad(x, low=[0, 1], high=[1, 0], value=2.0), low=[1, 0], high=[0, 0], value=2.0)
        y = graph.slice(graph.slice(y, starts=[1, 0], sizes=[4, 5], steps=[1, 1]), starts=[3, 1], sizes=[2, 4], steps=[-2, 1])
        z = graph.concat(x, y, axis=0)
        cuts = (([0, 1], [3, 2], [1, 1]), ([4, 0], [1, 4], [1, 1]), ([4, 3], [3, 2], [-2, -2]))
        return [y, *[graph.slice(z, starts=a, sizes=n, steps=s) for a, n, s in cuts],
                graph.broadcast(graph.broadcast(x, shape=[1, 3, 4]), shape=[2, 3, 4])]

    same_results(build, [Simplify()], sample(3, 4))


def test_small_powers_and_divisions():
    ops = same_results(lambda x: [ew("pow", x, 2.0), ew("pow", x, 3.0), ew("div", x, 8.0), ew("div", x, 6.0), ew("max", x, 0.0)],
                       [Simplify()], sample(4, 5))
    assert ops["div"] == 1 and ops["relu"] == 1 and not ops["pow"]


# -- transposes ---------------------------------------------------------------------------------------------------------


def test_matmul_reads_transposed_keys():
    def build(q, k):
        k = graph.reshape(graph.transpose(k, perm=[0, 2, 1, 3]), shape=[3, 5, 4])
        k = graph.reshape(graph.transpose(k, perm=[0, 2, 1]), shape=[1, 3, 4, 5])
        return graph.matmul(ew("mul", q, 0.35), ew("mul", k, 0.35))

    ops = same_results(build, [Simplify(), SinkTransposes()], sample(1, 3, 5, 4), sample(1, 5, 3, 4, seed=1))
    assert ops["transpose"] == 1  # heads to the front; the swap is the matmul's


def test_weights_are_transposed_ahead_of_time():
    ops = ops_after(lambda x: graph.matmul(x, graph.transpose(weight("w", 6, 4), perm=[1, 0])), [Simplify()], [2, 4])
    assert ops["known"] == 2


def test_transposes_cancel_through_a_block():
    """Norm over channels of an image, bias, concat, pad, softmax, reduction: everything runs in the order of the input."""
    def build(x):
        y = graph.transpose(x, perm=[0, 3, 1, 2])
        y = ew("add", ew("relu", y), weight("b", 6, 1, 1))
        y = graph.concat(y, ew("exp", y), axis=1)
        y = graph.pad(y, low=[0, 0, 1, 0], high=[0, 0, 0, 1])
        y = graph.softmax(graph.pool(y, kind="max", kernel=[2, 2], strides=[1, 1], dilations=[1, 1], axis=2), axis=1)
        return graph.transpose(graph.slice(y, starts=[0, 1, 0, 0], sizes=[1, 6, 3, 2], steps=[1, 2, 1, 1]), perm=[0, 2, 3, 1])

    assert not same_results(build, [Simplify(), SinkTransposes()], sample(1, 3, 4, 6))["transpose"]


def test_transposes_sink_into_a_reduction():
    def build(x):
        y = ew("relu", graph.transpose(x, perm=[0, 3, 1, 2]))
        return graph.reduce(y, kind="mean", axes=[2, 3])

    assert not same_results(build, [SinkTransposes()], sample(2, 3, 4, 5))["transpose"]


def test_a_transpose_that_nothing_cancels_stays():
    ops = ops_after(lambda x: ew("relu", graph.transpose(x, perm=[1, 0])), [SinkTransposes()], [3, 4])
    assert ops["transpose"] == 1


def test_rotary_embedding_is_transposed_once():
    def build(x):
        x = graph.transpose(x, perm=[0, 2, 1, 3])
        a, b = (graph.slice(x, starts=[0, 0, 0, s], sizes=[1, 2, 5, 2], steps=[1] * 4) for s in (0, 2))
        turned = graph.concat(ew("neg", b), a, axis=3)
        return ew("add", ew("mul", x, weight("cos", 1, 1, 5, 4)), ew("mul", turned, weight("sin", 1, 1, 5, 4)))

    assert same_results(build, [Simplify(), SinkTransposes()], sample(1, 5, 2, 4))["transpose"] == 1


# -- scales -------------------------------------------------------------------------------------------------------------


def batch_norm(y: ir.Value, channels: int, *, name: str = "") -> ir.Value:
    ones = [1] * (y.type.rank - 2)
    s = ew("div", weight(f"gamma{name}", channels), ew("sqrt", ew("add", weight(f"var{name}", channels), 1e-5)))
    t = ew("sub", weight(f"beta{name}", channels), ew("mul", weight(f"mean{name}", channels), s))
    return ew("add", ew("mul", y, graph.reshape(s, shape=[channels, *ones])), graph.reshape(t, shape=[channels, *ones]))


@pytest.mark.parametrize("bias", [False, True])
def test_batch_norm_goes_into_a_convolution(bias):
    def build(x):
        y = graph.conv(x, weight("w", 6, 2, 3, 3), strides=[1, 1], dilations=[1, 1], groups=2)
        return batch_norm(ew("add", y, weight("b", 6, 1, 1)) if bias else y, 6)

    ops = same_results(build, [FoldScales()], sample(1, 4, 5, 5))
    assert ops["add"] == 1 and not ops["mul"]


@pytest.mark.parametrize("groups", [1, 2])
def test_batch_norm_goes_into_a_transposed_convolution(groups):
    def build(x):
        y = graph.conv_transpose(x, weight("w", 4, 6 // groups, 3), strides=[2], dilations=[1], pads=[1], size=[9], groups=groups)
        return batch_norm(y, 6)

    ops = same_results(build, [FoldScales()], sample(1, 4, 5))
    assert ops["add"] == 1 and not ops["mul"]


@pytest.mark.parametrize("transposed", [False, True])
def test_factors_go_into_a_matmul(transposed):
    def build(x):
        y = graph.matmul(x, weight("w", 6, 4) if transposed else weight("w", 4, 6), transpose_b=transposed)
        return [ew("div", ew("mul", y, weight("s", 6)), 3.0), ew("mul", graph.matmul(weight("v", 5, 3), x), weight("r", 5, 1))]

    ops = same_results(build, [FoldScales()], sample(3, 4))
    assert not ops["mul"] and not ops["div"] and ops["matmul"] == 2


def test_a_factor_is_not_folded_where_somebody_else_reads_the_product():
    def build(x):
        y = graph.matmul(x, weight("w", 4, 6))
        return [y, ew("mul", y, weight("s", 6))]

    assert ops_after(build, [FoldScales()], [3, 4])["mul"] == 1


def test_a_factor_that_is_computed_stays():
    def build(x, s):
        return ew("mul", graph.matmul(x, weight("w", 4, 6)), s)

    assert ops_after(build, [FoldScales()], [3, 4], [6])["mul"] == 1


# -- dce, cse, time -----------------------------------------------------------------------------------------------------

LOOP = """
func.func @main(%x: tensor<4xf32>, %n: tensor<3x4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
  %a = "graph.elementwise"(%x) {fn = "exp"} : (tensor<4xf32>) -> tensor<4xf32>
  %r = "flow.loop"(%a, %n) ({
  ^bb0(%i: tensor<i64>, %s: tensor<4xf32>, %xi: tensor<4xf32>):
    %b = "graph.elementwise"(%x) {fn = "exp"} : (tensor<4xf32>) -> tensor<4xf32>
    %c = "graph.elementwise"(%s, %b) {fn = "add"} : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
    %d = "graph.elementwise"(%s, %b) {fn = "add"} : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
    %e = "graph.elementwise"(%c) {fn = "neg"} : (tensor<4xf32>) -> tensor<4xf32>
    "flow.yield"(%d) : (tensor<4xf32>) -> ()
  }) {trip = 3, carried = 1} : (tensor<4xf32>, tensor<3x4xf32>) -> tensor<4xf32>
  %unused = "flow.loop"(%a, %n) ({
  ^bb0(%i: tensor<i64>, %s: tensor<4xf32>, %xi: tensor<4xf32>):
    "flow.yield"(%s) : (tensor<4xf32>) -> ()
  }) {trip = 3, carried = 1} : (tensor<4xf32>, tensor<3x4xf32>) -> tensor<4xf32>
  return %r, %a : tensor<4xf32>, tensor<4xf32>
}
"""


def test_dce_and_cse_work_inside_flow_regions():
    with make_context():
        module = ir.Module.parse(LOOP)
        run_passes(module, [Dce(), Cse()])
        assert count(module) == {"exp": 1, "add": 1}
        assert str(module).count("flow.loop") == 1


INVARIANT = """
func.func @main(%x: tensor<4x6xf32>, %s: tensor<6x4xf32>) -> tensor<6x4xf32> {
  %w = "graph.weight"() {key = "w"} : () -> tensor<4x4xf32>
  %f = "graph.weight"() {key = "f"} : () -> tensor<4xf32>
  %t = "graph.transpose"(%x) {perm = [1, 0]} : (tensor<4x6xf32>) -> tensor<6x4xf32>
  %m = "graph.matmul"(%t, %w) : (tensor<6x4xf32>, tensor<4x4xf32>) -> tensor<6x4xf32>
  %r = "flow.loop"(%s) ({
  ^bb0(%i: tensor<i64>, %c: tensor<6x4xf32>):
    %a = "graph.elementwise"(%t) {fn = "exp"} : (tensor<6x4xf32>) -> tensor<6x4xf32>
    %v = "graph.reshape"(%a) {shape = [24]} : (tensor<6x4xf32>) -> tensor<24xf32>
    %u = "graph.reduce"(%v) {kind = "sum", axes = [0]} : (tensor<24xf32>) -> tensor<f32>
    %z = "graph.slice"(%t) {starts = [0, 0], sizes = [1, 4], steps = [1, 1]} : (tensor<6x4xf32>) -> tensor<1x4xf32>
    %d = "graph.elementwise"(%m, %f) {fn = "mul"} : (tensor<6x4xf32>, tensor<4xf32>) -> tensor<6x4xf32>
    %e = "graph.elementwise"(%c, %d) {fn = "add"} : (tensor<6x4xf32>, tensor<6x4xf32>) -> tensor<6x4xf32>
    %g = "graph.elementwise"(%e, %u) {fn = "add"} : (tensor<6x4xf32>, tensor<f32>) -> tensor<6x4xf32>
    %h = "graph.elementwise"(%g, %z) {fn = "add"} : (tensor<6x4xf32>, tensor<1x4xf32>) -> tensor<6x4xf32>
    "flow.yield"(%h) : (tensor<6x4xf32>) -> ()
  }) {trip = 3, carried = 1} : (tensor<6x4xf32>) -> tensor<6x4xf32>
  return %r : tensor<6x4xf32>
}
"""


def test_work_does_not_move_into_a_loop():
    """Transposes and matmuls before it run once."""
    with make_context():
        module = ir.Module.parse(INVARIANT)
        run_passes(module, [Simplify(), SinkTransposes(), FoldScales(), Simplify()])
        before, _, body = str(module).partition("flow.loop")
        assert "graph.transpose" in before and "graph.matmul" in before
        assert "graph.transpose" not in body and "graph.matmul" not in body


def test_two_thousand_ops_are_quick():
    """The budget is 0.2 s per pass on an idle machine."""
    def build(x):
        for i in range(250):
            y = graph.transpose(graph.reshape(x, shape=[4, 2, 8]), perm=[1, 0, 2])
            y = graph.reshape(graph.transpose(ew("mul", y, 0.5), perm=[1, 0, 2]), shape=[4, 16])
            x = ew("add", graph.matmul(y, weight(f"w{i}", 16, 16)), x)
        return x

    with make_context(), ir.Location.unknown():
        module = build_module(build, [TensorType((4, 16), F32)])
        for p in (Dce(), Cse(), Simplify(), SinkTransposes(), Recognise(), FoldScales()):
            start = time.perf_counter()
            run_passes(module, [p])
            assert time.perf_counter() - start < 3, p.name
        assert count(module)["transpose"] == 0


def test_scalars_of_rank_one_are_scalars():
    ops = ops_after(lambda x: ew("add", ew("mul", x, graph.constant(np.ones(1, np.float32))), scalar(0)), [Simplify()], [2, 3])
    assert not ops
