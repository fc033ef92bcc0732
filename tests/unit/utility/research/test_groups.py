"""The open tier's sums: no home stands out, groups are stable, and two releases have no difference to take."""

from collections.abc import Mapping
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonwatt.town.town import Function
from utility.research.attacks.success import of_hits
from utility.research.groups import MAX_SHARE_PERCENT, MEASURES, UNIT, Group, digests_of, filled, grouped, sums_of
from utility.research.homes import Home, Homes, Measure
from utility.research.release import Asked, OpenRelease, Tier, is_above, open_release

SECRET = b"secret"
DAY = 96


def made(seed: int, houses: int, apartments: int, days: int = 2, spread: float = 0.5) -> Homes:
    random = np.random.default_rng(seed)
    count = houses + apartments
    homes = [
        Home(microgrid="r", place=str(n), account=n + 1, function=Function.HOUSE if n < houses else Function.APARTMENT)
        for n in range(count)
    ]
    used = np.rint(300_000 * random.lognormal(0, spread, (count, days * DAY))).astype(np.int64)
    values = {measure: used * (n == 0) for n, measure in enumerate(Measure)}
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
    homes.values[Measure.USED][3] *= 8
    merged = grouped(homes, SECRET)
    assert 1 <= len(merged) < len(calm)
    homes.values[Measure.USED][3] *= 100
    assert grouped(homes, SECRET) == ()


def test_a_home_whose_use_is_far_below_zero_stands_out_of_no_sum() -> None:
    homes = made(1, 120, 0, spread=0.2)
    groups = grouped(homes, SECRET, 100)
    assert sums_of(homes, groups).shown[Measure.USED].all()
    # Its battery's level was corrected by 15 kWh.
    homes.values[Measure.USED][3, 50] = -15_000_000
    (shown,) = sums_of(homes, groups).shown[Measure.USED]
    assert np.flatnonzero(~shown).tolist() == [50]
    homes.values[Measure.USED][3] = -15_000_000
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

    def members(homes: Homes, secret: bytes) -> set[frozenset[Home]]:
        return {frozenset(homes.homes[row] for row in group.rows) for group in grouped(homes, secret)}

    assert members(homes, SECRET) == members(homes.take(np.arange(90)[::-1]), SECRET)
    assert members(homes, SECRET) != members(homes, b"another")


def test_a_group_with_a_home_less_or_a_late_reading_has_another_digest() -> None:
    homes = made(4, 60, 0)
    groups = grouped(homes, SECRET)
    digests = digests_of(homes, sums_of(homes, groups), SECRET)
    assert digests == digests_of(homes, sums_of(homes, groups), SECRET)
    first, *others = groups
    smaller = [Group(name=first.name, function="house", rows=first.rows[1:]), *others]
    changed = digests_of(homes, sums_of(homes, smaller), SECRET)
    assert {name for name in digests if digests[name] != changed[name]} == {first.name}
    homes.values[Measure.USED][first.rows[0], 5] += 2 * UNIT
    late = digests_of(homes, sums_of(homes, groups), SECRET)
    assert {name for name in digests if digests[name] != late[name]} == {first.name}


def test_missing_steps_are_filled_by_the_homes_usual_ones_and_homes_without_readings_are_left_out() -> None:
    homes = made(5, 20, 0, days=10)
    homes.known[0, 5::DAY] = np.arange(10) > 0
    homes.values[Measure.USED][0, 5::DAY] = [0, *[900] * 9]
    homes.known[1] = np.arange(10 * DAY) < 500
    whole = filled(homes)
    assert len(whole.homes) == 19
    assert whole.known.all()
    assert whole.values[Measure.USED][0, 5] == 900
    assert (whole.values[Measure.USED][1:] == homes.values[Measure.USED][2:]).all()


@pytest.mark.parametrize("least", [15, 100])
def test_functions_with_too_few_homes_are_merged(least: int) -> None:
    homes = made(6, 3 * least, least - 1)
    assert {group.function for group in grouped(homes, SECRET, least)} == {"home"}
    homes = made(6, 3 * least, least, spread=0.2)
    assert {group.function for group in grouped(homes, SECRET, least)} == {"house", "apartment"}


def released(homes: Homes, *earlier: Mapping[str, str]) -> OpenRelease:
    asked = Asked(tier=Tier.OPEN, start=0, end=2 * 86_400)
    return open_release(asked, homes, earlier, ZoneInfo("America/New_York"), SECRET, "1")


def test_a_group_that_changed_since_an_earlier_release_is_withheld(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utility.research.release.attacks_on", lambda *_: [])
    homes = made(7, 60, 0, spread=0.2)
    first = released(homes)
    assert first.withheld == ()
    assert released(homes, first.digests).id == first.id
    late = homes.take(np.arange(60))
    group = first.sums.groups[1]
    late.values[Measure.USED][group.rows[0], 7] += 5 * UNIT
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
