"""`mlc run`: one run of an artifact, its outputs shown and, if wanted, saved."""

from typing import Any

import click

from mlc.cli.params import Common, common, existing_file, inputs_options, staged_output, threads_option, writable_file
from mlc.cli.table import table, tensor
from mlc.errors import OptionError


@click.command()
@click.argument("artifact")
@inputs_options
@click.option("--random-inputs", is_flag=True, help="Make up every input that --input does not give.")
@click.option("--save", metavar="FILE.npz", help="Save the outputs.")
@threads_option
@common
def command(artifact: str, inputs: tuple[str, ...], random_inputs: bool, seed: int, save: str | None, threads: int | None,
            common: Common) -> None:
    """Run an artifact on given or random inputs."""
    source = existing_file(artifact, "ARTIFACT")
    if source.suffix == ".onnx":
        raise OptionError(f"ARTIFACT: {artifact!r} is an ONNX model, expected an .mlc file", hint=f"mlc compile {artifact}")
    if not inputs and not random_inputs:
        raise OptionError("no inputs given: expected --input NAME=FILE.npy or --random-inputs",
                          hint=f"mlc inspect {artifact} lists the inputs")
    destination = None if save is None else writable_file(save, "--save")
    with staged_output(destination, "--save") as staged:
        request = {"artifact": str(source), "inputs": list(inputs), "random": random_inputs, "seed": seed, "threads": threads,
                   "save": None if destination is None else str(staged)}
        answer = common.run("run", f"running {source.name}", request)
    common.say(table([_row(o) for o in answer["outputs"]], ("output", "type", "min", "mean", "max", "first values")))
    if destination is not None:
        common.say(f"saved {len(answer['outputs'])} outputs to {destination}")


def _row(output: dict[str, Any]) -> list[object]:
    numbers = [f"{output[key]:.5g}" if key in output else "" for key in ("min", "mean", "max")]
    bad = f"  ({output['bad']} not finite)" if output.get("bad") else ""
    return [output["name"], tensor(output), *numbers, " ".join(output["first"]) + bad]
