"""math ops become calls of LLVM intrinsics that NVPTX selects; upstream's conversion would call the vendor's device library."""

from mlc.backends.gpu_approximate import call_intrinsic
from mlc.dialects._ext import operations
from mlc.errors import CompilerError
from mlc.ir.mlir import arith, ir

# What expand-math leaves -> the LLVM intrinsic of the same meaning. NVPTX selects each for f16, bf16, f32 and f64.
_INTRINSICS = {
    "math.fma": "llvm.fma", "math.sqrt": "llvm.sqrt", "math.absf": "llvm.fabs", "math.floor": "llvm.floor", "math.ceil": "llvm.ceil",
    "math.round": "llvm.round", "math.roundeven": "llvm.roundeven", "math.trunc": "llvm.trunc", "math.copysign": "llvm.copysign",
    "math.ctpop": "llvm.ctpop", "arith.maxnumf": "llvm.maxnum", "arith.minnumf": "llvm.minnum",
}
_KEPT = ("math.absi", "math.ctlz", "math.cttz", "math.isnan", "math.isfinite", "math.isnormal", "math.clampf")


def math_to_intrinsics(kernel: ir.Operation, name: str) -> None:
    """Replaces the math ops of a kernel. CompilerError names the kernel and the first function that has no instruction."""
    for op in operations(kernel):
        if op.name in _KEPT or not (op.name in _INTRINSICS or op.name.startswith("math.")):
            continue
        with op.location, ir.InsertionPoint(op):
            if op.name in _INTRINSICS:
                new = call_intrinsic(_INTRINSICS[op.name], op.results[0].type, list(op.operands))
            elif op.name == "math.isinf":
                new = _is_infinite(op.operands[0])
            else:
                raise CompilerError(f"kernel '{name}' calls {op.name} on {op.operands[0].type}, for which GPUs have no instruction",
                                    hint="run expand-math before this; if it did, it does not know this type")
        op.results[0].replace_all_uses_with(new)
        op.erase()


def _is_infinite(x: ir.Value) -> ir.Value:
    type_ = x.type
    infinity: ir.Attribute = ir.FloatAttr.get(type_.element_type if isinstance(type_, ir.VectorType) else type_, float("inf"))
    if isinstance(type_, ir.VectorType):
        infinity = ir.DenseElementsAttr.get_splat(type_, infinity)
    return arith.CmpFOp(arith.CmpFPredicate.OEQ, call_intrinsic("llvm.fabs", type_, [x]), arith.ConstantOp(type_, infinity).result).result
