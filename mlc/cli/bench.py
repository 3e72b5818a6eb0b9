"""`mlc bench`: latency of a model or an artifact, beside a peer measured in the same minutes."""

from typing import Any

import click

from mlc.cli.params import Common, common, compiling, existing_file, inputs_options, threads_option
from mlc.cli.table import milliseconds, table
from mlc.errors import OptionError


@click.command()
@click.argument("model")
@compiling
@inputs_options
@click.option("--vs", type=click.Choice(["ort"]), help="Also measure ONNX Runtime, in turns, with as many threads.")
@click.option("--duration", type=click.FloatRange(0, min_open=True), default=2.0, show_default=True, help="Seconds of runs of each.")
@threads_option
@common
def command(model: str, options: dict[str, Any], inputs: tuple[str, ...], seed: int, vs: str | None, duration: float, threads: int | None,
            common: Common) -> None:
    """Measure latency, beside ONNX Runtime if asked."""
    source = existing_file(model, "MODEL")
    if vs and source.suffix == ".mlc":
        raise OptionError("--vs ort needs the ONNX model, an .mlc file does not contain it", hint=f"mlc bench {source.stem}.onnx --vs {vs}")
    request = {"model": str(source), "inputs": list(inputs), "seed": seed, "vs": vs, "duration": duration, "threads": threads, **options}
    answer = common.run("bench", f"measuring {source.name}", request)
    common.say(f"{source} on {answer['target']}, {answer['threads']} threads")
    rows = [(r["name"], *(milliseconds(r[k]) for k in ("median", "p10", "p90", "min")), r["runs"]) for r in answer["rows"]]
    common.say(table(rows, ("", "median", "p10", "p90", "min", "runs")))
    if len(answer["rows"]) == 2:
        ours, peer = answer["rows"]
        common.say(f"mlc takes {ours['median'] / peer['median']:.2f} x the time of {peer['name']}")
