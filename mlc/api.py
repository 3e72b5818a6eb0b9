"""`mlc.compile`, and `build`, which both it and the command line use to compile through the cache."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlc.errors import ArtifactError
from mlc.options import CompileOptions, given_shape
from mlc.progress import Progress, Report, ignore
from mlc.target import Target

if TYPE_CHECKING:
    from mlc.artifact import Artifact
    from mlc.cache import Cache
    from mlc.frontend.onnx.load import LoadedModel, ModelSource
    from mlc.runtime.executor import Executable


def compile(model: "ModelSource", target: str | Target = "cpu", *, shapes: Mapping[str, object] | None = None,
            values: Mapping[str, object] | None = None, opt_level: int = 3, allow_tf32: bool = False, threads: int | None = None,
            cache: bool = True, dump_dir: str | PathLike[str] | None = None, progress: bool | None = None) -> "Executable":
    """Compiles an ONNX model and returns a callable.

    model: a path, bytes or an onnx.ModelProto. target: `cpu`, `cuda:sm_90a`, `rocm:gfx942`, `rocm:gfx90a,gfx942` (code for both), ...
    shapes: of inputs whose shape the model leaves open, (1, 128); of a sequence a list of its items' shapes; or sizes of symbolic
    dimensions, by their names. values: of inputs whose *value* decides a shape. threads: of the CPU runtime.
    allow_tf32: products of f32 may use tensor cores in tf32; without effect on targets that have no tf32. cache: use the compile cache.
    dump_dir: gets the IR of every level. progress: on stderr once a compile takes a second; None: only if stderr is a terminal.
    Raises a subclass of mlc.errors.MlcError.
    """
    import sys

    first, *also = Target.parse_all(target) if isinstance(target, str) else (target,)
    options = CompileOptions(
        target=first,
        also=tuple(also),
        shapes={name: given_shape(name, shape) for name, shape in (shapes or {}).items()},
        values={name: np.asarray(value) for name, value in (values or {}).items()},
        dump_dir=None if dump_dir is None else Path(dump_dir),
        opt_level=opt_level,
        allow_tf32=allow_tf32,
    )
    with Progress("compiling", show=sys.stderr.isatty() if progress is None else progress) as report:
        return build_to_run(model, options, threads, cached=cache, report=report)[1]


@dataclass(frozen=True)
class Built:
    """What `build` made. hit: it came out of the cache."""

    artifact: "Artifact"
    hit: bool = False


def build(model: "ModelSource | LoadedModel", options: CompileOptions, *, cached: bool = True, report: Report = ignore) -> Built:
    """Compiles through the cache; without it where IR dumps or timings are wanted, which only a real compile gives."""
    from mlc.artifact import read_artifact

    wanted = cached and options.dump_dir is None and not options.timing
    cache, key = _open_cache(model, options, report) if wanted else (None, None)
    if cache is None or key is None:
        return Built(_compile(model, options, report))
    with cache.lock(key):
        path = cache.get(key)
        if path is not None:
            try:
                return Built(read_artifact(path), hit=True)
            except ArtifactError:  # damaged on disk: made again below
                cache.discard(key)
        artifact = _compile(model, options, report)
        name = Path(fspath(model)).name if isinstance(model, str | PathLike) else "(in memory)"
        cache.put(key, artifact.save, {"model": name, "target": Target.name_all(options.targets)})
    return Built(artifact)


def build_to_run(model: "ModelSource | LoadedModel", options: CompileOptions, threads: int | None = None, *, cached: bool = True,
                 report: Report = ignore) -> "tuple[Built, Executable]":
    """As `build`, and loads it. What this machine lacks to run it is said before the compile."""
    from mlc.load import check_machine, executable

    check_machine(options.targets)
    built = build(model, options, cached=cached, report=report)
    return built, executable(built.artifact, threads)


def _open_cache(model: "ModelSource | LoadedModel", options: CompileOptions,
                report: Report) -> "tuple[Cache | None, str | None]":
    from mlc.cache import Cache
    from mlc.fingerprint import cache_key

    report("import", 0, 0)
    cache = Cache.default()
    return cache, None if cache is None else cache_key(model, options)


def _compile(model: "ModelSource | LoadedModel", options: CompileOptions, report: Report) -> "Artifact":
    from mlc.driver import compile_model

    return compile_model(model, options, progress=report)
