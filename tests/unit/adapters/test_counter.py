"""Cumulative counters: their energy over slots is exact, and one that falls or jumps adds none that did not flow."""

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.energy.channel import PENDING_MS
from adapters.energy.counter import Counter, CounterLimits, Read, SampleOutcome, SlotRun, Spread, SteppedValue
from commonwatt.model.units import GROUP_S, SLOT_S
from harness.foreign.counters import history, judge
from utility.settings import UtilitySettings

T = 1_790_000_000_000
LIMITS = CounterLimits(rated_mw=12_000_000, resolution=10_000)
"""12 kW, a counter in steps of 10 Wh: at most 43 Wh in 10 s."""


def run(
    readings: Sequence[int], limits: CounterLimits = LIMITS, restarts: Sequence[int] = (), every_s: int = 10
) -> tuple[list[SampleOutcome], int]:
    """The outcomes of readings in watt-hours, and the energy counted, watt-hours."""
    counter = Counter()
    outcomes = [
        counter.take(Read(T + n * every_s * 1000, raw * 1000), limits, restarted=n in restarts)[0]
        for n, raw in enumerate(readings)
    ]
    return outcomes, counter.total // 1000


def test_a_counter_starts_when_two_readings_agree() -> None:
    outcomes, energy = run([0, 912_345, 912_350, 912_360])
    assert outcomes == [SampleOutcome.HELD_BACK, SampleOutcome.HELD_BACK, SampleOutcome.STARTED, SampleOutcome.COUNTED]
    assert energy == 15


@pytest.mark.parametrize("first", [0, 1, 900_000, 912_400])
def test_a_strange_first_reading_counts_nothing(first: int) -> None:
    assert run([first, 912_345, 912_350, 912_360])[1] == 15


@pytest.mark.parametrize("strange", [[0], [0, 0], [880_000]])
def test_a_strange_first_reading_counts_nothing_after_any_pause(strange: list[int]) -> None:
    counter, limits = Counter(), CounterLimits(rated_mw=48_000_000, resolution=10_000)
    for n, raw in enumerate(strange):
        counter.take(Read(T + n, raw * 1_000), limits)
    for n in range(4):
        counter.take(Read(T + 20 * 3_600_000 + n * 10_000, 900_000_000 + n * 5_000), limits)
    assert counter.total == 15_000


def test_a_counter_starts_at_the_last_of_readings_that_waited_together() -> None:
    together = [Read(T + n, 1_000_000 + risen) for n, risen in enumerate([0, 9_000, 45_000, 50_000, 90_000, 95_000])]
    later = [Read(T + 2_000, 1_096_000), Read(T + 4_000, 1_098_000)]
    counter = Counter()
    outcomes = [counter.take(read, LIMITS)[0] for read in together + later]
    assert outcomes == [SampleOutcome.HELD_BACK] * 6 + [SampleOutcome.STARTED, SampleOutcome.COUNTED]
    assert counter.total == 3_000


@pytest.mark.parametrize("first", [None, Read(T - 20 * 3_600_000, 800_000_000)])
@pytest.mark.parametrize("still", [0, 300])
def test_a_counter_starts_after_a_burst_that_lasts_longer_than_a_second(first: Read | None, still: int) -> None:
    counter, raw = Counter(), 1_000_000_000
    if first is not None:
        counter.take(first, LIMITS)
    for n in range(360):  # The broker sends 20 at a time.
        raw += 2_800 if n >= still else 0
        counter.take(Read(T + n * 2 + n // 20 * 50, raw), LIMITS)
    for n in range(1, 7):
        counter.take(Read(T + n * 10_000, raw + n * 2_800), LIMITS)
    assert counter.total == 6 * 2_800


@pytest.mark.parametrize("every_s", [0.25, 1, 3_600])
def test_a_counter_starts_whatever_its_period(every_s: float) -> None:
    watt_hours = 6_000 * every_s / 3_600
    counter, outcomes = Counter(), set()
    for n in range(300):
        outcomes.add(counter.take(Read(T + int(n * every_s * 1_000), 1_000 + int(n * watt_hours * 1_000)), LIMITS)[0])
    assert outcomes == {SampleOutcome.HELD_BACK, SampleOutcome.STARTED, SampleOutcome.COUNTED}


@pytest.mark.parametrize("strange", [[0], [0, 0], [999_999], [999_999, 999_999], [1], [50_000, 3]])
def test_glitch_of_some_samples_counts_nothing_of_its_own(strange: list[int]) -> None:
    outcomes, energy = run([100_000, 100_010, *strange, 100_040, 100_050])
    assert outcomes[-2:] == [SampleOutcome.GLITCH, SampleOutcome.COUNTED]
    assert energy == 50


def test_rewind_goes_on_from_the_older_total() -> None:
    outcomes, energy = run([100_000, 100_010, 99_000, 99_010, 99_020, 99_030])
    assert outcomes[2:] == [
        SampleOutcome.HELD_BACK,
        SampleOutcome.HELD_BACK,
        SampleOutcome.REWIND,
        SampleOutcome.COUNTED,
    ]
    assert energy == 10 + 30


def test_restart_evidence_confirms_a_fall_at_once() -> None:
    outcomes, energy = run([100_000, 100_010, 99_000, 99_010], restarts=[2])
    assert outcomes[2:] == [SampleOutcome.REWIND, SampleOutcome.COUNTED]
    assert energy == 20


@pytest.mark.parametrize(("readings", "counted"), [([5, 10, 15, 6, 13, 20, 30], 34), ([5, 10, 15, 9, 13, 17, 21], 22)])
def test_a_reported_restart_near_zero_is_no_dip(readings: list[int], counted: int) -> None:
    outcomes, energy = run(readings, restarts=[3], every_s=60)
    assert outcomes[3:5] == [SampleOutcome.HELD_BACK, SampleOutcome.REWIND]
    assert energy == counted, "one interval is lost, of the restart itself"


def test_a_reported_restart_that_cuts_decimals_counts_from_the_cut_total() -> None:
    outcomes, energy = run([544_580, 544_587, 544_580, 544_585, 544_590], restarts=[2])
    assert outcomes[2:] == [SampleOutcome.HELD_BACK, SampleOutcome.REWIND, SampleOutcome.COUNTED]
    assert energy == 7 + 10
    outcomes, energy = run([544_580, 544_587, 544_580, 544_590, 544_595], restarts=[2])
    assert outcomes[2:] == [SampleOutcome.HELD_BACK, SampleOutcome.GLITCH, SampleOutcome.COUNTED], (
        "the decimals are there again"
    )
    assert energy == 7 + 8


def test_reset_counts_the_new_reading_only_if_the_rule_says_that_it_begins_at_zero() -> None:
    readings = [100_000, 100_010, 20, 30, 40]
    assert run(readings)[1] == 10 + 20
    limits = CounterLimits(rated_mw=12_000_000, resolution=10_000, restarts_at_zero=True)
    outcomes, energy = run(readings, limits)
    assert outcomes[4] is SampleOutcome.RESET
    assert energy == 10 + 40


def test_rollover_counts_across_the_declared_width() -> None:
    limits = CounterLimits(rated_mw=12_000_000, resolution=10_000, rollover=10_000_000_000)
    outcomes, energy = run([9_999_980, 9_999_990, 5, 10, 15], limits)
    assert outcomes[4] is SampleOutcome.ROLLOVER
    assert energy == 35


def test_small_dip_is_held_at_the_highest_reading() -> None:
    # A restart cuts decimals: 544,587.493 Wh become 544,587.
    outcomes, energy = run([544_580, 544_587, 544_580, 544_585, 544_590])
    assert outcomes[2:] == [SampleOutcome.DIP, SampleOutcome.DIP, SampleOutcome.COUNTED]
    assert energy == 10


def test_spike_that_the_rated_power_allows_is_taken_back_as_the_counter_passes_it() -> None:
    outcomes, energy = run([100_000, 100_010, 100_040, 100_012, 100_020, 100_045])
    assert SampleOutcome.REWIND not in outcomes
    assert energy == 45


def test_jump_beyond_the_rated_power_never_counts() -> None:
    outcomes, energy = run([100_000, 100_010, 200_000, 200_010, 200_020, 200_030])
    assert outcomes[4] is SampleOutcome.JUMP
    assert energy == 10 + 30


@pytest.mark.parametrize("factor", [10, 100, 1000])
def test_another_unit_counts_nothing_until_a_person_corrects_the_mapping(factor: int) -> None:
    other = [(100_010 + n) * factor for n in range(5)]
    outcomes, energy = run([100_000, 100_010, *other, 100_020])
    assert outcomes[4:7] == [SampleOutcome.UNIT] * 3
    assert outcomes[7] is SampleOutcome.GLITCH
    assert energy == 20


def test_zeros_for_long_are_found_to_be_a_glitch_when_the_counter_returns() -> None:
    outcomes, energy = run([100_000, 100_010, 0, 0, 0, 0, 0, 100_080, 100_090, 100_100])
    assert outcomes[4] is SampleOutcome.REWIND
    assert outcomes[9] is SampleOutcome.GLITCH
    assert energy == 100


def test_messages_that_waited_at_a_broker_and_come_together_count() -> None:
    counter = Counter()
    ats = [0, 10_000, 3_600_000, *(3_600_000 + n for n in range(1, 20)), 3_610_000, 3_680_000]
    readings = [0, 10, 20, *(20 + n * 100 for n in range(1, 20)), 1925, 2000]
    for at, raw in zip(ats, readings, strict=True):
        counter.take(Read(T + at, raw * 1000), LIMITS)
    assert counter.total == 2_000_000


def test_a_power_that_is_not_known_explains_nothing_and_stops_nothing() -> None:
    counter, limits = Counter(), CounterLimits(rated_mw=48_000_000, resolution=10_000)
    for n, raw in enumerate((0, 5, 10)):
        counter.take(Read(T + n * 1000, 50_000_000 + raw), limits)
    assert counter.take(Read(T + 240_000, 52_800_000), limits, restarted=True)[0] is SampleOutcome.COUNTED


def test_random_histories_have_no_phantom_energy() -> None:  # more by: python -m harness.foreign.counters
    for seed in range(1500):
        wrong, _ = judge(history(random.Random(seed)))
        assert not wrong, f"seed {seed}: {wrong}"


T_S = 1_790_000_100  # start of a group

samples = st.lists(
    st.tuples(st.integers(1, 400_000), st.integers(0, 5_000_000)), min_size=1, max_size=60
)  # milliseconds since the sample before, and the energy


def spread(*points: tuple[float, int]) -> list[SlotRun]:
    """The runs of points: seconds after ``T``, and the total then."""
    (first, total), *more = points
    state = Spread.begin(int((T_S + first) * 1000), total)
    return [run for at, total in more for run in state.take(int((T_S + at) * 1000), total)]


def test_samples_in_consecutive_slots_make_exact_slots() -> None:
    runs = spread(*((n * 15 + 7, n * 1000) for n in range(12)))
    assert [run.lossy for run in runs] == [False] * 10
    # The first slot has the energy from the first sample on: 8 of 15 s.
    assert runs[0] == SlotRun(T_S, T_S + 15, 533)
    assert sum(run.value for run in runs) == 9533


def test_sample_on_the_edge_ends_its_slot() -> None:
    runs = spread(*((n * 15, n * 10) for n in range(11)))
    assert runs == [SlotRun(T_S + n * 15, T_S + n * 15 + 15, 10) for n in range(10)]


def test_wider_spacing_makes_two_averages_a_milliwatt_hour_apart_in_whole_groups() -> None:
    assert spread((0, 0), (300, 2013)) == [
        SlotRun(T_S, T_S + 60, 100, lossy=True),
        SlotRun(T_S + 60, T_S + 150, 101, lossy=True),
        SlotRun(T_S + 150, T_S + 195, 100, lossy=True),
        SlotRun(T_S + 195, T_S + 300, 101, lossy=True),
    ]


def test_one_missing_sample_averages_its_group_alone() -> None:
    runs = spread(*((n * 15, n * 10) for n in range(31) if n != 13))
    assert [(run.start - T_S, run.lossy) for run in runs if run.lossy] == [(150, True)]
    assert sum(not run.lossy for run in runs) == 20


@given(st.integers(0, 150_000), samples)
def test_flows_up_to_each_group_are_the_interpolated_total_rounded_down(
    first_ms: int, found: list[tuple[int, int]]
) -> None:
    at, total = T_S * 1000 + first_ms, 77
    state = Spread.begin(at, total)
    points = [(at, total)]
    runs: list[SlotRun] = []
    for step, energy in found:
        at, total = at + step, total + energy
        points.append((at, total))
        runs += state.take(at, total)
    assert all(a.end == b.start for a, b in pairwise(runs)), "no hole and no overlap"
    assert all(run.value >= 0 for run in runs)
    flowed = 77
    for run in runs:
        flowed += run.value * ((run.end - run.start) // SLOT_S)
        if run.end % GROUP_S == 0 or not run.lossy:
            (t0, r0), (t1, r1) = next(
                (a, b) for a, b in pairwise(points) if a[0] <= run.end * 1000 <= b[0] and a[0] < b[0]
            )
            assert flowed == r0 + (r1 - r0) * (run.end * 1000 - t0) // (t1 - t0)
        if run.lossy:
            assert run.start // GROUP_S == (run.end - 1) // GROUP_S


def test_a_held_value_is_that_of_the_last_sample_at_or_before_the_end_of_the_slot() -> None:
    steps = SteppedValue.begin((T_S + 1) * 1000, 5)
    assert steps.take((T_S + 14) * 1000, 6) == []
    assert steps.take((T_S + 31) * 1000, 7) == [SlotRun(T_S, T_S + 30, 6)]
    assert steps.take((T_S + 60) * 1000, 9) == [SlotRun(T_S + 30, T_S + 45, 7), SlotRun(T_S + 45, T_S + 60, 9)]


def test_pending_slots_are_decided_before_the_utility_asks_for_them() -> None:
    every_s, delivery_s = 300, 180
    assert PENDING_MS / 1000 + every_s + delivery_s <= UtilitySettings.model_fields["gap_age_s"].default
