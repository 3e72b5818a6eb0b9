"""Compile a model, run it, save it, load it again: the whole API in one page. `python examples/compile_and_run.py [model.onnx]`."""

import sys
import tempfile
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import mlc


def small_model() -> bytes:
    """softmax(relu(x @ w)), for those who have no model at hand."""
    w = np.random.default_rng(0).standard_normal((64, 10)).astype(np.float32)
    steps = ("MatMul", ["x", "w"], "h"), ("Relu", ["h"], "r"), ("Softmax", ["r"], "y")
    nodes = [helper.make_node(op, inputs, [output]) for op, inputs, output in steps]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 10])
    graph = helper.make_graph(nodes, "small", [x], [y], [numpy_helper.from_array(w, "w")])
    return helper.make_model(graph).SerializeToString()


def main() -> None:
    """Raises mlc.errors.MlcError if the model is not one that mlc compiles."""
    if len(sys.argv) > 1:
        exe = mlc.compile(sys.argv[1])
    else:
        exe = mlc.compile(small_model(), target="cpu", shapes={"x": (4, 64)})
    print(exe)

    inputs = exe.random_inputs(seed=1)
    outputs = exe.run(inputs)
    print({name: (array.dtype, array.shape) for name, array in outputs.items()})

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.mlc"
        exe.save(path)
        again = mlc.load(path).run(inputs)
    assert all(np.array_equal(outputs[name], again[name]) for name in outputs)
    print("the saved artifact gives the same bits")


if __name__ == "__main__":
    main()
