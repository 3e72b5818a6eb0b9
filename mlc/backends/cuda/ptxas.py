"""ptxas, NVIDIA's assembler: where it is, and PTX text to a cubin with what it says about registers, spills and shared memory."""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from mlc.errors import CompilerError, TargetError

_PACKAGES = ("nvidia-cuda-nvcc", "nvidia-cuda-nvcc-cu12")
_INSTALL = "pip install 'mlc-compiler[cuda]', or put the CUDA toolkit's ptxas on PATH"


@dataclass(frozen=True)
class Cubin:
    """Machine code of one kernel. registers: of a thread. spill_bytes: stored and loaded by the code. shared_bytes: static.

    remarks: what ptxas warns of, such as matrix instructions that it had to serialise.
    """

    code: bytes
    registers: int
    spill_bytes: int
    shared_bytes: int
    remarks: tuple[str, ...]


def find_ptxas() -> Path:
    """The ptxas of the PyPI package, else of PATH, else of CUDA_HOME. Raises TargetError if there is none."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    candidates = [*_packaged(), shutil.which("ptxas"), home and os.path.join(home, "bin", "ptxas")]
    found = next((c for c in candidates if c and os.access(c, os.X_OK)), None)
    if found is None:
        raise TargetError("compiling for CUDA needs ptxas, which is not installed, not on PATH and not in CUDA_HOME", hint=_INSTALL)
    return Path(found)


def _packaged() -> list[str]:
    found: list[str] = []
    for package in _PACKAGES:
        try:
            files = metadata.files(package) or []
        except metadata.PackageNotFoundError:
            continue
        found += [str(f.locate()) for f in files if f.name == "ptxas"]
    return found


@cache
def version(ptxas: Path) -> str:
    """Such as `V13.0.88`; "unknown" where it does not say."""
    run = subprocess.run([ptxas, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"\bV\d+[\d.]*", run.stdout)
    return match[0] if match else "unknown"


def least_driver(ptxas: Path) -> list[int]:
    """The CUDA version [major, minor] that a driver has to support to run this ptxas's code; [0, 0] where it does not say its own.

    A driver runs what toolkits of its own major version and of earlier ones made ("minor version compatibility").
    """
    match = re.match(r"V(\d+)\.", version(ptxas))
    return [int(match[1]) if match else 0, 0]


def identity() -> str:
    """What decides the bytes of a cubin beyond its PTX: the version of the ptxas that will be used, or "absent"."""
    try:
        return version(find_ptxas())
    except TargetError:
        return "absent"


def assemble(ptx: str, name: str, arch: str, opt_level: int, ptxas: Path) -> Cubin:
    """PTX of the kernel `name` to machine code.

    Raises TargetError if this ptxas does not run here or does not know the architecture, CompilerError (with the path of the PTX, which is
    kept) if it refuses.
    """
    code, said = _run(ptx, arch, opt_level, ptxas)
    if code is None:
        raise CompilerError(f"ptxas refuses kernel '{name}': {said}\n  PTX: {_keep(ptx, name)}")
    return _facts(code, said)


def try_out(ptx: str, arch: str, ptxas: Path) -> None:
    """Assembles PTX that is sure to be right. Raises TargetError if this ptxas does not, whatever is wrong with it."""
    code, said = _run(ptx, arch, 0, ptxas)
    if code is None:
        raise TargetError(f"{ptxas} ({version(ptxas)}) does not work: {said}", hint=_INSTALL)


def _run(ptx: str, arch: str, opt_level: int, ptxas: Path) -> tuple[bytes | None, str]:
    """The code, if there is any, and what ptxas says. Raises TargetError if it does not run here or does not know the architecture."""
    with tempfile.TemporaryDirectory(prefix="mlc-") as folder:
        source, result = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(ptx)
        command = [str(ptxas), f"-arch={arch}", f"-O{opt_level}", "-v", str(source), "-o", str(result)]
        try:
            run = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as e:
            raise TargetError(f"{ptxas} cannot be run: {e.strerror}", hint=_INSTALL) from e
        said = (run.stdout + run.stderr).replace(f"{source}, ", "").strip()
        if run.returncode == 0 and result.exists():
            return result.read_bytes(), said
    if "gpu-name" in said or "Unsupported .version" in said:
        raise TargetError(f"{ptxas} ({version(ptxas)}) cannot compile for {arch}: {said}",
                          hint="use the ptxas of another CUDA release: 12 is the last for sm_70 and sm_72")
    return None, said or f"exit code {run.returncode}"


def _facts(code: bytes, said: str) -> Cubin:
    def total(pattern: str) -> int:
        return sum(int(n) for n in re.findall(pattern, said))

    registers = max((int(n) for n in re.findall(r"Used (\d+) registers", said)), default=0)
    remarks = [line.partition(": ")[2].strip() for line in said.splitlines() if "warning" in line.lower() or "Performance Loss" in line]
    return Cubin(code, registers, total(r"(\d+) bytes spill stores") + total(r"(\d+) bytes spill loads"), total(r"(\d+) bytes smem"),
                 tuple(remarks))


def _keep(ptx: str, name: str) -> str:
    descriptor, path = tempfile.mkstemp(prefix=f"{name}-", suffix=".ptx")
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(ptx)
    return path


__all__ = ["Cubin", "assemble", "find_ptxas", "identity", "least_driver", "try_out", "version"]
