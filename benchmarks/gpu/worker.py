"""One case in a process of its own: prepares and checks all contestants, says so, and when told to times them in turns.

    python benchmarks/gpu/worker.py CASE --folder DIR --target cuda:sm_90a ...

Standard output carries JSON lines, each merged into the case's row by the parent: what is known when the process dies is not lost.
The line {"ready": true} says that the rest is timing, which waits for a line on standard input: only one case uses the device then.
"""

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the benchmarks

ROUNDS = 5
Call = Callable[[], Any]


class Channel:
    """Where answers go. Whatever else prints to standard output is sent to standard error."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def say(self, **facts: Any) -> None:
        print(json.dumps(facts), file=self._file, flush=True)

    def result(self, kind: str, **facts: Any) -> None:
        """What is known of one contestant."""
        self.say(results={kind: facts})


class Case:
    """The contestants of one case as they become ready."""

    def __init__(self, args: argparse.Namespace, channel: Channel) -> None:
        from gpu.cases import parse
        from gpu.timing import DeviceClock, HostClock

        self.args, self.channel, self.case = args, channel, parse(args.case)
        self.device = "cpu" if args.target.startswith("cpu") else "cuda"
        self.clock = HostClock() if self.device == "cpu" else DeviceClock()
        self.replays: dict[str, Any] = {}
        self.own_error: float | None = None
        self.profile: Callable[[], list[dict[str, Any]]] | None = None

    def prepare(self) -> None:
        """Everything but timing."""
        from gpu.accuracy import telling
        from gpu.mlc_run import Compile
        from gpu.workload import make, outputs_of

        start = time.perf_counter()
        self.work = make(self.case, self.args.folder, self.device, self.args.seed)
        self.channel.say(export=time.perf_counter() - start, flops=self.work.flops, bytes=self.work.bytes, written=self.work.written)
        compiling = Compile(self.work.path, self.args.target) if "mlc" in self.args.contestants else None
        own, library = None, ""
        for library in self.work.own:
            own = self._attempt(library, lambda kind=library: [t.clone() for t in outputs_of(self.work.peers[kind]()())])
            if own is not None:
                break
        exact = self._attempt("f64", self.work.exact)
        self.reference = exact if exact is not None else own
        if self.reference is None or not telling(self.reference):
            raise RuntimeError("there are no results to compare with, or they are constant, vanish or are not finite")
        self.against = "f64" if exact is not None else library
        if exact is not None and own is not None:
            self.own_error = self._error(own)
        for kind, make_call in self.work.peers.items():
            if kind in self.args.contestants or self.case.kernel:
                self._attempt(kind, lambda kind=kind, make_call=make_call: self._peer(kind, make_call))
        if compiling is not None:
            self._attempt("mlc", lambda: self._mlc(compiling))
        if self.device == "cuda":  # other cases need the memory
            import torch

            torch.cuda.empty_cache()

    def _attempt(self, kind: str, step: Call) -> Any:
        """The step's result; None after its failure is reported."""
        try:
            return step()
        except Exception as error:  # every failure is a cell of the table, whatever library it comes from
            self.channel.result(kind, problem=f"{type(error).__name__}: {' '.join(str(error).split())[:400]}")
            return None
        finally:
            gc.collect()

    def _error(self, result: Any) -> float:
        from gpu.accuracy import difference
        from gpu.workload import outputs_of

        assert self.reference is not None
        return difference(outputs_of(result), self.reference)

    def _peer(self, kind: str, make_call: Callable[[], Call]) -> None:
        start = time.perf_counter()
        call = make_call()
        call()
        first = time.perf_counter() - start
        replay = self.clock.ready(call)
        self.channel.result(kind, first=first, nodes=replay.nodes)
        self._admit(kind, replay)

    def _mlc(self, compiling: Any) -> None:
        from gpu.mlc_run import MlcRun
        from gpu.table import ERROR_BOUND

        self.channel.result("mlc", **compiling.wait(self.args.timeout))
        run = MlcRun(compiling.artifact, self.work.inputs)
        self.channel.result("mlc", **run.facts)
        error = self._error([t.to(self.device) for t in run.once()])
        self.channel.result("mlc", error=error, own_error=self.own_error)
        suspect = self.own_error and error > min(ERROR_BOUND * self.own_error, self.case.tolerance)
        if self.case.dtype == "f16" and not self.case.kernel and suspect:
            self._exporter(run)
        if self.device == "cuda":
            self.profile = run.profile
        replay = run.ready(self.clock)
        if replay.nodes is not None:
            self.channel.result("mlc", nodes=replay.nodes)
        self._admit("mlc", replay)

    def _exporter(self, run: Any) -> None:
        """How much of mlc's error is the exporter's: it may have changed weights (batch norms folded in 16 bits)."""
        import torch

        from gpu.accuracy import difference
        from gpu.widen import meaning

        exported = [torch.from_numpy(a).to(self.device) for a in meaning(self.work.path, self.work.inputs)]
        self.channel.result("mlc", exported_error=self._error(exported),
                            error_of_exported=difference([t.to(self.device) for t in run.once()], exported))

    def _admit(self, kind: str, replay: Any) -> None:
        """A contestant whose results are right, in every form that will be timed, may be timed."""
        from gpu.workload import outputs_of

        forms = [replay, *([replay.several] if replay.several else [])]
        error = 0.0
        for form in forms:
            if self.device == "cuda":  # what a replay does not write shows
                for tensor in outputs_of(form.result):
                    tensor.fill_(float("nan") if tensor.is_floating_point() else 77)
                self.clock.run(form)
            error = max(error, self._error(form.result))
        self.channel.result(kind, error=error, own_error=self.own_error)
        # Torch is a peer also where its own f16 is worse than the tolerance; mlc gets no such grace.
        allowed = self.case.tolerance if kind == "mlc" else max(self.case.tolerance, self.own_error or 0.0)
        if not error <= allowed:
            raise ArithmeticError(f"wrong: differs from {self.against} by {error:.1e} of the output's scale")
        self.replays[kind] = replay

    def time(self) -> None:
        """Turns in alternating order, so that a drift of the device meets all alike; warm, then cold."""
        from gpu.timing import statistics

        for cold in (False, True):
            times: dict[str, list[float]] = {kind: [] for kind in self.replays}
            for number in range(ROUNDS):
                for kind in sorted(times, reverse=bool(number % 2)):
                    try:
                        times[kind] += self.clock.times(self.replays[kind], -(-self.args.runs // ROUNDS), cold)
                    except Exception as error:  # a device fault ends everything, and the times so far are no use without it
                        self.channel.result(kind, problem=f"{type(error).__name__}: {' '.join(str(error).split())[:400]}")
                        raise
            for kind, measured in times.items():
                self.channel.result(kind, **{"cold" if cold else "warm": statistics(measured)})
        if self.profile and "mlc" in self.replays:
            self.channel.result("mlc", profile=self.profile())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("case")
    add("--folder", type=Path, required=True)
    add("--target", required=True)
    add("--contestants", type=lambda text: text.split(","), required=True)
    add("--seed", type=int, required=True)
    add("--runs", type=int, required=True)
    add("--timeout", type=float, required=True)
    add("--zoo", type=Path)
    args = parser.parse_args()
    if args.zoo:
        sys.path.insert(0, str(args.zoo.resolve().parent))
    channel = Channel()
    try:
        case = Case(args, channel)
        case.prepare()
        channel.say(ready=True)
        sys.stdin.readline()
        case.time()
    except Exception as error:
        channel.say(problem=f"{type(error).__name__}: {' '.join(str(error).split())[:400]}")
        raise
    finally:
        channel.say(done=True)
        sys.stderr.flush()
        os._exit(0)  # native libraries may crash while they are torn down, and there is nothing left to do


if __name__ == "__main__":
    main()
