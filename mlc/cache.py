"""The compile cache: a directory of finished artifacts that is safe under concurrent processes and never trusts a hash alone.

    <root>/entries/<sha256 of key>/{key.txt, artifact.mlc, info.json}      <root>/staging/...      <root>/locks/...

An entry is built under staging/ and appears by one rename, so a reader sees all of it or nothing. A hit compares the full key text.
Locks only save duplicate work; nothing depends on them. The mtime of an entry's directory is its last use.
"""

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlc.errors import OptionError, ResourceError
from mlc.options import env, parse_size

DEFAULT_SIZE = 10 << 30
STALE_SECONDS = 24 * 3600
ARTIFACT, KEY, INFO = "artifact.mlc", "key.txt", "info.json"


@dataclass(frozen=True)
class Entry:
    """One cached artifact. info: what `put` was told about it, for people."""

    path: Path
    bytes: int
    used: float
    info: Mapping[str, str]

    @property
    def id(self) -> str:
        return self.path.name[:12]


class Cache:
    """A cache under `root` that holds at most `max_bytes`."""

    def __init__(self, root: Path, max_bytes: int = DEFAULT_SIZE) -> None:
        self.root, self.max_bytes = root, max_bytes
        self._entries, self._staging, self._locks = root / "entries", root / "staging", root / "locks"
        try:
            for directory in (root, self._entries, self._staging, self._locks):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            info = root.stat()
        except OSError as error:
            raise ResourceError(f"the cache directory {str(root)!r} cannot be made: {error.strerror}",
                                hint="set MLC_CACHE_DIR to a directory you can write, or MLC_CACHE_SIZE=0 to go without a cache") from error
        if info.st_uid != os.getuid() or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ResourceError(f"the cache directory {str(root)!r} has mode {stat.S_IMODE(info.st_mode):04o} and owner {info.st_uid}; "
                                f"expected 0700 and owner {os.getuid()}, because whoever writes there decides what code you run",
                                hint=f"chmod 700 {root}, or set MLC_CACHE_DIR to a directory of your own")

    @classmethod
    def default(cls) -> "Cache | None":
        """The cache that the environment asks for; None if it is turned off."""
        size = env("MLC_CACHE_SIZE")
        max_bytes = DEFAULT_SIZE if size is None else parse_size(size, "MLC_CACHE_SIZE")
        return cls(default_root(), max_bytes) if max_bytes else None

    def get(self, key: str) -> Path | None:
        """The artifact stored under exactly this key text, marked as used now."""
        entry = self._entries / _name(key)
        try:
            if (entry / KEY).read_text() != key or not (entry / ARTIFACT).is_file():
                return None
            os.utime(entry)
        except (OSError, UnicodeDecodeError):
            return None
        return entry / ARTIFACT

    def put(self, key: str, write: Callable[[Path], object], info: Mapping[str, str] | None = None) -> Path:
        """Stores what `write(path)` writes and returns where it lies. Of two processes that store the same key the first wins."""
        staged = Path(tempfile.mkdtemp(dir=self._staging))
        final = self._entries / _name(key)
        try:
            write(staged / ARTIFACT)
            (staged / KEY).write_text(key)
            (staged / INFO).write_text(json.dumps(dict(info or {}), indent=1, sort_keys=True))
            self._publish(staged, final, key)
        except (OSError, ResourceError) as error:
            reason = error.message if isinstance(error, ResourceError) else error.strerror
            raise ResourceError(f"cannot write to the cache {str(self.root)!r}: {reason}",
                                hint="free some space (mlc cache prune), or set MLC_CACHE_DIR") from error
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        self.prune(keep=final)
        return final / ARTIFACT

    def _publish(self, staged: Path, final: Path, key: str) -> None:
        for last in (False, True):
            try:
                staged.rename(final)
                return
            except OSError:  # taken: by the same key (theirs is as good), or by a damaged entry (ours replaces it)
                if self.get(key) is not None:
                    return
                if last:
                    raise
                self._remove(final)

    def discard(self, key: str) -> None:
        """Drops the entry of a key (its artifact turned out to be damaged)."""
        self._remove(self._entries / _name(key))

    @contextlib.contextmanager
    def lock(self, key: str, timeout: float = 3600) -> Generator[None]:
        """Holds the key's lock if that is possible: the second of two processes that want the same model waits for the first."""
        from filelock import FileLock

        lock = FileLock(self._locks / f"{_name(key)}.lock", timeout=timeout)
        with contextlib.suppress(OSError, NotImplementedError):  # a file system without locks, or the timeout
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def entries(self) -> list[Entry]:
        """All entries, the least recently used first."""
        found = [entry for path in self._entries.iterdir() if (entry := _read(path)) is not None]
        return sorted(found, key=lambda e: (e.used, e.path.name))

    def prune(self, max_bytes: int | None = None, keep: Path | None = None) -> list[Entry]:
        """Removes the least recently used entries until the rest fits, and what dead processes left behind; returns what went."""
        limit = self.max_bytes if max_bytes is None else max_bytes
        entries = self.entries()
        total, gone = sum(e.bytes for e in entries), list[Entry]()
        for entry in entries:
            if total <= limit:
                break
            if entry.path != keep:
                self._remove(entry.path)
                total -= entry.bytes
                gone.append(entry)
        old = time.time() - STALE_SECONDS
        for left in (*self._staging.iterdir(), *self._locks.iterdir()):
            with contextlib.suppress(OSError):
                if left.stat().st_mtime < old:
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
        return gone

    def clear(self) -> int:
        """Removes every entry; returns how many there were."""
        entries = self.entries()
        for entry in entries:
            self._remove(entry.path)
        return len(entries)

    def _remove(self, entry: Path) -> None:
        aside = Path(tempfile.mkdtemp(dir=self._staging))
        with contextlib.suppress(OSError):  # renamed first, so that no reader sees a half-removed entry
            entry.rename(aside / "entry")
        shutil.rmtree(aside, ignore_errors=True)


def default_root() -> Path:
    """MLC_CACHE_DIR, or the platform's cache directory for mlc."""
    directory = env("MLC_CACHE_DIR")
    if directory is None:
        from platformdirs import user_cache_path

        return user_cache_path("mlc", appauthor=False)
    path = Path(directory).expanduser()
    if path.exists() and not path.is_dir():
        raise OptionError(f"MLC_CACHE_DIR is {directory!r}, which is not a directory")
    return path


def _name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _read(path: Path) -> Entry | None:
    try:
        size = sum(f.stat().st_size for f in path.iterdir())
        used = path.stat().st_mtime
    except OSError:
        return None
    try:
        info = {str(k): str(v) for k, v in json.loads((path / INFO).read_text()).items()}
    except (OSError, ValueError, AttributeError):
        info = {}
    return Entry(path, size, used, info)
