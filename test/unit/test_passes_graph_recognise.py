"""What exporters write out is found, in every spelling, and computes the same.

The layers follow real exports op for op: torch.onnx dynamo at opset 18 and 23, TorchScript at opset 17, HF bert, gpt2 and llama,
torchvision vit and swin, timm mobilevit.
"""

from math import inf, pi, sqrt

import numpy as np
import pytest
from graph_passes import ew, ops_after, same_results, sample, weight

from mlc.dialects import graph
from mlc.dtypes import BOOL, F16, F32
from mlc.ir.mlir import ir
from mlc.passes.cleanup import Cse
from mlc.passes.graph.recognise import Recognise
from mlc.passes.graph.simplify import Simplify
from mlc.passes.graph.sink import SinkTransposes

PASSES = (Cse(), Simplify(), SinkTransposes(), Recognise(), Simplify())
K, C = sqrt(2 / pi), 0.044715

# -- activations --------------------------------------------------------------------------------------------------------

def by_tanh(x: ir.Value, inner: ir.Value) -> ir.Value:
    return ew("mul", ew("mul", x, 0.5), ew("add", ew("tanh", inner), 1.0))


GELU = {
    "dynamo": lambda x: ew("mul", x, ew("mul", 0.5, ew("add", ew("erf", ew("div", x, 1.4142135)), 1.0))),
    "torchscript": lambda x: ew("mul", ew("mul", x, ew("add", ew("erf", ew("div", x, 1.4142135)), 1.0)), 0.5),
    "half first": lambda x: ew("mul", ew("mul", 0.5, x), ew("add", 1.0, ew("erf", ew("mul", x, 0.70710677)))),
    "written digits": lambda x: ew("mul", ew("mul", x, 0.5), ew("add", ew("erf", ew("mul", 0.70711, x)), 1.0)),
    "half inside": lambda x: ew("mul", x, ew("add", ew("mul", 0.5, ew("erf", ew("mul", x, 0.70710677))), 0.5)),
    "distributed": lambda x: ew("add", ew("mul", x, 0.5), ew("mul", ew("mul", x, 0.5), ew("erf", ew("div", x, 1.4142135)))),
}
GELU_TANH = {
    "gpt2": lambda x: by_tanh(x, ew("mul", ew("add", x, ew("mul", ew("pow", x, 3.0), C)), K)),
    "products": lambda x: by_tanh(x, ew("mul", K, ew("add", x, ew("mul", C, ew("mul", x, ew("mul", x, x)))))),
    "factored": lambda x: by_tanh(x, ew("mul", ew("mul", x, K), ew("add", 1.0, ew("mul", ew("mul", x, x), C)))),
    "distributed": lambda x: by_tanh(x, ew("add", ew("mul", x, K), ew("mul", ew("pow", x, 3.0), K * C))),
}
OTHERS = {
    "swish": lambda x: ew("mul", ew("sigmoid", x), x),
    "swish, exp": lambda x: ew("div", x, ew("add", 1.0, ew("exp", ew("neg", x)))),
    "swish, sigmoid written out": lambda x: ew("mul", x, ew("div", 1.0, ew("add", ew("exp", ew("neg", x)), 1.0))),
    "swish, quick gelu": lambda x: ew("mul", x, ew("sigmoid", ew("mul", 1.702, x))),
    "hard_swish": lambda x: ew("div", ew("mul", x, ew("min", ew("max", ew("add", x, 3.0), 0.0), 6.0)), 6.0),
    "hard_swish, op": lambda x: ew("mul", x, ew("hard_sigmoid", x, params=[1 / 6, 0.5])),
    "hard_swish, other order": lambda x: ew("mul", ew("div", ew("max", ew("min", ew("add", x, 3.0), 6.0), 0.0), 6.0), x),
    "hard_sigmoid": lambda x: ew("div", ew("min", ew("max", ew("add", x, 3.0), 0.0), 6.0), 6.0),
    "mish": lambda x: ew("mul", x, ew("tanh", ew("softplus", x))),
    "sigmoid": lambda x: ew("reciprocal", ew("add", 1.0, ew("exp", ew("mul", x, -1.0)))),
}


def test_gelu_in_every_spelling():
    """Of an x that is itself a sum, as behind a biased linear layer; its product with another value (GEGLU) stays outside."""
    def build(x, y):
        x = ew("add", x, weight("b", 5))
        return [ew("mul", spelling(x), y) for spelling in GELU.values()]

    ops = same_results(build, PASSES, sample(3, 5), sample(3, 5, seed=1))
    assert ops["gelu"] >= 1 and ops["erf"] == 0


def test_gelu_by_tanh_in_every_spelling():
    ops = same_results(lambda x: [spelling(ew("mul", x, x)) for spelling in GELU_TANH.values()], PASSES, sample(3, 5))
    assert ops["gelu_tanh"] >= 1 and ops["tanh"] == 0


@pytest.mark.parametrize("name", [n for n in OTHERS if n != "swish, exp"])
def test_other_activations(name):
    ops = ops_after(OTHERS[name], PASSES, [3, 5])
    assert ops == {name.partition(",")[0]: 1}


def test_activations_compute_the_same():
    same_results(lambda x: [spelling(x) for spelling in OTHERS.values()], PASSES, 3 * sample(5, 7))


@pytest.mark.parametrize("wrong", [
    lambda x: ew("mul", x, ew("mul", 0.5, ew("add", ew("erf", ew("div", x, 1.5)), 1.0))),
    lambda x: ew("mul", x, ew("add", ew("erf", ew("div", x, 1.4142135)), 1.0)),
    lambda x: ew("mul", ew("neg", x), ew("mul", 0.5, ew("add", ew("erf", ew("div", x, 1.4142135)), 1.0))),
    lambda x: ew("mul", x, ew("sigmoid", ew("add", x, 1.0))),
    lambda x: ew("mul", x, ew("tanh", x)),
    lambda x: ew("div", ew("mul", x, ew("min", ew("max", ew("add", x, 3.0), 0.0), 5.0)), 6.0),
])
def test_near_misses_stay(wrong):
    ops = ops_after(wrong, PASSES, [3, 5])
    assert not {"gelu", "swish", "gelu_tanh", "mish", "hard_swish", "hard_sigmoid"} & set(ops)


# -- norms and softmax --------------------------------------------------------------------------------------------------


def mean(x: ir.Value, axes: list[int] | None = None) -> ir.Value:
    return graph.reduce(x, kind="mean", axes=axes or [x.type.rank - 1], keepdims=True)


def centred(x: ir.Value, axes: list[int] | None = None) -> ir.Value:
    return ew("sub", x, mean(x, axes))


NORMS = {
    "div sqrt": lambda d, v: ew("div", d, ew("sqrt", v)),
    "reciprocal": lambda d, v: ew("mul", d, ew("reciprocal", ew("sqrt", v))),
    "div one": lambda d, v: ew("mul", ew("div", 1.0, ew("sqrt", v)), d),
    "rsqrt": lambda d, v: ew("mul", ew("rsqrt", v), d),
    "pow": lambda d, v: ew("mul", d, ew("pow", v, -0.5)),
    "pow half": lambda d, v: ew("div", d, ew("pow", v, 0.5)),
}


@pytest.mark.parametrize("spelling", NORMS)
@pytest.mark.parametrize("square", ["pow", "mul"])
def test_norms(spelling, square):
    def squared(d):
        return ew("pow", d, 2.0) if square == "pow" else ew("mul", d, d)

    def build(x):
        d = centred(x)
        y = NORMS[spelling](d, ew("add", mean(squared(d)), 1e-5))
        y = ew("add", ew("mul", y, weight("gamma", 8)), weight("beta", 8))
        return NORMS[spelling](y, ew("add", 1e-6, mean(squared(y))))

    assert ops_after(build, PASSES, [2, 8]) == {"layer_norm": 1, "rms_norm": 1, "mul": 1, "add": 1, "known": 2}


def test_norms_compute_the_same():
    def build(x):
        d = centred(x)
        rms = ew("mul", x, ew("reciprocal", ew("sqrt", ew("add", mean(ew("mul", x, x)), 1e-2))))
        both = centred(x, [1, 2])
        return [ew("div", d, ew("sqrt", ew("add", mean(ew("pow", d, 2.0)), 1e-2))), rms,
                ew("div", both, ew("sqrt", ew("add", mean(ew("mul", both, both), [1, 2]), 1e-2)))]

    ops = same_results(build, PASSES, sample(3, 4, 8))
    assert ops == {"layer_norm": 2, "rms_norm": 1}


def test_norm_over_channels_of_an_image():
    """NAFNet and ConvNeXt: the channels go last, where a channels-last network has them anyway."""
    def build(x):
        d = centred(x, [1])
        return ew("div", d, ew("sqrt", ew("add", mean(ew("pow", d, 2.0), [1]), 1e-6)))

    assert same_results(build, PASSES, sample(1, 6, 3, 4)) == {"layer_norm": 1, "transpose": 2}


def test_norm_of_another_mean_stays():
    def build(x):
        d = ew("sub", x, mean(x, [0]))
        return ew("div", d, ew("sqrt", ew("add", mean(ew("mul", d, d)), 1e-6)))

    ops = ops_after(build, PASSES, [4, 8])
    assert ops["layer_norm"] == 0 and ops["rms_norm"] == 1


def test_norm_in_f32_of_narrow_floats():
    def build(x):
        wide = graph.cast(x, F32)
        return graph.cast(ew("mul", wide, ew("rsqrt", ew("add", mean(ew("mul", wide, wide)), 1e-6))), F16)

    assert ops_after(build, PASSES, [4, 8], dtype=F16) == {"rms_norm": 1}


def written_softmax(x: ir.Value) -> ir.Value:
    axes = [x.type.rank - 1]
    e = ew("exp", ew("sub", x, graph.reduce(x, kind="max", axes=axes, keepdims=True)))
    return ew("div", e, graph.reduce(e, kind="sum", axes=axes, keepdims=True))


def test_softmax_written_out():
    assert same_results(written_softmax, PASSES, sample(3, 7)) == {"softmax": 1}


def test_softmax_without_its_maximum_stays():
    """It overflows where softmax does not."""
    def build(x):
        e = ew("exp", x)
        return ew("div", e, graph.reduce(e, kind="sum", axes=[1], keepdims=True))

    assert ops_after(build, PASSES, [3, 7])["softmax"] == 0


# -- attention ----------------------------------------------------------------------------------------------------------

B, H, S, D = 1, 2, 5, 4
SEEN = ("seen", B, 1, S, S)


def split(x: ir.Value, name: str, n: int = H) -> ir.Value:
    return graph.reshape(graph.matmul(x, weight(name, H * D, n * D)), shape=[B, S, n, D])


def front(x: ir.Value) -> ir.Value:
    return graph.transpose(x, perm=[0, 2, 1, 3])


def joined(y: ir.Value) -> ir.Value:
    return graph.reshape(front(y), shape=[B, S, H * D])


def hiding(low: float) -> ir.Value:
    return ew("where", weight(*SEEN, dtype=BOOL), 0.0, low)


def guarded(p: ir.Value) -> ir.Value:
    return ew("where", graph.elementwise("is_nan", p), 0.0, p)


def swapped_flat(k: ir.Value) -> ir.Value:
    """k^T as the dynamo exporter writes it: heads flattened, swapped, and back."""
    n = k.type.shape[1]
    return graph.reshape(graph.transpose(graph.reshape(k, shape=[n, S, D]), perm=[0, 2, 1]), shape=[B, n, D, S])


def dynamo18(x: ir.Value, low: float = -3.4e38) -> ir.Value:
    """Bert, gpt2, vit by torch.onnx.export(dynamo=True), opset 18: scale on both sides, additive mask, NaN guard."""
    q, k, v = (front(split(x, n)) for n in "qkv")
    s = graph.matmul(ew("mul", q, D**-0.25), ew("mul", swapped_flat(k), D**-0.25))
    return joined(graph.matmul(guarded(graph.softmax(ew("add", s, hiding(low)), axis=3)), v))


def torchscript17(x: ir.Value) -> ir.Value:
    """Bert by TorchScript, opset 17: keys transposed at once, mask of -inf, NaN guard."""
    q, v = front(split(x, "q")), front(split(x, "v"))
    k = graph.transpose(split(x, "k"), perm=[0, 2, 3, 1])
    s = ew("add", graph.matmul(ew("mul", q, D**-0.25), ew("mul", k, D**-0.25)), hiding(-inf))
    return joined(graph.matmul(guarded(graph.softmax(s, axis=3)), v))


def hf_eager(x: ir.Value) -> ir.Value:
    """HF's eager attention: scores divided, mask added, softmax written out."""
    q, k, v = (front(split(x, n)) for n in "qkv")
    s = ew("add", ew("div", graph.matmul(q, graph.transpose(k, perm=[0, 1, 3, 2])), sqrt(D)), hiding(-1e4))
    return joined(graph.matmul(written_softmax(s), v))


def masked_fill(x: ir.Value) -> ir.Value:
    """Scores replaced where hidden."""
    q, k, v = (front(split(x, n)) for n in "qkv")
    s = graph.matmul(ew("mul", q, D**-0.5), graph.transpose(k, perm=[0, 1, 3, 2]))
    return joined(graph.matmul(graph.softmax(ew("where", weight(*SEEN, dtype=BOOL), s, -1e9), axis=3), v))


def mobilevit(x: ir.Value) -> ir.Value:
    q, k, v = front(split(x, "q")), graph.transpose(split(x, "k"), perm=[0, 2, 3, 1]), front(split(x, "v"))
    return joined(graph.matmul(graph.softmax(ew("div", graph.matmul(q, k), sqrt(D)), axis=3), v))


def llama(x: ir.Value) -> ir.Value:
    """Grouped heads: keys and values expanded, and the keys transposed in between."""
    q = front(split(x, "q"))

    def repeated(name: str) -> ir.Value:
        one = graph.reshape(front(split(x, name, 1)), shape=[B, 1, 1, S, D])
        return graph.broadcast(one, shape=[B, 1, H, S, D])

    k = graph.reshape(repeated("k1"), shape=[H, S, D])
    k = graph.reshape(graph.transpose(k, perm=[0, 2, 1]), shape=[B, H, D, S])
    s = ew("add", graph.matmul(ew("mul", q, D**-0.25), ew("mul", k, D**-0.25)), weight("mask", 1, 1, S, S))
    return joined(graph.matmul(guarded(graph.softmax(s, axis=3)), graph.reshape(repeated("v1"), shape=[B, H, S, D])))


def llama_rotated(x: ir.Value) -> ir.Value:
    """As `llama`, with keys that come out of a sum of two transposes (as rotary embeddings leave them)."""
    q = front(split(x, "q"))

    def repeated(t: ir.Value) -> ir.Value:
        return graph.broadcast(graph.reshape(t, shape=[B, 1, 1, S, D]), shape=[B, 1, H, S, D])

    a, b = front(split(x, "k1", 1)), front(split(x, "k2", 1))
    k = ew("add", ew("mul", a, weight("cos", 1, 1, S, D)), ew("mul", b, weight("sin", 1, 1, S, D)))
    k = graph.reshape(graph.transpose(graph.reshape(repeated(k), shape=[H, S, D]), perm=[0, 2, 1]), shape=[B, H, D, S])
    p = guarded(graph.softmax(graph.matmul(ew("mul", q, D**-0.25), ew("mul", k, D**-0.25)), axis=3))
    return joined(graph.matmul(p, graph.reshape(repeated(front(split(x, "v1", 1))), shape=[B, H, S, D])))


def swin(x: ir.Value) -> ir.Value:
    """Windows (here of a batch of one): a bias per head, then a mask per window, added in five dimensions."""
    q, k, v = (front(split(x, n)) for n in "qkv")
    s = ew("add", graph.matmul(ew("mul", q, D**-0.5), graph.transpose(k, perm=[0, 1, 3, 2])), weight("bias", 1, H, S, S))
    s = ew("add", graph.reshape(s, shape=[1, B, H, S, S]), weight("windows", 1, B, 1, S, S))
    return joined(graph.matmul(graph.softmax(graph.reshape(s, shape=[B, H, S, S]), axis=3), v))


def restormer(x: ir.Value) -> ir.Value:
    """A learnt temperature for each head."""
    q, k, v = (front(split(x, n)) for n in "qkv")
    s = ew("mul", graph.matmul(q, graph.transpose(k, perm=[0, 1, 3, 2])), weight("temperature", H, 1, 1))
    return joined(graph.matmul(graph.softmax(s, axis=3), v))


def upcast(x: ir.Value) -> ir.Value:
    """Softmax in a wider type than the rest."""
    q, k, v = (front(split(x, n)) for n in "qkv")
    s = graph.cast(ew("mul", graph.matmul(q, graph.transpose(k, perm=[0, 1, 3, 2])), 0.5), F32)
    return joined(graph.matmul(graph.softmax(s, axis=3), v))


def heads_as_batch(x: ir.Value) -> ir.Value:
    """In bmm style: [B*H, S, D]."""
    q, k, v = (graph.reshape(front(split(x, n)), shape=[B * H, S, D]) for n in "qkv")
    p = graph.softmax(ew("mul", graph.matmul(q, graph.transpose(k, perm=[0, 2, 1])), 0.5), axis=2)
    return joined(graph.reshape(graph.matmul(p, v), shape=[B, H, S, D]))


STYLES = {f.__name__: f for f in (dynamo18, torchscript17, hf_eager, masked_fill, mobilevit, llama, llama_rotated, swin, restormer, upcast,
                                  heads_as_batch)}


@pytest.mark.parametrize("style", STYLES)
def test_attention(style):
    ops = same_results(STYLES[style], PASSES, sample(B, S, H * D))
    assert ops["attention"] == 1 and ops["matmul"] == (4 if style == "llama_rotated" else 3) and ops["softmax"] == 0
    assert ops["transpose"] <= 4 and ops["broadcast"] == 0 and ops["where"] == 0
    assert ops["mul"] == {"restormer": 1, "llama_rotated": 2}.get(style, 0)


def test_shared_heads_of_an_attention_op():
    """Llama at opset 23: the op is there, over expanded keys and values."""
    def build(q, k, v):
        def repeated(t):
            return graph.reshape(graph.broadcast(graph.reshape(t, shape=[1, 2, 1, S, D]), shape=[1, 2, 3, S, D]), shape=[1, 6, S, D])

        return graph.attention(q, repeated(k), repeated(v), scale=0.5)

    ops = same_results(build, PASSES, sample(1, 6, S, D), sample(1, 2, S, D, seed=1), sample(1, 2, S, D, seed=2))
    assert ops == {"attention": 1}


def all_hidden(x: ir.Value, seen: ir.Value, low: float, guard: bool) -> ir.Value:
    s = ew("add", graph.matmul(x, x, transpose_b=True), ew("where", seen, 0.0, low))
    p = graph.softmax(s, axis=3)
    return graph.matmul(guarded(p) if guard else p, x)


@pytest.mark.parametrize("low", [-inf, -3.4028234663852886e38])
def test_rows_that_see_nothing(low):
    """The guard means zeros, which is what the op gives; a finite mask leaves the mean."""
    seen = np.zeros((1, 1, S, S), np.bool_)
    seen[..., 1:, :2] = True
    ops = same_results(lambda x, s: all_hidden(x, s, low, guard=True), PASSES, sample(1, 1, S, D), seen)
    assert ops["attention"] == 1 and ops["is_nan"] == 0


def test_without_a_guard_a_run_time_mask_of_infinities_stays_written_out():
    """A row that sees nothing gives NaN there, and zeros in the op."""
    shapes = (np.zeros((1, 1, S, D), np.float32), np.zeros((1, 1, S, S), np.bool_))
    ops = same_results(lambda x, s: all_hidden(x, s, -inf, guard=False), PASSES, *shapes)
    assert ops["attention"] == 0 and ops["softmax"] == 1
    assert same_results(lambda x, s: all_hidden(x, s, -1e4, guard=False), PASSES, *shapes)["attention"] == 1


def test_wide_heads_stay_matmuls():
    def build(x):
        return graph.matmul(graph.softmax(graph.matmul(x, x, transpose_b=True), axis=3), x)

    assert ops_after(build, PASSES, [1, 1, 4, 64])["attention"] == 1
    assert ops_after(build, [Recognise(max_width=32)], [1, 1, 4, 64])["attention"] == 0


@pytest.mark.parametrize(("style", "gelu"), [(dynamo18, "dynamo"), (torchscript17, "torchscript")])
def test_a_bert_encoder(style, gelu):
    """Three layers: an attention and a gelu each, and two norms each."""

    def norm(x):
        d = centred(x)
        y = ew("div", d, ew("sqrt", ew("add", mean(ew("pow", d, 2.0)), 1e-12)))
        return ew("add", ew("mul", y, weight("gamma", H * D)), weight("beta", H * D))

    def build(x):
        for _ in range(3):
            x = norm(ew("add", x, graph.matmul(style(x), weight("o", H * D, H * D))))
            h = GELU[gelu](ew("add", graph.matmul(x, weight("up", H * D, 32)), weight("b1", 32)))
            x = norm(ew("add", x, graph.matmul(h, weight("down", 32, H * D))))
        return x

    ops = ops_after(build, PASSES, [B, S, H * D])
    assert (ops["attention"], ops["layer_norm"], ops["gelu"]) == (3, 6, 3)
    assert ops["matmul"] == 18 and ops["transpose"] == 12 and ops["mul"] == 6
