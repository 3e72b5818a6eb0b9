"""External weight files, opened only where a model may look: its own directory tree, never through a path or link that leaves it."""

import errno
import hashlib
import mmap
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from mlc.errors import ModelError, ResourceError

KEYS = ("location", "offset", "length", "checksum")
ERROR_PATH = "external data may only lie inside the model's directory"


class ExternalFiles:
    """The files beside one model, each mapped at most once.

    directory: where the model is named (its directory as the user wrote it). model_file: the model itself; its *real* directory is trusted
    too, because in the Hugging Face cache both the model and its weights are links from snapshots/ into one blobs/ directory.
    """

    def __init__(self, directory: Path, model_file: Path | None = None) -> None:
        self.directory = directory.absolute()
        roots = [self.directory.resolve()]
        if model_file is not None:
            roots.append(model_file.resolve().parent)
        self.roots = tuple(dict.fromkeys(roots))
        self._maps: dict[Path, memoryview] = {}
        self._sha1: dict[Path, str] = {}

    def view(self, entries: Iterable[tuple[str, str]], needed: int, where: str) -> memoryview:
        """The `needed` bytes that the external_data `entries` of tensor `where` point at; ModelError if they are not exactly there."""
        info: dict[str, str] = {}
        for key, value in entries:
            if key not in KEYS:
                raise ModelError(f"{where}: external data has the unknown key {key!r}; known: {', '.join(KEYS)}")
            if key in info:
                raise ModelError(f"{where}: external data gives {key!r} twice")
            info[key] = value
        if "location" not in info:
            raise ModelError(f"{where}: external data has no 'location'")
        offset = _number(info.get("offset", "0"), "offset", where)
        length = _number(info["length"], "length", where) if "length" in info else needed
        if length != needed:
            raise ModelError(f"{where}: external data has {length} bytes, its shape and type need {needed}")
        path = self._resolve(info["location"], where)
        data = self._map(path, where)
        if offset + length > len(data):
            raise ModelError(f"{where}: external data [{offset}, {offset + length}) exceeds the {len(data)} bytes of {info['location']!r}")
        if "checksum" in info:
            if path not in self._sha1:
                self._sha1[path] = hashlib.sha1(data, usedforsecurity=False).hexdigest()
            if self._sha1[path] != info["checksum"].lower():
                raise ModelError(f"{where}: {info['location']!r} has SHA-1 {self._sha1[path]}, the model says {info['checksum']}")
        return data[offset : offset + length]

    def _resolve(self, location: str, where: str) -> Path:
        parts = location.split("/")
        if not location or any(c in location for c in "\\\0") or ".." in parts or Path(location).is_absolute():
            raise ModelError(f"{where}: external data location {location!r} is not a plain relative path", hint=ERROR_PATH)
        logical = self.directory.joinpath(*parts)
        try:
            real = logical.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            reason = "does not exist" if isinstance(error, FileNotFoundError) else str(error)
            raise ModelError(f"{where}: external data file {str(logical)!r} {reason}",
                             hint="keep the weight files beside the model, under the names it was saved with") from error
        if not any(real.is_relative_to(root) for root in self.roots):
            raise ModelError(f"{where}: external data location {location!r} is a link out of the model's directory, to {str(real)!r}",
                             hint=ERROR_PATH)
        return real

    def _map(self, path: Path, where: str) -> memoryview:
        if path not in self._maps:
            root = next(root for root in self.roots if path.is_relative_to(root))
            try:
                fd = _open_beneath(root, path.relative_to(root).parts)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise ModelError(f"{where}: {str(path)!r} changed into a link while it was opened", hint=ERROR_PATH) from error
                raise ResourceError(f"{where}: cannot open {str(path)!r}: {error.strerror}") from error
            try:
                info = os.fstat(fd)
                if not stat.S_ISREG(info.st_mode):
                    raise ModelError(f"{where}: external data {str(path)!r} is not a regular file")
                if info.st_nlink > 1:
                    raise ModelError(f"{where}: external data {str(path)!r} is a hard link (its bytes have {info.st_nlink} names)",
                                     hint=f"{ERROR_PATH}; a hard link may lead anywhere, so replace it by a copy")
                self._maps[path] = memoryview(mmap.mmap(fd, 0, access=mmap.ACCESS_READ) if info.st_size else b"")
            finally:
                os.close(fd)
        return self._maps[path]


def _open_beneath(root: Path, parts: tuple[str, ...]) -> int:
    """Opens root/parts for reading, refusing a symbolic link in any part: nobody can swap a directory after it was checked."""
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for i, part in enumerate(parts):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_DIRECTORY if i < len(parts) - 1 else os.O_NONBLOCK)
        try:
            below = os.open(part, flags, dir_fd=at)
        finally:
            os.close(at)
        at = below
    return at


def _number(text: str, key: str, where: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ModelError(f"{where}: external data has {key} {text!r}, which is not a file position")
    return int(text)
