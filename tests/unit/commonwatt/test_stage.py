"""The stage of the demonstration: scenes at their local times, and words for what the town does."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from typer.testing import CliRunner

from commonwatt.cli.main import make_app
from commonwatt.demo.layout import BUILT_IN_TOWN, STARTS_AT
from commonwatt.demo.stage import ALL, PROGRAMME, Play, Say, Seen, Stage
from commonwatt.town.loading import load_town

ZONE = ZoneInfo("America/New_York")
DAY_S = 86_400


def played(begin: int, end: int, step: int = 60, until: int | None = None) -> list[tuple[str, str]]:
    """Return the local times and commands of a run from ``begin`` to ``end``, looked at every ``step`` seconds."""
    stage = Stage(ZONE, PROGRAMME, until)
    return [
        (f"{datetime.fromtimestamp(now, ZONE):%H:%M}", effect.words)
        for now in range(begin, end, step)
        for effect in stage.handle({}, now)
        if isinstance(effect, Play)
    ]


def test_in_a_day_each_scene_comes_once_in_the_same_order_on_a_fast_and_a_slow_machine() -> None:
    day = played(STARTS_AT, STARTS_AT + DAY_S)
    assert day[0] == ("10:40", "meters weather 10 --for 10800")
    assert len(day) == len(PROGRAMME)
    assert played(STARTS_AT, STARTS_AT + DAY_S, step=600) == day


def test_something_happens_every_minute_or_two_at_sixty_times_real_speed() -> None:
    stage, times = Stage(ZONE, PROGRAMME, None), []
    for now in range(STARTS_AT, STARTS_AT + DAY_S, 60):
        times += [now for effect in stage.handle({}, now) if isinstance(effect, Play)]
    waits = [(after - before) / 60 for before, after in zip([STARTS_AT, *times], times, strict=False)]
    assert max(waits) <= 120
    assert waits[0] <= 60


def test_every_scene_says_what_happens_what_the_system_does_and_where_to_look() -> None:
    town = load_town(BUILT_IN_TOWN)
    for _, (say, play) in PROGRAMME:
        assert say.what.endswith(".")
        assert say.does.endswith(".")
        assert say.page.startswith("/console/")
        assert play.folder in {ALL, *town.microgrids}


def test_no_scene_begins_after_the_meters_have_stopped() -> None:
    begin = STARTS_AT
    assert [at for at, _ in played(begin, begin + DAY_S, until=begin + 3600)] == ["10:40"]


def test_nothing_is_played_in_a_town_without_scenes() -> None:
    stage = Stage(ZONE, (), None)
    assert not [effect for now in range(STARTS_AT, STARTS_AT + DAY_S, 600) for effect in stage.handle({}, now)]


def test_sharing_is_said_once_an_hour_at_most_and_islands_when_they_begin_and_end() -> None:
    stage = Stage(ZONE, (), None)
    calm = Seen(phase="connected")
    helped = Seen(phase="connected", donors=["house 1", "house 2"], receivers=["house 5"])
    island = Seen(phase="islanded")
    seen = [calm, calm, helped, calm, helped, Seen(phase="isolating"), island, island, Seen(phase="resynchronising")]
    said = [
        effect
        for now, one in enumerate([*seen, calm, calm])
        for effect in stage.handle({"r001": one}, STARTS_AT + now)
        if isinstance(effect, Say)
    ]
    assert [line.what for line in said] == [
        "r001 shares: house 5 below the owner's minimum.",
        "r001 is an island.",
        "r001 is back on the town's net.",
    ]
    assert said[0].does == "With more than their minima, 2 batteries give to house 5."
    later = [stage.handle({"r001": one}, STARTS_AT + 3700) for one in (calm, helped)]
    assert [line.what for line in later[1] if isinstance(line, Say)] == [said[0].what]
    assert {line.page for line in said} == {"/console/microgrids/r001"}


def test_a_battery_that_nobody_can_help_is_no_sharing() -> None:
    assert Stage(ZONE, (), None).handle({"r001": Seen(phase="connected", receivers=["house 5"])}, STARTS_AT) == []


@pytest.mark.parametrize("words", sorted({play.words for _, (_, play) in PROGRAMME}))
def test_the_commands_of_the_scenes_exist(words: str) -> None:
    answer = CliRunner().invoke(make_app(), [*words.split(), "--config", "missing.toml"])
    assert "missing.toml" in answer.output


def test_an_island_that_is_seen_only_as_it_returns_is_told_too() -> None:
    stage, told = Stage(ZONE, (), None), []
    for phase in ("connected", "isolating", "resynchronising", "connected"):
        told += stage.handle({"r001": Seen(phase=phase)}, STARTS_AT)
    assert [say.what for say in told if isinstance(say, Say)] == [
        "r001 is an island.",
        "r001 is back on the town's net.",
    ]
