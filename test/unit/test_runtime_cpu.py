"""The CPU runtime on hand-written LLVM IR that obeys the entry ABI: threads, barrier, weights, arena, forks, and no compiler in sight."""

import ctypes
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

from mlc.artifact import Artifact
from mlc.backends.cpu import runtime, team
from mlc.backends.cpu.elf import LoadedCode
from mlc.errors import ArtifactError, OptionError, ResourceError, TargetError
from mlc.load import executable, load

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()
llvm.initialize_native_asmparser()

ARGUMENTS = "ptr %in, ptr %out, ptr %weights, ptr %arena, i64 %tid, i64 %n, ptr %sync"
BARRIER = """
declare i32 @sched_yield()
define internal void @barrier(i64 %n, ptr %sync) noinline {
  %g = getelementptr i64, ptr %sync, i64 8
  %gen = load atomic i64, ptr %g acquire, align 8
  %a = atomicrmw add ptr %sync, i64 1 acq_rel
  %a1 = add i64 %a, 1
  %last = icmp eq i64 %a1, %n
  br i1 %last, label %open, label %wait
open:
  store atomic i64 0, ptr %sync monotonic, align 8
  %next = add i64 %gen, 1
  store atomic i64 %next, ptr %g release, align 8
  ret void
wait:
  %now = load atomic i64, ptr %g acquire, align 8
  %same = icmp eq i64 %now, %gen
  br i1 %same, label %yield, label %done
yield:
  %y = call i32 @sched_yield()
  br label %wait
done:
  ret void
}
"""
# Threads take every n-th element: arena[i] = x[i] * w[i], barrier, y[i] = arena[N - 1 - i] + expf(0).
REVERSE = f"""{BARRIER}
declare float @expf(float) nobuiltin
define void @mlc_main({ARGUMENTS}) {{
  %x = load ptr, ptr %in
  %y = load ptr, ptr %out
  %w = load ptr, ptr %weights
  br label %a
a:
  %i = phi i64 [%tid, %0], [%i2, %abody]
  %amore = icmp slt i64 %i, 1000
  br i1 %amore, label %abody, label %mid
abody:
  %xp = getelementptr float, ptr %x, i64 %i
  %wp = getelementptr float, ptr %w, i64 %i
  %ap = getelementptr float, ptr %arena, i64 %i
  %xv = load float, ptr %xp
  %wv = load float, ptr %wp
  %av = fmul float %xv, %wv
  store float %av, ptr %ap
  %i2 = add i64 %i, %n
  br label %a
mid:
  call void @barrier(i64 %n, ptr %sync)
  %one = call float @expf(float 0.0)
  br label %b
b:
  %j = phi i64 [%tid, %mid], [%j2, %bbody]
  %bmore = icmp slt i64 %j, 1000
  br i1 %bmore, label %bbody, label %end
bbody:
  %k = sub i64 999, %j
  %kp = getelementptr float, ptr %arena, i64 %k
  %kv = load float, ptr %kp
  %r = fadd float %kv, %one
  %yp = getelementptr float, ptr %y, i64 %j
  store float %r, ptr %yp
  %j2 = add i64 %j, %n
  br label %b
end:
  call void @barrier(i64 %n, ptr %sync)
  ret void
}}
"""
# Each thread writes the clock at its arrival to out[0][tid].
ARRIVALS = f"""{BARRIER}
declare i64 @llvm.readcyclecounter()
define void @mlc_main({ARGUMENTS}) {{
  %t = call i64 @llvm.readcyclecounter()
  %y = load ptr, ptr %out
  %p = getelementptr i64, ptr %y, i64 %tid
  store i64 %t, ptr %p
  call void @barrier(i64 %n, ptr %sync)
  ret void
}}
"""
W = np.linspace(0.5, 2.0, 1000, dtype=np.float32)


def emit(ir: str) -> bytes:
    machine = llvm.Target.from_default_triple().create_target_machine(cpu=llvm.get_host_cpu_name(), opt=2, reloc="pic", codemodel="small")
    return machine.emit_object(llvm.parse_assembly(ir))


def reverse(**more: Any) -> Artifact:
    plan = {
        "target": "cpu",
        "entry": "mlc_main",
        "arena_bytes": 4000,
        "objects": ["objects/model.o"],
        "inputs": [{"name": "x", "dtype": "f32", "shape": [1000]}],
        "outputs": [{"name": "y", "dtype": "f32", "shape": [1000]}],
        "weights": [{"name": "w", "dtype": "f32", "shape": [1000]}],
        **more,
    }
    return Artifact.build(plan=plan, objects={"objects/model.o": emit(REVERSE)}, weights=[("w", W)])


def expected(x: np.ndarray) -> np.ndarray:
    return (x * W)[::-1] + np.float32(1)


def arrivals(threads: int) -> Any:
    plan = {
        "target": "cpu",
        "entry": "mlc_main",
        "arena_bytes": 0,
        "objects": ["objects/model.o"],
        "weights": [],
        "inputs": [],
        "outputs": [{"name": "t", "dtype": "i64", "shape": [threads]}],
    }
    return executable(Artifact.build(plan=plan, objects={"objects/model.o": emit(ARRIVALS)}), threads)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_and_barrier(threads: int) -> None:
    exe = executable(reverse(), threads)
    for seed in range(50):
        x = exe.random_inputs(seed)["x"]
        np.testing.assert_array_equal(exe(x)[0], expected(x))


def test_workers_wake_after_sleep() -> None:
    exe = arrivals(2)
    for pause in (0.0, 0.001, 0.02, 0.0):
        time.sleep(pause)
        assert np.all(exe()[0] > 0)
    assert sum(t.name.startswith("mlc-worker") and t.daemon for t in threading.enumerate()) >= 1


def test_concurrent_calls_on_one_executable() -> None:
    exe, wrong = executable(reverse(), 2), []

    def work(seed: int) -> None:
        x = exe.random_inputs(seed)["x"]
        wrong.extend(1 for _ in range(50) if not np.array_equal(exe(x)[0], expected(x)))

    threads = [threading.Thread(target=work, args=(s,)) for s in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_executables_share_idle_teams() -> None:
    executable(reverse(), 3)(np.ones(1000, np.float32))
    before = threading.active_count()
    for _ in range(5):
        executable(reverse(), 3)(np.ones(1000, np.float32))
    assert threading.active_count() == before


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fork() -> None:
    exe = executable(reverse(), 2)
    x = np.ones(1000, np.float32)
    exe(x)
    exe._program._lock.acquire()  # as if another thread were inside a call
    pid = os.fork()
    if pid == 0:
        os._exit(0 if np.array_equal(exe(x)[0], expected(x)) else 1)
    exe._program._lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert np.array_equal(exe(x)[0], expected(x))


def test_save_and_load_without_the_compiler(tmp_path: Path) -> None:
    executable(reverse()).save(tmp_path / "m.mlc")
    np.testing.assert_array_equal(load(tmp_path / "m.mlc", threads=2)(np.ones(1000, np.float32))[0], expected(np.ones(1000, np.float32)))
    program = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        compiler = name.startswith(('mlc.ir', 'mlc.dialects', 'mlc.passes', 'mlc.frontend'))
        if compiler or name.split('.')[0] in ('torch_mlir', 'llvmlite', 'onnx'):
            raise ImportError('blocked: ' + name)
sys.meta_path.insert(0, Blocker())
import numpy as np
from mlc.load import load
exe = load(sys.argv[1], threads=2)
y, = exe(np.ones(1000, np.float32))
assert y[999] == np.float32(1.5), y
print(exe, exe.bench(repeat=5))
"""
    root = str(Path(__file__).parents[2])
    got = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "m.mlc")],
        cwd=root,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
    )
    assert got.returncode == 0, got.stderr
    assert got.stdout.startswith("<mlc.Executable cpu (x: f32[1000]) -> (y: f32[1000])> median ")


def test_thread_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLC_NUM_THREADS", raising=False)
    assert 1 <= runtime.thread_count(None) <= len(os.sched_getaffinity(0))
    assert runtime.thread_count(3) == 3
    monkeypatch.setenv("MLC_NUM_THREADS", "7")
    assert runtime.thread_count(None) == 7
    assert runtime.thread_count(2) == 2
    for bad in ("two", "-1", "0", "99999"):
        monkeypatch.setenv("MLC_NUM_THREADS", bad)
        with pytest.raises(OptionError, match="MLC_NUM_THREADS"):
            runtime.thread_count(None)


def test_plan_limits_threads() -> None:
    assert runtime.CpuProgram(reverse(max_threads=1), 8).threads == 1
    assert runtime.CpuProgram(reverse(), 8).threads == 8


def test_cpu_features() -> None:
    host = [name for name, there in llvm.get_host_cpu_features().items() if there]
    runtime.CpuProgram(reverse(cpu_features=host), 1)  # what LLVM says of this host, Linux confirms
    with pytest.raises(TargetError, match=r"lacks amx-nope, avx9999,"):
        runtime.CpuProgram(reverse(cpu_features=["sse2", "avx9999", "amx-nope"]), 1)


def test_bad_plans() -> None:
    for more, message in (
        ({"entry": "nope"}, "no symbol 'nope'"),
        ({"objects": ["objects/x.o"]}, "are not in the artifact"),
        ({"arena_bytes": -1}, "arena_bytes"),
        ({"arena_bytes": "many"}, "expected entry"),
        ({"max_threads": "two"}, "expected a number and a list"),
        ({"cpu_features": "sse2"}, "expected a number and a list"),
    ):
        with pytest.raises(ArtifactError, match=message):
            executable(reverse(**more), 1)
    with pytest.raises(ResourceError, match="cannot allocate"):
        executable(reverse(arena_bytes=1 << 60), 1)


def test_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TargetError, match="'tpu', expected one of cpu"):
        executable(reverse(target="tpu"))
    monkeypatch.setitem(sys.modules["mlc.load"]._RUNTIMES, "cuda", "mlc.backends.nowhere.runtime:Program")
    with pytest.raises(TargetError, match=r"no runtime for target 'cuda:sm_90a'.*mlc\.backends\.nowhere"):
        executable(reverse(target="cuda:sm_90a"))
    assert executable(reverse(target="cpu:x86-64-v3"), 1).target == "cpu:x86-64-v3"


def test_misaligned_weights_are_moved() -> None:
    block = np.zeros(4004, np.uint8)
    skip = 4 - block.__array_interface__["data"][0] % 8 % 4
    w = block[skip : skip + 4000].view(np.float32)
    w[:] = W
    made = reverse()
    program = runtime.CpuProgram(Artifact(made.manifest, made.plan, [w], made.objects), 1)
    assert program._weight_table[0] % 64 == 0


def test_code_is_its_assembly() -> None:
    lines = [re.sub(r"\s*#.*", "", line) for line in team.ASSEMBLY.splitlines()]
    ir = "\n".join(f'module asm "{line}"' for line in lines)
    ir += '\nmodule asm ".globl mlc_worker"\nmodule asm ".globl mlc_run"\n'
    machine = llvm.Target.from_triple("x86_64-unknown-linux-gnu").create_target_machine(cpu="x86-64", reloc="pic", codemodel="small")
    code = LoadedCode({"team.o": machine.emit_object(llvm.parse_assembly(ir))})
    start, run = code.address("mlc_worker"), code.address("mlc_run")
    assembled = ctypes.string_at(start, len(team.CODE) + 1)
    assert (run - start, assembled) == (team.RUN_OFFSET, team.CODE + b"\0"), f"RUN_OFFSET = {run - start}, CODE = {assembled.hex()}"


def test_control_block_matches_assembly() -> None:
    offsets = {name: getattr(team._Control, name).offset for name, *_ in team._Control._fields_ if name[0] != "_"}
    assert offsets == {
        "run": 0,
        "sleepers": 4,
        "spins": 8,
        "pending": 64,
        "waiting": 68,
        "entry": 128,
        "inputs": 136,
        "outputs": 144,
        "weights": 152,
        "arena": 160,
        "nthreads": 168,
        "sync": 176,
    }
