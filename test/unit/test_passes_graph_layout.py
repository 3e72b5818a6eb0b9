"""Channels-last networks: what choose-layout leaves of the transposes, and that it computes the same."""

from collections.abc import Callable

import pytest
from graph_passes import ew, ops_after, same_results, sample, weight

from mlc.dialects import graph
from mlc.ir.mlir import ir
from mlc.passes.cleanup import Cse
from mlc.passes.graph.choose_layout import ChooseLayout
from mlc.passes.graph.fold_scales import FoldScales
from mlc.passes.graph.recognise import Recognise
from mlc.passes.graph.simplify import Simplify
from mlc.passes.graph.sink import SinkTransposes

PASSES = (Cse(), Simplify(), SinkTransposes(), Recognise(), FoldScales(), ChooseLayout(), Simplify(), Cse())


class Net:
    """Layers with weights of their own."""

    def __init__(self) -> None:
        self.n = 0

    def name(self) -> str:
        self.n += 1
        return f"w{self.n}"

    def conv(self, x: ir.Value, maps: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> ir.Value:
        channels, spatial, pad = x.type.shape[1], x.type.rank - 2, kernel // 2
        if pad:
            x = graph.pad(x, low=[0, 0, *[pad] * spatial], high=[0, 0, *[pad] * spatial])
        w = weight(self.name(), maps, channels // groups, *[kernel] * spatial)
        y = graph.conv(x, w, strides=[stride] * spatial, dilations=[1] * spatial, groups=groups)
        return self.norm(y, maps)

    def norm(self, y: ir.Value, maps: int) -> ir.Value:
        ones = [1] * (y.type.rank - 2)
        s, t = (graph.reshape(weight(self.name(), maps), shape=[maps, *ones]) for _ in range(2))
        return ew("add", ew("mul", y, ew("mul", s, 0.1)), t)


def max_pool(x: ir.Value) -> ir.Value:
    x = graph.pad(x, low=[0, 0, 1, 1], high=[0, 0, 1, 1], value=float("-inf"))
    return graph.pool(x, kind="max", kernel=[3, 3], strides=[2, 2], dilations=[1, 1], axis=2)


def classifier(x: ir.Value, classes: int = 10) -> ir.Value:
    spatial = list(range(2, x.type.rank))
    x = graph.reshape(graph.reduce(x, kind="mean", axes=spatial, keepdims=True), shape=list(x.type.shape[:2]))
    return graph.matmul(x, weight("classes", x.type.shape[1], classes))


def resnet(blocks: tuple[int, ...], width: int) -> Callable[[ir.Value], ir.Value]:
    def build(x):
        net = Net()
        x = max_pool(ew("relu", net.conv(x, width, 7, 2)))
        for stage, n in enumerate(blocks):
            for block in range(n):
                inner, stride = width << stage, 2 if stage and not block else 1
                y = ew("relu", net.conv(ew("relu", net.conv(x, inner)), inner, 3, stride))
                y = net.conv(y, 4 * inner)
                x = ew("relu", ew("add", y, x if block else net.conv(x, 4 * inner, 1, stride)))
        return classifier(x)

    return build


def test_resnet_50_has_one_transpose():
    ops = ops_after(resnet((3, 4, 6, 3), 64), PASSES, [1, 3, 224, 224])
    assert ops["transpose"] == 1 and ops["conv"] == 53 and ops["mul"] == 0 and ops["add"] == 53 + 16


def test_a_small_resnet_computes_the_same():
    assert same_results(resnet((1, 1), 2), PASSES, sample(1, 3, 17, 15))["transpose"] == 1


def test_layout_nchw_changes_nothing():
    ops = ops_after(resnet((1,), 2), [ChooseLayout(layout="nchw")], [1, 3, 16, 16])
    assert ops["transpose"] == 0


def test_an_unknown_layout_is_refused():
    with pytest.raises(ValueError, match="nchw or nhwc"):
        ChooseLayout(layout="chwn")


def test_a_network_without_convolutions_is_left_alone():
    ops = ops_after(lambda x: graph.matmul(graph.transpose(x, perm=[1, 0]), weight("w", 3, 2)), [ChooseLayout()], [3, 4])
    assert ops["transpose"] == 1


def test_dense_and_inverted_blocks():
    """Concats, depthwise and grouped convolutions, squeeze and excite, an upsampling by broadcast, a channel split."""
    def build(x):
        net = Net()
        a = ew("relu", net.conv(x, 6, 3))
        b = ew("min", ew("relu", net.conv(a, 6, 3, groups=6)), 6.0)
        c = graph.concat(a, b, net.conv(a, 4, 1, groups=2), axis=1)
        gate = ew("sigmoid", net.conv(graph.reduce(c, kind="mean", axes=[2, 3], keepdims=True), 16))
        c = ew("mul", c, gate)
        left, right = (graph.slice(c, starts=[0, s, 0, 0], sizes=[1, 8, 6, 5], steps=[1] * 4) for s in (0, 8))
        peak = graph.reduce(left, kind="max", axes=[2, 3], keepdims=True)
        c = ew("add", ew("mul", left, right), graph.broadcast(peak, shape=[1, 8, 6, 5]))
        return classifier(net.conv(c, 4, 3, 2))

    assert same_results(build, PASSES, sample(1, 3, 6, 5))["transpose"] == 1


def test_channel_shuffle_moves_each_half_once():
    """ShuffleNet: between units there is the shuffle itself, and nothing else to move."""
    def build(x):
        net = Net()
        x = net.conv(x, 8)
        for _ in range(3):
            left, right = (graph.slice(x, starts=[0, s, 0, 0], sizes=[1, 4, 6, 5], steps=[1] * 4) for s in (0, 4))
            x = graph.concat(left, ew("relu", net.conv(right, 4, 3, groups=4)), axis=1)
            x = graph.reshape(graph.transpose(graph.reshape(x, shape=[1, 2, 4, 6, 5]), perm=[0, 2, 1, 3, 4]), shape=[1, 8, 6, 5])
        return classifier(net.conv(x, 4))

    assert same_results(build, PASSES, sample(1, 3, 6, 5))["transpose"] == 1 + 5


def test_norm_over_channels_needs_no_transposes():
    """ConvNeXt and NAFNet."""
    def build(x):
        net = Net()
        x = net.conv(x, 6, 3)
        d = ew("sub", x, graph.reduce(x, kind="mean", axes=[1], keepdims=True))
        y = ew("div", d, ew("sqrt", ew("add", graph.reduce(ew("mul", d, d), kind="mean", axes=[1], keepdims=True), 1e-2)))
        y = net.conv(net.norm(y, 6), 6)
        return classifier(ew("add", x, y))

    ops = same_results(build, PASSES, sample(1, 3, 6, 5))
    assert ops["transpose"] == 1 and ops["layer_norm"] == 1


def test_patches_come_out_as_rows():
    """ViT: flattening the patches channels-last is a reshape."""
    def build(x):
        y = graph.conv(x, weight("w", 8, 3, 2, 2), strides=[2, 2], dilations=[1, 1])
        y = graph.transpose(graph.reshape(ew("add", y, weight("b", 8, 1, 1)), shape=[1, 8, 12]), perm=[0, 2, 1])
        return graph.matmul(y, weight("m", 8, 5))

    assert same_results(build, PASSES, sample(1, 3, 8, 6))["transpose"] == 1


@pytest.mark.parametrize("rank", [1, 3])
def test_other_ranks(rank):
    def build(x):
        net = Net()
        x = ew("relu", net.conv(x, 4, 3))
        return classifier(ew("add", x, net.conv(x, 4, 3)))

    assert same_results(build, PASSES, sample(1, 3, *[5] * rank))["transpose"] == 1


def test_transposed_convolutions():
    """A generator: from a vector (whose transpose is a view) to an image."""
    def build(x):
        net = Net()
        for maps, size, stride in ((8, 4, 1), (4, 8, 2), (3, 16, 2)):
            w = weight(net.name(), x.type.shape[1], maps, 4, 4)
            x = graph.conv_transpose(x, w, strides=[stride] * 2, dilations=[1, 1], pads=[stride - 1] * 2, size=[size] * 2)
            x = ew("relu", net.norm(x, maps))
        return x

    assert same_results(build, PASSES, sample(1, 6, 1, 1))["transpose"] == 1
