"""Writes docs/dialects.md from the op classes: fields, defaults, docstrings. `--check`: fails if the page is out of date."""

import importlib
import inspect
import pkgutil
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mlc.dialects import flow, graph, task, tile  # noqa: E402
from mlc.dialects._ext import OPS, OpBase, Operand, Operands, Region, Result, Results  # noqa: E402
from mlc.ir.mlir import ir  # noqa: E402

PAGE = ROOT / "docs" / "dialects.md"
DIALECTS = {"graph": graph, "flow": flow, "tile": tile, "task": task}
_EXAMPLE = re.compile(r"^Example[^:\n]*:", re.MULTILINE)
_TYPES = {ir.Attribute: "attribute", ir.Type: "type"}

for _family in pkgutil.iter_modules(graph.__path__):
    importlib.import_module(f"mlc.dialects.graph.{_family.name}")


def op_classes() -> list[type[OpBase]]:
    """Every op class of mlc's four dialects, by dialect and name; a test in the same process may have declared others."""
    order = list(DIALECTS)
    return [OPS[n] for n in sorted(OPS, key=lambda n: (order.index(n.partition(".")[0]) if n.partition(".")[0] in order else -1, n))
            if n.partition(".")[0] in order and OPS[n].__module__.startswith("mlc.")]


def semantics_and_example(cls: type[OpBase]) -> tuple[str, str]:
    """The docstring split at `Example:`; the example is "" if there is none. A class without a docstring of its own has neither."""
    doc = inspect.cleandoc(cls.__dict__.get("__doc__") or "")
    match = _EXAMPLE.search(doc)
    return (doc, "") if match is None else (doc[:match.start()].rstrip(), inspect.cleandoc("\n" + " " * len(match[0]) + doc[match.end():]))


def _fields(cls: type[OpBase], kinds: tuple[type, ...]) -> str:
    found = [name.rstrip("_") + "..." * (kind in (Operands, Results)) for name, kind in cls.fields.items() if kind in kinds]
    return ", ".join(f"`{name}`" for name in found)


def _attributes(cls: type[OpBase]) -> list[str]:
    """One line per attribute: `axis`: int; `log`: bool = False."""
    found = {name: kind for name, kind in cls.fields.items() if kind not in (Operand, Operands, Result, Results, Region)}
    default = {name: f" = {cls.defaults[name]!r}" if name in cls.defaults else "" for name in found}
    return [f"`{name}`: {_TYPES.get(kind, kind.__name__)}{default[name]}" for name, kind in found.items()]


def _op(cls: type[OpBase]) -> list[str]:
    semantics, example = semantics_and_example(cls)
    lines = [f"### {cls.OPERATION_NAME}", "", semantics, ""]
    for title, kinds in (("operands", (Operand, Operands)), ("regions", (Region,)), ("results", (Result, Results))):
        if text := _fields(cls, kinds):
            lines.append(f"- {title}: {text}")
    lines += [f"- {text}" for text in _attributes(cls)]
    return [*lines, *([""] if lines[-1] else []), "```mlir", example, "```", ""]


def page() -> str:
    """The whole page."""
    lines = ["# Dialects", "", "Written by `tools/dialect-docs.py` from the op classes in `mlc/dialects`: edit those.",
             "`...` marks any number of values.", ""]
    for namespace, module in DIALECTS.items():
        lines += [f"## {namespace}", "", inspect.getdoc(module) or "", ""]
        for cls in op_classes():
            if cls.OPERATION_NAME.startswith(f"{namespace}."):
                lines += _op(cls)
    return "\n".join(lines)


def main() -> None:
    """Writes the page, or checks it."""
    if "--check" in sys.argv[1:]:
        sys.exit(0 if PAGE.exists() and PAGE.read_text() == page() else f"{PAGE} is out of date: run tools/dialect-docs.py")
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
