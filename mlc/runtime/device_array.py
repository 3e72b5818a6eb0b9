"""Tensors in GPU memory: what callers pass in (`device_view`, no copy through the host), and what they get (`DeviceArray`)."""

import ctypes
import math
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from mlc.artifact import TensorSpec, aligned_empty
from mlc.dtypes import BY_NUMPY, DType
from mlc.errors import InputError
from mlc.runtime.dlpack import DEVICES, HOST_DEVICES, make_capsule, read_capsule
from mlc.runtime.gpu_device import GpuDevice

LEGACY_STREAM = 1  # CUDA's default stream, as `__cuda_array_interface__` and DLPack name it


class Block:
    """Device or pinned host memory that is given back with its last reference."""

    def __init__(self, size: int, allocate: Callable[[int], int], free: Callable[[int], None]) -> None:
        self.address, self.bytes = allocate(max(size, 1)), size
        weakref.finalize(self, free, self.address)


@dataclass(frozen=True)
class DeviceView:
    """A caller's tensor in the memory of the GPU that the model runs on. owner: keeps it alive."""

    address: int
    bytes: int
    owner: object


class DeviceArray:
    """An output in GPU memory, C-contiguous and complete: no stream has to be waited for. owner: keeps its memory.

    PyTorch, CuPy, JAX and others take it without a copy (`torch.from_dlpack(y)`); `numpy()` or `np.asarray(y)` copies it to the host.
    """

    def __init__(self, spec: TensorSpec, device: GpuDevice, address: int, owner: object) -> None:
        self.dtype: DType = spec.dtype
        self.shape: tuple[int, ...] = spec.shape
        self.bytes = spec.bytes
        self.address = address  # in device memory
        self._device, self._owner = device, owner

    def numpy(self) -> np.ndarray:
        """A copy in host memory."""
        out = aligned_empty(self.shape, self.dtype.numpy)
        with self._device:
            self._device.download(out.ctypes.data, self.address, self.bytes)
            self._device.synchronize()
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("a GPU array has to be copied to become a numpy array")
        out = self.numpy()
        return out if dtype is None else out.astype(dtype)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device.kind, self._device.ordinal

    def __dlpack__(self, *, stream: int | None = None, max_version: tuple[int, int] | None = None,
                   dl_device: tuple[int, int] | None = None, copy: bool | None = None) -> Any:
        """stream, max_version: of the consumer; nothing has to be waited for, and the oldest version is enough."""
        if copy or (dl_device is not None and tuple(dl_device) != self.__dlpack_device__()):
            raise BufferError("only the array itself, where it lies, can be exported")
        return make_capsule(self, self.address, self.dtype, self.shape, self.__dlpack_device__())

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if self.dtype.numpy.isbuiltin != 1:
            raise AttributeError(f"__cuda_array_interface__ cannot express {self.dtype}: use DLPack")
        return {"shape": self.shape, "typestr": self.dtype.numpy.str, "data": (self.address if self.bytes else 0, False), "version": 3,
                "strides": None, "stream": None}

    def __repr__(self) -> str:
        return f"<mlc.DeviceArray {self.dtype}{list(self.shape)} on {self._device.name}>"


def type_on_device(value: object, name: str) -> tuple[DType, tuple[int, ...]] | None:
    """Element type and shape of a tensor in the memory of some GPU; None for everything else.

    name: of the input. Raises InputError if the tensor does not say, or has an element type without a name here.
    """
    try:
        if hasattr(value, "__dlpack_device__") and hasattr(value, "__dlpack__"):
            if int(cast(Any, value).__dlpack_device__()[0]) in HOST_DEVICES:
                return None
            capsule = cast(Any, value).__dlpack__()
            tensor = read_capsule(capsule)
            return tensor.dtype, tuple(tensor.shape[i] for i in range(tensor.ndim))
        interface = getattr(value, "__cuda_array_interface__", None)
        return None if interface is None else (BY_NUMPY[np.dtype(interface["typestr"])], tuple(interface["shape"]))
    except (BufferError, KeyError, RuntimeError, TypeError, ValueError) as e:
        raise InputError(f"input {name!r}: found {type(value).__module__}.{type(value).__qualname__} that cannot be read: {e}") from None


def device_view(value: object, spec: TensorSpec, device: GpuDevice) -> DeviceView | None:
    """`value` as memory of `device`, if it lies in memory of a GPU of that kind; None for everything else (see `tensors.as_tensor`).

    What other streams still write to it, the device's stream waits for. Called inside `with device:`.
    Raises InputError if it is on another GPU, or of another element type or shape than the input, or not C-contiguous.
    """
    where = f"input {spec.name!r}: found {type(value).__module__}.{type(value).__qualname__}"
    if hasattr(value, "__dlpack_device__") and hasattr(value, "__dlpack__"):
        kind, ordinal = (int(part) for part in cast(Any, value).__dlpack_device__())
        if kind != device.kind:
            return None
        _check_device(where, ordinal, device)
        return _from_dlpack(value, spec, device, where)
    interface = getattr(value, "__cuda_array_interface__", None)
    return None if interface is None else _from_interface(value, interface, spec, device, where)


def _from_dlpack(value: object, spec: TensorSpec, device: GpuDevice, where: str) -> DeviceView:
    try:
        capsule = cast(Any, value).__dlpack__(stream=device.stream)
        tensor = read_capsule(capsule)
        dtype = tensor.dtype
    except (BufferError, RuntimeError, TypeError, ValueError) as e:
        raise InputError(f"{where} that does not export through DLPack ({e}), expected {_expected(spec)}") from None
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    strides = tuple(tensor.strides[i] for i in range(tensor.ndim)) if tensor.strides else None
    _check_tensor(where, dtype, shape, strides, spec)
    return DeviceView((tensor.data or 0) + tensor.byte_offset, spec.bytes, capsule)


def _from_interface(value: object, interface: Mapping[str, Any], spec: TensorSpec, device: GpuDevice, where: str) -> DeviceView:
    try:
        numpy_type, shape, (address, _) = np.dtype(interface["typestr"]), tuple(interface["shape"]), interface["data"]
        strides = interface.get("strides")
        masked = interface.get("mask") is not None
    except (KeyError, TypeError, ValueError) as e:
        raise InputError(f"{where} with a bad __cuda_array_interface__ ({e}), expected {_expected(spec)}") from None
    if masked:
        raise InputError(f"{where} with a mask, expected {_expected(spec)}")
    if math.prod(shape):
        try:
            _check_device(where, device.pointer_device(address), device)
        except InputError as e:
            raise InputError(e.message if e.message.startswith("input ") else f"{where}: {e.message}", hint=e.hint) from None
    in_elements = None if strides is None else tuple(s // numpy_type.itemsize for s in strides)
    _check_tensor(where, BY_NUMPY.get(numpy_type), shape, in_elements, spec)
    stream = interface.get("stream", LEGACY_STREAM)  # before version 3 nothing was said about streams
    if stream is not None:
        device.wait_for(int(stream))
    return DeviceView(address, spec.bytes, value)


def _expected(spec: TensorSpec) -> str:
    return f"{spec.dtype}{list(spec.shape)}"


def _check_device(where: str, ordinal: int, device: GpuDevice) -> None:
    if ordinal != device.ordinal:
        kind = DEVICES[device.kind].split()[1]
        raise InputError(f"{where} on {kind} device {ordinal}, expected device {device.ordinal}, where the model is loaded",
                         hint=f"move it to device {device.ordinal}, or load the model with device {ordinal} current")


def _check_tensor(where: str, dtype: DType | None, shape: tuple[int, ...], strides: tuple[int, ...] | None, spec: TensorSpec) -> None:
    if dtype != spec.dtype or shape != spec.shape:
        raise InputError(f"{where} {dtype}{list(shape)}, expected {_expected(spec)}")
    if strides is None or 0 in shape:
        return
    step = 1
    for extent, stride in zip(reversed(shape), reversed(strides), strict=True):
        if extent != 1 and stride != step:
            raise InputError(f"{where} {dtype}{list(shape)} with strides {list(strides)}, expected it contiguous in C order",
                             hint="make a contiguous copy first (x.contiguous() in PyTorch)")
        step *= extent


def host_bytes(address: int, size: int) -> np.ndarray:
    """Host memory as bytes."""
    return np.ndarray((size,), np.uint8, memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B"))
