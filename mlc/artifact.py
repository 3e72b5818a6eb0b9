"""The `.mlc` artifact: a stored zip of plan, weights and code objects, mapped rather than read, with no pickle and a hash per member."""
# pyright: strict, reportUnknownMemberType=false

import hashlib
import json
import mmap
import os
import secrets
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, NoReturn, cast

import numpy as np

from mlc import __version__
from mlc.dtypes import BY_NAME, DType
from mlc.errors import ArtifactError, CompilerError, ResourceError
from mlc.weights import WeightStore

SCHEMA = 1
ALIGN = 64  # bytes, of every weight in the file and in memory
_MANIFEST, _PLAN, _WEIGHTS = "manifest.json", "plan.json", "weights.safetensors"
_CHUNK = 1 << 22
_LOCAL = struct.Struct("<4s5H3I2H")  # zip local file header
# Safetensors' names. The rest (4 bits and less, FNUZ) is stored as U8, one element per byte; plan.json has the true type.
_SAFETENSORS = {"f64": "F64", "f32": "F32", "f16": "F16", "bf16": "BF16", "f8E4M3FN": "F8_E4M3", "f8E5M2": "F8_E5M2",
                "f8E8M0FNU": "F8_E8M0", "i64": "I64", "i32": "I32", "i16": "I16", "i8": "I8", "ui64": "U64", "ui32": "U32",
                "ui16": "U16", "ui8": "U8", "i1": "BOOL"}


@dataclass(frozen=True)
class TensorSpec:
    """One entry of the plan's inputs, outputs or weights. value: what an input was fixed to at compile time."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    value: np.ndarray | None = field(default=None, compare=False, repr=False)

    @property
    def bytes(self) -> int:
        """Bytes in memory, one element at least one byte."""
        n = self.dtype.bytes
        for d in self.shape:
            n *= d
        return n

    @staticmethod
    def parse(entry: Any, where: str) -> "TensorSpec":
        """From its JSON form; ArtifactError names `where` if it is malformed."""
        match entry:
            case {"name": str(name), "dtype": str(dtype), "shape": [*shape]} if dtype in BY_NAME and all(map(_is_extent, shape)):
                spec = TensorSpec(name, BY_NAME[dtype], tuple(shape))
            case _:
                raise ArtifactError(f"{where}: found {str(entry)[:200]}, expected a name, a known dtype and a static shape")
        if "value" not in entry:
            return spec
        try:
            value = np.asarray(entry["value"]).astype(spec.dtype.numpy).reshape(spec.shape)
        except (ValueError, TypeError, OverflowError) as e:
            raise ArtifactError(f"{where}: the value of {name!r} is not {spec}: {e}") from None
        value.setflags(write=False)
        return TensorSpec(name, spec.dtype, spec.shape, value)

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{','.join(map(str, self.shape))}]"


def _is_extent(d: object) -> bool:
    return type(d) is int and d >= 0  # not a bool


@dataclass(frozen=True, eq=False)
class Artifact:
    """A compiled model, in memory or mapped from a file.

    manifest: schema, mlc version, target, and (once saved) the sha256 of each member. plan: see docs/architecture.md.
    weights: read-only C-contiguous arrays in the plan's order, 64-aligned when they come from a file.
    objects: `objects/...` -> bytes. extra: other members, such as `ir/tile.mlir`; nothing needs them to run.
    """

    manifest: Mapping[str, Any]
    plan: Mapping[str, Any]
    weights: list[np.ndarray]
    objects: Mapping[str, bytes]
    extra: Mapping[str, bytes] = field(default_factory=dict[str, bytes])

    @staticmethod
    def build(*, plan: Mapping[str, Any], objects: Mapping[str, bytes], weights: "WeightStore | Iterable[tuple[str, np.ndarray]]" = (),
              extra: Mapping[str, bytes] | None = None) -> "Artifact":
        """An artifact that needs no file: compile, then run. weights: as for `write_artifact`."""
        _check_names([*objects, *(extra or {})])
        arrays = [array for _, array in _arrays(plan_tensors(plan, "weights"), weights)]
        return Artifact(_manifest(plan["target"], {}), plan, arrays, dict(objects), dict(extra or {}))

    @property
    def target(self) -> str:
        return self.plan["target"]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the `.mlc` file, atomically. The same parts and mlc version give the same bytes."""
        names = [w["name"] for w in self.plan.get("weights", [])]
        write_artifact(path, target=self.target, plan=self.plan, weights=zip(names, self.weights, strict=True), objects=self.objects,
                       extra=self.extra)


def weights_file(artifact: Artifact) -> Iterator[bytes | memoryview]:
    """The bytes, in pieces, of a safetensors file of the weights, which has them under the plan's names. Raises ArtifactError."""
    specs = plan_tensors(artifact.plan, "weights")
    return _safetensors(specs, zip([s.name for s in specs], artifact.weights, strict=True), 0)


def plan_tensors(plan: Mapping[str, Any], key: str) -> list[TensorSpec]:
    """The plan's `inputs`, `outputs` or `weights`. Raises ArtifactError if malformed."""
    entries = plan.get(key, [])
    if not isinstance(entries, list):
        raise ArtifactError(f"plan.json: {key!r} is not a list")
    return [TensorSpec.parse(e, f"plan.json: {key}[{i}]") for i, e in enumerate(cast("list[object]", entries))]


def _manifest(target: str, hashes: Mapping[str, str]) -> dict[str, Any]:
    return {"schema": SCHEMA, "mlc": __version__, "target": target, "sha256": dict(hashes)}


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False).encode() + b"\n"


# ---------------------------------------------------------------------------------------------------------------- writing


def write_artifact(path: str | os.PathLike[str], *, target: str, plan: Mapping[str, Any], objects: Mapping[str, bytes],
                   weights: "WeightStore | Iterable[tuple[str, np.ndarray]]" = (), extra: Mapping[str, bytes] | None = None) -> None:
    """Writes an `.mlc` file: all of it, or nothing (a temporary file beside it, fsync, rename).

    target: as in the plan. weights: a store, or (name, array) pairs in the order of plan["weights"]; taken one at a time and not kept.
    objects: `objects/...` -> bytes. extra: further members by path. Raises ResourceError if the file cannot be written.
    """
    path = os.path.abspath(path)
    if target != plan.get("target"):
        raise CompilerError(f"the artifact is for {target!r}, its plan for {plan.get('target')!r}")
    specs = plan_tensors(plan, "weights")
    members = {**objects, **(extra or {})}
    _check_names([*objects, *(extra or {})])
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{secrets.token_hex(6)}.tmp")
    try:
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with open(fd, "wb") as file:
                _write_members(file, target, plan, members, specs, weights)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        directory = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            os.fsync(directory)  # the rename itself survives a power cut
        finally:
            os.close(directory)
    except OSError as e:
        raise ResourceError(f"cannot write {path}: {e.strerror or e}") from e


def _write_members(file: IO[bytes], target: str, plan: Mapping[str, Any], members: Mapping[str, bytes], specs: list[TensorSpec],
                   weights: "WeightStore | Iterable[tuple[str, np.ndarray]]") -> None:
    hashes: dict[str, str] = {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

        def add(name: str, size: int, chunks: Iterable[bytes | memoryview]) -> None:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o644 << 16
            digest = hashlib.sha256()
            with archive.open(info, "w", force_zip64=size > zipfile.ZIP64_LIMIT) as member:
                for chunk in chunks:
                    digest.update(chunk)
                    member.write(chunk)
            hashes[name] = digest.hexdigest()

        def add_weights() -> Iterator[bytes | memoryview]:  # its place is known once the member is open
            yield from _safetensors(specs, weights, file.tell())

        for name, data in sorted({_PLAN: _json(plan), **members}.items()):
            add(name, len(data), [data])
        add(_WEIGHTS, _header(specs, 0)[1] + ALIGN, add_weights())
        manifest = _json(_manifest(target, hashes))
        add(_MANIFEST, len(manifest), [manifest])


def _safetensors(specs: list[TensorSpec], weights: "WeightStore | Iterable[tuple[str, np.ndarray]]",
                 at: int) -> Iterator[bytes | memoryview]:
    header, _ = _header(specs, at)
    yield struct.pack("<Q", len(header)) + header
    for spec, (_, array) in zip(specs, _arrays(specs, weights), strict=True):
        yield array.reshape(-1).view(np.uint8).data
        yield bytes(-spec.bytes % ALIGN)


def _header(specs: list[TensorSpec], at: int) -> tuple[bytes, int]:
    """Safetensors' JSON header for a member whose bytes start `at` in the file, and the member's size. Spaces behind the JSON and `__pad`
    tensors (the format allows no holes) put each tensor on a multiple of ALIGN in the file."""
    header: dict[str, Any] = {}
    names = {spec.name for spec in specs}
    end = 0
    for i, spec in enumerate(specs):
        dtype = _SAFETENSORS.get(spec.dtype.name, "U8")
        header[spec.name] = {"dtype": dtype, "shape": list(spec.shape), "data_offsets": [end, end + spec.bytes]}
        end += spec.bytes
        if pad := -end % ALIGN:
            header[_unused(f"__pad{i}", names)] = {"dtype": "U8", "shape": [pad], "data_offsets": [end, end + pad]}
            end += pad
    if len(names) != len(specs):
        raise CompilerError("two weights in the plan share a name")
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(at + 8 + len(text)) % ALIGN)
    return text, 8 + len(text) + end


def _unused(name: str, taken: set[str]) -> str:
    while name in taken:
        name = f"_{name}"
    return name


def _arrays(specs: list[TensorSpec], weights: "WeightStore | Iterable[tuple[str, np.ndarray]]") -> Iterator[tuple[str, np.ndarray]]:
    """(name, contiguous native array) in the plan's order, each checked against the plan."""
    pairs = ((s.name, weights[s.name].read()) for s in specs) if isinstance(weights, WeightStore) else iter(weights)
    for spec in specs:
        name, array = next(pairs, ("nothing", None))
        if array is None or name != spec.name or array.dtype.newbyteorder("=") != spec.dtype.numpy or array.shape != spec.shape:
            found = name if array is None else f"{name}: {array.dtype}{list(array.shape)}"
            raise CompilerError(f"the plan's weight {spec} was given as {found}")
        yield name, np.asarray(array, dtype=spec.dtype.numpy, order="C")
    if next(pairs, None) is not None:
        raise CompilerError(f"more weights than the plan's {len(specs)}")


def _check_names(names: list[str]) -> None:
    seen = {_MANIFEST, _PLAN, _WEIGHTS}
    for name in names:
        if name in seen or not name or "\\" in name or any(part in ("", ".", "..") for part in name.split("/")):
            raise CompilerError(f"bad or repeated artifact member {name!r}")
        seen.add(name)


# ---------------------------------------------------------------------------------------------------------------- reading


def read_artifact(path: str | os.PathLike[str], verify: bool = True) -> Artifact:
    """Maps an `.mlc` file. verify: compares every member with its sha256 (about 1 s per GB); without it only structure is checked.

    Raises ArtifactError, naming the file and the member, if anything is missing, damaged or of another schema. Hashes find damage,
    not malice: an artifact is native code, load only what you would execute.
    """
    return _Reader(os.fspath(path)).read(verify)


class _Reader:
    """One file being read: the map, and where each member lies in it."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            with open(path, "rb") as file:
                self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                with zipfile.ZipFile(file) as archive:
                    infos, self.end = archive.infolist(), archive.start_dir
        except OSError as e:
            raise ArtifactError(f"cannot read {path}: {e.strerror or e}") from None
        except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, IndexError, OverflowError, struct.error) as e:
            self.bad(f"not an .mlc file: {e}")
        self.members: dict[str, tuple[int, int]] = {}
        self.crcs: dict[str, int] = {}
        previous = 0
        for info in sorted(infos, key=lambda i: i.header_offset):
            start, end = self._extent(info)
            if info.filename in self.members:
                self.bad("appears twice", info.filename)
            if info.header_offset < previous:
                self.bad("overlaps another member", info.filename)
            previous = end
            self.members[info.filename] = (start, end)
            self.crcs[info.filename] = info.CRC

    def bad(self, what: str, member: str | None = None) -> NoReturn:
        raise ArtifactError(f"{self.path}: {what}" if member is None else f"{self.path}: member {member}: {what}",
                            hint="compile the model again, or copy the file again if it was transferred")

    def _extent(self, info: zipfile.ZipInfo) -> tuple[int, int]:
        name, at = info.filename, info.header_offset
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.compress_size != info.file_size:
            self.bad("is compressed or encrypted, expected it stored", name)
        if not 0 <= at <= self.end - _LOCAL.size or self.end > len(self.map):
            self.bad(f"starts at {at}, outside the file", name)
        magic, *_, name_length, extra_length = _LOCAL.unpack_from(self.map, at)
        start = at + _LOCAL.size + name_length + extra_length
        if magic != b"PK\3\4" or self.map[at + _LOCAL.size : at + _LOCAL.size + name_length] != name.encode():
            self.bad(f"has no local header at {at}", name)
        if start + info.file_size > self.end:
            self.bad(f"ends at {start + info.file_size}, behind the last member's possible end {self.end}", name)
        return start, start + info.file_size

    def bytes_of(self, name: str) -> bytes:
        if name not in self.members:
            self.bad("is missing", name)
        start, end = self.members[name]
        return self.map[start:end]

    def json_of(self, name: str) -> dict[str, Any]:
        try:
            value = json.loads(self.bytes_of(name))
        except (ValueError, RecursionError) as e:
            self.bad(f"is not JSON: {e}", name)
        if not isinstance(value, dict):
            self.bad("is not a JSON object", name)
        return value  # pyright: ignore[reportUnknownVariableType]

    def read(self, verify: bool) -> Artifact:
        if zlib.crc32(self.bytes_of(_MANIFEST)) != self.crcs[_MANIFEST]:  # the one member that no manifest covers
            self.bad("checksum mismatch: the file is damaged", _MANIFEST)
        manifest = self.json_of(_MANIFEST)
        if manifest.get("schema") != SCHEMA:
            maker = manifest.get("mlc")
            self.bad(f"schema {manifest.get('schema')!r}, expected {SCHEMA}: made by mlc {maker}, this is {__version__}", _MANIFEST)
        hashes = manifest.get("sha256")
        if not isinstance(hashes, dict) or not isinstance(manifest.get("target"), str):
            self.bad("expected a target and a table of hashes", _MANIFEST)
        self._check_members(hashes, verify)  # pyright: ignore[reportUnknownArgumentType]
        plan = self.json_of(_PLAN)
        if plan.get("target") != manifest["target"]:
            self.bad(f"target {plan.get('target')!r}, expected the manifest's {manifest['target']!r}", _PLAN)
        try:
            specs = plan_tensors(plan, "weights")
        except ArtifactError as e:
            self.bad(e.message)
        rest = {name: self.bytes_of(name) for name in self.members if name not in (_MANIFEST, _PLAN, _WEIGHTS)}
        objects = {name: data for name, data in rest.items() if name.startswith("objects/")}
        return Artifact(manifest, plan, self._weights(specs), objects, {n: d for n, d in rest.items() if n not in objects})

    def _check_members(self, hashes: Mapping[str, object], verify: bool) -> None:
        for name in (_PLAN, _WEIGHTS, *hashes):
            if name not in self.members:
                self.bad("is missing", name)
        for name in self.members:
            if name == _MANIFEST:
                continue
            if name not in hashes:
                self.bad("is not in the manifest", name)
            if not verify:
                continue
            start, end = self.members[name]
            digest = hashlib.sha256()
            with memoryview(self.map) as view:
                for at in range(start, end, _CHUNK):
                    digest.update(view[at : min(at + _CHUNK, end)])
            if digest.hexdigest() != hashes[name]:
                self.bad(f"sha256 found {digest.hexdigest()}, expected {hashes[name]}: the file is damaged", name)

    def _weights(self, specs: list[TensorSpec]) -> list[np.ndarray]:
        start, end = self.members[_WEIGHTS]
        length = int.from_bytes(self.map[start : min(start + 8, end)], "little")
        data = start + 8 + length
        if data > end:
            self.bad(f"its header of {length} bytes does not fit", _WEIGHTS)
        try:
            header: dict[str, Any] = json.loads(self.map[start + 8 : data])
        except (ValueError, RecursionError) as e:
            self.bad(f"bad header: {e}", _WEIGHTS)
        arrays: list[np.ndarray] = []
        for spec in specs:
            found = header.get(spec.name) if isinstance(header, dict) else None  # pyright: ignore[reportUnnecessaryIsInstance]
            match found:
                case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(first), int(last)]}:
                    fits = 0 <= first <= last <= end - data and last - first == spec.bytes
                    if not fits or dtype != _SAFETENSORS.get(spec.dtype.name, "U8") or shape != list(spec.shape):
                        self.bad(f"{spec.name!r} is {dtype}{shape} at {first}..{last}, expected {spec}, {spec.bytes} bytes", _WEIGHTS)
                case _:
                    self.bad(f"has no tensor {spec.name!r}", _WEIGHTS)
            array = np.frombuffer(self.map, np.uint8, end - start, start)[data - start + first : data - start + last]
            if (data + first) % ALIGN:  # packed again by another tool: legal, but kernels use aligned loads
                mapped, array = array, aligned_empty(array.shape, array.dtype)
                array[:] = mapped
                array.setflags(write=False)
            arrays.append(array.view(spec.dtype.numpy).reshape(spec.shape))
        return arrays


def aligned_empty(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> np.ndarray:
    """An uninitialised array whose data is 64-aligned. Raises ResourceError if memory is short."""
    size = dtype.itemsize
    for d in shape:
        size *= d
    try:
        block = np.empty(size + ALIGN, np.uint8)
    except (MemoryError, ValueError):
        raise ResourceError(f"cannot allocate {size} bytes") from None
    skip = -block.__array_interface__["data"][0] % ALIGN
    return block[skip:skip + size].view(dtype).reshape(shape)
