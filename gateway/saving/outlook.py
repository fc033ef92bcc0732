"""What the LTE line carries on whole days since the ladder changed; one false report does not count (pure)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from commonwatt.model.control.relaying import MONTH_S, LineRate
from gateway.line.line import METERS, RATE_DAYS, UTILITY, LineDay

ENOUGH_S = 72_000
"""Seconds for which each side must have been counted since the last change, before the next one: nearly a whole day."""


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """The line's use. Pairs are up and down."""

    used: tuple[int, int]  # bytes of this month's whole days
    rate: LineRate  # bytes a second since the last change
    meters: LineRate  # the part of it on the meters' side; of a line with one side: all of it
    left_s: int  # seconds left in the month

    def expected(self, more: LineRate = (0, 0)) -> int:
        """Return the bytes by the end of the month in the fuller direction, if ``more`` bytes a second come on top."""
        rates = [one + other for one, other in zip(self.rate, more, strict=True)]
        return int(max(used + rate * self.left_s for used, rate in zip(self.used, rates, strict=True)))

    def a_month(self, more: LineRate = (0, 0)) -> int:
        """Return the bytes of a whole month in the fuller direction, if ``more`` bytes a second come on top."""
        return int(max(one + other for one, other in zip(self.rate, more, strict=True)) * MONTH_S)


def outlook(days: Iterable[LineDay], today: date, since: int, left_s: int) -> Outlook | None:
    """Return the outlook at the begin of a day; ``None``: too little was counted.

    A day's byte count that is larger than all others counts as the second largest: one false report, of whatever
    size, is none of a day.

    Args:
        days: The counted days of all sides.
        today: The local day that begins.
        since: The local day from which the present steps are in force.
        left_s: Seconds left in the month.
    """
    rows = [row for row in days if row.day < today.toordinal()]
    first, start = today.replace(day=1).toordinal(), max(since, (today - timedelta(RATE_DAYS)).toordinal())
    used, rates = [0, 0], {}
    for side in {row.side for row in rows}:
        mine = [row for row in rows if row.side == side]
        recent = [row for row in mine if row.day >= start]
        if (counted_s := sum(row.seconds for row in recent)) < ENOUGH_S:
            return None
        sent, received = _sums(recent)
        rates[side] = sent / counted_s, received / counted_s
        used = [one + more for one, more in zip(used, _sums([r for r in mine if r.day >= first]), strict=True)]
    if not rates:
        return None
    up, down = (sum(rate[way] for rate in rates.values()) for way in (0, 1))
    meters = rates.get(METERS, (0.0, 0.0) if UTILITY in rates else (up, down))
    return Outlook(used=(used[0], used[1]), rate=(up, down), meters=meters, left_s=left_s)


def _sums(rows: Sequence[LineDay]) -> tuple[int, int]:
    return _without_peak([row.sent for row in rows]), _without_peak([row.received for row in rows])


def _without_peak(counts: list[int]) -> int:
    ordered = sorted(counts)
    return sum(ordered[:-1]) + (ordered[-2] if len(ordered) > 1 else sum(ordered[-1:]))
