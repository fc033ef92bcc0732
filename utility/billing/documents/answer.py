"""What a household asks of its bill first: why it differs from the month before, and what sharing was worth (pure)."""

from collections.abc import Iterable
from datetime import date
from decimal import Decimal

from utility.billing.bill import Bill, Line, LineKind

_WORDS = {
    LineKind.BASE: "the base",
    LineKind.IMPORT: "energy taken from the town",
    LineKind.CREDIT: "credit for energy given",
    LineKind.LAPSED: "credit that lapsed",
    LineKind.CORRECTION: "corrections of earlier months",
}


def why_it_differs(bill: Bill, before: Bill) -> str:
    """Return in a sentence how a bill differs from an earlier one, the greatest reason first."""
    change, month = bill.total - before.total, date.fromisoformat(f"{before.month}-01").strftime("%B %Y")
    if not change:
        return f"As much as in {month}."
    sums = {kind: _sum(bill.lines, kind) - _sum(before.lines, kind) for kind in _WORDS}
    reasons = sorted((kind for kind in sums if sums[kind]), key=lambda kind: -abs(sums[kind]))
    words = ", ".join(f"{_WORDS[kind]} {'+' if sums[kind] > 0 else '-'}${abs(sums[kind]):,.2f}" for kind in reasons)
    return f"${abs(change):,.2f} {'more' if change > 0 else 'less'} than in {month}: {words}."


def worth_of_sharing(bill: Bill, received_kwh: Decimal) -> Decimal | None:
    """Return what energy from neighbours would have cost from the town, dollars at the bill's mean price of import.

    ``None``: nothing was taken from the town at a rate of a period, so that the bill has no price.
    """
    imports = [
        (line.energy, line.rate) for line in bill.lines if line.kind is LineKind.IMPORT and line.energy and line.rate
    ]
    if not imports:
        return None
    # By rates and not by amounts: of some watt-hours the cents would be the price.
    return received_kwh * sum(energy * rate for energy, rate in imports) / sum(energy for energy, _ in imports)


def _sum(lines: Iterable[Line], kind: LineKind) -> Decimal:
    return sum((line.amount for line in lines if line.kind is kind), Decimal(0))
