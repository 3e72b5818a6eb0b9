"""Task mappings: which worker does which points of a box, and in which order, as products of `spatial` and `repeat`.

The algebra is Hidet's (Ding et al., ASPLOS 2023, section 5.1). `spatial(a, b)` gives each of a*b workers one task, `repeat(a, b)` gives one
worker a*b tasks in order, both row-major; `f * g` nests them. Worker w of the product does, for each task t of f(w // |g|) and each task u
of g(w % |g|), the task `t * g.shape + u`. The product is associative, not commutative.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import product
from math import prod
from typing import Literal, NamedTuple

from mlc.errors import OptionError

_TOKEN = re.compile(r"\s*(?:(?P<name>[A-Za-z_]\w*)|(?P<number>[0-9]+)|(?P<mark>[(),*]))")


class Digit(NamedTuple):
    """A term of an index: `index[dim] += (n // period % extent) * stride`, n being the worker if spatial, else its task's number."""

    spatial: bool
    dim: int
    extent: int
    stride: int
    period: int


@dataclass(frozen=True)
class Factor:
    """One `spatial` or `repeat`."""

    kind: Literal["spatial", "repeat"]
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.kind}({', '.join(map(str, self.shape))})"


@dataclass(frozen=True)
class TaskMap:
    """A product of factors, outermost first. Every factor has the map's rank; those of one point (which change nothing) are dropped."""

    rank: int
    factors: tuple[Factor, ...]

    def __post_init__(self) -> None:
        for f in self.factors:
            if len(f.shape) != self.rank:
                raise OptionError(f"task map has factors of ranks {self.rank} and {len(f.shape)}; expected equal ranks")
            if min(f.shape) < 1:
                raise OptionError(f"task map has {f}; expected extents of at least 1")
        object.__setattr__(self, "factors", tuple(f for f in self.factors if prod(f.shape) > 1))

    def __mul__(self, inner: "TaskMap") -> "TaskMap":
        """Both nested, `inner` inside. Raises OptionError if the ranks differ."""
        if self.rank != inner.rank:
            raise OptionError(f"task maps {self} and {inner} have ranks {self.rank} and {inner.rank}; expected equal ranks")
        return TaskMap(self.rank, self.factors + inner.factors)

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents of the box that the map covers, each point once."""
        return tuple(prod(f.shape[d] for f in self.factors) for d in range(self.rank))

    @property
    def workers(self) -> int:
        return prod(prod(f.shape) for f in self.factors if f.kind == "spatial")

    def digits(self) -> tuple[Digit, ...]:
        """The map in closed form: an index is a sum of digits of the worker and of the task's number. Outermost first, none of extent 1."""
        found: list[Digit] = []
        strides = [1] * self.rank
        periods = {"spatial": 1, "repeat": 1}
        for f in reversed(self.factors):
            for d in reversed(range(self.rank)):
                if f.shape[d] > 1:
                    found.append(Digit(f.kind == "spatial", d, f.shape[d], strides[d], periods[f.kind]))
                periods[f.kind] *= f.shape[d]
                strides[d] *= f.shape[d]
        return tuple(reversed(found))

    def tasks(self, worker: int) -> list[tuple[int, ...]]:
        """The points of a worker in [0, workers), in the order in which it does them."""
        found, inside = [(0,) * self.rank], self.workers
        for f in self.factors:
            steps: list[tuple[int, ...]] = list(product(*map(range, f.shape)))
            if f.kind == "spatial":
                inside //= len(steps)
                steps = [steps[worker // inside % len(steps)]]
            found = [tuple(t * n + u for t, n, u in zip(task, f.shape, step, strict=True)) for task in found for step in steps]
        return found

    def __str__(self) -> str:
        return " * ".join(map(str, self.factors)) or str(Factor("repeat", (1,) * self.rank))

    @staticmethod
    def parse(text: str) -> "TaskMap":
        """The map that `str` wrote. Raises OptionError, which names the position (1 is the first character) of what is wrong."""
        return _Parser(text).map()


def spatial(*shape: int) -> TaskMap:
    """prod(shape) workers with one task each, in row-major order."""
    return TaskMap(len(shape), (Factor("spatial", shape),))


def repeat(*shape: int) -> TaskMap:
    """One worker with prod(shape) tasks, in row-major order."""
    return TaskMap(len(shape), (Factor("repeat", shape),))


class _Parser:
    """map = factor ('*' factor)*; factor = ('spatial' | 'repeat') '(' number (',' number)* ')'."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = self._tokens()
        self.kind, self.token, self.at = next(self.tokens)

    def _tokens(self) -> Iterator[tuple[str, str, int]]:
        at, end = 0, len(self.text.rstrip())
        while at < end:
            match = _TOKEN.match(self.text, at)
            if match is None or match.lastgroup is None:
                at += len(self.text[at:]) - len(self.text[at:].lstrip())
                raise self._error(f"unexpected '{self.text[at]}'", at)
            yield match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)
            at = match.end()
        yield "end", "the end", end

    def _error(self, message: str, at: int) -> OptionError:
        return OptionError(f"task map '{self.text}', position {at + 1}: {message}", hint="such as: repeat(4, 1) * spatial(8, 16)")

    def _take(self, kind: str, *allowed: str) -> str:
        """The token, which must be of a kind and, if any are given, one of those allowed; moves on."""
        token, at = self.token, self.at
        if self.kind != kind or (allowed and token not in allowed):
            expected = " or ".join(f"'{a}'" for a in allowed) or f"a {kind}"
            raise self._error(f"expected {expected}, found {token if self.kind == 'end' else repr(token)}", at)
        if kind != "end":
            self.kind, self.token, self.at = next(self.tokens)
        return token

    def map(self) -> TaskMap:
        maps = [self._factor(None)]
        while self.kind != "end":
            self._take("mark", "*")
            maps.append(self._factor(maps[0].rank))
        return reduce(TaskMap.__mul__, maps)

    def _factor(self, rank: int | None) -> TaskMap:
        start = self.at
        make = {"spatial": spatial, "repeat": repeat}[self._take("name", "spatial", "repeat")]
        self._take("mark", "(")
        shape = [self._extent()]
        while self._take("mark", ",", ")") == ",":
            shape.append(self._extent())
        if rank not in (None, len(shape)):
            raise self._error(f"factor has rank {len(shape)}, expected {rank}", start)
        return make(*shape)

    def _extent(self) -> int:
        at, digits = self.at, self._take("number").lstrip("0")
        if not digits or len(digits) > 18:  # an index has 64 bits
            raise self._error(f"extent {digits[:18] or 0}{'...' * (len(digits) > 18)} is not in [1, 10^18)", at)
        return int(digits)
