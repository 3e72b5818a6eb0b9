"""onnxruntime's attention ops against onnxruntime, and ONNX's own against its cases."""

import numpy as np
import pytest
from onnx_run import against_onnxruntime, node_model, run_model

from mlc.errors import UnsupportedError

RNG = np.random.default_rng(7)
MS = "com.microsoft"


def data(*shape):
    return (RNG.standard_normal(shape) * 0.5).astype(np.float32)


@pytest.mark.parametrize("mask", [None, "lengths", "keys", "pairs"])
@pytest.mark.parametrize("causal", [0, 1])
def test_attention(mask, causal):
    batch, length, width = 2, 5, 12
    index = {None: None, "lengths": np.array([3, 5], np.int32), "keys": np.array([[1, 1, 0, 1, 1], [1, 1, 1, 0, 0]], np.int32),
             "pairs": RNG.integers(0, 2, (batch, length, length)).astype(np.int32) | np.eye(length, dtype=np.int32)}[mask]
    against_onnxruntime("Attention", {"x": data(batch, length, width), "w": data(width, 3 * width), "b": data(3 * width), "mask": index},
                        domain=MS, num_heads=3, unidirectional=causal, weights=("w", "b"))


def test_attention_with_past():
    batch, width, heads, past = 2, 12, 3, 4
    against_onnxruntime("Attention", {"x": data(batch, 1, width), "w": data(width, 3 * width), "b": data(3 * width), "mask": None,
                                      "past": data(2, batch, heads, past, width // heads)}, 2, domain=MS, num_heads=heads, unidirectional=1)


@pytest.mark.parametrize("form", ["flat", "cross"])
def test_multi_head_attention(form):
    batch, queries, keys, heads, width = 2, 4, 6, 3, 8
    q, k, v = data(batch, queries, heads * width), data(batch, keys, heads * width), data(batch, keys, heads * width)
    inputs = {"q": q, "k": k, "v": v, "bias": data(3 * heads * width), "mask": None, "added": data(1, heads, queries, keys)}
    if form == "cross":
        inputs.update(k=data(batch, heads, keys, width), v=data(batch, heads, keys, width), bias=None)
    against_onnxruntime("MultiHeadAttention", inputs, domain=MS, num_heads=heads)


def test_packed_multi_head_attention():
    """Which onnxruntime does on GPUs only."""
    batch, length, heads, width = 2, 5, 3, 8
    x = data(batch, length, heads, 3, width)
    q, k, v = np.moveaxis(x, 3, 0).transpose(0, 1, 3, 2, 4).astype(np.float64)
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(width)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    expected = (weights @ v).transpose(0, 2, 1, 3).reshape(batch, length, -1)
    (y,) = run_model(node_model("MultiHeadAttention", {"q": x}, domain=MS, num_heads=heads), {"q": x})
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    query, packed = np.ascontiguousarray(x[..., 0, :]).reshape(batch, length, -1), np.ascontiguousarray(x[..., 1:, :])
    (y,) = run_model(node_model("MultiHeadAttention", {"q": query, "k": packed}, domain=MS, num_heads=heads), {"q": query, "k": packed})
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_multi_head_attention_with_past_and_mask():
    batch, queries, past, heads, width = 2, 3, 5, 2, 8
    mask = np.ones((batch, past + queries), np.int32)
    mask[0, :2] = 0
    flat = data(batch, queries, heads * width)
    inputs = {"q": flat, "k": data(*flat.shape), "v": data(*flat.shape), "bias": None, "mask": mask, "added": None,
              "pk": data(batch, heads, past, width), "pv": data(batch, heads, past, width)}
    against_onnxruntime("MultiHeadAttention", inputs, 3, domain=MS, num_heads=heads, unidirectional=1)


def grouped(batch, queries, past, lengths, total, *, rotary=False, room=None):
    heads, groups, width = 4, 2, 16
    room = past if room is None else room
    inputs = {"q": data(batch, queries, heads * width), "k": data(batch, queries, groups * width),
              "v": data(batch, queries, groups * width),
              "pk": data(batch, groups, room, width) if room else None, "pv": data(batch, groups, room, width) if room else None,
              "lengths": np.array(lengths, np.int32), "total": np.array(total, np.int32)}
    if rotary:
        inputs.update(cos=data(32, width // 2), sin=data(32, width // 2))
    return inputs


OPTIONS = {"domain": MS, "num_heads": 4, "kv_num_heads": 2, "values": ("total",)}


@pytest.mark.parametrize("rotary", [False, True])
def test_grouped_prompt(rotary):
    against_onnxruntime("GroupQueryAttention", grouped(2, 6, 0, [5, 5], 6, rotary=rotary), 3, do_rotary=int(rotary), **OPTIONS)


@pytest.mark.parametrize("rotary", [False, True])
def test_grouped_step_of_one_sample(rotary):
    against_onnxruntime("GroupQueryAttention", grouped(1, 1, 7, [7], 8, rotary=rotary), 3, do_rotary=int(rotary), softcap=5.0, **OPTIONS)


def test_grouped_step_with_window():
    against_onnxruntime("GroupQueryAttention", grouped(1, 1, 7, [7], 8), 3, local_window_size=4, **OPTIONS)


@pytest.mark.parametrize("rotary", [False, True])
def test_grouped_samples_of_different_length_share_a_buffer(rotary):
    model = grouped(3, 1, 7, [7, 3, 5], 8, rotary=rotary, room=12)
    # The cache beyond a sample's length holds leftovers that differ; only what attention sees counts.
    against_onnxruntime("GroupQueryAttention", model, 3, compared=1, do_rotary=int(rotary), **OPTIONS)


def test_grouped_packed():
    inputs = grouped(1, 5, 0, [4], 5, rotary=True)
    inputs.update(q=data(1, 5, (4 + 2 * 2) * 16), k=None, v=None)
    against_onnxruntime("GroupQueryAttention", inputs, 3, do_rotary=1, rotary_interleaved=1, **OPTIONS)


@pytest.mark.parametrize("attribute", [{"k_quant_type": "PER_TENSOR"}, {"v_quant_type": "PER_CHANNEL"}, {"kv_cache_bit_width": 8}])
def test_grouped_refuses_a_quantised_cache(attribute):
    inputs = grouped(1, 1, 7, [7], 8)
    given = {name: a for name, a in inputs.items() if a is not None}
    with pytest.raises(UnsupportedError, match="quantised cache"):
        run_model(node_model("GroupQueryAttention", inputs, 3, domain=MS, num_heads=4, kv_num_heads=2, **attribute), given, ("total",))


def test_rotary():
    tables = {"cos": data(20, 8), "sin": data(20, 8)}
    against_onnxruntime("RotaryEmbedding", {"x": data(2, 6, 48), "ids": RNG.integers(0, 20, (2, 6)), **tables}, domain=MS, interleaved=1)
    against_onnxruntime("RotaryEmbedding", {"x": data(2, 3, 6, 16), "ids": np.array([4]), **tables}, domain=MS)
