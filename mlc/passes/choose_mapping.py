"""choose-mapping: which thread (GPU) or lane of a vector (CPU) does what, and where a block's buffers lie, written into the task level."""

from dataclasses import dataclass
from typing import ClassVar

from mlc.dialects._ext import to_attr
from mlc.ir.mlir import ir
from mlc.layout.registers import Registers
from mlc.passes.gpu.block import HALVES
from mlc.passes.gpu.hopper.finish import finished_by
from mlc.passes.gpu.hopper.plan import WarpGroupPlan
from mlc.passes.gpu.mapping import launches
from mlc.passes.gpu.mapping.foreaches import LEAST, MOST, map_of, threads_wanted
from mlc.passes.gpu.mapping.kernel import Kernel
from mlc.passes.gpu.mapping.products import schedule_products, schedule_stream, schedule_warpgroups
from mlc.passes.gpu.mapping.repeats import KeptLoads, mark_early
from mlc.passes.gpu.mapping.shared_memory import pad_rows, place
from mlc.passes.gpu.mapping.turned import stage_turned
from mlc.passes.gpu.row_plan import choose_rows
from mlc.passes.registry import Pass, PassContext
from mlc.passes.task.body import Body
from mlc.passes.task.lanes import choose_lanes
from mlc.passes.tile.model import volume


@dataclass(frozen=True)
class ChooseMapping(Pass):
    """Writes task maps and schedules of products; for GPUs also threads, pitches and shared-memory offsets."""

    name: ClassVar[str] = "choose-mapping"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        target = ctx.need_target()
        kernels = [v.operation for v in module.body.operations if v.operation.name == "task.kernel"]
        if not target.warp:
            registers = Registers.of(target)
            for op in kernels:
                choose_lanes(op, registers)
            return
        alignments, constants = launches.alignments(module), launches.constants(module)
        for op in kernels:
            name = op.opview.py("sym_name")
            op.attributes["constants"] = to_attr(sorted(constants.get(name, set())))
            _choose_threads(Kernel(op, target, alignments.get(name, [])))


def _choose_threads(kernel: Kernel) -> None:
    """Products come first: their warps are the block's threads, which the foreaches share among themselves."""
    if any(not op.name.startswith(("task.", "arith.")) for op in kernel.ops):
        kernel.op.attributes["threads"] = to_attr(1)  # opaque: sequential code
        return
    kernel.op.attributes["alignment"] = to_attr([kernel.aligned[b] for b in kernel.buffers])
    multiplies = any(op.name in ("task.mma", "task.stream") for op in kernel.ops)
    rows = None if multiplies or kernel.loops else choose_rows(kernel.op, kernel.aligned, kernel.target)
    if not (rows or multiplies or kernel.loops):
        stage_turned(kernel)
    pad_rows(kernel)
    wide = schedule_stream(kernel) or schedule_warpgroups(kernel)
    products = {} if wide else schedule_products(kernel, MOST)
    finished = finished_by(kernel.named("task.mma")[0]) if isinstance(wide, WarpGroupPlan) else set()
    bodies = {op: Body(op, kernel.memory) for op in kernel.named("task.foreach") if op not in finished}
    threads = wide.workers if wide else max([plan.threads for plan in products.values()], default=0)
    if not threads:
        wanted = [threads_wanted(kernel, b) for op, b in bodies.items() if op.opview.py("map") is None]
        threads = max([*wanted, rows.threads] if rows else wanted, default=LEAST)
    everybody = wide.threads if wide else threads
    kernel.op.attributes["threads"] = to_attr(everybody)
    if rows and rows.split > 1:
        kernel.op.attributes["split"] = to_attr(rows.split)
    crossing = _map_foreaches(kernel, bodies, threads)
    for block in {op.block: None for op in bodies}:
        mark_early(kernel, [v.operation for v in block.operations])
    place(kernel, products, wide, 8 * HALVES * crossing * -(-everybody // kernel.target.warp))


def _map_foreaches(kernel: Kernel, bodies: dict[ir.Operation, Body], threads: int) -> int:
    """Gives each foreach its map. Returns how many results at most warps have to join, each a part of it."""
    crossing, kept = 0, KeptLoads(kernel, threads)
    for op, body in sorted(bodies.items(), key=lambda item: item[0].block == kernel.body):  # loops first: they say what is kept
        map_ = op.opview.py("map") or map_of(kernel, body, threads)
        op.attributes["map"] = to_attr(map_)
        kept.mark(op, body, map_)
        sharing = volume([d.extent for d in map_.digits() if d.spatial and d.dim == 1])
        if sharing > kernel.target.warp and body.reductions:
            crossing = max(crossing, max(len(list(r.results)) for r in body.reductions))
    return crossing
