"""Counters that fall or jump: four names, four outcomes, and never energy that did not flow (row 22)."""

import random
from collections.abc import Sequence

import pytest

from adapters.energy.counter import Counter, CounterLimits, Outcome, Read
from harness.foreign.counters import history, judge

T = 1_790_000_000_000
LIMITS = CounterLimits(rated_mw=12_000_000, resolution=10_000)
"""12 kW, a counter in steps of 10 Wh: at most 43 Wh in 10 s."""


def run(
    readings: Sequence[int], limits: CounterLimits = LIMITS, restarts: Sequence[int] = (), every_s: int = 10
) -> tuple[list[Outcome], int]:
    """The outcomes of readings in watt-hours, and the energy counted, watt-hours."""
    counter = Counter()
    outcomes = [
        counter.take(Read(T + n * every_s * 1000, raw * 1000), limits, restarted=n in restarts)[0]
        for n, raw in enumerate(readings)
    ]
    return outcomes, counter.total // 1000


def test_a_counter_starts_when_two_readings_agree() -> None:
    outcomes, energy = run([0, 912_345, 912_350, 912_360])
    assert outcomes == [Outcome.HELD_BACK, Outcome.HELD_BACK, Outcome.STARTED, Outcome.COUNTED]
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
    assert outcomes == [Outcome.HELD_BACK] * 6 + [Outcome.STARTED, Outcome.COUNTED]
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
    assert outcomes == {Outcome.HELD_BACK, Outcome.STARTED, Outcome.COUNTED}


@pytest.mark.parametrize("strange", [[0], [0, 0], [999_999], [999_999, 999_999], [1], [50_000, 3]])
def test_glitch_of_some_samples_counts_nothing_of_its_own(strange: list[int]) -> None:
    outcomes, energy = run([100_000, 100_010, *strange, 100_040, 100_050])
    assert outcomes[-2:] == [Outcome.GLITCH, Outcome.COUNTED]
    assert energy == 50


def test_rewind_goes_on_from_the_older_total() -> None:
    outcomes, energy = run([100_000, 100_010, 99_000, 99_010, 99_020, 99_030])
    assert outcomes[2:] == [Outcome.HELD_BACK, Outcome.HELD_BACK, Outcome.REWIND, Outcome.COUNTED]
    assert energy == 10 + 30


def test_restart_evidence_confirms_a_fall_at_once() -> None:
    outcomes, energy = run([100_000, 100_010, 99_000, 99_010], restarts=[2])
    assert outcomes[2:] == [Outcome.REWIND, Outcome.COUNTED]
    assert energy == 20


@pytest.mark.parametrize(("readings", "counted"), [([5, 10, 15, 6, 13, 20, 30], 34), ([5, 10, 15, 9, 13, 17, 21], 22)])
def test_a_reported_restart_near_zero_is_no_dip(readings: list[int], counted: int) -> None:
    outcomes, energy = run(readings, restarts=[3], every_s=60)
    assert outcomes[3:5] == [Outcome.HELD_BACK, Outcome.REWIND]
    assert energy == counted, "one interval is lost, of the restart itself"


def test_a_reported_restart_that_cuts_decimals_counts_from_the_cut_total() -> None:
    outcomes, energy = run([544_580, 544_587, 544_580, 544_585, 544_590], restarts=[2])
    assert outcomes[2:] == [Outcome.HELD_BACK, Outcome.REWIND, Outcome.COUNTED]
    assert energy == 7 + 10
    outcomes, energy = run([544_580, 544_587, 544_580, 544_590, 544_595], restarts=[2])
    assert outcomes[2:] == [Outcome.HELD_BACK, Outcome.GLITCH, Outcome.COUNTED], "the decimals are there again"
    assert energy == 7 + 8


def test_reset_counts_the_new_reading_only_if_the_rule_says_that_it_begins_at_zero() -> None:
    readings = [100_000, 100_010, 20, 30, 40]
    assert run(readings)[1] == 10 + 20
    limits = CounterLimits(rated_mw=12_000_000, resolution=10_000, restarts_at_zero=True)
    outcomes, energy = run(readings, limits)
    assert outcomes[4] is Outcome.RESET
    assert energy == 10 + 40


def test_rollover_counts_across_the_declared_width() -> None:
    limits = CounterLimits(rated_mw=12_000_000, resolution=10_000, rollover=10_000_000_000)
    outcomes, energy = run([9_999_980, 9_999_990, 5, 10, 15], limits)
    assert outcomes[4] is Outcome.ROLLOVER
    assert energy == 35


def test_small_dip_is_held_at_the_highest_reading() -> None:
    # A restart cuts decimals: 544,587.493 Wh become 544,587.
    outcomes, energy = run([544_580, 544_587, 544_580, 544_585, 544_590])
    assert outcomes[2:] == [Outcome.DIP, Outcome.DIP, Outcome.COUNTED]
    assert energy == 10


def test_spike_that_the_rated_power_allows_is_taken_back_as_the_counter_passes_it() -> None:
    outcomes, energy = run([100_000, 100_010, 100_040, 100_012, 100_020, 100_045])
    assert Outcome.REWIND not in outcomes
    assert energy == 45


def test_jump_beyond_the_rated_power_never_counts() -> None:
    outcomes, energy = run([100_000, 100_010, 200_000, 200_010, 200_020, 200_030])
    assert outcomes[4] is Outcome.JUMP
    assert energy == 10 + 30


@pytest.mark.parametrize("factor", [10, 100, 1000])
def test_another_unit_counts_nothing_until_a_person_corrects_the_mapping(factor: int) -> None:
    other = [(100_010 + n) * factor for n in range(5)]
    outcomes, energy = run([100_000, 100_010, *other, 100_020])
    assert outcomes[4:7] == [Outcome.UNIT] * 3
    assert outcomes[7] is Outcome.GLITCH
    assert energy == 20


def test_zeros_for_long_are_found_to_be_a_glitch_when_the_counter_returns() -> None:
    outcomes, energy = run([100_000, 100_010, 0, 0, 0, 0, 0, 100_080, 100_090, 100_100])
    assert outcomes[4] is Outcome.REWIND
    assert outcomes[9] is Outcome.GLITCH
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
    assert counter.take(Read(T + 240_000, 52_800_000), limits, restarted=True)[0] is Outcome.COUNTED


def test_random_histories_have_no_phantom_energy() -> None:  # more by: python -m harness.foreign.counters
    for seed in range(1500):
        wrong, _ = judge(history(random.Random(seed)))
        assert not wrong, f"seed {seed}: {wrong}"
