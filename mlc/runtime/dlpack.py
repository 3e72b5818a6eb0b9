"""DLPack capsules, read and made with ctypes: tensors that numpy's importer refuses (other element types, other devices)."""

import ctypes
from typing import Any, cast

from mlc.dtypes import BY_NAME, DType

HOST_DEVICES = (1, 3, 11, 13)  # CPU, CUDA pinned, ROCm pinned, CUDA managed
DEVICES = {2: "a CUDA device", 4: "an OpenCL device", 7: "a Vulkan device", 8: "a Metal device", 10: "a ROCm device",
           14: "a oneAPI device"}
# (type code, bits) -> dtype
TYPES: dict[tuple[int, int], DType] = {code: BY_NAME[name] for code, name in {
    (0, 8): "i8", (0, 16): "i16", (0, 32): "i32", (0, 64): "i64", (1, 8): "ui8", (1, 16): "ui16", (1, 32): "ui32", (1, 64): "ui64",
    (2, 16): "f16", (2, 32): "f32", (2, 64): "f64", (4, 16): "bf16", (6, 8): "i1", (10, 8): "f8E4M3FN", (11, 8): "f8E4M3FNUZ",
    (12, 8): "f8E5M2", (13, 8): "f8E5M2FNUZ", (14, 8): "f8E8M0FNU",
}.items()}
_CODES = {dtype: code for code, dtype in TYPES.items()}


class DLTensor(ctypes.Structure):
    """DLPack's tensor. strides are in elements, or null for C order."""

    _fields_ = (("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32), ("ndim", ctypes.c_int32),
                ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16), ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64))

    @property
    def dtype(self) -> DType:
        """Raises TypeError for an element type without a name here."""
        dtype = TYPES.get((self.code, self.bits))
        if dtype is None or self.lanes != 1:
            raise TypeError(f"element type (code {self.code}, {self.bits} bits, {self.lanes} lanes)")
        return dtype


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", DLTensor), ("manager", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


class _Export:
    """What an exported tensor keeps alive. It holds a reference to itself until the importer calls the deleter."""

    def __init__(self, owner: object, address: int, dtype: DType, shape: tuple[int, ...], device: tuple[int, int]) -> None:
        code, bits = _CODES[dtype]
        self.owner, self.shape = owner, (ctypes.c_int64 * max(1, len(shape)))(*shape)
        tensor = DLTensor(address, device[0], device[1], len(shape), code, bits, 1, self.shape, None, 0)
        self.managed = _Managed(tensor, id(self), ctypes.cast(_delete, ctypes.c_void_p))


_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
# By address: in a destructor the object has no references left, so that ctypes must not make one.
_raw_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
_raw_is = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_new_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(("PyCapsule_New", ctypes.pythonapi))
_retain = ctypes.PYFUNCTYPE(None, ctypes.py_object)(("Py_IncRef", ctypes.pythonapi))
_release = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(("Py_DecRef", ctypes.pythonapi))


@ctypes.CFUNCTYPE(None, ctypes.c_void_p)  # called by importers, from any thread, with or without the interpreter lock
def _delete(managed: int) -> None:
    _release(_Managed.from_address(managed).manager)


@ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
def _destroy(capsule: int) -> None:
    if _raw_is(capsule, b"dltensor"):  # nobody imported it
        _delete(_raw_pointer(capsule, b"dltensor"))


def read_capsule(capsule: object) -> DLTensor:
    """The tensor in a capsule. Not consumed: it lives as long as the capsule. Raises ValueError for anything else."""
    return DLTensor.from_address(cast(int, _pointer_of(capsule, b"dltensor")))


def make_capsule(owner: object, address: int, dtype: DType, shape: tuple[int, ...], device: tuple[int, int]) -> Any:
    """A capsule for C-contiguous memory that `owner` keeps. device: (type, number). Raises BufferError if DLPack lacks the element type."""
    if dtype not in _CODES:
        raise BufferError(f"DLPack has no element type for {dtype}")
    export = _Export(owner, address, dtype, shape, device)
    _retain(export)
    return _new_capsule(ctypes.addressof(export.managed), b"dltensor", ctypes.cast(_destroy, ctypes.c_void_p))
