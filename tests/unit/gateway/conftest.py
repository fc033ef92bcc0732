"""The initial world of the gateway's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from commonwatt.model.records import State
from commonwatt.town.town import Direction, Function
from harness.surroundings.gateway import World

BOUNDARY, HOUSES = 4, (1, 2, 3)  # the meters of ``bounded_world``
UP = int(State.INITIALIZED)
ISLAND = UP | int(State.OFF_GRID) | int(State.SWITCH_OPEN) | int(State.DEAD_FEEDER)  # what a boundary meter reports


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    it = World(tmp_path / "gateway.db")
    yield it
    it.store.close()


@pytest.fixture
def bounded_world(tmp_path: Path) -> Iterator[World]:
    """Yield a microgrid of three houses with batteries and the boundary meter of the import."""
    it = World(tmp_path / "gateway.db")
    it.meters[BOUNDARY] = it.meters[BOUNDARY].model_copy(
        update={"function": Function.BOUNDARY, "direction": Direction.INCOMING}
    )
    it.new_core()
    for meter in HOUSES:
        it.introduce(meter)
    yield it
    it.store.close()
