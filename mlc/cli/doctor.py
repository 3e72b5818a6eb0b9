"""`mlc doctor`: the state of this installation, to read or to attach to a bug report."""

import click

from mlc.cli.params import Common, common
from mlc.cli.table import table


@click.command()
@click.option("--ops", is_flag=True, help="List the ONNX ops that mlc converts instead.")
@common
def command(ops: bool, common: Common) -> None:
    """Show versions, devices, toolchains, and what is missing."""
    answer = common.run("doctor", "looking around", {"ops": ops})
    if ops:
        common.say(table(answer["ops"], ("op", "since opset")))
        common.say(f"{len(answer['ops'])} ops; those that ONNX defines in terms of others work as well")
        return
    rows = answer["rows"]
    for section in dict.fromkeys(row[0] for row in rows):
        common.say(section)
        common.say(table([(state, what, detail) for s, what, state, detail in rows if s == section]))
    common.say("targets")
    common.say("  " + " ".join(answer["targets"]))
    problems = sum(row[2] == "problem" for row in rows)
    if problems:
        common.say(f"{problems} problem{'s' if problems > 1 else ''} found")
        raise click.exceptions.Exit(1)
