"""mlc-opt: runs passes on a .mlir file, for tests and for looking at what the compiler does. Flags follow mlir-opt.

Exit codes: 0 done; 1 the input, the pipeline or a flag is wrong; 70 mlc is (a pass crashed, or left invalid IR).
"""

import ctypes
import os
import secrets
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mlc.cli.opt_flags import Flags, parse_flags
from mlc.errors import MlcError
from mlc.passes.registry import PASSES, PIPELINES, describe
from mlc.passes.upstream import UPSTREAM_PASSES

BUG = 70
_PR_SET_PDEATHSIG = 1


def main() -> NoReturn:
    """The `mlc-opt` command. Works in a child, so that a crash of the C++ side still ends in a message and a reproducer."""
    reproducer = Path(tempfile.gettempdir()) / f"mlc-opt-{os.getpid()}-{secrets.token_hex(4)}.mlir"
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        code = run(sys.argv[1:], reproducer=reproducer)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # the parent's atexit work is not ours
    try:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except KeyboardInterrupt:
        status = -signal.SIGINT
    if status >= 0:
        sys.exit(status)
    if status == -signal.SIGINT:
        sys.exit(130)
    print(f"mlc-opt: crashed in C++ code ({signal.Signals(-status).name})", file=sys.stderr)
    reproducer = Path(parse_flags(sys.argv[1:]).options.mlir_pass_pipeline_crash_reproducer or reproducer)
    if reproducer.exists():
        print(f"  reproducer: mlc-opt --run-reproducer {reproducer}", file=sys.stderr)
    sys.exit(BUG)


def run(argv: Sequence[str], *, reproducer: Path | None = None) -> int:
    """Runs mlc-opt in this process; returns the exit code. reproducer: where a failure leaves one, if no flag says."""
    debug = bool(os.environ.get("MLC_DEBUG"))
    try:
        flags = parse_flags(argv)
        debug = debug or flags.options.debug
        return _run(flags, reproducer, debug)
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    except MlcError as error:
        print(f"mlc-opt: error: {error}", file=sys.stderr)
        if debug:
            traceback.print_exception(error)
        return error.exit_code
    except BrokenPipeError:  # mlc-opt ... | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        print(f"mlc-opt: internal error: {type(error).__name__}: {error}", file=sys.stderr)
        print("  hint: this is a bug in mlc; --debug shows where", file=sys.stderr)
        if debug:
            traceback.print_exception(error)
        return BUG


def _run(flags: Flags, reproducer: Path | None, debug: bool) -> int:
    if flags.options.list_passes and not flags.options.load_pass_plugin:
        list_passes()
        return 0
    from mlc.cli.opt_session import Session  # imports MLIR

    session = Session(flags, reproducer, debug)
    if flags.options.list_passes:
        list_passes()
        return 0
    if flags.options.show_dialects:
        session.show_dialects()
        return 0
    return session.run()


def list_passes() -> None:
    """Passes with their options, pipelines, and what MLIR brings."""
    print("passes of mlc:")
    for name in sorted(PASSES):
        found = describe(name)
        print(f"  --{name:<34} {found.summary}")
        for option in found.options:
            print(f"      {option}")
    print("pipelines of mlc:")
    for name, text in sorted(PIPELINES.items()):
        shown = " ".join(text.split())
        print(f"  --{name:<34} {shown if len(shown) <= 90 else shown[:87] + '...'}")
    print(f"passes of MLIR (C++; {len(UPSTREAM_PASSES)} listed, others run too; described at https://mlir.llvm.org/docs/Passes):")
    for name in UPSTREAM_PASSES:
        print(f"  --{name}")
