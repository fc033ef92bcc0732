"""Totals that jump over a restart or a silence: they don't count, and the energy of loads that people have does."""

import json
import random
from collections.abc import Sequence

import pytest

from adapters.energy.channel import CHANNEL, Channel, Value, take
from adapters.energy.counter import Counter, CounterLimits, Outcome, Read
from adapters.mapping.readers import readers_of
from adapters.recordings import Recorded
from adapters.trial import Trial
from commonwatt.model.records import RecordType
from harness.foreign import jumps
from harness.foreign.counters import history, rule_of
from tests.unit.adapters.test_presets import settings_of

T = 1_782_882_000_000
LIMITS = CounterLimits(rated_mw=48_000_000, resolution=10_000)
Message = tuple[int, str, str]  # seconds after the start, topic and payload


def counted_wh(preset: str, source: str, messages: Sequence[Message]) -> float:
    """The energy counted by a meter with the usual rated power."""
    settings = settings_of(preset, [{"source": source, "rated_w": 48_000}])
    trial = Trial(settings, readers_of(settings))
    for number, (at, topic, payload) in enumerate(messages):
        list(trial.take(Recorded(number, topic, payload.encode(), T + at * 1000)))
    return trial._adapter.channels[1, RecordType.THROUGH].counter.total / 1000


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


def run(
    minutes: Sequence[float], readings: Sequence[int], restarts: Sequence[int] = (), limits: CounterLimits = LIMITS
) -> tuple[list[Outcome], int]:
    """The outcomes of readings (Wh), and the Wh counted, after an hour at 60 W; restarts are reported before some."""
    counter = Counter()
    for n in range(61):
        counter.take(Read(T + n * 60_000, 50_000_000 + n * 1000), limits)
    outcomes = [
        counter.take(Read(T + int((60 + at) * 60_000), 50_060_000 + raw * 1000), limits, restarted=n in restarts)[0]
        for n, (at, raw) in enumerate(zip(minutes, readings, strict=True))
    ]
    return outcomes, counter.total // 1000 - 60


@pytest.mark.parametrize(("away", "restarts"), [(4, [0]), (9, [0]), (10, []), (10, [0]), (60, [])])
def test_a_jump_is_held_back_and_counts_nothing(away: int, restarts: list[int]) -> None:
    outcomes, counted = run([away, away + 1, away + 2, away + 3], [8000, 8001, 8002, 8003], restarts)
    assert outcomes == [Outcome.HELD_BACK, Outcome.HELD_BACK, Outcome.JUMP, Outcome.COUNTED]
    assert counted == 3


@pytest.mark.parametrize("strange", [1, 2])
def test_a_jump_that_goes_back_is_a_glitch(strange: int) -> None:
    outcomes, counted = run([4, 5, 6, 7][: strange + 1], [*[2800] * strange, 5 + strange], [0])
    assert outcomes[-1] is Outcome.GLITCH
    assert counted == 5 + strange


def test_without_a_report_and_without_a_silence_the_rated_power_counts() -> None:
    assert run([9.9], [7000])[1] == 7000


def test_a_load_that_began_in_a_silence_counts() -> None:
    """A heat pump of 3 kW ran for two of three hours: 6 kWh, where 60 W three times over explain 540 Wh."""
    assert run([180, 181], [6000, 6001]) == ([Outcome.COUNTED, Outcome.COUNTED], 6001)
    assert run([180, 181], [6000, 6001], [0])[1] == 6001, "every device reports its new connection"


def test_a_load_that_began_in_a_silence_and_goes_on_counts() -> None:
    """A car at 11 kW, more than an eighth of the rated power."""
    outcomes, counted = run([60, 65, 70, 75], [11_000, 11_917, 12_833, 13_750])
    assert outcomes[:3] == [Outcome.HELD_BACK, Outcome.HELD_BACK, Outcome.COUNTED]
    assert counted == 13_750


def test_a_load_that_begins_as_the_device_connects_again_counts_if_it_goes_on() -> None:
    assert run([1, 2, 3, 4], [33, 66, 100, 133], [0])[1] == 133
    assert run([1, 2, 3, 4], [33, 34, 35, 36], [0])[1] == 3, "one interval is lost"


def test_a_power_that_is_not_known_explains_nothing_and_stops_nothing() -> None:
    counter = Counter()
    for n, raw in enumerate((0, 5, 10)):
        counter.take(Read(T + n * 1000, 50_000_000 + raw), LIMITS)
    assert counter.take(Read(T + 240_000, 52_800_000), LIMITS, restarted=True)[0] is Outcome.COUNTED


def test_the_rated_power_of_a_plug_bounds_what_a_silence_explains() -> None:
    plug = CounterLimits(rated_mw=3_680_000, resolution=10_000)
    assert run([60, 61, 62], [460, 461, 462], limits=plug)[1] == 462
    assert run([60, 61, 62], [480, 481, 482], limits=plug)[1] == 2


def test_a_crash_after_any_message_changes_nothing() -> None:
    for seed in range(200):
        found = history(random.Random(seed))
        steady, crashing, rule = Channel(), Channel(), rule_of(found.limits)
        for sample in found.samples:
            value = Value(sample.value, sample.arrival, sample.device, restart_mark=sample.mark)
            crashing = CHANNEL.validate_json(CHANNEL.dump_json(crashing))
            for channel in (steady, crashing):
                channel.restarted |= sample.restarted
            assert take(steady, rule, value) == take(crashing, rule, value)
        assert steady == crashing


def test_a_store_of_an_earlier_release_opens() -> None:
    channel = Channel()
    for n in range(90):
        take(channel, rule_of(LIMITS), Value(50_000_000 + n * 1000, T + n * 60_000))
    stored = json.loads(CHANNEL.dump_json(channel))
    for name in ("reports", "peaks", "peaks_at"):
        del stored["counter"][name]
    opened = CHANNEL.validate_json(json.dumps(stored).encode())
    assert opened.counter.total == channel.counter.total
    assert opened.counter.peaks_at == 0


def test_loads_that_people_have_count_and_most_jumps_at_a_restart_do_not() -> None:  # python -m harness.foreign.jumps
    errors = jumps.measure(8)
    assert sum(one.lost for one in errors.values()) < sum(one.flowed for one in errors.values()) // 50
    restarts = [one for (_, way), one in errors.items() if way == "restart"]
    assert sum(one.phantom for one in restarts) < sum(one.jumped for one in restarts) // 50
