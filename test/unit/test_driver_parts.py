"""Weights are packed in parts: as many parts as it takes give the same program, and names of the model's own do no harm."""

import numpy as np
import pytest
from onnx_models import model

import mlc
from mlc import driver

BODY = """g (float[64, 128] x) => (float[64, 128] y, float[64, 128] z) {
    a = MatMul(x, w0) b = Relu(a) c = MatMul(b, w1) s = Add(w0, w1) y = MatMul(c, s) z = MatMul(b, s)
}"""


def weights(*names: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal((128, 128)).astype(np.float32) / 8 for name in names}


def test_parts_give_the_same_results(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(1).standard_normal((64, 128)).astype(np.float32)
    proto = model(BODY, **weights("w0", "w1"))
    whole = mlc.compile(proto, cache=False)(x)
    calls: list[int] = []
    monkeypatch.setattr(driver, "LEAST_PART", 1)
    monkeypatch.setattr(driver, "PARTS", 1 << 30)
    split = driver.split_constants
    monkeypatch.setattr(driver, "split_constants", lambda *args: calls.append(args[-1]) or split(*args))
    parts = mlc.compile(proto, cache=False)(x)
    assert len(calls) > 2  # the last one finds nothing left
    assert all(np.array_equal(a, b) for a, b in zip(whole, parts, strict=True))
    w = weights("w0", "w1")
    hidden = np.maximum(x @ w["w0"], 0)
    assert abs(parts[1] - hidden @ (w["w0"] + w["w1"])).max() < 1e-3


@pytest.mark.parametrize("taken", ["folded.2", "folded.3", "__pad0"])
def test_names_that_mlc_uses_itself(taken: str) -> None:
    x = np.ones((64, 128), np.float32)
    renamed = model(BODY, **weights("w0", "w1"))
    for node in renamed.graph.node:
        node.input[:] = [taken if name == "w1" else name for name in node.input]
    renamed.graph.initializer[1].name = taken
    plain = mlc.compile(model(BODY, **weights("w0", "w1")), cache=False)(x)
    assert all(np.array_equal(a, b) for a, b in zip(plain, mlc.compile(renamed, cache=False)(x), strict=True))


def test_a_weight_called_like_the_padding_can_be_saved(tmp_path) -> None:
    proto = model("g (float[3] x) => (float[3] y) { y = Add(x, __pad0) }", __pad0=np.arange(3, dtype=np.float32))
    proto.graph.initializer.extend(model("g (float[3] x) => (float[3] y) { y = Neg(x) }", v=np.ones(3, np.float32)).graph.initializer)
    mlc.compile(proto, cache=False).save(tmp_path / "m.mlc")
    assert mlc.load(tmp_path / "m.mlc")(np.zeros(3, np.float32))[0].tolist() == [0, 1, 2]
