"""Looks at this machine: packages, devices, toolchains. Every row says what is there or how to get it."""

import ctypes
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import mlc
from mlc.backends.cuda.driver_api import LEAST_DRIVER
from mlc.cli.jobs.common import Answer, Request
from mlc.errors import MlcError
from mlc.options import format_size
from mlc.progress import Report
from mlc.target import Target

NEEDED = ("torch-mlir", "llvmlite", "onnx", "protobuf", "numpy", "ml_dtypes", "safetensors", "click", "platformdirs", "filelock")
OPTIONAL = {
    "onnxruntime": "for verify and bench --vs ort: pip install 'mlc-compiler[ort]'",
    "torch": "for bench --vs torch: pip install torch",
    "rich": "for a live progress line: pip install 'mlc-compiler[rich]'",
}
Row = tuple[str, str, str, str]
"""(section, what, ok | missing | problem, detail)."""


def job(request: Request, report: Report) -> Answer:
    """request: ops (list those instead of looking at the machine)."""
    report("look", 0, 0)
    if request["ops"]:
        from mlc.frontend.onnx.registry import known_ops

        return {"ops": [(f"{domain or 'ai.onnx'}::{op}", ", ".join(map(str, since))) for domain, op, since in known_ops()]}
    return {"rows": [*_packages(), *_clash(), *_cpu(), *_cuda(), *_rocm(), *_cache()], "targets": Target.known()}


def _packages() -> Iterator[Row]:
    yield "mlc", "mlc", "ok", f"{mlc.__version__} in {Path(mlc.__file__).parent}"
    supported = (3, 11) <= sys.version_info[:2] <= (3, 12)
    python = f"{platform.python_version()} on {platform.platform()}" + ("" if supported else "; expected 3.11 or 3.12")
    yield "mlc", "python", "ok" if supported else "problem", python
    for name in NEEDED:
        version = _version(name)
        yield "mlc", name, "ok" if version else "problem", version or f"not installed: pip install {name}"
    for name, use in OPTIONAL.items():
        version = _version(name)
        yield "mlc", name, "ok" if version else "missing", version or use


def _clash() -> Iterator[Row]:
    owners = {name.lower() for name in metadata.packages_distributions().get("mlc", [])} - {mlc.DISTRIBUTION}
    if owners:
        others = " ".join(sorted(owners))
        yield "mlc", "import name", "problem", (f"{others} also installs the package 'mlc': pip uninstall {others} {mlc.DISTRIBUTION}, "
                                                f"then pip install {mlc.DISTRIBUTION}")


def _cpu() -> Iterator[Row]:
    names = [line.partition(":")[2].strip() for line in _read("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    yield "cpu", "processor", "ok", f"{names[0] if names else platform.processor()}, {len(os.sched_getaffinity(0))} usable cores"
    try:
        yield "cpu", "target", "ok", str(Target.host())
    except MlcError as error:
        yield "cpu", "target", "problem", str(error)


def _cuda() -> Iterator[Row]:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        yield "cuda", "driver", "missing", "libcuda.so.1 not found: install the NVIDIA driver to run (not needed to compile)"
        driver = None
    else:
        yield from _cuda_devices(driver)
    yield _ptxas(None if driver is None else _driver_version(driver))
    yield _module("cuda", "cuda-bindings", "cuda.bindings", "pip install 'mlc-compiler[cuda]' to run on NVIDIA GPUs")


def _ptxas(driver: tuple[int, int] | None) -> Row:
    """driver: the CUDA version that this machine's supports."""
    from mlc.backends.cuda import ptxas

    try:
        found = ptxas.find_ptxas()
    except MlcError as error:
        return "cuda", "ptxas", "missing", f"needed to compile: {error.hint}"
    said, needed = f"{ptxas.version(found)}, {found}", tuple(ptxas.least_driver(found))
    if driver is not None and driver < needed:
        return "cuda", "ptxas", "problem", (f"{said}; its code needs a driver for CUDA {needed[0]}.{needed[1]} or newer, to run here take "
                                            f"the ptxas of CUDA {driver[0]} or install a newer NVIDIA driver")
    return "cuda", "ptxas", "ok", said


def _driver_version(driver: ctypes.CDLL) -> tuple[int, int]:
    version = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))  # needs no GPU, and no cuInit
    return version.value // 1000, version.value % 1000 // 10


def _cuda_devices(driver: ctypes.CDLL) -> Iterator[Row]:
    count = ctypes.c_int()
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status:
        yield "cuda", "driver", "problem", f"libcuda.so.1 is there, but it returned error {status}: no NVIDIA GPU, or no access to it"
        return
    found = _driver_version(driver)
    old = "" if found >= LEAST_DRIVER else f"; expected {'.'.join(map(str, LEAST_DRIVER))} or newer: install a newer NVIDIA driver"
    yield "cuda", "driver", "problem" if old else "ok", f"supports CUDA {found[0]}.{found[1]}{old}"
    known = Target.known()
    for index in range(count.value):
        name, major, minor, memory = ctypes.create_string_buffer(128), ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
        driver.cuDeviceGetName(name, len(name), index)
        driver.cuDeviceGetAttribute(ctypes.byref(major), 75, index)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
        driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, index)
        driver.cuDeviceTotalMem_v2(ctypes.byref(memory), index)
        arch = f"sm_{major.value}{minor.value}"
        target = next((t for t in (f"cuda:{arch}a", f"cuda:{arch}") if t in known), "cuda")
        yield "cuda", f"device {index}", "ok", (f"{name.value.decode(errors='replace')}, {arch}, {format_size(memory.value)} of memory: "
                                               f"--target {target}")


def _rocm() -> Iterator[Row]:
    try:
        hip = ctypes.CDLL("libamdhip64.so")
    except OSError:
        yield "rocm", "driver", "missing", "libamdhip64.so not found: install ROCm to run (not needed to compile)"
    else:
        count = ctypes.c_int()
        status = hip.hipGetDeviceCount(ctypes.byref(count))
        found = f"hipGetDeviceCount returned error {status}" if status else f"{count.value} devices"
        yield "rocm", "driver", "problem" if status else "ok", found
    lld = shutil.which("ld.lld") or _first("/opt/rocm/llvm/bin/ld.lld") or _in_package("ziglang", "zig")
    yield "rocm", "linker", "ok" if lld else "missing", lld or "pip install 'mlc-compiler[rocm]', or ROCm's ld.lld on PATH"


def _cache() -> Iterator[Row]:
    from mlc.cache import Cache

    try:
        cache = Cache.default()
    except MlcError as error:
        yield "cache", "directory", "problem", str(error).replace("\n ", ";")
        return
    if cache is None:
        yield "cache", "directory", "missing", "turned off (MLC_CACHE_SIZE=0)"
    else:
        entries = cache.entries()
        used = f"{format_size(sum(e.bytes for e in entries))} of {format_size(cache.max_bytes)}"
        yield "cache", "directory", "ok", f"{cache.root}: {len(entries)} entries, {used}"


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _module(section: str, name: str, module: str, how: str) -> Row:
    try:
        found = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        found = False
    return section, name, "ok" if found else "missing", (_version(name) or "installed") if found else how


def _in_package(package: str, file: str) -> str | None:
    """A file somewhere below an installed package (NVIDIA's wheels share one namespace package)."""
    spec = importlib.util.find_spec(package)
    for root in (spec.submodule_search_locations or []) if spec else []:
        if (exact := Path(root) / file).is_file():
            return str(exact)
        for found in Path(root).glob(f"*/{file}"):
            return str(found)
    return None


def _first(path: str) -> str | None:
    return path if Path(path).is_file() else None


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
