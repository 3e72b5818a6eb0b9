"""Runs numbered tests in forked workers: one that kills, hangs or poisons its process fails, and a fresh process takes over."""

import multiprocessing as mp
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

Check = Callable[[int], str | None]
"""Why a test fails; None if it passes."""

POISON = ("CUDA_ERROR", "hipError", "faulted")  # after a fault every later call of the process fails as well
NOT_RUN = "not run: the time was used up"


@dataclass
class Worker:
    """A process that runs the tests it is told, one by one."""

    check: Check
    current: int = -1
    since: float = 0.0
    process: Any = field(init=False)
    pipe: Connection = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        context = mp.get_context("fork")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(self.check, other), daemon=True)
        self.process.start()
        other.close()

    def give(self, index: int) -> None:
        self.current, self.since = index, time.monotonic()
        self.pipe.send(index)

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def restart(self) -> None:
        self.stop()
        self.start()

    def outcome(self, timeout: float) -> tuple[bool, str | None]:
        """Whether the current test is over, and how it ended; leaves a process that can go on."""
        try:
            if self.pipe.poll():
                text = self.pipe.recv()
                if text is not None and any(word in text for word in POISON):
                    self.restart()
                return True, text
            if time.monotonic() - self.since > timeout:
                self.restart()
                return True, f"timed out after {timeout:.0f} s"
        except (EOFError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode
            self.restart()
            return True, f"crashed the process (exit code {code})"
        return False, None


def _serve(check: Check, pipe: Connection) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)  # stack traces of crashes, which the parent reports as failures
    while True:
        pipe.send(check(pipe.recv()))


def run_all(tests: Sequence[int], check: Check, jobs: int, timeout: float, budget: float,
            report: Callable[[int, str | None, int], None]) -> dict[int, str | None]:
    """Failure text (None: passed) of each test. timeout: seconds of one; budget: of all, after which the rest counts as failed."""
    todo, results, deadline = list(reversed(tests)), dict[int, str | None](), time.monotonic() + budget
    workers = [Worker(check) for _ in range(min(jobs, len(todo)))]
    for worker in workers:
        worker.give(todo.pop())
    while workers:
        wait([w.pipe for w in workers], timeout=1)
        late = time.monotonic() > deadline
        for worker in list(workers):
            over, failure = worker.outcome(timeout)
            if not over and late:
                over, failure = True, NOT_RUN
            if not over:
                continue
            results[worker.current] = failure
            report(worker.current, failure, len(results))
            if todo and not late:
                worker.give(todo.pop())
            else:
                worker.stop()
                workers.remove(worker)
    return results | dict.fromkeys(todo, NOT_RUN)
