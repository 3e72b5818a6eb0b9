"""Two sides of a branch that wait for each other on a simulated GPU: they take turns, one runs until it has to wait."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from gpu_sim_memory import Fault

from mlc.dialects._ext import operations
from mlc.ir.mlir import ir


def operations_of(region: ir.Region) -> list[ir.Operation]:
    """Every operation in a region."""
    found = [view.operation for block in region for view in block.operations]
    return [*found, *(inner for op in found for inner in operations(op))]


def waits(op: ir.Operation) -> bool:
    """Whether an op waits for other threads, at an mbarrier."""
    return op.name == "llvm.inline_asm" and "mbarrier.try_wait" in op.attributes["asm_string"].value


class Turns:
    """Runs two functions, each in a thread of its own, never at the same time. `wait` hands over; if nobody is left, it is a fault."""

    def __init__(self, lanes: Any) -> None:
        self.lanes = lanes
        self.changed = threading.Condition()
        self.turn = 0
        self.running = [True, True]
        self.stuck = 0  # waits in a row in which nothing happened
        self.errors: list[BaseException] = []

    def run(self, sides: list[Callable[[], None]]) -> None:
        """Until both are done. Raises what either raises."""
        outer, self.lanes.turns = self.lanes.turns, self
        threads = [threading.Thread(target=self._side, args=(i, side), daemon=True) for i, side in enumerate(sides)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.lanes.turns = outer
        if self.errors:
            raise self.errors[0]

    def _side(self, number: int, side: Callable[[], None]) -> None:
        try:
            self._until(number)
            with np.errstate(all="ignore"):
                side()
        except BaseException as error:
            self.errors.append(error)
        with self.changed:
            self.running[number] = False
            self.turn = 1 - number
            self.changed.notify_all()

    def _until(self, number: int) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.turn == number or self.errors)
        if self.errors:
            raise Fault("the other side of the branch failed")

    def wait(self, satisfied: Callable[[], bool]) -> None:
        """Lets the other side run until the condition holds."""
        number, mask = self.turn, self.lanes.mask
        while not satisfied():
            self.stuck += 1
            if not self.running[1 - number] or self.stuck > 2:
                raise Fault("deadlock: waits for a barrier that nobody will complete")
            with self.changed:
                self.turn = 1 - number
                self.changed.notify_all()
            self._until(number)
            self.lanes.mask = mask
        self.stuck = 0
