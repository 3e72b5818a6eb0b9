"""Programs through the GPU path give numpy's results: random ones under several schedules, and the shapes where kernels go wrong."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import test_task_flow
from arrays import agree, uniform
from gpu_native import compile_gpu, run_gpu
from native import Schedule, chosen
from programs import _conv_reference, random_program
from schedules import at_random, merged
from test_graph_elementwise import UNARY

from mlc.dialects import graph
from mlc.dtypes import BF16, F32

TARGETS = ("cuda:sm_90a", "cuda:sm_80", "rocm:gfx942", "rocm:gfx1100")
TOLERANCE = {np.dtype(np.float32): 2e-5, np.dtype(np.float16): 4e-3, BF16.numpy: 3e-2}


def _target(*salt: object) -> str:
    """One of the targets, the same for the same case."""
    return TARGETS[sum(map(ord, str(salt))) % len(TARGETS)]


@pytest.mark.parametrize("seed", range(400, 440))
def test_random_programs(seed: int) -> None:
    program = random_program(seed, length=5 + seed % 5)
    schedules: list[Schedule] = [chosen, merged, at_random(seed)]
    for number, schedule in enumerate(schedules):
        target = TARGETS[(seed + number) % len(TARGETS)]
        simulated = compile_gpu(program.build, *program.inputs, schedule=schedule, target=target)
        try:
            agree(simulated(*program.inputs), program.expected())
        except AssertionError as error:
            raise AssertionError(f"{error}\nschedule {number} for {target} of\n{program}\n{simulated.task}") from error


@pytest.mark.parametrize("dtype", [np.float16, BF16.numpy, np.float32, np.float64, np.int8, np.int16, np.int32, np.int64,
                                   np.uint8, np.uint16, np.uint32, np.uint64])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (64,), (3, 5, 7), (1000,), (33, 128)])
def test_elementwise(dtype: Any, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(shape))
    x, y = (rng.uniform(0, 60, shape).astype(dtype) for _ in range(2))
    found = run_gpu(lambda a, b: [graph.elementwise("add", a, b), graph.elementwise("max", graph.elementwise("mul", a, b), b)], x, y,
                    target=_target(dtype, shape))
    for got, want in zip(found, (x + y, np.maximum(x * y, y))):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["exp", "log", "tanh", "erf", "sqrt", "rsqrt", "sin", "gelu", "sigmoid", "softplus"])
def test_functions_of_all_targets(name: str, target: str) -> None:
    x = np.abs(uniform(300)) * 4 + 0.01
    agree(run_gpu(lambda a: graph.elementwise(name, a), x, target=target), [UNARY[name](x.astype(np.float64))], 1e-6)


def test_comparisons_selections_and_casts() -> None:
    x, y = uniform(5, 37), uniform(37)
    def build(a: Any, b: Any) -> list[Any]:
        less = graph.elementwise("lt", a, b)
        return [less, graph.elementwise("where", less, a, b), graph.cast(a, to=BF16), graph.cast(graph.cast(a, to=BF16), to=F32)]

    narrow = x.astype(BF16.numpy)
    for got, want in zip(run_gpu(build, x, y), (x < y, np.minimum(x, y), narrow, narrow.astype(np.float32)), strict=True):
        np.testing.assert_array_equal(got.astype(want.dtype), want)


@pytest.mark.parametrize("kind", ["sum", "max", "mean"])
@pytest.mark.parametrize("axes", [[0], [1], [2], [0, 1], [1, 2], [0, 2], [0, 1, 2]])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 17, 33), (2, 5, 130), (9, 64, 4), (2, 3, 1029)])
def test_reductions(kind: str, axes: list[int], shape: tuple[int, ...]) -> None:
    x = uniform(*shape)
    expected = getattr(np, kind)(x.astype(np.float64), axis=tuple(axes))
    agree(run_gpu(lambda v: graph.reduce(v, kind=kind, axes=axes, keepdims=False), x, target=_target(kind, axes, shape)), [expected], 2e-5)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.float16, np.bool_])
def test_reductions_of_other_types(dtype: Any) -> None:
    x = np.random.default_rng(3).uniform(0, 2 if dtype is np.bool_ else 90, (3, 513)).astype(dtype)
    for target in TARGETS:
        found, = run_gpu(lambda v: graph.reduce(v, kind="max", axes=[1], keepdims=False), x, target=target)
        np.testing.assert_array_equal(found.astype(dtype), x.max(1))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (5, 100), (2, 1025), (64, 33)])
def test_softmax_and_norms(shape: tuple[int, int], target: str) -> None:
    x = uniform(*shape)
    wide = x.astype(np.float64)
    power = np.exp(wide - wide.max(1, keepdims=True))
    centred = wide - wide.mean(1, keepdims=True)
    found = run_gpu(lambda v: [graph.softmax(v, axis=1), graph.layer_norm(v, axis=1, eps=0.01), graph.softmax(v, axis=0)], x, target=target)
    down = np.exp(wide - wide.max(0, keepdims=True))
    agree(found, [power / power.sum(1, keepdims=True), centred / np.sqrt((centred ** 2).mean(1, keepdims=True) + 0.01),
                   down / down.sum(0, keepdims=True)], 2e-5)


_SIZES = (1, 7, 16, 17, 64, 100)


@pytest.mark.parametrize("dtype", [np.float16, BF16.numpy, np.float32])
@pytest.mark.parametrize("case", range(12))
def test_matmul(case: int, dtype: Any) -> None:
    """Ragged sizes and transposed operands, drawn so that every size occurs in every place."""
    m, n, k = _SIZES[case % 6], _SIZES[case * 5 // 2 % 6], _SIZES[(case + case // 6 + 2) % 6]
    ta, tb = bool(case & 1), bool(case & 2)
    a, b = uniform(*((k, m) if ta else (m, k)), dtype=dtype), uniform(*((n, k) if tb else (k, n)), dtype=dtype, seed=1)
    expected = (a.T if ta else a).astype(np.float64) @ (b.T if tb else b).astype(np.float64)
    for target in TARGETS[case % 2::2]:
        agree(run_gpu(lambda x, y: graph.matmul(x, y, transpose_a=ta, transpose_b=tb), a, b, target=target), [expected],
               TOLERANCE[np.dtype(dtype)])


@pytest.mark.parametrize("shapes", [((3, 17, 40), (3, 40, 24)), ((3, 17, 40), (40, 24)), ((2, 3, 16, 32), (3, 32, 16)),
                                    ((5, 1, 64), (5, 64, 9)), ((128, 256), (256, 136)), ((130, 72), (72, 200))])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_matmul_in_batches_and_blocks(shapes: Any, dtype: Any) -> None:
    a, b = (uniform(*s, dtype=dtype, seed=i) for i, s in enumerate(shapes))
    expected = np.maximum(a.astype(np.float64) @ b.astype(np.float64) + 0.5, 0)
    half = np.full(1, 0.5, dtype)

    def build(x: Any, y: Any) -> Any:
        return graph.elementwise("relu", graph.elementwise("add", graph.matmul(x, y, transpose_a=False, transpose_b=False),
                                                           graph.constant(half)))

    for target in TARGETS[::2]:
        agree(run_gpu(build, a, b, target=target), [expected], TOLERANCE[np.dtype(dtype)])


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("groups", [1, 6])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_convolutions(groups: int, dtype: Any, padded: bool) -> None:
    """3x3, stride 2, odd sizes; six groups of one channel are a depthwise one."""
    x, w = uniform(2, 6, 9, 11, dtype=dtype), uniform(12, 6 // groups, 3, 3, dtype=dtype)
    wide = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)]) if padded else x
    expected = _conv_reference(wide.astype(np.float64), w.astype(np.float64), [2, 2], [1, 1], groups)

    def build(a: Any, b: Any) -> Any:
        a = graph.pad(a, low=[0, 0, 1, 1], high=[0, 0, 1, 1]) if padded else a
        return graph.conv(a, b, strides=[2, 2], dilations=[1, 1], groups=groups)

    for target in TARGETS:
        agree(run_gpu(build, x, w, target=target), [expected], TOLERANCE[np.dtype(dtype)])


def test_a_depthwise_and_a_pointwise_convolution() -> None:
    """One kernel whose first product becomes plain loops while the second keeps its unit."""
    x, w, v = uniform(1, 12, 12, 32, dtype=np.float16), uniform(3, 3, 1, 32, dtype=np.float16), uniform(1, 1, 32, 16, dtype=np.float16)

    def build(a: Any, b: Any, c: Any) -> Any:
        deep = graph.conv(a, b, strides=[1, 1], dilations=[1, 1], groups=32, layout="nhwc")
        return graph.conv(deep, c, strides=[1, 1], dilations=[1, 1], layout="nhwc")

    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), (3, 3), axis=(1, 2))
    expected = np.einsum("nhwcij,ijc,cf->nhwf", windows, w[:, :, 0].astype(np.float64), v[0, 0].astype(np.float64))
    for target in TARGETS:
        agree(run_gpu(build, x, w, v, target=target), [expected], TOLERANCE[np.dtype(np.float16)])


@pytest.mark.parametrize("kind", ["max", "sum"])
def test_pooling(kind: str) -> None:
    x = uniform(2, 5, 9, 11)
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), (3, 3), axis=(2, 3))[:, :, ::2, ::2]
    for target in TARGETS:
        found = run_gpu(lambda v: graph.pool(v, kind=kind, kernel=[3, 3], strides=[2, 2], dilations=[1, 1], axis=2), x, target=target)
        agree(found, [windows.max((4, 5)) if kind == "max" else windows.sum((4, 5))], 1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(("queries", "keys", "causal"), [(1, 9, False), (17, 17, True), (32, 40, False)])
def test_attention(queries: int, keys: int, causal: bool, dtype: Any) -> None:
    q, k, v = uniform(2, 4, queries, 16, dtype=dtype), uniform(2, 2, keys, 16, dtype=dtype), uniform(2, 2, keys, 16, dtype=dtype, seed=1)
    wide = [np.repeat(t.astype(np.float64), r, 1) for t, r in ((q, 1), (k, 2), (v, 2))]
    scores = wide[0] @ wide[1].swapaxes(2, 3) * 0.25
    if causal:
        scores = np.where(np.tri(queries, keys, dtype=bool), scores, -np.inf)
    power = np.exp(scores - scores.max(3, keepdims=True))
    expected = power / power.sum(3, keepdims=True) @ wide[2]
    right = {"right": 0} if causal else {}
    for target in TARGETS:
        agree(run_gpu(lambda a, b, c: graph.attention(a, b, c, scale=0.25, **right), q, k, v, target=target), [expected],
               TOLERANCE[np.dtype(dtype)])


def _moved(x: Any, y: Any, i: Any) -> list[Any]:
    joined = graph.concat(x, y, axis=1)
    return [graph.gather(x, i, axis=1), joined, graph.transpose(joined, perm=[1, 0]), graph.pad(x, low=[1, 2], high=[0, 3]),
            graph.slice(y, starts=[0, 4], sizes=[3, 2], steps=[2, -3])]


def _moved_by_numpy(x: np.ndarray, y: np.ndarray, i: np.ndarray) -> list[np.ndarray]:
    joined = np.concatenate([x, y], 1)
    return [x[:, i], joined, joined.T, np.pad(x, [(1, 0), (2, 3)]), y[:5:2, 4:0:-3]]


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.uint8])
def test_movement(dtype: Any) -> None:
    x, y = (np.arange(n * 5).reshape(5, n).astype(dtype) for n in (13, 7))
    i = np.array([[3, 0, 12], [-1, 5, 5]], np.int64)
    for target in TARGETS:
        for got, want in zip(run_gpu(_moved, x, y, i, target=target), _moved_by_numpy(x, y, i), strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("schedule", [chosen, merged, at_random(5)])
def test_padding_of_what_a_kernel_computes(schedule: Schedule) -> None:
    x = uniform(5, 13)

    def build(v: Any) -> Any:
        return graph.elementwise("relu", graph.pad(graph.elementwise("tanh", v), low=[1, 1], high=[2, 2]))

    agree(run_gpu(build, x, schedule=schedule), [np.maximum(np.pad(np.tanh(x), [(1, 2), (1, 2)]), 0)], 1e-6)


_FLOW = [f for name, f in vars(test_task_flow).items() if name.startswith("test_") and not hasattr(f, "pytestmark")]


@pytest.mark.parametrize("case", _FLOW, ids=lambda f: f.__name__)
def test_loops_and_branches_of_the_plan(case: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU's tests of flow: slices, copies, conditions."""
    monkeypatch.setattr(test_task_flow, "run_native", run_gpu)
    case()
