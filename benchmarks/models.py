"""Exports the benchmark models to ONNX, with inputs and PyTorch's outputs beside them; nothing is downloaded.

    python benchmarks/models.py resnet50 bert --style 18 --style ts17      # into .bench/zoo
    python benchmarks/models.py --list

MODEL.STYLE.onnx comes with MODEL.STYLE.npz: in0, in1, ... in the order of the graph's inputs, out0, ... as PyTorch computed them.
A style is what an exporter makes of the network: 18 spells attention and norms out in primitive ops, 23 keeps Attention and
RMSNormalization, ts17 is the older TorchScript exporter (opset 17, shape arithmetic everywhere).
What is there already is kept, unless --force.
"""

import argparse
import contextlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".bench" / "zoo"
STYLES = ("18", "23", "ts17")
MODULES = ("torch", "torchvision", "transformers", "onnxscript")
REQUIREMENTS = "benchmarks/requirements.txt"
LARGE = 1 << 30  # parameters' bytes from which weights go to a file of their own: one protobuf holds less than 2 GiB


def path_of(name: str, style: str, folder: Path = FOLDER, batch: int = 1, half: bool = False) -> Path:
    """Where a model's .onnx lies; its arrays are in the .npz beside it."""
    return folder / f"{name}{f'.b{batch}' if batch != 1 else ''}{'.half' if half else ''}.{style}.onnx"


def exported(path: Path) -> bool:
    """Whether the model and its arrays are there; the arrays come last."""
    return path.is_file() and path.with_suffix(".npz").is_file()


def missing_modules(python: str) -> list[str]:
    """What `python` lacks for building the models."""
    code = f"import importlib.util as u; print(*[m for m in {MODULES!r} if u.find_spec(m) is None])"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split()


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Keeps standard output free of what native code prints: the older exporter writes out whole graphs when it fails."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def export(name: str, path: Path, style: str, batch: int = 1, half: bool = False) -> None:
    """Builds and exports one model; the files appear under their names only when they are whole."""
    import torch
    from zoo import build

    module, inputs, names = build(name, batch)
    if half:
        module, inputs = module.half(), tuple(t.half() if t.is_floating_point() else t for t in inputs)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as directory, torch.no_grad():
        file = Path(directory, path.name)
        outputs = module(*inputs)
        write(module, inputs, names, file, style)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        arrays = {f"in{i}": t.numpy() for i, t in enumerate(inputs)} | {f"out{i}": t.numpy() for i, t in enumerate(outputs)}
        made = sorted(Path(directory).iterdir())
        for part in made:
            shutil.move(part, path.parent / part.name)
        np.savez(Path(directory, "arrays.npz"), **arrays)
        os.replace(Path(directory, "arrays.npz"), path.with_suffix(".npz"))


def write(module: Any, inputs: tuple[Any, ...], names: list[str], path: Path, style: str) -> None:
    """A PyTorch module as an ONNX file, of weights that one protobuf cannot hold with a file beside it."""
    import torch

    if style == "ts17":
        torch.onnx.export(module, inputs, str(path), input_names=names, dynamo=False, opset_version=17)
        return
    large = sum(p.numel() * p.element_size() for p in module.parameters()) >= LARGE
    torch.onnx.export(module, inputs, str(path), input_names=names, dynamo=True, opset_version=int(style), external_data=large,
                      verbose=False)


def main() -> int:
    """Exit code: 1 if a model could not be exported, 2 if the command line or the installation is at fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="MODEL", help="default: all but the llama70b ones, which have 3.4 GB of weights")
    parser.add_argument("--style", action="append", choices=STYLES, help="may be given more than once; default 18")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="default: .bench/zoo")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--half", action="store_true", help="float16")
    parser.add_argument("--force", action="store_true", help="export again what is there already")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    args = parser.parse_args()
    missing = missing_modules(sys.executable)
    if missing:
        print(f"this Python lacks {', '.join(missing)}: pip install -r {REQUIREMENTS}\n(in an environment of its own, if you like: "
              "the exported files are all that mlc needs)", file=sys.stderr)
        return 2
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    from zoo import ZOO

    if args.list:
        print(*ZOO, sep="\n")
        return 0
    unknown = [name for name in args.names if name not in ZOO]
    if unknown:
        print(f"no model is called {', '.join(unknown)}; there are {', '.join(ZOO)}", file=sys.stderr)
        return 2
    failed = 0
    for name in args.names or [n for n in ZOO if not n.startswith("llama70b")]:
        for style in args.style or ["18"]:
            path = path_of(name, style, args.folder, args.batch, args.half)
            if exported(path) and not args.force:
                print(f"{path.name}: there")
                continue
            try:
                with silent():
                    export(name, path, style, args.batch, args.half)
                print(f"{path.name}: {path.stat().st_size / 2**20:.1f} MiB", flush=True)
            except Exception as error:  # an exporter that cannot do one model should not keep the others from being made
                failed = 1
                print(f"{path.name}: FAILED: {type(error).__name__}: {' '.join(str(error).split())[:200]}", file=sys.stderr, flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
