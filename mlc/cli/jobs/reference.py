"""References to compare with: ONNX Runtime, or ONNX's own evaluator where ONNX Runtime is absent or refuses the model."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx
from onnx import ModelProto

from mlc.errors import OptionError, UnsupportedError

OLD_IR_VERSION = 10  # newer ones changed nothing that a CPU session looks at


class Reference(Protocol):
    """Something that runs the model. name: for reports."""

    name: str

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]: ...


@dataclass
class OrtReference:
    """ONNX Runtime on the CPU."""

    session: Any
    name: str

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        return self.session.run(None, dict(inputs))


@dataclass
class OnnxReference:
    """onnx.reference.ReferenceEvaluator: slow, complete, independent."""

    evaluator: Any
    name: str

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        return [np.asarray(value) for value in self.evaluator.run(None, dict(inputs))]


def import_ort() -> Any:
    """The onnxruntime module, with its telemetry off and its warnings quiet; OptionError if it is not installed."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    os.environ.setdefault("ALLOW_RELEASED_ONNX_OPSET_ONLY", "0")  # try a newer opset than it knows; it still refuses newer ops
    try:
        import onnxruntime
    except ImportError as error:
        raise OptionError("onnxruntime is not installed", hint="pip install 'mlc-compiler[ort]'") from error
    onnxruntime.set_default_logger_severity(4)
    return onnxruntime


def ort_reference(model: str | bytes, *, optimise: bool, threads: int | None = None) -> OrtReference:
    """A session of ONNX Runtime. optimise: all its graph rewrites (for speed), or none (as an oracle)."""
    ort = import_ort()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL if optimise else ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = _session(ort, model, options)
    except Exception as error:
        raise UnsupportedError(f"ONNX Runtime {ort.__version__} refuses the model: {_one_line(error)}") from error
    return OrtReference(session, f"ONNX Runtime {ort.__version__}")


def _session(ort: Any, model: str | bytes, options: Any) -> Any:
    """A session; where the file's IR version is all that ONNX Runtime objects to, of the same model with an older one."""
    providers = ["CPUExecutionProvider"]
    try:
        return ort.InferenceSession(model, options, providers=providers)
    except Exception as error:
        if "IR version" not in str(error):
            raise
        proto = onnx.load(model) if isinstance(model, str) else onnx.load_from_string(model)
        proto.ir_version = OLD_IR_VERSION
        return ort.InferenceSession(proto.SerializeToString(), options, providers=providers)


def make_reference(kind: str, path: str, proto: ModelProto | None = None) -> Reference:
    """kind: `ort`, `onnx`, or `auto` (ONNX Runtime if it can). proto: runs this instead of the file, if given."""
    if kind in ("auto", "ort"):
        try:
            return ort_reference(path if proto is None else proto.SerializeToString(), optimise=False)
        except (OptionError, UnsupportedError):
            if kind == "ort":
                raise
    from onnx.reference import ReferenceEvaluator

    try:
        return OnnxReference(ReferenceEvaluator(path if proto is None else proto), f"onnx.reference {onnx.__version__}")
    except Exception as error:
        raise UnsupportedError(f"neither ONNX Runtime nor onnx.reference takes the model: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    """The text of an error without the C++ place and signature that ONNX Runtime puts before it."""
    return re.sub(r"\S+\.(?:cc|h):\d+ .*\) ", "", " ".join(str(error).split()))[:300]
