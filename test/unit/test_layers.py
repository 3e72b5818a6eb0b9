"""Import layers, as docs/architecture.md lists them, function-local imports included; and the size and first line of every file."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Lower first. Packages of one row do not import each other, except in the first row (plain data, no MLIR).
LAYERS = (
    ("errors", "dtypes", "options", "devices", "target", "weights", "artifact", "layout", "cache", "progress"),
    ("ir",),
    ("dialects",),
    ("passes", "frontend"),
    ("runtime",),
    ("backends",),
    ("load",),
    ("driver", "fingerprint"),
    ("api",),
    ("jit",),
    ("onnx_backend",),
    ("cli",),
)
# Third-party packages that only some places may import: name -> prefixes of modules.
RESERVED = {
    "torch_mlir": ("mlc.ir", "mlc.dialects._ext"),
    "llvmlite": ("mlc.backends",),
    "cuda": ("mlc.backends.cuda",),
}
MAX_LINES = 600


def layer_of(module: str) -> tuple[int, str] | None:
    """(layer, first name below mlc) of a module of ours."""
    parts = module.split(".")
    if parts[0] != "mlc" or len(parts) < 2:
        return None
    return next(((i, parts[1]) for i, row in enumerate(LAYERS) if parts[1] in row), None)


def imports(source: str, module: str, is_package: bool) -> Iterator[tuple[str, int]]:
    """(imported module, line) of each import statement; `from a import b` gives a and a.b, since b may be a module."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[:len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            yield base, node.lineno
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """What a module's imports break."""
    found: list[str] = []
    mine = layer_of(module)
    for name, line in imports(source, module, is_package):
        allowed = RESERVED.get(name.partition(".")[0])
        if allowed is not None and not any(module == p or module.startswith(f"{p}.") for p in allowed):
            found.append(f"{module}:{line}: only {' and '.join(allowed)} may import {name.partition('.')[0]}")
        theirs = layer_of(name)
        if mine is None or theirs is None or theirs[1] == mine[1] or theirs[0] < mine[0] or mine[0] == theirs[0] == 0:
            continue
        found.append(f"{module}:{line}: {mine[1]} (layer {mine[0]}) imports {theirs[1]} (layer {theirs[0]})")
    return list(dict.fromkeys(found))


def modules() -> list[tuple[Path, str]]:
    paths = sorted((ROOT / "mlc").rglob("*.py"))
    return [(path, ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")) for path in paths]


def test_imports_go_down() -> None:
    wrong = [v for path, module in modules() for v in violations(path.read_text(), module, path.name == "__init__.py")]
    assert not wrong, "\n".join(wrong)


def test_every_module_has_a_layer() -> None:
    # Otherwise a new file at the top would be outside the rule.
    loose = {module.split(".")[1] for _, module in modules() if module != "mlc"} - {name for row in LAYERS for name in row}
    assert not loose, f"not in LAYERS (and docs/architecture.md): {sorted(loose)}"


def test_files_are_short_and_say_what_they_are() -> None:
    wrong: list[str] = []
    for path in [*(p for p, _ in modules()), *sorted((ROOT / "tools").glob("*.py")), *sorted((ROOT / "test").rglob("*.py"))]:
        lines = path.read_text().splitlines()
        if len(lines) > MAX_LINES:
            wrong.append(f"{path.relative_to(ROOT)}: {len(lines)} lines, at most {MAX_LINES}")
        code = [line for line in lines if not line.startswith("#!")]
        if code and not code[0].startswith(('"""', 'r"""')):
            wrong.append(f"{path.relative_to(ROOT)}: must start with a docstring")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("source", "module", "expected"), [
    ("from mlc.passes import x", "mlc.ir.a", "ir (layer 1) imports passes (layer 3)"),
    ("def f():\n    import mlc.driver", "mlc.backends.cpu.a", "mlc.backends.cpu.a:2: backends (layer 5) imports driver (layer 7)"),
    ("from ..backends import cpu", "mlc.passes.a", "passes (layer 3) imports backends (layer 5)"),
    ("from mlc import driver", "mlc.runtime.a", "runtime (layer 4) imports driver (layer 7)"),
    ("from mlc.frontend import onnx", "mlc.passes.a", "passes (layer 3) imports frontend (layer 3)"),
    ("from torch_mlir import ir", "mlc.passes.a", "only mlc.ir and mlc.dialects._ext may import torch_mlir"),
    ("import llvmlite.binding", "mlc.runtime.a", "only mlc.backends may import llvmlite"),
])
def test_violations_are_found(source: str, module: str, expected: str) -> None:
    assert any(expected in v for v in violations(source, module))


@pytest.mark.parametrize(("source", "module"), [
    ("from mlc.ir.mlir import ir", "mlc.passes.a"),
    ("from mlc.options import env\nfrom mlc.cache import x", "mlc.artifact"),
    ("from torch_mlir import ir", "mlc.ir.mlir"),
    ("from . import sibling", "mlc.passes.graph.a"),
])
def test_good_imports_pass(source: str, module: str) -> None:
    assert violations(source, module) == []
