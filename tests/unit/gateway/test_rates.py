"""The utility's rates reach the gateway, are kept over a restart, and are shown (U3)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from commonwatt.protocol.controller_commands import ControllerCommand
from gateway.shown.status import view
from harness.surroundings.gateway import World

HOUR = 3600


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    it = World(tmp_path / "gateway.db")
    yield it
    it.store.close()


def tell(world: World, *, version: int = 1, start: int = 0, peak: str = "0.32") -> str:
    begin = world.now + start
    _, outcome = world.ask(
        cmd="rates",
        tariff="town",
        version=version,
        prices=[["off-peak", "0.20", "0.10"], ["peak", peak, "0.16"]],
        changes=[[begin, 0], [begin + HOUR, 1], [begin + 2 * HOUR, 0]],
        rates_until=begin + 3 * HOUR,
    )
    return outcome.result


def shown(world: World) -> list[dict[str, Any]]:
    found: Any = view(world.core, world.controller.line, world.core.now)["rates"]
    return list(found)


def test_rates_are_kept_over_a_restart_and_shown_until_their_end(world: World) -> None:  # req: U3
    assert shown(world) == []
    assert tell(world) == "done"
    begin = world.now
    world.crash()
    for after, period, price, until in (
        (0, "off-peak", "0.20", HOUR),
        (HOUR - 1, "off-peak", "0.20", HOUR),
        (HOUR, "peak", "0.32", 2 * HOUR),
        (3 * HOUR - 1, "off-peak", "0.20", 3 * HOUR),
    ):
        world.now = begin + after
        world.tick("retry")
        (row,) = shown(world)
        assert (row["tariff"], row["version"], row["period"], row["import"]) == ("town", 1, period, price)
        assert row["until"] == begin + until
    world.now = begin + 3 * HOUR
    world.tick("retry")
    assert shown(world) == []


def test_older_rates_that_come_late_change_nothing(world: World) -> None:
    tell(world, version=2, peak="0.40")
    tell(world, version=1)
    world.now += HOUR
    world.tick("retry")
    assert [(row["version"], row["import"]) for row in shown(world)] == [(2, "0.40")]
    tell(world, version=2, start=-2 * HOUR, peak="0.50")
    assert shown(world)[0]["import"] == "0.40", "the same version of an earlier time"


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        ({"tariff": None}, "rates needs tariff"),
        ({"changes": [[5, 1]]}, "names a price that is not in prices"),
        ({"changes": [[5, 0], [5, 0]]}, "must be in order of time"),
        ({"prices": [["peak", "-0.1", "0"]]}, "prices"),
        ({"prices": [["peak", 0.1, "0"]]}, "prices"),
    ],
)
def test_rates_that_make_no_sense_are_refused(keys: dict[str, object], error: str) -> None:
    good: dict[str, object] = {
        "id": "1", "cmd": "rates", "until": 9, "tariff": "town", "version": 1, "prices": [["peak", "0.1", "0"]],
        "changes": [[5, 0]], "rates_until": 9,
    }  # fmt: skip
    assert ControllerCommand.model_validate(good).version == 1
    with pytest.raises(ValidationError, match=error):
        ControllerCommand.model_validate(good | keys)
