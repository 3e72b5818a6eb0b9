"""The flags of mlc-opt. Every pass and named pipeline is a flag too: `--cse`, `-cpu-pipeline`, `--canonicalize=top-down=false`."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from mlc.errors import OptionError
from mlc.passes.registry import PASSES, PIPELINES

EPILOG = """passes: --list-passes shows them; any is a flag, in order: mlc-opt in.mlir --canonicalize --symbol-dce
exit codes: 0 done, 1 bad input, pipeline or flag, 70 a pass crashed or left invalid IR"""


@dataclass(frozen=True)
class Flags:
    """What the command line asks for. passes: single-pass flags in order, as pipeline text."""

    options: argparse.Namespace
    passes: tuple[str, ...]
    known: tuple[str, ...]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise OptionError(message, hint="mlc-opt --help shows the flags")


def parse_flags(argv: Sequence[str]) -> Flags:
    """Parses the command line; flags it does not know are passes."""
    parser = _flags()
    known = tuple(parser._option_string_actions)  # pyright: ignore[reportPrivateUsage]
    options, rest = parser.parse_known_args([_two_dashes(a) for a in argv])
    passes: list[str] = []
    for flag in rest:
        if not flag.startswith("--"):
            raise OptionError(f"unexpected argument '{flag}'; the input is '{options.input}'")
        name, _, text = flag[2:].partition("=")
        passes.append(f"{name}{{{text}}}" if text else name)
    if passes and options.pass_pipeline is not None:
        raise OptionError(f"--pass-pipeline excludes pass flags, found --{passes[0]}")
    if options.run_reproducer and (passes or options.pass_pipeline is not None):
        raise OptionError("--run-reproducer takes the pipeline from its file; give no other")
    if options.emit_bytecode and options.split_input_file:
        raise OptionError("--emit-bytecode holds one module; it excludes --split-input-file")
    return Flags(options, tuple(passes), known)


def _two_dashes(argument: str) -> str:
    """mlir-opt takes long flags with one dash (so -o needs a space before its file)."""
    return f"-{argument}" if len(argument) > 2 and argument[0] == "-" and argument[1] != "-" else argument


def _switch(default: bool) -> dict[str, Any]:
    """Arguments of a flag that is set alone or as --flag=false."""
    return {"nargs": "?", "const": True, "default": default, "type": _boolean, "metavar": "true|false"}


def _boolean(text: str) -> bool:
    try:
        return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
    except KeyError:
        raise argparse.ArgumentTypeError(f"expected true or false, found '{text}'") from None


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _flags() -> argparse.ArgumentParser:
    parser = _Parser(prog="mlc-opt", allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EPILOG,
                     description=f"Runs compiler passes on MLIR.\n\nmlc's passes: {', '.join(PASSES) or 'none'}\n"
                                 f"mlc's pipelines: {', '.join(PIPELINES) or 'none'}")
    add = parser.add_argument
    add("input", nargs="?", default="-", help="a .mlir file (text or bytecode); - is standard input")
    add("-o", dest="output", default="-", metavar="FILE", help="where the result goes (default: standard output)")
    add("--pass-pipeline", metavar="TEXT", help="e.g. 'builtin.module(func.func(cse),my-pass{tiles=4,8})'; C++ and Python passes mix")
    add("--target", metavar="NAME", help="cpu, cpu:x86-64-v3, cuda:sm_90a, rocm:gfx942, ... with ,key=value facts")
    add("--load-pass-plugin", action="append", default=[], type=Path, metavar="FILE.py", help="a Python file that calls register_pass")

    group = parser.add_argument_group("input")
    group.add_argument("--split-input-file", action="store_true", help="process the parts between '// -----' lines one by one")
    group.add_argument("--allow-unregistered-dialect", action="store_true", help="accept ops that no dialect declares")
    group.add_argument("--run-reproducer", action="store_true", help="run the pipeline (and target) that the input file asks for")

    group = parser.add_argument_group("output")
    group.add_argument("--mlir-print-op-generic", action="store_true", help="the generic form for all ops")
    group.add_argument("--mlir-print-debuginfo", action="store_true", help="with locations")
    group.add_argument("--mlir-print-local-scope", action="store_true", help="no aliases")
    group.add_argument("--mlir-use-nameloc-as-prefix", action="store_true", help="name values after their locations")
    group.add_argument("--mlir-elide-elementsattrs-if-larger", type=int, metavar="N", help="leave out constants of more than N elements")
    group.add_argument("--emit-bytecode", action="store_true", help="bytecode instead of text")

    group = parser.add_argument_group("checks")
    group.add_argument("--verify-diagnostics", action="store_true", help="compare with // expected-error@+1 {{text}} comments")
    group.add_argument("--verify-each", **_switch(True), help="verify after each pass (default: true)")
    group.add_argument("--verify-roundtrip", action="store_true", help="the result must survive text and bytecode")

    group = parser.add_argument_group("watching")
    for when in ("before", "after"):
        group.add_argument(f"--mlir-print-ir-{when}", action="append", default=[], type=_names, metavar="PASS,...",
                           help=f"IR {when} these passes")
        group.add_argument(f"--mlir-print-ir-{when}-all", action="store_true", help=f"IR {when} each pass")
    group.add_argument("--mlir-print-ir-after-change", action="store_true", help="IR after each pass that changed it")
    group.add_argument("--mlir-print-ir-after-failure", action="store_true", help="IR after a pass that failed")
    group.add_argument("--mlir-print-ir-tree-dir", "--dump-dir", type=Path, metavar="DIR",
                       help="write DIR/00_pass.mlir, ... after each pass")
    group.add_argument("--mlir-timing", action="store_true", help="time per pass")
    group.add_argument("--mlir-pass-pipeline-crash-reproducer", metavar="FILE",
                       help="where a failure leaves its reproducer (default: a file in the temporary folder; an empty name: nowhere)")
    group.add_argument("--mlir-disable-threading", action="store_true", help="accepted; there are no threads")
    group.add_argument("--dump-pass-pipeline", action="store_true", help="print the pipeline that is run")
    group.add_argument("--debug", action="store_true", help="Python tracebacks of crashes (also MLC_DEBUG=1)")

    group = parser.add_argument_group("listings")
    group.add_argument("--list-passes", action="store_true", help="passes with their options, and pipelines")
    group.add_argument("--show-dialects", action="store_true", help="dialects that the input may use")
    return parser
