"""MLIR's errors as typed data: where (file:line:col, or the ONNX nodes a location names), what, notes; rendered with the source line.

The bindings hand out diagnostics that die with their callback, under locations of the base class, and lose those of runs that succeed.
`capture` collects all of them; `DiagnosticError` carries them to whoever talks to the user.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from linecache import getline
from typing import Any

from mlc.errors import PassError
from mlc.ir.mlir import ir

STRING_BUFFER = "-"  # what MLIR calls the file of a module parsed from a string
GENERIC_FORM = 'mlc ops use the generic form, with the op name quoted: "graph.matmul"(%a, %b) : (...) -> ...'


@dataclass(frozen=True)
class Place:
    """Where a diagnostic points: file position, or ONNX node names, or both. Unknown: nothing set."""

    file: str | None = None
    line: int = 0
    column: int = 0
    nodes: tuple[str, ...] = ()

    @staticmethod
    def of(location: ir.Location) -> "Place":
        """The first file position and all names in a location's chain."""
        nodes: list[str] = []
        files: list[tuple[str, int, int]] = []

        def visit(part: ir.Location) -> None:
            match ir.Location.from_attr(part.attr, part.context):  # diagnostics and composite locations hold the base class
                case ir.FileLineColLoc() as at:
                    files.append((at.filename, at.start_line, at.start_col))
                case ir.NameLoc() as named:
                    nodes.append(named.name_str)
                    visit(named.child_loc)
                case ir.CallSiteLoc() as call:
                    visit(call.callee)
                    visit(call.caller)
                case ir.FusedLoc() as fused:
                    for inner in fused.locations:
                        visit(inner)
                case _:
                    pass

        visit(location)
        file, line, column = next((f for f in files if f[1]), files[0] if files else (None, 0, 0))  # an ONNX file has no lines
        return Place(file, line, column, tuple(dict.fromkeys(nodes)))

    @property
    def node(self) -> str | None:
        """The names as one text, None if the location names nothing."""
        return ", ".join(f"'{n}'" for n in self.nodes) or None

    def __str__(self) -> str:
        at = f"{self.file}:{self.line}:{self.column}" if self.file is not None and self.line else self.file
        if self.nodes:
            names = f"node{'s' * (len(self.nodes) > 1)} {self.node}"
            return f"{at}: {names}" if at and self.line else names
        return at or "<unknown location>"


@dataclass(frozen=True)
class Diagnostic:
    """One message at one place, with its notes. severity: error, warning, note or remark."""

    severity: str
    message: str
    place: Place = Place()
    notes: tuple["Diagnostic", ...] = ()

    @staticmethod
    def of(info: Any) -> "Diagnostic":
        """A copy of a live `ir.Diagnostic` or `ir.DiagnosticInfo`."""
        notes = tuple(Diagnostic.of(note) for note in info.notes)
        return Diagnostic(info.severity.name.lower(), str(info.message).strip(), Place.of(info.location), notes)

    def in_file(self, name: str) -> "Diagnostic":
        """The same diagnostic with `name` for the file of a module that was parsed from a string."""
        place = replace(self.place, file=name) if self.place.file == STRING_BUFFER else self.place
        return replace(self, place=place, notes=tuple(note.in_file(name) for note in self.notes))

    def render(self, sources: Mapping[str, str] | None = None) -> str:
        """`file:line:col: error: message`, the source line and a caret. sources: texts by file name; other files are read from disk."""
        at = "" if self.place == Place() else f"{self.place}: "
        lines = [f"{at}{self.severity}: {self.message}"]
        source = _source_line(self.place, sources or {})
        if source.strip():
            # Tabs stay tabs, so the caret lines up under any tab width.
            indent = "".join(c if c == "\t" else " " for c in source[:max(self.place.column - 1, 0)])
            lines += [source, f"{indent}^"]
        return "\n".join([*lines, *(note.render(sources) for note in self.notes)])


class DiagnosticError(PassError):
    """An error at known places in the IR; its text is the rendered diagnostics."""

    def __init__(self, diagnostics: Sequence[Diagnostic], *, hint: str | None = None) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(d.render() for d in diagnostics), hint=hint)

    @staticmethod
    def at(where: ir.Location | Any, message: str, *, notes: Sequence[tuple[Any, str]] = ()) -> "DiagnosticError":
        """An error at an op (then the message gets its name) or a location; notes: further (op or location, text) pairs."""
        return DiagnosticError([error_at(where, message, notes=notes)])

    def render(self, sources: Mapping[str, str] | None = None) -> str:
        return "\n".join(d.render(sources) for d in self.diagnostics)


def error_at(where: ir.Location | Any, message: str, *, severity: str = "error", notes: Sequence[tuple[Any, str]] = ()) -> Diagnostic:
    """A diagnostic at an op or a location, made in Python."""
    following = tuple(error_at(at, text, severity="note") for at, text in notes)
    if isinstance(where, ir.Location):
        return Diagnostic(severity, message, Place.of(where), following)
    operation = where.operation
    return Diagnostic(severity, f"'{operation.name}' op {message}", Place.of(operation.location), following)


def diagnostics_of(error: ir.MLIRError) -> list[Diagnostic]:
    """What an MLIRError carries, never empty: an error without diagnostics becomes one at an unknown place."""
    return [Diagnostic.of(info) for info in error.error_diagnostics] or [Diagnostic("error", str(error.message))]


@contextmanager
def capture(context: ir.Context) -> Iterator[list[Diagnostic]]:
    """Collects every diagnostic issued in the block, including warnings and remarks of runs that succeed.

    An MLIRError raised in the block then holds none of its own: they are in the list.
    """
    found: list[Diagnostic] = []

    def collect(info: Any) -> bool:
        found.append(Diagnostic.of(info))
        return True

    before = context.emit_error_diagnostics
    handler = context.attach_diagnostic_handler(collect)
    context.emit_error_diagnostics = True
    try:
        yield found
    finally:
        context.emit_error_diagnostics = before
        handler.detach()


def parse_module(text: str | bytes, context: ir.Context, *, name: str = STRING_BUFFER) -> ir.Module:
    """Parses text or bytecode; raises DiagnosticError with `name` as the file."""
    with capture(context) as found:
        try:
            return ir.Module.parse(text, context)
        except ir.MLIRError:
            problem = found or [Diagnostic("error", f"MLIR cannot parse this and does not say why; {GENERIC_FORM}", Place(STRING_BUFFER))]
            raise DiagnosticError([_explain(d).in_file(name) for d in problem]) from None


def _explain(diagnostic: Diagnostic) -> Diagnostic:
    """MLIR answers an unquoted op of ours with a list of the dialects it does know; what helps is the spelling it wants."""
    if "not found for custom op" not in diagnostic.message:
        return diagnostic
    return replace(diagnostic, notes=(Diagnostic("note", GENERIC_FORM),))


def _source_line(place: Place, sources: Mapping[str, str]) -> str:
    if place.file is None or not place.line:
        return ""
    if place.file in sources:
        lines = sources[place.file].splitlines()
        return lines[place.line - 1] if place.line <= len(lines) else ""
    return getline(place.file, place.line).rstrip("\n")
