"""Copies of ops whose operands are replaced by others: how bodies are inlined, merged and moved."""

from mlc.ir.mlir import ir


def clone(op: ir.Operation, env: dict[ir.Value, ir.Value]) -> ir.Operation:
    """Clones an op, regions included, at the insertion point. Values in env are replaced everywhere inside; env gains the results."""
    copy = op.clone()
    _remap(copy, env)
    env.update(zip(op.results, copy.results))
    return copy


def _remap(op: ir.Operation, env: dict[ir.Value, ir.Value]) -> None:
    for i, v in enumerate(op.operands):
        if v in env:
            op.operands[i] = env[v]
    for region in op.regions:
        for block in region:
            for inner in block.operations:
                _remap(inner.operation, env)
