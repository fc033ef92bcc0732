"""A bill: lines that sum to its total, and what they were computed from (U2)."""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from commonwatt.model.units import AccountNumber, MilliwattHours, Quarter


class LineKind(StrEnum):
    """What a line of a bill is for."""

    BASE = "base"
    IMPORT = "import"
    CREDIT = "credit"
    """For energy given to the town, or as a part of a building's, the farm's or a microgrid's credit; negative."""
    LAPSED = "lapsed"
    """Credit beyond the other lines, which the policy does not pay out; raises a negative sum to 0."""
    CORRECTION = "correction"
    """The difference of an earlier bill to what it would be with data that came later."""
    INFORMATION = "information"
    """Without an amount: energy shared within the microgrid."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a bill.

    Attributes:
        kind: What it is for.
        text: For people, such as "Import, peak".
        period: The tariff's period of time of use; empty: none.
        energy: Milliwatt-hours; ``None``: the line is not for energy.
        rate: Dollars per kWh; ``None``: none, or one that changes by the hour.
        amount: Dollars, whole cents; the lines of a bill sum to its total exactly. The sum is rounded once, and the
            cents are divided among the lines by largest remainders.
        reason: Why it is there, for a correction.
        month: The month that it corrects; empty: it is no correction.
    """

    kind: LineKind
    text: str
    period: str = ""
    energy: MilliwattHours | None = None
    rate: Decimal | None = None
    amount: Decimal = Decimal(0)
    reason: str = ""
    month: str = ""


@dataclass(frozen=True, kw_only=True)
class Bill:
    """The bill of an account for a month.

    Attributes:
        account: The account.
        month: The local month, as in 2026-11.
        start: Its first quarter for this account: the month's, or that of the move-in.
        end: The quarter after its last.
        tariff: Name and version of the tariff, or of those of the month, in order.
        policy: The policy's name.
        lines: Its lines.
        total: Their sum, dollars, never negative.
        provisional: Quarter-hours that may still change.
        estimated: Quarter-hours with estimates.
        missing: Quarter-hours that lack readings.
    """

    account: AccountNumber
    month: str
    start: Quarter
    end: Quarter
    tariff: tuple[str, ...]
    policy: str
    lines: tuple[Line, ...]
    total: Decimal
    provisional: int = 0
    estimated: int = 0
    missing: int = 0
