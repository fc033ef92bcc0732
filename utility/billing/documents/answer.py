"""What a household asks of its bill first: why it differs from the month before, and what sharing was worth (pure)."""

from collections.abc import Iterable
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
    change = bill.total - before.total
    if not change:
        return f"As much as in {before.month}."
    sums = {kind: _sum(bill.lines, kind) - _sum(before.lines, kind) for kind in _WORDS}
    reasons = sorted((kind for kind in sums if sums[kind]), key=lambda kind: -abs(sums[kind]))
    words = ", ".join(f"{_WORDS[kind]} {sums[kind]:+,.2f}" for kind in reasons)
    return f"${abs(change):,.2f} {'more' if change > 0 else 'less'} than in {before.month}: {words}."


def worth_of_sharing(bill: Bill, received_kwh: Decimal) -> Decimal | None:
    """Return what energy from neighbours would have cost from the town, dollars at the bill's mean price of import.

    ``None``: nothing was taken from the town, so that the bill has no price.
    """
    imports = [line for line in bill.lines if line.kind is LineKind.IMPORT and line.energy]
    energy = sum(line.energy or 0 for line in imports)
    if not energy:
        return None
    return received_kwh * _sum(imports, LineKind.IMPORT) / (Decimal(energy) / 1_000_000)


def _sum(lines: Iterable[Line], kind: LineKind) -> Decimal:
    return sum((line.amount for line in lines if line.kind is kind), Decimal(0))
