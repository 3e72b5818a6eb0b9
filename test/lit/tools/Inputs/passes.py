"""Python passes for the tests of mlc-opt itself (--load-pass-plugin)."""

import os
from dataclasses import dataclass
from typing import Any, ClassVar

from mlc.errors import UnsupportedError
from mlc.ir.diagnostics import DiagnosticError
from mlc.ir.mlir import func, ir
from mlc.passes.registry import OpPass, Pass, PassContext, register_pass


@register_pass
@dataclass(frozen=True)
class Mark(Pass):
    """Sets attribute `test.mark` on the module."""

    name: ClassVar[str] = "test-mark"
    text: str = "here"
    tiles: tuple[int, ...] = ()
    scale: float = 1.0
    loud: bool = False

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        shown = f"{self.text} {list(self.tiles)} {self.scale} {self.loud} {ctx.target}"
        module.operation.attributes["test.mark"] = ir.StringAttr.get(shown)


@register_pass
@dataclass(frozen=True)
class Rename(OpPass):
    """Appends a suffix to the name of each function."""

    name: ClassVar[str] = "test-rename"
    anchor: ClassVar[str] = "func.func"
    suffix: str

    def run_on(self, op: Any, ctx: PassContext) -> None:
        op.attributes["sym_name"] = ir.StringAttr.get(op.name.value + self.suffix)


@register_pass
@dataclass(frozen=True)
class Refuse(Pass):
    """Refuses functions named @refused."""

    name: ClassVar[str] = "test-refuse"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        for op in module.body.operations:
            if isinstance(op, func.FuncOp) and op.name.value == "refused":
                raise DiagnosticError.at(op, "is refused", notes=[(op.body.blocks[0].operations[0], "because of this")])


@register_pass
@dataclass(frozen=True)
class Fail(Pass):
    """Fails after half an edit: `how` is raise, unsupported, invalid or abort."""

    name: ClassVar[str] = "test-fail"
    how: str = "raise"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        module.operation.attributes["test.half"] = ir.StringAttr.get("edit")
        match self.how:
            case "raise":
                raise KeyError("lost")
            case "unsupported":
                raise UnsupportedError("Frobnicate is not supported", node="'frob_3'", hint="export without it")
            case "invalid":
                module.body.operations[0].operation.attributes["function_type"] = ir.TypeAttr.get(ir.F32Type.get())
            case "abort":
                os.abort()
            case _:
                raise UnsupportedError(f"no way to fail by '{self.how}'")
