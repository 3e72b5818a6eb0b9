"""Float literals of MLIR's LLVM, rewritten for the LLVM that compiles: every spelling keeps its bits."""

import llvmlite.binding as llvm

from mlc.backends.llvm import portable

TEXT = """source_filename = "net 1.5"
define float @f(float %0, double %1, half %2, bfloat %3, i1 %4) {
  %6 = fadd float %0, 1.000000e-01
  %7 = fadd float %6, +qnan
  %8 = fadd double %1, 1.000000e-01
  %9 = fadd half %2, 9.997550e-02
  %10 = fadd bfloat %3, -1.000980e-01
  %11 = fadd float %7, +inf
  %12 = fadd double %8, -inf
  %13 = fmul float %11, f0x3B000000
  %14 = fmul float %13, -nan(0x400001)
  %15 = select i1 %4, float 1.000000e-01, float -2.500000e-01
  %16 = fadd <2 x float> <float 1.000000e-01, float f0x3DCCCCCD>, splat (float 1.000000e+00)
  ret float %14
}"""


def test_every_spelling_keeps_its_bits() -> None:
    text = portable(TEXT)
    literals = [token.strip(",>)") for line in text.split("\n") for token in line.split() if token.startswith("0x")]
    assert literals == ["0x3FB99999A0000000", "0x7FF8000000000000", "0x3FB999999999999A", "0xH2E66", "0xRBDCD", "0x7FF0000000000000",
                        "0xFFF0000000000000", "0x3F60000000000000", "0xFFF8000020000000", "0x3FB99999A0000000", "0xBFD0000000000000",
                        "0x3FB99999A0000000", "0x3FB99999A0000000", "0x3FF0000000000000"]
    assert text.startswith('source_filename = "net 1.5"')
    llvm.parse_assembly(text)
