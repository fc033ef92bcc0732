"""What stands on top of a bill: why it differs, and what sharing was worth."""

from decimal import Decimal

from utility.billing.bill import Bill, Line, LineKind
from utility.billing.documents.answer import why_it_differs, worth_of_sharing


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


def test_what_neighbours_gave_is_worth_the_rates_and_not_the_rounded_cents() -> None:
    some = bill("2026-05", line(LineKind.IMPORT, "0.01", 45_000, "0.2000"), line(LineKind.IMPORT, "0.00", 0, "0.3200"))
    worth = worth_of_sharing(some, Decimal("44.573"))
    assert worth is not None
    assert round(worth, 2) == Decimal("8.91")
    assert worth_of_sharing(bill("2026-05", line(LineKind.BASE, "12.00")), Decimal(1)) is None
