"""The household's guide on Home Assistant's own schemas, entities, templates and scripts."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from commonwatt.model.calendar import iso
from harness.real.home_assistant import ask
from tests.unit.gateway.test_household import DAY, HOUR, OUT, TOPICS, House, listed, move_to

pytestmark = pytest.mark.real

HEATER, CAR = re.findall(r"```yaml\n(.*?)```", Path("docs/guides/household.md").read_text(), re.DOTALL)
PRICE = "sensor.house_1_price_of_import"
COURSE = [24, 22, 21, 20, 20, 23, 31, 38, 42, 40, 33, 27, 25, 24, 26, 30, 37, 46, 48, 44, 36, 32, 28, 26]
"""Prices of import of each hour of a day, cents."""


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A place with prices by the hour, from midnight in New York on."""
    house = House(tmp_path / "gateway.db")
    move_to(house, house.now // DAY * DAY + 4 * HOUR)
    _, outcome = house.ask(
        cmd="rates",
        tariff="town",
        version=1,
        prices=[[f"hour {hour}", f"0.{cents}", "0.09"] for hour, cents in enumerate(COURSE)],
        changes=[[house.now + HOUR * hour, hour % 24] for hour in range(72)],
        rates_until=house.now + 72 * HOUR,
    )
    assert outcome.result == "done"
    return house


def question(house: House, *automations: str, **states: str) -> dict[str, Any]:
    messages = {topic: payload.decode() for topic, payload in house.messages().items()}
    return {
        "discovery": messages[TOPICS.discovery],
        "messages": messages,
        "states": {f"sensor.{name}": state for name, state in states.items()},
        "automations": automations,
        "time": house.now,
    }


def test_home_assistant_makes_every_entity_and_the_list_that_integrations_read(house: House) -> None:
    house.introduce(OUT)
    house.level(OUT, 62.5)
    house.ask(cmd="reduce", state="on", for_s=HOUR)
    (answer,) = ask([question(house)])
    assert answer["warnings"] == []
    states = {name.partition(".house_1_")[2]: state for name, state in answer["states"].items()}
    assert len(states) == len(json.loads(house.messages()[TOPICS.discovery])["cmps"])
    wanted = {
        "price_of_import": "0.24",
        "price_of_credit": "0.09",
        "use_less": "on",
        "use_less_until": iso(house.now + HOUR).replace("Z", "+00:00"),
        "island": "off",
        "battery_level": "62.5",
    }
    assert states | wanted == states
    attributes = answer["attributes"][PRICE]
    assert (attributes["tariff"], attributes["period"], attributes["until"]) == (
        "town",
        "hour 0",
        iso(house.now + HOUR),
    )
    assert attributes["forecast"] == [
        {"start": iso(start).replace("Z", "+00:00"), "end": iso(end).replace("Z", "+00:00"), "value": value}
        for start, end, value in listed(house)
    ]


MISTAKES = {
    '"stat_cla": "measurement"': "state_class",
    '"p": "binary_sensor"': "platform",
    '"dev_cla": "timestamp"': "device_class",
    '"json_attr_t"': "unknown keys",
    "{% endfor %}": "template",
}
"""A part of the discovery message that is altered, and a word of the error."""


def test_each_mistake_in_the_discovery_message_is_found(house: House) -> None:
    good = question(house)
    wrong = [good | {"discovery": good["discovery"].replace(part, f"{part[:-2]}x{part[-2:]}")} for part in MISTAKES]
    for answer, word in zip(ask(wrong), MISTAKES.values(), strict=True):
        assert word in answer["error"]


def hours_on(answers: list[dict[str, Any]]) -> list[int]:
    """Return in which of the answers the one automation switches on."""
    assert all(len(answer["calls"][0]) == 1 and not answer["warnings"] for answer in answers)
    return [i for i, answer in enumerate(answers) if answer["calls"][0][0][0] == "turn_on"]


def test_the_water_heater_runs_in_the_cheapest_hours_and_pauses_when_the_town_asks(house: House) -> None:
    questions = []
    midnight = house.now
    for hour in range(24):
        move_to(house, midnight + HOUR * hour + 600)
        questions.append(question(house, HEATER))
    sixth = sorted(COURSE)[5]
    assert hours_on(ask(questions)) == [hour for hour, cents in enumerate(COURSE) if cents <= sixth]
    move_to(house, midnight + DAY + 3 * HOUR)
    house.ask(cmd="reduce", state="on", for_s=HOUR)
    paused = question(house, HEATER)
    move_to(house, midnight + DAY + 4 * HOUR)
    going_on = question(house, HEATER)
    move_to(house, midnight + 3 * DAY)
    without = question(house, HEATER)
    assert hours_on(ask([paused, going_on, without])) == [1, 2]


def test_the_car_is_charged_by_seven_in_the_cheapest_hours(house: House) -> None:
    evening = house.now + 18 * HOUR
    cheapest = sorted(range(13), key=lambda hour: COURSE[(18 + hour) % 24])[:4]
    questions = []
    for hour in range(14):
        move_to(house, evening + HOUR * hour + 600)
        charged = 7 * sum(chosen < hour for chosen in cheapest)
        questions.append(question(house, CAR, car_battery=str(80 - (28 - charged) / 0.6)))
    assert hours_on(ask(questions)) == sorted(cheapest)
    move_to(house, evening + 9 * HOUR)
    full, empty = question(house, CAR, car_battery="81"), question(house, CAR, car_battery="20")
    house.ask(cmd="reduce", state="on", for_s=HOUR)
    paused = question(house, CAR, car_battery="20")
    move_to(house, evening + 3 * DAY)
    without = question(house, CAR, car_battery="20")
    assert hours_on(ask([full, empty, paused, without])) == [1, 3]


def test_the_guide_is_short_and_names_entities_that_there_are(house: House) -> None:
    guide = Path("docs/guides/household.md").read_text()
    (answer,) = ask([question(house)])
    named = set(re.findall(r"\b(?:binary_)?sensor\.house_1_\w+", guide))
    assert named
    assert named <= set(answer["states"])
    assert len(re.findall(r"\S*[A-Za-z]\S*", guide)) <= 500, "words, those of the automations too"
