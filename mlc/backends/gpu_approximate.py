"""Ops that mean a GPU's approximate instruction (`passes.math.value.is_approximate`) become calls of its intrinsic, lane by lane."""

from dataclasses import dataclass

from mlc.dialects._ext import operations
from mlc.ir.mlir import arith, ir, vector
from mlc.passes.math.value import is_approximate, is_one


@dataclass(frozen=True)
class Intrinsics:
    """LLVM's names of 2^x and 1 / x in f32."""

    exp2: str
    reciprocal: str


NVIDIA = Intrinsics("llvm.nvvm.ex2.approx.ftz.f", "llvm.nvvm.rcp.approx.ftz.f")
AMD = Intrinsics("llvm.amdgcn.exp2", "llvm.amdgcn.rcp")


def approximate_ops(kernel: ir.Operation, intrinsics: Intrinsics) -> None:
    """Replaces a kernel's approximate ops on f32, scalars and vectors; those of other types are computed as they stand."""
    for op in operations(kernel):
        if not is_approximate(op) or not isinstance(_element(op.results[0].type), ir.F32Type):
            continue
        with op.location, ir.InsertionPoint(op):
            if op.name == "math.exp2":
                new = _lanes(intrinsics.exp2, op.operands[0])
            else:
                inverse = _lanes(intrinsics.reciprocal, op.operands[1])
                new = inverse if is_one(op.operands[0]) else arith.MulFOp(op.operands[0], inverse).result
        op.results[0].replace_all_uses_with(new)
        op.erase()


def call_intrinsic(name: str, type_: ir.Type, operands: list[ir.Value]) -> ir.Value:
    """The result of an LLVM intrinsic."""
    return ir.Operation.create("llvm.call_intrinsic", results=[type_], operands=operands, attributes={
        "intrin": ir.StringAttr.get(name),
        "operandSegmentSizes": ir.DenseI32ArrayAttr.get([len(operands), 0]),
        "op_bundle_sizes": ir.DenseI32ArrayAttr.get([])}).results[0]


def _element(type_: ir.Type) -> ir.Type:
    return type_.element_type if isinstance(type_, ir.VectorType) else type_


def _lanes(intrinsic: str, x: ir.Value) -> ir.Value:
    """The intrinsic of each lane: it takes scalars only."""
    if not isinstance(x.type, ir.VectorType):
        return call_intrinsic(intrinsic, x.type, [x])
    if x.owner.name == "vector.broadcast" and x.owner.operands[0].type == x.type.element_type:
        return vector.BroadcastOp(x.type, call_intrinsic(intrinsic, x.type.element_type, [x.owner.operands[0]])).result
    lanes = vector.ToElementsOp(x)
    return vector.FromElementsOp(x.type, [call_intrinsic(intrinsic, x.type.element_type, [lane]) for lane in lanes.results]).result


__all__ = ["AMD", "NVIDIA", "Intrinsics", "approximate_ops", "call_intrinsic"]
