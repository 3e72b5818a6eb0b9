"""`cuda.bindings.driver` for machines without a GPU: device memory is host memory, kernels are Python functions, every call is recorded."""

import ctypes
import enum
import inspect
import sys
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest


class CUresult(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NOT_INITIALIZED = 3
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_INVALID_IMAGE = 200
    CUDA_ERROR_NO_BINARY_FOR_GPU = 209
    CUDA_ERROR_NOT_FOUND = 500
    CUDA_ERROR_ILLEGAL_ADDRESS = 700
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900


class Fault(Exception):
    """What a kernel raises to make the GPU stop."""


OK, DEAD = CUresult.CUDA_SUCCESS, CUresult.CUDA_ERROR_ILLEGAL_ADDRESS


class FakeCuda:
    """kernels: symbol -> function of device addresses. capabilities: of each GPU. free: bytes of memory. errors: call -> what it returns.

    calls: (name, arguments) of every call. launches: (symbol, programmatic) of every launch issued or captured.
    clock: advances by one with each command that the GPU executes.
    """

    def __init__(self, kernels: dict[str, Callable[..., None]] | None = None, capabilities: tuple[tuple[int, int], ...] = ((9, 0),),
                 free: int = 1 << 30, version: int = 13000) -> None:
        self.kernels, self.capabilities, self.memory_free, self.version = kernels or {}, capabilities, free, version
        self.errors: dict[str, CUresult] = {}
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.launches: list[tuple[str, bool]] = []
        self.blocks: dict[int, np.ndarray] = {}
        self.pinned: dict[int, np.ndarray] = {}
        self.symbols: dict[int, str] = {}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.events: dict[int, int] = {}
        self.capturing: list[Callable[[], None]] | None = None
        self.contexts: list[int] = []
        self.retained = 0
        self.handles = 1000
        self.clock = 0
        self.dead = False
        names = ("COMPUTE_CAPABILITY_MAJOR", "COMPUTE_CAPABILITY_MINOR", "L2_CACHE_SIZE")
        self.CUdevice_attribute = SimpleNamespace(**{f"CU_DEVICE_ATTRIBUTE_{n}": n for n in names})
        self.CUpointer_attribute = SimpleNamespace(CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL="ordinal")
        self.CUstream_flags = SimpleNamespace(CU_STREAM_NON_BLOCKING=1)
        self.CUevent_flags = SimpleNamespace(CU_EVENT_DEFAULT=0, CU_EVENT_DISABLE_TIMING=2)
        self.CUevent_record_flags = SimpleNamespace(CU_EVENT_RECORD_EXTERNAL=1)
        self.CUfunction_attribute = SimpleNamespace(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES="shared",
                                                     CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED="cluster")
        self.CUstreamCaptureMode = SimpleNamespace(CU_STREAM_CAPTURE_MODE_RELAXED="relaxed")
        self.CUlaunchAttributeID = SimpleNamespace(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION="pdl")
        self.CUlaunchConfig = lambda: SimpleNamespace(attrs=[], numAttrs=0)
        self.CUlaunchAttribute = lambda: SimpleNamespace(id=None, value=SimpleNamespace(programmaticStreamSerializationAllowed=0))

    def install(self, patch: pytest.MonkeyPatch) -> "FakeCuda":
        """Makes `import cuda.bindings.driver` find this object."""
        for name in ("cuda", "cuda.bindings"):
            patch.setitem(sys.modules, name, SimpleNamespace(__path__=[]))  # type: ignore[arg-type]
        patch.setitem(sys.modules, "cuda.bindings.driver", self)  # type: ignore[arg-type]
        return self

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def view(self, address: int, size: int) -> np.ndarray:
        """Bytes of device memory; they must all be of one allocation."""
        for base, block in self.blocks.items():
            if base <= address and address + size <= base + len(block):
                return block[address - base:address - base + size]
        raise AssertionError(f"{size} bytes at {address:#x} are not device memory")

    def array(self, address: int, count: int, dtype: Any = np.float32) -> np.ndarray:
        """Device memory as an array."""
        return self.view(address, count * np.dtype(dtype).itemsize).view(dtype)

    def allocation(self, size: int) -> int:
        """Device memory that somebody else allocated."""
        return self._cuMemAlloc(size)[1]

    def __getattr__(self, name: str) -> Callable[..., tuple[Any, ...]]:
        if not name.startswith("cu"):
            raise AttributeError(name)
        function = self.__getattribute__(f"_{name}")

        def call(*args: Any) -> tuple[Any, ...]:
            self.calls.append((name, args))
            if name in self.errors:
                return (self.errors[name], None)
            if self.dead and name not in ("cuGetErrorString", "cuCtxPopCurrent", "cuCtxPushCurrent"):
                return (DEAD, None)
            if name.startswith(("cuMem", "cuModule", "cuStream", "cuEvent")):
                assert self.contexts, f"{name} without a context"
            return function(*args)

        return call

    def _handle(self) -> int:
        self.handles += 1
        return self.handles

    def _queue(self, work: Callable[[], None]) -> tuple[CUresult]:
        if self.capturing is not None:
            self.capturing.append(work)
        else:
            self._execute(work)
        return (OK,)

    def _execute(self, work: Callable[[], None]) -> None:
        if not self.dead:
            self.clock += not isinstance(work, partial)  # a clock takes no time
            try:
                work()
            except Fault:
                self.dead = True

    # -- devices and contexts
    def _cuInit(self, flags: int) -> Any:
        return (OK,)

    def _cuDriverGetVersion(self) -> Any:
        return OK, self.version

    def _cuGetErrorString(self, status: CUresult) -> Any:
        return OK, f"text of {status.name}".encode()

    def _cuDeviceGetCount(self) -> Any:
        return OK, len(self.capabilities)

    def _cuDeviceGet(self, ordinal: int) -> Any:
        return OK, ordinal

    def _cuDeviceGetName(self, length: int, device: int) -> Any:
        return OK, b"NVIDIA Fake".ljust(length, b"\0")

    def _cuDeviceGetAttribute(self, name: str, device: int) -> Any:
        values = dict(zip(("COMPUTE_CAPABILITY_MAJOR", "COMPUTE_CAPABILITY_MINOR"), self.capabilities[device]))
        return OK, {**values, "L2_CACHE_SIZE": 4096}[name]

    def _cuDevicePrimaryCtxRetain(self, device: int) -> Any:
        self.retained += 1
        return OK, 1 + device

    def _cuDevicePrimaryCtxRelease(self, device: int) -> Any:
        self.retained -= 1
        return (OK,)

    def _cuCtxPushCurrent(self, context: int) -> Any:
        self.contexts.append(context)
        return (OK,)

    def _cuCtxPopCurrent(self) -> Any:
        return OK, self.contexts.pop()

    def _cuCtxGetCurrent(self) -> Any:
        return OK, self.contexts[-1] if self.contexts else 0

    def _cuCtxGetDevice(self) -> Any:
        return OK, self.contexts[-1] - 1

    # -- memory
    def _cuMemGetInfo(self) -> Any:
        return OK, self.memory_free, 2 * self.memory_free

    def _cuMemAlloc(self, size: int) -> Any:
        raw = np.full(size + 256, 0xCD, np.uint8)
        start = -raw.__array_interface__["data"][0] % 256
        block = raw[start:start + size]
        self.blocks[block.__array_interface__["data"][0]] = block
        return OK, block.__array_interface__["data"][0]

    def _cuMemFree(self, address: int) -> Any:
        del self.blocks[address]
        return (OK,)

    def _cuMemHostAlloc(self, size: int, flags: int) -> Any:
        block = np.full(size, 0xCD, np.uint8)
        self.pinned[block.__array_interface__["data"][0]] = block
        return OK, block.__array_interface__["data"][0]

    def _cuMemFreeHost(self, address: int) -> Any:
        del self.pinned[address]
        return (OK,)

    def _cuMemcpyHtoDAsync(self, target: int, source: int, size: int, stream: int) -> Any:
        return self._queue(lambda: ctypes.memmove(self.view(target, size).ctypes.data, source, size) and None)

    def _cuMemcpyDtoHAsync(self, target: int, source: int, size: int, stream: int) -> Any:
        return self._queue(lambda: ctypes.memmove(target, self.view(source, size).ctypes.data, size) and None)

    def _cuMemcpyDtoDAsync(self, target: int, source: int, size: int, stream: int) -> Any:
        return self._queue(lambda: np.copyto(self.view(target, size), self.view(source, size)))

    def _fill(self, dtype: Any, target: int, value: int, count: int) -> Any:
        assert target % np.dtype(dtype).itemsize == 0
        return self._queue(lambda: self.array(target, count, dtype).fill(value))

    def _cuMemsetD8Async(self, target: int, value: int, count: int, stream: int) -> Any:
        return self._fill(np.uint8, target, value, count)

    def _cuMemsetD16Async(self, target: int, value: int, count: int, stream: int) -> Any:
        return self._fill(np.uint16, target, value, count)

    def _cuMemsetD32Async(self, target: int, value: int, count: int, stream: int) -> Any:
        return self._fill(np.uint32, target, value, count)

    def _cuPointerGetAttribute(self, attribute: str, address: int) -> Any:
        for base, block in self.blocks.items():
            if base <= address < base + len(block):
                return OK, 0
        return CUresult.CUDA_ERROR_INVALID_VALUE, None

    # -- streams and events
    def _cuStreamCreate(self, flags: int) -> Any:
        return OK, self._handle()

    def _cuStreamDestroy(self, stream: int) -> Any:
        return (OK,)

    def _cuStreamSynchronize(self, stream: int) -> Any:
        return (DEAD if self.dead else OK,)

    def _cuStreamWaitEvent(self, stream: int, event: int, flags: int) -> Any:
        return (OK,)

    def _cuEventCreate(self, flags: int) -> Any:
        event = self._handle()
        self.events[event] = -1
        return OK, event

    def _cuEventDestroy(self, event: int) -> Any:
        del self.events[event]
        return (OK,)

    def _cuEventRecord(self, event: int, stream: int) -> Any:
        assert self.capturing is None, "inside a capture this is a dependency, not a clock"
        self.events[event] = self.clock
        return (OK,)

    def _cuEventRecordWithFlags(self, event: int, stream: int, flags: int) -> Any:
        assert self.capturing is not None and flags == 1
        self.capturing.append(partial(self._tell, event))
        return (OK,)

    def _tell(self, event: int) -> None:
        self.events[event] = self.clock

    def _cuEventElapsedTime(self, start: int, end: int) -> Any:
        return OK, float(self.events[end] - self.events[start])

    # -- code
    def _cuModuleLoadData(self, image: bytes) -> Any:
        if image != b"cubin":
            return CUresult.CUDA_ERROR_INVALID_IMAGE, None
        return OK, self._handle()

    def _cuModuleUnload(self, module: int) -> Any:
        return (OK,)

    def _cuModuleGetFunction(self, module: int, name: bytes) -> Any:
        if name.decode() not in self.kernels:
            return CUresult.CUDA_ERROR_NOT_FOUND, None
        handle = self._handle()
        self.symbols[handle] = name.decode()
        return OK, handle

    def _cuFuncLoad(self, function: int) -> Any:
        return (OK,)

    def _cuFuncSetAttribute(self, function: int, attribute: str, value: int) -> Any:
        return (OK,)

    def _cuLaunchKernelEx(self, config: Any, function: int, parameters: int, extra: int) -> Any:
        symbol = self.symbols[function]
        kernel = self.kernels[symbol]
        count = len(inspect.signature(kernel).parameters)
        pointers = (ctypes.c_uint64 * count).from_address(parameters)
        args = [ctypes.c_uint64.from_address(p).value for p in pointers]  # read at once, as the driver does
        assert config.gridDimX > 0 and config.blockDimX > 0 and len(config.attrs) == config.numAttrs
        self.launches.append((symbol, any(a.id == "pdl" and a.value.programmaticStreamSerializationAllowed for a in config.attrs)))
        return self._queue(lambda: kernel(*args))

    # -- graphs
    def _cuStreamBeginCapture(self, stream: int, mode: str) -> Any:
        assert self.capturing is None
        self.capturing = []
        return (OK,)

    def _cuStreamEndCapture(self, stream: int) -> Any:
        assert self.capturing is not None
        graph = self._handle()
        self.graphs[graph], self.capturing = self.capturing, None
        return OK, graph

    def _cuGraphInstantiate(self, graph: int, flags: int) -> Any:
        return OK, graph

    def _cuGraphDestroy(self, graph: int) -> Any:
        return (OK,)

    def _cuGraphExecDestroy(self, graph: int) -> Any:
        del self.graphs[graph]
        return (OK,)

    def _cuGraphLaunch(self, graph: int, stream: int) -> Any:
        for work in self.graphs[graph]:
            self._execute(work)
        return (OK,)
