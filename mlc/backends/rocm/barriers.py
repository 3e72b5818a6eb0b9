"""Which memory a kernel's barriers order: block memory only, where no buffer in global memory is handed from thread to thread."""

from collections.abc import Sequence

from mlc.backends.rocm.buffers import Buffer
from mlc.dialects._ext import operations
from mlc.ir.mlir import ir

_LOCAL = "[#gpu.address_space<workgroup>]"


def relax_barriers(kernel: ir.Operation, buffers: Sequence[Buffer]) -> bool:
    """Lets barriers of a gpu.func leave global memory alone where that is safe; whether some still order it.

    A barrier that orders global memory waits for every load that is under way, those for the next stage of a pipeline included.
    """
    barriers = [op for op in operations(kernel) if op.name == "gpu.barrier" and "address_spaces" not in op.attributes]
    if not barriers:
        return False
    if any(b.read and b.written for b in buffers):
        return True
    for op in barriers:
        op.attributes["address_spaces"] = ir.Attribute.parse(_LOCAL, op.context)
    return False
