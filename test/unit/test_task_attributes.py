"""Task mappings as attributes: set from Python, kept by text and bytecode, read back as the same mapping."""

from io import BytesIO

import pytest

from mlc.dialects import task
from mlc.dialects._ext import to_attr, to_py, verify
from mlc.errors import OptionError
from mlc.ir.context import make_context
from mlc.ir.mlir import ir
from mlc.layout.mapping import TaskMap, repeat, spatial

MAP = repeat(2, 1) * spatial(32, 1) * repeat(1, 4)


def _foreach(map_: TaskMap | None) -> ir.Module:
    module = ir.Module.create()
    with ir.InsertionPoint(module.body):
        op = task.ForeachOp.build([], [], {"extents": [64], "map": map_}).operation
    with ir.InsertionPoint(op.regions[0].blocks.append(ir.IndexType.get())):
        task.YieldOp.build([], [])
    return module


def _map_of(module: ir.Module) -> TaskMap | None:
    return module.body.operations[0].operation.opview.map


def test_mapping_survives_text_and_bytecode() -> None:
    with make_context(), ir.Location.unknown():
        module = _foreach(MAP)
        assert verify(module) == []
        assert _map_of(module) == MAP
        assert _map_of(ir.Module.parse(str(module))) == MAP
        code = BytesIO()
        module.operation.write_bytecode(code)
        read = ir.Module.parse(code.getvalue())
        assert str(read) == str(module)
        assert _map_of(read) == MAP


def test_no_mapping_is_no_attribute() -> None:
    with make_context(), ir.Location.unknown():
        module = _foreach(None)
        assert _map_of(module) is None
        assert "map" not in module.body.operations[0].operation.attributes


def test_attribute_is_the_parsed_text() -> None:
    with make_context(), ir.Location.unknown():
        assert to_attr(MAP) == ir.Attribute.parse(f"#task.map<{MAP}>")
        assert to_py(ir.Attribute.parse("[#task.map<repeat( 2,1 )*spatial(32,1)*repeat(1,4)>]")) == [MAP]
        with pytest.raises(OptionError, match="position 1"):
            to_py(ir.Attribute.parse("#task.map<64>"))
