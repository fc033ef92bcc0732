"""One case of each device whose counter was reported to fall or jump: what flowed counts, and nothing else."""

import json
from collections.abc import Sequence

import pytest

from adapters.core import Adapter
from adapters.mapping.readers import readers_of
from adapters.recordings import Recorded
from adapters.trial import Trial
from commonwatt.model.records import RecordType
from tests.unit.adapters.test_presets import settings_of

T = 1_782_882_000_000
Message = tuple[float, str, str]  # seconds after the start, topic and payload


def heard(preset: str, source: str, messages: Sequence[Message]) -> tuple[Adapter, Trial]:
    """Run messages through the preset of a meter with the usual rated power."""
    settings = settings_of(preset, [{"source": source, "rated_w": 48_000}])
    trial = Trial(settings, readers_of(settings))
    for number, (at, topic, payload) in enumerate(messages):
        list(trial.take(Recorded(number, topic, payload.encode(), T + int(at * 1000))))
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
