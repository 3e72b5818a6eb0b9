"""Reads MessagePack, the encoding of an AMD code object's metadata."""

import struct

Value = bool | int | float | str | bytes | None | list["Value"] | dict[str, "Value"]

_FIXED: dict[int, Value] = {0xC0: None, 0xC2: False, 0xC3: True}
_NUMBERS = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
_LENGTHS = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I", 0xDC: ">H", 0xDD: ">I", 0xDE: ">H", 0xDF: ">I"}
_MAX_DEPTH = 64


def decode(data: bytes | memoryview) -> Value:
    """The one value at the start of `data`; ValueError if it is cut off, nested too deep, or of an extension type."""
    return _Reader(memoryview(data)).value(0)


class _Reader:
    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def value(self, depth: int) -> Value:
        if depth > _MAX_DEPTH:
            raise ValueError(f"nested more than {_MAX_DEPTH} deep")
        tag = self.take(1)[0]
        if tag < 0x80:
            return tag
        if tag >= 0xE0:
            return tag - 256
        if tag < 0x90:
            return self.map(tag & 15, depth)
        if tag < 0xA0:
            return self.array(tag & 15, depth)
        if tag < 0xC0:
            return self.text(tag & 31)
        if tag in _FIXED:
            return _FIXED[tag]
        if tag in _NUMBERS:
            return self.number(_NUMBERS[tag])
        if tag not in _LENGTHS:
            raise ValueError(f"type {tag:#x} is not supported")
        length = int(self.number(_LENGTHS[tag]))
        if tag <= 0xC6:
            return bytes(self.take(length))
        if tag <= 0xDB:
            return self.text(length)
        return self.array(length, depth) if tag <= 0xDD else self.map(length, depth)

    def take(self, count: int) -> memoryview:
        if self.at + count > len(self.data):
            raise ValueError(f"ends at byte {len(self.data)}, in the middle of a value")
        self.at += count
        return self.data[self.at - count:self.at]

    def number(self, kind: str) -> int | float:
        return struct.unpack(kind, self.take(struct.calcsize(kind)))[0]

    def text(self, length: int) -> str:
        return str(self.take(length), "utf-8", "replace")

    def array(self, length: int, depth: int) -> list[Value]:
        return [self.value(depth + 1) for _ in range(length)]

    def map(self, length: int, depth: int) -> dict[str, Value]:
        return {str(self.value(depth + 1)): self.value(depth + 1) for _ in range(length)}
