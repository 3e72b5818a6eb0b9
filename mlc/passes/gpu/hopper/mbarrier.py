"""mbarriers in shared memory: single ones, and the full/empty rings of a producer-consumer pipeline (PTX ISA 9.7.13.15, "mbarrier").

A barrier's phase completes when its pending arrivals and its pending transaction bytes are both zero; waiters name the phase by its parity.
"""

from dataclasses import dataclass

from mlc.ir.mlir import ir, nvvm
from mlc.passes.gpu.hopper.emit import Int, add, advance, assembly, compare, mul, select, shared_address, value, xor

BARRIER_BYTES = 8


@dataclass(frozen=True)
class Barrier:
    """One mbarrier, by its shared pointer."""

    pointer: ir.Value

    def init(self, arrivals: int) -> None:
        """Made to expect `arrivals` arrivals per phase; one thread does this."""
        nvvm.MBarrierInitOp(self.pointer, value(arrivals))

    def arrive(self) -> None:
        """Counts one arrival."""
        assembly("mbarrier.arrive.shared::cta.b64 _, [$0];", [shared_address(self.pointer)])

    def arrive_expecting(self, transaction_bytes: int) -> None:
        """Counts one arrival, and makes the phase wait for that many bytes of asynchronous copies."""
        assembly("mbarrier.arrive.expect_tx.shared::cta.b64 _, [$0], $1;", [shared_address(self.pointer), value(transaction_bytes)])

    def wait(self, parity: Int) -> None:
        """Blocks until the phase of this parity is complete. try_wait suspends the thread for a while in hardware, hence the loop."""
        text = ("{ .reg .pred done; again: mbarrier.try_wait.parity.shared::cta.b64 done, [$0], $1; @done bra finished; bra again; "
                "finished: }")
        assembly(text, [shared_address(self.pointer), value(parity)])


@dataclass(frozen=True)
class Position:
    """Where a party stands in a ring: the stage, and the parity of the round (0 in the first)."""

    stage: ir.Value
    parity: ir.Value

    def next(self, stages: int) -> "Position":
        """One stage further; the parity changes when the ring wraps."""
        following = add(self.stage, 1)
        wraps = compare("eq", following, stages)
        return Position(select(wraps, 0, following), select(wraps, xor(self.parity, 1), self.parity))

    def values(self) -> list[ir.Value]:
        return [self.stage, self.parity]


@dataclass(frozen=True)
class Ring:
    """`stages` barriers "full" (data has landed), then as many "empty" (the readers are done), from `base` on."""

    base: ir.Value
    stages: int

    @staticmethod
    def bytes(stages: int) -> int:
        return 2 * stages * BARRIER_BYTES

    def full(self, stage: Int) -> Barrier:
        return Barrier(advance(self.base, mul(stage, BARRIER_BYTES)))

    def empty(self, stage: Int) -> Barrier:
        return Barrier(advance(self.base, add(mul(stage, BARRIER_BYTES), self.stages * BARRIER_BYTES)))

    def init(self, readers: int) -> None:
        """One producer arrival fills a stage, `readers` arrivals empty it. One thread does this; a block barrier follows."""
        for stage in range(self.stages):
            self.full(stage).init(1)
            self.empty(stage).init(readers)
        nvvm.FenceMbarrierInitOp()  # the inits become visible to the asynchronous proxy

    def start(self) -> Position:
        return Position(value(0), value(0))
