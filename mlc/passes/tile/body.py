"""Questions about the scalar body of a node: what it yields, and which of its reads a value depends on."""

from mlc.ir.mlir import ir
from mlc.passes.tile.model import Node, Read


def root_of(op: ir.Operation) -> ir.Operation:
    """The operation whose result a linalg body yields; the terminator itself where that is an argument."""
    block = op.regions[0].blocks[0]
    end = block.operations[len(block.operations) - 1].operation
    owner = end.operands[0].owner
    return end if isinstance(owner, ir.Block) else owner


def arguments_of(node: Node) -> dict[ir.Value, Read]:
    """The body's arguments that are used, and what each of them reads."""
    block = node.op.regions[0].blocks[0]
    used = [a for a in list(block.arguments)[:len(block.arguments) - len(node.results)] if next(iter(a.uses), None) is not None]
    return dict(zip(used, node.reads, strict=True))


def argument_of(node: Node, value: ir.Value) -> Read | None:
    """The read that a value is, perhaps widened."""
    while not isinstance(value.owner, ir.Block) and value.owner.name == "arith.extf":
        value = value.owner.operands[0]
    return arguments_of(node).get(value) if isinstance(value, ir.BlockArgument) else None


def is_cast(node: Node) -> bool:
    """Whether an elementwise node yields its one read, perhaps in another float type."""
    ops = [view.operation.name for view in node.op.regions[0].blocks[0].operations]
    return len(node.reads) == 1 and set(ops) <= {"arith.extf", "arith.truncf", "linalg.yield"}


def only_depends_on(node: Node, value: ir.Value, *reads: Read) -> bool:
    """Whether a value is a function of constants and of these reads alone."""
    arguments, stack, block = arguments_of(node), [value], node.op.regions[0].blocks[0]
    while stack:
        v = stack.pop()
        if isinstance(v, ir.BlockArgument):
            if v.owner != block or arguments.get(v) not in reads:
                return False
        elif v.owner.name == "linalg.index":
            return False
        else:
            stack.extend(v.owner.operands)
    return True


def is_constant(value: ir.Value, number: float) -> bool:
    """Whether a scalar is this floating-point constant."""
    owner = value.owner
    return not isinstance(owner, ir.Block) and owner.name == "arith.constant" and owner.attributes["value"].value == number
