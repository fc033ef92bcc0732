"""The Green Button feed and the schema: every feed of an account obeys it.

If these fail, a customer's file is refused, or read wrongly, by the programs of others.
"""

import xml.etree.ElementTree as ET
from calendar import monthrange
from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from commonwatt.model.time.times import parse_time
from harness.green_button import ESPI, faults
from utility.exports.customer.green_button import green_button
from utility.exports.customer.quarters import AccountQuarters, Flow, Quality
from utility.jobs.calendar_periods import NEW_YORK

HOURS_OF_GAP = slice(40, 52)


def account(
    begin: str, end: str, *, settled: bool = True, silent: bool = False, meters: bool = True
) -> AccountQuarters:
    """An account with both directions, each quality in turn, and a gap of three hours on the first day."""
    first, after = (parse_time(text, "", NEW_YORK) // 900 for text in (begin, end))
    count = after - first
    quality = (np.arange(count) % len(Quality)).astype(np.uint8)
    quality[HOURS_OF_GAP] = Quality.MISSING
    quality[96 * 2 : 96 * 3] = Quality.MISSING  # most of the third day
    if silent:
        quality[:] = Quality.MISSING
    energy = np.where(quality > 0, np.arange(count) * 1_000_003, 0)
    flows = tuple(Flow) if meters else ()
    return AccountQuarters(
        account=7,
        first=first,
        energy=dict.fromkeys(flows, energy),
        quality=dict.fromkeys(flows, quality),
        settled=settled,
    )


def feed_of(quarters: AccountQuarters) -> ET.Element:
    return ET.fromstring("".join(green_button(quarters, "abc", NEW_YORK)))


ACCOUNTS = {
    "a day of 25 hours": account("2026-10-31", "2026-11-04"),
    "a day of 23 hours": account("2027-03-13", "2027-03-17", settled=False),
    "a month": account("2026-12", "2027-01"),
    "a month without data": account("2026-11", "2026-12", silent=True),
    "no meter": account("2026-11-01", "2026-11-03", meters=False),
}


@pytest.mark.parametrize("name", ACCOUNTS)
def test_feed_has_nothing_that_the_schema_forbids(name: str) -> None:
    quarters = ACCOUNTS[name]
    feed = feed_of(quarters)
    assert faults(feed) == []
    readings = list(feed.iter(f"{ESPI}IntervalReading"))
    qualities = [quality for flow in quarters.quality.values() for quality in flow.tolist() if quality]
    assert len(readings) == len(qualities)
    # Manually edited, questionable, derived, other; an exact quarter-hour has the type's default.
    codes = {Quality.EDITED: 7, Quality.INCOMPLETE: 10, Quality.AVERAGED: 11, Quality.ESTIMATED: 16}
    found = Counter(int(one.text or "") for one in feed.iter(f"{ESPI}quality"))
    assert found == Counter(codes[Quality(one)] for one in qualities if one != Quality.MEASURED)


def period(element: ET.Element) -> tuple[int, int]:
    start, duration = (int(element.findtext(f"{ESPI}{name}", "")) for name in ("start", "duration"))
    return start, start + duration


@pytest.mark.parametrize(
    ("name", "hours"), [("a day of 25 hours", [24, 25, 24, 24]), ("a day of 23 hours", [24, 23, 24, 24])]
)
def test_readings_lie_in_their_block_and_blocks_are_local_days(name: str, hours: list[int]) -> None:
    blocks = list(feed_of(ACCOUNTS[name]).iter(f"{ESPI}IntervalBlock"))
    assert len(blocks) == 2 * len(hours)
    for block, length in zip(blocks, hours * 2, strict=True):
        begin, end = period(next(block.iter(f"{ESPI}interval")))
        assert end - begin == length * 3600
        assert datetime.fromtimestamp(begin, NEW_YORK).hour == 0
        readings = [period(one) for one in block.iter(f"{ESPI}timePeriod")]
        assert all(after - start == 900 for start, after in readings)
        assert begin <= readings[0][0]
        assert readings[-1][1] <= end
        assert [start for start, _ in readings] == sorted({start for start, _ in readings})


def moment(rule: int, year: int) -> datetime:
    """The local time that a rule of ESPI (the nth weekday of a month) means, as the schema's bits are."""
    second, hour, weekday, day, which, month = (
        rule >> low & (1 << size) - 1 for low, size in ((0, 12), (12, 5), (17, 3), (20, 5), (25, 3), (28, 4))
    )
    assert day == 0
    assert 2 <= which <= 7, "the first to the fifth such day of the month, or the last"
    first = datetime(year, month, 1, hour, tzinfo=UTC) + timedelta(seconds=second)
    days = range((weekday - first.isoweekday()) % 7, monthrange(year, month)[1], 7)
    return first + timedelta(days=days[-1 if which == 7 else which - 2])


@pytest.mark.parametrize("year", range(2026, 2033))
@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Australia/Sydney", "America/Phoenix"])
def test_the_rules_of_daylight_saving_time_are_those_of_the_zone(zone: str, year: int) -> None:
    text = "".join(green_button(account(f"{year}-07-01", f"{year}-07-02"), "abc", ZoneInfo(zone)))
    local = next(ET.fromstring(text).iter(f"{ESPI}LocalTimeParameters"))
    if zone == "America/Phoenix":
        assert [each.text for each in local] == ["FFFFFFFF", "0", "FFFFFFFF", "-25200"]
        return
    standard, extra = (int(local.findtext(f"{ESPI}{name}", "")) for name in ("tzOffset", "dstOffset"))
    for name, before, after in (
        ("dstStartRule", standard, standard + extra),
        ("dstEndRule", standard + extra, standard),
    ):
        instant = moment(int(local.findtext(f"{ESPI}{name}", ""), 16), year) - timedelta(seconds=before)
        for time, offset in ((instant - timedelta(seconds=1), before), (instant, after)):
            assert time.astimezone(ZoneInfo(zone)).utcoffset() == timedelta(seconds=offset)
