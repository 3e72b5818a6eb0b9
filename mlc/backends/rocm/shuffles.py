"""gpu.shuffle by a constant xor becomes a data-parallel primitive or a swizzle, which need no address; upstream lowers the rest."""

from mlc.ir.mlir import arith, ir
from mlc.target import Target

# Controls of a data-parallel primitive (DPP) that swap lanes of one row of 16: a permutation of each four, or a mirror.
_QUAD = {1: 0xB1, 2: 0x4E, 3: 0x1B}
_MIRROR = {7: 0x141, 15: 0x140}
_ROW_XMASK = 0x160  # + mask; RDNA only
_SWIZZLE_LANES = 32  # ds_swizzle works in groups of so many lanes
_ALL = 0xF


def lower_shuffles(function: ir.Operation, target: Target) -> None:
    """Rewrites those `gpu.shuffle xor` of 32-bit values whose mask is a constant and whose validity nobody asks for."""
    found: list[ir.Operation] = []

    def visit(op: ir.Operation) -> ir.WalkResult:
        if op.name == "gpu.shuffle":
            found.append(op)
        return ir.WalkResult.ADVANCE

    function.walk(visit)
    for op in found:
        _lower(op, target)


def _lower(op: ir.Operation, target: Target) -> None:
    value, mask, width = op.operands[0], _constant(op.operands[1]), _constant(op.operands[2])
    if "xor" not in str(op.attributes["mode"]) or mask is None or width is None or not 0 < mask < min(width, _SWIZZLE_LANES):
        return
    if str(value.type) not in ("f32", "i32") or any(True for _ in op.results[1].uses):
        return
    i32 = ir.IntegerType.get_signless(32, op.context)
    with op.location, ir.InsertionPoint(op):
        bits = value if value.type == i32 else arith.BitcastOp(i32, value).result
        control = _control(mask, target)
        if control is not None:
            attributes = {"dppCtrl": ir.IntegerAttr.get(i32, control), "rowMask": ir.IntegerAttr.get(i32, _ALL),
                          "bankMask": ir.IntegerAttr.get(i32, _ALL), "boundCtrl": ir.BoolAttr.get(True)}
            moved = ir.Operation.create("rocdl.update.dpp", results=[i32], operands=[bits, bits], attributes=attributes)
        else:
            pattern = arith.ConstantOp(i32, mask << 10 | 0x1F).result  # lane' = lane & 31 ^ mask
            moved = ir.Operation.create("rocdl.ds_swizzle", results=[i32], operands=[bits, pattern])
        new = moved.results[0] if value.type == i32 else arith.BitcastOp(value.type, moved.results[0]).result
    op.results[0].replace_all_uses_with(new)
    op.erase()


def _control(mask: int, target: Target) -> int | None:
    if mask in _QUAD:
        return _QUAD[mask]
    if target.warp == 32 and mask < 16:
        return _ROW_XMASK + mask
    return _MIRROR.get(mask)


def _constant(value: ir.Value) -> int | None:
    owner = value.owner
    if isinstance(owner, ir.Block) or owner.name != "arith.constant":
        return None
    return owner.attributes["value"].value
