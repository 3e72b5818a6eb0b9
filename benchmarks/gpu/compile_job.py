"""Compiles one ONNX model with mlc in a process of its own, past its cache: `compile_job.py MODEL TARGET ARTIFACT` prints JSON facts."""

import json
import sys
import time

start = time.perf_counter()


def main(model: str, target: str, artifact: str) -> None:
    """The imports are part of what a user waits for."""
    from mlc.api import build
    from mlc.errors import MlcError
    from mlc.options import CompileOptions
    from mlc.progress import Progress
    from mlc.target import Target

    try:
        with Progress("compiling", show=False) as progress:
            built = build(model, CompileOptions(target=Target.parse(target)), cached=False, report=progress).artifact
            progress("write")
            built.save(artifact)
    except MlcError as error:
        print(json.dumps({"problem": f"{type(error).__name__}: {error}"}))
        return
    print(json.dumps({"compile": time.perf_counter() - start, "stages": progress.seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
