"""The child side of `isolate`: reads one request, runs one job, writes progress and one last word as JSON lines to a pipe."""

import contextlib
import ctypes
import faulthandler
import json
import os
import resource
import signal
import sys
import traceback
from importlib import import_module
from typing import Any, TextIO

from mlc.errors import CompilerError, MlcError

PR_SET_PDEATHSIG = 1


def main(channel: int) -> None:
    """Runs the request on stdin; `channel` is the file descriptor of the pipe to the parent."""
    _die_with_parent()
    faulthandler.enable()
    with os.fdopen(channel, "w", buffering=1) as pipe:
        text = json.load(sys.stdin)
        if text["memory"] is not None:
            with contextlib.suppress(ValueError):  # a lower hard limit is in force already
                resource.setrlimit(resource.RLIMIT_AS, (text["memory"], text["memory"]))
        _send(pipe, _run(pipe, text["job"], text["request"]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # tearing down native libraries may crash, and there is nothing left to do


def _run(pipe: TextIO, name: str, request: dict[str, Any]) -> dict[str, Any]:
    def report(stage: str, done: int = 0, total: int = 0) -> None:
        _send(pipe, {"stage": stage, "done": done, "total": total})

    try:
        return {"result": import_module(f"mlc.cli.jobs.{name}").job(request, report)}
    except CompilerError as error:
        return {"bug": f"failed: {error}", "traceback": traceback.format_exc()}
    except MlcError as error:
        return {"error": {"type": type(error).__name__, "message": error.message, "node": error.node, "hint": error.hint}}
    except MemoryError as error:
        return {"bug": f"MemoryError: {error}", "traceback": traceback.format_exc()}
    except Exception as error:
        return {"bug": f"failed: {type(error).__name__}: {error}", "traceback": traceback.format_exc()}


def _send(pipe: TextIO, message: dict[str, Any]) -> None:
    pipe.write(json.dumps(message) + "\n")


def _die_with_parent() -> None:
    """A parent that is killed hard takes its child along (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
