"""Single kernels: an ONNX model of one node, its inputs, the same in torch's libraries and in f64, and the least work it implies."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Tensor = Any
Function = Callable[..., Any]
OPSET, ATTENTION_OPSET = 18, 23
ELEMENTS = {"f16": np.float16, "f32": np.float32}


@dataclass(frozen=True)
class Kernel:
    """One node. shapes: of its inputs, in order; weights: how many of the last ones are constants of the model, as in real models.

    peers: library name -> given torch and the weights as tensors, a function of the other inputs. exact: the same in f64, by torch, of all
    inputs. flops: of the multiplications and additions that no kernel can avoid; elementwise work is not counted.
    """

    op: str
    dtype: str
    shapes: Mapping[str, tuple[int, ...]]
    output: tuple[int, ...]
    peers: Mapping[str, Callable[..., Function]]
    exact: Callable[..., Tensor]
    flops: int = 0
    weights: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)
    opset: int = OPSET

    @property
    def bytes(self) -> int:
        """Each input read once, the output written once."""
        return self.written + ELEMENTS[self.dtype]().itemsize * sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def written(self) -> int:
        """Bytes of the output."""
        return ELEMENTS[self.dtype]().itemsize * math.prod(self.output)

    def arrays(self, seed: int) -> dict[str, np.ndarray]:
        """Random inputs and weights."""
        rng = np.random.default_rng(seed)
        return {name: rng.standard_normal(shape, np.float32).astype(ELEMENTS[self.dtype]) for name, shape in self.shapes.items()}

    def write(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        """The model, with its weights inside."""
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        element = TensorProto.FLOAT16 if self.dtype == "f16" else TensorProto.FLOAT
        names = list(self.shapes)
        free = names[:len(names) - self.weights]
        inputs = [helper.make_tensor_value_info(name, element, self.shapes[name]) for name in free]
        outputs = [helper.make_tensor_value_info("y", element, self.output)]
        node = helper.make_node(self.op, names, ["y"], name=path.stem, **self.attributes)
        weights = [numpy_helper.from_array(arrays[name], name) for name in names[len(free):]]
        graph = helper.make_graph([node], path.stem, inputs, outputs, weights)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10), path)


def _matmul(m: int, n: int, k: int, dtype: str = "f16", weights: int = 0) -> Kernel:
    def with_weight(torch: Any, *constants: Tensor) -> Function:
        if not constants:
            return torch.matmul
        transposed = constants[0].t().contiguous()  # how torch's Linear stores it
        return lambda a: torch.nn.functional.linear(a, transposed)

    return Kernel("MatMul", dtype, {"a": (m, k), "b": (k, n)}, (m, n), {"cublas": with_weight}, lambda torch, a, b: a @ b, 2 * m * n * k,
                  weights)


def _softmax(m: int, n: int) -> Kernel:
    def library(torch: Any) -> Function:
        return lambda x: torch.softmax(x, -1)

    return Kernel("Softmax", "f16", {"x": (m, n)}, (m, n), {"torch": library, "compile": lambda torch: torch.compile(library(torch))},
                  lambda torch, x: torch.softmax(x, -1), attributes={"axis": -1})


def _layer_norm(m: int, n: int) -> Kernel:
    def library(torch: Any, *constants: Tensor) -> Function:
        return lambda x: torch.nn.functional.layer_norm(x, (n,), *constants)

    return Kernel("LayerNormalization", "f16", {"x": (m, n), "scale": (n,), "bias": (n,)}, (m, n),
                  {"torch": library, "compile": lambda torch, *constants: torch.compile(library(torch, *constants))},
                  lambda torch, x, scale, bias: torch.nn.functional.layer_norm(x, (n,), scale, bias), weights=2,
                  attributes={"axis": -1, "epsilon": 1e-5})


def _attention(batch: int, heads: int, sequence: int, width: int, causal: bool) -> Kernel:
    shape = (batch, heads, sequence, width)

    def library(backend: str) -> Callable[[Any], Function]:
        def make(torch: Any) -> Function:
            from torch.nn.attention import SDPBackend, sdpa_kernel

            def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                with sdpa_kernel(getattr(SDPBackend, backend)):
                    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

            return run

        return make

    def exact(torch: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        def part(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            scores = q @ k.transpose(-1, -2) / width**0.5
            if causal:
                scores.masked_fill_(torch.ones_like(scores, dtype=torch.bool).triu_(1), -float("inf"))
            return torch.softmax(scores, -1) @ v

        one_by_one = zip(*(t.flatten(0, 1) for t in (q, k, v)), strict=True)  # the scores of all heads would be gigabytes
        return torch.stack([part(*head) for head in one_by_one]).view(shape)

    flops = 4 * batch * heads * sequence * sequence * width // (2 if causal else 1)
    return Kernel("Attention", "f16", dict.fromkeys("qkv", shape), shape,
                  {"cudnn": library("CUDNN_ATTENTION"), "flash": library("FLASH_ATTENTION")}, exact, flops,
                  attributes={"is_causal": int(causal)}, opset=ATTENTION_OPSET)


def _kernels() -> Iterator[tuple[str, Kernel]]:
    for n in (4096, 8192, 2039):
        yield f"gemm_{n}x{n}x{n}", _matmul(n, n, n)
    for m, n, k in ((128, 768, 768), (128, 3072, 768), (128, 768, 3072)):
        yield f"gemm_{m}x{n}x{k}", _matmul(m, n, k, weights=1)
    for m in (1, 16):
        for n, k in ((8192, 8192), (28672, 8192), (8192, 28672)):
            yield f"gemm_{m}x{n}x{k}", _matmul(m, n, k, weights=1)
    yield "gemm_f32_4096x4096x4096", _matmul(4096, 4096, 4096, "f32")
    rows = ((8192, 8192), (65536, 1024), (131072, 768), (2048, 65536))  # at least 128 MB each
    for m, n in rows:
        yield f"softmax_{m}x{n}", _softmax(m, n)
    for m, n in rows:
        yield f"layernorm_{m}x{n}", _layer_norm(m, n)
    for width in (64, 128):
        for causal in (False, True):
            yield f"attention_b4h16s4096d{width}{'_causal' if causal else ''}", _attention(4, 16, 4096, width, causal)
    yield "tiny_gemm_64x48x32", _matmul(64, 48, 32, weights=1)
    yield "tiny_attention_b1h2s64d32_causal", _attention(1, 2, 64, 32, True)


KERNELS: dict[str, Kernel] = dict(_kernels())
