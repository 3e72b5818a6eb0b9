"""What a caller may pass as a tensor, and how it becomes the array a kernel reads: exact dtype, exact shape, contiguous, never by guess."""
# pyright: strict, reportUnknownMemberType=false

import ctypes
from typing import Any, cast

import numpy as np

from mlc.artifact import TensorSpec, aligned_empty
from mlc.dtypes import BY_NUMPY
from mlc.errors import InputError
from mlc.runtime.dlpack import DEVICES, HOST_DEVICES, read_capsule

__all__ = ["TensorSpec", "aligned_empty", "as_tensor", "check_value", "host_array", "random_tensor"]


def as_tensor(value: object, spec: TensorSpec) -> np.ndarray:
    """`value` as an array of exactly the spec's dtype and shape: C-contiguous, aligned, native byte order; no copy if it is one already.

    Takes numpy arrays and scalars, objects with `__dlpack__` (in host memory) or `__array__`, and Python scalars or nested lists of
    them where the dtype leaves no doubt (bool for bool, int for integers in range, int or float for floats).
    Raises InputError that names the input, what was found and what was expected.
    """
    if type(value) is np.ndarray and value.dtype is spec.dtype.numpy and value.shape == spec.shape and value.flags.carray:
        return value
    if isinstance(value, (bool, int, float, list, tuple)) and not isinstance(value, np.generic):
        array = _from_python(cast("object", value), spec)
    else:
        array = host_array(value, spec.name, f"{spec.dtype}{list(spec.shape)}")
    if array.dtype.newbyteorder("=") != spec.dtype.numpy or array.shape != spec.shape:
        raise InputError(f"input {spec.name!r}: found {_describe(array)}, expected {spec.dtype}{list(spec.shape)}{_hint(array, spec)}")
    # A writable, aligned, contiguous, native array comes back as it is; read-only is as good: kernels do not write inputs.
    return np.require(array, spec.dtype.numpy, ["C", "A"]).view(np.ndarray).reshape(spec.shape)


def check_value(array: np.ndarray, spec: TensorSpec) -> None:
    """Raises InputError if an input that was fixed at compile time is given another value."""
    assert spec.value is not None
    if array.tobytes() != spec.value.tobytes() and not np.array_equal(array, spec.value):
        raise InputError(f"input {spec.name!r}: its value was fixed at compile time to {spec.value.tolist()!s:.200}, "
                         f"found {array.tolist()!s:.200}", hint="leave it out, or compile the model again with the new value")


def random_tensor(spec: TensorSpec, rng: np.random.Generator) -> np.ndarray:
    """An array for timing and smoke tests: floats are normal, 8-bit and narrower integers small, bools even. Wider integers are 0 or 1,
    because they are mostly indices, and those are valid everywhere but along a dimension of 1. A fixed input has its value."""
    if spec.value is not None:
        return spec.value
    t, shape = spec.dtype, spec.shape
    if t.is_float:
        values: np.ndarray = rng.standard_normal(shape)
        if t.name == "f8E8M0FNU":  # powers of two only
            values = np.exp2(rng.integers(-3, 4, shape))
    elif t.kind == "b" or t.bits > 8:
        values = rng.integers(0, 2, shape)
    else:
        low, high = (0, 1 << t.bits) if t.kind == "u" else (-1 << (t.bits - 1), 1 << (t.bits - 1))
        values = rng.integers(max(low, -8), min(high, 8), shape)
    return np.asarray(values).astype(t.numpy)


def _describe(array: np.ndarray) -> str:
    t = BY_NUMPY.get(array.dtype.newbyteorder("="))
    return f"{t or array.dtype}{list(array.shape)}"


def _hint(array: np.ndarray, spec: TensorSpec) -> str:
    if array.dtype == spec.dtype.numpy:
        return ""
    package = "numpy" if spec.dtype.numpy.isbuiltin == 1 else "ml_dtypes"
    return f" ({package}.{spec.dtype.numpy.name})"


def _from_python(value: object, spec: TensorSpec) -> np.ndarray:
    t, where, expected = spec.dtype, f"input {spec.name!r}", f"expected {spec.dtype}{list(spec.shape)}"
    kinds: set[type] = set()
    _leaves(value, kinds)
    typed = [k for k in kinds if k not in (bool, int, float)]
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as e:
        raise InputError(f"{where}: found a {type(value).__name__} that is not a tensor ({e}), {expected}") from None
    if typed:  # a list of arrays or numpy scalars has a dtype: take it at its word
        return array
    allowed = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float}}[t.kind]
    if not kinds <= allowed:
        found = ", ".join(sorted(k.__name__ for k in kinds))
        raise InputError(f"{where}: found Python {found}, {expected}", hint=f"pass a numpy array of {t.numpy}")
    if t.is_integer and kinds:
        low, high = (0, 1 << t.bits) if t.kind == "u" else (-1 << (t.bits - 1), 1 << (t.bits - 1))
        if int(array.min()) < low or int(array.max()) >= high:
            raise InputError(f"{where}: found {array.min()}..{array.max()}, expected {t} in [{low}, {high - 1}]")
    return array.astype(t.numpy)


def _leaves(value: object, kinds: set[type]) -> None:
    if isinstance(value, (list, tuple)):
        for v in cast("list[object]", value):
            _leaves(v, kinds)
    else:
        kinds.add(type(value))


def host_array(value: object, name: str, wanted: str = "") -> np.ndarray:
    """A tensor in host memory, of whatever library, as a numpy array. name: of the input; wanted: its type, for messages.

    Raises InputError for what is in other memory, or does not convert.
    """
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(cast("np.ndarray", value))
    where = f"input {name!r}: found {type(value).__module__}.{type(value).__qualname__}"
    expected = f"expected a host tensor {wanted}".rstrip()
    if hasattr(value, "__dlpack__"):
        kind = cast(Any, value).__dlpack_device__()[0] if hasattr(value, "__dlpack_device__") else 1
        if int(kind) not in HOST_DEVICES:
            device = DEVICES.get(int(kind), f"DLPack device type {int(kind)}")
            raise InputError(f"{where} on {device}, {expected}", hint="move it to the host first")
        try:
            return np.from_dlpack(cast(Any, value))
        except (BufferError, RuntimeError, TypeError, ValueError):
            pass  # a dtype that numpy does not know (bfloat16), or read-only
        try:
            return _from_dlpack(value)
        except (BufferError, RuntimeError, TypeError, ValueError) as e:
            if not hasattr(value, "__array__"):
                raise InputError(f"{where} that does not export through DLPack ({e}), {expected}") from None
    if hasattr(value, "__array__"):
        try:
            return np.asarray(value)
        except Exception as e:  # the object's own code: whatever it raises is about this input
            raise InputError(f"{where} that does not convert to an array ({e}), {expected}") from None
    raise InputError(f"{where}, {expected}")


def _from_dlpack(value: object) -> np.ndarray:
    """A copy of a host tensor. Not consumed: the capsule's own destructor gives the tensor back, so a copy is all we may keep."""
    capsule = cast(Any, value).__dlpack__()
    t = read_capsule(capsule)
    dtype = t.dtype
    shape = tuple(t.shape[i] for i in range(t.ndim))
    out: np.ndarray = np.empty(shape, dtype.numpy)
    if out.size == 0:
        return out
    steps = [t.strides[i] * out.itemsize for i in range(t.ndim)] if t.strides else list(out.strides)
    # The strides may be negative, so the memory spans both sides of the first element.
    low = sum(min(0, (n - 1) * s) for n, s in zip(shape, steps, strict=True))
    high = sum(max(0, (n - 1) * s) for n, s in zip(shape, steps, strict=True)) + out.itemsize
    memory = memoryview((ctypes.c_ubyte * (high - low)).from_address(t.data + t.byte_offset + low)).cast("B")
    source: np.ndarray = np.ndarray(shape, dtype.numpy, memory, -low, steps)
    out[...] = source
    return out
