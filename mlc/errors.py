"""Errors a user can meet: each names the file, node or flag, what was found, what was expected, and a hint."""


class ValueHint(str):
    """A hint to fix the value of a graph input at compile time. inputs: those whose values together decide what is missing."""

    __slots__ = ("inputs",)

    def __new__(cls, text: str, inputs: tuple[str, ...]) -> "ValueHint":
        self = super().__new__(cls, text)
        self.inputs = inputs
        return self


class MlcError(Exception):
    """Base of all errors that mlc raises on purpose.

    node: `'name' (domain::Op, opset N)` of the ONNX node to blame, if any. hint: what the user can do.
    exit_code: of the command line tool (1: the user's to fix, 70: ours).
    """

    exit_code = 1

    def __init__(self, message: str, *, node: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message, self.node, self.hint = message, node, hint

    def __str__(self) -> str:
        text = self.message if self.node is None else f"node {self.node}: {self.message}"
        return text if self.hint is None else f"{text}\n  hint: {self.hint}"


class ModelError(MlcError):
    """The ONNX file is damaged or breaks the ONNX rules."""


class UnsupportedError(MlcError):
    """A valid model asks for something mlc does not do: names every such node."""


class ShapeError(MlcError):
    """A shape is unknown, contradictory, or depends on data."""


class InputError(MlcError):
    """A run-time input has the wrong name, dtype, shape or value."""


class TargetError(MlcError):
    """The target is unknown, or the machine lacks it."""


class ArtifactError(MlcError):
    """An .mlc file is damaged, of another schema, or made for another machine."""


class OptionError(MlcError):
    """A flag or option has a bad value."""


class ResourceError(MlcError):
    """Out of memory, time or disk, or an output that cannot be written."""


class PassError(MlcError):
    """A pass pipeline is malformed or a pass refused its input."""


class CompilerError(MlcError):
    """mlc itself failed: a bug. Carries the path of a reproducer where there is one."""

    exit_code = 70
