"""The same model gives the same code in every process: no decision hangs on addresses or on the order of sets."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

BLOCK = """<ir_version: 10, opset_import: ["": 23]>
g (float16[2,40,96] x, float16[96,192] w, float16[192,96] v, float16[96] scale, float16[96] bias)
    => (float16[2,40,96] y, float16[2,40,96] n)
{
  a = Attention <q_num_heads = 3, kv_num_heads = 3, is_causal = 1> (x, x, x)
  r = Add(x, a)
  n = LayerNormalization(r, scale, bias)
  h = MatMul(n, w)
  g = Gelu(h)
  m = MatMul(g, v)
  y = Add(r, m)
}"""
RESIDUAL = """<ir_version: 10, opset_import: ["": 20]>
g (float16[2,16,20,20] x, float16[32,16,3,3] w, float16[32,32,3,3] v, float16[32,16,1,1] s) => (float16[2,32,1,1] y, float16[2,10,10,8] top)
{
  c = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w)
  r = Relu(c)
  d = Conv <pads = [1, 1, 1, 1]> (r, v)
  e = Conv <strides = [2, 2]> (x, s)
  a = Add(d, e)
  b = Relu(a)
  y = GlobalAveragePool(b)
  t = Transpose <perm = [0, 2, 3, 1]> (b)
  k = Constant <value_ints = [8]> ()
  top, i = TopK(t, k)
}"""


@pytest.mark.parametrize("target", ["cpu:x86-64-v3", "cuda:sm_90a", "rocm:gfx942"])
def test_two_processes_agree(target: str, tmp_path: Path) -> None:
    model = parser.parse_model(BLOCK)
    rng = np.random.default_rng(0)
    weights = [i for i in model.graph.input if i.name in ("w", "v")]
    for value in weights:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        model.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float16), value.name))
        model.graph.input.remove(value)
    onnx.save(model, tmp_path / "block.onnx")
    onnx.save(parser.parse_model(RESIDUAL), tmp_path / "residual.onnx")
    for name in ("block", "residual"):
        first, second = (_compiled(tmp_path / f"{name}.onnx", target, seed, tmp_path) for seed in (1, 2))
        assert first == second


def _compiled(path: Path, target: str, seed: int, folder: Path) -> bytes:
    """The artifact of a compile in a process of its own, whose strings hash in their own way."""
    out = folder / f"{seed}.mlc"
    command = [sys.executable, "-m", "mlc.cli", "compile", str(path), "--target", target, "-o", str(out), "--no-cache"]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": str(seed)}, stdout=subprocess.DEVNULL)
    return out.read_bytes()
