"""LSTM, GRU and RNN against onnxruntime: directions, lengths, initial states, peepholes, activations, clipping."""

import numpy as np
import pytest
from onnx_run import against_onnxruntime

RNG = np.random.default_rng(5)
STEPS, BATCH, WIDTH, HIDDEN = 6, 3, 5, 7


def data(*shape):
    return (RNG.standard_normal(shape) * 0.6).astype(np.float32)


def layer(gates, directions, *, lengths=False, initial=False, cell=False, peephole=False):
    rows = gates * HIDDEN
    return {"x": data(STEPS, BATCH, WIDTH), "w": data(directions, rows, WIDTH), "r": data(directions, rows, HIDDEN),
            "b": data(directions, 2 * rows), "n": np.array([6, 2, 4], np.int32) if lengths else None,
            "h": data(directions, BATCH, HIDDEN) if initial else None, "c": data(directions, BATCH, HIDDEN) if initial and cell else None,
            "p": data(directions, 3 * HIDDEN) if peephole else None}


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("lengths", [False, True])
def test_lstm(direction, lengths):
    inputs = layer(4, 1 + (direction == "bidirectional"), lengths=lengths, initial=True, cell=True, peephole=lengths)
    against_onnxruntime("LSTM", inputs, 3, direction=direction, hidden_size=HIDDEN, weights=("w", "r", "b", "p"))


def test_lstm_clip_coupled_and_activations():
    # onnxruntime takes input_forget without peepholes only.
    inputs = layer(4, 2, initial=True, cell=True)
    against_onnxruntime("LSTM", inputs, 3, direction="bidirectional", hidden_size=HIDDEN, clip=0.5, input_forget=1)
    against_onnxruntime("LSTM", inputs, 3, direction="bidirectional", hidden_size=HIDDEN,
                        activations=["HardSigmoid", "Softsign", "Tanh", "Sigmoid", "LeakyRelu", "ScaledTanh"],
                        activation_alpha=[0.3, 0.05, 0.7], activation_beta=[0.4, 0.9])


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("linear", [0, 1])
def test_gru(direction, linear):
    inputs = layer(3, 1 + (direction == "bidirectional"), lengths=bool(linear), initial=True)
    inputs = dict(list(inputs.items())[:6])
    against_onnxruntime("GRU", inputs, 2, direction=direction, hidden_size=HIDDEN, linear_before_reset=linear)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_rnn(direction):
    inputs = dict(list(layer(1, 1 + (direction == "bidirectional"), lengths=True, initial=True).items())[:6])
    count = 1 + (direction == "bidirectional")
    against_onnxruntime("RNN", inputs, 2, direction=direction, hidden_size=HIDDEN, activations=["Affine"] * count,
                        activation_alpha=[0.5] * count, activation_beta=[0.1] * count)
