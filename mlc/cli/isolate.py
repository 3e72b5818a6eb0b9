"""Jobs in a child process: whatever a hostile model or a compiler bug does there, the user gets one typed error and no leftovers."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

from mlc import errors
from mlc.cli.crash import crash_report
from mlc.errors import CompilerError, MlcError, ResourceError
from mlc.options import format_size
from mlc.progress import Progress

TICK = 0.2
START = "import sys; sys.path[:] = sys.argv[2:]; from mlc.cli.worker import main; main(int(sys.argv[1]))"
NO_MEMORY = ("bad_alloc", "out of memory", "Cannot allocate memory", "MemoryError", "failed to map segment",
             "Resource temporarily unavailable")


@dataclass(frozen=True)
class Limits:
    """What a job may use: seconds of wall clock and bytes of address space; None is unlimited."""

    seconds: float | None = None
    memory: int | None = None


UNLIMITED = Limits()


def run_job(job: str, request: Mapping[str, Any], *, progress: Progress, limits: Limits = UNLIMITED,
            verbose: bool = False) -> dict[str, Any]:
    """Runs `mlc.cli.jobs.<job>.job(request, report)` in a child and returns its answer (JSON both ways). Raises what it raised."""
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        text = json.dumps({"job": job, "request": request, "memory": limits.memory})
        answer, code = _converse(text, log, progress, limits)
        log.seek(0)
        output = log.read()
    if verbose and output:
        print(output, file=sys.stderr, end="")
    if answer is not None and "result" in answer:
        return answer["result"]
    failure = answer or {}
    if "error" in failure:
        raise _typed(failure["error"])
    low = limits.memory is not None and any(word in failure.get("bug", output) for word in NO_MEMORY)
    if low or code == -signal.SIGKILL or failure.get("bug", "").startswith("MemoryError"):
        raise _memory_error(progress.stage, limits)
    report = crash_report({"log.txt": output + failure.get("traceback", ""), "request.json": text})
    what = failure.get("bug") or (f"crashed ({signal.Signals(-code).name})" if code < 0 else f"died with exit code {code}")
    if limits.memory is not None:  # its end has many faces: a library does not load, Python finds a syntax error in its own modules
        limit = format_size(limits.memory)
        raise ResourceError(f"compiler {what} while in stage '{progress.stage}', with no more than --max-memory {limit}",
                            hint=f"allow more memory; if that does not help, it is a bug in mlc: the log and the request are in {report}")
    raise CompilerError(f"compiler {what} while in stage '{progress.stage}'",
                        hint=f"this is a bug in mlc; the log and the request are in {report}")


def _converse(text: str, log: IO[str], progress: Progress, limits: Limits) -> tuple[dict[str, Any] | None, int]:
    """Starts the child, relays its progress, and returns its last word (if it had one) and its exit code."""
    receive, send = os.pipe()
    with os.fdopen(receive, "rb") as pipe, tempfile.TemporaryFile("w+") as request:
        request.write(text)
        request.seek(0)
        try:
            child = subprocess.Popen([sys.executable, "-P", "-c", START, str(send), *sys.path], stdin=request, stdout=log, stderr=log,
                                     pass_fds=(send,), start_new_session=True)
        finally:
            os.close(send)
        try:
            return _listen(pipe, progress, limits), child.wait()
        finally:
            _kill(child)


def _listen(pipe: IO[bytes], progress: Progress, limits: Limits) -> dict[str, Any] | None:
    deadline = None if limits.seconds is None else time.monotonic() + limits.seconds
    answer: dict[str, Any] | None = None
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            if deadline is not None and time.monotonic() > deadline:
                raise ResourceError(f"gave up after --timeout {limits.seconds:g} s, in stage '{progress.stage}'",
                                    hint="allow more time, or leave --timeout out")
            if not selector.select(TICK):
                progress.tick()
                continue
            chunk = os.read(pipe.fileno(), 1 << 16)
            if not chunk:
                return answer
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "stage" in message:
                    progress(message["stage"], message["done"], message["total"])
                else:
                    answer = message


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Ends the child and whatever it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _typed(error: Mapping[str, Any]) -> MlcError:
    kind = getattr(errors, str(error["type"]), MlcError)
    return kind(error["message"], node=error["node"], hint=error["hint"])


def _memory_error(stage: str, limits: Limits) -> ResourceError:
    if limits.memory is not None:
        return ResourceError(f"needs more than --max-memory {format_size(limits.memory)}, in stage '{stage}'",
                             hint="allow more memory, or give smaller --shape")
    return ResourceError(f"ran out of memory in stage '{stage}'", hint="use a machine with more memory, or give smaller --shape")
