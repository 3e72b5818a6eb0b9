"""gpu.shuffle by a fixed xor becomes a permute through the LDS crossbar; upstream's swizzle for it only reaches lanes of one half."""

from mlc.dialects._ext import operations
from mlc.ir.mlir import arith, ir
from mlc.target import Target


def lower_shuffles(kernel: ir.Operation, target: Target) -> None:
    """Rewrites every `gpu.shuffle xor` of 32 bits whose partner is sure to be in the wave. Others are left to upstream."""
    i32 = ir.IntegerType.get_signless(32, kernel.context)
    for op in [op for op in operations(kernel) if op.name == "gpu.shuffle" and "xor" in str(op.attributes["mode"])]:
        value, mask = op.operands[0], _constant(op.operands[1])
        if str(value.type) not in ("i32", "f32") or mask is None or not 0 <= mask < target.warp or any(True for _ in op.results[1].uses):
            continue
        with op.location, ir.InsertionPoint(op):
            partner = arith.XOrIOp(_lane(i32, target), arith.ConstantOp(i32, mask).result).result
            address = arith.ShLIOp(partner, arith.ConstantOp(i32, 2).result).result  # bytes
            bits = value if value.type == i32 else arith.BitcastOp(i32, value).result
            moved = ir.Operation.create("rocdl.ds_bpermute", results=[i32], operands=[address, bits]).results[0]
            new = moved if value.type == i32 else arith.BitcastOp(value.type, moved).result
        op.results[0].replace_all_uses_with(new)
        op.erase()


def _lane(i32: ir.Type, target: Target) -> ir.Value:
    """The number of this lane in its wave: how many lanes below it there are."""
    all_, none = arith.ConstantOp(i32, -1).result, arith.ConstantOp(i32, 0).result
    lane = ir.Operation.create("rocdl.mbcnt.lo", results=[i32], operands=[all_, none]).results[0]
    return lane if target.warp == 32 else ir.Operation.create("rocdl.mbcnt.hi", results=[i32], operands=[all_, lane]).results[0]


def _constant(value: ir.Value) -> int | None:
    owner = value.owner
    return owner.attributes["value"].value if not isinstance(owner, ir.Block) and owner.name == "arith.constant" else None
