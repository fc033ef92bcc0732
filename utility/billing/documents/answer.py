"""What people ask of bills first: what a sum is made of, why it differs, and what sharing was worth (pure)."""

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from utility.billing.bill import LINE_ROWS, Bill, Line, LineKind
from utility.billing.documents.writing import DOLLARS, Writing


def parts_of(bill: Bill) -> list[tuple[str, Decimal, Decimal]]:
    """Return the parts of a bill's total: words, dollars, and the sum of the parts before, dollars."""
    found, before = [], Decimal(0)
    for kind, row in LINE_ROWS.items():
        if any(line.kind is kind for line in bill.lines):
            found.append((row.words.capitalize(), _sum(bill.lines, kind), before))
            before += found[-1][1]
    return found


def why_it_differs(bill: Bill, before: Bill, writing: Writing = DOLLARS) -> str:
    """Return in a sentence how a bill differs from an earlier one, the greatest reason first."""
    changes = {row.words: _sum(bill.lines, kind) - _sum(before.lines, kind) for kind, row in LINE_ROWS.items()}
    return _why(bill.total - before.total, before.month, changes, writing)


def why_runs_differ(run: Mapping[str, Any], before: Mapping[str, Any], writing: Writing = DOLLARS) -> str:
    """Return how the sum of a run's bills differs from that of an earlier one, the greatest reason first.

    The earlier one may be of its month's first days. Where both runs know the energy taken, what it costs differs by
    its amount, at the old price, and by the price.
    """
    now, was = run["figures"], before["figures"]
    changes = {row.words: Decimal(now.get(kind, 0)) - Decimal(was.get(kind, 0)) for kind, row in LINE_ROWS.items()}
    if now.get("taken_mwh") and was.get("taken_mwh"):
        energy = now["taken_mwh"] - was["taken_mwh"]
        by_energy = round(Decimal(was["import"]) * energy / was["taken_mwh"], 2)
        words = f"{abs(energy) / 1e6:,.0f} kWh {'more' if energy > 0 else 'less'} taken from the town"
        changes |= {words: by_energy, "its price": changes.pop(LINE_ROWS[LineKind.IMPORT].words) - by_energy}
    total = Decimal(now["total"]) - Decimal(was["total"])
    return _why(total, before["month"], changes, writing, f"the first {was['days']} days of " if "days" in was else "")


def _why(change: Decimal, month: str, changes: Mapping[str, Decimal], writing: Writing, of: str = "") -> str:
    month = of + date.fromisoformat(f"{month}-01").strftime("%B %Y")
    if not change:
        return f"As much as in {month}."
    reasons = sorted((words for words in changes if changes[words]), key=lambda words: -abs(changes[words]))
    said = ", ".join(f"{words} {'+' * (changes[words] > 0)}{writing.money(changes[words])}" for words in reasons)
    return f"{writing.money(abs(change))} {'more' if change > 0 else 'less'} than in {month}: {said}."


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
