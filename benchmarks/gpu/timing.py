"""Time of a call on the device: whole calls captured into a graph, replays timed by events, warm or after the caches were flushed.

All contestants go through the same clock. Before each batch of replays the device is kept waiting until the host has queued the batch, so
that a time holds no wait for the host; what is left is the device's own time between two events with one replay between them. A call so
short that the events would show is captured several times over and a replay's time divided; not when cold, since only the first would be.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

BATCH = 50  # replays queued at once: with their events and flushes well below what a driver queues before it makes the host wait
WARM_SECONDS = 0.03
WARM_CALLS = 3
SHORT = 50e-6  # seconds below which the events around a replay would be a visible part of it
COPIES = 20
FLUSH_BYTES = 256 << 20  # several times any L2
MOST_SECONDS = 2.0  # of one turn's runs: a long call is repeated less often
LEAST_RUNS = 4

Call = Callable[[], Any]


@dataclass
class Replay:
    """A call made ready to be timed. result: what a launch computes, anew each time into the same memory.

    call: what was captured; a graph has its tensors' addresses and does not keep them alive.
    nodes: kernels and copies of the call, None if unknown. several: does it COPIES times, if it is short.
    stream: where it is queued, if not where everything is.
    """

    launch: Call
    result: Any
    call: Call | None = None
    nodes: int | None = None
    several: "Replay | None" = None
    stream: Any = None


class Clock(Protocol):
    """Seconds per call."""

    def ready(self, call: Call | None, stream: Any = None, launch: Call | None = None) -> Replay:
        """Captures the call, on `stream` if it knows only that one. launch: does the same as a graph of its own; call may then be None."""
        ...

    def run(self, replay: Replay) -> None:
        """Launches once and waits, behind everything that was queued before."""
        ...

    def times(self, replay: Replay, count: int, cold: bool) -> list[float]:
        """Seconds of each of `count` calls, fewer if they are long. cold: nothing of the call's data is in a cache."""
        ...


class HostClock:
    """Wall-clock time, for a CPU target. The host's caches are flushed by going over a large array."""

    def __init__(self) -> None:
        self._flush = np.ones(FLUSH_BYTES // 8)

    def ready(self, call: Call | None, stream: Any = None, launch: Call | None = None) -> Replay:
        once = launch or call
        assert once
        return Replay(once, once(), call)

    def run(self, replay: Replay) -> None:
        replay.launch()

    def times(self, replay: Replay, count: int, cold: bool) -> list[float]:
        times: list[float] = []
        while len(times) < count and (len(times) < LEAST_RUNS or sum(times) < MOST_SECONDS):
            if cold:
                self._flush.sum()
            start = time.perf_counter()
            replay.launch()
            times.append(time.perf_counter() - start)
        return times


class DeviceClock:
    """Time between device events, by torch. Everything runs on the stream that is current when it is made."""

    def __init__(self) -> None:
        import torch

        self._torch = torch
        self._flush = torch.randint(0, 1 << 20, (FLUSH_BYTES // 4,), dtype=torch.int32, device="cuda")

    def ready(self, call: Call | None, stream: Any = None, launch: Call | None = None) -> Replay:
        if launch:
            replay = Replay(launch, launch(), call, stream=stream)
        else:
            assert call
            replay = self._captured(call, 1, stream)
        if call and float(np.median(self.times(replay, 10, cold=False))) < SHORT:
            replay.several = self._captured(call, COPIES, stream)
        return replay

    def run(self, replay: Replay) -> None:
        self._torch.cuda.synchronize()
        with self._torch.cuda.stream(replay.stream):
            replay.launch()
        self._torch.cuda.synchronize()

    def _captured(self, call: Call, copies: int, only: Any) -> Replay:
        torch = self._torch
        stream = only or torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_CALLS):  # libraries allocate and choose kernels in their first calls
                call()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph(keep_graph=True)
        with torch.cuda.graph(graph, stream=stream):
            for _ in range(copies):
                result = call()
        nodes = node_count(graph.raw_cuda_graph())
        graph.instantiate()
        return Replay(graph.replay, result, call, nodes, stream=only)

    def times(self, replay: Replay, count: int, cold: bool) -> list[float]:
        torch = self._torch
        launch, calls = (replay.several.launch, COPIES) if replay.several and not cold else (replay.launch, 1)
        torch.cuda.synchronize()
        start = time.perf_counter()
        warmed = 0
        while time.perf_counter() - start < WARM_SECONDS or not warmed:  # clocks rise, caches fill
            with torch.cuda.stream(replay.stream):
                launch()
            torch.cuda.synchronize()
            warmed += 1
        each = (time.perf_counter() - start) / warmed
        if each * count > MOST_SECONDS:
            count = max(LEAST_RUNS, int(MOST_SECONDS / each))
        times: list[float] = []
        with torch.cuda.stream(replay.stream):  # None: where we are
            while len(times) < count:
                times += [t / calls for t in self._batch(launch, min(BATCH, count - len(times)), cold)]
        return times

    def _batch(self, launch: Call, count: int, cold: bool) -> list[float]:
        torch = self._torch
        events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(count)]
        torch.cuda._sleep(20_000_000)  # about 10 ms, while the host queues what follows
        for before, after in events:
            if cold:
                torch.amax(self._flush)  # reading leaves nothing that the timed call would have to write back
            before.record()
            launch()
            after.record()
        torch.cuda.synchronize()
        return [before.elapsed_time(after) / 1e3 for before, after in events]


def node_count(graph: Any) -> int | None:
    """How many kernels and copies a captured graph holds; None if the driver's bindings are not there."""
    try:
        from cuda.bindings import runtime
    except ImportError:
        return None
    error, *found = runtime.cudaGraphGetNodes(runtime.cudaGraph_t(int(graph)))
    return int(found[-1]) if int(error) == 0 else None


def statistics(times: Sequence[float]) -> dict[str, float]:
    """Median, spread and number of runs."""
    p10, median, p90 = (float(x) for x in np.percentile(times, (10, 50, 90)))
    return {"median": median, "p10": p10, "p90": p90, "runs": len(times)}
