"""`mlc demo`: a real network, compiled and run and compared in one command."""

from pathlib import Path
from typing import Any

import click

from mlc.cli.params import Common, common, machine_options, threads_option
from mlc.cli.table import milliseconds, table, tensor
from mlc.options import format_size

MODEL = "resnet50.onnx"
OTHER_STAGES = ("start", "make the network", "ONNX Runtime", "run", "measure")


@click.command()
@click.option("--dir", "directory", metavar="DIR", help="Where the network is put; default: the cache directory.")
@machine_options
@threads_option
@common
def command(directory: str | None, options: dict[str, Any], threads: int | None, common: Common) -> None:
    """Compile and run ResNet-50; nothing is downloaded."""
    from mlc.cache import default_root

    path = (default_root() / "demo" if directory is None else Path(directory)) / MODEL
    answer = common.run("demo", "demo", {"model": str(path), "threads": threads, **options})
    seconds = answer["seconds"]
    compile_time = sum(time for stage, time in seconds.items() if stage not in OTHER_STAGES)
    ours, peer = answer["rows"]
    difference = answer["difference"]
    common.say(table([
        ("network", f"ResNet-50, random weights, {tensor(answer['inputs'][0])}: {path}"),
        ("target", f"{answer['target']}, {answer['threads']} threads"),
        ("compiled", f"{answer['nodes']} nodes into {len(answer['kernels'])} kernels, launched {answer['launches']} times"),
        ("memory", f"weights {format_size(answer['weights']['bytes'])}, arena {format_size(answer['arena_bytes'])}"),
        ("compile time", f"{compile_time:.1f} s" + (" (from the cache)" if answer["hit"] else "")),
        ("latency", f"{milliseconds(ours['median'])} median of {ours['runs']}"),
        (peer["name"], f"{milliseconds(peer['median'])} median of {peer['runs']}"),
        ("difference", f"at most {difference['max_abs']:.2g}, relative {difference['max_rel']:.2g}, from {peer['name']}: "
                       f"{'ok' if difference['ok'] else 'WRONG'}"),
    ]))
    if not difference["ok"]:
        raise click.exceptions.Exit(1)
