"""How much memory a compile and a run take, beside the size of the model: a chain of matrix products with weights in an external file.

    python benchmarks/import_memory.py [--size 400MiB] [--width 2048] [--one-file]

Prints the peak of each stage. RSS counts pages of mapped files too, which the kernel takes back when memory is short; `anonymous` is what
must really be there. The goal is a peak RSS of at most 1.5 times the model, above what an idle compiler takes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from mlc.options import format_size, parse_size

GOAL = 1.5
INTERVAL = 0.005
FIELDS = {"VmRSS": "rss", "RssAnon": "anonymous", "RssFile": "mapped"}


def write_model(directory: Path, size: int, width: int, external: bool) -> Path:
    """A model of about `size` bytes; its weights beside it or inside."""
    count = max(1, size // (4 * width * width))
    rng = np.random.default_rng(0)
    weights, nodes = [], []
    with (directory / "weights.bin").open("wb") as file:
        for i in range(count):
            data = (rng.standard_normal((width, width), np.float32) * np.float32((2 / width) ** 0.5)).tobytes()
            tensor = TensorProto(name=f"w{i}", dims=[width, width], data_type=TensorProto.FLOAT)
            if external:
                tensor.data_location = TensorProto.EXTERNAL
                for key, value in {"location": "weights.bin", "offset": file.tell(), "length": len(data)}.items():
                    tensor.external_data.add(key=key, value=str(value))
                file.write(data)
            else:
                tensor.raw_data = data
            weights.append(tensor)
            nodes += [helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"h{i}"]), helper.make_node("Relu", [f"h{i}"], [f"x{i + 1}"])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [8, width]) for name in ("x0", f"x{count}"))
    path = directory / "model.onnx"
    onnx.save(helper.make_model(helper.make_graph(nodes, "chain", [x], [y], weights), ir_version=10), path)
    return path


def memory() -> dict[str, int]:
    """What this process has in memory now, in bytes."""
    words = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {FIELDS[w[0][:-1]]: int(w[1]) << 10 for w in words if w and w[0][:-1] in FIELDS}


class Watch:
    """Samples memory in a thread and keeps the peaks of each stage."""

    def __init__(self) -> None:
        self.stage = "start"
        self.peaks: dict[str, dict[str, int]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def enter(self, stage: str, done: int = 0, total: int = 0) -> None:
        self.stage = stage or "pack"

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL):
            peak = self.peaks.setdefault(self.stage, {})
            for name, value in memory().items():
                peak[name] = max(peak.get(name, 0), value)

    def stop(self) -> dict[str, dict[str, int]]:
        self._stop.set()
        self._thread.join()
        return self.peaks


def child(path: Path) -> None:
    """Compiles and runs one model, and prints the peaks as JSON."""
    from mlc.api import build
    from mlc.load import executable
    from mlc.options import CompileOptions
    from mlc.target import Target

    def compiled(model: Path, watch: Watch | None) -> None:
        report = watch.enter if watch else lambda *_: None
        artifact = build(model, CompileOptions(target=Target.parse("cpu")), cached=False, report=report).artifact
        if watch:
            watch.enter("load")
        exe = executable(artifact, 1)
        if watch:
            watch.enter("run")
        assert all(np.isfinite(out).all() for out in exe.run(exe.random_inputs()).values())

    with tempfile.TemporaryDirectory() as directory:
        compiled(write_model(Path(directory), 1, 64, external=True), None)  # everything imported, LLVM started
    idle = memory()
    watch, start = Watch(), time.monotonic()
    compiled(path, watch)
    print(json.dumps({"idle": idle, "peaks": watch.stop(), "seconds": time.monotonic() - start}))


def rows(idle: dict[str, int], peaks: dict[str, dict[str, int]], size: int) -> Iterator[str]:
    yield f"{'stage':10}" + "".join(f"{name:>14}" for name in FIELDS.values()) + "   (above idle, relative to the model)"
    for stage, peak in peaks.items():
        yield f"{stage:10}" + "".join(f"{(peak[name] - idle[name]) / size:14.2f}" for name in FIELDS.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="400MiB")
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--one-file", action="store_true", help="weights inside the .onnx (at most 2 GiB)")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        child(options.child)
        return 0
    with tempfile.TemporaryDirectory(prefix="mlc-memory-") as directory:
        path = write_model(Path(directory), parse_size(options.size, "--size"), options.width, not options.one_file)
        size = sum(file.stat().st_size for file in Path(directory).iterdir())
        done = subprocess.run([sys.executable, __file__, "--child", str(path)], stdout=subprocess.PIPE, text=True, check=True,
                              env={**os.environ, "MLC_NUM_THREADS": "1"})
    found = json.loads(done.stdout.splitlines()[-1])
    print(*rows(found["idle"], found["peaks"], size), sep="\n")
    peak = max(p["rss"] for p in found["peaks"].values())
    ratio = (peak - found["idle"]["rss"]) / size
    print(f"model {format_size(size)}, idle {format_size(found['idle']['rss'])}, peak {format_size(peak)}, {found['seconds']:.1f} s: "
          f"{ratio:.2f} times the model above idle (goal {GOAL}), {peak / size:.2f} times with it")
    return int(ratio > GOAL)


if __name__ == "__main__":
    sys.exit(main())
