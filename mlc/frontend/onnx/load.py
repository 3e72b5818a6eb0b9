"""A model read into memory and found sound, its weights left where they lie."""

import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.message import DecodeError
from onnx import ModelProto

from mlc.errors import ModelError, ResourceError
from mlc.frontend.onnx.check import check_model
from mlc.frontend.onnx.nodes import opsets_of
from mlc.frontend.onnx.tensors import TensorReader, files_beside
from mlc.frontend.onnx.wire import split_model
from mlc.weights import Weight

ModelSource = str | os.PathLike[str] | bytes | bytearray | memoryview | ModelProto


@dataclass(frozen=True)
class LoadedModel:
    """A checked model. proto: without the bytes of big or external weights. directory: where external data may lie, if anywhere.

    weights: every initializer by name, checked but not read; `skipped`: initializers of element types mlc cannot hold, with the reason,
    which matter only if a node uses them.
    """

    proto: ModelProto
    path: Path | None
    directory: Path | None
    reader: TensorReader
    weights: Mapping[str, Weight] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.name if self.path is not None else (self.proto.graph.name or "model.onnx")

    @property
    def opsets(self) -> dict[str, int]:
        return opsets_of(self.proto.opset_import)


def load_model(source: ModelSource | LoadedModel, *, directory: str | os.PathLike[str] | None = None) -> LoadedModel:
    """Reads and checks an ONNX model; a loaded one is given back. directory: of external data, for a model that is no path.

    ModelError: damaged or not ONNX. UnsupportedError: an opset newer than the installed onnx. ResourceError: the file cannot be read.
    """
    if isinstance(source, LoadedModel):
        return source
    path: Path | None = None
    raw: dict[int, memoryview] = {}
    if isinstance(source, ModelProto):
        proto = source
    else:
        if isinstance(source, (bytes, bytearray, memoryview)):
            data, what = memoryview(source), "the model"
        else:
            path = Path(source)
            data, what = _map(path), str(path)
        proto, raw = _parse(data, what)
    base = path.parent if path is not None else Path(directory) if directory is not None else None
    check_model(proto)
    reader = TensorReader(files_beside(path, base))
    weights, skipped = reader.initializers(proto.graph, "initializer", raw)
    return LoadedModel(proto, path, base, reader, weights, skipped)


def _map(path: Path) -> memoryview:
    if path.exists() and not path.is_file():  # opening a pipe may wait for ever
        raise ResourceError(f"cannot read the model {str(path)!r}: it is not a regular file")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b"")
    except OSError as error:
        raise ResourceError(f"cannot read the model {str(path)!r}: {error.strerror or error}") from error


def _parse(data: memoryview, what: str) -> tuple[ModelProto, dict[int, memoryview]]:
    if not len(data):
        raise ModelError(f"{what} is empty")
    if bytes(data[:40]).startswith(b"version https://git-lfs"):
        raise ModelError(f"{what} is a Git LFS pointer, not the model itself", hint="git lfs pull")
    if bytes(data[:4]) == b"PK\x03\x04":
        raise ModelError(f"{what} is a zip archive, not an ONNX model",
                         hint="an .mlc file is compiled already (mlc run); a PyTorch file has to be exported to ONNX first")
    try:
        skeleton, raw = split_model(data)
        proto = ModelProto.FromString(skeleton)
    except (ModelError, DecodeError) as error:
        raise ModelError(f"{what} is not an ONNX model, or is truncated or damaged: {error}",
                         hint="copy the file again if it was transferred, or export the model again") from error
    if not proto.HasField("graph") or not (proto.ir_version or proto.opset_import):
        raise ModelError(f"{what} is not an ONNX model: it has no graph or no IR version",
                         hint="a TensorProto, a GraphProto or another format may have been saved under this name")
    return proto, raw
