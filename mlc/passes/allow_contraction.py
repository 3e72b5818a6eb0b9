"""allow-contraction: products and sums of floats may be fused into multiply-adds, which round once instead of twice.

Runs before expand-math: that code relies on every rounding where it stands.
"""

from dataclasses import dataclass
from typing import ClassVar

from mlc.dialects._ext import operations
from mlc.ir.mlir import ir
from mlc.passes.registry import Pass, PassContext

_FUSED = ("arith.mulf", "arith.addf", "arith.subf")


@dataclass(frozen=True)
class AllowContraction(Pass):
    """Marks float products, sums and differences that have no fast-math flags as `contract`."""

    name: ClassVar[str] = "allow-contraction"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        none, contract = (ir.Attribute.parse(f"#arith.fastmath<{flag}>") for flag in ("none", "contract"))
        for op in operations(module.operation):
            if op.name in _FUSED and op.attributes["fastmath"] == none:
                op.attributes["fastmath"] = contract
