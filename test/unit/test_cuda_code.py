"""CUDA kernels as PTX and cubins: what instructions a gpu.func becomes, what ptxas says of it, and how errors are told."""

import ctypes
import re
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest

from mlc.backends.cuda.assemble import assembly, check, cubins, machine
from mlc.backends.cuda.functions import FUNCTIONS
from mlc.backends.cuda.lower import lower_kernels
from mlc.backends.cuda.ptxas import assemble, find_ptxas, identity, least_driver, version
from mlc.backends.gpu_backend import Kernel
from mlc.backends.llvm import optimise
from mlc.driver import compile_model
from mlc.errors import CompilerError, TargetError
from mlc.fingerprint import cache_key
from mlc.ir.context import make_context
from mlc.ir.mlir import ir
from mlc.options import CompileOptions
from mlc.passes.allow_contraction import AllowContraction
from mlc.passes.expand_math import ExpandMath
from mlc.passes.registry import PassContext
from mlc.progress import ignore
from mlc.target import Target

HOPPER = Target.parse("cuda:sm_90a")


def _function(body: str, *, name: str = "k", arguments: str = "%x: memref<4096xf32>, %y: memref<4096xf32>", shared: int = 0,
              more: str = "") -> str:
    return f"""gpu.func @{name}({arguments}) kernel attributes {{known_block_size = array<i32: 128, 1, 1>, task.grid = [8],
      task.shared = {shared} : i64{more}}} {{ %t = gpu.thread_id x
      {body}
      gpu.return }}\n"""


def _lower(functions: str, target: Target = HOPPER) -> list[Kernel]:
    text = f"module attributes {{gpu.container_module}} {{ gpu.module @kernels {{ {functions} }} }}"
    with make_context(), ir.Location.unknown():
        return lower_kernels(ir.Module.parse(text), target)


def _ptx(body: str, target: Target = HOPPER, **how: object) -> str:
    return assembly(_lower(_function(body, **how), target), target, 3)  # type: ignore[arg-type]


def _operation(op: str, type_: str) -> str:
    """A body that applies an op, spelled with %a, %b and %c, to elements of three buffers."""
    loads = "".join(f"%{v} = memref.load %{m}[%t] : memref<4096x{type_}>\n" for v, m in (("a", "x"), ("b", "y"), ("c", "z")))
    return f"{loads} %r = {op}\n memref.store %r, %o[%t] : memref<4096x{type_}>"


def _buffers(type_: str) -> str:
    return ", ".join(f"%{m}: memref<4096x{type_}>" for m in "xyzo")


def test_kernel_facts_and_block_size() -> None:
    kernel, = _lower(_function("", shared=2048))
    assert (kernel.name, kernel.grid, kernel.threads, kernel.shared) == ("k", [8], 128, 2048)
    assert re.search(r"\.entry k\([^)]*\)\s*\.reqntid 128, 1, 1\n", assembly([kernel], HOPPER, 3))
    assert ".minnctapersm 2" in _ptx("", more=", nvvm.minctasm = 2 : i32")


def test_wide_accesses_stay_whole() -> None:
    body = """
      %c8 = arith.constant 8 : index
      %i = arith.muli %t, %c8 : index
      %v = vector.load %x[%i] {alignment = 16 : i64} : memref<4096xf16>, vector<8xf16>
      vector.store %v, %y[%i] {alignment = 16 : i64} : memref<4096xf16>, vector<8xf16>
      %w = memref.load %z[%t] : memref<4096xi64>
      memref.store %w, %z[%i] : memref<4096xi64>"""
    ptx = _ptx(body, arguments="%x: memref<4096xf16>, %y: memref<4096xf16>, %z: memref<4096xi64>")
    assert len(re.findall(r"ld\.global\S*\.v4\.b32", ptx)) == len(re.findall(r"st\.global\.v4\.b32", ptx)) == 1
    assert len(re.findall(r"[ls][dt]\.global\S*\.b64", ptx)) == 2
    loose = _ptx(body.replace("{alignment = 16 : i64}", ""), arguments="%x: memref<4096xf16>, %y: memref<4096xf16>, %z: memref<4096xi64>")
    assert ".v4" not in loose  # nothing may be assumed that is not said


def test_approximate_operations() -> None:
    """What may be approximate is one instruction for each lane, every other quotient is the nearest number."""
    body = """%v = vector.load %x[%t] : memref<4096xf32>, vector<2xf32>
      %p = math.exp2 %v fastmath<afn> : vector<2xf32>
      %q = arith.divf %v, %p fastmath<arcp> : vector<2xf32>
      vector.store %q, %y[%t] : memref<4096xf32>, vector<2xf32>
      %s = memref.load %x[%t] : memref<4096xf32>
      %exact = arith.divf %s, %s : f32
      memref.store %exact, %y[%t] : memref<4096xf32>"""
    text = _ptx(body)
    assert text.count("ex2.approx.ftz.f32") == text.count("rcp.approx.ftz.f32") == 2
    assert text.count("div.rn.f32") == 1


def test_products_of_codes_wrap() -> None:
    """As integers do everywhere else, not saturate."""
    body = """
      %a = arith.constant dense<1> : vector<4x4xi8>
      %b = arith.constant dense<2> : vector<2x4xi8>
      %c = arith.constant dense<3> : vector<2x2xi32>
      %d = nvgpu.mma.sync(%a, %b, %c) {mmaShape = [16, 8, 32]} : (vector<4x4xi8>, vector<2x4xi8>, vector<2x2xi32>) -> vector<2x2xi32>
      %r = vector.extract %d[0, 0] : i32 from vector<2x2xi32>
      memref.store %r, %x[%t] : memref<4096xi32>"""
    ptx = _ptx(body, Target.parse("cuda:sm_80"), arguments="%x: memref<4096xi32>")
    assert "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32" in ptx and "satfinite" not in ptx


def test_read_only_buffers_go_through_the_texture_cache() -> None:
    body = "%v = memref.load %x[%t] : memref<4096xf32> memref.store %v, %y[%t] : memref<4096xf32>"
    said = "%x: memref<4096xf32> {llvm.noalias, llvm.readonly}, %y: memref<4096xf32> {llvm.noalias}"
    assert "ld.global.nc.b32" in _ptx(body, arguments=said) and "ld.global.b32" in _ptx(body)


@pytest.mark.parametrize(("arch", "alignment"), [("sm_90a", 1024), ("sm_80", 128)])
def test_dynamic_shared_memory(arch: str, alignment: int) -> None:
    ptx = _ptx("""
      %c64 = arith.constant 64 : index
      %s = gpu.dynamic_shared_memory : memref<?xi8, #gpu.address_space<workgroup>>
      %v = memref.view %s[%c64][] : memref<?xi8, #gpu.address_space<workgroup>> to memref<128xf32, #gpu.address_space<workgroup>>
      %a = memref.load %x[%t] : memref<4096xf32>
      memref.store %a, %v[%t] : memref<128xf32, #gpu.address_space<workgroup>>
      gpu.barrier
      %c5 = arith.constant 5 : index
      %b = memref.load %v[%c5] : memref<128xf32, #gpu.address_space<workgroup>>
      memref.store %b, %y[%t] : memref<4096xf32>""", Target.parse(f"cuda:{arch}"), shared=576)
    assert f".extern .shared .align {alignment} .b8 __dynamic_shmem__0[];" in ptx
    assert "bar.sync" in ptx and "st.shared.b32" in ptx and re.search(r"ld\.shared\.b32\s+%r\d+, \[__dynamic_shmem__0\+84\]", ptx)


def test_globals_follow_the_kernel_that_names_them() -> None:
    table = "memref.global \"private\" constant @table : memref<4xf32> = dense<[1.0, 2.0, 3.0, 4.0]>\n"
    uses = _function("%g = memref.get_global @table : memref<4xf32> %v = memref.load %g[%t] : memref<4xf32>"
                     " memref.store %v, %y[%t] : memref<4096xf32>", name="a")
    first, second = _lower(table + uses + _function("", name="b"))
    assert "@table" in first.text and "@table" not in second.text


@pytest.mark.parametrize(("arguments", "narrow"), [
    ("%x: memref<4096xf32>, %y: memref<4096xf32>", True), ("%x: memref<4096xf32>, %y: memref<2147483648xi8>", False)])
def test_indices_are_as_wide_as_buffers_need(arguments: str, narrow: bool) -> None:
    kernel, = _lower(_function(_COPY.replace("%y", "%x"), arguments=arguments))
    assert ("getelementptr inbounds nuw float, ptr %0, i32" in kernel.text) == narrow


def test_contraction_only_where_it_is_allowed() -> None:
    def sums(flags: str) -> str:
        return _ptx(_operation(f"arith.mulf %a, %b {flags} : f32\n %s = arith.addf %r, %c {flags} : f32\n"
                               "memref.store %s, %z[%t] : memref<4096xf32>", "f32").replace("memref.store %r", "memref.store %s"),
                    arguments=_buffers("f32"))

    assert "fma.rn.f32" in sums("fastmath<contract>") and "fma" not in sums("")


_UNARY = {"sqrt": "sqrt.rn", "absf": "abs", "floor": "cvt.rmi", "ceil": "cvt.rpi", "round": "cvt.rzi", "roundeven": "cvt.rni",
          "trunc": "cvt.rzi"}
_BINARY = {"arith.divf": "div.rn", "arith.maximumf": "max", "arith.minimumf": "min", "arith.maxnumf": "max", "arith.minnumf": "min",
           "math.copysign": "", "arith.remf": ""}


@pytest.mark.parametrize("type_", ["f16", "bf16", "f32", "f64"])
@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_90a", "sm_120"])
def test_every_operation_becomes_instructions(type_: str, arch: str) -> None:
    operations = {f"math.{name} %a : {type_}": expected for name, expected in _UNARY.items()}
    operations |= {f"{name} %a, %b : {type_}": expected for name, expected in _BINARY.items()}
    operations[f"math.fma %a, %b, %c : {type_}"] = "fma.rn"
    for test in ("isnan", "isinf", "isfinite"):
        operations[f"math.{test} %a : {type_}\n %s = arith.select %r, %b, %c : {type_}"] = "setp"
    target = Target.parse(f"cuda:{arch}")
    kernels: list[Kernel] = []
    for number, (op, expected) in enumerate(operations.items()):
        body = _operation(op, type_)
        kernel, = _lower(_function(body.replace("memref.store %r", "memref.store %s") if "%s" in op else body, name=f"k{number}",
                                   arguments=_buffers(type_)), target)
        if type_ in ("f32", "f64") or arch == "sm_90a":  # older and consumer GPUs compute some 16-bit operations otherwise
            assert expected in assembly([kernel], target, 3), op
        kernels.append(kernel)
    assert all(cubin.registers > 0 for _, cubin in cubins(kernels, target, 3, ignore_kernels))  # ptxas knows no function to call


def ignore_kernels(finished: int, of: int) -> None:
    ignore("codegen", finished, of)


@pytest.mark.parametrize("type_", ["i8", "i16", "i32", "i64"])
def test_integer_operations(type_: str) -> None:
    operations = [f"math.{op} %a : {type_}" for op in ("absi", "ctpop", "ctlz", "cttz")]
    operations += [f"arith.{op} %a, %b : {type_}" for op in ("divsi", "divui", "remsi", "remui", "maxsi", "minui", "shrsi", "muli")]
    kernels = [_lower(_function(_operation(op, type_), name=f"k{i}", arguments=_buffers(type_)))[0] for i, op in enumerate(operations)]
    assert len(cubins(kernels, HOPPER, 3, ignore_kernels)) == len(operations)


@pytest.mark.parametrize(("op", "type_", "said"), [
    ("math.exp %a : f32", "f32", "kernel 'k' calls math.exp on f32"), ("math.sin %a : f64", "f64", "kernel 'k' calls math.sin on f64")])
def test_a_function_without_instructions_is_named(op: str, type_: str, said: str) -> None:
    with pytest.raises(CompilerError, match=said):
        _lower(_function(_operation(op, type_), arguments=_buffers(type_)))


def test_a_call_that_nothing_defines_is_named() -> None:
    with pytest.raises(CompilerError, match=r"kernel 'k' calls \w+, which nothing defines"):
        _lower(_function("%n = memref.alloc(%t) : memref<?xf32> %v = memref.load %n[%t] : memref<?xf32>"
                         " memref.store %v, %y[%t] : memref<4096xf32>"))


def test_an_operation_that_nothing_lowers_is_named() -> None:
    with pytest.raises(CompilerError, match="kernel 'k' to LLVM: nothing lowers 'tensor.empty'"):
        _lower(_function("%n = tensor.empty() : tensor<4xf32> %c = arith.constant 0 : index %v = tensor.extract %n[%c] : tensor<4xf32>"
                         " memref.store %v, %y[%t] : memref<4096xf32>"))


@pytest.mark.parametrize(("name", "type_", "dtype"), [("__nv_fmodf", "float", np.float32), ("__nv_fmod", "double", np.float64)])
def test_fmod_is_exact(name: str, type_: str, dtype: type) -> None:
    text = FUNCTIONS[name] + f"""
define void @run(ptr %x, ptr %y, ptr %o, i64 %n) {{
entry:
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
  %xi = getelementptr {type_}, ptr %x, i64 %i
  %yi = getelementptr {type_}, ptr %y, i64 %i
  %oi = getelementptr {type_}, ptr %o, i64 %i
  %a = load {type_}, ptr %xi
  %b = load {type_}, ptr %yi
  %r = call {type_} @{name}({type_} %a, {type_} %b)
  store {type_} %r, ptr %oi
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}}"""
    from mlc.backends.cpu.backend import machine as cpu_machine
    engine = llvm.create_mcjit_compiler(*optimise(text, cpu_machine(Target.host(), 1)))
    engine.finalize_object()
    info, rng, n = np.finfo(dtype), np.random.default_rng(0), 200_000
    bits = np.uint32 if dtype is np.float32 else np.uint64
    edges = np.array([0.0, -0.0, 1, -3, 0.1, np.inf, -np.inf, np.nan, info.tiny, info.smallest_subnormal, 5 * info.smallest_subnormal,
                      info.max], dtype)
    any_x, any_y = (rng.integers(0, 2 ** (8 * info.dtype.itemsize), n, dtype=bits).view(dtype) for _ in range(2))
    x = np.concatenate([any_x, np.repeat(edges, len(edges)), (rng.standard_normal(n) * 1000).astype(dtype)])
    y = np.concatenate([any_y, np.tile(edges, len(edges)), rng.standard_normal(n).astype(dtype)])
    out = np.empty_like(x)
    run = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64)(engine.get_function_address("run"))
    run(x.ctypes.data, y.ctypes.data, out.ctypes.data, len(x))
    with np.errstate(all="ignore"):
        expected = np.fmod(x, y)
    assert np.array_equal(np.isnan(out), np.isnan(expected))
    known = ~np.isnan(expected)
    np.testing.assert_array_equal(out.view(bits)[known], expected.view(bits)[known])  # signs of zeros too


# -- ptxas --------------------------------------------------------------------------------------------------------------

_COPY = "%v = memref.load %x[%t] : memref<4096xf32> memref.store %v, %y[%t] : memref<4096xf32>"


def _named(names: Sequence[str]) -> list[Kernel]:
    return _lower("".join(_function(_COPY if n != "other" else "", name=n) for n in names))


def test_equal_kernels_are_compiled_once_and_bytes_repeat() -> None:
    kernels, seen = _named(["first", "other", "second"]), []
    made = cubins(kernels, HOPPER, 3, lambda finished, of: seen.append((finished, of)))
    assert [symbol for symbol, _ in made] == ["first", "other", "first"]
    assert made[0][1] is made[2][1] and made[0][1].code.startswith(b"\x7fELF")
    assert seen == [(1, 2), (2, 2)]
    assert [c.code for _, c in cubins(kernels, HOPPER, 3, ignore_kernels, jobs=1)] == [c.code for _, c in made]


def test_facts_of_ptxas() -> None:
    live = 64  # values alive at once, of a thread that may have few registers
    body = "".join(f"%c{i} = arith.constant {i * 128} : index %i{i} = arith.addi %t, %c{i} : index\n"
                   f"%v{i} = memref.load %x[%i{i}] : memref<65536xf32>\n" for i in range(live)) + "gpu.barrier\n"
    body += "".join(f"memref.store %v{i}, %y[%i{live - 1 - i}] : memref<65536xf32>\n" for i in range(live))
    arguments = "%x: memref<65536xf32>, %y: memref<65536xf32>"
    free, tight = (cubins(_lower(_function(body, arguments=arguments, more=more)), HOPPER, 3, ignore_kernels)[0][1]
                   for more in ("", ", nvvm.maxnreg = 32 : i32"))
    assert free.registers >= live and free.spill_bytes == 0
    assert tight.registers <= 32 and tight.spill_bytes > 0
    shared = "memref.global \"private\" @s : memref<100xf32, #gpu.address_space<workgroup>>\n" + _function(
        "%s = memref.get_global @s : memref<100xf32, #gpu.address_space<workgroup>> %v = memref.load %x[%t] : memref<4096xf32>"
        " memref.store %v, %s[%t] : memref<100xf32, #gpu.address_space<workgroup>> gpu.barrier %c = arith.constant 3 : index"
        " %w = memref.load %s[%c] : memref<100xf32, #gpu.address_space<workgroup>> memref.store %w, %y[%t] : memref<4096xf32>")
    assert cubins(_lower(shared), HOPPER, 3, ignore_kernels)[0][1].shared_bytes >= 400


def test_refused_ptx_is_kept() -> None:
    with pytest.raises(CompilerError, match=r"ptxas refuses kernel 'bad': (.|\n)*nonsense(.|\n)*PTX: ") as caught:
        assemble(".version 8.3\n.target sm_90a\n.address_size 64\nnonsense;\n", "bad", "sm_90a", 3, find_ptxas())
    path = Path(str(caught.value).rpartition("PTX: ")[2].strip())
    assert "nonsense" in path.read_text() and path.name.startswith("bad-")
    path.unlink()


def test_an_architecture_that_ptxas_does_not_know() -> None:
    with pytest.raises(TargetError, match="cannot compile for sm_12345(.|\n)*hint: use the ptxas of another CUDA release"):
        assemble(".version 8.3\n.target sm_90\n.address_size 64\n", "k", "sm_12345", 3, find_ptxas())


def test_where_ptxas_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("mlc.backends.cuda.ptxas._PACKAGES", ())
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetError, match=r"needs ptxas(.|\n)*hint: pip install 'mlc-compiler\[cuda\]'"):
        find_ptxas()
    assert identity() == "absent"
    tool = tmp_path / "bin" / "ptxas"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 99.1, V99.1.7'\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert find_ptxas() == tool and version(tool) == identity() == "V99.1.7"


def test_the_driver_that_code_needs(tmp_path: Path) -> None:
    for says, needed in (("V13.0.88", [13, 0]), ("V12.9.1", [12, 0]), ("nothing", [0, 0])):
        tool = tmp_path / says
        tool.write_text(f"#!/bin/sh\necho 'release, {says}'\n")
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
        assert least_driver(tool) == needed


def test_a_ptxas_of_another_machine(tmp_path: Path) -> None:
    tool = tmp_path / "ptxas"
    tool.write_bytes(b"\x7fELF of another machine")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(TargetError, match=r"ptxas cannot be run: .*\n.*pip install"):
        assemble(".version 8.3\n", "k", "sm_90a", 3, tool)


def test_a_ptxas_that_fails_is_found_before_any_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    check(HOPPER)
    kept = set(Path(tempfile.gettempdir()).glob("empty*"))
    tool = tmp_path / "ptxas"
    tool.write_text("#!/bin/sh\necho 'ptxas fatal: no licence' >&2\nexit 3\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr("mlc.backends.cuda.assemble.find_ptxas", lambda: tool)
    with pytest.raises(TargetError, match=r"ptxas \(unknown\) does not work: ptxas fatal: no licence\n.*pip install"):
        compile_model(b"no model: nobody looks at it", CompileOptions(target=HOPPER))
    assert set(Path(tempfile.gettempdir()).glob("empty*")) == kept


def test_the_cache_tells_ptxas_versions_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    from onnx_models import model
    proto = model("agraph (float[4] x) => (float[4] y) { y = Relu(x) }")

    def key(target: str, ptxas: str) -> str | None:
        monkeypatch.setattr("mlc.backends.cuda.ptxas.identity", lambda: ptxas)
        return cache_key(proto, CompileOptions(target=Target.parse(target)))

    assert key("cuda:sm_90a", "V12.9.1") != key("cuda:sm_90a", "V13.0.88")
    assert key("cpu:x86-64-v3", "V12.9.1") == key("cpu:x86-64-v3", "V13.0.88")


@pytest.mark.parametrize("name", [n for n in Target.known() if n.startswith("cuda:")])
def test_llvm_knows_every_architecture(name: str) -> None:
    target = Target.parse(name)
    assert f".target {target.arch}" in _ptx(_COPY, target)
    assert machine(target, 2).opt_level == 2


def test_allow_contraction_spares_what_expand_math_makes() -> None:
    body = _function(_operation("arith.mulf %a, %b : f32\n %s = arith.addf %r, %c : f32\n %e = math.exp %a : f32\n"
                                "memref.store %e, %y[%t] : memref<4096xf32>", "f32").replace("store %r", "store %s"),
                     arguments=_buffers("f32"))
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(f"module attributes {{gpu.container_module}} {{ gpu.module @kernels {{ {body} }} }}")
        AllowContraction().run(module, PassContext(HOPPER))
        assert str(module).count("fastmath<contract>") == 2
        ExpandMath().run(module, PassContext(HOPPER))
        assert str(module).count("fastmath<contract>") == 2 < str(module).count("arith.mulf")
        lower_kernels(module, HOPPER)
