"""Functions that no instruction computes and that kernels call all the same, as LLVM IR: the remainder of C's fmod, which is exact.

LLVM's own `frem` for NVPTX is x - y trunc(x / y), which is wrong as soon as the quotient has more digits than the type.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class _Float:
    """An IEEE type. suffix: of the library's name for the function."""

    suffix: str
    type: str
    bits: int
    fraction: int

    @property
    def infinity(self) -> int:
        return (1 << (self.bits - 1)) - (1 << self.fraction)

    def widened(self, value: str) -> str:
        return f"add i64 {value}, 0" if self.bits == 64 else f"zext i{self.bits} {value} to i64"

    def narrowed(self, value: str) -> str:
        return f"add i64 {value}, 0" if self.bits == 64 else f"trunc i64 {value} to i{self.bits}"


_FLOATS = (_Float("f", "float", 32, 23), _Float("", "double", 64, 52))


def _fmod(f: _Float) -> str:
    """Long division: of x = m 2^e by y = n 2^g, m and n whole and e >= g, there remains (m 2^(e - g) mod n) 2^g, a few digits at a time."""
    i, magnitude, one, step = f"i{f.bits}", (1 << (f.bits - 1)) - 1, 1 << f.fraction, 63 - f.fraction
    return f"""
define internal {f.type} @__nv_fmod{f.suffix}({f.type} %x, {f.type} %y) {{
entry:
  %xbits = bitcast {f.type} %x to {i}
  %ybits = bitcast {f.type} %y to {i}
  %xmagnitude = and {i} %xbits, {magnitude}
  %ymagnitude = and {i} %ybits, {magnitude}
  %sign = xor {i} %xbits, %xmagnitude
  %xbad = icmp uge {i} %xmagnitude, {f.infinity}
  %ynan = icmp ugt {i} %ymagnitude, {f.infinity}
  %yzero = icmp eq {i} %ymagnitude, 0
  %ybad = or i1 %ynan, %yzero
  %bad = or i1 %xbad, %ybad
  %less = icmp ult {i} %xmagnitude, %ymagnitude
  br i1 %bad, label %nan, label %good
nan:
  ret {f.type} 0x7FF8000000000000
good:
  br i1 %less, label %same, label %divide
same:
  ret {f.type} %x
divide:
  %xe0 = lshr {i} %xmagnitude, {f.fraction}
  %ye0 = lshr {i} %ymagnitude, {f.fraction}
  %xe = call {i} @llvm.umax.{i}({i} %xe0, {i} 1)
  %ye = call {i} @llvm.umax.{i}({i} %ye0, {i} 1)
  %xm0 = and {i} %xmagnitude, {one - 1}
  %ym0 = and {i} %ymagnitude, {one - 1}
  %xnormal = icmp ne {i} %xe0, 0
  %ynormal = icmp ne {i} %ye0, 0
  %ximplied = select i1 %xnormal, {i} {one}, {i} 0
  %yimplied = select i1 %ynormal, {i} {one}, {i} 0
  %xm = or {i} %xm0, %ximplied
  %ym = or {i} %ym0, %yimplied
  %m = {f.widened("%xm")}
  %n = {f.widened("%ym")}
  %first = urem i64 %m, %n
  %distance = sub {i} %xe, %ye
  br label %more
more:
  %r = phi i64 [ %first, %divide ], [ %reduced, %round ]
  %left = phi {i} [ %distance, %divide ], [ %rest, %round ]
  %done = icmp eq {i} %left, 0
  br i1 %done, label %finish, label %round
round:
  %digits = call {i} @llvm.umin.{i}({i} %left, {i} {step})
  %by = {f.widened("%digits")}
  %shifted = shl i64 %r, %by
  %reduced = urem i64 %shifted, %n
  %rest = sub {i} %left, %digits
  br label %more
finish:
  %rm = {f.narrowed("%r")}
  %zeros = call {i} @llvm.ctlz.{i}({i} %rm, i1 false)
  %want = sub {i} %zeros, {f.bits - 1 - f.fraction}
  %room = sub {i} %ye, 1
  %up = call {i} @llvm.umin.{i}({i} %want, {i} %room)
  %normal = shl {i} %rm, %up
  %exponent = sub {i} %room, %up
  %field = shl {i} %exponent, {f.fraction}
  %sum = add {i} %normal, %field
  %zero = icmp eq {i} %rm, 0
  %value = select i1 %zero, {i} 0, {i} %sum
  %signed = or {i} %value, %sign
  %result = bitcast {i} %signed to {f.type}
  ret {f.type} %result
}}
"""


FUNCTIONS: dict[str, str] = {f"__nv_fmod{f.suffix}": _fmod(f) for f in _FLOATS}
