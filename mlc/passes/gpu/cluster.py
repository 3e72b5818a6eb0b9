"""What the blocks of a cluster do together (PTX ISA, barrier.cluster and mapa): they meet, and write to each other's shared memory."""

from mlc.ir.mlir import arith, ir, llvm, memref


def arrive(*, relaxed: bool = False) -> None:
    """The thread is there; relaxed: without showing others what it wrote."""
    ir.Operation.create("nvvm.cluster.arrive.relaxed" if relaxed else "nvvm.cluster.arrive")


def wait() -> None:
    """All threads of all blocks have arrived."""
    ir.Operation.create("nvvm.cluster.wait")


def store_far(value: ir.Value, shared: ir.Value, offset: ir.Value, block: ir.Value) -> None:
    """Stores a scalar to the shared memory of another block, at that block's `offset` (bytes) in the memref `shared`.

    block: its number in the cluster. That block must have begun, and not end before it has met this one again.
    """
    i32, i64 = (ir.IntegerType.get_signless(n) for n in (32, 64))
    start = memref.ExtractAlignedPointerAsIndexOp(shared).result
    address = arith.IndexCastUIOp(i64, arith.AddIOp(start, offset).result).result
    near = llvm.IntToPtrOp(ir.Type.parse("!llvm.ptr<3>"), address).result
    number = arith.IndexCastUIOp(i32, block).result
    far = ir.Operation.create("nvvm.mapa", results=[ir.Type.parse("!llvm.ptr<7>")], operands=[near, number]).results[0]
    llvm.StoreOp(value, far)
