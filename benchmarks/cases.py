"""Single kernels to benchmark: an ONNX model of one node each, its inputs, and the same in PyTorch. Everything large is a run-time input."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

OPSET = 18


@dataclass(frozen=True)
class Kernel:
    """One node. shapes: of the inputs, in order; call: what PyTorch's functional module calls it, with its keyword arguments."""

    op: str
    shapes: dict[str, tuple[int, ...]]
    output: tuple[int, ...]
    call: tuple[str, dict[str, Any]]
    attributes: dict[str, Any] = field(default_factory=dict)

    def torch(self) -> Callable[..., Any]:
        """A function of tensors."""
        import torch

        name, arguments = self.call
        function = getattr(torch, name, None) or getattr(torch.nn.functional, name)
        return lambda *tensors: function(*tensors, **arguments)

    def write(self, path: Path) -> None:
        """Writes path (.onnx) and its inputs beside it (.npz)."""
        import onnx
        from onnx import TensorProto, helper

        inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in self.shapes.items()]
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, self.output)]
        node = helper.make_node(self.op, list(self.shapes), ["y"], **self.attributes)
        graph = helper.make_graph([node], path.stem, inputs, outputs)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10), path)
        rng = np.random.default_rng(0)
        np.savez(path.with_suffix(".npz"), **{f"in{i}": rng.standard_normal(s, np.float32) for i, s in enumerate(self.shapes.values())})


def _matmul(m: int, k: int, n: int) -> Kernel:
    return Kernel("MatMul", {"a": (m, k), "b": (k, n)}, (m, n), ("matmul", {}))


KERNELS: dict[str, Kernel] = {
    "matmul_1024x1024x1024": _matmul(1024, 1024, 1024),
    "matmul_512x512x512": _matmul(512, 512, 512),
    "matmul_128x768x3072": _matmul(128, 768, 3072),
    "conv3x3_64_56x56": Kernel("Conv", {"x": (1, 64, 56, 56), "w": (64, 64, 3, 3)}, (1, 64, 56, 56), ("conv2d", {"padding": 1}),
                               {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    "softmax_4096x1024": Kernel("Softmax", {"x": (4096, 1024)}, (4096, 1024), ("softmax", {"dim": -1}), {"axis": -1}),
    "layernorm_4096x768": Kernel("LayerNormalization", {"x": (4096, 768), "scale": (768,), "bias": (768,)}, (4096, 768),
                                 ("layer_norm", {}), {"axis": -1, "epsilon": 1e-5}),
}
