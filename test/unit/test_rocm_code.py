"""gpu.module to AMD code objects, and what the code objects say, on every architecture; needs no GPU."""

import re
import shutil

import pytest

from mlc.backends.rocm import assemble, messagepack
from mlc.backends.rocm.code_object import KernelFacts, occupancy, read_code_object
from mlc.backends.rocm.lower import RocmKernel, lower_kernels
from mlc.errors import ArtifactError, CompilerError, TargetError
from mlc.ir.context import make_context
from mlc.ir.mlir import ir
from mlc.target import Target

ARCHS = ("gfx90a", "gfx942", "gfx1100", "gfx1201")
SHARED = "#gpu.address_space<workgroup>"


def module(body: str, types: str = "64xf32 64xf32", block: int = 64, shared: int = 0, more: str = "") -> str:
    """A module with one kernel `k` of buffers %0, %1, ... that knows its thread as %t."""
    parameters = ", ".join(f"%{i}: memref<{t}>" for i, t in enumerate(types.split()))
    return f"""module attributes {{gpu.container_module}} {{ gpu.module @kernels {{
      gpu.func @k({parameters}) kernel
          attributes {{known_block_size = array<i32: {block}, 1, 1>, task.grid = [3], task.shared = {shared}}} {{
        %t = gpu.thread_id x
        %c0 = arith.constant 0 : index
        {body}
        gpu.return
      }} {more} }} }}"""


COPY = "%v = memref.load %0[%t] : memref<64xf32>\nmemref.store %v, %1[%t] : memref<64xf32>"
EXCHANGE = f"""%s = gpu.dynamic_shared_memory : memref<?xi8, {SHARED}>
  %b = memref.view %s[%c0][] : memref<?xi8, {SHARED}> to memref<64xf32, {SHARED}>
  %v = memref.load %0[%t] : memref<64xf32>
  memref.store %v, %b[%t] : memref<64xf32, {SHARED}>
  gpu.barrier
  %c63 = arith.constant 63 : index
  %o = arith.subi %c63, %t : index
  %w = memref.load %b[%o] : memref<64xf32, {SHARED}>
  memref.store %w, %1[%t] : memref<64xf32>"""


def lowered(text: str, arch: str) -> list[RocmKernel]:
    with make_context():
        return lower_kernels(ir.Module.parse(text), Target.parse(f"rocm:{arch}"))


def assembly(text: str, arch: str) -> str:
    return assemble.assembly(lowered(text, arch), Target.parse(f"rocm:{arch}"))


def facts(text: str, arch: str) -> KernelFacts:
    (code,) = assemble.code_objects(lowered(text, arch), Target.parse(f"rocm:{arch}"))
    (kernel,) = read_code_object(code).kernels
    return kernel


@pytest.mark.parametrize("arch", ARCHS)
def test_a_code_object_states_its_kernel(arch: str) -> None:
    kernel = facts(module(EXCHANGE, shared=1024), arch)
    wave = Target.parse(f"rocm:{arch}").warp
    assert (kernel.name, kernel.arch, kernel.wavefront, kernel.threads) == ("k", arch, wave, 64)
    assert (kernel.lds_bytes, kernel.scratch_bytes, kernel.vgpr_spills, kernel.kernarg_bytes) == (1024, 0, 0, 16)
    assert [(a.offset, a.size, a.kind) for a in kernel.arguments] == [(0, 8, "global_buffer"), (8, 8, "global_buffer")]
    assert 0 < kernel.vgprs < 32


@pytest.mark.parametrize("arch", ARCHS)
def test_memory_is_reached_in_its_address_space(arch: str) -> None:
    text = assembly(module(EXCHANGE, shared=256), arch)
    assert re.search(r"\bglobal_load", text) and re.search(r"\bds_(write|store)", text) and not re.search(r"\bflat_", text)


def test_equal_input_gives_equal_bytes_in_order() -> None:
    target = Target.parse("rocm:gfx942")
    kernels = [*lowered(module(COPY), "gfx942"), *lowered(module(EXCHANGE, shared=256), "gfx942")]
    done: list[tuple[int, int]] = []
    first = assemble.code_objects(kernels, target, done=lambda *at: done.append(at))
    assert first == assemble.code_objects(kernels, target, jobs=1) and done == [(1, 2), (2, 2)]
    assert [read_code_object(c).kernels[0].lds_bytes for c in first] == [0, 256]


@pytest.mark.parametrize(("arch", "pattern"), [("gfx942", r"v_mfma_f32_16x16x16"), ("gfx1100", r"v_wmma_f32_16x16x16_f16")])
def test_matrix_instructions(arch: str, pattern: str) -> None:
    operands, result, op = {
        "gfx942": (4, 4, "amdgpu.mfma 16x16x16 %a * %a + %z { abid = 0 : i32, cbsz = 0 : i32 } blgp = none"),
        "gfx1100": (16, 8, "amdgpu.wmma 16x16x16 %a * %a + %z { subwordOffset = 0 : i32 }"),
    }[arch]
    body = f"""%a = vector.load %0[%c0] : memref<1024xf16>, vector<{operands}xf16>
        %z = arith.constant dense<0.0> : vector<{result}xf32>
        %d = {op} : vector<{operands}xf16>, vector<{operands}xf16>, vector<{result}xf32>
        vector.store %d, %1[%c0] : memref<1024xf32>, vector<{result}xf32>"""
    assert re.search(pattern, assembly(module(body, "1024xf16 1024xf32"), arch))


def test_vectors_are_copied_whole() -> None:
    body = """%c4 = arith.constant 4 : index
        %i = arith.muli %t, %c4 : index
        %v = vector.load %0[%i] : memref<256xf32>, vector<4xf32>
        vector.store %v, %1[%i] : memref<256xf32>, vector<4xf32>"""
    text = assembly(module(body, "256xf32 256xf32"), "gfx942")
    assert "global_load_dwordx4" in text and "global_store_dwordx4" in text


def test_the_stack_is_private_even_inside_a_loop() -> None:
    body = """%c1 = arith.constant 1 : index
        %c8 = arith.constant 8 : index
        scf.for %i = %c0 to %c8 step %c1 {
          %a = memref.alloca() : memref<64xf32>
          %v = memref.load %0[%i] : memref<64xf32>
          memref.store %v, %a[%t] : memref<64xf32>
          %w = memref.load %a[%i] : memref<64xf32>
          memref.store %w, %1[%t] : memref<64xf32>
        }"""
    for arch in ("gfx942", "gfx1100"):
        text = assembly(module(body), arch)
        assert not re.search(r"\bflat_", text) and ".dynamic_stack: true" not in text


def test_what_a_kernel_reads_and_writes() -> None:
    (kernel,) = lowered(module(EXCHANGE, shared=256), "gfx942")
    assert [(b.bytes, b.access) for b in kernel.buffers] == [(256, "read"), (256, "write")]
    body = """%a = memref.alloca() : memref<64xf32>
        %v = memref.subview %0[8] [8] [1] : memref<64xf32> to memref<8xf32, strided<[1], offset: 8>>
        %x = memref.load %v[%c0] : memref<8xf32, strided<[1], offset: 8>>
        memref.store %x, %a[%t] : memref<64xf32>
        memref.store %x, %v[%c0] : memref<8xf32, strided<[1], offset: 8>>"""
    (kernel,) = lowered(module(body, "64xf32 3xi64"), "gfx942")
    assert [(b.bytes, b.access) for b in kernel.buffers] == [(256, "readwrite"), (24, "none")]
    pick = "%c = arith.cmpi eq, %t, %c0 : index\n%s = arith.select %c, %0, %1 : memref<64xf32>\n%x = memref.load %s[%t] : memref<64xf32>"
    (kernel,) = lowered(module(f"{pick}\nmemref.store %x, %2[%t] : memref<64xf32>", "64xf32 64xf32 64xf32"), "gfx942")
    assert {b.access for b in kernel.buffers} == {"readwrite"}  # not understood: the worst


def test_a_barrier_waits_for_global_memory_only_where_threads_share_it() -> None:
    local = assembly(module(EXCHANGE, shared=256), "gfx1100")
    assert "s_barrier" in local and "buffer_gl0_inv" not in local and ".amdhsa_workgroup_processor_mode 1" in local
    body = f"{COPY}\ngpu.barrier\n%w = memref.load %1[%c0] : memref<64xf32>\nmemref.store %w, %0[%t] : memref<64xf32>"
    handed = lowered(module(body, block=128), "gfx1100")
    assert "!mmra" not in handed[0].text and "!mmra" in lowered(module(EXCHANGE, shared=256), "gfx1100")[0].text
    assert ".amdhsa_workgroup_processor_mode 0" in assemble.assembly(handed, Target.parse("rocm:gfx1100"))


@pytest.mark.parametrize("arch", ["gfx942", "gfx1100"])
def test_lanes_are_exchanged_by_permutes(arch: str) -> None:
    warp = Target.parse(f"rocm:{arch}").warp
    body = f"""%m = arith.constant 1 : i32
        %w = arith.constant {warp} : i32
        %v = memref.load %0[%t] : memref<64xf32>
        %s, %p = gpu.shuffle xor %v, %m, %w : f32
        memref.store %s, %1[%t] : memref<64xf32>"""
    text = assembly(module(body, block=256), arch)
    assert "ds_bpermute_b32" in text and "ds_swizzle" not in text


@pytest.mark.parametrize("type_", ["f16", "f32", "f64"])
def test_functions_with_an_instruction_need_no_library(type_: str) -> None:
    names = ("floor", "ceil", "sqrt", "round", "roundeven", "trunc", "absf")
    unary = "".join(f"%v{i + 1} = math.{name} %v{i} : T\n" for i, name in enumerate(names))
    body = f"""%v0 = memref.load %0[%t] : memref<64xT>
        {unary} %x = math.fma %v7, %v0, %v7 : T
        %y = arith.remf %x, %v0 : T
        memref.store %y, %1[%t] : memref<64xT>""".replace("T", type_)
    for arch in ("gfx90a", "gfx1100"):
        kernels = lowered(module(body, f"64x{type_} 64x{type_}"), arch)
        (code,) = assemble.code_objects(kernels, Target.parse(f"rocm:{arch}"))
        assert read_code_object(code).undefined == ()


def test_approximate_operations() -> None:
    """What may be approximate is one instruction for each lane."""
    body = """%v = vector.load %0[%t] : memref<1024xf32>, vector<2xf32>
        %p = math.exp2 %v fastmath<afn> : vector<2xf32>
        %q = arith.divf %v, %p fastmath<arcp> : vector<2xf32>
        vector.store %q, %1[%t] : memref<1024xf32>, vector<2xf32>"""
    text = assembly(module(body, "1024xf32 1024xf32"), "gfx942")
    assert text.count("v_exp_f32") == text.count("v_rcp_f32") == 2 and "v_div" not in text


def test_a_function_without_an_instruction_is_refused_by_name() -> None:
    body = "%v = memref.load %0[%t] : memref<64xf32>\n%w = math.erf %v : f32\nmemref.store %w, %1[%t] : memref<64xf32>"
    with pytest.raises(CompilerError, match=r"kernel 'k' calls math\.erf on f32"):
        lowered(module(body), "gfx942")
    with pytest.raises(CompilerError, match="kernel 'k' calls helper, which nothing defines"):
        lowered(module("func.call @helper() : () -> ()", more="func.func private @helper()"), "gfx942")


def test_what_nothing_lowers_is_refused_by_name() -> None:
    with pytest.raises(CompilerError, match="kernel 'k' to LLVM"):
        lowered(module("%v = memref.load %0[%t] : memref<64xf32>\n%a = tensor.splat %v : tensor<4xf32>\n"
                       "%w = tensor.extract %a[%c0] : tensor<4xf32>\nmemref.store %w, %1[%t] : memref<64xf32>"), "gfx942")


# -- linker -------------------------------------------------------------------------------------------------------------


def test_rocms_linker_comes_before_ziglangs(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    linker = tmp_path / "llvm/bin/ld.lld"
    linker.parent.mkdir(parents=True)
    linker.write_text("#!/bin/sh\n")
    linker.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setenv("ROCM_PATH", str(tmp_path))
    assert assemble.find_linker() == [str(linker)]


def test_a_missing_linker_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(assemble, "_ROCM", str(tmp_path))
    monkeypatch.delenv("ROCM_PATH", raising=False)
    monkeypatch.setattr(assemble.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TargetError, match=r"no linker(.|\n)*mlc-compiler\[rocm\]"):
        assemble.find_linker()


def test_a_linker_that_fails_says_why() -> None:
    with pytest.raises(CompilerError, match=r"(?s)refuses generated code: .*kernel\.o"):
        assemble.link(b"not an object", assemble.find_linker())


# -- metadata -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "value"), [
    ("2a", 42), ("ff", -1), ("c3", True), ("c0", None), ("cd0100", 256), ("d1ff00", -256), ("cb3ff8000000000000", 1.5),
    ("a3616263", "abc"), ("d90161", "a"), ("c4020001", b"\0\1"), ("93010203", [1, 2, 3]), ("dc000101", [1]),
    ("82a161 01a16202", {"a": 1, "b": 2}),
    ("de0001a16190", {"a": []}),
])
def test_messagepack(data: str, value: object) -> None:
    assert messagepack.decode(bytes.fromhex(data)) == value


@pytest.mark.parametrize("data", ["", "93", "d9ff61", "c7", "91" * 100 + "01"])
def test_bad_messagepack_is_a_value_error(data: str) -> None:
    with pytest.raises(ValueError, match="."):
        messagepack.decode(bytes.fromhex(data))


def test_damaged_code_objects_are_artifact_errors() -> None:
    (code,) = assemble.code_objects(lowered(module(COPY), "gfx942"), Target.parse("rocm:gfx942"))
    for bad in (b"", code[:100], code[:-200], b"\x7fELF" + bytes(200), code.replace(b"amdhsa.kernels", b"amdhsa.kernelz")):
        with pytest.raises(ArtifactError, match=r"objects/k\.hsaco: not a whole AMD code object"):
            read_code_object(bad, "objects/k.hsaco")


def _facts(arch: str, threads: int = 256, **more: int) -> KernelFacts:
    numbers = {"vgprs": 32, "agprs": 0, "sgprs": 32, "vgpr_spills": 0, "sgpr_spills": 0, "scratch_bytes": 0, "lds_bytes": 0,
               "kernarg_bytes": 8}
    return KernelFacts(name="k", arch=arch, wavefront=Target.parse(f"rocm:{arch}").warp, threads=threads, arguments=(), **numbers | more)


@pytest.mark.parametrize(("kernel", "share"), [
    (_facts("gfx942"), 1.0),
    (_facts("gfx942", vgprs=128), 4 / 8),
    (_facts("gfx942", vgprs=129), 3 / 8),
    (_facts("gfx90a", vgprs=512), 1 / 8),
    (_facts("gfx942", lds_bytes=32 << 10), 2 * 4 / 32),
    (_facts("gfx942", lds_bytes=65 << 10), 0),
    (_facts("gfx942", threads=1024, vgprs=256), 0),
    (_facts("gfx1100", vgprs=96), 1.0),
    (_facts("gfx1100", vgprs=256), 5 * 4 // 8 * 8 / 64),
    (_facts("gfx1201", lds_bytes=64 << 10), 2 * 8 / 64),
])
def test_occupancy(kernel: KernelFacts, share: float) -> None:
    assert occupancy(kernel) == share


@pytest.mark.parametrize(("arch", "flags"), [("gfx1100", 0x41), ("gfx1201", 0x4E)])
def test_halves_of_a_register_are_loaded_side_by_side(arch: str, flags: int) -> None:
    body = f"""%s = gpu.dynamic_shared_memory : memref<?xi8, {SHARED}>
        %b = memref.view %s[%c0][] : memref<?xi8, {SHARED}> to memref<128xf16, {SHARED}>
        %v = memref.load %0[%t] : memref<64xf16>
        memref.store %v, %b[%t] : memref<128xf16, {SHARED}>
        gpu.barrier
        %c33 = arith.constant 33 : index
        %o = arith.addi %t, %c33 : index
        %x = memref.load %b[%t] : memref<128xf16, {SHARED}>
        %y = memref.load %b[%o] : memref<128xf16, {SHARED}>
        %p = vector.from_elements %x, %y : vector<2xf16>
        vector.store %p, %1[%t] : memref<64xf16>, vector<2xf16>"""
    text = module(body, "64xf16 64xf16", shared=256)
    assert "_d16" not in assembly(text, arch)
    (code,) = assemble.code_objects(lowered(text, arch), Target.parse(f"rocm:{arch}"))
    assert int.from_bytes(code[48:52], "little") == flags  # no claim about ECC


NEIGHBOURS = """%c3 = arith.constant 3 : index
        %o = arith.muli %t, %c3 : index
        %c1 = arith.constant 1 : index
        %q = arith.addi %o, %c1 : index
        %x = memref.load %0[%o] : memref<192xf16>
        %y = memref.load %0[%q] : memref<192xf16>
        %n = arith.negf %x : f16
        memref.store %y, %1[%o] : memref<192xf16>
        memref.store %n, %1[%q] : memref<192xf16>"""


@pytest.mark.parametrize("arch", ARCHS)
def test_no_access_is_wider_than_its_alignment(arch: str) -> None:
    text = assembly(module(NEIGHBOURS, "192xf16 192xf16"), arch)
    assert len(re.findall(r"global_(?:store_(?:short|b16)|load_(?:ushort|u16))\b", text)) == 4


@pytest.mark.parametrize("arch", ["gfx1100", "gfx1201"])
def test_registers_are_not_split_into_halves(arch: str) -> None:
    assert not re.search(r"v\d+\.[lh]\b", assembly(module(NEIGHBOURS, "192xf16 192xf16"), arch))
