"""Details of bills: stretches of places and accounts, bases, what people read, and the plot."""

from dataclasses import replace
from decimal import Decimal
from typing import Any
from unittest.mock import Mock
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from fpdf import FPDF

from commonwatt.settlement.settled import Quantity, SettledQuality
from commonwatt.town.town import Direction, Function
from harness.billing.worlds import tariff
from tests.unit.utility.billing.test_documents import explained, made
from utility.billing.documents.canvas import Canvas
from utility.billing.documents.explained import rows_of
from utility.billing.documents.pdf import BOTTOM, HEIGHT, LEFT, WIDTH, as_pdf, draw
from utility.billing.documents.receipt import quarters_of_accounts
from utility.billing.documents.statement import Hours, Statement, hours, kwh, texts
from utility.billing.places import Place
from utility.billing.policies import aces
from utility.billing.pools import _same
from utility.billing.proof.head import _tells
from utility.billing.stored_run import _of_account
from utility.billing.sums import _stretches
from utility.registry.accounts import Installed

METER = Installed(
    id=1, microgrid="r001", place="house 1", function=Function.HOUSE, direction=Direction.INCOMING, capacity=None
)


@pytest.mark.parametrize(
    ("spans", "there"),
    [
        ([(None, None)], [True] * 6),
        ([(102, None)], [False] * 2 + [True] * 4),
        ([(None, 104)], [True] * 4 + [False] * 2),
        ([(101, 103), (103, 105)], [False] + [True] * 4 + [False]),
        ([(90, 95)], [False] * 6),
    ],
)
def test_a_place_exists_from_its_first_meter_to_its_last(
    spans: list[tuple[int | None, int | None]], there: list[bool]
) -> None:
    meters = tuple(replace(METER, id=n, start=start, end=end) for n, (start, end) in enumerate(spans))
    place = Place(name="house 1", function=Function.HOUSE, building=None, meters=meters)
    assert place.exists(100, 106).tolist() == there


def test_stretches_end_where_the_account_or_the_places_change() -> None:
    owners = np.array([7, 7, 9, 9, 0, 7])
    assert _stretches(owners, 100) == [(7, 100, 102), (9, 102, 104), (7, 105, 106)]
    active = np.array([[True, True, True, False], [True, False, False, False]])
    assert _same(active) == [(0, 1), (1, 3), (3, 4)]


@pytest.mark.parametrize(
    ("cents", "zero_bill", "base"),
    [(-1, "keeps", "0.75"), (0, "keeps", "1.00"), (0, "falls", "0.75"), (1, "keeps", "1.25"), (1, "falls", "1.25")],
)
def test_the_base_falls_and_rises_by_a_quarter(cents: int, zero_bill: str, base: str) -> None:
    policy = {"name": "aces", "off_peak": "off-peak", "step_of": "current", "zero_bill": zero_bill}
    rates = tariff(policy=policy, base="2.00")
    assert aces.next_base(rates, Decimal(1), cents) == Decimal(base)


@pytest.mark.parametrize(("largest", "others", "tells"), [(15, 17, False), (16, 17, True), (15, 13, True)])
def test_a_total_tells_of_an_account_that_has_more_than_15_percent_of_it_or_is_of_few(
    largest: int, others: int, tells: bool
) -> None:
    assert _tells([largest] + [5] * others) == tells


def test_of_a_runs_inputs_an_account_gets_its_own_objects() -> None:
    town: dict[str, Any] = {"name": "town"}
    own: list[dict[str, Any]] = [{"weights": [], "number": 7}, {"holdings": [{"account": 3}, {"account": 7}]}, town]
    others: list[dict[str, Any]] = [{"weights": [], "number": 8}, {"holdings": [{"account": 3}]}, {"billed": {}}]
    assert [_of_account(7, one) for one in own] == own
    assert not any(_of_account(7, one) for one in others)


def test_an_energy_is_said_exactly_in_kilowatt_hours() -> None:
    assert (kwh(10**10), kwh(-1_500), kwh(None)) == ("10,000.000", "-0.002", "")


def test_every_word_of_a_bill_is_on_its_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    world, bills = made(3)
    number, billed = next(iter(bills.billed.items()))
    meters = tuple(quarters_of_accounts(bills.run.inputs(), [number], world.load)[number])
    line = replace(billed.bill.lines[0], text=" ".join(f"word{n}" for n in range(60)))
    bill = replace(billed.bill, lines=(*billed.bill.lines, line))
    statement = Statement(bill=bill, customer="house", zone=ZoneInfo(bills.run.timezone), meters=meters)
    written: list[str] = []
    monkeypatch.setattr(FPDF, "text", lambda _, __, ___, text: written.append(text))
    as_pdf(statement)
    said = texts(statement)
    assert "Hour by hour" in written
    words = " ".join(written).split()
    for text in (cell for row in (*said.lines, *said.facts) for cell in row):
        assert set(text.split()) <= set(words), text
    found = hours(statement)
    assert {b - a for a, b in zip(found.starts, found.starts[1:], strict=False)} == {3600}


def test_the_quality_of_a_day_is_one_word_if_all_its_quarters_have_it() -> None:
    for seed in range(6):
        world, bills = made(seed)
        for number in bills.billed:
            meters = quarters_of_accounts(bills.run.inputs(), [number], world.load)[number]
            days = explained(world, bills, number)
            for day, row in zip(days.by_day(), rows_of(days, days.by_day(), "%d"), strict=True):
                said = [word for word in str(row["quality"]).split(", ") if word]
                if all(meter.quality.min() > SettledQuality.MISSING for meter in meters):
                    assert SettledQuality.MISSING not in day.quality
                assert all((" " in word) == (len(day.quality) > 1) for word in said), row


def test_the_plot_has_its_greatest_hours_at_its_edges_and_marks_estimates() -> None:
    none = np.zeros(4, np.int64)
    energies = dict.fromkeys(Quantity, none)
    energies |= {Quantity.IMPORTED: np.array([3, 0, 0, 1]), Quantity.EXPORTED: np.array([0, 0, 1, 0])}
    worst = np.array(
        [SettledQuality.MEASURED, SettledQuality.ESTIMATED, SettledQuality.ESTIMATED, SettledQuality.MEASURED]
    )
    canvas, edge, top = Mock(spec=Canvas), 50, 100
    draw(canvas, Hours(starts=(0, 3600, 7200, 10_800), energies=energies, worst=worst), ZoneInfo("UTC"), top, 1)
    hour, low = (WIDTH - LEFT) / 4, HEIGHT - BOTTOM - 4
    canvas.rect.assert_called_once_with(edge + LEFT + hour, top + low, 2 * hour, 3, style="F")
    assert canvas.line.call_args.args[1] == pytest.approx(top + 12 + (low - 12) * 3 / 4)
