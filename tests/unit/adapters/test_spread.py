"""Energy of a cumulative counter over slots: exact sums, whole averaged groups."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from adapters.energy.channel import PENDING_MS
from adapters.energy.spread import Run, Spread, Steps
from commonwatt.config.utility import UtilitySettings
from commonwatt.model.units import GROUP_S, SLOT_S

T = 1_790_000_100  # start of a group

samples = st.lists(
    st.tuples(st.integers(1, 400_000), st.integers(0, 5_000_000)), min_size=1, max_size=60
)  # milliseconds since the sample before, and the energy


def spread(*points: tuple[float, int]) -> list[Run]:
    """The runs of points: seconds after ``T``, and the total then."""
    (first, total), *more = points
    state = Spread.begin(int((T + first) * 1000), total)
    return [run for at, total in more for run in state.take(int((T + at) * 1000), total)]


def test_samples_in_consecutive_slots_make_exact_slots() -> None:
    runs = spread(*((n * 15 + 7, n * 1000) for n in range(12)))
    assert [run.lossy for run in runs] == [False] * 10
    # The first slot has the energy from the first sample on: 8 of 15 s.
    assert runs[0] == Run(T, T + 15, 533)
    assert sum(run.value for run in runs) == 9533


def test_sample_on_the_edge_ends_its_slot() -> None:
    runs = spread(*((n * 15, n * 10) for n in range(11)))
    assert runs == [Run(T + n * 15, T + n * 15 + 15, 10) for n in range(10)]


def test_wider_spacing_makes_two_averages_a_milliwatt_hour_apart_in_whole_groups() -> None:
    assert spread((0, 0), (300, 2013)) == [
        Run(T, T + 60, 100, lossy=True),
        Run(T + 60, T + 150, 101, lossy=True),
        Run(T + 150, T + 195, 100, lossy=True),
        Run(T + 195, T + 300, 101, lossy=True),
    ]


def test_one_missing_sample_averages_its_group_alone() -> None:
    runs = spread(*((n * 15, n * 10) for n in range(31) if n != 13))
    assert [(run.start - T, run.lossy) for run in runs if run.lossy] == [(150, True)]
    assert sum(not run.lossy for run in runs) == 20


@given(st.integers(0, 150_000), samples)
def test_flows_up_to_each_group_are_the_interpolated_total_rounded_down(
    first_ms: int, found: list[tuple[int, int]]
) -> None:
    at, total = T * 1000 + first_ms, 77
    state = Spread.begin(at, total)
    points = [(at, total)]
    runs: list[Run] = []
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
    steps = Steps.begin((T + 1) * 1000, 5)
    assert steps.take((T + 14) * 1000, 6) == []
    assert steps.take((T + 31) * 1000, 7) == [Run(T, T + 30, 6)]
    assert steps.take((T + 60) * 1000, 9) == [Run(T + 30, T + 45, 7), Run(T + 45, T + 60, 9)]


def test_pending_slots_are_decided_before_the_utility_asks_for_them() -> None:
    every_s, delivery_s = 300, 180
    assert PENDING_MS / 1000 + every_s + delivery_s <= UtilitySettings.model_fields["gap_age_s"].default
