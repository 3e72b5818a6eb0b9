"""A mask that is known and leaves each query a band of keys becomes the attention's own `left`, `right` and `offset`.

Exporters write "causal" and "the last n keys" as tensors, computed from ranges and triangles or stored. As a band, keys that nobody sees
cost nothing, and no mask is read.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mlc.dialects.graph import AttentionOp, ElementwiseOp, WeightOp
from mlc.dialects.graph._base import create
from mlc.dtypes import BOOL, F16, DType
from mlc.ir.mlir import ir
from mlc.passes.graph.fold import computed
from mlc.passes.graph.permute import attributes
from mlc.passes.graph.rewrite import Rule, array, defining, operands, producer, shape, size, type_of
from mlc.weights import WeightStore

LARGEST = 1 << 26  # elements of a mask that is looked at: 8192 queries by 8192 keys


def _hidden(scores: DType) -> float:
    """What, added to a score, makes it count for nothing: numbers of f16 end at 65504, and what exporters write for -inf is the lowest."""
    return -65504.0 if scores == F16 else -1e9


class Values:
    """What values are, as far as constants, small or stored as weights, decide them; each is computed once."""

    def __init__(self, weights: WeightStore | None) -> None:
        self._weights = weights
        self._memo: dict[ir.Value, np.ndarray | None] = {}

    def __call__(self, value: ir.Value, depth: int = 32) -> np.ndarray | None:
        """The elements; None where they depend on an input, are more than LARGEST, or come from an op that is not one of masks."""
        if value not in self._memo:
            self._memo[value] = self._compute(value, depth) if depth and size(value) <= LARGEST else None
        return self._memo[value]

    def _compute(self, value: ir.Value, depth: int) -> np.ndarray | None:
        stored = producer(value, WeightOp)
        if stored is not None:
            return None if self._weights is None else self._weights[stored.key].read()
        operation = defining(value)
        if operation is None or len(operation.results) != 1:
            return None
        small = array(value)
        if small is not None:
            return small
        xs: list[np.ndarray] = []
        for v in operands(operation.opview):
            x = self(v, depth - 1)
            if x is None:
                return None
            xs.append(x)
        return computed(operation.opview, xs)


def band(seen: np.ndarray) -> dict[str, int] | None:
    """`left`, `right` and `offset` of graph.attention by which query i sees key j exactly where seen[i, j] (bool [S, T]) is true."""
    queries, keys = seen.shape
    i = np.arange(queries)
    some = np.any(seen, axis=1)
    if not some.any():
        return None
    first, last = seen.argmax(1), keys - 1 - seen[:, ::-1].argmax(1)
    # j <= i + above and j >= i + below, where a row shows it: one that ends inside, or else the change from rows that see nothing.
    above = [*(last - i)[some & (last < keys - 1)][:1], *([] if some[0] else [-some.argmax()])]
    below = [*(first - i)[some & (first > 0)][:1], *([] if some[-1] else [keys - queries + some[::-1].argmax()])]
    offset = int(above[0]) if above else max(0, int(below[0])) if below else 0
    found = {"offset": offset, "left": offset - int(below[0]) if below else -1, "right": 0 if above else -1}
    if below and found["left"] < 0:
        return None
    place, j = i[:, None] + offset, np.arange(keys)
    expected = np.ones_like(seen)
    if found["right"] >= 0:
        expected &= j <= place
    if found["left"] >= 0:
        expected &= j >= place - found["left"]
    return found if np.array_equal(seen, expected) else None


def _seen(mask: np.ndarray, is_bool: bool, scores: DType) -> np.ndarray | None:
    """Where a mask [.., S, T] shows keys (bool [S, T]); None where it is not the same for all heads, or does more than show and hide."""
    matrices = mask.reshape(-1, *mask.shape[-2:])
    if matrices.shape[0] == 0 or any(not np.array_equal(matrices[0], m) for m in matrices[1:]):
        return None
    if is_bool:
        return matrices[0]
    added = matrices[0].astype(np.float32, copy=False)
    seen = added == 0
    lowest = added[~seen]
    if not (lowest <= _hidden(scores)).all():  # also where there is NaN
        return None
    if not np.isneginf(lowest).all() and not seen.any(1).all():
        return None  # a row hidden by finite numbers weighs all its keys
    return seen


def banded(known: Values) -> Rule:
    """The rule, with the values known so far."""
    found: dict[tuple[ir.Value, DType], Mapping[str, int] | None] = {}

    def look(mask: ir.Value, scores: DType) -> Mapping[str, int] | None:
        elements = known(mask)
        seen = None if elements is None else _seen(elements, type_of(mask).dtype == BOOL, scores)
        return None if seen is None else band(seen)

    def rule(op: AttentionOp) -> ir.Value | None:
        if len(operands(op)) < 4 or op.left >= 0 or op.right >= 0:
            return None
        q, k, v, mask = operands(op)
        if shape(mask)[-2:] != (shape(q)[2], shape(k)[2]):
            return None
        rest, part = _conjunction(mask, known)
        key = (part, type_of(q).dtype)
        if key not in found:
            found[key] = look(*key)
        numbers = found[key]
        if numbers is None:
            return None
        settings: dict[str, Any] = {**attributes(op), **numbers}
        return create(AttentionOp, [q, k, v, *([] if rest is None else [rest])], **settings)[0]

    return rule


def _conjunction(mask: ir.Value, known: Values) -> tuple[ir.Value | None, ir.Value]:
    """(rest, part): a bool mask rest & part whose part is known; (None, mask) of any other."""
    both = producer(mask, ElementwiseOp, fn="and")
    if both is not None:
        for rest, part in (operands(both), operands(both)[::-1]):
            if known(part) is not None and shape(part)[-2:] == shape(mask)[-2:] and known(rest) is None:
                return rest, part
    return None, mask


__all__ = ["Values", "band", "banded"]
