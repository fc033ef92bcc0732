"""Cards of discovered devices: what makers publish is found, told topics are the devices' own, all is bounded."""

import json
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.commands import DeviceWish, commands_of
from adapters.discovery import discovered
from adapters.discovery.discovered import MOST_BYTES, MOST_CARDS, MOST_UNKNOWN, Discovered
from adapters.discovery.listening import Listening
from adapters.mapping.readers import known_presets, readers_of
from adapters.messages import Arrived, messages_in
from adapters.service import refuse_others
from commonwatt.config.adapter import AdapterMeter, AdapterSettings
from commonwatt.network.http_server import HttpRequest
from harness.foreign.commanded import MAKERS, WATTS
from harness.network.waiting import eventually, free_ports
from utility.discovery.cards import DiscoveryAnswer

HERE = Path(__file__).parent
START = 1_790_000_000_000  # milliseconds
SETTINGS = AdapterSettings(microgrid="r001")

Message = tuple[float, str, object]  # seconds after the start, topic, payload: a text, or what becomes JSON


def answer(
    messages: Iterable[Message], after_s: float = 0, settings: AdapterSettings = SETTINGS, *, retained: bool = False
) -> dict[str, Any]:
    """Return the answer after some messages."""
    found, at = Discovered(settings), 0.0
    for at, topic, payload in messages:
        text = payload if isinstance(payload, str) else json.dumps(payload)
        found.take(Arrived(topic, text.encode(), retained, START + int(at * 1000)))
    return found.answer(START + int((at + after_s) * 1000))


def card(messages: Iterable[Message], after_s: float = 0, *, retained: bool = False) -> dict[str, Any]:
    """Return the only card after some messages."""
    (found,) = answer(messages, after_s, retained=retained)["cards"]
    return dict(found)


def recorded(path: Path) -> list[dict[str, Any]]:
    """Return the cards of a recording."""
    found, at = Discovered(SETTINGS), START
    for message in messages_in(path):
        at = at + 1000 if message.at is None else message.at
        found.take(Arrived(message.topic, message.payload, message.retained, at))
    return list(found.answer(at)["cards"])


EMON = {"openenergymonitor-json emontx4 E1": "unknown", "openenergymonitor emontx4/E1 0": "unknown"}
ROLES: dict[str, dict[str, str]] = {
    "dsmr": {"dsmr dsmr 0": "grid"},
    "esp8266-p1meter": {"esp8266-p1meter sensors/power/p1meter 0": "grid"},
    "esphome": {"esphome washer/sensor/total_energy 0": "load"},
    "evcc": {"evcc evcc 0": "battery"},
    "homeassistant-statestream": {"homeassistant-statestream house_energy 0": "grid"},
    "json": {},
    "openenergymonitor-csv": EMON,
    "openenergymonitor-json": EMON,
    "openenergymonitor": EMON,
    "openwb": {"openwb 4 0": "load"},
    "p1": {"p1 dsmr/raw 0": "grid"},
    "plain": {},
    "shelly-em": {"shelly-em shellypro3em-0cb8 0": "grid"},
    "shelly-em1": {"shelly-em1 shellyproem50-a0dd 0": "grid", "shelly-em1 shellyproem50-a0dd 1": "grid"},
    "shelly-gen1-3em": {"shelly-gen1-3em shellyem3-4EE1 0": "grid"},
    "shelly-gen1-plug": {"shelly-gen1-plug shellyplug-s-7A6D 0": "load"},
    "shelly-gen1": {"shelly-gen1 shellyem-B9F1 0": "grid", "shelly-gen1 shellyem-B9F1 1": "grid"},
    "shelly-pm": {"shelly-pm balcony/shelly 0": "sun", "shelly-pm shellypstripg4-1 0": "load"},
    "sunspec": {"sunspec cellar/battery 0": "battery"},
    "tasmota-sml": {"tasmota-sml meter 0": "grid"},
    "tasmota": {"tasmota house 0": "grid", "tasmota kitchen 0": "load"},
    "victron-solar": {
        "victron-solar c0619ab1b2c3/pvinverter/20 0": "sun",
        "victron-solar c0619ab1b2c3/solarcharger/288 0": "sun",
    },
    "victron-vebus": {"victron-vebus c0619ab1/vebus/276 1": "grid"},
    "victron": {"victron c0619ab1b2c3/battery/512 0": "battery", "victron c0619ab1b2c3/grid/30 0": "grid"},
    "zendure": {"zendure HOA1NPN4N1 0": "battery"},
    "zigbee2mqtt-channel": {
        "zigbee2mqtt-channel clamp a": "grid",
        "zigbee2mqtt-channel strip l1": "load",
        "zigbee2mqtt-channel strip l2": "load",
    },
    "zigbee2mqtt": {"zigbee2mqtt kitchen/left plug 0": "load", "zigbee2mqtt roof 0": "sun"},
}


def check(found: dict[str, Any]) -> None:
    """Check that an adapter takes a card's tables, and that what it is told are the topics of the card."""
    ways = [way for way in ("incoming", "outgoing") if found[way]]
    meters = [{"id": n, "direction": way, "capacity_wh": 1000} | found["meter"] for n, way in enumerate(ways, 1)]
    tables = {"microgrid": "r001", "rule": found["rules"], "command": found["commands"]}
    assert readers_of(AdapterSettings.model_validate(tables | {"meter": meters})).all
    for kind in ("share", "reduce"):
        if found[kind] is not None:
            obeys = meters[0] | {"obeys": kind, "watts": WATTS}
            (command,) = commands_of(AdapterSettings.model_validate(tables | {"meter": [obeys]}))
            assert command.message(DeviceWish(), 0, None).topic == found[kind]["topic"]
            assert command.settings.ends_within_s == found[kind]["ends_s"]


@pytest.mark.parametrize("preset", known_presets())
def test_the_devices_of_each_recording_are_found_with_their_roles_and_nothing_else(preset: str) -> None:
    cards = recorded(HERE / "recordings" / f"{preset}.jsonl")
    assert {one["key"]: one["role"] for one in cards} == ROLES[preset]
    for one in cards:
        assert one["power_w"] is not None
        check(one)


@pytest.mark.parametrize("path", sorted((HERE / "discoveries").glob("*.jsonl")), ids=lambda path: path.stem)
def test_an_adapter_takes_the_tables_of_what_is_announced(path: Path) -> None:
    for one in recorded(path):
        check(one)


BATTERY = "N/c0619ab1/battery/512"
VICTRON: list[Message] = [
    (0, f"{BATTERY}/Soc", {"value": 64}),
    (0, f"{BATTERY}/History/ChargedEnergy", {"value": 900.25}),
    (0, f"{BATTERY}/History/DischargedEnergy", {"value": 800.5}),
    (0, "N/c0619ab1/vebus/276/Soc", {"value": 64}),
    (1, "N/c0619ab1/vebus/276/Ac/ActiveIn/L1/P", {"value": -800}),
]


def test_a_victron_battery_is_told_by_the_multi_beside_it() -> None:
    found = card(VICTRON)
    assert found["key"] == "victron c0619ab1/battery/512 276"
    assert found["share"] == {"topic": "W/c0619ab1/vebus/276/Hub4/L1/AcPowerSetpoint", "ends": "watchdog", "ends_s": 60}
    assert (found["level_percent"], found["total_kwh"]) == (64.0, 900.25)
    check(found)


def test_of_two_multis_none_is_chosen() -> None:
    found = card([*VICTRON, (2, "N/c0619ab1/vebus/288/Soc", {"value": 64})])
    assert (found["share"], found["meter"]["channel"]) == (None, "0")
    assert "by hand" in found["note"]


@pytest.mark.parametrize(("preset", "kind"), [key for key in MAKERS if key[0] != "homeassistant-statestream"])
def test_what_each_maker_may_be_told_is_the_topic_that_its_device_obeys(preset: str, kind: str) -> None:
    maker = MAKERS[preset, kind]
    folder = HERE / "recordings" / f"{preset}.jsonl"
    found = Discovered(SETTINGS)
    found.take(Arrived(maker.shown, maker.show(0).encode(), True, START))
    (device,) = {one["meter"]["source"] for one in recorded(folder) if one["role"] in ("battery", "load")} - {
        "clamp",
        "house",
        "roof",
    }
    for message in messages_in(folder):
        topic = message.topic.replace(device, maker.source)
        payload = message.payload.replace(device.encode(), maker.source.encode())
        found.take(Arrived(topic, payload, False, START))
    cards = found.answer(START)["cards"]
    told = [one[kind]["topic"] for one in cards if one["meter"]["source"] == maker.source and one[kind] is not None]
    assert maker.told in told


def announced(component: str, name: str, state: str, unit: str = "", **more: object) -> Message:
    """Return the announcement of an entity of the device ``cellar``."""
    kind = {"kWh": "energy", "Wh": "energy", "W": "power"}.get(unit, "")
    config = {"name": name, "state_topic": state, "device": {"identifiers": ["abc1"], "name": "cellar"}}
    config |= {"unit_of_measurement": unit, "device_class": kind, "state_class": "total_increasing"} if unit else {}
    return 0, f"homeassistant/{component}/abc1/{name.replace(' ', '')}/config", config | more


def test_a_preset_and_an_announcement_of_one_device_are_one_card() -> None:
    path = "{{{{ value_json['ENERGY']['{}'] }}}}".format
    found = card(
        [
            announced("sensor", "Energy Total", "tele/tasmota_A1/SENSOR", "kWh", value_template=path("Total")),
            announced("sensor", "Power", "tele/tasmota_A1/SENSOR", "W", value_template=path("Power")),
            (1, "tele/tasmota_A1/SENSOR", {"Time": "2026-09-21T16:15:00", "ENERGY": {"Total": 8412.6, "Power": 412}}),
            (2, "homeassistant/sensor/other/config", ""),
            (3, "tele/tasmota_A1/SENSOR", {"Time": "2026-09-21T16:15:02", "ENERGY": {"Total": 8412.6, "Power": 413}}),
        ]
    )
    assert (found["key"], found["title"], found["name"]) == ("tasmota tasmota_A1 0", "Tasmota", "cellar")
    assert (found["power_w"], found["total_kwh"], found["rules"]) == (413, 8412.6, [])


def test_an_announcement_of_another_unit_counts_in_place_of_the_preset() -> None:
    topic = "washer/sensor/energy/state"
    found = card([announced("sensor", "Energy", topic, "Wh"), (1, topic, "1500"), (20, topic, "1600")])
    assert (found["meter"]["preset"][:7], found["total_kwh"]) == ("cellar-", 1.6)
    check(found)


def test_a_device_whose_total_begins_again_each_day_counts_by_its_power() -> None:
    found = card(
        [
            announced("sensor", "YieldDay", "solar/abc1/0/yieldday", "kWh"),
            announced("sensor", "Power", "solar/abc1/0/power", "W"),
            (1, "solar/abc1/0/power", "1900"),
        ]
    )
    assert (found["role"], found["power_w"], found["outgoing"]) == ("sun", 1900.0, [])
    assert found["note"] == "Its total begins again, so its power counts."
    check(found)


def test_a_switch_is_offered_only_below_the_devices_own_folder() -> None:
    energy = [announced("sensor", "Energy", "abc1/energy", "kWh"), (1.0, "abc1/energy", "5")]
    own = announced("switch", "Relay", "abc1/relay", command_topic="abc1/relay/set")
    other = announced("switch", "Relay", "abc1/relay", command_topic="cellar-of-another/relay/set")
    assert card([own, *energy])["reduce"] == {"topic": "abc1/relay/set", "ends": "will", "ends_s": 45}
    assert card([own, *energy])["commands"][0]["topic"] == "abc1/relay/set"
    above = announced("switch", "Relay", "abc1/relay", command_topic="abc1/../cellar-of-another/relay/set")
    for one in (other, above):
        found = card([one, *energy])
        assert (found["reduce"], found["commands"], found["role"]) == (None, [], "unknown")
    assert "outside its own folder" in card([other, *energy])["note"]


def test_a_register_gives_its_power_by_two_values() -> None:
    topic = "tele/kitchen/SENSOR"
    first: Message = (0, topic, {"ENERGY": {"Total": 10.0}})
    assert card([first])["power_w"] is None
    assert card([first, (10, topic, {"ENERGY": {"Total": 10.005}})])["power_w"] == 1800.0
    slow = card([first, (300, topic, {"ENERGY": {"Total": 10.15}})], after_s=7)
    assert (slow["power_w"], slow["age_s"]) == (1800.0, 7)
    assert "300 s apart" in slow["note"]


def test_a_kept_message_alone_is_named_as_old() -> None:
    found = card([(0, "tele/kitchen/SENSOR", {"ENERGY": {"Total": 10.0}})], retained=True)
    assert "had kept" in found["note"]


def test_a_relay_that_does_not_show_its_state_is_not_offered() -> None:
    topic = "zigbee2mqtt/clamp"
    assert card([(0, topic, {"energy": 1.0})])["reduce"] is None
    assert card([(0, topic, {"energy": 1.0, "state": "ON"})])["reduce"] is not None


def test_numbers_that_only_rise_are_listed_and_clocks_are_not() -> None:
    rising: list[Message] = [
        (float(60 * n), topic, str(value + 12 * n))
        for topic, value in [("garage/counter/total", 1_204_331)] + [(f"x/{n}", n) for n in range(100)]
        for n in range(2)
    ]
    clocks: list[Message] = [
        (
            60.0 * n,
            "x/uptime",
            {"s": 60 * n, "ms": 60_000 * n, "still": 5, "fell": 9 - n, "now": START // 1000 + 30 * n},
        )
        for n in range(2)
    ]
    found = answer(sorted(rising + clocks, key=lambda message: message[0]))
    assert len(found["unknown"]) == MOST_UNKNOWN
    row = {"key": "garage/counter/total ", "topic": "garage/counter/total", "path": ""}
    assert found["unknown"][0] == row | {"first": "1204331", "last": "1204343", "seconds": 60}
    assert not [one for one in found["unknown"] if one["topic"] == "x/uptime"]


def test_a_placed_number_is_listed_also_while_it_stands_still() -> None:
    still: list[Message] = [(60.0 * n, f"{place}/total", "12") for place in ("garage", "attic") for n in range(2)]
    meter = AdapterMeter.model_validate({"id": 1, "preset": "counter-wh", "source": "garage/total"})
    found = answer(sorted(still), settings=SETTINGS.model_copy(update={"meter": (meter,)}))
    assert [one["topic"] for one in found["unknown"]] == ["garage/total"]


@pytest.mark.parametrize("name", ["..", ".", "x{channel}", "a*", "a\x1b[2J", "x" * 300, "a/../b"])
def test_a_name_that_could_lead_elsewhere_makes_no_card(name: str) -> None:
    topics = (f"tele/{name}/SENSOR", f"{name}/tele/SENSOR")
    found = answer([(0, topic, {"ENERGY": {"Total": 10.0}}) for topic in topics])
    assert found["cards"] == []


def flood(found: Discovered, count: int) -> None:
    """Send what a hostile client might."""
    for n in range(count):
        at = START + n
        found.take(Arrived(f"junk/{n}", json.dumps({f"k{k}": k for k in range(60)}).encode(), False, at))
        found.take(Arrived(f"big/{n}", b"9" * (65_536 + n % 2), False, at))
        found.take(Arrived(f"tele/fake{n}/SENSOR", b'{"ENERGY":{"Total":%d}}' % n, False, at))
        config: dict[str, object] = {
            "name": "Energy",
            "stat_t": f"a/{n}",
            "unit_of_meas": "kWh",
            "stat_cla": "total_increasing",
        }
        config |= {"dev": {"ids": [f"d{n}\x1b"], "name": "<script>\n" * 30}, "pad": "x" * (n % 4000)}
        found.take(Arrived(f"homeassistant/sensor/d{n}/config", json.dumps(config).encode(), True, at))


def test_a_hostile_broker_neither_grows_the_memory_nor_stops_a_device_that_was_found() -> None:
    found = Discovered(SETTINGS)
    found.take(Arrived("tele/kitchen/SENSOR", b'{"ENERGY":{"Total":10.0}}', False, START))
    flood(found, 1_200)
    tracemalloc.start()
    flood(found, 1_200)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    found.take(Arrived("tele/kitchen/SENSOR", b'{"ENERGY":{"Total":10.005}}', False, START + 10_000))
    said = found.answer(START + 10_000)
    assert grown < 2 * MOST_BYTES
    assert len(said["cards"]) == MOST_CARDS
    assert said["left_out"] >= discovered.MOST_LEFT_OUT
    (kitchen,) = [one for one in said["cards"] if one["meter"]["source"] == "kitchen"]
    assert kitchen["power_w"] == 1800.0


LEAVES = st.sampled_from(
    ["ENERGY", "Total", "value", "energy", "config", "SENSOR", "tele", "N", "state", "\x00", "{", ".."]
)
TOPICS = st.lists(LEAVES | st.text(max_size=5), min_size=1, max_size=5).map("/".join)
VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=8) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LEAVES | st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.tuples(TOPICS, VALUES.map(json.dumps).map(str.encode) | st.binary(max_size=30)), max_size=20))
def test_of_any_messages_the_utility_takes_the_answer(messages: list[tuple[str, bytes]]) -> None:
    found = Discovered(SETTINGS)
    for n, (topic, payload) in enumerate(messages):
        found.take(Arrived(topic, payload, not n % 3, START + 20_000 * n))
    said = found.answer(START + 10**6)
    DiscoveryAnswer.model_validate_json(json.dumps(said, allow_nan=False))
    for one in said["cards"]:
        check(one)


POWER = announced("sensor", "Power", "abc1/power", "W")


@pytest.mark.parametrize(
    "messages",
    [
        [(60.0 * n, "x", {"a\nb": n, "a" * 1000: n}) for n in range(1, 3)],
        [(60.0 * n, "x" * 250, {"a" * 200: n}) for n in range(1, 3)],
        [*VICTRON, (2, f"{BATTERY}/Soc", {"value": 6400})],
        [(10.0 * n, "tele/kitchen/SENSOR", {"ENERGY": {"Total": 10.0**n}}) for n in range(9)],
        [POWER, (1, "abc1/power", "1e12")],
    ],
    ids=["path", "long path", "level", "rise", "power"],
)
def test_one_strange_message_ends_no_answer(messages: list[Message]) -> None:
    said = answer(messages)
    DiscoveryAnswer.model_validate_json(json.dumps(said))
    assert [one for one in said["cards"] if one["power_w"] is not None or one["level_percent"] is not None] == []


@pytest.mark.parametrize("multi", ["..", "2" * 100])
def test_an_inverter_with_a_name_that_leads_elsewhere_is_not_told(multi: str) -> None:
    said = answer([*VICTRON[:3], (2, f"N/c0619ab1/vebus/{multi}/Soc", {"value": 64})])
    DiscoveryAnswer.model_validate_json(json.dumps(said))
    (found,) = said["cards"]
    assert (found["share"], found["meter"]["channel"]) == (None, "0")
    assert "outside its own folder" in found["note"]


def test_an_adapter_without_a_source_answers_that_nothing_is_there() -> None:
    nothing = {"sources": [], "cards": [], "unknown": [], "left_out": 0}
    listening = Listening(SETTINGS, lambda: 0.0)
    assert listening.answer() == nothing
    listening.stop()


@pytest.mark.parametrize(("address", "status"), [("127.0.0.1", None), ("10.0.0.7", 403)])
def test_what_is_there_is_told_to_the_own_machine_alone(address: str, status: int | None) -> None:
    settings = AdapterSettings(microgrid="r001", http="0.0.0.0:9102", http_plain_text=True)
    request = HttpRequest(method="GET", path="/discovered", address=address, headers={})
    answer = refuse_others(settings, request)
    assert (None if answer is None else answer.status) == status


def test_listening_ends_soon_after_the_last_question_and_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.discovery.listening.ASKED_S", 0.0)
    nowhere = {"address": f"127.0.0.1:{free_ports(1)[0]}"}
    listening = Listening(AdapterSettings.model_validate({"microgrid": "r001", "source": nowhere}), lambda: 0.0)
    for _ in range(2):
        (source,) = listening.answer()["sources"]
        assert not source["connected"]
        assert source["complaint"] in ("not connected yet", "can't be reached")  # as its first try is over or not
        eventually(lambda: listening._found is None)
    listening.stop()
