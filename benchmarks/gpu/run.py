"""GPU benchmark: mlc beside torch (eager and torch.compile, both as one CUDA graph) on zoo models, and beside its libraries on kernels.

    python benchmarks/gpu/run.py                                        # headline models and all kernels
    python benchmarks/gpu/run.py --models all --kernels none --budget 580 --out DIR
    python benchmarks/gpu/run.py --models bert,resnet50.b128.f16 --kernels gemm,attention
    python benchmarks/gpu/run.py --replay DIR/gpu.json OTHER/gpu.json --markdown docs/performance.md

Writes DIR/gpu.json and DIR/gpu.md, anew after every case; profiles.md, where mlc's time goes; failures.log, the ends of logs. Needs torch,
torchvision, transformers and onnxscript beside mlc.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the benchmarks

from cpu import commit

from gpu import table
from gpu.cases import Case, kernels, models
from gpu.children import Settings, measure

FAILURES = "failures.log"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--models", default="headline", help="names, `headline`, `all` or `none`; bert.b64.f16 is one case, bert all of its cases")
    add("--kernels", default="all", help="beginnings of kernels' names, `all` or `none`")
    add("--target", default="cuda:sm_90a", help="what mlc compiles for; cpu times everything on this machine's CPU; default: %(default)s")
    add("--contestants", default="mlc,eager,compile", help="default: %(default)s")
    add("--budget", type=float, default=3600.0, metavar="SECONDS", help="when it ends whatever is left to do; default: %(default)s")
    add("--timeout", type=float, default=240.0, metavar="SECONDS", help="for preparing one case; default: %(default)s")
    add("--runs", type=int, default=100, help="timed runs of each contestant, warm and cold each; default: %(default)s")
    add("--jobs", type=int, default=max(1, len(os.sched_getaffinity(0)) // 2), help="cases prepared at once; default: half the cores")
    add("--out", type=Path, default=Path(".bench/gpu"), metavar="DIR", help="default: %(default)s")
    add("--work", type=Path, metavar="DIR", help="for models, artifacts and caches; default: a temporary one")
    add("--zoo", type=Path, metavar="FILE", help="another zoo.py than benchmarks/zoo.py")
    add("--seed", type=int, default=time.time_ns() % (1 << 31), help="of the inputs; default: another one each time")
    add("--markdown", type=table.page, metavar="PAGE", help="put the results between the markers of this page")
    add("--replay", type=Path, nargs="+", metavar="JSON", help="measure nothing: show what these files hold together")
    return parser.parse_args()


def chosen(args: argparse.Namespace) -> list[Case]:
    """The cases that the command line names. Raises ValueError."""
    wanted = [name for name in args.models.split(",") if name and name != "none"]
    return [*models(wanted), *kernels([name for name in args.kernels.split(",") if name and name != "none"])]


def machine(target: str) -> dict[str, Any]:
    """The device and its peaks; without peaks on a CPU."""
    if target.startswith("cpu"):
        return {"gpu": "no GPU"}
    probe = subprocess.run([sys.executable, str(Path(__file__).with_name("probe.py"))], capture_output=True, text=True, check=False)
    if probe.returncode:
        raise SystemExit(f"the GPU cannot be used: {probe.stderr.strip().splitlines()[-1:]}")
    return json.loads(probe.stdout.splitlines()[-1])


def save(report: dict[str, Any], out: Path) -> None:
    """Both files, and the ends of the logs of what failed."""
    (out / "gpu.json").write_text(json.dumps(report, indent=1))
    (out / "gpu.md").write_text(table.markdown(report) + "\n")
    (out / "profiles.md").write_text(table.profiles(report["rows"]) + "\n")
    logs = [f"== {row['name']}: {row['problem']}\n" + "\n".join(row.get("log", [])) for row in report["rows"] if "problem" in row]
    (out / FAILURES).write_text("\n\n".join([*logs, *table.problems(report["rows"])]) + "\n")


def run(args: argparse.Namespace, cases: Sequence[Case]) -> dict[str, Any]:
    """Measures; what is known so far is in the files after each case."""
    start = time.monotonic()
    args.out.mkdir(parents=True, exist_ok=True)
    work = args.work or Path(tempfile.mkdtemp(prefix="mlc-gpu-bench-"))
    report: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"), "commit": commit(), "machine": machine(args.target), "rows": [],
        "settings": {"target": args.target, "runs": args.runs, "jobs": args.jobs, "seed": args.seed},
    }

    def add(row: dict[str, Any]) -> None:
        report["rows"].append(row)
        save(report, args.out)
        print(f"[{time.monotonic() - start:4.0f} s] {table.brief(row)}", flush=True)
        shutil.rmtree(work / row["name"], ignore_errors=True)

    settings = Settings(args.target, args.contestants.split(","), args.jobs, args.runs, args.seed, args.timeout, work, args.zoo)
    try:
        measure(cases, settings, start + args.budget, add)
    finally:
        if args.work is None:
            shutil.rmtree(work, ignore_errors=True)
    return report


def main() -> int:
    """Exit code: 1 if mlc has no time for a case, or is less accurate than it may be."""
    args = arguments()
    if args.replay:
        report = table.merged([json.loads(path.read_text()) for path in args.replay])
    else:
        try:
            cases = chosen(args)
        except ValueError as error:
            raise SystemExit(str(error)) from None
        report = run(args, cases)
    print(table.markdown(report))
    if args.markdown:
        table.insert(args.markdown, table.markdown(report))
    rows = report["rows"]
    return int(any("warm" not in row["results"].get("mlc", {}) for row in rows) or bool(table.inaccurate(rows)))


if __name__ == "__main__":
    sys.exit(main())
