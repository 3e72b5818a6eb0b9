"""What a compile is asked for (`CompileOptions`), and the one table of the environment variables that mlc reads."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, cast

from mlc.errors import OptionError

if TYPE_CHECKING:
    import numpy as np

    from mlc.target import Target

OPT_LEVELS = (0, 1, 2, 3)
Shape = tuple[int, ...]
GivenShape = Shape | list[Shape] | int | None  # of a tensor, of a sequence's items, a symbolic dimension's size, no value of an optional

ENVIRONMENT: dict[str, str] = {
    "MLC_CACHE_DIR": "where compiled models are kept; default: the platform's cache directory for mlc",
    "MLC_CACHE_SIZE": "size at which the least recently used entries are dropped, e.g. 5GiB; 0 turns the cache off; default 10GiB",
    "MLC_DEBUG_SYNC": "any value: the GPU runtime waits for each kernel, and an error names the one at fault",
    "MLC_NUM_THREADS": "threads of the CPU runtime; default: the cores this process may use",
    "NO_COLOR": "any value: no colours, and progress as plain lines",
}


def env(name: str) -> str | None:
    """The value of an environment variable of the table, None if unset or empty."""
    if name not in ENVIRONMENT:
        raise KeyError(f"{name} is not in mlc.options.ENVIRONMENT")
    return os.environ.get(name) or None


@dataclass(frozen=True, eq=False)
class CompileOptions:
    """Everything but the model that decides a compile.

    also: further architectures of the target's kind that the artifact shall hold code for.
    shapes: static shapes of inputs whose shape the model leaves open; for a sequence a list of shapes, None for an empty optional; or
    sizes of symbolic dimensions, by their names.
    values: arrays (or a list, or None, in the same way) of inputs whose *value* fixes shapes.
    dump_dir: gets the IR of every level. timing: the driver records the time of every pass. allow_tf32: products of f32 may be computed in
    tf32 (10 bits of fraction, sums in f32); a permission, without effect on targets that do not have it.
    """

    target: "Target"
    shapes: Mapping[str, GivenShape] = field(default_factory=dict[str, GivenShape])
    values: "Mapping[str, np.ndarray | list[np.ndarray] | None]" = field(default_factory=dict[str, "np.ndarray | list[np.ndarray] | None"])
    dump_dir: Path | None = None
    timing: bool = False
    opt_level: int = 3
    also: "tuple[Target, ...]" = ()
    allow_tf32: bool = False

    @property
    def machine(self) -> "Target":
        """The target with what the options allow it to do."""
        return self.target.allowing_tf32() if self.allow_tf32 else self.target

    @property
    def targets(self) -> "tuple[Target, ...]":
        """All architectures."""
        return self.target, *self.also

    def __post_init__(self) -> None:
        if self.opt_level not in OPT_LEVELS:
            raise OptionError(f"opt_level is {self.opt_level!r}, expected one of {', '.join(map(str, OPT_LEVELS))}")
        for name, shape in self.shapes.items():
            sizes = shape if isinstance(shape, tuple) else [shape] if isinstance(shape, int) else [n for one in shape or () for n in one]
            if given_shape(name, shape) != shape or any(n < 0 for n in sizes):
                raise OptionError(f"the shape of input {name!r} is {shape}, expected non-negative integers")


def given_shape(name: str, given: object) -> GivenShape:
    """What somebody gave as the shape of an input: numbers become int, what holds them tuples, and lists of those. Raises OptionError."""
    try:
        if given is None:
            return None
        if isinstance(given, SupportsIndex):
            return index(given)
        if not isinstance(given, Sequence) or isinstance(given, str):
            raise TypeError
        items = cast("Sequence[Any]", given)
        if all(isinstance(item, SupportsIndex) for item in items) and (items or isinstance(items, tuple)):
            return tuple(map(index, items))
        return [tuple(map(index, item)) for item in items]
    except TypeError:
        raise OptionError(f"the shape of input {name!r} is {given!r}, expected integers", hint="such as (1, 128); for a sequence a list of "
                          "shapes, for a symbolic dimension its size, for an empty optional None") from None


def parse_shape(text: str) -> tuple[str, GivenShape]:
    """`x=1x3x224x224` as a name and a shape; `x=` is a scalar, `s=2x3,4x3` a sequence's items, `o=none` an empty optional."""
    name, sep, dims = text.rpartition("=")
    if not sep or not name or not re.fullmatch(r"(\d+([x,]\d+)*)?|none", dims):
        raise OptionError(f"--shape {text!r}: expected NAME=DIMxDIM..., for example --shape input=1x3x224x224",
                          hint="a sequence: NAME=2x3,4x3; a symbolic dimension: NAME=SIZE; an empty optional: NAME=none")
    if dims == "none":
        return name, None
    if "x" in dims and "," in dims:
        return name, [tuple(map(int, item.split("x"))) for item in dims.split(",")]
    return name, tuple(int(d) for d in re.split("[x,]", dims) if d)


def parse_value(text: str) -> "tuple[str, np.ndarray]":
    """`n=2,3` (a list), `n=5` (a scalar) or `n=@file.npy` as a name and an array; numbers become int64, float64 or bool."""
    import numpy as np

    name, sep, value = text.partition("=")
    if not sep or not name or not value:
        raise OptionError(f"--value {text!r}: expected NAME=NUMBER,NUMBER... or NAME=@file.npy, for example --value size=2,3")
    if value.startswith("@"):
        return name, load_npy(Path(value[1:]), f"--value {name}")
    words = [w.strip() for w in value.removesuffix(",").strip("[]").split(",")]
    try:
        if all(w in ("true", "false") for w in words):
            array = np.array([w == "true" for w in words])
        elif all(re.fullmatch(r"[+-]?\d+", w) for w in words):
            array = np.array([int(w) for w in words], np.int64)
        else:
            array = np.array([float(w) for w in words], np.float64)
    except (ValueError, OverflowError) as error:
        raise OptionError(f"--value {text!r}: {error}", hint="write numbers separated by commas, or @file.npy") from error
    return name, array if "," in value or value.startswith("[") else array.reshape(())


def load_npy(path: Path, flag: str) -> "np.ndarray":
    """One array of a .npy file; pickled objects are refused. flag: who asks, for the error text."""
    import numpy as np

    try:
        with path.open("rb") as file:
            start = file.read(6)
        if not start.startswith((b"\x93NUMPY", b"PK")):  # numpy would take it for a pickle, and say how to load that
            raise OptionError(f"{flag}: {str(path)!r} is {'no' if start else 'empty, expected a'} .npy file", hint="numpy.save makes one")
        array: np.ndarray | np.lib.npyio.NpzFile = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise OptionError(f"{flag}: there is no file {str(path)!r}") from error
    except (OSError, ValueError, EOFError) as error:
        raise OptionError(f"{flag}: {str(path)!r} is not a readable .npy file: {error}") from error
    if isinstance(array, np.lib.npyio.NpzFile):
        array.close()
        raise OptionError(f"{flag}: {str(path)!r} is an .npz archive, expected one array in a .npy file")
    return array


SIZE_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_size(text: str, flag: str) -> int:
    """`512M`, `5GiB`, `1.5g` as bytes (units are powers of 1024)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?", text.strip().lower())
    if not match:
        raise OptionError(f"{flag}: {text!r} is not a size", hint="for example 512M or 5GiB")
    return int(float(match[1]) * SIZE_UNITS[match[2]])


def format_size(count: float) -> str:
    """Bytes for people: `97.5 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
