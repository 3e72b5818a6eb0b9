"""Frozen facts about the machine compiled for: made once, handed down, never asked for again.

A target prints as `kind:arch[,key=value...]` (only facts that differ from the arch's table) and parses back to an equal object, so it can
stand in a reproducer or an artifact. The GPU rows describe the chip named in the comment; `,sms=...` describes another of the same arch.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path

from mlc.devices import Device, present
from mlc.errors import TargetError

KINDS = ("cpu", "cuda", "rocm")
DEFAULT_ARCH = {"cuda": "sm_90a", "rocm": "gfx942"}  # of a GPU target without an architecture, on a machine without such a GPU


@dataclass(frozen=True)
class Target:
    """What a kernel may assume. Zero means: no such thing on this kind of target.

    vector_bits: widest register a lane-parallel operation works on (GPU: widest load of a thread). cores: hardware threads to use.
    l1, l2: bytes of data cache (GPU: L1 + shared of an SM, whole L2). features: CPU: LLVM feature names beyond the arch level; GPU: what
    backends choose instructions by. sms, shared_bytes (one block's most), registers (32-bit, of an SM), warp: GPU only. atoms: matrix
    instructions that a warp computes products with (`mlc.layout.fragments`), of each type the one to prefer first. tf32: those that join
    them where a compile allows products of f32 in tf32 (`allowing_tf32`). cluster: blocks, at most, that run at once and can wait for
    each other.
    """

    kind: str
    arch: str
    vector_bits: int
    cores: int
    l1: int
    l2: int
    features: tuple[str, ...] = ()
    sms: int = 0
    shared_bytes: int = 0
    registers: int = 0
    warp: int = 0
    atoms: tuple[str, ...] = ()
    tf32: tuple[str, ...] = ()
    cluster: int = 0

    def allowing_tf32(self) -> "Target":
        """The target whose products of f32 may be computed in tf32; the same one where no instruction does that."""
        return replace(self, atoms=tuple(dict.fromkeys((*self.atoms, *self.tf32))))

    def has(self, feature: str) -> bool:
        return feature in self.features

    def __str__(self) -> str:
        base = _FACTS[self.kind][self.arch]
        changed = [f"{key}={'+'.join(getattr(self, key)) if key in _LISTS else getattr(self, key)}"
                   for key in _OVERRIDABLE if getattr(self, key) != getattr(base, key)]
        return ",".join([f"{self.kind}:{self.arch}", *changed])

    @staticmethod
    def parse(text: str) -> "Target":
        """`cpu`, `cuda`, `rocm` (of this machine), `cpu:x86-64-v3`, `cuda:sm_90a`, `rocm:gfx942`, each with optional `,key=value` facts."""
        name, *overrides = text.strip().split(",")
        if name == "cpu":
            target = Target.host()
        elif name in DEFAULT_ARCH:
            target = Target.gpu(name)
        else:
            kind, _, arch = name.partition(":")
            if kind not in _FACTS:
                raise _unknown(f"unknown target '{text}'", kind, KINDS)
            if arch not in _FACTS[kind]:
                raise _unknown(f"unknown {kind} architecture '{arch}'", arch, _FACTS[kind])
            target = _FACTS[kind][arch]
        return replace(target, **dict(_override(text, item) for item in overrides)) if overrides else target

    @staticmethod
    def parse_all(text: str) -> "tuple[Target, ...]":
        """As `parse`, but `rocm:gfx90a,gfx942` is two; facts (`key=value`) are of the architecture before them."""
        first, *rest = text.strip().split(",")
        texts, kind = [first], first.partition(":")[0]
        for item in rest:
            if "=" in item:
                texts[-1] += f",{item}"
            elif kind not in _SEVERAL:
                raise TargetError(f"target '{text}' names another architecture, '{item}'",
                                  hint=f"what one artifact can hold for several architectures: {', '.join(_SEVERAL)}")
            else:
                texts.append(f"{kind}:{item.strip()}")
        targets = tuple(map(Target.parse, texts))
        archs = [t.arch for t in targets]
        twice = next((a for a in archs if archs.count(a) > 1), None)
        if twice is not None:
            raise TargetError(f"target '{text}' names {twice} twice")
        return targets

    @staticmethod
    def name_all(targets: "Sequence[Target]") -> str:
        """What `parse_all` takes."""
        return ",".join([str(targets[0]), *(str(t).partition(":")[2] for t in targets[1:])])

    @staticmethod
    def host() -> "Target":
        """This machine's CPU: the highest level it has, its extra features, cores this process may use, and its cache sizes."""
        flags = _cpu_flags()
        arch = next((level for level, needs in reversed(_LEVEL_FLAGS.items()) if needs <= flags), None)
        if arch is None:
            raise TargetError("this machine's CPU lacks the x86-64-v2 instructions that mlc compiles for",
                              hint="name another target, for example cpu:x86-64-v3, and run the artifact there")
        base = _FACTS["cpu"][arch]
        extra = tuple(sorted(llvm for flag, (llvm, least) in _EXTRA_FLAGS.items() if flag in flags and arch >= least))
        l1, l2 = _cache_bytes(1) or base.l1, _cache_bytes(2) or base.l2
        return replace(base, cores=len(os.sched_getaffinity(0)), features=extra, l1=l1, l2=l2)

    @staticmethod
    def gpu(kind: str) -> "Target":
        """This machine's first GPU of a kind; where there is none, the architecture of `DEFAULT_ARCH`. TargetError for a GPU too old."""
        device = present(kind)
        if device is None:
            return _FACTS[kind][DEFAULT_ARCH[kind]]
        base = _FACTS[kind][_arch_of(kind, device)]
        return replace(base, sms=device.sms or base.sms, l2=device.l2 or base.l2)

    @staticmethod
    def known() -> list[str]:
        """Every name `parse` accepts, for help texts."""
        return [*KINDS, *(f"{kind}:{arch}" for kind, archs in _FACTS.items() for arch in archs)]


def _cpu(arch: str, vector_bits: int) -> Target:
    return Target("cpu", arch, vector_bits, cores=1, l1=32 << 10, l2=1 << 20)


def _cuda(arch: str, sms: int, shared_kib: int, l1_kib: int, l2_mib: int, *features: str, cluster: int = 0) -> Target:
    # The matrix instructions that all of sm_80 and later share; those of sm_7x are others, and not used.
    ampere = int(arch.removeprefix("sm_").rstrip("a")) >= 80
    common = ("exp2", "mma", "ldmatrix", "cp.async") if ampere else ("exp2",)
    return Target("cuda", arch, 128, cores=0, l1=l1_kib << 10, l2=l2_mib << 20, features=common + features, sms=sms,
                  shared_bytes=shared_kib << 10, registers=65536, warp=32, atoms=_SYNC if ampere else (), tf32=_SYNC_TF32 if ampere else (),
                  cluster=cluster)


def _rocm(arch: str, sms: int, registers: int, warp: int, l1_kib: int, l2_mib: int, atoms: tuple[str, ...], *features: str) -> Target:
    return Target("rocm", arch, 128, cores=0, l1=l1_kib << 10, l2=l2_mib << 20, features=("exp2", *features), sms=sms,
                  shared_bytes=64 << 10, registers=registers, warp=warp, atoms=atoms)


_SYNC = ("mma.m16n8k16.f16", "mma.m16n8k16.bf16", "mma.m16n8k32.s8")
_SYNC_TF32 = ("mma.m16n8k8.tf32",)
_MFMA = ("mfma.f32_16x16x16_f16", "mfma.f32_16x16x16_bf16", "mfma.f32_16x16x4_f32")
_MFMA_F8 = ("mfma.f32_16x16x32_f8E4M3FNUZ", "mfma.f32_16x16x32_f8E5M2FNUZ")
_WMMA_F8 = ("wmma.gfx12.f32_16x16x16_f8E4M3FN", "wmma.gfx12.f32_16x16x16_f8E5M2")


def _wmma(generation: str) -> tuple[str, ...]:
    return tuple(f"wmma.{generation}.{kind}" for kind in ("f32_16x16x16_f16", "f32_16x16x16_bf16", "i32_16x16x16_i8"))



_FACTS: dict[str, dict[str, Target]] = {
    kind: {t.arch: t for t in rows}
    for kind, rows in {
        "cpu": (_cpu("x86-64-v2", 128), _cpu("x86-64-v3", 256), _cpu("x86-64-v4", 512)),
        "cuda": (
            _cuda("sm_70", 80, 96, 128, 6),  # V100
            _cuda("sm_72", 8, 96, 128, 1),  # Xavier
            _cuda("sm_75", 40, 64, 96, 4),  # T4
            _cuda("sm_80", 108, 163, 192, 40),  # A100
            _cuda("sm_86", 82, 99, 128, 6),  # RTX 3090
            _cuda("sm_87", 16, 163, 192, 4),  # Orin
            _cuda("sm_89", 128, 99, 128, 72, "fp8"),  # RTX 4090
            _cuda("sm_90", 132, 227, 256, 50, "fp8", "pdl"),  # H100 without what only sm_90a has
            _cuda("sm_90a", 132, 227, 256, 50, "fp8", "tma", "wgmma", "pdl", cluster=16),  # H100 SXM, H200
            _cuda("sm_100", 148, 227, 256, 126, "fp8", "pdl"),  # B200
            _cuda("sm_103", 148, 227, 256, 126, "fp8", "pdl"),  # B300
            _cuda("sm_120", 170, 99, 128, 96, "fp8", "pdl"),  # RTX 5090
            _cuda("sm_121", 48, 99, 128, 24, "fp8", "pdl"),  # GB10
        ),
        "rocm": (
            _rocm("gfx90a", 104, 131072, 64, 16, 8, (*_MFMA, "mfma.i32_16x16x16_i8"), "mfma"),  # MI210
            _rocm("gfx942", 304, 131072, 64, 32, 4, (*_MFMA, "mfma.i32_16x16x32_i8", *_MFMA_F8), "mfma", "fp8"),  # MI300X; L2 is of one die
            _rocm("gfx1100", 96, 98304, 32, 32, 6, _wmma("gfx11"), "wmma"),  # RX 7900 XTX
            _rocm("gfx1201", 64, 98304, 32, 32, 8, (*_wmma("gfx12"), *_WMMA_F8), "wmma", "fp8"),  # RX 9070 XT
        ),
    }.items()
}

_OVERRIDABLE = tuple(f.name for f in fields(Target) if f.name not in ("kind", "arch"))
_LISTS = ("features", "atoms", "tf32")

_SEVERAL = ("rocm",)  # kinds of which an artifact can hold code for several architectures

# /proc/cpuinfo flags that a level needs; each level includes the ones before it.
_V2 = frozenset("cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3".split())
_V3 = _V2 | frozenset("avx avx2 bmi1 bmi2 f16c fma abm movbe xsave".split())
_V4 = _V3 | frozenset("avx512f avx512bw avx512cd avx512dq avx512vl".split())
_LEVEL_FLAGS = {"x86-64-v2": _V2, "x86-64-v3": _V3, "x86-64-v4": _V4}

# /proc/cpuinfo flag -> (LLVM feature, lowest level it makes sense on)
_EXTRA_FLAGS = {
    "avx_vnni": ("avxvnni", "x86-64-v3"),
    "avx512_vnni": ("avx512vnni", "x86-64-v4"),
    "avx512_bf16": ("avx512bf16", "x86-64-v4"),
    "avx512_fp16": ("avx512fp16", "x86-64-v4"),
    "amx_tile": ("amx-tile", "x86-64-v4"),
    "amx_int8": ("amx-int8", "x86-64-v4"),
    "amx_bf16": ("amx-bf16", "x86-64-v4"),
}


def _arch_of(kind: str, device: Device) -> str:
    """The row of a GPU: its own (with an `a` where there is one), else the last one before it whose code runs on it."""
    rows = _FACTS[kind]
    for name in (f"{device.arch}a", device.arch):
        if name in rows:
            return name
    if kind == "cuda":  # code for sm_86 runs on every later sm_8x
        number = int(device.arch.removeprefix("sm_"))
        older = [n for name in rows if name[-1].isdecimal() and (n := int(name.removeprefix("sm_"))) // 10 == number // 10 and n < number]
        if older:
            return f"sm_{max(older)}"
    raise TargetError(f"this machine's GPU is a {device.arch}, expected one of {', '.join(rows)}", hint="name a target that it can run")


def _unknown(message: str, name: str, known: Iterable[str]) -> TargetError:
    near = get_close_matches(name, known := list(known), n=1)
    return TargetError(message, hint=f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}")


def _override(text: str, item: str) -> tuple[str, int | tuple[str, ...]]:
    key, _, value = item.strip().partition("=")
    if key not in _OVERRIDABLE:
        raise _unknown(f"unknown target fact '{key}' in '{text}'", key, _OVERRIDABLE)
    if key in _LISTS:
        names = tuple(f for f in value.split("+") if f)
        known = {atom for rows in _FACTS.values() for row in rows.values() for atom in (*row.atoms, *row.tf32)}
        if key != "features" and (unknown := next((n for n in names if n not in known), None)):
            raise _unknown(f"unknown atom '{unknown}' in '{text}'", unknown, sorted(known))
        return key, tuple(sorted(names)) if key == "features" else names
    if not value.isdecimal():
        raise TargetError(f"target fact '{key}' must be a whole number, found '{value}' in '{text}'")
    return key, int(value)


def _cpu_flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError as error:
        raise TargetError(f"cannot read this machine's CPU features: {error}", hint="name a target, for example cpu:x86-64-v3") from error
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return frozenset(line.partition(":")[2].split())


def _cache_bytes(level: int) -> int | None:
    """Bytes of core 0's data cache of a level, or None where the system does not say (some containers)."""
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            if int((index / "level").read_text()) == level and (index / "type").read_text().strip() != "Instruction":
                return int((index / "size").read_text().strip().removesuffix("K")) << 10
        except (OSError, ValueError):
            continue
    return None
