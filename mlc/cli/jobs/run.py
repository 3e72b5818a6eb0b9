"""Loads an artifact, runs it once, and saves or summarises its outputs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from mlc.cli.jobs.common import Answer, Request, make_inputs
from mlc.errors import ResourceError
from mlc.load import load
from mlc.progress import Report

SHOWN = 6


def job(request: Request, report: Report) -> Answer:
    """request: artifact, inputs, random, seed, threads, save (a staging path or None)."""
    report("load", 0, 0)
    exe = load(request["artifact"], request["threads"])
    inputs = make_inputs(exe, request["inputs"], request["seed"], request["random"])
    report("run", 0, 0)
    outputs = flatten(exe.run(inputs))
    if request["save"] is not None:
        try:
            with Path(request["save"]).open("wb") as file:
                np.savez(file, **outputs)  # pyright: ignore[reportArgumentType]
        except OSError as error:
            raise ResourceError(f"--save: cannot write the outputs: {error.strerror}") from error
    return {"outputs": [{"name": name, **_statistics(array)} for name, array in outputs.items()]}


def flatten(outputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Arrays by name: the items of a sequence become `name.0`, `name.1`, ...; an empty optional disappears."""
    arrays: dict[str, np.ndarray] = {}
    for name, value in outputs.items():
        if isinstance(value, list):
            arrays.update({f"{name}.{i}": item for i, item in enumerate(cast("list[np.ndarray]", value))})
        elif value is not None:
            arrays[name] = value
    return arrays


def _statistics(array: np.ndarray) -> Answer:
    flat = array.reshape(-1)
    entry: Answer = {"dtype": array.dtype.name, "shape": list(array.shape)}
    shown = [str(v) for v in flat[:SHOWN].tolist()] if flat.dtype.kind in "iub" else [f"{float(v):.5g}" for v in flat[:SHOWN]]
    if flat.dtype.kind in "iub" or not flat.size:
        return {**entry, "first": shown}
    wide = flat.astype(np.float64)
    bad = int((~np.isfinite(wide)).sum())
    return {**entry, "first": shown, "min": float(wide.min()), "mean": float(wide.mean()), "max": float(wide.max()), "bad": bad}
