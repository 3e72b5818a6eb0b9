"""Loads that a kernel's loops repeat unchanged (`task.load {kept}`): each thread makes its elements once and keeps them in registers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from mlc.ir.mlir import ir
from mlc.layout.mapping import Digit, TaskMap


@dataclass(frozen=True)
class Kept:
    """What loads have in common that give a thread the same elements, in whichever copy of a phase they stand."""

    buffer: ir.Value
    map: ir.Attribute
    indices: tuple[object, ...]
    task_map: str
    extents: tuple[int, ...]


def kept_key(load: ir.Operation, foreach: ir.Operation, map_: TaskMap) -> Kept:
    """The key of a load in a task.reduce of a foreach with that map; loop indices count by their place, others as they are."""
    reduce = load.parent
    own = {v: ("point", i) for i, v in enumerate(foreach.regions[0].blocks[0].arguments)}
    own |= {v: ("reduction", i) for i, v in enumerate(reduce.regions[0].blocks[0].arguments)}
    indices = tuple(own.get(v, v) for v in list(load.operands)[1:])
    return Kept(load.operands[0], load.attributes["map"], indices, str(map_), (*foreach.opview.py("extents"), *reduce.opview.py("extents")))


def turns(repeats: Sequence[Digit]) -> list[tuple[tuple[int, ...], int]]:
    """What a thread does in order along one dimension of a map: the number of each repeat, and how far on that is."""
    return [(numbers, sum(n * d.stride for n, d in zip(numbers, repeats))) for numbers in product(*(range(d.extent) for d in repeats))]
