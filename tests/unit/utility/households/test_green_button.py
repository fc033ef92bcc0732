"""An account's Green Button feed and spreadsheet: read back by others' programs, with costs, by the schema.

If these fail, a customer's file is refused, or read wrongly, by the programs of others.
"""

import csv
import io
import os
import re
import xml.etree.ElementTree as ET
from calendar import monthrange
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from greenbutton_objects import enums
from greenbutton_objects.parse import parse_feed

from commonwatt.model.blocks import Blocks, join, make_blocks
from commonwatt.model.calendar import parse_time
from commonwatt.town.town import Direction, Function
from harness.billing.worlds import World
from harness.green_button import ESPI, faults
from tests.unit.utility.billing.test_documents import explained, made
from utility.billing.bill import BillLine, LineKind
from utility.billing.documents.receipt import quarters_of_accounts
from utility.billing.stored_run import Computed
from utility.energy.quarters import Quantity, SettledQuality, SettledQuarters
from utility.exports.customer import (
    AccountQuarters,
    ExportedQuality,
    FlowDirection,
    costed,
    from_readings,
    from_settled,
    green_button,
    spreadsheet,
)
from utility.exports.selection import HeldMeter, held_by
from utility.jobs.plans import NEW_YORK
from utility.registry.accounts import DatedRegistry, Holding, Installed, functions_of

FIRST, END = (parse_time(text, "", NEW_YORK) // 900 for text in ("2026-10-31", "2026-11-03"))
IN, OUT, NEW_OUT = 10001, 10002, 10003
MOVE = FIRST + 50  # the quarter in which the account moves in
EXCHANGE = FIRST + 200  # the quarter in which the outgoing meter is exchanged


def meter(number: int, direction: Direction, *holdings: Holding) -> Installed:
    return Installed(
        id=number, microgrid="r001", place="h1", function=Function.HOUSE, direction=direction, holdings=holdings
    )


REGISTRY = DatedRegistry(
    revision=1,
    meters={
        IN: meter(IN, Direction.INCOMING, Holding(account=6, start=0, end=MOVE), Holding(account=7, start=MOVE)),
        OUT: meter(OUT, Direction.OUTGOING, Holding(account=7, start=MOVE, end=EXCHANGE)),
        NEW_OUT: meter(NEW_OUT, Direction.OUTGOING, Holding(account=7, start=EXCHANGE)),
    },
)


def random_blocks() -> Blocks:
    rng = np.random.default_rng(3)
    keys = [(one, 3, quarter) for one in (IN, OUT, NEW_OUT) for quarter in range(FIRST, END) if quarter % 40]
    keys += [(OUT, 1, quarter) for quarter in range(FIRST, END)]
    quality = np.full((len(keys), 60), 2)
    quality[5::20, :10] = 1
    quality[7::30, :3] = 0
    return join([make_blocks(keys, rng.integers(0, 9_999, (len(keys), 60)), quality)])


@pytest.fixture(scope="module")
def quarters() -> AccountQuarters:
    held = held_by(REGISTRY, [7], FIRST, END)
    return from_readings(7, random_blocks(), held, FIRST, END)


def test_an_account_has_the_energy_of_the_meters_that_it_had_then(quarters: AccountQuarters) -> None:
    expected: dict[tuple[FlowDirection, int], tuple[int, ExportedQuality]] = {}
    blocks = random_blocks()
    for row in range(len(blocks)):
        number, record_type, quarter = blocks.key(row)
        if record_type != 3 or REGISTRY.meters[number].account_at(quarter) != 7:
            continue
        flow = FlowDirection.DELIVERED if number == IN else FlowDirection.RECEIVED
        slots = blocks.quality[row].tolist()
        quality = (
            ExportedQuality.INCOMPLETE
            if 0 in slots
            else ExportedQuality.AVERAGED
            if 1 in slots
            else ExportedQuality.MEASURED
        )
        expected[flow, quarter] = sum(blocks.values[row].tolist()), quality
    found = {
        (flow, FIRST + column): (int(quarters.energy[flow][column]), ExportedQuality(int(quality)))
        for flow in FlowDirection
        for column, quality in enumerate(quarters.quality[flow])
        if quality
    }
    assert found == expected
    assert {quality for _, quality in found.values()} == {
        ExportedQuality.INCOMPLETE,
        ExportedQuality.AVERAGED,
        ExportedQuality.MEASURED,
    }


def test_green_button_is_read_back_by_another_program(quarters: AccountQuarters, tmp_path: Path) -> None:
    path = tmp_path / "feed.xml"
    path.write_text("".join(green_button(quarters, "abc", NEW_YORK)))
    (point,) = parse_feed(path)
    assert point.serviceCategory == enums.ServiceKind.electricity
    assert len(point.meterReadings) == 2
    for reading in point.meterReadings:
        kind = reading.readingType
        assert (kind.uom, kind.commodity, kind.kind) == (
            enums.UomType(72),
            enums.CommodityType.electricity,
            enums.KindType.energy,
        )
        assert kind.accumulationBehaviour == enums.AccumulationBehaviourType.deltaData
        assert (kind.intervalLength, kind.powerOfTenMultiplier) == (900, -3)
        flow = FlowDirection(kind.flowDirection.value)
        codes = {
            frozenset(): ExportedQuality.MEASURED,
            frozenset({enums.QualityOfReading.questionable}): ExportedQuality.INCOMPLETE,
            frozenset({enums.QualityOfReading.derived}): ExportedQuality.AVERAGED,
        }
        found = {
            int(one.timePeriod.start.timestamp()) // 900: (
                round(one.value * 1000),
                codes[frozenset(quality.quality for quality in one.readingQualities)],
            )
            for one in reading.intervalReadings
        }
        assert found == {
            FIRST + column: (int(quarters.energy[flow][column]), quality)
            for column, quality in enumerate(quarters.quality[flow].tolist())
            if quality
        }
        # Days of 24, 25 and 24 hours, from their midnight.
        begins = [(block.interval.start, block.interval.duration.total_seconds()) for block in reading.intervalBlocks]
        assert begins == [
            (datetime(2026, 10, 31, 4, tzinfo=UTC), 86_400),
            (datetime(2026, 11, 1, 4, tzinfo=UTC), 90_000),
            (datetime(2026, 11, 2, 5, tzinfo=UTC), 86_400),
        ]


def test_green_button_of_moves_and_exchanges_obeys_the_schema(quarters: AccountQuarters) -> None:
    assert faults(ET.fromstring("".join(green_button(quarters, "abc", NEW_YORK)))) == []


def test_a_feed_of_the_same_quarters_is_the_same_and_names_no_meter(quarters: AccountQuarters) -> None:
    first, second = ("".join(green_button(quarters, "abc", NEW_YORK)) for _ in range(2))
    assert first == second
    assert "".join(green_button(quarters, "abd", NEW_YORK)) != first
    names = re.sub(r">\d+<", "><", first)
    assert not any(name in names for name in (str(IN), str(OUT), "r001", "h1"))


def test_the_spreadsheet_has_local_times_and_exact_kilowatt_hours(quarters: AccountQuarters) -> None:
    rows = list(csv.DictReader(io.StringIO("".join(spreadsheet(quarters, NEW_YORK)))))
    assert len(rows) == END - FIRST == 292
    twice = [(row["Date"], row["Begin"], row["UTC offset"]) for row in rows if row["Begin"] == "01:30"]
    assert twice == [
        ("2026-10-31", "01:30", "-04:00"),
        ("2026-11-01", "01:30", "-04:00"),
        ("2026-11-01", "01:30", "-05:00"),
        ("2026-11-02", "01:30", "-05:00"),
    ]
    assert rows[0]["Delivered to you (kWh)"] == ""
    column = 131
    energy = int(quarters.energy[FlowDirection.DELIVERED][column])
    assert rows[column]["Delivered to you (kWh)"] == f"{energy // 10**6}.{energy % 10**6:06d}"
    assert rows[column]["Quality"] in ("measured", "averaged", "incomplete")


def test_settled_energy_of_the_town_and_of_neighbours_is_what_the_meter_shows() -> None:
    count = 8
    shape = (2, count)
    energies = {quantity: np.full(shape, 10 ** int(quantity), np.int64) for quantity in Quantity}
    for quantity in Quantity:
        energies[quantity][0, 6] = 0
    energies[Quantity.IMPORTED][1] = energies[Quantity.SHARED_IN][1] = 0
    quality = np.full(shape, SettledQuality.MEASURED, np.uint8)
    quality[0, 6] = SettledQuality.MISSING
    quality[0, 3], quality[0, 4], quality[1, 5] = (
        SettledQuality.MISSING,
        SettledQuality.ESTIMATED,
        SettledQuality.EDITED,
    )
    version = np.ones(shape, np.int32)
    version[:, 7] = 0
    settled = SettledQuarters(
        meters=np.array([IN, OUT], np.uint64),
        first=FIRST,
        energies=energies,
        quality=quality,
        provisional=np.zeros(shape, np.bool_),
        version=version,
    )
    held = [
        HeldMeter(meter=IN, direction=Direction.INCOMING, first=FIRST, end=FIRST + count),
        HeldMeter(meter=OUT, direction=Direction.OUTGOING, first=FIRST + 1, end=FIRST + count),
    ]
    energies[Quantity.EXPORTED][0] = energies[Quantity.SHARED_OUT][0] = 0
    found = from_settled(7, settled, held)
    assert found.settled
    assert found.energy[FlowDirection.DELIVERED].tolist() == [110, 110, 110, 110, 110, 110, 0, 0], "as on the bill"
    assert found.energy[FlowDirection.RECEIVED].tolist() == [0, *[11_000] * 6, 0]
    names = {flow: [ExportedQuality(value).name for value in values.tolist()] for flow, values in found.quality.items()}
    assert names[FlowDirection.DELIVERED] == ["MEASURED"] * 3 + [
        "INCOMPLETE",
        "ESTIMATED",
        "MEASURED",
        "MISSING",
        "MISSING",
    ]
    assert names[FlowDirection.RECEIVED] == ["MISSING", *["MEASURED"] * 4, "EDITED", "MEASURED", "MISSING"]


ALL = os.environ.get("GREEN_BUTTON") == "all"  # ``make soak``
# Random worlds of months with a change of clocks, and of one without.
SEEDS = {
    month: next(seed for seed in range(99) if made(seed)[0].inputs.month == month)
    for month in ("2026-11", "2027-03", "2026-10")
}


def one_of_each_class(world: World, bills: Computed) -> list[int]:
    """Return an account of each class, such as house: the one with most kinds of lines."""
    functions = functions_of(world.inputs.registry.meters)
    ranked = sorted(bills.billed, key=lambda number: len({line.kind for line in bills.billed[number].bill.lines}))
    return [*{functions[number]: number for number in ranked}.values()]


@pytest.mark.parametrize("month", SEEDS)
def test_costs_equal_the_lines_and_periods_those_of_the_bill(month: str, tmp_path: Path) -> None:
    world, bills = made(SEEDS[month])
    inputs = world.inputs
    for number in bills.billed if ALL else one_of_each_class(world, bills):
        billed = bills.billed[number]
        line = BillLine(kind=LineKind.TAX, text="Levy < 1 & more", amount=Decimal("0.07"))
        bill = replace(billed.bill, lines=(*billed.bill.lines, line), total=billed.bill.total + line.amount)
        meters = sorted(each.meter for each in quarters_of_accounts(bills.run.inputs(), [number], world.load)[number])
        held = held_by(inputs.registry, [number], inputs.first, inputs.until)
        quarters = from_settled(number, world.load(meters, inputs.first, inputs.until), held)
        quarters = replace(quarters, bills=(costed(bill, inputs),))
        text = "".join(green_button(quarters, "abc", ZoneInfo(bills.run.timezone)))
        feed = ET.fromstring(text)
        assert faults(feed) == []
        (summary,) = feed.iter(f"{ESPI}UsageSummary")
        amounts = [
            (item.findtext(f"{ESPI}note"), Decimal(item.findtext(f"{ESPI}amount", "")).scaleb(-5))
            for item in summary.iter(f"{ESPI}costAdditionalDetailLastPeriod")
        ]
        assert amounts == [(each.text, each.amount) for each in bill.lines]
        assert Decimal(summary.findtext(f"{ESPI}billLastPeriod", "")).scaleb(-5) == bill.total
        energies = [
            int(item.findtext(f"{ESPI}measurement/{ESPI}value", "-1"))
            for item in summary.iter(f"{ESPI}costAdditionalDetailLastPeriod")
        ]
        assert energies == [-1 if each.energy is None else each.energy for each in bill.lines]
        assert summary.findtext(f"{ESPI}currency") == "840"
        path = tmp_path / "feed.xml"
        path.write_text(text)
        assert sum(1 for each in parse_feed(path)[0].meterReadings for _ in each.intervalReadings) == len(
            [*feed.iter(f"{ESPI}IntervalReading")]
        )
        _same_periods(feed, bills, world, number, quarters.bills[0].names)


def _same_periods(feed: ET.Element, bills: Computed, world: World, number: int, names: tuple[str, ...]) -> None:
    """Each quarter-hour has the period by which the page explains the bill."""
    found = explained(world, bills, number)
    wanted = {
        step.start * 900: step.periods[0]
        for day in found.by_day()
        for hour in found.by_hour(found.local(day).date())
        for step in found.by_quarter(found.local(hour).date(), found.local(hour).hour)
    }
    for reading in feed.iter(f"{ESPI}IntervalReading"):
        start = int(reading.findtext(f"{ESPI}timePeriod/{ESPI}start", ""))
        if start in wanted:
            assert names[int(reading.findtext(f"{ESPI}tou", "")) - 1] == wanted[start]


HOURS_OF_GAP = slice(40, 52)


def account(
    begin: str, end: str, *, settled: bool = True, silent: bool = False, meters: bool = True
) -> AccountQuarters:
    """An account with both directions, each quality in turn, and a gap of three hours on the first day."""
    first, after = (parse_time(text, "", NEW_YORK) // 900 for text in (begin, end))
    count = after - first
    quality = (np.arange(count) % len(ExportedQuality)).astype(np.uint8)
    quality[HOURS_OF_GAP] = ExportedQuality.MISSING
    quality[96 * 2 : 96 * 3] = ExportedQuality.MISSING  # most of the third day
    if silent:
        quality[:] = ExportedQuality.MISSING
    energy = np.where(quality > 0, np.arange(count) * 1_000_003, 0)
    flows = tuple(FlowDirection) if meters else ()
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
    codes = {
        ExportedQuality.EDITED: 7,
        ExportedQuality.INCOMPLETE: 10,
        ExportedQuality.AVERAGED: 11,
        ExportedQuality.ESTIMATED: 16,
    }
    found = Counter(int(one.text or "") for one in feed.iter(f"{ESPI}quality"))
    assert found == Counter(codes[ExportedQuality(one)] for one in qualities if one != ExportedQuality.MEASURED)


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
