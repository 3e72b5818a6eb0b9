"""The graph dialect: every op class and its builder function, by family."""

from mlc.dialects.graph._base import Graph, GraphOp, TensorType
from mlc.dialects.graph.constant import SMALL, ConstantOp, WeightOp, constant, weight
from mlc.dialects.graph.contraction import MatmulOp, matmul
from mlc.dialects.graph.elementwise import CastOp, ElementwiseOp, cast, elementwise

__all__ = ["SMALL", "CastOp", "ConstantOp", "ElementwiseOp", "Graph", "GraphOp", "MatmulOp", "TensorType", "WeightOp", "cast", "constant",
           "elementwise", "matmul", "weight"]
