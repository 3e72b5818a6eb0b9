"""`mlc compile`: ONNX in, .mlc (or the text of a level) out; the output appears whole or not at all."""

import shutil
import sys
from pathlib import Path
from typing import Any

import click

from mlc.cli.params import Common, common, compiling, existing_file, staged_output, writable_file
from mlc.cli.table import table, tensor
from mlc.errors import OptionError, ResourceError
from mlc.options import format_size

LEVELS = ("graph", "tile", "task", "gpu", "llvm", "asm", "kernels", "artifact")


@click.command()
@click.argument("model")
@click.option("-o", "--output", metavar="FILE", help="Default: MODEL's name with .mlc, here; with --emit LEVEL: standard output.")
@compiling
@click.option("--emit", type=click.Choice(LEVELS), default="artifact", show_default=True, help="Stop at a level and write it.")
@click.option("--output-dir", metavar="DIR", help="With --emit kernels: gets each one's code and description, the plan, the weights.")
@click.option("--dump-dir", metavar="DIR", help="Write the IR of every level there.")
@click.option("--timing", is_flag=True, help="Show where the compile time goes.")
@common
def command(model: str, output: str | None, options: dict[str, Any], emit: str, output_dir: str | None, dump_dir: str | None, timing: bool,
            common: Common) -> None:
    """Compile an ONNX model to an .mlc artifact."""
    source = existing_file(model, "MODEL")
    if (emit == "kernels") != (output_dir is not None) or (output_dir is not None and output is not None):
        raise OptionError("--emit kernels takes --output-dir DIR instead of --output, and nothing else takes it")
    if output_dir is not None:
        make_directory(output_dir, "--output-dir")
        request = {"model": str(source), "output": output_dir, "emit": emit, "dump_dir": dump_dir, "timing": timing, **options}
        answer = common.run("compile", f"compiling {source.name}", request)
        common.say(f"{source} -> {answer['files']} kernels in {output_dir}")
        return
    to_stdout = output == "-" or (output is None and emit != "artifact")
    destination = None if to_stdout else writable_file(output or f"{source.stem}.mlc", "--output")
    if dump_dir is not None:
        make_directory(dump_dir, "--dump-dir")
    with staged_output(destination, "--output") as staged:
        request = {"model": str(source), "output": str(staged), "emit": emit, "dump_dir": dump_dir, "timing": timing, **options}
        answer = common.run("compile", f"compiling {source.name}", request)
        if destination is None:
            with staged.open("rb") as text:
                shutil.copyfileobj(text, sys.stdout.buffer)
            return
    if emit == "artifact":
        show(common, source, destination, answer)
    if timing:
        common.say(table([(stage, f"{seconds:.2f} s") for stage, seconds in answer["seconds"].items()], ("stage", "time")))
        passes = sorted(answer.get("passes", {}).items(), key=lambda row: -row[1])
        common.say(table([(name, f"{seconds:.3f} s") for name, seconds in passes], ("pass", "time")))


def show(common: Common, source: Path, destination: Path, answer: dict[str, Any]) -> None:
    """The short report of a compile."""
    how = "from the cache" if answer["hit"] else "compiled"
    variants = answer["variants"] or {"": answer}
    common.say(f"{source} -> {destination}")
    common.say(table([
        ("target", answer["target"]),
        ("inputs", ", ".join(f"{s['name']} {tensor(s)}" for s in answer["inputs"]) or "none"),
        ("outputs", ", ".join(f"{s['name']} {tensor(s)}" for s in answer["outputs"])),
        *((f"kernels {arch}".strip(), f"{len(code['kernels'])}, launched {code['launches']} times")
          for arch, code in variants.items()),
        ("memory", f"weights {format_size(answer['weights']['bytes'])}, "
                   f"arena {' or '.join(format_size(code['arena_bytes']) for code in variants.values())}"),
        ("file", format_size(answer["file_bytes"])),
        *(("note", note) for code in variants.values() for note in code["notes"]),
        ("time", f"{sum(answer['seconds'].values()):.2f} s ({how})"),
    ]))


def make_directory(path: str, flag: str) -> None:
    """Makes a directory the user named, or says why not."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"{flag}: cannot make the directory {path!r}: {error.strerror}") from error
