"""What stands on top of a bill: why it differs, and what sharing was worth."""

from decimal import Decimal
from itertools import pairwise

from utility.billing.bill import Bill, Line, LineKind
from utility.billing.documents.answer import parts_of, why_it_differs, why_runs_differ, worth_of_sharing


def bill(month: str, *lines: Line) -> Bill:
    total = sum((line.amount for line in lines), Decimal(0))
    return Bill(account=1, month=month, start=0, end=1, tariff=("town 1",), policy="spec", lines=lines, total=total)


def line(kind: LineKind, amount: str, energy: int | None = None, rate: str | None = None) -> Line:
    return Line(kind=kind, text="", amount=Decimal(amount), energy=energy, rate=None if rate is None else Decimal(rate))


def test_the_greatest_reason_of_a_difference_comes_first_in_dollars() -> None:
    april = bill("2026-04", line(LineKind.BASE, "12.00"), line(LineKind.IMPORT, "20.61"))
    may = bill("2026-05", line(LineKind.BASE, "12.00"), line(LineKind.IMPORT, "0.01"), line(LineKind.CREDIT, "-5.43"))
    assert why_it_differs(may, april) == (
        "$26.03 less than in April 2026: energy taken from the town -$20.60, credit for energy given -$5.43."
    )
    assert why_it_differs(april, april) == "As much as in April 2026."


def test_parts_of_a_total_add_up_with_a_credit_larger_than_the_energy_and_with_corrections() -> None:
    base, energy = line(LineKind.BASE, "12.00"), (line(LineKind.IMPORT, "0.61"), line(LineKind.IMPORT, "3.00"))
    credit, lapsed = line(LineKind.CREDIT, "-40.00"), line(LineKind.LAPSED, "24.39")
    neighbours, late = line(LineKind.INFORMATION, "0", 5), line(LineKind.CORRECTION, "1.20")
    for lines in ([base, *energy], [base, *energy, credit, lapsed, neighbours], [base, *energy, credit, lapsed, late]):
        one = bill("2026-05", *lines)
        parts = parts_of(one)
        assert parts[0][2] == 0
        for (_, amount, before), (_, _, then) in pairwise(parts):
            assert before + amount == then
        assert parts[-1][1] + parts[-1][2] == one.total
    assert [words for words, _, _ in parts][-1] == "Corrections of earlier months"


def test_runs_differ_by_the_energy_taken_and_by_its_price() -> None:
    april = {"total": "30.00", "base": "10.00", "import": "20.00", "credit": "0", "lapsed": "0", "correction": "0"}
    may = april | {"total": "25.00", "import": "15.00"}
    before = {"month": "2026-04", "figures": april | {"taken_mwh": 100_000_000}}
    assert why_runs_differ({"figures": may | {"taken_mwh": 50_000_000}}, before) == (
        "$5.00 less than in April 2026: 50 kWh less taken from the town -$10.00, its price +$5.00."
    )
    assert why_runs_differ({"figures": may}, before | {"figures": april}) == (
        "$5.00 less than in April 2026: energy taken from the town -$5.00."
    )


def test_what_neighbours_gave_is_worth_the_rates_and_not_the_rounded_cents() -> None:
    some = bill("2026-05", line(LineKind.IMPORT, "0.01", 45_000, "0.2000"), line(LineKind.IMPORT, "0.00", 0, "0.3200"))
    worth = worth_of_sharing(some, Decimal("44.573"))
    assert worth is not None
    assert round(worth, 2) == Decimal("8.91")
    assert worth_of_sharing(bill("2026-05", line(LineKind.BASE, "12.00")), Decimal(1)) is None
