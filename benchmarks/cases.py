"""Single kernels to benchmark: an ONNX model of one node each, its inputs, and the same in PyTorch."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

OPSET = 18


@dataclass(frozen=True)
class Kernel:
    """One node. shapes: of its inputs, in order; weights: how many of the last ones are constants of the model, as in real models.

    peer: given the torch module, a function of the same inputs.
    """

    op: str
    shapes: dict[str, tuple[int, ...]]
    output: tuple[int, ...]
    peer: Callable[[Any], Callable[..., Any]]
    weights: int = 0
    attributes: dict[str, Any] = field(default_factory=dict)

    def arrays(self) -> dict[str, np.ndarray]:
        """Random inputs and weights, the same every time."""
        rng = np.random.default_rng(0)
        return {name: rng.standard_normal(shape, np.float32) for name, shape in self.shapes.items()}

    def torch(self) -> Callable[..., Any]:
        """A function of the tensors that are not weights."""
        import torch

        function = self.peer(torch)
        weights = [torch.from_numpy(a) for a in list(self.arrays().values())[len(self.shapes) - self.weights:]]
        return lambda *tensors: function(*tensors, *weights)

    def write(self, path: Path) -> None:
        """Writes the model to path (.onnx) and its inputs beside it (.npz)."""
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        arrays = list(self.arrays().items())
        free, weights = arrays[:len(arrays) - self.weights], arrays[len(arrays) - self.weights:]
        inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in free]
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, self.output)]
        node = helper.make_node(self.op, list(self.shapes), ["y"], name=path.stem, **self.attributes)
        graph = helper.make_graph([node], path.stem, inputs, outputs, [numpy_helper.from_array(array, name) for name, array in weights])
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10), path)
        np.savez(path.with_suffix(".npz"), **{f"in{i}": array for i, (_, array) in enumerate(free)})


def _matmul(m: int, k: int, n: int) -> Kernel:
    return Kernel("MatMul", {"a": (m, k), "b": (k, n)}, (m, n), lambda torch: torch.matmul)


def _conv(c: int, size: int) -> Kernel:
    return Kernel("Conv", {"x": (1, c, size, size), "w": (c, c, 3, 3)}, (1, c, size, size),
                  lambda torch: lambda x, w: torch.conv2d(x, w, padding=1), 1, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]})


def _softmax(m: int, n: int) -> Kernel:
    return Kernel("Softmax", {"x": (m, n)}, (m, n), lambda torch: lambda x: torch.softmax(x, -1), 0, {"axis": -1})


def _layer_norm(m: int, n: int) -> Kernel:
    return Kernel("LayerNormalization", {"x": (m, n), "scale": (n,), "bias": (n,)}, (m, n),
                  lambda torch: lambda x, scale, bias: torch.layer_norm(x, (n,), scale, bias), 2, {"axis": -1, "epsilon": 1e-5})


KERNELS: dict[str, Kernel] = {
    "matmul_1024x1024x1024": _matmul(1024, 1024, 1024),
    "matmul_512x512x512": _matmul(512, 512, 512),
    "matmul_128x768x3072": _matmul(128, 768, 3072),
    "conv3x3_64c_56x56": _conv(64, 56),
    "softmax_4096x1024": _softmax(4096, 1024),
    "layernorm_4096x768": _layer_norm(4096, 768),
}
