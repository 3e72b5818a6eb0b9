"""The part of mlc-opt that touches MLIR: parses the parts of the input, runs the pipeline on each, prints results and errors."""

import importlib
import importlib.util
import io
import pkgutil
import re
import sys
import traceback
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import mlc.dialects
from mlc.cli import opt_expect
from mlc.cli.opt_flags import Flags
from mlc.errors import MlcError, PassError, ResourceError
from mlc.ir.context import make_context
from mlc.ir.diagnostics import Diagnostic, DiagnosticError, capture, parse_module
from mlc.ir.mlir import ir
from mlc.passes.instrument import Asm, Instrumentation, Reproducer, Timing, read_reproducer
from mlc.passes.pipeline import BrokenPass, PassStep, build, pipeline_text, run_steps, verify
from mlc.passes.registry import PassContext, suggest
from mlc.target import Target

_MARKER = re.compile(r"^// ?-----[ \t]*\n", re.MULTILINE)
_BYTECODE = b"ML\xefR"


class Session:
    """One call of mlc-opt."""

    def __init__(self, flags: Flags, reproducer: Path | None, debug: bool) -> None:
        self.flags, self.options, self.debug = flags, flags.options, debug
        chosen = self.options.mlir_pass_pipeline_crash_reproducer
        self.reproducer = reproducer if chosen is None else Path(chosen) if chosen else None
        self.name = "<stdin>" if self.options.input == "-" else self.options.input
        self.timing = Timing() if self.options.mlir_timing else None
        self.dialects = _import_dialects()
        for plugin in self.options.load_pass_plugin:
            _load_plugin(plugin)
        self.target = None if self.options.target is None else Target.parse(self.options.target)
        self.steps: tuple[PassStep, ...] = ()
        self.exit_code = 0

    def run(self) -> int:
        """Processes the whole input; returns the exit code."""
        data = self._read()
        text = "" if data.startswith(_BYTECODE) else data.decode("utf-8", errors="replace")
        self._build_pipeline(text)
        results = [self._part(part, text) for part in (self._parts(text) if text else [data])]
        if self.exit_code == 0:
            self._write(results)
        elif self.options.split_input_file and not self.options.verify_diagnostics:
            self._write([r for r in results if r is not None])  # parts that are fine are worth seeing
        if self.timing is not None:
            print(self.timing.report(), end="", file=sys.stderr)
        return self.exit_code

    def show_dialects(self) -> None:
        """Our dialects with a line each, then MLIR's."""
        for name, summary in self.dialects.items():
            print(f"{name:<8} {summary}")
        with capture(context := make_context()) as found:
            try:
                ir.Module.parse("nosuchdialect.op", context)  # the bindings list dialects nowhere else
            except ir.MLIRError:
                notes = [n.message for d in found for n in d.notes if n.message.startswith("Available dialects:")]
                print("MLIR:    " + "".join(notes).removeprefix("Available dialects: ").partition(" ;")[0])

    def _read(self) -> bytes:
        try:
            return sys.stdin.buffer.read() if self.options.input == "-" else Path(self.options.input).read_bytes()
        except OSError as error:
            raise ResourceError(f"cannot read '{self.options.input}': {error.strerror}") from None

    def _parts(self, text: str) -> list[str]:
        """The parts of a split file, each with empty lines in front so that line numbers are the file's."""
        if not self.options.split_input_file:
            return [text]
        parts, line = list[str](), 0
        for part in _MARKER.split(text):
            parts.append("\n" * line + part)
            line += part.count("\n") + 1
        return parts

    def _part(self, part: str | bytes, source: str) -> str | bytes | None:
        """One part's result, None after errors (already reported)."""
        context = make_context()
        found: list[Diagnostic] = []
        failure: MlcError | None = None
        result: str | bytes | None = None
        try:
            result = self._process(context, part, found)
        except MlcError as error:
            failure = error
        if failure is not None:
            found += _diagnostics(failure)
        found = [d.in_file(self.name) for d in found]
        sources = {self.name: source}
        if self.options.verify_diagnostics:
            # A bug of ours is no diagnostic that a test may expect.
            wrong = found if isinstance(failure, BrokenPass) else opt_expect.check(str(part) if source else "", self.name, found)
            self._report(wrong, sources)
            self.exit_code = max(self.exit_code, failure.exit_code if isinstance(failure, BrokenPass) else int(bool(wrong)))
            return ""
        self._report(found, sources)
        if failure is not None:
            self.exit_code = max(self.exit_code, failure.exit_code)
            for note in getattr(failure, "__notes__", []):
                print(f"  {note}", file=sys.stderr)
            if failure.hint is not None:
                print(f"  {failure.hint}", file=sys.stderr)
            if self.debug and failure.__cause__ is not None:
                traceback.print_exception(failure.__cause__)
        return result

    def _process(self, context: ir.Context, part: str | bytes, found: list[Diagnostic]) -> str | bytes:
        watch = self._instrumentation()
        watch.on_diagnostics = found.extend
        with watch.timed("(parse)"):
            module = parse_module(part, context)
        with watch.timed("(verify)"):
            broken = verify(module, allow_unknown_ops=watch.allow_unknown_ops)
        if broken:
            raise DiagnosticError(broken)
        run_steps(module, self.steps, PassContext(target=self.target), instrumentation=watch)
        if self.options.verify_roundtrip:
            _check_roundtrip(module, context)
        with watch.timed("(print)"):
            if self.options.emit_bytecode:
                # Through text, which knows the file's name: bytecode would keep the '-' of a module parsed from a string.
                named = parse_module(Asm(debuginfo=True, file=self.name).text(module, valid=watch.verify_each), context)
                buffer = io.BytesIO()
                named.operation.write_bytecode(buffer)
                return buffer.getvalue()
            return watch.asm.text(module, valid=watch.verify_each)

    def _build_pipeline(self, source: str) -> None:
        """The steps (and target) that flags or the reproducer ask for; checked once, run on every part."""
        context = make_context()
        if self.options.run_reproducer:
            facts = read_reproducer(source)
            self.steps = build(facts["pipeline"], context)
            if self.target is None and "target" in facts:
                self.target = Target.parse(facts["target"])
        elif self.options.pass_pipeline is not None:
            self.steps = build(self.options.pass_pipeline, context)
        else:
            self.steps = tuple(step for text in self.flags.passes for step in self._flag(text, context))
        if self.options.dump_pass_pipeline:
            print(pipeline_text(self.steps), file=sys.stderr)

    def _flag(self, text: str, context: ir.Context) -> tuple[PassStep, ...]:
        try:
            return build(text, context, implicit_nesting=True)
        except PassError as error:
            flag = f"--{text.partition('{')[0]}"
            near = suggest(flag, list(self.flags.known))
            if near is None or "is named" not in error.message:
                raise
            raise PassError(f"no flag, pass or pipeline is named '{flag}'", hint=near) from None

    def _instrumentation(self) -> Instrumentation:
        o = self.options
        asm = Asm(o.mlir_print_op_generic, o.mlir_print_debuginfo, o.mlir_elide_elementsattrs_if_larger, o.mlir_print_local_scope,
                  o.mlir_use_nameloc_as_prefix, file=self.name)
        reproducer = None
        if self.reproducer is not None and not o.verify_diagnostics:  # tests that expect failures would litter the temporary folder
            asm_there = Asm(generic=not o.verify_each, debuginfo=True, file=self.name)
            reproducer = Reproducer(self.reproducer, eager=True, target=None if self.target is None else str(self.target), asm=asm_there)
        return Instrumentation(
            verify_each=o.verify_each, allow_unknown_ops=o.allow_unregistered_dialect,
            print_before=_flat(o.mlir_print_ir_before), print_after=_flat(o.mlir_print_ir_after),
            print_before_all=o.mlir_print_ir_before_all, print_after_all=o.mlir_print_ir_after_all,
            print_after_change=o.mlir_print_ir_after_change, print_after_failure=o.mlir_print_ir_after_failure,
            asm=asm, dump_dir=o.mlir_print_ir_tree_dir, timing=self.timing, reproducer=reproducer)

    def _report(self, found: Sequence[Diagnostic], sources: dict[str, str]) -> None:
        for diagnostic in found:
            print(diagnostic.render(sources), file=sys.stderr)

    def _write(self, results: Sequence[str | bytes | None]) -> None:
        if self.options.verify_diagnostics:
            return
        data = b"// -----\n".join(r.encode() if isinstance(r, str) else r for r in results if r is not None)
        try:
            if self.options.output == "-":
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            else:
                Path(self.options.output).write_bytes(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise ResourceError(f"cannot write '{self.options.output}': {error.strerror}") from None


def _flat(names: Sequence[Sequence[str]]) -> frozenset[str]:
    return frozenset(name for group in names for name in group)


def _diagnostics(failure: MlcError) -> list[Diagnostic]:
    match failure:
        case BrokenPass():
            return [Diagnostic("error", failure.summary), *failure.diagnostics]
        case DiagnosticError():
            return list(failure.diagnostics)
    return [Diagnostic("error", failure.message if failure.node is None else f"node {failure.node}: {failure.message}")]


def _check_roundtrip(module: ir.Module, context: ir.Context) -> None:
    """Prints, parses and prints again, through text and through bytecode; the two texts must be one."""
    asm = Asm(generic=True, debuginfo=True, local_scope=True)
    buffer = io.BytesIO()
    module.operation.write_bytecode(buffer)
    before = asm.text(module)
    for form, data in (("text", before), ("bytecode", buffer.getvalue())):
        after = asm.text(parse_module(data, context, name=f"<{form} of the result>"))
        if before != after:
            old, new = next((a, b) for a, b in zip_longest(before.splitlines(), after.splitlines()) if a != b)
            raise DiagnosticError([Diagnostic("error", f"the result does not survive {form}:\n  before: {old}\n  after:  {new}")])


def _import_dialects() -> dict[str, str]:
    """Imports every dialect of mlc, which declares its ops; returns the first line of each one's text."""
    found: dict[str, str] = {}
    for info in pkgutil.iter_modules(mlc.dialects.__path__):
        if not info.name.startswith("_"):
            module = importlib.import_module(f"mlc.dialects.{info.name}")
            found[info.name] = (module.__doc__ or "").partition("\n")[0].removeprefix(f"{info.name}: ")
    return found


def _load_plugin(path: Path) -> None:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ResourceError(f"cannot load pass plug-in '{path}': not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
