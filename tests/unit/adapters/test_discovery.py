"""``adapter discover``: what makers announce to Home Assistant is right, or refused with the reason."""

import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from adapters.cli import app
from adapters.commands import commands_of as compiled
from adapters.discovery import announced as discovery
from adapters.discovery.announced import (
    FILTERS,
    MAX_ENTITIES,
    MAX_FAULTS,
    Entity,
    announced_in,
    numbers_in,
    place_of,
    plan_of,
)
from adapters.mapping.payloads import MAX_BYTES
from adapters.mapping.readers import readers_of
from adapters.messages import RecordedMessage
from commonwatt.config.adapter import AdapterSettings
from commonwatt.site.places import HEADER

DISCOVERIES = Path(__file__).parent / "discoveries"
HEAD = '[adapter]\nmicrogrid = "r001"\n'
VENUS = "hm2mqtt/HMG-50/device/a1b2c3d4e5f6/data"
# What a person decides on is a comment.
COMMENT = re.compile(r"^# (?=\[\[|\w+ = )", re.MULTILINE)


class Case(NamedTuple):
    """What a maker announces."""

    source: str  # what the recording follows
    meters: list[tuple[str, str, str, str]]  # topic, path, unit and direction of meters that count
    undecided: Sequence[tuple[str, str, str, str, str]] = ()  # the same of meters that are comments, and the reason
    commands: Sequence[str] = ()  # topics of commands
    left_out: Sequence[str] = ()  # entities that are refused, and the reason


CASES = {
    "opendtu": Case(
        "github tbnobody/OpenDTU: src/MqttHandleHass.cpp",
        [("solar/114190641177/0/yieldtotal", "", "kWh", "outgoing")],
        commands=["solar/114190641177/cmd/limit_nonpersistent_absolute"],
        left_out=["Balcony: YieldDay: begins again: day", "Balcony: Power: a register counts"],
    ),
    "ahoydtu": Case(
        "github lumapu/ahoy: src/publisher/pubMqtt.h",
        [],
        [(f"inverter/Roof/ch{n}/YieldTotal", "", "kWh", "outgoing", "one of several alike") for n in range(2)],
        left_out=["ch0 YieldDay: begins again", "ch1 YieldDay: begins again", "ch0 P_AC: a register counts"],
    ),
    "hm2mqtt": Case(
        "github tomquist/hm2mqtt: src/homeAssistantDiscovery.ts (Marstek Venus)",
        [
            (VENUS, "totalChargingCapacity", "kWh", "incoming"),
            (VENUS, "totalDischargeCapacity", "kWh", "outgoing"),
        ],
        commands=["hm2mqtt/HMG-50/control/a1b2c3d4e5f6/max-discharge-power"],
        left_out=["Daily Charging", "Combined Power", "Working Mode: template not translated: {% set mapping"],
    ),
    "solaredge2mqtt": Case(
        "github DerOetzi/solaredge2mqtt: solaredge2mqtt/services/homeassistant",
        [
            ("solaredge/modbus/meter/meter0", "energy.totalexport", "Wh", "outgoing"),
            ("solaredge/modbus/meter/meter0", "energy.totalimport", "Wh", "incoming"),
        ],
        left_out=["SolarEdge meter0: Power: a register counts"],
    ),
    "wmbusmeters": Case(
        "github wmbusmeters/wmbusmeters-ha-addon: mqtt_discovery/abbb23.json, sharky774.json",
        [("wmbusmeters/flat 3", "total_energy_consumption_kwh", "kWh", "incoming")],
        [("wmbusmeters/heat", "total_energy_consumption_kwh", "kWh", "incoming", "state_class total may fall")],
    ),
    "smartevse": Case(
        "github SmartEVSE/SmartEVSE-3: announcements in esp32.cpp",
        [("SmartEVSE-51446/EVTotalEnergyCharged", "", "Wh", "incoming")],
        commands=["SmartEVSE-51446/Set/Mode"],
        left_out=[
            "EV Energy Charged: no register: state_class missing",
            "EV Charge Power: a register counts",
            "Charge Current Override: template not translated: {{ value | int * 10 }}",
        ],
    ),
    "amsreader": Case(
        "github UtilitechAS/amsreader-firmware: lib/HomeAssistantMqttHandler",
        [("amsmeter/energy", "tPI", "kWh", "incoming"), ("amsmeter/energy", "tPO", "kWh", "outgoing")],
        left_out=[
            "Current month used: no register",
            "Accumulated reactive import: unit missing",
            "Active import: a register counts",
            "Active export: a register counts",
        ],
    ),
    "rtlamr2mqtt": Case(
        "github allangood/rtlamr2mqtt: rtlamr2mqtt-addon/app/helpers/ha_messages.py (form of a device)",
        [],
        [("rtlamr2mqtt/33333333/state", "reading", "kWh", "", "fill in the direction")],
    ),
    "zendure2mqtt": Case(
        "github SukramJ/go-zendure2mqtt: internal/coordinator/testdata/discovery_bundles.json (form of a device)",
        [],
        left_out=[
            f"SolarFlow: {name}: template not translated"
            for name in ("Battery level", "Grid input power", "Home output power")
        ],
    ),
    "openmqttgateway": Case(
        "github 1technophile/OpenMQTTGateway: DT24 in gatewayBT",
        [],
        [("home/OMG_ESP32_BLE/BTtoMQTT/A4C138AABBCC", "power", "W", "", "fill in the direction")],
        left_out=["DT24-volt: unit V", "DT24-watt-hour: unit kWh"],
    ),
    "pyfusionsolar": Case(
        "github JasperE84/PyFusionSolarDataRelay: example of Home Assistant's configuration",
        [],
        [("energy/pyfusionsolar", "values.cumulativeEnergy", "kWh", "", "fill in the direction")],
        left_out=["Solar power: a register counts"],
    ),
    "openbeken": Case(
        "github openshwprojects/OpenBK7231T_App: src/httpserver/hass.c",
        [],
        [("obk4FC0A1/energycounter/get", "", "Wh", "", "fill in the direction")],
        commands=["obk4FC0A1/1/set"],
        left_out=["Energy Today: begins again: today", "Power: a register counts"],
    ),
}


def discover(tmp_path: Path, messages: Path, *options: str, typed: str = "") -> tuple[int, str, str]:
    config = tmp_path / "adapter.toml"
    if not config.exists():
        config.write_text(HEAD)
    done = CliRunner().invoke(app, ["discover", "--config", str(config), str(messages), *options], input=typed)
    return done.exit_code, done.stdout, done.stderr


def read_by(text: str) -> dict[tuple[str, str, str, str], Any]:
    """The meters of a TOML text, by topic, path, unit and direction."""
    content = tomllib.loads(text)
    rules = {rule["preset"]: rule for rule in reversed(content.get("rule", []))}
    found = {}
    for meter in content.get("meter", []):
        rule = rules[meter["preset"]]
        found[rule["topic"], rule.get("path", ""), rule["unit"], meter.get("direction", "incoming")] = meter | {
            "rule": rule
        }
    return found


def commands_of(text: str) -> list[dict[str, Any]]:
    found = tomllib.loads(COMMENT.sub("", text))
    presets = {meter["preset"]: meter.get("obeys") for meter in found.get("meter", [])}
    commands: list[dict[str, Any]] = found.get("command", [])
    assert all(presets.get(one["preset"], one["kind"]) == one["kind"] for one in commands), "and its meter obeys it"
    return [{key: value for key, value in one.items() if key != "preset"} for one in commands]


@pytest.mark.parametrize("maker", CASES)
def test_a_makers_discovery_is_right_or_refused_with_the_reason(tmp_path: Path, maker: str) -> None:
    case = CASES[maker]
    code, text, told = discover(tmp_path, DISCOVERIES / f"{maker}.jsonl")
    undecided = [one[:4] for one in case.undecided]
    assert set(read_by(text)) == set(case.meters)
    assert set(read_by(COMMENT.sub("", text))) == {*case.meters, *undecided}
    assert text.count("# [[meter]]") == len(undecided)
    assert all(f"# {one[4]}" in text for one in case.undecided)
    assert [command["topic"] for command in commands_of(text)] == [*case.commands]
    left_out = [line for line in text.splitlines() if line.startswith("# left out: ")]
    assert len(left_out) == len(case.left_out)
    assert all(any(words in line for line in left_out) for words in case.left_out)
    assert code == (0 if case.meters or undecided else 1)
    assert ("no new meter is announced" in told) == (code == 1)
    readers_of(AdapterSettings.model_validate({"microgrid": "r001", **tomllib.loads(text)}))


def test_every_recording_has_a_case() -> None:
    assert {path.stem for path in DISCOVERIES.iterdir()} == set(CASES)
    assert len(CASES) == 12


def test_a_factor_is_the_rules_scale(tmp_path: Path) -> None:
    _, text, _ = discover(tmp_path, DISCOVERIES / "pyfusionsolar.jsonl")
    assert 'scale = "0.001"' in text


def test_a_batterys_level_is_a_rule_of_its_first_meter(tmp_path: Path) -> None:
    _, text, _ = discover(tmp_path, DISCOVERIES / "hm2mqtt.jsonl")
    first, level, second = tomllib.loads(text)["rule"]
    assert (level["kind"], level["path"], level["unit"], level["preset"]) == (
        "level",
        "batterySoc",
        "%",
        first["preset"],
    )
    assert second["preset"] != first["preset"]
    assert "Battery SOC: needs the meter's capacity_wh" in text


def test_only_the_devices_own_report_is_its_restart(tmp_path: Path) -> None:
    """The folder of the topic has the device's name; a report of a bridge or one of several is none."""
    restarts = {
        maker: re.findall(r"^restart_\w+ = (.*)$", discover(tmp_path, DISCOVERIES / f"{maker}.jsonl")[1], re.MULTILINE)
        for maker in CASES
    }
    assert {maker: found for maker, found in restarts.items() if found} == {
        "openbeken": ['"obk4FC0A1/connected"', '"online"'],
        "smartevse": ['"SmartEVSE-51446/connected"', '"online"'],
    }


def test_a_switch_reduces_the_load_by_its_off_and_confirms_it(tmp_path: Path) -> None:
    _, text, _ = discover(tmp_path, DISCOVERIES / "openbeken.jsonl")
    assert commands_of(text) == [
        {
            "kind": "reduce",
            "topic": "obk4FC0A1/1/set",
            "on": "0",
            "off": "1",
            "failsafe": "will",
            "confirm": {"topic": "obk4FC0A1/1/get", "on": "0", "off": "1"},
        }
    ]


@pytest.mark.parametrize(
    ("folder", "topic"),
    [
        ("plug", "plug/relay/set"),
        ("plug", "victron/W/abc/vebus/276/Mode"),
        # The device took the name of a folder of others.
        ("victron/W", "victron/W/abc/vebus/276/Mode"),
        ("zigbee2mqtt", "zigbee2mqtt/bridge/request/permit_join"),
        ("zigbee2mqtt/bridge", "zigbee2mqtt/bridge/request/permit_join"),
        ("evcc", "evcc/loadpoints/1/mode/set"),
    ],
)
def test_a_command_is_a_comment_that_a_person_enables(folder: str, topic: str) -> None:
    """A device announces its own names and topics as it likes, such as those of another device."""
    keys = {"dev": {"ids": folder.rpartition("/")[2]}}
    configs = [
        plug("energy", "Import", stat_t=f"{folder}/energy", **keys),
        switch(stat_t=f"{folder}/relay", cmd_t=topic, **keys),
    ]
    text = snippet(announced(configs))
    (meter,) = tomllib.loads(text)["meter"]
    assert ("command" in tomllib.loads(text), "obeys" in meter) == (False, False)
    assert "Relay: an announcement may name another device's topic: if this is the device's own, fill in" in text
    assert [one["topic"] for one in commands_of(text)] == [topic]
    enabled = COMMENT.sub("", text).replace("its meter's preset", meter["preset"])
    enabled = enabled.replace("\n[[meter]]\n", '\n[[meter]]\nobeys = "reduce"\n')
    (command,) = compiled(AdapterSettings.model_validate(tomllib.loads(f"microgrid = 'r001'\n{enabled}")))
    assert command.kind == "reducing"


def test_a_select_is_a_candidate_that_a_person_completes(tmp_path: Path) -> None:
    _, text, _ = discover(tmp_path, DISCOVERIES / "smartevse.jsonl")
    assert "Mode: fill in on and off, of: Off, Normal, Solar, Smart, Pause; an announcement" in text
    _, text, _ = discover(tmp_path, DISCOVERIES / "hm2mqtt.jsonl")
    assert "fill in on and off, of: 0 to 2500 W; an announcement may name another" in text
    (command,) = commands_of(text)
    assert (command["kind"], command["on"], command["off"]) == ("share", "", "")


@pytest.mark.parametrize(
    ("template", "path", "scale"),
    [
        ("", "", "1"),
        ("{{ value }}", "", "1"),
        ("{{value_json.a.b}}", "a.b", "1"),
        ("{{ value_json['a b'].c | float }}", "a b.c", "1"),
        ('{{ value_json["a.b"] }}', r"a\.b", "1"),
        ("{{ value_json.a[0].b }}", "a.0.b", "1"),
        ("{{ value_json[1]|float(0) }}", "1", "1"),
        ("{{ value_json.a | float * 0.001 }}", "a", "0.001"),
        ("{{ (value_json.a | float / 1000) | round(3) }}", "a", "0.001"),
        ("{{ (value_json.a | float) / 1000 }}", "a", "0.001"),
        ("{{- value | is_defined | int * 10 -}}", "", "10"),
    ],
)
def test_a_simple_template_is_translated(template: str, path: str, scale: str) -> None:
    assert place_of(template) == (path, Decimal(scale))


@pytest.mark.parametrize(
    "template",
    [
        "{{ value_json.a * 0.001 | round(2) }}",  # the filter is of the factor
        "{{ value_json.a / 3 }}",  # no finite decimal
        "{{ value_json.a / 0 }}",
        "{{ value_json.a * 0 }}",
        "{{ value_json.a * -1 }}",
        "{{ value_json.a + value_json.b }}",
        "{{ value_json.a | default(0) }}",
        "{{ value_json['*'] }}",
        "{{ value_json['{device}'] }}",
        "{{ value_json.a if value_json.a else 0 }}",
        "{% if value %}{{ value }}{% endif %}",
        "{{ states('sensor.a') }}",
        "{{ (value_json.a }}",
        "value_json.a",
        "{{ value_json" + ".a | float" * 5000,
    ],
)
def test_another_template_is_named_and_not_guessed(template: str) -> None:
    assert place_of(template) is None
    config = plug("energy", "Import") | {"val_tpl": template}
    _, refused = plan_of(announced([config]), ())
    assert refused == [f"Plug: Import: template not translated: {template[:257]}"]


def plug(device_class: str, name: str, **keys: Any) -> dict[str, Any]:
    unit = {"power": "W", "battery": "%"}.get(device_class, "kWh")
    return {
        "component": "sensor",
        "name": name,
        "dev_cla": device_class,
        "stat_cla": "total_increasing",
        "unit_of_meas": unit,
        "stat_t": f"plug/{name}",
        "dev": {"ids": "plug", "name": "Plug"},
        **keys,
    }


def switch(**keys: Any) -> dict[str, Any]:
    topics = {"stat_t": "plug/relay", "cmd_t": "plug/relay/set"}
    return plug("energy", "Relay", component="switch", dev_cla="outlet", **(topics | keys))


def heard(topic: str, payload: Any) -> RecordedMessage:
    return RecordedMessage(1, topic, payload if isinstance(payload, bytes) else json.dumps(payload).encode())


def announced(configs: Iterable[dict[str, Any]]) -> list[Entity]:
    messages = (heard(f"homeassistant/{c['component']}/node/{n:05}/config", c) for n, c in enumerate(configs))
    return announced_in(messages)[0]


def snippet(entities: Iterable[Entity], **settings: Any) -> str:
    devices, _ = plan_of(entities, ())
    return "".join(discovery.snippet(devices, AdapterSettings.model_validate({"microgrid": "r001", **settings})))


def test_a_base_topic_and_long_names_are_read() -> None:
    (meter,) = read_by(snippet(announced([plug("energy", "Import", **{"~": "base/plug", "stat_t": "~/energy"})])))
    assert meter[0] == "base/plug/energy"
    config: dict[str, Any] = {
        "component": "sensor",
        "name": "Import",
        "device_class": "energy",
        "state_class": "total_increasing",
    }
    config |= {"unit_of_measurement": "kWh", "state_topic": "t", "device": {"identifiers": ["x"], "name": "X"}}
    assert read_by(snippet(announced([config])))


def test_an_energy_without_a_class_is_known_by_its_unit() -> None:
    config = plug("energy", "Import")
    del config["dev_cla"]
    assert read_by(snippet(announced([config])))


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"unit_of_meas": "GJ"}, "unit GJ"),
        ({"unit_of_meas": None}, "unit missing"),
        ({"stat_cla": "measurement"}, "no register: state_class measurement"),
        ({"stat_cla": "total", "last_reset_value_template": "{{ value }}"}, "begins again: last_reset"),
        ({"name": "EnergyToday"}, "begins again: today"),
        ({"stat_t": "plug/+"}, "can't be used: plug/+"),
        ({"stat_t": "plug/{device}"}, "can't be used: plug/{device}"),
        ({"stat_t": "plug/\x1b[2J"}, "can't be used: plug/\x1b[2J"),
        ({"stat_t": "plug/\ud800"}, "can't be used: plug/\ud800"),
        ({"stat_t": "t" * 300}, f"can't be used: {'t' * 257}"),
        ({"stat_t": ["plug"]}, "can't be used: a missing topic"),
    ],
)
def test_a_register_that_cannot_be_used_is_named_with_the_reason(keys: dict[str, Any], why: str) -> None:
    config = plug("energy", "Import") | keys
    devices, refused = plan_of(announced([config]), ())
    assert (devices, refused) == ([], [f"Plug: {config['name']}: {why}"])


def test_a_level_without_a_meter_is_left_out_and_named_if_it_is_of_energy() -> None:
    storage = plug("energy_storage", "Store", dev={"ids": "store"})
    devices, refused = plan_of(announced([plug("battery", "Door"), storage]), ())
    assert (devices, refused) == ([], ["store: Store: no new meter for a level"])


@pytest.mark.parametrize(
    "keys",
    [
        {"command_template": "{{ value }}"},
        {"cmd_t": "plug/#"},
        {"pl_off": "{watts}"},
        {"pl_on": "line\nfeed"},
    ],
)
def test_a_command_that_cannot_be_used_is_named(keys: dict[str, Any]) -> None:
    devices, refused = plan_of(announced([plug("energy", "Import"), switch() | keys]), ())
    assert devices[0][2] == []
    assert len(refused) == 1
    assert refused[0].startswith("Plug: Relay: ")


def test_a_setting_is_no_command_and_two_switches_are_candidates() -> None:
    assert "command" not in snippet(announced([plug("energy", "Import"), switch(ent_cat="config")]))
    text = snippet(announced([plug("energy", "Import"), switch(), switch(cmd_t="plug/2")]))
    assert text.count("\n# [[command]]\n") == 2


def test_a_state_that_is_not_translated_leaves_the_command_without_a_confirmation() -> None:
    config = switch(val_tpl="{{ value_json.val | lower }}")
    text = snippet(announced([plug("energy", "Import"), config]))
    (command,) = commands_of(text)
    assert "confirm" not in command
    assert "# Plug: Relay has no confirmation: template not translated: {{ value_json.val | lower }}: an" in text
    (command,) = commands_of(snippet(announced([plug("energy", "Import"), switch(val_tpl="{{ value_json.s }}")])))
    assert command["confirm"] == {"topic": "plug/relay", "path": "s", "on": "OFF", "off": "ON"}


def test_a_terminal_is_asked_for_a_direction_that_nothing_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.cli.sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    for typed, direction in (("outgoing", "outgoing"), ("i", "incoming"), ("", "")):
        _, text, told = discover(tmp_path, DISCOVERIES / "openbeken.jsonl", typed=f"{typed}\n")
        assert "direction of obk4FC0A1: Energy Total" in told
        text = text[text.index("#") :]  # behind what was typed
        (meter,) = read_by(COMMENT.sub("", text))
        assert meter[3] == direction
        assert bool(tomllib.loads(text).get("meter")) == bool(direction)


def test_write_adds_what_is_new_once_and_keeps_what_is_there(tmp_path: Path) -> None:
    config = tmp_path / "adapter.toml"
    before = HEAD.encode() + b'# mine, with \xc3\xa4\r\n[[meter]]\r\nid = 7\r\npreset = "plain"\r\nsource = "x"'
    config.write_bytes(before)
    config.chmod(0o640)
    code, text, told = discover(tmp_path, DISCOVERIES / "solaredge2mqtt.jsonl", "--write")
    assert (code, config.stat().st_mode & 0o777) == (0, 0o640)
    assert config.read_bytes().startswith(before)
    assert told.startswith(f"added to {config}")
    assert {meter["id"] for meter in tomllib.loads(config.read_text())["meter"]} == {7, 8, 9}
    once = config.read_bytes()
    code, text, told = discover(tmp_path, DISCOVERIES / "solaredge2mqtt.jsonl", "--write")
    assert (code, config.read_bytes()) == (1, once)
    assert "[[" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["adapter.toml"]


def test_a_file_of_the_office_is_not_the_place_for_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "adapter.toml").write_text(HEADER + HEAD)
    _, _, told = discover(tmp_path, DISCOVERIES / "solaredge2mqtt.jsonl", "--write")
    assert "the next bundle replaces it: put these tables there, as [[microgrid.adapter.meter]]" in told


def test_write_of_undecided_meters_is_not_repeated(tmp_path: Path) -> None:
    assert discover(tmp_path, DISCOVERIES / "ahoydtu.jsonl", "--write")[0] == 0
    once = (tmp_path / "adapter.toml").read_bytes()
    assert discover(tmp_path, DISCOVERIES / "ahoydtu.jsonl", "--write")[0] == 1
    assert (tmp_path / "adapter.toml").read_bytes() == once


def test_a_value_of_a_preset_is_not_printed_again(tmp_path: Path) -> None:
    (tmp_path / "adapter.toml").write_text(HEAD + '[[meter]]\nid = 1\npreset = "json"\nsource = "t"\nchannel = "a"\n')
    lines = [
        json.dumps(
            {"topic": f"homeassistant/sensor/{n}/config", "payload": json.dumps(plug("energy", "Import", **keys))}
        )
        for n, keys in enumerate([{"stat_t": "t", "val_tpl": "{{ value_json.a }}"}, {"stat_t": "t2"}])
    ]
    (tmp_path / "heard.jsonl").write_text("\n".join(lines))
    _, text, _ = discover(tmp_path, tmp_path / "heard.jsonl")
    # The other one is alike to a meter that is there.
    assert [one[0] for one in read_by(COMMENT.sub("", text))] == ["t2"]
    assert "one of several alike" in text


def test_a_file_that_would_be_wrong_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.cli.snippet", lambda *_: ['[[meter]]\nid = 1\npreset = "no-such"\n'])
    code, _, told = discover(tmp_path, DISCOVERIES / "solaredge2mqtt.jsonl", "--write")
    assert code == 2
    assert told.startswith(f"{tmp_path / 'adapter.toml'} is as it was: ")
    assert (tmp_path / "adapter.toml").read_text() == HEAD


def test_broken_announcements_are_counted_with_their_topic() -> None:
    payloads = (b"\xff", b"{", b"[]", b"[" * 5000, b"1", b"x" * (MAX_BYTES + 1), b'{"dev": null}', b'{"dev": []}')
    broken = [heard(f"homeassistant/sensor/{n}/config", payload) for n, payload in enumerate(payloads)]
    broken.append(heard("homeassistant/device/x/config", {"dev": {"ids": "x"}}))
    entities, faults = announced_in(broken)
    assert (entities, len(faults)) == ([], len(broken))
    assert all(text.startswith("homeassistant/") for text in faults)
    _, faults = announced_in(heard(f"homeassistant/sensor/{n}/config", b"{") for n in range(1000))
    assert (len(faults), faults.total()) == (MAX_FAULTS + 1, 1000)


def test_a_million_entities_are_bounded() -> None:
    device = json.dumps({"cmps": {str(n): {"p": "sensor"} for n in range(1000)}}).encode()
    entities, faults = announced_in(heard(f"homeassistant/device/{n}/config", device) for n in range(1000))
    assert len(entities) == MAX_ENTITIES
    assert faults.total() == 1000 - MAX_ENTITIES // 1000


def test_what_is_left_out_is_counted_beyond_the_first(tmp_path: Path) -> None:
    configs = [plug("energy", f"Import {n}", unit_of_meas="GJ") for n in range(300)]
    lines = [
        json.dumps({"topic": f"homeassistant/sensor/{n}/config", "payload": json.dumps(c)})
        for n, c in enumerate(configs)
    ]
    lines += [json.dumps({"topic": "homeassistant/sensor/x/config", "payload": "{"})] * 2
    (tmp_path / "heard.jsonl").write_text("\n".join(lines))
    code, text, _ = discover(tmp_path, tmp_path / "heard.jsonl")
    assert (code, text.count("unit GJ")) == (1, 200)
    assert text.endswith("# left out: 101 more\n")


def test_an_empty_payload_ends_an_announcement_and_a_new_one_replaces_it() -> None:
    first, second, end = (heard("homeassistant/sensor/x/config", payload) for payload in (FIRST, SECOND, b""))
    assert [one.texts["name"] for one in announced_in([first, second])[0]] == ["Export"]
    assert announced_in([first, second, end])[0] == []


def test_other_topics_are_no_announcements() -> None:
    others = ("homeassistant/status", "homeassistant/sensor/a/b/c/config", "other/sensor/a/config")
    assert announced_in(heard(topic, FIRST) for topic in others) == ([], Counter())
    assert [filter_.count("/") for filter_ in FILTERS] == [3, 4]


FIRST, SECOND = plug("energy", "Import"), plug("energy", "Export")
KEYS = "dev_cla stat_cla unit_of_meas stat_t val_tpl name cmd_t pl_on pl_off stat_on avty avty_t ~ dev cmps p ops min"
WORDS = 'energy battery total_increasing kWh % ~/a a/~ ~ a/+ \x7f " ä sensor switch number import \ud800 # {{value*2}}'
texts = st.sampled_from([*WORDS.split(" "), "", "{{ value_json.a }}", "\x85", "\u2028", "x" * 300])
values = st.recursive(
    texts | st.none() | st.integers() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS.split()), inner, max_size=9),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["sensor", "switch", "device"]), values), max_size=5))
def test_printed_toml_is_valid_whatever_was_announced(announcements: list[tuple[str, Any]]) -> None:
    messages = [heard("homeassistant/sensor/first/config", FIRST)]
    for n, (component, config) in enumerate(announcements):
        full = SECOND | (config if isinstance(config, dict) else {})
        messages += [heard(f"homeassistant/{component}/{n}/config", config)]
        messages += [heard(f"homeassistant/{component}/{n}/full/config", full)]
    text = snippet(announced_in(messages)[0])
    text.encode()
    readers_of(AdapterSettings.model_validate({"microgrid": "r001", **tomllib.loads(text)}))
    tomllib.loads(COMMENT.sub("", text))


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ("5.5", ""),
        ("1,2", "1"),
        ('[{"n": "e", "u": "Wh", "v": 5}]', "0.v"),
        ("/x\r\n1-0:1.8.0(5*kWh)", "1-0:1.8.0"),
    ],
)
def test_numbers_of_every_format_are_seen(payload: str, path: str) -> None:
    assert next(numbers_in(payload.encode()))[0] == path


@pytest.mark.parametrize(
    "payload", [b"", b"\xff", b"{", b"[1,2", b"/", b"[" * 5000, b"x" * 70_000, b"NaN", b'{"a":{"a":null}}']
)
def test_a_broken_message_has_no_numbers(payload: bytes) -> None:
    assert list(numbers_in(payload)) == []
