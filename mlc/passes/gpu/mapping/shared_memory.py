"""Where buffers and workspaces lie in shared memory: rows padded against bank conflicts, one place for what lives at different times."""

from collections.abc import Container, Mapping

from mlc.dialects._ext import to_attr
from mlc.errors import CompilerError
from mlc.ir.mlir import ir
from mlc.passes.gpu.block import WIDEST
from mlc.passes.gpu.buffers import bytes_of, pitched
from mlc.passes.gpu.fma_plan import FmaPlan
from mlc.passes.gpu.hopper.plan import ALIGNMENT, WarpGroupPlan, result_bytes
from mlc.passes.gpu.hopper.streaming import Streaming
from mlc.passes.gpu.mapping.kernel import Kernel
from mlc.passes.gpu.mapping.turned import turned_pitch
from mlc.passes.gpu.plan import MmaPlan
from mlc.passes.gpu.warp_streaming import WarpStreaming
from mlc.passes.task.plan_memory import best_fit
from mlc.passes.tile.model import element_bytes, volume

PLACE = 128  # bytes: alignment of buffers in shared memory

Plans = Mapping[ir.Operation, MmaPlan | FmaPlan]  # of products
Wide = WarpGroupPlan | Streaming | WarpStreaming  # of a kernel's one product or streamed softmax, for all its warps


def pad_rows(kernel: Kernel) -> None:
    """Rows are padded so that what neighbouring rows are read or written by lies in different banks."""
    for op in kernel.allocs():
        type_ = op.results[0].type
        shape = list(type_.shape)
        size = element_bytes(op.results[0])
        row = shape[-1] * size if shape else 0
        if len(shape) > 1 and volume(shape[:-1]) > 1 and (op.results[0] in kernel.turned or (row % WIDEST == 0 and row >= 64)):
            # Sums of products (f32) are written as 8-byte pairs by 4 x 4 threads at once, other rows read 16 bytes by 8.
            pitch = shape[-1] + (2 * WIDEST if size == 4 else WIDEST) // size
            pitch = turned_pitch(shape[-1], size) if op.results[0] in kernel.turned else pitch
            op.attributes["pitch"] = to_attr(pitch)
            kernel.memory.strides[op.results[0]] = pitched(shape, pitch)


def layout(kernel: Kernel, products: Plans, wide: Wide | None) -> tuple[dict[ir.Operation, int], int]:
    """Offsets in shared memory and the bytes of all, by liveness over the kernel's ops; a product's is that of its workspace.

    An op takes two points of time: a product whose sums may take the place of what it reads makes them at the second. A warpgroups'
    result takes the place of their stages.
    """
    order = {op: 2 * i for i, op in enumerate(kernel.ops)}
    late = {op.operands[2]: order[op] for op, plan in products.items() if plan.shares}
    spans: list[tuple[int, int, int, ir.Operation]] = []
    mma = kernel.named("task.mma")[0] if isinstance(wide, WarpGroupPlan) else None
    for op in kernel.allocs():
        users = [order[_top(u.owner.operation, order)] for u in op.results[0].uses]
        if isinstance(wide, WarpGroupPlan) and mma and op.results[0] == mma.operands[2]:
            spans.append((wide.workspace(result_bytes(mma)), min(users), max(users), op))
        elif users:
            first = min(users)
            spans.append((bytes_of(op), first + (late.get(op.results[0]) == first), max(users) + 1, op))
    if isinstance(wide, Streaming | WarpStreaming):
        stream = next(op for op in order if op.name == "task.stream")
        spans.append((wide.workspace, order[stream], order[stream] + 1, stream))
    if isinstance(wide, WarpGroupPlan) and mma and not result_bytes(mma):
        spans.append((wide.workspace(0), order[mma], order[mma] + 1, mma))
    spans += [(plan.workspace, order[op], order[op] + (not plan.shares), op) for op, plan in products.items() if plan.workspace]
    placed: list[tuple[int, int, int, int]] = []
    offsets: dict[ir.Operation, int] = {}
    for size, first, last, op in sorted(spans, key=lambda s: (-s[0], s[1])):
        offsets[op] = best_fit([p for p in placed if p[2] <= last and first <= p[3]], size, ALIGNMENT if wide else PLACE)
        placed.append((offsets[op], size, first, last))
    return offsets, -(-max([o + s for o, s, *_ in placed], default=0) // PLACE) * PLACE


def place(kernel: Kernel, products: Plans, wide: Wide | None, crossing: int) -> None:
    """Writes where buffers and workspaces lie, and behind them `crossing` bytes in which warps join their parts of reductions.

    Raises CompilerError where the buffers alone are too much, which no tile allows.
    """
    offsets, top = layout(kernel, products, wide)
    mma = kernel.named("task.mma")[0] if isinstance(wide, WarpGroupPlan) else None
    for op, offset in offsets.items():
        if mma and op.name == "task.alloc" and op.results[0] == mma.operands[2]:
            mma.attributes["workspace"] = to_attr(offset)
        op.attributes["offset" if op.name == "task.alloc" else "workspace"] = to_attr(offset)
    kernel.op.attributes["scratch"] = to_attr(top)
    kernel.op.attributes["shared"] = to_attr(top + crossing)
    if top + crossing > kernel.target.shared_bytes:
        raise CompilerError(f"kernel {kernel.name} needs {top + crossing} bytes of shared memory, "
                            f"{kernel.target} has {kernel.target.shared_bytes}")


def _top(op: ir.Operation, among: Container[ir.Operation]) -> ir.Operation:
    """The op of `among` that holds `op`."""
    while op not in among:
        op = op.parent.operation
    return op
