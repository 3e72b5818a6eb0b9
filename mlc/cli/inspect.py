"""`mlc inspect`: what stands in a model or an artifact."""

import json
from typing import Any

import click

from mlc.cli.params import Common, common, existing_file
from mlc.cli.table import table, tensor
from mlc.options import format_size


@click.command()
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
@click.option("--kernels", "shown", type=click.IntRange(0), default=20, show_default=True, help="Kernels to list.")
@common
def command(path: str, as_json: bool, shown: int, common: Common) -> None:
    """Show what is in a model or an artifact."""
    source = existing_file(path, "PATH")
    answer = common.run("inspect", f"reading {source.name}", {"path": str(source)})
    if as_json:
        answer.pop("seconds")
        click.echo(json.dumps(answer, indent=1))
    elif answer["kind"] == "model":
        _model(common, str(source), answer)
    else:
        _artifact(common, str(source), answer, shown)


def _model(common: Common, path: str, answer: dict[str, Any]) -> None:
    opsets = ", ".join(f"{domain} {version}" for domain, version in answer["opsets"].items())
    producer = f", from {answer['producer']}" if answer["producer"] else ""
    common.say(f"{path}: ONNX IR version {answer['ir_version']}, opset {opsets}{producer}")
    common.say(table([(kind, v["name"], tensor(v)) for kind in ("input", "output") for v in answer[f"{kind}s"]]))
    common.say(f"{answer['weights']['count']} weights, {format_size(answer['weights']['bytes'])}; {answer['nodes']} nodes:")
    common.say(table([(o["count"], o["op"], o["support"]) for o in answer["ops"]], ("nodes", "op", "supported")))


def _artifact(common: Common, path: str, answer: dict[str, Any], shown: int) -> None:
    allowed = ", products of f32 in tf32" if answer["allow_tf32"] else ""
    common.say(f"{path}: compiled by mlc {answer['mlc']} for {answer['target']}{allowed} (artifact schema {answer['schema']})")
    rows = [("input", s["name"], tensor(s), "fixed at compile time" if "value" in s else "") for s in answer["inputs"]]
    common.say(table(rows + [("output", s["name"], tensor(s), "") for s in answer["outputs"]]))
    weights = answer["weights"]
    common.say(f"memory: {weights['count']} weights, {format_size(weights['bytes'])}; code {format_size(sum(answer['objects'].values()))}")
    for arch, code in (answer["variants"] or {"": answer}).items():
        _code(common, f"{arch}: " if arch else "", code, shown)


def _code(common: Common, label: str, code: dict[str, Any], shown: int) -> None:
    kernels = code["kernels"]
    common.say(f"{label}{len(kernels)} kernels, launched {code['launches']} times; arena {format_size(code['arena_bytes'])}:")
    resources = any("registers" in k for k in kernels)  # a GPU's
    common.say(table([_kernel(k, resources) for k in kernels[:shown]],
                     ("kernel", "grid", *(("threads", "registers", "spills", "shared") if resources else ()), "launches", "nodes")))
    for note in code["notes"]:
        common.say(f"note: {note}")
    if len(kernels) > shown:
        common.say(f"  ... {len(kernels) - shown} more; --kernels {len(kernels)} shows all")


def _kernel(kernel: dict[str, Any], resources: bool) -> list[object]:
    """A row of the table. resources: with those of a GPU: threads of a block, registers of a thread, bytes spilled and shared."""
    nodes = kernel.get("nodes", [])
    text = ", ".join(nodes[:4]) + (f", ... ({len(nodes)} nodes)" if len(nodes) > 4 else "")
    shared = sum(kernel.get(key, 0) for key in ("shared_bytes", "static_shared_bytes", "lds_bytes"))
    used: list[object] = [kernel.get("threads", "?"), kernel.get("registers", "?"), kernel.get("spill_bytes", 0), format_size(shared)]
    return [kernel["name"], kernel.get("blocks", "?"), *(used if resources else []), kernel.get("launches", 1), text]
