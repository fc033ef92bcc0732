"""A bill: lines that sum to its total, and what they were computed from (U2)."""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from commonwatt.model.units import AccountNumber, MilliwattHours, Quarter


class LineKind(StrEnum):
    """What a line of a bill is for."""

    BASE = "base"
    IMPORT = "import"
    # For energy given to the town, or as a part of a building's, the farm's or a microgrid's credit; negative.
    CREDIT = "credit"
    LAPSED = "lapsed"  # credit beyond the other lines, which the policy does not pay out; raises a negative sum to 0
    CORRECTION = "correction"  # the difference of an earlier bill to what it would be with data that came later
    INFORMATION = "information"  # without an amount: energy shared within the microgrid


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a bill."""

    kind: LineKind  # what it is for
    text: str  # for people, such as "Import, peak"
    period: str = ""  # the tariff's period of time of use; empty: none
    energy: MilliwattHours | None = None  # milliwatt-hours; ``None``: the line is not for energy
    rate: Decimal | None = None  # dollars per kWh; ``None``: none, or one that changes by the hour
    # Dollars, whole cents; the lines of a bill sum to its total exactly. The sum is rounded once, and the cents are
    # divided among the lines by largest remainders.
    amount: Decimal = Decimal(0)
    reason: str = ""  # why it is there, for a correction
    month: str = ""  # the month that it corrects; empty: it is no correction


@dataclass(frozen=True, kw_only=True)
class Bill:
    """The bill of an account for a month."""

    account: AccountNumber  # the account
    month: str  # the local month, as in 2026-11
    start: Quarter  # its first quarter for this account: the month's, or that of the move-in
    end: Quarter  # the quarter after its last
    tariff: tuple[str, ...]  # name and version of the tariff, or of those of the month, in order
    policy: str  # the policy's name
    lines: tuple[Line, ...]  # its lines
    total: Decimal  # their sum, dollars, never negative
    provisional: int = 0  # quarter-hours that may still change
    estimated: int = 0  # quarter-hours with estimates
    missing: int = 0  # quarter-hours that lack readings
