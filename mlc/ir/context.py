"""Makes MLIR contexts for mlc."""

from mlc.ir.mlir import ir


def make_context() -> ir.Context:
    """A fresh single-threaded context that accepts our ops, which the C++ side does not know (see mlc/dialects/_ext.py).

    Never enable its multithreading: Python callbacks would deadlock.
    """
    context = ir.Context()
    context.allow_unregistered_dialects = True
    return context
