"""Names of the ONNX nodes that a location stands for."""

from mlc.ir.mlir import ir


def node_names(location: ir.Location) -> list[str]:
    """The `NameLoc` names inside a location, without repeats, in order."""
    found: dict[str, None] = {}

    def visit(loc: ir.Location) -> None:
        loc = ir.Location.from_attr(loc.attr)
        if isinstance(loc, ir.NameLoc):
            found.setdefault(loc.name_str)
        elif isinstance(loc, ir.FusedLoc):
            for inner in loc.locations:
                visit(inner)

    visit(location)
    return list(found)
