"""Which GPUs this machine has, asked without a vendor's package: libcuda for NVIDIA's, the kernel's topology files for AMD's."""
# pyright: strict

import ctypes
from dataclasses import dataclass
from pathlib import Path

# CUdevice_attribute
_MULTIPROCESSORS, _L2_BYTES, _MAJOR, _MINOR = 16, 38, 75, 76
_TOPOLOGY = Path("/sys/class/kfd/kfd/topology/nodes")


@dataclass(frozen=True)
class Device:
    """A GPU. arch: `sm_90`, `gfx942`. sms: multiprocessors or compute units. l2: bytes, 0 if unknown."""

    arch: str
    sms: int
    l2: int


def present(kind: str) -> Device | None:
    """The first GPU of a kind ("cuda", "rocm") that this process may use, or None."""
    return _cuda() if kind == "cuda" else _rocm()


def _cuda() -> Device | None:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    count, device = ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value or driver.cuDeviceGet(ctypes.byref(device), 0):
        return None

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        return 0 if driver.cuDeviceGetAttribute(ctypes.byref(value), number, device) else value.value

    return Device(f"sm_{attribute(_MAJOR)}{attribute(_MINOR)}", attribute(_MULTIPROCESSORS), attribute(_L2_BYTES))


def _rocm(topology: Path = _TOPOLOGY) -> Device | None:
    for node in sorted(topology.glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            lines = (node / "properties").read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        facts = {key: int(value) for key, _, value in (line.partition(" ") for line in lines) if value.isdecimal()}
        if version := facts.get("gfx_target_version", 0):  # 0: a CPU; 90402: gfx942, the last digit hexadecimal
            major, minor, stepping = version // 10000, version // 100 % 100, version % 100
            return Device(f"gfx{major}{minor}{stepping:x}", facts.get("simd_count", 0) // max(facts.get("simd_per_cu", 0), 1), 0)
    return None


__all__ = ["Device", "present"]
