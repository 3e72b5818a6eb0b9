"""expand-math: functions of the math dialect become arithmetic on scalars and vectors of any length, so that no target needs a library.

Expanded in f32: everything in `_F32`, to 2 ulp (tan and erfc to 3) for all finite inputs; zeros, subnormals, infinities and NaN as in C.
In f64 the same, to 3 ulp, on machines with fused multiply-add; on others they stay, for the library of the target. Operations that are
one instruction nearly everywhere stay too: fma, sqrt, absf, floor, ceil, round, roundeven, trunc, copysign, isnan and their like.
Fast-math flags are ignored: the code relies on rounding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from mlc.errors import PassError
from mlc.ir.mlir import ir
from mlc.passes.math import error_function, exponential, logarithm, power, trigonometric
from mlc.passes.math.value import Machine, Value, is_approximate, is_one
from mlc.passes.registry import Pass, PassContext

Expansion = Callable[..., "Value | Sequence[Value]"]

_F32: dict[str, Expansion] = {
    "exp": exponential.exp, "exp2": exponential.exp2, "expm1": exponential.expm1,
    "tanh": exponential.tanh, "sinh": exponential.sinh, "cosh": exponential.cosh,
    "log": logarithm.log, "log2": logarithm.log2, "log10": logarithm.log10, "log1p": logarithm.log1p,
    "asinh": logarithm.asinh, "acosh": logarithm.acosh, "atanh": logarithm.atanh,
    "erf": error_function.erf, "erfc": error_function.erfc,
    "sin": trigonometric.sin, "cos": trigonometric.cos, "tan": trigonometric.tan,
    "sincos": lambda x: (trigonometric.sin(x), trigonometric.cos(x)),
    "asin": trigonometric.asin, "acos": trigonometric.acos, "atan": trigonometric.atan, "atan2": trigonometric.atan2,
    "powf": power.powf, "fpowi": power.fpowi, "cbrt": power.cbrt, "rsqrt": power.rsqrt,
}
_F64: dict[str, Expansion] = {
    **_F32,
    "fpowi": power.fpowi_by_squaring,
}
_WITHOUT_FMA = ("x86-64-v2",)


@dataclass(frozen=True)
class ExpandMath(Pass):
    """Functions of the math dialect to arithmetic. ops: names without prefix (`exp,tanh`) to expand instead of all."""

    name: ClassVar[str] = "expand-math"
    ops: str = ""

    def __post_init__(self) -> None:
        unknown = [n for n in self._names() if n not in _F32]
        if unknown:
            raise PassError(f"pass '{self.name}' cannot expand math.{unknown[0]}", hint=f"it knows {', '.join(sorted(_F32))}")

    def _names(self) -> list[str]:
        return [n.strip() for n in self.ops.split(",") if n.strip()]

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        names = {f"math.{n}" for n in self._names() or _F32}
        target = ctx.target
        machine = Machine(target is None or target.arch not in _WITHOUT_FMA, target is not None and target.has("exp2"))
        found: list[ir.Operation] = []

        def visit(op: ir.Operation) -> ir.WalkResult:
            if op.name in names and not is_approximate(op):
                found.append(op)
            return ir.WalkResult.ADVANCE

        module.operation.walk(visit)
        for op in found:
            _expand(op, machine)


def _expand(op: ir.Operation, machine: Machine) -> None:
    operands = [Value(v, machine) for v in op.operands]
    expansion = error_function.erf_beside_one if _beside_one(op) else _expansion(op.name.removeprefix("math."), operands[0])
    if expansion is None:
        return
    with op.location, ir.InsertionPoint(op):
        results = expansion(*operands)
    for old, new in zip(op.results, [results] if isinstance(results, Value) else results, strict=True):
        old.replace_all_uses_with(new.ssa)
    op.erase()


def _beside_one(op: ir.Operation) -> bool:
    """Whether all that becomes of an f32 erf is 1 + erf x."""
    return op.name == "math.erf" and Value(op.operands[0]).bits == 32 and all(_adds_one(use.owner) for use in op.results[0].uses)


def _adds_one(op: ir.OpView) -> bool:
    return op.operation.name == "arith.addf" and any(is_one(v) for v in op.operation.operands)


def _expansion(name: str, x: Value) -> Expansion | None:
    """How a function of x's type is expanded; None where it stays."""
    if isinstance(x.element, ir.F32Type):
        return _F32[name]
    if isinstance(x.element, ir.F64Type) and (x.machine.fma or name in ("rsqrt", "fpowi")):
        return _F64.get(name)
    return None
