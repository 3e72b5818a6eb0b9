"""mlc compiles ONNX models to kernels: `exe = mlc.compile("model.onnx"); y = exe(x)`. Importing this imports nothing heavy."""

import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlc import errors
    from mlc.api import compile
    from mlc.jit import jit
    from mlc.load import load
    from mlc.runtime.executor import Executable
    from mlc.target import Target

__version__ = "0.1.0"
__all__ = ["Executable", "Target", "__version__", "compile", "errors", "jit", "load"]

DISTRIBUTION = "mlc-compiler"
_HOME = {"compile": "mlc.api", "jit": "mlc.jit", "load": "mlc.load", "Target": "mlc.target", "Executable": "mlc.runtime.executor"}


def __getattr__(name: str) -> Any:
    import importlib

    if name == "errors":
        return importlib.import_module("mlc.errors")
    if name not in _HOME:
        raise AttributeError(f"module 'mlc' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """`mlc.load` is the function: the import of the submodule of the same name must not take its place."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

if os.path.isdir(os.path.join(os.path.dirname(__file__), "_cython")):  # a folder that only the other distribution has
    import warnings

    warnings.warn("the distribution 'mlc-python' is installed over 'mlc-compiler': both own the import name 'mlc'. Keep one per "
                  "environment: pip uninstall mlc-python mlc-compiler, then pip install mlc-compiler", RuntimeWarning, stacklevel=2)
