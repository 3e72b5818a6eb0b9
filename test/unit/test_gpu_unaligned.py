"""Products whose factors' rows are not whole 16 bytes: copied to rows that are where that pays, then on matrix units at full speed."""

from typing import Any

import numpy as np
import pytest
from gpu_native import compile_gpu
from test_gpu_warpgroups import agrees, halves, on_warpgroups

from mlc.dialects import graph

SHAPES = {  # batches, (m, n, k), transposed a, transposed b, kernels
    "both": ((), (1023, 1023, 519), False, False, 3),
    "columns alone": ((), (1024, 1023, 520), False, False, 2),
    "depth alone": ((), (1024, 1024, 519), False, False, 2),
    "rows alone": ((), (1023, 1024, 520), False, False, 1),
    "rows alone, transposed": ((), (1023, 1024, 520), True, False, 2),
    "first transposed": ((), (1031, 1031, 519), True, False, 2),  # both copies are the same kernel
    "second transposed": ((), (1023, 1021, 519), False, True, 3),
    "both transposed": ((), (1023, 1021, 519), True, True, 3),
    "batches": ((3,), (511, 515, 519), False, False, 3),
    "batches, transposed": ((3,), (511, 515, 519), True, True, 3),
}


@pytest.mark.parametrize("target", ["cuda:sm_90a", "cuda:sm_80"])
@pytest.mark.parametrize("name", SHAPES)
def test_copies_make_whole_pieces(name: str, target: str) -> None:
    batches, (m, n, k), ta, tb, kernels = SHAPES[name]
    a, b = halves(*batches, *((k, m) if ta else (m, k))), halves(*batches, *((n, k) if tb else (k, n)), seed=1)
    simulated = compile_gpu(lambda x, y: graph.matmul(x, y, transpose_a=ta, transpose_b=tb), a, b, target=target)
    wide = target == "cuda:sm_90a"  # warpgroups need both copies, cp.async gains by each alone
    assert on_warpgroups(simulated) == wide
    assert len(simulated.kernels) == kernels if wide else min(2, kernels) <= len(simulated.kernels) <= kernels
    turned = [x.swapaxes(-1, -2) if t else x for x, t in ((a, ta), (b, tb))]
    agrees(simulated(a, b)[0], turned[0].astype(np.float32) @ turned[1].astype(np.float32))


def test_what_lies_behind_the_rows_is_not_read() -> None:
    """Not even where it is infinite: the copies repeat their last elements there."""
    a, b = halves(1023, 519), halves(519, 1023, seed=1)
    a[:, -1], b[-1, :] = -np.inf, 0.5

    def build(x: Any, y: Any) -> Any:
        return graph.elementwise("relu", graph.matmul(x, y, transpose_a=False, transpose_b=False))

    simulated = compile_gpu(build, a, b)
    assert on_warpgroups(simulated)
    assert not np.any(simulated(a, b)[0])


def test_a_factor_that_the_kernel_moves_stays() -> None:
    """The first factor is read through a transposition, which is no kernel of its own; the second is copied."""
    a, b = halves(4, 519, 128), halves(519, 1023, seed=1)

    def build(x: Any, y: Any) -> Any:
        return graph.matmul(graph.transpose(x, perm=[0, 2, 1]), y, transpose_a=False, transpose_b=False)

    simulated = compile_gpu(build, a, b)
    assert on_warpgroups(simulated) and len(simulated.kernels) == 2
    agrees(simulated(a, b)[0], a.swapaxes(1, 2).astype(np.float32) @ b.astype(np.float32))


def test_small_products_stay_as_they_are() -> None:
    a, b = halves(67, 67), halves(67, 67, seed=1)
    simulated = compile_gpu(lambda x, y: graph.matmul(x, y, transpose_a=False, transpose_b=False), a, b)
    assert len(simulated.kernels) == 1
    agrees(simulated(a, b)[0], a.astype(np.float32) @ b.astype(np.float32))


def test_short_gathers_use_vectors() -> None:
    table, rows = halves(50, 512), np.random.default_rng(0).integers(0, 50, 1000)
    simulated = compile_gpu(lambda t, r: graph.gather(t, r, axis=0), table, rows)
    assert "spatial(128, 1) * repeat(4, 1)>" in simulated.task
    np.testing.assert_array_equal(simulated(table, rows)[0], table[rows])
