"""Linear index expressions: constant + sum of coefficient * variable."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Linear:
    """`const + sum(coefficients[i] * variable_i)` over a fixed number of variables."""

    coefficients: tuple[int, ...]
    const: int = 0

    @staticmethod
    def variable(index: int, count: int) -> "Linear":
        return Linear(tuple(int(i == index) for i in range(count)))

    @staticmethod
    def constant(value: int, count: int) -> "Linear":
        return Linear((0,) * count, value)

    def __add__(self, other: "Linear | int") -> "Linear":
        if isinstance(other, int):
            return Linear(self.coefficients, self.const + other)
        return Linear(tuple(a + b for a, b in zip(self.coefficients, other.coefficients, strict=True)), self.const + other.const)

    def __mul__(self, factor: int) -> "Linear":
        return Linear(tuple(c * factor for c in self.coefficients), self.const * factor)

    def compose(self, inner: Sequence["Linear"], count: int) -> "Linear":
        """This expression with variable i replaced by inner[i] (expressions over `count` variables)."""
        total = Linear.constant(self.const, count)
        for c, e in zip(self.coefficients, inner, strict=True):
            if c:
                total = total + e * c
        return total

    @property
    def is_constant(self) -> bool:
        return not any(self.coefficients)

    def only(self) -> int | None:
        """The variable this is plainly equal to (coefficient 1, no constant), if any."""
        used = [i for i, c in enumerate(self.coefficients) if c]
        return used[0] if len(used) == 1 and self.coefficients[used[0]] == 1 and self.const == 0 else None


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides, in elements, of a dense row-major array."""
    strides, step = [], 1
    for d in reversed(shape):
        strides.append(step)
        step *= d
    return tuple(reversed(strides))


def flatten(indices: Sequence[Linear], shape: Sequence[int], count: int) -> Linear:
    """The element offset of an access into a dense row-major array."""
    total = Linear.constant(0, count)
    for e, s in zip(indices, row_major(shape), strict=True):
        total = total + e * s
    return total
