"""vector ops on numpy arrays, for the simulated GPU: lanes of the GPU are the leading axis, a vector's own axes follow."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
from gpu_sim_core import Function, Lanes, Program, Step, dtype_of, fit, pure, rank_of, rule, shape_of
from gpu_sim_ops import _SIMPLE

from mlc.ir.mlir import ir

DYNAMIC = ir.ShapedType.get_dynamic_size()


def _lead(value: Any, rank: int) -> tuple[int, ...]:
    """(lanes,), or () for a value that is equal in all lanes."""
    return np.shape(value)[:np.ndim(value) - rank]


@pure("vector.broadcast")
def _broadcast(op: ir.Operation) -> Function:
    rank, shape = rank_of(op.operands[0]), shape_of(op.results[0].type)
    return lambda x: np.broadcast_to(fit(x, rank, len(shape)), (*_lead(x, rank), *shape))


@pure("vector.shape_cast")
def _shape_cast(op: ir.Operation) -> Function:
    rank, shape = rank_of(op.operands[0]), shape_of(op.results[0].type)
    return lambda x: np.reshape(x, (*_lead(x, rank), *shape))


@pure("vector.bitcast")
def _bitcast(op: ir.Operation) -> Function:
    dtype = dtype_of(op.results[0].type)
    return lambda x: np.ascontiguousarray(x).view(dtype)


@pure("vector.transpose")
def _transpose(op: ir.Operation) -> Function:
    order = [int(d) for d in op.attributes["permutation"]]

    def compute(x: Any) -> Any:
        lead = np.ndim(x) - len(order)
        return np.transpose(x, [*range(lead), *[lead + d for d in order]])

    return compute


@pure("vector.step")
def _step(op: ir.Operation) -> Function:
    return lambda: np.arange(shape_of(op.results[0].type)[0])


@pure("vector.from_elements")
def _from_elements(op: ir.Operation) -> Function:
    shape, dtype = shape_of(op.results[0].type), dtype_of(op.results[0].type)

    def compute(*xs: Any) -> Any:
        stacked = np.stack(np.broadcast_arrays(*xs), -1).astype(dtype)
        return stacked.reshape(*stacked.shape[:-1], *shape)

    return compute


@pure("vector.to_elements")
def _to_elements(op: ir.Operation) -> Function:
    rank = rank_of(op.operands[0])

    def compute(x: Any) -> list[Any]:
        flat = np.reshape(x, (*_lead(x, rank), -1))
        return [flat[..., k] for k in range(flat.shape[-1])]

    return lambda x: tuple(compute(x))


def _place(op: ir.Operation, dynamic: list[Any], lead: tuple[int, ...]) -> tuple[Any, ...]:
    """The numpy index of `static_position` behind the lanes."""
    rest = iter(dynamic)
    index = [next(rest) if n == DYNAMIC else n for n in op.attributes["static_position"]]
    if lead and any(np.ndim(d) for d in dynamic):
        return (np.arange(lead[0]), *index)
    return (*[slice(None)] * len(lead), *index)


@rule("vector.extract")
def _extract(program: Program, op: ir.Operation) -> Step:
    (source, *dynamic), target = program.slots_of(op.operands), program.slot(op.results[0])
    rank = rank_of(op.operands[0])

    def run(lanes: Lanes) -> None:
        x, at = lanes.env[source], [lanes.env[d] for d in dynamic]
        if any(np.ndim(d) for d in at):
            x = np.broadcast_to(x, (lanes.count, *np.shape(x)[np.ndim(x) - rank:]))
        lanes.env[target] = x[_place(op, at, _lead(x, rank))]

    return run


@rule("vector.insert")
def _insert(program: Program, op: ir.Operation) -> Step:
    (value, into, *dynamic), target = program.slots_of(op.operands), program.slot(op.results[0])
    small, rank = rank_of(op.operands[0]), rank_of(op.operands[1])

    def run(lanes: Lanes) -> None:
        part, whole, at = lanes.env[value], lanes.env[into], [lanes.env[d] for d in dynamic]
        lead = _lead(part, small) or _lead(whole, rank) or ((lanes.count,) if any(np.ndim(d) for d in at) else ())
        made = np.broadcast_to(whole, (*lead, *np.shape(whole)[np.ndim(whole) - rank:])).copy()
        made[_place(op, at, lead)] = part
        lanes.env[target] = made

    return run


def _numbers(op: ir.Operation, name: str) -> list[int]:
    return [int(getattr(n, "value", n)) for n in op.attributes[name]]


@pure("vector.extract_strided_slice")
def _extract_slice(op: ir.Operation) -> Function:
    rank = rank_of(op.operands[0])
    cut = [slice(o, o + n) for o, n in zip(_numbers(op, "offsets"), _numbers(op, "sizes"))]
    cut += [slice(None)] * (rank - len(cut))
    return lambda x: x[(..., *cut)]


@pure("vector.insert_strided_slice")
def _insert_slice(op: ir.Operation) -> Function:
    small, rank = shape_of(op.operands[0].type), rank_of(op.operands[1])
    offsets = _numbers(op, "offsets")
    cut = [slice(o, o + n) for o, n in zip(offsets, [1] * (rank - len(small)) + list(small))]

    def compute(part: Any, whole: Any) -> Any:
        lead = _lead(part, len(small)) or _lead(whole, rank)
        made = np.broadcast_to(whole, (*lead, *np.shape(whole)[np.ndim(whole) - rank:])).copy()
        made[(..., *cut)] = np.reshape(part, (*_lead(part, len(small)), *[1] * (rank - len(small)), *small))
        return made

    return compute


@pure("vector.shuffle")
def _shuffle(op: ir.Operation) -> Function:
    picks = _numbers(op, "mask")

    def compute(a: Any, b: Any) -> Any:
        lead = _lead(a, 1) or _lead(b, 1)
        joined = np.concatenate([np.broadcast_to(x, (*lead, np.shape(x)[-1])) for x in (a, b)], -1)
        return joined[..., picks]

    return compute


@pure("vector.interleave")
def _interleave(op: ir.Operation) -> Function:
    return lambda a, b: np.stack(np.broadcast_arrays(a, b), -1).reshape(*np.broadcast(a, b).shape[:-1], -1)


@pure("vector.deinterleave")
def _deinterleave(op: ir.Operation) -> Function:
    return lambda x: (x[..., ::2], x[..., 1::2])


@pure("vector.create_mask")
def _create_mask(op: ir.Operation) -> Function:
    n = shape_of(op.results[0].type)[0]
    return lambda limit: np.arange(n) < np.asarray(limit)[..., None]


_FOLDS: dict[str, Callable[[Any, Any], Any]] = {
    "add": np.add, "mul": np.multiply, "minui": _SIMPLE["arith.minui"], "minsi": np.minimum, "minnumf": np.fmin,
    "maxui": _SIMPLE["arith.maxui"], "maxsi": np.maximum, "maxnumf": np.fmax, "and": np.bitwise_and, "or": np.bitwise_or,
    "xor": np.bitwise_xor, "minimumf": np.minimum, "maximumf": np.maximum,
}


@pure("vector.reduction")
def _reduction(op: ir.Operation) -> Function:
    kind = str(op.attributes["kind"]).removeprefix("#vector.kind<").removesuffix(">")
    fold, n = _FOLDS[kind], shape_of(op.operands[0].type)[0]
    return lambda x, *start: reduce(fold, [*start, *[x[..., k] for k in range(n)]])
