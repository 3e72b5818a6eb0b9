"""The HIP runtime API as typed calls, by ctypes: handles and addresses are ints, and every failure is an error that says what to do."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlc.errors import ArtifactError, CompilerError, InputError, MlcError, ResourceError, TargetError
from mlc.options import format_size
from mlc.runtime.gpu_device import KernelFault

LIBRARIES = ("libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so")
LEAST_VERSION = (6, 0)
"""Of HIP: the first that reads the code objects made here, and whose device properties have the layout read here."""

_INSTALL = "install ROCm 6 or newer, or put its lib folder into LD_LIBRARY_PATH; compiling for an AMD GPU needs neither"
_SEE = "rocminfo and HIP_VISIBLE_DEVICES say which GPUs this process may use"
# Name without hipError -> class, hint. Others are ours: CompilerError.
_ERRORS: dict[str, tuple[type[MlcError], str]] = {
    "NoDevice": (TargetError, _SEE),
    "InvalidDevice": (TargetError, _SEE),
    "InsufficientDriver": (TargetError, "update the amdgpu kernel driver to the version that this ROCm wants"),
    "NotInitialized": (TargetError, "HIP does not survive fork(): load the model in the child, or start it with 'spawn'"),
    "InitializationError": (TargetError, "the device files cannot be used: check the permissions of /dev/kfd and /dev/dri/render*"),
    "NoBinaryForGpu": (TargetError, "compile the model for this GPU's architecture (mlc doctor shows it)"),
    "InvalidImage": (ArtifactError, "compile the model again"),
    "InvalidKernelFile": (ArtifactError, "compile the model again"),
    "SharedObjectInitFailed": (ArtifactError, "compile the model again"),
    "NotFound": (ArtifactError, "compile the model again"),
    "OutOfMemory": (ResourceError, "end other users of the GPU's memory (rocm-smi lists them), or use a smaller batch"),
    "Deinitialized": (TargetError, "the process is ending"),
}
# A kernel did something wrong; the device is lost to this process from then on.
_FAULTS = frozenset(("IllegalAddress", "LaunchTimeOut", "LaunchFailure", "Assert", "ECCNotCorrectable", "IllegalState"))
_HOST_TO_DEVICE, _DEVICE_TO_HOST, _DEVICE_TO_DEVICE = 1, 2, 3  # hipMemcpyKind
_NON_BLOCKING, _NO_TIMING, _RELAXED = 1, 2, 2  # a stream's, an event's, a capture's flag
_L2_CACHE_SIZE = 19  # hipDeviceAttribute_t
_PROPERTIES_BYTES, _ARCH_AT, _ARCH_BYTES = 4096, 1160, 256  # hipDeviceProp_t of HIP 6: room for it, and where gcnArchName is

_INT, _UINT, _SIZE, _PTR = ctypes.c_int, ctypes.c_uint, ctypes.c_size_t, ctypes.c_void_p
_OUT = ctypes.POINTER
_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "hipInit": (_UINT,), "hipRuntimeGetVersion": (_OUT(_INT),), "hipGetDeviceCount": (_OUT(_INT),), "hipGetDevice": (_OUT(_INT),),
    "hipSetDevice": (_INT,), "hipDeviceGetName": (_PTR, _INT, _INT), "hipGetDevicePropertiesR0600": (_PTR, _INT),
    "hipDeviceGetAttribute": (_OUT(_INT), _INT, _INT), "hipMemGetInfo": (_OUT(_SIZE), _OUT(_SIZE)),
    "hipMalloc": (_OUT(_PTR), _SIZE), "hipFree": (_PTR,), "hipHostMalloc": (_OUT(_PTR), _SIZE, _UINT), "hipHostFree": (_PTR,),
    "hipMemcpyAsync": (_PTR, _PTR, _SIZE, _INT, _PTR), "hipMemsetD8Async": (_PTR, ctypes.c_ubyte, _SIZE, _PTR),
    "hipMemsetD16Async": (_PTR, ctypes.c_ushort, _SIZE, _PTR), "hipMemsetD32Async": (_PTR, _INT, _SIZE, _PTR),
    "hipPointerGetAttributes": (_PTR, _PTR),
    "hipStreamCreateWithFlags": (_OUT(_PTR), _UINT), "hipStreamDestroy": (_PTR,), "hipStreamSynchronize": (_PTR,),
    "hipStreamWaitEvent": (_PTR, _PTR, _UINT), "hipEventCreateWithFlags": (_OUT(_PTR), _UINT), "hipEventDestroy": (_PTR,),
    "hipEventRecord": (_PTR, _PTR), "hipEventElapsedTime": (_OUT(ctypes.c_float), _PTR, _PTR),
    "hipModuleLoadData": (_OUT(_PTR), _PTR), "hipModuleUnload": (_PTR,), "hipModuleGetFunction": (_OUT(_PTR), _PTR, ctypes.c_char_p),
    "hipModuleLaunchKernel": (_PTR, *[_UINT] * 7, _PTR, _PTR, _PTR),
    "hipStreamBeginCapture": (_PTR, _INT), "hipStreamEndCapture": (_PTR, _OUT(_PTR)),
    "hipGraphInstantiate": (_OUT(_PTR), _PTR, _PTR, _PTR, _SIZE), "hipGraphLaunch": (_PTR, _PTR), "hipGraphDestroy": (_PTR,),
    "hipGraphExecDestroy": (_PTR,),
}


class Hip:
    """Calls into libamdhip64. Made once per loaded program; initialises HIP.

    library: its path, instead of the installed one. Raises TargetError if this machine has none, an old one, or no GPU for it.
    """

    def __init__(self, library: str | None = None) -> None:
        self._hip = _open(library)
        for name in ("hipGetErrorName", "hipGetErrorString"):
            getattr(self._hip, name).restype = ctypes.c_char_p
        self._call("hipInit", 0)
        version = self._number("hipRuntimeGetVersion")
        self.version = version // 10_000_000, version // 100_000 % 100
        if self.version < LEAST_VERSION:
            found, least = (".".join(map(str, v)) for v in (self.version, LEAST_VERSION))
            raise TargetError(f"found HIP {found}, expected {least} or newer", hint=_INSTALL)

    @property
    def description(self) -> str:
        return "HIP {}.{}".format(*self.version)

    def _call(self, name: str, *args: Any) -> None:
        try:
            function = getattr(self._hip, name)
        except AttributeError as e:
            raise TargetError(f"the HIP library lacks {name}", hint=_INSTALL) from e
        if not function.argtypes:
            function.argtypes = _PROTOTYPES[name]
        status = function(*args)
        if status:
            raise self._error(name, status)

    def _error(self, call: str, status: int) -> MlcError:
        name = (self._hip.hipGetErrorName(status) or b"unknown").decode(errors="replace")
        if name.removeprefix("hipError") in _FAULTS:
            return KernelFault(call, name)
        kind, hint = _ERRORS.get(name.removeprefix("hipError"), (CompilerError, "this is a bug in mlc, unless another library broke HIP"))
        words = (self._hip.hipGetErrorString(status) or b"unknown error").decode(errors="replace")
        return kind(f"{call}: {name} ({words})", hint=hint)

    def _handle(self, name: str, *args: Any) -> int:
        """A call whose first argument is where it puts a pointer."""
        handle = ctypes.c_void_p()
        self._call(name, ctypes.byref(handle), *args)
        return handle.value or 0

    def _number(self, name: str, *args: Any) -> int:
        number = ctypes.c_int()
        self._call(name, ctypes.byref(number), *args)
        return number.value

    # -- devices --------------------------------------------------------------------------------------------------------

    def device_count(self) -> int:
        try:
            return self._number("hipGetDeviceCount")
        except TargetError:  # HIP reports a machine without a GPU as an error
            return 0

    def current_device(self) -> int:
        """The device of this thread."""
        return self._number("hipGetDevice")

    def use_device(self, device: int) -> None:
        self._call("hipSetDevice", device)

    def device_name(self, device: int) -> str:
        name = ctypes.create_string_buffer(256)
        self._call("hipDeviceGetName", name, len(name), device)
        return name.value.decode(errors="replace")

    def device_arch(self, device: int) -> str:
        """Its target id, such as `gfx942:sramecc+:xnack-`."""
        properties = ctypes.create_string_buffer(_PROPERTIES_BYTES)
        self._call("hipGetDevicePropertiesR0600", properties, device)
        return properties.raw[_ARCH_AT:_ARCH_AT + _ARCH_BYTES].partition(b"\0")[0].decode(errors="replace")

    def l2_bytes(self, ordinal: int) -> int:
        return self._number("hipDeviceGetAttribute", _L2_CACHE_SIZE, ordinal)

    # -- memory ---------------------------------------------------------------------------------------------------------

    def free_bytes(self) -> int:
        """Free memory of the current device."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("hipMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def allocate(self, size: int) -> int:
        """Device memory, 256-aligned. Raises ResourceError."""
        try:
            return self._handle("hipMalloc", size)
        except ResourceError as e:
            raise ResourceError(f"cannot allocate {format_size(size)} on the GPU: {e.message}", hint=e.hint) from None

    def free(self, address: int) -> None:
        self._call("hipFree", address)

    def allocate_host(self, size: int) -> int:
        """Host memory that the GPU can copy from and to while the CPU goes on. Raises ResourceError."""
        return self._handle("hipHostMalloc", size, 0)

    def free_host(self, address: int) -> None:
        self._call("hipHostFree", address)

    def upload(self, target: int, source: int, size: int, stream: int) -> None:
        self._call("hipMemcpyAsync", target, source, size, _HOST_TO_DEVICE, stream)

    def download(self, target: int, source: int, size: int, stream: int) -> None:
        self._call("hipMemcpyAsync", target, source, size, _DEVICE_TO_HOST, stream)

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        self._call("hipMemcpyAsync", target, source, size, _DEVICE_TO_DEVICE, stream)

    def fill(self, target: int, value: int, width: int, count: int, stream: int) -> None:
        """Writes `count` unsigned numbers of `width` bytes (1, 2 or 4). target: aligned to the width."""
        self._call(f"hipMemsetD{8 * width}Async", target, value, count, stream)

    def pointer_device(self, address: int) -> int:
        """The number of the device whose memory this is. Raises InputError if HIP does not know the address."""
        attributes = (ctypes.c_int * 64)()  # hipPointerAttribute_t: kind of memory, device, ...
        try:
            self._call("hipPointerGetAttributes", attributes, address)
        except CompilerError as e:
            raise InputError(f"{address:#x} is not an address of HIP device memory ({e.message})") from None
        return attributes[1]

    # -- streams and events ---------------------------------------------------------------------------------------------

    def stream(self) -> int:
        """A stream that does not wait for the default stream."""
        return self._handle("hipStreamCreateWithFlags", _NON_BLOCKING)

    def destroy_stream(self, stream: int) -> None:
        self._call("hipStreamDestroy", stream)

    def synchronize(self, stream: int) -> None:
        self._call("hipStreamSynchronize", stream)

    def event(self, timing: bool) -> int:
        return self._handle("hipEventCreateWithFlags", 0 if timing else _NO_TIMING)

    def destroy_event(self, event: int) -> None:
        self._call("hipEventDestroy", event)

    def record(self, event: int, stream: int) -> None:
        self._call("hipEventRecord", event, stream)

    def wait(self, stream: int, event: int) -> None:
        """Later work of the stream waits for the event."""
        self._call("hipStreamWaitEvent", stream, event, 0)

    def elapsed(self, start: int, end: int) -> float:
        """Milliseconds between two recorded events."""
        time = ctypes.c_float()
        self._call("hipEventElapsedTime", ctypes.byref(time), start, end)
        return time.value

    # -- code -----------------------------------------------------------------------------------------------------------

    def load_module(self, image: bytes) -> int:
        return self._handle("hipModuleLoadData", image)

    def unload_module(self, module: int) -> None:
        self._call("hipModuleUnload", module)

    def function(self, module: int, symbol: str) -> int:
        return self._handle("hipModuleGetFunction", module, symbol.encode())

    def launch(self, function: int, blocks: int, threads: int, shared_bytes: int, stream: int, parameters: int) -> None:
        """parameters: address of an array of addresses of the arguments; read before this returns. shared_bytes: beyond the code's own."""
        self._call("hipModuleLaunchKernel", function, blocks, 1, 1, threads, 1, 1, shared_bytes, stream, parameters, None)

    # -- graphs ---------------------------------------------------------------------------------------------------------

    def begin_capture(self, stream: int) -> None:
        """Relaxed: Python may free device memory, which stricter modes forbid, in the middle of any call."""
        self._call("hipStreamBeginCapture", stream, _RELAXED)

    def end_capture(self, stream: int) -> int:
        """The captured graph, instantiated: it can be replayed any number of times."""
        graph = self._captured(stream)
        try:
            return self._handle("hipGraphInstantiate", graph, None, None, 0)
        finally:
            self._call("hipGraphDestroy", graph)

    def abort_capture(self, stream: int) -> None:
        """Ends a capture that failed; what it recorded goes."""
        try:
            graph = self._captured(stream)
        except MlcError:
            return
        self._call("hipGraphDestroy", graph)

    def _captured(self, stream: int) -> int:
        graph = ctypes.c_void_p()
        self._call("hipStreamEndCapture", stream, ctypes.byref(graph))
        return graph.value or 0

    def launch_graph(self, graph: int, stream: int) -> None:
        self._call("hipGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        self._call("hipGraphExecDestroy", graph)


def _candidates() -> Iterator[str]:
    root = os.environ.get("ROCM_PATH")
    yield from ([str(Path(root, "lib", name)) for name in LIBRARIES] if root else [])
    yield from LIBRARIES
    yield from (f"/opt/rocm/lib/{name}" for name in LIBRARIES)


def _open(library: str | None) -> Any:
    reasons: list[str] = []
    for candidate in [library] if library else _candidates():
        try:
            return ctypes.CDLL(candidate)
        except OSError as e:
            reasons.append(str(e))
    raise TargetError(f"the HIP runtime (libamdhip64) is not on this machine ({reasons[-1]})", hint=_INSTALL)
