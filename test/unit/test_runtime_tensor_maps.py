"""Tensor maps as launch arguments: encoded once per address, by the driver's own function, and passed by value."""

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_cuda import OK, CUresult, FakeCuda

from mlc.artifact import Artifact
from mlc.errors import ArtifactError, CompilerError
from mlc.load import executable
from mlc.runtime.executor import Executable

SPEC = {"dtype": "f16", "shape": [4, 64], "strides": [64, 1], "box": [4, 64], "swizzle": 128}
ENCODE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint64, ctypes.c_int, ctypes.c_uint32, ctypes.c_uint64,
                          *[ctypes.POINTER(ctypes.c_uint64)] * 2, *[ctypes.POINTER(ctypes.c_uint32)] * 2, *[ctypes.c_int] * 4)


class Encoder:
    """A fake cuTensorMapEncodeTiled: a map is the address of its array; what else was asked for is kept."""

    def __init__(self, cuda: FakeCuda, status: int = 0) -> None:
        self.asked: list[dict[str, Any]] = []
        self.status = status
        self.function = ENCODE(self.encode)
        cuda.CUtensorMapDataType = SimpleNamespace(CU_TENSOR_MAP_DATA_TYPE_FLOAT16=6, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16=9,
                                                   CU_TENSOR_MAP_DATA_TYPE_TFLOAT32=11)
        cuda.CUtensorMapSwizzle = SimpleNamespace(CU_TENSOR_MAP_SWIZZLE_128B=3)
        cuda.CUtensorMapL2promotion = SimpleNamespace(CU_TENSOR_MAP_L2_PROMOTION_L2_256B=3)
        cuda.CUresult = CUresult
        address = ctypes.cast(self.function, ctypes.c_void_p).value
        cuda._cuGetProcAddress = lambda symbol, version, flags: (OK, address, 0) if symbol == b"cuTensorMapEncodeTiled" else (OK, 0, 1)

    def encode(self, target: int, kind: int, rank: int, address: int, dims: Any, strides: Any, box: Any, steps: Any, *modes: int) -> int:
        assert target % 64 == 0
        ctypes.memset(target, 0, 128)
        ctypes.c_uint64.from_address(target).value = address
        self.asked.append({"kind": kind, "dims": dims[:rank], "strides": strides[:rank - 1], "box": box[:rank], "steps": steps[:rank],
                           "modes": modes})
        return self.status


def load(monkeypatch: pytest.MonkeyPatch, argument: Any, status: int = 0) -> tuple[Encoder, Executable]:
    """A model whose kernel takes y, then a map, and copies."""
    cuda = FakeCuda()

    def copies(y: int, map_: int) -> None:
        cuda.array(y, 256, np.float16)[:] = cuda.array(map_, 256, np.float16)

    cuda.kernels["k"] = copies
    cuda.install(monkeypatch)
    encoder = Encoder(cuda, status)
    step = {"op": "launch", "kernel": "k", "args": [{"space": "output", "index": 0, "offset": 0}, argument]}
    tensor = {"dtype": "f16", "shape": [4, 64]}
    plan = {"target": "cuda:sm_90a", "arena_bytes": 0, "weights": [], "objects": ["objects/k.cubin"], "steps": [step, step],
            "kernels": [{"name": "k", "object": "objects/k.cubin", "symbol": "k", "grid": [1], "blocks": 1, "threads": 288, "nodes": []}],
            "inputs": [{"name": "x", **tensor}], "outputs": [{"name": "y", **tensor}]}
    return encoder, executable(Artifact.build(plan=plan, objects={"objects/k.cubin": b"cubin"}, weights=[]))


def of(ref: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"tensormap": {"buffer": ref, **SPEC, **more}}


X = {"space": "input", "index": 0, "offset": 0}


def test_a_map_is_encoded_once_and_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, exe = load(monkeypatch, of(X))
    for seed in range(3):
        x = np.random.default_rng(seed).uniform(-1, 1, (4, 64)).astype(np.float16)
        np.testing.assert_array_equal(exe(x)[0], x)
    # Dimensions innermost first; strides in bytes, without that of the innermost; no interleaving, 128-byte swizzle, zeros outside.
    assert encoder.asked == [{"kind": 6, "dims": [64, 4], "strides": [128], "box": [64, 4], "steps": [1, 1], "modes": (0, 3, 3, 0)}]


def test_maps_of_f32_round_to_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, exe = load(monkeypatch, of(X, dtype="f32", shape=[4, 32], strides=[32, 1], box=[4, 32]))
    exe(np.zeros((4, 64), np.float16))
    assert [(a["kind"], a["strides"]) for a in encoder.asked] == [(11, [128])]


def test_what_the_driver_refuses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    _, exe = load(monkeypatch, of(X), status=int(CUresult.CUDA_ERROR_INVALID_VALUE))
    with pytest.raises(CompilerError, match="cuTensorMapEncodeTiled: CUDA_ERROR_INVALID_VALUE"):
        exe(np.zeros((4, 64), np.float16))


@pytest.mark.parametrize(("argument", "message"), [
    (of(X, shape=[4]), "bad tensor map"), (of(X, dtype="f17"), "bad tensor map"), (of(X, box=[4, "n"]), "bad tensor map"),
    (of({"space": "input", "index": 7, "offset": 0}), "bad reference"), (of(X, shape=[5, 64]), "640 bytes at 0 of input 0, which has 512")])
def test_malformed_maps(monkeypatch: pytest.MonkeyPatch, argument: Any, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        load(monkeypatch, argument)[1](np.zeros((4, 64), np.float16))
