"""`--verify-diagnostics`: holds the diagnostics of a run against `// expected-error@+1 {{text}}` comments, as mlir-opt does.

Kinds: error, warning, remark, note. Place: none (same line), `@+n`, `@-n`, `@above`, `@below` (nearest line without such a comment),
`@unknown`. `expected-error-re {{a {{regex}} b}}` matches regular expressions inside the text.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mlc.ir.diagnostics import Diagnostic, Place

_COMMENT = re.compile(r"expected-(error|warning|remark|note)(-re)? *(@([+-]\d+|above|below|unknown))? *\{\{(.*)\}\}\s*$")


@dataclass
class _Expected:
    kind: str
    text: str
    is_regex: bool
    line: int | None  # None: a diagnostic at an unknown place
    at: int  # line of the comment
    met: bool = field(default=False)

    def matches(self, diagnostic: Diagnostic) -> bool:
        line = diagnostic.place.line or None
        if self.met or self.kind != diagnostic.severity or self.line != line:
            return False
        if not self.is_regex:
            return self.text in diagnostic.message
        parts = re.split(r"\{\{(.*?)\}\}", self.text)
        return re.search("".join(p if i % 2 else re.escape(p) for i, p in enumerate(parts)), diagnostic.message) is not None


def check(text: str, file: str, found: Sequence[Diagnostic]) -> list[Diagnostic]:
    """What is wrong: diagnostics nobody expected, then expectations nothing met."""
    expected = list(_read(text))
    wrong: list[Diagnostic] = []
    for diagnostic in _flat(found):
        match = next((e for e in expected if e.matches(diagnostic)), None)
        if match is None:
            wrong.append(Diagnostic("error", f"unexpected {diagnostic.severity}: {diagnostic.message}", diagnostic.place))
        else:
            match.met = True
    missing = [e for e in expected if not e.met]
    return wrong + [Diagnostic("error", f'expected {e.kind} "{e.text}" was not produced', Place(file, e.at, 1)) for e in missing]


def _flat(found: Sequence[Diagnostic]) -> Iterator[Diagnostic]:
    for diagnostic in found:
        yield diagnostic
        # A note that only repeats the op is MLIR's, not the test's, concern.
        yield from _flat([n for n in diagnostic.notes if not n.message.startswith("see current operation")])


def _read(text: str) -> Iterator[_Expected]:
    lines = text.splitlines()
    comments = {number: match for number, line in enumerate(lines, 1) if (match := _COMMENT.search(line))}
    for number, match in comments.items():
        kind, regex, _, place, message = match.groups()
        line: int | None = number
        if place == "unknown":
            line = None
        elif place in ("above", "below"):
            step = -1 if place == "above" else 1
            line = number + step
            while line in comments:
                line += step
        elif place is not None:
            line = number + int(place)
        yield _Expected(kind, message, regex is not None, line, number)
