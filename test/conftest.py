"""Every test session has a compile cache of its own, and no telemetry."""

import os

import pytest

os.environ["ORT_DISABLE_TELEMETRY"] = "1"


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["MLC_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
