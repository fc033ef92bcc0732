"""The verdict of a release on itself."""

from dataclasses import replace

import pytest

from gateway.upgrade.verdict import FRESH_S, Facts, Meters, verdict

GOOD = Facts(meters=Meters(served=20, before=20), backlog=40, backlog_age_s=10)


def test_it_is_given_at_the_end_of_the_time_though_all_is_well_at_once() -> None:
    assert verdict(GOOD, GOOD, 600, 479, 600) is None
    assert verdict(GOOD, GOOD, 600, 480, 600) == (True, "")


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (replace(GOOD, meters=Meters(served=17, before=20)), "17 meters are served, 20 were before"),
        (replace(GOOD, backlog_age_s=FRESH_S + 1, backlog=41), "the backlog grew from 40 to 41 parts"),
        (replace(GOOD, bad=frozenset({"store"})), "an alarm of store"),
    ],
)
def test_what_is_worse_than_before_has_until_the_end_and_is_then_named(now: Facts, why: str) -> None:
    assert verdict(GOOD, now, 600, 480, 600) is None
    assert verdict(GOOD, now, 600, 570, 600) == (False, why)


def test_an_old_backlog_that_shrinks_is_good() -> None:
    first = replace(GOOD, backlog=5_000, backlog_age_s=86_400)
    assert verdict(first, replace(first, backlog=4_000), 600, 480, 600) == (True, "")


def test_a_controller_without_meters_is_good() -> None:
    first = replace(GOOD, meters=Meters(served=0, before=0))
    assert verdict(first, first, 600, 480, 600) == (True, "")


def test_a_release_that_ends_again_and_again_is_bad_though_it_works_in_between() -> None:
    assert verdict(GOOD, GOOD, 15, 570, 600) == (False, "it started 15 s ago")


def test_a_start_that_takes_minutes_is_good() -> None:
    assert verdict(GOOD, GOOD, 310, 480, 600) == (True, "")
