"""A bill: lines that sum to its total, what they were computed from (U2), and what people entered for it (pure).

Money is exact: amounts are whole numbers of a unit so small that a bill is rounded only once, at its total. A price has
at most six decimals, energy is in milliwatt-hours, and a part of a month is a number of its quarters. So every amount
of a bill is a whole number of 10⁻¹² dollars divided by the quarters of the month.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Any

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import AccountNumber, MilliwattHours, Quarter
from utility.tariffs.file import Tax

CENT = Decimal("0.01")

PRICE_PLACES = 6  # most decimals of a price

_PRICE_UNITS = 10**PRICE_PLACES
_MWH_A_KWH = 10**6
_UNITS_A_CENT: int = _PRICE_UNITS * _MWH_A_KWH // 100


def to_cents(amount: Decimal) -> int:
    """Return dollars as cents, half a cent to the even one."""
    return int((amount / CENT).to_integral_value(ROUND_HALF_EVEN))


def dollars(cents: int) -> Decimal:
    """Return cents as dollars with two decimals."""
    return cents * CENT


def price_units(price: Decimal) -> int:
    """Return a price per kWh in millionths of a dollar."""
    return int(price * _PRICE_UNITS)


def energy_amount(energy: int, price: int, month_quarters: int) -> int:
    """Return the exact amount for milliwatt-hours at millionths of a dollar per kWh, in the unit of their month."""
    return energy * price * month_quarters


def base_amount(base: Decimal, quarters: int) -> int:
    """Return the exact amount of a base for so many quarters of its month, in the unit of that month."""
    return int(base * _PRICE_UNITS) * _MWH_A_KWH * quarters


def tax_cents(tax: Tax, cents: int, energy: int) -> int:
    """Return a tax in cents, half a cent to the even one: of amounts in cents, or of milliwatt-hours."""
    of_cents, of_energy = Fraction(tax.percent or 0) / 100, Fraction(tax.per_kwh or 0) / 10**4
    return round(cents * of_cents + energy * of_energy)


def cent_amount(month_quarters: int) -> int:
    """Return a cent, in the unit of a month with so many quarters."""
    return _UNITS_A_CENT * month_quarters


def rounded(amounts: Sequence[int], month_quarters: int) -> tuple[int, list[int]]:
    """Return the sum of exact amounts in cents, and each amount in cents, so that they add up to that sum.

    The sum is rounded once, half a cent to the even one.
    """
    unit = cent_amount(month_quarters)
    total, rest = divmod(sum(amounts), unit)
    total += 2 * rest > unit or (2 * rest == unit and total % 2)
    return total, in_cents(amounts, total, month_quarters)


def in_cents(amounts: Sequence[int], total: int, month_quarters: int) -> list[int]:
    """Return exact amounts in cents that add up to their sum in cents.

    Each amount is rounded down; the cents that are then lacking go to the largest remainders, of equal ones to the
    first.
    """
    return _completed([divmod(amount, cent_amount(month_quarters)) for amount in amounts], total)


def divided(total: int, weights: Sequence[int]) -> list[int]:
    """Divide a whole number by weights, exactly: the odd ones go to the largest remainders, of equal ones to the first.

    Without any weight nobody gets a part.
    """
    whole = sum(weights)
    if not whole:
        return [0] * len(weights)
    return _completed([divmod(total * weight, whole) for weight in weights], total)


def _completed(parts: Sequence[tuple[int, int]], total: int) -> list[int]:
    found = [quotient for quotient, _ in parts]
    if lacking := total - sum(found):
        less = [-rest for _, rest in parts]
        for n in sorted(range(len(parts)), key=less.__getitem__)[:lacking]:
            found[n] += 1
    return found


_MOST_STEPS = 20

Step = tuple[Decimal, Decimal, int]  # from which amount, below which one, how many; dollars


def steps_of(cents: Sequence[int], most: int = _MOST_STEPS) -> list[Step]:
    """Return how amounts are spread, in at most so many steps of a round width."""
    if not cents:
        return []
    low, high = min(cents), max(cents)
    widths = (factor * 10**power for power in range(20) for factor in (1, 2, 5))
    width = next(each for each in widths if (high // each) - (low // each) < most)
    counts = Counter(each // width for each in cents)
    steps = range(low // width, high // width + 1)
    return [(dollars(each * width), dollars((each + 1) * width), counts[each]) for each in steps]


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
class BillLine:
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
    lines: tuple[BillLine, ...]  # its lines
    total: Decimal  # their sum, dollars; negative only on a final bill
    provisional: int = 0  # quarter-hours that may still change
    estimated: int = 0  # quarter-hours with estimates
    missing: int = 0  # quarter-hours that lack readings
    is_final: bool = later(False)  # the account has moved out: what is in its favour is paid out
    # SHA-256 of the salted name and address that it went to (``Contact.digest``); empty: none is known.
    addressee: str = later("")


MOST = Decimal(10_000)  # most dollars of an entry


class EntryKind(StrEnum):
    """What people enter it for."""

    GOODWILL = "goodwill"  # in favour of the account, without a fault of the bills
    FEE = "fee"  # the account owes it, such as for a visit
    CREDIT_NOTE = "credit_note"  # in favour of the account, for a mistake that no correction mends
    CANCEL = "cancel"  # an issued run of bills is cancelled; it is on no bill


ENTRY_WORDS = {EntryKind.GOODWILL: "Goodwill", EntryKind.FEE: "Fee", EntryKind.CREDIT_NOTE: "Credit note"}
"""Each kind's words on a bill."""


@dataclass(frozen=True, kw_only=True)
class BillEntry:
    """What two people entered for an account."""

    no: int  # its number
    account: AccountNumber  # the account
    kind: EntryKind  # what it is for
    cents: int  # what no issued bill has of it yet; negative: in favour of the account
    reason: str  # why, as the bill shows it


def by_code(bill: Bill) -> dict[str, int]:
    """Return what a bill adds to the ledger, cents by key of ``LedgerCodes``."""
    found = Counter[str]()
    for line in bill.lines:
        found[LINE_ROWS[line.kind].ledger[line.amount <= 0]] += to_cents(line.amount) - line.tax_cents
        found["taxes"] += line.tax_cents
    return found


def cents_of(kind: EntryKind, amount: Decimal) -> int:
    """Return the cents of an entry: negative if they are in favour of the account.

    Args:
        amount: Dollars, positive; without meaning for a run that is cancelled.
    """
    if kind is EntryKind.CANCEL:
        return 0
    if not 0 < amount <= MOST or amount != round(amount, 2):
        raise ConfigError(f"amount must be from 0.01 to {MOST:,}.00, in whole cents")
    return int(100 * amount) * (1 if kind is EntryKind.FEE else -1)
