"""recognise: formulas that exporters write out become the one op they mean: activations, norms, softmax, attention."""

from dataclasses import dataclass
from typing import ClassVar

from mlc.dialects.graph import AttentionOp, CastOp, ElementwiseOp, MatmulOp
from mlc.ir.mlir import ir
from mlc.passes.cleanup import drop_dead
from mlc.passes.graph import activations, norms
from mlc.passes.graph.attention import attention, shared_heads
from mlc.passes.graph.bands import Values, banded
from mlc.passes.graph.rewrite import Known, Rule, blocks, is_dead, run_rules
from mlc.passes.registry import Pass, PassContext


def _activations(module: ir.Module) -> int:
    """They are found by their defining function (erf, tanh, ...), and end further down."""
    count = 0
    for block in blocks(module):
        for view in list(block.operations):
            operation = view.operation
            if operation.name != ElementwiseOp.OPERATION_NAME or is_dead(operation):
                continue
            anchor = activations.ANCHORS.get(operation.opview.fn)
            if anchor is not None:
                count += anchor(operation.opview)
    drop_dead(module)
    return count


@dataclass(frozen=True)
class Recognise(Pass):
    """Finds gelu, swish, hard swish, mish, sigmoid, layer norm, RMS norm, softmax and attention in arithmetic; run after simplify."""

    name: ClassVar[str] = "recognise"
    max_width: int = 1024  # wider heads stay matmuls: what attention saves by not storing the weights is then small

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        while _activations(module):  # a sigmoid found makes a swish
            pass

        def formulas(known: Known) -> dict[str, list[Rule]]:
            return {ElementwiseOp.OPERATION_NAME: [norms.norm, norms.written_softmax], CastOp.OPERATION_NAME: [norms.narrow]}

        def attentions(known: Known) -> dict[str, list[Rule]]:
            return {MatmulOp.OPERATION_NAME: [attention(known, self.max_width)],
                    AttentionOp.OPERATION_NAME: [shared_heads, banded(Values(ctx.weights))]}

        run_rules(module, formulas)
        run_rules(module, attentions)
