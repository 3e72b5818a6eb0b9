"""math ops become calls of LLVM intrinsics that GPUs have instructions for; the vendors' conversions would call their device libraries."""

from mlc.dialects._ext import operations
from mlc.errors import CompilerError
from mlc.ir.mlir import ir

# What expand-math leaves -> the LLVM intrinsic of the same meaning. Both NVPTX and AMDGPU select each for f16, bf16, f32 and f64.
_INTRINSICS = {
    "math.fma": "llvm.fma", "math.sqrt": "llvm.sqrt", "math.absf": "llvm.fabs", "math.floor": "llvm.floor", "math.ceil": "llvm.ceil",
    "math.round": "llvm.round", "math.roundeven": "llvm.roundeven", "math.trunc": "llvm.trunc", "math.copysign": "llvm.copysign",
    "math.ctpop": "llvm.ctpop",
}
_KEPT = ("math.absi", "math.ctlz", "math.cttz", "math.isnan", "math.isinf", "math.isfinite", "math.isnormal", "math.clampf")


def math_to_intrinsics(kernel: ir.Operation, name: str) -> None:
    """Replaces the math ops of a kernel. CompilerError names the kernel and the first function that has no instruction."""
    for op in operations(kernel):
        if not op.name.startswith("math.") or op.name in _KEPT:
            continue
        intrinsic = _INTRINSICS.get(op.name)
        if intrinsic is None:
            raise CompilerError(f"kernel '{name}' calls {op.name} on {op.operands[0].type}, for which GPUs have no instruction",
                                hint="run expand-math before this; if it did, it does not know this type")
        with op.location, ir.InsertionPoint(op):
            call = ir.Operation.create("llvm.call_intrinsic", results=[op.results[0].type], operands=list(op.operands), attributes={
                "intrin": ir.StringAttr.get(intrinsic),
                "operandSegmentSizes": ir.DenseI32ArrayAttr.get([len(op.operands), 0]),
                "op_bundle_sizes": ir.DenseI32ArrayAttr.get([])})
        op.results[0].replace_all_uses_with(call.results[0])
        op.erase()
