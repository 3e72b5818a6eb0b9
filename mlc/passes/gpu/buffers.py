"""Block buffers in shared memory: how their elements lie (rows may be padded), and which of them share bytes at different times."""

from collections.abc import Sequence

from mlc.dialects._ext import operations
from mlc.ir.mlir import ir
from mlc.layout.linear import row_major
from mlc.passes.tile.model import element_bytes, volume


def pitched(shape: Sequence[int], pitch: int) -> tuple[int, ...]:
    """Row-major strides of a buffer whose rows are `pitch` elements apart."""
    strides, step = [1], pitch
    for d in reversed(list(shape)[:-1]):
        strides.append(step)
        step *= d
    return tuple(reversed(strides))


def strides_of(buffer: ir.Value) -> tuple[int, ...]:
    """Elements between neighbours of a block buffer, or of a kernel's argument, along each dimension."""
    pitch = None if isinstance(buffer.owner, ir.Block) else buffer.owner.opview.py("pitch")
    return pitched(list(buffer.type.shape), pitch) if pitch else row_major(buffer.type.shape)


def elements_of(alloc: ir.Operation) -> int:
    """Elements of a task.alloc, the padding of its rows included."""
    shape, pitch = list(alloc.results[0].type.shape), alloc.opview.py("pitch")
    return volume(shape[:-1]) * pitch if pitch else volume(shape)


def bytes_of(alloc: ir.Operation) -> int:
    """Bytes of a task.alloc, at least one: no two buffers that live at once start at the same place."""
    return max(1, elements_of(alloc) * element_bytes(alloc.results[0]))


def spans_of(kernel: ir.Operation) -> list[tuple[ir.Value, int, int]]:
    """The block buffers of a kernel, and the bytes of shared memory where each starts and ends."""
    placed = [(op, op.opview.py("offset")) for op in operations(kernel) if op.name == "task.alloc"]
    return [(op.results[0], offset, offset + bytes_of(op)) for op, offset in placed if offset is not None]


def overlapping(spans: Sequence[tuple[ir.Value, int, int]]) -> dict[ir.Value, set[ir.Value]]:
    """For each block buffer, those that lie in the same shared memory at another time, itself included."""
    return {a: {b for b, start, end in spans if start < high and low < end} for a, low, high in spans}
