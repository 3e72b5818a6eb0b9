"""What all launches of a kernel have in common: how far its buffers are aligned, and which of them are constant."""

from math import gcd

from mlc.dialects._ext import operations
from mlc.ir.mlir import ir
from mlc.passes.task.plan_memory import ALIGN
from mlc.passes.tile.model import element_bytes, volume


def alignments(module: ir.Module) -> dict[str, list[int]]:
    """Per kernel and buffer: bytes that its start is aligned to in every launch. Slices of a loop may start anywhere."""
    found: dict[str, list[int]] = {}
    for op in operations(module.operation):
        if op.name == "task.launch":
            own = [_alignment(v) for v in op.operands]
            name = op.opview.py("kernel")
            found[name] = [gcd(a, b) for a, b in zip(found.get(name, own), own)]
    return found


def constants(module: ir.Module) -> dict[str, set[int]]:
    """Per kernel: which of its buffers are weights or constants in every launch."""
    found: dict[str, set[int]] = {}
    for op in operations(module.operation):
        if op.name == "task.launch":
            own = {i for i, v in enumerate(op.operands) if _is_constant(v)}
            name = op.opview.py("kernel")
            found[name] = found.get(name, own) & own
    return found


def _is_constant(buffer: ir.Value) -> bool:
    while not isinstance(buffer.owner, ir.Block) and buffer.owner.name in ("task.view", "task.slice"):
        buffer = buffer.owner.operands[0]
    return not isinstance(buffer.owner, ir.Block) and buffer.owner.name in ("task.weight", "task.constant")


def _alignment(buffer: ir.Value) -> int:
    if isinstance(buffer.owner, ir.Block) or buffer.owner.name not in ("task.slice", "task.view"):
        return ALIGN
    own = volume(buffer.type.shape) * element_bytes(buffer) if buffer.owner.name == "task.slice" else ALIGN
    return gcd(own, _alignment(buffer.owner.operands[0]))
