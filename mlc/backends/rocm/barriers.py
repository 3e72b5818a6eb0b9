"""Which memory a kernel's barriers order: block memory only, where no buffer in global memory is handed from thread to thread."""

from mlc.dialects._ext import operations
from mlc.ir.mlir import ir

_LOCAL = "[#gpu.address_space<workgroup>]"
_READS = ("memref.load", "vector.load", "vector.transfer_read", "vector.maskedload", "vector.gather")
_WRITES = ("memref.store", "vector.store", "vector.transfer_write", "vector.maskedstore", "vector.scatter")
_VIEWS = ("memref.view", "memref.subview", "memref.cast", "memref.reinterpret_cast", "memref.memory_space_cast", "memref.expand_shape",
          "memref.collapse_shape", "memref.extract_strided_metadata", "memref.assume_alignment")
_OWN = ("memref.alloca", "gpu.dynamic_shared_memory", "memref.get_global")  # a thread's, a block's, or constant


def relax_barriers(kernel: ir.Operation) -> bool:
    """Lets barriers of a gpu.func leave global memory alone where that is safe; whether some still order it.

    A barrier that orders global memory waits for every load that is under way, those for the next stage of a pipeline included.
    """
    barriers = [op for op in operations(kernel) if op.name == "gpu.barrier" and "address_spaces" not in op.attributes]
    if not barriers:
        return False
    if _shares_global_memory(kernel):
        return True
    for op in barriers:
        op.attributes["address_spaces"] = ir.Attribute.parse(_LOCAL, op.context)
    return False


def _shares_global_memory(kernel: ir.Operation) -> bool:
    """Whether an argument is both read and written. An access that is not understood counts as both, and of every argument."""
    arguments = list(kernel.regions[0].blocks[0].arguments)
    read: set[ir.Value] = set()
    written: set[ir.Value] = set()
    for op in operations(kernel):
        if op.name in _VIEWS:
            continue
        for value in op.operands:
            if not isinstance(value.type, ir.MemRefType) or "workgroup" in str(value.type.memory_space):
                continue
            root = _root(value)
            if isinstance(root.owner, ir.Block):
                touched = {root} if root in arguments else set(arguments)
            else:
                touched = set() if root.owner.name in _OWN else set(arguments)
            read |= touched if op.name not in _WRITES else set()
            written |= touched if op.name not in _READS else set()
    return bool(read & written)


def _root(value: ir.Value) -> ir.Value:
    """The buffer that a view is of."""
    while not isinstance(value.owner, ir.Block) and value.owner.name in _VIEWS:
        value = value.owner.operands[0]
    return value
