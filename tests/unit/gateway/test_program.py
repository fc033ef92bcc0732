"""The utility is told of a gateway's program and disk when something changes and each hour, within few bytes."""

import json

from commonwatt.model.effects import Publish, Write
from commonwatt.model.time.now import Now, Trust
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.json_messages import unpack_json
from gateway.changes import Setting
from gateway.controller import HEARTBEAT, HEARTBEAT_S
from gateway.events import Connected, Tick
from gateway.shown.program import DAY_S, ProgramTold, days_left
from harness.surroundings.gateway import World

GB = 10**9


class Kept:
    """Settings as a store keeps them."""

    def __init__(self) -> None:
        self.settings: dict[str, str] = {}

    def setting(self, name: str) -> str | None:
        return self.settings.get(name)


def at(time: int) -> Now:
    return Now(time, Trust.HARDWARE)


def look(program: ProgramTold, kept: Kept, free_bytes: int, time: int) -> None:
    for effect in program.look(free_bytes, at(time)):
        assert isinstance(effect, Write)
        assert isinstance(effect.change, Setting)
        kept.settings[effect.change.key] = effect.change.value


def is_told(world: World) -> bool:
    """Return whether the next heartbeat has the program."""
    world.now += HEARTBEAT_S
    *_, heartbeat = world.controller.handle(world.controller.home, Tick(HEARTBEAT), world.now)
    assert isinstance(heartbeat, Publish)
    return unpack_json(Heartbeat, heartbeat.payload).program is not None


def started(kept: Kept, time: int = 0, free_bytes: int = GB) -> ProgramTold:
    program = ProgramTold(kept)
    program.release = "0.4.0"
    look(program, kept, free_bytes, time)
    return program


def test_each_start_is_counted_and_told() -> None:
    kept = Kept()
    for number in (1, 2, 3):
        told = started(kept).due(GB, at(0))
        assert told is not None
        assert told.starts == number


def test_it_is_told_when_it_changes_and_each_hour_in_at_most_24_bytes_a_minute() -> None:
    program = started(Kept())
    program.cert_days = 90
    told = []
    for minute in range(600):
        if minute == 30:
            program.cert_days = 89
        told.append(program.due(GB, at(60 * minute)))
    assert [minute for minute, one in enumerate(told) if one is not None] == [0, *range(30, 600, 60)]
    sent = sum(len(json.dumps({"program": one.model_dump()})) for one in told if one is not None)
    assert sent / 600 <= 24


def test_it_is_told_again_at_a_connection_since_a_heartbeat_without_one_is_lost(world: World) -> None:
    controller = world.controller
    controller.program_seen("0.4.0", 90, GB)
    assert [is_told(world) for _ in range(2)] == [True, False]
    controller.handle(controller.home, Connected(), world.now)
    assert [is_told(world) for _ in range(2)] == [True, False]


def test_days_until_the_disk_is_full_follow_the_fall_of_a_week_also_over_restarts() -> None:
    kept = Kept()
    for day in range(12):
        free = 20 * GB - day * GB
        program = started(kept, day * DAY_S, free)
        told = program.due(free, at(day * DAY_S))
        assert told is not None
        assert told.disk_days == (None if day == 0 else 20 - day)


def test_disk_that_does_not_fall_or_was_just_seen_first_is_not_said_to_fill() -> None:
    assert days_left([], GB, 5) is None
    assert days_left([(0, GB)], GB // 2, DAY_S - 1) is None
    assert days_left([(0, GB)], GB, DAY_S) is None
    assert days_left([(0, GB)], 2 * GB, DAY_S) is None
    assert days_left([(0, GB)], GB // 2, DAY_S) == 1


def test_a_clock_set_back_begins_anew() -> None:
    kept = Kept()
    started(kept, 10 * DAY_S, 20 * GB)
    program = started(kept, 0, 5 * GB)
    assert json.loads(kept.settings["disk_free"]) == [[0, 5 * GB]]
    told = program.due(5 * GB, at(0))
    assert told is not None
    assert told.disk_days is None


def test_nothing_is_told_before_the_release_is_known() -> None:
    assert ProgramTold(Kept()).due(GB, at(0)) is None
