"""Where a name is looked up: the graph, the graphs around it, and no further than the function they belong to."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnx import AttributeProto

from mlc.errors import CompilerError
from mlc.frontend.onnx.values import Value


@dataclass
class Scope:
    """The names of one graph or function body. arguments: the attributes of the function call being inlined."""

    opsets: Mapping[str, int]
    arguments: Mapping[str, AttributeProto] = field(default_factory=dict)
    prefix: str = ""  # of node names in messages and locations: the path of calls
    parent: "Scope | None" = None
    depth: int = 0
    names: "dict[str, Value | None]" = field(default_factory=dict)

    def child(self) -> "Scope":
        """The scope of a graph nested in this one."""
        return Scope(self.opsets, self.arguments, self.prefix, self, self.depth + 1)

    def body(self, opsets: Mapping[str, int], arguments: Mapping[str, AttributeProto], call: str) -> "Scope":
        """The scope of a function body called from this one: it sees none of the caller's names."""
        return Scope(opsets, arguments, f"{self.prefix}{call}/", None, self.depth + 1)

    def __getitem__(self, name: str) -> Value | None:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.parent
        raise CompilerError(f"the name {name!r} was not checked before import")

    def __setitem__(self, name: str, value: Value | None) -> None:
        self.names[name] = value
