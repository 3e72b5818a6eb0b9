"""Runs a CPU artifact in this process: checks the machine, places the code, and hands each call to a thread team."""

import ctypes
import os
import platform
import re
import threading
import weakref
from collections.abc import Sequence
from functools import lru_cache
from typing import cast

import numpy as np

from mlc.artifact import ALIGN, Artifact, aligned_empty
from mlc.backends.cpu.elf import LoadedCode
from mlc.backends.cpu.team import lease
from mlc.errors import ArtifactError, OptionError, TargetError
from mlc.target import Target

_SYNC_BYTES = 128
_MAX_THREADS = 1024
_ENTRY = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)

# LLVM's name -> Linux's, after both lost their punctuation, where they still differ.
_LINUX_NAMES = {"sse3": "pni", "pclmul": "pclmulqdq", "bmi": "bmi1", "lzcnt": "abm", "sahf": "lahflm", "sha": "shani", "crc32": "sse42",
                # Linux names the parts of AVX10.1, not the whole; this is the newest of them.
                "avx101": "avx512fp16"}
# What LLVM reports of a host but never selects by itself; Linux hides some of them (errata, virtual machines).
_NEVER_SELECTED = frozenset(("64bit x87 shstk rdseed rdrnd prfchw invpcid fsgsbase clzero clwb clflushopt cldemote wbnoinvd rdpid rdpru "
                             "mwaitx pku ptwrite waitpkg xsave xsavec xsaveopt xsaves enqcmd serialize uintr tsxldtrk rtm sgx movdiri "
                             "movdir64b pconfig hreset amx-fp16 prefetchi").split())


class CpuProgram:
    """An artifact for `cpu`, loaded: code, arena, and the number of threads of each call.

    threads: including the caller; by default MLC_NUM_THREADS, else the cores this process may use; never more than the plan's
    `max_threads`, if it has one (the most that any of its launches can use: waking more only costs time).
    Raises TargetError if this machine lacks what the code was compiled for, ArtifactError if the artifact is malformed, OptionError for a
    bad number of threads, ResourceError if memory is short.
    """

    def __init__(self, artifact: Artifact, threads: int | None = None) -> None:
        plan = artifact.plan
        limit, features = plan.get("max_threads", _MAX_THREADS), plan.get("cpu_features", [])
        if type(limit) is not int or limit < 1 or not isinstance(features, list):
            raise ArtifactError(f"plan.json: found max_threads {limit!r}, cpu_features {features!r:.200}, expected a number and a list")
        self.threads = min(thread_count(threads), limit)
        _check_machine([str(f) for f in cast("list[object]", features)])
        match plan:
            case {"entry": str(entry), "arena_bytes": int(arena_bytes), "objects": [*objects], "inputs": [*inputs], "outputs": [*outputs]}:
                pass
            case _:
                raise ArtifactError("plan.json: expected entry, arena_bytes, objects, inputs and outputs")
        if missing := [name for name in objects if name not in artifact.objects]:
            raise ArtifactError(f"plan.json: objects {missing} are not in the artifact")
        if arena_bytes < 0:
            raise ArtifactError(f"plan.json: arena_bytes is {arena_bytes}")
        self._code = LoadedCode({name: artifact.objects[name] for name in objects})
        self._entry = self._code.address(entry)
        self._call = _ENTRY(self._entry)
        # Code is compiled for aligned weights; those of an in-memory artifact may lie anywhere.
        self._weights = [w if _address(w) % ALIGN == 0 else _aligned(w) for w in artifact.weights]
        self._weight_table = (ctypes.c_void_p * max(1, len(self._weights)))(*map(_address, self._weights))
        self._inputs = (ctypes.c_void_p * max(1, sum("value" not in i for i in inputs)))()
        self._outputs = (ctypes.c_void_p * max(1, len(outputs)))()
        self._arena = aligned_empty((arena_bytes,), np.dtype(np.uint8))
        self._sync = aligned_empty((_SYNC_BYTES,), np.dtype(np.uint8))
        self._addresses = (ctypes.addressof(self._inputs), ctypes.addressof(self._outputs), ctypes.addressof(self._weight_table),
                           _address(self._arena))
        self._sync_address = _address(self._sync)
        self._lock = threading.Lock()  # the arena, the tables and the sync block serve one call at a time
        _programs.add(self)

    @staticmethod
    def check(targets: Sequence[Target]) -> None:
        """Raises TargetError if this machine lacks what code for a target needs."""
        _check_machine(targets[0].features)

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        """See `mlc.runtime.executor.Program`."""
        with self._lock:
            for i, array in enumerate(inputs):
                self._inputs[i] = _address(array)
            for i, array in enumerate(outputs):
                self._outputs[i] = _address(array)
            ctypes.memset(self._sync_address, 0, _SYNC_BYTES)
            if self.threads == 1:
                self._call(*self._addresses, 0, 1, self._sync_address)
            else:
                with lease(self.threads) as team:
                    team.run(self._entry, *self._addresses, self._sync_address)

    def forked(self) -> None:
        """In a forked child: the lock may have been held by a thread that is not here."""
        self._lock = threading.Lock()


_programs: "weakref.WeakSet[CpuProgram]" = weakref.WeakSet()


def _after_fork() -> None:
    for program in list(_programs):
        program.forked()


os.register_at_fork(after_in_child=_after_fork)


def thread_count(threads: int | None) -> int:
    """The number of threads to use: the argument, else MLC_NUM_THREADS, else the cores this process may use. Raises OptionError."""
    given = threads is not None
    if not given and (text := os.environ.get("MLC_NUM_THREADS", "").strip()):
        if not text.isdecimal():
            raise OptionError(f"MLC_NUM_THREADS is {text!r}, expected a number of threads")
        threads = int(text)
    if threads is None:
        return min(len(os.sched_getaffinity(0)), _cpu_quota(), _MAX_THREADS)
    if not 1 <= threads <= _MAX_THREADS:
        where = "" if given else " in MLC_NUM_THREADS"
        raise OptionError(f"found {threads} threads{where}, expected 1 to {_MAX_THREADS}")
    return threads


def _cpu_quota() -> int:
    """Cores' worth of time that the container may use, rounded up. More threads than that would be stopped in the middle of barriers."""
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        return _MAX_THREADS if quota == "max" else max(1, -(-int(quota) // int(period)))
    except (OSError, ValueError, ZeroDivisionError):  # no cgroup v2 here
        return _MAX_THREADS


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]  # a third of the cost of array.ctypes.data


def _aligned(array: np.ndarray) -> np.ndarray:
    copy = aligned_empty(array.shape, array.dtype)
    copy[...] = array
    return copy


@lru_cache(maxsize=1)
def _cpu_flags() -> frozenset[str]:
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("flags"):
                return frozenset(map(_plain, line.partition(":")[2].split()))
    return frozenset()


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def _check_machine(features: Sequence[str]) -> None:
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise TargetError(f"target cpu: found {platform.system()} on {platform.machine()}, expected Linux on x86_64")
    flags = _cpu_flags()
    wanted = {f: _plain(f) for f in features if f not in _NEVER_SELECTED}
    missing = sorted(f for f, plain in wanted.items() if _LINUX_NAMES.get(plain, plain) not in flags)
    if missing:
        raise TargetError(f"this CPU lacks {', '.join(missing)}, which the artifact was compiled for",
                          hint="compile on this machine, or for a CPU with fewer features")
