"""What a gateway's status shows to ``commonwatt doctor`` and as the verdict of ``commonwatt status``."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from commonwatt.config.settings import GatewaySettings
from commonwatt.doctor.findings import Finding, Level, worst
from commonwatt.doctor.running import Running
from commonwatt.identity.devices import save_tokens
from gateway.alarms import alarms
from gateway.control.meter_states import METER_SILENT_S
from gateway.doctor import DOCTOR
from harness.surroundings.gateway import START, World
from harness.surroundings.page import empty


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
