"""Counters that go on from an older total after a power cut: what flows then counts, and no slot is a false 0."""

import json
from collections.abc import Iterator, Sequence

import pytest

from adapters.core import Adapter
from adapters.energy.channel import PENDING_MS, Channel, ChannelRule, Ignored, Value, take
from adapters.energy.counter import Counter, CounterLimits, Outcome, Read
from adapters.energy.spread import Run
from adapters.mapping.readers import readers_of
from adapters.recordings import Recorded
from adapters.trial import Trial
from commonwatt.config.utility import UtilitySettings
from commonwatt.model.records import RecordType
from tests.unit.adapters.test_presets import settings_of

T = 1_790_000_100_000
Message = tuple[float, str, str]  # seconds after the start, topic and payload


def heard(preset: str, source: str, messages: list[Message]) -> tuple[Adapter, Trial]:
    """Run messages through a meter's preset."""
    settings = settings_of(preset, [{"source": source}])
    trial = Trial(settings, readers_of(settings))
    for number, (at, topic, payload) in enumerate(messages):
        list(trial.take(Recorded(number, topic, payload.encode(), T + int(at * 1000))))
    return trial._adapter, trial


def counted_wh(preset: str, source: str, messages: list[Message]) -> float:
    adapter, _ = heard(preset, source, messages)
    return adapter.channels[1, RecordType.THROUGH].counter.total / 1000


def sensor(kwh: float, time: str) -> str:
    return json.dumps({"Time": time, "ENERGY": {"TotalStartTime": "2026-01-03T09:00:00", "Total": kwh}})


def power_cut(evidence: Sequence[Message]) -> list[Message]:
    """A Tasmota at 2 kW: 813.096 kWh, a power cut of 2 minutes, then from 812.432 kWh on with a clock of 1970."""
    before = [(0, 811.77), (1134, 812.4), (2034, 812.9), (2387, 813.096)]
    after = [(2572 + n * 39.6, round(812.432 + n * 0.022, 3)) for n in range(31)]
    return [
        *((at, "tele/kitchen/SENSOR", sensor(kwh, "2026-09-21T16:15:00")) for at, kwh in before),
        *evidence,
        *((at, "tele/kitchen/SENSOR", sensor(kwh, "1970-01-01T00:00:10")) for at, kwh in after),
    ]


LWT: list[Message] = [(2450, "tele/kitchen/LWT", "Offline"), (2567, "tele/kitchen/LWT", "Online")]
INFO3: list[Message] = [(2567, "tele/kitchen/INFO3", '{"RestartReason":"Power On"}')]
UPTIME: list[Message] = [
    (2380, "tele/kitchen/STATE", '{"UptimeSec":90000}'),
    (2571, "tele/kitchen/STATE", '{"UptimeSec":5}'),
]


@pytest.mark.parametrize("evidence", [LWT + INFO3, LWT, INFO3, UPTIME, []])
def test_a_power_cut_loses_no_energy_that_flows_after_it(evidence: list[Message]) -> None:
    """1,326 Wh until the cut and 660 Wh after it; 664 Wh, 33 % of all, were lost while the counter caught up."""
    assert counted_wh("tasmota", "kitchen", power_cut(evidence)) == 1326 + 660


def test_slots_between_the_last_saved_total_and_the_fall_are_averages_of_nothing() -> None:
    adapter, trial = heard("tasmota", "kitchen", power_cut(LWT))
    channel = adapter.channels[1, RecordType.THROUGH]
    assert trial.totals[1, RecordType.THROUGH].exact == 0
    assert channel.spread is not None
    assert channel.spread.total == (1326 + 660) * 1000


def pulses(step: int, *, online: bool) -> Iterator[Message]:
    """A pulse meter that counts 18 Wh, restarts, counts 6 Wh, restarts, and counts 18 Wh: 42 Wh in all."""
    at = 0.0
    for run, top in enumerate((18, 6, 18)):
        if run and online:
            yield at, "washer/status", "offline"
            yield at + 1, "washer/status", "online"
        for wh in range(0, top + 1, step):
            at += step * 6
            yield at, "washer/sensor/total/state", f"{wh / 1000:.3f}"


@pytest.mark.parametrize(("step", "before", "now"), [(1, 36, 42), (2, 36, 42), (3, 36, 42), (6, 18, 36)])
def test_a_pulse_meter_that_restarts_twice_within_minutes(step: int, before: int, now: int) -> None:
    """At each step less was counted (``before``, watt-hours): falls of 6 Wh were taken for rounding.

    Of the sequence 6, 0, 6 Wh the 0 may be a strange first reading after a new connection: less counts.
    """
    assert before < now
    assert counted_wh("esphome", "washer/sensor/total", list(pulses(step, online=True))) == now


def test_a_pulse_meter_without_a_report_is_judged_by_two_later_samples() -> None:
    assert counted_wh("esphome", "washer/sensor/total", list(pulses(1, online=False))) == 42


def test_a_report_without_a_restart_changes_nothing() -> None:
    """Devices report a start at each connection; the total may be 0 in the first message after it."""
    totals = [812.4, 812.41, 812.42, 0.0, 812.43, 812.44, 812.45, 812.46]
    messages: list[Message] = [(n * 10.0, "tele/kitchen/SENSOR", sensor(kwh, "")) for n, kwh in enumerate(totals)]
    for place in range(len(messages), 0, -1):
        messages.insert(place, (place * 10 - 5, "tele/kitchen/LWT", "Online"))
    assert counted_wh("tasmota", "kitchen", messages) == 60


def restart(readings: Sequence[int], at: int, limits: CounterLimits) -> tuple[list[Outcome], int]:
    """The outcomes of readings (Wh, one a minute), and the Wh counted; a restart is reported before reading ``at``."""
    counter = Counter()
    reads = [Read(T + n * 60_000, raw * 1000) for n, raw in enumerate(readings)]
    outcomes = [counter.take(read, limits, restarted=n == at)[0] for n, read in enumerate(reads)]
    return outcomes, counter.total // 1000


@pytest.mark.parametrize("at_zero", [False, True])
@pytest.mark.parametrize("strange", [[111], [111, 111]])
@pytest.mark.parametrize("later", [[370, 380, 390], [160, 180, 200]])
def test_a_strange_total_right_after_a_reported_restart_counts_nothing(
    strange: list[int], later: list[int], at_zero: bool
) -> None:
    """111 Wh counted at once, as a reset or as the place from which the counter rose again."""
    limits = CounterLimits(rated_mw=24_000_000, resolution=10_000, restarts_at_zero=at_zero)
    outcomes, counted = restart([100, 120, 150, *strange, *later], 3, limits)
    assert outcomes[3] is Outcome.HELD_BACK
    assert Outcome.GLITCH in outcomes
    assert counted == later[-1] - 100


@pytest.mark.parametrize(
    ("first", "outcome"), [(600, Outcome.REWIND), (250, Outcome.HELD_BACK), (0, Outcome.HELD_BACK)]
)
def test_a_reported_fall_counts_at_once_only_to_an_older_total(first: int, outcome: Outcome) -> None:
    limits = CounterLimits(rated_mw=12_000_000, resolution=10_000)
    outcomes, counted = restart([880, 890, 900, first, first + 15, first + 30], 3, limits)
    assert outcomes[3:5] == [outcome, Outcome.COUNTED if outcome is Outcome.REWIND else Outcome.REWIND]
    assert counted == 20 + 30


RULE = ChannelRule(
    kind="register",
    record_type=RecordType.THROUGH,
    limits=CounterLimits(rated_mw=20_000_000, resolution=10_000),
    longest_gap_ms=86_400_000,
    highest=0,
)


def slots(readings: list[tuple[float, int]]) -> tuple[list[Run], Channel, list[Outcome | Ignored]]:
    """The slots made of readings (seconds, mWh), the channel, and the outcomes."""
    channel = Channel()
    runs: list[Run] = []
    outcomes: list[Outcome | Ignored] = []
    for at, raw in readings:
        taken = take(channel, RULE, Value(raw, T + int(at * 1000)))
        runs += taken.runs.get(RecordType.THROUGH, [])
        outcomes.append(taken.outcome)
    return runs, channel, outcomes


def dip(after: list[int]) -> list[tuple[float, int]]:
    """1,800 W for 5 minutes in steps of 10 s, a fall of 4 Wh that may be the end of a spike, then other readings."""
    before = [100_000_000 + n * 5_000 for n in range(31)]
    return [(n * 10.0, raw) for n, raw in enumerate([*before, *(before[-1] - 4_000 + more for more in after)])]


def test_slots_that_wait_for_the_counter_to_pass_its_highest_reading_are_pending_then_averages() -> None:
    """At 72 W the counter needs 200 s to pass: these slots were 0 mWh exact."""
    readings = dip([n * 200 for n in range(16)])
    runs, channel, _ = slots(readings)
    assert max(run.end for run in runs) * 1000 <= T + 300_000, "nothing is recorded of the wait"
    later = [(readings[-1][0] + n * 10, readings[-1][1] + n * 200) for n in range(1, 60)]
    runs, channel, _ = slots(readings + later)
    waited = [run for run in runs if T + 300_000 <= run.start * 1000 < T + 500_000]
    assert waited
    assert all(run.lossy for run in waited)
    assert channel.spread is not None
    assert channel.spread.total == 150_000 + later[-1][1] - 100_150_000


def test_slots_that_wait_for_long_are_missing_if_the_counter_moved() -> None:
    runs, channel, outcomes = slots(dip([n // 10 for n in range(200)]))
    assert outcomes[-1] is Outcome.DIP
    assert max(run.end for run in runs) * 1000 <= T + 300_000
    assert channel.spread is not None
    assert channel.spread.at >= T + 300_000 + PENDING_MS


def test_slots_that_wait_for_long_are_averages_of_nothing_if_the_counter_stood_still() -> None:
    runs, _, _ = slots(dip([0] * 200))
    waited = [run for run in runs if run.start * 1000 >= T + 300_000]
    assert sum(run.end - run.start for run in waited) >= 1200
    assert all(run.lossy and run.value == 0 for run in waited)


def test_the_slot_in_which_counting_goes_on_after_missing_ones_is_not_exact() -> None:
    """Of that slot only the part after the reading is known: it was exact, with the energy of that part."""
    readings = [(n * 10 + 7 + (100_000 if n > 10 else 0), 100_000_000 + n * 5_000) for n in range(60)]
    runs, _, _ = slots([(float(at), raw) for at, raw in readings])
    resumed = [run for run in runs if run.start * 1000 > T + 100_000_000]
    assert resumed[0].lossy
    assert not resumed[-1].lossy


def test_pending_slots_are_decided_before_the_utility_asks_for_them() -> None:
    every_s, delivery_s = 300, 180
    assert PENDING_MS / 1000 + every_s + delivery_s <= UtilitySettings.model_fields["gap_age_s"].default


def test_a_report_says_nothing_of_a_fall_after_the_first_reading_that_follows_it() -> None:
    _, channel, _ = slots([(0, 100_000_000), (10, 100_005_000)])
    channel.restarts(None)
    for at, raw in ((20, 990_000_000), (30, 60_000_000)):
        assert take(channel, RULE, Value(raw, T + at * 1000)).outcome is Outcome.HELD_BACK
