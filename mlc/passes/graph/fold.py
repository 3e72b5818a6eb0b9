"""fold-constants: ops on small constants are computed here, with numpy; what depends on weights is left to const-eval."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mlc.dialects.graph import SMALL, CastOp, ElementwiseOp, TensorType, constant
from mlc.dialects.graph.indexing import TriluOp
from mlc.dialects.graph.movement import BroadcastOp, ConcatOp, IotaOp, ReshapeOp, SliceOp, TransposeOp
from mlc.dtypes import DType
from mlc.ir.mlir import ir
from mlc.passes.graph.rewrite import Rule, array, operands, result, run_rules, size, type_of
from mlc.passes.registry import Pass, PassContext

# Functions that numpy computes as the op means them, for the kinds given. Integer division is left out: numpy's floors.
_NUMPY: dict[str, tuple[Callable[..., Any], str]] = {
    "add": (np.add, "fiu"), "sub": (np.subtract, "fiu"), "mul": (np.multiply, "fiu"), "div": (np.divide, "f"),
    "min": (np.minimum, "fiu"), "max": (np.maximum, "fiu"), "neg": (np.negative, "fi"), "abs": (np.abs, "fi"),
    "sqrt": (np.sqrt, "f"), "exp": (np.exp, "f"), "log": (np.log, "f"), "reciprocal": (np.reciprocal, "f"),
    "eq": (np.equal, "fiub"), "lt": (np.less, "fiu"), "le": (np.less_equal, "fiu"),
    "and": (np.logical_and, "b"), "or": (np.logical_or, "b"), "not": (np.logical_not, "b"), "where": (np.where, "fiub"),
}


def _elementwise(op: ElementwiseOp, xs: Sequence[np.ndarray], out: TensorType) -> np.ndarray | None:
    function, kinds = _NUMPY.get(op.fn, (None, ""))
    dtype = type_of(operands(op)[-1]).dtype
    if function is None or dtype.kind not in kinds:
        return None
    xs = [_wide(x, type_of(v).dtype) for x, v in zip(xs, operands(op), strict=True)]
    with np.errstate(all="ignore"):
        return function(*xs)


def _wide(x: np.ndarray, dtype: DType) -> np.ndarray:
    """Narrow floats compute in f32."""
    return x.astype(np.float32) if dtype.is_float and dtype.bits < 32 else x


def _cast(op: CastOp, xs: Sequence[np.ndarray], out: TensorType) -> np.ndarray | None:
    source = type_of(operands(op)[0]).dtype
    # numpy agrees on integers, on bool, and on floats that become floats; out-of-range floats to integers are not its to decide.
    return _wide(xs[0], source) if out.dtype.is_float or not source.is_float or out.dtype.kind == "b" else None


def _slice(op: SliceOp, xs: Sequence[np.ndarray], out: TensorType) -> np.ndarray:
    index = [start + step * np.arange(n) for start, n, step in zip(op.starts, op.sizes, op.steps, strict=True)]
    return xs[0][np.ix_(*index)] if index else xs[0]


def _trilu(op: TriluOp, xs: Sequence[np.ndarray], out: TensorType) -> np.ndarray:
    return (np.triu if op.upper else np.tril)(xs[0], int(xs[1]))


def _iota(op: IotaOp, xs: Sequence[np.ndarray], out: TensorType) -> np.ndarray:
    return np.broadcast_to(np.arange(out.shape[op.dim]).reshape([-1 if d == op.dim else 1 for d in range(out.rank)]), out.shape)


_FOLDS: dict[type, Callable[[Any, Sequence[np.ndarray], TensorType], np.ndarray | None]] = {
    ElementwiseOp: _elementwise,
    CastOp: _cast,
    SliceOp: _slice,
    ReshapeOp: lambda op, xs, out: xs[0].reshape(out.shape),
    TransposeOp: lambda op, xs, out: xs[0].transpose(op.perm),
    ConcatOp: lambda op, xs, out: np.concatenate(xs, op.axis),
    BroadcastOp: lambda op, xs, out: np.broadcast_to(xs[0], out.shape),
    TriluOp: _trilu,
    IotaOp: _iota,
}


def computed(op: Any, xs: Sequence[np.ndarray]) -> np.ndarray | None:
    """The result of a graph op on these operands, of its element type; None where numpy is not known to compute what the op means."""
    fold, out = _FOLDS.get(type(op)), type_of(result(op))
    folded = None if fold is None else fold(op, xs, out)
    if folded is None or folded.shape != out.shape:
        return None
    with np.errstate(all="ignore"):
        return folded.astype(out.dtype.numpy, copy=False)


def _fold(op: Any) -> ir.Value | None:
    if size(result(op)) > SMALL:
        return None
    xs: list[np.ndarray] = []
    for value in operands(op):
        elements = array(value)
        if elements is None:
            return None
        xs.append(elements)
    folded = computed(op, xs)
    return None if folded is None else constant(folded)


RULES: dict[str, list[Rule]] = {cls.OPERATION_NAME: [_fold] for cls in _FOLDS if cls is not IotaOp}  # which is as small as it can be


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Computes elementwise ops, casts and movements of constants of at most 1024 elements."""

    name: ClassVar[str] = "fold-constants"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        run_rules(module, lambda known: RULES)


__all__ = ["RULES", "FoldConstants", "computed"]
