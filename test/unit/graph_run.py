"""`run`: run_graph for any shape; tensors cross the border flat, because upstream's bare pointers cannot carry an inner size of 0."""

from collections.abc import Callable, Sequence

import numpy as np
from harness import run_graph

from mlc.dialects import graph
from mlc.dialects.graph import TensorType


def run(build: Callable[..., object], *inputs: np.ndarray) -> list[np.ndarray]:
    """The results of `build(*values)`, which makes graph ops, on `inputs`."""
    shapes: list[tuple[int, ...]] = []

    def flat(*values: object) -> list[object]:
        shapes.clear()
        made = build(*[graph.reshape(v, shape=list(np.shape(a))) for v, a in zip(values, inputs, strict=True)])
        made = list(made) if isinstance(made, Sequence) else [made]
        shapes.extend(TensorType.of(v).shape for v in made)
        return [graph.reshape(v, shape=[TensorType.of(v).size]) for v in made]

    results = run_graph(flat, *[np.ascontiguousarray(a).reshape(-1) for a in inputs])
    return [r.reshape(s) for r, s in zip(results, shapes, strict=True)]
