"""ONNX's own node tests of ops that contract, pool, reduce, normalise, attend, recur, resample, transform or judge."""

import pytest
from onnx_run import check_cases

OPS = """Attention RotaryEmbedding LinearAttention FlexAttention CausalConvWithState
Conv ConvTranspose DeformConv Col2Im Gemm MatMul Einsum Det
MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool MaxUnpool RoiAlign AffineGrid GridSample Resize Upsample
ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp ArgMax ArgMin
CumSum CumProd Softmax LogSoftmax Hardmax BatchNormalization LayerNormalization RMSNormalization InstanceNormalization GroupNormalization
LpNormalization LRN
MeanVarianceNormalization LSTM GRU RNN DFT STFT NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss Adagrad Adam Momentum""".split()


@pytest.mark.parametrize("op", OPS)
def test_onnx_cases(op):
    assert check_cases(op) > 0
