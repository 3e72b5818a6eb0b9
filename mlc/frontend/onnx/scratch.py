"""Import into a place of its own, then keep it, move it or drop it: how a converter tries something that may turn out impossible."""

from collections.abc import Sequence
from types import TracebackType

from mlc.ir.mlir import ir


class Scratch:
    """A block outside of the program. Inside `with`, ops are built in it; afterwards call `inline`, `move_into` or `drop`.

    An exception inside drops it.
    """

    def __init__(self, arguments: Sequence[ir.Type] = ()) -> None:
        # At the insertion point, so that what is built may use what the program has so far.
        self._holder = ir.Operation.create("builtin.module", regions=1)
        self.block = self._holder.regions[0].blocks.append(*arguments)
        self._point = ir.InsertionPoint(self.block)

    def __enter__(self) -> "Scratch":
        self._point.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._point.__exit__(kind, error, trace)
        if error is not None:
            self.drop()

    def drop(self) -> None:
        """Throws away what was built."""
        self._holder.erase()

    def inline(self) -> None:
        """Puts what was built where the scratch was opened."""
        for op in list(self.block.operations):
            op.operation.move_before(self._holder)
        self._holder.erase()

    def move_into(self, region: ir.Region) -> None:
        """Makes the block, with its arguments, the body of `region`."""
        self.block.append_to(region)
        self._holder.erase()
