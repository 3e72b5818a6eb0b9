"""graph.random: numbers drawn by position, not by state, from a counter-based generator (Philox4x32-10), so that kernels stay parallel."""

from collections.abc import Sequence
from math import pi

from mlc.dialects._build import Builder, Tensor
from mlc.dialects._ext import Result, VerifyError
from mlc.dialects.graph._base import GraphOp, TensorType, create
from mlc.dialects.graph.elementwise import element_type, type_attribute
from mlc.dtypes import F32, F64, I32, I64, U32, U64, DType
from mlc.ir.mlir import ir
from mlc.ir.scalar import Scalar, constant

DISTRIBUTIONS = ("uniform", "normal")
ROUNDS = 10
# Of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3".
MULTIPLIERS, KEY_STEPS = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)


class RandomOp(GraphOp, name="random"):
    """Random f32 or f64: `uniform` in [0, 1) or `normal` (mean 0, deviation 1), a function of `seed` and the element's position alone.

    Element i takes the first two words of Philox4x32-10 with counter (i, 0) and key `seed`: the same on every machine but for the last
    bits of log and cos. Another run gives the same numbers.

    Example: %y = "graph.random"() {shape = [2, 3], distribution = "uniform", seed = 7, to = f32} : () -> tensor<2x3xf32>
    """

    shape: list
    distribution: str
    seed: int
    to: ir.Type
    y: Result

    @staticmethod
    def infer(types: list[TensorType], shape: list, distribution: str, seed: int, to: ir.Type) -> list[TensorType]:
        if distribution not in DISTRIBUTIONS:
            raise VerifyError(f"knows no distribution '{distribution}'; there are {', '.join(DISTRIBUTIONS)}")
        dtype = element_type(to)
        if dtype not in (F32, F64) or min(shape, default=0) < 0:
            raise VerifyError(f"gives f32 or f64 of a static shape, not {dtype} {shape}")
        return [TensorType(tuple(shape), dtype)]

    def decompose(self, b: Builder, xs: list[Tensor]) -> list[Tensor]:
        out, seed, normal = self.types[0], self.py("seed"), self.py("distribution") == "normal"

        def body() -> Scalar:
            position = constant(0, I64)
            for d, extent in enumerate(out.shape):
                position = position * extent + b.index(d)
            counter = [position.to(U32), position.shr(32).to(U32), constant(0, U32), constant(0, U32)]
            words = philox(counter, (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF))
            if out.dtype == F64:
                first, second = _unit64(words[0], words[1]), _unit64(words[2], words[3])
            else:
                first, second = _unit32(words[0]), _unit32(words[1])
            if not normal:
                return first
            radius = ((1.0 - first).math("log") * -2.0).math("sqrt")  # 1 - first is never 0
            return radius * (second * (2 * pi)).math("cos")

        return [b.compute(out.shape, out.dtype, [], body)]


def philox(counter: Sequence[Scalar], key: tuple[int, int]) -> list[Scalar]:
    """Four random words from a counter of four and a key of two."""
    c0, c1, c2, c3 = counter
    for turn in range(ROUNDS):
        k0, k1 = ((k + turn * step) & 0xFFFFFFFF for k, step in zip(key, KEY_STEPS, strict=True))
        first, second = (c.to(U64) * m for c, m in ((c0, MULTIPLIERS[0]), (c2, MULTIPLIERS[1])))
        c0, c1, c2, c3 = second.shr(32).to(U32) ^ c1 ^ k0, second.to(U32), first.shr(32).to(U32) ^ c3 ^ k1, first.to(U32)
    return [c0, c1, c2, c3]


def _unit32(word: Scalar) -> Scalar:
    """The upper 24 bits as a multiple of 2^-24."""
    return word.shr(8).bitcast(I32).to(F32) * 2.0**-24


def _unit64(high: Scalar, low: Scalar) -> Scalar:
    """53 bits as a multiple of 2^-53."""
    return (high.shr(5).to(U64).shl(26) | low.shr(6).to(U64)).bitcast(I64).to(F64) * 2.0**-53


def random(shape: Sequence[int], distribution: str, seed: int, dtype: DType = F32) -> ir.Value:
    """`random((2, 3), "normal", seed=7)`; the seed is taken modulo 2^64."""
    seed &= (1 << 64) - 1
    signed = seed - (seed >> 63 << 64)
    return create(RandomOp, [], shape=[int(d) for d in shape], distribution=distribution, seed=signed, to=type_attribute(dtype))[0]


__all__ = ["RandomOp", "philox", "random"]
