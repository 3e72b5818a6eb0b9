"""The scalar body of a task.foreach or task.reduce, emitted on scalars or on vectors along one loop index."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd

from mlc.dialects._ext import operations
from mlc.ir.clone import clone
from mlc.ir.mlir import arith, ir, vector
from mlc.ir.scalar import extreme
from mlc.layout.linear import row_major
from mlc.passes.task.flat import (
    Access,
    Memory,
    divisor,
    gather,
    index_constant,
    linear_index,
    load_lanes,
    load_scalar,
    splat,
    step,
    vector_type,
)
from mlc.passes.tile.model import index_roots

KINDS = {"addf": "add", "addi": "add", "mulf": "mul", "muli": "mul", "maximumf": "maximumf", "minimumf": "minimumf", "andi": "and",
         "ori": "or", "xori": "xor", "maxsi": "maxsi", "maxui": "maxui", "minsi": "minsi", "minui": "minui"}


@dataclass
class Lanes:
    """Which loop index runs across lanes, and how many lanes there are."""

    index: ir.Value | None
    count: int


class Body:
    """Emits the ops of one foreach (or of a region of another op with `extents`) at the insertion point.

    `reduce` is the subclass's, which knows how loops run.

    accesses: the flat access of each task.load and task.store. reductions: the task.reduce ops. used_as_value: indices that are more than
    addresses. loops: whether there are loops (or branches) inside, which only scalars go through.
    """

    def __init__(self, foreach: ir.Operation, memory: Memory, region: int = 0) -> None:
        self.memory = memory
        self.block = foreach.regions[region].blocks[0]
        indices = [a for a in self.block.arguments if isinstance(a.type, ir.IndexType)]
        self.extents: dict[ir.Value, int] = dict(zip(indices, foreach.opview.py("extents")))
        self.accesses: dict[ir.Operation, Access] = {}
        self.reductions: list[ir.Operation] = []
        self.used_as_value: set[ir.Value] = set()
        self.loops = any(op.name.startswith("scf.") for op in operations(foreach))
        still = {v for v, n in self.extents.items() if n == 1}  # they are 0, and no access moves along them
        for op in operations(foreach):
            operands = list(op.operands)
            if op.name == "task.reduce":
                still |= {v for v, n in zip(op.regions[0].blocks[0].arguments, op.opview.py("extents")) if n == 1}
            if op.name == "task.load":
                self.accesses[op] = memory.access(operands[0], operands[1:], op.attributes["map"]).without(still)
            elif op.name == "task.store":
                self.accesses[op] = memory.access(operands[1], operands[2:], op.attributes["map"]).without(still)
            else:
                self.used_as_value.update(v for v in operands if isinstance(v.type, ir.IndexType))
            if op.name == "task.reduce":
                self.reductions.append(op)

    def reduce(self, op: ir.Operation, lanes: Lanes, env: dict[ir.Value, ir.Value]) -> list[ir.Value]:
        """Emits a task.reduce; returns its results."""
        raise AssertionError(f"{type(self).__name__} has no reductions")

    def read_lanes(self, access: Access, at: ir.Value, stride: int, lanes: Lanes) -> ir.Value:
        """Lanes of a buffer, `stride` elements apart, the first at `at`."""
        return load_lanes(self.memory.flat[access.buffer], at, stride, lanes.count)

    def gather_lanes(self, buffer: ir.Value, places: ir.Value, lanes: Lanes) -> ir.Value:
        """Lanes of flat memory at a vector of places."""
        return gather(buffer, index_constant(0), places, lanes.count)

    def read_near(self, buffer: ir.Value, at: ir.Value, lanes: Lanes, even: int) -> ir.Value:
        """Consecutive elements of a buffer, the first at `at` of flat memory, which is a multiple of `even` beyond the lane index."""
        return load_lanes(self.memory.flat[buffer], at, 1, lanes.count)

    def write_lanes(self, access: Access, at: ir.Value, lanes: Lanes, value: ir.Value) -> None:
        """Stores a vector at consecutive places from `at`."""
        vector.StoreOp(value, self.memory.flat[access.buffer], [at])

    def ops(self, block: ir.Block, lanes: Lanes, env: dict[ir.Value, ir.Value]) -> list[ir.Value]:
        """Emits a block's ops; returns the values it yields."""
        for view in block.operations:
            op = view.operation
            with op.location:
                if op.name == "task.yield":
                    return [env[v] for v in op.operands]
                if op.name == "task.load":
                    env[op.results[0]] = self._load(op, lanes, env)
                elif op.name == "task.store":
                    self._store(op, lanes, env)
                elif op.name == "task.reduce":
                    env.update(zip(op.results, self.reduce(op, lanes, env)))
                elif op.name == "memref.load":
                    env[op.results[0]] = self._gather(op, lanes, env)
                else:
                    self._clone(op, lanes, env)
        return []

    def _value(self, value: ir.Value, lanes: Lanes, env: Mapping[ir.Value, ir.Value]) -> ir.Value:
        """The current value; the lane index used as a value is a vector."""
        current = env[value]
        if lanes.index is not None and value == lanes.index:
            return arith.AddIOp(splat(current, lanes.count), step(lanes.count)).result
        return current

    def _clone(self, op: ir.Operation, lanes: Lanes, env: dict[ir.Value, ir.Value]) -> None:
        """The same op on scalars, or on vectors when an operand is one. Loops are on scalars alone."""
        if len(op.regions):
            for source, copy in zip(operations(op), operations(clone(op, env)), strict=True):
                if source.name == "memref.load":
                    self._flatten(copy, source.operands[0])
            return
        operands = [self._value(v, lanes, env) for v in op.operands]
        wide = any(isinstance(v.type, ir.VectorType) for v in operands)
        if wide:
            operands = [v if isinstance(v.type, ir.VectorType) else splat(v, lanes.count) for v in operands]
        types = [vector_type(lanes.count, r.type) if wide else r.type for r in op.results]
        copy = ir.Operation.create(op.name, results=types, operands=operands, attributes={k: op.attributes[k] for k in op.attributes})
        env.update(zip(op.results, copy.results))

    def _flatten(self, load: ir.Operation, buffer: ir.Value) -> None:
        """Makes a scalar load of a buffer one of flat memory."""
        with load.location, ir.InsertionPoint(load):
            total = index_constant(0)
            for v, s in zip(list(load.operands)[1:], row_major(buffer.type.shape), strict=True):
                total = arith.AddIOp(total, arith.MulIOp(v, index_constant(s)).result).result
            load.results[0].replace_all_uses_with(load_scalar(self.memory.flat[buffer], total))
        load.erase()

    def _load(self, op: ir.Operation, lanes: Lanes, env: Mapping[ir.Value, ir.Value]) -> ir.Value:
        access = self.accesses[op]
        buffer, at = self.memory.flat[access.buffer], linear_index(access, env, self.memory.narrow)
        stride = access.stride(lanes.index) if lanes.index is not None else 0
        return load_scalar(buffer, at) if stride == 0 or lanes.count == 1 else self.read_lanes(access, at, stride, lanes)

    def _store(self, op: ir.Operation, lanes: Lanes, env: Mapping[ir.Value, ir.Value]) -> None:
        access = self.accesses[op]
        buffer, at = self.memory.flat[access.buffer], linear_index(access, env, self.memory.narrow)
        value = self._value(op.operands[0], lanes, env)
        if lanes.index is not None and lanes.count > 1 and access.stride(lanes.index):
            value = value if isinstance(value.type, ir.VectorType) else splat(value, lanes.count)
            self.write_lanes(access, at, lanes, value)
        else:
            ir.Operation.create("memref.store", operands=[value, buffer, at])

    def _gather(self, op: ir.Operation, lanes: Lanes, env: Mapping[ir.Value, ir.Value]) -> ir.Value:
        """A data-dependent element: indices are values, perhaps vectors; consecutive ones (the last follows the lanes) are one load."""
        buffer, places = op.operands[0], list(op.operands)[1:]
        if lanes.count > 1 and places and (found := beside(places[-1], lanes.index)) is not None:
            offset, terms = found
            rest = [self._value(v, lanes, env) for v in (*places[:-1], *terms)]
            if not any(isinstance(v.type, ir.VectorType) for v in rest):
                strides = (*row_major(buffer.type.shape)[:-1], *[1] * len(terms))
                total = arith.AddIOp(env[lanes.index], index_constant(offset)).result  # type: ignore[index]
                for v, s in zip(rest, strides, strict=True):
                    total = arith.AddIOp(total, arith.MulIOp(v, index_constant(s)).result).result
                even = gcd(offset, *[s * divisor(v) for v, s in zip((*places[:-1], *terms), strides, strict=True)])
                return self.read_near(buffer, total, lanes, even)
        indices = [self._value(v, lanes, env) for v in places]
        wide = any(isinstance(v.type, ir.VectorType) for v in indices)
        total = index_constant(0)
        total = splat(total, lanes.count) if wide else total
        for v, s in zip(indices, row_major(buffer.type.shape), strict=True):
            factor = index_constant(s)
            if wide:
                v = v if isinstance(v.type, ir.VectorType) else splat(v, lanes.count)
                factor = splat(factor, lanes.count)
            total = arith.AddIOp(total, arith.MulIOp(v, factor).result).result
        flat = self.memory.flat[buffer]
        return self.gather_lanes(flat, total, lanes) if wide else load_scalar(flat, total)


def beside(value: ir.Value, index: ir.Value | None) -> tuple[int, list[ir.Value]] | None:
    """(c, terms) where the value is plainly index + c + terms (through casts), none of which follows the index; else None."""
    offset, terms = 0, []
    while index is not None:
        if value == index:
            return offset, terms
        owner = value.owner
        if isinstance(owner, ir.Block):
            return None
        if owner.name == "arith.addi":
            value, term = owner.operands if index in index_roots(owner.operands[0]) else reversed(list(owner.operands))
            if (constant := _constant(term)) is not None:
                offset += constant
            elif index in index_roots(term) or not isinstance(term.type, ir.IndexType):
                return None
            else:
                terms.append(term)
        elif owner.name == "arith.index_cast":
            value = owner.operands[0]
        else:
            return None
    return None


def _constant(value: ir.Value) -> int | None:
    return None if isinstance(value.owner, ir.Block) or value.owner.name != "arith.constant" else value.owner.attributes["value"].value


def combine(name: str, a: ir.Value, b: ir.Value) -> ir.Value:
    """Joins two partial results by the op that `task.reduce` names."""
    if name in ("maximumf", "minimumf"):
        return extreme(name, a, b)
    return ir.Operation.create(f"arith.{name}", results=[a.type], operands=[a, b]).results[0]


def neutral(name: str, type_: ir.Type) -> ir.Value:
    """The value that leaves the other operand of a combining op unchanged."""
    if name.endswith("f"):
        value = {"addf": 0.0, "mulf": 1.0, "maximumf": float("-inf"), "minimumf": float("inf")}[name]
        return arith.ConstantOp(type_, ir.FloatAttr.get(type_, value)).result
    bits = ir.IntegerType(type_).width
    least = -(1 << (bits - 1))
    value = {"addi": 0, "muli": 1, "andi": -1, "ori": 0, "xori": 0, "maxsi": least, "maxui": 0, "minsi": -least - 1, "minui": -1}[name]
    return arith.ConstantOp(type_, ir.IntegerAttr.get(type_, value)).result


def power_of_two(n: int) -> int:
    """The largest power of two that is at most n (1 for none)."""
    return 1 << (n.bit_length() - 1) if n > 0 else 1
