"""Chains of reshapes and transposes as one permutation of factors of dimensions, and the shortest chain that says the same.

A view of a tensor splits its dimensions into atoms and deals them out anew: `atoms[k]` is the extent of atom k, in the order in which
they stand in memory; `dims` lists, for each dimension of the view, the atoms that make it, outermost first. Dimensions of 1 have none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

Shape = tuple[int, ...]
Step = tuple[str, tuple[int, ...]]  # ("reshape", shape) or ("transpose", permutation)


@dataclass(frozen=True)
class View:
    """How the elements of a tensor of shape `source` are seen."""

    source: Shape
    atoms: tuple[int, ...]
    dims: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(shape: Sequence[int]) -> "View | None":
        """The tensor itself; None for one without elements, whose factors say nothing."""
        if 0 in shape:
            return None
        places = [d for d, extent in enumerate(shape) if extent != 1]
        dims = [(places.index(d),) if extent != 1 else () for d, extent in enumerate(shape)]
        return View(tuple(shape), tuple(shape[d] for d in places), tuple(dims))

    @property
    def shape(self) -> Shape:
        return tuple(prod(self.atoms[a] for a in dim) for dim in self.dims)

    @property
    def order(self) -> list[int]:
        """Atoms in the order of the view."""
        return [a for dim in self.dims for a in dim]

    def transpose(self, permutation: Sequence[int]) -> "View":
        return View(self.source, self.atoms, tuple(self.dims[p] for p in permutation))

    def reshape(self, shape: Sequence[int]) -> "View | None":
        """None where a new dimension would take a part of an atom that does not divide it."""
        view = self
        extents = [view.atoms[a] for a in view.order]
        cuts: list[list[int]] = [[] for _ in extents]  # the extents that each atom falls into, outermost first
        dims: list[list[tuple[int, int]]] = []  # of (position in order, piece of that atom)
        at, rest = 0, extents[0] if extents else 1
        for extent in shape:
            dims.append([])
            need = extent
            while need > 1:
                if rest == 1:
                    at += 1
                    rest = extents[at]
                if rest <= need:
                    if need % rest:
                        return None
                    piece = rest
                else:
                    if rest % need:
                        return None
                    piece = need
                cuts[at].append(piece)
                dims[-1].append((at, len(cuts[at]) - 1))
                need, rest = need // piece, rest // piece
        return view._split(cuts, dims)

    def _split(self, cuts: list[list[int]], dims: list[list[tuple[int, int]]]) -> "View":
        order = self.order
        pieces = {atom: cuts[at] for at, atom in enumerate(order)}
        first: dict[int, int] = {}
        atoms: list[int] = []
        for atom in range(len(self.atoms)):
            first[atom] = len(atoms)
            atoms += pieces[atom]
        return View(self.source, tuple(atoms), tuple(tuple(first[order[at]] + piece for at, piece in dim) for dim in dims))

    def merged(self) -> "View":
        """With the fewest atoms: those that stay neighbours in memory order and inside one dimension become one."""
        joined: list[list[int]] = []
        home = {a: d for d, dim in enumerate(self.dims) for a in dim}
        place = {a: i for i, a in enumerate(self.order)}
        for atom in range(len(self.atoms)):
            if joined and place[atom] == place[joined[-1][-1]] + 1 and home[atom] == home[joined[-1][-1]]:
                joined[-1].append(atom)
            else:
                joined.append([atom])
        index = {group[0]: i for i, group in enumerate(joined)}
        dims = tuple(tuple(index[a] for a in dim if a in index) for dim in self.dims)
        return View(self.source, tuple(prod(self.atoms[a] for a in group) for group in joined), dims)

    @property
    def is_reshape(self) -> bool:
        return self.order == sorted(self.order)

    def steps(self) -> list[Step]:
        """The shortest chain of reshapes and transposes from the source to this view; transposes as late as possible."""
        if self.is_reshape:
            return [] if self.shape == self.source else [("reshape", self.shape)]
        if (direct := self._transpose_source()) is not None:
            return direct
        return self._transpose_last() or self._transpose_atoms()

    def _transpose_source(self) -> list[Step] | None:
        """One transpose of the source's own dimensions, if that is all."""
        own = View.of(self.source)
        assert own is not None
        if len(self.dims) != len(self.source) or self.merged().atoms != own.atoms:
            return None
        view = self.merged()
        units = [d for d, dim in enumerate(own.dims) if not dim]
        permutation: list[int] = []
        for dim in view.dims:
            if not dim and not units:
                return None
            if len(dim) > 1:
                return None
            permutation.append(own.dims.index(dim) if dim else units.pop(0))
        return None if units else [("transpose", tuple(permutation))]

    def _transpose_last(self) -> list[Step] | None:
        """A reshape, then a transpose that gives the view's dimensions: if each of them is one run of memory."""
        view = self.merged()
        if any(len(dim) > 1 for dim in view.dims):
            return None
        # Dimensions of 1 go before the atom they stand before, so that the transpose moves as little as possible.
        filled = sorted((d for d, dim in enumerate(view.dims) if dim), key=lambda d: view.dims[d][0])
        units = [d for d, dim in enumerate(view.dims) if not dim]
        source = units + filled
        shape = tuple(view.shape[d] for d in source)
        permutation = tuple(source.index(d) for d in range(len(source)))
        head: list[Step] = [] if shape == self.source else [("reshape", shape)]
        return [*head, ("transpose", permutation)]

    def _transpose_atoms(self) -> list[Step]:
        """Reshape, transpose, reshape."""
        order = self.order
        runs: list[list[int]] = []  # of atoms that are neighbours both in memory and in the view
        for atom in order:
            if runs and runs[-1][-1] + 1 == atom:
                runs[-1].append(atom)
            else:
                runs.append([atom])
        memory = sorted(runs)
        extents = {run[0]: prod(self.atoms[a] for a in run) for run in runs}
        split = tuple(extents[run[0]] for run in memory)
        permutation = tuple(memory.index(run) for run in runs)
        head: list[Step] = [] if split == self.source else [("reshape", split)]
        tail: list[Step] = [] if tuple(extents[run[0]] for run in runs) == self.shape else [("reshape", self.shape)]
        return [*head, ("transpose", permutation), *tail]


def cost(steps: Sequence[Step]) -> tuple[int, int, int]:
    """Transposes move data, reshapes only cost an op; late transposes can move on."""
    last = max((i for i, (kind, _) in enumerate(steps) if kind == "transpose"), default=len(steps) - 1)
    return transposes(steps), len(steps), len(steps) - 1 - last


def transposes(steps: Sequence[Step]) -> int:
    return sum(kind == "transpose" for kind, _ in steps)


def inverse(permutation: Sequence[int]) -> tuple[int, ...]:
    return tuple(permutation.index(d) for d in range(len(permutation)))
