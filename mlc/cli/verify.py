"""`mlc verify`: the same inputs through mlc and a reference; prints how far apart they are, and fails if that is too far."""

from typing import Any

import click

from mlc.cli.params import Common, common, compiling, existing_file, inputs_options, threads_option
from mlc.cli.table import table, tensor


@click.command()
@click.argument("model")
@compiling
@inputs_options
@click.option("--per-node", is_flag=True, help="Also find the first node whose output diverges.")
@click.option("--reference", type=click.Choice(["auto", "ort", "onnx"]), default="auto", show_default=True,
              help="ort: ONNX Runtime without graph rewrites. onnx: onnx.reference. auto: ort if it takes the model.")
@click.option("--rtol", type=click.FloatRange(0), help="Relative tolerance; default: by element type, printed with the verdict.")
@click.option("--atol", type=click.FloatRange(0), help="Absolute tolerance, likewise.")
@threads_option
@common
def command(model: str, options: dict[str, Any], inputs: tuple[str, ...], seed: int, per_node: bool, reference: str, rtol: float | None,
            atol: float | None, threads: int | None, common: Common) -> None:
    """Compare a compiled model with ONNX Runtime."""
    source = existing_file(model, "MODEL")
    request = {"model": str(source), "inputs": list(inputs), "seed": seed, "reference": reference, "rtol": rtol, "atol": atol,
               "per_node": per_node, "threads": threads, **options}
    answer = common.run("verify", f"verifying {source.name}", request)
    common.say(f"{source} on {options['target']}, against {answer['reference']}")
    header = ("output", "type", "max abs", "max rel", "outside", "rtol", "atol", "")
    common.say(table([_row(d) for d in answer["outputs"]], header))
    first = answer["first"]
    if first is not None:
        where = "only when fused with its neighbours" if first["fused"] else "with every node's output kept"
        common.say(f"first node to diverge ({where}): {first['node']!r} ({first['op']})")
        common.say(table([_row(first)], header))
    elif per_node:
        common.say("every node's output agrees" if answer["ok"] else "no single node diverges: the errors of many add up")
    if not answer["ok"] or first is not None:
        raise click.exceptions.Exit(1)


def _row(d: dict[str, Any]) -> list[object]:
    verdict = "ok" if d["ok"] else d["problem"] or "DIFFERS"
    errors = f"{d['max_abs']:.3g}", f"{d['max_rel']:.3g}", f"{d['outside']:.2%}"
    return [d["name"], tensor(d), *errors, f"{d['rtol']:g}", f"{d['atol']:g}", verdict]
