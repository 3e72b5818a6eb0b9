"""simplify: identities, shortest movements, transposes read by matmuls and small constants, until nothing changes."""

from dataclasses import dataclass
from typing import ClassVar

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


def simplify(module: ir.Module) -> int:
    """Applies every rule until none applies; returns how many did."""
    return run_rules(module, rules)


@dataclass(frozen=True)
class Simplify(Pass):
    """Removes what does nothing: neutral elements, casts and movements that cancel, arithmetic on small constants."""

    name: ClassVar[str] = "simplify"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        simplify(module)
