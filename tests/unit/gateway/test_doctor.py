"""What a gateway's status shows to ``commonwatt doctor`` and as the verdict of ``commonwatt status``."""

from pathlib import Path
from typing import Any

import pytest

from commonwatt.config.settings import GatewaySettings
from commonwatt.doctor.findings import Finding, Level, worst
from commonwatt.doctor.running import Running
from commonwatt.identity.devices import save_tokens
from gateway.control.meter_states import SILENT_S
from gateway.doctor import DOCTOR
from harness.surroundings.gateway import START, World


def status(world: World, **changes: object) -> dict[str, Any]:
    """The status of a gateway in whose world all is well, with changes; JSON."""
    lte = {"level": "unknown", "allowance": 10, "used": None, "expected": None}
    shell: dict[str, Any] = {
        "connected": {"meters": True, "head_end": True},
        "connection_failures": {},
        "store": {"refusing": False, "quarantined": None, "damaged_rows": 0},
    }
    return world.view() | shell | {"trust": "network", "lte": lte} | changes


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
    heard.now += SILENT_S + 1
    for meter in (1, 2, 3):
        heard.introduce(meter)
    answer = status(heard)
    assert answer["meters"]["silent"] == {"4": START}
    found = verdict(answer)
    assert found is not None
    assert (found.level, "3 of 4 meters heard lately; silent: 4" in found.found) == (Level.WARNING, True)


def test_a_meter_that_was_replaced_is_not_silent(world: World) -> None:
    world.meters = world.meters | {4: world.meters[4].model_copy(update={"replaced": True})}
    world.crash()
    for meter in (1, 2, 3):
        world.introduce(meter)
    answer = status(world)
    assert (answer["meters"]["registered"], answer["meters"]["silent"]) == (3, {})
    assert "4" not in answer["meter_states"]


def test_a_meter_that_is_asked_seldom_may_be_silent_for_longer(heard: World) -> None:
    heard.core.utility_commands.tuned["collect_s"] = SILENT_S
    heard.now += 3 * SILENT_S
    assert verdict(status(heard)) is None
    heard.now += 1
    assert verdict(status(heard)) is not None


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({"store": {"refusing": True, "quarantined": None, "damaged_rows": 0}}, Level.BAD, "disk is full"),
        ({"store": {"refusing": False, "quarantined": "x.db", "damaged_rows": 0}}, Level.WARNING, "x.db"),
        (
            {"connected": {"meters": True, "head_end": False}, "connection_failures": {"head_end": "no route"}},
            Level.BAD,
            "no connection to head_end: no route",
        ),
        ({"time_contested": True}, Level.BAD, "reports another time"),
        ({"trust": "none"}, Level.WARNING, "unproven clock"),
        ({"lte": {"allowance": 10, "used": [11, 1], "expected": None}}, Level.BAD, "allowed"),
        ({"lte": {"allowance": 10, "used": [1, 1], "expected": [5, 11]}}, Level.WARNING, "expected by its end"),
    ],
)
def test_each_trouble_is_the_verdict(heard: World, changes: dict[str, object], level: Level, words: str) -> None:
    found = verdict(status(heard, **changes))
    assert found is not None
    assert (found.level, words in found.found, bool(found.remedy)) == (level, True, True)


HEARD = {"heard_s": 0.5, "lost": False}


@pytest.mark.parametrize(
    ("own", "other", "words"),
    [
        ({"manager": "r001", "manages": True}, HEARD, None),
        ({"manager": "r002", "manages": False}, HEARD, "r001 is managed by r002"),
        ({"manager": None, "manages": False}, HEARD, "managed by nobody that is known here"),
        ({"manager": "r001", "manages": True}, HEARD | {"heard_s": None, "lost": True}, "never heard: r002"),
        ({"manager": "r001", "manages": True}, HEARD | {"lost": True}, "lost: r002"),
    ],
)
def test_a_clique_that_is_not_as_it_should_be_is_named(
    heard: World, own: dict[str, object], other: dict[str, object], words: str | None
) -> None:
    takeover = {"microgrids": {"r001": own}, "others": {"r002": other, "utility": HEARD}}
    found = verdict(status(heard, takeover=takeover))
    assert (found is None) == (words is None)
    assert words is None or (found is not None and words in found.found)


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
