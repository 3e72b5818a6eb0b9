"""Two products in a row in registers: how the sums of the first are a factor of the second, found from the atom's tables by enumeration.

Sums [row, column] of one product, here called [query, key], become the factor of a product whose depth is the keys. Either the sums are
the left factor as they are, or the transposed product is computed, and its sums are the right factor of the next transposed one. Which key
a depth point of the second product stands for is free, as long as both factors agree: a lane's depth points may be those keys that it has.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from math import gcd

from mlc.layout.fragments import Atom, Fragment, Term


@dataclass(frozen=True)
class Chain:
    """How one atom's sums feed it again.

    transposed: queries are the columns of sums, not the rows. sums: atoms of sums, neighbours along the keys, that give `factors`
    fragments of the second product, neighbours along its depth. exchange: distances between lanes that first give each other their sums.
    order: per element of these fragments the number of its sum: those of the lane with none of the exchanged bits first, atom by atom.
    sharing: distances between the lanes that have the other keys of a query. depth_keys: per depth point of the second product, its key.
    """

    atom: Atom
    transposed: bool
    sums: int
    factors: int
    exchange: tuple[int, ...]
    order: tuple[int, ...]
    sharing: tuple[int, ...]
    depth_keys: tuple[int, ...]

    @property
    def queries(self) -> int:
        """Of an atom of sums."""
        return self.atom.shape[1 if self.transposed else 0]

    @property
    def keys(self) -> int:
        """Of an atom of sums."""
        return self.atom.shape[0 if self.transposed else 1]

    @property
    def span(self) -> int:
        """Keys that belong together."""
        return self.sums * self.keys

    @property
    def query_terms(self) -> tuple[Term, ...]:
        """Of the fragment of sums."""
        return self.atom.c.columns if self.transposed else self.atom.c.rows

    @property
    def key_terms(self) -> tuple[Term, ...]:
        return self.atom.c.rows if self.transposed else self.atom.c.columns


def chain_of(atom: Atom, neighbours: bool) -> Chain | None:
    """How an atom's sums are its factor; None where its tables do not allow it.

    neighbours: the other factor is read as depth points that are neighbours, shared among groups of lanes in order (`gpu.wave`), for all
    `factors` atoms at once; else as the tables of its fragment say, but for the keys that its depth points are.
    """
    for transposed in (False, True):
        factor = atom.b if transposed else atom.a
        if factor is None:
            continue
        keys, deep = atom.shape[0 if transposed else 1], atom.shape[2]
        span = keys * deep // gcd(keys, deep)
        if (span > deep and not neighbours) or (neighbours and atom.shape[0] != atom.shape[1]):
            continue
        found = _matched(atom, transposed, factor, span // keys, span // deep, neighbours)
        if found is not None:
            return found
    return None


def _matched(atom: Atom, transposed: bool, factor: Fragment, sums: int, factors: int, neighbours: bool) -> Chain | None:
    keys, deep = atom.shape[0 if transposed else 1], atom.shape[2]
    lanes = [1 << i for i in range((factor.lanes - 1).bit_length())]
    copies = factor.lanes * factor.size // (factor.shape[0] * factor.shape[1])

    def have(lane: int) -> list[tuple[int, int]]:
        found = [atom.c.at(lane, e)[::-1 if transposed else 1] for _ in range(sums) for e in range(atom.c.size)]
        return [(q, k + i // atom.c.size * keys) for i, (q, k) in enumerate(found)]

    def want(lane: int) -> list[tuple[int, int]]:
        found = []
        for n in range(factors):
            for e in range(factor.size):
                query, point = factor.at(lane, e)[::-1 if transposed else 1]
                group = lane // atom.shape[0] % (deep // factor.size)
                found.append((query, (group * factors + n) * factor.size + e if neighbours else depth_keys[point]))
        return found

    depth_keys = list(range(sums * keys))
    # Elements that share a register come in the order of memory.
    if not neighbours and max(factor.run()) == 1 and (own := _own_keys(have, want, factor.lanes, deep)) is not None:
        depth_keys = own
    for exchange in combinations(lanes, copies.bit_length() - 1):
        order = _order(have, want, exchange, factor.lanes)
        if order is not None:
            sharing = tuple(d for d in lanes if have(0)[0][0] == have(d)[0][0])
            return Chain(atom, transposed, sums, factors, exchange, order, sharing, tuple(depth_keys))
    return None


def _own_keys(have: Callable[[int], list[tuple[int, int]]], want: Callable[[int], list[tuple[int, int]]], lanes: int,
              deep: int) -> list[int] | None:
    """Per depth point a key that each lane which wants the point has of the query; None where they differ. Both are taken in order."""
    found: dict[int, int] = {}
    for lane in range(lanes):
        held, wanted = have(lane), want(lane)
        for query in {q for q, _ in wanted}:
            points, own = (sorted(k for q, k in pairs if q == query) for pairs in (wanted, held))
            if len(points) != len(own) or any(found.setdefault(p, k) != k for p, k in zip(points, own)):
                return None
    return [found[p] for p in range(deep)] if sorted(found.values()) == list(range(deep)) else None


def _order(have: Callable[[int], list[tuple[int, int]]], want: Callable[[int], list[tuple[int, int]]], exchange: tuple[int, ...],
           lanes: int) -> tuple[int, ...] | None:
    """Where each wanted element is among what the lanes that exchange have, if that is the same place for every lane."""
    found: tuple[int, ...] | None = None
    for lane in range(lanes):
        base = lane & ~sum(exchange)
        pool = [x for n in range(1 << len(exchange)) for x in have(base | sum(d for i, d in enumerate(exchange) if n >> i & 1))]
        wanted = want(lane)
        if not set(wanted) <= set(pool):
            return None
        order = tuple(pool.index(x) for x in wanted)
        if found is not None and order != found:
            return None
        found = order
    return found


__all__ = ["Chain", "chain_of"]
