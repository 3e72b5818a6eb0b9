"""`mlc`: finds the verb, runs it, and turns every failure into one readable error and an exit code."""

import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click

import mlc

if getattr(mlc, "DISTRIBUTION", None) != "mlc-compiler":  # the file mlc/__init__.py is the other project's
    sys.exit("mlc: error: the distribution 'mlc-python' was installed over 'mlc-compiler': both own the import name 'mlc'\n"
             "  hint: keep one per environment: pip uninstall mlc-python mlc-compiler, then pip install mlc-compiler")

from mlc.errors import CompilerError, MlcError

VERBS = {
    "compile": "Compile an ONNX model to an .mlc artifact.",
    "run": "Run an artifact on given or random inputs.",
    "verify": "Compare a compiled model with ONNX Runtime.",
    "bench": "Measure latency, beside ONNX Runtime if asked.",
    "inspect": "Show what is in a model or an artifact.",
    "demo": "Compile and run ResNet-50; nothing is downloaded.",
    "doctor": "Show versions, devices, toolchains, and what is missing.",
    "cache": "List, clear or prune the compile cache.",
}
INTERRUPTED = 130


class Verbs(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(import_module(f"mlc.cli.{cmd_name}"), "command")  # noqa: B009 (pyright: the module is not known here)
        command.help = command.help or VERBS[cmd_name]
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], VERBS, n=1)
            raise click.UsageError(f"there is no command {args[0]!r}." + (f" Did you mean {near[0]!r}?" if near else ""), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@click.version_option(mlc.__version__, prog_name="mlc")
def cli() -> None:
    """Compile ONNX models to kernels for NVIDIA GPUs, AMD GPUs and x86 CPUs."""


def main(args: Sequence[str] | None = None) -> NoReturn:
    """The entry point of `mlc`: runs and exits (0: done, 1: the user's to fix, 70: a bug in mlc, 130: interrupted)."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(args))


def run(args: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code; errors go to stderr as `mlc: error: ...`."""
    try:
        code = cli.main(args=args, prog_name="mlc", standalone_mode=False)  # what a command's Exit carries
        sys.stdout.flush()
    except MlcError as error:
        return fail(str(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 1
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        return fail(error.format_message() + (f"\n  hint: {context.command_path} --help" if context else ""), 1)
    except (click.Abort, KeyboardInterrupt):
        return fail("interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return fail(str(crash_error(error)), CompilerError.exit_code)
    return code if isinstance(code, int) else 0


def fail(text: str, code: int) -> int:
    """Prints an error the way all errors of the tool look."""
    click.echo(f"mlc: error: {text}", err=True)
    return code


def crash_error(error: Exception) -> CompilerError:
    """A failure of the tool itself, its traceback kept in a file instead of on the screen."""
    import traceback

    from mlc.cli.crash import crash_report

    where = crash_report({"traceback.txt": "".join(traceback.format_exception(error))})
    return CompilerError(f"mlc itself failed: {type(error).__name__}: {error}", hint=f"this is a bug in mlc; please report it with {where}")


def _terminate(signum: int, frame: object) -> None:
    raise SystemExit(128 + signum)
