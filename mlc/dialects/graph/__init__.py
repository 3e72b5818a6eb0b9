"""The graph dialect: every op class and its builder function, by family."""

from mlc.dialects.graph._base import Graph, GraphOp, TensorType
from mlc.dialects.graph.attention import AttentionOp, RotaryOp, attention, rotary
from mlc.dialects.graph.constant import SMALL, ConstantOp, WeightOp, constant, weight
from mlc.dialects.graph.contraction import DeterminantOp, EinsumOp, MatmulOp, determinant, einsum, matmul
from mlc.dialects.graph.convolution import ConvOp, ConvTransposeOp, conv, conv_transpose
from mlc.dialects.graph.elementwise import BitcastOp, CastOp, ElementwiseOp, bitcast, cast, elementwise
from mlc.dialects.graph.indexing import (
    compress,
    gather_elements,
    gather_nd,
    nonzero,
    reverse_sequence,
    scatter_elements,
    scatter_nd,
    trilu,
    update,
)
from mlc.dialects.graph.lookup import find, tree_leaves
from mlc.dialects.graph.movement import broadcast, concat, gather, iota, pad, reshape, slice, transpose
from mlc.dialects.graph.normalize import LayerNormOp, RmsNormOp, layer_norm, rms_norm
from mlc.dialects.graph.pool import MaxPoolIndicesOp, PoolOp, max_pool_indices, pool
from mlc.dialects.graph.quantize import DequantizeOp, QuantizeOp, UnpackOp, dequantize, quantize, unpack
from mlc.dialects.graph.random import RandomOp, random
from mlc.dialects.graph.reduce import ArgOp, ReduceOp, ScanOp, SoftmaxOp, arg, reduce, scan, softmax
from mlc.dialects.graph.sample import (
    DeformSampleOp,
    GridSampleOp,
    ResampleOp,
    RoiAlignOp,
    RoiMaxOp,
    deform_sample,
    grid_sample,
    resample,
    roi_align,
    roi_max,
)
from mlc.dialects.graph.sorting import nms, topk, unique

__all__ = [
    "SMALL", "ArgOp", "AttentionOp", "BitcastOp", "CastOp", "ConstantOp", "ConvOp", "ConvTransposeOp", "DeformSampleOp",
    "DequantizeOp", "DeterminantOp", "EinsumOp", "ElementwiseOp", "Graph", "GraphOp", "GridSampleOp", "LayerNormOp", "MatmulOp",
    "MaxPoolIndicesOp", "PoolOp", "QuantizeOp", "RandomOp", "ReduceOp", "ResampleOp", "RmsNormOp", "RoiAlignOp", "RoiMaxOp",
    "RotaryOp", "ScanOp", "SoftmaxOp", "TensorType", "UnpackOp", "WeightOp", "arg", "attention", "bitcast", "broadcast", "cast",
    "compress", "concat", "constant", "conv", "conv_transpose", "deform_sample", "dequantize", "determinant", "einsum",
    "elementwise", "find", "gather", "gather_elements", "gather_nd", "grid_sample", "iota", "layer_norm", "matmul",
    "max_pool_indices", "nms", "nonzero", "pad", "pool", "quantize", "random", "reduce", "resample", "reshape",
    "reverse_sequence", "rms_norm", "roi_align", "roi_max", "rotary", "scan", "scatter_elements", "scatter_nd", "slice",
    "softmax", "topk", "transpose", "tree_leaves", "trilu", "unique", "unpack", "update", "weight",
]
