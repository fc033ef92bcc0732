"""The Green Button feed and the schema: every feed of an account obeys it, and each way to break it is found.

If these fail, a customer's file is refused, or read wrongly, by the programs of others.
"""

import re
import xml.etree.ElementTree as ET
from calendar import monthrange
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from commonwatt.model.time.times import parse_time
from harness.green_button import ATOM, ATOM_SHAPES, CODES, ESPI, RANGES, SHAPES, Part, faults
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


SMALL_TEXT = "".join(green_button(account("2026-11-01T00:00", "2026-11-01T02:00-05:00"), "abc", NEW_YORK))
"""A feed with every element, to break."""
SMALL = ET.fromstring(SMALL_TEXT)


def parents(feed: ET.Element, shape: str) -> Iterator[ET.Element]:
    if shape in ATOM_SHAPES:
        return feed.iter(f"{ATOM}{shape}")
    names = {part.name for parts in SHAPES.values() for part in parts if part.type == shape} or {shape}
    return (one for name in names for one in feed.iter(f"{ESPI}{name}"))


def child_of(feed: ET.Element, shape: str, part: Part, namespace: str) -> tuple[ET.Element, ET.Element]:
    """The first element of a shape that has the part, and the part."""
    return next(
        (parent, child) for parent in parents(feed, shape) if (child := parent.find(namespace + part.name)) is not None
    )


def bad_values(part: Part) -> list[str]:
    if part.type in CODES:
        return [str(next(code for code in range(1000) if code not in CODES[part.type])), "x", ""]
    if part.type in RANGES:
        return [str(RANGES[part.type][0] - 1), str(RANGES[part.type][-1] + 1), "1.5", ""]
    return {
        "DstRuleType": ["B40E200", "B40E200G", ""],
        "dateTime": ["2026-11-01T00:00:00", "2026-11-31T00:00:00Z", ""],
        "id": ["7", "urn:uuid:5B2E7F1C-0000-5000-8000-000000000000", "urn:uuid:5b2e7f1c-0000-4000-8000-000000000000"],
    }.get(part.type, [""])


ALL_PARTS = [
    pytest.param(shape, part, namespace, id=f"{shape}/{part.name}")
    for shapes, namespace in ((SHAPES, ESPI), (ATOM_SHAPES, ATOM))
    for shape, parts in shapes.items()
    for part in parts
]


@pytest.mark.parametrize(("shape", "part", "namespace"), ALL_PARTS)
def test_a_part_that_is_missing_doubled_or_wrong_is_found(shape: str, part: Part, namespace: str) -> None:
    def broken(change: Callable[[ET.Element, ET.Element], None]) -> list[str]:
        feed = deepcopy(SMALL)
        change(*child_of(feed, shape, part, namespace))
        return faults(feed)

    def remove_all(parent: ET.Element, child: ET.Element) -> None:
        for one in parent.findall(child.tag):
            parent.remove(one)

    if part.least:
        assert any(f"has 0 of {part.name}" in fault for fault in broken(remove_all))
    if part.most == 1:
        twice = broken(lambda parent, child: parent.insert(list(parent).index(child), deepcopy(child)))
        assert any(f"has 2 of {part.name}" in fault for fault in twice)
    if part.type not in SHAPES | ATOM_SHAPES and part.type not in ("link", "content"):
        for text in bad_values(part):
            wrong = broken(lambda _, child, text=text: setattr(child, "text", text))  # type: ignore[misc]
            assert any(f"/{part.name} is {text!r}" in fault for fault in wrong), text


@pytest.mark.parametrize("shape", [shape for shape, parts in SHAPES.items() if len(parts) > 1])
def test_every_exchange_of_two_neighbours_is_found(shape: str) -> None:
    for earlier, later in zip(SHAPES[shape], SHAPES[shape][1:], strict=False):
        feed = deepcopy(SMALL)
        parent = next(
            one
            for one in parents(feed, shape)
            if None not in (one.find(ESPI + earlier.name), one.find(ESPI + later.name))
        )
        child = parent.find(ESPI + later.name)
        assert child is not None
        parent.remove(child)
        parent.insert([one.tag for one in parent].index(ESPI + earlier.name), child)
        assert any("has the order" in fault for fault in faults(feed)), (earlier, later)


IDS = re.findall(r"urn:uuid:[^<]+", SMALL_TEXT)

BREAKS = {
    "an element that the schema does not know": ("<value>", "<remark/><value>", "unknown"),
    "an element that is known elsewhere": ("<interval>", "<uom>72</uom><interval>", "unknown"),
    "an element without its namespace": ("<uom>", "<uom xmlns=''>", "unknown"),
    "a resource of another name": ("LocalTimeParameters", "TimeConfiguration", "content is ['TimeConfiguration']"),
    "text between elements": ("</interval>", "</interval>7", "has text between"),
    "an attribute": ("<value>", "<value unit='Wh'>", "value has elements or attributes"),
    "a content that is text": (' type="application/xml"', "", "content has the attributes"),
    "a link without a type": (' type="espi-entry/UsagePoint"', "", "link has the attributes"),
    "a link of an unknown type": ("espi-entry/UsagePoint", "text/html", "link has the type"),
    "a link to another kind": ("espi-entry/UsagePoint", "espi-entry/MeterReading", "has the links"),
    "a link to nowhere": ('"related" type="espi-entry/ReadingType" href="', "\\g<0>/nowhere", "absent"),
    "an entry in another list": ('"up" type="espi-feed/UsagePoint" href="', "\\g<0>/nowhere", "is in"),
    "an id of two things": (IDS[1], IDS[0], "2 things are"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_feed_is_found(name: str) -> None:
    old, new, expected = BREAKS[name]
    broken, count = re.subn(re.escape(old), new, SMALL_TEXT)
    assert count
    assert any(expected in fault for fault in faults(ET.fromstring(broken))), faults(ET.fromstring(broken))


def test_a_single_entry_is_no_feed() -> None:
    assert faults(ET.Element(f"{ATOM}entry")) == [f"the root is {ATOM}entry"]
