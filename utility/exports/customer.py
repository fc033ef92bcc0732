"""The quarter-hours and bills of one account as its customer gets them: a spreadsheet, or Green Button (ESPI).

Order of elements, types and codes: NAESB REQ.21, ESPI 4.0; ``harness/green_button.py`` has them for the tests. The feed
is an Atom feed with one MeterReading per direction; it names no person and no meter, and is the same bytes for the same
quarters. An issued bill is a UsageSummary whose items are the bill's lines, to the cent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum
from functools import cached_property
from itertools import islice, pairwise
from uuid import NAMESPACE_URL, uuid5
from xml.sax.saxutils import escape
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from commonwatt.model.blocks import Blocks
from commonwatt.model.calendar import iso
from commonwatt.model.records import RecordType
from commonwatt.model.text import line_of
from commonwatt.model.units import QUARTER_S, SLOTS, AccountNumber, Quarter
from commonwatt.town.town import Direction
from utility.billing.bill import LINE_ROWS, Bill, BillLine
from utility.billing.inputs import RunInputs
from utility.energy.quarters import Quantity, SettledQuality, SettledQuarters
from utility.exports.selection import HeldMeter, Resolution, intervals, is_held
from utility.readings.flows import summaries
from utility.statistics.usage import kilowatt_hours

_SCALE = 5  # amounts are whole hundred-thousandths of the currency
# ISO 4217; the currency of another code is left out.
_CURRENCIES = {"USD": 840, "EUR": 978, "CHF": 756, "GBP": 826, "CAD": 124, "AUD": 36, "MXN": 484}


@dataclass(frozen=True, kw_only=True, eq=False)
class CostedBill:
    """An issued bill with the tariff's period of each of its quarter-hours."""

    bill: Bill  # the bill
    currency: str  # of its amounts, ISO 4217
    names: tuple[str, ...]  # the names of the periods; ``tou`` is a name's place, from 1
    tou: npt.NDArray[np.uint8]  # of each quarter-hour of the bill


def costed(bill: Bill, inputs: RunInputs) -> CostedBill:
    """Return a bill with its periods, of the inputs of its run."""
    segments = inputs.within(bill.account, bill.start, bill.end)
    names = tuple(dict.fromkeys(price.name for segment in segments for price in segment.tariff.prices))
    tou = np.zeros(bill.end - bill.start, np.uint8)
    for segment in segments:
        start, end = max(segment.start, bill.start), min(segment.end, bill.end)
        places = np.array([names.index(price.name) + 1 for price in segment.tariff.prices], np.uint8)
        tou[start - bill.start : end - bill.start] = places[segment.tariff.periods_of(np.arange(start, end))]
    table = (segments or inputs.segments(bill.account))[-1].tariff.file.bill
    return CostedBill(bill=bill, currency=table.currency if table else "USD", names=names, tou=tou)


def usage_summary(costs: CostedBill) -> str:
    """Return a bill as an ESPI resource."""
    bill, currency = costs.bill, _CURRENCIES.get(costs.currency)
    period = f"<duration>{(bill.end - bill.start) * QUARTER_S}</duration><start>{bill.start * QUARTER_S}</start>"
    return (
        f"<UsageSummary xmlns='http://naesb.org/espi'><billingPeriod>{period}</billingPeriod>"
        f"<billLastPeriod>{bill.total.scaleb(_SCALE):f}</billLastPeriod>"
        f"{''.join(_item(line, bill.end * QUARTER_S) for line in bill.lines)}"
        f"{f'<currency>{currency}</currency>' if currency else ''}"
        f"<statusTimeStamp>{bill.end * QUARTER_S}</statusTimeStamp><commodity>1</commodity>"
        f"<tariffProfile>{escape(', '.join(bill.tariff))}</tariffProfile></UsageSummary>"
    )


def _item(line: BillLine, time: int) -> str:
    kind = LINE_ROWS[line.kind].espi[line.amount < 0]
    energy = f"<powerOfTenMultiplier>-3</powerOfTenMultiplier><uom>72</uom><value>{line.energy}</value>"
    measured = "" if line.energy is None else f"<measurement>{energy}</measurement>"
    return (
        f"<costAdditionalDetailLastPeriod><amount>{line.amount.scaleb(_SCALE):f}</amount><dateTime>{time}</dateTime>"
        f"<note>{escape(line.text[:256])}</note>{measured}<itemKind>{kind}</itemKind></costAdditionalDetailLastPeriod>"
    )


class FlowDirection(IntEnum):
    """A direction of energy; the number is Green Button's ``flowDirection``."""

    DELIVERED = 1  # to the customer
    RECEIVED = 19  # from the customer


class ExportedQuality(IntEnum):
    """The quality of an account's quarter-hour, the worst of its meters; lower is worse."""

    MISSING = 0
    INCOMPLETE = 1  # readings of some slots are missing, or of one of several meters
    ESTIMATED = 2
    EDITED = 3
    AVERAGED = 4
    MEASURED = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class AccountQuarters:
    """The quarter-hours of an account."""

    account: AccountNumber  # the account
    first: Quarter  # the first quarter; the arrays have an entry for each quarter from it on
    # By flow, milliwatt-hours, never negative; a flow that the account has no meter for is absent.
    energy: dict[FlowDirection, npt.NDArray[np.int64]]
    quality: dict[FlowDirection, npt.NDArray[np.uint8]]  # by flow, ``ExportedQuality``, uint8
    settled: bool  # whether the energies are settled, or sums of readings
    bills: tuple[CostedBill, ...] = ()  # the issued bills whose whole time is in it

    @cached_property
    def tou(self) -> dict[Quarter, int]:
        """The number of the tariff's period of each quarter-hour that a bill has."""
        return {costs.bill.start + n: int(place) for costs in self.bills for n, place in enumerate(costs.tou)}


_FLOWS = {Direction.INCOMING: FlowDirection.DELIVERED, Direction.OUTGOING: FlowDirection.RECEIVED}
# Of each settled quality, by number.
_QUALITIES = [ExportedQuality[settled.name] if settled else ExportedQuality.INCOMPLETE for settled in SettledQuality]
_QUANTITIES = {
    FlowDirection.DELIVERED: (Quantity.IMPORTED, Quantity.SHARED_IN),
    FlowDirection.RECEIVED: (Quantity.EXPORTED, Quantity.SHARED_OUT),
}


def from_readings(
    account: AccountNumber, blocks: Blocks, held: Sequence[HeldMeter], first: Quarter, end: Quarter
) -> AccountQuarters:
    """Return the sums of an account's readings of energy through its meters.

    Args:
        blocks: The joined blocks of its meters.
        held: When it had which meter.
        end: The quarter after the last.
    """
    through = blocks.take(np.flatnonzero(blocks.record_type == RecordType.THROUGH))
    through = through.take(np.flatnonzero(is_held(through.meter, through.quarter.astype(np.int64), held)))
    sums = summaries(through)
    exact, averaged = sums["exact"].values, sums["averaged"].values
    quality = np.where(averaged > 0, ExportedQuality.AVERAGED, ExportedQuality.MEASURED).astype(np.uint8)
    quality[exact + averaged < SLOTS] = ExportedQuality.INCOMPLETE
    quality[exact + averaged == 0] = ExportedQuality.MISSING
    column = through.quarter.astype(np.int64) - first
    flows = _Sums(first, end)
    flow_of = {h.meter: flows.expect(h, _FLOWS[h.direction]) for h in held}
    for meter, flow in flow_of.items():
        rows = np.flatnonzero(through.meter == meter)
        flows.add(flow, column[rows], sums["total"].values[rows], quality[rows])
    return flows.quarters(account, settled=False)


def from_settled(account: AccountNumber, settled: SettledQuarters, held: Sequence[HeldMeter]) -> AccountQuarters:
    """Return an account's settled energies: from the town and shared are together what its meter shows."""
    quarters = settled.first + np.arange(settled.quality.shape[1])
    flows = _Sums(settled.first, settled.first + len(quarters))
    qualities = np.array(_QUALITIES, np.uint8)
    row_of = {meter: row for row, meter in enumerate(settled.meters.tolist())}
    for meter in sorted({h.meter for h in held} & row_of.keys()):
        row, mine = row_of[meter], [h for h in held if h.meter == meter]
        there = is_held(settled.meters[row : row + 1], quarters, mine)
        there &= settled.version[row] > 0
        is_whole = settled.quality[row] > SettledQuality.MISSING
        for flow, (outside, shared) in _QUANTITIES.items():
            energy = settled.of(outside)[row] + settled.of(shared)[row]
            # A quarter-hour that lacks a slot holds the energy of the others, and the bill has it.
            columns = np.flatnonzero(there & (is_whole | (energy != 0)))
            # An outgoing meter that stands for a battery without an incoming one has both flows.
            if flow == _FLOWS[mine[0].direction] or energy[columns].any():
                for own in mine:
                    flows.expect(own, flow)
                flows.add(flow, columns, energy[columns], qualities[settled.quality[row]][columns])
    return flows.quarters(account, settled=True)


class _Sums:
    """Adds up the meters of an account by flow."""

    def __init__(self, first: Quarter, end: Quarter) -> None:
        self._first, self._count = first, end - first
        # By flow and quarter: the energy, the worst quality, how many meters have the quarter, how many are expected.
        self._rows: dict[FlowDirection, npt.NDArray[np.int64]] = {}

    def expect(self, held: HeldMeter, flow: FlowDirection) -> FlowDirection:
        """Expect energies of a flow from a meter while the account has it; return the flow."""
        if flow not in self._rows:
            self._rows[flow] = np.zeros((4, self._count), np.int64)
            self._rows[flow][1] = ExportedQuality.MEASURED
        self._rows[flow][3, max(0, held.first - self._first) : max(0, held.end - self._first)] += 1
        return flow

    def add(
        self,
        flow: FlowDirection,
        columns: npt.NDArray[np.integer],
        energy: npt.NDArray[np.int64],
        quality: npt.NDArray[np.uint8],
    ) -> None:
        """Add a meter's energies in some quarters, each once."""
        sums, worst, there, _ = self._rows[flow]
        sums[columns] += energy
        worst[columns] = np.minimum(worst[columns], quality)
        there[columns] += 1

    def quarters(self, account: AccountNumber, *, settled: bool) -> AccountQuarters:
        """Return the sums."""
        quality = {}
        for flow, (_, worst, there, expected) in self._rows.items():
            partial = np.where(there < expected, np.minimum(worst, ExportedQuality.INCOMPLETE), worst)
            quality[flow] = np.where(there == 0, ExportedQuality.MISSING, partial).astype(np.uint8)
        energy = {flow: rows[0] for flow, rows in self._rows.items()}
        return AccountQuarters(account=account, first=self._first, energy=energy, quality=quality, settled=settled)


_RAW, _VALIDATED = 14, 17
_QUALITY_CODES = {
    ExportedQuality.INCOMPLETE: 10,  # questionable
    ExportedQuality.ESTIMATED: 16,  # other: the codes of estimates name a method, which a settled quarter does not keep
    ExportedQuality.EDITED: 7,  # manually edited
    ExportedQuality.AVERAGED: 11,  # derived
}
_TITLES = {
    FlowDirection.DELIVERED: "Electricity delivered to the customer",
    FlowDirection.RECEIVED: "Electricity received from the customer",
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
    updated = iso((quarters.first + count) * QUARTER_S)
    feed = _Feed(f"commonwatt:{store}:{quarters.account}:{quarters.first}:{count}:{int(quarters.settled)}", updated)
    point = f"/espi/1_1/resource/Subscription/1/UsagePoint/{quarters.account}"
    bills = [f"{point}/UsageSummary"] if quarters.bills else []
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom">\n'
    yield f"<id>{feed.id_of('feed')}</id>\n<title>Green Button usage of account {quarters.account}</title>\n"
    yield f"<updated>{updated}</updated>\n<author><name>Commonwatt</name></author>\n"
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

    def __init__(self, name: str, updated: str) -> None:
        self._name = name
        self._made = updated

    def id_of(self, what: str) -> str:
        return f"urn:uuid:{uuid5(NAMESPACE_URL, f'{self._name}:{what}')}"

    def entry(self, place: str, above: str, related: tuple[str, ...], title: str, content: str) -> str:
        links = [_link("self", place), _link("up", above), *(_link("related", address) for address in related)]
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


def _reading(feed: _Feed, place: str, quarters: AccountQuarters, flow: FlowDirection, zone: ZoneInfo) -> Iterator[str]:
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
        there = np.flatnonzero(quality[begin - first : end - first] > ExportedQuality.MISSING) + begin - first
        if len(there):
            content = _block(begin, end, first, there.tolist(), quarters, flow)
            yield feed.entry(f"{place}/IntervalBlock/{number}", f"{place}/IntervalBlock", (), _TITLES[flow], content)


def _reading_type(flow: FlowDirection, default_quality: int) -> str:
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


def _block(begin: int, end: int, first: int, columns: list[int], quarters: AccountQuarters, flow: FlowDirection) -> str:
    energy, quality, tou = quarters.energy[flow], quarters.quality[flow], quarters.tou
    readings = (
        _interval_reading(first + n, int(energy[n]), ExportedQuality(int(quality[n])), tou.get(first + n))
        for n in columns
    )
    head = f"<IntervalBlock xmlns='http://naesb.org/espi'><interval>{_period(begin, end)}</interval>"
    return "\n".join([head, *readings, "</IntervalBlock>"])


def _interval_reading(quarter: int, energy: int, quality: ExportedQuality, tou: int | None) -> str:
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


_NAMES = {FlowDirection.DELIVERED: "Delivered to you (kWh)", FlowDirection.RECEIVED: "Received from you (kWh)"}

PIECE = 2_000  # lines of text in a piece of a file: some hundred kilobytes


def spreadsheet(quarters: AccountQuarters, zone: ZoneInfo) -> Iterator[str]:
    """Yield the header, and a line for each quarter-hour; an energy that is missing is empty.

    Kilowatt-hours have six decimals, which is exact. The offset tells the two hours apart that a clock shows twice.
    """
    flows = sorted(quarters.energy)
    head = ["Date", "Begin", "End", "UTC offset"]
    for flow in flows:
        head += [_NAMES[flow], "Quality"]
    yield line_of(head)
    count = max((len(values) for values in quarters.energy.values()), default=0)
    for column in range(count):
        begin, end = (datetime.fromtimestamp((quarters.first + column + n) * QUARTER_S, zone) for n in (0, 1))
        cells = [f"{begin:%Y-%m-%d}", f"{begin:%H:%M}", f"{end:%H:%M}", begin.isoformat()[-6:]]
        for flow in flows:
            quality = ExportedQuality(int(quarters.quality[flow][column]))
            cells += [
                "" if quality is ExportedQuality.MISSING else kilowatt_hours(int(quarters.energy[flow][column])),
                quality.name.lower(),
            ]
        yield line_of(cells)


class FileSource(StrEnum):
    """What an account's file is made of."""

    SETTLED = "settled"
    READINGS = "readings"


class CustomerFormat(StrEnum):
    """The format of an account's file."""

    GREEN_BUTTON = "green-button"
    SPREADSHEET = "spreadsheet"


# The media type of each format.
MEDIA_TYPES = {CustomerFormat.GREEN_BUTTON: "application/atom+xml", CustomerFormat.SPREADSHEET: "text/csv"}
# The end of a file's name by its format.
SUFFIXES = {CustomerFormat.GREEN_BUTTON: "xml", CustomerFormat.SPREADSHEET: "csv"}


def pieces_of(quarters: AccountQuarters, form: CustomerFormat, store: str, zone: ZoneInfo) -> Iterator[str]:
    """Yield the text of a file in large pieces; `store` is the id of the store that the quarter-hours are from."""
    is_feed = form is CustomerFormat.GREEN_BUTTON
    lines = green_button(quarters, store, zone) if is_feed else spreadsheet(quarters, zone)
    while piece := "".join(islice(lines, PIECE)):
        yield piece
