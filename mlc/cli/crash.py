"""Crash reports: small directories a user can attach to a bug report; only the newest few are kept."""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from mlc.errors import MlcError

KEEP = 20


def crash_report(files: Mapping[str, str]) -> Path:
    """Writes the files (name to text) and the command line into a new report directory, and returns it."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    try:
        from mlc.cache import default_root

        parent = default_root() / "crashes"
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in sorted(parent.iterdir())[: 1 - KEEP]:
            shutil.rmtree(old, ignore_errors=True)
        report = parent / name
        report.mkdir(mode=0o700, exist_ok=True)
    except (OSError, MlcError):  # no usable cache directory
        report = Path(tempfile.mkdtemp(prefix="mlc-crash-"))
    for file, text in {"command.txt": " ".join(sys.argv) + "\n", **files}.items():
        (report / file).write_text(text, errors="replace")
    return report
