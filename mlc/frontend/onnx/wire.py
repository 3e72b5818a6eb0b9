"""A serialised model cut in two: a small protobuf without big weights, and views of those weights where they lie.

Python's protobuf copies `raw_data` on parsing and again on every access, and refuses messages over 2 GiB. The format is simple enough to
step over: ModelProto.graph (7) > GraphProto.initializer (5) > TensorProto.raw_data (9).
"""

from collections.abc import Iterator

from mlc.errors import ModelError

GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def split_model(data: memoryview, threshold: int = 4096) -> tuple[bytes, dict[int, memoryview]]:
    """The message without the raw_data of initializers of at least `threshold` bytes, and those bytes by position of the initializer."""
    views: dict[int, memoryview] = {}
    pieces: list[bytes | memoryview] = []
    count = 0
    for number, wire, start, payload, end in _fields(data, 0, len(data)):
        if number != GRAPH or wire != BYTES:
            pieces.append(data[start:end])
            continue
        graph: list[bytes | memoryview] = []
        for n, w, s, p, e in _fields(data, payload, end):
            if n != INITIALIZER or w != BYTES:
                graph.append(data[s:e])
                continue
            tensor, raw = _tensor(data, p, e, threshold)
            if raw is not None:
                views[count] = raw
            graph += _message(INITIALIZER, tensor)
            count += 1
        pieces += _message(GRAPH, graph)
    return b"".join(pieces), views


def _tensor(data: memoryview, start: int, end: int, threshold: int) -> tuple[list[bytes | memoryview], memoryview | None]:
    kept: list[bytes | memoryview] = []
    raw: memoryview | None = None
    for number, wire, s, payload, e in _fields(data, start, end):
        if number == RAW_DATA and wire == BYTES and e - payload >= threshold:
            raw = data[payload:e]
        else:
            kept.append(data[s:e])
    return kept, raw


def _message(number: int, pieces: list[bytes | memoryview]) -> list[bytes | memoryview]:
    return [_varint(number << 3 | BYTES) + _varint(sum(map(len, pieces))), *pieces]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _fields(data: memoryview, at: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """(field number, wire type, start of the key, start of the payload, end) of each field of the message at [at, end)."""
    while at < end:
        start = at
        key, at = _read_varint(data, at, end)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            payload, at = at, _read_varint(data, at, end)[1]
        elif wire == BYTES:
            size, payload = _read_varint(data, at, end)
            at = payload + size
        elif wire in (FIXED64, FIXED32):
            payload, at = at, at + (8 if wire == FIXED64 else 4)
        else:
            raise ModelError(f"byte {start} starts a field of wire type {wire}, which ONNX does not use")
        if number == 0 or at > end:
            raise ModelError(f"the field at byte {start} ends at {at}, past its message's end at {end}")
        yield number, wire, start, payload, at


def _read_varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7
    raise ModelError(f"there is no complete number at byte {at}")
