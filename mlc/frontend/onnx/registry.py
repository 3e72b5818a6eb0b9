"""The table of op converters: (domain, op) -> functions by the first opset they understand."""

import importlib
import pkgutil
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from mlc.frontend.onnx import ops

if TYPE_CHECKING:
    import numpy as np

    from mlc.frontend.onnx.context import NodeContext
    from mlc.frontend.onnx.values import Value
    from mlc.ir.mlir import ir

    Output = ir.Value | Value | np.ndarray | None
    Converter = Callable[[NodeContext], Sequence[Output]]

# The op versions that the converters were written against. A newer version of an op may mean something new by the same name,
# so it is refused until somebody has read it; newer opsets that leave an op alone are fine.
KNOWN_OPSETS = {"": 28, "ai.onnx.ml": 5, "ai.onnx.preview": 1, "ai.onnx.preview.training": 1}

_converters: "dict[tuple[str, str], dict[int, Converter]]" = {}


def converter(op: str, *, domain: str = "", since: int = 1) -> "Callable[[Converter], Converter]":
    """Registers a function as the meaning of `domain::op` from opset `since` on, until a later registration of the same op takes over.

    It takes a NodeContext and returns one value per output of the node: an `ir.Value`, an environment value (Tensor, SequenceValue, ...),
    a numpy array (a known constant), or None for an optional output that the node does not name.
    """

    def register(function: "Converter") -> "Converter":
        versions = _converters.setdefault((domain, op), {})
        if since in versions:
            raise ValueError(f"two converters for {domain or 'ai.onnx'}::{op} since opset {since}")
        versions[since] = function
        return function

    return register


@cache
def _load_families() -> None:
    """Every module in ops/ is a family of converters; importing it registers them."""
    for module in sorted(m.name for m in pkgutil.iter_modules(ops.__path__)):
        importlib.import_module(f"{ops.__name__}.{module}")


def find_converter(domain: str, op: str, version: int) -> "Converter | None":
    """The converter for this op at opset `version`: the latest that began at or before it."""
    _load_families()
    versions = _converters.get((domain, op), {})
    starts = sorted(versions)
    at = bisect_right(starts, version)
    return versions[starts[at - 1]] if at else None


def known_ops() -> list[tuple[str, str, list[int]]]:
    """(domain, op, first opsets) of every converter, sorted."""
    _load_families()
    return sorted((domain, op, sorted(versions)) for (domain, op), versions in _converters.items())
