"""From meters to homes, sums of groups in which none stands out, and attacks that find homes elsewhere."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonwatt.model.records import RecordType
from commonwatt.town.town import Direction, Function
from harness.research import emulated_homes, emulated_town
from utility.registry.accounts import DatedRegistry, Holding, Installed
from utility.research.attacks import Success, attacks_on, find_group_by_half_hours, find_use, of_hits, of_pairs
from utility.research.coarsening import Coarsening, coarsened, sampled
from utility.research.groups import (
    MAX_SHARE_PERCENT,
    MEASURES,
    UNIT,
    HomeGroup,
    OpenSums,
    digests_of,
    filled,
    grouped,
    sums_of,
)
from utility.research.homes import HALF_HOUR_S, Assembly, HomeMeasure, Homes, PeriodHome, homes_of, meters_of
from utility.research.release import AskedRelease, OpenRelease, Tier, attacks_on_pseudonyms, is_above, open_release

FIRST, UNTIL = 1000, 1004
GENERATION, STORED, THROUGH = int(RecordType.GENERATION), int(RecordType.STORED), int(RecordType.THROUGH)


def installed(
    number: int,
    direction: Direction,
    place: str = "house 1",
    *,
    start: int | None = None,
    end: int | None = None,
    holdings: tuple[Holding, ...] = (Holding(account=7, start=0),),
    function: Function = Function.HOUSE,
) -> Installed:
    return Installed(
        id=number,
        microgrid="r1",
        place=place,
        function=function,
        direction=direction,
        capacity=10**6 if direction is Direction.OUTGOING else None,
        start=start,
        end=end,
        holdings=holdings,
    )


def registry(*meters: Installed) -> DatedRegistry:
    return DatedRegistry(revision=1, meters={meter.id: meter for meter in meters})


def assembled(found: DatedRegistry, readings: dict[tuple[int, int, int], int]) -> Homes:
    homes, meters = homes_of(found, FIRST, UNTIL)
    assembly = Assembly(homes, meters, FIRST, UNTIL, 900)
    keys = sorted(readings)
    assembly.add(
        np.array([key[0] for key in keys], np.uint64),
        np.array([key[1] for key in keys]),
        np.array([key[2] for key in keys]),
        np.array([[readings[key]] for key in keys]),
        np.ones((len(keys), 1), np.bool_),
    )
    return assembly.homes()


def test_homes_of_a_period_have_one_account_during_it() -> None:
    moved = (Holding(account=1, start=0, end=1002), Holding(account=2, start=1002))
    left = (Holding(account=1, start=0, end=FIRST), Holding(account=3, start=FIRST))
    homes, meters = homes_of(
        registry(
            installed(1, Direction.INCOMING, "moved in between", holdings=moved),
            installed(2, Direction.INCOMING, "moved before", holdings=left),
            installed(3, Direction.INCOMING, "vacant", holdings=()),
            installed(4, Direction.INCOMING, "gone", end=FIRST),
            installed(5, Direction.INCOMING, "hospital", function=Function.HOSPITAL),
        ),
        FIRST,
        UNTIL,
    )
    assert homes == (PeriodHome(microgrid="r1", place="moved before", account=3, function=Function.HOUSE),)
    assert [meter.id for meter in meters] == [2]
    assert meters_of(meters, [5]) == []


def test_use_follows_from_what_the_meters_and_the_battery_say() -> None:
    pair = registry(installed(1, Direction.OUTGOING), installed(2, Direction.INCOMING))
    readings = {(1, STORED, FIRST - 1): 500}
    for quarter, (generated, fed, stored, taken) in enumerate([(90, 10, 540, 0), (0, 0, 500, 30), (0, 0, 500, 8)]):
        readings |= {
            (1, GENERATION, FIRST + quarter): generated,
            (1, THROUGH, FIRST + quarter): fed,
            (1, STORED, FIRST + quarter): stored,
            (2, THROUGH, FIRST + quarter): taken,
            (99, THROUGH, FIRST + quarter): 12345,
        }
    homes = assembled(pair, readings)
    assert homes.known.tolist() == [[True, True, True, False]]
    assert homes.values[HomeMeasure.USED].tolist() == [[40, 70, 8, 0]]
    assert homes.values[HomeMeasure.GENERATED].tolist() == [[90, 0, 0, 0]]
    del readings[1, STORED, FIRST + 1]
    assert assembled(pair, readings).known.tolist() == [[True, False, False, False]]


@pytest.mark.parametrize("day", [0, 1, 2])
def test_a_day_of_a_longer_period_is_whole(day: int) -> None:
    homes, meters = homes_of(registry(installed(1, Direction.OUTGOING)), FIRST, FIRST + 3 * 96)
    first = FIRST + day * 96
    assembly = Assembly(homes, meters, first, first + 96, 15)
    quarters = np.arange(first - 1, first + 96)
    for kind, value in ((GENERATION, 7), (STORED, 50), (THROUGH, 2)):
        values = np.full((97, 60), value)
        assembly.add(np.full(97, 1, np.uint64), np.full(97, kind), quarters, values, np.ones(values.shape, np.bool_))
    found = assembly.homes()
    assert found.known.all()
    assert (found.values[HomeMeasure.USED] == 5).all()


def test_an_exchanged_meter_carries_its_home_on() -> None:
    both = registry(installed(1, Direction.INCOMING, end=1002), installed(2, Direction.INCOMING, start=1002))
    readings = {(1, THROUGH, q): 5 for q in (1000, 1001)} | {(2, THROUGH, q): 6 for q in (1002, 1003)}
    homes = assembled(both, readings)
    assert homes.known.all()
    assert homes.values[HomeMeasure.USED].tolist() == [[5, 5, 6, 6]]
    assert not assembled(both, {(1, THROUGH, q): 5 for q in range(FIRST, UNTIL)}).known[0, 2:].any()


@pytest.mark.parametrize(
    ("spans", "is_home"),
    [
        ([(None, None)], True),
        ([(FIRST, UNTIL)], True),
        ([(None, 1002), (1002, None)], True),
        ([(None, 1003), (1002, None)], True),
        ([(1002, None)], False),
        ([(None, 1002)], False),
        ([(None, 1001), (1002, None)], False),
    ],
    ids=["always", "just then", "exchanged", "twice for a while", "came late", "left early", "a gap"],
)
@pytest.mark.parametrize("direction", list(Direction))
def test_a_place_without_a_meter_for_a_while_is_no_home_that_used_nothing(
    direction: Direction, spans: list[tuple[int | None, int | None]], is_home: bool
) -> None:
    other = Direction.INCOMING if direction is Direction.OUTGOING else Direction.OUTGOING
    meters = [installed(n, direction, start=start, end=end) for n, (start, end) in enumerate(spans, 1)]
    homes, _ = homes_of(registry(installed(9, other), *meters), FIRST, UNTIL)
    assert bool(homes) is is_home


def test_longer_steps_begin_at_multiples_and_need_all_their_parts() -> None:
    homes = assembled(
        registry(installed(1, Direction.INCOMING)), {(1, THROUGH, q): q - FIRST + 1 for q in (1001, 1002, 1003)}
    )
    halves = homes.in_steps(1800)
    assert halves.start == FIRST * 900
    assert (halves.values[HomeMeasure.USED].tolist(), halves.known.tolist()) == ([[2, 7]], [[False, True]])
    assert homes.take([]).known.shape == (0, 4)


def test_coarser_readings_keep_what_they_should() -> None:
    count, steps = 40, 192
    random = np.random.default_rng(1)
    values = {measure: random.integers(0, 10**6, (count, steps)) for measure in HomeMeasure}
    names = tuple(PeriodHome(microgrid="r", place=str(n), account=n + 1, function=Function.HOUSE) for n in range(count))
    homes = Homes(homes=names, start=0, step_s=900, values=values, known=np.ones((count, steps), np.bool_))
    some = sampled(homes, Coarsening(sample_percent=25), random)
    assert len(some.homes) == 10
    assert len(sampled(homes, Coarsening(sample_percent=1), random).homes) == 1
    rounded = coarsened(homes, Coarsening(unit_wh=100), random).values[HomeMeasure.USED]
    assert not (rounded % 100_000).any()
    assert np.abs(rounded - values[HomeMeasure.USED]).max() <= 50_000
    hours = coarsened(homes, Coarsening(step_s=3600), random)
    assert hours.values[HomeMeasure.TAKEN].sum() == values[HomeMeasure.TAKEN].sum()
    noisy = coarsened(homes, Coarsening(noise_wh=10), random).values[HomeMeasure.USED] - values[HomeMeasure.USED]
    assert 9_000 < noisy.std() < 11_000


SECRET = b"secret"
DAY = 96


def made(seed: int, houses: int, apartments: int, days: int = 2, spread: float = 0.5) -> Homes:
    random = np.random.default_rng(seed)
    count = houses + apartments
    homes = [
        PeriodHome(
            microgrid="r", place=str(n), account=n + 1, function=Function.HOUSE if n < houses else Function.APARTMENT
        )
        for n in range(count)
    ]
    used = np.rint(300_000 * random.lognormal(0, spread, (count, days * DAY))).astype(np.int64)
    values = {measure: used * (n == 0) for n, measure in enumerate(HomeMeasure)}
    return Homes(homes=tuple(homes), start=0, step_s=900, values=values, known=np.ones(used.shape, dtype=np.bool_))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 999), st.integers(0, 120), st.integers(0, 60), st.sampled_from([15, 100]))
def test_no_home_stands_out_of_any_sum(seed: int, houses: int, apartments: int, least: int) -> None:  # req: U7
    homes = made(seed, houses, apartments)
    groups = grouped(homes, SECRET, least)
    rows = [row for group in groups for row in group.rows]
    assert len(rows) == len(set(rows))
    if houses + apartments < least:
        assert groups == ()
        return
    assert sorted(rows) == list(range(houses + apartments)), "no home is left out"
    sums = sums_of(homes, groups)
    for row, group in enumerate(groups):
        assert len(group.rows) >= least
        for measure in MEASURES:
            members = homes.values[measure][list(group.rows)]
            total = members.sum(axis=0)
            shown = sums.shown[measure][row]
            published = sums.values[measure][row]
            assert (members.max(axis=0)[shown] * 100 <= MAX_SHARE_PERCENT * np.maximum(total[shown], UNIT)).all()
            assert (np.abs(published - total)[shown] <= UNIT // 2).all()
            assert not published[~shown].any()
            assert not (published % UNIT).any()


def test_one_home_with_nearly_all_the_use_merges_its_group_or_stops_the_release() -> None:
    homes = made(1, 120, 0, spread=0.2)
    calm = grouped(homes, SECRET)
    homes.values[HomeMeasure.USED][3] *= 8
    merged = grouped(homes, SECRET)
    assert 1 <= len(merged) < len(calm)
    homes.values[HomeMeasure.USED][3] *= 100
    assert grouped(homes, SECRET) == ()


def test_a_home_whose_use_is_far_below_zero_stands_out_of_no_sum() -> None:
    homes = made(1, 120, 0, spread=0.2)
    groups = grouped(homes, SECRET, 100)
    assert sums_of(homes, groups).shown[HomeMeasure.USED].all()
    # Its battery's level was corrected by 15 kWh.
    homes.values[HomeMeasure.USED][3, 50] = -15_000_000
    (shown,) = sums_of(homes, groups).shown[HomeMeasure.USED]
    assert np.flatnonzero(~shown).tolist() == [50]
    homes.values[HomeMeasure.USED][3] = -15_000_000
    assert grouped(homes, SECRET, 100) == ()


def test_a_home_that_moves_changes_only_its_own_group() -> None:
    homes = made(2, 160, 0)
    before = {group.name: {homes.homes[row] for row in group.rows} for group in grouped(homes, SECRET)}
    gone = homes.homes[17]
    left = homes.take([row for row in range(160) if row != 17])
    after = {group.name: {left.homes[row] for row in group.rows} for group in grouped(left, SECRET)}
    same = {name for name in before if before[name] == after.get(name)}
    changed = set().union(*(members for name, members in before.items() if name not in same))
    assert gone in changed
    assert len(same) >= len(before) - 2, "at most its group and the sibling that it is merged with"


def test_the_groups_differ_with_the_secret_and_not_with_the_order() -> None:
    homes = made(3, 90, 0)

    def members(homes: Homes, secret: bytes) -> set[frozenset[PeriodHome]]:
        return {frozenset(homes.homes[row] for row in group.rows) for group in grouped(homes, secret)}

    assert members(homes, SECRET) == members(homes.take(np.arange(90)[::-1]), SECRET)
    assert members(homes, SECRET) != members(homes, b"another")


def test_a_group_with_a_home_less_or_a_late_reading_has_another_digest() -> None:
    homes = made(4, 60, 0)
    groups = grouped(homes, SECRET)
    digests = digests_of(homes, sums_of(homes, groups), SECRET)
    assert digests == digests_of(homes, sums_of(homes, groups), SECRET)
    first, *others = groups
    smaller = [HomeGroup(name=first.name, function="house", rows=first.rows[1:]), *others]
    changed = digests_of(homes, sums_of(homes, smaller), SECRET)
    assert {name for name in digests if digests[name] != changed[name]} == {first.name}
    homes.values[HomeMeasure.USED][first.rows[0], 5] += 2 * UNIT
    late = digests_of(homes, sums_of(homes, groups), SECRET)
    assert {name for name in digests if digests[name] != late[name]} == {first.name}


def test_missing_steps_are_filled_by_the_homes_usual_ones_and_homes_without_readings_are_left_out() -> None:
    homes = made(5, 20, 0, days=10)
    homes.known[0, 5::DAY] = np.arange(10) > 0
    homes.values[HomeMeasure.USED][0, 5::DAY] = [0, *[900] * 9]
    homes.known[1] = np.arange(10 * DAY) < 500
    whole = filled(homes)
    assert len(whole.homes) == 19
    assert whole.known.all()
    assert whole.values[HomeMeasure.USED][0, 5] == 900
    assert (whole.values[HomeMeasure.USED][1:] == homes.values[HomeMeasure.USED][2:]).all()


@pytest.mark.parametrize("least", [15, 100])
def test_functions_with_too_few_homes_are_merged(least: int) -> None:
    homes = made(6, 3 * least, least - 1)
    assert {group.function for group in grouped(homes, SECRET, least)} == {"home"}
    homes = made(6, 3 * least, least, spread=0.2)
    assert {group.function for group in grouped(homes, SECRET, least)} == {"house", "apartment"}


def released(homes: Homes, *earlier: Mapping[str, str]) -> OpenRelease:
    asked = AskedRelease(tier=Tier.OPEN, start=0, end=2 * 86_400)
    return open_release(asked, homes, earlier, ZoneInfo("America/New_York"), SECRET, "1")


def test_a_group_that_changed_since_an_earlier_release_is_withheld(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utility.research.release.attacks_on", lambda *_: [])
    homes = made(7, 60, 0, spread=0.2)
    first = released(homes)
    assert first.withheld == ()
    assert released(homes, first.digests).id == first.id
    late = homes.take(np.arange(60))
    group = first.sums.groups[1]
    late.values[HomeMeasure.USED][group.rows[0], 7] += 5 * UNIT
    second = released(late, first.digests)
    assert second.withheld == (group.name,)
    assert second.id != first.id
    assert [one.name for one in second.sums.groups] == [one.name for one in first.sums.groups if one is not group]
    third = released(homes, first.digests, second.digests)
    assert third.withheld == (group.name,), "what the second did not have is not added"
    assert released(homes.take(np.arange(59)), first.digests).withheld, "nor after a home has left"


def test_what_may_succeed_above_the_limit_is_above_it() -> None:
    few = of_hits("", "", 20, 2, 0.1)
    assert is_above([few], 5), "few trials are no proof"
    assert not is_above([of_hits("", "", 20_000, 2000, 0.1)], 5)
    assert is_above([of_hits("", "", 20_000, 3200, 0.1)], 5)
    assert not is_above([], 5)


ZONE = ZoneInfo("America/New_York")


@lru_cache(maxsize=1)
def week() -> Homes:
    return emulated_homes(emulated_town(200, 60), 7)


def attacked(option: Coarsening, trials: int = 200) -> tuple[Success, Success]:
    random = np.random.default_rng(1)
    released = coarsened(sampled(week(), option, random), option, random)
    by_half_hours, by_bills = attacks_on_pseudonyms(week().in_steps(HALF_HOUR_S), released, ZONE, random, trials)
    return by_half_hours, by_bills


def test_five_half_hours_or_a_bill_find_a_home_among_pseudonyms() -> None:  # req: U7
    for success in attacked(Coarsening()):
        assert success.rate > 0.95
        assert success.rate - success.guess > 0.9
        assert success.interval[0] > 0.9
        assert success.guess == 1 / 260


def test_each_way_of_coarsening_is_attacked_as_it_is() -> None:
    rounded, coarse = attacked(Coarsening(unit_wh=10)), attacked(Coarsening(step_s=3600, unit_wh=1000))
    assert min(success.rate for success in rounded) > 0.8, "rounding to 10 Wh buys next to nothing"
    assert coarse[0].rate < rounded[0].rate
    noisy = attacked(Coarsening(noise_wh=200))
    assert max(success.rate for success in noisy) < 0.5
    sample = attacked(Coarsening(sample_percent=20))
    assert all(0.1 < success.rate < 0.3 for success in sample), "who is not in it can't be found"


def test_homes_whose_readings_are_missing_are_not_found_by_them() -> None:
    homes = replace(week(), known=np.ones_like(week().known))
    homes.known[10] = False
    released = coarsened(homes, Coarsening(), np.random.default_rng(1))
    truth = week().in_steps(HALF_HOUR_S).take([10])
    success, _ = attacks_on_pseudonyms(truth, released, ZONE, np.random.default_rng(1), 20)
    assert success.rate == 0


def bare_sums(homes: Homes, size: int) -> OpenSums:
    """Exact sums of groups of a size: what the rules of the open tier forbid."""
    groups = [
        HomeGroup(name=str(first), function="house", rows=tuple(range(first, first + size)))
        for first in range(0, len(homes.homes) // size * size, size)
    ]
    values = {m: np.array([homes.values[m][list(g.rows)].sum(axis=0) for g in groups]) for m in MEASURES}
    shown = {m: np.ones(values[m].shape, dtype=np.bool_) for m in MEASURES}
    return OpenSums(groups=tuple(groups), start=homes.start, step_s=homes.step_s, values=values, shown=shown)


def test_attacks_on_groups_succeed_where_groups_are_too_small() -> None:
    homes = week().take(np.arange(60, 84))
    truth = homes.in_steps(HALF_HOUR_S)
    alone = attacks_on(truth, bare_sums(homes, 1), ZONE, np.random.default_rng(1), 200)
    assert alone[0].rate > 10 * alone[0].guess, "though the attacker reckons with rounded sums"
    assert alone[1].rate - alone[1].guess > 0.2
    assert alone[2].rate == 1, "the group's use is the home's"
    pairs, random = bare_sums(homes, 2), np.random.default_rng(1)
    assert find_group_by_half_hours(truth, pairs, random, 200).at_most_over_guessing > 0.05
    assert find_use(truth, pairs, random, 200).at_most_over_guessing > 0.05


def test_groups_by_the_rules_give_little_away() -> None:
    groups = grouped(week(), SECRET)
    assert len(groups) > 3
    for success in attacks_on(
        week().in_steps(HALF_HOUR_S), sums_of(week(), groups), ZONE, np.random.default_rng(1), 1000
    ):
        assert success.rate - success.guess < 0.05, success


@pytest.mark.parametrize(("hits", "low", "high"), [(0, 0.0, 0.0370), (50, 0.4038, 0.5962), (100, 0.9630, 1.0)])
def test_the_interval_is_wilsons(hits: int, low: float, high: float) -> None:
    success = of_hits("", "", 100, hits, 0.1)
    assert success.interval == pytest.approx((low, high), abs=1e-3)
    assert success.at_most_over_guessing == pytest.approx(high - 0.1, abs=1e-3)


def test_an_attack_that_was_never_tried_is_taken_for_the_worst() -> None:
    assert of_hits("", "", 0, 0, 0.0).at_most_over_guessing == 1
    assert of_pairs("", "", np.zeros(0), np.zeros(0)).at_most_over_guessing == 1
