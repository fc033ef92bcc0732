"""Attacks on releases of an emulated town's week are real: they find homes where nothing hides them."""

from dataclasses import replace
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from harness.research.town import emulated_homes, emulated_town
from utility.research.attacks.aggregates import attacks_on, find_group_by_half_hours, find_use
from utility.research.attacks.success import Success, of_hits, of_pairs
from utility.research.coarsening import Coarsening, coarsened, sampled
from utility.research.figures import attacks_on_pseudonyms
from utility.research.groups import MEASURES, Group, OpenSums, grouped, sums_of
from utility.research.homes import HALF_HOUR_S, Homes

ZONE = ZoneInfo("America/New_York")
SECRET = b"secret"


@lru_cache(maxsize=1)
def week() -> Homes:
    return emulated_homes(emulated_town(200, 60), 7)


def attacked(option: Coarsening, trials: int = 200) -> tuple[Success, Success]:
    random = np.random.default_rng(1)
    released = coarsened(sampled(week(), option, random), option, random)
    by_half_hours, by_bills = attacks_on_pseudonyms(
        week().in_steps(HALF_HOUR_S), released, option, ZONE, random, trials
    )
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
    shuffled = attacked(Coarsening(shuffled=True))
    assert min(success.rate for success in shuffled) > 0.9, "the order of days hides nobody"


def test_homes_whose_readings_are_missing_are_not_found_by_them() -> None:
    homes = replace(week(), known=np.ones_like(week().known))
    homes.known[10] = False
    released = coarsened(homes, Coarsening(), np.random.default_rng(1))
    success, _ = attacks_on_pseudonyms(
        week().in_steps(HALF_HOUR_S).take([10]), released, Coarsening(), ZONE, np.random.default_rng(1), 20
    )
    assert success.rate == 0


def bare_sums(homes: Homes, size: int) -> OpenSums:
    """Exact sums of groups of a size: what the rules of the open tier forbid."""
    groups = [
        Group(name=str(first), function="house", rows=tuple(range(first, first + size)))
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
