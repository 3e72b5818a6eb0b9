"""Kernels of an artifact as files, so that any loader can run them one by one: a code object each, and JSON that says how to call it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlc.artifact import Artifact, weights_file
from mlc.backends.rocm.code_object import read_code_object
from mlc.backends.rocm.variants import architectures, variant
from mlc.errors import ArtifactError, OptionError, ResourceError


def write_kernels(artifact: Artifact, directory: Path) -> list[Path]:
    """Writes `NAME.hsaco` and `NAME.json` of every kernel, `plan.json`, and the plan's weights, as they are once constants are computed, as
    `weights.safetensors`; with several architectures, into a folder for each.

    The JSON: symbol, target, wavefront, grid and block (x, y, z), lds_bytes (part of the code: a launch adds none), scratch_bytes (of a
    lane), `arguments` in order (kind, offset and size in the kernarg segment, buffer_bytes, access: read, write, readwrite or none), and
    `launches`: for each place of the plan that launches it, the buffers it is given (space, index, offset; see docs/architecture.md).
    Returns the code objects. Raises OptionError for an artifact of another kind, ArtifactError, ResourceError.
    """
    if not artifact.target.startswith("rocm:"):
        raise OptionError(f"kernels of '{artifact.target}' cannot be written as AMD code objects", hint="compile with --target rocm:gfx942")
    archs = architectures(artifact)
    written: list[Path] = []
    for arch in archs:
        one = variant(artifact, arch)
        folder = directory / arch if len(archs) > 1 else directory
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "plan.json").write_text(_json(one.plan))
            with (folder / "weights.safetensors").open("wb") as file:
                file.writelines(weights_file(one))
            for kernel in one.plan["kernels"]:
                path = folder / f"{kernel['name']}.hsaco"
                path.write_bytes(_code(one, kernel))
                path.with_suffix(".json").write_text(_json(_description(one, kernel)))
                written.append(path)
        except OSError as error:
            raise ResourceError(f"cannot write kernels into {folder}: {error.strerror or error}") from error
    return written


def _json(value: object) -> str:
    return json.dumps(value, indent=1) + "\n"


def _code(artifact: Artifact, kernel: Mapping[str, Any]) -> bytes:
    if kernel["object"] not in artifact.objects:
        raise ArtifactError(f"plan.json: {kernel['object']} is not in the artifact")
    return artifact.objects[kernel["object"]]


def _description(artifact: Artifact, kernel: Mapping[str, Any]) -> dict[str, Any]:
    code = read_code_object(_code(artifact, kernel), kernel["object"])
    facts = next((k for k in code.kernels if k.name == kernel["symbol"]), None)
    if facts is None:
        raise ArtifactError(f"{kernel['object']} has no kernel {kernel['symbol']!r}")
    arguments = [{"index": i, "kind": a.kind, "offset": a.offset, "size": a.size, "buffer_bytes": b["bytes"], "access": b["access"]}
                 for i, (a, b) in enumerate(zip(facts.arguments, kernel["arguments"]))]
    launches = [step["args"] for step in _steps(artifact.plan["steps"]) if step["op"] == "launch" and step["kernel"] == kernel["name"]]
    return {"kernel": kernel["name"], "symbol": facts.name, "target": code.target, "wavefront": facts.wavefront,
            "grid": [kernel["blocks"], 1, 1], "block": [kernel["threads"], 1, 1], "lds_bytes": facts.lds_bytes,
            "dynamic_lds_bytes": kernel["shared_bytes"], "scratch_bytes": facts.scratch_bytes, "kernarg_bytes": facts.kernarg_bytes,
            "registers": {"vgpr": facts.vgprs, "agpr": facts.agprs, "sgpr": facts.sgprs},
            "spills": {"vgpr": facts.vgpr_spills, "sgpr": facts.sgpr_spills}, "arguments": arguments, "launches": launches,
            "nodes": kernel["nodes"]}


def _steps(steps: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """All steps, those inside others included."""
    for step in steps:
        yield step
        for key in ("body", "then", "else"):
            yield from _steps(step.get(key, ()))
