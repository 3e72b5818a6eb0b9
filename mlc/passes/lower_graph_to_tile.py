"""lower-graph-to-tile: every graph op becomes what its `decompose` says: tile.graphs of linalg on storage types."""

from dataclasses import dataclass
from typing import ClassVar

from mlc.dialects._build import Builder, Tensor, tensor_type
from mlc.dialects.graph import GraphOp, TensorType
from mlc.errors import CompilerError
from mlc.ir.mlir import func, ir
from mlc.passes.registry import Pass, PassContext


@dataclass(frozen=True)
class LowerGraphToTile(Pass):
    """Decomposes every graph op into tile.graphs; function signatures become storage types. Scans and sorts ask for a target's threads."""

    name: ClassVar[str] = "lower-graph-to-tile"

    def run(self, module: ir.Module, ctx: PassContext) -> None:
        for op in list(module.body.operations):
            if isinstance(op, func.FuncOp):
                _Lowering(wide=ctx.target is not None and ctx.target.warp > 0).function(op)


class _Lowering:
    def __init__(self, wide: bool) -> None:
        self.builder = Builder(wide)
        self.values: dict[ir.Value, Tensor] = {}

    def function(self, function: func.FuncOp) -> None:
        block = function.regions[0].blocks[0]
        for argument in block.arguments:
            self.retype(argument)
        self.block(block)
        outs = [v.type for v in block.operations[len(block.operations) - 1].operation.operands]
        function.operation.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get([a.type for a in block.arguments], outs))

    def retype(self, value: ir.Value) -> None:
        """A block argument takes its storage type in place."""
        type_ = TensorType.of(value)
        value.set_type(tensor_type(type_.shape, type_.dtype))
        self.values[value] = Tensor(value, type_.dtype)

    def block(self, block: ir.Block) -> None:
        dead: list[ir.Operation] = []
        for view in list(block.operations):
            operation = view.operation
            if isinstance(view, GraphOp):
                with operation.location, ir.InsertionPoint(operation):
                    try:
                        results = view.decompose(self.builder, [self.values[v] for v in operation.operands])
                    except (TypeError, ValueError, KeyError, NotImplementedError) as error:
                        what = f"{type(error).__name__}: {error}\n  {operation}"
                        raise CompilerError(f"decomposition of {operation.name} failed: {what}") from error
                for old, new in zip(operation.results, results, strict=True):
                    expected = TensorType.of(old)
                    if (new.shape, new.dtype) != (expected.shape, expected.dtype):
                        found = f"{new.value.type} ({new.dtype})"
                        raise CompilerError(f"decomposition of {operation.name} gives {found}, not {expected.mlir()}")
                    self.values[old] = new
                dead.append(operation)
            else:
                self.keep(operation)
        for operation in reversed(dead):
            operation.erase()

    def keep(self, operation: ir.Operation) -> None:
        """Control flow and returns stay: operands, results and region arguments change to storage types."""
        for i, value in enumerate(operation.operands):
            if value in self.values:
                operation.operands[i] = self.values[value].value
        for region in operation.regions:
            for block in region:
                for argument in block.arguments:
                    if isinstance(argument.type, ir.RankedTensorType):
                        self.retype(argument)
                self.block(block)
        for result in operation.results:
            if isinstance(result.type, ir.RankedTensorType):
                self.retype(result)
