"""The ONNX project's backend interface over `mlc.jit`, for tools that speak it: `mlc.onnx_backend.prepare(model).run(inputs)`."""

from collections.abc import Sequence
from typing import Any

import onnx
from onnx.backend.base import Backend, BackendRep, Device, DeviceType

from mlc.jit import Jit, jit


class MlcRep(BackendRep):
    """One model, ready to run; compiled per input shapes on the first run with them."""

    def __init__(self, compiled: Jit) -> None:
        self._jit = compiled

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """inputs: a list in the order of the model's inputs, or a dictionary by name."""
        if kwargs:
            raise TypeError(f"run takes no {', '.join(kwargs)}")
        if isinstance(inputs, dict):
            return tuple(self._jit.run(inputs).values())
        return tuple(self._jit(*(inputs if isinstance(inputs, Sequence) and not isinstance(inputs, str) else [inputs])))


class MlcBackend(Backend):
    """mlc on the CPU."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> MlcRep:
        """kwargs: as for mlc.jit (opt_level, threads, cache)."""
        if not cls.supports_device(device):
            raise ValueError(f"device {device!r} is not supported, expected CPU")
        return MlcRep(jit(model, **kwargs))

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(cls, node: onnx.NodeProto, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any) -> tuple[Any, ...]:
        """Runs one node on arrays, in the order of the inputs it names. outputs_info and opset_version: as the interface has them."""
        version = kwargs.pop("opset_version", onnx.defs.onnx_opset_version())
        names = [name for name in node.input if name]
        types = [onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
                 for name, a in zip(names, inputs, strict=True)]
        results = [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in node.output if name]
        graph = onnx.helper.make_graph([node], "node", types, results)
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid(node.domain, version)])
        return cls.run_model(model, list(inputs), device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return Device(device).type == DeviceType.CPU


prepare = MlcBackend.prepare
run_node = MlcBackend.run_node
run_model = MlcBackend.run_model
supports_device = MlcBackend.supports_device
