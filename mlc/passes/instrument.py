"""What can be watched while a pipeline runs: IR before and after passes, time per pass, a dump folder, a reproducer of a failure."""

import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO

from mlc.errors import PassError, ResourceError
from mlc.ir.diagnostics import STRING_BUFFER, Diagnostic
from mlc.ir.mlir import ir


class Step(Protocol):
    """What instrumentation knows of a pass in a pipeline."""

    @property
    def name(self) -> str: ...
    @property
    def label(self) -> str: ...


@dataclass(frozen=True)
class Asm:
    """How IR is printed. elide: larger constants are left out. file: the name for the file of a module that was parsed from a string."""

    generic: bool = False
    debuginfo: bool = False
    elide: int | None = None
    local_scope: bool = False
    nameloc_prefix: bool = False
    file: str | None = None

    def text(self, module: ir.Module, *, valid: bool = True) -> str:
        """The module as text. valid: False when it may break MLIR's rules, which then prints the generic form."""
        return self.print(module.operation, valid=valid)

    def print(self, op: ir.Operation, *, valid: bool = True) -> str:
        text = str(op.get_asm(
            large_elements_limit=self.elide, large_resource_limit=self.elide, enable_debug_info=self.debuginfo,
            print_generic_op_form=self.generic or not valid, use_local_scope=self.local_scope,
            use_name_loc_as_prefix=self.nameloc_prefix, assume_verified=valid)).rstrip("\n") + "\n"
        if self.debuginfo and self.file is not None:
            text = text.replace(f'loc("{STRING_BUFFER}":', f'loc("{self.file}":')
        return text


@dataclass
class Timing:
    """Wall time by name, summed; printed as `--mlir-timing` prints its list."""

    seconds: dict[str, float] = field(default_factory=dict[str, float])

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def report(self) -> str:
        total = sum(self.seconds.values())
        rule = f"===-{'-' * 73}-==="
        rows = [*sorted(self.seconds.items(), key=lambda row: -row[1]), ("Total", total)]
        lines = [f"  {s:9.4f} ({100 * s / total if total else 0:5.1f}%)  {name}" for name, s in rows]
        return "\n".join([rule, "... Execution time report ...".center(len(rule)).rstrip(), rule,
                          f"  Total Execution Time: {total:.4f} seconds", "", "  ----Wall Time----  ----Name----", *lines]) + "\n"


@dataclass
class Reproducer:
    """A file with the IR before the pass that failed and the pipeline from there, in MLIR's own format.

    eager: the file is written before each pass, so it survives a crash of the process (costs printing the IR each time); otherwise a
    clone is kept in memory and printed on failure.
    """

    path: Path
    eager: bool = False
    target: str | None = None
    asm: Asm = Asm(debuginfo=True)
    _clone: Any = field(default=None, repr=False)
    _pipeline: str = ""

    def before(self, module: ir.Module, pipeline: str) -> None:
        """Remembers the module as it enters a pass; `pipeline` is that pass and those after it."""
        self._pipeline = pipeline
        self._clone = module.operation if self.eager else module.operation.clone(ip=False).operation
        if self.eager:
            with suppress(OSError):  # reported when the failure happens
                self._write()

    def failed(self) -> str:
        """Makes sure that the file is there; says where, or why not."""
        try:
            if not self.eager:
                self._write()
            return f"reproducer: mlc-opt --run-reproducer {self.path}"
        except OSError as error:
            return f"no reproducer: {error}"

    def finished(self) -> None:
        """Forgets the module; removes an eager file, since nothing failed."""
        self._clone = None
        if self.eager:
            self.path.unlink(missing_ok=True)

    def _write(self) -> None:
        facts = {"pipeline": self._pipeline, **({"target": self.target} if self.target else {})}
        quoted = ",\n".join(f'      {key}: "{_escape(value)}"' for key, value in facts.items())
        resources = f"{{-#\n  external_resources: {{\n    mlir_reproducer: {{\n{quoted},\n      verify_each: true\n    }}\n  }}\n#-}}\n"
        self.path.write_text(self.asm.print(self._clone) + "\n" + resources, encoding="utf-8")


def read_reproducer(text: str) -> dict[str, str]:
    """The `pipeline` (and `target`) that a reproducer asks for."""
    block = re.search(r"\bmlir_reproducer:\s*\{(.*?)\n\s*\}", text, re.DOTALL)
    pairs: list[tuple[str, str]] = re.findall(r'(\w+):\s*"((?:[^"\\]|\\.)*)"', block[1]) if block else []
    found = {key: re.sub(r"\\(.)", r"\1", value) for key, value in pairs}
    if "pipeline" not in found:
        raise PassError("this file is not a reproducer: it has no mlir_reproducer resource with a pipeline")
    return found


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """A dump that cannot be written is the user's to mend, not a fault of the pass."""
    try:
        yield
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror or error}") from error


@dataclass
class Instrumentation:
    """What to watch. The defaults watch nothing and verify after each pass.

    print_before, print_after: names of passes. print_after_change: after passes that changed the text. dump_dir: gets 00_name.mlir, one
    file per pass, in order, counted over all the pipelines that are watched. on_diagnostics: takes warnings and remarks of passes that
    succeed; without it they go to `out`.
    """

    verify_each: bool = True
    allow_unknown_ops: bool = False
    print_before: frozenset[str] = frozenset()
    print_after: frozenset[str] = frozenset()
    print_before_all: bool = False
    print_after_all: bool = False
    print_after_change: bool = False
    print_after_failure: bool = False
    asm: Asm = Asm()
    dump_dir: Path | None = None
    timing: Timing | None = None
    reproducer: Reproducer | None = None
    on_diagnostics: Any = None
    out: TextIO = field(default_factory=lambda: sys.stderr)
    _last_text: str = field(default="", repr=False)
    _dumped: int = field(default=0, repr=False)

    def start(self, steps: Sequence[Step]) -> None:
        """Checks the names that were asked for, and makes the dump folder."""
        missing = sorted((self.print_before | self.print_after) - {s.name for s in steps})
        if missing:
            raise PassError(f"asked to print IR around pass '{missing[0]}', which is not in the pipeline")
        if self.dump_dir is not None:
            with _writing(self.dump_dir):
                self.dump_dir.mkdir(parents=True, exist_ok=True)

    def before(self, step: Step, module: ir.Module) -> None:
        if self.print_before_all or step.name in self.print_before:
            self._print(f"IR Dump Before {step.label}", module)
        if self.print_after_change:
            self._last_text = self.asm.text(module, valid=self.verify_each)

    def after(self, step: Step, module: ir.Module) -> None:
        changed = self.print_after_change and self.asm.text(module, valid=self.verify_each) != self._last_text
        if self.print_after_all or step.name in self.print_after or changed:
            self._print(f"IR Dump After {step.label}", module)
        if self.dump_dir is not None:
            path = self.dump_dir / f"{self._dumped:02}_{step.name}.mlir"
            with _writing(path):
                path.write_text(self.asm.text(module, valid=self.verify_each))
            self._dumped += 1

    def failed(self, step: Step, module: ir.Module) -> str | None:
        """Prints what was asked for on failure; returns a line on the reproducer."""
        if self.print_after_failure or self.print_after_all or step.name in self.print_after:
            self._print(f"IR Dump After {step.label} Failed", module, valid=False)
        return None if self.reproducer is None else self.reproducer.failed()

    def report(self, diagnostics: Sequence[Diagnostic]) -> None:
        if self.on_diagnostics is not None:
            self.on_diagnostics(diagnostics)
            return
        for diagnostic in diagnostics:
            print(diagnostic.render(), file=self.out)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        if self.timing is None:
            yield
            return
        with self.timing.measure(name):
            yield

    def _print(self, title: str, module: ir.Module, *, valid: bool | None = None) -> None:
        text = self.asm.text(module, valid=self.verify_each if valid is None else valid)
        self.out.write(f"// -----// {title} //----- //\n{text}\n")
        self.out.flush()
