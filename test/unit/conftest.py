"""Fixtures that several test files share."""

from pathlib import Path

import pytest
from fake_cuda import FakeCuda
from fake_plans import fake

import mlc


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, a cache of the test's own, and a path to mlc for its children."""
    monkeypatch.setenv("MLC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(Path(mlc.__file__).parents[1]))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """A CUDA driver made of Python."""
    monkeypatch.delenv("MLC_DEBUG_SYNC", raising=False)
    return fake(monkeypatch)
