"""Which weights a plan reads: task.weight and task.constant get a place in one array, in the order of their first use."""

from dataclasses import dataclass, field

from mlc.ir.mlir import ir


@dataclass
class WeightTable:
    """keys: of the array's weights, in order. constants: those among them that are dense attributes of the IR, not of the WeightStore."""

    keys: list[str] = field(default_factory=list)
    constants: dict[str, ir.Attribute] = field(default_factory=dict)

    def index(self, op: ir.Operation) -> int:
        """The place of a task.weight or task.constant."""
        if op.name == "task.constant":
            key = f"constant.{len(self.constants)}"
            self.constants[key] = op.attributes["value"]
        else:
            key = op.attributes["key"].value
        if key not in self.keys:
            self.keys.append(key)
        return self.keys.index(key)


__all__ = ["WeightTable"]
