"""LLVM: IR text from MLIR to optimised object code or assembly, through llvmlite; smooths the version skew between the two."""

import re
import struct
from dataclasses import dataclass
from functools import cache

import llvmlite.binding as llvm
import ml_dtypes
import numpy as np

from mlc.errors import CompilerError


@cache
def _initialize() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


@dataclass(frozen=True)
class Machine:
    """What code is generated for: LLVM triple, CPU name, feature string (`+avx2,+fma`), optimisation level 0..3.

    unroll: whether loops may be unrolled.
    """

    triple: str
    cpu: str
    features: str
    opt_level: int = 3
    unroll: bool = True

    def target_machine(self) -> llvm.TargetMachine:
        _initialize()
        target = llvm.Target.from_triple(self.triple)
        return target.create_target_machine(cpu=self.cpu, features=self.features, opt=self.opt_level, reloc="pic", codemodel="small")


_TOKEN = re.compile(r"\b(half|bfloat|float|double)\b"
                    r"|(?<![\w.%@\"$-])(f0x[0-9A-Fa-f]+|[+-](?:inf|qnan|s?nan\(0x[0-9A-Fa-f]+\))|-?\d+\.\d+(?:e[+-]\d+)?)(?![\w.])")
# Per type: bits of infinity, mantissa width, total width.
_FORMATS = {"half": (0x7C00, 10, 16), "bfloat": (0x7F80, 7, 16), "float": (0x7F800000, 23, 32), "double": (0x7FF0000000000000, 52, 64)}
_DTYPES = {"half": np.float16, "bfloat": ml_dtypes.bfloat16, "float": np.float32, "double": np.float64}


def portable(text: str) -> str:
    """Rewrites the float literals of newer LLVM (`f0x3F800000`, `+inf`, `+qnan`, short decimals) in the form that every LLVM reads."""
    return "\n".join(_portable_line(line) if _TOKEN.search(line) else line for line in text.split("\n"))


def _portable_line(line: str) -> str:
    kind = ""  # the type that was named last: the literal's

    def rewrite(match: re.Match[str]) -> str:
        nonlocal kind
        kind = match[1] or kind
        if match[1] or not kind:
            return match[0]
        bits = _literal_bits(match[2], kind)
        if kind == "float":  # written as the double of equal value
            return f"0x{_widen(bits):016X}"
        return {"half": f"0xH{bits:04X}", "bfloat": f"0xR{bits:04X}", "double": f"0x{bits:016X}"}[kind]

    return _TOKEN.sub(rewrite, line)


def _literal_bits(token: str, kind: str) -> int:
    if token.startswith("f0x"):
        return int(token[3:], 16)
    infinity, mantissa, width = _FORMATS[kind]
    if token[0] in "+-" and token[1] in "iqsn":
        payload = 0 if token.endswith("inf") else 1 << (mantissa - 1) if token.endswith("qnan") else int(token[token.index("0x"):-1], 16)
        return infinity | payload | (1 << (width - 1) if token[0] == "-" else 0)
    return int.from_bytes(np.array(float(token)).astype(_DTYPES[kind]).tobytes(), "little")


def _widen(bits: int) -> int:
    """Bits of the double that equals a float given by its bits; NaN payloads keep their place."""
    if bits & 0x7F800000 == 0x7F800000:
        return (bits >> 31) << 63 | 0x7FF0000000000000 | (bits & 0x7FFFFF) << 29
    return struct.unpack("<Q", struct.pack("<d", struct.unpack("<f", struct.pack("<I", bits))[0]))[0]


def optimise(text: str, machine: Machine) -> tuple[llvm.ModuleRef, llvm.TargetMachine]:
    """Parses IR text and runs LLVM's standard pipeline for the machine; CompilerError when LLVM refuses the text."""
    target_machine = machine.target_machine()
    try:
        module = llvm.parse_assembly(portable(text))
        module.triple, module.data_layout = machine.triple, str(target_machine.target_data)
        module.verify()
    except RuntimeError as error:
        raise CompilerError(f"LLVM refuses the generated IR: {error}") from error
    tuning = llvm.create_pipeline_tuning_options(speed_level=machine.opt_level)
    tuning.loop_vectorization = tuning.slp_vectorization = machine.opt_level >= 2
    tuning.loop_interleaving = False
    tuning.loop_unrolling = machine.unroll
    builder = llvm.create_pass_builder(target_machine, tuning)
    builder.getModulePassManager().run(module, builder)
    return module, target_machine


def object_code(text: str, machine: Machine) -> bytes:
    """IR text to a relocatable object."""
    module, target_machine = optimise(text, machine)
    return target_machine.emit_object(module)


def assembly(text: str, machine: Machine) -> str:
    """IR text to assembly text."""
    module, target_machine = optimise(text, machine)
    return target_machine.emit_assembly(module)
