"""What Home Assistant reads of prices, of the town's request to use less, and of an island."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.time.times import iso
from commonwatt.town.town import Direction, Function
from gateway.core import RETRY
from gateway.household.prices import MOST_BYTES
from tests.unit.gateway.conftest import BOUNDARY, ISLAND, UP
from tests.unit.gateway.test_household import OUT, TOPICS, House

HOUR, DAY = 3_600, 86_400


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "gateway.db")


def tell(house: House, *, step_s: int = HOUR, count: int = 48, tariff: str = "town", first_s: int = 0) -> list[float]:
    """Send rates that change at each step, from midnight on; return the prices of import."""
    begin = house.now // DAY * DAY + first_s
    prices = [[f"period {i}", f"0.{234567 + i}", f"0.{123456 + i}"] for i in range(min(count, 100))]
    _, outcome = house.ask(
        cmd="rates",
        tariff=tariff,
        version=1,
        prices=prices,
        changes=[[begin + step_s * i, i % len(prices)] for i in range(count)],
        rates_until=begin + step_s * count,
    )
    assert outcome.result == "done"
    return [float(price) for _, price, _ in prices]


def prices(house: House) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(house.messages()[TOPICS.prices])
    return found


def listed(house: House) -> list[tuple[int, int, float]]:
    """Return start, end and price of import of each row of the list."""
    message = prices(house)
    times = [message["begin"] + 60 * minute for minute in message["minutes"]]
    return [(start, end, price) for (start, end), price in zip(pairwise(times), message["import_list"], strict=True)]


def move_to(house: House, time: int) -> None:
    house.now = time
    house.tick(RETRY)


def test_the_price_of_now_says_until_when_and_a_day_is_listed_by_the_hour(house: House) -> None:
    told = tell(house)
    midnight = house.now // DAY * DAY
    move_to(house, midnight + 5 * HOUR + 1_700)
    message = prices(house)
    assert (message["import_price"], message["credit_price"]) == ("0.234572", "0.123461")
    assert (message["period"], message["tariff"]) == ("period 5", "town")
    assert message["until"] == iso(midnight + 6 * HOUR)
    starts = [midnight + HOUR * hour for hour in range(5, 29)]
    assert listed(house) == [(start, start + HOUR, told[i]) for i, start in enumerate(starts, 5)]


def test_an_hour_in_which_the_price_changes_is_divided_and_one_that_stays_is_not_joined(house: House) -> None:
    tell(house, step_s=12 * HOUR, count=4, first_s=HOUR // 2)
    midnight = house.now // DAY * DAY
    move_to(house, midnight + 11 * HOUR)
    rows = listed(house)
    assert [end - start for start, end, _ in rows] == [HOUR, 1800, 1800] + [HOUR] * 11 + [1800, 1800] + [HOUR] * 10
    assert rows[0][0] == house.now
    assert rows[-1][1] == house.now + DAY


def test_the_longest_tariff_fits_a_kilobyte_whole_and_a_state_does(house: House) -> None:
    tell(house)
    house.introduce(OUT)
    house.level(OUT, 62.5)
    house.ask(cmd="reduce", state="on", for_s=HOUR)
    sizes = {topic: len(payload) for topic, payload in house.messages().items() if topic != TOPICS.discovery}
    assert len(listed(house)) == 24
    assert max(sizes.values()) <= MOST_BYTES == 1_000


def test_prices_by_the_quarter_hour_are_listed_for_fewer_hours(house: House) -> None:
    tell(house, step_s=900, count=200)
    assert len(house.messages()[TOPICS.prices]) <= MOST_BYTES
    rows = listed(house)
    assert 9 * HOUR <= rows[-1][1] - house.now < DAY
    assert all(end - start == 900 for start, end, _ in rows)


def test_a_day_costs_a_message_an_hour_however_often_the_gateway_looks(house: House) -> None:
    tell(house, count=96)
    payloads: list[bytes] = []
    for _ in range(DAY // 60):
        move_to(house, house.now + 60)
        payload = house.messages()[TOPICS.prices]
        payloads += [payload] if payloads[-1:] != [payload] else []
    assert len(payloads) == 25
    move_to(house, house.now + 5 * DAY)
    assert prices(house)["import_price"] is None
    first = house.messages()
    move_to(house, house.now + DAY)
    assert house.messages() == first, "nothing changed"


def test_of_several_tariffs_none_is_guessed_until_the_settings_name_the_places_own(house: House) -> None:
    tell(house, tariff="town")
    tell(house, tariff="night", count=30)
    assert prices(house)["import_price"] is prices(house)["tariff"] is None
    assert prices(house)["tariffs"] == ["night", "town"]
    assert listed(house) == []
    for name, price in (("town", "0.234567"), ("farm", None)):
        table = {"place": "house 1", "address": "127.0.0.1:1885", "tariff": name}
        house.settings = GatewaySettings.model_validate({"microgrid": "r001", "household": table})
        house.crash()
        house.tick(RETRY)
        assert prices(house)["import_price"] == price
    assert prices(house)["tariffs"] == ["night", "town"]


def test_there_is_no_price_before_the_rates_after_their_end_and_at_a_time_that_may_be_wrong(house: House) -> None:
    assert prices(house)["import_price"] is None
    tell(house)
    assert prices(house)["import_price"] is not None
    end = house.now // DAY * DAY + 48 * HOUR
    move_to(house, end - 1)
    assert len(listed(house)) == 1
    move_to(house, end)
    assert (prices(house)["import_price"], prices(house)["until"], listed(house)) == (None, None, [])
    tell(house)
    house.forget_time()
    house.tick(RETRY)
    assert prices(house)["import_price"] is None


@pytest.mark.parametrize(
    "request_",
    [
        {"cmd": "reduce", "state": "on"},
        {"cmd": "supply", "supply": "LOW"},
        {"cmd": "supply", "supply": "NORMAL", "import_limit_w": 500},
    ],
)
def test_the_towns_request_to_use_less_has_its_end(house: House, request_: dict[str, object]) -> None:
    assert (house.state()["use_less"], house.state()["use_less_until"]) == ("OFF", None)
    until = house.now + 7_200
    house.ask(for_s=7_200, **request_)
    assert (house.state()["use_less"], house.state()["use_less_until"]) == ("ON", iso(until))
    move_to(house, until)
    assert (house.state()["use_less"], house.state()["use_less_until"]) == ("OFF", None)


def test_while_another_controller_manages_what_the_town_asks_is_unknown(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.ask(cmd="reduce", state="on", for_s=HOUR)
    monkeypatch.setattr(type(house.core.manager.epochs), "commands", False)
    assert [house.state()[name] for name in ("use_less", "use_less_until", "island")] == [None] * 3


def test_an_island_is_shown(house: House) -> None:
    house.meters[BOUNDARY] = house.meters[OUT].model_copy(
        update={"id": BOUNDARY, "function": Function.BOUNDARY, "direction": Direction.INCOMING, "location": "boundary"}
    )
    house.new_core()
    assert house.state()["island"] is None, "the boundary has not reported"
    house.introduce(OUT)
    house.introduce(BOUNDARY, minimum=None, bits=UP, cmd="get")
    assert house.state()["island"] == "OFF"
    house.introduce(BOUNDARY, minimum=None, bits=ISLAND, cmd="get")
    assert house.state()["island"] == "ON"
