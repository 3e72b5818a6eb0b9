"""Executable: what it accepts, what it refuses and in which words; the backend here is a few lines of numpy."""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from mlc.artifact import Artifact
from mlc.dtypes import ALL
from mlc.errors import ArtifactError, InputError, OptionError
from mlc.runtime.executor import Executable
from mlc.runtime.tensors import TensorSpec, as_tensor, random_tensor


class Fake:
    def __init__(self, f: Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], None]) -> None:
        self.f = f

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        assert all(a.flags.c_contiguous and a.flags.aligned and a.dtype.isnative for a in (*inputs, *outputs))
        self.f(inputs, outputs)


def make(inputs: list[dict[str, Any]], outputs: list[dict[str, Any]], f: Callable[..., None], **more: Any) -> Executable:
    plan = {"target": "cpu", "inputs": inputs, "outputs": outputs, **more}
    return Executable(Artifact.build(plan=plan, objects={}), Fake(f))


def entry(name: str, dtype: str, *shape: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": list(shape), **more}


def add(i: Sequence[np.ndarray], o: Sequence[np.ndarray]) -> None:
    o[0][...] = i[0] + i[1]


@pytest.fixture
def adder() -> Executable:
    return make([entry("a", "f32", 2, 3), entry("b", "f32", 3)], [entry("sum", "f32", 2, 3)], add)


A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(3, np.float32)


def test_calls(adder: Executable) -> None:
    for out in (adder(A, B), adder(A, b=B), adder(b=B, a=A), [adder.run({"a": A, "b": B})["sum"]]):
        np.testing.assert_array_equal(out[0], A + B)
    assert out[0].__array_interface__["data"][0] % 64 == 0
    assert np.array_equal(np.from_dlpack(out[0]), A + B)
    assert [str(s) for s in adder.inputs] == ["a: f32[2,3]", "b: f32[3]"]
    assert adder.outputs[0].shape == (2, 3)
    assert repr(adder) == "<mlc.Executable cpu (a: f32[2,3], b: f32[3]) -> (sum: f32[2,3])>"
    assert adder.plan["target"] == adder.target == "cpu"


def test_layouts(adder: Executable) -> None:
    packed = np.zeros(25, np.uint8)
    odd = packed[1:].view(np.float32).reshape(2, 3)
    odd[...] = A
    read_only = A.copy()
    read_only.flags.writeable = False
    for a in (np.asfortranarray(A), A.astype(">f4"), np.repeat(A, 2, 1)[:, ::2], odd, read_only, A[::-1][::-1], np.ma.masked_array(A)):
        np.testing.assert_array_equal(adder(a, B)[0], A + B)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: e(A), "input 'b' is missing"),
        (lambda e: e(A, B, B), "found 3 positional inputs, expected at most 2"),
        (lambda e: e(A, a=A), "'a' is given by position and by name"),
        (lambda e: e(A, c=B), "input 'c' that the model does not have"),
        (lambda e: e(A.astype(np.float64), B), r"input 'a': found f64\[2, 3\], expected f32\[2, 3\] \(numpy.float32\)"),
        (lambda e: e(A.T, B), r"input 'a': found f32\[3, 2\], expected f32\[2, 3\]\n"),
        (lambda e: e(A, np.float64(1)), r"input 'b': found f64\[\], expected f32\[3\]"),
        (lambda e: e(A, ["x", "y", "z"]), "input 'b': found <U1"),
        (lambda e: e(A, [[1.0], [1.0, 2.0]]), "input 'b': found a list that is not a tensor"),
        (lambda e: e(A, [True, False, True]), "input 'b': found Python bool"),
        (lambda e: e(A, object()), r"input 'b': found builtins.object, expected a host tensor f32\[3\]"),
        (lambda e: e(A, None), "input 'b': found None, expected a tensor"),
        (lambda e: e(A, np.array([1, None, 2])), r"input 'b': found object\[3\]"),
    ],
)
def test_refusals(adder: Executable, call: Callable[[Executable], Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as e:
        call(adder)
    assert "the model's inputs are a: f32[2,3], b: f32[3]" in str(e.value)


@pytest.mark.parametrize(
    ("dtype", "value", "ok"),
    [
        ("f32", 2.5, True),
        ("f32", 3, True),
        ("f32", True, False),
        ("i64", 3, True),
        ("i64", 3.0, False),
        ("i64", True, False),
        ("ui8", 255, True),
        ("ui8", 256, False),
        ("i8", -129, False),
        ("i1", True, True),
        ("i1", 1, False),
        ("bf16", 1.5, True),
        ("i4", -8, True),
        ("i4", 8, False),
        ("ui64", 2**63, True),
        ("ui64", 2**64, False),
        ("f8E4M3FN", 0.5, True),
        ("f16", np.float16(1), True),
        ("f16", np.float32(1), False),
        ("f64", np.float64(1), True),
    ],
)
def test_python_scalars(dtype: str, value: Any, ok: bool) -> None:
    spec = TensorSpec.parse(entry("x", dtype), "here")
    if ok:
        assert as_tensor(value, spec).item() == value
        assert as_tensor(value, spec).dtype == spec.dtype.numpy
    else:
        with pytest.raises(InputError, match="input 'x'"):
            as_tensor(value, spec)


def test_lists() -> None:
    spec = TensorSpec.parse(entry("x", "f32", 2, 2), "here")
    assert as_tensor([[1, 2.5], (3, 4)], spec).tolist() == [[1, 2.5], [3, 4]]
    assert as_tensor([np.ones(2, np.float32)] * 2, spec).shape == (2, 2)
    with pytest.raises(InputError, match=r"found f64\[2, 2\]"):
        as_tensor([np.ones(2)] * 2, spec)
    assert as_tensor([], TensorSpec.parse(entry("x", "i4", 0), "here")).dtype == ml_dtypes.int4


@pytest.mark.parametrize("dtype", [t.name for t in ALL])
def test_every_dtype(dtype: str) -> None:
    def copy(i: Sequence[np.ndarray], o: Sequence[np.ndarray]) -> None:
        o[0][...] = i[0]

    exe = make([entry("x", dtype, 3, 4)], [entry("y", dtype, 3, 4)], copy)
    x = exe.random_inputs(1)["x"]
    assert x.dtype == exe.inputs[0].dtype.numpy
    assert x.tobytes() == exe.random_inputs(1)["x"].tobytes() == exe(x)[0].tobytes()
    empty = make([entry("x", dtype, 0, 4)], [entry("y", dtype, 0, 4)], copy)
    assert empty(np.empty((0, 4), x.dtype))[0].shape == (0, 4)
    assert make([entry("x", dtype)], [entry("y", dtype)], copy)(x[0, 0])[0].shape == ()


class Exporter:
    """What another framework's tensor looks like: DLPack only; `code` and `bits` overwrite numpy's element type."""

    def __init__(self, array: np.ndarray, code: int | None = None, device: int = 1) -> None:
        self.array, self.code, self.device = array, code, device

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0

    def __dlpack__(self, **_: Any) -> Any:
        capsule = self.array.__dlpack__()
        if self.code is not None:
            get = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
            ctypes.c_uint8.from_address(get(capsule, b"dltensor") + 20).value = self.code
        return capsule


class ArrayLike:
    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return A


def test_foreign_tensors(adder: Executable) -> None:
    np.testing.assert_array_equal(adder(Exporter(A), B)[0], A + B)
    np.testing.assert_array_equal(adder(ArrayLike(), B)[0], A + B)
    with pytest.raises(
        InputError, match=r"Exporter on a CUDA device, expected a host tensor f32\[2, 3\]\n  hint: move it to the host first; the model's"
    ):
        adder(Exporter(A, device=2), B)
    with pytest.raises(InputError, match="does not export through DLPack"):
        adder(Exporter(A, code=9), B)
    for dtype, code, bits in (
        (ml_dtypes.bfloat16, 4, np.int16),
        (ml_dtypes.float8_e4m3fn, 10, np.int8),
        (ml_dtypes.float8_e5m2, 12, np.int8),
    ):
        values = np.arange(12).reshape(3, 4).astype(dtype)
        for view in (values, values.T, values[::-1, ::2], values[:0]):
            spec = TensorSpec.parse(
                entry("x", {2: "bf16"}.get(values.itemsize) or {10: "f8E4M3FN", 12: "f8E5M2"}[code], *view.shape), "here"
            )
            got = as_tensor(Exporter(view.view(bits), code), spec)
            assert got.dtype == dtype
            assert got.tobytes() == view.tobytes()


def test_fixed_inputs() -> None:
    def check(i: Sequence[np.ndarray], o: Sequence[np.ndarray]) -> None:
        assert len(i) == 1
        o[0][...] = i[0].reshape(3, 2)

    exe = make([entry("shape", "i64", 2, value=[3, 2]), entry("x", "f32", 6)], [entry("y", "f32", 3, 2)], check)
    x = np.arange(6, dtype=np.float32)
    for out in (exe(x), exe(x=x), exe(np.array([3, 2]), x), exe([3, 2], x), exe(x, shape=[3, 2]), exe(**exe.random_inputs())):
        assert out[0].shape == (3, 2)
    with pytest.raises(InputError, match=r"input 'shape': its value was fixed at compile time to \[3, 2\], found \[2, 3\]\n") as e:
        exe(x, shape=[2, 3])
    assert "hint: leave it out" in str(e.value)
    assert "shape: i64[2] (may be left out)" in str(e.value)
    with pytest.raises(InputError, match="'shape': found i32"):
        exe(x, shape=np.array([3, 2], np.int32))
    nan = make([entry("v", "f32", 1, value=[float("nan")])], [], lambda i, o: None)
    assert nan(v=np.array([np.nan], np.float32)) == []


def test_sequences_and_optionals() -> None:
    def pairs(i: Sequence[np.ndarray], o: Sequence[np.ndarray]) -> None:
        for source, to in zip(i, o, strict=True):
            to[...] = -source

    tensors = [entry("s0", "f32", 2), entry("s1", "f32", 3), entry("o", "f32", 1)]
    signature = {
        "inputs": [
            {"name": "s", "kind": "sequence", "items": ["s0", "s1"]},
            {"name": "opt", "kind": "optional", "items": ["o"]},
            {"name": "none", "kind": "optional", "items": []},
        ],
        "outputs": [
            {"name": "none", "kind": "optional", "items": []},
            {"name": "opt", "kind": "optional", "items": ["o"]},
            {"name": "s", "kind": "sequence", "items": ["s0", "s1"]},
        ],
    }
    exe = make(tensors, tensors, pairs, signature=signature)
    s, one = [np.ones(2, np.float32), np.ones(3, np.float32)], np.ones(1, np.float32)
    for out in (exe(s, one), exe(s, one, None), exe(s=s, opt=one)):
        assert out[0] is None
        assert out[1].tolist() == [-1]
        assert [x.tolist() for x in out[2]] == [[-1] * 2, [-1] * 3]
    assert list(exe.run(exe.random_inputs())) == ["none", "opt", "s"]
    for call, message in (
        (lambda: exe(s[:1], one), "sequence of 1 tensors, expected 2"),
        (lambda: exe(one, one), "found ndarray, expected a list of 2"),
        (lambda: exe(s, None), "'opt': found None, expected a tensor"),
        (lambda: exe(s, one, one), "'none': found a tensor, expected None"),
        (lambda: exe(s[::-1], one), r"'s0': found f32\[3\]"),
        (lambda: exe(opt=one), r"'s' is missing\n.*s: sequence\(s0: f32\[2\]"),
    ):
        with pytest.raises(InputError, match=message):
            call()
    for bad in (
        [],
        [{"name": "s", "kind": "map", "items": []}],
        [{"name": "s", "kind": "tensor", "items": ["s0", "s1"]}],
        [{"name": "s", "kind": "sequence", "items": ["q"]}],
        [{"name": "s", "kind": "sequence", "items": ["s0", "s0", "s1", "o"]}],
    ):
        with pytest.raises(ArtifactError, match="signature"):
            make(tensors, tensors, pairs, signature={"inputs": bad})


def test_names_that_are_not_identifiers() -> None:
    exe = make([entry("in/0:0", "f32"), entry("self", "f32")], [entry("sum", "f32")], add)
    assert exe.run({"in/0:0": 1.0, "self": 2.0})["sum"] == 3
    assert exe(1.0, **{"self": 2.0})[0] == 3


def test_bench(adder: Executable) -> None:
    for inputs in (None, [A, B], {"a": A, "b": B}):
        result = adder.bench(inputs, repeat=20, warmup=1)
        assert 0 < result.min <= result.p10 <= result.median <= result.p90 <= result.max < 1000
        assert result.repeat == 20
        assert "median" in str(result)
    with pytest.raises(OptionError):
        adder.bench(repeat=0)


def test_random_tensors_are_legal() -> None:
    rng = np.random.default_rng(0)
    for t in ALL:
        x = random_tensor(TensorSpec("x", t, (1000,)), rng)
        if t.kind in "iu" and t.bits > 8:
            assert set(x.tolist()) == {0, 1}
        elif t.name != "f8E8M0FNU":
            assert np.isfinite(x.astype(np.float64)).all()
            assert len(set(x.astype(np.float64).tolist())) > 1
