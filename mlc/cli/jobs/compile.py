"""Compiles a model into an artifact file, or writes the text of one level."""

import json
from pathlib import Path

from mlc.cli.jobs.common import Answer, Request, build_of, options_of, summary
from mlc.errors import ResourceError
from mlc.progress import Report


def job(request: Request, report: Report) -> Answer:
    """request: model, emit, output (a staging path; for kernels, a directory), and what `params.compiling` adds."""
    output = Path(request["output"])
    if request["emit"] == "kernels":
        from mlc.backends.rocm.kernels import write_kernels

        return {"files": len(write_kernels(build_of(request, report).artifact, output))}
    if request["emit"] != "artifact":
        from mlc.driver import emit

        text = emit(request["model"], options_of(request), request["emit"], progress=report)
        try:
            output.write_text(text)
        except OSError as error:
            raise ResourceError(f"cannot write {output.absolute()}: {error.strerror or error}") from error
        return {}
    built = build_of(request, report)
    report("write", 0, 0)
    built.artifact.save(output)
    passes = json.loads(built.artifact.extra.get("timing.json", b"{}"))
    return {**summary(built.artifact), "hit": built.hit, "file_bytes": output.stat().st_size, "passes": passes}
