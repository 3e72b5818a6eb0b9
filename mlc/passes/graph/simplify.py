"""simplify: identities, shortest movements, transposes read by matmuls and small constants, until nothing changes."""

from dataclasses import dataclass
from typing import ClassVar

from mlc.dialects.graph import ElementwiseOp
from mlc.ir.mlir import ir
from mlc.passes.graph import fold, identities, movements
from mlc.passes.graph.rewrite import Known, Rule, run_rules
from mlc.passes.registry import Pass, PassContext


def rules(known: Known) -> dict[str, list[Rule]]:
    """Every local rule, by op name."""
    merged: dict[str, list[Rule]] = {}
    for family in (fold.RULES, identities.RULES, movements.rules(known)):
        for name, found in family.items():
            merged[name] = [*merged.get(name, []), *found]
    return merged


def _of_movements(known: Known) -> dict[str, list[Rule]]:
    return {name: found for name, found in rules(known).items() if name != ElementwiseOp.OPERATION_NAME}


def simplify(module: ir.Module, *, movements_only: bool = False) -> int:
    """Applies every rule until none applies; returns how many did. movements_only: leaves arithmetic, which is most ops, alone."""
    return run_rules(module, _of_movements if movements_only else rules)


@dataclass(frozen=True)
class Simplify(Pass):
    """Removes what does nothing: neutral elements, casts and movements that cancel, arithmetic on small constants."""

    name: ClassVar[str] = "simplify"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        simplify(module)
