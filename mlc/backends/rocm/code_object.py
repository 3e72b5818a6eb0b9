"""What an AMD code object says of its kernels: registers, memory, arguments; and how many waves of one fit a GPU at a time."""

import struct
from dataclasses import dataclass
from typing import Any

from mlc.backends.rocm import messagepack
from mlc.errors import ArtifactError

_EHDR, _SHDR = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQIIQQ")
_SYM, _NOTE = struct.Struct("<IBBHQQ"), struct.Struct("<III")
_AMDGPU, _SHT_SYMTAB, _SHT_NOTE, _SHT_DYNSYM, _NT_METADATA = 224, 2, 7, 11, 32
_DESCRIPTOR_SUFFIX = ".kd"


@dataclass(frozen=True)
class Argument:
    """A kernel argument in the kernarg segment. offset, size: bytes. kind: `global_buffer`, `by_value`, or `hidden_...`."""

    offset: int
    size: int
    kind: str


@dataclass(frozen=True)
class KernelFacts:
    """One kernel. Registers are 32-bit and per lane (scalar ones per wave); scratch is bytes per lane, lds bytes per block.

    vgprs counts what a wave is given, accumulation registers included where both are one file (gfx90a and later). spills: registers.
    threads: the largest block it may be launched with.
    """

    name: str
    arch: str
    wavefront: int
    threads: int
    vgprs: int
    agprs: int
    sgprs: int
    vgpr_spills: int
    sgpr_spills: int
    scratch_bytes: int
    lds_bytes: int
    kernarg_bytes: int
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class CodeObject:
    """arch: `gfx942`. target: the whole target id, with its `:xnack+` and the like. undefined: symbols that it wants of another object."""

    arch: str
    target: str
    kernels: tuple[KernelFacts, ...]
    undefined: tuple[str, ...]


def read_code_object(data: bytes, name: str = "code object") -> CodeObject:
    """Parses an ELF file that holds AMD code (.o or .hsaco). Raises ArtifactError, which calls it `name`."""
    try:
        return _read(memoryview(data))
    except (ValueError, KeyError, TypeError, IndexError, struct.error) as error:
        raise ArtifactError(f"{name}: not a whole AMD code object: {error or type(error).__name__}") from error


def _read(data: memoryview) -> CodeObject:
    ident, _, machine, _, _, _, shoff, _, _, _, _, size, count, _ = _EHDR.unpack_from(data)
    if ident[:5] != b"\x7fELF\x02" or machine != _AMDGPU or size != _SHDR.size:
        raise ValueError(f"found {bytes(ident[:5])!r} for machine {machine}, expected a 64-bit ELF file for machine {_AMDGPU}")
    sections = list(_SHDR.iter_unpack(_slice(data, shoff, count * size)))
    metadata: Any = next((m for s in sections if s[1] == _SHT_NOTE for m in _metadata(_slice(data, s[4], s[5]))), None)
    if metadata is None:
        raise ValueError("it has no AMDGPU metadata note")
    target = str(metadata["amdhsa.target"]).rpartition("--")[2]
    arch = target.partition(":")[0]
    kernels = tuple(_kernel(entry, arch) for entry in metadata["amdhsa.kernels"])
    symbols = [s for section in sections if section[1] in (_SHT_SYMTAB, _SHT_DYNSYM) for s in _symbols(data, sections, section)]
    defined = {name for name, section in symbols if section}
    for kernel in kernels:
        if kernel.name + _DESCRIPTOR_SUFFIX not in defined:
            raise ValueError(f"kernel {kernel.name!r} has no descriptor")
    return CodeObject(arch, target, kernels, tuple(sorted({name for name, section in symbols if name and not section})))


def _slice(data: memoryview, offset: int, size: int) -> memoryview:
    if offset + size > len(data):
        raise ValueError(f"bytes {offset} to {offset + size} lie behind its end, {len(data)}")
    return data[offset:offset + size]


def _metadata(notes: memoryview) -> list[messagepack.Value]:
    found: list[messagepack.Value] = []
    at = 0
    while at + _NOTE.size <= len(notes):
        name_size, size, kind = _NOTE.unpack_from(notes, at)
        name_at = at + _NOTE.size
        start = name_at + -(-name_size // 4) * 4
        if kind == _NT_METADATA and bytes(notes[name_at:name_at + name_size]) == b"AMDGPU\0":
            found.append(messagepack.decode(_slice(notes, start, size)))
        at = start + -(-size // 4) * 4
    return found


def _symbols(data: memoryview, sections: list[tuple[int, ...]], table: tuple[int, ...]) -> list[tuple[str, int]]:
    """(name, section it is defined in, 0 for none) of each symbol of a table."""
    strings = sections[table[6]]
    names = bytes(_slice(data, strings[4], strings[5]))
    return [(names[at:names.index(b"\0", at)].decode("utf-8", "replace"), section)
            for at, _, _, section, _, _ in _SYM.iter_unpack(_slice(data, table[4], table[5]))]


def _kernel(entry: dict[str, Any], arch: str) -> KernelFacts:
    arguments = tuple(Argument(a[".offset"], a[".size"], a[".value_kind"]) for a in entry.get(".args", ()))
    return KernelFacts(
        name=entry[".name"], arch=arch, wavefront=entry[".wavefront_size"], threads=entry[".max_flat_workgroup_size"],
        vgprs=entry[".vgpr_count"], agprs=entry.get(".agpr_count", 0), sgprs=entry[".sgpr_count"],
        vgpr_spills=entry.get(".vgpr_spill_count", 0), sgpr_spills=entry.get(".sgpr_spill_count", 0),
        scratch_bytes=entry[".private_segment_fixed_size"], lds_bytes=entry[".group_segment_fixed_size"],
        kernarg_bytes=entry[".kernarg_segment_size"], arguments=arguments)


# -- occupancy ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Unit:
    """What blocks share: a compute unit (CDNA) or a pair of them (RDNA, work-group-processor mode). Of a SIMD: registers per lane at the
    smallest wave, which are given out by the granule, and waves."""

    simds: int
    registers: int
    granule: int
    waves: int
    lds: int
    lds_granule: int
    wavefront: int


_CDNA = _Unit(simds=4, registers=512, granule=8, waves=8, lds=64 << 10, lds_granule=512, wavefront=64)
_RDNA = _Unit(simds=4, registers=1536, granule=24, waves=16, lds=128 << 10, lds_granule=1024, wavefront=32)
_UNITS = {"gfx90a": _CDNA, "gfx942": _CDNA, "gfx1100": _RDNA, "gfx1201": _RDNA}
_SGPRS, _SGPR_GRANULE = 800, 16  # of a CDNA SIMD; RDNA gives every wave all it can name


def occupancy(kernel: KernelFacts) -> float:
    """Waves in flight as a share of the most that the GPU holds, by registers, LDS and block size; 0 if not even one block fits.

    An estimate: barriers, memory and the length of the grid are not looked at. Raises ArtifactError for an architecture without facts.
    """
    unit = _UNITS.get(kernel.arch)
    if unit is None:
        raise ArtifactError(f"no facts about {kernel.arch}", hint=f"known: {', '.join(_UNITS)}")
    lanes = max(1, kernel.wavefront // unit.wavefront)  # a wave of 64 takes two rows of a register file made for 32
    granule, registers = max(1, unit.granule // lanes), unit.registers // lanes
    per_simd = min(unit.waves, registers // (_round_up(max(kernel.vgprs, 1), granule)))
    if unit is _CDNA:
        per_simd = min(per_simd, _SGPRS // _round_up(max(kernel.sgprs, 1), _SGPR_GRANULE))
    waves = -(-kernel.threads // kernel.wavefront)
    blocks = per_simd * unit.simds // waves
    if kernel.lds_bytes:
        blocks = min(blocks, unit.lds // _round_up(kernel.lds_bytes, unit.lds_granule))
    return blocks * waves / (unit.waves * unit.simds)


def _round_up(value: int, to: int) -> int:
    return -(-value // to) * to
