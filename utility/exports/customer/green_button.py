"""Green Button (ESPI): the quarter-hours of one account as an Atom feed, one MeterReading per direction.

Order of elements, types and codes: NAESB REQ.21, ESPI 4.0; ``harness/green_button.py`` has them for the tests. The feed
names no person and no meter, and is the same bytes for the same quarters.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import NAMESPACE_URL, uuid5
from xml.sax.saxutils import escape
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.model.time.times import iso
from commonwatt.model.units import QUARTER_S
from utility.exports.customer.costs import usage_summary
from utility.exports.customer.quarters import AccountQuarters, Flow, Quality
from utility.exports.resolutions import Resolution, intervals

_RAW, _VALIDATED = 14, 17
_QUALITY_CODES = {
    Quality.INCOMPLETE: 10,  # questionable
    Quality.ESTIMATED: 16,  # other: the codes of estimates name a method, which a settled quarter does not keep
    Quality.EDITED: 7,  # manually edited
    Quality.AVERAGED: 11,  # derived
}
_TITLES = {
    Flow.DELIVERED: "Electricity delivered to the customer",
    Flow.RECEIVED: "Electricity received from the customer",
}
_POWER_OF_TEN = -3  # values are milliwatt-hours, the unit watt-hours
_NO_RULE = "FFFFFFFF"  # as ESPI codes that a zone has no daylight saving time


def green_button(quarters: AccountQuarters, store: str, zone: ZoneInfo) -> Iterator[str]:
    """Yield the feed in pieces.

    Args:
        quarters: The quarter-hours.
        store: The store's id, which makes the feed's ids unique.
        zone: The time zone whose days are the blocks of intervals.
    """
    count = max((len(values) for values in quarters.energy.values()), default=0)
    made = iso((quarters.first + count) * QUARTER_S)
    feed = _Feed(f"commonwatt:{store}:{quarters.account}:{quarters.first}:{count}:{int(quarters.settled)}", made)
    point = f"/espi/1_1/resource/Subscription/1/UsagePoint/{quarters.account}"
    bills = [f"{point}/UsageSummary"] if quarters.bills else []
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom">\n'
    yield f"<id>{feed.id_of('feed')}</id>\n<title>Green Button usage of account {quarters.account}</title>\n"
    yield f"<updated>{made}</updated>\n<author><name>Commonwatt</name></author>\n"
    yield feed.entry(
        point,
        "/espi/1_1/resource/Subscription/1/UsagePoint",
        (f"{point}/MeterReading", "/espi/1_1/resource/LocalTimeParameters/1", *bills),
        f"Account {quarters.account}",
        "<UsagePoint xmlns='http://naesb.org/espi'><ServiceCategory><kind>0</kind></ServiceCategory>"
        "<status>1</status></UsagePoint>",
    )
    yield feed.entry(
        "/espi/1_1/resource/LocalTimeParameters/1",
        "/espi/1_1/resource/LocalTimeParameters",
        (),
        f"Local time of {zone.key}",
        _local_time(zone, quarters.first * QUARTER_S),
    )
    for number, costs in enumerate(quarters.bills, start=1):
        periods = ", ".join(f"{n} {name}" for n, name in enumerate(costs.names, start=1))
        title, place = f"Bill of {costs.bill.month}; tou: {periods}", f"{point}/UsageSummary"
        yield feed.entry(f"{place}/{number}", place, (), escape(title), usage_summary(costs))
    for number, flow in enumerate(sorted(quarters.energy), start=1):
        yield from _reading(feed, f"{point}/MeterReading/{number}", quarters, flow, zone)
    yield "</feed>\n"


class _Feed:
    """Makes entries whose ids follow from what they are of."""

    def __init__(self, name: str, made: str) -> None:
        self._name = name
        self._made = made

    def id_of(self, what: str) -> str:
        return f"urn:uuid:{uuid5(NAMESPACE_URL, f'{self._name}:{what}')}"

    def entry(self, place: str, above: str, related: tuple[str, ...], title: str, content: str) -> str:
        links = [_link("self", place), _link("up", above), *(_link("related", one) for one in related)]
        return (
            f"<entry>\n<id>{self.id_of(place)}</id>\n{''.join(links)}\n<title>{title}</title>\n"
            f'<content type="application/xml">\n{content}\n</content>\n'
            f"<published>{self._made}</published>\n<updated>{self._made}</updated>\n</entry>\n"
        )


def _link(relation: str, place: str) -> str:
    """Return a link; its type says which resource is there, one (``espi-entry``) or all of a kind (``espi-feed``)."""
    above, _, last = place.rpartition("/")
    kind = f"espi-feed/{last}" if last.isalpha() else f"espi-entry/{above.rpartition('/')[2]}"
    return f'<link rel="{relation}" type="{kind}" href="{place}"/>'


def _reading(feed: _Feed, place: str, quarters: AccountQuarters, flow: Flow, zone: ZoneInfo) -> Iterator[str]:
    """Yield the entries of a direction: MeterReading, ReadingType, a block of intervals for each local day."""
    kind = f"/espi/1_1/resource/ReadingType/{int(flow)}"
    empty = "<MeterReading xmlns='http://naesb.org/espi'/>"
    yield feed.entry(place, place.rpartition("/")[0], (f"{place}/IntervalBlock", kind), _TITLES[flow], empty)
    default = _VALIDATED if quarters.settled else _RAW
    yield feed.entry(kind, "/espi/1_1/resource/ReadingType", (), _TITLES[flow], _reading_type(flow, default))
    first, energy, quality = quarters.first, quarters.energy[flow], quarters.quality[flow]
    if not len(energy):
        return
    days = intervals(Resolution.DAY, first, first + len(energy), zone).starts // QUARTER_S
    for number, (begin, end) in enumerate(zip(days[:-1].tolist(), days[1:].tolist(), strict=True), start=1):
        begin, end = max(begin, first), min(end, first + len(energy))
        there = np.flatnonzero(quality[begin - first : end - first] > Quality.MISSING) + begin - first
        if len(there):
            content = _block(begin, end, first, there.tolist(), quarters, flow)
            yield feed.entry(f"{place}/IntervalBlock/{number}", f"{place}/IntervalBlock", (), _TITLES[flow], content)


def _reading_type(flow: Flow, default_quality: int) -> str:
    fields = {
        "accumulationBehaviour": 4,  # delta data
        "commodity": 1,  # electricity
        "dataQualifier": 12,  # normal
        "defaultQuality": default_quality,
        "flowDirection": int(flow),
        "intervalLength": QUARTER_S,
        "kind": 12,  # energy
        "phase": 0,  # not applicable: energy of all phases; how many a place has is not in the registry
        "powerOfTenMultiplier": _POWER_OF_TEN,
        "timeAttribute": 0,
        "uom": 72,  # Wh
    }
    inside = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
    return f"<ReadingType xmlns='http://naesb.org/espi'>{inside}</ReadingType>"


def _block(begin: int, end: int, first: int, columns: list[int], quarters: AccountQuarters, flow: Flow) -> str:
    energy, quality, tou = quarters.energy[flow], quarters.quality[flow], quarters.tou
    readings = (
        _interval_reading(first + n, int(energy[n]), Quality(int(quality[n])), tou.get(first + n)) for n in columns
    )
    head = f"<IntervalBlock xmlns='http://naesb.org/espi'><interval>{_period(begin, end)}</interval>"
    return "\n".join([head, *readings, "</IntervalBlock>"])


def _interval_reading(quarter: int, energy: int, quality: Quality, tou: int | None) -> str:
    code = _QUALITY_CODES.get(quality)
    flagged = "" if code is None else f"<ReadingQuality><quality>{code}</quality></ReadingQuality>"
    period = f"<timePeriod>{_period(quarter, quarter + 1)}</timePeriod>"
    of_use = "" if tou is None else f"<tou>{tou}</tou>"
    return f"<IntervalReading>{flagged}{period}<value>{energy}</value>{of_use}</IntervalReading>"


def _period(begin: int, end: int) -> str:
    return f"<duration>{(end - begin) * QUARTER_S}</duration><start>{begin * QUARTER_S}</start>"


def _local_time(zone: ZoneInfo, time: int) -> str:
    """Return the zone's offset in winter, and when daylight saving time begins and ends in the year of a time."""
    begin = datetime(datetime.fromtimestamp(time, UTC).year, 1, 1)  # noqa: DTZ001 - UTC or local, as the sums below say
    hours = [begin.replace(tzinfo=UTC) + timedelta(hours=n) for n in range(365 * 24)]
    offsets = [hour.astimezone(zone).utcoffset() or timedelta() for hour in hours]
    start = end = _NO_RULE
    for n, (was, now) in enumerate(pairwise(offsets), start=1):
        rule = _rule(begin + timedelta(hours=n) + was)
        start, end = (rule if now > was else start), (rule if now < was else end)
    winter, saved = min(offsets), max(offsets) - min(offsets)
    return (
        f"<LocalTimeParameters xmlns='http://naesb.org/espi'><dstEndRule>{end}</dstEndRule>"
        f"<dstOffset>{int(saved.total_seconds())}</dstOffset><dstStartRule>{start}</dstStartRule>"
        f"<tzOffset>{int(winter.total_seconds())}</tzOffset></LocalTimeParameters>"
    )


def _rule(local: datetime) -> str:
    """Return when clocks change each year, as ESPI codes it: the n-th or the last weekday of a month, and the hour."""
    nth = (local.day - 1) // 7 + 1
    operator = nth + 1 if nth <= 3 else 7
    return f"{local.month << 28 | operator << 25 | local.isoweekday() << 17 | local.hour << 12:08X}"
