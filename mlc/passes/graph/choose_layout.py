"""choose-layout: convolutions compute channels-last; transposes around them cancel through the network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mlc.dialects.graph._base import create
from mlc.dialects.graph.convolution import ConvOp, ConvTransposeOp
from mlc.dialects.graph.movement import transpose
from mlc.ir.mlir import ir
from mlc.passes.graph.permute import attributes
from mlc.passes.graph.rewrite import Rule, operands, rank, run_rules
from mlc.passes.graph.simplify import simplify
from mlc.passes.graph.sink import settle
from mlc.passes.graph.views import inverse
from mlc.passes.registry import Pass, PassContext


def _channels_last(order: int) -> list[int]:
    return [0, *range(2, order), 1]


def _conv(op: ConvOp) -> ir.Value | None:
    """Weights [M, C/groups, kernel...] become [kernel..., C/groups, M]."""
    return _converted(op, [*range(2, rank(operands(op)[0])), 1, 0])


def _conv_transpose(op: ConvTransposeOp) -> ir.Value | None:
    """Weights [C, M/groups, kernel...] become [kernel..., C, M/groups]."""
    return _converted(op, [*range(2, rank(operands(op)[0])), 0, 1])


def _converted(op: Any, weight: Sequence[int]) -> ir.Value | None:
    if op.layout != "nchw":
        return None
    x, w = operands(op)
    there = _channels_last(rank(x))
    values = [transpose(x, perm=there), transpose(w, perm=list(weight))]
    return transpose(create(type(op), values, **{**attributes(op), "layout": "nhwc"})[0], perm=list(inverse(there)))


RULES: dict[str, list[Rule]] = {ConvOp.OPERATION_NAME: [_conv], ConvTransposeOp.OPERATION_NAME: [_conv_transpose]}


@dataclass(frozen=True)
class ChooseLayout(Pass):
    """Puts convolutions, and what stands between them, into `layout`: nhwc (innermost loops run over channels) or nchw (as imported)."""

    name: ClassVar[str] = "choose-layout"
    layout: str = "nhwc"
    rounds: int = 8

    def __post_init__(self) -> None:
        if self.layout not in ("nchw", "nhwc"):
            raise ValueError(f"layout is nchw or nhwc, got {self.layout}")

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        if self.layout == "nchw" or not run_rules(module, lambda known: RULES):
            return
        simplify(module, movements_only=True)
        settle(module, self.rounds)
