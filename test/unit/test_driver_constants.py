"""bf16 constants, for which the MLIR bindings have no buffer, come out of the IR bit for bit."""

import ml_dtypes
import numpy as np
import pytest

from mlc.driver import _constant
from mlc.ir.context import make_context
from mlc.ir.mlir import ir


@pytest.mark.parametrize("values", [
    [1, 2, 3.5, np.nan, -np.inf, -0.0, 1e-30], np.ones((2, 3)), np.linspace(-3, 3, 2000).reshape(40, 50), 7.0, [np.nan] * 3,
])
def test_bf16(values):
    array = np.asarray(values).astype(ml_dtypes.bfloat16)
    with make_context(), ir.Location.unknown():
        type_ = ir.RankedTensorType.get(list(array.shape), ir.BF16Type.get())
        found = _constant(ir.DenseElementsAttr.get(np.ascontiguousarray(array).view(np.uint16).reshape(array.shape), type=type_))
    assert found.shape == array.shape
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found.view(np.uint16), array.view(np.uint16))
