"""PyTorch as a peer for an ONNX file: the graph node by node, each as torch computes it; on a GPU replayed as one CUDA graph."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from mlc.cli.jobs.torch_ops import OPS
from mlc.dtypes import BY_NUMPY
from mlc.errors import OptionError, UnsupportedError
from mlc.frontend.onnx.nodes import op_name
from mlc.runtime.gpu_stream import QUEUED, RUNS_PER_FILL

_LATER = "compare with --vs ort, or with torch's own model (benchmarks/gpu)"


def import_torch() -> Any:
    """The torch module; OptionError if it is not installed."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise OptionError("PyTorch is not installed", hint="pip install torch, in the same environment as mlc") from error
    return torch


class TorchPeer:
    """An ONNX model in torch. Nodes that do not depend on the inputs are computed once; the others on every run, in order.

    inputs: fixed by this, as they are on a GPU copied in before the clock starts. name: for reports. allow_tf32: also
    of convolutions, of which torch by itself allows it.
    Raises OptionError without torch or, for `on_gpu`, without its GPU; UnsupportedError that names the ops it has no words for.
    """

    def __init__(self, path: str, inputs: Mapping[str, np.ndarray], on_gpu: bool, threads: int | None = None,
                 allow_tf32: bool = False) -> None:
        self.torch = torch = import_torch()
        if on_gpu and not torch.cuda.is_available():
            raise OptionError(f"PyTorch {torch.__version__} finds no GPU", hint="install a build of torch for this GPU")
        if threads is not None and not on_gpu:
            torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allow_tf32  # the same permission for both
        self._device = torch.device("cuda" if on_gpu else "cpu")
        self.name = f"torch {torch.__version__.partition('+')[0]}" + (", as one graph" if on_gpu else "")
        graph, opsets = _graph(path)
        self._opset = opsets.get("", 1)
        self._outputs = [o.name for o in graph.output]
        self.constants: dict[str, np.ndarray] = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self._values: dict[str, Any] = {name: self._tensor(array) for name, array in {**self.constants, **inputs}.items()}
        for name in inputs:
            self.constants.pop(name, None)
        self._nodes = self._folded(graph.node)
        self._replay = self._captured() if on_gpu else None

    def run(self) -> list[Any]:
        """The outputs, as torch tensors; on a GPU queued, not finished."""
        if self._replay is not None:
            self._replay.replay()
            return self._results
        with self.torch.inference_mode():
            return self._evaluate()

    def gpu_times(self, count: int, flush: bool) -> list[float]:
        """GPU seconds of each of `count` runs, by events around replays. flush: with an empty L2 cache."""
        cuda = self.torch.cuda
        scratch = self.torch.empty(2 * cuda.get_device_properties(0).L2_cache_size, dtype=self.torch.uint8, device="cuda")
        times: list[float] = []
        while len(times) < count:
            pairs = [(cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)) for _ in range(min(QUEUED, count - len(times)))]
            for _ in range(0 if flush else -(-len(pairs) // RUNS_PER_FILL)):
                scratch.zero_()
            for start, end in pairs:
                if flush:
                    scratch.zero_()
                start.record()
                self.run()
                end.record()
            cuda.synchronize()
            times += [start.elapsed_time(end) / 1e3 for start, end in pairs]
        return times

    def _captured(self) -> Any:
        cuda = self.torch.cuda
        with self.torch.inference_mode():
            side = cuda.Stream()  # libraries set themselves up on a stream that is not the one captured
            with cuda.stream(side):
                for _ in range(3):
                    self._evaluate()
            cuda.synchronize()
            graph = cuda.CUDAGraph()
            with cuda.graph(graph):
                self._results = self._evaluate()
        return graph

    def _evaluate(self) -> list[Any]:
        values = dict(self._values)
        for node in self._nodes:
            values.update(self._results_of(node, values))
        return [values[name] for name in self._outputs]

    def _results_of(self, node: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        results = OPS[node.op_type](_Node(self, node, values, self._opset))
        several: Sequence[Any] = results if isinstance(results, tuple | list) else (results,)
        return {name: tensor for name, tensor in zip(node.output, several) if name}

    def _folded(self, nodes: Sequence[Any]) -> list[Any]:
        """The nodes that depend on the inputs; the values of the others are computed here, and so are all static shapes."""
        known = {*OPS, "Constant", "ConstantOfShape"}
        unknown = sorted({op_name(n) for n in nodes if n.domain not in ("", "ai.onnx") or n.op_type not in known})
        if unknown:
            raise UnsupportedError(f"--vs torch does not know {', '.join(unknown)}", hint=_LATER)
        values, left = dict(self._values), list[Any]()
        with self.torch.inference_mode():
            for node in nodes:
                fixed = node.op_type == "Shape" or all(name in self.constants for name in node.input if name)
                if node.op_type in ("Constant", "ConstantOfShape"):
                    made = {node.output[0]: self._tensor(self._constant(node))}
                else:
                    made = self._results_of(node, values)
                values.update(made)
                if fixed:
                    self.constants.update({name: t.float().cpu().numpy() if t.dtype == self.torch.bfloat16 else t.cpu().numpy()
                                           for name, t in made.items()})
                    self._values.update({name: t.to(self._device) for name, t in made.items()})
                else:
                    left.append(node)
        return left

    def _constant(self, node: Any) -> np.ndarray:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Constant":
            ((name, value),) = attributes.items()
            return numpy_helper.to_array(value) if name == "value" else np.array(value, np.int64 if "int" in name else np.float32)
        if node.input[0] not in self.constants:
            raise UnsupportedError(f"--vs torch: the shape of node {node.name!r} depends on the model's inputs", hint=_LATER)
        fill = numpy_helper.to_array(attributes["value"]) if "value" in attributes else np.zeros(1, np.float32)
        return np.full(tuple(self.constants[node.input[0]]), fill[0])

    def _tensor(self, array: np.ndarray) -> Any:
        array = np.array(array, order="C")  # torch wants it writable, and numpy's ascontiguousarray has no 0-d arrays
        if (kind := BY_NUMPY.get(array.dtype)) is not None and kind.name == "bf16":  # numpy's torch does not know it
            return self.torch.from_numpy(array.view(np.int16)).view(self.torch.bfloat16).to(self._device)
        return self.torch.from_numpy(array).to(self._device)


class _Node:
    """See `torch_ops.NodeView`."""

    def __init__(self, peer: TorchPeer, node: Any, values: Mapping[str, Any], opset: int) -> None:
        self.torch, self.opset = peer.torch, opset
        self._peer, self._node, self._values = peer, node, values

    @property
    def inputs(self) -> int:
        return len(self._node.input)

    @property
    def outputs(self) -> int:
        return len(self._node.output)

    def x(self, index: int) -> Any:
        name = self._node.input[index] if index < len(self._node.input) else ""
        return self._values[name] if name else None

    def value(self, index: int) -> list[Any] | None:
        name = self._node.input[index] if index < len(self._node.input) else ""
        if not name:
            return None
        if name not in self._peer.constants:
            raise UnsupportedError(f"--vs torch: input {name!r} of node {self._node.name!r} depends on the model's inputs", hint=_LATER)
        return self._peer.constants[name].reshape(-1).tolist()

    def attr(self, name: str, default: Any = None) -> Any:
        found = next((a for a in self._node.attribute if a.name == name), None)
        return default if found is None else onnx.helper.get_attribute_value(found)


def _graph(path: str) -> tuple[Any, dict[str, int]]:
    model = onnx.load(path)
    return model.graph, {o.domain.removeprefix("ai.onnx"): o.version for o in model.opset_import}
