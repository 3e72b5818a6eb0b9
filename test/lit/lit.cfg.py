"""lit configuration: how tests call mlc-opt and filecheck. Run `.venv/bin/lit -q test/lit` from the repository root."""

import importlib.util
import shlex
import sys
from pathlib import Path

import lit.formats

here = Path(__file__).resolve().parent
root = here.parent.parent
python = shlex.quote(sys.executable)

config.name = "mlc"  # noqa: F821  # pyright: ignore
config.test_format = lit.formats.ShTest()  # noqa: F821  # pyright: ignore
config.suffixes = [".mlir", ".test"]  # noqa: F821  # pyright: ignore
config.excludes = ["Inputs"]  # noqa: F821  # pyright: ignore
config.test_source_root = str(here)  # noqa: F821  # pyright: ignore
config.test_exec_root = str(root / "build" / "lit")  # noqa: F821  # pyright: ignore

mlc_opt = f"{python} {shlex.quote(str(root / 'tools' / 'mlc-opt.py'))}"
config.substitutions += [  # noqa: F821  # pyright: ignore
    # What is printed parses and prints the same, through text and bytecode; then the text is checked.
    ("%roundtrip", f"{mlc_opt} %s --split-input-file --verify-roundtrip | filecheck %s"),
    ("%mlc-opt", mlc_opt),
    ("%exits", f"{python} {shlex.quote(str(here / 'exits.py'))}"),
    ("%python", python),
]
# filecheck of the same environment, and a test process that never uses a cache of the user's.
config.environment["PATH"] = f"{Path(sys.executable).parent}:{config.environment.get('PATH', '')}"  # noqa: F821  # pyright: ignore
config.environment["PYTHONPATH"] = str(root)  # noqa: F821  # pyright: ignore

if importlib.util.find_spec("psutil") is not None:  # lit needs it to end a test that hangs
    config.maxIndividualTestTime = 60  # noqa: F821  # pyright: ignore
