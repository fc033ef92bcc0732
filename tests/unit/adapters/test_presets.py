"""Every preset reads a recording of its maker's messages; counters reported to fall or jump."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from adapters.core import Adapter
from adapters.mapping.readers import known_presets, readers_of
from adapters.messages import RecordedMessage, messages_of
from adapters.trial import Trial
from commonwatt.config.adapter import AdapterSettings
from commonwatt.model.records import RecordType
from harness.foreign.counters import EVIDENCE

RECORDINGS = Path(__file__).parent / "recordings"

REASONS = {
    "ignored: a retained message is never a sample": "retained",
    "ignored: no rule is for this topic": "no rule",
    "ignored: duplicate": "duplicate",
    "ignored: another rule is preferred": "not preferred",
    "ignored: waits for the other topics of the sum": "incomplete",
    "not in this message": "not in it",
    "the device reports its start": "start",
}
UNREMARKABLE = ("counted", "started", "no rule")


class Case(NamedTuple):
    """A mapping of meters 1, 2, …, the slots (exact, averaged) and mWh it makes, and what became of other values."""

    meters: list[dict[str, Any]]
    slots: dict[str, tuple[int, int, int]]
    reasons: dict[str, int]


CASES = {
    "tasmota": Case(
        [{"source": "kitchen"}, {"source": "house"}, {"source": "house", "direction": "outgoing"}],
        {"1 through": (0, 20, 130_000), "2 through": (20, 0, 60_000), "3 through": (20, 0, 60_000)},
        {"duplicate": 2, "held back": 3, "retained": 3, "rewind": 1, "start": 4},
    ),
    "tasmota-sml": Case(
        [{"source": "meter"}, {"source": "meter", "direction": "outgoing"}],
        {"1 through": (0, 20, 150_000), "2 through": (0, 20, 0)},
        {"glitch": 3, "held back": 5, "not in it": 58, "retained": 1},
    ),
    "shelly-em": Case(
        [{"source": "shellypro3em-0cb8"}, {"source": "shellypro3em-0cb8", "direction": "outgoing"}],
        {"1 through": (0, 40, 302_500), "2 through": (0, 40, 25_000)},
        {"glitch": 1, "held back": 3, "not in it": 24, "not preferred": 22, "retained": 2, "start": 4},
    ),
    "shelly-em1": Case(
        [
            {"source": "shellyproem50-a0dd"},
            {"source": "shellyproem50-a0dd", "channel": "1"},
            {"source": "shellyproem50-a0dd", "channel": "1", "direction": "outgoing"},
        ],
        {"1 through": (0, 20, 50_000), "2 through": (0, 20, 50_000), "3 through": (0, 20, 6_250)},
        {"duplicate": 1, "held back": 3, "not in it": 37},
    ),
    "shelly-pm": Case(
        [
            {"source": "shellypstripg4-1"},
            {"source": "balcony/shelly"},
            {"source": "balcony/shelly", "direction": "outgoing"},
        ],
        {"1 through": (0, 40, 12_000), "2 through": (0, 20, 10_000), "3 through": (0, 20, 52_500)},
        {"held back": 5, "not in it": 84, "not preferred": 24, "retained": 1, "rewind": 1},
    ),
    "shelly-gen1": Case(
        [{"source": "shellyem-B9F1"}, {"source": "shellyem-B9F1", "channel": "1", "direction": "outgoing"}],
        {"1 through": (0, 20, 100_000), "2 through": (0, 20, 25_000)},
        {"held back": 2, "retained": 2},
    ),
    "shelly-gen1-3em": Case(
        [{"source": "shellyem3-4EE1"}, {"source": "shellyem3-4EE1", "direction": "outgoing"}],
        {"1 through": (0, 18, 53_960), "2 through": (0, 18, 0)},
        {"held back": 2, "incomplete": 44},
    ),
    "shelly-gen1-plug": Case(
        [{"source": "shellyplug-s-7A6D"}],
        {"1 through": (0, 20, 140_000)},
        {"held back": 2, "reset": 1, "retained": 1, "start": 1},
    ),
    "zigbee2mqtt": Case(
        [{"source": "kitchen/left plug"}, {"source": "roof", "direction": "outgoing"}],
        {"1 through": (10, 10, 100_000), "2 through": (20, 0, 375_000)},
        {"duplicate": 1, "glitch": 2, "held back": 4, "not in it": 6, "not preferred": 1, "retained": 2},
    ),
    "zigbee2mqtt-channel": Case(
        [
            {"source": "strip", "channel": "l1"},
            {"source": "strip", "channel": "l2"},
            {"source": "clamp", "channel": "a", "direction": "outgoing"},
        ],
        {"1 through": (0, 20, 100_000), "2 through": (0, 20, 200_000), "3 through": (0, 20, 500_000)},
        {"held back": 3, "not in it": 11},
    ),
    "dsmr": Case(
        [{"source": "dsmr"}, {"source": "dsmr", "direction": "outgoing"}],
        {"1 through": (20, 0, 60_000), "2 through": (20, 0, 30_000)},
        {"duplicate": 2, "held back": 2, "not preferred": 32},
    ),
    "p1": Case(
        [{"source": "dsmr/raw"}, {"source": "dsmr/raw", "direction": "outgoing"}],
        {"1 through": (20, 0, 150_000), "2 through": (20, 0, 3_000)},
        {"held back": 2, "not in it": 62, "retained": 1, "unreadable": 4},
    ),
    "esp8266-p1meter": Case(
        [{"source": "sensors/power/p1meter"}, {"source": "sensors/power/p1meter", "direction": "outgoing"}],
        {"1 through": (20, 0, 150_000), "2 through": (20, 0, 15_000)},
        {"held back": 2, "incomplete": 62},
    ),
    "esphome": Case(
        [{"source": "washer/sensor/total_energy"}],
        {"1 through": (0, 20, 47_500)},
        {"held back": 2, "not in it": 1, "retained": 3, "rewind": 1, "start": 1},
    ),
    "homeassistant-statestream": Case(
        [{"source": "house_energy"}],
        {"1 through": (10, 10, 300_000)},
        {"held back": 1, "not in it": 3, "retained": 2, "start": 2},
    ),
    "openenergymonitor": Case(
        [{"source": "emontx4/E1"}],
        {"1 through": (10, 10, 145_000)},
        {"held back": 3, "rewind": 1},
    ),
    "openenergymonitor-json": Case(
        [{"source": "emontx4", "channel": "E1"}],
        {"1 through": (10, 10, 145_000)},
        {"held back": 3, "rewind": 1},
    ),
    "openenergymonitor-csv": Case(
        [{"source": "10", "channel": "3"}],
        {"1 through": (10, 10, 145_000)},
        {"held back": 3, "rewind": 1},
    ),
    "victron": Case(
        [
            {"source": "c0619ab1b2c3/grid/30"},
            {"source": "c0619ab1b2c3/grid/30", "direction": "outgoing"},
            {"source": "c0619ab1b2c3/battery/512", "capacity_wh": 10000},
        ],
        {"1 through": (20, 0, 150_000), "2 through": (0, 20, 0), "3 stored": (20, 0, 0), "3 through": (0, 20, 500_000)},
        {"held back": 4, "not in it": 2},
    ),
    "victron-vebus": Case(
        [
            {"source": "c0619ab1/vebus/276", "channel": "1"},
            {"source": "c0619ab1/vebus/276", "channel": "1", "direction": "outgoing"},
        ],
        {"1 through": (20, 0, 150_000), "2 through": (20, 0, 30_000)},
        {"held back": 2, "incomplete": 62, "not in it": 2},
    ),
    "victron-solar": Case(
        [
            {"source": "c0619ab1b2c3/solarcharger/288", "direction": "outgoing"},
            {"source": "c0619ab1b2c3/pvinverter/20", "direction": "outgoing"},
        ],
        {"1 generation": (20, 0, 150_000), "2 generation": (20, 0, 75_000)},
        {"held back": 2},
    ),
    "evcc": Case(
        [{"source": "evcc", "capacity_wh": 10000}, {"source": "evcc", "direction": "outgoing"}],
        {"1 stored": (40, 0, 0), "1 through": (40, 0, 48_750), "2 through": (40, 0, 102_500)},
        {"begun": 2, "retained": 2},
    ),
    "openwb": Case(
        [{"source": "4"}, {"source": "4", "direction": "outgoing"}],
        {"1 through": (20, 0, 610_000), "2 through": (20, 0, 0)},
        {"held back": 2, "retained": 2},
    ),
    "sunspec": Case(
        [{"source": "cellar/battery", "capacity_wh": 10000}, {"source": "cellar/battery", "direction": "outgoing"}],
        {"1 stored": (20, 0, 0), "1 through": (20, 0, 0), "2 through": (10, 10, 150_000)},
        {"held back": 2, "not in it": 1},
    ),
    "zendure": Case(
        [
            {"source": "HOA1NPN4N1", "capacity_wh": 1920},
            {"source": "HOA1NPN4N1", "direction": "outgoing"},
        ],
        {"1 stored": (20, 0, 0), "1 through": (20, 0, 0), "2 through": (20, 0, 40_000)},
        {"begun": 2, "retained": 1},
    ),
    "json": Case(
        [
            {"source": "cellar/heatpump", "channel": "energy.total"},
            {"source": "cellar/heatpump", "channel": "phases.1.kwh"},
        ],
        {"1 through": (20, 0, 150_000), "2 through": (20, 0, 30_000)},
        {"held back": 2, "not in it": 2, "unreadable": 2},
    ),
    "plain": Case(
        [{"source": "attic/fan total"}],
        {"1 through": (20, 0, 15_000)},
        {"held back": 1, "not in it": 1, "retained": 1, "unreadable": 1},
    ),
}


def settings_of(preset: str, meters: list[dict[str, Any]]) -> AdapterSettings:
    rows = [{"id": number, "preset": preset, "rated_w": 20_000, **meter} for number, meter in enumerate(meters, 1)]
    return AdapterSettings.model_validate({"microgrid": "r001", "zone": "Europe/Berlin", "meter": rows})


def reason(words: str) -> str:
    first = words.partition(";")[0]
    return next((short for start, short in REASONS.items() if first.startswith(start)), first.partition(":")[0])


@pytest.mark.parametrize("preset", CASES)
def test_preset_reads_its_recording(preset: str) -> None:
    case = CASES[preset]
    settings = settings_of(preset, case.meters)
    trial = Trial(settings, readers_of(settings))
    with (RECORDINGS / f"{preset}.jsonl").open(encoding="utf-8") as file:
        reasons = Counter(reason(line.words) for message in messages_of(file) for line in trial.take(message))
    slots = {
        f"{meter} {kind.name.lower()}": tuple(total)
        for (meter, kind), total in trial.totals.items()
        if kind.name != "REGISTER"
    }
    assert slots == case.slots
    assert {why: count for why, count in reasons.items() if why not in UNREMARKABLE} == case.reasons
    assert not trial.silent


REPORTED = {
    "esphome-daily": ({"preset": "esphome", "source": "boiler/sensor/energy_today"}, 60_000),
}


@pytest.mark.parametrize("name", REPORTED)
def test_recording_after_a_public_report_has_its_energy(name: str) -> None:
    meter, energy = REPORTED[name]
    settings = settings_of(meter["preset"], [meter])
    trial = Trial(settings, readers_of(settings))
    with (RECORDINGS / "reported" / f"{name}.jsonl").open(encoding="utf-8") as file:
        faults = [line.words for message in messages_of(file) for line in trial.take(message) if not line.good]
    assert sum(total.sum_mwh for (_, kind), total in trial.totals.items() if kind.name == "THROUGH") == energy
    assert not faults


def test_every_preset_has_a_recording_and_a_case() -> None:
    assert set(CASES) == set(known_presets()) == {path.stem for path in RECORDINGS.glob("*.jsonl")}


def test_every_preset_names_its_evidence_of_a_restart_or_says_that_it_has_none() -> None:
    for preset in known_presets().values():
        evidence = [bool(rule.restart_topic) for rule in preset.rules]
        assert all(evidence) != ("no report of a restart" in " ".join(preset.notes.split())), preset.name


@pytest.mark.parametrize("preset", EVIDENCE)
def test_the_evidence_of_a_restart_is_recognised(preset: str) -> None:
    source, messages = EVIDENCE[preset]
    readers = readers_of(settings_of(preset, [{"source": source}]))
    for topic, payload in messages.items():
        assert list(readers.reports(topic, payload.encode())), topic
        for other in ("Offline", "offline", "false", '{"state":"offline"}', '{"data":{"friendly_name":"y"}}', "7 W"):
            assert not list(readers.reports(topic, other.encode())), other
    assert set(EVIDENCE) == {one.name for one in known_presets().values() if any(r.restart_topic for r in one.rules)}


def test_every_preset_names_its_sources_and_says_what_a_person_must_know() -> None:
    for preset in known_presets().values():
        assert preset.sources, preset.name
        assert preset.title, preset.name
        assert preset.source, preset.name
        assert preset.notes.strip(), preset.name


def test_a_plug_counts_no_more_than_its_relay_can_carry() -> None:
    channels = readers_of(settings_of("shelly-pm", [{"source": "a"}, {"source": "b", "rated_w": 2_300}])).all
    found = {(one.meter, one.channel.limits.rated_mw) for one in channels if one.rule.kind == "register"}
    assert found == {(1, 4_000_000), (2, 2_300_000)}


def test_presets_of_plugs_and_relays_alone_have_a_rated_power() -> None:
    """Tasmota, zigbee2mqtt and ESPHome read clamps and three-phase meters too: there the meter states it."""
    rated = {preset.name: {rule.rated_w for rule in preset.rules} for preset in known_presets().values()}
    assert {name: watts for name, watts in rated.items() if watts != {None}} == {
        "shelly-gen1-plug": {4000},
        "shelly-pm": {4000},
    }


T = 1_782_882_000_000
Message = tuple[float, str, str]  # seconds after the start, topic and payload


def heard(preset: str, source: str, messages: Sequence[Message]) -> tuple[Adapter, Trial]:
    """Run messages through the preset of a meter with the usual rated power."""
    settings = settings_of(preset, [{"source": source, "rated_w": 48_000}])
    trial = Trial(settings, readers_of(settings))
    for number, (at, topic, payload) in enumerate(messages):
        list(trial.take(RecordedMessage(number, topic, payload.encode(), T + int(at * 1000))))
    return trial._adapter, trial


def counted_wh(preset: str, source: str, messages: Sequence[Message]) -> float:
    adapter, _ = heard(preset, source, messages)
    return adapter.channels[1, RecordType.THROUGH].counter.total / 1000


def test_a_tasmota_that_jumps_at_a_power_loss() -> None:
    """29.182 kWh before and 32.05 kWh four minutes later, as in issue 16791: 43 kW through a plug."""
    before = ((0, 29.178), (60, 29.179), (120, 29.181), (180, 29.182))
    after = ((420, 32.05), (480, 32.051), (540, 32.053), (600, 32.054), (660, 32.055), (1400, 32.055))
    messages = [
        (at, "tele/dual/SENSOR", json.dumps({"ENERGY": {"TotalStartTime": "2022-11-02T16:55:59", "Total": kwh}}))
        for at, kwh in before + after
    ]
    messages.insert(4, (400, "tele/dual/LWT", "Online"))
    assert counted_wh("tasmota", "dual", messages) == 4 + 5


def test_a_pulse_meter_that_begins_at_zero_three_times() -> None:
    """24 Wh before a restart, 12 and 24 Wh after it: 24 Wh again is no sign that the 12 Wh were strange."""
    topic = "cellar/sensor/heat_pump_energy/state"
    messages = [(n * 60, topic, f"{1.2 + n * 0.012:.3f}") for n in range(4)]
    for start in (200, 320, 440):
        messages += [(start, "cellar/status", "offline"), (start + 15, "cellar/status", "online")]
        messages += [(start + 16, topic, "nan"), (start + 40, topic, "0.012"), (start + 100, topic, "0.024")]
    messages += [(at, topic, "0.024") for at in (1000, 1400, 1800)]
    assert counted_wh("esphome", "cellar/sensor/heat_pump_energy", messages) == 36 + 3 * 12


def test_a_daily_total_that_begins_again_counts_from_its_first_reading() -> None:
    readings = ["2.900", "2.910", "2.920", "2.930", "0.004", "0.014", "0.024", "0.034"]
    messages = [(n * 60, "boiler/sensor/energy_today/state", kwh) for n, kwh in enumerate(readings)]
    messages += [(at, "boiler/sensor/energy_today/state", "0.034") for at in (1200, 1600)]
    assert counted_wh("esphome", "boiler/sensor/energy_today", messages) == 30 + 30


@pytest.mark.parametrize("reported", [True, False])
def test_a_tasmota_that_goes_on_from_an_older_total_after_a_power_cut(reported: bool) -> None:
    """2 kW: 813.096 kWh, a power cut of 2 minutes, then from 812.432 kWh on: no slot until the fall is a false 0."""

    def sensor(kwh: float) -> str:
        return json.dumps({"ENERGY": {"TotalStartTime": "2026-01-03T09:00:00", "Total": kwh}})

    before = [(0, 811.77), (1134, 812.4), (2034, 812.9), (2387, 813.096)]
    after = [(2572 + n * 39.6, round(812.432 + n * 0.022, 3)) for n in range(31)]
    messages: list[Message] = [(at, "tele/kitchen/SENSOR", sensor(kwh)) for at, kwh in before + after]
    if reported:
        messages[4:4] = [(2450, "tele/kitchen/LWT", "Offline"), (2567, "tele/kitchen/LWT", "Online")]
    adapter, trial = heard("tasmota", "kitchen", messages)
    channel = adapter.channels[1, RecordType.THROUGH]
    assert channel.counter.total == (1326 + 660) * 1000
    assert trial.totals[1, RecordType.THROUGH].exact == 0
    assert channel.spread is not None
    assert channel.spread.total == channel.counter.total


def test_a_pulse_meter_that_restarts_twice_within_minutes() -> None:
    """It counts 18 Wh, restarts, counts 6 Wh, restarts, and counts 18 Wh: falls of 6 Wh were taken for rounding."""
    messages: list[Message] = []
    for top in (18, 6, 18):
        if messages:
            messages += [(messages[-1][0], "washer/status", words) for words in ("offline", "online")]
        for wh in range(top + 1):
            at = messages[-1][0] + 6 if messages else 0
            messages.append((at, "washer/sensor/total/state", f"{wh / 1000:.3f}"))
    assert counted_wh("esphome", "washer/sensor/total", messages) == 42
