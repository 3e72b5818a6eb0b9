"""expand-math through the CPU's own lowering: every bf16 pattern, random values, specials, shapes and targets against doubles."""

import ctypes
import math
import re
from collections.abc import Callable, Sequence

import llvmlite.binding as llvm
import numpy as np
import pytest

from mlc.backends.cpu.backend import machine
from mlc.backends.cpu.lower import _KERNELS, run_upstream
from mlc.backends.llvm import optimise
from mlc.errors import PassError
from mlc.ir.context import make_context
from mlc.ir.mlir import ir
from mlc.ir.mlir import llvm as llvm_dialect
from mlc.passes.expand_math import ExpandMath
from mlc.passes.registry import PassContext
from mlc.target import Target

Call = Callable[..., np.ndarray]
HOST = "cpu"
OLD = "cpu:x86-64-v2"
TWO_OPERANDS = ("powf", "atan2", "fpowi")
# Bounds in ulp, near what was measured.
UNARY = {"exp": 1.0, "exp2": 1.0, "expm1": 1.6, "log": 1.0, "log2": 1.2, "log10": 1.1, "log1p": 1.6, "tanh": 1.5, "sinh": 1.7, "cosh": 1.4,
         "sin": 1.6, "cos": 1.6, "tan": 2.2, "asin": 1.8, "acos": 1.2, "atan": 1.9, "asinh": 1.8, "acosh": 2.0, "atanh": 2.0, "erf": 1.2,
         "erfc": 2.9, "cbrt": 0.6, "rsqrt": 1.5}
UNARY_64 = {"exp": 1.0, "exp2": 1.0, "expm1": 1.9, "log": 1.0, "log2": 1.0, "log10": 1.0, "log1p": 1.4, "tanh": 2.6, "rsqrt": 1.5,
            "sinh": 2.5, "cosh": 1.4, "sin": 1.4, "cos": 1.4, "tan": 2.4, "asin": 1.7, "acos": 1.2, "atan": 2.3, "asinh": 1.8, "acosh": 2.0,
            "atanh": 1.7, "erf": 2.0, "erfc": 4.0, "cbrt": 0.6}  # erf and erfc are compared with doubles, half an ulp wrong themselves
INVERSE = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh"}


def reference(name: str, x: np.ndarray) -> np.ndarray:
    if name in ("erf", "erfc"):
        return np.array([getattr(math, name)(v) for v in x.tolist()])
    return 1 / np.sqrt(x) if name == "rsqrt" else getattr(np, INVERSE.get(name, name))(x)


def compile_functions(names: Sequence[str], *, shape: str = "16", element: str = "f32", exponent: str = "i32", target: str = HOST,
                      ops: str = "", expanded_for: str = "", then: str = "") -> tuple[dict[str, Call], str]:
    """Per name, the function over arrays whose size is a multiple of the shape's ("" is a scalar); and the assembly.

    expanded_for: another target than the one that runs it. then: what is done with the function's result %r, as %t.
    """
    lanes = math.prod(map(int, shape.split("x"))) if shape else 1
    text = ""
    for name in names:
        types = [element, exponent if name == "fpowi" else element][:2 if name in TWO_OPERANDS else 1]
        wide = [f"vector<{shape}x{t}>" if shape else t for t in types]
        flat = [f"vector<{lanes}x{t}>" for t in types]
        loads = [f"%l{i} = vector.load %a{i}[%i] : memref<1048576x{t}>, {f}\n" for i, (t, f) in enumerate(zip(types, flat, strict=True))]
        if shape:
            loads += [f"%x{i} = vector.shape_cast %l{i} : {f} to {w}\n" for i, (f, w) in enumerate(zip(flat, wide, strict=True))]
            back = f"%s = vector.shape_cast %{'t' if then else 'r'} : {wide[0]} to {flat[0]}"
        else:
            loads += [f"%x{i} = vector.extract %l{i}[0] : {w} from {f}\n" for i, (f, w) in enumerate(zip(flat, wide, strict=True))]
            back = f"%s = vector.broadcast %r : {wide[0]} to {flat[0]}"
        operands = ", ".join(f"%x{i}" for i in range(len(types)))
        suffix = ", ".join(wide if name == "fpowi" else wide[:1])
        parameters = "".join(f", %a{i}: memref<1048576x{t}>" for i, t in enumerate(types))
        text += f"""func.func @test_{name}(%o: memref<1048576x{element}>{parameters}, %n: index) {{
          %zero = arith.constant 0 : index
          %step = arith.constant {lanes} : index
          scf.for %i = %zero to %n step %step {{
            {"".join(loads)} %r = math.{name} {operands} : {suffix}
            {then}
            {back}
            vector.store %s, %o[%i] : memref<1048576x{element}>, {flat[0]}
          }}
          return
        }}
        """
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        ExpandMath(ops).run(module, PassContext(Target.parse(expanded_for or target)))
        module.operation.verify()
        run_upstream(module, _KERNELS, "test")
        code = llvm_dialect.translate_module_to_llvmir(module.operation)
    optimised, target_machine = optimise(code, machine(Target.parse(target), 2))
    assembly = target_machine.emit_assembly(optimised)
    engine = llvm.create_mcjit_compiler(optimised, target_machine)
    engine.finalize_object()

    def caller(name: str) -> Call:
        address = engine.get_function_address(f"test_{name}")

        def call(*inputs: np.ndarray) -> np.ndarray:
            padded = [np.concatenate([a, np.ones(-a.size % lanes, a.dtype)]) for a in inputs]
            assert padded[0].size <= 1 << 20
            out = np.empty_like(padded[0])
            pointers = [a.ctypes.data for a in (out, *padded)]
            ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(pointers), ctypes.c_int64)(address)(*pointers, out.size)
            assert engine  # lives as long as its code
            return out[:inputs[0].size]

        return call

    return {name: caller(name) for name in names}, assembly


def errors(got: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Distance in ulp of got's type; infinite where NaN, infinities or the sign of zero are wrong. Overflow may come half an ulp early."""
    info = np.finfo(got.dtype)
    with np.errstate(all="ignore"):
        rounded = exact.astype(got.dtype)
        exponent = np.frexp(np.abs(exact))[1]
        ulp = np.ldexp(exact.dtype.type(1), np.maximum(exponent - info.nmant - 1, info.minexp - info.nmant))
        distance = np.abs(got.astype(exact.dtype) - exact) / ulp
        # Half an ulp too early or late at the largest number is no error of kind.
        edge = (np.isinf(got) | np.isinf(rounded)) & (np.abs(np.abs(exact) / exact.dtype.type(info.max) - 1) < 4 * info.eps)
    special = ~np.isfinite(rounded) | ~np.isfinite(got)
    same = (np.isnan(got) & np.isnan(rounded)) | (got == rounded)
    distance = np.where(special, np.where(same | edge, 0, np.inf), distance)
    return np.where((got == 0) & (rounded == 0) & (np.signbit(got) != np.signbit(exact)), np.inf, distance)


def check(name: str, got: np.ndarray, exact: np.ndarray, bound: float, *inputs: np.ndarray) -> None:
    distance = errors(got, exact)
    i = int(np.argmax(distance))
    assert distance[i] <= bound, f"{name}({', '.join(repr(v[i]) for v in inputs)}) = {got[i]!r}, not {exact[i]!r}: {distance[i]:.2f} ulp"


def hard_values(count: int, *, of: type = np.float32) -> np.ndarray:
    """Every bf16 pattern, random patterns, and values around the places where functions bend."""
    rng = np.random.default_rng(7)
    patterns = (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32)
    integer = np.uint32 if of is np.float32 else np.uint64
    bits = rng.integers(0, np.iinfo(integer).max, count, dtype=integer, endpoint=True).view(of)
    ranges = [rng.uniform(-s, s, count) for s in (1, 2, 10, 100)]
    edges = np.array([87.33, 88.72, 88.73, -87.34, -103.97, -103.98, 89.41, 89.42, 128, -126, -149, -149.5, 1, 0.5, 0.625, 2**17,
                      10.05, 10.06, 5e-45, 709.78, 709.79, -708.4, -745.13, -745.14, 1024, -1022, -1074, -1075])
    with np.errstate(over="ignore", invalid="ignore"):
        return np.concatenate([patterns.astype(of), bits, *[v.astype(of) for v in (*ranges, 1 + ranges[0] * 1e-3, edges)]])


@pytest.fixture(scope="module")
def host() -> tuple[dict[str, Call], str]:
    return compile_functions([*UNARY, *TWO_OPERANDS])


@pytest.fixture(scope="module")
def old() -> tuple[dict[str, Call], str]:
    """Without fused multiply-add."""
    return compile_functions([*UNARY, *TWO_OPERANDS], shape="4", target=OLD)


@pytest.mark.parametrize("name", UNARY)
def test_f32(host: tuple[dict[str, Call], str], name: str) -> None:
    x = hard_values(2_000 if name in ("erf", "erfc") else 20_000)
    with np.errstate(all="ignore"):
        check(name, host[0][name](x), reference(name, x.astype(np.float64)), UNARY[name], x)


@pytest.mark.parametrize("name", UNARY)
def test_f32_without_fma(old: tuple[dict[str, Call], str], name: str) -> None:
    x = hard_values(2_000 if name in ("erf", "erfc") else 5_000)
    with np.errstate(all="ignore"):
        check(name, old[0][name](x), reference(name, x.astype(np.float64)), max(UNARY[name] + 0.3, 2.0), x)


@pytest.mark.parametrize("name", ["exp", "exp2", "tanh"])
def test_f32_by_an_instruction_for_exp2(name: str) -> None:
    """What GPUs get, with the C library's 2^x in place of their instruction."""
    function = compile_functions([name], expanded_for="cuda:sm_90a")[0][name]
    x = hard_values(20_000)
    with np.errstate(all="ignore"):
        check(name, function(x), reference(name, x.astype(np.float64)), 2.0, x)


@pytest.mark.parametrize("target", [HOST, OLD, "cuda:sm_90a"])
def test_erf_beside_one(target: str) -> None:
    """A sum with 1 needs erf to an ulp of 1 only."""
    one = "%one = arith.constant dense<1.0> : vector<4xf32>\n %t = arith.addf %one, %r : vector<4xf32>"
    functions, _ = compile_functions(["erf"], shape="4", target=OLD if target == OLD else HOST, expanded_for=target, then=one)
    x = hard_values(5_000)
    with np.errstate(all="ignore"):
        exact = 1 + reference("erf", x.astype(np.float64))
        found = functions["erf"](x)
    assert np.array_equal(np.isnan(found), np.isnan(x))
    assert np.nanmax(np.abs(found - exact)) < 2.5 * 2.0**-23 and not found[x < -4].any()


SPECIAL = np.array([0.0, -0.0, 1, -1, 2, -2, 3, -3, 0.5, -0.5, 1.5, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1e-38, 3.4e38, -3.4e38,
                    1 + 2**-23, 1 - 2**-24, -1 - 2**-23, 2**24, 2**24 - 1, 1 - 2**24, 2**25, 2**23 - 0.5, -2.5, 1e-20, 149, -149, 127, 128,
                    -126], np.float32)


def pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    """Specials with specials, random patterns, and bases and exponents whose powers are all over the range."""
    rng = np.random.default_rng(11)
    a, b = (np.ascontiguousarray(g.ravel()) for g in np.meshgrid(SPECIAL, SPECIAL))
    bits = rng.integers(0, 1 << 32, (2, 20_000), dtype=np.uint64).astype(np.uint32).view(np.float32)
    n = 20_000
    powers = [(np.exp(rng.uniform(-80, 80, n)), rng.uniform(-1.5, 1.5, n)), (rng.uniform(0.5, 1.6, n), rng.uniform(-200, 200, n)),
              (1 + rng.uniform(-1e-3, 1e-3, n), rng.uniform(-1e5, 1e5, n)), (rng.uniform(-10, 10, n), rng.integers(-40, 40, n))]
    return [(a, b), (bits[0], bits[1]), *[(x.astype(np.float32), y.astype(np.float32)) for x, y in powers]]


@pytest.mark.parametrize(("name", "function", "bound"), [("powf", np.power, 1.0), ("atan2", np.arctan2, 1.7)])
def test_two_operands(host: tuple[dict[str, Call], str], old: tuple[dict[str, Call], str], name: str,
                      function: Callable[..., np.ndarray], bound: float) -> None:
    for a, b in pairs():
        with np.errstate(all="ignore"):
            exact = function(a.astype(np.float64), b.astype(np.float64))
            check(name, host[0][name](a, b), exact, bound, a, b)
            check(name, old[0][name](a, b), exact, bound + 0.3, a, b)


def test_fpowi(host: tuple[dict[str, Call], str]) -> None:
    rng = np.random.default_rng(13)
    powers = np.array([0, 1, -1, 2, -2, 3, -3, 5, -7, 100, -101, 1 << 30, (1 << 31) - 1, -(1 << 31)], np.int64)
    cases = [(np.repeat(SPECIAL, powers.size), np.tile(powers, SPECIAL.size)),
             ((1 + rng.uniform(-1e-6, 1e-6, 20_000)).astype(np.float32), rng.integers(-(1 << 31), 1 << 31, 20_000))]
    wide = compile_functions(["fpowi"], exponent="i64")[0]["fpowi"]
    narrow = compile_functions(["fpowi"], exponent="i8")[0]["fpowi"]
    double = compile_functions(["fpowi"], element="f64", shape="8")[0]["fpowi"]
    with np.errstate(all="ignore"):
        for x, n in cases:
            exact = np.power(x.astype(np.float64), n.astype(np.float64))
            check("fpowi", host[0]["fpowi"](x, n.astype(np.int32)), exact, 1.0, x, n)
            check("fpowi", wide(x, n), exact, 1.0, x, n)
            small = n.astype(np.int8)
            check("fpowi", narrow(x, small), np.power(x.astype(np.float64), small.astype(np.float64)), 1.0, x, small)
        check("fpowi", wide(SPECIAL, np.full(SPECIAL.size, 1 << 40)), np.power(SPECIAL.astype(np.float64), 2.0**40), 1.0, SPECIAL)
        x, n = rng.uniform(0.5, 2, 5_000), rng.integers(-30, 31, 5_000).astype(np.int32)
        np.testing.assert_allclose(double(x, n), np.power(x, n.astype(np.float64)), rtol=1e-14)


def near_quarter_turns() -> np.ndarray:
    """Doubles next to multiples of pi/2, among them the nearest of all, and huge ones."""
    multiples = np.arange(1, 3000, dtype=np.longdouble) * (np.longdouble(np.pi / 2) + np.longdouble(6.123233995736766e-17))
    nearest = np.ldexp(np.array([6381956970095103.0]), [797])  # 2^-62 of a turn away from one (Kahan)
    huge = np.ldexp(np.random.default_rng(19).uniform(1, 2, 2_000), np.arange(2_000) % 1000 + 20)
    return np.concatenate([multiples.astype(np.float64), nearest, huge, -huge])


@pytest.mark.parametrize("name", UNARY_64)
def test_f64(name: str) -> None:
    functions, assembly = compile_functions([name], element="f64", shape="8")
    rng = np.random.default_rng(23)
    x = np.concatenate([hard_values(10_000, of=np.float64), np.exp(rng.uniform(-700, 700, 10_000)), near_quarter_turns()])
    x = x[::7] if name in ("erf", "erfc") else x
    with np.errstate(all="ignore"):
        check(name, functions[name](x), reference(name, x.astype(np.longdouble)), UNARY_64[name], x)
    assert not calls(assembly)


def pairs_64() -> list[tuple[np.ndarray, np.ndarray]]:
    """As `pairs`, with the bends of f64."""
    rng, n = np.random.default_rng(29), 20_000
    special = np.concatenate([SPECIAL.astype(np.float64), [5e-324, 1e-308, 1.7e308, -1.7e308, 1 + 2**-52, 1 - 2**-53, -1 - 2**-52, 2.0**53,
                                                           2.0**53 - 1, 2.0**54, 1023, 1024, -1074, -1075]])
    a, b = (np.ascontiguousarray(g.ravel()) for g in np.meshgrid(special, special))
    bits = rng.integers(0, 1 << 64, (2, n), dtype=np.uint64).view(np.float64)
    return [(a, b), (bits[0], bits[1]), (np.exp(rng.uniform(-600, 600, n)), rng.uniform(-1.2, 1.2, n)),
            (1 + rng.uniform(-1e-3, 1e-3, n), rng.uniform(-7e5, 7e5, n)),
            (rng.uniform(-10, 10, n), rng.integers(-300, 300, n).astype(float)),
            (1 + rng.integers(-50, 50, n) * 2.0**-52, rng.uniform(-1, 1, n) * 2.0**60)]


@pytest.mark.parametrize(("name", "function", "bound"), [("powf", np.power, 1.0), ("atan2", np.arctan2, 1.5)])
def test_two_operands_f64(name: str, function: Callable[..., np.ndarray], bound: float) -> None:
    functions, assembly = compile_functions([name], element="f64", shape="8")
    for a, b in pairs_64():
        with np.errstate(all="ignore"):
            check(name, functions[name](a, b), function(a.astype(np.longdouble), b.astype(np.longdouble)), bound, a, b)
    assert not calls(assembly)


def calls(assembly: str) -> set[str]:
    return set(re.findall(r"\b(?:call|jmp)q?\s+\*?(\w+)@?", assembly))


@pytest.mark.parametrize("target", ["cpu:x86-64-v3", "cpu:x86-64-v4", OLD])
def test_no_calls(target: str) -> None:
    lanes = Target.parse(target).vector_bits // 32
    _, assembly = compile_functions(["exp", "tanh", "erf", "log", "powf", "sin"], shape=str(lanes), target=target)
    assert not calls(assembly)
    assert "fma" not in assembly or target != OLD


@pytest.mark.parametrize("shape", ["", "1", "3", "4x4", "2x1x3"])
def test_shapes(host: tuple[dict[str, Call], str], shape: str) -> None:
    """The same bits whatever the shape, also where only some lanes take sin's long way."""
    names = ["exp", "sin", "cos", "log", "erf"]
    functions, _ = compile_functions(names, shape=shape)
    x = np.random.default_rng(17).choice(np.array([0.1, 2.0, 1e3, 2e5, 1e30, np.inf, -7e20], np.float32), 960)
    for name in names:
        np.testing.assert_array_equal(functions[name](x).view(np.uint32), host[0][name](x).view(np.uint32))


def test_sincos() -> None:
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse("func.func @f(%x: f32) -> (f32, f32) { %s, %c = math.sincos %x : f32  return %s, %c : f32, f32 }")
        ExpandMath().run(module, PassContext())
        module.operation.verify()
        assert "math.sincos" not in str(module)


def test_unknown_op_is_refused() -> None:
    with pytest.raises(PassError, match=r"cannot expand math\.floor"):
        ExpandMath("exp,floor")
