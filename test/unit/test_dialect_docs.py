"""Each op class says what it means and shows an example that a lit test round-trips; docs/dialects.md is what the classes say."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dialect_docs", ROOT / "tools" / "dialect-docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


docs = _tool()


def _words(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def roundtripped() -> dict[str, str]:
    """Per dialect: the text of its lit tests that go through text and bytecode, with blanks squeezed."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "test" / "lit" / "dialects").glob("*.mlir")):
        text = path.read_text()
        if "// RUN: %roundtrip" in text:
            dialect = path.stem.partition("_")[0]
            code = "\n".join(line for line in text.split("\n") if not line.strip().startswith("//"))
            found[dialect] = found.get(dialect, "") + " " + _words(code)
    return found


@pytest.mark.parametrize("cls", docs.op_classes(), ids=lambda cls: cls.OPERATION_NAME)
def test_op_is_documented(cls: type, roundtripped: dict[str, str]) -> None:
    semantics, example = docs.semantics_and_example(cls)
    name = cls.OPERATION_NAME  # type: ignore[attr-defined]
    assert semantics.endswith("."), f"{name}: the docstring says what the op means, in sentences"
    assert f'"{name}"' in example, f"{name}: the docstring ends in `Example:` and MLIR text of the op"
    assert _words(example) in roundtripped[name.partition(".")[0]], f"{name}: put this example in test/lit/dialects:\n{example}"


def test_page_is_up_to_date() -> None:
    assert docs.PAGE.read_text() == docs.page(), "run tools/dialect-docs.py"
