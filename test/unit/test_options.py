"""Options and their text forms: what is accepted, and what the refusals say."""

from pathlib import Path

import numpy as np
import pytest

from mlc.errors import OptionError
from mlc.options import CompileOptions, GivenShape, env, format_size, given_shape, parse_shape, parse_size, parse_value
from mlc.target import Target


@pytest.mark.parametrize(("text", "expected"), [("x=1x3x224x224", ("x", (1, 3, 224, 224))), ("a=b=2,3", ("a=b", (2, 3))), ("s=", ("s", ())),
                                                ("z=0x4", ("z", (0, 4))), ("s=2x3,4x3", ("s", [(2, 3), (4, 3)])), ("o=none", ("o", None))])
def test_shape(text: str, expected: tuple[str, GivenShape]) -> None:
    assert parse_shape(text) == expected


@pytest.mark.parametrize("text", ["x", "=1x2", "x=1x", "x=-1x2", "x=1.5", "x=axb", "x=1xx2"])
def test_bad_shape(text: str) -> None:
    with pytest.raises(OptionError, match="expected NAME=DIMxDIM"):
        parse_shape(text)


@pytest.mark.parametrize(("given", "expected"), [
    ((2, 3), (2, 3)), ([np.int64(2), 3], (2, 3)), (5, 5), (np.int32(5), 5), (None, None), ((), ()), ([], []),
    ([(2, 3), [4, 3]], [(2, 3), (4, 3)]),
])
def test_a_given_shape(given: object, expected: GivenShape) -> None:
    assert given_shape("x", given) == expected


@pytest.mark.parametrize("given", ["2x3", 2.5, (2.5, 3), [(2, "a")], {2: 3}])
def test_no_shape(given: object) -> None:
    with pytest.raises(OptionError, match=r"the shape of input 'x' is .*, expected integers\n.*such as \(1, 128\)"):
        given_shape("x", given)


@pytest.mark.parametrize(("text", "expected"), [
    ("n=2,3", np.array([2, 3])), ("n=5", np.array(5)), ("n=5,", np.array([5])), ("n=[1,-2]", np.array([1, -2])),
    ("f=0.5,1", np.array([0.5, 1.0])),
    ("b=true,false", np.array([True, False])), ("i=9223372036854775807", np.array(2**63 - 1)),
])
def test_value(text: str, expected: np.ndarray) -> None:
    name, value = parse_value(text)
    assert name == text[0]
    assert value.dtype == expected.dtype
    assert value.shape == expected.shape
    assert (value == expected).all()


def test_value_from_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.arange(3))
    assert parse_value(f"v=@{tmp_path}/v.npy")[1].tolist() == [0, 1, 2]


@pytest.mark.parametrize("text", ["x", "x=", "x=1,two", "x=99999999999999999999", "x=@/no/such/file.npy"])
def test_bad_value(text: str) -> None:
    with pytest.raises(OptionError, match="--value"):
        parse_value(text)


def test_pickles_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(OptionError, match=r"not a readable \.npy"):
        parse_value(f"v=@{tmp_path}/v.npy")


@pytest.mark.parametrize(("text", "size"), [("512", 512), ("1k", 1024), ("1.5 GiB", 3 << 29), ("2MB", 2 << 20)])
def test_size(text: str, size: int) -> None:
    assert parse_size(text, "--flag") == size


def test_bad_size_names_the_flag() -> None:
    with pytest.raises(OptionError, match="--max-memory: 'lots' is not a size"):
        parse_size("lots", "--max-memory")


def test_format_size() -> None:
    assert [format_size(n) for n in (0, 1023, 1536, 5 << 30)] == ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]


def test_options_check_themselves() -> None:
    target = Target.parse("cpu:x86-64-v3")
    with pytest.raises(OptionError, match="opt_level is 7"):
        CompileOptions(target, opt_level=7)
    with pytest.raises(OptionError, match="shape of input 'x'"):
        CompileOptions(target, shapes={"x": (1, -1)})


def test_only_listed_variables_are_read() -> None:
    with pytest.raises(KeyError):
        env("HOME")
