"""A bill as people read it: explained down to quarter-hours, and printed (U2)."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from fpdf import FPDF

from commonwatt.model.words import spaced
from harness.billing.worlds import World, random_world
from tests.unit.utility.billing.test_check_bill import SECRET, run_of
from utility.billing.bill import Line, LineKind
from utility.billing.documents.explained import Explained, Step, rows_of
from utility.billing.documents.pdf import as_pdf
from utility.billing.documents.receipt import quarters_of_accounts
from utility.billing.documents.statement import Statement, texts
from utility.billing.proof.head import check_code
from utility.billing.stored_run import Computed, computed


def made(seed: int) -> tuple[World, Computed]:
    world = random_world(seed)
    return world, computed(run_of(world), world.load)


def explained(world: World, bills: Computed, number: int) -> Explained:
    quarters = quarters_of_accounts(bills.run.inputs(), [number], world.load)[number]
    return Explained(bills.run.inputs(), bills.billed[number].bill, quarters)


def test_days_hours_and_quarters_of_a_bill_add_up_to_its_lines() -> None:
    for seed in range(6):
        world, bills = made(seed)
        for number, billed in bills.billed.items():
            found = explained(world, bills, number)
            days = found.by_day()
            own = [line for line in billed.bill.lines if not line.text.startswith("Credit, part of")]
            kinds = (LineKind.IMPORT, LineKind.CREDIT)
            lines = [line for line in own if line.kind in kinds]
            imported = sum(line.energy or 0 for line in lines if line.kind is LineKind.IMPORT)
            if sum(each.energies[0] for each in days) == imported:  # Not if the microgrid's import is split evenly.
                amount = sum((each.amount for each in days), Decimal(0))
                billed_amount = sum((line.amount for line in lines), Decimal(0))
                assert abs(amount - billed_amount) <= Decimal("0.01") * len(lines)
            day = found.local(days[0]).date()
            hours = found.by_hour(day)
            assert sums(hours) == sums(days[:1])
            clocks = dict.fromkeys(found.local(hour).hour for hour in hours)
            assert sums([step for hour in clocks for step in found.by_quarter(day, hour)]) == sums(days[:1])


def test_printed_bill_shows_the_lines_and_the_check_code_and_is_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = FPDF.text

    def text(page: FPDF, x: float, y: float, text: str) -> None:
        written.append(text)
        write(page, x, y, text)

    monkeypatch.setattr(FPDF, "text", text)
    world, bills = made(3)
    head = bills.tree(SECRET).head
    for number, billed in bills.billed.items():
        statement = Statement(
            bill=billed.bill,
            customer="house",
            zone=ZoneInfo(bills.run.timezone),
            meters=tuple(quarters_of_accounts(bills.run.inputs(), [number], world.load)[number]),
            state="issued",
            head=head,
        )
        written.clear()
        paper = as_pdf(statement)
        page = " ".join(written)
        assert spaced(check_code(head)) in page
        assert all(line.text in page for line in billed.bill.lines)
        assert texts(replace(statement, state="draft")).title.startswith("Draft of a bill")
        assert paper == as_pdf(statement), "the same bytes again"
        assert paper.startswith(b"%PDF")
        assert paper.count(b"/Type /Page\n") == 1, "one sheet"


def test_printed_correction_is_beside_its_amount_and_the_total_below_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    bills = made(3)[1]
    bill = next(iter(bills.billed.values())).bill
    reason = (
        "computed again with what is known now: import 1214.567 kWh, billed were 1234.567; with credit 345.678 kWh, "
        "billed were 345.678"
    )
    line = Line(kind=LineKind.CORRECTION, text="Correction of 2026-09", amount=Decimal("-3.12"), reason=reason)
    written: list[tuple[float, float, float, str]] = []
    rules: list[float] = []

    def text(page: FPDF, x: float, y: float, text: str) -> None:
        written.append((y, x, x + page.get_string_width(text), text))

    monkeypatch.setattr(FPDF, "text", text)
    monkeypatch.setattr(FPDF, "line", lambda _, __, y, *___: rules.append(y))
    as_pdf(Statement(bill=replace(bill, lines=(*bill.lines, line)), customer="house", zone=ZoneInfo("UTC")))
    written.sort()
    assert max(right for _, _, right, _ in written) <= 562
    assert not [text for (y, _, end, text), (other, x, _, _) in pairwise(written) if y == other and end > x]
    assert [y - 10 for y, _, _, text in written if text == "To pay"] == rules[-1:]


def sums(steps: list[Step]) -> tuple[list[int], Decimal, int]:
    energies = [sum(step.energies[n] for step in steps) for n in range(4)]
    return energies, sum((step.amount for step in steps), Decimal(0)), sum(step.quarters for step in steps)


def test_hour_that_the_clocks_repeat_is_there_twice_and_quality_is_counted() -> None:
    world, bills = next(each for each in map(made, range(99)) if each[0].inputs.month == "2026-11")
    number = next(n for n, each in bills.billed.items() if each.bill.start == world.inputs.first)
    found = explained(world, bills, number)
    hours = found.by_hour(date(2026, 11, 1))
    assert len(hours) == 25
    rows = list(rows_of(found, hours, "%H:%M %z"))
    assert [row["from"] for row in rows[1:3]] == ["01:00 -0400", "01:00 -0500"]
    assert sum(count for hour in hours for count in hour.quality.values()) == 100
