"""Flags that several verbs share, parsed and checked before any work starts."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from mlc.cli.isolate import Limits, run_job
from mlc.errors import MlcError, OptionError, ResourceError
from mlc.options import GivenShape, parse_shape, parse_size
from mlc.progress import Progress


@dataclass(frozen=True)
class Common:
    """The flags every verb has."""

    limits: Limits
    quiet: bool
    verbose: bool

    def run(self, job: str, title: str, request: dict[str, Any]) -> dict[str, Any]:
        """The answer of a job in a child process; its `seconds` are the time of each stage."""
        with Progress(title, show=not self.quiet) as progress:
            answer = run_job(job, request, progress=progress, limits=self.limits, verbose=self.verbose)
        return {**answer, "seconds": progress.seconds}

    def say(self, text: str = "") -> None:
        """Prints a result line, unless --quiet."""
        if not self.quiet:
            click.echo(text)


Command = Callable[..., Any]


def common(function: Command) -> Command:
    """Adds --timeout, --max-memory, --quiet and --verbose, handed over as one `common` argument."""
    from functools import wraps

    @click.option("--timeout", metavar="SECONDS", type=click.FloatRange(0, min_open=True), help="Give up after this time.")
    @click.option("--max-memory", metavar="SIZE", help="Address space the work may use, for example 8GiB.")
    @click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
    @click.option("-v", "--verbose", is_flag=True, help="Also print what the compiler's libraries print.")
    @wraps(function)
    def wrapped(timeout: float | None, max_memory: str | None, quiet: bool, verbose: bool, **kwargs: Any) -> Any:
        memory = None if max_memory is None else parse_size(max_memory, "--max-memory")
        return function(common=Common(Limits(timeout, memory), quiet, verbose), **kwargs)

    return wrapped


def compiling(function: Command) -> Command:
    """Adds what decides a compile: --shape and --value, and what `machine_options` adds; handed over as one `options` request part."""
    function = machine_options(function)
    function = click.option("--value", "values", multiple=True, metavar="NAME=2,3|@FILE.npy",
                            help="Value of an input that decides shapes.")(function)
    return click.option("--shape", "shapes", multiple=True, metavar="NAME=DIMxDIM",
                        help="Shape of an input that the model leaves open.")(function)


def machine_options(function: Command) -> Command:
    """Adds --target, -O, --allow-tf32 and --no-cache: all that a model of fixed shapes needs."""
    from functools import wraps

    @click.option("--target", default="cpu", show_default=True,
                  help="cpu, cuda, cuda:sm_90a, rocm:gfx942, rocm:gfx90a,gfx942 (both), ... (mlc doctor lists them).")
    @click.option("-O", "opt_level", type=click.IntRange(0, 3), default=3, show_default=True, help="0: no optimisation ... 3: all.")
    @click.option("--allow-tf32", is_flag=True, help="Products of f32 may use tensor cores in tf32 (10 bits of fraction instead of 23). "
                                                     "No effect on targets without: CPUs, AMD GPUs, NVIDIA GPUs before sm_80.")
    @click.option("--no-cache", is_flag=True, help="Compile even if the result is in the cache, and do not store it.")
    @wraps(function)
    def wrapped(target: str, opt_level: int, allow_tf32: bool, no_cache: bool, shapes: tuple[str, ...] = (), values: tuple[str, ...] = (),
                **kwargs: Any) -> Any:
        from mlc.devices import present
        from mlc.target import DEFAULT_ARCH, Target

        parsed = _unique([parse_shape(text) for text in shapes], "--shape")
        canonical = Target.name_all(Target.parse_all(target))
        kind = target.partition(",")[0].strip()
        if kind in DEFAULT_ARCH and present(kind) is None:
            click.echo(f"mlc: no GPU for --target {kind} here, compiling for {kind}:{DEFAULT_ARCH[kind]}", err=True)
        options = {"target": canonical, "shapes": parsed, "values": list(values), "opt_level": opt_level, "allow_tf32": allow_tf32,
                   "cache": not no_cache}
        return function(options=options, **kwargs)

    return wrapped


def threads_option(function: Command) -> Command:
    return click.option("--threads", type=click.IntRange(1), help="CPU threads; default: the cores this process may use.")(function)


def inputs_options(function: Command) -> Command:
    """Adds --input and --seed."""
    function = click.option("--seed", type=int, default=0, show_default=True, help="Of the random inputs.")(function)
    return click.option("--input", "inputs", multiple=True, metavar="NAME=FILE.npy", help="An input array.")(function)


def existing_file(path: str, flag: str) -> Path:
    """The path if a readable file lies there."""
    found = Path(path)
    if found.is_dir():
        raise OptionError(f"{flag}: {path!r} is a directory, expected a file")
    if found.exists() and not found.is_file():  # the child process could not read a pipe, and opening one may wait for ever
        raise OptionError(f"{flag}: {path!r} is a pipe or a device, expected a file", hint="write it to a file first")
    try:
        with found.open("rb"):
            return found
    except OSError as error:
        raise _unreadable(path, flag, error) from error


def writable_file(path: str, flag: str) -> Path:
    """The path if a file can be made there; checked before the work, not after it."""
    found = Path(path)
    parent = found.parent
    if found.is_dir():
        raise OptionError(f"{flag}: {path!r} is a directory, expected a file name")
    if not parent.is_dir():
        raise ResourceError(f"{flag}: the directory {str(parent)!r} does not exist", hint=f"mkdir -p {parent}")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ResourceError(f"{flag}: the directory {str(parent)!r} cannot be written")
    return found


@contextlib.contextmanager
def staged_output(destination: Path | None, flag: str) -> Generator[Path]:
    """A path to write to. It becomes `destination` (if there is one) when the block ends well, and disappears when it does not."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=".mlc-", dir=None if destination is None else destination.parent))
    except OSError as error:
        raise _unwritable(destination, flag, error) from error
    try:
        yield folder / "output"
        if destination is not None:
            (folder / "output").replace(destination)
    except BrokenPipeError:  # of standard output, not of the file
        raise
    except OSError as error:
        raise _unwritable(destination, flag, error) from error
    except ResourceError as error:  # of the job, which knows only the staging path
        inner = f"cannot write {(folder / 'output').absolute()}"
        if destination is None or not error.message.startswith(inner):
            raise
        raise ResourceError(f"{flag}: cannot write {str(destination)!r}{error.message.removeprefix(inner)}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unwritable(destination: Path | None, flag: str, error: OSError) -> ResourceError:
    return ResourceError(f"{flag}: cannot write {str(destination or tempfile.gettempdir())!r}: {error.strerror or error}")


def _unreadable(path: str, flag: str, error: OSError) -> MlcError:
    if isinstance(error, FileNotFoundError):
        return OptionError(f"{flag}: there is no file {path!r}")
    return ResourceError(f"{flag}: cannot read {path!r}: {error.strerror}")


def _unique(pairs: list[tuple[str, GivenShape]], flag: str) -> dict[str, GivenShape]:
    found: dict[str, GivenShape] = {}
    for name, item in pairs:
        if name in found:
            raise OptionError(f"{flag} names {name!r} twice")
        found[name] = item
    return found
