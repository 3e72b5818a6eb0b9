"""Schedules of a kernel's matrix products and streamed softmax: the unit that computes each, its warps and its pipeline's stages."""

from collections.abc import Mapping

from mlc.dialects._ext import to_attr
from mlc.errors import CompilerError
from mlc.ir.mlir import ir
from mlc.passes.gpu.block import NARROW
from mlc.passes.gpu.buffers import bytes_of
from mlc.passes.gpu.contraction import Product, is_vector, product_of
from mlc.passes.gpu.fma_plan import FmaPlan, choose_fma, fma_product, fma_warps
from mlc.passes.gpu.hopper.finish import finishing
from mlc.passes.gpu.hopper.plan import ALIGNMENT, WarpGroupPlan, choose_warpgroups
from mlc.passes.gpu.hopper.streaming import Streaming, choose_streaming
from mlc.passes.gpu.mapping.kernel import CROSSING, Kernel
from mlc.passes.gpu.mapping.repeats import is_slim
from mlc.passes.gpu.mapping.shared_memory import layout
from mlc.passes.gpu.plan import MmaPlan, choose, shares, warps_wanted
from mlc.passes.gpu.unit import Unit, unit_for
from mlc.passes.gpu.warp_streaming import WarpStreaming, choose_warps
from mlc.passes.task.dot import as_foreach
from mlc.passes.tile.model import volume

# Bytes for a product's stages where the buffers of all ops together leave less: they do not live at once. If they do, fewer; then none.
LEAST_STAGES = (16 << 10, 8 << 10, 4 << 10, 0)
BAND = 8  # rows of tiles that neighbouring blocks of a large product walk down together, so that they share what they read in L2


def schedule_stream(kernel: Kernel) -> Streaming | WarpStreaming | None:
    """The schedule of a kernel's streamed softmax, if it has one: there are no other products then."""
    op = next((v.operation for v in kernel.body.operations if v.operation.name == "task.stream"), None)
    if op is None:
        return None
    target = kernel.target
    budget = target.shared_bytes - CROSSING - sum(bytes_of(a) for a in kernel.allocs())
    plan = choose_streaming(op, target, budget, kernel.aligned)
    plan = plan or choose_warps(op, target, budget, kernel.memory, kernel.aligned)
    if plan is None:
        raise CompilerError(f"kernel {kernel.name}: nothing of {target} can compute {op}")
    op.attributes["atom"], op.attributes["warps"] = to_attr(plan.atom), to_attr(plan.workers // target.warp)
    op.attributes["step"], op.attributes["stages"] = to_attr(plan.step), to_attr(plan.stages)
    return plan


def schedule_warpgroups(kernel: Kernel) -> WarpGroupPlan | None:
    """The schedule of a kernel's one large product, if TMA and warpgroups take it."""
    mmas = kernel.named("task.mma")
    product = product_of(mmas[0], kernel.memory) if len(mmas) == 1 and not kernel.loops else None
    if product is None or _unit(kernel, mmas[0], product) is None:
        return None
    op, target = mmas[0], kernel.target
    others = CROSSING + sum(-(-bytes_of(a) // ALIGNMENT) * ALIGNMENT for a in kernel.allocs() if a.results[0] != op.operands[2])
    plan = choose_warpgroups(op, product, kernel.aligned, target, target.shared_bytes - others, volume(kernel.grid))
    if plan is None:
        return None
    if finishing(op, plan.staging, kernel.aligned) is not None:
        keep_sums(kernel, op)
    op.attributes["atom"], op.attributes["step"] = to_attr(plan.atom), to_attr(plan.staging.step)
    op.attributes["warps"], op.attributes["stages"] = to_attr([plan.workers // target.warp, 1, 1]), to_attr(plan.stages)
    if len(kernel.grid) > 1 and volume(kernel.grid) > target.sms and kernel.grid[-2] > BAND:
        kernel.op.attributes["band"] = to_attr(BAND)
    return plan


def keep_sums(kernel: Kernel, op: ir.Operation) -> None:
    """Leaves a product's result in the registers of the threads that make it, which is less than its stages leave room for."""
    alloc = op.operands[2].owner
    alloc.attributes["level"] = to_attr("register")
    if "pitch" in alloc.attributes:
        del alloc.attributes["pitch"]
    kernel.memory.strides.pop(op.operands[2], None)


def schedule_products(kernel: Kernel, most: int) -> dict[ir.Operation, MmaPlan | FmaPlan]:
    """Schedules of the products that matrix units or register tiles take; the others become plain loops, of `most` threads at most."""
    budget = kernel.target.shared_bytes - CROSSING - sum(bytes_of(op) for op in kernel.allocs())
    products: dict[ir.Operation, tuple[Product, Unit]] = {}
    tiles: dict[ir.Operation, Product] = {}
    for op in kernel.named("task.mma"):
        product = product_of(op, kernel.memory)
        if product is None or is_vector(product) or is_slim(kernel, product, most):
            continue
        if (unit := _unit(kernel, op, product)) is not None:
            products[op] = product, unit
        elif _narrow(op) and fma_product(product, op.operands[2]):
            tiles[op] = product
    warps = max([warps_wanted(*p) for p in products.values()], default=0)
    warps = warps or (fma_warps(list(tiles.values()), kernel.target.warp) if tiles else 0)
    found: dict[ir.Operation, MmaPlan | FmaPlan] = {}
    for least in LEAST_STAGES:
        found = _plans(kernel, products, tiles, warps, budget, least)
        if layout(kernel, found, None)[1] <= kernel.target.shared_bytes - CROSSING:
            break
    for op in kernel.named("task.mma"):
        if op not in found:
            as_foreach(op)
            op.erase()
    for op, plan in found.items():
        op.attributes["atom"] = to_attr(plan.shape.atom.name if isinstance(plan, FmaPlan) else products[op][1].atom.name)
        op.attributes["warps"], op.attributes["step"] = to_attr(list(plan.warps)), to_attr(plan.step)
        op.attributes["stages"] = to_attr(plan.stages)
    return found


def _plans(kernel: Kernel, products: Mapping[ir.Operation, tuple[Product, Unit]], tiles: Mapping[ir.Operation, Product], warps: int,
           budget: int, least: int) -> dict[ir.Operation, MmaPlan | FmaPlan]:
    """Schedules for products on units and in register tiles whose stages take `budget` bytes, or `least` if that is more."""
    found: dict[ir.Operation, MmaPlan | FmaPlan] = {}
    for op, (product, unit) in products.items():
        own = sum(bytes_of(a) for a in kernel.allocs() if a.results[0] == op.operands[2] and shares(product, unit))
        if (plan := choose(product, unit, warps, kernel.aligned, max(budget + own, least))) is not None:
            found[op] = plan
    for op, product in tiles.items():
        if (plan := choose_fma(product, warps, kernel.aligned, max(budget, least), kernel.target)) is not None:
            found[op] = plan
    return found


def _unit(kernel: Kernel, op: ir.Operation, product: Product) -> Unit | None:
    return unit_for(product, op.operands[2], kernel.target, op.opview.py("codes")) if _narrow(op) else None


def _narrow(op: ir.Operation) -> bool:
    return all(volume(v.type.shape) < NARROW for v in list(op.operands)[:3])
