"""Softmax between two products, found in a group of nodes by structure and seen as one node that streams over the keys.

The structure is product -> elementwise -> (row max, exp(x - max), row sum) -> product, with the division by the sum before or after the
second product. A streamed node never holds a row of scores: it keeps a running maximum and sum per row and rescales what it has so far
(Milakov and Gimelshein 2018; Dao et al. 2022).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from mlc.ir.mlir import ir
from mlc.layout.linear import Linear
from mlc.passes.tile.body import argument_of, is_cast, is_constant, only_depends_on, root_of
from mlc.passes.tile.model import Node, Read, volume
from mlc.passes.tile.visible import visible

LEVEL = "stream"  # the tile.level of nodes that a streamed node replaces


@dataclass(frozen=True, eq=False)
class Stream:
    """The parts of a streamed node. Places are over its loops: the points of its result, then key, then depth of the first product.

    nodes: all that it replaces. scores: the first product's node; between: from it to the exponent, in order. normal: the node that divides
    the weights, if one does; tail: elementwise nodes that the second product's sums go through, in order: casts, moves to another layout.
    key: number of the key loop. rows, columns: loops of the result that scores depend on (q's rows and batches), and those of the values
    alone. seen: expressions that are all >= 0 where a key counts; elsewhere the score is -inf. places: coordinates of each node's loops.
    walked: per read of the node, the loops that it is evaluated for.
    """

    nodes: frozenset[Node]
    scores: Node
    between: tuple[Node, ...]
    power: Node
    total: Node
    normal: Node | None
    second: Node
    tail: tuple[Node, ...]
    key: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    seen: tuple[Linear, ...]
    places: Mapping[Node, tuple[Linear, ...]]
    walked: tuple[tuple[int, ...], ...]

    @property
    def last(self) -> Node:
        return self.tail[-1] if self.tail else self.second


def find_streams(nodes: Sequence[Node], external: Collection[ir.Value]) -> list[Node]:
    """A streamed node for each place where the structure is found, in order. external: values that are used outside."""
    if not any(_is_power(n) for n in nodes):
        return []
    group = _Group(nodes, external)
    return [found for n in nodes if _is_power(n) and (found := _Finder(group, n).find()) is not None]


def with_stream(nodes: Sequence[Node], stream: Node) -> list[Node]:
    """The nodes with a streamed node in place of those that it replaces."""
    assert stream.stream is not None
    return [stream if n is stream.stream.last else n for n in nodes if n is stream.stream.last or n not in stream.stream.nodes]


def as_scheduled(nodes: Sequence[Node], external: Collection[ir.Value]) -> list[Node]:
    """The nodes of a tile.graph as its schedule says: those of the level "stream" are one node."""
    found = list(nodes)
    if any(n.level == LEVEL for n in nodes):
        for stream in find_streams(nodes, external):
            if stream.stream is not None and all(n.level == LEVEL for n in stream.stream.nodes):
                found = with_stream(found, stream)
    return found


class _Group:
    def __init__(self, nodes: Sequence[Node], external: Collection[ir.Value]) -> None:
        self.external = set(external)
        self.producer = {v: n for n in nodes for v in n.results}
        self.readers: dict[ir.Value, list[Node]] = {}
        for n in nodes:
            for v in {*(r.value for r in n.reads), *n.captures}:
                self.readers.setdefault(v, []).append(n)

    def private(self, node: Node) -> list[Node]:
        """The readers of a node's one result, or none if others may see it."""
        if len(node.results) != 1 or node.results[0] in self.external:
            return []
        return self.readers.get(node.results[0], [])


@dataclass(eq=False)
class _Finder:
    """Looks around one exponential; each step gives None where the structure ends."""

    group: _Group
    power: Node
    places: dict[Node, tuple[Linear, ...]] = field(default_factory=dict)

    def find(self) -> Node | None:
        group, power = self.group, self.power
        x, m = _exponent(power)
        peak = group.producer.get(m.value) if m is not None else None
        if x is None or m is None or peak is None or not _is_row(peak, "arith.maximumf") or group.private(peak) != [power]:
            return None
        users = group.private(power)
        total = next((n for n in users if _is_row(n, "arith.addf") and n.reads[0].value == power.results[0]), None)
        weights = [n for n in users if n is not total]
        if total is None or len(weights) != 1 or peak.reads[0].value != x.value:
            return None
        path = self._to_product(weights[0])
        between = self._to_scores(x.value, {peak, power})
        if path is None or between is None:
            return None
        *steps, second = path
        normal = next((n for n in steps if len(n.reads) > 1), None)
        tail = self._tail(second)
        if group.private(total) != [normal or (tail[0] if tail else None)]:
            return None
        return self._place(x, m, peak, total, steps, second, tail, between)

    def _to_product(self, node: Node) -> list[Node] | None:
        """From the reader of the exponentials to the second product: casts, and at most one division by (or product with) row values."""
        path, scaled = [], False
        value = self.power.results[0]
        while not node.contraction:
            if node.over or node.captures or node.pad is not None:
                return None
            if len(node.reads) > 1:
                if scaled or _scaling(node, value) is None:
                    return None
                scaled = True
            elif not is_cast(node):
                return None
            path.append(node)
            users = self.group.private(node)
            if len(users) != 1:
                return None
            value, node = node.results[0], users[0]
        ok = len(node.over) == 1 and len(node.reads) == 2 and [r.value for r in node.reads].count(value) == 1
        return [*path, node] if ok else None

    def _to_scores(self, value: ir.Value, users: set[Node]) -> list[Node] | None:
        """The nodes from the first product to the value that is exponentiated, in order."""
        path: list[Node] = []
        while True:
            node = self.group.producer.get(value)
            if node is None or set(self.group.private(node)) != users or node.captures or node.pad is not None:
                return None
            path.insert(0, node)
            if node.contraction:
                return path if len(node.over) == 1 and len(node.reads) == 2 else None
            inner = [r for r in node.reads if (source := self.group.producer.get(r.value)) is not None and self._leads_to_product(source)]
            if node.over or len(inner) != 1:
                return None
            value, users = inner[0].value, {node}

    def _leads_to_product(self, node: Node) -> bool:
        """Whether a node is a product, or elementwise on one."""
        while not node.contraction:
            sources = [s for r in node.reads if (s := self.group.producer.get(r.value)) is not None]
            if node.over or len(sources) != 1:
                return False
            node = sources[0]
        return True

    def _tail(self, second: Node) -> tuple[Node, ...]:
        """The elementwise nodes that the sums go through, each the only reader of the one before."""
        found: list[Node] = []
        while (node := self._renamed(found[-1] if found else second)) is not None:
            found.append(node)
        return tuple(found)

    def _renamed(self, source: Node) -> Node | None:
        """The elementwise reader of a node, if it is the only one and only renames, moves or drops dimensions of one.

        What are neighbours along the last dimension, which a row's columns are, stay neighbours.
        """
        users = self.group.private(source)
        node = users[0] if len(users) == 1 else None
        if node is None or node.over or node.captures or node.contraction or node.pad is not None or len(node.results) != 1:
            return None
        reads = [r for r in node.reads if r.value == source.results[0]]
        if len(reads) != 1 or volume(node.shape) != volume(source.shape):
            return None
        walked = [v for e in reads[0].indices if (v := e.only()) is not None]
        plain = all(e.only() is not None or (e.is_constant and e.const == 0 and n == 1)
                    for e, n in zip(reads[0].indices, source.shape, strict=True))
        if not plain or len(set(walked)) != len(walked) or any(n > 1 for d, n in enumerate(node.shape) if d not in walked):
            return None
        order = [d for e, n in zip(reads[0].indices, source.shape, strict=True) if n > 1 and (d := e.only()) is not None]
        return node if not order or order[-1] == max(order) else None

    # -- coordinates ------------------------------------------------------------------------------------------------
    def _place(self, x: Read, m: Read, peak: Node, total: Node, steps: Sequence[Node], second: Node, tail: Sequence[Node],
               between: list[Node]) -> Node | None:
        """The streamed node, if all parts of a row agree on what the row is."""
        last = tail[-1] if tail else second
        n = len(last.shape)
        count, key = n + 2, Linear.variable(n, n + 2)
        at: dict[Node, list[Linear]] = {last: [Linear.variable(i, count) for i in range(n)]}

        def read(node: Node, value: ir.Value) -> list[Linear]:
            found = next(r for r in node.reads if r.value == value)
            return [e.compose([*at[node], *over.get(node, [])], count) for e in found.indices]

        scores = between[0]
        over = {second: [key], scores: [Linear.variable(n + 1, count)], peak: [key], total: [key]}
        for source, reader in reversed(list(pairwise((second, *tail)))):
            at[source] = read(reader, source.results[0])
        user = second
        for node in [*reversed(steps), self.power]:
            at[node] = read(user, node.results[0])
            user = node
        user = next((s for s in (*steps, *tail[:1]) if total.results[0] in [r.value for r in s.reads]), None)
        at[peak] = read(self.power, m.value)
        if user is None:
            return None
        at[total] = read(user, total.results[0])
        place = read(self.power, x.value)
        if read(peak, x.value) != place or read(total, self.power.results[0]) != at[self.power]:
            return None
        if any(e.coefficients[n] for e in (*at[peak], *at[total])):
            return None
        value = x.value
        for node in reversed(between):
            at[node] = place
            value = next((r.value for r in node.reads if node is not scores and self.group.producer.get(r.value) in between), value)
            place = read(node, value) if node is not scores else place
        return self._node(at, over, scores, between, total, steps, second, tail)

    def _node(self, at: dict[Node, list[Linear]], over: Mapping[Node, list[Linear]], scores: Node, between: list[Node], total: Node,
              steps: Sequence[Node], second: Node, tail: Sequence[Node]) -> Node | None:
        last = tail[-1] if tail else second
        n = len(last.shape)
        count = n + 2

        def placed(node: Node, read: Read) -> Read:
            return Read(read.value, tuple(e.compose([*at[node], *over.get(node, [])], count) for e in read.indices))

        factors = [placed(scores, r) for r in scores.reads]
        keyed = [any(e.coefficients[n] for e in r.indices) for r in factors]
        if keyed not in ([False, True], [True, False]):
            return None
        q, k = factors if keyed[1] else factors[::-1]
        weights = steps[-1].results[0] if steps else self.power.results[0]
        v = next(placed(second, r) for r in second.reads if r.value != weights)
        rows = tuple(i for i in range(n) if any(e.coefficients[i] for e in at[scores]))
        own = [i for i in range(n) if any(e.coefficients[i] for e in v.indices)]
        columns = tuple(i for i in own if i not in rows)
        if any(s > 1 for i, s in enumerate(last.shape) if i not in rows and i not in columns):
            return None
        mine = {scores, *between, self.power, total, *steps, second, *tail}
        mine |= {self.group.producer[r.value] for r in self.power.reads if r.value in self.group.producer}
        inside = {value for node in mine for value in node.results}
        extra: list[tuple[Read, tuple[int, ...]]] = []
        for node in (*between[1:], *steps, *tail):
            walked = tuple(range(n)) if node in tail else rows if node in steps else (*rows, n)
            extra += [(placed(node, r), walked) for r in node.reads if r.value not in inside]
        if any(e.coefficients[n] for node in steps for r in node.reads if r.value not in inside for e in placed(node, r).indices):
            return None  # a factor of the weights that depends on the key
        everything = tuple(range(n + 2))
        seen = visible(between[-1], at[between[-1]]) if len(between) > 1 else ()
        normal = next((s for s in steps if len(s.reads) > 1), None)
        stream = Stream(frozenset(mine), scores, tuple(between[1:]), self.power, total, normal, second, tuple(tail), n, rows, columns, seen,
                        {node: tuple(p) for node, p in at.items()}, (everything,) * 3 + tuple(w for _, w in extra))
        reads = [q, k, v, *(r for r, _ in extra)]
        return replace(last, over=(second.over[0], scores.over[0]), reads=reads, captures=[], contraction=False,
                       cost=sum(b.cost for b in between[1:]) + self.power.cost, inits=[], level="", stream=stream)


def _is_power(node: Node) -> bool:
    return not node.over and not node.captures and len(node.results) == 1 and root_of(node.op).name == "math.exp"


def _exponent(node: Node) -> tuple[Read | None, Read | None]:
    """The reads x and m of exp(x - f(m))."""
    difference = root_of(node.op).operands[0].owner
    if isinstance(difference, ir.Block) or difference.name != "arith.subf" or len(node.reads) != 2:
        return None, None
    left, right = difference.operands
    x = argument_of(node, left)
    m = next((r for r in node.reads if r is not x), None)
    return (x, m) if x is not None and m is not None and only_depends_on(node, right, m) else (None, None)


def _is_row(node: Node, combine: str) -> bool:
    """Whether a node reduces the one tensor that it reads along one loop, by acc `combine` element."""
    root = root_of(node.op)
    if len(node.over) != 1 or len(node.reads) != 1 or node.captures or len(node.results) != 1 or root.name != combine or node.contraction:
        return False
    block = node.op.regions[0].blocks[0]
    return set(root.operands) == {block.arguments[0], block.arguments[1]} and is_constant(
        node.inits[0], 0.0 if combine == "arith.addf" else float("-inf"))


def _scaling(node: Node, value: ir.Value) -> tuple[str, ir.Value] | None:
    """(op, factor) where a node is divf or mulf of the read of `value` and a factor of its other reads, perhaps cast."""
    root = root_of(node.op)
    while root.name in ("arith.truncf", "arith.extf") and not isinstance(root.operands[0].owner, ir.Block):
        root = root.operands[0].owner
    own = next(r for r in node.reads if r.value == value)
    others = [r for r in node.reads if r is not own]
    if root.name not in ("arith.divf", "arith.mulf") or sum(r.value == value for r in node.reads) != 1:
        return None
    pairs = [tuple(root.operands), tuple(root.operands)[::-1]] if root.name == "arith.mulf" else [tuple(root.operands)]
    for left, right in pairs:
        if argument_of(node, left) is own and only_depends_on(node, right, *others):
            return root.name, right
    return None


def scaling(stream: Stream) -> tuple[str, ir.Value]:
    """The op ("arith.divf" or "arith.mulf") and factor by which `stream.normal` scales the weights."""
    assert stream.normal is not None
    inside = {v for n in stream.nodes if n is not stream.total for v in n.results}
    found = _scaling(stream.normal, next(r.value for r in stream.normal.reads if r.value in inside))
    assert found is not None
    return found
