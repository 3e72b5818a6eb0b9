"""How a long compile shows itself: a live line on a terminal, plain lines elsewhere, nothing at all in the first second."""

import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TextIO

Report = Callable[[str, int, int], None]
"""(stage, done, total): `total` is 0 while it is unknown."""

DELAY = 1.0
PLAIN_EVERY = 5.0


def ignore(stage: str, done: int, total: int) -> None:
    """The report that nobody watches."""


class Progress:
    """A context manager that is also a `Report`. It keeps the time of each stage in `seconds`, whether it shows anything or not."""

    def __init__(self, title: str, *, show: bool = True, stream: TextIO | None = None) -> None:
        self.title, self.show, self.stream = title, show, stream or sys.stderr
        self.stage = "start"
        self.seconds: dict[str, float] = {}
        self._start = self._since = time.monotonic()
        self._printed: tuple[str, float] = ("", 0.0)
        self._live: Any = None
        self._plain = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._account(time.monotonic())
        if self._live is not None:
            self._live.stop()

    def __call__(self, stage: str, done: int = 0, total: int = 0) -> None:
        now = time.monotonic()
        if stage != self.stage:
            self._account(now)
            self.stage = stage
        if self.show and now - self._start >= DELAY:
            self._draw(now, f"{stage} {done}/{total}" if total else stage)

    def tick(self) -> None:
        """Something may be worth showing although nothing new was reported."""
        now = time.monotonic()
        if self.show and now - self._start >= DELAY and self._printed[0] != self.stage:
            self._draw(now, self.stage)

    def _account(self, now: float) -> None:
        self.seconds[self.stage] = self.seconds.get(self.stage, 0.0) + now - self._since
        self._since = now

    def _draw(self, now: float, text: str) -> None:
        if self._live is None and not self._plain:
            self._live = _live(self.stream, self.title)
            self._plain = self._live is None
        if self._live is not None:
            self._live.update(f"{self.title}: {text}")
            self._printed = (self.stage, now)
        elif self._printed[0] != self.stage or now - self._printed[1] >= PLAIN_EVERY:
            print(f"{self.title}: {text} ({now - self._start:.0f} s)", file=self.stream, flush=True)
            self._printed = (self.stage, now)


def _live(stream: TextIO, title: str) -> Any:
    """A running spinner line of rich, or None where the stream is no terminal or rich is not installed."""
    if not stream.isatty() or os.environ.get("NO_COLOR"):
        return None
    try:
        from rich.console import Console
        from rich.status import Status
    except ImportError:
        return None
    status = Status(title, console=Console(file=stream))
    status.start()
    return status
