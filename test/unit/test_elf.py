"""The object loader: what LLVM emits for several code models runs after loading, and nothing malformed gets that far."""

import ctypes
import struct

import llvmlite.binding as llvm
import pytest

from mlc.backends.cpu.elf import LoadedCode
from mlc.errors import ArtifactError, MlcError

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()

MODELS = [("pic", "small"), ("pic", "jitdefault"), ("static", "small"), ("static", "jitdefault")]


def emit(ir: str, reloc: str = "pic", model: str = "small", opt: int = 2) -> bytes:
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=opt, reloc=reloc, codemodel=model
    )
    return machine.emit_object(llvm.parse_assembly(ir))


def function(code: LoadedCode, name: str, result: object, *arguments: object):
    f = ctypes.CFUNCTYPE(result, *arguments)(code.address(name))  # type: ignore[arg-type]
    f.code = code  # type: ignore[attr-defined]  # the pages live as long as the function
    return f


BASICS = """
declare float @expf(float)
declare ptr @memcpy(ptr, ptr, i64)
@table = private constant [4 x float] [float 1.0, float 2.0, float 3.0, float 4.0]
@counter = global i32 7
@zeroed = global [5000 x i32] zeroinitializer
@pointers = constant [2 x ptr] [ptr @f, ptr @expf]
define float @f(float %x, i64 %i) {
  %p = getelementptr [4 x float], ptr @table, i64 0, i64 %i
  %v = load float, ptr %p
  %e = call float @expf(float %x)
  %s = fadd float %e, %v
  ret float %s
}
define i32 @count() {
  %a = load i32, ptr @counter
  %b = add i32 %a, 1
  store i32 %b, ptr @counter
  %p = getelementptr [5000 x i32], ptr @zeroed, i64 0, i64 4999
  %z = load i32, ptr %p
  %r = add i32 %b, %z
  ret i32 %r
}
define void @copy(ptr %to, ptr %from, i64 %n) {
  %r = call ptr @memcpy(ptr %to, ptr %from, i64 %n)
  ret void
}
define float @through(i64 %i, float %x) {
  %p = getelementptr [2 x ptr], ptr @pointers, i64 0, i64 %i
  %g = load ptr, ptr %p
  %r = call float %g(float %x, i64 1)
  ret float %r
}
"""


@pytest.mark.parametrize(("reloc", "model"), MODELS)
def test_calls_constants_globals(reloc: str, model: str) -> None:
    code = LoadedCode({"a.o": emit(BASICS, reloc, model)})
    f = function(code, "f", ctypes.c_float, ctypes.c_float, ctypes.c_int64)
    assert [f(0.0, i) for i in range(4)] == [2.0, 3.0, 4.0, 5.0]
    count = function(code, "count", ctypes.c_int32)
    assert [count(), count()] == [8, 9]
    data, out = b"hello, relocations", ctypes.create_string_buffer(32)
    function(code, "copy", None, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int64)(ctypes.addressof(out), data, len(data))
    assert out.value == data
    through = function(code, "through", ctypes.c_float, ctypes.c_int64, ctypes.c_float)
    assert through(0, 0.0) == 3.0
    assert through(1, 0.0) == 1.0


@pytest.mark.parametrize(("reloc", "model"), MODELS)
def test_jump_table(reloc: str, model: str) -> None:
    cases = "\n".join(f"i32 {i}, label %c{i}" for i in range(12))
    blocks = "\n".join(f"c{i}:\n  %r{i} = call i32 @abs(i32 {-i * i - 3})\n  ret i32 %r{i}" for i in range(12))
    ir = f"declare i32 @abs(i32) nobuiltin\ndefine i32 @s(i32 %x) {{\n switch i32 %x, label %d [{cases}]\n{blocks}\nd:\n  ret i32 -1\n}}"
    s = function(LoadedCode({"a.o": emit(ir, reloc, model, opt=1)}), "s", ctypes.c_int32, ctypes.c_int32)
    assert [s(i) for i in range(13)] == [*(i * i + 3 for i in range(12)), -1]


@pytest.mark.parametrize(("reloc", "model"), MODELS)
def test_objects_call_each_other(reloc: str, model: str) -> None:
    one = (
        "declare i32 @odd(i32)\n@shared = global i32 5\n"
        "define i32 @even(i32 %n) {\n %z = icmp eq i32 %n, 0\n br i1 %z, label %y, label %m\ny:\n ret i32 1\n"
        "m:\n %k = sub i32 %n, 1\n %r = call i32 @odd(i32 %k)\n ret i32 %r\n}"
    )
    two = (
        "declare i32 @even(i32)\n@shared = external global i32\n"
        "define i32 @odd(i32 %n) {\n %z = icmp eq i32 %n, 0\n br i1 %z, label %y, label %m\ny:\n ret i32 0\n"
        "m:\n %k = sub i32 %n, 1\n %r = call i32 @even(i32 %k)\n ret i32 %r\n}\n"
        "define i32 @read() {\n %v = load i32, ptr @shared\n ret i32 %v\n}"
    )
    code = LoadedCode({"one.o": emit(one, reloc, model, opt=0), "two.o": emit(two, reloc, model, opt=0)})
    even = function(code, "even", ctypes.c_int32, ctypes.c_int32)
    assert [even(i) for i in range(4)] == [1, 0, 1, 0]
    assert function(code, "read", ctypes.c_int32)() == 5


def test_large_vector_constants_are_aligned() -> None:
    values = ", ".join(f"float {i}.0" for i in range(16))
    ir = (
        f"define void @v(ptr %p) {{\n %x = load <16 x float>, ptr %p, align 4\n %y = fadd <16 x float> %x, <{values}>\n"
        " store <16 x float> %y, ptr %p, align 4\n ret void\n}"
    )
    buffer = (ctypes.c_float * 16)(*[0.5] * 16)
    function(LoadedCode({"a.o": emit(ir)}), "v", None, ctypes.c_void_p)(ctypes.addressof(buffer))
    assert list(buffer) == [i + 0.5 for i in range(16)]


def test_weak_and_common_symbols() -> None:
    weak = (
        "define weak i32 @w() {\n ret i32 1\n}\n@c = common global i32 0, align 16\n"
        "define i32 @useweak() {\n %r = call i32 @w()\n ret i32 %r\n}"
    )
    strong = "define i32 @w() {\n ret i32 2\n}\n@c = global i32 9\n"
    code = LoadedCode({"weak.o": emit(weak), "strong.o": emit(strong)})
    assert function(code, "useweak", ctypes.c_int32)() == 2
    assert ctypes.c_int32.from_address(code.address("c")).value == 9
    code = LoadedCode({"weak.o": emit(weak)})
    assert function(code, "useweak", ctypes.c_int32)() == 1
    assert code.address("c") % 16 == 0
    maybe = (
        "declare extern_weak i32 @mlc_no_such()\n"
        "define i32 @have() {\n %c = icmp ne ptr @mlc_no_such, null\n %r = zext i1 %c to i32\n ret i32 %r\n}"
    )
    assert function(LoadedCode({"m.o": emit(maybe)}), "have", ctypes.c_int32)() == 0


def test_code_is_not_writable() -> None:
    code = LoadedCode({"a.o": emit(BASICS)})
    wanted = {code.address("f"): "r-xp", code.address("pointers"): "r--p", code.address("counter"): "rw-p"}
    with open("/proc/self/maps") as maps:
        ranges = [(*(int(x, 16) for x in line.split()[0].split("-")), line.split()[1]) for line in maps]
    for address, protection in wanted.items():
        assert [p for a, b, p in ranges if a <= address < b] == [protection]


def test_errors_name_the_symbol() -> None:
    with pytest.raises(ArtifactError, match=r"a\.o: mlc_missing_one, mlc_missing_two"):
        LoadedCode(
            {
                "a.o": emit(
                    "declare void @mlc_missing_two()\ndeclare void @mlc_missing_one()\ndefine void @f() {\n call void @mlc_missing_one()\n"
                    " call void @mlc_missing_two()\n ret void\n}"
                )
            }
        )
    with pytest.raises(ArtifactError, match=r"b\.o: symbol 'f' is also defined in a\.o"):
        LoadedCode({"a.o": emit("define void @f() {\n ret void\n}"), "b.o": emit("define void @f() {\n ret void\n}")})
    with pytest.raises(ArtifactError, match="no symbol 'g'"):
        LoadedCode({"a.o": emit("define void @f() {\n ret void\n}")}).address("g")
    with pytest.raises(ArtifactError, match="thread-local"):
        LoadedCode({"a.o": emit("@t = thread_local global i32 1\ndefine i32 @f() {\n %v = load i32, ptr @t\n ret i32 %v\n}")})
    with pytest.raises(ArtifactError, match="constructors"):
        LoadedCode(
            {
                "a.o": emit(
                    "@llvm.global_ctors = appending global [1 x {i32, ptr, ptr}] [{i32, ptr, ptr} {i32 0, ptr @f, ptr null}]\n"
                    "define void @f() {\n ret void\n}"
                )
            }
        )


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"MZ" + bytes(100), bytes(64)])
def test_not_an_object(data: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"x\.o"):
        LoadedCode({"x.o": data})


def test_absurd_fields() -> None:
    good = emit(BASICS)
    (shoff,) = struct.unpack_from("<Q", good, 40)
    (shnum,) = struct.unpack_from("<H", good, 60)
    for n in range(1, shnum):
        at = shoff + 64 * n
        kind, flags = struct.unpack_from("<IQ", good, at + 4)
        for field in (24, 32, 48):  # offset, size, alignment
            bad = bytearray(good)
            struct.pack_into("<Q", bad, at + field, (1 << 63) + 1)
            if flags & 2 and kind == 1:
                with pytest.raises(ArtifactError):
                    LoadedCode({"x.o": bytes(bad)})


def test_damaged_objects_never_crash() -> None:
    good = emit(BASICS)
    for cut in range(0, len(good), 97):
        with pytest.raises(MlcError):
            LoadedCode({"x.o": good[:cut]})
    for at in range(0, len(good), 5):  # loading (not running) a damaged object is an error or harmless
        bad = bytearray(good)
        bad[at] ^= 0xFF
        try:
            LoadedCode({"x.o": bytes(bad)})
        except MlcError:
            pass
