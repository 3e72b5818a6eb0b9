"""The compile cache: exact keys, atomic entries, LRU limit, and refusal of directories others can write."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlc.cache import ARTIFACT, Cache
from mlc.errors import ResourceError


def fill(text: str, size: int = 0):
    return lambda path: path.write_bytes(text.encode() + bytes(size))


def test_put_then_get(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    assert cache.get("key") is None
    stored = cache.put("key", fill("code"), {"model": "m.onnx"})
    assert cache.get("key") == stored
    assert stored.read_bytes() == b"code"
    (entry,) = cache.entries()
    assert entry.info == {"model": "m.onnx"}
    assert not list((tmp_path / "c" / "staging").iterdir())


def test_directory_is_private(tmp_path: Path) -> None:
    Cache(tmp_path / "c")
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o700


def test_refuses_a_directory_others_can_write(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c").chmod(0o777)
    with pytest.raises(ResourceError, match=r"mode 0777.*expected 0700"):
        Cache(tmp_path / "c")


def test_a_hash_is_not_trusted(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    entry = cache.put("key", fill("code")).parent
    (entry / "key.txt").write_text("another key with the same hash")
    assert cache.get("key") is None
    assert cache.put("key", fill("new")).read_bytes() == b"new"
    assert cache.get("key") is not None


def test_a_damaged_entry_is_replaced(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    cache.put("key", fill("code")).unlink()
    assert cache.get("key") is None
    assert cache.put("key", fill("again")).read_bytes() == b"again"


def test_the_first_of_two_writers_wins(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")

    def slow(path: Path) -> None:
        cache.put("key", fill("first"))
        path.write_bytes(b"second")

    assert cache.put("key", slow).read_bytes() == b"first"
    assert not list((tmp_path / "c" / "staging").iterdir())


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")

    def fails(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(ResourceError, match="No space left"):
        cache.put("key", fails)
    assert cache.get("key") is None
    assert not list((tmp_path / "c" / "staging").iterdir())


def test_least_recently_used_goes_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", max_bytes=2500)
    now = time.time()
    for age, key in ((30, "a"), (20, "b")):
        path = cache.put(key, fill(key, 1000))
        os.utime(path.parent, (now - age, now - age))
    assert cache.get("a") is not None  # used now
    cache.put("c", fill("c", 1000))
    assert [cache.get(key) is not None for key in "abc"] == [True, False, True]


def test_the_newest_entry_stays_even_if_too_big(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", max_bytes=100)
    assert cache.put("big", fill("x", 1000)).exists()


def test_prune_removes_what_dead_processes_left(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    left = tmp_path / "c" / "staging" / "dead"
    left.mkdir()
    fresh = tmp_path / "c" / "staging" / "alive"
    fresh.mkdir()
    os.utime(left, (0, 0))
    cache.prune()
    assert (left.exists(), fresh.exists()) == (False, True)


def test_clear(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    cache.put("a", fill("a"))
    cache.put("b", fill("b"))
    assert cache.clear() == 2
    assert cache.entries() == []


def test_the_environment_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLC_CACHE_DIR", str(tmp_path / "here"))
    monkeypatch.setenv("MLC_CACHE_SIZE", "3MiB")
    cache = Cache.default()
    assert cache is not None
    assert (cache.root, cache.max_bytes) == (tmp_path / "here", 3 << 20)
    monkeypatch.setenv("MLC_CACHE_SIZE", "0")
    assert Cache.default() is None


def test_processes_race_for_one_key(tmp_path: Path) -> None:
    """Whoever wins, every reader sees a whole entry."""
    code = (
        "import sys; from pathlib import Path; from mlc.cache import Cache\n"
        "cache = Cache(Path(sys.argv[1]))\n"
        "for i in range(40):\n"
        "    path = cache.put('key', lambda p: p.write_bytes(b'x' * 10000))\n"
        "    assert cache.get('key') is None or len(path.read_bytes()) == 10000\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "c")]) for _ in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    assert [e.path.joinpath(ARTIFACT).stat().st_size for e in Cache(tmp_path / "c").entries()] == [10000]
