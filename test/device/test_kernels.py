"""Every strategy for kernels on a GPU, on shapes that are ragged and small, against the same model in f64 on the CPU.

    python -m pytest -m gpu test/device/test_kernels.py
    python tools/gpu/sanitize.py test/device/test_kernels.py
"""

from dataclasses import dataclass, field
from math import prod

import ml_dtypes
import numpy as np
import pytest
from onnx import ModelProto, parser

import mlc

pytestmark = pytest.mark.gpu

TYPES = {"float": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "double": np.float64}
ALLOWED = {"float": 2e-5, "float16": 2e-3, "bfloat16": 1.6e-2, "double": 1e-12}
"""Largest error as a fraction of the result's largest value. Sums of 16-bit types are in f32, and results are rounded once: half an ulp of
the largest value is 5e-4 in f16. Factors that one kernel hands to the next are rounded, too."""


@dataclass(frozen=True)
class Case:
    """body: in ONNX's text form, with x, w, b, ... of `shapes` as inputs of the type under test and y as the result.

    whole: inputs of integers below a bound. Such inputs stand behind the others.
    """

    body: str
    shapes: dict[str, tuple[int, ...]]
    whole: dict[str, tuple[int, tuple[int, ...]]] = field(default_factory=dict)
    rank: int = 2
    result: str = ""

    def model(self, dtype: str) -> ModelProto:
        def declared(type_: str, name: str, shape: tuple[int, ...]) -> str:
            return f"{type_}[{','.join(map(str, shape))}] {name}"

        inputs = [*(declared(dtype, n, s) for n, s in self.shapes.items()), *(declared("int64", n, s) for n, (_, s) in self.whole.items())]
        result = declared(self.result or dtype, "y", ()).replace("[]", f"[{','.join(f'd{i}' for i in range(self.rank))}]")
        return parser.parse_model(f'<ir_version: 10, opset_import: ["": 23]> g ({", ".join(inputs)}) => ({result}) {{ {self.body} }}')

    def feeds(self, dtype: str) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(prod(map(prod, self.shapes.values())) % 1000)
        drawn = {n: rng.standard_normal(s).astype(TYPES[dtype]) for n, s in self.shapes.items()}
        return drawn | {n: rng.integers(0, below, s) for n, (below, s) in self.whole.items()}


MATMUL = "y = MatMul(x, w)"
LINEAR = "h = MatMul(x, w) s = Add(h, b) g = Gelu(s) y = Add(g, r)"
ATTENTION = "y = Attention <is_causal: int = {}, q_num_heads: int = {}, kv_num_heads: int = {}> (q, k, v)"


def attention(causal: int, heads: int, groups: int, depth: int, queries: int, keys: int) -> Case:
    shapes = {"q": (2, queries, heads * depth), "k": (2, keys, groups * depth), "v": (2, keys, groups * depth)}
    return Case(ATTENTION.format(causal, heads, groups), shapes, rank=3)


CASES = {
    "product": Case(MATMUL, {"x": (136, 200), "w": (200, 72)}),
    "product, odd": Case(MATMUL, {"x": (65, 131), "w": (131, 67)}),
    "product, large": Case(MATMUL, {"x": (384, 320), "w": (320, 512)}),
    "product, large and odd": Case(MATMUL, {"x": (391, 333), "w": (333, 517)}),
    "product, batched": Case(MATMUL, {"x": (3, 70, 96), "w": (3, 96, 50)}, rank=3),
    "product, transposed": Case("t = Transpose <perm = [1, 0]> (w) y = MatMul(x, t)", {"x": (130, 264), "w": (140, 264)}),
    "product, deep": Case(MATMUL, {"x": (64, 4096), "w": (4096, 64)}),
    "product, row": Case(MATMUL, {"x": (1, 1024), "w": (1024, 1000)}),
    "product, few rows": Case(MATMUL, {"x": (5, 768), "w": (768, 520)}),
    "product and epilogue": Case(LINEAR, {"x": (130, 256), "w": (256, 392), "b": (392,), "r": (130, 392)}),
    "convolution": Case("y = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w, b)",
                        {"x": (2, 24, 29, 31), "w": (40, 24, 3, 3), "b": (40,)}, rank=4),
    "convolution, few channels": Case("c = Conv <strides = [2, 2], pads = [3, 3, 3, 3]> (x, w) y = Relu(c)",
                                      {"x": (1, 3, 57, 61), "w": (64, 3, 7, 7)}, rank=4),
    "convolution, grouped": Case("y = Conv <group = 3, dilations = [2, 1], pads = [2, 1, 2, 1]> (x, w)",
                                 {"x": (1, 48, 20, 19), "w": (24, 16, 3, 3)}, rank=4),
    "convolution, depthwise": Case("y = Conv <group = 33, pads = [1, 1, 1, 1]> (x, w)", {"x": (2, 33, 17, 15), "w": (33, 1, 3, 3)}, rank=4),
    "convolution, transposed": Case("y = ConvTranspose <strides = [2, 2], output_padding = [1, 1]> (x, w)",
                                    {"x": (1, 16, 9, 11), "w": (16, 12, 3, 3)}, rank=4),
    "convolution, 3-d": Case("y = Conv <pads = [1, 1, 1, 1, 1, 1]> (x, w)", {"x": (1, 8, 7, 9, 10), "w": (16, 8, 3, 3, 3)}, rank=5),
    "pooling": Case("m = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (x) y = GlobalAveragePool(m)",
                    {"x": (2, 35, 33, 31)}, rank=4),
    "softmax": Case("y = Softmax(x)", {"x": (33, 257)}),
    "softmax, long": Case("y = Softmax(x)", {"x": (3, 20011)}),
    "softmax, columns": Case("y = Softmax <axis = 0> (x)", {"x": (300, 65)}),
    "norm": Case("s = Add(x, r) y = LayerNormalization(s, w, b)", {"x": (37, 776), "r": (37, 776), "w": (776,), "b": (776,)}),
    "norm, long": Case("y = RMSNormalization(x, w)", {"x": (3, 9001), "w": (9001,)}),
    "reduction": Case("y = ReduceSum <keepdims = 0, noop_with_empty_axes = 0> (x)", {"x": (517, 301)}, rank=0),
    "reduction, columns": Case("a = Constant <value_ints = [0]> () y = ReduceMax <keepdims = 0> (x, a)", {"x": (1003, 41)}, rank=1),
    "elementwise": Case("e = Erf(x) t = Tanh(w) u = Exp(e) v = Mul(u, t) y = Transpose <perm = [1, 0]> (v)", {"x": (67, 130), "w": (130,)}),
    "attention": attention(0, 4, 4, 64, 200, 200),
    "attention, causal": attention(1, 3, 3, 128, 150, 150),
    "attention, groups": attention(1, 8, 2, 32, 77, 77),
    "attention, depth 40": attention(0, 2, 2, 40, 64, 90),
    "attention, one query": attention(0, 8, 4, 128, 1, 500),
    "gather": Case("y = Gather <axis = 0> (x, i)", {"x": (50, 33)}, {"i": (50, (7, 3))}, rank=3),
    "scatter": Case("y = ScatterElements <axis = 1, reduction = \"max\"> (x, i, w)", {"x": (9, 40), "w": (9, 11)}, {"i": (40, (9, 11))}),
    "sort": Case("k = Constant <value_ints = [40]> () y, i = TopK(x, k)", {"x": (5, 1000)}),
    "positions": Case("k = Constant <value_ints = [9]> () v, y = TopK(x, k)", {"x": (5, 777)}, result="int64"),
    "sum of the row so far": Case("a = Constant <value_int = 1> () y = CumSum(x, a)", {"x": (6, 1500)}),
    "recurrent": Case("y, h = GRU <hidden_size = 48, linear_before_reset = 1> (x, w, r)",
                      {"x": (5, 2, 40), "w": (1, 144, 40), "r": (1, 144, 48)}, rank=4),
    "resize": Case("s = Constant <value_floats = [1.0, 1.0, 2.0, 1.5]> () y = Resize <mode = \"linear\"> (x, , s)",
                   {"x": (1, 5, 14, 18)}, rank=4),
}
ALL_TYPES = ("product", "product, odd", "product and epilogue", "softmax", "norm", "convolution")


@pytest.mark.parametrize(("name", "dtype"), [(name, dtype) for name in CASES
                                             for dtype in (TYPES if name in ALL_TYPES else ("float16", "float"))])
def test_kernel(name: str, dtype: str) -> None:
    case = CASES[name]
    feeds = case.feeds(dtype)
    wide = {n: a if n in case.whole else a.astype(np.float64) for n, a in feeds.items()}
    expected = mlc.compile(case.model("double"), "cpu", cache=False)(**wide)[0]
    found = mlc.compile(case.model(dtype), "cuda", cache=False)(**feeds)[0]
    assert found.shape == expected.shape and found.dtype == (TYPES[dtype] if not case.result else expected.dtype)
    error = np.abs(found.astype(np.float64) - expected).max() / np.abs(expected).max()
    assert error <= (0 if case.result else ALLOWED[dtype]), f"largest error {error:.2e} of the result's largest value"
