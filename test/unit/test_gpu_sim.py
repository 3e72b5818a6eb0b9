"""The GPU simulator computes what hand-written kernels mean, and faults on each thing that a GPU forbids."""

from collections.abc import Callable

import numpy as np
import pytest
from gpu_sim import Fault, kernels_of, launch

from mlc.dtypes import BY_NAME
from mlc.ir.context import make_context
from mlc.ir.mlir import ir
from mlc.layout.fragments import ATOMS

SHARED = "#gpu.address_space<workgroup>"


def _simulate(signature: str, body: str, *arrays: np.ndarray, grid: int = 1, threads: int = 32, shared: int = 0, warp: int = 32,
              cluster: int = 0) -> None:
    """Runs a kernel given as text on arrays, in place."""
    clusters = f"known_cluster_size = array<i32: {cluster}, 1, 1>," if cluster else ""
    constants = "".join(f"%c{n} = arith.constant {n} : index\n" for n in (0, 1, 2, 3, 4, 8, 16, 31, 32, 33, 64, 128))
    text = f"""gpu.module @kernels {{ gpu.func @k({signature}) kernel attributes {{
        known_block_size = array<i32: {threads}, 1, 1>, {clusters}
        task.grid = [{grid}], task.shared = {shared} : i64}} {{
        {constants} %t = gpu.thread_id x
        %b = gpu.block_id x
        {body}
        gpu.return }} }}"""
    with make_context(), ir.Location.unknown():
        launch(kernels_of(ir.Module.parse(text), warp)["k"], *arrays)


def _shared(name: str, shape: str, offset: str = "%c0") -> str:
    return f"""%bytes_{name} = gpu.dynamic_shared_memory : memref<?xi8, {SHARED}>
        %{name} = memref.view %bytes_{name}[{offset}][] : memref<?xi8, {SHARED}> to memref<{shape}, {SHARED}>
        """


def _numbers(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(dtype)


def test_elementwise_with_a_predicate() -> None:
    x, y = _numbers(100), np.zeros(100, np.float32)
    _simulate("%x: memref<100xf32>, %y: memref<100xf32>", """
        %o = arith.muli %b, %c32 : index
        %i = arith.addi %o, %t : index
        %n = arith.constant 100 : index
        %in = arith.cmpi ult, %i, %n : index
        scf.if %in {
          %v = memref.load %x[%i] : memref<100xf32>
          %zero = arith.constant 0.0 : f32
          %r = arith.maximumf %v, %zero : f32
          memref.store %r, %y[%i] : memref<100xf32>
        }""", x, y, grid=4)
    np.testing.assert_array_equal(y, np.maximum(x, 0))


def test_branches_and_loops_that_differ_between_threads() -> None:
    y = np.zeros(64, np.int64)
    _simulate("%y: memref<64xi64>", """
        %o = arith.muli %b, %c32 : index
        %i = arith.addi %o, %t : index
        %zero = arith.constant 0 : index
        %sum = scf.for %k = %zero to %i step %c1 iter_args(%s = %zero) -> index {
          %odd = arith.remui %k, %c2 : index
          %is = arith.cmpi eq, %odd, %c1 : index
          %more = scf.if %is -> index {
            %a = arith.addi %s, %k : index
            scf.yield %a : index
          } else {
            scf.yield %s : index
          }
          scf.yield %more : index
        }
        %twice:2 = scf.while (%p = %sum, %n = %zero) : (index, index) -> (index, index) {
          %go = arith.cmpi ugt, %p, %c2 : index
          scf.condition(%go) %p, %n : index, index
        } do {
        ^bb0(%p: index, %n: index):
          %h = arith.divui %p, %c2 : index
          %m = arith.addi %n, %c1 : index
          scf.yield %h, %m : index, index
        }
        %w = arith.index_cast %twice#1 : index to i64
        memref.store %w, %y[%i] : memref<64xi64>""", y, grid=2)

    def halvings(i: int) -> int:
        total, n = sum(k for k in range(i) if k % 2), 0
        while total > 2:
            total, n = total // 2, n + 1
        return n

    np.testing.assert_array_equal(y, [halvings(i) for i in range(64)])


_TRANSPOSE = """
        %row = arith.divui %t, %c8 : index
        %col = arith.remui %t, %c8 : index
        %o = arith.muli %b, %c64 : index
        %i = arith.addi %o, %t : index
        %v = memref.load %x[%i] : memref<256xf32>
        memref.store %v, %s[%row, %col] : memref<8x8xf32, #gpu.address_space<workgroup>>
        BARRIER
        %w = memref.load %s[%col, %row] : memref<8x8xf32, #gpu.address_space<workgroup>>
        memref.store %w, %y[%i] : memref<256xf32>"""


def _transpose(barrier: str = "gpu.barrier", shared: int = 256, repeat: int = 1) -> tuple[np.ndarray, np.ndarray]:
    x, y = _numbers(4, 8, 8), np.zeros((4, 8, 8), np.float32)
    body = _shared("s", "8x8xf32") + _TRANSPOSE.replace("BARRIER", barrier)
    if repeat > 1:
        body = _shared("s", "8x8xf32") + f"%rounds = arith.constant {repeat} : index\nscf.for %r = %c0 to %rounds step %c1 {{"
        body += _TRANSPOSE.replace("BARRIER", barrier) + "}"
    _simulate("%x: memref<256xf32>, %y: memref<256xf32>", body, x, y, grid=4, threads=64, shared=shared)
    return x, y


def test_transpose_through_shared_memory() -> None:
    x, y = _transpose()
    np.testing.assert_array_equal(y, x.swapaxes(1, 2))


def test_a_missing_barrier_is_a_fault() -> None:
    with pytest.raises(Fault, match=r"kernel @k.*uninitialised|kernel @k.*data race: reads.*memref.load"):
        _transpose("")


def test_writing_before_others_have_read_is_a_fault() -> None:
    with pytest.raises(Fault, match=r"kernel @k: data race: writes shared memory that another thread read.*memref.store"):
        _transpose(repeat=2)


def test_more_shared_memory_than_asked_for_is_a_fault() -> None:
    with pytest.raises(Fault, match=r"view up to byte 256 of 252"):
        _transpose(shared=252)


def test_a_barrier_that_some_threads_skip_is_a_fault() -> None:
    body = "%p = arith.cmpi ult, %t, %c16 : index\nscf.if %p { gpu.barrier }"
    with pytest.raises(Fault, match=r"only some threads.*gpu.barrier"):
        _simulate("", body)
    _simulate("", body.replace("%t, %c16", "%b, %c1"), grid=2)


def _reduce(barrier: str = "gpu.barrier", lanes: str = "%t, %c128") -> tuple[np.ndarray, np.ndarray]:
    """Sums of 128 numbers per block: shuffles in a warp, then shared memory."""
    x, y = _numbers(3, 128), np.zeros(3, np.float32)
    hops = "".join(f"""
        %off{k} = arith.constant {k} : i32
        %other{k}, %ok{k} = gpu.shuffle xor %v{2 * k}, %off{k}, %width : f32
        %v{k} = arith.addf %v{2 * k}, %other{k} : f32""" for k in (16, 8, 4, 2, 1))
    body = _shared("s", "4xf32") + f"""
        %o = arith.muli %b, %c128 : index
        %i = arith.addi %o, %t : index
        %v32 = memref.load %x[%i] : memref<384xf32>
        %width = arith.constant 32 : i32
        %some = arith.cmpi ult, {lanes} : index
        %part = scf.if %some -> f32 {{ {hops}
          scf.yield %v1 : f32
        }} else {{
          scf.yield %v32 : f32
        }}
        %lane = gpu.lane_id
        %warp = arith.divui %t, %c32 : index
        %first = arith.cmpi eq, %lane, %c0 : index
        scf.if %first {{ memref.store %part, %s[%warp] : memref<4xf32, {SHARED}> }}
        {barrier}
        %parts = vector.load %s[%c0] {{alignment = 16 : i64}} : memref<4xf32, {SHARED}>, vector<4xf32>
        %sum = vector.reduction <add>, %parts : vector<4xf32> into f32
        %one = arith.cmpi eq, %t, %c0 : index
        scf.if %one {{ memref.store %sum, %y[%b] : memref<3xf32> }}"""
    _simulate("%x: memref<384xf32>, %y: memref<3xf32>", body, x, y, grid=3, threads=128, shared=16)
    return x, y


def test_block_reduction() -> None:
    x, y = _reduce()
    np.testing.assert_allclose(y, x.sum(1), atol=1e-5)


def test_a_reduction_without_its_barrier_is_a_fault() -> None:
    with pytest.raises(Fault, match="uninitialised|data race"):
        _reduce(barrier="")


def test_a_shuffle_that_reads_an_idle_lane_is_a_fault() -> None:
    with pytest.raises(Fault, match=r"inactive lane.*gpu.shuffle"):
        _reduce(lanes="%t, %c31")


@pytest.mark.parametrize(("mode", "width", "expected"), [
    ("xor", 32, lambda t: t ^ 3), ("up", 16, lambda t: t - 3 if t % 16 >= 3 else t), ("down", 8, lambda t: t + 3 if t % 8 < 5 else t),
    ("idx", 4, lambda t: t - t % 4 + 3), ("xor", 64, lambda t: t ^ 3)])
def test_shuffles(mode: str, width: int, expected: Callable[[int], int]) -> None:
    y = np.zeros(128, np.int32)
    _simulate("%y: memref<128xi32>", f"""
        %v = arith.index_cast %t : index to i32
        %three = arith.constant 3 : i32
        %w = arith.constant {width} : i32
        %r, %ok = gpu.shuffle {mode} %v, %three, %w : i32
        memref.store %r, %y[%t] : memref<128xi32>""", y, threads=128, warp=max(32, width))
    np.testing.assert_array_equal(y, [expected(t) for t in range(128)])


def test_vectors() -> None:
    x, y = _numbers(32, 8, dtype=np.float16), np.zeros((32, 8), np.float32)
    _simulate("%x: memref<256xf16>, %y: memref<256xf32>", """
        %i = arith.muli %t, %c8 : index
        %v = vector.load %x[%i] {alignment = 16 : i64} : memref<256xf16>, vector<8xf16>
        %w = arith.extf %v : vector<8xf16> to vector<8xf32>
        %low = vector.extract_strided_slice %w {offsets = [0], sizes = [4], strides = [1]} : vector<8xf32> to vector<4xf32>
        %high = vector.shuffle %w, %w [4, 5, 6, 7] : vector<8xf32>, vector<8xf32>
        %e:4 = vector.to_elements %low : vector<4xf32>
        %f = vector.from_elements %e#3, %e#2, %e#1, %e#0 : vector<4xf32>
        %two = arith.constant dense<2.0> : vector<4xf32>
        %g = vector.fma %f, %two, %high : vector<4xf32>
        %l = vector.extract %high[%c1] : f32 from vector<4xf32>
        %h = vector.insert %l, %g[%c0] : f32 into vector<4xf32>
        %s = vector.broadcast %l : f32 to vector<4xf32>
        %j = arith.addi %i, %c4 : index
        vector.store %h, %y[%i] {alignment = 16 : i64} : memref<256xf32>, vector<4xf32>
        vector.store %s, %y[%j] : memref<256xf32>, vector<4xf32>""", x, y)
    wide = x.astype(np.float32)
    expected = np.repeat(wide[:, 5:6], 8, 1)
    expected[:, 1:4] = 2 * wide[:, 2::-1] + wide[:, 5:8]
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(("index", "message"), [
    ("%c33", r"out of bounds: index 64 of 64.*memref.load"), ("%c32", None)])
def test_bounds(index: str, message: str | None) -> None:
    def run() -> None:
        _simulate("%x: memref<64xf32>", f"%i = arith.addi %t, {index} : index\n%v = memref.load %x[%i] : memref<64xf32>", _numbers(64))

    if message is None:
        run()
        return
    with pytest.raises(Fault, match=message):
        run()


def test_a_vector_across_the_end_is_a_fault() -> None:
    with pytest.raises(Fault, match=r"index 29\.\.32 of 32"):
        _simulate("%x: memref<32xf32>", "%v = vector.load %x[%t] : memref<32xf32>, vector<4xf32>", _numbers(32))


@pytest.mark.parametrize(("alignment", "index", "fine"), [(16, "%c4", True), (16, "%c2", False), (8, "%c2", True), (8, "%c1", False)])
def test_alignment(alignment: int, index: str, fine: bool) -> None:
    body = f"%v = vector.load %x[{index}] {{alignment = {alignment} : i64}} : memref<32xf32>, vector<4xf32>"
    if fine:
        _simulate("%x: memref<32xf32>", body, _numbers(32))
        return
    with pytest.raises(Fault, match=r"misaligned.*vector.load"):
        _simulate("%x: memref<32xf32>", body, _numbers(32))


def test_different_values_in_one_place_are_a_fault() -> None:
    body = "%v = memref.load %x[%t] : memref<32xf32>\nmemref.store %v, %y[%c0] : memref<1xf32>"
    with pytest.raises(Fault, match=r"two threads write different values"):
        _simulate("%x: memref<32xf32>, %y: memref<1xf32>", body, _numbers(32), np.zeros(1, np.float32))
    _simulate("%x: memref<32xf32>, %y: memref<1xf32>", body, np.ones(32, np.float32), np.zeros(1, np.float32))


def test_uninitialised_shared_memory_is_a_fault() -> None:
    with pytest.raises(Fault, match=r"uninitialised.*memref.load"):
        _simulate("", _shared("s", "32xf32") + f"%v = memref.load %s[%t] : memref<32xf32, {SHARED}>", shared=128)


def test_writing_an_argument_that_another_overlaps_is_a_fault() -> None:
    x = _numbers(64)
    body = "%v = memref.load %x[%t] : memref<32xf32>\nmemref.store %v, %y[%t] : memref<32xf32>"
    text = f"""gpu.module @kernels {{ gpu.func @k(%x: memref<32xf32>, %y: memref<32xf32>) kernel attributes {{
        known_block_size = array<i32: 32, 1, 1>, task.grid = [1]}} {{ %t = gpu.thread_id x
        {body}
        gpu.return }} }}"""
    with make_context(), ir.Location.unknown():
        kernel = kernels_of(ir.Module.parse(text))["k"]
    kernel.launch((x.view(np.uint8), 0), (x.view(np.uint8), 128))
    np.testing.assert_array_equal(x[:32], x[32:])
    with pytest.raises(Fault, match="argument 1 .*is written and shares memory with argument 0"):
        kernel.launch((x.view(np.uint8), 0), (x.view(np.uint8), 64))


# -- matrix instructions ------------------------------------------------------------------------------------------------

_TILE = "memref<2x16x16xf16, #gpu.address_space<workgroup>>"


def _matmul(wait: str = "nvvm.cp.async.wait.group 1", barrier: str = "gpu.barrier", pitch: str = "%c8",
            shift: str = "%c0") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """c[16, 8] = a[16, 64] * b[8, 64]^T by one warp: 4 steps of 16, two stages of cp.async, ldmatrix, mma.sync."""
    a, b, c = _numbers(16, 64, dtype=np.float16), _numbers(16, 64, dtype=np.float16), np.zeros((16, 8), np.float32)
    copies = "".join(f"""
          %{n}token = nvgpu.device_async_copy %{n}[%gi], %s{n}[%slot, %row, %half], 8 {{bypassL1}} : memref<1024xf16> to {_TILE}"""
                     for n in "aw")

    def issue(step: str) -> str:
        return f"""
          %slot = arith.remui {step}, %c2 : index
          %at = arith.muli {step}, %c16 : index
          %ri = arith.muli %row, %c64 : index
          %ga = arith.addi %ri, %at : index
          %gi = arith.addi %ga, %half : index
          {copies}"""

    body = _shared("sa", "2x16x16xf16") + _shared("sw", "2x16x16xf16", "%second") + f"""
        %row = arith.divui %t, %c2 : index
        %odd = arith.remui %t, %c2 : index
        %half = arith.muli %odd, {pitch} : index
        scf.if %yes {{ {issue("%c0")} }}
        nvvm.cp.async.commit.group
        %zero = arith.constant dense<0.0> : vector<2x2xf32>
        %lr = arith.remui %t, %c8 : index
        %q = arith.divui %t, %c8 : index
        %q0 = arith.remui %q, %c2 : index
        %q1 = arith.divui %q, %c2 : index
        %down = arith.muli %q0, %c8 : index
        %ar = arith.addi %down, %lr : index
        %ax = arith.muli %q1, %c8 : index
        %ac = arith.addi %ax, {shift} : index
        %sum = scf.for %k = %c0 to %c4 step %c1 iter_args(%acc = %zero) -> vector<2x2xf32> {{
          %next = arith.addi %k, %c1 : index
          %more = arith.cmpi ult, %next, %c4 : index
          scf.if %more {{ {issue("%next")} }}
          nvvm.cp.async.commit.group
          {wait}
          {barrier}
          %own = arith.remui %k, %c2 : index
          %fa = nvgpu.ldmatrix %sa[%own, %ar, %ac] {{numTiles = 4 : i32, transpose = false}} : {_TILE} -> vector<4x2xf16>
          %fb = nvgpu.ldmatrix %sw[%own, %lr, %down] {{numTiles = 2 : i32, transpose = false}} : {_TILE} -> vector<2x2xf16>
          %n = nvgpu.mma.sync(%fa, %fb, %acc) {{mmaShape = [16, 8, 16]}}
            : (vector<4x2xf16>, vector<2x2xf16>, vector<2x2xf32>) -> vector<2x2xf32>
          gpu.barrier
          scf.yield %n : vector<2x2xf32>
        }}
        %gr = arith.divui %t, %c4 : index
        %gm = arith.remui %t, %c4 : index
        %gc = arith.muli %gm, %c2 : index
        %flat0 = arith.muli %gr, %c8 : index
        %flat = arith.addi %flat0, %gc : index
        %below = arith.addi %flat, %c64 : index
        %v0 = vector.extract %sum[0] : vector<2xf32> from vector<2x2xf32>
        %v1 = vector.extract %sum[1] : vector<2xf32> from vector<2x2xf32>
        vector.store %v0, %c[%flat] {{alignment = 8 : i64}} : memref<128xf32>, vector<2xf32>
        vector.store %v1, %c[%below] {{alignment = 8 : i64}} : memref<128xf32>, vector<2xf32>"""
    _simulate("%a: memref<1024xf16>, %w: memref<1024xf16>, %c: memref<128xf32>",
              "%yes = arith.constant true\n%second = arith.constant 1024 : index\n" + body, a, b, c, shared=2048)
    return a, b, c


def test_tensor_core_tile_with_a_pipeline() -> None:
    a, b, c = _matmul()
    np.testing.assert_allclose(c, a.astype(np.float32) @ b[:8].astype(np.float32).T, atol=1e-4)


@pytest.mark.parametrize("wait", ["", "nvvm.cp.async.wait.group 2"])
def test_a_missing_or_late_wait_is_a_fault(wait: str) -> None:
    with pytest.raises(Fault, match=r"asynchronous copy still writes.*nvgpu.ldmatrix"):
        _matmul(wait=wait)


def test_copies_are_seen_by_others_after_a_barrier_only() -> None:
    with pytest.raises(Fault, match=r"data race: reads.*nvgpu.ldmatrix"):
        _matmul(barrier="")


def test_a_misaligned_asynchronous_copy_is_a_fault() -> None:
    with pytest.raises(Fault, match=r"misaligned.*nvgpu.device_async_copy"):
        _matmul(pitch="%c4")


def test_a_misaligned_ldmatrix_is_a_fault() -> None:
    with pytest.raises(Fault, match=r"(misaligned|out of bounds).*nvgpu.ldmatrix"):
        _matmul(shift="%c4")


# -- global memory ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("barrier", "other", "message"), [
    ("gpu.barrier", "%t, %c0", None), ("gpu.barrier", "%turned, %c0", None), ("", "%t, %c0", None),
    ("", "%turned, %c0", "another thread with no barrier between, wrote.*memref.load"),
    ("gpu.barrier", "%t, %next", "another block.* wrote.*memref.load")])
def test_reading_back_what_was_written(barrier: str, other: str, message: str | None) -> None:
    """A thread may read from an argument what its block wrote, after a barrier."""
    body = f"""
        %o = arith.muli %b, %c32 : index
        %i = arith.addi %o, %t : index
        %v = memref.load %x[%i] : memref<64xf32>
        memref.store %v, %y[%i] : memref<64xf32>
        {barrier}
        %turned = arith.subi %c31, %t : index
        %zero = arith.muli %b, %c32 : index
        %next = arith.subi %c32, %zero : index
        %b0 = arith.addi {other} : index
        %at = arith.{"addi %b0, %zero" if "next" not in other else "addi %b0, %c0"} : index
        %w = memref.load %y[%at] : memref<64xf32>"""
    if message is None:
        _simulate("%x: memref<64xf32>, %y: memref<64xf32>", body, _numbers(64), np.zeros(64, np.float32), grid=2)
        return
    with pytest.raises(Fault, match=message):
        _simulate("%x: memref<64xf32>, %y: memref<64xf32>", body, _numbers(64), np.zeros(64, np.float32), grid=2)


@pytest.mark.parametrize(("value", "fine"), [("%c1", True), ("%b", False)])
def test_blocks_that_write_one_place(value: str, fine: bool) -> None:
    body = f"%v = arith.index_cast {value} : index to i64\nmemref.store %v, %y[%t] : memref<32xi64>"
    if fine:
        _simulate("%y: memref<32xi64>", body, np.zeros(32, np.int64), grid=200)
        return
    with pytest.raises(Fault, match="two threads write different values|writes another value"):
        _simulate("%y: memref<32xi64>", body, np.zeros(32, np.int64), grid=200)


def test_writing_what_another_thread_has_read() -> None:
    body = """%turned = arith.subi %c31, %t : index
        %v = memref.load %y[%turned] : memref<32xf32>
        memref.store %v, %y[%t] : memref<32xf32>"""
    with pytest.raises(Fault, match="another thread with no barrier between, read.*memref.store"):
        _simulate("%y: memref<32xf32>", body, _numbers(32))


# -- matrix instructions by their layouts -------------------------------------------------------------------------------

_OPS = {
    "mma": 'nvgpu.mma.sync(%fa, %fb, %fc) {{mmaShape = [{m}, {n}, {k}]{extra}}} : ({a}, {b}, {c}) -> {c}',
    "mfma": "amdgpu.mfma {m}x{n}x{k} %fa * %fb + %fc {{abid = 0 : i32, cbsz = 0 : i32}} blgp = none : {a}, {b}, {c}",
    "wmma": "amdgpu.wmma {m}x{n}x{k} %fa * %fb + %fc : {a}, {b}, {c}",
}
_SIMULATED = [name for name, atom in ATOMS.items() if atom.b is not None and "e4m3" not in name]


@pytest.mark.parametrize("name", _SIMULATED)
def test_matrix_instructions(name: str) -> None:
    """Two warps, each with a tile of its own, whose lanes' elements are put down and picked up by the tables of the instruction."""
    atom = ATOMS[name]
    assert atom.a is not None and atom.b is not None
    (m, n, k), warp = atom.shape, atom.c.lanes
    types = [BY_NAME["f32" if atom.input == "tf32" else atom.input]] * 2 + [BY_NAME[atom.output]]
    rng = np.random.default_rng(5)
    tiles = [rng.integers(-4, 5, (2, *shape)).astype(t.numpy) for shape, t in zip(((m, k), (k, n), (m, n)), types)]
    held = [np.zeros((2, warp, f.size), t.numpy) for f, t in zip((atom.a, atom.b, atom.c), types)]
    for fragment, tile, lanes in zip((atom.a, atom.b, atom.c), tiles, held):
        for lane, e in np.ndindex(warp, fragment.size):
            lanes[:, lane, e] = tile[:, *fragment.at(lane, e)]
    found = np.zeros_like(held[2])
    sizes = [f.size for f in (atom.a, atom.b, atom.c)]
    packed = [f"{32 // t.bits}x" if name.startswith("mma") else "" for t in types[:2]]
    packed = [*packed, "2x" if packed[0] else ""]
    vectors = [f"vector<{s // int(p[:-1] or 1) if p else s}x{p}{t.name}>" if s > 1 else t.name for s, p, t in zip(sizes, packed, types)]
    loads = "".join(f"""
        %n{i} = arith.constant {s} : index
        %i{i} = arith.muli %t, %n{i} : index
        %l{i} = vector.load %{i}[%i{i}] : memref<{2 * warp * s}x{t.name}>, vector<{s}x{t.name}>
        %f{i} = vector.{f"shape_cast %l{i} :" if s > 1 else f"extract %l{i}[0] : {v} from"} vector<{s}x{t.name}>
        {f"to {v}" if s > 1 else ""}""".replace("%0[", "%x0[").replace("%1[", "%x1[").replace("%2[", "%x2[")
                    for i, (s, t, v) in enumerate(zip(sizes, types, vectors)))
    op = next(text for kind, text in _OPS.items() if name.startswith(kind)).format(
        m=m, n=n, k=k, a=vectors[0], b=vectors[1], c=vectors[2], extra=", tf32Enabled" if atom.input == "tf32" else "")
    op = op.replace("%fa", "%f0").replace("%fb", "%f1").replace("%fc", "%f2")
    arguments = [*held, found]
    names = [f"%x{i}: memref<{a.size}x{t.name}>" for i, (a, t) in enumerate(zip(arguments, [*types, types[2]]))]
    _simulate(", ".join(names), f"""{loads}
        %d = {op}
        %flat = vector.shape_cast %d : {vectors[2]} to vector<{sizes[2]}x{types[2].name}>
        vector.store %flat, %x3[%i2] : memref<{found.size}x{types[2].name}>, vector<{sizes[2]}x{types[2].name}>""",
              *arguments, threads=2 * warp, warp=warp)
    expected = tiles[0].astype(np.float64) @ tiles[1].astype(np.float64) + tiles[2].astype(np.float64)
    for lane, e in np.ndindex(warp, atom.c.size):
        np.testing.assert_array_equal(found[:, lane, e], expected[:, *atom.c.at(lane, e)])


def test_matrix_instructions_need_whole_warps() -> None:
    body = """%z = arith.constant dense<0.0> : vector<2x2xf32>
        %a = arith.constant dense<1.0> : vector<4x2xf16>
        %w = arith.constant dense<1.0> : vector<2x2xf16>
        %p = arith.cmpi ult, %t, %c16 : index
        scf.if %p {
          %d = nvgpu.mma.sync(%a, %w, %z) {mmaShape = [16, 8, 16]}
            : (vector<4x2xf16>, vector<2x2xf16>, vector<2x2xf32>) -> vector<2x2xf32>
        }"""
    with pytest.raises(Fault, match=r"whole warp.*nvgpu.mma.sync"):
        _simulate("", body)


_ARRIVE, _WAIT = '"nvvm.cluster.arrive"() : () -> ()\n', '"nvvm.cluster.wait"() : () -> ()\n'
_TELL = "memref.store %number, %y[%b] : memref<4xf32>\n"
_ASK = """%m = arith.subi %c3, %b : index
        %v = memref.load %y[%m] : memref<4xf32>
        memref.store %v, %z[%b] : memref<4xf32>
        """


def _exchange(*steps: str, cluster: int = 4) -> np.ndarray:
    """Four blocks of one thread: each has its number to tell, and may ask for another's."""
    y, z = np.zeros(4, np.float32), np.zeros(4, np.float32)
    body = "%i = arith.index_cast %b : index to i32\n%number = arith.sitofp %i : i32 to f32\n" + "".join(steps)
    _simulate("%y: memref<4xf32>, %z: memref<4xf32>", body, y, z, grid=4, threads=1, shared=64, cluster=cluster)
    return z


def test_blocks_of_a_cluster_see_what_was_written_before_a_barrier() -> None:
    np.testing.assert_array_equal(_exchange(_TELL, _ARRIVE, _WAIT, _ASK), [3, 2, 1, 0])


@pytest.mark.parametrize(("steps", "cluster", "why"), [
    ((_TELL, _ASK), 4, "data race"),
    ((_ARRIVE, _TELL, _WAIT, _ASK), 4, "data race"),
    ((_TELL, _ARRIVE, _ASK, _WAIT), 4, "data race"),
    ((_TELL, _ARRIVE, _WAIT, _ASK), 0, "without clusters"),
    ((_TELL, _WAIT, _ASK), 4, "without having arrived"),
    ((_TELL, _ARRIVE, _ARRIVE), 4, "twice"),
    (("%odd = arith.cmpi eq, %b, %c1 : index\nscf.if %odd {", _ARRIVE, _WAIT, "}"), 4, "only some threads"),
    ((_TELL,), 3, "a cluster of 3 blocks in a grid of 4"),
    ((_TELL, _ARRIVE, _WAIT, _ASK), 2, "data race")])
def test_faults_of_clusters(steps: tuple[str, ...], cluster: int, why: str) -> None:
    with pytest.raises(Fault, match=why):
        _exchange(*steps, cluster=cluster)


_BEGIN = '"nvvm.cluster.arrive.relaxed"() : () -> ()\n' + _WAIT
_HAND = """%memory = gpu.dynamic_shared_memory : memref<?xi8, #gpu.address_space<workgroup>>
        %slots = memref.view %memory[%c0][] : memref<?xi8, #gpu.address_space<workgroup>> to memref<1xf32, #gpu.address_space<workgroup>>
        %one = arith.constant 1 : i32
        %next = arith.xori %i, %one : i32
        %place = arith.constant 0 : i64
        %near = llvm.inttoptr %place : i64 to !llvm.ptr<3>
        %far = nvvm.mapa %near, %next : !llvm.ptr<3> -> !llvm.ptr<7>
        llvm.store %number, %far : f32, !llvm.ptr<7>
        """
_TAKE = """%got = memref.load %slots[%c0] : memref<1xf32, #gpu.address_space<workgroup>>
        memref.store %got, %z[%b] : memref<4xf32>
        """


def test_blocks_of_a_cluster_write_to_each_other() -> None:
    np.testing.assert_array_equal(_exchange(_BEGIN, _HAND, _ARRIVE, _WAIT, _TAKE), [1, 0, 3, 2])


@pytest.mark.parametrize(("steps", "cluster", "why"), [
    ((_HAND, _ARRIVE, _WAIT, _TAKE), 4, "may not have begun"),
    ((_BEGIN, _HAND, _TAKE, _ARRIVE, _WAIT), 4, "data race"),
    ((_BEGIN, _HAND, _BEGIN, _TAKE), 4, "data race"),
    ((_BEGIN, _ARRIVE, _HAND, _WAIT, _TAKE), 4, "between arriving"),
    ((_BEGIN, _HAND), 4, "may end before"),
    ((_BEGIN, _HAND, _ARRIVE, _WAIT, _TAKE), 2, "out of bounds")])
def test_faults_of_writes_to_other_blocks(steps: tuple[str, ...], cluster: int, why: str) -> None:
    with pytest.raises(Fault, match=why):
        _exchange(*steps, cluster=cluster)
