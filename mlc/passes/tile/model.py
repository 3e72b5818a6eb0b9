"""The tile graph as data: what each linalg op of a tile.graph reads, loops over and costs. Passes decide on this and write IR back."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import gcd
from typing import TYPE_CHECKING

from mlc.dialects._ext import operations
from mlc.ir import codecs
from mlc.ir.affine import map_to_linear
from mlc.ir.mlir import ir
from mlc.layout.linear import Linear

if TYPE_CHECKING:
    from mlc.passes.tile.stream import Stream

# Rough cost of one scalar op, in simple vector operations.
_HEAVY = {"math.exp": 12, "math.log": 16, "math.tanh": 20, "math.erf": 24, "math.sin": 24, "math.cos": 24, "math.powf": 40,
          "math.sqrt": 4, "math.rsqrt": 4, "arith.divf": 4, "arith.divsi": 16, "arith.divui": 16, "arith.remsi": 16, "arith.remui": 16,
          "tensor.extract": 4}
_FREE = {"arith.constant", "linalg.yield", "linalg.index", "arith.index_cast", "arith.extf", "arith.truncf"}

_LOOPS = ("scf.for", "scf.while")
ITERATIONS = 8  # of a loop in a body, whose number is data

PIECE = 16  # bytes that asynchronous copies and TMA move at a time, from multiples of it on


@dataclass(frozen=True, eq=False)
class Read:
    """One operand of a linalg op: the tensor, and the element that each point (parallel then reduction loops) needs.

    Pricing asks the same of it for thousands of tiles, so that what does not depend on the tile is worked out once.
    """

    value: ir.Value
    indices: tuple[Linear, ...]
    _derived: dict[object, "Read"] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""
        return tuple(self.value.type.shape)

    @cached_property
    def element_type(self) -> str:
        return str(self.value.type.element_type)

    @cached_property
    def element_bytes(self) -> int:
        return element_bytes(self.value)

    @cached_property
    def piece(self) -> int:
        """Bytes, a power of two up to PIECE, that all rows of the tensor are multiples of."""
        return gcd(PIECE, self.shape[-1] * self.element_bytes) if len(self.shape) > 1 else PIECE

    @cached_property
    def terms(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """Per dimension of the tensor: the loops that move the place along it, each with its coefficient."""
        return tuple(tuple((i, c) for i, c in enumerate(e.coefficients) if c) for e in self.indices)

    @cached_property
    def walked(self) -> frozenset[int]:
        """The loops that move the place."""
        return frozenset(i for terms in self.terms for i, _ in terms)

    def through(self, outer: "Read", loops: int) -> "Read":
        """This read as one of the node, of so many loops, that computes this one's node inside itself where `outer` reads it."""
        if outer not in self._derived:
            self._derived[outer] = Read(self.value, tuple(e.compose(outer.indices, loops) for e in self.indices))
        return self._derived[outer]

    def past_padding(self, padding: "Node") -> "Read":
        """A read of what `padding` makes as one of the tensor inside, whose places may then lie outside of it."""
        assert padding.around is not None
        if padding not in self._derived:
            places = tuple(e + -low for e, low in zip(self.indices, padding.around))
            self._derived[padding] = Read(padding.captures[0], places)
        return self._derived[padding]


@dataclass(eq=False)
class Node:
    """One canonical linalg.generic: parallel loops = `shape` (its results' dimensions), then reduction loops `over`.

    steady: the part of `cost` that neighbours along the last dimension of the result have in common, such as the places of a gather.
    """

    op: ir.Operation
    shape: tuple[int, ...]
    over: tuple[int, ...]
    reads: list[Read]
    captures: list[ir.Value]  # tensors read at data-dependent places: needed whole
    results: list[ir.Value]
    cost: int  # simple operations per point
    contraction: bool
    level: str = ""
    pad: tuple[int, ...] | None = None  # it is its one captured tensor with zeros around it, so many before each dimension
    inits: list[ir.Value] = field(default_factory=list)
    steady: int = 0
    around: tuple[int, ...] | None = None  # as `pad`, whatever the number around it
    stream: "Stream | None" = None  # it stands for several nodes, which stream over its first reduction loop

    @property
    def copies(self) -> bool:
        """Whether its elements are those of the one tensor it reads: movement, which a reader's indices can express."""
        return (not self.over and not self.captures and len(self.reads) == 1 and len(self.results) == 1 and self.stream is None
                and _is_copy(self.op))

    @cached_property
    def follows(self) -> dict[ir.Value, int | None]:
        """Per captured tensor: the one loop that the place along its last dimension depends on, where there is no more to it."""
        found: dict[ir.Value, int | None] = {}
        captured = [o for o in operations(self.op) if o.name == "tensor.extract"]
        for extract, value in zip(captured, self.captures) if len(captured) == len(self.captures) else ():
            roots = index_roots(list(extract.operands)[-1]) if len(extract.operands) > 1 else set()
            plain = all(not isinstance(r.owner, ir.Block) and r.owner.name == "linalg.index" for r in roots)
            dims = {r.owner.attributes["dim"].value for r in roots} if plain else set()
            found[value] = dims.pop() if len(dims) == 1 else None
        return found

    @cached_property
    def last(self) -> int | None:
        """Its last loop of more than one point: that along which its results are contiguous."""
        return max((i for i, n in enumerate(self.shape) if n > 1), default=None)

    @cached_property
    def turns(self) -> bool:
        """Whether it has no reduction, and what it reads is contiguous along a loop, but not along its last one, as its result is."""
        last = len(self.shape) - 1
        walked = [*(terms[-1][0][0] for terms in (r.terms for r in self.reads) if terms and len(terms[-1]) == 1), *self.follows.values()]
        return not self.over and last > 0 and any(d is not None and d != last and self.shape[d] > 1 for d in walked)

    def cost_in_vectors(self, lanes: int) -> float:
        """Simple operations per point where a thread does so many neighbours along the last dimension at once."""
        return self.cost - self.steady * (1 - 1 / lanes)

    @property
    def loops(self) -> int:
        return len(self.shape) + len(self.over)


def index_roots(value: ir.Value) -> set[ir.Value]:
    """The values that an index is computed from: block arguments, and results of ops without operands that are no constants."""
    found, seen, stack = set(), set(), [value]
    while stack:
        value = stack.pop()
        if value in seen:  # an expression may use a value many times over
            continue
        seen.add(value)
        owner = value.owner
        if isinstance(owner, ir.Block) or (not len(owner.operands) and owner.name != "arith.constant"):
            found.add(value)
        else:
            stack.extend(owner.operands)
    return found


def element_bytes(value: ir.Value) -> int:
    """Bytes of one element of a tensor or memref value."""
    element = value.type.element_type
    return max(1, (element.width + 7) // 8)


def body_nodes(graph: ir.Operation) -> list[Node] | None:
    """The nodes of a tile.graph in order, or None when it is opaque (holds anything but canonical generics, fills and constants)."""
    nodes = []
    for view in graph.regions[0].blocks[0].operations:
        op = view.operation
        if op.name == "linalg.generic":
            node = _node(op)
            if node is None:
                return None
            nodes.append(node)
        elif op.name not in ("tile.map", "tensor.empty", "linalg.fill", "arith.constant", "tile.yield"):
            return None
    return nodes


def _node(op: ir.Operation) -> Node | None:
    kinds = [str(a) for a in op.attributes["iterator_types"]]
    parallel, loops = sum("parallel" in k for k in kinds), len(kinds)
    results = list(op.results)
    shape = tuple(results[0].type.shape)
    if parallel != len(shape) or any("parallel" not in k for k in kinds[:parallel]):
        return None
    walked, captures = _walks(op, shape, loops), _captures(op)
    if walked is None or captures is None:
        return None
    reads, over = walked
    n_in, used = len(op.operands) - len(results), _used_arguments(op)
    if loops == parallel and any(i >= n_in for i in used):
        return None
    inits = [_fill_value(op.operands[n_in + i]) for i in range(len(results))]
    if loops > parallel and any(v is None for v in inits):
        return None
    return Node(op, shape, over, [r for i, r in enumerate(reads) if i in used], captures, results, max(_cost(op), 1),
                loops > parallel and _is_multiply_add(op, n_in), op.attributes["tile.level"].value if "tile.level" in op.attributes else "",
                _numbers(op, "tile.pad"), [v for v in inits if v is not None], _steady(op, parallel - 1), _numbers(op, "tile.around"))


def _numbers(op: ir.Operation, name: str) -> tuple[int, ...] | None:
    return tuple(a.value for a in op.attributes[name]) if name in op.attributes else None


def _walks(op: ir.Operation, shape: Sequence[int], loops: int) -> tuple[list[Read], tuple[int, ...]] | None:
    """What a linalg.generic reads, in operand order, and the extents of its reductions; None unless all maps are linear and known."""
    maps = [ir.AffineMap.parse(str(a)) if not isinstance(a, ir.AffineMapAttr) else a.value for a in op.attributes["indexing_maps"]]
    linears = [linear for m in maps if (linear := map_to_linear(m)) is not None]
    n_in, parallel = len(maps) - len(op.results), len(shape)
    identity = [Linear.variable(i, loops) for i in range(parallel)]
    if len(linears) < len(maps) or any(linear != identity for linear in linears[n_in:]):
        return None
    extents: dict[int, int] = {}
    for operand, linear in zip(list(op.operands)[:n_in], linears):
        for axis, e in enumerate(linear):
            variable = e.only()
            if variable is not None and variable >= parallel:
                extents[variable] = operand.type.shape[axis]
    if len(extents) < loops - parallel:
        return None
    reads = [Read(operand, tuple(linear)) for operand, linear in zip(op.operands, linears[:n_in])]
    return reads, tuple(extents[d] for d in range(parallel, loops))


def _cost(op: ir.Operation) -> int:
    """Of the ops in an op's regions: those of loops count for as many iterations as such loops usually have."""
    total = 0
    for region in op.regions:
        for block in region:
            for view in block.operations:
                o = view.operation
                own = 0 if o.name in _FREE else _HEAVY.get(o.name, 1)
                total += own + _cost(o) * (ITERATIONS if o.name in _LOOPS else 1)
    return total


def _steady(op: ir.Operation, last: int) -> int:
    """What of `_cost` depends neither on elements nor on the index along the loop `last`. Neighbours in memory are one load."""
    block = op.regions[0].blocks[0]
    found, moving = 0, set(block.arguments)
    for view in block.operations:
        o = view.operation
        own = 0 if o.name in _FREE else _HEAVY.get(o.name, 1)
        if (o.name == "linalg.index" and o.attributes["dim"].value == last) or len(o.regions) or any(v in moving for v in o.operands):
            moving.update(o.results)
            along = o.name == "tensor.extract" and len(o.operands) > 1 and not any(v in moving for v in list(o.operands)[:-1])
            found += own - 1 if along and _is_index(list(o.operands)[-1], last) else 0
        else:
            found += own
    return found


def _is_index(value: ir.Value, loop: int) -> bool:
    """Whether a place is the index along a loop, perhaps moved by a constant."""
    while not isinstance(value.owner, ir.Block) and value.owner.name != "linalg.index":
        operands = [v for v in value.owner.operands if isinstance(v.owner, ir.Block) or v.owner.name != "arith.constant"]
        if value.owner.name not in ("arith.index_cast", "arith.addi") or len(operands) != 1:
            return False
        value = operands[0]
    return not isinstance(value.owner, ir.Block) and value.owner.attributes["dim"].value == loop


def _captures(op: ir.Operation) -> list[ir.Value] | None:
    """Tensors that the body reads at data-dependent places, perhaps in loops over scalars; None if it holds anything else than scalars."""
    captures: dict[ir.Value, None] = {}
    for o in operations(op):
        if o.name == "tensor.extract":
            captures.setdefault(o.operands[0])
        elif o.name.startswith("tensor.") or (len(o.regions) and o.name not in (*_LOOPS, "scf.if")):
            return None
    return list(captures)


def _used_arguments(op: ir.Operation) -> set[int]:
    block = op.regions[0].blocks[0]
    return {i for i, a in enumerate(block.arguments) if next(iter(a.uses), None) is not None}


def _fill_value(out: ir.Value) -> ir.Value | None:
    """The scalar that a reduction's output was filled with."""
    owner = out.owner
    return owner.operands[0] if not isinstance(owner, ir.Block) and owner.name == "linalg.fill" else None


def _is_multiply_add(op: ir.Operation, n_in: int) -> bool:
    """Whether the body is acc + a * b over two reads, starting from zero: of floats, perhaps widened, or of i8 in wider integers."""
    block = op.regions[0].blocks[0]
    ops = list(block.operations)
    if len(op.results) != 1:
        return False
    end = ops[-1].operation.operands[0].owner
    if isinstance(end, ir.Block) or end.name not in ("arith.addf", "arith.addi"):
        return False
    whole = end.name == "arith.addi"
    acc = block.arguments[n_in]
    others = [v for v in end.operands if v != acc]
    if len(others) != 1 or isinstance(others[0].owner, ir.Block) or others[0].owner.name != ("arith.muli" if whole else "arith.mulf"):
        return False
    fill = _fill_value(op.operands[n_in])
    if fill is None or isinstance(fill.owner, ir.Block) or fill.owner.name != "arith.constant":
        return False
    zero = fill.owner.attributes["value"].value == 0
    is_factor = _is_code if whole else _is_read
    return zero and all(is_factor(v, n_in) for v in others[0].owner.operands) and len(set(others[0].owner.operands)) == 2


def _is_copy(op: ir.Operation) -> bool:
    """Whether a body yields its first argument that is used, perhaps widened and narrowed again."""
    block = op.regions[0].blocks[0]
    ops = [v.operation for v in block.operations]
    value = ops[-1].operands[0]
    if any(o.name not in ("arith.extf", "arith.truncf", "linalg.yield") for o in ops):
        return False
    while not isinstance(value.owner, ir.Block):
        value = value.owner.operands[0]
    return value.type == ops[-1].operands[0].type


def float8_factors(op: ir.Operation) -> list[str]:
    """The float8 types of a product's factors, in the order of its reads, where it multiplies codes of such."""
    found = [codecs.narrowed(o.results[0]) for o in operations(op) if o.name == "arith.extf"]
    places = sorted((code.arg_number, dtype.name) for code, dtype in filter(None, found) if isinstance(code, ir.BlockArgument))
    return [name for _, name in places]


def _is_read(value: ir.Value, n_in: int) -> bool:
    if (coded := codecs.narrowed(value)) is not None:
        value = coded[0]
    while (narrow := widened_from(value)) is not None:
        value = narrow
    return isinstance(value, ir.BlockArgument) and value.arg_number < n_in


def _is_code(value: ir.Value, n_in: int) -> bool:
    """Whether a value is an operand of signed 8-bit integers, widened."""
    if isinstance(value.owner, ir.Block) or value.owner.name != "arith.extsi":
        return False
    source = value.owner.operands[0]
    return isinstance(source, ir.BlockArgument) and source.arg_number < n_in and str(source.type) == "i8"


def widened_from(value: ir.Value) -> ir.Value | None:
    """What a float value is the same number as, in a narrower type: by arith.extf, or bf16 shifted to the upper half of f32."""
    for name in ("arith.bitcast", "arith.shli", "arith.extui", "arith.bitcast"):
        if isinstance(value.owner, ir.Block):
            return None
        if value.owner.name == "arith.extf":
            return value.owner.operands[0]
        if value.owner.name != name or (name == "arith.shli" and not _is_sixteen(value.owner.operands[1])):
            return None
        value = value.owner.operands[0]
    return value if isinstance(value.type, ir.BF16Type) else None


def rounded_from(value: ir.Value) -> ir.Value | None:
    """The f32 value that a 16-bit float is rounded from: by arith.truncf, or as `codecs.encode` writes it for bf16."""
    if isinstance(value.owner, ir.Block):
        return None
    if value.owner.name == "arith.truncf":
        wide = value.owner.operands[0]
        return wide if isinstance(wide.type, ir.F32Type) else None
    if not isinstance(value.type, ir.BF16Type):
        return None
    for name in ("arith.bitcast", "arith.trunci", "arith.select", "arith.cmpf"):  # the last: whether it is NaN
        if isinstance(value.owner, ir.Block) or value.owner.name != name:
            return None
        value = value.owner.operands[0]
    return value


def _is_sixteen(value: ir.Value) -> bool:
    return not isinstance(value.owner, ir.Block) and value.owner.name == "arith.constant" and value.owner.attributes["value"].value == 16


def volume(extents: Sequence[int]) -> int:
    """The number of points of a box."""
    n = 1
    for e in extents:
        n *= e
    return n
