"""``adapter learn``: from messages alone, the right topics, units and directions."""

import json
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from adapters.cli import app
from adapters.learning.guess import words_of
from adapters.learning.learn import Learner
from adapters.learning.toml import listing, toml_of
from adapters.mapping.presets import known_presets
from adapters.mapping.readers import readers_of
from adapters.recordings import Recorded, messages_of
from adapters.trial import Trial
from commonwatt.config.adapter import AdapterSettings
from tests.unit.adapters.test_presets import CASES, RECORDINGS, settings_of

Flow = tuple[str, int, int, int]

MAKERS = {
    "Tasmota": ("tasmota", "tasmota-sml"),
    "Shelly Gen1": ("shelly-gen1", "shelly-gen1-3em", "shelly-gen1-plug"),
    "Shelly Gen2 and Gen3": ("shelly-em", "shelly-em1", "shelly-pm"),
    "zigbee2mqtt": ("zigbee2mqtt", "zigbee2mqtt-channel"),
    "DSMR": ("dsmr", "p1", "esp8266-p1meter"),
    "ESPHome": ("esphome",),
    "Home Assistant": ("homeassistant-statestream",),
    "OpenEnergyMonitor": ("openenergymonitor", "openenergymonitor-json", "openenergymonitor-csv"),
    "Victron": ("victron", "victron-solar", "victron-vebus"),
    "SenML": ("senml",),
    "JSON": ("json",),
    "plain numbers": ("plain",),
}


class Register(NamedTuple):
    """A register as a rule of one's own would read it."""

    recording: str
    topic: str
    path: str
    unit: str
    direction: str


UNAIDED = {
    "Tasmota": Register("tasmota", "tele/kitchen/SENSOR", "ENERGY.Total", "kWh", "incoming"),
    "Shelly Gen1": Register("shelly-gen1", "shellies/shellyem-B9F1/emeter/1/total_returned", "", "Wh", "outgoing"),
    "Shelly Gen2 and Gen3": Register(
        "shelly-em", "shellypro3em-0cb8/events/rpc", "params.emdata:0.total_act", "Wh", "incoming"
    ),
    "zigbee2mqtt": Register("zigbee2mqtt", "zigbee2mqtt/roof", "produced_energy", "kWh", "outgoing"),
    "DSMR": Register("dsmr", "dsmr/json", "electricity_returned_2", "kWh", "outgoing"),
    "ESPHome": Register("esphome", "washer/sensor/total_energy/state", "", "kWh", "incoming"),
    "Home Assistant": Register(
        "homeassistant-statestream", "homeassistant/sensor/house_energy/state", "", "kWh", "incoming"
    ),
    "OpenEnergyMonitor": Register("openenergymonitor", "emon/JSON/emontx4", "E1", "Wh", "incoming"),
    "Victron": Register("victron", "N/c0619ab1b2c3/battery/512/History/DischargedEnergy", "value", "kWh", "outgoing"),
    "SenML": Register("senml", "things/b7/senml", "b7:energy J", "J", "incoming"),
    "JSON": Register("json", "cellar/heatpump", "phases.1.kwh", "kWh", "incoming"),
    "plain numbers": Register("plain", "attic/fan total", "", "kWh", "incoming"),
}


def recorded(name: str) -> list[Recorded]:
    return list(messages_of((RECORDINGS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()))


def learned(messages: Iterable[Recorded], *, presets: bool = True) -> Learner:
    learner = Learner() if presets else Learner(presets={})
    for message in messages:
        learner.take(message)
    return learner


def settings_from(text: str) -> AdapterSettings:
    content = {"microgrid": "r001", "zone": "Europe/Berlin", **tomllib.loads(text)}
    for meter in content["meter"]:
        meter["rated_w"] = 20_000
    return AdapterSettings.model_validate(content)


def flows(settings: AdapterSettings, messages: Iterable[Recorded]) -> Counter[Flow]:
    """The slots and energies that settings make of messages, by direction."""
    trial = Trial(settings, readers_of(settings))
    for message in messages:
        list(trial.take(message))
    directions = {meter.id: meter.direction for meter in settings.meter}
    return Counter((directions[meter], *total) for (meter, kind), total in trial.totals.items() if kind.is_flow)


def finds_all(preset: str) -> bool:
    messages = recorded(preset)
    wanted = flows(settings_of(preset, CASES[preset].meters), messages)
    wanted = Counter({flow: count for flow, count in wanted.items() if flow[3]})
    return flows(settings_from(toml_of(learned(messages).proposals())), messages) >= wanted


def test_every_preset_belongs_to_a_maker() -> None:
    assert sorted(preset for presets in MAKERS.values() for preset in presets) == sorted(known_presets())


def test_learns_the_meters_of_all_makers_with_presets() -> None:
    right = {maker for maker, presets in MAKERS.items() if all(finds_all(preset) for preset in presets)}
    assert right == set(MAKERS)


def test_learns_a_register_of_most_makers_without_presets() -> None:
    right = set()
    for maker, register in UNAIDED.items():
        proposals = learned(recorded(register.recording), presets=False).proposals()
        found = {(one.series.topic, one.series.path, one.unit, one.direction) for one in proposals}
        right |= {maker} if register[1:] in found else set()
    assert len(UNAIDED) == 12
    assert len(right) >= 10, f"wrong: {set(UNAIDED) - right}"


def test_meter_of_a_preset_takes_three_keys() -> None:
    proposals = [one for one in learned(recorded("tasmota")).proposals() if one.source == "kitchen"]
    assert toml_of(proposals) == '[[meter]]\nid = 1\npreset = "tasmota"\nsource = "kitchen"\n'


def test_unknown_topic_gets_a_rule_and_a_meter() -> None:
    messages = [Recorded(n, "barn/press", json.dumps({"meter": {"kwh": 10 + n / 8}}).encode()) for n in range(5)]
    assert toml_of(learned(messages).proposals()).splitlines() == [
        "[[rule]]",
        'preset = "own-1"',
        'topic = "barn/press"',
        'path = "meter.kwh"',
        'kind = "register"',
        'unit = "kWh"',
        "",
        "[[meter]]",
        "id = 1",
        'preset = "own-1"',
    ]


def test_unit_fits_the_power_beside_the_register() -> None:
    """36 W for 100 s are 1 Wh: the register that rose by 1.0 counts watt-hours, although it has decimals."""
    for rise, unit in ((1.0, "Wh"), (0.001, "kWh"), (1000.0, "mWh")):
        messages = [
            Recorded(n, "barn/press", json.dumps({"total": 700 + rise * n / 10, "power": 36}).encode(), n * 10_000)
            for n in range(11)
        ]
        assert [one.unit for one in learned(messages).proposals()] == [unit]


def test_power_of_a_device_with_a_longer_name_does_not_count() -> None:
    messages = [
        Recorded(n, f"barn/{name}", json.dumps({"total": power + n / 10, "power": power}).encode(), n * 10_000)
        for n in range(11)
        for name, power in (("press", 36), ("press2", 36_000))
    ]
    assert [(one.series.topic, one.unit) for one in learned(messages).proposals()] == [
        ("barn/press", "Wh"),
        ("barn/press2", "kWh"),
    ]


START = 1_790_000_100


def p1_json(n: int) -> str:
    return json.dumps(
        {
            "timestamp": f"{START + n * 10}",
            "energy_delivered_tariff1": f"{1234.567 + n * 0.005:.3f}",
            "energy_delivered_tariff2": "999.000",
            "energy_returned_tariff1": "0.500",
            "energy_returned_tariff2": "77",
            "power_delivered": "1.800",
        }
    )


def telegram(n: int) -> str:
    return (
        f"/ISk5\r\n0-0:1.0.0(2609211615{n:02}S)\r\n1-0:1.8.1(001234.{100 + n * 5:03}*kWh)\r\n"
        "1-0:1.8.2(000001.000*kWh)\r\n1-0:1.8.3(000002.000*kWh)\r\n1-0:1.7.0(01.800*kW)\r\n!0"
    )


def every_10_s(topic: str, payload: Callable[[int], str]) -> list[Recorded]:
    return [Recorded(n, topic, payload(n).encode(), (START + n * 10) * 1000) for n in range(12)]


def test_all_tariffs_of_a_meter_make_one_rule_with_the_messages_time_and_one_unit() -> None:
    """A tariff that rested was left out; one tariff was Wh and the other kWh."""
    proposals = learned(every_10_s("smart/p1", p1_json)).proposals()
    rules = tomllib.loads(toml_of(proposals))["rule"]
    assert [(one["path"], one["unit"], one["time"]) for one in rules] == [
        (["energy_delivered_tariff1", "energy_delivered_tariff2"], "kWh", "timestamp"),
        (["energy_returned_tariff1", "energy_returned_tariff2"], "kWh", "timestamp"),
    ]
    assert [one.direction for one in proposals] == ["incoming", "outgoing"]


def test_tariffs_that_no_preset_adds_up_make_a_rule() -> None:
    (rule,) = tomllib.loads(toml_of(learned(every_10_s("dsmr/raw", telegram)).proposals()))["rule"]
    assert (rule["path"], rule["time"]) == (["1-0:1.8.1", "1-0:1.8.2", "1-0:1.8.3"], "time")


def test_tariffs_on_topics_of_their_own_are_added_up() -> None:
    night = every_10_s("p1m/energy_import_t1", lambda n: f"{4000 + 5 * n}")
    day = every_10_s("p1m/energy_import_t2", lambda _: "5000")
    (rule,) = tomllib.loads(toml_of(learned(night + day).proposals()))["rule"]
    assert rule["topic"] == ["p1m/energy_import_t1", "p1m/energy_import_t2"]


def test_pulses_are_found_and_said_to_need_a_scale_and_a_clock_is_no_register() -> None:
    messages = every_10_s("gw/pulse", lambda n: json.dumps({"count": 500 + n * 5, "t": 5000 + n * 10_000}))
    learner = learned(messages)
    (proposal,) = learner.proposals()
    assert (proposal.series.path, proposal.unit, proposal.time) == ("count", "Wh", "")
    assert "# pulses: set scale" in toml_of([proposal])
    assert [line for line in listing(learner, [proposal]) if "pulses: set scale" in line]


def test_a_time_without_a_zone_is_said_to_need_one() -> None:
    local = "2026-09-21T16:{:02}:{:02}"
    messages = every_10_s("x/y", lambda n: json.dumps({"at": local.format(15 + n // 6, n % 6 * 10), "kwh": 1 + n / 8}))
    (proposal,) = learned(messages).proposals()
    assert (proposal.time, proposal.doubts) == ("at", ("its time has no zone: set zone of the rule",))


def test_power_is_proposed_where_there_is_no_register() -> None:
    messages = [Recorded(n, "roof/inverter/power", str(-300 - n).encode()) for n in range(3)]
    (proposal,) = learned(messages).proposals()
    assert 'kind = "power"\nunit = "W"\nsign = "positive"' in toml_of([proposal])


def test_export_that_rests_is_proposed_and_an_import_that_rests_is_not() -> None:
    payloads = [
        json.dumps({"kwh_in": 9 + n / 8, "kwh_out": 3.5, "other_kwh": 1.5, "zero_out_kwh": 0}) for n in range(3)
    ]
    proposals = learned(Recorded(n, "barn/meter", payload.encode()) for n, payload in enumerate(payloads)).proposals()
    assert [(one.series.path, one.direction) for one in proposals] == [("kwh_in", "incoming"), ("kwh_out", "outgoing")]


def test_retained_message_alone_shows_a_register() -> None:
    learner = learned([Recorded(1, "barn/energy_total", b"12.5", None, True)])
    (line,) = listing(learner, learner.proposals())
    assert line.startswith("barn/energy_total: register, incoming, 12.5 kWh, rose 0 times, fell 0; the unit is a guess")


def test_same_reading_in_three_formats_is_one_meter() -> None:
    proposals = learned(recorded("openenergymonitor")).proposals()
    assert [(one.preset, one.source, one.channel) for one in proposals] == [("openenergymonitor-json", "emontx4", "E1")]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ExportActive", {"export", "active"}),
        ("total_act_ret", {"total", "act", "ret"}),
        ("E1", {"e1", "e"}),
        ("gas_meter_m3", {"gas", "meter", "m3"}),
    ],
)
def test_names_of_any_style_are_words(name: str, words: set[str]) -> None:
    assert words_of(name) == words


def test_broken_messages_are_passed_over() -> None:
    payloads = (b"", b"\xff", b"{", b"[1,2", b"/", b"[" * 5000, b"x" * 70_000, b"NaN", b'{"a":{"a":null}}', b",,,")
    learner = learned(Recorded(n, "t", payload) for n, payload in enumerate(payloads))
    assert learner.proposals() == []


def test_command_prints_toml_that_the_dry_run_takes(tmp_path: Path) -> None:
    runner = CliRunner()
    printed = runner.invoke(app, ["learn", str(RECORDINGS / "zigbee2mqtt.jsonl")])
    assert printed.exit_code == 0
    assert "# zigbee2mqtt/roof produced_energy: register, outgoing, 100.6250 kWh" in printed.output
    (tmp_path / "adapter.toml").write_text(printed.output)
    test = ["test", "--config", str(tmp_path / "adapter.toml"), "--quiet", str(RECORDINGS / "zigbee2mqtt.jsonl")]
    assert runner.invoke(app, test).exit_code == 0


@pytest.mark.parametrize(
    ("text", "read"), [("", "0 messages read; "), ("tele/kitchen/LWT Online\n", "1 message read; ")]
)
def test_command_says_that_nothing_was_found(tmp_path: Path, text: str, read: str) -> None:
    (tmp_path / "messages.txt").write_text(text)
    done = CliRunner().invoke(app, ["learn", str(tmp_path / "messages.txt")])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{read}no register, power or level was found. Record all topics")


def test_command_needs_a_file_or_a_broker() -> None:
    for arguments in ([], ["--live"], ["x.jsonl", "--live"]):
        assert CliRunner().invoke(app, ["learn", *arguments]).exit_code == 2


names = st.sampled_from(
    ["energy", "total", "kwh", "power", "E1", "", "*", "a.b", "{device}", "\\", "\x7f", "ä", '"', "\n"]
)
leaves = st.integers(-5, 9) | st.sampled_from(["1.5", "x", None])
messages = st.tuples(
    st.lists(names | st.sampled_from(["tele", "SENSOR", "+", "#", "x" * 250]), max_size=4).map("/".join),
    st.dictionaries(names, leaves | st.dictionaries(names, leaves, max_size=3), max_size=3).map(json.dumps)
    | st.lists(st.fixed_dictionaries({"n": names, "u": st.sampled_from(["Wh", "W"]), "v": leaves})).map(json.dumps)
    | st.sampled_from(["5", "1,2.5", "/x 1-0:1.8.0(5*kWh)"]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(messages, max_size=6))
@example([("energy/\n", '[{"n": "energy", "u": "Wh", "v": 0}]')])
def test_printed_toml_is_valid_whatever_was_heard(heard: list[tuple[str, str]]) -> None:
    learner = learned(Recorded(n, topic, payload.encode()) for n, (topic, payload) in enumerate(heard))
    proposals = learner.proposals()
    list(listing(learner, proposals))
    if proposals:
        readers = readers_of(settings_from(toml_of(proposals)))
        readings = [one for topic, payload in heard for one in readers.read(topic, payload.encode())]
        read_ones = {one.reader.meter for one in readings if one.value is not None}
        assert read_ones == set(range(1, len(proposals) + 1))


@pytest.mark.parametrize("key", ["power\ud800", "x\n[adapter.source]\npower", "\x1b]0;x\x07power"])
def test_a_key_that_no_file_can_have_or_that_ends_a_line_leaves_the_toml_whole(tmp_path: Path, key: str) -> None:
    heard = [json.dumps({"topic": "dev/x", "payload": json.dumps({key: n, "energy_total": n})}) for n in range(5)]
    (tmp_path / "heard.jsonl").write_text("\n".join(heard))
    done = CliRunner().invoke(app, ["learn", str(tmp_path / "heard.jsonl")])
    assert done.exit_code == 0, done.output
    assert tomllib.loads(done.stdout).keys() == {"adapter", "rule", "meter"}
    assert "dev/x energy_total: register" in done.stdout
    assert "\x1b" not in done.stdout


def test_numbers_too_near_to_zero_are_left_out() -> None:
    learner = Learner()
    for n, energy in enumerate(("0", "1e-400", "2e-400", "0e-99999999")):
        payload = f'{{"energy_total": {energy}, "power": 5}}'.encode()
        learner.take(Recorded(n + 1, "dev/x", payload, 1_790_000_000_000 + n * 20_000))
    assert sum(map(len, listing(learner, learner.proposals()))) < 500
