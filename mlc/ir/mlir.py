"""The MLIR bindings, re-exported: every other module says `from mlc.ir.mlir import ir, arith, ...` and never names the provider."""

from torch_mlir import ir, rewrite
from torch_mlir._mlir_libs import _mlir
from torch_mlir.dialects import (
    affine,
    amdgpu,
    arith,
    bufferization,
    cf,
    func,
    gpu,
    linalg,
    llvm,
    math,
    memref,
    nvgpu,
    nvvm,
    scf,
    tensor,
    vector,
)
from torch_mlir.passmanager import PassManager

# Without this prefix every access to one of our ops tries, and fails, to import the provider's module of that name (40x slower).
_mlir.globals.append_dialect_search_prefix("mlc.dialects")

MLIRError = ir.MLIRError

__all__ = ["MLIRError", "PassManager", "affine", "amdgpu", "arith", "bufferization", "cf", "func", "gpu", "ir", "linalg", "llvm", "math",
           "memref", "nvgpu", "nvvm", "rewrite", "scf", "tensor", "vector"]
