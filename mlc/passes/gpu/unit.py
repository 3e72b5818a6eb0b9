"""The matrix unit of a product: an atom that the target has, and the way that factors take to its registers."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

from mlc.ir.mlir import ir
from mlc.layout.chain import Chain, chain_of
from mlc.layout.fragments import ATOMS, Atom, Fragment
from mlc.passes.gpu.block import WIDEST
from mlc.passes.gpu.contraction import Product
from mlc.passes.tile.model import element_bytes
from mlc.target import Target


@dataclass(frozen=True)
class Unit:
    """An atom of a target.

    streams: asynchronous copies fill a ring of stages in shared memory, and ldmatrix gives fragments (`gpu.mma`). Else threads hold the
    next stage's part in registers while the block multiplies, and read fragments as vectors (`gpu.wave`).
    """

    atom: Atom
    streams: bool

    @staticmethod
    def named(name: str, target: Target) -> "Unit":
        """The unit that a task.mma names."""
        return Unit(ATOMS[name], target.has("cp.async") and target.has("ldmatrix"))

    @property
    def rows(self) -> int:
        return self.atom.shape[0]

    @property
    def columns(self) -> int:
        return self.atom.shape[1]

    @property
    def depth(self) -> int:
        return self.atom.shape[2]

    @property
    def lanes(self) -> int:
        return self.atom.c.lanes

    @property
    def a(self) -> Fragment:
        assert self.atom.a is not None
        return self.atom.a

    @property
    def b(self) -> Fragment:
        assert self.atom.b is not None
        return self.atom.b

    @cached_property
    def chain(self) -> Chain | None:
        """How its sums are a factor of the next product, if they can be."""
        return chain_of(self.atom, neighbours=not self.streams)

    def vector(self, buffer: ir.Value) -> int:
        """Depth points that a lane reads at once where it reads fragments as vectors: 16 bytes, or an atom's if those are more."""
        return max(WIDEST // element_bytes(buffer), self.a.size)


def chained_units(target: Target) -> dict[str, Unit]:
    """Per element type of factors: the target's unit whose sums, narrowed to it, are a factor of the next product."""
    found: dict[str, Unit] = {}
    for name in target.atoms:
        unit = Unit.named(name, target)
        if unit.atom.output == "f32" and unit.atom.element != "i8" and unit.chain is not None:  # weights lose too much in float8
            found.setdefault(unit.atom.element, unit)
    return found


def float8_atom(kinds: Collection[str], target: Target) -> str | None:
    """The target's atom that multiplies factors of these float8 types; those of two types have one shape, and one instruction for both."""
    found = [n for kind in sorted(kinds) for n in target.atoms if ATOMS[n].input == kind]
    return found[0] if found and len(found) == len(kinds) and len({ATOMS[n].shape for n in found}) == 1 else None


def unit_for(product: Product | None, c: ir.Value, target: Target, codes: Sequence[str] = ()) -> Unit | None:
    """The target's unit that computes a product into c, if its rows and columns are not batches. codes: the factors' float8 types."""
    if product is None:
        return None
    kinds = {str(f.buffer.type.element_type) for f in (product.a, product.b)}
    # Neighbours in memory are a batch's products (a depthwise convolution): threads load them side by side, an atom would use one in eight.
    if len(kinds) > 1 or any(extent > 1 and a == b == 1 for extent, a, b, _ in product.batch):
        return None
    if codes:
        name = float8_atom(set(codes), target)
    else:
        wanted = (*kinds, str(c.type.element_type))
        name = next((n for n in target.atoms if (ATOMS[n].element, ATOMS[n].output) == wanted), None)
    return None if name is None else Unit.named(name, target)
