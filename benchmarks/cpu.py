"""`make bench-cpu`: mlc beside ONNX Runtime and PyTorch on this machine's CPU.

    python benchmarks/cpu.py                            # six models and the kernels; --all: every model
    python benchmarks/cpu.py resnet50 softmax_4096x1024 --rounds 3
    python benchmarks/cpu.py --torch-python /path/to/env/bin/python --markdown docs/performance.md

Models are exported once (benchmarks/models.py); that, and the PyTorch columns, need an interpreter that has PyTorch.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import models
from cases import KERNELS
from race import Case, Settings, busy, race
from report import HEADLINE, NAMES, QUIET, insert, markdown, page, ratio, show
from roof import Machine, work_of

from mlc.target import Target

OTHERS = ("inception_v3", "shufflenet_v2", "swin_t", "resnet3d_18", "dcgan", "nafnet", "restormer", "nerf", "mobilevit", "conformer",
          "llama_lm", "gru", "seq2seq", "branch")
BANDWIDTH_SIZES = (1 << 20, 16 << 20, 512 << 20)  # for the record; each case has its own


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("cases", nargs="*", metavar="CASE", help="models and kernels, or `models`, `kernels`; default: both")
    add("--all", action="store_true", help=f"also {', '.join(OTHERS)}")
    add("--peers", default="ort,torch,torch.compile", help="default: %(default)s")
    add("--torch-python", metavar="PATH", default=sys.executable, help="an interpreter that has PyTorch; default: this one")
    add("--threads", type=int, default=2, help="default: %(default)s")
    add("--rounds", type=int, default=10, help="turns of each contestant; default: %(default)s")
    add("--turn", type=float, default=0.3, metavar="SECONDS", help="timed runs of one turn, at least three; default: %(default)s")
    add("--timeout", type=float, default=180.0, metavar="SECONDS", help="for a compile, a first run or a turn; default: %(default)s")
    add("--style", choices=models.STYLES, default="18", help="how models are exported; default: %(default)s")
    add("--folder", type=Path, default=models.FOLDER, help="of exported models; default: .bench/zoo")
    add("--json", type=Path, default=models.ROOT / ".bench" / "cpu.json", help="where the results go; default: .bench/cpu.json")
    add("--markdown", type=page, metavar="PAGE", help="put the results between the markers of this page")
    add("--replay", action="store_true", help="measure nothing: show (and insert) what --json holds")
    args = parser.parse_args()
    args.peers = [peer for peer in args.peers.split(",") if peer]
    if unknown := [peer for peer in args.peers if peer not in NAMES or peer == "mlc"]:
        parser.error(f"--peers: no contestant is called {', '.join(unknown)}; there are {', '.join(n for n in NAMES if n != 'mlc')}")
    if "ort" not in args.peers:
        parser.error("--peers: results are checked against ONNX Runtime, so ort has to be among them")
    named = [*HEADLINE, *OTHERS, *KERNELS]
    groups = {"models": [*HEADLINE, *(OTHERS if args.all else ())], "kernels": list(KERNELS)}
    args.names = list(dict.fromkeys(name for case in args.cases or groups for name in groups.get(case, [case])))
    if unknown := [name for name in args.names if name not in named]:
        parser.error(f"no case is called {', '.join(unknown)}; there are {', '.join(named)}")
    if shutil.which(args.torch_python) is None:
        parser.error(f"--torch-python: {args.torch_python} is not a program")
    if args.replay and not args.json.is_file():
        parser.error(f"--replay: there is no {args.json}")
    if args.threads > len(os.sched_getaffinity(0)):
        parser.error(f"--threads {args.threads}: this process may use {len(os.sched_getaffinity(0))} cores")
    return args


def prepared(name: str, args: argparse.Namespace, can_export: bool) -> Case | None:
    """The case with its files made; None, after a line saying why, if they cannot be."""
    if name in KERNELS:
        path = args.folder / f"{name}.onnx"
        KERNELS[name].write(path)
        return Case(name, path, kernel=True)
    path = models.path_of(name, args.style, args.folder)
    if not models.exported(path):
        if not can_export:
            print(f"{name}: skipped, {path.name} is not there and exporting needs PyTorch", flush=True)
            return None
        command = [args.torch_python, str(Path(models.__file__)), name, "--style", args.style, "--folder", str(args.folder)]
        if subprocess.run(command, check=False).returncode:
            print(f"{name}: skipped, it could not be exported", flush=True)
            return None
    return Case(name, path)


def machine_facts(machine: Machine) -> dict[str, Any]:
    """The machine, and its peaks as measured now."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), platform.processor())
    return {"cpu": cpu, "cores": sorted(os.sched_getaffinity(0)), "kernel": platform.release(), "target": str(Target.host()),
            "flops": machine.flops(), "bandwidths": [(size, machine.bandwidth(size)) for size in BANDWIDTH_SIZES]}


def commit() -> str:
    """Of the checkout; with `+` if files differ from it."""
    command = ["git", "-C", str(models.ROOT), "describe", "--always", "--exclude=*", "--dirty=+"]
    git = subprocess.run(command, capture_output=True, text=True, check=False)
    return git.stdout.strip() or "unknown"


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Runs every case; what is known so far is in the JSON file after each."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:args.threads])  # the children inherit it
    lacking = models.missing_modules(args.torch_python)
    peers = [peer for peer in args.peers if not (lacking and peer.startswith("torch"))]
    if peers != args.peers:
        print(f"without PyTorch: {args.torch_python} lacks {', '.join(lacking)} (pip install -r {models.REQUIREMENTS}, or --torch-python)")
    pythons = {kind: args.torch_python if kind.startswith("torch") else sys.executable for kind in ("mlc", *peers)}
    settings = Settings(pythons, args.threads, args.rounds, args.turn, args.timeout, args.json.parent / "logs")
    machine = Machine(args.threads)
    report: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"), "commit": commit(), "machine": machine_facts(machine), "peers": peers, "versions": {},
        "rows": [], "skipped": [], "settings": {"threads": args.threads, "rounds": args.rounds, "turn": args.turn, "style": args.style},
    }
    for name in args.names:
        case = prepared(name, args, can_export=not lacking)
        if case is None:
            report["skipped"].append(name)
            continue
        row: dict[str, Any] = {"name": name, "kernel": case.kernel, "busy": busy()}
        if row["busy"] > QUIET:
            print(f"{name}: other work keeps {row['busy']:.0%} of the cores busy: the times will be noise", flush=True)
        row["results"] = race(case, settings)
        if work := work_of(case.path):
            seconds, bound = work.seconds(machine, report["machine"]["flops"])
            row["roof"] = {"seconds": seconds, "bound": bound, "flops": work.flops, "bytes": work.bytes}
        report["versions"] |= {kind: result["version"] for kind, result in row["results"].items() if "version" in result}
        report["rows"].append(row)
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=1))
        print(f"{name}: " + ", ".join(_brief(row, kind) for kind in pythons), flush=True)
    return report


def _brief(row: dict[str, Any], kind: str) -> str:
    result, times = row["results"][kind], ratio(row, kind)
    if "median" not in result:
        return f"{kind} {result.get('problem', '-')}"
    return f"{kind} {1000 * result['median']:.3f} ms" + ("" if times is None or kind == "mlc" else f" ({times:.2f} x)")


def main() -> int:
    """Exit code: 1 if mlc has no time for a case, or no case could be run."""
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leaves through the `finally`s that end the children, who may be stopped
    report = json.loads(args.json.read_text()) if args.replay else measure(args)
    if not report["rows"]:
        return 1
    show(report)
    if args.markdown:
        insert(args.markdown, markdown(report))
    return int(any("median" not in row["results"]["mlc"] for row in report["rows"]))


if __name__ == "__main__":
    sys.exit(main())
