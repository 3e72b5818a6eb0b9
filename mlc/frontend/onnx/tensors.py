"""TensorProto -> Weight: checked when the model is read, turned into an array only when somebody asks."""

from collections.abc import Callable, Iterable, Mapping
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from mlc.artifact import aligned_empty
from mlc.dtypes import BY_ONNX, DType
from mlc.errors import ModelError, ResourceError, UnsupportedError
from mlc.frontend.onnx.external import ExternalFiles
from mlc.weights import Weight

MAX_BYTES = 1 << 46  # beyond any machine; keeps every later product inside int64
MAX_DENSE_BYTES = 1 << 34  # of a sparse tensor, whose few bytes may stand for any size
MAX_RANK = 32
VALUES_PER_INT32 = {4: 2, 2: 4}  # packed types: how many values share one entry of int32_data, by bits


def type_name(code: int) -> str:
    """`FLOAT6E2M3` for 27; the number itself when onnx does not know it."""
    return TensorProto.DataType.Name(code) if code in TensorProto.DataType.values() else f"type code {code}"


def dtype_of(code: int, where: str) -> DType:
    """The element type of an ONNX code; UnsupportedError for strings, complex numbers and others that mlc has no arithmetic for."""
    if code not in BY_ONNX:
        if code in TensorProto.DataType.values() and code != TensorProto.UNDEFINED:
            raise UnsupportedError(f"{where}: element type {type_name(code)} is not supported",
                                   hint="remove the part of the model that handles it, e.g. keep tokenising in Python")
        raise ModelError(f"{where}: no such element type: {type_name(code)}")
    return BY_ONNX[code]


class TensorReader:
    """Reads the tensors of one model. `files` is None for a model without a place on disk."""

    def __init__(self, files: ExternalFiles | None) -> None:
        self.files = files

    def weight(self, tensor: TensorProto, where: str, raw: memoryview | None = None) -> Weight:
        """Checks `tensor` and says how to read it. raw: its raw_data if the loader left that in the file."""
        dtype = dtype_of(tensor.data_type, where)
        shape = checked_shape(tensor.dims, dtype, where)
        count = prod(shape)
        needed = (count * dtype.bits + 7) // 8 if _is_packed(dtype) else count * dtype.bytes
        if tensor.HasField("segment"):
            raise UnsupportedError(f"{where}: tensors stored in segments are not supported")
        if tensor.data_location == TensorProto.EXTERNAL:
            if raw is not None or tensor.HasField("raw_data") or _typed_fields(tensor):
                raise ModelError(f"{where}: holds data and says that its data is external")
            if self.files is None:
                raise ModelError(f"{where}: its data is in another file, but the model was given without a directory",
                                 hint="pass the path of the .onnx file")
            raw = self.files.view([(e.key, e.value) for e in tensor.external_data], needed, where)
        elif raw is not None or tensor.HasField("raw_data"):
            size = len(raw) if raw is not None else len(tensor.raw_data)
            if size != needed or _typed_fields(tensor):
                raise ModelError(f"{where}: raw_data has {size} bytes; {dtype} {list(shape)} needs {needed}, and no other data field")
        else:
            return Weight(tensor.name, dtype, shape, _typed_reader(tensor, dtype, shape, where))
        if raw is None:  # small: the protobuf keeps it
            return Weight(tensor.name, dtype, shape, lambda: decode(memoryview(tensor.raw_data), dtype, shape))
        return Weight(tensor.name, dtype, shape, lambda: decode(raw, dtype, shape))

    def initializers(self, graph: onnx.GraphProto, where: str,
                     raw: Mapping[int, memoryview] | None = None) -> tuple[dict[str, Weight], dict[str, str]]:
        """The initializers of `graph` by name, and why others cannot be held at all (strings): an error only where they are used."""
        weights: dict[str, Weight] = {}
        skipped: dict[str, str] = {}
        for i, tensor in enumerate(graph.initializer):
            try:
                weights[tensor.name] = self.weight(tensor, f"{where} {tensor.name!r}", (raw or {}).get(i))
            except UnsupportedError as error:
                skipped[tensor.name] = error.message
        for sparse in graph.sparse_initializer:
            weights[sparse.values.name] = self.sparse(sparse, f"{where} {sparse.values.name!r}")
        return weights, skipped

    def sparse(self, sparse: onnx.SparseTensorProto, where: str) -> Weight:
        """A sparse tensor as the dense one it stands for."""
        values = self.weight(sparse.values, f"{where} (values)")
        indices = self.weight(sparse.indices, f"{where} (indices)")
        shape = checked_shape(sparse.dims, values.dtype, where)
        if prod(shape) * values.dtype.bytes > MAX_DENSE_BYTES:
            raise ResourceError(f"{where}: the sparse tensor {list(shape)} takes more than {MAX_DENSE_BYTES} bytes once it is dense")
        count = values.shape[0] if len(values.shape) == 1 else -1
        linear = indices.shape == (count,)
        if indices.dtype.name != "i64" or not (linear or indices.shape == (count, len(shape))):
            raise ModelError(f"{where}: sparse tensor of shape {list(shape)} has values {list(values.shape)} and indices "
                             f"{indices.dtype} {list(indices.shape)}; expected [n] values and i64 indices [n] or [n, {len(shape)}]")
        where_to = indices.read()
        bound = np.array([prod(shape)] if linear else shape, dtype=np.int64)
        if count and (np.any(where_to < 0) or np.any(where_to >= bound)):
            raise ModelError(f"{where}: sparse tensor of shape {list(shape)} has an index outside of it")

        def read() -> np.ndarray:
            dense = np.zeros(shape, values.dtype.numpy)
            dense[np.unravel_index(where_to, shape) if linear else tuple(where_to.T)] = values.read()
            return dense

        return Weight(sparse.values.name, values.dtype, shape, read)


def checked_shape(dims: Iterable[int], dtype: DType, where: str) -> tuple[int, ...]:
    """`dims` as a shape; ModelError when one is negative or the whole could never be in memory."""
    shape = tuple(int(d) for d in dims)
    if any(d < 0 for d in shape):
        raise ModelError(f"{where}: negative dimension in shape {list(shape)}")
    if len(shape) > MAX_RANK:
        raise ModelError(f"{where}: {len(shape)} dimensions; at most {MAX_RANK} are supported")
    if prod(d for d in shape if d) * dtype.bytes > MAX_BYTES:
        raise ModelError(f"{where}: shape {list(shape)} of {dtype} is larger than any memory")
    return shape


def decode(raw: memoryview, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
    """ONNX's little-endian bytes as an array: a view where bytes and alignment allow it; sub-byte values are spread to one per byte."""
    if _is_packed(dtype):
        per, mask, packed = 8 // dtype.bits, (1 << dtype.bits) - 1, np.frombuffer(raw, np.uint8)
        out = np.empty((len(packed), per), np.uint8)
        for i in range(per):  # low bits first
            out[:, i] = packed >> (i * dtype.bits) & mask
        return out.reshape(-1)[: prod(shape)].view(dtype.numpy).reshape(shape)
    if dtype.kind == "b":
        return (np.frombuffer(raw, np.uint8) != 0).reshape(shape)
    array = np.frombuffer(raw, dtype.numpy).reshape(shape)
    if array.flags.aligned:
        return array
    copy = aligned_empty(shape, dtype.numpy)  # as the runtime wants it, or it would make another copy
    copy[...] = array
    return copy


def _is_packed(dtype: DType) -> bool:
    """Several values share a byte in ONNX's encoding (bools do not)."""
    return dtype.bits < 8 and dtype.kind != "b"


def _typed_fields(tensor: TensorProto) -> list[str]:
    fields = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
    return [field for field in fields if len(getattr(tensor, field))]


def _typed_reader(tensor: TensorProto, dtype: DType, shape: tuple[int, ...], where: str) -> Callable[[], np.ndarray]:
    field = onnx.helper.tensor_dtype_to_field(tensor.data_type)
    per = VALUES_PER_INT32.get(dtype.bits, 1)
    expected, found = -(-prod(shape) // per), _typed_fields(tensor)
    if found not in ([], [field]) or len(getattr(tensor, field)) != expected:
        have = ", ".join(f"{len(getattr(tensor, f))} entries of {f}" for f in found) or "no data"
        raise ModelError(f"{where}: {dtype} {list(shape)} needs {expected} entries of {field}, found {have}")

    def read() -> np.ndarray:
        try:
            return np.ascontiguousarray(numpy_helper.to_array(tensor)).reshape(shape)
        except (ValueError, TypeError, OverflowError) as error:
            raise ModelError(f"{where}: cannot decode {field}: {error}") from error

    return read


def files_beside(path: Path | None, directory: Path | None) -> ExternalFiles | None:
    """External files of a model at `path`, or of one in memory whose weights lie in `directory`."""
    if path is not None:
        return ExternalFiles(path.parent, path)
    return ExternalFiles(directory) if directory is not None else None
