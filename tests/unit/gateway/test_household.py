"""What a gateway publishes of one place for Home Assistant: totals, prices, islands, and another manager."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from commonwatt.config.files import check_file
from commonwatt.config.settings import GatewaySettings
from commonwatt.model.calendar import iso
from commonwatt.model.effects import Publish
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import HistoryRecord, RecordType, State
from commonwatt.model.units import GROUP_S, QUARTER_S, SLOT_S
from commonwatt.protocol.meter_messages import Refusal
from commonwatt.town.registry import RegisteredMeter
from commonwatt.town.town import Direction, Function
from gateway import household as totals
from gateway.controller import Controller
from gateway.core import RETRY, RETRY_S
from gateway.household import MOST_BYTES, BatteryLevel, TownRequests, discovery, state, topics_of
from gateway.links import HouseholdLink
from gateway.store.store import Store
from harness.surroundings.gateway import CAPACITY, START, World, batches, readings, registered
from tests.unit.gateway.conftest import BOUNDARY, ISLAND, UP

PLACE = "house 1"
IN, OUT, OTHER = 11, 1, 2
TOPICS = topics_of("r001", PLACE)

ALLOWED: dict[str | None, tuple[set[str | None], set[str | None]]] = {
    "energy": ({"total", "total_increasing"}, {"J", "kJ", "MJ", "GJ", "mWh", "Wh", "kWh", "MWh", "GWh", "TWh"}),
    "energy_storage": ({"measurement"}, {"J", "kJ", "MJ", "GJ", "mWh", "Wh", "kWh", "MWh", "GWh", "TWh"}),
    "battery": ({"measurement"}, {"%"}),
    "duration": ({None, "measurement"}, {"d", "h", "min", "s", "ms"}),
    "timestamp": ({None}, {None}),
    None: ({"measurement"}, {"USD/kWh"}),
}
"""State classes and units that Home Assistant allows for a sensor's device class (its documentation of sensors)."""

KEYS = {"p", "name", "uniq_id", "val_tpl"}
PRICES = {"import_price", "credit_price"}
TOWN = {"use_less", "use_less_until", "island"}


def meter(number: int, *, direction: str = "outgoing", battery: bool = True, place: str = PLACE) -> RegisteredMeter:
    return registered(number, battery=battery).model_copy(
        update={"direction": direction, "location": place, "account": 1}
    )


class House(World):
    """A world whose gateway publishes a place with a meter of each direction; another house has one too."""

    def __init__(self, path: Path, place: str | None = PLACE) -> None:
        super().__init__(path)
        self.meters = {OUT: meter(OUT), IN: meter(IN, direction="incoming", battery=False), OTHER: registered(OTHER)}
        table = None if place is None else {"place": place, "address": "127.0.0.1:1885"}
        self.settings = GatewaySettings.model_validate({"microgrid": "r001", "household": table})
        self.new_core()
        self.tick(RETRY)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.messages()[TOPICS.state])
        return found

    def messages(self) -> dict[str, bytes]:
        return self.core.household.messages(self.core.now, "9.9")

    def energy(self, name: str) -> int:
        """Return a total in milliwatt-hours."""
        return int(Decimal(self.state()[name]) * 10**6)

    def relay(self) -> None:
        """Relay until the utility has acknowledged everything."""
        for _ in range(20):
            self.now += 60
            sent = batches(self.tick("relay_s"))
            for batch in sent:
                self.acknowledge(batch)
            if self.store.backlog()[0] == 0:
                return
        raise AssertionError("it does not relay")

    def compact(self) -> None:
        self.now += QUARTER_S
        self.tick("compact_s")


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "gateway.db")


# Discovery


def test_discovery_has_the_form_that_home_assistant_documents(house: House) -> None:
    payload = json.loads(house.messages()["homeassistant/device/commonwatt_r001_house_1/config"])
    assert set(payload) == {"dev", "o", "cmps", "avty", "stat_t", "qos"}
    assert payload["dev"]["ids"] == ["commonwatt_r001_house_1"]
    assert payload["o"] == {"name": "commonwatt", "sw": "9.9"}
    assert payload["avty"] == [{"t": "commonwatt/commonwatt_r001_house_1/availability"}]
    assert set(payload["cmps"]) == set(house.state()) | PRICES
    for name, entity in payload["cmps"].items():
        own_topic = {"stat_t", "json_attr_t", "json_attr_tpl"} if name in PRICES else set()
        assert KEYS | own_topic <= set(entity) <= KEYS | own_topic | {"dev_cla", "stat_cla", "unit_of_meas"}
        assert entity["uniq_id"] == f"commonwatt_r001_house_1_{name}"
        assert entity["val_tpl"] == f"{{{{ value_json.{name} }}}}"
        if entity["p"] == "sensor":
            state_classes, units = ALLOWED[entity.get("dev_cla")]
            assert entity.get("stat_cla") in state_classes
            assert entity.get("unit_of_meas") in units


def test_the_energy_dashboard_takes_energy_in_out_and_generated_as_they_are(house: House) -> None:
    entities = json.loads(house.messages()[TOPICS.discovery])["cmps"]
    for name in ("energy_in", "energy_out", "generated"):
        chosen = [entities[name][key] for key in ("dev_cla", "stat_cla", "unit_of_meas")]
        assert chosen == ["energy", "total_increasing", "kWh"]


def test_nothing_that_is_published_names_a_topic_for_commands(house: House) -> None:
    for payload in house.messages().values():
        assert not any(word in payload for word in (b"cmd", b"command", b"/set"))


def test_a_place_without_battery_has_its_energy_prices_and_what_the_town_asks() -> None:
    payload = json.loads(discovery(TOPICS, PLACE, [meter(IN, direction="incoming", battery=False)], "9.9"))
    assert set(payload["cmps"]) == {"energy_in"} | PRICES | TOWN


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("house 1", "commonwatt_r001_house_1"),
        ("House 1", "commonwatt_r001_house_1_d1d41471"),
        ("house-1", "commonwatt_r001_house_1_abc753a0"),
        ("東", "commonwatt_r001_2aa7024d"),
    ],
)
def test_ids_of_a_place_are_fit_for_topics_stay_and_differ(place: str, name: str) -> None:
    assert topics_of("r001", place).id == name


# State


def test_numbers_are_exact_decimal_text() -> None:
    batteries = BatteryLevel(level=14_400_001, capacity=28_800_000, sharing=True)
    town = TownRequests(
        use_less=True,
        use_less_until=START,
        island=False,
    )
    assert json.loads(state({"energy_in": 9_007_199_254_740_993}, batteries, town)) == {
        "energy_in": "9007199254.740993",
        "use_less": "ON",
        "use_less_until": "2026-06-21T00:00:00Z",
        "island": "OFF",
        "level": "14400.001",
        "level_percent": "50.0",
        "sharing": "ON",
    }


def test_level_and_sharing_are_those_of_the_battery_and_unknown_when_they_are_old(house: House) -> None:
    assert house.state()["level"] is house.state()["level_percent"] is house.state()["sharing"] is None
    house.introduce(OUT)
    house.now += SLOT_S
    house.level(OUT, 62.5, State.INITIALIZED | State.SHARING)
    shown = house.state()
    assert (shown["level"], shown["level_percent"], shown["sharing"]) == (
        f"{CAPACITY * 625 // 1_000_000}.000",
        "62.5",
        "ON",
    )
    house.level(OUT, 62.5)
    assert house.state()["sharing"] == "OFF"
    house.now += 301
    house.tick(RETRY)
    assert house.state()["level"] is house.state()["sharing"] is None


def test_after_an_exchange_the_battery_is_that_of_the_new_meter_and_totals_go_on(house: House) -> None:
    house.introduce(OUT)
    house.put(OUT, 1, readings(OUT, 1, 4))
    before = house.energy("energy_out")
    new = 21
    old = house.meters[OUT].model_copy(update={"replaced": True})
    house.meters = house.meters | {OUT: old, new: meter(new)}
    house.core.register(house.meters)
    house.introduce(new)
    house.now += SLOT_S
    house.level(new, 62.5, State.INITIALIZED | State.SHARING)
    assert [house.state()[key] for key in ("level_percent", "sharing")] == ["62.5", "ON"]
    assert house.energy("energy_out") == before > 0


def test_a_place_that_no_meter_has_is_not_published(tmp_path: Path) -> None:
    world = House(tmp_path / "gateway.db", "house of nobody")
    world.put(OUT, 1, readings(OUT, 1, 4))
    assert world.messages() == {}
    world.meters = world.meters | {5: meter(5, place="house of nobody")}
    world.core.register(world.meters)
    assert len(world.messages()) == 3


def test_without_the_table_nothing_is_published_counted_or_stored(tmp_path: Path) -> None:
    world = House(tmp_path / "gateway.db", None)
    world.put(OUT, 1, own(OUT, 1, 4))
    world.relay()
    assert world.messages() == {}
    assert world.store.setting(f"household {PLACE}") is None


# Totals


def own(number: int, first_id: int, count: int, *, kind: int = 3, value: int = 1000) -> list[HistoryRecord]:
    """Return readings of account 1, slot after slot by id."""
    start = START + SLOT_S * (first_id - 1)
    return [
        record._replace(account=1)
        for record in readings(number, first_id, count, start=start, kind=kind, value=value + first_id - 1)
    ]


def test_each_direction_and_generation_has_its_total_and_other_places_have_none(house: House) -> None:
    house.now += QUARTER_S
    house.put(OUT, 1, own(OUT, 1, 4))
    house.put(OUT, 5, own(OUT, 5, 2, kind=RecordType.GENERATION, value=70))
    house.put(OUT, 7, own(OUT, 7, 1, kind=RecordType.STORED, value=5000))
    house.put(IN, 1, own(IN, 1, 3, value=9))
    house.put(OTHER, 1, readings(OTHER, 1, 9))
    assert (house.energy("energy_out"), house.energy("generated"), house.energy("energy_in")) == (4006, 149, 30)


def test_energy_from_before_the_table_was_there_does_not_count(tmp_path: Path) -> None:
    world = House(tmp_path / "gateway.db", None)
    world.now += QUARTER_S
    world.put(OUT, 1, own(OUT, 1, 4))
    world.settings = House(tmp_path / "other.db").settings
    world.crash()
    assert world.energy("energy_out") == 0
    world.put(OUT, 1, own(OUT, 1, 6))
    assert world.energy("energy_out") == 1004 + 1005


def test_totals_are_stored_with_the_acknowledgement_of_the_utility_only(house: House) -> None:
    house.now += QUARTER_S
    before = house.store.setting(f"household {PLACE}")
    assert before is not None
    house.put(OUT, 1, own(OUT, 1, 4))
    house.now += RETRY_S
    house.tick(RETRY)
    assert house.store.setting(f"household {PLACE}") == before
    house.relay()
    assert json.loads(house.store.setting(f"household {PLACE}") or "")["sums"] == {"energy_out": 4006}


def test_totals_survive_the_deletion_of_the_backup_and_a_store_whose_last_parts_are_lost(house: House) -> None:
    house.now += QUARTER_S
    house.put(OUT, 1, own(OUT, 1, 4))
    house.relay()
    house.store.connection.execute("DELETE FROM part")
    house.crash()
    assert house.energy("energy_out") == 4006
    house.put(OUT, 5, own(OUT, 5, 1))
    assert house.energy("energy_out") == 4006 + 1004


@pytest.mark.parametrize("seed", range(6))
def test_totals_are_the_sum_of_all_slots_whatever_comes_again_and_whenever_it_stops(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Puts come late, again, in any order and with averages; the gateway relays, compacts and crashes at any time."""
    monkeypatch.setattr(totals, "PARTS_AT_A_TIME", 3)
    rng = random.Random(seed)
    house = House(tmp_path / "gateway.db")
    house.now += 8 * QUARTER_S
    puts: dict[int, list[list[HistoryRecord]]] = {OUT: [], IN: [], OTHER: []}
    best: dict[tuple[int, int], tuple[int, int]] = {}
    shown = {"energy_out": 0, "energy_in": 0}

    def put(number: int, records: list[HistoryRecord]) -> None:
        house.put(number, records[0].record_id, records)
        for record in records:
            for slot in range(record.start, record.end, SLOT_S):
                quality, value = 1 - record.lossy, record.reading
                known = best.get((number, slot), (-1, 0))
                best[number, slot] = max(known, (quality, value), key=lambda found: (found[0], -found[1]))

    for _ in range(80):
        number = rng.choice([OUT, IN, OTHER])
        match rng.randrange(9):
            case 0 | 1 | 2:
                first = puts[number][-1][-1].record_id + 1 if puts[number] else 1
                account = 2 if number == OTHER else 1
                made = [record._replace(account=account) for record in own(number, first, rng.randint(1, 30))]
                if rng.random() < 0.3:
                    slot = START + GROUP_S * rng.randrange(40)
                    end = slot + GROUP_S
                    made = [made[0]._replace(lossy=1, start=slot, end=end, reading=rng.randrange(3000))]
                puts[number].append(made)
                if rng.random() < 0.6:
                    put(number, made)
            case 3 | 4 if puts[number]:
                put(number, rng.choice(puts[number]))
            case 5:
                house.relay()
            case 6:
                house.compact()
            case 7:
                house.crash()
            case _:
                house.now += RETRY_S
                house.tick(RETRY)
        if rng.random() < 0.7:
            continue
        seen = Counter[int]()
        for (of, _), (_, value) in best.items():
            seen[of] += value
        now = {name: house.energy(name) for name in shown}
        keeper = house.core.household.keeper
        assert keeper is not None
        assert (keeper.totals.sums["energy_out"], keeper.totals.sums["energy_in"]) == (seen[OUT], seen[IN])
        assert all(now[name] >= max(shown[name], keeper.totals.sums[name]) for name in shown)
        shown = now


# The connection


class Broker:
    """A household's broker that is there or not."""

    def __init__(self, link: HouseholdLink, monkeypatch: pytest.MonkeyPatch) -> None:
        self.link, self.sent = link, list[Publish]()
        monkeypatch.setattr(link.mqtt, "publish", self.take)

    def take(self, message: Publish, *, retain: bool) -> bool:
        assert retain
        self.sent.append(message)
        return True

    def topics(self) -> list[str]:
        """Return the last words of the topics published since the last call."""
        sent, self.sent = self.sent, []
        return [message.topic.rpartition("/")[2] for message in sent]


def test_only_what_changed_is_published_and_all_of_it_after_home_assistants_start(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert house.settings.household is not None
    link = HouseholdLink(house.settings.household, "r001")
    broker = Broker(link, monkeypatch)
    link.show(house.messages())
    assert broker.topics() == [], "there is no connection"
    link.mqtt.connected = True
    link._connected()
    assert broker.topics() == ["availability", "config", "state", "prices"]
    link.show(house.messages())
    assert broker.topics() == []
    house.now += QUARTER_S
    house.put(OUT, 1, own(OUT, 1, 1))
    link.show(house.messages())
    assert broker.topics() == ["state"]
    for _ in range(1000):
        link._hear("homeassistant/status", b"online")
    link._hear("homeassistant/status", b"offline")
    link.show(house.messages())
    assert broker.topics() == ["availability", "config", "state", "prices"]


# Settings


@pytest.mark.parametrize(
    ("lines", "allowed"),
    [
        ("", "place: missing"),
        ('place = "house 1"', "address: missing"),
        ('place = "house 1"\naddress = "127.0.0.1:1885"\npassword = "x"', "password needs user"),
        ('place = "house 1"\naddress = "192.0.2.7:1883"', "plain_text = true"),
        ('place = "house 1"\naddress = "127.0.0.1:1885"\nprefix = "home"', "is fixed"),
        ('place = "house 1"\naddress = "127.0.0.1:1885"\ncolour = "red"', "unknown key; known here: place"),
        ('place = ""\naddress = "127.0.0.1:1885"', "at least 1 character"),
        ('place = "house 1"\naddress = "nowhere"', "address"),
    ],
)
def test_a_wrong_table_is_told_with_its_line_and_what_is_allowed(tmp_path: Path, lines: str, allowed: str) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(f'[gateway]\nmicrogrid = "r001"\n\n[gateway.household]\n{lines}\n')
    with pytest.raises(ConfigError, match="line ") as caught:
        check_file(path)
    assert allowed in str(caught.value)


def test_a_table_for_a_broker_with_tls_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    household = 'place = "house 1"\naddress = "192.0.2.7:8883"\nca = "house.pem"\nuser = "u"\npassword = "p"\n'
    path.write_text(f'[gateway]\nmicrogrid = "r001"\n\n[gateway.household]\n{household}')
    assert check_file(path) == "gateway"


HOUR, DAY = 3_600, 86_400


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


A_MINUTE = 60 // SLOT_S  # records of a minute
OWN_METER = 91


class Successor(World):
    """r002's gateway: it hosts r001, too, and publishes a place of its own microgrid that has the same name."""

    def new_core(self) -> None:
        self.home = Store.open(self.path.with_name("home.db"))
        table = {"place": PLACE, "address": "127.0.0.1:1885"}
        settings = GatewaySettings.model_validate({"microgrid": "r002", "household": table})
        self.controller = Controller(settings, self.home, {OWN_METER: meter(OWN_METER)})
        self.controller.host("r001", self.store, {OUT: meter(OUT)})
        self.core = self.controller.hosted["r001"]
        self.core.time.network(self.now, self.now, 0)

    def published(self) -> list[bytes]:
        """Return the states that it publishes, by its own microgrid and the hosted one."""
        found = []
        for microgrid, core in self.controller.hosted.items():
            messages = core.household.messages(core.now, "9.9")
            found += [messages[topic] for topic in messages if topic == topics_of(microgrid, PLACE).state]
        return found


class Life:
    """A meter with its log, its two gateways, and what Home Assistant is shown, minute by minute."""

    def __init__(self, folder: Path) -> None:
        self.owner: House | None = House(folder / "owner.db")
        self.successor = Successor(folder / "successor.db")
        self.folder = folder
        self.now = START
        self.made = 0  # records that the meter made
        self.acknowledged = 0
        self.at_owner: set[int] = set()  # the records that the owner's store took
        self.shown: list[int] = []  # milliwatt-hours, each state that the owner published

    def kill(self) -> None:
        assert self.owner is not None
        self.owner.store.close()
        self.owner = None

    def start(self) -> None:
        self.owner = House(self.folder / "owner.db")

    def minute(self, at: World | None, *, loses_answer: bool = False) -> None:
        """Let a minute pass: the meter puts what nobody acknowledged at a gateway; ``None``: at none."""
        self.now += 60
        self.made += A_MINUTE
        for gateway in (self.owner, self.successor):
            if gateway is not None:
                gateway.now = self.now
                gateway.tick(RETRY)
        if at is not None:
            first = self.acknowledged + 1
            assert at.put(OUT, first, own(OUT, first, self.made - first + 1)).status is Refusal.NONE
            self.at_owner |= set(range(first, self.made + 1)) if at is self.owner else set()
            self.acknowledged = self.acknowledged if loses_answer else self.made
        if self.owner is not None:
            self.shown.append(self.owner.energy("energy_out"))

    def energy_at_owner(self) -> int:
        """Return the energy of the records that the owner's store took, each once."""
        return sum(own(OUT, record, 1)[0].reading for record in self.at_owner)


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    life = Life(tmp_path)
    yield life
    life.successor.store.close()
    life.successor.home.close()


def test_totals_freeze_while_the_owner_is_dead_and_go_on_without_a_jump(life: Life) -> None:
    for _ in range(10):
        life.minute(life.owner)
    life.minute(life.owner, loses_answer=True)  # the owner dies before its answer: the next one gets these, too
    frozen = life.shown[-1]
    assert frozen == life.energy_at_owner()
    life.kill()
    life.minute(None)
    for _ in range(60):
        life.minute(life.successor)
    life.minute(life.successor, loses_answer=True)
    life.start()
    life.minute(None)
    assert life.shown[-1] == frozen, "what it published before its death"
    life.minute(life.successor)
    assert life.shown[-1] == frozen, "its meter has not come home"
    for _ in range(10):
        life.minute(life.owner)
        # A minute's energy, and no more: what the successor took is not made up for.
        assert life.shown[-1] - life.shown[-2] == sum(record.reading for record in own(OUT, life.made - 3, A_MINUTE))
    assert life.shown[-1] == life.energy_at_owner()
    assert life.shown == sorted(life.shown)


def test_a_put_that_both_controllers_took_counts_once(life: Life) -> None:
    life.minute(life.owner)
    life.kill()
    life.minute(life.successor, loses_answer=True)
    life.start()
    life.minute(life.owner)
    assert life.shown[-1] == sum(record.reading for record in own(OUT, 1, life.made))


def test_a_successor_publishes_its_own_place_alone_though_the_other_one_has_the_same_name(life: Life) -> None:
    before = life.successor.published()
    for _ in range(5):
        life.minute(life.successor)
    (state,) = life.successor.published()
    assert json.loads(state)["energy_out"] == "0.000000"
    assert before == [state]
