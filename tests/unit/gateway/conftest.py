"""The initial world of the gateway's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.worlds.gateway import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    it = World(tmp_path / "gateway.db")
    yield it
    it.store.close()
