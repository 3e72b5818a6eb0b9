"""Loads relocatable ELF x86-64 objects into memory and links them to each other, libm and libc: a linker for one process."""

import ctypes
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from mlc.backends.cpu.pages import EXEC, PAGE, READ, WRITE, Pages
from mlc.errors import ArtifactError

_MAX_IMAGE = (1 << 31) - PAGE  # every 32-bit relative reference inside the image must reach

_EHDR, _SHDR = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQIIQQ")
_SYM, _RELA = struct.Struct("<IBBHQQ"), struct.Struct("<QQq")
_SHT_SYMTAB, _SHT_RELA, _SHT_NOBITS, _SHT_REL, _SHT_INIT_ARRAY, _SHT_FINI_ARRAY, _SHT_UNWIND = 2, 4, 8, 9, 14, 15, 0x70000001
_SHF_WRITE, _SHF_ALLOC, _SHF_EXEC, _SHF_TLS = 1, 2, 4, 0x400
_SHN_UNDEF, _SHN_LORESERVE, _SHN_ABS, _SHN_COMMON = 0, 0xFF00, 0xFFF1, 0xFFF2
_STB_LOCAL, _STB_WEAK, _STT_TLS, _STT_IFUNC = 0, 2, 6, 10

# Relocation type -> (what is addressed, minus the place itself?, how it is stored). Addressed: S the symbol; L the symbol, or a stub
# when it lives outside the image, which a 32-bit field may not reach; G the symbol's slot in the GOT; T the GOT; s, l, g: S, L, G
# relative to the GOT.
_RELOCATIONS = {
    1: ("S", False, "<Q"), 24: ("S", True, "<Q"),                            # 64, PC64
    2: ("L", True, "<i"), 4: ("L", True, "<i"),                              # PC32, PLT32
    10: ("L", False, "<I"), 11: ("L", False, "<i"),                          # 32, 32S
    9: ("G", True, "<i"), 41: ("G", True, "<i"), 42: ("G", True, "<i"),      # GOTPCREL, GOTPCRELX, REX_GOTPCRELX
    43: ("G", True, "<i"), 28: ("G", True, "<Q"),                            # CODE_4_GOTPCRELX, GOTPCREL64
    3: ("g", False, "<i"), 27: ("g", False, "<Q"),                           # GOT32, GOT64
    26: ("T", True, "<i"), 29: ("T", True, "<Q"),                            # GOTPC32, GOTPC64
    25: ("s", False, "<Q"), 31: ("l", False, "<Q"),                          # GOTOFF64, PLTOFF64
}
_RANGE = {"<i": (-(1 << 31), 1 << 31), "<I": (0, 1 << 32)}
_ABSOLUTE_32 = (10, 11)
_GOT = "_GLOBAL_OFFSET_TABLE_"


@dataclass(slots=True)
class _Section:
    name: str
    type: int
    flags: int
    offset: int  # of its bytes in the file
    size: int
    link: int
    info: int
    align: int
    entry: int
    place: int | None = None  # offset in the image once laid out; None: not loaded

    @property
    def loaded(self) -> bool:
        # Unwind tables are left out: nothing we call throws, and libgcc would have to be told of them.
        return bool(self.flags & _SHF_ALLOC) and self.type != _SHT_UNWIND and self.name != ".eh_frame"

    @property
    def segment(self) -> int:
        """0 code, 1 constants, 2 data."""
        return 0 if self.flags & _SHF_EXEC else 2 if self.flags & _SHF_WRITE and not self.name.startswith(".data.rel.ro") else 1


@dataclass(slots=True)
class _Symbol:
    name: str
    binding: int
    type: int
    section: int
    value: int
    size: int


class _Object:
    """One parsed object: every offset and index in it has been checked, or is checked where it is used."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name, self.data = name, memoryview(data)
        if len(data) < _EHDR.size:
            raise self.bad(f"{len(data)} bytes are too few for an ELF object")
        ident, kind, machine, _, _, _, shoff, _, _, _, _, shentsize, shnum, shstrndx = _EHDR.unpack_from(data)
        if ident[:6] != b"\x7fELF\x02\x01" or kind != 1 or machine != 62:
            raise self.bad(f"not a relocatable x86-64 ELF object (found {ident[:6]!r}, type {kind}, machine {machine})")
        if shentsize != _SHDR.size or not 0 < shnum < _SHN_LORESERVE or shstrndx >= shnum:
            raise self.bad(f"bad section table ({shnum} entries of {shentsize} bytes)")
        rows: list[Any] = list(_SHDR.iter_unpack(self.slice(shoff, shnum * _SHDR.size, "section table")))
        name_row = rows[shstrndx]
        names = self.slice(name_row[4], name_row[5], "section names")
        self.sections: list[_Section] = [_Section(self.string(names, r[0]), r[1], r[2], r[4], r[5], r[6], r[7], r[8], r[9]) for r in rows]
        self.symbols: list[_Symbol] = []
        for s in self.sections:
            self._check(s)
            if s.type == _SHT_SYMTAB:
                if self.symbols:
                    raise self.bad("two symbol tables")
                self.symbols = self._symbols(s)

    def bad(self, what: str) -> ArtifactError:
        return ArtifactError(f"{self.name}: {what}")

    def slice(self, offset: int, size: int, what: str) -> memoryview:
        if offset + size > len(self.data):
            raise self.bad(f"{what} [{offset}, {offset + size}) ends behind the object's {len(self.data)} bytes")
        return self.data[offset : offset + size]

    def string(self, table: memoryview, at: int) -> str:
        text = bytes(table[at : at + 4096])
        end = text.find(b"\0")
        if end < 0:
            raise self.bad(f"name at {at} has no end")
        return text[:end].decode("utf-8", "replace")

    def bytes_of(self, s: _Section) -> memoryview:
        return self.slice(s.offset, s.size, f"section {s.name}")

    def _check(self, s: _Section) -> None:
        if not s.loaded:
            return
        if s.flags & _SHF_TLS:
            raise self.bad(f"thread-local section {s.name} is not supported")
        if (s.type in (_SHT_INIT_ARRAY, _SHT_FINI_ARRAY) or s.name.startswith((".ctors", ".dtors"))) and s.size:
            raise self.bad(f"section {s.name}: constructors are not supported")
        if s.flags & _SHF_EXEC and s.flags & _SHF_WRITE:
            raise self.bad(f"section {s.name} is writable and executable")
        if s.align & (s.align - 1) or s.align > PAGE:
            raise self.bad(f"section {s.name} has alignment {s.align}, expected a power of two up to {PAGE}")
        if s.size > _MAX_IMAGE:
            raise self.bad(f"section {s.name} has {s.size} bytes, expected at most {_MAX_IMAGE}")
        if s.type != _SHT_NOBITS:
            self.bytes_of(s)

    def _symbols(self, table: _Section) -> list[_Symbol]:
        if table.entry != _SYM.size or table.size % _SYM.size or table.link >= len(self.sections):
            raise self.bad("bad symbol table")
        names = self.bytes_of(self.sections[table.link])
        out: list[_Symbol] = []
        for name, info, _, section, value, size in cast("Iterator[tuple[int, ...]]", _SYM.iter_unpack(self.bytes_of(table))):
            if _SHN_UNDEF < section < _SHN_LORESERVE:
                if section >= len(self.sections) or value > self.sections[section].size:
                    raise self.bad(f"symbol {self.string(names, name)!r} lies outside the sections")
            elif section not in (_SHN_UNDEF, _SHN_ABS, _SHN_COMMON):
                raise self.bad(f"symbol {self.string(names, name)!r} has section index {section:#x}")
            if info & 15 in (_STT_TLS, _STT_IFUNC):
                raise self.bad(f"symbol {self.string(names, name)!r} is thread-local or indirect: not supported")
            out.append(_Symbol(self.string(names, name), info >> 4, info & 15, section, value, size))
        return out

    def relocations(self) -> Iterator[tuple[_Section, int, int, int, int]]:
        """(section, offset in it, type, symbol index, addend) of every relocation of a loaded section."""
        for table in self.sections:
            if table.type not in (_SHT_RELA, _SHT_REL):
                continue
            if table.info >= len(self.sections):
                raise self.bad(f"section {table.name} relocates section {table.info} of {len(self.sections)}")
            target = self.sections[table.info]
            if not target.loaded or not table.size:
                continue
            if table.type == _SHT_REL or table.entry != _RELA.size or table.size % _RELA.size or target.type == _SHT_NOBITS:
                raise self.bad(f"bad relocation section {table.name}")
            for offset, info, addend in _RELA.iter_unpack(self.bytes_of(table)):
                kind, symbol = info & 0xFFFFFFFF, info >> 32
                if kind == 0:
                    continue
                if kind not in _RELOCATIONS:
                    raise self.bad(f"relocation type {kind} in {target.name} is not supported")
                if symbol >= len(self.symbols):
                    raise self.bad(f"relocation in {target.name} names symbol {symbol} of {len(self.symbols)}")
                if offset + struct.calcsize(_RELOCATIONS[kind][2]) > target.size:
                    raise self.bad(f"relocation at {target.name}+{offset:#x} lies outside the section's {target.size} bytes")
                yield target, offset, kind, symbol, addend


def _external(names: set[str]) -> dict[str, int]:
    """Addresses of C library functions. libgcc has the half and bfloat16 conversions that LLVM calls on machines without them."""
    found: dict[str, int] = {}
    for library in ("libm.so.6", "libc.so.6", "libgcc_s.so.1"):
        missing = names - found.keys()
        if not missing:
            break
        try:
            handle = ctypes.CDLL(library)
        except OSError:
            continue
        for name in missing:
            try:
                found[name] = ctypes.cast(handle[name], ctypes.c_void_p).value or 0
            except AttributeError:
                pass
    return found


class LoadedCode:
    """Objects placed in memory, relocated and made executable (code: r-x, constants: r--, data: rw-); unmapped when this dies.

    objects: name -> bytes of a relocatable ELF object. Undefined symbols are looked up in libm, libc and libgcc.
    Raises ArtifactError if an object is malformed or a symbol is missing or doubly defined, ResourceError if memory is short.
    """

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self._objects = [_Object(name, data) for name, data in objects.items()]
        self._size = 0
        self._segments: list[tuple[int, int]] = []  # (start, end) of code, constants, data
        self._stubs: dict[str, int] = {}  # undefined symbol -> offset of its jump stub
        self._slots: dict[tuple[int, int] | str, int] = {}  # symbol -> offset of its GOT slot
        self._common: dict[str, int] = {}
        self._got = 0
        relocations = [(i, r) for i, o in enumerate(self._objects) for r in o.relocations()]
        self._globals = self._define()
        self._undefined = self._link({(i, r[3]) for i, r in relocations})
        self._lay_out({self._key(i, r[3]): None for i, r in relocations if _RELOCATIONS[r[2]][0] in "Gg"})
        self.pages = Pages(self._size, low=any(r[2] in _ABSOLUTE_32 for _, r in relocations))
        self._fill(relocations)
        for (start, end), protection in zip(self._segments, (READ | EXEC, READ, READ | WRITE), strict=True):
            self.pages.protect(start, end - start, protection)
        self.symbols = {name: self._address(i, s) for name, (i, s) in self._globals.items()}
        self._objects.clear()

    def address(self, name: str) -> int:
        """The address of a global symbol. Raises ArtifactError if no object defines it."""
        if name not in self.symbols:
            known = ", ".join(sorted(self.symbols)[:20])
            raise ArtifactError(f"the objects define no symbol {name!r}", hint=f"they define {known or 'none'}")
        return self.symbols[name]

    def _define(self) -> dict[str, tuple[int, _Symbol]]:
        defined: dict[str, tuple[int, _Symbol]] = {}
        for i, o in enumerate(self._objects):
            for s in o.symbols:
                if s.binding == _STB_LOCAL or s.section == _SHN_UNDEF or not s.name:
                    continue
                old = defined.get(s.name)
                weak = s.binding == _STB_WEAK or s.section == _SHN_COMMON
                old_weak = old is not None and (old[1].binding == _STB_WEAK or old[1].section == _SHN_COMMON)
                if old is not None and not weak and not old_weak:
                    raise o.bad(f"symbol {s.name!r} is also defined in {self._objects[old[0]].name}")
                if old is None or (old_weak and not weak):
                    defined[s.name] = (i, s)
        return defined

    def _link(self, used: set[tuple[int, int]]) -> dict[str, int]:
        wanted = {s.name: s for s in (self._objects[i].symbols[n] for i, n in used)
                  if s.section == _SHN_UNDEF and s.name and s.name not in self._globals and s.name != _GOT}
        found = _external(set(wanted))
        missing = sorted(n for n, s in wanted.items() if n not in found and s.binding != _STB_WEAK)
        if missing:
            raise ArtifactError(f"undefined symbols in {', '.join(o.name for o in self._objects)}: {', '.join(missing)}",
                                hint="they are in no object of this artifact, nor in libm, libc or libgcc of this machine")
        return {name: found.get(name, 0) for name in sorted(wanted)}

    def _key(self, obj: int, index: int) -> tuple[int, int] | str:
        """What a GOT slot is shared by: the name of a global symbol, the index of a local one."""
        s = self._objects[obj].symbols[index]
        return (obj, index) if s.binding == _STB_LOCAL else s.name

    def _lay_out(self, slots: Mapping[tuple[int, int] | str, None]) -> None:
        for segment in range(3):
            start = self._size
            for o in self._objects:
                for s in o.sections:
                    if s.loaded and s.segment == segment:
                        s.place = self._reserve(s.size, s.align, o.name)
            if segment == 0:
                self._stubs = {name: self._reserve(14, 16, "jump stubs") for name in self._undefined}
            elif segment == 1:
                self._got = self._reserve(8 * len(slots), 8, _GOT)
                self._slots = {key: self._got + 8 * n for n, key in enumerate(slots)}
            else:
                for name, (i, s) in self._globals.items():
                    if s.section == _SHN_COMMON:  # its value is its alignment
                        if s.value & (s.value - 1) or s.value > PAGE:
                            raise self._objects[i].bad(f"symbol {name!r} has alignment {s.value}, expected a power of two up to {PAGE}")
                        self._common[name] = self._reserve(s.size, s.value, self._objects[i].name)
            self._size = -(-self._size // PAGE) * PAGE
            self._segments.append((start, self._size))

    def _reserve(self, size: int, align: int, owner: str) -> int:
        place = -(-self._size // max(align, 1)) * max(align, 1)
        self._size = place + size
        if self._size > _MAX_IMAGE:
            raise ArtifactError(f"{owner}: code and data exceed {_MAX_IMAGE} bytes")
        return place

    def _address(self, obj: int, s: _Symbol) -> int:
        """Where a symbol is; a function of the C library has its own address, not its stub's."""
        base = self.pages.address
        if s.binding != _STB_LOCAL and s.name in self._globals:
            obj, s = self._globals[s.name]
        if s.section == _SHN_UNDEF:
            return base + self._got if s.name == _GOT else self._undefined.get(s.name, 0)
        if s.section == _SHN_ABS:
            return s.value
        if s.section == _SHN_COMMON:
            return base + self._common[s.name]
        section = self._objects[obj].sections[s.section]
        if section.place is None:
            raise self._objects[obj].bad(f"symbol {s.name!r} is in section {section.name}, which is not loaded")
        return base + section.place + s.value

    def _fill(self, relocations: list[tuple[int, tuple[_Section, int, int, int, int]]]) -> None:
        base, image = self.pages.address, self.pages.view()
        for o in self._objects:
            for s in o.sections:
                if s.place is not None and s.type != _SHT_NOBITS and s.size:
                    self.pages.write(s.place, o.bytes_of(s))
        for name, place in self._stubs.items():
            self.pages.write(place, b"\xff\x25\0\0\0\0" + struct.pack("<Q", self._undefined[name]))  # jmp *0(%rip); address
        for i, (section, offset, kind, index, addend) in relocations:
            symbol = self._objects[i].symbols[index]
            what, relative, store = _RELOCATIONS[kind]
            assert section.place is not None
            place = section.place + offset
            if what in "Gg":
                slot = self._slots[self._key(i, index)]
                struct.pack_into("<Q", image, slot, self._address(i, symbol))
                value = base + slot
            elif what == "T":
                value = base + self._got
            elif what in "Ll" and symbol.name in self._stubs and symbol.section == _SHN_UNDEF:
                value = base + self._stubs[symbol.name]
            else:
                value = self._address(i, symbol)
            value += addend - (base + place if relative else 0) - (base + self._got if what in "slg" else 0)
            if store == "<Q":
                value &= (1 << 64) - 1
            elif not _RANGE[store][0] <= value < _RANGE[store][1]:
                raise self._objects[i].bad(f"relocation type {kind} at {section.name}+{offset:#x} against {symbol.name!r} is out of range")
            struct.pack_into(store, image, place, value)
