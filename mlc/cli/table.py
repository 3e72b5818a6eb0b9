"""Plain text tables: aligned columns that read well in a terminal, a log and a README."""

from collections.abc import Sequence


def table(rows: Sequence[Sequence[object]], header: Sequence[str] = (), indent: str = "  ") -> str:
    """The rows as aligned lines; numbers to the right, a rule under the header."""
    cells = [[_text(c) for c in row] for row in ([header, *rows] if header else rows)]
    if not cells:
        return ""
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    right = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(widths))]
    lines = [indent + "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)) for row in cells]
    lines = [line.rstrip() for line in lines]
    if header:
        lines.insert(1, indent + "  ".join("-" * w for w in widths))
    return "\n".join(lines)


def _text(cell: object) -> str:
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def milliseconds(seconds: float) -> str:
    """`3.21 ms`, `0.045 ms`, `1520 ms`."""
    return f"{seconds * 1e3:.4g} ms"


def tensor(spec: dict[str, object]) -> str:
    """`f32[1x3x224x224]` of a plan's tensor entry."""
    shape = spec["shape"]
    assert isinstance(shape, list | tuple)
    return f"{spec['dtype']}[{'x'.join(map(str, shape))}]"
