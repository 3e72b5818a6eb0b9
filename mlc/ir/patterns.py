"""Rewrite patterns without their traps: True means rewritten, exceptions stay in Python, an endless run names its pattern.

    fold = Patterns()

    @fold.add(graph.TransposeOp)
    def drop_identity(op, rewriter):
        if op.permutation != sorted(op.permutation):
            return False
        rewriter.replace_op(op, [op.x])
        return True

    fold.greedy(module)

In a pattern, build ops under `with op.location, rewriter.ip:`, and do not touch an op after replacing or erasing it (the process dies).
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

from mlc.errors import CompilerError
from mlc.ir.mlir import ir, rewrite

Pattern = Callable[[Any, Any], Any]  # returns a bool, which is checked


class Patterns:
    """A set of patterns, usable in any context. limit: rewrites in one run that count as endless."""

    def __init__(self, *, limit: int = 1_000_000) -> None:
        self.limit = limit
        self._patterns: list[tuple[str, Pattern, int]] = []

    def add(self, *roots: str | type, benefit: int = 1) -> Callable[[Pattern], Pattern]:
        """Registers a pattern for op classes or names; higher benefit is tried first."""

        def register(fn: Pattern) -> Pattern:
            for root in roots:
                self._patterns.append((root if isinstance(root, str) else root.OPERATION_NAME, fn, benefit))  # type: ignore[attr-defined]
            return fn

        return register

    def greedy(self, root: Any) -> int:
        """Applies the patterns, folds and drops dead ops until nothing changes; returns how often a pattern rewrote."""
        config = rewrite.GreedyRewriteConfig()
        # The driver does not see ops that patterns create until its next iteration, so a long chain needs many: `limit` stops instead.
        config.max_iterations = -1
        return self._run(root, lambda op, frozen: rewrite.apply_patterns_and_fold_greedily(op, frozen, config))

    def walk(self, root: Any) -> int:
        """Applies the patterns once to each op inside `root`, not to ops they create; returns how often a pattern rewrote."""
        return self._run(root, rewrite.walk_and_apply_patterns)

    def _run(self, root: Any, driver: Callable[[ir.Operation, Any], None]) -> int:
        run = _Run(self.limit)
        with root.operation.context:
            # Built per run: a set frozen in one context does nothing in another, without a word.
            patterns = rewrite.RewritePatternSet()
            for name, fn, benefit in self._patterns:
                patterns.add(name, run.guard(fn), benefit)
            frozen = patterns.freeze()
            try:
                driver(root.operation, frozen)
            except ir.MLIRError:
                if run.error is None:
                    raise
        if run.error is not None:
            raise run.error
        return run.fired.total()


class _Run:
    """What one run of a driver has done; after the first exception no pattern matches any more."""

    def __init__(self, limit: int) -> None:
        self.limit, self.total = limit, 0
        self.error: BaseException | None = None
        self.fired: Counter[str] = Counter()

    def guard(self, fn: Pattern) -> Callable[[Any, Any], bool]:
        """The pattern as the driver wants it: falsy is a match, and nothing is raised through C++ frames (which leaks)."""

        def call(op: Any, rewriter: Any) -> bool:
            if self.error is not None:
                return True
            # Described now: after a rewrite the op is gone.
            name, location = op.operation.name, op.operation.location
            try:
                return not self.apply(fn, op, rewriter)
            except BaseException as error:
                error.add_note(f"while applying pattern '{fn.__name__}' to '{name}' at {location}")
                self.error = error
                return True

        return call

    def apply(self, fn: Pattern, op: Any, rewriter: Any) -> bool:
        rewritten = fn(op, rewriter)
        if not isinstance(rewritten, bool):
            raise TypeError(f"pattern '{fn.__name__}' returned {rewritten!r}; return True if it rewrote the op, False if not")
        if rewritten:
            self.total += 1
            self.fired[fn.__name__] += 1
            if self.total > self.limit:
                name, times = self.fired.most_common(1)[0]
                raise CompilerError(f"patterns do not come to an end: '{name}' rewrote {times} times of {self.total}")
        return rewritten
