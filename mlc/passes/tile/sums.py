"""Contractions written anew: a reduction from zero over other operands, with the scalar body of an existing one."""

from collections.abc import Sequence

from mlc.ir.clone import clone
from mlc.ir.mlir import arith, ir, linalg, tensor


def summed(body: ir.Operation | None, ins: Sequence[ir.Value], maps: Sequence[ir.AffineMap], shape: Sequence[int], over: Sequence[int],
           element: ir.Type) -> ir.Value:
    """A reduction over the loops `over`, behind those of `shape`; its scalar body is that of `body`, or a plain sum of the one operand.

    ins, maps: what is read, one for each operand that `body` reads, in order.
    """
    whole = isinstance(element, ir.IntegerType)
    zero = arith.ConstantOp(element, (ir.IntegerAttr if whole else ir.FloatAttr).get(element, 0)).result
    out = linalg.fill(zero, outs=[tensor.EmptyOp(list(shape), element).result])
    n, loops = len(shape), len(shape) + len(over)
    # A shape-only operand spans the loops, which no other one need bound.
    spans = tensor.EmptyOp(list(over), ir.IntegerType.get_signless(8)).result
    walked = ir.AffineMap.get(loops, 0, [ir.AffineExpr.get_dim(n + d) for d in range(len(over))])
    identity = ir.AffineMap.get(loops, 0, [ir.AffineExpr.get_dim(i) for i in range(n)])
    kinds = ["parallel"] * n + ["reduction"] * len(over)
    iterators = ir.ArrayAttr.get([ir.Attribute.parse(f"#linalg.iterator_type<{k}>") for k in kinds])
    operands = [*ins, spans]
    all_maps = ir.ArrayAttr.get([ir.AffineMapAttr.get(m) for m in [*maps, walked, identity]])
    generic = linalg.GenericOp([out.type], operands, [out], all_maps, iterators)
    block = generic.regions[0].blocks.append(*[v.type.element_type for v in operands], element)
    arguments = list(block.arguments)
    with ir.InsertionPoint(block):
        if body is None:
            linalg.YieldOp([(arith.AddIOp if whole else arith.AddFOp)(arguments[-1], arguments[0]).result])
        else:
            old = body.regions[0].blocks[0]
            read = _read_arguments(old)
            assert len(read) == len(ins), f"{len(read)} operands are read, expected {len(ins)}"
            inner = dict(zip(read, arguments)) | {old.arguments[len(old.arguments) - 1]: arguments[-1]}
            for view in old.operations:
                clone(view.operation, inner)
    return generic.results[0]


def _read_arguments(block: ir.Block) -> list[ir.Value]:
    """The block arguments of the operands that the body reads, in order; others only give shapes."""
    return [a for a in list(block.arguments)[:-1] if next(iter(a.uses), None) is not None]
