"""Kernels whose buffers fill shared memory: a product that finds no room for its stages becomes loops, instead of no kernel at all."""

from typing import Any

import numpy as np
import pytest
from gpu_native import compile_gpu
from schedules import merged
from test_gpu_warpgroups import agrees, halves

from mlc.dialects import graph
from mlc.dialects._ext import operations, to_attr


def _tiles_of(rows: int) -> Any:
    """Everything in one kernel, so many rows a block."""
    def schedule(module: Any, ctx: Any) -> None:
        merged(module, ctx)
        for op in operations(module.operation):
            if op.name == "tile.graph" and "tile.sizes" in op.attributes:
                sizes = [a.value for a in op.attributes["tile.sizes"]]
                op.attributes["tile.sizes"] = to_attr([rows, *sizes[1:]])

    return schedule


@pytest.mark.parametrize(("columns", "staged"), [(64, True), (288, False)])  # sums of 128 x 288 take 151,552 of 166,912 bytes
def test_without_room_for_stages_a_product_is_loops(columns: int, staged: bool) -> None:
    a, b, c = halves(128, 64), halves(64, columns, seed=1), halves(64, 16, seed=2)

    def build(a: Any, b: Any, c: Any) -> Any:
        large = graph.matmul(a, b, transpose_a=False, transpose_b=False)  # its sums are there while the small product is made
        small = graph.matmul(a, c, transpose_a=False, transpose_b=False)
        scale = graph.reduce(small, kind="max", axes=[1], keepdims=True)
        return graph.reduce(graph.elementwise("mul", large, scale), kind="max", axes=[1], keepdims=False)

    simulated = compile_gpu(build, a, b, c, schedule=_tiles_of(128), target="cuda:sm_80")
    assert len(simulated.kernels) == 1 and ("stages = " in simulated.task) == staged
    first, second = a.astype(np.float32) @ b.astype(np.float32), a.astype(np.float32) @ c.astype(np.float32)
    agrees(simulated(a, b, c)[0], (first * second.max(1, keepdims=True)).max(1), 4e-3)
