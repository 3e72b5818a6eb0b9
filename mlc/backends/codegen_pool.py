"""LLVM in child processes: llvmlite compiles one module at a time per process, so several kernels at a time take several processes."""

import json
import queue
import struct
import subprocess
import sys
import tempfile
from dataclasses import asdict
from types import TracebackType
from typing import IO

from mlc.backends.llvm import Machine, assembly, object_code
from mlc.errors import CompilerError

_START = "import sys; sys.path[:] = sys.argv[3:]; from mlc.backends.codegen_pool import main; main(sys.argv[1], sys.argv[2])"
_LENGTH = struct.Struct("<Q")


class CodegenPool:
    """`size` processes that turn LLVM IR text into objects for `machine`; ends them when left. `compile` may be called by many threads.

    form: "object", or "assembly" for targets whose assembler is not LLVM's.
    """

    def __init__(self, size: int, machine: Machine, form: str = "object") -> None:
        self._log = tempfile.TemporaryFile()
        command = [sys.executable, "-c", _START, json.dumps(asdict(machine)), form, *sys.path]
        self._all = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log) for _ in range(size)]
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        for process in self._all:
            self._idle.put(process)

    def compile(self, text: str) -> bytes:
        """The object (or bytes of assembly) of one text. Raises CompilerError if LLVM refuses it, or dies of it."""
        process = self._idle.get()
        try:
            assert process.stdin is not None and process.stdout is not None
            _write(process.stdin, text.encode())
            answer = _read(process.stdout)
        except OSError:
            answer = None
        finally:
            self._idle.put(process)
        if answer is None:
            raise CompilerError(f"LLVM failed on generated code: {self._last_words()}")
        return answer

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "the process ended without a message"

    def __enter__(self) -> "CodegenPool":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self._all:
            assert process.stdin is not None and process.stdout is not None
            process.kill()  # idle, or its result is no longer wanted
            process.stdin.close()
            process.stdout.close()
            process.wait()
        self._log.close()


def _write(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def _read(pipe: IO[bytes]) -> bytes | None:
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    data = pipe.read(size := _LENGTH.unpack(head)[0])
    return data if len(data) == size else None


def main(machine: str, form: str) -> None:
    """The child: answers each text with its object until there is no more; a failure ends it, with the reason as its last words."""
    target = Machine(**json.loads(machine))
    while (text := _read(sys.stdin.buffer)) is not None:
        try:
            result = object_code(text.decode(), target) if form == "object" else assembly(text.decode(), target).encode()
        except CompilerError as error:
            sys.exit(str(error).replace("\n", " "))
        _write(sys.stdout.buffer, result)
