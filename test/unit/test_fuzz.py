"""Bounded, seeded fuzzing: damaged and edited models of ONNX's own tests give a module or an MlcError, in a child that may not die or hang.

A failure prints its case. `python test/unit/test_fuzz.py CASE` repeats it with a traceback, `... FIRST LAST` runs many.
"""

import faulthandler
import io
import os
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mlc.errors import CompilerError, MlcError

SECONDS = 15  # of fuzzing in the test; making the corpus takes 7 more
CASE_SECONDS = 10
MEMORY = 4 << 30  # more than the process has at the start
NUMBERS = (0, 1, -1, 2, 3, 7, 255, -(1 << 31), (1 << 31) - 1, 1 << 32, (1 << 62) + 1, -(1 << 63), (1 << 63) - 1)
Edit = Callable[[random.Random, ModelProto], object]


@cache
def corpus() -> list[bytes]:
    """ONNX's node tests, one of each op at least, in a fixed order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        models = [c.model.SerializeToString() for c in collect_testcases(None) if c.model is not None]
    return sorted(m for m in models if len(m) < 1 << 14)


# -- edits ---------------------------------------------------------------------------------------------------------------


def _node(rng: random.Random, m: ModelProto) -> NodeProto:
    """Some node, perhaps of a nested graph or function."""
    nodes = [*m.graph.node, *(n for f in m.functions for n in f.node)]
    for node in list(nodes):
        nodes += [n for a in node.attribute for n in a.g.node]
    return rng.choice(nodes)


def _tensors(graph: GraphProto) -> list[TensorProto]:
    return [*graph.initializer, *(a.t for n in graph.node for a in n.attribute if a.HasField("t"))]


def _dims(rng: random.Random, m: ModelProto) -> None:
    tensors = _tensors(m.graph)
    if tensors and rng.random() < 0.3:
        tensor = rng.choice(tensors)
        tensor.dims[:] = [*tensor.dims, rng.choice(NUMBERS)] if rng.random() < 0.5 else tensor.dims[1:]
        return
    shape = rng.choice([*m.graph.input, *m.graph.output]).type.tensor_type.shape
    if not shape.dim or rng.random() < 0.2:
        shape.dim.add(dim_value=rng.choice(NUMBERS))
    elif rng.random() < 0.3:
        del shape.dim[rng.randrange(len(shape.dim))]
    else:
        rng.choice(shape.dim).dim_value = rng.choice(NUMBERS)


def _dtype(rng: random.Random, m: ModelProto) -> None:
    places: list[Any] = [v.type.tensor_type for v in (*m.graph.input, *m.graph.output)]
    rng.choice(places).elem_type = rng.choice([*TensorProto.DataType.values(), 99, -1])
    for tensor in rng.sample(_tensors(m.graph), rng.randint(0, min(1, len(_tensors(m.graph))))):
        tensor.data_type = rng.choice(TensorProto.DataType.values())


def _attribute(rng: random.Random, m: ModelProto) -> None:
    node = _node(rng, m)
    if not node.attribute:
        name = rng.choice(("axis", "axes", "to", "mode", ""))
        node.attribute.append(AttributeProto(name=name, type=AttributeProto.INT, i=rng.choice(NUMBERS)))
        return
    attribute = rng.choice(node.attribute)
    match rng.randrange(6):
        case 0:
            node.attribute.remove(attribute)
        case 1:
            attribute.type = rng.choice(AttributeProto.AttributeType.values())
        case 2:
            attribute.name = rng.choice(("axis", "pads", "kernel_shape", "équation"))
        case 3 if attribute.s:
            attribute.s = rng.choice((b"", b"\xff", b"linear", b"ij,jk->ik", b"...i->", attribute.s[:-1]))
        case 4 if attribute.ints:
            attribute.ints[:] = rng.choice(([], attribute.ints[1:], [*attribute.ints, 1], attribute.ints[::-1]))
        case _:
            attribute.i, attribute.f = rng.choice(NUMBERS), rng.choice((0.0, -1.0, 1e38, float("nan"), float("inf")))
            if attribute.ints:
                attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(NUMBERS)
            if attribute.floats:
                attribute.floats[rng.randrange(len(attribute.floats))] = attribute.f


def _wiring(rng: random.Random, m: ModelProto) -> None:
    node = _node(rng, m)
    names = rng.choice((node.input, node.output))
    match rng.randrange(6):
        case 0 if names:
            del names[rng.randrange(len(names))]
        case 1 if names:
            names[rng.randrange(len(names))] = rng.choice(("", "ghost", *node.input, *node.output))
        case 2:
            names.append(rng.choice((*node.input, *node.output, "new")))
        case 3:
            node.input[:] = node.input[::-1]
        case 4:
            m.graph.node.add().CopyFrom(node)
        case _:
            node.op_type, node.domain = _node(rng, ModelProto.FromString(rng.choice(corpus()))).op_type, rng.choice(("", "", "ai.onnx.ml"))


def _interface(rng: random.Random, m: ModelProto) -> None:
    ports = rng.choice((m.graph.input, m.graph.output))
    match rng.randrange(5):
        case 0 if ports:
            del ports[rng.randrange(len(ports))]
        case 1 if ports:
            ports.add().CopyFrom(rng.choice(ports))
        case 2 if ports:
            rng.choice(ports).name = rng.choice(("", "ghost", "x", "y"))
        case 3 if ports:
            rng.choice(ports).ClearField("type")
        case _:
            m.opset_import[0].version = rng.choice((*range(1, 28), *NUMBERS))


def _known(rng: random.Random, m: ModelProto) -> None:
    """Inputs become initializers of small integers: axes, shapes, indices and the like are then read at compile time."""
    for info in list(m.graph.input):
        dims = [d.dim_value for d in info.type.tensor_type.shape.dim]
        code = info.type.tensor_type.elem_type
        if code in (TensorProto.INT64, TensorProto.INT32, TensorProto.FLOAT, TensorProto.BOOL) and all(0 <= d < 64 for d in dims):
            if np.prod(dims) > 1 << 12 or rng.random() < 0.2:
                continue
            values = [rng.choice(NUMBERS) if rng.random() < 0.1 else rng.randint(-3, 9) for _ in range(int(np.prod(dims)))]
            with np.errstate(all="ignore"):
                array = np.array(values, np.int64).astype(helper.tensor_dtype_to_np_dtype(code)).reshape(dims)
            m.graph.initializer.append(numpy_helper.from_array(array, info.name))
            m.graph.input.remove(info)


EDITS: tuple[Edit, ...] = (_dims, _dtype, _attribute, _attribute, _wiring, _interface, _known, _known)


def mutant(case: int) -> bytes | ModelProto:
    """Case number `case`: a model of the corpus with one to three edits, or with damaged bytes."""
    rng = random.Random(case)
    data = rng.choice(corpus())
    if rng.random() < 0.25:
        damaged = bytearray(data)
        if rng.random() < 0.2:
            return bytes(damaged[: rng.randrange(len(damaged))])
        for _ in range(rng.choice((1, 1, 2, 8))):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        return bytes(damaged)
    model = ModelProto.FromString(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        try:
            rng.choice(EDITS)(rng, model)
        except (ValueError, IndexError, TypeError, KeyError):  # this model has nothing for that edit to change
            continue
    return model


# -- running -------------------------------------------------------------------------------------------------------------


def run_case(case: int) -> bool:
    """Imports the mutant, and compiles some; True if it was still a model. Raises what is not a user's error."""
    from mlc.driver import compile_model
    from mlc.frontend.onnx.importer import import_model
    from mlc.ir.context import make_context
    from mlc.options import CompileOptions
    from mlc.target import Target

    model = mutant(case)
    try:
        if case % 16:
            import_model(model, context=make_context())
        else:
            compile_model(model, CompileOptions(target=Target.parse("cpu"), opt_level=0))
    except CompilerError:  # a bug that the importer noticed by itself
        raise
    except MlcError:
        return False
    return True


def _worker(report: io.TextIOBase, first: int, last: int, seconds: float) -> None:
    """Runs cases and writes a line before each, and one for each failure."""
    faulthandler.enable()
    warnings.simplefilter("ignore")
    corpus()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a handler in Python would wait for the native code to return
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    end, good = time.monotonic() + seconds, 0
    for case in range(first, last):
        if time.monotonic() > end:
            break
        report.write(f"case {case}\n")
        report.flush()
        signal.alarm(CASE_SECONDS)
        try:
            good += run_case(case)
        except Exception:
            report.write(f"failed {case}: {traceback.format_exc()}\n")
        signal.alarm(0)
    report.write(f"done {good}\n")


def fuzz(directory: Path, first: int, last: int, seconds: float) -> tuple[str, str]:
    """Runs the cases in a forked child. Returns what it wrote, and how it died if it did."""
    path = directory / "cases.txt"
    child = os.fork()
    if not child:
        with path.open("w") as report, open(os.devnull, "w") as null:
            os.dup2(null.fileno(), 1)
            os.dup2(null.fileno(), 2)
            _worker(report, first, last, seconds)
            report.flush()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return path.read_text(), "" if code == 0 else f"died: {signal.Signals(-code).name if code < 0 else code}"


def test_fuzz(tmp_path: Path) -> None:
    said, death = fuzz(tmp_path, 0, 1 << 30, SECONDS)
    cases = [line for line in said.splitlines() if line.startswith("case ")]
    assert not death, f"{death} in {cases[-1]}"
    assert "\nfailed " not in said, "\n".join(line for line in said.splitlines() if not line.startswith("case "))
    assert len(cases) > 50
    assert int(said.splitlines()[-1].removeprefix("done ")) > len(cases) // 20  # enough edits leave a model that imports


def show(model: bytes | ModelProto) -> None:
    if isinstance(model, bytes):
        print(f"{len(model)} damaged bytes")
        return
    for tensor in _tensors(model.graph):
        if len(tensor.raw_data) > 1 << 10:
            tensor.raw_data = tensor.raw_data[:64]  # enough to read
    print(model)


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:]]
    if len(numbers) == 1:
        faulthandler.dump_traceback_later(2 * CASE_SECONDS, exit=True)
        show(mutant(numbers[0]))
        print("imported" if run_case(numbers[0]) else "refused")
    else:
        said, death = fuzz(Path("/tmp"), *numbers, 1e9)
        print("\n".join(line for line in said.splitlines() if not line.startswith("case ")), said.splitlines()[-1], death)
