"""Known tensors that the program needs: small ones as graph.constant, others as graph.weight beside a WeightStore, at the top of @main."""

from collections.abc import Callable

from mlc.dialects import graph
from mlc.frontend.onnx.values import Tensor
from mlc.ir.mlir import ir
from mlc.weights import WeightStore

INLINE_ELEMENTS = 64  # enough for what passes match on (scalars, axes, short vectors)


class Constants:
    """Places constants in the entry block, in the order they are first needed, so that every region can see them."""

    def __init__(self, entry: ir.Block, location: Callable[[str], ir.Location]) -> None:
        self.store = WeightStore()
        self._entry, self._location = entry, location
        self._last: ir.Operation | None = None
        self._made: list[tuple[ir.Value, str | None]] = []

    def materialise(self, tensor: Tensor) -> ir.Value:
        point = ir.InsertionPoint.after(self._last) if self._last is not None else ir.InsertionPoint.at_block_begin(self._entry)
        with point, self._location(tensor.name):
            key: str | None = None
            if tensor.size <= INLINE_ELEMENTS:
                value = graph.constant(tensor.value)
            else:
                key = self.store.add(tensor.weight()).name
                value = graph.weight(key, tensor.dtype, tensor.shape)
        self._last = value.owner
        self._made.append((value, key))
        return value

    def drop_unused(self) -> None:
        """Removes constants that only abandoned attempts (a loop that had to be unrolled after all) wanted."""
        for value, key in self._made:
            if not any(True for _ in value.uses):
                value.owner.erase()
                if key is not None:
                    self.store.discard(key)
        self._made, self._last = [], None
