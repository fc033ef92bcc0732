"""What a gateway says of itself: to the utility, to commonwatt doctor and status, and by its commands."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner, Result

from commonwatt.config.settings import GatewaySettings
from commonwatt.doctor.checks import Finding, Level, worst
from commonwatt.doctor.running import Running
from commonwatt.identity.devices import save_tokens
from commonwatt.identity.passwords import load_password
from commonwatt.model.effects import Publish, Write
from commonwatt.model.time import Now, Trust
from commonwatt.protocol.commands import DeviceState, ForeignDevice, Stage
from commonwatt.protocol.controller_commands import ControllerCommand
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.json_messages import unpack_json
from gateway.alarms import alarms
from gateway.cli import app
from gateway.control.meter_states import METER_SILENT_S
from gateway.controller import HEARTBEAT, HEARTBEAT_S
from gateway.doctor import DOCTOR
from gateway.events import Connected, Tick
from gateway.shown.devices import AGAIN_S, MOST_BYTES, DevicesTold
from gateway.shown.program import DAY_S, ProgramTold, days_left
from gateway.shown.status import view
from gateway.store.changes import Setting
from gateway.store.store import Store
from harness.surroundings.gateway import START, World
from harness.surroundings.page import empty

OFF = DeviceState(stage=Stage.OFF, since=1, failsafe="will", failsafe_s=45)


def at(time: int) -> Now:
    return Now(time, Trust.HARDWARE)


def device(state: DeviceState = OFF, ignored: dict[str, tuple[int, str]] | None = None) -> ForeignDevice:
    return ForeignDevice(name="shed", preset="mine", states={"sharing": state}, ignored=ignored or {})


def test_devices_are_told_when_one_changes_and_each_hour() -> None:
    told = DevicesTold()
    assert told.due({}, at(0)) is None, "most microgrids have none"
    assert told.due({7: device()}, at(60)) == {7: device()}
    assert told.due({7: device(ignored={"unreadable": (3, "x")})}, at(120)) is None, "that waits for the hour"
    obeys = device(OFF.model_copy(update={"stage": Stage.OBEYS}))
    assert told.due({7: obeys}, at(180)) == {7: obeys}
    assert [told.due({7: obeys}, at(180 + s)) is None for s in (AGAIN_S - 60, AGAIN_S)] == [True, False]
    assert told.due({}, at(9_000)) == {}, "the last is gone"
    assert told.due({}, at(90_000)) is None


def test_of_very_many_devices_those_that_disobey_come_first_and_the_message_stays_small() -> None:
    long = {f"reason {n}": (n, "x" * 80) for n in range(12)}
    many = {n: device(ignored=long) for n in range(500)}
    many[499] = device(OFF.model_copy(update={"finding": "should be on, and shows 'idle'"}))
    found = DevicesTold().due(many, at(0))
    assert found is not None
    assert next(iter(found)) == 499
    assert 10 < len(found) < 100
    assert sum(len(one.model_dump_json()) for one in found.values()) < MOST_BYTES
    assert list(found[0].ignored) == ["reason 11", "reason 10", "reason 9"]


def test_text_of_many_bytes_keeps_the_message_small() -> None:
    many = {n: device(ignored={"unreadable": (1, "\U0001f50b" * 80)}) for n in range(500)}
    found = DevicesTold().due(many, at(0))
    assert found
    assert sum(len(one.model_dump_json().encode()) for one in found.values()) < MOST_BYTES


GB = 10**9


class Kept:
    """Settings as a store keeps them."""

    def __init__(self) -> None:
        self.settings: dict[str, str] = {}

    def setting(self, name: str) -> str | None:
        return self.settings.get(name)


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


def status(world: World, **changes: Any) -> dict[str, Any]:
    """The status of a gateway in whose world all is well, with changes."""
    shown = {key: value for key, value in empty().items() if key not in world.view()}
    found = shown | world.view() | {"trust": "network"} | changes
    return found | {"alarms": [asdict(alarm) for alarm in alarms(found)]}


def verdict(answer: dict[str, Any]) -> Finding | None:
    return worst(DOCTOR.judge(answer))


@pytest.fixture
def heard(world: World) -> World:
    for meter in world.meters:
        world.introduce(meter)
    return world


def test_a_gateway_that_hears_everybody_works(heard: World) -> None:
    assert verdict(status(heard)) is None


def test_a_meter_that_falls_silent_is_named_with_its_last_message(heard: World) -> None:
    heard.now += METER_SILENT_S + 1
    for meter in (1, 2, 3):
        heard.introduce(meter)
    answer = status(heard)
    assert answer["meters"]["silent"] == {"4": START}
    found = verdict(answer)
    assert found is not None
    assert (found.level, "1 of 4 meters silent: 4" in found.found) == (Level.WARNING, True)


def test_a_meter_that_was_replaced_is_not_silent(world: World) -> None:
    world.meters = world.meters | {4: world.meters[4].model_copy(update={"replaced": True})}
    world.crash()
    for meter in (1, 2, 3):
        world.introduce(meter)
    answer = status(world)
    assert (answer["meters"]["registered"], answer["meters"]["silent"]) == (3, {})
    assert "4" not in answer["meter_states"]


def test_a_meter_that_is_asked_seldom_may_be_silent_for_longer(heard: World) -> None:
    heard.core.utility_commands.tuned["collect_s"] = METER_SILENT_S
    heard.now += 3 * METER_SILENT_S
    assert verdict(status(heard)) is None
    heard.now += 1
    assert verdict(status(heard)) is not None


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({"connected": {"meters": True, "head_end": False}}, Level.BAD, "No connection to the utility"),
        ({"lte": {"level": "exceeded"}}, Level.BAD, "has carried more"),
        ({"trust": "none", "time_contested": True}, Level.WARNING, "The time is not trusted"),
    ],
)
def test_the_gravest_alarm_is_the_verdict(heard: World, changes: dict[str, object], level: Level, words: str) -> None:
    found = verdict(status(heard, **changes))
    assert found is not None
    assert (found.level, words in found.found, bool(found.remedy)) == (level, True, True)


def test_an_alarm_stands_beside_the_checks_unless_one_of_them_finds_its_cause(heard: World, tmp_path: Path) -> None:
    answer = status(heard, connected={"meters": False, "head_end": True}, backlog_age_s=90_000)
    running = Running(part="gateway", config=tmp_path, answer=answer, failure="", runs=True)
    (check,) = (one for one in DOCTOR.checks(GatewaySettings(microgrid="r001"), running) if one.name == "alarms")
    assert [finding.check for finding in check.find()] == ["backlog"]
    assert {finding.check for finding in DOCTOR.judge(answer)} == {"broker", "backlog"}
    del answer["alarms"]
    assert list(check.find()) == [], "a gateway of an earlier release runs"


def test_each_of_two_head_ends_is_examined_and_named(tmp_path: Path) -> None:
    save_tokens(tmp_path / "tokens.json", {"r001": "t" * 32})
    settings = GatewaySettings(
        microgrid="r001",
        head_end=("127.0.0.1:1", "127.0.0.1:2"),
        store=tmp_path / "none.db",
        tokens=tmp_path / "tokens.json",
    )
    answer = {"connected": {"head_end": True}, "connection_failures": {}, "head_end": "127.0.0.1:2"}
    running = Running(part="gateway", config=tmp_path, answer=answer, failure="", runs=True)
    found = [
        (finding.check, finding.level)
        for check in DOCTOR.checks(settings, running)
        if check.name == "head_end"
        for finding in check.find()
    ]
    assert found == [
        ("head_end 127.0.0.1:1", Level.BAD),
        ("head_end 127.0.0.1:2", Level.GOOD),
    ]


@pytest.mark.parametrize("command", ["dump", "dead-letters", "lte"])
def test_without_a_store_it_is_told_what_makes_it(tmp_path: Path, command: str) -> None:
    folder = tmp_path / "a%20b?c"
    folder.mkdir()
    (folder / "gateway.toml").write_text('[gateway]\nmicrogrid = "r001"\n')
    words = [command, "--config", str(folder / "gateway.toml")]
    done = CliRunner().invoke(app, words)
    told = f"{folder}/gateway.db: no store there; it is made by: commonwatt gateway run --config FILE\n"
    assert (done.exit_code, done.stderr) == (2, told)
    assert not (folder / "gateway.db").exists()
    Store.open(folder / "gateway.db").close()
    assert CliRunner().invoke(app, words).exit_code == 0


def set_password(folder: Path, typed: str, setting: str = 'http_password = "page-password.json"\n') -> Result:
    (folder / "gateway.toml").write_text(f'[gateway]\nmicrogrid = "r001"\n{setting}')
    return CliRunner().invoke(app, ["password", "--config", str(folder / "gateway.toml")], input=typed)


def test_a_password_is_asked_for_twice_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    done = set_password(tmp_path, "seven small lanterns\nseven small lanterns\n")
    assert (done.exit_code, "written" in done.stdout, "lanterns" in done.output) == (0, True, False)
    made = tmp_path / "page-password.json"
    assert made.stat().st_mode & 0o777 == 0o600
    assert load_password(made).fits("seven small lanterns")


def test_a_password_typed_differently_or_too_weak_changes_nothing(tmp_path: Path) -> None:
    assert set_password(tmp_path, "seven small lanterns\nseven small lantern\n").exit_code != 0
    done = set_password(tmp_path, "password1234\npassword1234\n")
    assert (done.exit_code, "guessed first; nothing was changed" in done.stderr) == (2, True)
    assert not (tmp_path / "page-password.json").exists()


def test_without_a_file_for_the_password_it_is_told_what_to_add(tmp_path: Path) -> None:
    done = set_password(tmp_path, "", setting="")
    assert (done.exit_code, 'add: http_password = "page-password.json"' in done.stderr) == (2, True)


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
