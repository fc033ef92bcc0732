"""A bill: lines that sum to its total, and what they were computed from (U2)."""

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

from commonwatt.model.units import AccountNumber, MilliwattHours, Quarter


def later(default: Any) -> Any:
    """Return a field that bills of earlier versions lack: records of a bill have it only where it differs."""
    return field(default=default, metadata={"later": True})


class LineKind(StrEnum):
    """What a line of a bill is for."""

    BASE = "base"
    IMPORT = "import"
    # For energy given to the town, or as a part of a building's, the farm's or a microgrid's credit; negative.
    CREDIT = "credit"
    LAPSED = "lapsed"  # credit beyond the other lines, which the policy does not pay out; raises a negative sum to 0
    CORRECTION = "correction"  # the difference of an earlier bill to what it would be with data that came later
    TAX = "tax"  # a tax or levy of the tariff, on other lines
    ENTRY = "entry"  # a line that two people entered: goodwill, fee, credit note
    INFORMATION = "information"  # without an amount: energy shared within the microgrid


@dataclass(frozen=True)
class LineRow:
    """All that depends on a line's kind; of a pair, the first is for what the customer owes, the second in favour."""

    words: str  # in a sentence
    heading: str  # of its sum over a run of bills
    ledger: tuple[str, str] = ("energy", "energy")  # keys of ``LedgerCodes``
    espi: tuple[int, int] = (4, 8)  # Green Button's kind of item: administrative fee, credit
    is_own: bool = False  # it is for the month's own base and energy, from which ACES has the next base
    is_of_month: bool = True  # it belongs to the bill's own month
    is_entered: bool = False  # its text is the tariff's or a person's, so no language has it
    is_always_summed: bool = True  # a run's figures have its sum even if it is zero


LINE_ROWS = {
    LineKind.BASE: LineRow("the base", "Base", is_own=True),
    LineKind.IMPORT: LineRow("energy taken from the town", "Import", espi=(3, 3), is_own=True),
    LineKind.CREDIT: LineRow("credit for energy given", "Credit", espi=(6, 6), is_own=True),
    LineKind.LAPSED: LineRow("credit that is not paid out", "Credit that is not paid out"),
    LineKind.TAX: LineRow(
        *("taxes and levies", "Taxes and levies", ("taxes", "taxes")),
        espi=(5, 5),
        is_entered=True,
        is_always_summed=False,
    ),
    LineKind.INFORMATION: LineRow(
        *("energy shared with neighbours, free", "Energy shared with neighbours, free"),
        espi=(10, 10),
        is_always_summed=False,
    ),
    LineKind.CORRECTION: LineRow("corrections of earlier months", "Corrections of earlier months", is_of_month=False),
    LineKind.ENTRY: LineRow(
        *("goodwill, fees and credit notes", "Goodwill, fees and credit notes", ("fees", "goodwill")),
        is_of_month=False,
        is_entered=True,
        is_always_summed=False,
    ),
}
"""A row a kind, in the order in which people read a bill's parts."""


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
    tax_cents: int = later(0)  # what of the amount of a correction is taxes, cents
    entry: int = later(0)  # the number of what people entered; 0: it is no entry


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
    total: Decimal  # their sum, dollars; negative only on a final bill
    provisional: int = 0  # quarter-hours that may still change
    estimated: int = 0  # quarter-hours with estimates
    missing: int = 0  # quarter-hours that lack readings
    is_final: bool = later(False)  # the account has moved out: what is in its favour is paid out
    # SHA-256 of the salted name and address that it went to (``Contact.digest``); empty: none is known.
    addressee: str = later("")
