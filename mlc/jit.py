"""`mlc.jit(model)`: a callable that compiles when it first meets input shapes, and learns which inputs' values must be compiled in."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mlc.errors import InputError, MlcError, ShapeError, ValueHint
from mlc.options import CompileOptions
from mlc.runtime.device_array import type_on_device
from mlc.runtime.tensors import host_array
from mlc.target import Target

if TYPE_CHECKING:
    from mlc.frontend.onnx.load import ModelSource
    from mlc.runtime.executor import Executable


def jit(model: "ModelSource", target: str | Target = "cpu", *, opt_level: int = 3, allow_tf32: bool = False,
        threads: int | None = None, cache: bool = True) -> "Jit":
    """A callable that compiles `model` for the shapes it is called with. Nothing is compiled before the first call.

    It takes and gives what an Executable does: `f(x)` numpy arrays, `f.run({"x": x}, device=True)` arrays that stay in GPU memory.
    model: a path, bytes or an onnx.ModelProto. allow_tf32: as for `mlc.compile`. cache: use the compile cache on disk as well.
    """
    asked = CompileOptions(Target.parse(target) if isinstance(target, str) else target, opt_level=opt_level, allow_tf32=allow_tf32)
    return Jit(model, asked, threads, cache)


class Jit:
    """One Executable per signature: shapes and element types of all inputs, and the values of those in `fixed`.

    fixed: inputs whose values decide a shape (Reshape's shape, the length of a Range). It grows as compiling asks for them.
    """

    def __init__(self, model: "ModelSource", asked: CompileOptions, threads: int | None, cache: bool) -> None:
        from mlc.frontend.onnx.load import load_model

        self._model = load_model(model)
        self._asked, self._threads, self._cache = asked, threads, cache
        self._made: dict[tuple[object, ...], Executable] = {}
        graph = self._model.proto.graph
        defaults = {*self._model.weights, *self._model.skipped}
        self.inputs = [i.name for i in graph.input if i.name not in defaults]
        self.outputs = [o.name for o in graph.output]
        self._overridable = [i.name for i in graph.input if i.name in defaults]
        self.fixed: set[str] = set()

    def __call__(self, /, *arrays: Any, **named: Any) -> list[Any]:
        """Runs the model on tensors (lists for sequences, None for an empty optional), in order or by name; returns the outputs in order.

        A tensor is what `Executable` takes: on a GPU target also one in that GPU's memory, unless its value decides a shape.
        """
        if len(arrays) > len(self.inputs):
            raise InputError(f"found {len(arrays)} positional inputs, expected at most {len(self.inputs)}: {', '.join(self.inputs)}")
        values = dict(zip(self.inputs, arrays, strict=False))
        both = values.keys() & named.keys()
        if both:
            raise InputError(f"input {sorted(both)[0]!r} is given by position and by name")
        return list(self.run({**values, **named}).values())

    def run(self, inputs: Mapping[str, Any], *, device: bool = False) -> dict[str, Any]:
        """Runs the model by name. device: outputs stay in GPU memory, as `Executable.run` has them."""
        for name in inputs:
            if name not in self.inputs and name not in self._overridable:
                raise InputError(f"the model has no input {name!r}; it has {', '.join(self.inputs) or 'none'}")
        for name in self.inputs:
            if name not in inputs:
                raise InputError(f"input {name!r} is missing")
        values = {name: self._value(name, value) for name, value in inputs.items()}
        executable, fixed = self.executable(values)
        return executable.run({name: _passed(value) for name, value in values.items() if name not in fixed}, device=device)

    def _value(self, name: str, value: Any) -> Any:
        """What an input is: arrays, or their stand-ins where they are in GPU memory."""
        if value is None or isinstance(value, np.ndarray | _OnDevice):
            return value
        if isinstance(value, list | tuple):
            return [self._value(name, item) for item in value]
        if isinstance(value, bool | int | float):
            return np.asarray(value)
        found = type_on_device(value, name) if self._asked.target.kind != "cpu" else None
        return host_array(value, name) if found is None else _OnDevice(value, found[0].numpy, found[1])

    def executable(self, inputs: Mapping[str, Any]) -> "tuple[Executable, frozenset[str]]":
        """What serves these inputs, compiled if need be; and the inputs whose values are part of it."""
        values = {name: self._value(name, value) for name, value in inputs.items()}
        # A default in the model that a call replaces is no longer a constant of the model, but may decide shapes like one.
        always = {name for name in self._overridable if name in values}
        while True:
            fixed = frozenset((self.fixed | always) & values.keys())
            for name in fixed:
                _check_known(name, values[name])
            key = tuple((name, _signature(value, name in fixed)) for name, value in sorted(values.items()))
            made = self._made.get(key)
            if made is None:
                try:
                    made = self._made[key] = self._compile(values, fixed)
                except ShapeError as error:
                    wanted = self._wanted(error, values) - fixed
                    if not wanted:
                        raise
                    self.fixed |= wanted
                    continue
            return made, fixed

    def _wanted(self, error: MlcError, values: Mapping[str, Any]) -> set[str]:
        """The inputs that the error asks to fix. An item of a sequence is called `name.0`."""
        names: tuple[str, ...] = error.hint.inputs if isinstance(error.hint, ValueHint) else ()
        known = {name if name in values else name.rpartition(".")[0] for name in names}
        return {name for name in known if name in values}

    def _compile(self, values: Mapping[str, Any], fixed: frozenset[str]) -> "Executable":
        from mlc.api import build_to_run

        options = replace(self._asked, shapes={name: _shapes(value) for name, value in values.items() if name not in fixed},
                          values={name: value for name, value in values.items() if name in fixed})
        return build_to_run(self._model, options, self._threads, cached=self._cache)[1]


@dataclass(frozen=True)
class _OnDevice:
    """A tensor in GPU memory, of which only the type is looked at."""

    value: object
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


def _check_known(name: str, value: Any) -> None:
    if any(isinstance(v, _OnDevice) for v in (value if isinstance(value, list) else [value])):
        raise InputError(f"input {name!r}: its value decides a shape, and it is in GPU memory", hint="pass it in host memory")


def _passed(value: Any) -> Any:
    if isinstance(value, list):
        return [_passed(item) for item in value]
    return value.value if isinstance(value, _OnDevice) else value


def _shapes(value: Any) -> Any:
    if value is None:
        return None
    return [v.shape for v in value] if isinstance(value, list) else value.shape


def _signature(value: Any, with_bytes: bool) -> object:
    if value is None:
        return None
    if isinstance(value, list):
        return tuple(_signature(v, with_bytes) for v in value)
    return (value.dtype.str, value.dtype.name, value.shape, value.tobytes() if with_bytes else b"")
