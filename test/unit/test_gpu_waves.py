"""Products by AMD's matrix instructions on the simulator: every architecture's atoms, and each way that a factor takes to its registers."""

from typing import Any

import numpy as np
import pytest
from arrays import uniform
from gpu_native import Simulated, compile_gpu

from mlc.dialects import graph
from mlc.dtypes import BF16, I32

ARCHS = {"gfx90a": "mfma", "gfx942": "mfma", "gfx1100": "wmma", "gfx1201": "wmma"}
TYPES = {"f16": (np.dtype(np.float16), 4e-3), "bf16": (BF16.numpy, 3e-2), "f32": (np.dtype(np.float32), 2e-6)}
CASES = [(arch, name) for arch, unit in ARCHS.items() for name in TYPES if unit == "mfma" or name != "f32"]


def _check(made: Simulated, inputs: list[np.ndarray], expected: np.ndarray, arch: str, tolerance: float) -> None:
    assert f"amdgpu.{ARCHS[arch]}" in made.gpu
    found, = made(*inputs)
    assert np.abs(found.astype(np.float64) - expected).max() <= tolerance * (1 + np.abs(expected).max())


@pytest.mark.parametrize(("arch", "kind"), CASES)
@pytest.mark.parametrize(("transpose_a", "transpose_b"), [(False, False), (False, True), (True, False), (True, True)])
def test_factors_as_they_lie(arch: str, kind: str, transpose_a: bool, transpose_b: bool) -> None:
    """Ragged rows, columns and depth; a factor that is contiguous along its outer loops is turned on the way."""
    dtype, tolerance = TYPES[kind]
    m, n, k = 40, 72, 104
    a = uniform(*((k, m) if transpose_a else (m, k)), dtype=dtype)
    b = uniform(*((n, k) if transpose_b else (k, n)), dtype=dtype, seed=1)
    expected = (a.T if transpose_a else a).astype(np.float64) @ (b.T if transpose_b else b).astype(np.float64)
    made = compile_gpu(lambda x, y: graph.matmul(x, y, transpose_a=transpose_a, transpose_b=transpose_b), a, b, target=f"rocm:{arch},sms=1")
    _check(made, [a, b], expected, arch, tolerance)


@pytest.mark.parametrize(("arch", "kind"), CASES)
def test_odd_strides_and_batches(arch: str, kind: str) -> None:
    """Nothing is aligned: single elements are loaded, and stored side by side."""
    dtype, tolerance = TYPES[kind]
    a, b = uniform(3, 17, 35, dtype=dtype), uniform(3, 35, 19, dtype=dtype, seed=1)
    made = compile_gpu(lambda x, y: graph.matmul(x, y, transpose_a=False, transpose_b=False), a, b, target=f"rocm:{arch},sms=1")
    _check(made, [a, b], a.astype(np.float64) @ b.astype(np.float64), arch, tolerance)


@pytest.mark.parametrize(("arch", "kind"), CASES)
def test_a_factor_in_shared_memory_and_many_stages(arch: str, kind: str) -> None:
    """relu(a b) c in one kernel where that is cheaper: the first product's result is the second's factor."""
    dtype, tolerance = TYPES[kind]
    a, b, c = uniform(32, 256, dtype=dtype), uniform(256, 32, dtype=dtype, seed=1), uniform(32, 48, dtype=dtype, seed=2)

    def build(x: Any, y: Any, z: Any) -> Any:
        inner = graph.elementwise("relu", graph.matmul(x, y, transpose_a=False, transpose_b=False))
        return graph.matmul(inner, z, transpose_a=False, transpose_b=False)

    middle = np.maximum(a.astype(np.float64) @ b.astype(np.float64), 0).astype(dtype).astype(np.float64)
    _check(compile_gpu(build, a, b, c, target=f"rocm:{arch},sms=1"), [a, b, c], middle @ c.astype(np.float64), arch, 2 * tolerance)


@pytest.mark.parametrize("arch", ARCHS)
def test_a_convolution_s_zeros_are_not_read(arch: str) -> None:
    dtype, tolerance = TYPES["f16"]
    x, w = uniform(1, 9, 9, 16, dtype=dtype), uniform(32, 16, 3, 3, dtype=dtype)

    def build(a: Any, b: Any) -> Any:
        a = graph.transpose(graph.pad(a, low=[0, 1, 1, 0], high=[0, 1, 1, 0]), perm=[0, 3, 1, 2])
        return graph.conv(a, b, strides=[2, 2], dilations=[1, 1], groups=1)

    padded = np.pad(x.astype(np.float64), [(0, 0), (1, 1), (1, 1), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2]
    expected = np.einsum("nyxcij,ocij->noyx", windows, w.astype(np.float64))
    _check(compile_gpu(build, x, w, target=f"rocm:{arch},sms=1"), [x, w], expected, arch, tolerance)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(("left", "right"), [(np.int8, np.int8), (np.uint8, np.int8), (np.uint8, np.uint8)])
@pytest.mark.parametrize("zeros", [False, True])
def test_products_of_codes(arch: str, left: Any, right: Any, zeros: bool) -> None:
    """Exact in i32, zero points of rows and of columns included."""
    rng = np.random.default_rng(7)

    def codes(*shape: int, dtype: Any) -> np.ndarray:
        return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype)

    inputs = [codes(40, 200, dtype=left), codes(200, 72, dtype=right), codes(40, 1, dtype=left), codes(72, dtype=right)]

    def build(x: Any, y: Any, zero_x: Any, zero_y: Any) -> Any:
        x, y = graph.cast(x, to=I32), graph.cast(y, to=I32)
        if zeros:
            x = graph.elementwise("sub", x, graph.cast(zero_x, to=I32))
            y = graph.elementwise("sub", y, graph.cast(zero_y, to=I32))
        return graph.matmul(x, y, transpose_a=False, transpose_b=False)

    a, b, zero_a, zero_b = (v.astype(np.int64) for v in inputs)
    expected = (a - zero_a) @ (b - zero_b) if zeros else a @ b
    made = compile_gpu(build, *inputs, target=f"rocm:{arch},sms=1", graph_passes="integer-products,mlc-dce")
    assert f"amdgpu.{ARCHS[arch]}" in made.gpu and "i8>" in made.gpu
    np.testing.assert_array_equal(made(*inputs)[0], expected)


def test_without_atoms_threads_multiply() -> None:
    a = np.ones((16, 16), np.float16)
    made = compile_gpu(lambda x: graph.matmul(x, x, transpose_a=False, transpose_b=False), a, target="rocm:gfx942,atoms=")
    assert "amdgpu." not in made.gpu and (made(a)[0] == 16).all()
