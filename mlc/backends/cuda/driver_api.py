"""The CUDA driver API as typed calls: handles and addresses are plain ints, and every failure is an error that says what to do."""

import ctypes
import importlib
from typing import Any

from mlc.dtypes import BY_NAME
from mlc.errors import ArtifactError, CompilerError, InputError, MlcError, ResourceError, TargetError
from mlc.options import format_size
from mlc.runtime.gpu_device import KernelFault
from mlc.runtime.gpu_plan import MapLayout

PORTABLE_CLUSTER = 8  # blocks, that every GPU with clusters can hold; more have to be allowed
LEAST_DRIVER = (12, 4)
"""The CUDA version that a driver has to support: the first with all calls used here."""

INSTALL = "pip install 'mlc-compiler[cuda]'"
_NEW_DRIVER = "install a newer NVIDIA driver (nvidia-smi shows the CUDA version that yours supports)"
# Error name (after CUDA_ERROR_) -> class, hint. Others are ours: CompilerError.
_ERRORS: dict[str, tuple[type[MlcError], str]] = {
    "NO_DEVICE": (TargetError, "nvidia-smi and CUDA_VISIBLE_DEVICES say which GPUs this process may use"),
    "INVALID_DEVICE": (TargetError, "nvidia-smi and CUDA_VISIBLE_DEVICES say which GPUs this process may use"),
    "DEVICE_UNAVAILABLE": (TargetError, "another process uses the GPU exclusively (nvidia-smi -q -d COMPUTE)"),
    "NOT_INITIALIZED": (TargetError, "CUDA does not survive fork(): load the model in the child, or start it with 'spawn'"),
    "SYSTEM_DRIVER_MISMATCH": (TargetError, "the NVIDIA kernel module and libcuda differ: reboot, or reinstall the driver"),
    "COMPAT_NOT_SUPPORTED_ON_DEVICE": (TargetError, _NEW_DRIVER),
    "SYSTEM_NOT_READY": (TargetError, "start the NVIDIA fabric manager, or wait until it is up"),
    "STUB_LIBRARY": (TargetError, "a CUDA toolkit's stub of libcuda is found before the driver's: correct LD_LIBRARY_PATH"),
    "OPERATING_SYSTEM": (TargetError, "the NVIDIA device files cannot be used: check the permissions of /dev/nvidia*"),
    "UNSUPPORTED_PTX_VERSION": (TargetError, _NEW_DRIVER),
    "UNSUPPORTED_TOOLCHAIN": (TargetError, _NEW_DRIVER),
    "NO_BINARY_FOR_GPU": (TargetError, "compile the model for this GPU's architecture (mlc doctor shows it)"),
    "INVALID_IMAGE": (ArtifactError, "compile the model again; if it was compiled with a newer CUDA toolkit, " + _NEW_DRIVER),
    "INVALID_PTX": (ArtifactError, "compile the model again"),
    "NOT_FOUND": (ArtifactError, "compile the model again"),
    "OUT_OF_MEMORY": (ResourceError, "end other users of the GPU's memory (nvidia-smi lists them), or use a smaller batch"),
    "DEINITIALIZED": (TargetError, "the process is ending"),
}
# A kernel did something wrong; the context is dead from then on.
_FAULTS = frozenset(("ILLEGAL_ADDRESS", "LAUNCH_TIMEOUT", "ASSERT", "HARDWARE_STACK_ERROR", "ILLEGAL_INSTRUCTION", "MISALIGNED_ADDRESS",
                     "INVALID_ADDRESS_SPACE", "INVALID_PC", "LAUNCH_FAILED", "TENSOR_MEMORY_LEAK", "CONTAINED", "ECC_UNCORRECTABLE"))
# A CUtensorMap, and the names of its element types.
_MAP_BYTES, _MAP_ALIGNMENT = 128, 64
_MAP_TYPES = {"f16": "CU_TENSOR_MAP_DATA_TYPE_FLOAT16", "bf16": "CU_TENSOR_MAP_DATA_TYPE_BFLOAT16",
              "f32": "CU_TENSOR_MAP_DATA_TYPE_TFLOAT32"}  # rounds on the way


class Driver:
    """Calls into libcuda. Made once per loaded program; initialises CUDA. Raises TargetError if this machine cannot do that."""

    def __init__(self) -> None:
        try:
            self._cuda: Any = importlib.import_module("cuda.bindings.driver")
        except ImportError as e:
            raise TargetError(f"the CUDA bindings for Python are not installed ({e})", hint=INSTALL) from e
        self._call("cuInit", 0)
        version = int(self._call("cuDriverGetVersion"))
        self.version = version // 1000, version % 1000 // 10
        self.require(LEAST_DRIVER)

    def require(self, needed: tuple[int, int], otherwise: str = "") -> None:
        """Raises TargetError if the driver supports only an older CUDA version than (major, minor). otherwise: ends the hint."""
        if self.version < needed:
            found, expected = (f"{major}.{minor}" for major, minor in (self.version, needed))
            raise TargetError(f"the NVIDIA driver supports CUDA {found}, expected {expected} or newer", hint=_NEW_DRIVER + otherwise)

    @property
    def description(self) -> str:
        return "a driver for CUDA {}.{}".format(*self.version)

    def _call(self, name: str, *args: Any) -> Any:
        try:
            status, *values = getattr(self._cuda, name)(*args)
        except (AttributeError, RuntimeError) as e:  # no libcuda, or one without this function
            if name == "cuInit":
                raise TargetError("the NVIDIA driver (libcuda.so.1) is not on this machine",
                                  hint="run where there is an NVIDIA GPU; compiling needs none") from e
            raise TargetError(f"the NVIDIA driver or the CUDA bindings lack {name}: {e}", hint=f"{_NEW_DRIVER}, or {INSTALL}") from e
        if int(status):
            raise self._error(name, status)
        return values[0] if len(values) == 1 else values

    def _error(self, call: str, status: Any) -> MlcError:
        reason = str(getattr(status, "name", status)).removeprefix("CUDA_ERROR_")
        if reason in _FAULTS:
            return KernelFault(call, f"CUDA_ERROR_{reason}")
        kind, hint = _ERRORS.get(reason, (CompilerError, "this is a bug in mlc, unless another library broke the CUDA context"))
        _, text = self._cuda.cuGetErrorString(status)
        words = text.decode(errors="replace") if isinstance(text, bytes) else "unknown error"
        return kind(f"{call}: CUDA_ERROR_{reason} ({words})", hint=hint)

    # -- devices and contexts -------------------------------------------------------------------------------------------

    def device_count(self) -> int:
        return int(self._call("cuDeviceGetCount"))

    def device(self, ordinal: int) -> int:
        return int(self._call("cuDeviceGet", ordinal))

    def device_name(self, device: int) -> str:
        return self._call("cuDeviceGetName", 128, device).partition(b"\0")[0].decode(errors="replace")

    def attribute(self, device: int, name: str) -> int:
        """name: of a CU_DEVICE_ATTRIBUTE_, such as COMPUTE_CAPABILITY_MAJOR."""
        return int(self._call("cuDeviceGetAttribute", getattr(self._cuda.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}"), device))

    def l2_bytes(self, ordinal: int) -> int:
        return self.attribute(self.device(ordinal), "L2_CACHE_SIZE")

    def retain_context(self, device: int) -> int:
        """The context that CUDA's runtime API, and so PyTorch and CuPy, use on this device."""
        return int(self._call("cuDevicePrimaryCtxRetain", device))

    def release_context(self, device: int) -> None:
        self._call("cuDevicePrimaryCtxRelease", device)

    def push(self, context: int) -> None:
        self._call("cuCtxPushCurrent", context)

    def pop(self) -> None:
        self._call("cuCtxPopCurrent")

    def current_device(self) -> int | None:
        """The device of this thread's current context, if it has one."""
        if int(self._call("cuCtxGetCurrent")) == 0:
            return None
        return int(self._call("cuCtxGetDevice"))

    # -- memory ---------------------------------------------------------------------------------------------------------

    def free_bytes(self) -> int:
        """Free memory of the current device."""
        free, _ = self._call("cuMemGetInfo")
        return int(free)

    def allocate(self, size: int) -> int:
        """Device memory, 256-aligned. Raises ResourceError."""
        try:
            return int(self._call("cuMemAlloc", size))
        except ResourceError as e:
            raise ResourceError(f"cannot allocate {format_size(size)} on the GPU: {e.message}", hint=e.hint) from None

    def free(self, address: int) -> None:
        self._call("cuMemFree", address)

    def allocate_host(self, size: int) -> int:
        """Host memory that the GPU can copy from and to while the CPU goes on. Raises ResourceError."""
        return int(self._call("cuMemHostAlloc", size, 0))

    def free_host(self, address: int) -> None:
        self._call("cuMemFreeHost", address)

    def upload(self, target: int, source: int, size: int, stream: int) -> None:
        self._call("cuMemcpyHtoDAsync", target, source, size, stream)

    def download(self, target: int, source: int, size: int, stream: int) -> None:
        self._call("cuMemcpyDtoHAsync", target, source, size, stream)

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        self._call("cuMemcpyDtoDAsync", target, source, size, stream)

    def fill(self, target: int, value: int, width: int, count: int, stream: int) -> None:
        """Writes `count` unsigned numbers of `width` bytes (1, 2 or 4). target: aligned to the width."""
        self._call(f"cuMemsetD{8 * width}Async", target, value, count, stream)

    def pointer_device(self, address: int) -> int:
        """The number of the device whose memory this is. Raises InputError if CUDA does not know the address."""
        attribute = self._cuda.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        try:
            return int(self._call("cuPointerGetAttribute", attribute, address))
        except CompilerError as e:
            raise InputError(f"{address:#x} is not an address of CUDA device memory ({e.message})") from None

    # -- streams and events ---------------------------------------------------------------------------------------------

    def stream(self) -> int:
        """A stream that does not wait for the legacy default stream."""
        return int(self._call("cuStreamCreate", int(self._cuda.CUstream_flags.CU_STREAM_NON_BLOCKING)))

    def destroy_stream(self, stream: int) -> None:
        self._call("cuStreamDestroy", stream)

    def synchronize(self, stream: int) -> None:
        self._call("cuStreamSynchronize", stream)

    def event(self, timing: bool) -> int:
        flags = self._cuda.CUevent_flags
        return int(self._call("cuEventCreate", int(flags.CU_EVENT_DEFAULT if timing else flags.CU_EVENT_DISABLE_TIMING)))

    def destroy_event(self, event: int) -> None:
        self._call("cuEventDestroy", event)

    def record(self, event: int, stream: int) -> None:
        self._call("cuEventRecord", event, stream)

    def record_in_graph(self, event: int, stream: int) -> None:
        """While capturing: each replay records the event, which is otherwise only a dependency."""
        self._call("cuEventRecordWithFlags", event, stream, int(self._cuda.CUevent_record_flags.CU_EVENT_RECORD_EXTERNAL))

    def wait(self, stream: int, event: int) -> None:
        """Later work of the stream waits for the event."""
        self._call("cuStreamWaitEvent", stream, event, 0)

    def elapsed(self, start: int, end: int) -> float:
        """Milliseconds between two recorded events."""
        return float(self._call("cuEventElapsedTime", start, end))

    # -- code -----------------------------------------------------------------------------------------------------------

    def load_module(self, image: bytes) -> int:
        return int(self._call("cuModuleLoadData", image))

    def unload_module(self, module: int) -> None:
        self._call("cuModuleUnload", module)

    def function(self, module: int, symbol: str, shared_bytes: int, cluster: int) -> int:
        """A kernel, on the device at once (lazy loading would disturb a capture), allowed `shared_bytes` of dynamic shared memory.

        cluster: blocks of its clusters; the code itself says how many.
        """
        function = self._call("cuModuleGetFunction", module, symbol.encode())
        self._call("cuFuncLoad", function)
        if shared_bytes:
            self._call("cuFuncSetAttribute", function, self._cuda.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                       shared_bytes)
        if cluster > PORTABLE_CLUSTER:
            self._call("cuFuncSetAttribute", function,
                       self._cuda.CUfunction_attribute.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1)
        return int(function)

    def launch_config(self, blocks: int, threads: int, shared_bytes: int, stream: int, pdl: bool) -> Any:
        """How a kernel is launched. pdl: it may start before the kernel ahead of it has ended, and waits by itself."""
        config = self._cuda.CUlaunchConfig()
        config.gridDimX, config.gridDimY, config.gridDimZ = blocks, 1, 1
        config.blockDimX, config.blockDimY, config.blockDimZ = threads, 1, 1
        config.sharedMemBytes, config.hStream = shared_bytes, stream
        if pdl:
            attribute = self._cuda.CUlaunchAttribute()
            attribute.id = self._cuda.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
            attribute.value.programmaticStreamSerializationAllowed = 1
            config.attrs, config.numAttrs = [attribute], 1
        return config

    def launch(self, config: Any, function: int, parameters: int) -> None:
        """parameters: address of an array of addresses of the arguments; read before this returns."""
        self._call("cuLaunchKernelEx", config, function, parameters, 0)

    def tensor_map(self, address: int, layout: MapLayout) -> tuple[object, int]:
        """The 128 bytes that describe an array and the box that one hardware copy moves; gives who owns them, and their address.

        layout: its last stride is 1. Places outside are read as zero.
        The driver wants them at a multiple of 64, which the bindings' own type is not: so the driver's function itself is called.
        """
        rank, size = len(layout.shape), BY_NAME[layout.dtype].numpy.itemsize
        function, _ = self._call("cuGetProcAddress", b"cuTensorMapEncodeTiled", 12000, 0)
        encode = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, *[ctypes.c_void_p] * 5,
                                  *[ctypes.c_int] * 4)(int(function))
        memory = ctypes.create_string_buffer(_MAP_BYTES + _MAP_ALIGNMENT)
        place = -(-ctypes.addressof(memory) // _MAP_ALIGNMENT) * _MAP_ALIGNMENT
        element = getattr(self._cuda.CUtensorMapDataType, _MAP_TYPES[layout.dtype])
        mode = getattr(self._cuda.CUtensorMapSwizzle, f"CU_TENSOR_MAP_SWIZZLE_{layout.swizzle}B")
        promotion = self._cuda.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_256B
        u64, u32 = ctypes.c_uint64 * rank, ctypes.c_uint32 * rank
        status = encode(place, int(element), rank, address, u64(*reversed(layout.shape)),
                        u64(*(s * size for s in reversed(layout.strides[:-1]))), u32(*reversed(layout.box)), u32(*[1] * rank), 0,
                        int(mode), int(promotion), 0)
        if status:
            raise self._error("cuTensorMapEncodeTiled", self._cuda.CUresult(status))
        return memory, place

    # -- graphs ---------------------------------------------------------------------------------------------------------

    def begin_capture(self, stream: int) -> None:
        """Relaxed: Python may free device memory, which stricter modes forbid, in the middle of any call."""
        self._call("cuStreamBeginCapture", stream, self._cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED)

    def end_capture(self, stream: int) -> int:
        """The captured graph, instantiated: it can be replayed any number of times."""
        graph = self._call("cuStreamEndCapture", stream)
        try:
            return int(self._call("cuGraphInstantiate", graph, 0))
        finally:
            self._call("cuGraphDestroy", graph)

    def abort_capture(self, stream: int) -> None:
        """Ends a capture that failed; what it recorded goes."""
        _, graph = self._cuda.cuStreamEndCapture(stream)
        if graph is not None and int(graph):
            self._call("cuGraphDestroy", graph)

    def launch_graph(self, graph: int, stream: int) -> None:
        self._call("cuGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        self._call("cuGraphExecDestroy", graph)
