"""`mlc bench`: latency of a model or an artifact, beside a peer measured in the same minutes."""

from typing import Any

import click

from mlc.cli.params import Common, common, compiling, existing_file, inputs_options, staged_output, threads_option, writable_file
from mlc.cli.table import milliseconds, table
from mlc.errors import OptionError


@click.command()
@click.argument("model")
@compiling
@inputs_options
@click.option("--vs", type=click.Choice(["ort", "torch"]), help="Also measure ONNX Runtime (on the CPU), or PyTorch on mlc's device.")
@click.option("--duration", type=click.FloatRange(0, min_open=True), default=2.0, show_default=True, help="Seconds of runs of each.")
@click.option("--profile", metavar="FILE.json", help="GPU: write the time of each kernel as a trace, for ui.perfetto.dev.")
@click.option("--kernels", "shown", type=click.IntRange(0), default=10, show_default=True, help="Kernels to list with --profile.")
@threads_option
@common
def command(model: str, options: dict[str, Any], inputs: tuple[str, ...], seed: int, vs: str | None, duration: float, profile: str | None,
            shown: int, threads: int | None, common: Common) -> None:
    """Measure latency, beside ONNX Runtime or PyTorch if asked."""
    source = existing_file(model, "MODEL")
    if vs and source.suffix == ".mlc":
        raise OptionError(f"--vs {vs} needs the ONNX model, an .mlc file does not contain it",
                          hint=f"mlc bench {source.stem}.onnx --vs {vs}")
    destination = None if profile is None else writable_file(profile, "--profile")
    with staged_output(destination, "--profile") as staged:
        request = {"model": str(source), "inputs": list(inputs), "seed": seed, "vs": vs, "duration": duration, "threads": threads,
                   "profile": None if destination is None else str(staged), **options}
        answer = common.run("bench", f"measuring {source.name}", request)
    where = f"{answer['threads']} threads" if answer["device"] is None else answer["device"]
    common.say(f"{source} on {answer['target']}, {where}")
    rows = [(r["name"], *(milliseconds(r[k]) for k in ("median", "p10", "p90", "min")), r["runs"]) for r in answer["rows"]]
    common.say(table(rows, ("", "median", "p10", "p90", "min", "runs")))
    if answer["peer"] is not None:
        by_name = {row["name"]: row for row in answer["rows"]}
        whole_calls = vs == "ort" and answer["device"] is not None  # ONNX Runtime has no GPU time to compare with
        ours, peer = by_name["mlc, whole call"] if whole_calls else answer["rows"][0], by_name[answer["peer"]]
        common.say(f"{ours['name']} takes {ours['median'] / peer['median']:.2f} x the time of {peer['name']}")
    if destination is not None:
        kernels = answer["kernels"]
        common.say(f"kernels one by one, the longest first; {destination} opens in ui.perfetto.dev:")
        common.say(table([_kernel(k) for k in kernels[:shown]], ("kernel", "launches", "time", "share", "nodes")))


def _kernel(kernel: dict[str, Any]) -> list[object]:
    nodes = kernel["nodes"]
    text = ", ".join(nodes[:3]) + (f", ... ({len(nodes)} nodes)" if len(nodes) > 3 else "")
    return [kernel["name"], kernel["launches"], f"{kernel['seconds'] * 1e6:.1f} us", f"{kernel['share']:.1%}", text]
