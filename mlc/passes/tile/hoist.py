"""hoist: what a loop body computes anew from outer values alone moves in front of the loop; out of branches, only functions of weights."""

from dataclasses import dataclass
from typing import ClassVar

from mlc.ir.mlir import ir
from mlc.passes.registry import Pass, PassContext
from mlc.passes.tile.pack_weights import is_weight

_PURE = ("tile.graph", "tile.view", "tile.weight", "arith.constant")


@dataclass(frozen=True)
class Hoist(Pass):
    """Moves loop-invariant tile ops out of flow.loop and flow.while, and weight-only ones out of flow.if."""

    name: ClassVar[str] = "hoist"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        for op in list(module.body.operations):
            if op.operation.name == "func.func":
                _visit(op.operation)


def _visit(op: ir.Operation) -> None:
    """Innermost first, so that ops climb through nested regions in one walk."""
    for region in op.regions:
        for block in region:
            for view in list(block.operations):
                if view.operation.name.startswith("flow.") and len(view.operation.regions):
                    _visit(view.operation)
                    _hoist_from(view.operation)


def _hoist_from(flow: ir.Operation) -> None:
    always = flow.name in ("flow.loop", "flow.while")
    for region in flow.regions:
        for block in region:
            for view in list(block.operations):
                op = view.operation
                if op.name not in _PURE or any(_inside(v, flow) for v in op.operands):
                    continue
                if always or op.name in ("tile.weight", "arith.constant") or (len(op.operands) and all(is_weight(v) for v in op.operands)):
                    op.move_before(flow)


def _inside(value: ir.Value, flow: ir.Operation) -> bool:
    """Whether the value is made within the flow op."""
    owner = value.owner
    block = owner if isinstance(owner, ir.Block) else owner.operation.block
    parent = block.owner
    while parent is not None:
        operation = parent.operation
        if operation == flow:
            return True
        parent = operation.parent
    return False
