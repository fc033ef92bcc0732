"""Green Button with the bill: costs are the bill's lines to the cent, and each quarter-hour has its tariff's period."""

import os
import xml.etree.ElementTree as ET
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from greenbutton_objects.parse import parse_feed

from harness.billing.worlds import World
from harness.green_button import ESPI, faults
from tests.unit.utility.billing.test_documents import explained, made
from utility.billing.bill import Line, LineKind
from utility.billing.documents.receipt import quarters_of_accounts
from utility.billing.stored_run import Computed
from utility.exports.customer.costs import costed
from utility.exports.customer.green_button import green_button
from utility.exports.customer.quarters import from_settled
from utility.exports.holdings import held_by
from utility.registry.accounts import functions_of

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
        line = Line(kind=LineKind.TAX, text="Levy < 1 & more", amount=Decimal("0.07"))
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
